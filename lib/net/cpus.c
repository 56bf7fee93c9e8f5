/* SPDX-License-Identifier: Apache-2.0 */
/* Processor lists: a strict parser, so that a typing error is an error and not a thread on the wrong processor. */
#include "config.h"
#include "lib/net/cpus.h"
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

/* Reads a decimal number below CPU_SETSIZE and moves *p behind it. */
static bool read_cpu(const char **p, int *cpu)
{
    if (**p < '0' || **p > '9') return false;
    int n = 0;
    for (; **p >= '0' && **p <= '9'; (*p)++) {
        n = n * 10 + (**p - '0');
        if (n >= CPU_SETSIZE) return false;
    }
    *cpu = n;
    return true;
}

static bool read_range(const char **p, cpu_set_t *set)
{
    int first, last;
    if (!read_cpu(p, &first)) return false;
    last = first;
    if (**p == '-') {
        (*p)++;
        if (!read_cpu(p, &last) || last < first) return false;
    }
    for (int cpu = first; cpu <= last; cpu++) CPU_SET(cpu, set);
    return true;
}

medleyResult_t mdl_cpus_parse(const char *text, cpu_set_t *set)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    const char *p = text;
    bool good = read_range(&p, &cpus);
    while (good && *p == ',') {
        p++;
        good = read_range(&p, &cpus);
    }
    if (!good || *p)
        return mdl_error(medleyInvalidArgument, "MEDLEY_CPU_SET=%s: write processors as 0-3,8, each below %d", text,
                         CPU_SETSIZE);
    *set = cpus;
    return medleySuccess;
}

/* The kernel silently leaves out what a thread may not use, so ask what came of it. */
medleyResult_t mdl_cpus_check(const char *text)
{
    cpu_set_t want, before, got;
    MDL_TRY(mdl_cpus_parse(text, &want));
    if (sched_getaffinity(0, sizeof(before), &before) != 0) return medleySuccess; /* nothing can be said */
    CPU_ZERO(&got);
    if (sched_setaffinity(0, sizeof(want), &want) == 0 && sched_getaffinity(0, sizeof(got), &got) != 0) got = want;
    sched_setaffinity(0, sizeof(before), &before);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &want) && !CPU_ISSET(cpu, &got))
            return mdl_error(medleyInvalidArgument,
                             "MEDLEY_CPU_SET=%s (medleyConfig_t.cpu_set): this process may not use processor %d", text,
                             cpu);
    return medleySuccess;
}

medleyResult_t mdl_cpus_move(pthread_t thread, const char *text)
{
    cpu_set_t set;
    if (!text || !*text) return medleySuccess;
    MDL_TRY(mdl_cpus_parse(text, &set));
    int err = pthread_setaffinity_np(thread, sizeof(set), &set);
    if (err) return mdl_system_error(err, "MEDLEY_CPU_SET=%s: this process may not run on these processors", text);
    return medleySuccess;
}

medleyResult_t mdl_cpus_apply(const char *text) { return mdl_cpus_move(pthread_self(), text); }
