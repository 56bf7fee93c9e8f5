/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives of one host by reading each other's memory; see share.h. */
#include "config.h"
#include "lib/algo/share.h"

uint32_t mdl_share_parts(const struct mdl_team *team, const struct mdl_collective *c)
{
    bool split = c->coll == medleyCollAllReduce || c->coll == medleyCollReduce;
    return split ? (uint32_t)team->nranks : 1;
}

/* ---- inputs ---- */

/* Slot `slot` of the input of rank q, as this rank reads it. */
static struct mdl_ref input(const struct mdl_emit *e, const struct mdl_share *sh, int q, uint32_t slot)
{
    if (q == e->rank) return mdl_leaf(e, slot);
    struct mdl_ref in = mdl_in(e, q, slot);
    if (e->c->premul) return mdl_scratch(e, q, true, e->leaf + slot, in.shape);
    return sh->stage ? mdl_scratch(e, q, false, sh->input + slot, in.shape) : in;
}

static void stage_slot(const struct mdl_emit *e, const struct mdl_share *sh, uint32_t slot)
{
    if (!sh->stage || e->c->premul) return;
    struct mdl_ref in = mdl_in(e, e->rank, slot);
    mdl_build_copy(e->b, mdl_scratch(e, e->rank, false, sh->input + slot, in.shape), in, 0);
}

static void stage_packed(const struct mdl_emit *e, const struct mdl_share *sh)
{
    struct mdl_ref dst = mdl_ref_slots(e->b, e->rank, MDL_SCRATCH, false, sh->input, e->in_slots);
    mdl_build_copy(e->b, dst, mdl_ref_slots(e->b, e->rank, MDL_IN, false, 0, e->in_slots), 0);
}

/* Stages every slot. On a small host each peer is told as soon as its slot is there. */
static void announce_slots(struct mdl_emit *e, const struct mdl_share *sh)
{
    bool packed = sh->whole && !mdl_collective_reduces(e->c), each = mdl_host_is_small(e);
    if (!sh->stage) return;
    if (packed) stage_packed(e, sh);
    for (int i = 1; i < e->n; i++) {
        int q = mdl_host_peer(e, i);
        if (!packed) stage_slot(e, sh, (uint32_t)q);
        if (each) mdl_build_signal(e->b, q, 0);
    }
    if (each) return;
    if (e->c->coll == medleyCollScatter)
        mdl_host_from_root(e, e->c->root);
    else
        mdl_host_say(e);
}

/* Slot 0, the parts that other ranks reduce. */
static void stage_parts(const struct mdl_emit *e, const struct mdl_share *sh)
{
    if (!sh->stage || e->c->premul) return;
    struct mdl_ref in = mdl_in(e, e->rank, 0), to = mdl_scratch(e, e->rank, false, sh->input, in.shape);
    uint32_t own = (uint32_t)e->rank;
    if (own > 0) mdl_build_copy(e->b, mdl_cut(to, 0, own), mdl_cut(in, 0, own), 0);
    if (own + 1 < e->parts) mdl_build_copy(e->b, mdl_cut(to, own + 1, e->parts), mdl_cut(in, own + 1, e->parts), 0);
}

static void announce(struct mdl_emit *e, const struct mdl_share *sh)
{
    if (!sh->stage) return;
    stage_slot(e, sh, 0);
    mdl_host_say(e);
}

/* For a reduction that is split among the ranks. */
static void announce_parts(struct mdl_emit *e, const struct mdl_share *sh)
{
    if (!sh->stage) return;
    stage_parts(e, sh);
    mdl_host_say(e);
}

/* The next instruction may start when q has announced its input. */
static void await(struct mdl_emit *e, const struct mdl_share *sh, int q)
{
    if (sh->stage) mdl_host_after(e, mdl_host_hear(e, q));
}

static void await_all(struct mdl_emit *e, const struct mdl_share *sh)
{
    if (sh->stage) mdl_host_hear_all(e);
}

/* In one window of staged inputs nothing needs to be given back. */
static bool keeps(const struct mdl_share *sh) { return sh->stage && sh->whole; }

/* Everyone is done with everyone's memory. */
static void release(struct mdl_emit *e, const struct mdl_share *sh)
{
    if (!keeps(sh)) mdl_host_sync(e);
}

/* The root is done with everyone's; everyone is done with the root's. */
static void release_all(struct mdl_emit *e, const struct mdl_share *sh)
{
    if (!keeps(sh)) mdl_host_from_root(e, e->c->root);
}

static void release_root(struct mdl_emit *e, const struct mdl_share *sh)
{
    if (keeps(sh)) return;
    mdl_host_to_root(e, e->c->root);
    if (e->rank == e->c->root) mdl_host_hear_all(e);
}

