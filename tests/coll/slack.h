/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much longer than on an idle machine things may take: MDL_TIME_FACTOR, or what the sanitizer in use costs, times
 * the runnable tasks per core that this process may use. The load of the last minute is late to tell, and what runs at
 * this moment may be chance, so the larger of the two counts. At least 1.
 */
#ifndef TESTS_COLL_SLACK_H_
#define TESTS_COLL_SLACK_H_

#include "lib/base/clock.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define SLACK_SANITIZED 8.0
#elif defined(__SANITIZE_ADDRESS__)
#define SLACK_SANITIZED 3.0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SLACK_SANITIZED 8.0
#elif __has_feature(address_sanitizer)
#define SLACK_SANITIZED 3.0
#endif
#endif
#ifndef SLACK_SANITIZED
#define SLACK_SANITIZED 1.0
#endif
#define SLACK_MOST 30.0

static inline double slack_cores(void)
{
    cpu_set_t set;
    int n;

    if (sched_getaffinity(0, sizeof(set), &set) == 0 && (n = CPU_COUNT(&set)) > 0) return n;
    return (double)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Runnable tasks. */
static inline double slack_load(void)
{
    FILE *f = fopen("/proc/loadavg", "re");
    double minute = 0, now = 0;

    if (!f) return 0;
    if (fscanf(f, "%lf %*f %*f %lf/", &minute, &now) != 2) minute = now = 0;
    fclose(f);
    return minute > now ? minute : now;
}

static inline double slack_now(void)
{
    const char *text = getenv("MDL_TIME_FACTOR");
    double factor = text ? strtod(text, NULL) : 0, load;

    if (factor <= 0) {
        load = slack_load() / slack_cores();
        factor = SLACK_SANITIZED * (load > 1 ? load : 1); /* up to one task per core is not busy */
    }
    return factor < 1 ? 1 : factor > SLACK_MOST ? SLACK_MOST : factor;
}

/* A deadline that a test lets pass, which ranks that are not late shall keep on a busy machine too. */
static inline long slack_short_ms(long ms)
{
    double factor = slack_now();

    return (long)((double)ms * (factor < 4 ? factor : 4));
}

/* Long enough for what must not happen to happen, if it is about to. By the clock: to yield so many times takes no
 * time, or minutes. */
static inline void slack_linger(void)
{
    for (uint64_t end = mdl_now_ns() + MDL_NS_PER_MS; mdl_now_ns() < end;) sched_yield();
}

#endif
