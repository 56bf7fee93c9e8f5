/* SPDX-License-Identifier: Apache-2.0 */
/* The progress thread and the queues of communicators. */
#include "config.h"

#include "lib/base/fence.h"
#include "lib/engine/queue.h"
#include "lib/engine/stage.h"
#include "lib/base/thread.h"
#include "lib/net/cpus.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SLICE_NS = 200000 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond; /* something finished; monotonic clock */
    pthread_once_t once;
    pthread_t thread;
    bool running, stop;
    int users; /* streams and queued batches */
    int wake_fd;
    _Atomic bool dirty;  /* somebody queued something that the thread has not looked at */
    _Atomic bool asleep; /* the thread sleeps, or is about to */
    _Atomic bool rung;   /* wake_fd was written */
    bool placed;        /* the thread was moved to some communicator's MEDLEY_CPU_SET */
    struct mdl_list comms;
} q = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT, .wake_fd = -1};

static void init_once(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q.cond, &attr);
    pthread_condattr_destroy(&attr);
    mdl_list_init(&q.comms);
}

void mdl_queue_lock(void)
{
    pthread_once(&q.once, init_once);
    pthread_mutex_lock(&q.lock);
}

void mdl_queue_unlock(void) { pthread_mutex_unlock(&q.lock); }

void mdl_queue_changed(void) { pthread_cond_broadcast(&q.cond); }

medleyResult_t mdl_queue_wait(uint64_t deadline_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(deadline_ns / MDL_NS_PER_S),
                          .tv_nsec = (long)(deadline_ns % MDL_NS_PER_S)};

    if (!deadline_ns)
        pthread_cond_wait(&q.cond, &q.lock);
    else if (pthread_cond_timedwait(&q.cond, &q.lock, &ts) == ETIMEDOUT)
        return medleyTimeout;
    return medleySuccess;
}

void mdl_queue_poke(void)
{
    const uint64_t one = 1;

    atomic_store_explicit(&q.dirty, true, memory_order_release); /* pairs with the exchange in look_for_work */
    mdl_fence();                                                 /* pairs with the one in the driver's arm */
    if (q.wake_fd < 0 || !atomic_load_explicit(&q.asleep, memory_order_relaxed)) return;
    if (atomic_exchange_explicit(&q.rung, true, memory_order_acq_rel)) return;
    if (write(q.wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN) return;
}

/* ---- the thread ---- */

static bool ready(const struct mdl_batch *b)
{
    for (struct mdl_item *i = b->tickets; i; i = i->sibling) {
        if (!mdl_stream_is_head(i)) return false;
    }
    return true;
}

static struct mdl_batch *head_of(struct mdl_list *comm_link)
{
    struct mdl_comm *c = mdl_container_of(comm_link, struct mdl_comm, active);

    return mdl_container_of(c->queue.next, struct mdl_batch, link);
}

static void drop_tickets(struct mdl_batch *b, medleyResult_t result)
{
    struct mdl_item *next;

    for (struct mdl_item *i = b->tickets; i; i = next) {
        next = i->sibling;
        mdl_stream_drop(i, result);
    }
    b->tickets = NULL;
}

/* With the lock: takes a batch out of all queues and frees it. */
static void retire(struct mdl_batch *b)
{
    struct mdl_comm *c = b->comm;
    struct mdl_load *load = NULL;

    drop_tickets(b, b->result);
    mdl_list_remove(&b->link);
    if (mdl_list_empty(&c->queue)) {
        mdl_list_remove(&c->active);
        pthread_cond_broadcast(&q.cond);
    }
    if (c->stager) load = c->stager->load;
    mdl_batch_free(b); /* its operations still look at the communicator, which may go once it is not busy */
    if (load) mdl_load_remove(load);
    atomic_fetch_sub_explicit(&c->queued, 1, memory_order_release); /* pairs with mdl_queue_busy */
    q.users--;
}

static void retire_finished(void)
{
    mdl_list_each (it, &q.comms) {
        struct mdl_batch *b = head_of(it);
        if (!b->started || !b->finished) continue;
        b->kept = b->issuing;
        if (!b->issuing) retire(b);
    }
}

static void start_ready(struct mdl_driver *d)
{
    mdl_list_each (it, &q.comms) {
        struct mdl_batch *b = head_of(it);
        if (b->started || !ready(b)) continue;
        if (mdl_driver_add(d, b) != medleySuccess) return; /* no memory now: at the next turn */
        b->started = true;
    }
}

/* With the lock. False: the thread shall end. */
static bool look_for_work(struct mdl_driver *d)
{
    bool moved = true;

    atomic_exchange_explicit(&q.dirty, false, memory_order_acquire); /* pairs with mdl_queue_poke */
    retire_finished();
    while (moved) moved = mdl_streams_settle();
    start_ready(d);
    return !(q.stop && q.users == 0);
}

/* Short slices, which Linux lets a thread ask for since 6.12: when this thread is woken up it then takes the processor
 * from one that computes at once, and not at the end of that one's slice. Its share stays what it is. */
static void ask_for_short_slices(void)
{
#ifdef SYS_sched_setattr
    if (sched_getscheduler(0) != SCHED_OTHER) return;
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = sizeof(attr), .nice = getpriority(PRIO_PROCESS, 0), .runtime = SLICE_NS};

    (void)syscall(SYS_sched_setattr, 0, &attr, 0); /* older kernels ignore it */
#endif
}

