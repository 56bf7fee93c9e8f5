/* SPDX-License-Identifier: Apache-2.0 */
/* Calls for the plan tests; see cases.h. */
#include "config.h"
#include "tests/plan/cases.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool plan_full(void)
{
    const char *full = getenv("MDL_PLAN_FULL");
    return full && strcmp(full, "1") == 0;
}

static uint32_t draw(uint64_t *state, uint32_t below) { return (uint32_t)(sim_random(state) >> 33) % below; }
static bool flip(uint64_t *state) { return draw(state, 2); }

static void draw_operation(struct mdl_collective *c, uint64_t *state)
{
    static const medleyDataType_t dtypes[] = {medleyFloat32, medleyFloat16,    medleyBfloat16, medleyInt32,
                                              medleyUint8,   medleyFloat8e4m3, medleyFloat64};
    static const medleyRedOp_t ops[] = {medleySum, medleyAvg, medleySum, medleyMax, medleyProd, medleyMin};
    c->dtype = dtypes[draw(state, sizeof(dtypes) / sizeof(dtypes[0]))];
    if (!mdl_collective_reduces(c)) return;
    c->op = ops[draw(state, sizeof(ops) / sizeof(ops[0]))];
    c->premul = c->op == medleySum && draw(state, 3) == 0;
    c->deterministic = draw(state, 3) == 0;
}

static void draw_root(struct mdl_collective *c, int n, uint64_t *state)
{
    const int roots[] = {0, 1 % n, n - 1, (int)draw(state, (uint32_t)n)};
    bool rooted = c->coll == medleyCollReduce || c->coll == medleyCollBroadcast || c->coll == medleyCollGather ||
                  c->coll == medleyCollScatter;
    c->root = rooted ? roots[draw(state, 4)] : -1;
}

static size_t draw_count(uint32_t n, uint64_t *state)
{
    const size_t counts[] = {0, 1, n - 1, n, n + 1, 1000, 3 * n + 2, 64, draw(state, 300)};
    return counts[draw(state, sizeof(counts) / sizeof(counts[0]))];
}

static void draw_counts(struct call *call, size_t n, uint64_t *state)
{
    struct mdl_collective *c = &call->s.c;
    if (c->coll == medleyCollBarrier) return;
    if (!mdl_collective_is_v(c)) {
        c->count = draw_count((uint32_t)n, state);
        return;
    }
    size_t entries = c->coll == medleyCollAlltoAllV ? n * n : n;
    call->counts = calloc(entries, sizeof(size_t));
    for (size_t i = 0; call->counts && i < entries; i++)
        call->counts[i] = flip(state) ? draw(state, 90) : draw(state, 4);
    call->s.counts = call->counts;
}

/* A window is whole, or cuts what there is into several pieces. */
static void draw_windows(struct sim *s, uint64_t *state)
{
    const size_t windows[] = {1000, 1000, 7, 64, 100, 333};
    s->window = windows[draw(state, 6)];
    if (s->c.count > 300 && s->window < 64) s->window = 64;
    s->depth = 1 + draw(state, 4);
}

static void draw_places(struct call *call, int n, uint64_t *state)
{
    uint32_t kind = draw(state, 3); /* nobody, all, some */
    call->in_place = calloc((size_t)n, sizeof(bool));
    bool any = false, all = true;
    for (int r = 0; call->in_place && r < n; r++) {
        call->in_place[r] = kind == 1 || (kind == 2 && flip(state));
        any = any || call->in_place[r];
        all = all && call->in_place[r];
    }
    call->s.in_place = call->in_place;
    call->s.c.facts.in_place = all;
    call->s.c.facts.apart = !any && flip(state);
}

static void describe(struct call *call)
{
    const struct mdl_collective *c = &call->s.c;
    const struct mdl_team *t = call->s.team;
    snprintf(call->name, sizeof(call->name),
             "%d ranks on %d hosts, collective %d, root %d, %s %s%s%s, count %zu, window %zu x %u, %s%s%s%s%s%s%s, "
             "seed %llu",
             t->nranks, t->nhosts, (int)c->coll, c->root, mdl_dtype_name(c->dtype), mdl_op_name(c->op),
             c->premul ? " premul" : "", c->deterministic ? " deterministic" : "", c->count, call->s.window,
             call->s.depth, t->remote_scratch ? "scratch " : "", t->remote_get ? "get " : "",
             c->facts.in_mapped ? "in_mapped " : "", c->facts.out_mapped ? "out_mapped " : "",
             c->facts.in_place ? "in_place " : "", c->facts.apart ? "apart " : "", call->s.rough ? "rough" : "exact",
             (unsigned long long)call->s.seed);
}

void call_draw(struct call *call, struct team *team, medleyColl_t coll, uint64_t seed)
{
    uint64_t state = seed;
    *call = (struct call){.s = {.team = &team->t, .c = {.coll = coll}, .seed = seed}};
    struct mdl_collective *c = &call->s.c;
    team->t.remote_scratch = draw(&state, 4) != 0;
    team->t.remote_get = flip(&state);
    c->facts.in_mapped = draw(&state, 3) == 0;
    c->facts.out_mapped = draw(&state, 3) == 0;
    draw_operation(c, &state);
    draw_root(c, team->t.nranks, &state);
    draw_counts(call, (size_t)team->t.nranks, &state);
    draw_windows(&call->s, &state);
    draw_places(call, team->t.nranks, &state);
    call->s.rough = mdl_collective_reduces(c) && (c->deterministic || draw(&state, 4) == 0);
    describe(call);
}

void call_fini(struct call *call)
{
    free(call->in_place);
    free(call->counts);
}
