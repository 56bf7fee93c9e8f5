/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases that cover all pairs: for any two of collective, type, operation, size class, root, in place and mapped
 * buffers, every combination of their values is in some case. Most defects need no more than two things to meet, and a
 * few hundred cases do it where all combinations are tens of thousands. The same seed gives the same list on every
 * rank.
 */
#ifndef MDL_TESTS_COLL_COVER_H_
#define MDL_TESTS_COLL_COVER_H_

#include "tests/coll/reference.h"

/* Cases for n ranks with at most `max` elements. Returns their number; *cases is to be freed. */
int cover_pairs(unsigned seed, int n, size_t max, struct coll_case **cases);

#endif
