/* SPDX-License-Identifier: Apache-2.0 */
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

/* The parts that an id holds after the steps with distances below d. */
struct range {
    uint32_t lo, hi;
};

static struct range range_after(const struct mdl_power *pw, int id, int d)
{
    struct range r = {0, (uint32_t)pw->p};
    for (int k = 1; k < d; k *= 2) {
        uint32_t mid = (r.lo + r.hi) / 2;
        if (id & k)
            r.lo = mid;
        else
            r.hi = mid;
    }
    return r;
}

static struct mdl_ref cut(struct mdl_ref ref, struct range r) { return mdl_cut(ref, r.lo, r.hi); }

/* Afterwards this id's part is final in `dst`. */
static void halve(struct mdl_emit *e, const struct mdl_power *pw, struct mdl_ref have, struct mdl_ref dst)
{
    struct mdl_ref sum = mdl_scratch(e, e->rank, true, mdl_builder_scratch(e->b, 1), 0);
    uint32_t first = mdl_builder_scratch(e->b, 1), later = mdl_builder_scratch(e->b, 2), turn = 0;
    for (int d = 1; d < pw->p; d *= 2, turn ^= 1) {
        int other = pw->id ^ d, peer = mdl_power_rank(e, pw, other);
        struct range keep = range_after(pw, pw->id, 2 * d), give = range_after(pw, other, 2 * d);
        struct mdl_ref got =
            mdl_scratch(e, e->rank, d > 1 || mdl_power_acc(e, pw, other), d > 1 ? later + turn : first, 0);
        bool last = d * 2 == pw->p;
        struct mdl_ref to = cut(last ? dst : sum, keep), a = cut(have, keep), b = cut(got, keep);
        mdl_build_send(e->b, peer, 0, cut(have, give));
        mdl_build_recv(e->b, peer, 0, b);
        mdl_fold2(e, to, pw->id < other ? a : b, pw->id < other ? b : a, last ? MDL_INST_FINAL : 0);
        have = sum;
    }
}

static void allreduce(struct mdl_emit *e)
{
    struct mdl_power pw = mdl_power_of(e);
    struct mdl_ref have = mdl_power_fold_in(e, &pw), out = mdl_out(e, e->rank, 0);
    if (pw.id >= 0) halve(e, &pw, have, out);
    for (int d = pw.p / 2; d && pw.id >= 0; d /= 2) {
        int other = pw.id ^ d, peer = mdl_power_rank(e, &pw, other);
        mdl_build_send(e->b, peer, 0, cut(out, range_after(&pw, pw.id, 2 * d)));
        mdl_build_recv(e->b, peer, 0, cut(out, range_after(&pw, other, 2 * d)));
    }
    mdl_power_fold_out(e, &pw);
}

/* The id at which the parts come together: the root's, or its partner's. */
static int collector(const struct mdl_emit *e, const struct mdl_power *pw)
{
    int at = mdl_order_position(e, e->c->root);
    return at < 2 * pw->extra ? at / 2 : at - pw->extra;
}

static void reduce(struct mdl_emit *e)
{
    struct mdl_power pw = mdl_power_of(e);
    int target = collector(e, &pw), root = e->c->root, holder = mdl_power_rank(e, &pw, target);
    struct mdl_ref have = mdl_power_fold_in(e, &pw), result = mdl_scratch(e, e->rank, false, 0, 0);
    if (e->rank == root)
        result = mdl_out(e, root, 0);
    else
        result.slot = mdl_builder_scratch(e->b, 1);
    if (pw.id >= 0) halve(e, &pw, have, result);
    for (int d = pw.p / 2; d && pw.id >= 0; d /= 2) {
        int other = pw.id ^ d;
        if ((pw.id ^ target) & d) {
            mdl_build_send(e->b, mdl_power_rank(e, &pw, other), 0, cut(result, range_after(&pw, pw.id, 2 * d)));
            break;
        }
        mdl_build_recv(e->b, mdl_power_rank(e, &pw, other), 0, cut(result, range_after(&pw, other, 2 * d)));
    }
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
