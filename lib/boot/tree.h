/* SPDX-License-Identifier: Apache-2.0 */
/* The tree over rank numbers: rank 0 at the top, MDL_TREE_ARITY children each. Ranks that do not exist are >= nranks.
 */
#ifndef MDL_BOOT_TREE_H_
#define MDL_BOOT_TREE_H_

#include "lib/boot/messages.h"

static inline uint32_t mdl_tree_parent(uint32_t rank) { return (rank - 1) / MDL_TREE_ARITY; }
static inline uint32_t mdl_tree_child(uint32_t rank, uint32_t i) { return rank * MDL_TREE_ARITY + 1 + i; }

/* Fills the neighbours of `rank` in a tree of nranks; returns their number. */
static inline int mdl_tree_neighbours(uint32_t rank, uint32_t nranks, uint32_t list[1 + MDL_TREE_ARITY])
{
    int n = 0;
    if (rank) list[n++] = mdl_tree_parent(rank);
    for (uint32_t i = 0; i < MDL_TREE_ARITY; i++)
        if (mdl_tree_child(rank, i) < nranks) list[n++] = mdl_tree_child(rank, i);
    return n;
}

/* Adds the ranks of the subtree at `rank`. */
static inline void mdl_tree_subtree(uint32_t rank, uint32_t nranks, struct mdl_ranges *set)
{
    for (uint64_t first = rank, last = rank; first < nranks;
         first = first * MDL_TREE_ARITY + 1, last = last * MDL_TREE_ARITY + MDL_TREE_ARITY)
        mdl_ranges_add(set, (uint32_t)first, (uint32_t)(last < nranks ? last : nranks - 1));
}

static inline bool mdl_tree_below(uint32_t rank, uint32_t top)
{
    while (rank > top) rank = mdl_tree_parent(rank);
    return rank == top;
}

#endif
