/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hier: two levels. Inside each host the ranks combine or share out what they have, across hosts one rank of each host
 * works on each share; levels.h has the idea.
 *
 * A deterministic reduction has to be the canonical tree on both levels: hosts hold consecutive ranks, the same power
 * of two of them each; only the last one may have fewer.
 */
#include "config.h"
#include "lib/algo/levels.h"
#include "lib/algo/power.h"

enum {
    MOST_SHARES = 32,
    FLAT_HOSTS = 4, /* up to here messages from everyone to everyone beat more steps */
    MOST_HEARD = 64
};

static bool is_canonical(const struct mdl_team *team)
{
    int size = team->host_size[0];
    if (!mdl_team_contiguous(team) || mdl_power_below(size) != size) return false;
    for (int h = 1; h < team->nhosts; h++)
        if (team->host_size[h] > size || (team->host_size[h] < size && h < team->nhosts - 1)) return false;
    return true;
}

static bool fits(const struct mdl_team *team, const struct mdl_collective *c)
{
    if (team->nhosts < 2 || team->nhosts == team->nranks) return team->nranks == 1;
    return !c->deterministic || !mdl_collective_reduces(c) || is_canonical(team);
}

static int shares_of(const struct mdl_team *team)
{
    int largest = mdl_team_largest_host(team);
    return largest < MOST_SHARES ? largest : MOST_SHARES;
}

static bool is_flat(const struct mdl_team *team, const struct mdl_collective *c)
{
    return c->deterministic || team->nhosts <= FLAT_HOSTS;
}

static uint32_t pieces_of(const struct mdl_team *team, const struct mdl_collective *c)
{
    if (c->coll != medleyCollAllReduce && c->coll != medleyCollReduce) return 1;
    return (uint32_t)(is_flat(team, c) ? team->nhosts : mdl_power_below(team->nhosts));
}

uint32_t mdl_levels_parts(const struct mdl_team *team, const struct mdl_collective *c)
{
    bool shared = c->coll == medleyCollAllReduce || c->coll == medleyCollReduce || c->coll == medleyCollBroadcast;
    return shared ? (uint32_t)shares_of(team) * pieces_of(team, c) : 1;
}

struct mdl_levels mdl_levels_at(const struct mdl_emit *e, int host)
{
    struct mdl_levels l = {.host = host, .size = e->team->host_size[host], .hosts = e->team->nhosts};
    l.shares = shares_of(e->team);
    l.pieces = pieces_of(e->team, e->c);
    l.alone = l.size == 1;
    l.near = e->team->remote_scratch && !l.alone;
    l.flat = is_flat(e->team, e->c);
    return l;
}

struct mdl_levels mdl_levels_of(const struct mdl_emit *e)
{
    struct mdl_levels l = mdl_levels_at(e, e->team->host[e->rank]);
    l.me = e->team->local[e->rank];
    return l;
}

int mdl_levels_owner(const struct mdl_emit *e, int host, int share)
{
    return e->team->members[host][share % e->team->host_size[host]];
}

int mdl_levels_delegate(const struct mdl_emit *e, int host, int rank)
{
    return mdl_levels_owner(e, host, e->team->local[rank]);
}

/* ---- SCRATCH: as much on every rank as the one needs that needs most ---- */

/* Ranks of other hosts, and of its own, whose delegate the first rank of a host is. */
static uint32_t charges_of(const struct mdl_emit *e, const struct mdl_levels *l)
{
    uint32_t n = 0;
    for (int h = 0; h < l->hosts; h++) n += (uint32_t)((e->team->host_size[h] + l->size - 1) / l->size);
    return n;
}

static uint32_t slots_of_shares(const struct mdl_emit *e, const struct mdl_levels *l)
{
    uint32_t size = (uint32_t)l->size, hosts = (uint32_t)l->hosts, owned = ((uint32_t)l->shares + size - 1) / size;
    uint32_t inside = l->alone ? 0 : 1 + (l->near ? !e->c->premul : size - 1);
    uint32_t line = l->flat ? hosts - 1 + mdl_fold_slots(hosts, mdl_tree(e)) : mdl_power_slots(l->hosts);
    return inside + 1 + owned * (line + mdl_fold_slots(size, mdl_tree(e)));
}

