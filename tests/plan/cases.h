/* SPDX-License-Identifier: Apache-2.0 */
/* Calls for the plan tests: each combination of algorithm, collective, size and placement with a seeded draw of the
 * rest. */
#ifndef MDL_TESTS_PLAN_CASES_H_
#define MDL_TESTS_PLAN_CASES_H_

#include "tests/plan/sim.h"

struct call {
    struct sim s;
    bool *in_place;
    size_t *counts;
    char name[256]; /* for messages: everything that was drawn */
};

/* Draws root, type, operation, flags, facts, counts, windows and who is in place; switches the team's shared memory and
 * single copy on or off. */
void call_draw(struct call *call, struct team *team, medleyColl_t coll, uint64_t seed);
void call_fini(struct call *call);

/* Is MDL_PLAN_FULL=1 set: run everything, however long it takes? */
bool plan_full(void);

#endif
