/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pairwise: every rank sends each other rank what that one needs, directly.
 *
 * In step i a rank sends to the i-th rank after it and receives from the i-th before it, so that nobody is hit by all
 * at once. A reduction's owner gets its piece from everybody and folds them all in one pass, in rank order: the
 * expression is the same for any placement, and canonical with MDL_INST_TREE. All-reduce then sends the finished parts
 * around the same way. The only algorithm for AlltoAllV.
 */
#include "config.h"
#include "lib/algo/common.h"

enum { STAGES = 4 }; /* SCRATCH slots through which an all-to-all that may be in place receives */

static bool fits(const struct mdl_team *team, const struct mdl_collective *c) { return true; }

static bool splits(const struct mdl_collective *c)
{
    return c->coll == medleyCollAllReduce || c->coll == medleyCollReduce;
}

static uint32_t parts(const struct mdl_team *team, const struct mdl_collective *c)
{
    return splits(c) ? (uint32_t)team->nranks : 1;
}

static int after(const struct mdl_emit *e, int i) { return (e->rank + i) % e->n; }
static int before(const struct mdl_emit *e, int i) { return (e->rank - i + e->n) % e->n; }

static struct mdl_ref part(struct mdl_ref r, int p) { return mdl_cut(r, (uint32_t)p, (uint32_t)p + 1); }

/* ---- reductions ---- */

/* The piece of rank `piece` in this rank's input: a part, or a slot of reduce-scatter. */
static struct mdl_ref piece_of_leaf(const struct mdl_emit *e, int piece)
{
    return splits(e->c) ? part(mdl_leaf(e, 0), piece) : mdl_leaf(e, (uint32_t)piece);
}

/* This rank's piece as it came from rank q. `arg`: the first SCRATCH slot; there is one for each other rank. */
static struct mdl_ref received(const struct mdl_emit *e, uint32_t q, const void *arg)
{
    struct mdl_ref mine = piece_of_leaf(e, e->rank);
    uint32_t slot = *(const uint32_t *)arg + q - ((int)q > e->rank);
    if ((int)q == e->rank) return mine;
    return mdl_cut(mdl_scratch(e, e->rank, mdl_leaf_acc(e), slot, mine.shape), mine.lo, mine.hi);
}

static void reduce_scatter(struct mdl_emit *e, struct mdl_ref dst)
{
    uint32_t first = mdl_builder_scratch(e->b, (uint32_t)e->n - 1);
    for (int i = 1; i < e->n; i++) {
        mdl_build_send(e->b, after(e, i), 0, piece_of_leaf(e, after(e, i)));
        mdl_build_recv(e->b, before(e, i), 0, received(e, (uint32_t)before(e, i), &first));
    }
    mdl_fold(e, dst, (uint32_t)e->n, received, &first, MDL_INST_FINAL | mdl_tree(e));
}

static void allreduce(struct mdl_emit *e)
{
    struct mdl_ref out = mdl_out(e, e->rank, 0);
    reduce_scatter(e, part(out, e->rank));
    for (int i = 1; i < e->n; i++) {
        mdl_build_send(e->b, after(e, i), 0, part(out, e->rank));
        mdl_build_recv(e->b, before(e, i), 0, part(out, before(e, i)));
    }
}

static void reduce(struct mdl_emit *e)
{
    int root = e->c->root;
    uint32_t slot = mdl_builder_scratch(e->b, 1);
    if (e->rank != root) {
        struct mdl_ref sum = part(mdl_scratch(e, e->rank, false, slot, 0), e->rank);
        reduce_scatter(e, sum);
        mdl_build_send(e->b, root, 0, sum);
        return;
    }
    struct mdl_ref out = mdl_out(e, root, 0);
    reduce_scatter(e, part(out, root));
    for (int i = 1; i < e->n; i++) mdl_build_recv(e->b, after(e, i), 0, part(out, after(e, i)));
}

/* ---- movement ---- */

static void copy_own(const struct mdl_emit *e, uint32_t out_slot, uint32_t in_slot)
{
    mdl_build_copy(e->b, mdl_out(e, e->rank, out_slot), mdl_in(e, e->rank, in_slot), 0);
}

