/* SPDX-License-Identifier: Apache-2.0 */
/* The board of one rank: layout and the atomics on it. See board.h for the invariant. */
#include "config.h"

#include "lib/engine/board.h"
#include "lib/base/log.h"
#include "lib/reduce/reduce.h"

#include <stdlib.h>

/* Rooms of several sizes, so that small payloads have deep rings, and the memory in use is not much larger than what is
 * in flight. Strides that are no powers of two keep rooms out of each other's way in the caches. */
#define ROOM(bytes) ((bytes) + MDL_REDUCE_PADDING)
enum {
    LINE_HEAD = 4 * sizeof(uint64_t),
    LINES_END = MDL_BOARD_DEPTH * MDL_LINE_ROOM,
    SMALL_END = LINES_END + MDL_BOARD_DEPTH * ROOM(1024),
    MIDDLE_END = SMALL_END + 16 * ROOM(4096),
    LARGE_END = MIDDLE_END + 8 * ROOM(16384),
    LARGEST_END = LARGE_END + 4 * ROOM(MDL_BOARD_PAYLOAD_BYTES),
    MEETING_END = LARGEST_END + 2 * ROOM(MDL_BOARD_PAYLOAD_BYTES),
};
static const struct mdl_rooms rooms[] = {
    {MDL_BOARD_DEPTH, MDL_LINE_ROOM - LINE_HEAD - MDL_REDUCE_PADDING, LINE_HEAD, MDL_LINE_ROOM},
    {MDL_BOARD_DEPTH, 1024, LINES_END, ROOM(1024)},
    {16, 4096, SMALL_END, ROOM(4096)},
    {8, 16384, MIDDLE_END, ROOM(16384)},
    {4, MDL_BOARD_PAYLOAD_BYTES, LARGE_END, ROOM(MDL_BOARD_PAYLOAD_BYTES)},
};
static const struct mdl_rooms meeting = {2, MDL_BOARD_PAYLOAD_BYTES, LARGEST_END, ROOM(MDL_BOARD_PAYLOAD_BYTES)};

/* The signal area starts behind the rooms, the scratch at a multiple of the largest page size in use. */
enum { SIGNAL_OFFSET = (MEETING_END + 4095) / 4096 * 4096, SIGNAL_BYTES = 64, SCRATCH_ALIGN = 65536 };

#if defined(__SANITIZE_THREAD__)
_Atomic int mdl_board_meeting;
#endif

static size_t counts_offset(int nranks)
{
    return SIGNAL_OFFSET + (size_t)MDL_MAX_CHANNELS * (size_t)nranks * SIGNAL_BYTES;
}

static size_t asleep_offset(int nranks)
{
    size_t end = counts_offset(nranks) + ((size_t)nranks + 2) * sizeof(uint64_t);

    return (end + SIGNAL_BYTES - 1) / SIGNAL_BYTES * SIGNAL_BYTES;
}

static size_t scratch_offset(int nranks)
{
    size_t end = asleep_offset(nranks) + SIGNAL_BYTES;

    return (end + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

size_t mdl_board_bytes(int nranks, size_t scratch_bytes) { return scratch_offset(nranks) + scratch_bytes; }

medleyResult_t mdl_board_create(struct mdl_board *b, int nranks, size_t scratch_bytes)
{
    size_t len = mdl_board_bytes(nranks, scratch_bytes);

    *b = (struct mdl_board){.counts = nranks,
                            .counts_offset = counts_offset(nranks),
                            .asleep_offset = asleep_offset(nranks),
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

const struct mdl_rooms *mdl_board_rooms(size_t bytes, bool meets)
{
    const struct mdl_rooms *r = rooms;

    if (bytes <= r->most) return r;
    if (meets) return &meeting;
    while (bytes > r->most) r++;
    return r;
}

void mdl_board_publish(struct mdl_board *b, uint64_t seq, const struct mdl_call *c)
{
    struct mdl_line *l = mdl_board_open(b, seq, c);
    const uint64_t words[] = {c->table, c->in_segment, c->in_addr, c->out_segment, c->out_addr};

    for (int w = 3; w < MDL_LINE_WORDS; w++) atomic_store_explicit(&l->word[w], words[w - 3], memory_order_relaxed);
    atomic_store_explicit(mdl_board_probe(b, b->me, seq), seq, memory_order_relaxed);
    mdl_board_meet();
    atomic_store_explicit(&l->seq, seq, memory_order_release); /* pairs with look */
}

static bool has_table(uint8_t coll) { return coll >= medleyCollAllGatherV && coll <= medleyCollAlltoAllV; }

medleyResult_t mdl_board_look(const struct mdl_board *b, int i, uint64_t seq, struct mdl_call *c)
{
    struct mdl_line *l = mdl_board_line(b, i, seq);
    uint64_t at = atomic_load_explicit(&l->seq, memory_order_acquire); /* pairs with publish */
    uint64_t first;

    if (at < seq) return medleyInProgress;
    if (at > seq) return medleyInvalidUsage;
    mdl_board_meet();
    first = atomic_load_explicit(&l->word[1], memory_order_relaxed);
    *c = (struct mdl_call){
        .coll = (uint8_t)first,
        .dtype = (uint8_t)(first >> 8),
        .op = (uint8_t)(first >> 16),
        .flags = (uint8_t)(first >> 24),
        .root = (int32_t)(first >> 32),
        .chain = atomic_load_explicit(&l->word[0], memory_order_relaxed),
        .count = atomic_load_explicit(&l->word[2], memory_order_relaxed),
        .in_segment = atomic_load_explicit(&l->word[4], memory_order_relaxed),
        .in_addr = atomic_load_explicit(&l->word[5], memory_order_relaxed),
        .out_segment = atomic_load_explicit(&l->word[6], memory_order_relaxed),
        .out_addr = atomic_load_explicit(&l->word[7], memory_order_relaxed),
    };
    if (has_table(c->coll)) c->table = atomic_load_explicit(&l->word[3], memory_order_relaxed);
    return medleySuccess;
}

medleyResult_t mdl_board_compare_late(const struct mdl_board *b, int i, uint64_t seq)
{
    struct mdl_line *l = mdl_board_line(b, i, seq);
    uint64_t at = atomic_load_explicit(&l->seq, memory_order_acquire), chain; /* pairs with publish */

    if (at < seq) return medleyInProgress;
    mdl_board_meet();
    if (at > seq) return medleySuccess;
    chain = atomic_load_explicit(&l->word[0], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire); /* pairs with the one in mdl_board_open */
    if (atomic_load_explicit(&l->seq, memory_order_relaxed) != seq) return medleyInProgress; /* look again */
    return chain == atomic_load_explicit(&mdl_board_line(b, b->me, seq)->word[0], memory_order_relaxed)
               ? medleySuccess
               : medleyInvalidUsage;
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

    mdl_board_meet();
    atomic_store_explicit(slot, now + 1, memory_order_release); /* pairs with consume */
}

bool mdl_board_consume(struct mdl_board *b, int i, uint32_t channel)
{
    uint64_t *taken = &b->consumed[(size_t)channel * (size_t)b->nlocal + (size_t)i];

    if (atomic_load_explicit(signal_slot(b, b->me, channel, i), memory_order_acquire) <= *taken) return false;
    *taken += 1;
    mdl_board_meet();
    return true;
}
