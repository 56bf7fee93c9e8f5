/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: the collective calls that the control plane does - split, shrink, window. One at a time per communicator, each
 * in one thread from begin to end.
 *
 * While a job waits, it asks others now and then what they do (diag.c), and others ask it; so a rank that is in another
 * call is found within seconds.
 */
#ifndef MDL_ENGINE_JOB_H_
#define MDL_ENGINE_JOB_H_

#include "lib/engine/comm.h"

/* `members`, `n`: the ranks that take part (NULL: all), valid until end. Ending what has ended does nothing. */
void mdl_job_begin(struct mdl_comm *c, const struct mdl_call *call, const int *members, int n);
void mdl_job_end(struct mdl_comm *c);

/* A whole job that is one exchange: all[r] = rank r's `mine`. What goes wrong with it is the communicator's fault, on
 * every rank. */
medleyResult_t mdl_job_exchange(struct mdl_comm *c, const struct mdl_call *call, uint64_t mine,
                                uint64_t *all) MDL_MUST_USE;

/* A child could not be made here: tells the other members, over the parent. */
void mdl_job_child_failed(struct mdl_comm *parent, const struct mdl_comm *child);
void mdl_job_child_adopted(struct mdl_comm *parent, struct mdl_comm *child); /* fails it if it is known to have failed
                                                                                elsewhere */
void mdl_job_attach(struct mdl_comm *c);
void mdl_job_free(struct mdl_comm *c);

#endif
