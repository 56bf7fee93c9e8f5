/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the ranks of a host tell each other about a collective: the lines of their boards (board.h).
 *
 * A call is numbered, waits for room in the ring, publishes its line, and waits for the lines that it needs:
 * everybody's, or, of a small call (quick.h), only those whose data it takes, so a broadcast's root or a gather's
 * leaves wait for nobody. What is taken is compared first. Lines that are not needed are compared before the ring comes
 * round, in the next call that waits for all, and by the audit (audit.c): so a rank that waits for nobody learns of a
 * mismatch later.
 *
 * A line covers all calls before it by its chain, so the first line that differs need not be that of the first call
 * that does; the ring still has that one, as nobody overwrites lines that he has not compared.
 */
#ifndef MDL_ENGINE_LINES_H_
#define MDL_ENGINE_LINES_H_

#include "lib/engine/op.h"

/* Bytes of IN and OUT that this rank's call uses; 0 where the collective does not use them on this rank. */
void mdl_lines_bytes(const struct mdl_op *op, size_t *in, size_t *out);

void mdl_lines_begin(struct mdl_op *op);                            /* numbers it; then it needs room */
medleyResult_t mdl_lines_make_room(struct mdl_op *op, int *events); /* or InProgress */
void mdl_lines_publish(struct mdl_op *op);
medleyResult_t mdl_lines_read(struct mdl_op *op, int *events); /* Success: those that it needs are there and agree */

/* How far apart in the ring what it writes is. */
static inline uint32_t mdl_lines_depth(const struct mdl_op *op)
{
    return op->rooms && op->puts ? op->rooms->depth : MDL_BOARD_DEPTH;
}

/* The same for the quick way: false if anything is not as it should be. */
bool mdl_lines_make_room_now(struct mdl_op *op);
static inline bool mdl_lines_has_room(struct mdl_op *op)
{
    return mdl_board_has_room(&op->comm->board, op->seq, mdl_lines_depth(op)) || mdl_lines_make_room_now(op);
}

/* Those that it waits for are there and agree. */
static inline void mdl_lines_seen(struct mdl_op *op)
{
    if (op->lines_end - op->lines_first == op->comm->board.nlocal) op->comm->board.agreed = op->seq;
}
static inline bool mdl_lines_agree(struct mdl_op *op)
{
    const struct mdl_board *b = &op->comm->board;

    for (; op->lines_seen < op->lines_end; op->lines_seen++)
        if (!mdl_board_is_same(b, op->lines_seen, op->seq, op->call.chain)) return false;
    for (int i = op->lines_first; op->call.root >= 0 && i < op->lines_end; i++)
        __builtin_prefetch(mdl_board_line(b, i, op->seq + 2)); /* who runs ahead has published it already */
    mdl_lines_seen(op);
    return true;
}

int mdl_lines_blame(const struct mdl_op *op, int *peers, int cap); /* those that it waits for, at most `cap` */

#endif
