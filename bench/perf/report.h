/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the user sees: nccl-tests' header, columns and footer on stdout, a progress line on stderr if that is a
 * terminal, and the lines kept for the JSON file. Every function takes NULL for the threads that report nothing.
 */
#ifndef PERF_REPORT_H_
#define PERF_REPORT_H_

#include "bench/perf/run.h"
#include <stdio.h>

struct perf_report {
    const struct perf_options *o;
    bool terminal; /* stderr is one */
    FILE *json;    /* open for writing, or NULL */
    bool keep;     /* lines, for JSON */
    struct perf_line *lines;
    size_t nlines, room;
    int steps, step; /* of the progress line */
};

void perf_report_open(struct perf_report *r, const struct perf_options *o, FILE *json);
void perf_report_close(struct perf_report *r);

/* "rank ... on host": of all ranks, as rank 0 sees them. */
void perf_report_devices(struct perf_report *r, struct perf_thread *t, bool lowered);
void perf_report_start(struct perf_report *r, const struct perf_coll *coll);
void perf_report_note(struct perf_report *r, const char *fmt, ...) MDL_PRINTF(2, 3);
void perf_report_progress(struct perf_report *r, const struct perf_line *line, const char *what);
void perf_report_line(struct perf_report *r, const struct perf_line *line);
/* `bad`: lines' halves with wrong data. `min_bw` negative: no gate. */
void perf_report_end(struct perf_report *r, const struct perf_coll *coll, int bad, double busbw);
void perf_report_memory(struct perf_report *r, const double bytes[3]);

#endif
