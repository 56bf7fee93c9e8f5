/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staged: ranks of one host read each other's SCRATCH, which needs no mapping of user memory.
 *
 * Every rank copies its input into SCRATCH window by window; peers read it from there, and results of a split reduction
 * go the same way. AlltoAllV is not here: a rank does not know how long the peers' staged slots are.
 */
#include "config.h"
#include "lib/algo/share.h"

static bool fits(const struct mdl_team *team, const struct mdl_collective *c)
{
    return team->nranks == 1 || (team->nhosts == 1 && team->remote_scratch);
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, mdl_share_parts(team, c))) return;
    struct mdl_share sh = {.stage = true, .results = MDL_SHARE_STAGE};
    mdl_share_build(&e, &sh);
}

const struct mdl_algo mdl_algo_staged = {
    .name = "staged",
    .colls = MDL_COLL(AllReduce) | MDL_COLL(Reduce) | MDL_COLL(Broadcast) | MDL_COLL(AllGather) |
             MDL_COLL(ReduceScatter) | MDL_COLL(AlltoAll) | MDL_COLL(Gather) | MDL_COLL(Scatter) |
             MDL_COLL(AllGatherV) | MDL_COLL(ReduceScatterV),
    .fits = fits,
    .build = build,
    .parts = mdl_share_parts,
};
