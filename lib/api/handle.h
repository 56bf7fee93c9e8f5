/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a medleyComm_t points to: a small shell around the communicator that is never given back to the system, only
 * reused. So a call that races an abort finds a closed gate and not freed memory, and the abort waits for the calls
 * that are inside.
 */
#ifndef MDL_API_HANDLE_H_
#define MDL_API_HANDLE_H_

#include "lib/engine/comm.h"

enum mdl_init_state { MDL_INIT_NONE, MDL_INIT_RUNNING, MDL_INIT_DONE };

struct medleyComm {
    struct medleyComm *next_free;
    _Atomic uint64_t gate;   /* calls inside, MDL_GATE_CLAIMED and MDL_GATE_CLOSED */
    _Atomic uint64_t serial; /* of the communicator in it: grows with every one */
    struct mdl_comm *impl;
    _Atomic int init; /* of a non-blocking communicator */
    pthread_t init_thread, worker;
    bool has_thread, has_worker;
    _Atomic bool finalized; /* relaxed: it orders nothing */
    _Atomic bool working; /* work.h */
};
#define MDL_GATE_CLOSED  (1ull << 63)
#define MDL_GATE_CLAIMED (1ull << 62)

medleyResult_t mdl_handle_new(struct mdl_comm *impl, medleyComm_t *handle) MDL_MUST_USE;
bool mdl_handle_claim(medleyComm_t handle); /* the right to free it: true for one caller only */
void mdl_handle_close(medleyComm_t handle); /* shuts the gate and waits for the calls inside; impl's abort word must be
                                               set if they may wait for peers */
void mdl_handle_recycle(medleyComm_t handle); /* after close */

/* Goes in: NULL, a closed communicator and a forked child are errors. Pair it with leave. */
medleyResult_t mdl_handle_enter(medleyComm_t handle, struct mdl_comm **c) MDL_MUST_USE;
/* The same for calls that communicate: also refuses one that has failed, is still being made, or was finalized. */
medleyResult_t mdl_handle_enter_ready(medleyComm_t handle, struct mdl_comm **c) MDL_MUST_USE;
void mdl_handle_leave(medleyComm_t handle);
/* For calls that are put off to the end of a group: goes in again, if the communicator is still the one that had
 * `serial` when it was entered first. So an open group does not keep an abort waiting. */
medleyResult_t mdl_handle_enter_again(medleyComm_t handle, uint64_t serial, struct mdl_comm **c) MDL_MUST_USE;
static inline uint64_t mdl_handle_serial(medleyComm_t handle)
{
    return atomic_load_explicit(&handle->serial, memory_order_relaxed); /* inside: it stands still */
}
/* Leaves, and keeps the words of an error for medleyGetLastError(comm). */
medleyResult_t mdl_handle_return(medleyComm_t handle, medleyResult_t res);

/* The same for an argument that was found wrong before the communicator was entered, which may be none. */
medleyResult_t mdl_handle_refuse(medleyComm_t handle, medleyResult_t res);

medleyResult_t mdl_handle_working(void); /* the error of a call while work.h is at work */

/* Frees all registrations of a communicator (window.c). */
void mdl_windows_free(struct mdl_comm *c);

/* Success, or medleyInvalidUsage in a child that was forked from a process that used Medley. */
medleyResult_t mdl_process_check(void) MDL_MUST_USE;

#endif
