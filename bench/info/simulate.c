/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --simulate: the choice that a communicator would make on hosts that are only described, and the time that it expects.
 * The counts and the bandwidth formulas are medley-perf's, so that the table compares with a measured one.
 */
#include "config.h"
#include "bench/info/info.h"
#include "bench/perf/colls.h"
#include "bench/perf/sizes.h"
#include "lib/engine/op.h"
#include "lib/plan/plan.h"
#include <stdlib.h>

enum { USAGE = 2, FAILED = 1, MOST_RANKS = 1 << 20 };

/* The team's arrays: ranks in order of hosts. */
struct hosts {
    int *host, *local, *size, *ranks;
    const int **members;
};

static void free_hosts(struct hosts *h)
{
    free(h->host);
    free(h->local);
    free(h->size);
    free(h->ranks);
    free(h->members);
}

static bool make_hosts(struct hosts *h, int nhosts, int each)
{
    size_t n = (size_t)nhosts * (size_t)each;
    *h = (struct hosts){.host = calloc(n, sizeof(int)),
                        .local = calloc(n, sizeof(int)),
                        .size = calloc((size_t)nhosts, sizeof(int)),
                        .ranks = calloc(n, sizeof(int)),
                        .members = calloc((size_t)nhosts, sizeof(int *))};
    if (!h->host || !h->local || !h->size || !h->ranks || !h->members) return false;
    for (int r = 0; r < (int)n; r++) {
        h->host[r] = r / each;
        h->local[r] = r % each;
        h->ranks[r] = r;
    }
    for (int i = 0; i < nhosts; i++) {
        h->size[i] = each;
        h->members[i] = h->ranks + (size_t)i * (size_t)each;
    }
    return true;
}

/* The speeds are those that a real rank with such links would compute. */
static medleyResult_t describe_team(const struct info_options *o, const struct hosts *h, struct mdl_team *team)
{
    struct mdl_team *one;
    uint8_t near = 0;
    struct mdl_team_facts facts = {.cores = (uint32_t)(o->cores ? o->cores : o->ranks),
                                   .net_mbps = (uint32_t)o->mbps,
                                   .rails = (uint32_t)o->rails,
                                   .near = &near};
    MDL_TRY(mdl_team_make(1, &facts, &one));
    *team = *one;
    mdl_team_free(one);
    team->nranks = o->hosts * o->ranks;
    team->nhosts = o->hosts;
    team->host = h->host;
    team->local = h->local;
    team->host_size = h->size;
    team->members = h->members;
    team->remote_scratch = team->remote_get = true;
    return medleySuccess;
}

static medleyResult_t predict(const struct mdl_config *cfg, const struct info_options *o, const struct mdl_team *team,
                              const struct perf_shape *s, struct mdl_choice *choice)
{
    struct mdl_choose_limits limits = {.window_bytes = cfg->window,
                                       .scratch_bytes = cfg->memory_budget,
                                       .max_depth = MDL_MAX_DEPTH,
                                       .max_channels = MDL_P2P_CHANNEL,
                                       .oneshot_bytes = cfg->oneshot};
    struct mdl_collective c = {.coll = (medleyColl_t)s->coll->id,
                               .dtype = s->dtype,
                               .op = medleySum,
                               .deterministic = cfg->deterministic,
                               .root = s->root,
                               .count = s->count,
                               .facts = {.apart = team->nhosts == 1}};
    c.facts.in_mapped = c.facts.out_mapped = o->mapped && team->nhosts == 1;
    return mdl_algo_choose(team, &c, cfg->algo.s, &limits, choice);
}

static medleyResult_t print_sizes(const struct mdl_config *cfg, const struct info_options *o,
                                  const struct mdl_team *team, const struct perf_coll *coll)
{
    struct perf_shape s;
    struct mdl_choice choice;
    printf("# %s of float (sum, root 0), predicted: %d hosts x %d ranks, %d x %d Mbit/s\n", coll->title, o->hosts,
           o->ranks, o->rails, o->mbps);
    printf("# %10s  %12s  %-14s  %10s  %12s  %7s  %7s\n", "size", "count", "algorithm", "window", "time(us)", "algbw",
           "busbw");
    for (size_t bytes = 8; bytes <= (size_t)1 << 28; bytes *= 4) {
        if (!perf_shape_make(coll, medleyFloat, medleySum, 0, team->nranks, bytes, &s)) break;
        if (!s.count && !(coll->flags & PERF_NO_DATA)) continue;
        MDL_TRY(predict(cfg, o, team, &s, &choice));
        double us = (double)choice.predicted_ns / 1e3, algbw = us > 0 ? coll->bytes(&s) / us / 1e3 : 0;
        printf("%12zu  %12zu  %-14s  %10zu  %12.2f  %7.2f  %7.2f\n", perf_shape_extent(&s) * s.elem, s.count,
               choice.algo->name, choice.window * s.elem, us, algbw, algbw * coll->factor(team->nranks));
        if (coll->flags & PERF_NO_DATA) break;
    }
    return medleySuccess;
}

int info_simulate(const struct mdl_config *cfg, const struct info_options *o)
{
    const struct perf_coll *coll = perf_coll_find(o->simulate);
    struct mdl_team team;
    struct hosts hosts = {0};
    /* V collectives choose without their counts, so nothing is expected of their time. */
    if (!coll || coll->id < 0 || coll->tables) {
        fprintf(stderr, "medley-info: --simulate: '%s' is no collective whose time is predicted\n", o->simulate);
        return USAGE;
    }
    if ((int64_t)o->hosts * o->ranks > MOST_RANKS) {
        fprintf(stderr, "medley-info: --hosts x --ranks: more than %d ranks\n", MOST_RANKS);
        return USAGE;
    }
    medleyResult_t result = make_hosts(&hosts, o->hosts, o->ranks)
                                ? describe_team(o, &hosts, &team)
                                : mdl_error(medleySystemError, "out of memory for %d hosts", o->hosts);
    if (result == medleySuccess) result = print_sizes(cfg, o, &team, coll);
    free_hosts(&hosts);
    return result == medleySuccess ? 0 : FAILED;
}
