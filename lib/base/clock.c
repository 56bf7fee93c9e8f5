/* SPDX-License-Identifier: Apache-2.0 */
/* The clock: CLOCK_MONOTONIC, or the source that a test has put in its place. The processor's counter is measured by it,
 * from mdl_ticks_init to the moment of each conversion, so that the rate is better the longer the process has run. */
#include <config.h> /* not "config.h": this folder has one of that name */
#include "lib/base/clock.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static _Atomic(uint64_t (*)(void)) clock_source;

static uint64_t system_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * MDL_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t mdl_now_ns(void)
{
    /* Pairs with the store in mdl_clock_set_source: what the test prepared for its source is visible. */
    uint64_t (*source)(void) = atomic_load_explicit(&clock_source, memory_order_acquire);
    if (source) return source();
    return system_ns();
}

void mdl_clock_set_source(uint64_t (*source)(void))
{
    atomic_store_explicit(&clock_source, source, memory_order_release);
}

/* ---- the processor's counter ---- */

bool mdl_ticks_count;
static uint64_t first_ticks, first_ns;

#if defined(__x86_64__)
static bool counter_is_even(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d >> 8 & 1); /* the invariant time-stamp counter */
}
#elif defined(__aarch64__)
static bool counter_is_even(void) { return true; }
#else
static bool counter_is_even(void) { return false; }
#endif

static void init_once(void)
{
    mdl_ticks_count = counter_is_even();
    first_ns = system_ns();
    first_ticks = mdl_ticks();
}

void mdl_ticks_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}

uint64_t mdl_ticks_ns(uint64_t ticks)
{
    if (!mdl_ticks_count) return ticks;
    uint64_t passed_ns = system_ns() - first_ns, passed = mdl_ticks() - first_ticks;
    return passed ? (uint64_t)((double)ticks * (double)passed_ns / (double)passed) : 0;
}
