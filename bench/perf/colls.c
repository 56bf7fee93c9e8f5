/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows. A size is the total in the larger buffer, as in nccl-tests: where each rank has a part, the part is the
 * size divided by the ranks, cut to 16 bytes. The V collectives give rank r, or the peer at distance r, a part
 * proportional to r, so that parts differ and one is empty.
 */
#include "config.h"
#include "bench/perf/colls.h"
#include "lib/base/status.h"
#include "lib/reduce/reduce.h"
#include <string.h>

static const char *at(const void *buffer, const struct perf_shape *s, size_t elements)
{
    return (const char *)buffer + elements * s->elem;
}

/* Whole 16 bytes of each rank's part. */
static size_t part_of(const struct perf_shape *s, size_t count)
{
    size_t unit = 16 / s->elem;
    return count / (size_t)s->nranks / unit * unit;
}

/* ---- counts ---- */

static void measure_same(struct perf_shape *s, size_t count) { s->count = s->send = s->recv = count; }

static void measure_gathering(struct perf_shape *s, size_t count)
{
    s->count = s->send = part_of(s, count);
    s->send_slot = true;
    s->recv = s->count * (size_t)s->nranks;
}

static void measure_scattering(struct perf_shape *s, size_t count)
{
    s->count = s->recv = part_of(s, count);
    s->recv_slot = true;
    s->send = s->count * (size_t)s->nranks;
}

static void measure_alltoall(struct perf_shape *s, size_t count)
{
    s->count = part_of(s, count);
    s->send = s->recv = s->count * (size_t)s->nranks;
}

static void measure_nothing(struct perf_shape *s, size_t count) { (void)s, (void)count; }

/* ---- uneven parts ---- */

/* The part with number `k` of nranks, whose sum is at most count * nranks. */
static size_t uneven_part(const struct perf_shape *s, int k)
{
    size_t n = (size_t)s->nranks, unit = 16 / s->elem;
    if (n == 1) return s->count;
    double share = 2.0 * k / (double)(n - 1); /* of the even part */
    return (size_t)((double)s->count * share) / unit * unit;
}

static size_t uneven_total(const struct perf_shape *s)
{
    size_t total = 0;
    for (int k = 0; k < s->nranks; k++) total += uneven_part(s, k);
    return total;
}

/* The part that `from` sends `to`: by their distance. */
static size_t pair_part(const struct perf_shape *s, int from, int to)
{
    return uneven_part(s, (to - from + s->nranks) % s->nranks);
}

static void measure_alltoallv(struct perf_shape *s, size_t count)
{
    s->count = part_of(s, count);
    s->send = s->recv = uneven_total(s);
}

static void measure_allgatherv(struct perf_shape *s, size_t count)
{
    s->count = part_of(s, count);
    s->send = uneven_part(s, s->nranks - 1);
    s->recv = uneven_total(s);
    s->send_slot = true;
}

static void measure_reducescatterv(struct perf_shape *s, size_t count)
{
    s->count = part_of(s, count);
    s->send = uneven_total(s);
    s->recv = uneven_part(s, s->nranks - 1);
    s->recv_slot = true;
}

/* Send counts, then receive counts. */
static void tables_alltoallv(const struct perf_shape *s, int rank, size_t *counts)
{
    for (int r = 0; r < s->nranks; r++) {
        counts[r] = pair_part(s, rank, r);
        counts[s->nranks + r] = pair_part(s, r, rank);
    }
}

/* The part of each rank, then where it begins. */
static void tables_parts(const struct perf_shape *s, int rank, size_t *counts)
{
    size_t begin = 0;
    (void)rank;
    for (int r = 0; r < s->nranks; r++) {
        counts[r] = uneven_part(s, r);
        counts[s->nranks + r] = begin;
        begin += counts[r];
    }
}

/* ---- calls ---- */

static medleyResult_t call_allreduce(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyAllReduce(c->send, c->recv, s->count, s->dtype, c->op, c->comm, c->stream);
}

static medleyResult_t call_allgather(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyAllGather(c->send, c->recv, s->count, s->dtype, c->comm, c->stream);
}

static medleyResult_t call_reducescatter(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyReduceScatter(c->send, c->recv, s->count, s->dtype, c->op, c->comm, c->stream);
}

static medleyResult_t call_broadcast(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyBroadcast(c->send, c->recv, s->count, s->dtype, s->root, c->comm, c->stream);
}

static medleyResult_t call_reduce(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyReduce(c->send, c->recv, s->count, s->dtype, c->op, s->root, c->comm, c->stream);
}

static medleyResult_t call_alltoall(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyAlltoAll(c->send, c->recv, s->count, s->dtype, c->comm, c->stream);
}

static medleyResult_t call_alltoallv(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyAlltoAllV(c->send, c->counts, NULL, c->recv, c->counts + s->nranks, NULL, s->dtype, c->comm,
                           c->stream);
}

static medleyResult_t call_gather(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyGather(c->send, c->recv, s->count, s->dtype, s->root, c->comm, c->stream);
}

static medleyResult_t call_scatter(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyScatter(c->send, c->recv, s->count, s->dtype, s->root, c->comm, c->stream);
}

