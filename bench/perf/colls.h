/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collectives that are measured, each a row of one table: how many elements a size means, how it is called, what
 * every rank must then hold, and how bytes and time become bandwidth. Counts, offsets and formulas are nccl-tests'.
 */
#ifndef PERF_COLLS_H_
#define PERF_COLLS_H_

#include "bench/perf/pattern.h"

/* One size of one collective, as all ranks know it. */
struct perf_shape {
    const struct perf_coll *coll;
    medleyDataType_t dtype;
    int op, root, nranks; /* op: PERF_COPY if the collective has none */
    size_t elem;
    size_t bytes;              /* the size of the sweep that it was made from */
    size_t count;              /* the count in the call: the line's second column */
    size_t send, recv;         /* elements of the buffers, those of the largest rank */
    bool send_slot, recv_slot; /* in place, a rank sends from, or receives at, its slot of the one buffer */
};

/* One call of one rank. */
struct perf_call {
    medleyComm_t comm;
    int rank, step;
    const void *send;
    void *recv;
    medleyRedOp_t op;
    void *stream;
    const size_t *counts; /* a V collective's tables: 2 x nranks, see `tables` */
};

/* Elements [at, at + count) of the receive buffer come from `rank`'s input, or are the reduction of all ranks'
 * (PERF_REDUCED), from element `from` on. */
enum { PERF_REDUCED = -1 };
struct perf_segment {
    size_t at, count, from;
    int rank;
};

enum {
    PERF_HAS_OP = 1,
    PERF_HAS_ROOT = 2,
    PERF_OUT_OF_PLACE_ONLY = 4,
    PERF_NO_DATA = 8,    /* no buffers, no sizes */
    PERF_GROUPED = 16,   /* its calls need each other: always in a group */
    PERF_POWER_OF_2 = 32 /* of ranks */
};

struct perf_coll {
    const char *name, *title;
    int id; /* medleyColl_t; -1: made of messages */
    int flags;
    void (*measure)(struct perf_shape *s, size_t count); /* sets count, send, recv and the steps from a count for all */
    medleyResult_t (*call)(const struct perf_shape *s, const struct perf_call *c);
    int (*steps)(int nranks); /* NULL: one; each is a group of its own */
    void (*tables)(const struct perf_shape *s, int rank, size_t *counts);
    int (*expect)(const struct perf_shape *s, int rank, struct perf_segment *segments); /* at most nranks */
    double (*bytes)(const struct perf_shape *s);                                        /* what algbw counts */
    double (*factor)(int nranks);                                                       /* busbw / algbw */
};

extern const struct perf_coll perf_colls[]; /* ends with a NULL name */
const struct perf_coll *perf_coll_find(const char *name);

/* The shape of `bytes`; false if the collective cannot run on so many ranks. */
bool perf_shape_make(const struct perf_coll *coll, medleyDataType_t dtype, int op, int root, int nranks, size_t bytes,
                     struct perf_shape *s);
size_t perf_shape_extent(const struct perf_shape *s);         /* elements that a buffer needs, in place too */
size_t perf_shape_slot(const struct perf_shape *s, int rank); /* where the slot of a rank begins */

#endif
