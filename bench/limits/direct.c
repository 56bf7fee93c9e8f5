/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collectives over buffers that every rank has mapped: read all inputs where they are, write all outputs where they
 * are. Two meetings: before, because inputs must be there and outputs free; after, because the others still read and
 * write. What can only be better than this does less.
 *
 * box       small: the payload travels in the line of its flag; everybody sums all of them; no second meeting
 * oneshot   everybody sums everything into its own output
 * push      each rank sums its slice of all inputs and stores it to all outputs in the same pass
 * tile      the same, tile by tile: sum to the own output, copy to the others' while it is in the cache
 * pull      each rank sums its slice to its own output, and after a meeting copies the others' slices
 */
#include "config.h"

#include "bench/limits/limits.h"
#include <string.h>

/* Release pairs with the acquire in wait_value on the reader's side. */
static void box(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const uint64_t seq = ++me->box_seq;
    struct box *mine = &me->s->box[me->rank][seq & 1];
    const float *src[MAX_RANKS];
    memcpy(mine->data, me->in[me->rank], bytes);
    atomic_store_explicit(&mine->seq, seq, memory_order_release);
    for (int k = 0; k < me->n; k++) {
        wait_value(me, &me->s->box[k][seq & 1].seq, seq);
        src[k] = k == me->rank ? me->in[k] : (const float *)(const void *)me->s->box[k][seq & 1].data;
    }
    sum_floats(&me->out[me->rank], 1, src, me->n, bytes / sizeof(float), c->nt);
}

static void oneshot(struct rank *me, const struct limit_case *c, size_t bytes)
{
    meet(me, FLAG_START);
    sum_floats(&me->out[me->rank], 1, me->in, me->n, bytes / sizeof(float), c->nt);
    meet(me, FLAG_END);
}

static void push(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), first = slice_start(count, me->n, me->rank);
    const float *src[MAX_RANKS];
    float *dst[MAX_RANKS];
    for (int k = 0; k < me->n; k++) src[k] = me->in[k] + first, dst[k] = me->out[k] + first;
    meet(me, FLAG_START);
    sum_floats(dst, me->n, src, me->n, slice_start(count, me->n, me->rank + 1) - first, c->nt);
    meet(me, FLAG_END);
}

static void push_tiles(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), end = slice_start(count, me->n, me->rank + 1);
    const size_t tile = c->tile / sizeof(float);
    meet(me, FLAG_START);
    for (size_t at = slice_start(count, me->n, me->rank); at < end; at += tile) {
        const size_t part = end - at < tile ? end - at : tile;
        const float *src[MAX_RANKS];
        float *const mine = me->out[me->rank] + at;
        for (int k = 0; k < me->n; k++) src[k] = me->in[k] + at;
        sum_floats(&mine, 1, src, me->n, part, false);
        for (int k = 1; k < me->n; k++) copy_floats(me->out[(me->rank + k) % me->n] + at, mine, part, c->nt);
    }
    meet(me, FLAG_END);
}

static void pull(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), first = slice_start(count, me->n, me->rank);
    const float *src[MAX_RANKS];
    float *const mine = me->out[me->rank];
    for (int k = 0; k < me->n; k++) src[k] = me->in[k] + first;
    meet(me, FLAG_START);
    sum_floats((float *const[]){mine + first}, 1, src, me->n, slice_start(count, me->n, me->rank + 1) - first, false);
    meet(me, FLAG_MID);
    for (int k = 1; k < me->n; k++) {
        const int peer = (me->rank + k) % me->n;
        const size_t from = slice_start(count, me->n, peer), end = slice_start(count, me->n, peer + 1);
        copy_floats(mine + from, me->out[peer] + from, end - from, c->nt);
    }
    meet(me, FLAG_END);
}

static void reduce_scatter(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), me->n, 1);
    const float *src[MAX_RANKS];
    for (int k = 0; k < me->n; k++) src[k] = me->in[k] + part * (size_t)me->rank;
    meet(me, FLAG_START);
    sum_floats(&me->out[me->rank], 1, src, me->n, part, c->nt);
    meet(me, FLAG_END);
}

static void allgather_pull(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), me->n, 1);
    meet(me, FLAG_START);
    for (int k = 0; k < me->n; k++) copy_floats(me->out[me->rank] + part * (size_t)k, me->in[k], part, c->nt);
    meet(me, FLAG_END);
}