static uint32_t slots_of_blocks(const struct mdl_emit *e, const struct mdl_levels *l)
{
    uint32_t size = (uint32_t)l->size, hosts = (uint32_t)l->hosts, charges = charges_of(e, l);
    uint32_t inside = l->near ? (e->c->premul ? 0 : (uint32_t)e->n) : charges * (size - 1);
    if (!l->alone) inside += charges * (1 + mdl_fold_slots(size, mdl_tree(e)));
    return inside + 1 + hosts - 1 + mdl_fold_slots(hosts, mdl_tree(e));
}

uint32_t mdl_levels_slots(const struct mdl_emit *e)
{
    uint32_t most = 1;
    for (int h = 0; h < e->team->nhosts; h++) {
        struct mdl_levels l = mdl_levels_at(e, h);
        uint32_t slots = l.near ? charges_of(e, &l) : 0; /* all-gather: what it receives, and its own */
        if (e->c->coll == medleyCollAllReduce || e->c->coll == medleyCollReduce) slots = slots_of_shares(e, &l);
        if (e->c->coll == medleyCollReduceScatter || e->c->coll == medleyCollReduceScatterV)
            slots = slots_of_blocks(e, &l);
        if (e->c->coll == medleyCollBroadcast) slots = 1;
        if (slots > most) most = slots;
    }
    return most;
}

/* ---- barrier: up a tree inside each host, dissemination among the first ranks, down the trees ---- */

struct heard {
    uint32_t inst[MOST_HEARD], n;
};

static void up(struct mdl_emit *e, const struct mdl_levels *l, struct heard *heard)
{
    for (int d = 1; d < l->size; d *= 2) {
        if (l->me & d) {
            mdl_tell(e, mdl_levels_mate(e, l->me - d), heard->inst, heard->n);
            return;
        }
        if (l->me + d < l->size) heard->inst[heard->n++] = mdl_hear(e, mdl_levels_mate(e, l->me + d));
    }
}

static void across(struct mdl_emit *e, const struct mdl_levels *l, struct heard *heard)
{
    for (int64_t d = 1; d < l->hosts; d *= 2) {
        mdl_tell(e, e->team->members[(l->host + d) % l->hosts][0], heard->inst, heard->n);
        heard->inst[heard->n++] = mdl_hear(e, e->team->members[(l->host - d + l->hosts) % l->hosts][0]);
    }
}

static void down(struct mdl_emit *e, const struct mdl_levels *l, struct heard *heard)
{
    int d = 1;
    while (d < l->size && !(l->me & d)) d *= 2;
    if (l->me) heard->inst[heard->n++] = mdl_hear(e, mdl_levels_mate(e, l->me - d));
    for (d /= 2; d; d /= 2)
        if (l->me + d < l->size) mdl_tell(e, mdl_levels_mate(e, l->me + d), heard->inst, heard->n);
}

static void barrier(struct mdl_emit *e)
{
    struct mdl_levels l = mdl_levels_of(e);
    struct heard heard = {.n = 0};
    up(e, &l, &heard);
    if (l.me == 0) across(e, &l, &heard);
    down(e, &l, &heard);
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, mdl_levels_parts(team, c))) return;
    mdl_leaf_prepare(&e);
    uint32_t from = mdl_scratch_used(&e);
    switch (c->coll) {
    case medleyCollAllReduce: mdl_levels_allreduce(&e); break;
    case medleyCollReduce: mdl_levels_reduce(&e); break;
    case medleyCollReduceScatter:
    case medleyCollReduceScatterV: mdl_levels_reduce_scatter(&e); break;
    case medleyCollBroadcast: mdl_levels_broadcast(&e); break;
    case medleyCollAllGather:
    case medleyCollAllGatherV: mdl_levels_allgather(&e); break;
    default: barrier(&e); return;
    }
    mdl_scratch_fill(&e, from, mdl_levels_slots(&e));
}

const struct mdl_algo mdl_algo_hier = {
    .name = "hier",
    .colls = MDL_COLL(AllReduce) | MDL_COLL(Reduce) | MDL_COLL(Broadcast) | MDL_COLL(AllGather) |
             MDL_COLL(ReduceScatter) | MDL_COLL(Barrier) | MDL_COLL(AllGatherV) | MDL_COLL(ReduceScatterV),
    .fits = fits,
    .build = build,
    .parts = mdl_levels_parts,
};
