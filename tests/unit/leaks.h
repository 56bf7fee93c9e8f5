/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what a process holds, to see that it holds no more afterwards. */
#ifndef MDL_TESTS_LEAKS_H_
#define MDL_TESTS_LEAKS_H_

#include <dirent.h>

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

#endif
