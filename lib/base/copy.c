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