/* Everyone stages slot 0 for the root. */
static void announce_to_root(struct mdl_emit *e, const struct mdl_share *sh)
{
    if (!sh->stage) return;
    if (e->rank != e->c->root) stage_slot(e, sh, 0);
    mdl_host_to_root(e, e->c->root);
}

/* ---- reductions ---- */

struct fold_arg {
    const struct mdl_share *sh;
    uint32_t slot, lo, hi;
};

static struct mdl_ref fold_source(const struct mdl_emit *e, uint32_t q, const void *arg)
{
    const struct fold_arg *a = arg;
    return mdl_cut(input(e, a->sh, (int)q, a->slot), a->lo, a->hi);
}

/* dst = the operation over slot `slot` of all ranks, in dst's parts. */
static void fold_all(struct mdl_emit *e, const struct mdl_share *sh, struct mdl_ref dst, uint32_t slot)
{
    struct fold_arg a = {sh, slot, dst.lo, dst.hi};
    mdl_fold(e, dst, (uint32_t)e->n, fold_source, &a, MDL_INST_FINAL | mdl_tree(e));
}

static struct mdl_ref result_at(const struct mdl_emit *e, const struct mdl_share *sh, int owner)
{
    struct mdl_ref r =
        sh->results == MDL_SHARE_GET ? mdl_out(e, owner, 0) : mdl_scratch(e, owner, false, sh->result, (uint32_t)owner);
    return mdl_cut(r, (uint32_t)owner, (uint32_t)owner + 1);
}

static struct mdl_ref out_part(const struct mdl_emit *e, int rank, int part)
{
    return mdl_cut(mdl_out(e, rank, 0), (uint32_t)part, (uint32_t)part + 1);
}

/* Each rank has its part in OUT of all: no peer reads it any more, so the signals that tell of the results are at once
 * those that release the inputs. */
static void allreduce_put(struct mdl_emit *e)
{
    for (int i = 1; i < e->n; i++)
        mdl_build_copy(e->b, out_part(e, mdl_host_peer(e, i), e->rank), out_part(e, e->rank, e->rank), 0);
    mdl_host_sync(e);
}

static void fetch_part(struct mdl_emit *e, const struct mdl_share *sh, int q)
{
    mdl_host_after(e, mdl_host_hear(e, q));
    mdl_build_copy(e->b, out_part(e, e->rank, q), result_at(e, sh, q), 0);
}

static void allreduce_get(struct mdl_emit *e, const struct mdl_share *sh)
{
    mdl_host_say(e);
    if (sh->results == MDL_SHARE_STAGE)
        mdl_build_copy(e->b, out_part(e, e->rank, e->rank), result_at(e, sh, e->rank), 0);
    for (int i = 1; i < e->n; i++) fetch_part(e, sh, mdl_host_peer(e, i));
    mdl_host_sync(e);
}

static void allreduce(struct mdl_emit *e, struct mdl_share *sh)
{
    if (sh->gather) {
        announce(e, sh);
        await_all(e, sh);
        fold_all(e, sh, mdl_out(e, e->rank, 0), 0);
        release(e, sh);
        return;
    }
    announce_parts(e, sh);
    await_all(e, sh);
    bool staged = sh->results == MDL_SHARE_STAGE;
    fold_all(e, sh, staged ? result_at(e, sh, e->rank) : out_part(e, e->rank, e->rank), 0);
    if (sh->results == MDL_SHARE_PUT)
        allreduce_put(e);
    else
        allreduce_get(e, sh);
}

/* The root alone reduces. */
static void reduce_gather(struct mdl_emit *e, struct mdl_share *sh)
{
    announce_to_root(e, sh);
    uint32_t from = mdl_scratch_used(e);
    if (e->rank == e->c->root) {
        await_all(e, sh);
        fold_all(e, sh, mdl_out(e, e->rank, 0), 0);
    }
    mdl_scratch_fill(e, from, mdl_fold_slots((uint32_t)e->n, mdl_tree(e)));
    release_all(e, sh);
}

/* Every rank reduces its part; all but the root into SCRATCH, from where it is put into the root's OUT or fetched. */
static void reduce(struct mdl_emit *e, struct mdl_share *sh)
{
    int root = e->c->root;
    bool put = sh->results == MDL_SHARE_PUT, fetch = !put && e->rank == root;
    announce_parts(e, sh);
    await_all(e, sh);
    fold_all(e, sh, e->rank == root ? out_part(e, root, root) : result_at(e, sh, e->rank), 0);
    if (put && e->rank != root) mdl_build_copy(e->b, out_part(e, root, e->rank), result_at(e, sh, e->rank), 0);
    mdl_host_say(e);
    for (int i = 1; i < e->n && fetch; i++) fetch_part(e, sh, mdl_host_peer(e, i));
    if (!fetch) mdl_host_hear_all(e);
    if (!put) mdl_host_from_root(e, root);
}

