/* SPDX-License-Identifier: Apache-2.0 */
/* See check.h. */
#include "config.h"

#include "tests/coll/check.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void check_complain(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: rank %d: %s: %s\n", file, line, home_rank(), what, medleyGetLastError(NULL));
}

static float *take_host(size_t count)
{
    float *host = malloc(count * sizeof(*host) + 1);

    if (!host) abort();
    return host;
}

void check_fill(float *dst, size_t count, float value)
{
    float *host = home_is_device() ? take_host(count) : dst;

    for (size_t i = 0; i < count; i++) host[i] = value;
    if (!home_is_device()) return;
    home_store(dst, host, count * sizeof(*host));
    free(host);
}

bool check_is_all(const float *host, size_t count, float value)
{
    for (size_t i = 0; i < count; i++) {
        if (host[i] == value) continue;
        fprintf(stderr, "rank %d: element %zu of %zu is %g, should be %g\n", home_rank(), i, count, (double)host[i],
                (double)value);
        return false;
    }
    return true;
}

bool check_holds(const float *src, size_t count, float value)
{
    float *host;
    bool is;

    if (!home_is_device()) return check_is_all(src, count, value);
    host = take_host(count);
    home_copy_out(host, src, count * sizeof(*host));
    is = check_is_all(host, count, value);
    free(host);
    return is;
}

float check_sum_to(int n) { return (float)(n * (n + 1) / 2); }
void check_pause_ms(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

int check_went(medleyComm_t comm, medleyColl_t coll, uint64_t calls, const char *way)
{
    medleyCommStats_t s = {.size = sizeof(s)};

    for (;;) {
        if (medleyCommGetStats(comm, &s) != medleySuccess) return -1;
        if (s.coll[coll].calls >= calls) return strcmp(s.last_algorithm, way) == 0;
        sched_yield();
    }
}
