/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's thread.
 *
 * A process has at most one reactor. Starting and ending it are serialised by `process_lock`, which the last put holds
 * across the join: a get that races it waits, then starts a new thread. The lock is held over fork, so that a child
 * finds it in a known state; that a reactor belongs to the parent shows in its pid.
 */
#include "config.h"
#include "lib/base/thread.h"
#include "lib/net/cpus.h"
#include "lib/net/reactor_part.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static struct mdl_reactor *the_reactor; /* under process_lock */

/* ---- the thread ---- */

static void tell_start(struct mdl_reactor *r, medleyResult_t result)
{
    pthread_mutex_lock(&r->lock);
    if (result != medleySuccess) snprintf(r->start_error, sizeof(r->start_error), "%s", mdl_error_text());
    r->start_result = result;
    r->started = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

/* Ends when told so and nothing is queued any more: a task that frees something is never dropped. */
static bool finished(struct mdl_reactor *r)
{
    pthread_mutex_lock(&r->lock);
    bool end = r->stop && mdl_list_empty(&r->tasks);
    pthread_mutex_unlock(&r->lock);
    return end;
}

static void destroy(struct mdl_reactor *r)
{
    if (r->wake_fd >= 0) close(r->wake_fd);
    if (r->epoll_fd >= 0) close(r->epoll_fd);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static void *run(void *arg)
{
    struct mdl_reactor *r = arg;
    mdl_reactor_current = r;
    pthread_setname_np(pthread_self(), "medley-monitor");
    medleyResult_t result = mdl_cpus_apply(r->cpu_set);
    tell_start(r, result);
    if (result != medleySuccess) return NULL;
    while (!finished(r)) mdl_reactor_turn(r);
    if (r->alone) {
        pthread_detach(pthread_self());
        destroy(r);
    }
    return NULL;
}

static medleyResult_t start_thread(struct mdl_reactor *r)
{
    int err = mdl_thread_start(run, r, &r->thread);
    if (err) return mdl_system_error(err, "the monitor thread cannot be started");
    pthread_mutex_lock(&r->lock);
    while (!r->started) pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
    if (r->start_result == medleySuccess) return medleySuccess;
    pthread_join(r->thread, NULL);
    return mdl_error_set(r->start_result, r->start_error);
}

static medleyResult_t open_fds(struct mdl_reactor *r)
{
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll_fd < 0) return mdl_system_error(errno, "the monitor's epoll descriptor cannot be made");
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    /* Edges: each write wakes, and nobody has to read. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = r};
    if (r->wake_fd >= 0 && epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->wake_fd, &event) == 0) return medleySuccess;
    return mdl_system_error(errno, "the monitor's eventfd cannot be made");
}

static medleyResult_t create(const char *cpu_set, struct mdl_reactor **out)
{
    struct mdl_reactor *r = calloc(1, sizeof(*r));
    if (!r) return mdl_system_error(ENOMEM, "the monitor cannot be made");
    atomic_init(&r->refs, 1);
    r->pid = getpid();
    r->epoll_fd = r->wake_fd = -1;
    r->cpu_set = cpu_set;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    mdl_list_init(&r->tasks);
    mdl_list_init(&r->timers);
    medleyResult_t result = open_fds(r);
    if (result == medleySuccess) result = start_thread(r);
    r->cpu_set = NULL;
    if (result == medleySuccess)
        *out = r;
    else
        destroy(r);
    return result;
}

/* ---- the process's one reactor ---- */

static void lock_process(void) { pthread_mutex_lock(&process_lock); }
static void unlock_process(void) { pthread_mutex_unlock(&process_lock); }
static void hook_fork(void) { pthread_atfork(lock_process, unlock_process, unlock_process); }

/* On its own thread the lock must not be taken: the last put may hold it and wait for this thread. */
static medleyResult_t get_inside(struct mdl_reactor **out)
{
    int refs = atomic_load_explicit(&mdl_reactor_current->refs, memory_order_relaxed);
    while (refs > 0)
        if (atomic_compare_exchange_weak_explicit(&mdl_reactor_current->refs, &refs, refs + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            *out = mdl_reactor_current;
            return medleySuccess;
        }
    return mdl_error(medleyInvalidUsage, "the monitor is about to end");
}

/* The first who names processors decides where the thread runs, though it may have been started before. */
static void place(struct mdl_reactor *r, const char *cpu_set)
{
    if (r->placed || !cpu_set || !*cpu_set) return;
    r->placed = true;
    if (mdl_cpus_move(r->thread, cpu_set) != medleySuccess) mdl_error_clear(); /* it was logged: run anywhere */
}

static medleyResult_t get_locked(const char *cpu_set, struct mdl_reactor **out)
{
    if (!the_reactor)
        MDL_TRY(create(cpu_set, &the_reactor));
    else if (!mdl_reactor_mine(the_reactor))
        return mdl_error(medleyInvalidUsage, "Medley cannot be used in a forked child of a process that uses it");
    else
        atomic_fetch_add_explicit(&the_reactor->refs, 1, memory_order_relaxed);
    place(the_reactor, cpu_set);
    *out = the_reactor;
    return medleySuccess;
}

medleyResult_t mdl_reactor_get(const char *cpu_set, struct mdl_reactor **r)
{
    if (mdl_reactor_current && mdl_reactor_mine(mdl_reactor_current)) return get_inside(r);
    pthread_once(&fork_once, hook_fork);
    lock_process();
    medleyResult_t result = get_locked(cpu_set, r);
    unlock_process();
    return result;
}

static void tell_stop(struct mdl_reactor *r)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    mdl_reactor_wake(r);
    pthread_mutex_unlock(&r->lock);
}

/* The last reference is gone. */
static void end(struct mdl_reactor *r)
{
    the_reactor = NULL;
    r->alone = mdl_reactor_current == r;
    tell_stop(r);
    if (r->alone) return;
    pthread_join(r->thread, NULL);
    destroy(r);
}

void mdl_reactor_put(struct mdl_reactor *r)
{
    if (!r || !mdl_reactor_mine(r)) return;
    /* On the own thread too: while it holds a reference, nobody who has the lock waits for it. */
    lock_process();
    /* Release what this user did to the one that ends it, which acquires: the same line on another thread. */
    if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) end(r);
    unlock_process();
}
