/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits: how fast this machine could do what the library does, as bare programs with no API around them: processes
 * that have each other's memory mapped, or copy it by process_vm_readv or through shared slots; copies, sums, flags and
 * sockets by themselves. None of the library's code is in them. Each result is checked once, then all cases run in
 * turns; of each, the median over the rounds counts, and of all variants of one thing the fastest is the limit.
 *
 *   limits [--json] [--all] [--only direct,pvr_4,...] [--coll allreduce,...] [--variant push,...]
 *          [--sizes 8,64K,1M or 16K-256M] [--rounds 7] [--batch MS] [--timeout S]
 *
 *   --only    direct (buffers mapped by all ranks), pvr (process_vm_readv), slots (copies through shared slots),
 * memory, flag, socket; with _N: only with N ranks (of 2, 4, 8; memory: 1 or 2)
 *   --all     every variant, not only the fastest
 *   --json    one object a line: limit, ranks, coll, bytes, us, gbps, variant; with --all also best: whether it is
 *             the limit
 *
 * bytes are those of the whole buffer as nccl-tests counts them (the gathered one for all-gather, the input for
 * reduce-scatter and all-to-all; blocks of sizes that do not divide are rounded down to whole cache lines); ordinary
 * buffers' limit is the smaller of pvr and slots. Out of place, except for the broadcast's root. Ranks are pinned, rank
 * r to core r modulo the cores.
 */
#include "config.h"

#include "bench/limits/limits.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SIZES = 64, MAX_ENTRIES = 2048 };

struct options {
    bool json, all;
    const char *only, *coll, *variant;
    size_t sizes[MAX_SIZES], sizes_count;
    int rounds;
    double batch_ms;
    unsigned timeout;
};

static size_t parse_size(const char *text, char **end)
{
    const double number = strtod(text, end);
    int shift = 0;
    switch (**end) {
    case 'k':
    case 'K': shift = 10; break;
    case 'm':
    case 'M': shift = 20; break;
    case 'g':
    case 'G': shift = 30; break;
    default: break;
    }
    if (shift) ++*end;
    return number < 1 || number > 1e12 ? 0 : ((size_t)number << shift) & ~(size_t)3;
}

/* A list of sizes, or the first and the last of a row by factors of four. */
static int parse_sizes(struct options *o, const char *text)
{
    char *end;
    o->sizes_count = 0;
    do {
        size_t from = parse_size(text, &end), to = from;
        if (*end == '-') to = parse_size(end + 1, &end);
        if (!from || to < from || to > (size_t)1 << 30) return -1;
        for (; from <= to; from *= 4) {
            if (o->sizes_count == MAX_SIZES) return -1;
            o->sizes[o->sizes_count++] = from;
        }
        text = end + 1;
    } while (*end == ',');
    return *end ? -1 : 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: limits [--json] [--all] [--only LIMIT[_RANKS],...] [--coll NAME,...] [--variant NAME,...]\n"
                    "              [--sizes LIST | A-B] [--rounds N] [--batch MS] [--timeout S]\n"
                    "limits: direct pvr slots memory flag socket\n");
    return 2;
}

static int parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *text = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(name, "--json")) {
            o->json = true;
            continue;
        }
        if (!strcmp(name, "--all")) {
            o->all = true;
            continue;
        }
        if (!text) return -1;
        i++;
        if (!strcmp(name, "--only")) {
            o->only = text;
        } else if (!strcmp(name, "--coll")) {
            o->coll = text;
        } else if (!strcmp(name, "--variant")) {
            o->variant = text;
        } else if (!strcmp(name, "--sizes")) {
            if (parse_sizes(o, text)) return -1;
        } else if (!strcmp(name, "--rounds")) {
            o->rounds = atoi(text);
        } else if (!strcmp(name, "--batch")) {
            o->batch_ms = atof(text);
        } else if (!strcmp(name, "--timeout")) {
            o->timeout = (unsigned)atoi(text);
        } else {
            return -1;
        }
    }
    return o->rounds < 1 || o->rounds > 1000 || o->batch_ms < 0 || o->timeout == 0 ? -1 : 0;
}

