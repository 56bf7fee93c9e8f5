/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All-reduce among a power of two of the ranks, for any number of them: what recursive doubling and Rabenseifner share.
 *
 * Of n ranks the first 2 * (n - p), p the largest power of two, pair up: the odd one gives its input to the even one,
 * sits out, and gets the result in the end. The others have ids 0 .. p - 1 in the order of positions, so that a group
 * of ids that share their high bits is a group of neighbours, and lower ids have lower positions.
 */
#ifndef MDL_ALGO_POWER_H_
#define MDL_ALGO_POWER_H_

#include "lib/algo/common.h"

struct mdl_power {
    int p, extra; /* ranks that take part; those that sit out */
    int id;       /* -1: this rank sits out */
    int partner;  /* the rank of the pair's other half; -1: none */
};

struct mdl_power mdl_power_of(const struct mdl_emit *e);
int mdl_power_rank(const struct mdl_emit *e, const struct mdl_power *pw, int id);

/* Is what this id begins with a partial? */
bool mdl_power_acc(const struct mdl_emit *e, const struct mdl_power *pw, int id);

/* The pair's inputs come together; returns what this rank begins with. Ranks that sit out only send. */
struct mdl_ref mdl_power_fold_in(struct mdl_emit *e, const struct mdl_power *pw);
/* The result in OUT goes to the one that sat out. */
void mdl_power_fold_out(struct mdl_emit *e, const struct mdl_power *pw);

#endif
