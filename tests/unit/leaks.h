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
static inline int leaks_threads(void) { return leaks_entries("/proc/self/task"); }

/* The number of threads, once it is `want`: a thread that was joined is listed for some microseconds more. Gives up
 * after 10 s. */
static inline int leaks_threads_settle(int want)
{
    int n;
    for (int i = 0; (n = leaks_threads()) != want && i < 10000; i++) usleep(1000);
    return n;
}

#endif
