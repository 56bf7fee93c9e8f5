/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two levels: inside a host, and across hosts. What the parts of the two-level algorithm share.
 *
 * A slot is cut into SHARES, as many as the largest host has ranks, and on every host share i belongs to the local rank
 * i mod (size of the host): its OWNER. The owners of one share form a line with one rank of each host; across hosts
 * data moves only along these lines, so that each byte crosses once however the ranks lie, every rank of a host works
 * on the network, and hosts of any sizes fit together. With slots in place of shares the slot of rank q belongs on each
 * host to the local rank that has q's local number, modulo the size: its DELEGATE.
 *
 * Inside a host, ranks read each other's SCRATCH, or send messages where no memory is shared. Which of the two is the
 * same on all hosts, and nothing depends on the facts of a call, which each host knows only for itself.
 */
#ifndef MDL_ALGO_LEVELS_H_
#define MDL_ALGO_LEVELS_H_

#include "lib/algo/common.h"

struct mdl_levels {
    int host, me, size; /* this rank's host, its number there, the host's ranks */
    int hosts, shares;
    uint32_t pieces; /* parts of a share: what a rank of its line finishes is a piece */
    bool alone;      /* the only rank of its host */
    bool near;       /* reads its mates' SCRATCH */
    bool flat;       /* along a line everyone sends to everyone, else recursive halving and doubling */
};

struct mdl_levels mdl_levels_of(const struct mdl_emit *e);
struct mdl_levels mdl_levels_at(const struct mdl_emit *e, int host); /* as a rank of that host sees it; `me` is 0 */
uint32_t mdl_levels_parts(const struct mdl_team *team, const struct mdl_collective *c);

int mdl_levels_owner(const struct mdl_emit *e, int host, int share);
int mdl_levels_delegate(const struct mdl_emit *e, int host, int rank);
static inline bool mdl_levels_owns(const struct mdl_levels *l, int share) { return share % l->size == l->me; }

/* The parts of share i of a slot. */
static inline struct mdl_ref mdl_levels_share(const struct mdl_levels *l, struct mdl_ref r, int share)
{
    return mdl_cut(r, (uint32_t)share * l->pieces, ((uint32_t)share + 1) * l->pieces);
}

/* Mate i of this rank's host, i from 0; it may be this rank. */
static inline int mdl_levels_mate(const struct mdl_emit *e, int i)
{
    return e->team->members[e->team->host[e->rank]][i];
}

/* The most slots of SCRATCH that a rank needs, from the shapes of all hosts; without PreMulSum's products. */
uint32_t mdl_levels_slots(const struct mdl_emit *e);

void mdl_levels_allreduce(struct mdl_emit *e);
void mdl_levels_reduce(struct mdl_emit *e);
void mdl_levels_reduce_scatter(struct mdl_emit *e);
void mdl_levels_broadcast(struct mdl_emit *e);
void mdl_levels_allgather(struct mdl_emit *e);

#endif
