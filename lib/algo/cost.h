/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a call will cost: the plans of a few ranks, walked on the team's described speeds.
 *
 * A SAMPLE of ranks is built: all of a small team; of a larger one some neighbours, the last rank, and whoever is
 * waited for along the way (the path from a tree's root to its deepest leaf). What comes from a rank outside the sample
 * is mirrored: the j-th receive is taken to come when this rank makes its own j-th send, because ranks of rings,
 * exchanges and dissemination do the same things at the same time. So thousands of ranks cost what a dozen do.
 *
 * One window is walked, event by event; others follow it as fast as the busiest processor or link lets them, `depth` of
 * them at a time. All arithmetic is in integers (picoseconds): every machine computes the same.
 */
#ifndef MDL_ALGO_COST_H_
#define MDL_ALGO_COST_H_

#include "lib/plan/plan.h"

enum { MDL_COST_SAMPLE = 256, MDL_COST_NONE = UINT32_MAX };

/* Everything that does not depend on the window. An instruction's number counts through all plans of the sample. */
struct mdl_cost {
    const struct mdl_team *team;
    struct mdl_collective c;               /* V collectives: with a count of their own, the same on every rank */
    uint32_t nranks;                       /* of the sample */
    uint32_t host[MDL_COST_SAMPLE], hosts; /* the hosts of the sample are numbered again */
    struct {
        uint32_t sampled, size; /* ranks of it in the sample; in all */
    } at[MDL_COST_SAMPLE];
    bool alike; /* all ranks of a host talk to other hosts, not only a few */
    int rank[MDL_COST_SAMPLE];
    struct mdl_plan *plan[MDL_COST_SAMPLE];
    uint32_t first[MDL_COST_SAMPLE + 1];
    uint32_t *users, *user;   /* whom an instruction blocks: users[user[i] .. user[i + 1]) */
    uint32_t *feeds, *mirror; /* of a SEND or SIGNAL: the RECV or WAIT that it ends; the one of its own rank that it
                                 stands for */
    bool *fed;                /* RECV and WAIT: ended by one of these; the others come at once */
    /* the largest of the sample */
    uint32_t flags, channels, scratch_slots;
};

/* NULL: out of memory, or a bug in the algorithm (reported). */
struct mdl_cost *mdl_cost_new(const struct mdl_team *team, const struct mdl_collective *c, const struct mdl_algo *algo);
void mdl_cost_free(struct mdl_cost *cost);

/* Predicted nanoseconds with windows of `window` elements. UINT64_MAX: out of memory. */
uint64_t mdl_cost_walk(const struct mdl_cost *cost, size_t window, uint32_t depth);

/* Elements per slot that V collectives are taken to have, whose counts nobody knows. */
size_t mdl_cost_count(const struct mdl_collective *c);

#endif
