/* SPDX-License-Identifier: Apache-2.0 */
/* The clock: the system's runs forward in nanoseconds, and a test's can take its place. */
#include "config.h"
#include "lib/base/clock.h"
#include "tests/unit/unit.h"
#include <time.h>

static uint64_t fake_now;
static uint64_t fake_clock(void) { return fake_now; }

START_TEST(never_runs_backwards)
{
    uint64_t last = mdl_now_ns();
    for (int i = 0; i < 10000; i++) {
        uint64_t now = mdl_now_ns();
        ck_assert_uint_ge(now, last);
        last = now;
    }
}
END_TEST

START_TEST(is_the_monotonic_clock_in_nanoseconds)
{
    struct timespec before, after;
    ck_assert_int_eq(clock_gettime(CLOCK_MONOTONIC, &before), 0);
    uint64_t now = mdl_now_ns();
    ck_assert_int_eq(clock_gettime(CLOCK_MONOTONIC, &after), 0);
    ck_assert_uint_ge(now, (uint64_t)before.tv_sec * MDL_NS_PER_S + (uint64_t)before.tv_nsec);
    ck_assert_uint_le(now, (uint64_t)after.tv_sec * MDL_NS_PER_S + (uint64_t)after.tv_nsec);
}
END_TEST

START_TEST(source_is_replaced_and_restored)
{
    mdl_clock_set_source(fake_clock);
    fake_now = 5 * MDL_NS_PER_MS;
    ck_assert_uint_eq(mdl_now_ns(), 5000000);
    fake_now = 0;
    ck_assert_uint_eq(mdl_now_ns(), 0);
    mdl_clock_set_source(NULL);
    ck_assert_uint_gt(mdl_now_ns(), 0);
}
END_TEST

/* Between the two readings of the clock around an interval, with an allowance for the rate's measurement. */
START_TEST(ticks_are_an_interval)
{
    mdl_ticks_init();
    uint64_t outer = mdl_now_ns(), from = mdl_ticks(), inner = mdl_now_ns();
    while (mdl_now_ns() < inner + 20 * MDL_NS_PER_MS) {}
    uint64_t inside = mdl_now_ns() - inner, ns = mdl_ticks_ns(mdl_ticks() - from), outside = mdl_now_ns() - outer;
    ck_assert_uint_ge(ns + ns / 100, inside);
    ck_assert_uint_le(ns - ns / 100, outside);
    ck_assert_uint_eq(mdl_ticks_ns(0), 0);
}
END_TEST

UNIT_MAIN("clock", never_runs_backwards, is_the_monotonic_clock_in_nanoseconds, source_is_replaced_and_restored,
          ticks_are_an_interval)
