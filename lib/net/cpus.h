/* SPDX-License-Identifier: Apache-2.0 */
/* Processor lists as people write them: "0-3,8". */
#ifndef MDL_NET_CPUS_H_
#define MDL_NET_CPUS_H_

#include "lib/base/status.h"
#include <pthread.h>
#include <sched.h>

/* Parses a list of processors and ranges below CPU_SETSIZE; anything else is medleyInvalidArgument. */
medleyResult_t mdl_cpus_parse(const char *text, cpu_set_t *set) MDL_MUST_USE;

/* A list that parses and of which this process may use every processor; else medleyInvalidArgument. */
medleyResult_t mdl_cpus_check(const char *text) MDL_MUST_USE;

/* Moves a thread, or the calling one, to the processors of `text` (NULL or "": nothing to do). */
medleyResult_t mdl_cpus_move(pthread_t thread, const char *text) MDL_MUST_USE;
medleyResult_t mdl_cpus_apply(const char *text) MDL_MUST_USE;

#endif
