/* SPDX-License-Identifier: Apache-2.0 */
/* What every user of plans shares: the shape of a collective's buffers, references, and the life of a plan. */
#include "config.h"
#include "lib/plan/plan.h"
#include <stdlib.h>

enum side { NONE, ONE, ALL };

static const struct {
    uint8_t in, out;
} sides[medleyNumColls] = {
    [medleyCollAllReduce] = {ONE, ONE},  [medleyCollReduce] = {ONE, ONE},         [medleyCollBroadcast] = {ONE, ONE},
    [medleyCollAllGather] = {ONE, ALL},  [medleyCollReduceScatter] = {ALL, ONE},  [medleyCollAlltoAll] = {ALL, ALL},
    [medleyCollGather] = {ONE, ALL},     [medleyCollScatter] = {ALL, ONE},        [medleyCollBarrier] = {NONE, NONE},
    [medleyCollAllGatherV] = {ONE, ALL}, [medleyCollReduceScatterV] = {ALL, ONE}, [medleyCollAlltoAllV] = {ALL, ALL},
    [medleyCollSend] = {ONE, NONE},      [medleyCollRecv] = {NONE, ONE},
};

void mdl_collective_slots(const struct mdl_collective *c, int nranks, uint32_t *in, uint32_t *out)
{
    const uint32_t slots[] = {[NONE] = 0, [ONE] = 1, [ALL] = (uint32_t)nranks};
    *in = slots[sides[c->coll].in];
    *out = slots[sides[c->coll].out];
}

bool mdl_collective_has(const struct mdl_collective *c, int rank, enum mdl_buffer buf)
{
    switch (c->coll) {
    case medleyCollReduce:
    case medleyCollGather: return buf == MDL_IN || rank == c->root;
    case medleyCollBroadcast:
    case medleyCollScatter: return buf == MDL_OUT || rank == c->root;
    case medleyCollBarrier: return false;
    case medleyCollSend: return buf == MDL_IN;
    case medleyCollRecv: return buf == MDL_OUT;
    default: return true;
    }
}

uint32_t mdl_collective_alias(const struct mdl_collective *c, int rank, uint32_t out_slot)
{
    uint32_t me = (uint32_t)rank;
    switch (c->coll) {
    case medleyCollAllReduce: return 0;
    case medleyCollReduce:
    case medleyCollBroadcast: return rank == c->root ? 0 : MDL_NO_SLOT;
    case medleyCollAllGather:
    case medleyCollAllGatherV: return out_slot == me ? 0 : MDL_NO_SLOT;
    case medleyCollReduceScatter:
    case medleyCollReduceScatterV: return me;
    case medleyCollAlltoAll: return out_slot;
    case medleyCollGather: return rank == c->root && out_slot == me ? 0 : MDL_NO_SLOT;
    case medleyCollScatter: return rank == c->root ? me : MDL_NO_SLOT;
    default: return MDL_NO_SLOT;
    }
}

bool mdl_collective_is_v(const struct mdl_collective *c)
{
    return c->coll == medleyCollAllGatherV || c->coll == medleyCollReduceScatterV || c->coll == medleyCollAlltoAllV;
}

bool mdl_collective_reduces(const struct mdl_collective *c)
{
    return c->coll == medleyCollAllReduce || c->coll == medleyCollReduce || c->coll == medleyCollReduceScatter ||
           c->coll == medleyCollReduceScatterV;
}

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
