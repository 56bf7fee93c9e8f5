/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two halves of a ring all-reduce, around any line of ranks.
 *
 * A ring has n members at positions 0 .. n - 1 and n pieces; piece p ends reduced at position p. What a piece is (part
 * or slot, of which buffer) is up to the user: the functions below name it on the calling rank.
 */
#ifndef MDL_ALGO_RING_H_
#define MDL_ALGO_RING_H_

#include "lib/algo/common.h"

struct mdl_ring {
    struct mdl_line line;
    struct mdl_ref (*input)(const struct mdl_emit *e, int piece, const void *arg);
    struct mdl_ref (*result)(const struct mdl_emit *e, int piece, const void *arg); /* of this rank's own piece */
    struct mdl_ref (*output)(const struct mdl_emit *e, int piece, const void *arg); /* where finished pieces lie */
    const void *arg;
};

/* Afterwards `result` of this rank's piece is final. */
void mdl_ring_reduce_scatter(struct mdl_emit *e, const struct mdl_ring *ring);
/* This rank's piece is in `output`; afterwards all are. */
void mdl_ring_allgather(struct mdl_emit *e, const struct mdl_ring *ring);

#endif
