/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the reactor: reactor.c is the loop and what it works on, monitor.c the thread and the process's one
 * reference-counted instance. */
#ifndef MDL_NET_REACTOR_PART_H_
#define MDL_NET_REACTOR_PART_H_

#include "lib/net/reactor.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MDL_REACTOR_BATCH = 64 };

struct mdl_reactor {
    atomic_int refs; /* changed under process_lock, or by the own thread while it is above 0 */
    pid_t pid;
    pthread_t thread;
    int epoll_fd, wake_fd;

    /* The thread's start: under `lock`. */
    const char *cpu_set; /* the starter's */
    bool placed;         /* on the processors of somebody who named some; under process_lock */
    bool started;
    medleyResult_t start_result;
    char start_error[MDL_ERROR_TEXT_BYTES];

    pthread_mutex_t lock;   /* tasks, their `queued`, stop, the start, the calls' `done` */
    pthread_cond_t changed; /* started, or a call is done */
    struct mdl_list tasks;
    bool stop;
    bool alone; /* the thread frees the reactor at its end: nobody joins it */

    /* The thread's own. */
    struct mdl_list timers; /* by due_ns */
    struct epoll_event batch[MDL_REACTOR_BATCH];
    int batch_at, batch_len;
    bool broken;
};

extern _Thread_local struct mdl_reactor *mdl_reactor_current; /* the reactor whose thread this is */

/* false in a forked child, which has no thread behind it. */
static inline bool mdl_reactor_mine(const struct mdl_reactor *r) { return r->pid == getpid(); }

void mdl_reactor_turn(struct mdl_reactor *r); /* sleeps until something is due and runs it */
void mdl_reactor_wake(struct mdl_reactor *r);

#endif
