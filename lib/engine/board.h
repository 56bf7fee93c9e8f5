/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: one shared segment per rank, mapped by the ranks of its host. It holds
 * - a ring of published lines, one for each collective: what this rank calls, and where its buffers are or a small
 *   payload, in the line or in one of the rooms behind the lines;
 * - signal counters: slot (channel, source) is written by that source only, read by the owner;
 * - for each rank of the host, how many bytes the owner has read from that one's memory: nobody else sees it;
 * - the scratch that plans of the host read and write by reference.
 *
 * Invariant: a rank publishes the line of collective s only when it has finished s-1. So when rank A has seen all lines
 * s, nobody uses anything of s-1 any more. `agreed` is the newest s of which A has seen all lines, and found in them
 * the chain that it has itself: a hash of the calls up to s, so that one comparison covers all of them. A line, or a
 * room of a ring `depth` deep, is written for collective t when t - depth < agreed: then all have finished the
 * collective that it was written for before. Whoever needs nothing of the others may so be up to `depth` collectives
 * ahead of the slowest.
 *
 * A plan's scratch and signals have no ring: who runs one sees all lines of its collective first.
 */
#ifndef MDL_ENGINE_BOARD_H_
#define MDL_ENGINE_BOARD_H_

#include "lib/mem/mem.h"
#include "lib/plan/plan.h"
#include <stdatomic.h>

enum { MDL_BOARD_DEPTH = 32, MDL_LINE_ROOM = 512, MDL_LINE_WORDS = 8 };
enum { MDL_BOARD_PAYLOAD_BYTES = 131072 };

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
    uint64_t chain;                                      /* covers this call and all before it */
};

/* A sequence lock with one writer: seq is 0 while the rest is written, which only who compares late can see. */
struct mdl_line {
    _Atomic uint64_t seq;                  /* written last with release, read first with acquire */
    _Atomic uint64_t word[MDL_LINE_WORDS]; /* chain, signature, count; then the payload, or table and buffers */
};

/* Where payloads of a size lie: a ring of its own, so that who changes sizes need not wait for anybody. */
struct mdl_rooms {
    uint32_t depth, most; /* a power of two; bytes of a payload. MDL_REDUCE_PADDING bytes more may be read */
    uint32_t offset, stride;
};

struct mdl_board {
    struct mdl_segment *own;
    int counts;         /* read counters: one for each rank there may be in the host */
    int nlocal, me;     /* ranks of this host, own index among them */
    void **base;        /* [nlocal] mapped boards, own included */
    uint64_t *consumed; /* [channel * nlocal + source] signals that were waited for */
    uint64_t agreed;    /* see above */
    size_t counts_offset, asleep_offset, scratch_offset, scratch_bytes;
};

/* The segment, before it is known who is local: for at most `nranks` sources. */
medleyResult_t mdl_board_create(struct mdl_board *b, int nranks, size_t scratch_bytes) MDL_MUST_USE;
medleyResult_t mdl_board_attach(struct mdl_board *b, int nlocal, int me) MDL_MUST_USE; /* then base[i] is filled in by
                                                                                          the caller */
size_t mdl_board_bytes(int nranks, size_t scratch_bytes);
void mdl_board_destroy(struct mdl_board *b); /* frees the own segment; mappings of peers belong to the transport */

/* The smallest rooms for a payload. meets: all ranks wait for each other in the call, so two rooms are enough for one
 * that does not ride in its line. */
const struct mdl_rooms *mdl_board_rooms(size_t bytes, bool meets);

/* May this rank write for collective `seq` what is `depth` deep? */
static inline bool mdl_board_has_room(const struct mdl_board *b, uint64_t seq, uint32_t depth)
{
    return seq < b->agreed + depth;
}
/* Without room: the line that all must have published so that there is. Half a ring ahead, so that the others are
 * looked at as seldom as that. */
static inline uint64_t mdl_board_room_line(uint64_t seq, uint32_t depth) { return seq - depth / 2; }

void mdl_board_publish(struct mdl_board *b, uint64_t seq, const struct mdl_call *call);
/* medleySuccess: line `seq` of local rank i is in *call; InProgress: not yet; medleyInvalidUsage: it is already
 * further. Of a short line the buffers mean nothing. */
medleyResult_t mdl_board_look(const struct mdl_board *b, int i, uint64_t seq, struct mdl_call *call);

