/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic of the bare programs: sums and copies of fp32 with the machine's vectors, one pass over memory, none
 * of the library's code. Sixteen elements, a cache line, at a time, so that non-temporal stores fill whole lines.
 */
#include "config.h"

#include "bench/limits/limits.h"
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

size_t slice_start(size_t count, int n, int r) { return r == n ? count : count * (size_t)r / (size_t)n & ~(size_t)15; }

static void sum_plain(float *const *dst, int ndst, const float *const *src, int nsrc, size_t first, size_t count)
{
    for (size_t i = first; i < count; i++) {
        float sum;
        memcpy(&sum, src[0] + i, sizeof sum);
        for (int k = 1; k < nsrc; k++) sum += src[k][i];
        for (int k = 0; k < ndst; k++) dst[k][i] = sum;
    }
}

#if defined(__x86_64__)

#define AVX2 __attribute__((target("avx2")))

INLINE AVX2 void put(float *p, __m256 v, bool nt)
{
    if (nt)
        _mm256_stream_ps(p, v);
    else
        _mm256_storeu_ps(p, v);
}

/* With constants for the numbers and nt everything unrolls. */
INLINE AVX2 size_t sum_lines(float *const *dst, int ndst, const float *const *src, int nsrc, size_t count, bool nt)
{
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m256 low = _mm256_loadu_ps(src[0] + i), high = _mm256_loadu_ps(src[0] + i + 8);
        for (int k = 1; k < nsrc; k++) {
            low = _mm256_add_ps(low, _mm256_loadu_ps(src[k] + i));
            high = _mm256_add_ps(high, _mm256_loadu_ps(src[k] + i + 8));
        }
        for (int k = 0; k < ndst; k++) {
            put(dst[k] + i, low, nt);
            put(dst[k] + i + 8, high, nt);
        }
    }
    if (nt) _mm_sfence();
    return i;
}

#define SHAPE(d, s)                                                                                                    \
    if (ndst == (d) && nsrc == (s))                                                                                    \
    return nt ? sum_lines(dst, d, src, s, count, true) : sum_lines(dst, d, src, s, count, false)

static AVX2 size_t sum_vector(float *const *dst, int ndst, const float *const *src, int nsrc, size_t count, bool nt)
{
    SHAPE(1, 1);
    SHAPE(1, 2);
    SHAPE(2, 2);
    SHAPE(1, 4);
    SHAPE(4, 4);
    SHAPE(1, 8);
    SHAPE(8, 8);
    return sum_lines(dst, ndst, src, nsrc, count, nt);
}

static bool has_vectors(void) { return __builtin_cpu_supports("avx2"); }

#else

/* The base instruction set of other processors has vectors: the plain loop is enough, without non-temporal stores. */
static bool has_vectors(void) { return false; }
static size_t sum_vector(float *const *dst, int ndst, const float *const *src, int nsrc, size_t count, bool nt)
{
    return 0;
}

#endif

void sum_floats(float *const *dst, int ndst, const float *const *src, int nsrc, size_t count, bool nt)
{
    const size_t done = has_vectors() ? sum_vector(dst, ndst, src, nsrc, count, nt) : 0;
    sum_plain(dst, ndst, src, nsrc, done, count);
}

void copy_floats(float *dst, const float *src, size_t count, bool nt)
{
    sum_floats((float *const[]){dst}, 1, (const float *const[]){src}, 1, count, nt);
}
