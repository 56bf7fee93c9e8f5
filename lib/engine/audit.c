/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit of what was called, between ranks that do not compare every call: those that share no board, and those whose
 * small calls with a root need not meet (lines.h).
 *
 * A broadcast's root sends and is done: if two ranks took themselves for the root, both end well, and nothing but the
 * next call would show it. So each collective's tag also covers all collectives before it, which makes every message
 * after a difference a mismatch; and where no message follows, each rank that has called something since tells the next
 * rank, once per heartbeat, the number and tag of its newest collective. Who finds another tag under that number asks
 * about each call that is still in its diary, oldest first, and the first difference becomes the fault of all ranks.
 */
#include "config.h"

#include "lib/engine/ask.h"
#include "lib/engine/comm.h"
#include "lib/net/door.h"
#include "lib/net/reactor.h"

enum { AUDIT_BYTES = 16 };

static struct mdl_reactor *reactor_of(const struct mdl_comm *c) { return mdl_door_reactor(mdl_ctl_door(c->ctl)); }

static void tell_next(struct mdl_comm *c)
{
    uint64_t seq = atomic_load_explicit(&c->diary.coll_seq, memory_order_acquire);
    uint8_t bytes[AUDIT_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_diary_note note;

    if (seq == c->audit.told || !mdl_diary_find(&c->diary, seq, &note)) return;
    c->audit.told = seq;
    mdl_write_u64(&w, seq);
    mdl_write_u64(&w, note.tag);
    (void)mdl_ctl_send(c->ctl, (c->rank + 1) % c->nranks, MDL_MSG_AUDIT, bytes, sizeof(bytes));
}

static void on_timer(struct mdl_timer *timer)
{
    struct mdl_comm *c = mdl_container_of(timer, struct mdl_comm, audit.timer);

    if (mdl_comm_failed(c)) return;
    tell_next(c);
    mdl_reactor_timer(reactor_of(c), timer, mdl_now_ns() + (uint64_t)c->cfg.heartbeat * MDL_NS_PER_MS);
}

static void on_audit(void *comm, int src, const uint8_t *payload, size_t len)
{
    struct mdl_comm *c = comm;
    struct mdl_reader r = {.p = payload, .left = len};
    uint64_t seq = mdl_read_u64(&r), tag = mdl_read_u64(&r);
    struct mdl_diary_note note;

    if (r.bad || r.left || mdl_comm_failed(c) || !mdl_diary_find(&c->diary, seq, &note) || note.tag == tag) return;
    mdl_diag_ask_past(c, src);
}

static void start_inside(void *comm)
{
    struct mdl_comm *c = comm;

    mdl_ctl_handle(c->ctl, MDL_MSG_AUDIT, on_audit, c);
    on_timer(&c->audit.timer);
}

static void stop_inside(void *comm)
{
    struct mdl_comm *c = comm;

    mdl_reactor_timer_cancel(reactor_of(c), &c->audit.timer);
}

void mdl_audit_start(struct mdl_comm *c)
{
    if (c->nranks == 1 || (c->use_board && c->team->nhosts == 1 && !c->quick)) return; /* every call is compared */
    c->audit.timer.fn = on_timer;
    mdl_reactor_call(reactor_of(c), start_inside, c);
    c->audit.on = true;
}

void mdl_audit_stop(struct mdl_comm *c)
{
    if (!c->audit.on) return;
    mdl_reactor_call(reactor_of(c), stop_inside, c);
    c->audit.on = false;
}
