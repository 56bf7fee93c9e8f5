/* SPDX-License-Identifier: Apache-2.0 */
/* MEDLEY_ALGO: which algorithms may be used for which collective. */
#ifndef MDL_ALGO_SPEC_H_
#define MDL_ALGO_SPEC_H_

#include "lib/plan/plan.h"

/* Does `spec` (NULL or empty: says nothing) say anything about `coll`? */
bool mdl_spec_speaks(const char *spec, medleyColl_t coll);

/* Does it admit this algorithm for it? True where it says nothing. `spec` has passed mdl_algo_spec_check. */
bool mdl_spec_admits(const char *spec, medleyColl_t coll, const char *algo);

#endif
