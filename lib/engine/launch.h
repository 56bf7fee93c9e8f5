/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Issuing calls of ranks with devices: how the work of one call, or of a group, gets to the users' streams.
 *
 * First all of it is queued, then it is appended. So every operation has its number and its deadline before anything
 * could wait, and somebody works for what a stream waits for while the rest is appended: appending may wait, since a
 * vendor's copy to ordinary memory waits for the stream, since a stream takes only so many commands that it has not come
 * to, and since a stream that cannot wait for words is attended. An operation lives until its batch has been issued; one
 * that fails meanwhile lets go at once what its stream waits for, so appending comes to its end.
 *
 * The order: messages come before collectives in every stream. Messages take turns, block by block, since each may need
 * the others: when block b of none is stuck, block b + 1 is reached by all; what one rank sends to another counts as one
 * message, since it goes one by one. Collectives follow in the order of issue,
 * whichever way each goes: one is begun when all earlier ones of its communicator, and of its stream, have been appended
 * completely. What need not wait is begun whatever holds up the others. Calls that pass through and may be begun at the
 * same time are one group of the vendor's, for they may be ranks of one communicator: such ranks begin a collective
 * together, so what holds up one of them holds up those, and nothing else.
 *
 * A stream is given no more than MDL_LAUNCH_WAITING commands that it has not come to: vendors make further ones wait, and
 * some of them all other calls of the process with them.
 */
#ifndef MDL_ENGINE_LAUNCH_H_
#define MDL_ENGINE_LAUNCH_H_

#include "lib/engine/drive.h"

enum { MDL_LAUNCH_WAITING = 800 };

/* Notes which call of the group this is. */
void mdl_launch_number(struct mdl_op *op, uint64_t order);

/* Takes room for all of batches of communicators with devices, since they may need each other (stage.h has who waits for
 * it). After an error nothing is issued, and the communicator at fault has failed. */
medleyResult_t mdl_launch_reserve(struct mdl_batch *const *batches, int n) MDL_MUST_USE;

/* Issues batches that have room; takes them over. An error has failed the communicators. Returns when all has been
 * appended. */
medleyResult_t mdl_launch(struct mdl_batch *const *batches, int n) MDL_MUST_USE;

#endif
