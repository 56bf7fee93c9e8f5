/* SPDX-License-Identifier: Apache-2.0 */
/* See far.h. A measurement costs about 0.1 us: small operations are measured in seldom, very small ones never. */
#include "config.h"

#include "lib/engine/far.h"
#include "lib/base/clock.h"

#include <pthread.h>
#include <stdlib.h>

enum { LEAST_BYTES = 16384, LARGE_BYTES = 262144, SKIPPED = 3, SURE = 4, WEIGHT = 8 };

/* Cores that share a cache read each other's lines in a tenth of what memory takes here, others in four to nine tenths. */
enum { TENTHS_OF_MEMORY = 3 };

/* A rank that lost its core meanwhile counts as no more than this many times the limit. */
enum { MOST_LIMITS = 4 };

/* ---- how long it takes ---- */

/* Two readings of the clock take as long with nothing between them. */
static uint32_t time_of_reading(const _Atomic uint64_t *word)
{
    uint64_t start = mdl_now_ns(), before = mdl_now_ns(), after;

    (void)atomic_load_explicit(word, memory_order_acquire); /* the clock is not read before it has come */
    after = mdl_now_ns();
    return after - before > before - start ? (uint32_t)(after - before - (before - start)) : 0;
}

/* Out of all caches; false: the processor cannot be told to. */
static bool forget(_Atomic uint64_t *word)
{
#if defined(__x86_64__)
    __builtin_ia32_clflush((const void *)word);
    __builtin_ia32_mfence();
    return true;
#elif defined(__aarch64__)
    __asm__ volatile("dc civac, %0\n\tdsb ish" : : "r"(word) : "memory");
    return true;
#else
    (void)word;
    return false;
#endif
}

enum { TRIES = 31, LINE_BYTES = 128 };

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static uint32_t memory_ns; /* 0: not known */

/* Lines that nothing would fetch ahead. */
static void measure_memory(void)
{
    uint32_t ns[TRIES];
    char *lines = aligned_alloc(LINE_BYTES, (size_t)TRIES * TRIES * LINE_BYTES);

    if (!lines) return;
    for (size_t i = 0; i < TRIES; i++) {
        _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)(lines + i * (i + 1) / 2 * 2 * LINE_BYTES);
        atomic_store_explicit(word, i, memory_order_relaxed);
        if (!forget(word)) goto done;
        ns[i] = time_of_reading(word);
    }
    qsort(ns, TRIES, sizeof(*ns), compare);
    memory_ns = ns[TRIES / 2];
done:
    free(lines);
}

/* ---- what follows ---- */

void mdl_far_init(struct mdl_far *f, int limit_ns)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (limit_ns < 0) pthread_once(&once, measure_memory);
    *f = (struct mdl_far){.limit_ns = limit_ns < 0 ? memory_ns * TENTHS_OF_MEMORY / 10 : (uint32_t)limit_ns};
}

/* It takes a tenth more to change the answer than to keep it. */
void mdl_far_note(struct mdl_far *f, uint32_t ns)
{
    const uint64_t limit = (uint64_t)f->limit_ns * MDL_FAR_SCALE, edge = limit / 10, most = MOST_LIMITS * limit;
    uint64_t now = (uint64_t)ns * MDL_FAR_SCALE;

    if (now > most) now = most;
    f->smoothed = f->seen ? (f->smoothed * (WEIGHT - 1) + now) / WEIGHT : now;
    if (f->seen < SURE) f->seen++;
    if (f->seen == SURE) f->is = f->smoothed > (f->is ? limit - edge : limit + edge);
}

void mdl_far_look(struct mdl_far *f, const struct mdl_board *b, uint64_t seq, size_t bytes)
{
    int i;

    if (!f->limit_ns || b->nlocal < 2 || bytes < LEAST_BYTES) return;
    if (f->seen == SURE && bytes < LARGE_BYTES && f->skipped++ < SKIPPED) return;
    f->skipped = 0;
    i = (b->me + 1 + (int)(seq % (uint64_t)(b->nlocal - 1))) % b->nlocal;
    mdl_far_note(f, time_of_reading(mdl_board_probe(b, i, seq)));
}
