/* SPDX-License-Identifier: Apache-2.0 */
/* See shape.h: the table, and what plans ask of it. */
#include "config.h"
#include "lib/plan/plan.h"

#define NONE             MDL_SLOTS_NONE
#define ONE              MDL_SLOTS_ONE
#define ALL              MDL_SLOTS_ALL
#define RANKS(in, out)   .slots = {{in, out}, {in, out}}
#define TO_ROOT(in, out) .slots = {{in, NONE}, {in, out}}, .rooted = true
#define OF_ROOT(in, out) .slots = {{NONE, out}, {in, out}}, .rooted = true
#define MESSAGE(in, out) .slots = {{in, out}, {in, out}}, .rooted = true, .message = true

const struct mdl_shape mdl_shapes[medleyNumColls] = {
    [medleyCollAllReduce] = {RANKS(ONE, ONE), .reduces = true},
    [medleyCollReduce] = {TO_ROOT(ONE, ONE), .reduces = true},
    [medleyCollBroadcast] = {OF_ROOT(ONE, ONE)},
    [medleyCollAllGather] = {RANKS(ONE, ALL)},
    [medleyCollReduceScatter] = {RANKS(ALL, ONE), .reduces = true},
    [medleyCollAlltoAll] = {RANKS(ALL, ALL)},
    [medleyCollGather] = {TO_ROOT(ONE, ALL)},
    [medleyCollScatter] = {OF_ROOT(ALL, ONE)},
    [medleyCollBarrier] = {RANKS(NONE, NONE)},
    [medleyCollAllGatherV] = {RANKS(ONE, ALL), .v = true},
    [medleyCollReduceScatterV] = {RANKS(ALL, ONE), .reduces = true, .v = true},
    [medleyCollAlltoAllV] = {RANKS(ALL, ALL), .v = true},
    [medleyCollSend] = {MESSAGE(ONE, NONE)},
    [medleyCollRecv] = {MESSAGE(NONE, ONE)},
};

void mdl_collective_slots(const struct mdl_collective *c, int nranks, uint32_t *in, uint32_t *out)
{
    *in = (uint32_t)mdl_shape_slots(&mdl_shapes[c->coll], MDL_IN, nranks);
    *out = (uint32_t)mdl_shape_slots(&mdl_shapes[c->coll], MDL_OUT, nranks);
}

bool mdl_collective_has(const struct mdl_collective *c, int rank, enum mdl_buffer buf)
{
    return mdl_shape_has(&mdl_shapes[c->coll], buf, rank == c->root);
}

uint32_t mdl_collective_alias(const struct mdl_collective *c, int rank, uint32_t out_slot)
{
    const struct mdl_shape *s = &mdl_shapes[c->coll];
    bool in = mdl_shape_is_split(s, MDL_IN), out = mdl_shape_is_split(s, MDL_OUT);

    if (!mdl_shape_has(s, MDL_IN, rank == c->root) || !mdl_shape_has(s, MDL_OUT, rank == c->root)) return MDL_NO_SLOT;
    if (in && out) return s->v ? MDL_NO_SLOT : out_slot; /* AlltoAllV has no form in place */
    if (out) return out_slot == (uint32_t)rank ? 0 : MDL_NO_SLOT;
    return in ? (uint32_t)rank : 0;
}

bool mdl_collective_is_v(const struct mdl_collective *c) { return mdl_shapes[c->coll].v; }

bool mdl_collective_reduces(const struct mdl_collective *c) { return mdl_shapes[c->coll].reduces; }
