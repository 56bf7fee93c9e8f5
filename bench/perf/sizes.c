/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes as nccl-tests reads them, but nothing is left unread: "64Kx" is no size. */
#include "config.h"
#include "bench/perf/sizes.h"
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

static bool unit_of(const char *text, double *unit)
{
    static const char units[] = "KMG";
    *unit = 1;
    if (!*text) return true;
    for (int i = 0; units[i]; i++) {
        *unit *= 1024;
        if (toupper((unsigned char)*text) == units[i]) return !text[1];
    }
    return false;
}

bool perf_size_parse(const char *text, size_t *size)
{
    char *rest;
    double unit, n;
    /* strtod would take "nan", "0x10" and blanks too. */
    if (!isdigit((unsigned char)*text) || tolower((unsigned char)text[1]) == 'x') return false;
    n = strtod(text, &rest);
    if (!unit_of(rest, &unit) || !isfinite(n) || n * unit >= (double)((uint64_t)1 << 62)) return false;
    if (n * unit > (double)(SIZE_MAX / 2)) return false;
    *size = (size_t)(n * unit);
    return true;
}

bool perf_size_next(const struct perf_options *o, size_t size, size_t *next)
{
    size_t step = o->factor > 1 ? (size_t)(o->factor - 1) * size : o->step_bytes;
    if (!step || (o->factor > 1 && size > SIZE_MAX / 2 / (size_t)o->factor) || o->max_bytes < size) return false;
    if (step > o->max_bytes - size) return false;
    *next = size + step;
    return true;
}

int perf_size_steps(const struct perf_options *o)
{
    int n = 1;
    for (size_t size = o->min_bytes; n < INT_MAX && perf_size_next(o, size, &size);) n++;
    return n;
}

void perf_size_format(double bytes, char *text, size_t room)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int i = 0;
    for (; i < 4 && fabs(bytes) >= 1024; i++) bytes /= 1024;
    snprintf(text, room, bytes == floor(bytes) ? "%.0f %s" : "%.1f %s", bytes, names[i]);
}
