/* SPDX-License-Identifier: Apache-2.0 */
/* Resident memory from /proc/self/statm; shared pages count in each process that touched them. */
#include "config.h"
#include "bench/perf/memory.h"
#include <math.h>
#include <stdio.h>
#include <unistd.h>

double perf_memory_now(void)
{
    double total, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return 0;
    if (fscanf(f, "%lf %lf", &total, &resident) != 2) resident = 0;
    fclose(f);
    return resident * (double)sysconf(_SC_PAGESIZE);
}

medleyResult_t perf_memory_gather(struct perf_thread *t, double bytes[3])
{
    const struct perf_world *w = t->world;
    double buffers = 2.0 * (double)t->ranks[0].send.bytes * w->o->threads * w->o->per_thread;
    bytes[0] = bytes[1] = bytes[2] = 0;
    if (t->number == 0) { /* for all threads of the process */
        bytes[0] = fmax(0, w->memory_ready - w->memory_start);
        bytes[1] = buffers;
        bytes[2] = fmax(0, perf_memory_now() - w->memory_ready - buffers);
    }
    return perf_all_max(t, bytes, 3);
}
