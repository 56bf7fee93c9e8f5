/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the buffers hold, and what must come out, so that every sum is exact.
 *
 * Each element is computed from (seed, rank, position) alone, so any rank can tell what any other rank sent, and a
 * check costs no memory. Inputs of reductions are chosen so that every partial result, in any order and in any of the
 * type's formats, is exact: integers wrap around; floats are small multiples of 1/8 whose sums stay within the
 * mantissa (with more ranks than the mantissa can count, some of them send 0), and a product has one factor that is no
 * power of two. So the comparison is of bits, and only the average of floats has a tolerance. The results are computed
 * here in 64-bit integers and doubles, not with the library's kernels.
 */
#ifndef PERF_PATTERN_H_
#define PERF_PATTERN_H_

#include "bench/perf/options.h"
#include <medley.h>

enum { PERF_TABLE_HALF = 8 * 256 };
struct perf_pattern {
    medleyDataType_t dtype;
    int op; /* medleyRedOp_t or PERF_MULSUM; PERF_COPY: bits that are moved */
    int nranks;
    uint64_t seed;
    size_t elem;
    int most, largest;                       /* the sum's bound, and that of one input */
    uint16_t table[2 * PERF_TABLE_HALF + 1]; /* 8- and 16-bit floats by eighths */
};
enum { PERF_COPY = -2 };

void perf_pattern_init(struct perf_pattern *p, medleyDataType_t dtype, int op, int nranks);

/* dst[k] = element from + k of what `rank` sends. */
void perf_pattern_input(const struct perf_pattern *p, int rank, size_t from, size_t count, void *dst);

/* dst[k] = the operation over all ranks' elements from + k. */
void perf_pattern_result(const struct perf_pattern *p, size_t from, size_t count, void *dst);

/* The factor of `rank` for PreMulSum. */
void perf_pattern_scalar(const struct perf_pattern *p, int rank, void *scalar);

/* How many elements of `got` are not those of `want`: bits differ, or, for the average of floats, by more than 2 units
 * in the last place. */
size_t perf_pattern_compare(const struct perf_pattern *p, const void *got, const void *want, size_t count);

#endif
