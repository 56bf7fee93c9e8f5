/* SPDX-License-Identifier: Apache-2.0 */
/* Where a rank's buffers are: on the host, or on the device that --device gives it. */
#ifndef PERF_HOME_H_
#define PERF_HOME_H_

#include "lib/dev/dev.h"

struct perf_home {
    struct mdl_dev dev; /* ops NULL: the host */
    mdl_dev_stream stream;
    bool own; /* the stream is ours */
    char name[MEDLEY_NAME_BYTES];
};

/* Can all entries of the list be devices? all_here: those of the first `nranks` ranks must be devices of this host. */
medleyResult_t perf_home_check(const char *list, bool all_here, int nranks) MDL_MUST_USE;

/* Entry `rank` of the list "cuda:0, host", which is repeated; an empty list: MEDLEY_DEVICE, for every rank. */
medleyResult_t perf_home_find(struct perf_home *h, const char *list, int rank) MDL_MUST_USE;

/* A stream of its own, or the vendor's default one. */
medleyResult_t perf_home_open(struct perf_home *h, bool own_stream) MDL_MUST_USE;
void perf_home_close(struct perf_home *h);

medleyResult_t perf_home_sync(const struct perf_home *h) MDL_MUST_USE; /* what was issued is done; on the host: nothing */

/* On a device only: memory there, and copies, done on return, from and to memory of `pinned`. */
medleyResult_t perf_home_take(const struct perf_home *h, size_t bytes, void **device, void **pinned) MDL_MUST_USE;
void perf_home_give(const struct perf_home *h, void *device, void *pinned);
medleyResult_t perf_home_store(const struct perf_home *h, void *device, const void *pinned, size_t bytes) MDL_MUST_USE;
medleyResult_t perf_home_fetch(const struct perf_home *h, void *pinned, const void *device, size_t bytes) MDL_MUST_USE;

#endif
