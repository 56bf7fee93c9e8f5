/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: one shared segment per rank, mapped by the ranks of its host. It holds
 * - two published lines (for odd and even collectives): what this rank calls and where its buffers are, each with room
 *   for a small payload behind it;
 * - signal counters: slot (channel, source) is written by that source only, read by the owner;
 * - for each rank of the host, how many bytes the owner has read from that one's memory: nobody else sees it;
 * - the scratch that plans of the host read and write by reference.
 *
 * Invariant: a rank publishes the line of collective s only when it has finished s-1, and reads everybody's line s
 * before it does anything for s. So when rank A has seen all lines s, nobody still uses anything of s-1, and line s-2
 * may be overwritten: two lines suffice.
 */
#ifndef MDL_ENGINE_BOARD_H_
#define MDL_ENGINE_BOARD_H_

#include "lib/mem/mem.h"
#include "lib/plan/plan.h"
#include <stdatomic.h>

enum { MDL_LINE_BYTES = 64, MDL_LINE_WORDS = 7, MDL_BOARD_LINE_ROOM = 32768 };
enum { MDL_BOARD_PAYLOAD_BYTES = MDL_BOARD_LINE_ROOM - MDL_LINE_BYTES };

/* Signature and buffers of one call: exactly what the line carries. */
enum mdl_line_flags {
    MDL_LINE_IN_PLACE = 1,
    MDL_LINE_IN_MAPPED = 2, /* or this rank's IN is not used by the collective */
    MDL_LINE_OUT_MAPPED = 4,
    MDL_LINE_PREMUL = 8,
    MDL_LINE_APART = 16, /* IN and OUT do not overlap */
};
struct mdl_call {
    uint8_t coll, dtype, op, flags;
    int32_t root;
    uint64_t count, table; /* table: hash of the count tables of a V collective, 0 where ranks may differ */
    uint64_t in_segment, in_addr, out_segment, out_addr; /* addr: offset in the segment, or the address itself */
};

struct mdl_line {
    _Atomic uint64_t seq; /* written last with release, read first with acquire (publish / look) */
    _Atomic uint64_t word[MDL_LINE_WORDS];
};

struct mdl_board {
    struct mdl_segment *own;
    int counts;         /* read counters: one for each rank there may be in the host */
    int nlocal, me;     /* ranks of this host, own index among them */
    void **base;        /* [nlocal] mapped boards, own included */
    uint64_t *consumed; /* [channel * nlocal + source] signals that were waited for */
    size_t counts_offset, scratch_offset, scratch_bytes;
};

/* The segment, before it is known who is local: for at most `nranks` sources. */
medleyResult_t mdl_board_create(struct mdl_board *b, int nranks, size_t scratch_bytes) MDL_MUST_USE;
medleyResult_t mdl_board_attach(struct mdl_board *b, int nlocal, int me) MDL_MUST_USE; /* then base[i] is filled in by
                                                                                          the caller */
size_t mdl_board_bytes(int nranks, size_t scratch_bytes);
void mdl_board_destroy(struct mdl_board *b); /* frees the own segment; mappings of peers belong to the transport */

void mdl_board_publish(struct mdl_board *b, uint64_t seq, const struct mdl_call *call);
/* The signature alone: what mdl_board_is_same compares. */
void mdl_board_publish_short(struct mdl_board *b, uint64_t seq, const struct mdl_call *call);
/* medleySuccess: line `seq` of local rank i is in *call; InProgress: not yet; medleyInvalidUsage: it is already
 * further. */
medleyResult_t mdl_board_look(const struct mdl_board *b, int i, uint64_t seq, struct mdl_call *call);

/* Is line `seq` of local rank i there, with the signature of *call? What both leave open is not compared: buffers. */
bool mdl_board_is_same(const struct mdl_board *b, int i, uint64_t seq, const struct mdl_call *call);

void mdl_board_signal(struct mdl_board *b, int i, uint32_t channel);
bool mdl_board_consume(struct mdl_board *b, int i, uint32_t channel); /* takes one signal of local rank i, if there is
                                                                         one */

/* What travels with line `seq` of local rank i: written before the line is published, read after it was looked at. */
static inline void *mdl_board_payload(const struct mdl_board *b, int i, uint64_t seq)
{
    return (char *)b->base[i] + (seq & 1) * MDL_BOARD_LINE_ROOM + MDL_LINE_BYTES;
}

/* Bytes that local rank `reader` has read from local rank i. Written by the reader only. */
static inline _Atomic uint64_t *mdl_board_read_bytes(const struct mdl_board *b, int reader, int i)
{
    return (_Atomic uint64_t *)((char *)b->base[reader] + b->counts_offset) + i;
}

static inline void mdl_board_count_read(const struct mdl_board *b, int i, size_t bytes)
{
    _Atomic uint64_t *n = mdl_board_read_bytes(b, b->me, i);

    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + bytes, memory_order_relaxed);
}

/* Has local rank i destroyed its communicator in good order? Behind the counts. */
static inline _Atomic uint64_t *mdl_board_left(const struct mdl_board *b, int i)
{
    return (_Atomic uint64_t *)((char *)b->base[i] + b->counts_offset) + b->counts;
}

static inline void *mdl_board_scratch(const struct mdl_board *b, int i)
{
    return (char *)b->base[i] + b->scratch_offset;
}

#endif
