/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs all ranks' plans of one call on real buffers, in one thread, and compares with a plain reference.
 *
 * The order of everything that the contract leaves open is drawn from the seed: which rank goes on, which ready
 * instruction runs, whether a SEND is eager or a rendezvous, who comes late. What a rank may reuse is destroyed as soon
 * as it may: SCRATCH when a window ends, IN and OUT when the rank has left.
 */
#ifndef MDL_TESTS_PLAN_SIM_H_
#define MDL_TESTS_PLAN_SIM_H_

#include "tests/plan/teams.h"

struct sim {
    const struct mdl_team *team;
    struct mdl_collective c;
    const size_t *counts; /* V collectives: [nranks], AlltoAllV: [nranks * nranks], row by sender */
    const bool *in_place; /* [nranks], NULL: nobody */
    bool rough;           /* inputs whose sums round: results are compared bit by bit if the call is deterministic, else
                             only between ranks */
    size_t window;        /* elements per slot */
    uint32_t depth;
    uint64_t seed;
};

/* False: `why` tells the first thing that went wrong. */
bool sim_run(const struct sim *s, const struct mdl_algo *algo, char *why, size_t why_bytes);
bool sim_run_plans(const struct sim *s, struct mdl_plan *const *plans, char *why, size_t why_bytes);

/* May this rank call in place, and does the collective know that at all? */
bool sim_can_be_in_place(const struct mdl_collective *c, int rank);

uint64_t sim_random(uint64_t *state);

#endif
