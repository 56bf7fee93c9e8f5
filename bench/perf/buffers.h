/* SPDX-License-Identifier: Apache-2.0 */
/* A send and a receive buffer for each rank, large enough for every size of the run, and PERF_GUARD bytes behind. */
#ifndef PERF_BUFFERS_H_
#define PERF_BUFFERS_H_

#include "bench/perf/world.h"

enum { PERF_GUARD = 256 }; /* bytes behind the data that no collective may touch; a multiple of every element */

/* Lowers t->max_bytes on all ranks alike if the memory of some host does not suffice; *lowered says so. */
medleyResult_t perf_buffers_limit(struct perf_thread *t, bool *lowered);

medleyResult_t perf_buffers_open(struct perf_thread *t);
void perf_buffers_close(struct perf_thread *t);

/* Where the elements of a type begin, with -u. */
void perf_buffers_align(struct perf_thread *t, size_t elem);

/* Between the host's copies and the device, whole buffers; where there is no device nothing is to be done. */
medleyResult_t perf_buffers_store(const struct perf_rank *r);
medleyResult_t perf_buffers_fetch(const struct perf_rank *r);

#endif
