/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which algorithm, with which windows: the smallest predicted time among those that are right for the call and that
 * MEDLEY_ALGO admits.
 *
 * Every rank computes this for itself, so it may depend only on what all ranks of the call know. Between hosts that
 * excludes the facts, which each host has for itself, and in V collectives the counts. A window is as large as the
 * limits allow, shared equally by the windows that are needed; long pipelines may do better with a quarter of it.
 */
#include "config.h"
#include "lib/algo/common.h"
#include "lib/algo/cost.h"
#include "lib/algo/spec.h"
#include <string.h>

enum {
    LEAST_PIPE_BYTES = 65536, /* smaller windows are not cut any further */
    LOCAL_PART_BYTES = 65536, /* see local_window */
    LOCAL_SLOT_BYTES = 131072,
    LOCAL_MOST_BYTES = 524288,
    LARGE_TEAM = 256,         /* here plans with an instruction for each rank are only built if there are no others */
    WINDOW_GAIN = 16,         /* smaller windows have to gain this fraction: there are costs that no plan shows */
};

struct chooser {
    const struct mdl_team *team;
    struct mdl_collective c;
    const struct mdl_choose_limits *limits;
    size_t count, size; /* elements per slot, bytes of an element */
    uint32_t slots;
    struct mdl_choice best;
};

/* ---- windows ---- */

static size_t power_below(size_t n)
{
    size_t power = 1;
    while (power <= n / 2) power *= 2;
    return power;
}

size_t mdl_choose_block(const struct mdl_choose_limits *limits, uint32_t slots, size_t size)
{
    size_t least = MDL_CHOOSE_LEAST_SLOT < limits->window_bytes ? MDL_CHOOSE_LEAST_SLOT : limits->window_bytes;
    size_t bytes = limits->window_bytes / (slots ? slots : 1);
    return power_below((bytes > least ? bytes : least) / size);
}

/* Blocks are tiled by powers of two. */
static size_t block_window(const struct chooser *ch, size_t window)
{
    size_t block = mdl_choose_block(ch->limits, ch->slots, ch->size);
    if (window > block) window = block;
    return window >= ch->count && ch->count ? ch->count : power_below(window);
}

static size_t round_window(const struct chooser *ch, size_t window)
{
    if (ch->limits->blocks) return block_window(ch, window);
    if (window >= ch->count) return ch->count ? ch->count : 1;
    size_t windows = (ch->count + window - 1) / window, even = (ch->count + windows - 1) / windows;
    size_t line = 64 / ch->size, rounded = (even + line - 1) / line * line;
    return rounded <= window ? rounded : window;
}

/* Elements per slot that the budget for staging leaves to each of `depth` windows: executors give every slot room for
 * partials and begin it at a cache line. */
static size_t scratch_window(const struct chooser *ch, uint32_t slots, uint32_t depth)
{
    if (!slots) return SIZE_MAX;
    return ch->limits->scratch_bytes / slots / depth / 64 * 64 / mdl_dtype_acc_size(ch->c.dtype);
}

/* Elements per slot of a piece that passes through SCRATCH inside one host: what one rank puts there another one, or
 * every other one, takes out of the cache again. Measured: 128 KiB to 256 KiB, from 256 KiB to 256 MiB in all. */
static size_t local_window(const struct chooser *ch)
{
    bool split = ch->c.coll == medleyCollAllReduce || ch->c.coll == medleyCollReduce;
    size_t bytes = split ? (size_t)ch->team->nranks * LOCAL_PART_BYTES : LOCAL_SLOT_BYTES;
    return (bytes < LOCAL_MOST_BYTES ? bytes : LOCAL_MOST_BYTES) / ch->size;
}

static size_t wanted_window(const struct chooser *ch, const struct mdl_cost *cost)
{
    size_t bytes = ch->limits->window_bytes / ch->slots, least = MDL_CHOOSE_LEAST_SLOT;
    if (least > ch->limits->window_bytes) least = ch->limits->window_bytes;
    size_t window = (bytes > least ? bytes : least) / ch->size;
    if (ch->team->nhosts == 1 && cost->scratch_slots && window > local_window(ch)) window = local_window(ch);
    return window ? window : 1;
}

/* As deep as allowed, unless SCRATCH would make the windows much smaller for it. */
static uint32_t pick_depth(const struct chooser *ch, const struct mdl_cost *cost, size_t window)
{
    uint32_t most = ch->limits->max_depth ? ch->limits->max_depth : 1;
    uint32_t lanes = cost->channels ? ch->limits->max_channels / cost->channels : most;
    uint32_t depth = lanes < most ? lanes : most;
    while (depth > 1 && scratch_window(ch, cost->scratch_slots, depth) < window / 2) depth--;
    return depth ? depth : 1;
}

static uint32_t used_depth(const struct chooser *ch, uint32_t depth, size_t window)
{
    size_t windows = (ch->count + window - 1) / window;
    return windows < depth ? (windows ? (uint32_t)windows : 1) : depth;
}

/* ---- candidates ---- */

static struct mdl_choice predict(const struct chooser *ch, const struct mdl_algo *algo, const struct mdl_cost *cost,
                                 size_t window, uint32_t depth)
{
    depth = used_depth(ch, depth, window);
    return (struct mdl_choice){
        .algo = algo, .window = window, .depth = depth, .predicted_ns = mdl_cost_walk(cost, window, depth)};
}

