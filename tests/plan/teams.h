/* SPDX-License-Identifier: Apache-2.0 */
/* Teams for the plan tests: n ranks spread over hosts in the ways that break algorithms. */
#ifndef MDL_TESTS_PLAN_TEAMS_H_
#define MDL_TESTS_PLAN_TEAMS_H_

#include "lib/plan/plan.h"

enum placement {
    PLACE_ONE,         /* one host */
    PLACE_TWO,         /* two hosts, the first half on the first */
    PLACE_INTERLEAVED, /* two hosts in turn */
    PLACE_UNEVEN,      /* hosts of 1, 2, 3 ... ranks */
    PLACE_EIGHTS,      /* hosts of 8 ranks, the last one smaller */
    PLACE_SCATTERED,   /* three hosts by a seeded draw */
    PLACE_APART,       /* every rank has a host of its own */
    PLACEMENTS
};

struct team {
    struct mdl_team t;
    int *host, *local, *size, *rank_of, **members;
};

/* A team with shared memory on; every speed is set to something plausible. */
struct team *team_new(int nranks, enum placement placement);
/* host_of[nranks]: any numbers; they are renumbered in order of their lowest rank. */
struct team *team_from(int nranks, const int *host_of);
void team_free(struct team *team);
const char *placement_name(enum placement placement);

#endif