static medleyResult_t call_barrier(const struct perf_shape *s, const struct perf_call *c)
{
    (void)s;
    return medleyBarrier(c->comm, c->stream);
}

static medleyResult_t call_allgatherv(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyAllGatherV(c->send, c->counts[c->rank], c->recv, c->counts, c->counts + s->nranks, s->dtype, c->comm,
                            c->stream);
}

static medleyResult_t call_reducescatterv(const struct perf_shape *s, const struct perf_call *c)
{
    return medleyReduceScatterV(c->send, c->recv, c->counts, c->counts + s->nranks, s->dtype, c->op, c->comm,
                                c->stream);
}

/* A ring: to the next rank, from the one before. */
static medleyResult_t call_sendrecv(const struct perf_shape *s, const struct perf_call *c)
{
    MDL_TRY(medleySend(c->send, s->count, s->dtype, (c->rank + 1) % s->nranks, c->comm, c->stream));
    return medleyRecv(c->recv, s->count, s->dtype, (c->rank + s->nranks - 1) % s->nranks, c->comm, c->stream);
}

/* An all-gather by hand. The first step moves the own part into place, by a message to oneself; step k exchanges with
 * the rank that differs in bit k - 1 what both have gathered so far. */
static int steps_hypercube(int nranks)
{
    int steps = 1;
    while (1 << (steps - 1) < nranks) steps++;
    return steps;
}

static medleyResult_t call_hypercube(const struct perf_shape *s, const struct perf_call *c)
{
    int bit = c->step ? 1 << (c->step - 1) : 0, mine = c->rank & ~(bit - 1), peer = c->rank ^ bit;
    if (!c->step) {
        char *place = (char *)at(c->recv, s, (size_t)c->rank * s->count);
        if (c->send == place) return medleySuccess;
        MDL_TRY(medleySend(c->send, s->count, s->dtype, c->rank, c->comm, c->stream));
        return medleyRecv(place, s->count, s->dtype, c->rank, c->comm, c->stream);
    }
    size_t count = s->count * (size_t)bit;
    const char *from = at(c->recv, s, (size_t)mine * s->count);
    char *to = (char *)at(c->recv, s, (size_t)(mine ^ bit) * s->count);
    MDL_TRY(medleySend(from, count, s->dtype, peer, c->comm, c->stream));
    return medleyRecv(to, count, s->dtype, peer, c->comm, c->stream);
}

/* ---- what must come out ---- */

static int expect_reduced(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    if ((s->coll->flags & PERF_HAS_ROOT) && rank != s->root) return 0;
    out[0] = (struct perf_segment){.count = s->count, .rank = PERF_REDUCED};
    return 1;
}

static int expect_reduced_part(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    out[0] = (struct perf_segment){.count = s->count, .from = (size_t)rank * s->count, .rank = PERF_REDUCED};
    return 1;
}

static int expect_parts_of_all(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    if ((s->coll->flags & PERF_HAS_ROOT) && rank != s->root) return 0;
    for (int r = 0; r < s->nranks; r++)
        out[r] = (struct perf_segment){.at = (size_t)r * s->count, .count = s->count, .rank = r};
    return s->nranks;
}

static int expect_of_root(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    size_t from = s->send > s->count ? (size_t)rank * s->count : 0; /* scatter, else broadcast */
    out[0] = (struct perf_segment){.count = s->count, .from = from, .rank = s->root};
    return 1;
}

static int expect_alltoall(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    for (int r = 0; r < s->nranks; r++)
        out[r] = (struct perf_segment){
            .at = (size_t)r * s->count, .count = s->count, .from = (size_t)rank * s->count, .rank = r};
    return s->nranks;
}

static int expect_alltoallv(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    size_t begin = 0;
    for (int r = 0; r < s->nranks; r++) {
        size_t from = 0;
        for (int k = 0; k < rank; k++) from += pair_part(s, r, k);
        out[r] = (struct perf_segment){.at = begin, .count = pair_part(s, r, rank), .from = from, .rank = r};
        begin += out[r].count;
    }
    return s->nranks;
}

static int expect_allgatherv(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    size_t begin = 0;
    (void)rank;
    for (int r = 0; r < s->nranks; r++) {
        out[r] = (struct perf_segment){.at = begin, .count = uneven_part(s, r), .rank = r};
        begin += out[r].count;
    }
    return s->nranks;
}

static int expect_reducescatterv(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    out[0] =
        (struct perf_segment){.count = uneven_part(s, rank), .from = perf_shape_slot(s, rank), .rank = PERF_REDUCED};
    return 1;
}

static int expect_neighbour(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    out[0] = (struct perf_segment){.count = s->count, .rank = (rank + s->nranks - 1) % s->nranks};
    return 1;
}

static int expect_nothing(const struct perf_shape *s, int rank, struct perf_segment *out)
{
    (void)s, (void)rank, (void)out;
    return 0;
}

/* ---- bandwidth ---- */

