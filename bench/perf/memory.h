/* SPDX-License-Identifier: Apache-2.0 */
/* -M: how much resident memory the largest process gained, and by what. */
#ifndef PERF_MEMORY_H_
#define PERF_MEMORY_H_

#include "bench/perf/world.h"

double perf_memory_now(void); /* bytes resident in this process */

/* By initialisation, by the buffers, by collectives; the largest process's of each. */
medleyResult_t perf_memory_gather(struct perf_thread *t, double bytes[3]);

#endif
