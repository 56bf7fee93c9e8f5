/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies with non-temporal stores: whole cache lines go to memory without being read first and without pushing others
 * out of the caches. Only whole lines are written this way, as parts of lines would cost more than they save. The fence
 * at the end makes them visible like ordinary stores.
 */
#include "config.h"

#include "lib/reduce/kernels.h"
#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>

static inline void line_out(__m128i *to, const __m128i *from)
{
    const __m128i a = _mm_loadu_si128(from), b = _mm_loadu_si128(from + 1);
    const __m128i c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
    _mm_stream_si128(to, a);
    _mm_stream_si128(to + 1, b);
    _mm_stream_si128(to + 2, c);
    _mm_stream_si128(to + 3, d);
}

void mdl_stream_copy(void *dst, const void *src, size_t bytes)
{
    const size_t to_line = (MDL_STREAM_LINE - ((uintptr_t)dst & (MDL_STREAM_LINE - 1))) & (MDL_STREAM_LINE - 1),
                 head = to_line < bytes ? to_line : bytes;
    char *to = (char *)dst + head;
    const char *from = (const char *)src + head;
    memcpy(dst, src, head);
    for (bytes -= head; bytes >= MDL_STREAM_LINE;
         bytes -= MDL_STREAM_LINE, to += MDL_STREAM_LINE, from += MDL_STREAM_LINE)
        line_out((__m128i *)(void *)to, (const __m128i *)(const void *)from);
    memcpy(to, from, bytes);
    mdl_stream_fence();
}

void mdl_stream_fence(void) { _mm_sfence(); }

#else

void mdl_stream_fence(void) {}
void mdl_stream_copy(void *dst, const void *src, size_t bytes) { memcpy(dst, src, bytes); }

#endif
