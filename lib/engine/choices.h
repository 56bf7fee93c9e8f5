/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was chosen before, for all communicators of the process: a choice follows from the team's shape, the call, the
 * limits and MEDLEY_ALGO, and predicting it takes much longer than looking it up. Bounded; the oldest use goes first.
 */
#ifndef MDL_ENGINE_CHOICES_H_
#define MDL_ENGINE_CHOICES_H_

#include "lib/plan/plan.h"

/* Choices are kept while somebody holds them. [any thread] */
void mdl_choices_hold(void);
void mdl_choices_release(void);

/* mdl_algo_choose, or what it said to the same arguments. Errors are not kept. [any thread] */
medleyResult_t mdl_choices_get(const struct mdl_team *team, const struct mdl_collective *c, const char *spec,
                               const struct mdl_choose_limits *limits, struct mdl_choice *choice) MDL_MUST_USE;

/* For tests: how many are kept, and how many were found. */
void mdl_choices_count(size_t *kept, uint64_t *found);

#endif
