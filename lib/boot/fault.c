/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flood of the first fault.
 *
 * A rank that learns of a fault tells its tree neighbours, once each, and each says FAULT_SEEN. Where a neighbour is
 * gone, or has not said it in time (it may be stopped), the rank tells that one's neighbours itself, and so on around
 * any number of dead nodes. A rank that leaves with a fault that somebody has not said to have seen goes around at
 * once: else those behind a cut would only learn that it has left. Who hears it a second time only acknowledges, so the
 * cost stays near one message per edge.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/ctl.h"

enum { SEEN_MS = 300 };

static void tell(struct mdl_ctl *ctl, uint32_t rank);

static void detour(struct mdl_ctl_peer *p)
{
    uint32_t list[1 + MDL_TREE_ARITY];
    if (p->fault_detoured || !p->ctl->complete) return;
    p->fault_detoured = true;
    int n = mdl_tree_neighbours((uint32_t)p->rank, p->ctl->nranks, list);
    for (int i = 0; i < n; i++)
        if (list[i] != p->ctl->rank) tell(p->ctl, list[i]);
}

static void send_fault(struct mdl_ctl_peer *p)
{
    uint8_t bytes[16 + MDL_ERROR_TEXT_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    mdl_trouble_write(&w, &p->ctl->fault.trouble);
    mdl_peer_send(p->ctl, (uint32_t)p->rank, MDL_FRAME_FAULT, 0, bytes, w.len);
}

static void tell(struct mdl_ctl *ctl, uint32_t rank)
{
    struct mdl_ctl_peer *p = mdl_peer_get(ctl, rank);
    if (!p || p->fault_sent || p->fault_seen) return;
    p->fault_sent = true;
    if (mdl_peer_gone(p))
        detour(p);
    else
        send_fault(p);
}

/* Goes around those that have not answered; false: there are none. */
static bool go_around(struct mdl_ctl *ctl)
{
    bool any = false;
    mdl_list_each (it, &ctl->known) {
        struct mdl_ctl_peer *p = mdl_container_of(it, struct mdl_ctl_peer, link);
        if (!p->fault_sent || p->fault_seen || p->fault_detoured) continue;
        detour(p);
        any = true;
    }
    return any;
}

static void on_retry(struct mdl_timer *timer)
{
    struct mdl_ctl *ctl = mdl_container_of(timer, struct mdl_ctl, fault.retry);
    if (go_around(ctl) && !ctl->closing) mdl_reactor_timer(ctl->reactor, timer, mdl_now_ns() + SEEN_MS * MDL_NS_PER_MS);
}

static void flood(struct mdl_ctl *ctl)
{
    uint32_t list[1 + MDL_TREE_ARITY];
    int n = mdl_tree_neighbours(ctl->rank, ctl->nranks, list);
    /* Before READY this rank knows nobody. */
    for (int i = 0; i < n; i++)
        if (ctl->entries[list[i]] || mdl_peer_look(ctl, list[i])) tell(ctl, list[i]);
    ctl->fault.retry.fn = on_retry;
    mdl_reactor_timer(ctl->reactor, &ctl->fault.retry, mdl_now_ns() + SEEN_MS * MDL_NS_PER_MS);
}

void mdl_fault_set(struct mdl_ctl *ctl, const struct mdl_trouble *t)
{
    if (ctl->fault.set || ctl->closing) return;
    ctl->fault.set = true;
    ctl->fault.trouble = *t;
    MDL_INFO(MDL_FAULT, "rank %u: the communicator has failed (result %d, from rank %d): %s", ctl->rank, t->code,
             t->origin, t->text);
    flood(ctl);
    mdl_gather_fail(ctl, t->code, ctl->fault.trouble.text);
    if (ctl->args.on_fault) ctl->args.on_fault(ctl->args.ctx, t->code, t->origin, ctl->fault.trouble.text);
}

void mdl_fault_frame(struct mdl_ctl *ctl, uint32_t src, const struct mdl_frame *frame, const uint8_t *payload)
{
    struct mdl_ctl_peer *p = mdl_peer_look(ctl, src);
    struct mdl_trouble t;
    if (frame->type == MDL_FRAME_FAULT) {
        if (!mdl_trouble_read(payload, frame->length, &t)) return;
        p->fault_seen = true;
        mdl_fault_set(ctl, &t);
        /* Only now that it has been passed on: who is stopped before it says so is gone around. */
        mdl_peer_send(ctl, src, MDL_FRAME_FAULT_SEEN, 0, NULL, 0);
    }
    p->fault_seen = true;
}

void mdl_fault_linked(struct mdl_ctl_peer *p)
{
    if (p->ctl->fault.set && !p->fault_sent && !p->fault_seen) tell(p->ctl, (uint32_t)p->rank);
}

void mdl_fault_gone(struct mdl_ctl_peer *p)
{
    if (p->ctl->fault.set && p->fault_sent) detour(p);
}

bool mdl_fault_unheard(const struct mdl_ctl *ctl)
{
    mdl_list_each (it, &ctl->known) {
        const struct mdl_ctl_peer *p = mdl_container_of(it, struct mdl_ctl_peer, link);
        if (p->fault_sent && !p->fault_seen && !p->fault_detoured && !mdl_peer_gone(p) && !p->leaving) return true;
    }
    return false;
}

void mdl_fault_leave(struct mdl_ctl *ctl)
{
    if (ctl->fault.set) (void)go_around(ctl);
}

void mdl_fault_fini(struct mdl_ctl *ctl) { mdl_reactor_timer_cancel(ctl->reactor, &ctl->fault.retry); }
