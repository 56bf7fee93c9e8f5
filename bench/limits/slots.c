/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collectives over ordinary buffers by copies through shared slots that stay in the cache: no system call, but memory
 * is copied once more than by process_vm_readv. A rank has DEPTH slots and runs one chunk ahead of the others, so that
 * none waits for a neighbour that is a little late.
 *
 * one-S   chunks of S: everybody copies its chunk to its slot and sums everybody's slots (its own part from its input)
 * two-S   everybody copies what the others reduce of a chunk, sums its part to its output and to a second slot, and
 *         copies the others' parts from theirs
 * copy-S  the same for collectives that only copy: the sender to its slots, the receiver from them
 */
#include "config.h"

#include "bench/limits/limits.h"

static float *slot(const struct rank *me, int rank, int kind, uint64_t chunk)
{
    return (float *)(void *)me->s->slot[rank][kind][chunk % DEPTH];
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Until slot `chunk` of all ranks, that it is to be overwritten, was read by all. */
static void wait_free(const struct rank *me, uint64_t chunk)
{
    if (chunk >= DEPTH) wait_all(me, FLAG_DONE, chunk + 1 - DEPTH);
}

static void sum_slots(struct rank *me, uint64_t chunk, size_t at, size_t count, bool nt)
{
    const float *src[MAX_RANKS];
    float *const dst = me->own_out + at;
    for (int k = 0; k < me->n; k++) src[k] = k == me->rank ? me->own_in + at : slot(me, k, 0, chunk);
    sum_floats(&dst, 1, src, me->n, count, nt);
}

static void one(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), step = c->tile / sizeof(float), chunks = (count + step - 1) / step;
    const uint64_t base = me->count[FLAG_READY];
    for (size_t k = 0; k <= chunks; k++) {
        if (k < chunks) {
            wait_free(me, base + k);
            copy_floats(slot(me, me->rank, 0, base + k), me->own_in + k * step, least(count - k * step, step),
                        c->option);
            count_up(me, FLAG_READY, 1);
        }
        if (k > 0) {
            const size_t at = (k - 1) * step;
            wait_all(me, FLAG_READY, base + k);
            sum_slots(me, base + k - 1, at, least(count - at, step), c->nt);
            count_up(me, FLAG_DONE, 1);
        }
    }
}

/* A chunk of the two-phase algorithm. */
struct chunk {
    size_t at, count;
    uint64_t number;
};

static struct chunk chunk_of(uint64_t base, size_t k, size_t count, size_t step)
{
    return (struct chunk){k * step, least(count - k * step, step), base + k};
}

static void two_copy_in(struct rank *me, struct chunk p, bool nt)
{
    wait_free(me, p.number);
    for (int k = 1; k < me->n; k++) {
        const int peer = (me->rank + k) % me->n;
        const size_t from = slice_start(p.count, me->n, peer), end = slice_start(p.count, me->n, peer + 1);
        copy_floats(slot(me, me->rank, 0, p.number) + from, me->own_in + p.at + from, end - from, nt);
    }
    count_up(me, FLAG_READY, 1);
}

static void two_sum(struct rank *me, struct chunk p, bool nt)
{
    const size_t from = slice_start(p.count, me->n, me->rank), end = slice_start(p.count, me->n, me->rank + 1);
    float *const dst[2] = {me->own_out + p.at + from, slot(me, me->rank, 1, p.number) + from};
    const float *src[MAX_RANKS];
    for (int k = 0; k < me->n; k++) src[k] = k == me->rank ? me->own_in + p.at + from : slot(me, k, 0, p.number) + from;
    wait_all(me, FLAG_READY, p.number + 1);
    sum_floats(dst, 2, src, me->n, end - from, nt);
    count_up(me, FLAG_REDUCED, 1);
}

static void two_copy_out(struct rank *me, struct chunk p, bool nt)
{
    wait_all(me, FLAG_REDUCED, p.number + 1);
    for (int k = 1; k < me->n; k++) {
        const int peer = (me->rank + k) % me->n;
        const size_t from = slice_start(p.count, me->n, peer), end = slice_start(p.count, me->n, peer + 1);
        copy_floats(me->own_out + p.at + from, slot(me, peer, 1, p.number) + from, end - from, nt);
    }
    count_up(me, FLAG_DONE, 1);
}

