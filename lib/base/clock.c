/* SPDX-License-Identifier: Apache-2.0 */
/* The clock: CLOCK_MONOTONIC, or the source that a test has put in its place. */
#include <config.h> /* not "config.h": this folder has one of that name */
#include "lib/base/clock.h"
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

static _Atomic(uint64_t (*)(void)) clock_source;

uint64_t mdl_now_ns(void)
{
    /* Pairs with the store in mdl_clock_set_source: what the test prepared for its source is visible. */
    uint64_t (*source)(void) = atomic_load_explicit(&clock_source, memory_order_acquire);
    if (source) return source();

    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * MDL_NS_PER_S + (uint64_t)ts.tv_nsec;
}

void mdl_clock_set_source(uint64_t (*source)(void))
{
    atomic_store_explicit(&clock_source, source, memory_order_release);
}