/* Whether `name` or `name`_`ranks` is in the list; everything is in no list. */
static bool listed(const char *list, const char *name, int ranks)
{
    char full[32];
    snprintf(full, sizeof full, "%s_%d", name, ranks);
    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',') {
        const size_t len = strcspn(at, ",");
        if (len == strlen(name) && !memcmp(at, name, len)) return true;
        if (len == strlen(full) && !memcmp(at, full, len)) return true;
    }
    return !list;
}

static const struct {
    const struct limit_case *cases;
    const size_t *count;
} tables[] = {{direct_cases, &direct_cases_count},
              {pvr_cases, &pvr_cases_count},
              {slots_cases, &slots_cases_count},
              {machine_cases, &machine_cases_count}};

static size_t add_size(const struct options *o, int ranks, size_t bytes, struct entry *entries, size_t count)
{
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (size_t i = 0; i < *tables[t].count && count < MAX_ENTRIES; i++) {
            const struct limit_case *c = &tables[t].cases[i];
            if (!(c->ranks >> ranks & 1) || bytes < c->min || bytes > c->max) continue;
            if (!listed(o->only, c->limit, ranks) || !listed(o->coll, c->name, ranks)) continue;
            if (!listed(o->variant, c->variant, ranks)) continue;
            entries[count++] = (struct entry){.c = c, .bytes = bytes, .us = -1};
        }
    return count;
}

static bool same_thing(const struct entry *a, const struct entry *b)
{
    return a->bytes == b->bytes && !strcmp(a->c->limit, b->c->limit) && !strcmp(a->c->name, b->c->name);
}

static bool is_best(const struct entry *entries, size_t count, const struct entry *e)
{
    for (size_t i = 0; i < count; i++)
        if (same_thing(e, &entries[i]) && entries[i].us < e->us) return false;
    return true;
}

static void print(const struct options *o, int ranks, const struct entry *e, bool best)
{
    const double gbps = (double)e->bytes / 1e3 / e->us;
    if (o->json) {
        printf("{\"limit\":\"%s\",\"ranks\":%d,\"coll\":\"%s\",\"bytes\":%zu,\"us\":%.3f,\"gbps\":%.3f,"
               "\"variant\":\"%s\"",
               e->c->limit, ranks, e->c->name, e->bytes, e->us, gbps, e->c->variant);
        if (o->all) printf(",\"best\":%s", best ? "true" : "false");
        printf("}\n");
    } else {
        printf("%-7s %d %-15s %10zu %12.2f us %8.2f GB/s  %s%s\n", e->c->limit, ranks, e->c->name, e->bytes, e->us,
               gbps, e->c->variant, o->all && best ? "  <== limit" : "");
    }
    fflush(stdout);
}

static int run_ranks(const struct options *o, int ranks)
{
    static struct entry entries[MAX_ENTRIES];
    size_t count = 0;
    for (size_t i = 0; i < o->sizes_count; i++) count = add_size(o, ranks, o->sizes[i], entries, count);
    if (!count) return 0;
    if (team_run(ranks, entries, count, o->rounds, o->batch_ms)) return 1;
    for (size_t i = 0; i < count; i++) {
        const bool best = is_best(entries, count, &entries[i]);
        if (best || o->all) print(o, ranks, &entries[i], best);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const int ranks[] = {1, 2, 4, 8};
    struct options o = {.rounds = 7, .batch_ms = 2, .timeout = 600};
    int bad = parse_sizes(&o, "8,64,512,4K-256M");
    if (bad || parse(&o, argc, argv)) return usage();
    alarm(o.timeout); /* ends this process, and with it those that it started */
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) bad |= run_ranks(&o, ranks[i]);
    if (!o.json && !team_has_huge()) printf("# no huge pages in shared memory (or no case that wants them)\n");
    return bad;
}
