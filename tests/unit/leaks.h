/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what a process holds, to see that it holds no more afterwards. */
#ifndef MDL_TESTS_LEAKS_H_
#define MDL_TESTS_LEAKS_H_

#include <dirent.h>
#include <unistd.h>

/* Under TSan a forked child cannot start threads, and closing a descriptor that another thread uses is reported. */
#if defined(__SANITIZE_THREAD__)
#define LEAKS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LEAKS_TSAN 1
#endif
#endif
#ifndef LEAKS_TSAN
#define LEAKS_TSAN 0
#endif

static inline int leaks_entries(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    if (!dir) return -1;
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static inline int leaks_descriptors(void) { return leaks_entries("/proc/self/fd"); }

/* A thread that was joined is listed for some microseconds more: what counts is a number that stays. */
static inline int leaks_threads(void)
{
    int n = leaks_entries("/proc/self/task");
    for (int same = 0; same < 4; same++) {
        int before = n;
        usleep(5000);
        n = leaks_entries("/proc/self/task");
        if (n != before) same = -1;
    }
    return n;
}

/* The number of threads, once it is `want`. Gives up after 10 s. */
static inline int leaks_threads_settle(int want)
{
    int n;
    for (int i = 0; (n = leaks_entries("/proc/self/task")) != want && i < 10000; i++) usleep(1000);
    return n;
}

#endif
