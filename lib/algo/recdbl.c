/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recdbl: recursive doubling. In step k a rank exchanges all it has with the one whose number differs in bit k.
 *
 * All-reduce takes log2(n) messages of the whole size: for small ones. Every rank computes the same expression, lower
 * numbers first; for a power of two it is the canonical tree. All-gather (a power of two only) doubles the block.
 * Barrier is dissemination: in step k a rank tells the one 2^k after it, with signals inside a host and empty messages
 * across.
 */
#include "config.h"
#include "lib/algo/power.h"

enum { MOST_STEPS = 32 };

static bool is_power(int n) { return mdl_power_below(n) == n; }

static bool fits(const struct mdl_team *team, const struct mdl_collective *c)
{
    switch (c->coll) {
    case medleyCollAllReduce: return !c->deterministic || is_power(team->nranks);
    case medleyCollAllGather: return is_power(team->nranks);
    default: return true;
    }
}

static void allreduce(struct mdl_emit *e)
{
    struct mdl_power pw = mdl_power_of(mdl_line_all(e), 0, e->parts);
    struct mdl_ref have = mdl_power_fold_in(e, &pw, mdl_leaf(e, 0));
    uint32_t sums = mdl_builder_scratch(e->b, 2), slot = sums + 2, turn = 0;
    for (int d = 1; d < pw.p; d *= 2) mdl_builder_scratch(e->b, 1);
    for (int d = 1; d < pw.p && pw.id >= 0; d *= 2, turn ^= 1) {
        int other = pw.id ^ d, peer = mdl_power_rank(e, &pw, other);
        bool acc = d > 1 || mdl_power_acc(e, &pw, other), last = d * 2 == pw.p;
        struct mdl_ref got = mdl_scratch(e, e->rank, acc, slot++, 0);
        struct mdl_ref sum = last ? mdl_out(e, e->rank, 0) : mdl_scratch(e, e->rank, true, sums + turn, 0);
        mdl_build_send(e->b, peer, 0, have);
        mdl_build_recv(e->b, peer, 0, got);
        if (pw.id < other)
            mdl_fold2(e, sum, have, got, last ? MDL_INST_FINAL : 0);
        else
            mdl_fold2(e, sum, got, have, last ? MDL_INST_FINAL : 0);
        have = sum;
    }
    mdl_power_fold_out(e, &pw, mdl_out(e, e->rank, 0));
}

static void allgather(struct mdl_emit *e)
{
    uint32_t r = (uint32_t)e->rank;
    mdl_builder_whole(e->b);
    mdl_build_copy(e->b, mdl_out(e, e->rank, r), mdl_in(e, e->rank, 0), 0);
    for (uint32_t d = 1; d < (uint32_t)e->n; d *= 2) {
        uint32_t mine = r / d * d;
        mdl_build_send(e->b, (int)(r ^ d), 0, mdl_ref_slots(e->b, e->rank, MDL_OUT, false, mine, d));
        mdl_build_recv(e->b, (int)(r ^ d), 0, mdl_ref_slots(e->b, e->rank, MDL_OUT, false, mine ^ d, d));
    }
}

static void barrier(struct mdl_emit *e)
{
    uint32_t heard[MOST_STEPS], n = 0;
    int at = mdl_order_position(e, e->rank);
    for (int64_t d = 1; d < e->n; d *= 2) {
        mdl_tell(e, mdl_order_rank(e, (int)((at + d) % e->n)), heard, n);
        heard[n++] = mdl_hear(e, mdl_order_rank(e, (int)((at - d + e->n) % e->n)));
    }
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, 1)) return;
    mdl_leaf_prepare(&e);
    switch (c->coll) {
    case medleyCollAllReduce: allreduce(&e); break;
    case medleyCollAllGather: allgather(&e); break;
    default: barrier(&e); break;
    }
}

const struct mdl_algo mdl_algo_recdbl = {
    .name = "recdbl",
    .colls = MDL_COLL(AllReduce) | MDL_COLL(AllGather) | MDL_COLL(Barrier),
    .fits = fits,
    .build = build,
};