static double bytes_of_call(const struct perf_shape *s) { return (double)s->count * (double)s->elem; }
static double bytes_of_all(const struct perf_shape *s) { return bytes_of_call(s) * s->nranks; }
static double bytes_of_others(const struct perf_shape *s) { return bytes_of_call(s) * (s->nranks - 1); }
static double bytes_of_largest(const struct perf_shape *s)
{
    return (double)(s->send > s->recv ? s->send : s->recv) * (double)s->elem;
}

static double factor_one(int nranks) { return nranks > 0; }
static double factor_most(int nranks) { return (double)(nranks - 1) / nranks; }
static double factor_twice(int nranks) { return 2.0 * (nranks - 1) / nranks; }

/* ---- the table ---- */

const struct perf_coll perf_colls[] = {
    {"all_reduce", "AllReduce", medleyCollAllReduce, PERF_HAS_OP, measure_same, call_allreduce, NULL, NULL,
     expect_reduced, bytes_of_call, factor_twice},
    {"all_gather", "AllGather", medleyCollAllGather, 0, measure_gathering, call_allgather, NULL, NULL,
     expect_parts_of_all, bytes_of_all, factor_most},
    {"reduce_scatter", "ReduceScatter", medleyCollReduceScatter, PERF_HAS_OP, measure_scattering, call_reducescatter,
     NULL, NULL, expect_reduced_part, bytes_of_all, factor_most},
    {"broadcast", "Broadcast", medleyCollBroadcast, PERF_HAS_ROOT, measure_same, call_broadcast, NULL, NULL,
     expect_of_root, bytes_of_call, factor_one},
    {"reduce", "Reduce", medleyCollReduce, PERF_HAS_OP | PERF_HAS_ROOT, measure_same, call_reduce, NULL, NULL,
     expect_reduced, bytes_of_call, factor_one},
    {"alltoall", "AlltoAll", medleyCollAlltoAll, 0, measure_alltoall, call_alltoall, NULL, NULL, expect_alltoall,
     bytes_of_all, factor_most},
    {"alltoallv", "AlltoAllv", medleyCollAlltoAllV, PERF_OUT_OF_PLACE_ONLY, measure_alltoallv, call_alltoallv, NULL,
     tables_alltoallv, expect_alltoallv, bytes_of_largest, factor_most},
    {"gather", "Gather", medleyCollGather, PERF_HAS_ROOT, measure_gathering, call_gather, NULL, NULL,
     expect_parts_of_all, bytes_of_all, factor_most},
    {"scatter", "Scatter", medleyCollScatter, PERF_HAS_ROOT, measure_scattering, call_scatter, NULL, NULL,
     expect_of_root, bytes_of_all, factor_most},
    {"sendrecv", "SendRecv", -1, PERF_OUT_OF_PLACE_ONLY | PERF_GROUPED, measure_same, call_sendrecv, NULL, NULL,
     expect_neighbour, bytes_of_call, factor_one},
    {"hypercube", "HyperCube", -1, PERF_GROUPED | PERF_POWER_OF_2, measure_gathering, call_hypercube, steps_hypercube,
     NULL, expect_parts_of_all, bytes_of_others, factor_one},
    {"barrier", "Barrier", medleyCollBarrier, PERF_NO_DATA | PERF_OUT_OF_PLACE_ONLY, measure_nothing, call_barrier,
     NULL, NULL, expect_nothing, bytes_of_call, factor_one},
    {"all_gatherv", "AllGatherV", medleyCollAllGatherV, 0, measure_allgatherv, call_allgatherv, NULL, tables_parts,
     expect_allgatherv, bytes_of_largest, factor_most},
    {"reduce_scatterv", "ReduceScatterV", medleyCollReduceScatterV, PERF_HAS_OP, measure_reducescatterv,
     call_reducescatterv, NULL, tables_parts, expect_reducescatterv, bytes_of_largest, factor_most},
    {.name = NULL},
};

const struct perf_coll *perf_coll_find(const char *name)
{
    for (const struct perf_coll *c = perf_colls; c->name; c++)
        if (!strcmp(c->name, name)) return c;
    return NULL;
}

/* ---- shapes ---- */

bool perf_shape_make(const struct perf_coll *coll, medleyDataType_t dtype, int op, int root, int nranks, size_t bytes,
                     struct perf_shape *s)
{
    if ((coll->flags & PERF_POWER_OF_2) && (nranks & (nranks - 1))) return false;
    *s = (struct perf_shape){.coll = coll,
                             .dtype = dtype,
                             .op = coll->flags & PERF_HAS_OP ? op : PERF_COPY,
                             .root = coll->flags & PERF_HAS_ROOT ? root : -1,
                             .nranks = nranks,
                             .elem = mdl_dtype_size(dtype),
                             .bytes = bytes};
    coll->measure(s, bytes / s->elem);
    return true;
}

size_t perf_shape_extent(const struct perf_shape *s) { return s->send > s->recv ? s->send : s->recv; }

size_t perf_shape_slot(const struct perf_shape *s, int rank)
{
    size_t begin = 0;
    if (s->coll->tables != tables_parts) return (size_t)rank * s->count;
    for (int r = 0; r < rank; r++) begin += uneven_part(s, r);
    return begin;
}
