/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor: one sleeping thread per process that runs an epoll loop with descriptors, timers and posted calls. It
 * listens, authenticates, keeps heartbeats, watches processes and spreads aborts, so that all of this goes on while the
 * application computes. It never touches payload.
 *
 * It starts with the first mdl_reactor_get and ends with the last mdl_reactor_put. Callbacks run on its thread, one at
 * a time, and must not block. A callback may watch, unwatch, arm, cancel and post anything, also what is running, and
 * may free the object that holds its own watch, timer or task.
 *
 * In a forked child there is no such thread: get fails, and every other function returns at once without effect (call
 * does not run its function).
 */
#ifndef MDL_NET_REACTOR_H_
#define MDL_NET_REACTOR_H_

#include "lib/base/list.h"
#include "lib/base/status.h"
#include <stdbool.h>
#include <stdint.h>

struct mdl_reactor;

/* [any thread] The first `cpu_set` that is not empty says where the thread runs. On the reactor's own thread it only adds a
 * reference. */
medleyResult_t mdl_reactor_get(const char *cpu_set, struct mdl_reactor **r) MDL_MUST_USE;

/* [any thread] The last one waits for the thread's end; on the reactor's own thread it lets the thread end by itself,
 * after the callback that runs. */
void mdl_reactor_put(struct mdl_reactor *r);

bool mdl_reactor_inside(const struct mdl_reactor *r); /* is this its thread? */
bool mdl_reactor_alive(const struct mdl_reactor *r);  /* false in a forked child */

/* Runs fn(task) on the reactor's thread soon, in the order of posting; a task that is queued already stays where it is.
 * [any thread, never blocks] */
struct mdl_task {
    struct mdl_list link;
    void (*fn)(struct mdl_task *);
    bool queued; /* the reactor's: start with false */
};
void mdl_reactor_post(struct mdl_reactor *r, struct mdl_task *task);

/* Runs fn(arg) on the reactor's thread, after what was posted before, and waits for its end; inside it, just calls it.
 * Waits for a callback that is running: hold no lock that a callback takes. */
void mdl_reactor_call(struct mdl_reactor *r, void (*fn)(void *), void *arg);

/* The rest only on the reactor's thread. */
void mdl_reactor_unpost(struct mdl_reactor *r, struct mdl_task *task); /* takes a task back, queued or not */

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
    bool set; /* the reactor's: start with false */
};
void mdl_reactor_timer(struct mdl_reactor *r, struct mdl_timer *t, uint64_t due_ns); /* (re)arms; one shot */
void mdl_reactor_timer_cancel(struct mdl_reactor *r, struct mdl_timer *t);

#endif
