/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks with devices of one vendor tell each other when their communicator is made, beyond facts.h: pass-through
 * and the direct paths find out with it whether all can. All calls but the first are collective. */
#ifndef MDL_ENGINE_EXCHANGE_H_
#define MDL_ENGINE_EXCHANGE_H_

#include "lib/engine/comm.h"

/* Have all ranks, two at least, devices of one vendor? The same on all, from what all have known since the first
 * exchange. */
bool mdl_exchange_same_vendor(const struct mdl_comm *c);

/* Tells all ranks `len` bytes. *all: those of rank 0, of rank 1, and so on, to be freed; NULL on an error. */
medleyResult_t mdl_exchange_bytes(struct mdl_comm *c, const void *mine, size_t len, uint64_t deadline_ns,
                                  const char *what, uint8_t **all) MDL_MUST_USE;

/* *yes: did all ranks say yes? */
medleyResult_t mdl_exchange_vote(struct mdl_comm *c, bool mine, uint64_t deadline_ns, const char *what,
                                 bool *yes) MDL_MUST_USE;

#endif
