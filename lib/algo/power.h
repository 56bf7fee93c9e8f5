/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All-reduce among a power of two of a line of ranks, for any length of the line: what recursive doubling, Rabenseifner
 * and the two-level algorithm share.
 *
 * Of n members the first 2 * (n - p), p the largest power of two, pair up: the odd one gives its input to the even one,
 * sits out, and gets the result in the end. The others have ids 0 .. p - 1 in the order of positions, so that ids that
 * share their high bits are neighbours, and lower ids have lower positions. All work on parts [base, base + p) or,
 * where nothing is halved, on the whole slot.
 *
 * Halving: in step k an id exchanges half of what it still holds with the one that differs in bit k, nearest first: the
 * largest messages go to neighbours, and for a power of two the expression is the canonical tree. Each id ends up with
 * one part, final. Doubling brings the halves back in reverse order.
 */
#ifndef MDL_ALGO_POWER_H_
#define MDL_ALGO_POWER_H_

#include "lib/algo/common.h"

struct mdl_power {
    struct mdl_line line;
    int p, extra;    /* members that take part; those that sit out */
    int id;          /* -1: this rank sits out */
    int partner;     /* position of the pair's other half; -1: none */
    uint32_t lo, hi; /* the parts worked on */
};

/* The parts that an id holds between two steps. */
struct mdl_range {
    uint32_t lo, hi;
};

struct mdl_power mdl_power_of(struct mdl_line line, uint32_t lo, uint32_t hi);
int mdl_power_position(const struct mdl_power *pw, int id);
int mdl_power_rank(const struct mdl_emit *e, const struct mdl_power *pw, int id);

/* Is what this id begins with a partial? */
bool mdl_power_acc(const struct mdl_emit *e, const struct mdl_power *pw, int id);

/* The pair's inputs come together; returns what this rank begins with. Members that sit out only send. */
struct mdl_ref mdl_power_fold_in(struct mdl_emit *e, const struct mdl_power *pw, struct mdl_ref input);
/* The result goes to the one that sat out. */
void mdl_power_fold_out(struct mdl_emit *e, const struct mdl_power *pw, struct mdl_ref out);

/* What `id` holds after the halving steps with distances below d. */
struct mdl_range mdl_power_range(const struct mdl_power *pw, int id, int d);
/* From `have`, what fold_in returned, to the own part final in `dst`. Who sits out does nothing here and below. */
void mdl_power_halve(struct mdl_emit *e, const struct mdl_power *pw, struct mdl_ref have, struct mdl_ref dst);
void mdl_power_double(struct mdl_emit *e, const struct mdl_power *pw, struct mdl_ref out);

/* The SCRATCH slots that fold_in and halve take on each of n members. */
uint32_t mdl_power_slots(int n);

#endif
