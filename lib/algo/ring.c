/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring: every rank talks to its two neighbours only, in the order of hosts, so that each host has one link in and one
 * out.
 *
 * All-reduce cuts a slot into n parts: part p starts at rank p + 1, collects each rank's input on its way around and
 * ends at rank p, which finishes it; then the finished parts go around once more. Reduce-scatter is the first half with
 * slots for parts, all-gather the second. Broadcast and reduce are chains, and windows keep all their links busy.
 */
#include "config.h"
#include "lib/algo/ring.h"

static bool fits(const struct mdl_team *team, const struct mdl_collective *c)
{
    return team->nranks == 1 || !c->deterministic || !mdl_collective_reduces(c);
}

static uint32_t parts(const struct mdl_team *team, const struct mdl_collective *c)
{
    return c->coll == medleyCollAllReduce ? (uint32_t)team->nranks : 1;
}

static struct mdl_ref part_of_leaf(const struct mdl_emit *e, int position, const void *arg)
{
    return mdl_cut(mdl_leaf(e, 0), (uint32_t)position, (uint32_t)position + 1);
}

static struct mdl_ref part_of_out(const struct mdl_emit *e, int position, const void *arg)
{
    return mdl_cut(mdl_out(e, e->rank, 0), (uint32_t)position, (uint32_t)position + 1);
}

static struct mdl_ref slot_of_leaf(const struct mdl_emit *e, int position, const void *arg)
{
    return mdl_leaf(e, (uint32_t)mdl_order_rank(e, position));
}

static struct mdl_ref slot_of_out(const struct mdl_emit *e, int position, const void *arg)
{
    return mdl_out(e, e->rank, (uint32_t)mdl_order_rank(e, position));
}

static struct mdl_ref only_out(const struct mdl_emit *e, int position, const void *arg)
{
    return mdl_out(e, e->rank, 0);
}

/* Position in a chain that begins at v = 0; the root is its first rank (broadcast) or its last (reduce). */
struct chain {
    int v, before, after; /* ranks; -1: none */
};

static struct chain chain_of(const struct mdl_emit *e, int first)
{
    int at = mdl_order_position(e, e->rank), v = (at - first + e->n) % e->n;
    return (struct chain){v, v ? mdl_order_rank(e, (at + e->n - 1) % e->n) : -1,
                          v < e->n - 1 ? mdl_order_rank(e, (at + 1) % e->n) : -1};
}

static void broadcast(struct mdl_emit *e)
{
    struct chain ch = chain_of(e, mdl_order_position(e, e->c->root));
    struct mdl_ref out = mdl_out(e, e->rank, 0);
    if (ch.before >= 0) {
        mdl_build_recv(e->b, ch.before, 0, out);
        if (ch.after >= 0) mdl_build_send(e->b, ch.after, 0, out);
        return;
    }
    mdl_build_send(e->b, ch.after, 0, mdl_in(e, e->rank, 0));
    mdl_build_copy(e->b, out, mdl_in(e, e->rank, 0), 0);
}

static void reduce(struct mdl_emit *e)
{
    struct chain ch = chain_of(e, (mdl_order_position(e, e->c->root) + 1) % e->n);
    struct mdl_ref leaf = mdl_leaf(e, 0);
    uint32_t slot = mdl_builder_scratch(e->b, 2);
    if (ch.before < 0) {
        mdl_build_send(e->b, ch.after, 0, leaf);
        return;
    }
    bool acc = ch.v > 1 || mdl_leaf_acc(e);
    struct mdl_ref got = mdl_scratch(e, e->rank, acc, slot, 0);
    mdl_build_recv(e->b, ch.before, 0, got);
    if (ch.after < 0) {
        mdl_fold2(e, mdl_out(e, e->rank, 0), got, leaf, MDL_INST_FINAL);
        return;
    }
    struct mdl_ref sum = mdl_scratch(e, e->rank, true, slot + 1, 0);
    mdl_fold2(e, sum, got, leaf, 0);
    mdl_build_send(e->b, ch.after, 0, sum);
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, parts(team, c))) return;
    mdl_leaf_prepare(&e);
    struct mdl_ring ring = {.line = mdl_line_all(&e)};
    switch (c->coll) {
    case medleyCollAllReduce:
        ring.input = part_of_leaf;
        ring.result = ring.output = part_of_out;
        mdl_ring_reduce_scatter(&e, &ring);
        mdl_ring_allgather(&e, &ring);
        break;
    case medleyCollReduceScatter:
    case medleyCollReduceScatterV:
        ring.input = slot_of_leaf;
        ring.result = only_out;
        mdl_ring_reduce_scatter(&e, &ring);
        break;
    case medleyCollAllGather:
    case medleyCollAllGatherV:
        ring.output = slot_of_out;
        mdl_build_copy(b, mdl_out(&e, rank, (uint32_t)rank), mdl_in(&e, rank, 0), 0);
        mdl_ring_allgather(&e, &ring);
        break;
    case medleyCollBroadcast: broadcast(&e); break;
    default: reduce(&e); break;
    }
}

const struct mdl_algo mdl_algo_ring = {
    .name = "ring",
    .colls = MDL_COLL(AllReduce) | MDL_COLL(Reduce) | MDL_COLL(Broadcast) | MDL_COLL(AllGather) |
             MDL_COLL(ReduceScatter) | MDL_COLL(AllGatherV) | MDL_COLL(ReduceScatterV),
    .fits = fits,
    .build = build,
    .parts = parts,
};
