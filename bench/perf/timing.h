/* SPDX-License-Identifier: Apache-2.0 */
/* The timed loop of one placement of one size. */
#ifndef PERF_TIMING_H_
#define PERF_TIMING_H_

#include "bench/perf/check.h"
#include "bench/perf/run.h"

/* One operation on all ranks of the thread, done when it returns; for warm-up and checks. */
medleyResult_t perf_time_once(struct perf_thread *t, struct perf_data *d);

/* Measures. `iters` has room for -n numbers, or is NULL if single iterations are not asked for. `line` gets the
 * algorithm. Fills in times and bandwidths of `f`. */
medleyResult_t perf_time(struct perf_thread *t, struct perf_data *d, double *iters, struct perf_line *line,
                         struct perf_figures *f);

#endif