static void two(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), step = c->tile / sizeof(float), chunks = (count + step - 1) / step;
    const uint64_t base = me->count[FLAG_READY];
    /* `one` counts no REDUCED: bring it up to the others */
    me->count[FLAG_REDUCED] = base;
    for (size_t k = 0; k < chunks + 2; k++) {
        if (k < chunks) two_copy_in(me, chunk_of(base, k, count, step), c->option);
        if (k >= 1 && k - 1 < chunks) two_sum(me, chunk_of(base, k - 1, count, step), c->option);
        if (k >= 2) two_copy_out(me, chunk_of(base, k - 2, count, step), c->nt);
    }
}

/* Sends `sent` elements from src; receives `got` elements of each peer, peer's block k to dst + k * got. Everybody
 * counts the same number of chunks. */
static void exchange(struct rank *me, const struct limit_case *c, const float *src, size_t sent, size_t got)
{
    const size_t step = c->tile / sizeof(float), most = sent > got ? sent : got, chunks = (most + step - 1) / step;
    const uint64_t base = me->count[FLAG_READY];
    for (size_t k = 0; k <= chunks; k++) {
        const size_t at = k * step;
        if (k < chunks) {
            wait_free(me, base + k);
            if (at < sent) copy_floats(slot(me, me->rank, 0, base + k), src + at, least(sent - at, step), false);
            count_up(me, FLAG_READY, 1);
        }
        if (k > 0) {
            wait_all(me, FLAG_READY, base + k);
            for (int p = 1; p < me->n && at - step < got; p++) {
                const int peer = (me->rank + p) % me->n;
                copy_floats(me->own_out + got * (size_t)peer + at - step, slot(me, peer, 0, base + k - 1),
                            least(got - (at - step), step), c->nt);
            }
            count_up(me, FLAG_DONE, 1);
        }
    }
}

static void allgather(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), me->n, 1);
    exchange(me, c, me->own_in, part, part);
    copy_floats(me->own_out + part * (size_t)me->rank, me->own_in, part, c->nt);
}

/* For two ranks: what is sent is the other's block. */
static void alltoall(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), me->n, 1);
    exchange(me, c, me->own_in + part * (size_t)(1 - me->rank), part, part);
    copy_floats(me->own_out + part * (size_t)me->rank, me->own_in + part * (size_t)me->rank, part, c->nt);
}

/* In place on the root. Blocks of `got` elements are placed by the peer's number, which is 0. */
static void broadcast(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), step = c->tile / sizeof(float), chunks = (count + step - 1) / step;
    const uint64_t base = me->count[FLAG_READY];
    for (size_t k = 0; k < chunks; k++) {
        const size_t at = k * step, part = least(count - at, step);
        if (me->rank == 0) {
            wait_free(me, base + k);
            copy_floats(slot(me, 0, 0, base + k), me->own_in + at, part, false);
            count_up(me, FLAG_READY, 1);
            count_up(me, FLAG_DONE, 1);
        } else {
            wait_rank(me, FLAG_READY, 0, base + k + 1);
            copy_floats(me->own_out + at, slot(me, 0, 0, base + k), part, c->nt);
            count_up(me, FLAG_READY, 1);
            count_up(me, FLAG_DONE, 1);
        }
    }
}

/* For two ranks: the chunk in the slot is what the other one reduces. */
static void reduce_scatter(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), 2, 1), step = c->tile / sizeof(float),
                 chunks = (part + step - 1) / step;
    const float *const mine = me->own_in + part * (size_t)me->rank;
    const float *const theirs = me->own_in + part * (size_t)(1 - me->rank);
    const uint64_t base = me->count[FLAG_READY];
    for (size_t k = 0; k <= chunks; k++) {
        if (k < chunks) {
            wait_free(me, base + k);
            copy_floats(slot(me, me->rank, 0, base + k), theirs + k * step, least(part - k * step, step), false);
            count_up(me, FLAG_READY, 1);
        }
        if (k > 0) {
            const size_t at = (k - 1) * step;
            const float *const src[2] = {mine + at, slot(me, 1 - me->rank, 0, base + k - 1)};
            wait_all(me, FLAG_READY, base + k);
            sum_floats((float *const[]){me->own_out + at}, 1, src, 2, least(part - at, step), c->nt);
            count_up(me, FLAG_DONE, 1);
        }
    }
}

