/* SPDX-License-Identifier: Apache-2.0 */
/* What runs behind a non-blocking communicator: its splits, shrinks and windows. */
#ifndef MDL_API_WORK_H_
#define MDL_API_WORK_H_

#include "lib/api/group.h"

/* Runs the jobs of `list` in order on a thread of the communicator's own, which medleyCommGetAsyncError tells of until
 * the last is done. Takes them over, also on failure. medleyInProgress, or an error. */
medleyResult_t mdl_work_start(medleyComm_t handle, uint64_t serial, struct mdl_list *list) MDL_MUST_USE;

/* Is it at work? What the jobs wrote is there if not. */
bool mdl_work_busy(medleyComm_t handle);

#endif
