/* SPDX-License-Identifier: Apache-2.0 */
/* Making communicators: from ids, and from a parent. */
#ifndef MDL_API_CREATE_H_
#define MDL_API_CREATE_H_

#include "lib/api/group.h"

/* The environment, then what `user` sets. base NULL: read the environment; else start from the parent's. */
medleyResult_t mdl_config_merge(const medleyConfig_t *user, const struct mdl_config *base, struct mdl_config *cfg,
                                bool *blocking) MDL_MUST_USE;

/* Runs `connect` for a communicator that is already in *handle: now, in the group, or on a thread if it is
 * non-blocking. On failure of a blocking one the communicator is freed and *handle is NULL. */
struct mdl_create {
    struct mdl_job job;
    medleyComm_t *out, handle;
    struct mdl_comm *comm;
    /* ids */
    medleyUniqueId *ids;
    int nids;
    /* parent */
    struct mdl_comm *parent;
    medleyComm_t parent_handle;
    uint64_t parent_serial;
    int *ranks; /* of the parent, in the new order; NULL: decided in run (split) */
    uint64_t serial;
    int color, key;
    struct mdl_call call; /* of a shrink */
    struct mdl_config cfg;
    bool blocking, split, background;
};
medleyResult_t mdl_create_make(struct mdl_create *cr, int rank, int nranks) MDL_MUST_USE; /* comm and handle */
medleyResult_t mdl_create_run(struct mdl_create *cr) MDL_MUST_USE;
void mdl_create_free(struct mdl_job *job);
void mdl_comm_dispose(medleyComm_t handle); /* closes, frees the communicator, recycles the shell */

#endif
