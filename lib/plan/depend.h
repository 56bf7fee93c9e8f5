/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who touched which memory last: what the builder derives dependencies from.
 *
 * Memory is cells, one per (rank, buffer, slot, part), made when first touched. A cell knows its last writer and who
 * has read it since. Slots of SCRATCH have a second set of cells when partials are wider than elements: both views
 * share bytes, but at other places, so an access in one view meets every access to the slot in the other.
 */
#ifndef MDL_PLAN_DEPEND_H_
#define MDL_PLAN_DEPEND_H_

#include "lib/plan/plan.h"

struct mdl_depend {
    uint32_t parts;
    bool wide; /* partials are wider than elements */
    bool failed;
    uint32_t *hash, hash_cap; /* row numbers + 1 */
    struct mdl_depend_row *rows;
    uint32_t nrows, rows_cap;
    struct mdl_depend_cell *cells;
    uint32_t ncells, cells_cap;
    struct mdl_depend_reader *readers; /* [0] is unused: 0 ends a list */
    uint32_t nreaders, readers_cap;
    uint32_t free_reader;
    uint32_t *mark, mark_cap, stamp; /* mark[inst] == stamp: seen in this round */
    uint32_t *stack, stack_cap;
};

/* A growing list of instruction numbers. */
struct mdl_depend_list {
    uint32_t *v, n, cap;
};

void mdl_depend_init(struct mdl_depend *d, uint32_t parts, bool wide);
void mdl_depend_fini(struct mdl_depend *d);

/* Starts the list of instruction `inst`. */
void mdl_depend_start(struct mdl_depend *d, uint32_t inst, struct mdl_depend_list *list);

/* Adds `dep` once; takes the k-th away again. */
void mdl_depend_add(struct mdl_depend *d, uint32_t dep, struct mdl_depend_list *list);
void mdl_depend_remove(struct mdl_depend *d, uint32_t k, struct mdl_depend_list *list);

/* Instruction `inst` reads or writes these cells. Adds what it depends on. */
void mdl_depend_access(struct mdl_depend *d, uint32_t inst, const struct mdl_ref *cell, bool write,
                       struct mdl_depend_list *list);

/* The same, but leaves no trace: orders `inst` after what has been done to these cells. */
void mdl_depend_follow(struct mdl_depend *d, uint32_t inst, const struct mdl_ref *cell, bool write,
                       struct mdl_depend_list *list);

/* Drops what other entries of the list imply (by the dependencies of earlier instructions in `insts` and `deps`) and
 * sorts it. Looks at a bounded number of instructions, so that a few implied ones may stay. */
void mdl_depend_reduce(struct mdl_depend *d, const struct mdl_inst *insts, const uint32_t *deps,
                       struct mdl_depend_list *list);

#endif
