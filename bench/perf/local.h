/* SPDX-License-Identifier: Apache-2.0 */
/* --local N: N processes of this program on this machine, which end together. */
#ifndef PERF_LOCAL_H_
#define PERF_LOCAL_H_

#include "bench/perf/options.h"
#include "bench/perf/place.h"

/* Starts the processes and waits for them; the exit status for all. Called before anything of Medley: threads of a
 * vendor's runtime would take the signals that tell of the ends. */
int perf_local_run(const struct perf_options *o, char **argv);

/* What `work` returns, an exit status, in a process that is gone afterwards with all that it opened. */
int perf_local_apart(int (*work)(const struct perf_options *), const struct perf_options *o);

/* Is this one of those processes? Asked before perf_local_child, which fills its place. */
bool perf_local_is_child(void);
medleyResult_t perf_local_child(struct perf_place *p) MDL_MUST_USE;

#endif
