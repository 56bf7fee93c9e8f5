/* SPDX-License-Identifier: Apache-2.0 */
/* Operations that users make. */
#ifndef MDL_API_REDOP_H_
#define MDL_API_REDOP_H_

#include "lib/engine/comm.h"

/* The operation of this number, if it was made on this communicator and lives; else NULL. */
struct mdl_redop *mdl_redop_find(const struct mdl_comm *c, medleyRedOp_t op);

#endif
