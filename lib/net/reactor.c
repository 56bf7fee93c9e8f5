/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's epoll loop.
 *
 * One turn: sleep until a descriptor, the next timer or the eventfd of the posts is due; then the batch of descriptors,
 * then the timers that were due when the turn began, then the tasks that were queued when it began. What a callback
 * arms or posts itself waits for the next turn, so nothing starves.
 *
 * Everything but the queue of tasks belongs to the loop's thread and has no lock. Cancelling is exact because each
 * piece of work is on a list (timers, tasks) or in the batch (descriptors) until the moment before its callback.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/net/reactor_part.h"
#include <errno.h>
#include <limits.h>
#include <time.h>

_Thread_local struct mdl_reactor *mdl_reactor_current;

bool mdl_reactor_inside(const struct mdl_reactor *r) { return mdl_reactor_current == r && mdl_reactor_mine(r); }

bool mdl_reactor_alive(const struct mdl_reactor *r) { return mdl_reactor_mine(r); }

/* ---- tasks ---- */

void mdl_reactor_wake(struct mdl_reactor *r)
{
    uint64_t one = 1;
    while (write(r->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {}
}

void mdl_reactor_post(struct mdl_reactor *r, struct mdl_task *task)
{
    if (!mdl_reactor_mine(r)) return;
    pthread_mutex_lock(&r->lock);
    bool first = mdl_list_empty(&r->tasks);
    if (!task->queued) {
        task->queued = true;
        mdl_list_append(&r->tasks, &task->link);
        /* Under the lock: after it the reactor may be gone with the poster's reference. */
        if (first) mdl_reactor_wake(r);
    }
    pthread_mutex_unlock(&r->lock);
}

void mdl_reactor_unpost(struct mdl_reactor *r, struct mdl_task *task)
{
    if (!mdl_reactor_mine(r)) return;
    pthread_mutex_lock(&r->lock);
    if (task->queued) mdl_list_remove(&task->link);
    task->queued = false;
    pthread_mutex_unlock(&r->lock);
}

/* Takes the first task off; NULL behind `last`, which was the queue's end when the turn began. */
static struct mdl_task *take_task(struct mdl_reactor *r, struct mdl_list *mark)
{
    struct mdl_task *task = NULL;
    pthread_mutex_lock(&r->lock);
    if (r->tasks.next != mark) {
        task = mdl_container_of(r->tasks.next, struct mdl_task, link);
        mdl_list_remove(&task->link);
        task->queued = false;
    } else {
        mdl_list_remove(mark);
        if (!mdl_list_empty(&r->tasks)) mdl_reactor_wake(r);
    }
    pthread_mutex_unlock(&r->lock);
    return task;
}

static void run_tasks(struct mdl_reactor *r)
{
    struct mdl_list mark; /* separates this turn's tasks from those that they post */
    struct mdl_task *task;
    pthread_mutex_lock(&r->lock);
    mdl_list_append(&r->tasks, &mark);
    pthread_mutex_unlock(&r->lock);
    while ((task = take_task(r, &mark))) task->fn(task);
}

struct call {
    struct mdl_task task;
    struct mdl_reactor *r;
    void (*fn)(void *);
    void *arg;
    bool done;
};

static void run_call(struct mdl_task *task)
{
    struct call *c = mdl_container_of(task, struct call, task);
    struct mdl_reactor *r = c->r;
    c->fn(c->arg);
    pthread_mutex_lock(&r->lock);
    c->done = true;
    pthread_mutex_unlock(&r->lock);
    pthread_cond_broadcast(&r->changed); /* after it, so that who wakes does not meet the lock */
}

void mdl_reactor_call(struct mdl_reactor *r, void (*fn)(void *), void *arg)
{
    if (!mdl_reactor_mine(r)) return;
    if (mdl_reactor_current == r) {
        fn(arg);
        return;
    }
    struct call c = {.task.fn = run_call, .r = r, .fn = fn, .arg = arg};
    mdl_reactor_post(r, &c.task);
    pthread_mutex_lock(&r->lock);
    while (!c.done) pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

/* ---- timers ---- */

void mdl_reactor_timer_cancel(struct mdl_reactor *r, struct mdl_timer *t)
{
    if (!mdl_reactor_mine(r)) return;
    if (t->set) mdl_list_remove(&t->link);
    t->set = false;
}

/* Most timers are deadlines of one length, so the search for the place starts at the end. */
void mdl_reactor_timer(struct mdl_reactor *r, struct mdl_timer *t, uint64_t due_ns)
{
    if (!mdl_reactor_mine(r)) return;
    mdl_reactor_timer_cancel(r, t);
    struct mdl_list *after = &r->timers;
    while (after->prev != &r->timers && mdl_container_of(after->prev, struct mdl_timer, link)->due_ns > due_ns)
        after = after->prev;
    mdl_list_append(after, &t->link);
    t->due_ns = due_ns;
    t->set = true;
}

static void run_timers(struct mdl_reactor *r)
{
    struct mdl_list due;
    uint64_t now = mdl_now_ns();
    mdl_list_init(&due);
    mdl_list_each (it, &r->timers) {
        if (mdl_container_of(it, struct mdl_timer, link)->due_ns > now) break;
        mdl_list_remove(it);
        mdl_list_append(&due, it);
    }
    while (!mdl_list_empty(&due)) {
        struct mdl_timer *t = mdl_container_of(due.next, struct mdl_timer, link);
        mdl_reactor_timer_cancel(r, t);
        t->fn(t);
    }
}

/* Milliseconds to sleep, rounded up so that a timer is due when the sleep ends. */
static int sleep_ms(const struct mdl_reactor *r)
{
    if (mdl_list_empty(&r->timers)) return -1;
    uint64_t due = mdl_container_of(r->timers.next, struct mdl_timer, link)->due_ns, now = mdl_now_ns();
    if (due <= now) return 0;
    uint64_t ms = (due - now - 1) / MDL_NS_PER_MS + 1;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* ---- descriptors ---- */

medleyResult_t mdl_reactor_watch(struct mdl_reactor *r, struct mdl_watch *w, uint32_t epoll_events)
{
    if (!mdl_reactor_mine(r))
        return mdl_error(medleyInvalidUsage, "Medley cannot be used in a forked child of its process");
    struct epoll_event event = {.events = epoll_events, .data.ptr = w};
    if (epoll_ctl(r->epoll_fd, EPOLL_CTL_MOD, w->fd, &event) == 0) return medleySuccess;
    if (errno == ENOENT && epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, w->fd, &event) == 0) return medleySuccess;
    return mdl_system_error(errno, "epoll_ctl of descriptor %d", w->fd);
}

void mdl_reactor_unwatch(struct mdl_reactor *r, struct mdl_watch *w)
{
    if (!mdl_reactor_mine(r)) return;
    struct epoll_event none = {0};
    if (w->fd >= 0) epoll_ctl(r->epoll_fd, EPOLL_CTL_DEL, w->fd, &none);
    for (int i = r->batch_at; i < r->batch_len; i++)
        if (r->batch[i].data.ptr == w) r->batch[i].data.ptr = NULL;
}

static void run_batch(struct mdl_reactor *r)
{
    for (r->batch_at = 0; r->batch_at < r->batch_len;) {
        struct epoll_event event = r->batch[r->batch_at++];
        struct mdl_watch *w = event.data.ptr;
        if (w && w != (void *)r) w->fn(w, event.events); /* of the eventfd nothing but the wake-up is wanted */
    }
    r->batch_at = r->batch_len = 0;
}

/* ---- the loop ---- */

/* Sleeps for the next batch. An application that closed all descriptors took ours too: then timers and tasks go on, by
 * looking every 10 ms, so that no caller hangs. */
static int wait_batch(struct mdl_reactor *r)
{
    int n = epoll_wait(r->epoll_fd, r->batch, MDL_REACTOR_BATCH, sleep_ms(r));
    if (n >= 0 || errno == EINTR) return n;
    if (!r->broken) mdl_system_error(errno, "the monitor's epoll descriptor %d was closed", r->epoll_fd);
    r->broken = true;
    nanosleep(&(struct timespec){.tv_nsec = 10 * MDL_NS_PER_MS}, NULL);
    return 0;
}

void mdl_reactor_turn(struct mdl_reactor *r)
{
    r->batch_len = wait_batch(r);
    run_batch(r);
    run_timers(r);
    run_tasks(r);
}
