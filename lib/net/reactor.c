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
 *
 * A process has at most one reactor. Starting and ending it are serialised by `process_lock`, which the last put holds
 * across the join: a get that races it waits, then starts a new thread. The lock is held over fork, so that a child
 * finds it in a known state; that a reactor belongs to the parent shows in its pid.
 */
#include "config.h"
#include "lib/net/reactor.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/net/cpus.h"
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BATCH = 64 };

struct mdl_reactor {
    atomic_int refs; /* changed under process_lock, or by the own thread while it is above 0 */
    pid_t pid;
    pthread_t thread;
    int epoll_fd, wake_fd;

    /* The thread's start: under `lock`. */
    const char *cpu_set; /* the starter's */
    bool started;
    medleyResult_t start_result;
    char start_error[MDL_ERROR_TEXT_BYTES];

    pthread_mutex_t lock;   /* tasks, their `queued`, stop, the start, the calls' `done` */
    pthread_cond_t changed; /* started, or a call is done */
    struct mdl_list tasks;
    bool stop;

    /* The thread's own. */
    struct mdl_list timers; /* by due_ns */
    struct epoll_event batch[BATCH];
    int batch_at, batch_len;
    bool broken;
};

static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static struct mdl_reactor *the_reactor;          /* under process_lock */
static _Thread_local struct mdl_reactor *inside; /* the reactor whose thread this is */

static bool mine(const struct mdl_reactor *r) { return r->pid == getpid(); }

bool mdl_reactor_inside(const struct mdl_reactor *r) { return inside == r && mine(r); }

bool mdl_reactor_alive(const struct mdl_reactor *r) { return mine(r); }

/* ---- tasks ---- */

static void wake(struct mdl_reactor *r)
{
    uint64_t one = 1;
    while (write(r->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {}
}

static void drain(struct mdl_reactor *r)
{
    uint64_t count;
    while (read(r->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR) {}
}

void mdl_reactor_post(struct mdl_reactor *r, struct mdl_task *task)
{
    if (!mine(r)) return;
    pthread_mutex_lock(&r->lock);
    bool first = mdl_list_empty(&r->tasks);
    if (!task->queued) {
        task->queued = true;
        mdl_list_append(&r->tasks, &task->link);
        /* Under the lock: after it the reactor may be gone with the poster's reference. */
        if (first) wake(r);
    }
    pthread_mutex_unlock(&r->lock);
}

void mdl_reactor_unpost(struct mdl_reactor *r, struct mdl_task *task)
{
    if (!mine(r)) return;
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
        if (!mdl_list_empty(&r->tasks)) wake(r);
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
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

void mdl_reactor_call(struct mdl_reactor *r, void (*fn)(void *), void *arg)
{
    if (!mine(r)) return;
    if (inside == r) {
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
    if (!mine(r)) return;
    if (t->set) mdl_list_remove(&t->link);
    t->set = false;
}

/* Most timers are deadlines of one length, so the search for the place starts at the end. */
void mdl_reactor_timer(struct mdl_reactor *r, struct mdl_timer *t, uint64_t due_ns)
{
    if (!mine(r)) return;
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
    if (!mine(r)) return mdl_error(medleyInvalidUsage, "Medley cannot be used in a forked child of its process");
    struct epoll_event event = {.events = epoll_events, .data.ptr = w};
    if (epoll_ctl(r->epoll_fd, EPOLL_CTL_MOD, w->fd, &event) == 0) return medleySuccess;
    if (errno == ENOENT && epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, w->fd, &event) == 0) return medleySuccess;
    return mdl_system_error(errno, "epoll_ctl of descriptor %d", w->fd);
}

void mdl_reactor_unwatch(struct mdl_reactor *r, struct mdl_watch *w)
{
    if (!mine(r)) return;
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
        if (w == (void *)r)
            drain(r);
        else if (w)
            w->fn(w, event.events);
    }
    r->batch_at = r->batch_len = 0;
}

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

/* Sleeps for the next batch. An application that closed all descriptors took ours too: then timers and tasks go on, by
 * looking every 10 ms, so that no caller hangs. */
static int wait_batch(struct mdl_reactor *r)
{
    int n = epoll_wait(r->epoll_fd, r->batch, BATCH, sleep_ms(r));
    if (n >= 0 || errno == EINTR) return n;
    if (!r->broken) mdl_system_error(errno, "the monitor's epoll descriptor %d was closed", r->epoll_fd);
    r->broken = true;
    nanosleep(&(struct timespec){.tv_nsec = 10 * MDL_NS_PER_MS}, NULL);
    return 0;
}

static void *run(void *arg)
{
    struct mdl_reactor *r = arg;
    inside = r;
    pthread_setname_np(pthread_self(), "medley-monitor");
    medleyResult_t result = mdl_cpus_apply(r->cpu_set);
    tell_start(r, result);
    if (result != medleySuccess) return NULL;
    while (!finished(r)) {
        r->batch_len = wait_batch(r);
        run_batch(r);
        run_timers(r);
        run_tasks(r);
    }
    return NULL;
}

static int create_thread(struct mdl_reactor *r)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = pthread_create(&r->thread, NULL, run, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return err;
}

static medleyResult_t start_thread(struct mdl_reactor *r)
{
    int err = create_thread(r);
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
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = r};
    if (r->wake_fd >= 0 && epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->wake_fd, &event) == 0) return medleySuccess;
    return mdl_system_error(errno, "the monitor's eventfd cannot be made");
}

static void destroy(struct mdl_reactor *r)
{
    if (r->wake_fd >= 0) close(r->wake_fd);
    if (r->epoll_fd >= 0) close(r->epoll_fd);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r);
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
    int refs = atomic_load_explicit(&inside->refs, memory_order_relaxed);
    while (refs > 0)
        if (atomic_compare_exchange_weak_explicit(&inside->refs, &refs, refs + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            *out = inside;
            return medleySuccess;
        }
    return mdl_error(medleyInvalidUsage, "the monitor is about to end");
}

static medleyResult_t get_locked(const char *cpu_set, struct mdl_reactor **out)
{
    if (!the_reactor)
        MDL_TRY(create(cpu_set, &the_reactor));
    else if (!mine(the_reactor))
        return mdl_error(medleyInvalidUsage, "Medley cannot be used in a forked child of a process that uses it");
    else
        atomic_fetch_add_explicit(&the_reactor->refs, 1, memory_order_relaxed);
    *out = the_reactor;
    return medleySuccess;
}

medleyResult_t mdl_reactor_get(const char *cpu_set, struct mdl_reactor **r)
{
    if (inside && mine(inside)) return get_inside(r);
    pthread_once(&fork_once, hook_fork);
    lock_process();
    medleyResult_t result = get_locked(cpu_set, r);
    unlock_process();
    return result;
}

static void join(struct mdl_reactor *r)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    wake(r);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
}

void mdl_reactor_put(struct mdl_reactor *r)
{
    if (!r || !mine(r)) return;
    lock_process();
    /* Release: what other putters did is done before the end; pairs with itself (acquire). */
    if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) {
        join(r);
        the_reactor = NULL;
        destroy(r);
    }
    unlock_process();
}