static void allgather_push(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), me->n, 1);
    float *dst[MAX_RANKS];
    for (int k = 0; k < me->n; k++) dst[k] = me->out[k] + part * (size_t)me->rank;
    meet(me, FLAG_START);
    sum_floats(dst, me->n, &me->in[me->rank], 1, part, c->nt);
    meet(me, FLAG_END);
}

/* In place on the root, rank 0. option: the part in 1/16 that the root copies; the others copy the rest. */
static void broadcast(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), pushed = count / 16 * (size_t)c->option;
    meet(me, FLAG_START);
    if (me->rank > 0)
        copy_floats(me->out[me->rank] + pushed, me->in[0] + pushed, count - pushed, c->nt);
    else if (pushed)
        for (int k = 1; k < me->n; k++) copy_floats(me->out[k], me->in[0], pushed, c->nt);
    meet(me, FLAG_END);
}

static void alltoall(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), me->n, 1);
    meet(me, FLAG_START);
    for (int k = 0; k < me->n; k++)
        copy_floats(me->out[me->rank] + part * (size_t)k, me->in[k] + part * (size_t)me->rank, part, c->nt);
    meet(me, FLAG_END);
}

#define ALL   (1u << 2 | 1u << 4 | 1u << 8)
#define TWO   (1u << 2)
#define K     ((size_t)1 << 10)
#define M     ((size_t)1 << 20)
#define WHOLE SIZE_MAX
#define CASE(what, how, on, from, to, function, result, ...)                                                           \
    {                                                                                                                  \
        .limit = "direct", .name = what, .variant = how, .ranks = on, .min = from, .max = to, .run = function,         \
        .coll = result, .mapped = true, __VA_ARGS__                                                                    \
    }
#define REDUCE(how, from, to, function, ...)                                                                           \
    CASE("allreduce", how, ALL, from, to, function, COLL_ALLREDUCE, __VA_ARGS__)
/* plain and non-temporal stores, pages of both kinds */
#define OTHER(what, how, function, result, chosen)                                                                     \
    CASE(what, how, TWO, 1 * K, WHOLE, function, result, .option = chosen),                                            \
        CASE(what, how "-nt", TWO, 64 * K, WHOLE, function, result, .nt = true, .option = chosen),                     \
        CASE(what, how "-huge", TWO, 4 * M, WHOLE, function, result, .huge = true, .option = chosen),                  \
        CASE(what, how "-nt-huge", TWO, 4 * M, WHOLE, function, result, .nt = true, .huge = true, .option = chosen)

const struct limit_case direct_cases[] = {
    REDUCE("box", 0, BOX_BYTES, box, .nt = false),
    REDUCE("oneshot", 0, 256 * K, oneshot, .nt = false),
    REDUCE("push", 1 * K, WHOLE, push, .nt = false),
    REDUCE("push-nt", 64 * K, WHOLE, push, .nt = true),
    REDUCE("push-huge", 4 * M, WHOLE, push, .huge = true),
    REDUCE("push-nt-huge", 4 * M, WHOLE, push, .nt = true, .huge = true),
    REDUCE("tile-16K", 64 * K, WHOLE, push_tiles, .tile = 16 * K),
    REDUCE("tile-16K-nt", 1 * M, WHOLE, push_tiles, .tile = 16 * K, .nt = true),
    REDUCE("tile-128K", 512 * K, WHOLE, push_tiles, .tile = 128 * K),
    REDUCE("pull", 4 * K, WHOLE, pull, .nt = false),
    REDUCE("pull-nt", 256 * K, WHOLE, pull, .nt = true),
    OTHER("reduce_scatter", "pull", reduce_scatter, COLL_REDUCE_SCATTER, 0),
    OTHER("allgather", "pull", allgather_pull, COLL_ALLGATHER, 0),
    OTHER("allgather", "push", allgather_push, COLL_ALLGATHER, 0),
    OTHER("broadcast", "pull", broadcast, COLL_BROADCAST, 0),
    OTHER("broadcast", "half", broadcast, COLL_BROADCAST, 8),
    OTHER("alltoall", "pull", alltoall, COLL_ALLTOALL, 0),
};
const size_t direct_cases_count = sizeof direct_cases / sizeof *direct_cases;