static void take(struct chooser *ch, struct mdl_choice choice)
{
    if (!ch->best.algo || choice.predicted_ns < ch->best.predicted_ns) ch->best = choice;
}

/* One window has to hold all. */
static void try_whole(struct chooser *ch, const struct mdl_algo *algo, const struct mdl_cost *cost)
{
    size_t room = scratch_window(ch, cost->scratch_slots, 1);
    if (mdl_collective_is_v(&ch->c) || room < ch->count) return;
    if (ch->limits->blocks && ch->count > mdl_choose_block(ch->limits, ch->slots, ch->size)) return;
    take(ch, predict(ch, algo, cost, ch->count ? ch->count : 1, 1));
}

static void try_windows(struct chooser *ch, const struct mdl_algo *algo, const struct mdl_cost *cost)
{
    size_t window = wanted_window(ch, cost);
    uint32_t depth = pick_depth(ch, cost, window);
    size_t room = scratch_window(ch, cost->scratch_slots, depth);
    if (room < window) window = room;
    if (!window) return;
    struct mdl_choice choice = predict(ch, algo, cost, round_window(ch, window), depth);
    size_t whole = ch->count < window ? ch->count : window;
    if (depth > 1 && whole * ch->size * ch->slots > LEAST_PIPE_BYTES) {
        struct mdl_choice finer = predict(ch, algo, cost, round_window(ch, (whole + 3) / 4), depth);
        if (finer.predicted_ns < choice.predicted_ns - choice.predicted_ns / WINDOW_GAIN) choice = finer;
    }
    take(ch, choice);
}

/* Small payloads only: a rank of a one-shot exchange reads everything. */
static bool over_oneshot(const struct chooser *ch, const struct mdl_algo *algo)
{
    uint32_t in, out;
    mdl_collective_slots(&ch->c, ch->team->nranks, &in, &out);
    return strcmp(algo->name, "oneshot") == 0 && ch->count * ch->size * (in ? in : 1) > ch->limits->oneshot_bytes;
}

static bool consider(struct chooser *ch, const struct mdl_algo *algo)
{
    struct mdl_cost *cost = mdl_cost_new(ch->team, &ch->c, algo);
    if (!cost) return false;
    if (cost->flags & MDL_PLAN_WHOLE)
        try_whole(ch, algo, cost);
    else
        try_windows(ch, algo, cost);
    mdl_cost_free(cost);
    return true;
}

/* Where buffers have a slot for each rank, every plan is that long. */
static bool is_needlessly_long(const struct chooser *ch, const struct mdl_algo *algo)
{
    if (ch->slots > 1 || ch->team->nranks <= LARGE_TEAM) return false;
    static const char *const names[] = {"direct", "oneshot", "staged", "ring", "pairwise"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(algo->name, names[i]) == 0) return true;
    return false;
}

enum pass { ADMITTED_SHORT, ADMITTED, ANY_SHORT, ANY, PASSES };

static bool passes(const struct chooser *ch, const struct mdl_algo *algo, const char *spec, enum pass pass)
{
    bool fits = algo->colls >> ch->c.coll & 1 && algo->fits(ch->team, &ch->c);
    if (!fits || over_oneshot(ch, algo)) return false;
    bool brief = pass == ADMITTED_SHORT || pass == ANY_SHORT;
    if (brief && is_needlessly_long(ch, algo)) return false;
    return pass >= ANY_SHORT || mdl_spec_admits(spec, ch->c.coll, algo->name);
}

static medleyResult_t run_pass(struct chooser *ch, const char *spec, enum pass pass)
{
    for (const struct mdl_algo *const *a = mdl_algos; *a; a++)
        if (passes(ch, *a, spec, pass) && !consider(ch, *a))
            return mdl_error(medleyInternalError, "cannot predict the time of algorithm %s (%s)", (*a)->name,
                             mdl_error_text());
    return medleySuccess;
}

medleyResult_t mdl_algo_choose(const struct mdl_team *team, const struct mdl_collective *c, const char *spec,
                               const struct mdl_choose_limits *limits, struct mdl_choice *choice)
{
    struct chooser ch = {.team = team, .c = *c, .limits = limits, .count = mdl_cost_count(c)};
    uint32_t in, out;
    mdl_collective_slots(c, team->nranks, &in, &out);
    ch.slots = in > out ? in : out ? out : 1;
    ch.size = mdl_dtype_size(c->dtype);
    if (team->nhosts > 1) memset(&ch.c.facts, 0, sizeof(ch.c.facts));
    if (mdl_collective_is_v(c)) ch.count = SIZE_MAX / 2;
    if (c->coll == medleyCollBarrier) ch.count = 0;
    for (enum pass pass = 0; pass < PASSES && !ch.best.algo; pass++) {
        MDL_TRY(run_pass(&ch, spec, pass));
        ch.best.overridden = pass < ANY_SHORT && mdl_spec_speaks(spec, c->coll);
    }
    if (!ch.best.algo)
        return mdl_error(medleyInvalidUsage,
                         "no algorithm for collective %d on %d ranks works with %zu bytes of staging memory: raise "
                         "MEDLEY_MEMORY_BUDGET",
                         (int)c->coll, team->nranks, limits->scratch_bytes);
    *choice = ch.best;
    return medleySuccess;
}
