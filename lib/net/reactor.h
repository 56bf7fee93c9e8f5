/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor: one sleeping thread per process that runs an epoll loop with descriptors, timers and posted calls. It
 * listens, authenticates, keeps heartbeats, watches processes and spreads aborts, so that all of this goes on while the
 * application computes. It never touches payload.
 *
 * It starts with the first mdl_reactor_get and ends with the last mdl_reactor_put. Callbacks run on its thread, one at
 * a time, and must not block.
 */
#ifndef MDL_NET_REACTOR_H_
#define MDL_NET_REACTOR_H_

#include "lib/base/list.h"
#include "lib/base/status.h"
#include <stdbool.h>
#include <stdint.h>

struct mdl_reactor;

medleyResult_t mdl_reactor_get(const char *cpu_set, struct mdl_reactor **r) MDL_MUST_USE; /* [any thread] */
void mdl_reactor_put(struct mdl_reactor *r);                                              /* [any thread but its own] */
bool mdl_reactor_inside(const struct mdl_reactor *r);                                     /* is this its thread? */

/* Runs fn(arg) on the reactor's thread soon. [any thread, never blocks] */
struct mdl_task {
    struct mdl_list link;
    void (*fn)(struct mdl_task *);
    bool queued;
};
void mdl_reactor_post(struct mdl_reactor *r, struct mdl_task *task);

/* Runs fn(arg) on the reactor's thread and waits for its end; inside it, just calls it. */
void mdl_reactor_call(struct mdl_reactor *r, void (*fn)(void *), void *arg);

/* The rest only on the reactor's thread. */
struct mdl_watch {
    int fd;
    void (*fn)(struct mdl_watch *, uint32_t epoll_events);
};
medleyResult_t mdl_reactor_watch(struct mdl_reactor *r, struct mdl_watch *w,
                                 uint32_t epoll_events) MDL_MUST_USE; /* adds or changes; events 0: none but errors */
void mdl_reactor_unwatch(struct mdl_reactor *r, struct mdl_watch *w); /* no callback after it, not even from the batch
                                                                         in hand; does not close */

struct mdl_timer {
    struct mdl_list link;
    uint64_t due_ns;
    void (*fn)(struct mdl_timer *);
    bool set;
};
void mdl_reactor_timer(struct mdl_reactor *r, struct mdl_timer *t, uint64_t due_ns); /* (re)arms; one shot */
void mdl_reactor_timer_cancel(struct mdl_reactor *r, struct mdl_timer *t);

#endif
