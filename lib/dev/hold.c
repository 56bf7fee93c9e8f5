/* SPDX-License-Identifier: Apache-2.0 */
/* See hold.h: finding out which way a device has. */
#include "config.h"

#include "lib/dev/hold.h"
#include "lib/base/log.h"
#include "lib/base/status.h"

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

medleyResult_t mdl_hold_open(struct mdl_hold *h, const struct mdl_dev *dev)
{
    const struct mdl_device *d = dev->ops;
    uint64_t *word;

    *h = (struct mdl_hold){.dev = *dev, .way = MDL_HOLD_CALLER};
    if (!(dev->caps & MDL_DEV_WORDS)) return medleySuccess;
    MDL_TRY(d->alloc_words(d, 1, &word));
    if (takes_words(d, word)) {
        h->way = MDL_HOLD_WORDS;
    } else {
        MDL_INFO(MDL_COLL, "streams of %s:%d cannot wait for words: %s", d->vendor, dev->ordinal, mdl_error_text());
        mdl_error_clear();
    }
    (void)d->free_words(d, 1, &word);
    return medleySuccess;
}

medleyResult_t mdl_hold_alloc(const struct mdl_hold *h, int n, uint64_t **words)
{
    return h->dev.ops->alloc_words(h->dev.ops, n, words);
}

void mdl_hold_free(const struct mdl_hold *h, int n, uint64_t **words)
{
    (void)h->dev.ops->free_words(h->dev.ops, n, words);
}

medleyResult_t mdl_hold_wait(const struct mdl_hold *h, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    return h->dev.ops->stream_wait(h->dev.ops, stream, word, value);
}

medleyResult_t mdl_hold_write(const struct mdl_hold *h, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    return h->dev.ops->stream_write(h->dev.ops, stream, word, value);
}
