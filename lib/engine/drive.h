/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Driving operations to completion: the loop of every thread that executes, a caller's or the progress thread.
 *
 * A batch is what was issued together on one communicator: one call, or its part of a group. Its collectives run in
 * order, its messages all at once beside them. A driver runs any number of batches (of different communicators), and
 * when nothing moves it spins, then yields, then sleeps on the transports' descriptors, while it looks at the
 * deadlines: ask the peers (stall), warn with their names (warn_after), fail (timeout).
 */
#ifndef MDL_ENGINE_DRIVE_H_
#define MDL_ENGINE_DRIVE_H_

#include "lib/engine/op.h"

struct mdl_item;

struct mdl_batch {
    struct mdl_list link; /* in the communicator's queue */
    struct mdl_comm *comm;
    struct mdl_list ops; /* of mdl_op */
    int nops;
    medleyResult_t result; /* the first error */
    bool started; /* this and the next two are guarded by the queue's lock */
    bool issuing; /* who issued it still appends its work to streams, so it stays; */
    bool kept;    /* and is finished */
    struct mdl_item *tickets; /* asynchronous: places in streams (queue.c) */
    /* waiting */
    uint64_t idle_since_ns, next_ask_ns;
    uint64_t next_look_ns; /* for errors of devices */
    bool finished, begun; /* begun: has had a turn */
    bool warned;
    int blamed; /* whom the present wait is charged to, -1: nobody yet */
};

void mdl_batch_init(struct mdl_batch *b, struct mdl_comm *c); /* for one on the stack, of operations on the stack */
struct mdl_batch *mdl_batch_new(struct mdl_comm *c);
void mdl_batch_free(struct mdl_batch *b);                   /* and its operations */
void mdl_batch_add(struct mdl_batch *b, struct mdl_op *op); /* takes over op, from malloc */

/* Runs them to completion in this thread; results are in the batches, the first error is returned. */
medleyResult_t mdl_drive(struct mdl_batch *const *batches, int n);

/* The pieces, for the progress thread. */
enum { MDL_DRIVER_FEW = 8 };
struct mdl_driver {
    struct mdl_batch **batches;
    int n, cap;
    uint64_t turns, quiet_since_ns, quiet_ns; /* without an event; how long, as far as it was measured */
    bool armed, settled; /* settled: has waited for late stores since */
    struct pollfd *fds;
    int nfds, fdcap, bell; /* bell: this thread's while it is armed, -1: it got none */
    struct mdl_batch *few[MDL_DRIVER_FEW]; /* so that a plain call allocates nothing */
    int extra_fd;                          /* also slept on; -1: none */
    _Atomic bool *asleep;                  /* tells others that extra_fd has to be written; may be NULL */
    uint64_t crowded_until_ns;             /* others compute on this processor: sleep at once, do not yield */
    uint64_t crowded_ns;                   /* for how long that was last taken for granted */
};
void mdl_driver_init(struct mdl_driver *d, int extra_fd);
void mdl_driver_fini(struct mdl_driver *d);
medleyResult_t mdl_driver_add(struct mdl_driver *d, struct mdl_batch *b) MDL_MUST_USE;
int mdl_driver_turn(struct mdl_driver *d); /* one pass over all; returns how many finished in it, and removes them from
                                              `batches` */

#endif
