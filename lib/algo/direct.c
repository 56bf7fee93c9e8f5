/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct: ranks of one host read each other's IN where it lies, through a mapping or by single copy.
 *
 * Each input byte is read once and each output byte written once; an all-reduce reads n inputs in one pass. Its results
 * are written into mapped OUTs, else read from OUT, else left in SCRATCH. AlltoAll in place would overwrite what peers
 * still read, so that it needs the fact that nobody is in place. AlltoAllV is not here: displacements are private.
 */
#include "config.h"
#include "lib/algo/share.h"

static bool reads_in(const struct mdl_team *team, const struct mdl_collective *c)
{
    return c->facts.in_mapped || team->remote_get;
}

static bool fits(const struct mdl_team *team, const struct mdl_collective *c)
{
    if (team->nranks == 1) return true;
    if (team->nhosts != 1 || c->premul) return false;
    switch (c->coll) {
    case medleyCollAllReduce:
    case medleyCollReduce: return reads_in(team, c) && (team->remote_scratch || c->facts.out_mapped);
    case medleyCollAlltoAll: return reads_in(team, c) && c->facts.apart;
    case medleyCollGather: return reads_in(team, c) || c->facts.out_mapped;
    default: return reads_in(team, c);
    }
}

static enum mdl_share_results results(const struct mdl_team *team, const struct mdl_collective *c)
{
    if (c->facts.out_mapped) return MDL_SHARE_PUT;
    return team->remote_get && c->coll != medleyCollReduce ? MDL_SHARE_GET : MDL_SHARE_STAGE;
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, mdl_share_parts(team, c))) return;
    struct mdl_share sh = {.results = results(team, c)};
    mdl_share_build(&e, &sh);
}

const struct mdl_algo mdl_algo_direct = {
    .name = "direct",
    .colls = MDL_COLL(AllReduce) | MDL_COLL(Reduce) | MDL_COLL(Broadcast) | MDL_COLL(AllGather) |
             MDL_COLL(ReduceScatter) | MDL_COLL(AlltoAll) | MDL_COLL(Gather) | MDL_COLL(Scatter) |
             MDL_COLL(AllGatherV) | MDL_COLL(ReduceScatterV),
    .fits = fits,
    .build = build,
    .parts = mdl_share_parts,
};
