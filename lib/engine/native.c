/* SPDX-License-Identifier: Apache-2.0 */
/* See native.h: the life of the vendor's communicator, and what the executing thread sees of an operation. */
#include "config.h"

#include "lib/engine/native.h"
#include "lib/engine/comm.h"
#include "lib/engine/op.h"
#include "lib/engine/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* How long a call on the vendor's communicator that does not come back is waited for before the abort comes in all the
 * same: there is nothing else that could end it. */
enum { PATIENCE_MS = 1000 };
#define CLOSE_ABORT_NS   (2 * MDL_NS_PER_S)
#define CLOSE_DESTROY_NS (10 * MDL_NS_PER_S)

struct mdl_native_comm *mdl_native_new(const struct mdl_native *ops, const struct mdl_dev *dev)
{
    struct mdl_native_comm *n = calloc(1, sizeof(*n));

    if (!n) return NULL;
    n->holders = 1;
    n->ops = ops;
    n->dev = *dev;
    pthread_mutex_init(&n->lock, NULL);
    pthread_mutex_init(&n->pool, NULL);
    mdl_list_init(&n->passes);
    mdl_list_init(&n->limbo);
    mdl_list_init(&n->rooms);
    mdl_list_init(&n->limbo_rooms);
    return n;
}

static void free_pass(const struct mdl_device *d, struct mdl_pass *p)
{
    mdl_list_remove(&p->link);
    if (p->begin) (void)d->event_destroy(d, p->begin);
    if (p->end) (void)d->event_destroy(d, p->end);
    free(p);
}

static void free_passes(const struct mdl_device *d, struct mdl_list *list)
{
    mdl_list_each (it, list) free_pass(d, mdl_container_of(it, struct mdl_pass, link));
}

/* `usable`: nothing on a stream uses them any more. Else they stay: to free them would wait for the stream. */
static void free_rooms(const struct mdl_device *d, struct mdl_list *list, bool usable)
{
    mdl_list_each (it, list) {
        struct mdl_native_room *r = mdl_container_of(it, struct mdl_native_room, link);
        mdl_list_remove(it);
        if (usable) (void)d->free(d, r->at);
        free(r);
    }
}

void mdl_native_free_rooms(const struct mdl_device *d, struct mdl_list *rooms) { free_rooms(d, rooms, true); }

static bool is_through(const struct mdl_device *d, const struct mdl_pass *p)
{
    int there = atomic_load_explicit(&p->put, memory_order_acquire); /* pairs with put_event */

    return there == MDL_PASS_NOTHING ||
           d->event_query(d, there == MDL_PASS_END ? p->end : p->begin) != medleyInProgress;
}

bool mdl_native_reap_passes(const struct mdl_device *d, struct mdl_list *passes)
{
    mdl_list_each (it, passes) {
        struct mdl_pass *p = mdl_container_of(it, struct mdl_pass, link);
        if (is_through(d, p)) free_pass(d, p);
    }
    return mdl_list_empty(passes);
}

void mdl_native_drop(void *native_comm)
{
    struct mdl_native_comm *n = native_comm;
    const struct mdl_device *d = n->dev.ops;
    struct mdl_dev_visit visit;
    struct mdl_load *load;
    bool calm;

    if (atomic_fetch_sub_explicit(&n->holders, 1, memory_order_acq_rel) > 1) return; /* pairs with itself */
    if (mdl_dev_enter(&n->dev, &visit) == medleySuccess) {
        free_passes(d, &n->passes);
        free_passes(d, &n->limbo);
        calm = n->ended && mdl_load_find(&n->dev, &load) == medleySuccess && mdl_load_pause(load, 0);
        free_rooms(d, &n->rooms, calm);
        free_rooms(d, &n->limbo_rooms, calm);
        if (calm) mdl_load_resume(load);
        if (n->own && (n->ended || !n->comm)) (void)d->stream_destroy(d, n->own);
        mdl_dev_leave(&n->dev, &visit);
    }
    pthread_mutex_destroy(&n->lock);
    pthread_mutex_destroy(&n->pool);
    free(n);
}

/* ---- the end ---- */

static bool lock_patiently(pthread_mutex_t *lock)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    return pthread_mutex_timedlock(lock, &until) == 0;
}

/* On a thread of its own. */
static void end_now(void *native_comm)
{
    struct mdl_native_comm *n = native_comm;
    bool can_abort = (n->ops->caps(n->ops)->ways & MDL_NATIVE_ABORT) != 0, locked;

    if (n->dev.ops->enter(n->dev.ops, n->dev.ordinal) != medleySuccess) return;
    locked = lock_patiently(&n->lock);
    if (!n->aborts)
        n->ended = n->ops->destroy(n->ops, n->comm) == medleySuccess;
    else if (can_abort)
        n->ended = n->ops->abort(n->ops, n->comm) == medleySuccess;
    else
        MDL_WARN(MDL_COLL, "%s has no abort: what it has put on streams of %s:%d ends with its own time-out",
                 n->ops->name, n->dev.ops->vendor, n->dev.ordinal);
    if (locked) pthread_mutex_unlock(&n->lock);
}

/* The first one decides how. */
static void begin_end(struct mdl_native_comm *n, bool aborts)
{
    pthread_mutex_lock(&n->pool);
    if (!atomic_exchange_explicit(&n->ending, true, memory_order_acq_rel)) { /* pairs with mdl_native_is_over */
        n->aborts = aborts;
        n->end = mdl_aside_start(end_now, n);
        if (!n->end) MDL_WARN(MDL_COLL, "no thread to end the %s communicator with: it stays", n->ops->name);
    }
    pthread_mutex_unlock(&n->pool);
}

