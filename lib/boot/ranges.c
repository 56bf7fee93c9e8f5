/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of ranks as ranges. */
#include "config.h"
#include "lib/boot/ranges.h"
#include <stdio.h>
#include <stdlib.h>

void mdl_ranges_clear(struct mdl_ranges *set)
{
    set->count = 0;
    set->n = 0;
}

void mdl_ranges_add(struct mdl_ranges *set, uint32_t first, uint32_t last)
{
    struct mdl_range *end = set->n ? &set->at[set->n - 1] : NULL;
    set->count += (uint64_t)last - first + 1;
    if (end && end->last + 1 == first)
        end->last = last;
    else if (set->n < MDL_RANGES_MAX)
        set->at[set->n++] = (struct mdl_range){first, last};
}

void mdl_ranges_join(struct mdl_ranges *set, const struct mdl_ranges *more)
{
    uint64_t count = set->count + more->count;
    for (int i = 0; i < more->n; i++) mdl_ranges_add(set, more->at[i].first, more->at[i].last);
    set->count = count;
}

static int by_first(const void *a, const void *b)
{
    uint32_t x = ((const struct mdl_range *)a)->first, y = ((const struct mdl_range *)b)->first;
    return x < y ? -1 : x > y;
}

void mdl_ranges_sort(struct mdl_ranges *set)
{
    struct mdl_ranges sorted = {0};
    qsort(set->at, (size_t)set->n, sizeof(set->at[0]), by_first);
    for (int i = 0; i < set->n; i++) mdl_ranges_add(&sorted, set->at[i].first, set->at[i].last);
    sorted.count = set->count;
    *set = sorted;
}

static int format_one(const struct mdl_range *range, const char *before, char *text, size_t bytes)
{
    if (range->first == range->last) return snprintf(text, bytes, "%s%u", before, range->first);
    return snprintf(text, bytes, "%s%u-%u", before, range->first, range->last);
}

void mdl_ranges_format(const struct mdl_ranges *set, char *text, size_t bytes)
{
    size_t at = 0;
    uint64_t told = 0;
    if (!set->count) {
        snprintf(text, bytes, "none");
        return;
    }
    text[0] = 0;
    for (int i = 0; i < set->n && at + 40 < bytes; i++) { /* 40: one more range and " and N more" */
        at += (size_t)format_one(&set->at[i], i ? ", " : "", text + at, bytes - at);
        told += (uint64_t)set->at[i].last - set->at[i].first + 1;
    }
    if (told < set->count)
        snprintf(text + at, bytes - at, "%s%llu more", at ? " and " : "", (unsigned long long)(set->count - told));
}

void mdl_ranges_write(struct mdl_writer *w, const struct mdl_ranges *set)
{
    mdl_write_u32(w, (uint32_t)set->count);
    mdl_write_u16(w, (uint16_t)set->n);
    for (int i = 0; i < set->n; i++) {
        mdl_write_u32(w, set->at[i].first);
        mdl_write_u32(w, set->at[i].last);
    }
}

void mdl_ranges_read(struct mdl_reader *r, struct mdl_ranges *set)
{
    mdl_ranges_clear(set);
    uint32_t count = mdl_read_u32(r);
    uint16_t n = mdl_read_u16(r);
    for (int i = 0; i < n && !r->bad; i++) {
        uint32_t first = mdl_read_u32(r), last = mdl_read_u32(r);
        if (first > last || last >= MDL_MAX_RANKS || n > MDL_RANGES_MAX) r->bad = true;
        if (!r->bad) mdl_ranges_add(set, first, last);
    }
    if (set->count > count) r->bad = true;
    set->count = count;
    if (r->bad) mdl_ranges_clear(set);
}