static void allgather(struct mdl_emit *e)
{
    copy_own(e, (uint32_t)e->rank, 0);
    for (int i = 1; i < e->n; i++) {
        mdl_build_send(e->b, after(e, i), 0, mdl_in(e, e->rank, 0));
        mdl_build_recv(e->b, before(e, i), 0, mdl_out(e, e->rank, (uint32_t)before(e, i)));
    }
}

static void alltoall_apart(struct mdl_emit *e)
{
    copy_own(e, (uint32_t)e->rank, (uint32_t)e->rank);
    for (int i = 1; i < e->n; i++) {
        mdl_build_send(e->b, after(e, i), 0, mdl_in(e, e->rank, (uint32_t)after(e, i)));
        mdl_build_recv(e->b, before(e, i), 0, mdl_out(e, e->rank, (uint32_t)before(e, i)));
    }
}

/* In place, what comes from a rank lands where the data for it lies. So partners exchange (in step i those whose
 * numbers add up to i), the block comes into SCRATCH, and the builder lets it replace the one that has been sent. */
static void alltoall_staged(struct mdl_emit *e)
{
    uint32_t first = mdl_builder_scratch(e->b, STAGES);
    copy_own(e, (uint32_t)e->rank, (uint32_t)e->rank);
    for (int i = 0, used = 0; i < e->n; i++) {
        int q = (i - e->rank + e->n) % e->n;
        if (q == e->rank) continue;
        struct mdl_ref stage = mdl_scratch(e, e->rank, false, first + (uint32_t)(used++ % STAGES), (uint32_t)q);
        mdl_build_send(e->b, q, 0, mdl_in(e, e->rank, (uint32_t)q));
        mdl_build_recv(e->b, q, 0, stage);
        mdl_build_copy(e->b, mdl_out(e, e->rank, (uint32_t)q), stage, 0);
    }
}

static void gather(struct mdl_emit *e)
{
    int root = e->c->root;
    if (e->rank != root) {
        mdl_build_send(e->b, root, 0, mdl_in(e, e->rank, 0));
        return;
    }
    copy_own(e, (uint32_t)root, 0);
    for (int i = 1; i < e->n; i++) mdl_build_recv(e->b, after(e, i), 0, mdl_out(e, root, (uint32_t)after(e, i)));
}

static void scatter(struct mdl_emit *e)
{
    int root = e->c->root;
    if (e->rank != root) {
        mdl_build_recv(e->b, root, 0, mdl_out(e, e->rank, 0));
        return;
    }
    for (int i = 1; i < e->n; i++) mdl_build_send(e->b, after(e, i), 0, mdl_in(e, root, (uint32_t)after(e, i)));
    copy_own(e, 0, (uint32_t)root);
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, parts(team, c))) return;
    mdl_leaf_prepare(&e);
    switch (c->coll) {
    case medleyCollAllReduce: allreduce(&e); break;
    case medleyCollReduce: reduce(&e); break;
    case medleyCollReduceScatter:
    case medleyCollReduceScatterV: reduce_scatter(&e, mdl_out(&e, rank, 0)); break;
    case medleyCollAllGather:
    case medleyCollAllGatherV: allgather(&e); break;
    case medleyCollAlltoAll: c->facts.apart ? alltoall_apart(&e) : alltoall_staged(&e); break;
    case medleyCollAlltoAllV: alltoall_apart(&e); break;
    case medleyCollGather: gather(&e); break;
    default: scatter(&e); break;
    }
}

const struct mdl_algo mdl_algo_pairwise = {
    .name = "pairwise",
    .colls = MDL_COLL(AllReduce) | MDL_COLL(Reduce) | MDL_COLL(AllGather) | MDL_COLL(ReduceScatter) |
             MDL_COLL(AlltoAll) | MDL_COLL(Gather) | MDL_COLL(Scatter) | MDL_COLL(AllGatherV) |
             MDL_COLL(ReduceScatterV) | MDL_COLL(AlltoAllV),
    .fits = fits,
    .build = build,
    .parts = parts,
};
