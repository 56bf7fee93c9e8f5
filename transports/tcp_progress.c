/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One turn of the context, sleeping, and the abort that may come from another thread.
 *
 * With few lanes a turn just tries to read each of them; with more it asks epoll once. What a turn does is bounded, so
 * an abort, which waits for the turn under way, is too.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "transports/tcp_context.h"
#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { DIRECT_LANES = 4, EPOLL_BATCH = 32, IDLE_TURNS = 32, ABORT_WAIT_S = 10, QUICK_BYTES = 4096, QUICK_TURNS = 8 };

static _Thread_local char self; /* its address names the thread */

/* ---- who is inside ---- */

bool mdl_tcp_enter(struct mdl_tcp *t)
{
    /* Sequentially consistent, as in mdl_tcp_abort: either this thread sees the abort, or abort sees it inside. */
    atomic_store_explicit(&t->busy, 1, memory_order_seq_cst);
    if (!atomic_load_explicit(&t->aborted, memory_order_seq_cst)) {
        atomic_store_explicit(&t->user, &self, memory_order_relaxed);
        return true;
    }
    atomic_store_explicit(&t->busy, 0, memory_order_release);
    return false;
}

void mdl_tcp_leave(struct mdl_tcp *t)
{
    atomic_store_explicit(&t->user, NULL, memory_order_relaxed);
    atomic_store_explicit(&t->busy, 0, memory_order_release); /* pairs with the acquire in wait_outside */
}

static void shut_lanes(struct mdl_tcp *t)
{
    pthread_mutex_lock(&t->lock);
    for (int r = 0; r < t->nranks; r++) {
        const struct mdl_tcp_peer *p = t->peers[r];
        for (int i = 0; p && i < MDL_TCP_MAX_LANES; i++)
            if (p->lanes[i]) shutdown(p->lanes[i]->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&t->lock);
}

/* A turn is short, but its thread may not be running. */
static void wait_outside(struct mdl_tcp *t)
{
    uint64_t deadline = mdl_now_ns() + ABORT_WAIT_S * MDL_NS_PER_S;
    for (int i = 0; atomic_load_explicit(&t->busy, memory_order_acquire) && mdl_now_ns() < deadline; i++) {
        if (i < 100)
            sched_yield();
        else
            usleep(100);
    }
}

void mdl_tcp_abort(void *ctx)
{
    struct mdl_tcp *t = ctx;
    static const uint64_t one = 1;
    atomic_store_explicit(&t->aborted, true, memory_order_seq_cst);
    shut_lanes(t);
    if (write(t->wake_fd, &one, sizeof one) < 0) {} /* full: readable all the same */
    if (atomic_load_explicit(&t->user, memory_order_relaxed) != &self) wait_outside(t);
}

/* ---- a turn ---- */

/* A lane that brought a small message last is likely to bring the next one: the others are looked at when it has much,
 * and now and then. */
static medleyResult_t poll_peer(struct mdl_tcp_peer *p)
{
    struct mdl_tcp_lane *first = p->heard;
    if (first) {
        MDL_TRY(mdl_tcp_peer_read(p, first));
        if (p->heard == first && first->heard_bytes < QUICK_BYTES && ++p->quick_turns % QUICK_TURNS)
            return medleySuccess;
    }
    for (int i = 0; i < p->nslots; i++)
        if (p->lanes[i] && p->lanes[i] != first) MDL_TRY(mdl_tcp_peer_read(p, p->lanes[i]));
    return medleySuccess;
}

static medleyResult_t poll_direct(struct mdl_tcp *t)
{
    mdl_list_each (it, &t->active) {
        struct mdl_tcp_peer *p = mdl_container_of(it, struct mdl_tcp_peer, link);
        if (p->nlanes) MDL_TRY(poll_peer(p));
    }
    return medleySuccess;
}

static void want_out(struct mdl_tcp *t, struct mdl_tcp_lane *lane, bool want)
{
    if (lane->wants_out == want) return;
    struct epoll_event e = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = lane};
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_MOD, lane->fd, &e) == 0) lane->wants_out = want;
}

static void drain_timer(struct mdl_tcp *t)
{
    uint64_t count;
    if (read(t->timer_fd, &count, sizeof count) > 0) t->timer_ns = UINT64_MAX;
}

static medleyResult_t poll_event(struct mdl_tcp *t, const struct epoll_event *e)
{
    struct mdl_tcp_lane *lane = e->data.ptr;
    if (e->data.ptr == &t->timer_fd) drain_timer(t);
    if (e->data.ptr == &t->timer_fd || e->data.ptr == &t->wake_fd) return medleySuccess;
    if (lane->fd < 0) return medleySuccess; /* killed by an event before this one */
    if (e->events & EPOLLOUT) {
        mdl_tcp_peer_touch(lane->owner);
        if (!lane->nout) want_out(t, lane, false);
    }
    if (e->events & ~(uint32_t)EPOLLOUT) return mdl_tcp_peer_read(lane->owner, lane);
    return medleySuccess;
}