void mdl_native_abort(struct mdl_comm *c)
{
    struct mdl_native_comm *n = __atomic_load_n(&c->native, __ATOMIC_ACQUIRE); /* pairs with mdl_native_open */

    if (n) begin_end(n, true);
}

bool mdl_native_end(struct mdl_native_comm *n, int rank, bool aborts)
{
    bool gone;

    begin_end(n, aborts);
    if (!n->end) return false;
    if (!mdl_aside_wait(n->end, mdl_now_ns() + (n->aborts ? CLOSE_ABORT_NS : CLOSE_DESTROY_NS)))
        MDL_WARN(MDL_COLL, "rank %d: %s does not come back from %s its communicator: it is left behind", rank,
                 n->ops->name, n->aborts ? "aborting" : "destroying");
    if (!mdl_aside_end(n->end, mdl_native_drop)) return false;
    gone = n->ended;
    mdl_native_drop(n);
    return gone;
}

static void move_all(struct mdl_list *from, struct mdl_list *to)
{
    mdl_list_each (it, from) {
        mdl_list_remove(it);
        mdl_list_append(to, it);
    }
}

/* What is freed when streams do not use it any more goes with the stager, which waits for that. */
static void hand_over(struct mdl_native_comm *n, struct mdl_stager *st)
{
    pthread_mutex_lock(&n->pool);
    move_all(&n->limbo, &st->passes);
    move_all(&n->rooms, &st->rooms);
    move_all(&n->limbo_rooms, &st->rooms);
    pthread_mutex_unlock(&n->pool);
}

void mdl_native_close(struct mdl_comm *c)
{
    struct mdl_native_comm *n = c->native;

    c->native = NULL;
    if (!n) return;
    atomic_fetch_add_explicit(&n->holders, 1, memory_order_relaxed);
    if (!mdl_native_end(n, c->rank, mdl_comm_failed(c))) c->stager->kept = true;
    hand_over(n, c->stager);
    mdl_native_drop(n);
}

/* ---- for the executing thread ---- */

static int put(struct mdl_pass *p)
{
    return atomic_load_explicit(&p->put, memory_order_acquire);
} /* pairs with put_event */

void mdl_native_look_for_begin(struct mdl_op *op)
{
    struct mdl_native_comm *n = op->native->owner;
    struct mdl_dev_visit visit;

    if (put(op->native) < MDL_PASS_BEGIN || mdl_dev_enter(&n->dev, &visit) != medleySuccess) return;
    op->native->begun = n->dev.ops->event_query(n->dev.ops, op->native->begin) == medleySuccess;
    mdl_dev_leave(&n->dev, &visit);
}

medleyResult_t mdl_native_step(struct mdl_op *op, int *events)
{
    const struct mdl_dev *dev = &op->comm->native->dev;
    const struct mdl_device *d = dev->ops;
    struct mdl_pass *p = op->native;
    medleyResult_t res = medleySuccess;
    int there = put(p);
    struct mdl_dev_visit visit;

    if (there < (p->begun ? MDL_PASS_END : MDL_PASS_BEGIN)) return medleyInProgress;
    MDL_TRY(mdl_dev_enter(dev, &visit));
    if (!p->begun) {
        res = d->event_query(d, p->begin);
        p->begun = res == medleySuccess;
        *events += p->begun;
    }
    if (p->begun) res = there < MDL_PASS_END ? medleyInProgress : d->event_query(d, p->end);
    mdl_dev_leave(dev, &visit);
    *events += res == medleySuccess;
    return res;
}

void mdl_native_look_for_error(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    struct mdl_native_comm *n = c->native;
    struct mdl_dev_visit visit;
    medleyResult_t res = medleySuccess;

    if (!n->ops->async_error || mdl_comm_failed(c) || pthread_mutex_trylock(&n->lock) != 0) return;
    if (!mdl_native_is_over(n)) {
        res = mdl_dev_enter(&n->dev, &visit);
        if (res == medleySuccess) {
            res = n->ops->async_error(n->ops, n->comm);
            mdl_dev_leave(&n->dev, &visit);
        }
    }
    pthread_mutex_unlock(&n->lock);
    (void)mdl_stager_fail(c, res);
}

/* Whom the vendor's library waits for is not known. Those that have left may have done their part: they count only if
 * nobody else is there. */
int mdl_native_blame(const struct mdl_op *op, int *peers, int cap)
{
    const struct mdl_comm *c = op->comm;
    int n = 0;

    for (int gone = 0; gone < 2 && n == 0; gone++) {
        for (int r = 0; r < c->nranks && n < cap; r++) {
            if (r == c->rank || atomic_load_explicit(&c->gone[r], memory_order_relaxed) != gone) continue;
            peers[n++] = r;
        }
    }
    return n;
}

void mdl_native_let_go(struct mdl_op *op)
{
    struct mdl_pass *p = op->native;
    struct mdl_native_comm *n = p->owner;
    bool through = put(p) == MDL_PASS_NOTHING || (op->state == MDL_STATE_FINISHED && op->result == medleySuccess);

    op->native = NULL;
    pthread_mutex_lock(&n->pool);
    for (int i = 0; i < MDL_NATIVE_ROOMS; i++) {
        if (p->room[i]) mdl_list_append(through ? &n->rooms : &n->limbo_rooms, &p->room[i]->link);
        p->room[i] = NULL;
    }
    mdl_list_append(through ? &n->passes : &n->limbo, &p->link);
    pthread_mutex_unlock(&n->pool);
    mdl_native_drop(n);
}
