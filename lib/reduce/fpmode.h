/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floating-point mode of the calling thread: a program built with fast-math flushes denormals, others change the
 * rounding or trap on NaNs. Reductions run in the default mode and put back what they found. Costs one read of the
 * control register when there is nothing to change.
 */
#ifndef MDL_REDUCE_FPMODE_H_
#define MDL_REDUCE_FPMODE_H_

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

static inline uint64_t mdl_fpmode_enter(void)
{
    const unsigned mode = _mm_getcsr();
    /* all exceptions masked, nearest even, no flush to zero; the low six bits are sticky flags */
    if ((mode & 0xffc0u) != 0x1f80u) _mm_setcsr(0x1f80u);
    return mode;
}

static inline void mdl_fpmode_leave(uint64_t mode)
{
    if ((mode & 0xffc0u) != 0x1f80u) _mm_setcsr((unsigned)mode);
}

#elif defined(__aarch64__)

/* All of FPCR but reserved bits: alternative half format, default NaN, flush, rounding, traps. */
static inline uint64_t mdl_fpmode_enter(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    if (mode != 0) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory");
    return mode;
}

static inline void mdl_fpmode_leave(uint64_t mode)
{
    if (mode != 0) __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
}

#else

static inline uint64_t mdl_fpmode_enter(void) { return 0; }
static inline void mdl_fpmode_leave(uint64_t mode) { (void)mode; }

#endif
#endif
