/* SPDX-License-Identifier: Apache-2.0 */
/* See hold.h: which way a device has. */
#include "config.h"

#include "lib/dev/hold.h"
#include "lib/base/log.h"
#include "lib/base/status.h"
#include "lib/dev/hold_kernel.h"

#include <stdio.h>
#include <string.h>

enum { WORD_SPACE = 64, WHY_BYTES = 400 };

/* ---- what is asked for ---- */

enum wish { AUTO, WORDS, KERNEL, CALLER, NUM_WISHES };
static const char *const wishes[NUM_WISHES] = {"auto", "words", "kernel", "caller"};

static enum wish wish_of(const struct mdl_config *cfg)
{
    int i = 0;

    while (i < NUM_WISHES && strcmp(cfg->device_hold.s, wishes[i]) != 0) i++;
    return (enum wish)i;
}

medleyResult_t mdl_hold_check_name(const struct mdl_config *cfg)
{
    if (wish_of(cfg) != NUM_WISHES) return medleySuccess;
    return mdl_error(medleyInvalidArgument, "MEDLEY_DEVICE_HOLD is \"%s\", it must be auto, words, kernel or caller",
                     cfg->device_hold.s);
}

const char *mdl_hold_expected(const struct mdl_config *cfg, uint32_t caps)
{
    enum wish wish = wish_of(cfg);
    bool words = (caps & MDL_DEV_WORDS) && (wish == AUTO || wish == WORDS);

    if (words) return "held by the vendor's operations on words";
    if ((caps & MDL_DEV_KERNEL_WORDS) && (wish == AUTO || wish == KERNEL)) return "held by waiting kernels";
    return "attended by the calling threads";
}

/* ---- finding out ---- */

/* A library has the calls although the device or its driver refuses them: only a try tells. The wait has what it waits
 * for already. */
static bool takes_words(const struct mdl_device *d, uint64_t *word)
{
    mdl_dev_stream stream;
    bool takes;

    if (d->stream_create(d, &stream) != medleySuccess) return false;
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    takes = d->stream_wait(d, stream, word, 1) == medleySuccess &&
            d->stream_write(d, stream, word, 2) == medleySuccess && d->stream_sync(d, stream) == medleySuccess &&
            __atomic_load_n(word, __ATOMIC_ACQUIRE) == 2; /* pairs with the stream's write */
    (void)d->stream_destroy(d, stream);
    return takes;
}

static medleyResult_t try_words(struct mdl_hold *h, char *why)
{
    const struct mdl_device *d = h->dev.ops;
    uint64_t *word;

    if (!(h->dev.caps & MDL_DEV_WORDS)) {
        snprintf(why, WHY_BYTES, "%s has no operations on words", d->vendor);
        return medleySuccess;
    }
    MDL_TRY(d->alloc_words(d, 1, &word));
    if (takes_words(d, word)) {
        h->way = MDL_HOLD_WORDS;
    } else {
        snprintf(why, WHY_BYTES, "streams of %s:%d cannot wait for words: %s", d->vendor, h->dev.ordinal,
                 mdl_error_text());
        mdl_error_clear();
    }
    (void)d->free_words(d, 1, &word);
    return medleySuccess;
}

static void try_kernel(struct mdl_hold *h, char *why)
{
    h->waiter = mdl_waiter_of(&h->dev, why, WHY_BYTES);
    if (h->waiter) h->way = MDL_HOLD_KERNEL;
}

static void tell(const struct mdl_hold *h, const char *no_words, const char *no_kernel)
{
    const char *vendor = h->dev.ops->vendor;
    int ordinal = h->dev.ordinal;

    if (h->way == MDL_HOLD_WORDS)
        MDL_INFO(MDL_INIT, "streams of %s:%d are held by the vendor's operations on words", vendor, ordinal);
    else if (h->way == MDL_HOLD_KERNEL)
        MDL_INFO(MDL_INIT, "streams of %s:%d are held by waiting kernels, %d at once%s%s", vendor, ordinal,
                 mdl_waiter_places(h->waiter), no_words[0] ? ": " : "", no_words);
    else
        MDL_INFO(MDL_INIT, "streams of %s:%d are attended by the calling threads%s%s%s%s", vendor, ordinal,
                 no_words[0] || no_kernel[0] ? ": " : "", no_words, no_words[0] && no_kernel[0] ? "; " : "", no_kernel);
}

