/* SPDX-License-Identifier: Apache-2.0 */
/* The measurements of one thread: every collective, type, operation, root and size that was asked for. */
#ifndef PERF_RUN_H_
#define PERF_RUN_H_

#include "bench/perf/colls.h"
#include "bench/perf/world.h"

/* What one placement of one size gave. Times in microseconds, bandwidths in GB/s (1e9). */
struct perf_figures {
    bool measured;   /* else there is nothing to say: no such thing as in place */
    double time_us;  /* per operation, across ranks as -a says */
    double issue_us; /* until the calls had returned */
    double algbw, busbw;
    bool has_iters; /* the next four */
    double min_us, max_us, p99_us, variation;
    bool checked;
    long long wrong; /* elements, on all ranks */
};

struct perf_line {
    const char *collective;
    size_t bytes, count;
    medleyDataType_t dtype;
    int op, root;
    char algorithm[32];
    double predicted_us; /* negative: the library does not say */
    struct perf_figures out_of_place, in_place;
};

/* Runs everything; t->status has the outcome. */
void perf_run(struct perf_thread *t);

#endif
