/* SPDX-License-Identifier: Apache-2.0 */
/* Groups: what a thread has issued between GroupStart and GroupEnd. */
#ifndef MDL_API_GROUP_H_
#define MDL_API_GROUP_H_

#include "lib/api/handle.h"
#include "lib/engine/queue.h"

/* A call that blocks on other ranks and so needs a thread of its own when several are in one group: initialisation,
 * split, shrink, windows. Those of one communicator run in order, one after the other. */
struct mdl_job {
    struct mdl_list link;
    const void *comm;    /* whose calls are kept in order; NULL: one that is being made */
    medleyComm_t behind; /* non-blocking: it runs on the thread behind this one (work.h) */
    uint64_t behind_serial;
    medleyResult_t (*run)(struct mdl_job *job); /* frees nothing */
    void (*free)(struct mdl_job *job);
    medleyResult_t result;
    char text[MDL_ERROR_TEXT_BYTES]; /* of its error, handed back to the calling thread */
    const struct mdl_list *end;      /* of the list of the group's jobs, for the thread that runs them */
};

bool mdl_group_open(void);
/* Notes an error of a call in the group, and returns it. */
medleyResult_t mdl_group_result(medleyResult_t res);
void mdl_group_error(medleyResult_t res); /* an error of a call in the group: GroupEnd returns the first */

/* Runs the job now, or at the group's end; or starts it then, if it runs behind its communicator: medleyInProgress.
 * Takes it over. */
medleyResult_t mdl_group_job(struct mdl_job *job);

/* Issues an operation on `stream`: now, or at the group's end. Takes over op; the handle was entered and is left by
 * this function. */
medleyResult_t mdl_group_op(medleyComm_t handle, struct mdl_op *op, void *stream);
/* The same for an operation with a stage. */
medleyResult_t mdl_group_op_on_device(medleyComm_t handle, struct mdl_op *op);

#endif