medleyResult_t mdl_hold_open(struct mdl_hold *h, const struct mdl_config *cfg, const struct mdl_dev *dev)
{
    char no_words[WHY_BYTES] = "", no_kernel[WHY_BYTES] = "";
    enum wish wish = wish_of(cfg);

    MDL_TRY(mdl_hold_check_name(cfg));
    *h = (struct mdl_hold){.dev = *dev, .way = MDL_HOLD_CALLER};
    if (wish == AUTO || wish == WORDS) MDL_TRY(try_words(h, no_words));
    if ((wish == AUTO && h->way == MDL_HOLD_CALLER) || wish == KERNEL) try_kernel(h, no_kernel);
    if (h->way == MDL_HOLD_CALLER && (wish == WORDS || wish == KERNEL))
        return mdl_error(medleyInvalidUsage, "MEDLEY_DEVICE_HOLD=%s cannot be had on %s:%d: %s", wishes[wish],
                         dev->ops->vendor, dev->ordinal, wish == WORDS ? no_words : no_kernel);
    tell(h, no_words, no_kernel);
    return medleySuccess;
}

/* ---- places ---- */

static bool tell_once(struct mdl_hold *h, bool taken)
{
    if (!taken && !atomic_exchange_explicit(&h->told, true, memory_order_relaxed)) /* pairs with itself */
        MDL_INFO(MDL_COLL, "%d streams of %s:%d are held by kernels: calls on further ones are attended",
                 mdl_waiter_places(h->waiter), h->dev.ops->vendor, h->dev.ordinal);
    return taken;
}

bool mdl_hold_take(struct mdl_hold *h, mdl_dev_stream stream)
{
    if (h->way != MDL_HOLD_KERNEL) return mdl_hold_can(h);
    return tell_once(h, mdl_waiter_take(h->waiter, stream));
}

void mdl_hold_give(struct mdl_hold *h, mdl_dev_stream stream)
{
    if (h->way == MDL_HOLD_KERNEL) mdl_waiter_give(h->waiter, stream);
}

bool mdl_hold_take_any(struct mdl_hold *h)
{
    return h->way == MDL_HOLD_KERNEL ? mdl_waiter_take_any(h->waiter) : mdl_hold_can(h);
}

void mdl_hold_give_any(struct mdl_hold *h)
{
    if (h->way == MDL_HOLD_KERNEL) mdl_waiter_give_any(h->waiter);
}

/* ---- words ---- */

medleyResult_t mdl_hold_alloc(const struct mdl_hold *h, int n, uint64_t **words)
{
    const struct mdl_device *d = h->dev.ops;
    void *p = NULL;

    if (h->way != MDL_HOLD_KERNEL) return d->alloc_words(d, n, words);
    MDL_TRY(d->alloc_pinned(d, (size_t)n * WORD_SPACE, &p));
    memset(p, 0, (size_t)n * WORD_SPACE);
    for (int i = 0; i < n; i++) words[i] = (uint64_t *)((char *)p + (size_t)i * WORD_SPACE);
    return medleySuccess;
}

void mdl_hold_free(const struct mdl_hold *h, int n, uint64_t **words)
{
    const struct mdl_device *d = h->dev.ops;

    if (h->way == MDL_HOLD_KERNEL)
        (void)d->free_pinned(d, words[0]);
    else
        (void)d->free_words(d, n, words);
}

medleyResult_t mdl_hold_wait(const struct mdl_hold *h, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    if (h->way == MDL_HOLD_KERNEL) return mdl_waiter_wait(h->waiter, stream, word, value);
    return h->dev.ops->stream_wait(h->dev.ops, stream, word, value);
}

medleyResult_t mdl_hold_write(const struct mdl_hold *h, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    if (h->way == MDL_HOLD_KERNEL) return mdl_waiter_write(h->waiter, stream, word, value);
    return h->dev.ops->stream_write(h->dev.ops, stream, word, value);
}
