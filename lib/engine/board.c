/* SPDX-License-Identifier: Apache-2.0 */
/* The board of one rank: layout and the atomics on it. See board.h for the invariant. */
#include "config.h"

#include "lib/engine/board.h"
#include "lib/base/log.h"

#include <stdlib.h>

/* The signal area starts behind the lines, the scratch at a multiple of the largest page size in use.
 */
enum { SIGNAL_OFFSET = 2 * MDL_BOARD_LINE_ROOM, SIGNAL_BYTES = 64, SCRATCH_ALIGN = 65536 };

/* Ranks that are threads of one process map a board at different addresses, and the thread sanitizer, which goes by
 * address, does not see that a store to one is the load of another. For it alone, all meet in one word. */
static inline void meet(void)
{
#if defined(__SANITIZE_THREAD__)
    static _Atomic int word;
    atomic_fetch_add_explicit(&word, 1, memory_order_seq_cst);
#endif
}

static size_t counts_offset(int nranks)
{
    return SIGNAL_OFFSET + (size_t)MDL_MAX_CHANNELS * (size_t)nranks * SIGNAL_BYTES;
}

static size_t scratch_offset(int nranks)
{
    size_t end = counts_offset(nranks) + ((size_t)nranks + 1) * sizeof(uint64_t);

    return (end + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

size_t mdl_board_bytes(int nranks, size_t scratch_bytes) { return scratch_offset(nranks) + scratch_bytes; }

medleyResult_t mdl_board_create(struct mdl_board *b, int nranks, size_t scratch_bytes)
{
    size_t len = mdl_board_bytes(nranks, scratch_bytes);

    *b = (struct mdl_board){.counts = nranks,
                            .counts_offset = counts_offset(nranks),
                            .scratch_offset = scratch_offset(nranks),
                            .scratch_bytes = scratch_bytes};
    MDL_TRY(mdl_segment_create_cut(len, nranks, &b->own));
    if (!mdl_segment_is_limited(b->own)) return medleySuccess;
    /* Without memfd it is a file: its pages must be there before anybody touches them. */
    mdl_segment_destroy(b->own);
    b->own = NULL;
    if (mdl_segment_create(len, false, false, &b->own) == medleySuccess) return medleySuccess;
    MDL_WARN(MDL_MEM,
             "the board stays private, and all goes in messages: lower MEDLEY_MEMORY_BUDGET (%zu bytes), allow "
             "memfd_create, or make room in /dev/shm or $TMPDIR",
             scratch_bytes);
    return mdl_segment_create_private(len, &b->own);
}

medleyResult_t mdl_board_attach(struct mdl_board *b, int nlocal, int me)
{
    b->base = calloc((size_t)nlocal, sizeof(void *));
    b->consumed = calloc((size_t)nlocal * MDL_MAX_CHANNELS, sizeof(uint64_t));
    if (!b->base || !b->consumed) return mdl_error(medleySystemError, "out of memory for %d ranks of one host", nlocal);
    b->nlocal = nlocal;
    b->me = me;
    b->base[me] = b->own->base;
    return medleySuccess;
}

void mdl_board_destroy(struct mdl_board *b)
{
    if (b->own) mdl_segment_destroy(b->own);
    free(b->base);
    free(b->consumed);
    *b = (struct mdl_board){0};
}

static struct mdl_line *line_of(const struct mdl_board *b, int i, uint64_t seq)
{
    return (struct mdl_line *)((char *)b->base[i] + (seq & 1) * MDL_BOARD_LINE_ROOM);
}

static uint64_t first_word(const struct mdl_call *c)
{
    return (uint64_t)c->coll | (uint64_t)c->dtype << 8 | (uint64_t)c->op << 16 | (uint64_t)c->flags << 24 |
           (uint64_t)(uint32_t)c->root << 32;
}

void mdl_board_publish(struct mdl_board *b, uint64_t seq, const struct mdl_call *c)
{
    struct mdl_line *l = line_of(b, b->me, seq);
    const uint64_t words[MDL_LINE_WORDS] = {
        first_word(c),
        c->count,
        c->table,
        c->in_segment,
        c->in_addr,
        c->out_segment,
        c->out_addr,
    };

    for (int w = 0; w < MDL_LINE_WORDS; w++) atomic_store_explicit(&l->word[w], words[w], memory_order_relaxed);
    meet();
    atomic_store_explicit(&l->seq, seq, memory_order_release); /* pairs with look */
}

void mdl_board_publish_short(struct mdl_board *b, uint64_t seq, const struct mdl_call *c)
{
    struct mdl_line *l = line_of(b, b->me, seq);

    atomic_store_explicit(&l->word[0], first_word(c), memory_order_relaxed);
    atomic_store_explicit(&l->word[1], c->count, memory_order_relaxed);
    atomic_store_explicit(&l->word[2], c->table, memory_order_relaxed);
    meet();
    atomic_store_explicit(&l->seq, seq, memory_order_release); /* pairs with look and is_same */
}

medleyResult_t mdl_board_look(const struct mdl_board *b, int i, uint64_t seq, struct mdl_call *c)
{
    struct mdl_line *l = line_of(b, i, seq);
    uint64_t at = atomic_load_explicit(&l->seq, memory_order_acquire); /* pairs with publish */
    uint64_t first;

    if (at < seq) return medleyInProgress;
    if (at > seq) return medleyInvalidUsage;
    meet();
    first = atomic_load_explicit(&l->word[0], memory_order_relaxed);
    *c = (struct mdl_call){
        .coll = (uint8_t)first,
        .dtype = (uint8_t)(first >> 8),
        .op = (uint8_t)(first >> 16),
        .flags = (uint8_t)(first >> 24),
        .root = (int32_t)(first >> 32),
        .count = atomic_load_explicit(&l->word[1], memory_order_relaxed),
        .table = atomic_load_explicit(&l->word[2], memory_order_relaxed),
        .in_segment = atomic_load_explicit(&l->word[3], memory_order_relaxed),
        .in_addr = atomic_load_explicit(&l->word[4], memory_order_relaxed),
        .out_segment = atomic_load_explicit(&l->word[5], memory_order_relaxed),
        .out_addr = atomic_load_explicit(&l->word[6], memory_order_relaxed),
    };
    return medleySuccess;
}

bool mdl_board_is_same(const struct mdl_board *b, int i, uint64_t seq, const struct mdl_call *c)
{
    struct mdl_line *l = line_of(b, i, seq);

    if (atomic_load_explicit(&l->seq, memory_order_acquire) != seq) return false; /* pairs with publish */
    meet();
    return atomic_load_explicit(&l->word[0], memory_order_relaxed) == first_word(c) &&
           atomic_load_explicit(&l->word[1], memory_order_relaxed) == c->count &&
           atomic_load_explicit(&l->word[2], memory_order_relaxed) == c->table;
}

static _Atomic uint64_t *signal_slot(const struct mdl_board *b, int owner, uint32_t channel, int source)
{
    size_t at = SIGNAL_OFFSET + ((size_t)channel * (size_t)b->nlocal + (size_t)source) * SIGNAL_BYTES;

    return (_Atomic uint64_t *)((char *)b->base[owner] + at);
}

void mdl_board_signal(struct mdl_board *b, int i, uint32_t channel)
{
    _Atomic uint64_t *slot = signal_slot(b, i, channel, b->me);
    uint64_t now = atomic_load_explicit(slot, memory_order_relaxed); /* we are its only writer */

    meet();
    atomic_store_explicit(slot, now + 1, memory_order_release); /* pairs with consume */
}

bool mdl_board_consume(struct mdl_board *b, int i, uint32_t channel)
{
    uint64_t *taken = &b->consumed[(size_t)channel * (size_t)b->nlocal + (size_t)i];

    if (atomic_load_explicit(signal_slot(b, b->me, channel, i), memory_order_acquire) <= *taken) return false;
    *taken += 1;
    meet();
    return true;
}