#define ALL (1u << 2 | 1u << 4 | 1u << 8)
#define TWO (1u << 2)
#define K   ((size_t)1 << 10)
#define CASE(what, how, on, from, function, result, size, stream)                                                      \
    {                                                                                                                  \
        .limit = "slots", .name = what, .variant = how, .ranks = on, .min = from, .max = SIZE_MAX, .run = function,    \
        .coll = result, .tile = size, .nt = stream                                                                     \
    }
#define REDUCE(function, kib, from)                                                                                    \
    CASE("allreduce", #function "-" #kib "K", ALL, (from)*K, function, COLL_ALLREDUCE, kib *K, false)
#define REDUCE_NT(function, kib, from)                                                                                 \
    CASE("allreduce", #function "-" #kib "K-nt", ALL, (from)*K, function, COLL_ALLREDUCE, kib *K, true)
/* far: the slots, too, are written past the cache */
#define REDUCE_FAR(function, kib, from)                                                                                \
    {                                                                                                                  \
        .limit = "slots", .name = "allreduce", .variant = #function "-" #kib "K-far", .ranks = ALL, .min = (from)*K,   \
        .max = SIZE_MAX, .run = function, .coll = COLL_ALLREDUCE, .tile = kib * K, .nt = true, .option = 1             \
    }
#define OTHER_SIZE(what, function, result, kib, from)                                                                  \
    CASE(what, "copy-" #kib "K", TWO, (from)*K, function, result, kib *K, false)
#define OTHER(what, function, result)                                                                                  \
    OTHER_SIZE(what, function, result, 8, 1), OTHER_SIZE(what, function, result, 32, 64),                              \
        OTHER_SIZE(what, function, result, 128, 256), OTHER_SIZE(what, function, result, 256, 512),                    \
        OTHER_SIZE(what, function, result, 512, 1024),                                                                 \
        CASE(what, "copy-32K-nt", TWO, 1024 * K, function, result, 32 * K, true),                                      \
        CASE(what, "copy-256K-nt", TWO, 1024 * K, function, result, 256 * K, true)

const struct limit_case slots_cases[] = {
    REDUCE(one, 4, 0),
    REDUCE(one, 8, 16),
    REDUCE(one, 16, 32),
    REDUCE(one, 32, 64),
    REDUCE(one, 64, 128),
    REDUCE(one, 128, 256),
    REDUCE(one, 256, 512),
    REDUCE(two, 8, 4),
    REDUCE(two, 16, 32),
    REDUCE(two, 32, 64),
    REDUCE(two, 64, 128),
    REDUCE(two, 128, 256),
    REDUCE(two, 256, 512),
    REDUCE(two, 512, 1024),
    REDUCE(two, 1024, 2048),
    REDUCE_NT(one, 32, 1024),
    REDUCE_NT(one, 128, 1024),
    REDUCE_NT(one, 512, 1024),
    REDUCE_NT(two, 64, 1024),
    REDUCE_NT(two, 256, 1024),
    REDUCE_NT(two, 512, 1024),
    REDUCE_NT(two, 1024, 2048),
    REDUCE_FAR(one, 64, 256),
    REDUCE_FAR(one, 512, 1024),
    REDUCE_FAR(two, 64, 256),
    REDUCE_FAR(two, 256, 512),
    REDUCE_FAR(two, 1024, 2048),
    OTHER("reduce_scatter", reduce_scatter, COLL_REDUCE_SCATTER),
    OTHER("allgather", allgather, COLL_ALLGATHER),
    OTHER("broadcast", broadcast, COLL_BROADCAST),
    OTHER("alltoall", alltoall, COLL_ALLTOALL),
};
const size_t slots_cases_count = sizeof slots_cases / sizeof *slots_cases;
