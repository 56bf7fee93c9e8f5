/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that one instruction can break by itself: indices in range, remote references legal, partials only where
 * they may be. The builder checks them while it builds, the verifier again, because plans can be changed in between. */
#ifndef MDL_PLAN_RULES_H_
#define MDL_PLAN_RULES_H_

#include "lib/plan/plan.h"

struct mdl_rules {
    const struct mdl_team *team;
    const struct mdl_collective *coll;
    uint32_t rank, parts, in_slots, out_slots;
    uint32_t scratch_slots; /* of this rank */
};

/* Is `in` with the sources `srcs` well formed? If not, says why in `text`. Another rank's scratch size is unknown here,
 * so slots of remote SCRATCH are not checked. */
bool mdl_rules_check(const struct mdl_rules *r, const struct mdl_inst *in, const struct mdl_ref *srcs, char *text,
                     size_t bytes);

#endif
