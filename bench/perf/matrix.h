/* SPDX-License-Identifier: Apache-2.0 */
/* --matrix: latency and bandwidth of every ordered pair of ranks. */
#ifndef PERF_MATRIX_H_
#define PERF_MATRIX_H_

#include "bench/perf/world.h"

/* Who `rank` meets in `round` (from 0) of a tournament of n players; -1: nobody. Each two meet in exactly one of the
 * perf_matrix_rounds(n) rounds. */
int perf_matrix_rounds(int n);
int perf_matrix_partner(int n, int round, int rank);

medleyResult_t perf_matrix(struct perf_thread *t);

#endif
