/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collectives over ordinary buffers by single copy: process_vm_readv of the others' memory. No rank maps anything of
 * another's; the buffers are at the same address in every process.
 *
 * oneshot-T  read all of the others' inputs in tiles of T, everybody sums everything
 * two-T      each rank reads its slice of the others' inputs in tiles of T and sums it to its own output; after a
 *            meeting, everybody reads the others' slices
 * stream-T   the same without the meeting: the others' tiles are read as soon as they are summed, so from their cache
 * write-T    each rank writes its summed tile into the others' outputs (process_vm_writev), while it is in its cache
 */
#include "config.h"

#include "bench/limits/limits.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

static void complain(struct rank *me, const char *call, int err)
{
    if (atomic_fetch_add_explicit(&me->s->wrong, 1, memory_order_relaxed) == 0)
        fprintf(stderr, "limits: %s: %s\n", call, strerror(err));
}

static void get(struct rank *me, int peer, float *dst, const float *src, size_t count)
{
    const struct iovec to = {dst, count * sizeof(float)}, from = {(void *)(uintptr_t)src, count * sizeof(float)};
    if (count && process_vm_readv(me->s->pid[peer], &to, 1, &from, 1, 0) != (ssize_t)to.iov_len)
        complain(me, "process_vm_readv", errno);
}

static void put(struct rank *me, int peer, float *dst, const float *src, size_t count)
{
    const struct iovec from = {(void *)(uintptr_t)src, count * sizeof(float)}, to = {dst, count * sizeof(float)};
    if (count && process_vm_writev(me->s->pid[peer], &from, 1, &to, 1, 0) != (ssize_t)to.iov_len)
        complain(me, "process_vm_writev", errno);
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Sums elements at `at` of all inputs to `dst`. */
static void sum_tile(struct rank *me, float *dst, size_t at, size_t count, bool nt)
{
    const float *src[MAX_RANKS];
    src[me->rank] = me->own_in + at;
    for (int k = 1; k < me->n; k++) {
        const int peer = (me->rank + k) % me->n;
        get(me, peer, me->scratch[peer], me->own_in + at, count);
        src[peer] = me->scratch[peer];
    }
    sum_floats(&dst, 1, src, me->n, count, nt);
}

static void oneshot(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), tile = c->tile / sizeof(float);
    meet(me, FLAG_START);
    for (size_t at = 0; at < count; at += tile) sum_tile(me, me->own_out + at, at, least(count - at, tile), c->nt);
    meet(me, FLAG_END);
}

static void two(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), tile = c->tile / sizeof(float);
    const size_t end = slice_start(count, me->n, me->rank + 1);
    meet(me, FLAG_START);
    for (size_t at = slice_start(count, me->n, me->rank); at < end; at += tile)
        sum_tile(me, me->own_out + at, at, least(end - at, tile), c->nt);
    meet(me, FLAG_MID);
    for (int k = 1; k < me->n; k++) {
        const int peer = (me->rank + k) % me->n;
        const size_t from = slice_start(count, me->n, peer), to = slice_start(count, me->n, peer + 1);
        get(me, peer, me->own_out + from, me->own_out + from, to - from);
    }
    meet(me, FLAG_END);
}

/* Reads tile `t` of `peer`'s slice of the result. */
static void get_result(struct rank *me, int peer, size_t count, size_t tile, size_t t)
{
    const size_t end = slice_start(count, me->n, peer + 1), at = slice_start(count, me->n, peer) + t * tile;
    if (at < end) get(me, peer, me->own_out + at, me->own_out + at, least(end - at, tile));
}

static void stream(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), tile = c->tile / sizeof(float);
    const size_t first = slice_start(count, me->n, me->rank), end = slice_start(count, me->n, me->rank + 1);
    /* the last slice is the longest; all ranks count the same steps */
    const size_t steps = (count - slice_start(count, me->n, me->n - 1) + tile - 1) / tile;
    const uint64_t base = me->count[FLAG_MID];
    meet(me, FLAG_START);
    for (size_t t = 0; t <= steps; t++) {
        const size_t at = first + t * tile;
        if (at < end) sum_tile(me, me->own_out + at, at, least(end - at, tile), false);
        if (t < steps) count_up(me, FLAG_MID, 1);
        for (int k = 1; k < me->n && t > 0; k++) {
            const int peer = (me->rank + k) % me->n;
            wait_rank(me, FLAG_MID, peer, base + t);
            get_result(me, peer, count, tile, t - 1);
        }
    }
    meet(me, FLAG_END);
}

static void write_tiles(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), tile = c->tile / sizeof(float);
    const size_t end = slice_start(count, me->n, me->rank + 1);
    meet(me, FLAG_START);
    for (size_t at = slice_start(count, me->n, me->rank); at < end; at += tile) {
        const size_t part = least(end - at, tile);
        sum_tile(me, me->own_out + at, at, part, false);
        for (int k = 1; k < me->n; k++) put(me, (me->rank + k) % me->n, me->own_out + at, me->own_out + at, part);
    }
    meet(me, FLAG_END);
}

