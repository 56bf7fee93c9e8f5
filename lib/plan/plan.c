/* SPDX-License-Identifier: Apache-2.0 */
/* What every user of plans shares: references, and the life of a plan. */
#include "config.h"
#include "lib/plan/plan.h"
#include <stdlib.h>

bool mdl_dtype_rounds(medleyDataType_t dtype)
{
    return dtype == medleyFloat16 || dtype == medleyBfloat16 || dtype == medleyFloat8e4m3 || dtype == medleyFloat8e5m2;
}

struct mdl_ref mdl_ref_parts(int rank, enum mdl_buffer buf, bool acc, uint32_t slot, uint32_t lo, uint32_t hi)
{
    return (struct mdl_ref){.rank = (uint32_t)rank,
                            .buf = (uint8_t)buf,
                            .acc = acc,
                            .slots = 1,
                            .slot = slot,
                            .lo = lo,
                            .hi = hi,
                            .shape = slot};
}

void mdl_plan_free(struct mdl_plan *plan) { free(plan); }

size_t mdl_plan_bytes(const struct mdl_plan *plan)
{
    return sizeof(*plan) + plan->ninsts * sizeof(*plan->insts) + plan->nrefs * sizeof(*plan->refs) +
           plan->ndeps * sizeof(*plan->deps);
}
