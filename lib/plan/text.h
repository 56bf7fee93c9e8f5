/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the parts of plans, for dumps and errors. */
#ifndef MDL_PLAN_TEXT_H_
#define MDL_PLAN_TEXT_H_

#include "lib/plan/plan.h"

enum { MDL_REF_TEXT_BYTES = 64 };

const char *mdl_opcode_name(unsigned op);
const char *mdl_coll_name(medleyColl_t coll);

/* "r3.OUT[2..5)", "r0.SCRATCH[1] parts 2..4", with " acc" for partials. `parts`: how many a slot has. */
void mdl_ref_format(const struct mdl_ref *ref, uint32_t parts, char *text, size_t bytes);

#endif
