/* SPDX-License-Identifier: Apache-2.0 */
/* What the two sides of an island's call share (island_call.c, island_run.c): its parts, from its signature. */
#ifndef MDL_ENGINE_ISLAND_PART_H_
#define MDL_ENGINE_ISLAND_PART_H_

#include "lib/engine/comm.h"
#include "lib/engine/island.h"

static inline const struct mdl_islands *mdl_island_map(const struct mdl_op *op) { return op->comm->islands->map; }

/* Are parts rows, one of each rank? */
static inline bool mdl_island_has_rows(medleyColl_t coll)
{
    return coll == medleyCollAllGather || coll == medleyCollReduceScatter;
}

/* What is done with a part between islands; medleyNumColls: there are no islands for this one. */
medleyColl_t mdl_island_middle(medleyColl_t coll);

/* The rank that has a part, or wants it; -1: all. */
static inline int mdl_island_root(const struct mdl_op *op, int part)
{
    return mdl_island_has_rows(op->call.coll) ? part : op->call.coll == medleyCollAllReduce ? -1 : op->call.root;
}

/* First element of a slice. */
size_t mdl_island_slice_at(const struct mdl_op *op, int slice);

medleyResult_t mdl_island_new(struct mdl_op *op) MDL_MUST_USE; /* sets op->island: the parts of this rank */
void mdl_island_place(struct mdl_op *op);                      /* where it has them; op->native has its rooms */

#endif
