/* SPDX-License-Identifier: Apache-2.0 */
/* The transports of a communicator: which are allowed, opening and closing them, and what MEDLEY_REQUIRE demands. */
#ifndef MDL_ENGINE_TRANSPORTS_H_
#define MDL_ENGINE_TRANSPORTS_H_

#include "lib/engine/comm.h"

extern const struct mdl_transport *const mdl_transports[]; /* made from transports/transports.am, in order of preference
                                                            */

/* A copy of `t` in which what it lacks is filled in with defaults that say "not supported". */
const struct mdl_transport *mdl_transport_complete(const struct mdl_transport *t, struct mdl_transport *room);

bool mdl_transport_listed(const char *list, const char *name); /* "shm,tcp" */
medleyResult_t mdl_transports_check_names(const struct mdl_config *cfg) MDL_MUST_USE;

/* Opens those that MEDLEY_TRANSPORT admits and that work here; the order and number are the same on every rank (ctx
 * NULL: not here). */
medleyResult_t mdl_transports_open(struct mdl_comm *c) MDL_MUST_USE;
void mdl_transports_abort(struct mdl_comm *c);
void mdl_transports_settle(struct mdl_comm *c); /* all ranks have connected: what that took, and what nobody uses, goes */
void mdl_transports_close(struct mdl_comm *c);
medleyResult_t mdl_transports_check_required(struct mdl_comm *c) MDL_MUST_USE;

#endif