static void reduce_scatter(struct mdl_emit *e, struct mdl_share *sh)
{
    announce_slots(e, sh);
    await_all(e, sh);
    fold_all(e, sh, mdl_out(e, e->rank, 0), (uint32_t)e->rank);
    release(e, sh);
}

/* ---- movement ---- */

static void copy_own(const struct mdl_emit *e, uint32_t out_slot, uint32_t in_slot)
{
    mdl_build_copy(e->b, mdl_out(e, e->rank, out_slot), mdl_in(e, e->rank, in_slot), 0);
}

static void fetch(struct mdl_emit *e, const struct mdl_share *sh, uint32_t out_slot, int q, uint32_t in_slot)
{
    await(e, sh, q);
    mdl_build_copy(e->b, mdl_out(e, e->rank, out_slot), input(e, sh, q, in_slot), 0);
}

/* What every rank but the root does with the root's slot, after the root has announced it. */
static void fetch_from_root(struct mdl_emit *e, const struct mdl_share *sh, uint32_t in_slot)
{
    if (sh->stage) mdl_host_from_root(e, e->c->root);
    mdl_build_copy(e->b, mdl_out(e, e->rank, 0), input(e, sh, e->c->root, in_slot), 0);
}

static void broadcast(struct mdl_emit *e, struct mdl_share *sh)
{
    if (e->rank == e->c->root) {
        stage_slot(e, sh, 0);
        if (sh->stage) mdl_host_from_root(e, e->rank);
        copy_own(e, 0, 0);
    } else {
        fetch_from_root(e, sh, 0);
    }
    release_root(e, sh);
}

static void scatter(struct mdl_emit *e, struct mdl_share *sh)
{
    if (e->rank == e->c->root) {
        announce_slots(e, sh);
        copy_own(e, 0, (uint32_t)e->rank);
    } else {
        fetch_from_root(e, sh, (uint32_t)e->rank);
    }
    release_root(e, sh);
}

static void allgather(struct mdl_emit *e, struct mdl_share *sh)
{
    announce(e, sh);
    copy_own(e, (uint32_t)e->rank, 0);
    for (int i = 1; i < e->n; i++) {
        int q = mdl_host_peer(e, i);
        fetch(e, sh, (uint32_t)q, q, 0);
    }
    release(e, sh);
}

static void alltoall(struct mdl_emit *e, struct mdl_share *sh)
{
    announce_slots(e, sh);
    copy_own(e, (uint32_t)e->rank, (uint32_t)e->rank);
    for (int i = 1; i < e->n; i++) {
        int q = mdl_host_peer(e, i);
        fetch(e, sh, (uint32_t)q, q, (uint32_t)e->rank);
    }
    release(e, sh);
}

/* Many writers in place of one reader. */
static void gather_put(struct mdl_emit *e)
{
    int root = e->c->root;
    mdl_build_copy(e->b, mdl_out(e, root, (uint32_t)e->rank), mdl_in(e, e->rank, 0), 0);
    mdl_host_to_root(e, root);
    if (e->rank == root) mdl_host_hear_all(e);
}

static void gather(struct mdl_emit *e, struct mdl_share *sh)
{
    announce_to_root(e, sh);
    if (e->rank == e->c->root) {
        copy_own(e, (uint32_t)e->rank, 0);
        for (int i = 1; i < e->n; i++) {
            int q = mdl_host_peer(e, i);
            fetch(e, sh, (uint32_t)q, q, 0);
        }
    }
    release_all(e, sh);
}

void mdl_share_build(struct mdl_emit *e, struct mdl_share *sh)
{
    if (sh->whole) mdl_builder_whole(e->b);
    mdl_leaf_prepare(e);
    sh->stage = sh->stage || e->c->premul;
    if (sh->stage && !e->c->premul) sh->input = mdl_builder_scratch(e->b, e->in_slots);
    bool split = e->c->coll == medleyCollAllReduce || e->c->coll == medleyCollReduce;
    if (split && !sh->gather) sh->result = mdl_builder_scratch(e->b, 1);
    switch (e->c->coll) {
    case medleyCollAllReduce: allreduce(e, sh); break;
    case medleyCollReduce: sh->gather ? reduce_gather(e, sh) : reduce(e, sh); break;
    case medleyCollReduceScatter:
    case medleyCollReduceScatterV: reduce_scatter(e, sh); break;
    case medleyCollBroadcast: broadcast(e, sh); break;
    case medleyCollAllGather:
    case medleyCollAllGatherV: allgather(e, sh); break;
    case medleyCollAlltoAll: alltoall(e, sh); break;
    case medleyCollGather: sh->results == MDL_SHARE_PUT ? gather_put(e) : gather(e, sh); break;
    case medleyCollScatter: scatter(e, sh); break;
    default: mdl_host_sync(e); break; /* barrier */
    }
}
