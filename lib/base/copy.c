/* SPDX-License-Identifier: Apache-2.0 */
/*
 * glibc's memcpy copies with `rep movsb` from about 2 KiB on where the processor says that this is fast. On AMD (Zen 3
 * to 5) it is not when the destination lies a few bytes behind the source modulo 4096: measured on Zen 5, 2 to 3 GB/s
 * against 40 (glibc bug 30994, mended in 2.39). Payload lies at any distance, so such copies go through registers, 64
 * bytes at a time, which measures as fast as the best memcpy.
 */
#include <config.h> /* not "config.h": this folder has one of that name */
#include "lib/base/copy.h"
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <emmintrin.h>
#include <stdatomic.h>
#endif

#define HYGON_EBX 0x6f677948u /* "Hygo" */

enum { SMALL = 2048, NEAR = 64, PAGE = 4096, BLOCK = 64 };

#if defined(__x86_64__)
/* The barrier keeps the compiler from making it a call of memcpy again. */
static void copy_blocks(char *dst, const char *src, size_t len)
{
    for (; len >= BLOCK; dst += BLOCK, src += BLOCK, len -= BLOCK) {
        __builtin_memcpy(dst, src, BLOCK);
        __asm__ volatile("" ::: "memory");
    }
    if (len > 0) memcpy(dst, src, len);
}

static int is_aliased(const void *dst, const void *src)
{
    uintptr_t behind = ((uintptr_t)dst - (uintptr_t)src) % PAGE;
    return behind > 0 && behind < NEAR;
}
#endif

void mdl_copy(void *restrict dst, const void *restrict src, size_t len)
{
#if defined(__x86_64__)
    if (len >= SMALL && is_aliased(dst, src)) {
        copy_blocks(dst, src, len);
        return;
    }
#endif
    if (len > 0) memcpy(dst, src, len);
}

#if defined(__x86_64__)
/* Whole lines to an aligned destination: a line that is written completely goes to memory without being read. */
static void stream_lines(char *dst, const char *src, size_t lines)
{
    for (; lines; lines--, dst += BLOCK, src += BLOCK) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)src);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(src + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(src + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(src + 48));
        _mm_stream_si128((__m128i *)(void *)dst, a);
        _mm_stream_si128((__m128i *)(void *)(dst + 16), b);
        _mm_stream_si128((__m128i *)(void *)(dst + 32), c);
        _mm_stream_si128((__m128i *)(void *)(dst + 48), d);
    }
}
#endif

void mdl_copy_stream(void *restrict dst, const void *restrict src, size_t len)
{
#if defined(__x86_64__)
    size_t head = (size_t)(-(uintptr_t)dst % BLOCK), lines;
    if (len >= SMALL) {
        lines = (len - head) / BLOCK;
        memcpy(dst, src, head);
        stream_lines((char *)dst + head, (const char *)src + head, lines);
        head += lines * BLOCK;
        memcpy((char *)dst + head, (const char *)src + head, len - head);
        _mm_sfence(); /* before the caller tells others */
        return;
    }
#endif
    mdl_copy(dst, src, len);
}

/* ---- the kernel's copies ---- */

#if defined(__x86_64__)
/* AMD, and Hygon, which has AMD's cores. */
static bool is_amd(void)
{
    static _Atomic int known; /* 0: not yet asked; any order: it never changes */
    int now = atomic_load_explicit(&known, memory_order_relaxed);
    unsigned a, b, c, d;
    if (now) return now == 1;
    now = __get_cpuid(0, &a, &b, &c, &d) && (b == signature_AMD_ebx || b == HYGON_EBX) ? 1 : 2;
    atomic_store_explicit(&known, now, memory_order_relaxed);
    return now == 1;
}
#endif

bool mdl_copy_is_slow(const void *dst, const void *src, size_t len)
{
#if defined(__x86_64__)
    return len >= SMALL && is_aliased(dst, src) && is_amd();
#else
    (void)dst, (void)src, (void)len;
    return false;
#endif
}