/* Compares line `seq` of local rank i with the own one by their chains. It may be overwritten meanwhile, since this
 * rank has published more: Success also if local rank i is further, as it has then found this rank's chain to be its
 * own. medleyInvalidUsage: they differ. */
medleyResult_t mdl_board_compare_late(const struct mdl_board *b, int i, uint64_t seq);

/* Ranks that are threads of one process map a board at different addresses, and the thread sanitizer, which goes by
 * address, does not see that a store to one is the load of another. For it alone, all meet in one word. */
#if defined(__SANITIZE_THREAD__)
extern _Atomic int mdl_board_meeting;
static inline void mdl_board_meet(void) { atomic_fetch_add_explicit(&mdl_board_meeting, 1, memory_order_seq_cst); }
#else
static inline void mdl_board_meet(void) {}
#endif

/* A word of line `seq` that is in none of the cache lines that anybody looks at, nor in a neighbour of one; written before
 * the line by who publishes it at full length. For far.h. */
static inline _Atomic uint64_t *mdl_board_probe(const struct mdl_board *b, int i, uint64_t seq)
{
    return (_Atomic uint64_t *)((char *)b->base[i] + (seq & (MDL_BOARD_DEPTH - 1)) * MDL_LINE_ROOM + MDL_LINE_ROOM / 2);
}

static inline struct mdl_line *mdl_board_line(const struct mdl_board *b, int i, uint64_t seq)
{
    return (struct mdl_line *)((char *)b->base[i] + (seq & (MDL_BOARD_DEPTH - 1)) * MDL_LINE_ROOM);
}

/* The release keeps what follows behind the 0; pairs with the fence in mdl_board_compare_late. */
static inline struct mdl_line *mdl_board_open(struct mdl_board *b, uint64_t seq, const struct mdl_call *c)
{
    struct mdl_line *l = mdl_board_line(b, b->me, seq);
    uint64_t kind = (uint64_t)c->coll | (uint64_t)c->dtype << 8 | (uint64_t)c->op << 16 | (uint64_t)c->flags << 24 |
                    (uint64_t)(uint32_t)c->root << 32;

    atomic_store_explicit(&l->seq, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&l->word[0], c->chain, memory_order_relaxed);
    atomic_store_explicit(&l->word[1], kind, memory_order_relaxed);
    atomic_store_explicit(&l->word[2], c->count, memory_order_relaxed);
    return l;
}

/* The signature alone, behind which there is a payload. */
static inline void mdl_board_publish_short(struct mdl_board *b, uint64_t seq, const struct mdl_call *c)
{
    struct mdl_line *l = mdl_board_open(b, seq, c);

    mdl_board_meet();
    atomic_store_explicit(&l->seq, seq, memory_order_release); /* pairs with look and is_same */
}

/* Is line `seq` of local rank i there, with this chain? For a line that stays until this rank has published more. */
static inline bool mdl_board_is_same(const struct mdl_board *b, int i, uint64_t seq, uint64_t chain)
{
    struct mdl_line *l = mdl_board_line(b, i, seq);

    if (atomic_load_explicit(&l->seq, memory_order_acquire) != seq) return false; /* pairs with publish */
    mdl_board_meet();
    return atomic_load_explicit(&l->word[0], memory_order_relaxed) == chain;
}

void mdl_board_signal(struct mdl_board *b, int i, uint32_t channel);
bool mdl_board_consume(struct mdl_board *b, int i, uint32_t channel); /* takes one signal of local rank i, if there is
                                                                         one */

/* What travels with line `seq` of local rank i: written before the line is published, read after it was looked at. */
static inline void *mdl_board_payload(const struct mdl_board *b, int i, uint64_t seq, const struct mdl_rooms *rooms)
{
    return (char *)b->base[i] + rooms->offset + (seq & (rooms->depth - 1)) * rooms->stride;
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

/* Not the number of local rank i's board: it reads no windows of others any more (direct.h). Behind `left`. */
static inline _Atomic uint64_t *mdl_board_reads_windows(const struct mdl_board *b, int i)
{
    return mdl_board_left(b, i) + 1;
}

/* Is the thread that works for local rank i about to sleep, so that it must be woken? In a cache line of its own. */
static inline _Atomic uint64_t *mdl_board_asleep(const struct mdl_board *b, int i)
{
    return (_Atomic uint64_t *)((char *)b->base[i] + b->asleep_offset);
}

static inline void *mdl_board_scratch(const struct mdl_board *b, int i)
{
    return (char *)b->base[i] + b->scratch_offset;
}

#endif
