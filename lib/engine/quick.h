/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small collectives inside one host whose payload travels in the published line: one round of flags, no plan. It is the
 * one-shot exchange (lib/algo/oneshot.c) with the same order of operands, so both give the same bits, and MEDLEY_ALGO
 * and MEDLEY_ONESHOT mean it too.
 *
 * All ranks of a call decide alike, since what decides is in the signature that they compare or was agreed on at init.
 * The payload of collective s may be read until the reader publishes s + 1; board.h says why that is long enough.
 */
#ifndef MDL_ENGINE_QUICK_H_
#define MDL_ENGINE_QUICK_H_

#include "lib/engine/op.h"

void mdl_quick_init(struct mdl_comm *c); /* once the board is mapped */
/* Does this call go this way? Then says where its payload lies and whose lines it waits for. */
bool mdl_quick_take_on(struct mdl_op *op);
void mdl_quick_publish(struct mdl_op *op);      /* payload and line */
void mdl_quick_finish(const struct mdl_op *op); /* the result, when the lines were read and agree */

#endif
