/* SPDX-License-Identifier: Apache-2.0 */
/* The clock: CLOCK_MONOTONIC, or the source that a test has put in its place. The processor's counter is measured by it
 * once: a rate that changed later would make sums of intervals run backwards. */
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
static double ns_per_tick;

/* Once in a process. It is as exact as reading the clock is short: to about a thousandth. */
#define CALIBRATION_NS 200000u

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

/* The clock and the counter at one moment: of a few attempts the one that took least. */
struct moment {
    uint64_t ns, ticks;
};

static struct moment look(void)
{
    struct moment best = {0};
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 8; i++) {
        uint64_t before = mdl_ticks(), ns = system_ns(), took = mdl_ticks() - before;
        if (took >= least) continue;
        least = took;
        best = (struct moment){ns, before + took / 2};
    }
    return best;
}

static void init_once(void)
{
    mdl_ticks_count = counter_is_even();
    if (!mdl_ticks_count) return;
    struct moment first = look();
    while (system_ns() - first.ns < CALIBRATION_NS) {}
    struct moment last = look();
    mdl_ticks_count = last.ticks > first.ticks;
    if (!mdl_ticks_count) return;
    ns_per_tick = (double)(last.ns - first.ns) / (double)(last.ticks - first.ticks);
}

void mdl_ticks_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}

uint64_t mdl_ticks_ns(uint64_t ticks)
{
    return mdl_ticks_count ? (uint64_t)((double)ticks * ns_per_tick) : ticks;
}