static void *thread_main(void *arg)
{
    struct mdl_driver d;
    uint64_t count;

    (void)arg;
    pthread_setname_np(pthread_self(), "medley-progress");
    ask_for_short_slices();
    mdl_driver_init(&d, q.wake_fd);
    d.asleep = &q.asleep;
    pthread_mutex_lock(&q.lock);
    while (look_for_work(&d)) {
        pthread_mutex_unlock(&q.lock);
        while (mdl_driver_turn(&d) == 0 && !atomic_load_explicit(&q.dirty, memory_order_relaxed)) continue;
        if (atomic_exchange_explicit(&q.rung, false, memory_order_acq_rel) &&
            read(q.wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
            MDL_WARN(MDL_COLL, "progress thread: %m");
        pthread_mutex_lock(&q.lock);
    }
    pthread_mutex_unlock(&q.lock);
    mdl_driver_fini(&d);
    return NULL;
}

static medleyResult_t start_thread(void)
{
    int err;

    q.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q.wake_fd < 0) return mdl_system_error(errno, "cannot make an eventfd for the progress thread");
    q.stop = q.placed = false;
    atomic_store_explicit(&q.asleep, false, memory_order_relaxed);
    atomic_store_explicit(&q.rung, false, memory_order_relaxed);
    err = mdl_thread_start(thread_main, NULL, &q.thread);
    if (err) {
        close(q.wake_fd);
        q.wake_fd = -1;
        return mdl_system_error(err, "cannot start the progress thread");
    }
    q.running = true;
    return medleySuccess;
}

medleyResult_t mdl_queue_hold(void)
{
    medleyResult_t res = medleySuccess;

    mdl_queue_lock();
    while (q.running && q.stop) mdl_queue_wait(0); /* the former one is about to end */
    if (!q.running) res = start_thread();
    if (res == medleySuccess) q.users++;
    mdl_queue_unlock();
    return res;
}

void mdl_queue_release(void)
{
    pthread_t old;

    mdl_queue_lock();
    if (--q.users > 0 || q.stop || !q.running) {
        mdl_queue_unlock();
        return;
    }
    q.stop = true;
    old = q.thread;
    mdl_queue_poke();
    mdl_queue_unlock();
    pthread_join(old, NULL);
    mdl_queue_lock();
    close(q.wake_fd);
    q.wake_fd = -1;
    q.running = q.stop = false;
    pthread_cond_broadcast(&q.cond);
    mdl_queue_unlock();
}

/* ---- submitting ---- */

static medleyResult_t make_tickets(struct mdl_batch *b, void *const *streams, int n)
{
    for (int s = 0; s < n; s++) {
        struct mdl_item *item = calloc(1, sizeof(*item));
        if (!item) return mdl_error(medleySystemError, "out of memory for an operation on a stream");
        mdl_list_init(&item->link);
        item->kind = MDL_ITEM_BATCH;
        item->batch = b;
        item->sibling = b->tickets;
        b->tickets = item;
        MDL_TRY(mdl_stream_append(streams[s], item));
    }
    return medleySuccess;
}

/* The thread serves all communicators of the process: the first one that names processors decides. With the lock. */
static void place_thread(const struct mdl_comm *c)
{
    if (q.placed || !c->cfg.cpu_set.s[0]) return;
    q.placed = true;
    if (mdl_cpus_move(q.thread, c->cfg.cpu_set.s) != medleySuccess) mdl_error_clear(); /* it was logged: run anywhere */
}

static medleyResult_t submit(struct mdl_batch *b, void *const *streams, int n)
{
    struct mdl_comm *c = b->comm;
    medleyResult_t res = mdl_queue_hold();

    if (res != medleySuccess) {
        mdl_batch_free(b);
        return res;
    }
    mdl_queue_lock();
    res = make_tickets(b, streams, n);
    if (res != medleySuccess) {
        drop_tickets(b, medleySuccess);
        mdl_batch_free(b);
        mdl_queue_unlock();
        mdl_queue_release();
        return res;
    }
    place_thread(c);
    if (mdl_list_empty(&c->queue)) mdl_list_append(&q.comms, &c->active);
    mdl_list_append(&c->queue, &b->link);
    atomic_fetch_add_explicit(&c->queued, 1, memory_order_relaxed);
    mdl_queue_poke();
    mdl_queue_unlock();
    return medleySuccess;
}

medleyResult_t mdl_queue_submit(struct mdl_batch *b, void *const *streams, int n)
{
    struct mdl_load *load = b->comm->stager ? b->comm->stager->load : NULL;
    medleyResult_t res;

    if (load) mdl_load_add(load);
    res = submit(b, streams, n);
    if (load && res != medleySuccess) mdl_load_remove(load);
    return res;
}

void mdl_queue_issued(struct mdl_batch *b)
{
    mdl_queue_lock();
    b->issuing = false;
    if (b->kept) mdl_queue_poke();
    mdl_queue_unlock();
}

bool mdl_queue_busy(const struct mdl_comm *c)
{
    return atomic_load_explicit((_Atomic uint32_t *)&c->queued, memory_order_acquire) != 0; /* pairs with retire */
}

/* Ends the thread if nothing needs it any more. The last user may have been a batch of a stream that is long destroyed:
 * it is the thread itself that retires it, so somebody else must look. */
void mdl_queue_collect(void)
{
    bool idle;

    mdl_queue_lock();
    idle = q.users == 0 && q.running && !q.stop;
    if (idle) q.users++; /* release takes it back */
    mdl_queue_unlock();
    if (idle) mdl_queue_release();
}

void mdl_queue_drain(struct mdl_comm *c)
{
    if (!mdl_queue_busy(c)) return;
    mdl_queue_lock();
    while (mdl_queue_busy(c)) mdl_queue_wait(0);
    mdl_queue_unlock();
    mdl_queue_collect();
}

void mdl_queue_cancel(struct mdl_comm *c)
{
    if (!mdl_queue_busy(c)) return;
    mdl_queue_lock();
    mdl_list_each (it, &c->queue) {
        struct mdl_batch *b = mdl_container_of(it, struct mdl_batch, link);
        if (b->started || b->issuing) continue; /* the thread lets go what its issuer may wait for, and retires it */
        b->result = mdl_comm_fault(c);
        retire(b);
    }
    mdl_queue_poke();
    while (mdl_queue_busy(c)) mdl_queue_wait(0);
    mdl_queue_unlock();
    mdl_queue_collect();
}