static void reduce_scatter(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), me->n, 1), tile = c->tile / sizeof(float);
    meet(me, FLAG_START);
    for (size_t at = 0; at < part; at += tile)
        sum_tile(me, me->own_out + at, part * (size_t)me->rank + at, least(part - at, tile), c->nt);
    meet(me, FLAG_END);
}

static void allgather(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), me->n, 1);
    meet(me, FLAG_START);
    copy_floats(me->own_out + part * (size_t)me->rank, me->own_in, part, c->nt);
    for (int k = 1; k < me->n; k++) {
        const int peer = (me->rank + k) % me->n;
        get(me, peer, me->own_out + part * (size_t)peer, me->own_in, part);
    }
    meet(me, FLAG_END);
}

/* In place on the root. option: the part in 1/16 that the root writes; the others read the rest. */
static void broadcast(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t count = bytes / sizeof(float), pushed = count / 16 * (size_t)c->option;
    meet(me, FLAG_START);
    if (me->rank > 0)
        get(me, 0, me->own_out + pushed, me->own_in + pushed, count - pushed);
    else
        for (int k = 1; k < me->n; k++) put(me, k, me->own_out, me->own_in, pushed);
    meet(me, FLAG_END);
}

static void alltoall(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const size_t part = slice_start(bytes / sizeof(float), me->n, 1), mine = part * (size_t)me->rank;
    meet(me, FLAG_START);
    copy_floats(me->own_out + mine, me->own_in + mine, part, c->nt);
    for (int k = 1; k < me->n; k++) {
        const int peer = (me->rank + k) % me->n;
        get(me, peer, me->own_out + part * (size_t)peer, me->own_in + mine, part);
    }
    meet(me, FLAG_END);
}

#define ALL (1u << 2 | 1u << 4 | 1u << 8)
#define TWO (1u << 2)
#define K   ((size_t)1 << 10)
#define CASE(what, how, on, from, to, function, result, ...)                                                           \
    {                                                                                                                  \
        .limit = "pvr", .name = what, .variant = how, .ranks = on, .min = from, .max = to, .run = function,            \
        .coll = result, __VA_ARGS__                                                                                    \
    }
#define REDUCE(how, function, kib, from)                                                                               \
    CASE("allreduce", how "-" #kib "K", ALL, (from)*K, SIZE_MAX, function, COLL_ALLREDUCE, .tile = kib * K)

const struct limit_case pvr_cases[] = {
    CASE("allreduce", "oneshot-64K", ALL, 0, 256 * K, oneshot, COLL_ALLREDUCE, .tile = 64 * K),
    REDUCE("two", two, 16, 1),
    REDUCE("two", two, 32, 64),
    REDUCE("two", two, 64, 128),
    REDUCE("two", two, 128, 256),
    REDUCE("two", two, 256, 512),
    REDUCE("two", two, 512, 1024),
    REDUCE("two", two, 1024, 2048),
    REDUCE("stream", stream, 32, 128),
    REDUCE("stream", stream, 128, 512),
    REDUCE("stream", stream, 256, 1024),
    REDUCE("stream", stream, 1024, 4096),
    REDUCE("write", write_tiles, 16, 1),
    REDUCE("write", write_tiles, 64, 128),
    REDUCE("write", write_tiles, 128, 256),
    REDUCE("write", write_tiles, 256, 512),
    REDUCE("write", write_tiles, 512, 1024),
    CASE("reduce_scatter", "tile-32K", TWO, 1 * K, SIZE_MAX, reduce_scatter, COLL_REDUCE_SCATTER, .tile = 32 * K),
    CASE("reduce_scatter", "tile-128K", TWO, 64 * K, SIZE_MAX, reduce_scatter, COLL_REDUCE_SCATTER, .tile = 128 * K),
    CASE("reduce_scatter", "tile-128K-nt", TWO, 256 * K, SIZE_MAX, reduce_scatter, COLL_REDUCE_SCATTER, .tile = 128 * K,
         .nt = true),
    CASE("allgather", "read", TWO, 1 * K, SIZE_MAX, allgather, COLL_ALLGATHER, .nt = false),
    CASE("allgather", "read-nt", TWO, 256 * K, SIZE_MAX, allgather, COLL_ALLGATHER, .nt = true),
    CASE("broadcast", "read", TWO, 1 * K, SIZE_MAX, broadcast, COLL_BROADCAST, .option = 0),
    CASE("broadcast", "half", TWO, 1 * K, SIZE_MAX, broadcast, COLL_BROADCAST, .option = 8),
    CASE("alltoall", "read", TWO, 1 * K, SIZE_MAX, alltoall, COLL_ALLTOALL, .nt = false),
    CASE("alltoall", "read-nt", TWO, 256 * K, SIZE_MAX, alltoall, COLL_ALLTOALL, .nt = true),
};
const size_t pvr_cases_count = sizeof pvr_cases / sizeof *pvr_cases;
