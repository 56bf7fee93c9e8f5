/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the user asked for. One table, options.def, yields the structure's numbers, the parser, --help and the man page.
 * The flags are nccl-tests' ones; what has no meaning on hosts is refused by name, never ignored.
 */
#ifndef PERF_OPTIONS_H_
#define PERF_OPTIONS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { PERF_OK = 0, PERF_WRONG = 1, PERF_USAGE = 2, PERF_FAILED = 3 }; /* exit status */
enum { PERF_ALL = -1 };                                                /* for op, dtype and root */
enum { PERF_MALLOC, PERF_ALLOC };                                      /* mem */

/* The operations: those of medleyRedOp_t, then PreMulSum. */
enum { PERF_MULSUM = 5, PERF_NUM_OPS = 6 };

struct perf_coll;
struct perf_options {
    const struct perf_coll *coll; /* NULL: all */
    int local, threads, per_thread, parallel_init;
    size_t min_bytes, max_bytes, step_bytes;
    bool min_given, max_given;
    int factor;
    int op, dtype, root, mem, reg, unalign;
    int iters, warmup, agg, cycles, average, per_iter, skip, blocking, null_stream, cputime, check;
    int timestamps, memory, timeout;
    const char *json;   /* "": none */
    const char *device; /* the ranks' devices, "": MEDLEY_DEVICE */
    bool matrix, version, help;
    double min_bw;       /* from MEDLEY_PERF_MIN_BW or NCCL_TESTS_MIN_BW; negative: not asked for */
    int corrupt;         /* from MEDLEY_PERF_CORRUPT: the rank whose results are spoiled, or -1 */
    size_t corrupt_size; /* only at this size; 0: at every one */
};

/* Parses the command line and medley-perf's own variables. Returns PERF_OK, or PERF_USAGE after a message that names
 * what is wrong. */
int perf_options_parse(struct perf_options *o, int argc, char **argv);
void perf_options_help(FILE *to);

/* "mulsum" and the others. */
const char *perf_op_name(int op);

#endif
