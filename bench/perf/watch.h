/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -T: a thread that ends the process when nothing was done for longer than the time given. Medley's own deadline names
 * the peer first; this one is for what Medley does not see. It also passes the signs of life on to --local's starter.
 */
#ifndef PERF_WATCH_H_
#define PERF_WATCH_H_

#include "lib/base/status.h"

struct perf_watch;

/* seconds 0: no watch, *w is NULL. `kick_fd` -1: nobody to tell. */
medleyResult_t perf_watch_start(struct perf_watch **w, int seconds, int proc, int kick_fd) MDL_MUST_USE;
void perf_watch_stop(struct perf_watch *w);

/* Something was done; `what` comes next, for the message. Any thread; `w` may be NULL. */
void perf_watch_kick(struct perf_watch *w, const char *what);

#endif