static medleyResult_t poll_epoll(struct mdl_tcp *t)
{
    struct epoll_event events[EPOLL_BATCH];
    int n = epoll_wait(t->epoll_fd, events, EPOLL_BATCH, 0);
    if (n < 0 && errno != EINTR) return mdl_system_error(errno, "rank %d: epoll_wait of the TCP transport", t->rank);
    for (int i = 0; i < n; i++) MDL_TRY(poll_event(t, &events[i]));
    if (n == EPOLL_BATCH) t->more = true;
    return medleySuccess;
}

static medleyResult_t flush_dirty(struct mdl_tcp *t)
{
    mdl_list_each (it, &t->dirty)
        MDL_TRY(mdl_tcp_peer_flush(mdl_container_of(it, struct mdl_tcp_peer, dirty_link), false));
    return medleySuccess;
}

/* Nothing happens: acknowledgements that waited for company go alone. */
static medleyResult_t flush_idle(struct mdl_tcp *t)
{
    mdl_list_each (it, &t->active) {
        struct mdl_tcp_peer *p = mdl_container_of(it, struct mdl_tcp_peer, link);
        if (p->nlanes) MDL_TRY(mdl_tcp_peer_flush(p, true));
    }
    return medleySuccess;
}

static medleyResult_t turn(struct mdl_tcp *t)
{
    t->now = mdl_now_ns();
    t->more = false;
    mdl_tcp_take_handoff(t);
    MDL_TRY(t->nlanes <= DIRECT_LANES ? poll_direct(t) : poll_epoll(t));
    if (t->now >= t->next_tick_ns) mdl_tcp_tick(t);
    if (!mdl_list_empty(&t->dirty)) MDL_TRY(flush_dirty(t));
    if (t->events) t->idle_turns = 0;
    if (++t->idle_turns == IDLE_TURNS) MDL_TRY(flush_idle(t));
    if (!mdl_list_empty(&t->dead_lanes)) mdl_tcp_lanes_bury(t);
    return t->failed;
}

medleyResult_t mdl_tcp_progress(void *ctx, int *events)
{
    struct mdl_tcp *t = ctx;
    if (!mdl_tcp_enter(t)) return mdl_error_set(medleyInvalidUsage, "the communicator was aborted");
    medleyResult_t rc = turn(t);
    if (events) *events += (int)t->events;
    t->events = 0;
    mdl_tcp_leave(t);
    return rc;
}

/* ---- sleeping ---- */

static void set_timer(struct mdl_tcp *t)
{
    if (t->timer_ns == t->next_tick_ns) return;
    struct itimerspec when = {0};
    if (t->next_tick_ns != UINT64_MAX) {
        uint64_t now = mdl_now_ns(), in = t->next_tick_ns > now ? t->next_tick_ns - now : 1;
        when.it_value.tv_sec = (time_t)(in / MDL_NS_PER_S);
        when.it_value.tv_nsec = (long)(in % MDL_NS_PER_S);
    }
    if (timerfd_settime(t->timer_fd, 0, &when, NULL) == 0) t->timer_ns = t->next_tick_ns;
}

static void want_out_all(struct mdl_tcp *t)
{
    mdl_list_each (it, &t->active) {
        struct mdl_tcp_peer *p = mdl_container_of(it, struct mdl_tcp_peer, link);
        for (int i = 0; p->nlanes && i < MDL_TCP_MAX_LANES; i++)
            if (p->lanes[i]) want_out(t, p->lanes[i], p->lanes[i]->nout > 0);
    }
}

static medleyResult_t prepare_sleep(struct mdl_tcp *t)
{
    t->now = mdl_now_ns();
    MDL_TRY(flush_idle(t));
    if (t->events || t->more || t->failed || t->now >= t->next_tick_ns) return medleyInProgress;
    if (t->connected && atomic_load_explicit(&t->handed, memory_order_acquire)) return medleyInProgress;
    want_out_all(t);
    set_timer(t);
    return medleySuccess;
}

medleyResult_t mdl_tcp_arm(void *ctx, int *fd)
{
    struct mdl_tcp *t = ctx;
    if (!mdl_tcp_enter(t)) return medleyInProgress; /* progress tells */
    medleyResult_t rc = prepare_sleep(t);
    if (rc == medleySuccess) *fd = t->epoll_fd;
    mdl_tcp_leave(t);
    return rc;
}

/* Level-triggered: nothing to undo. */
void mdl_tcp_disarm(void *ctx)
{
    struct mdl_tcp *t = ctx;
    if (!mdl_tcp_enter(t)) return;
    drain_timer(t);
    mdl_tcp_leave(t);
}
