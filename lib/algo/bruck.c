/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bruck: all-gather and all-to-all in log2(n) rounds, for any n, at the price of copies: for small blocks.
 *
 * Both work in SCRATCH, where block i belongs to rank r + i, so that rounds are the same on every rank. All-gather: a
 * rank sends all it has to the rank d before it and doubles what it has, d = 1, 2, 4 ... All-to-all: block i has to
 * travel i ranks ahead; the round with distance d moves the blocks whose number has that bit, packed into one message.
 */
#include "config.h"
#include "lib/algo/common.h"

static bool fits(const struct mdl_team *team, const struct mdl_collective *c) { return team->nranks <= UINT16_MAX; }

static struct mdl_ref slots(const struct mdl_emit *e, enum mdl_buffer buf, uint32_t first, uint32_t n)
{
    return mdl_ref_slots(e->b, e->rank, buf, false, first, n);
}

static int ahead(const struct mdl_emit *e, int d) { return (e->rank + d) % e->n; }
static int behind(const struct mdl_emit *e, int d) { return (e->rank - d + e->n) % e->n; }

static void allgather(struct mdl_emit *e)
{
    uint32_t n = (uint32_t)e->n, r = (uint32_t)e->rank, all = mdl_builder_scratch(e->b, n);
    mdl_build_copy(e->b, slots(e, MDL_SCRATCH, all, 1), mdl_in(e, e->rank, 0), 0);
    for (uint32_t d = 1; d < n; d *= 2) {
        uint32_t count = d < n - d ? d : n - d;
        mdl_build_send(e->b, behind(e, (int)d), 0, slots(e, MDL_SCRATCH, all, count));
        mdl_build_recv(e->b, ahead(e, (int)d), 0, slots(e, MDL_SCRATCH, all + d, count));
    }
    mdl_build_copy(e->b, slots(e, MDL_OUT, r, n - r), slots(e, MDL_SCRATCH, all, n - r), 0);
    if (r) mdl_build_copy(e->b, slots(e, MDL_OUT, 0, r), slots(e, MDL_SCRATCH, all + n - r, r), 0);
}

/* The blocks from `all` on that have bit d, to or from the packed ones. Returns how many. */
static uint32_t pack(struct mdl_emit *e, uint32_t all, uint32_t packed, uint32_t d, bool out)
{
    uint32_t n = (uint32_t)e->n, count = 0;
    for (uint32_t i = d; i < n; i += 2 * d) {
        uint32_t run = i + d < n ? d : n - i;
        struct mdl_ref block = slots(e, MDL_SCRATCH, all + i, run), to = slots(e, MDL_SCRATCH, packed + count, run);
        mdl_build_copy(e->b, out ? to : block, out ? block : to, 0);
        count += run;
    }
    return count;
}

static void alltoall(struct mdl_emit *e)
{
    uint32_t n = (uint32_t)e->n, r = (uint32_t)e->rank, most = n / 2 + 1;
    uint32_t all = mdl_builder_scratch(e->b, n), sent = mdl_builder_scratch(e->b, most),
             got = mdl_builder_scratch(e->b, most);
    mdl_build_copy(e->b, slots(e, MDL_SCRATCH, all, n - r), slots(e, MDL_IN, r, n - r), 0);
    if (r) mdl_build_copy(e->b, slots(e, MDL_SCRATCH, all + n - r, r), slots(e, MDL_IN, 0, r), 0);
    for (uint32_t d = 1; d < n; d *= 2) {
        uint32_t count = pack(e, all, sent, d, true);
        mdl_build_send(e->b, ahead(e, (int)d), 0, slots(e, MDL_SCRATCH, sent, count));
        mdl_build_recv(e->b, behind(e, (int)d), 0, slots(e, MDL_SCRATCH, got, count));
        pack(e, all, got, d, false);
    }
    for (uint32_t i = 0; i < n; i++)
        mdl_build_copy(e->b, mdl_out(e, e->rank, (uint32_t)behind(e, (int)i)), slots(e, MDL_SCRATCH, all + i, 1), 0);
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, 1)) return;
    mdl_builder_whole(b);
    c->coll == medleyCollAllGather ? allgather(&e) : alltoall(&e);
}

const struct mdl_algo mdl_algo_bruck = {
    .name = "bruck",
    .colls = MDL_COLL(AllGather) | MDL_COLL(AlltoAll),
    .fits = fits,
    .build = build,
};
