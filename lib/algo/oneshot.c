/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oneshot: small messages of one host in one round of signals.
 *
 * Every rank puts its whole input into SCRATCH and signals; whoever needs a result reads all that it needs and computes
 * it itself. There is one window, so SCRATCH needs no release and nothing follows the first round. The price is that
 * every rank reads everything: for small payloads only.
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
    if (!mdl_emit_begin(&e, team, c, rank, b, 1)) return;
    struct mdl_share sh = {.stage = true, .whole = true, .gather = true, .results = MDL_SHARE_STAGE};
    mdl_share_build(&e, &sh);
}

const struct mdl_algo mdl_algo_oneshot = {
    .name = "oneshot",
    .colls = MDL_COLL(AllReduce) | MDL_COLL(Reduce) | MDL_COLL(Broadcast) | MDL_COLL(AllGather) |
             MDL_COLL(ReduceScatter) | MDL_COLL(AlltoAll) | MDL_COLL(Gather) | MDL_COLL(Scatter) | MDL_COLL(Barrier),
    .fits = fits,
    .build = build,
};
