/* SPDX-License-Identifier: Apache-2.0 */
/* The vector kernels for x86-64 with AVX2 and F16C: 256-bit vectors. Compiled into every x86-64 library, run only where
 * select.c finds both. */
#include "config.h"

#if defined(__x86_64__)

#include "lib/reduce/kernels.h"
#include "lib/reduce/narrow.h"
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,f16c")
#endif

#define VECTOR_BYTES      32
#define STREAM(p, vector) _mm256_stream_si256((__m256i *)(void *)(p), (__m256i)(vector))
#include "lib/reduce/kernels_vector_types.h"

INLINE v_uint16_t high16(v_uint16_t a, v_uint16_t b) { return (v_uint16_t)_mm256_mulhi_epu16((__m256i)a, (__m256i)b); }

INLINE v_uint32_t high32(v_uint32_t a, v_uint32_t b)
{
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32((__m256i)a, (__m256i)b), 32);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), _mm256_srli_epi64((__m256i)b, 32));
    return (v_uint32_t)_mm256_blend_epi32(even, odd, 0xaa);
}

INLINE h_uint16_t codes_load8(const void *p)
{
    h_uint16_t h;
    EACH_HALF(j) h.v[j] = (v_uint16_t)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p + j));
    return h;
}

INLINE b_uint32_t codes_load16(const void *p)
{
    b_uint32_t b;
    EACH(j) b.v[j] = (v_uint32_t)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p + j));
    return b;
}

/* Packing works in each half of a vector: the permutations put the pieces back in order. */
INLINE void codes_store8(void *p, b_uint32_t b)
{
    const __m256i low = _mm256_packus_epi32((__m256i)b.v[0], (__m256i)b.v[1]);
    const __m256i high = _mm256_packus_epi32((__m256i)b.v[2], (__m256i)b.v[3]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(p, _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order));
}

INLINE void codes_store16(void *p, b_uint32_t b)
{
    const __m256i low = _mm256_packus_epi32((__m256i)b.v[0], (__m256i)b.v[1]);
    const __m256i high = _mm256_packus_epi32((__m256i)b.v[2], (__m256i)b.v[3]);
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(low, 0xd8));
    _mm256_storeu_si256((__m256i *)p + 1, _mm256_permute4x64_epi64(high, 0xd8));
}

INLINE b_float f16_load(const void *p)
{
    b_float b;
    EACH(j) b.v[j] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + j));
    return b;
}

INLINE b_float f16_widen(h_uint16_t h)
{
    b_float b;
    EACH_HALF(j)
    {
        b.v[2 * j] = _mm256_cvtph_ps(_mm256_castsi256_si128((__m256i)h.v[j]));
        b.v[2 * j + 1] = _mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)h.v[j], 1));
    }
    return b;
}

INLINE void f16_store(void *p, b_float b)
{
    EACH(j) _mm_storeu_si128((__m128i *)p + j, _mm256_cvtps_ph(b.v[j], _MM_FROUND_TO_NEAREST_INT));
}

#define SELECT(type, mask, yes, no) ((type)_mm256_blendv_epi8((__m256i)(no), (__m256i)(yes), (__m256i)(mask)))
#include "lib/reduce/kernels_vector.h"
#include "lib/reduce/quick_avx2.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const struct mdl_kernels mdl_kernels_avx2 = {.name = "avx2",
                                             .block_bytes = BLOCK_BYTES,
                                             .fold =
                                                 MDL_KERNEL_TABLE_OF(f16_quick, bf16_quick, e4m3_quick, e5m2_quick)};

#else
/* ISO C wants a declaration in every file. */
typedef int mdl_kernels_avx2_not_here;
#endif
