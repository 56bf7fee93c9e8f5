/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The team: who is where and how fast, computed from what all ranks gathered. A pure function of gathered facts, so
 * that every rank computes the same.
 */
#ifndef MDL_TOPO_TEAM_H_
#define MDL_TOPO_TEAM_H_

#include "lib/base/status.h"
#include <stdbool.h>
#include <stdint.h>

/* Who is where: the same on every rank. host[r] are numbered 0.. in order of their lowest rank. */
struct mdl_team {
    int nranks, nhosts;
    const int *host;           /* [nranks] */
    const int *local;          /* [nranks] number among the ranks of its host, in rank order */
    const int *host_size;      /* [nhosts] */
    const int *const *members; /* [nhosts][host_size] ranks, in order */
    bool remote_scratch;       /* all ranks of each host can address each other's SCRATCH (shared memory is on) */
    bool remote_get;           /* ... can read each other's ordinary memory (single copy) */
    /* speed, for the cost walk: nanoseconds, and picoseconds per byte */
    uint32_t local_alpha, local_beta, net_alpha, net_beta, copy_beta, reduce_beta, cores;
    uint32_t get_beta; /* single copy */
    uint32_t rails;    /* independent network links per host */
};

/* What one rank says about itself and about its reach to each peer. */
struct mdl_team_facts {
    uint32_t cores;      /* processors that its process may use */
    uint32_t net_mbps;   /* fastest usable interface, 0: unknown */
    uint32_t rails;      /* usable interfaces */
    const uint8_t *near; /* [nranks] enum mdl_near bits: what it can do with each peer of its host */
};

enum mdl_near { MDL_NEAR_SEND = 1, MDL_NEAR_MAP = 2, MDL_NEAR_GET = 4 };

/* Groups ranks into hosts: ranks that reach each other (both ways, all pairs) by the same-host transport. Owns its
 * arrays; mdl_team_free. */
medleyResult_t mdl_team_make(int nranks, const struct mdl_team_facts *facts, struct mdl_team **team) MDL_MUST_USE;
void mdl_team_free(struct mdl_team *team);

#endif
