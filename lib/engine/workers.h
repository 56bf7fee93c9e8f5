/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads of the process (MEDLEY_THREADS): they help whoever executes with large copies and reductions, piece by
 * piece. The pool is as large as the largest demand of the communicators that hold it, and ends with the last of them.
 * One job runs at a time; who finds the pool busy does its work alone.
 */
#ifndef MDL_ENGINE_WORKERS_H_
#define MDL_ENGINE_WORKERS_H_

#include "lib/base/status.h"

medleyResult_t mdl_workers_hold(int threads, const char *cpu_set) MDL_MUST_USE; /* 0 threads: nothing is started, but
                                                                                   release it too */
void mdl_workers_release(void);

/* Calls fn(arg, i) for every i < pieces, on workers and on the calling thread; returns when all are done. fn must not
 * block. */
void mdl_workers_run(void (*fn)(void *arg, int piece), void *arg, int pieces);

#endif
