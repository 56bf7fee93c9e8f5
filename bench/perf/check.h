/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling the buffers and checking every element of them afterwards: of the result, of what the call had no business
 * to write (the rest of the receive buffer, a guard behind it), and of the input, which is const.
 */
#ifndef PERF_CHECK_H_
#define PERF_CHECK_H_

#include "bench/perf/colls.h"
#include "bench/perf/world.h"

struct perf_data {
    struct perf_shape shape;
    struct perf_pattern pattern;
    bool in_place;
    struct perf_segment *segments; /* nranks */
};

medleyResult_t perf_data_open(struct perf_data *d, int nranks);
void perf_data_close(struct perf_data *d);

/* Where rank r's call sends from and receives at. */
char *perf_data_send(const struct perf_data *d, const struct perf_rank *r);
char *perf_data_recv(const struct perf_data *d, const struct perf_rank *r);

void perf_data_fill(struct perf_data *d, struct perf_rank *r);
size_t perf_data_check(struct perf_data *d, struct perf_rank *r); /* how many elements are wrong */
void perf_data_corrupt(struct perf_data *d, struct perf_rank *r); /* spoils one element of the result */

#endif
