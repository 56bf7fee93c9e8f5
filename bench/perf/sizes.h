/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes in bytes: "8", "64K", "1.5M", "2G" (powers of 1024), and the sequence of a sweep. */
#ifndef PERF_SIZES_H_
#define PERF_SIZES_H_

#include "bench/perf/options.h"

bool perf_size_parse(const char *text, size_t *size);

/* The size after `size`; false if that was the last. */
bool perf_size_next(const struct perf_options *o, size_t size, size_t *next);
int perf_size_steps(const struct perf_options *o); /* how many there are */

/* "8 B", "64 KiB" ... for people. */
void perf_size_format(double bytes, char *text, size_t room);

#endif
