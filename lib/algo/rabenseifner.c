/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rabenseifner: recursive halving, then recursive doubling: an all-reduce that moves as little as a ring in 2 log2(n)
 * steps.
 *
 * What a step does is said in power.h. Reduce collects the parts on the root's id instead of doubling; that id hands
 * the result on if the root sits out.
 */
/*
 * rabenseifner: recursive halving, then recursive doubling: an all-reduce that moves as little as a ring in 2 log2(n)
 * steps.
 *
 * In step k a rank exchanges half of what it still holds with the one whose id differs in bit k, nearest first: the
 * largest messages go to neighbours, and for a power of two the expression is the canonical tree. Each id ends up with
 * one part, finished; the halves then come back in reverse order. Reduce collects the parts on the root's id instead,
 * which hands the result on if the root sits out.
 */
#include "config.h"
#include "lib/algo/power.h"

static bool fits(const struct mdl_team *team, const struct mdl_collective *c)
{
    return team->nranks == 1 || !c->deterministic || mdl_power_below(team->nranks) == team->nranks;
}

static uint32_t parts(const struct mdl_team *team, const struct mdl_collective *c)
{
    return (uint32_t)mdl_power_below(team->nranks);
}

static struct mdl_power all_ranks(const struct mdl_emit *e) { return mdl_power_of(mdl_line_all(e), 0, e->parts); }

static void allreduce(struct mdl_emit *e)
{
    struct mdl_power pw = all_ranks(e);
    struct mdl_ref have = mdl_power_fold_in(e, &pw, mdl_leaf(e, 0)), out = mdl_out(e, e->rank, 0);
    mdl_power_halve(e, &pw, have, out);
    mdl_power_double(e, &pw, out);
    mdl_power_fold_out(e, &pw, out);
}

static struct mdl_ref cut(struct mdl_ref ref, struct mdl_range r) { return mdl_cut(ref, r.lo, r.hi); }

/* The parts come together on id `target`, as doubling would bring them there. */
static void collect(struct mdl_emit *e, const struct mdl_power *pw, int target, struct mdl_ref result)
{
    for (int d = pw->id < 0 ? 0 : pw->p / 2; d; d /= 2) {
        int other = pw->id ^ d;
        if ((pw->id ^ target) & d) {
            mdl_build_send(e->b, mdl_power_rank(e, pw, other), 0, cut(result, mdl_power_range(pw, pw->id, 2 * d)));
            return;
        }
        mdl_build_recv(e->b, mdl_power_rank(e, pw, other), 0, cut(result, mdl_power_range(pw, other, 2 * d)));
    }
}

static void reduce(struct mdl_emit *e)
{
    struct mdl_power pw = all_ranks(e);
    int root = e->c->root, at = mdl_order_position(e, root), target = at < 2 * pw.extra ? at / 2 : at - pw.extra;
    int holder = mdl_power_rank(e, &pw, target); /* the root, or its partner if it sits out */
    struct mdl_ref have = mdl_power_fold_in(e, &pw, mdl_leaf(e, 0)), result = mdl_out(e, root, 0);
    uint32_t slot = mdl_builder_scratch(e->b, 1);
    if (e->rank != root) result = mdl_scratch(e, e->rank, false, slot, 0);
    mdl_power_halve(e, &pw, have, result);
    collect(e, &pw, target, result);
    if (holder == root) return;
    if (e->rank == holder) mdl_build_send(e->b, root, 0, result);
    if (e->rank == root) mdl_build_recv(e->b, holder, 0, result);
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, parts(team, c))) return;
    mdl_leaf_prepare(&e);
    c->coll == medleyCollAllReduce ? allreduce(&e) : reduce(&e);
}

const struct mdl_algo mdl_algo_rabenseifner = {
    .name = "rabenseifner",
    .colls = MDL_COLL(AllReduce) | MDL_COLL(Reduce),
    .fits = fits,
    .build = build,
    .parts = parts,
};
