/* SPDX-License-Identifier: Apache-2.0 */
/* Monotonic time in nanoseconds. Tests put a source of their own in place of the system's. */
#ifndef MDL_BASE_CLOCK_H_
#define MDL_BASE_CLOCK_H_

#include <stdbool.h>
#include <stdint.h>

#define MDL_NS_PER_MS 1000000ull
#define MDL_NS_PER_S  1000000000ull

uint64_t mdl_now_ns(void);
void mdl_clock_set_source(uint64_t (*source)(void)); /* NULL: the system's */

/* In a loop that waits for another processor. */
static inline void mdl_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* For intervals where reading the clock would be a large part of what is measured: the processor's counter, if it runs
 * evenly and never stops, else nanoseconds. mdl_ticks_init comes first, in any thread and any number of times. */
void mdl_ticks_init(void);
uint64_t mdl_ticks_ns(uint64_t ticks); /* an interval in nanoseconds */
extern bool mdl_ticks_count;           /* written once, by mdl_ticks_init */

static inline uint64_t mdl_ticks(void)
{
#if defined(__x86_64__)
    if (mdl_ticks_count) return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    if (mdl_ticks_count) {
        uint64_t now;
        __asm__ volatile("mrs %0, cntvct_el0" : "=r"(now));
        return now;
    }
#endif
    return mdl_now_ns();
}

#endif
