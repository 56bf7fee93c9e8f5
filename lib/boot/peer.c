/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers: the links of a control plane.
 *
 * A link is opened when the first message for a rank is there. Who accepts it greets with HELLO; who dialed sends
 * nothing before that, so a connection that the other side dropped in the handshake costs a new try and no message. If
 * both sides dial at once both links stay: each side sends on the first that it had and receives from both. So a
 * message is never lost, overtaken, or sent twice.
 *
 * The end of a link without GOODBYE is the end of the peer, unless the network took it (resume.c). GOODBYE comes over
 * every link and says how many messages there were before it: until all have come, over whichever link, the peer is
 * still there. A peer that is gone stays gone.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/ctl.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { GREETING_TRIES = 4, RETRY_MS = 100 };

static void on_frame(struct mdl_wire *w, const struct mdl_frame *frame, const uint8_t *payload);
static void on_end(struct mdl_wire *w, enum mdl_wire_end how, const char *why);
static const struct mdl_wire_use use = {on_frame, on_end};

struct mdl_ctl_peer *mdl_peer_look(const struct mdl_ctl *ctl, uint32_t rank) { return ctl->peers[rank]; }
bool mdl_peer_gone(const struct mdl_ctl_peer *p) { return p && (p->lost || p->said_goodbye); }

bool mdl_peer_is_wanted(const struct mdl_ctl_peer *p)
{
    return p->neighbour || p->watched || !mdl_list_empty(&p->kept);
}

int mdl_peer_wires(const struct mdl_ctl_peer *p, struct mdl_wire *list[MDL_CTL_WIRES])
{
    struct mdl_wire *const now[] = {p->out, p->in, p->fresh};
    int n = 0;
    for (int i = 0; i < 3; i++)
        if (now[i]) list[n++] = now[i];
    for (int i = 0; i < MDL_CTL_OLD_WIRES; i++)
        if (p->old[i]) list[n++] = p->old[i];
    return n;
}

/* ---- life ---- */

static bool is_neighbour(uint32_t a, uint32_t b)
{
    return (a && mdl_tree_parent(a) == b) || (b && mdl_tree_parent(b) == a);
}

static void start_dial(struct mdl_ctl_peer *p);
static void on_retry(struct mdl_timer *timer) { start_dial(mdl_container_of(timer, struct mdl_ctl_peer, retry)); }

struct mdl_ctl_peer *mdl_peer_get(struct mdl_ctl *ctl, uint32_t rank)
{
    struct mdl_ctl_peer *p = ctl->peers[rank];
    if (p) return p;
    p = calloc(1, sizeof(*p));
    if (!p) {
        mdl_system_error(ENOMEM, "rank %u: no memory for a link to rank %u", ctl->rank, rank);
        return NULL;
    }
    p->ctl = ctl;
    p->rank = (int)rank;
    p->retry.fn = on_retry;
    p->pid_watch.fd = -1;
    p->neighbour = is_neighbour(ctl->rank, rank);
    mdl_list_init(&p->queue);
    mdl_list_init(&p->kept);
    mdl_list_append(&ctl->known, &p->link);
    ctl->peers[rank] = p;
    return p;
}

static void drop_message(struct mdl_ctl *ctl, struct mdl_ctl_message *m)
{
    /* Relaxed: a limit, not a lock. */
    if (m->charged) atomic_fetch_sub_explicit(&ctl->queued_bytes, m->len, memory_order_relaxed);
    free(m);
}

static void drop_links(struct mdl_ctl_peer *p)
{
    mdl_reactor_timer_cancel(p->ctl->reactor, &p->retry);
    mdl_dial_cancel(p->dial);
    mdl_wire_close(p->out);
    mdl_wire_close(p->in);
    mdl_wire_close(p->dialed);
    p->dial = NULL;
    p->out = p->in = p->dialed = NULL;
    mdl_resume_fini(p);
    mdl_beat_unwatch_process(p);
    mdl_list_each (it, &p->queue) {
        mdl_list_remove(it);
        drop_message(p->ctl, mdl_container_of(it, struct mdl_ctl_message, link));
    }
}

void mdl_peer_destroy(struct mdl_ctl_peer *p)
{
    drop_links(p);
    mdl_list_remove(&p->link);
    p->ctl->peers[p->rank] = NULL;
    free(p);
}

/* ---- the end of a peer ---- */

static void tell_lost(struct mdl_ctl_peer *p, bool said_goodbye, const char *why)
{
    struct mdl_ctl *ctl = p->ctl;
    struct mdl_trouble t = {.code = medleyRemoteError, .origin = p->rank};
    MDL_INFO(MDL_BOOT, "rank %u: rank %d (%s) is gone: %s", ctl->rank, p->rank, mdl_ctl_host(ctl, p->rank), why);
    if (ctl->on_lost) {
        ctl->on_lost(ctl->on_lost_ctx, p->rank, said_goodbye, why);
    } else if (!said_goodbye) {
        snprintf(t.text, sizeof(t.text), "rank %d (%s) is lost: %s", p->rank, mdl_ctl_host(ctl, p->rank), why);
        mdl_fault_set(ctl, &t);
    }
}

static void depart(struct mdl_ctl_peer *p)
{
    p->said_goodbye = true;
    mdl_beat_unwatch_process(p);
    mdl_fault_gone(p);
    mdl_gather_gone(p->ctl, p, "it has left: its communicator was destroyed, or failed there");
    if (p->watched || p->missed) mdl_peer_wanted(p);
}

void mdl_peer_lost(struct mdl_ctl_peer *p, const char *why)
{
    char text[MDL_ERROR_TEXT_BYTES];
    if (p->lost) return;
    snprintf(text, sizeof(text), "%s", why); /* it may belong to what is dropped now */
    p->lost = true;
    drop_links(p);
    if (p->said_goodbye) return;
    if (p->leaving) {
        depart(p);
        return;
    }
    mdl_fault_gone(p);
    tell_lost(p, false, text);
    mdl_gather_gone(p->ctl, p, text);
}

/* All that it sent has come, or nothing more can: the links are at their end. */
static void depart_if_over(struct mdl_ctl_peer *p)
{
    bool linked = p->out || p->in || p->fresh || p->dial || p->dialed || p->retry.set;
    if (p->leaving && !p->said_goodbye && (p->taken >= p->leaves_after || !linked)) depart(p);
}

void mdl_peer_goodbye(struct mdl_ctl_peer *p, uint64_t sent)
{
    p->leaving = true;
    p->leaves_after = sent;
    depart_if_over(p);
}

void mdl_peer_wanted(struct mdl_ctl_peer *p)
{
    p->missed |= p->leaving;
    if (!p->said_goodbye || p->goodbye_told) return;
    p->goodbye_told = true;
    tell_lost(p, true, "it has left: its communicator was destroyed");
}

/* ---- sending ---- */

static void put(struct mdl_ctl_peer *p, int type, int flags, const void *payload, size_t len, bool charged)
{
    struct mdl_frame frame = {.type = (uint8_t)type, .flags = (uint16_t)flags};
    mdl_resume_sent(p, type, flags, payload, len);
    mdl_wire_send(p->out, &frame, payload, len, charged ? &p->ctl->queued_bytes : NULL);
}

void mdl_peer_flush(struct mdl_ctl_peer *p)
{
    while (p->out && !p->resuming && !mdl_list_empty(&p->queue)) {
        struct mdl_ctl_message *m = mdl_container_of(p->queue.next, struct mdl_ctl_message, link);
        mdl_list_remove(&m->link);
        put(p, m->type, m->flags, m->payload, m->len, m->charged);
        free(m);
    }
}

void mdl_peer_pass(struct mdl_ctl *ctl, struct mdl_ctl_message *m)
{
    struct mdl_ctl_peer *p = mdl_peer_get(ctl, (uint32_t)m->rank);
    if (!p || p->lost || p->said_goodbye) {
        drop_message(ctl, m);
        if (p) mdl_peer_wanted(p);
        return;
    }
    p->missed |= p->leaving;
    mdl_list_append(&p->queue, &m->link);
    if (p->out)
        mdl_peer_flush(p);
    else if (!p->dial && !p->dialed && !p->retry.set)
        start_dial(p);
}

void mdl_peer_send(struct mdl_ctl *ctl, uint32_t rank, int type, int flags, const void *payload, size_t len)
{
    struct mdl_ctl_peer *p = mdl_peer_look(ctl, rank);
    if (p && p->out && !p->resuming && mdl_list_empty(&p->queue)) {
        if (!mdl_peer_gone(p)) put(p, type, flags, payload, len, false);
        return;
    }
    struct mdl_ctl_message *m = malloc(sizeof(*m) + len);
    if (!m) {
        mdl_system_error(ENOMEM, "rank %u: no memory for a message to rank %u", ctl->rank, rank);
        return;
    }
    *m = (struct mdl_ctl_message){.rank = (int)rank, .type = (uint8_t)type, .flags = (uint16_t)flags, .len = len};
    if (len) memcpy(m->payload, payload, len);
    mdl_peer_pass(ctl, m);
}

void mdl_peer_beat(struct mdl_ctl_peer *p, int flags)
{
    uint8_t count[8];
    mdl_put_u64(count, p->taken);
    p->told = p->taken;
    mdl_peer_send(p->ctl, (uint32_t)p->rank, MDL_FRAME_BEAT, flags, count, sizeof(count));
}

/* ---- opening ---- */

static void use_link(struct mdl_ctl_peer *p, struct mdl_wire *w)
{
    const struct mdl_link *link = mdl_wire_link(w);
    p->heard_ns = mdl_now_ns();
    p->linked = true;
    p->calls = 0;
    if (link->local.sa.ss_family == AF_UNIX && link->fd >= 0) mdl_beat_watch_process(p, link->fd);
    if (p->out) {
        p->in = w;
    } else {
        p->out = w;
        mdl_peer_flush(p);
    }
    mdl_fault_linked(p);
    if (p->ctl->closing) { /* say_goodbye has passed */
        uint8_t sent[8];
        mdl_put_u64(sent, p->sent);
        put(p, MDL_FRAME_GOODBYE, 0, sent, sizeof(sent), false);
    }
}

static void try_again(struct mdl_ctl_peer *p, const char *why)
{
    uint64_t now = mdl_now_ns();
    if (p->out || p->lost) return;
    if (++p->tries < GREETING_TRIES || (p->ctl->patient && now < p->ctl->init_deadline_ns))
        mdl_reactor_timer(p->ctl->reactor, &p->retry, now + RETRY_MS * MDL_NS_PER_MS);
    else
        mdl_peer_lost(p, why);
}

/* The next heartbeat dials again; where there is no link, it cannot wait. */
static void resume_failed(struct mdl_ctl_peer *p, const char *why)
{
    uint64_t now = mdl_now_ns();
    if (p->out) return;
    if (now - p->heard_ns > (uint64_t)p->ctl->cfg.dead_after * MDL_NS_PER_MS)
        mdl_peer_lost(p, why);
    else
        mdl_reactor_timer(p->ctl->reactor, &p->retry, now + RETRY_MS * MDL_NS_PER_MS);
}

static void dial_failed(struct mdl_ctl_peer *p, medleyResult_t result, const char *why)
{
    bool remote = result == medleyRemoteError || result == medleyTimeout;
    if (p->linked)
        resume_failed(p, why);
    else if (remote && !p->neighbour && p->ctl->complete)
        mdl_call_back(p, why);
    else if (result == medleyRemoteError)
        try_again(p, why); /* it may have left because of a fault that is still on its way to this rank */
    else
        mdl_peer_lost(p, why);
}

static void on_dialed(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    struct mdl_ctl_peer *p = ctx;
    struct mdl_wire_args args = {
        .reactor = p->ctl->reactor, .use = &use, .ctx = p, .self = p->ctl->rank, .peer = (uint32_t)p->rank};
    mdl_dial_cancel(p->dial);
    p->dial = NULL;
    if (result == medleySuccess) {
        result = mdl_wire_open(&args, link, &p->dialed);
        why = mdl_error_text();
    }
    p->dialed_ns = mdl_now_ns();
    if (!p->linked) p->heard_ns = p->dialed_ns;
    if (result == medleySuccess) return;
    dial_failed(p, result, why);
}

/* Abstract Unix names mean something only where their rank and this one are in one place. */
static int usable_addresses(const struct mdl_ctl *ctl, struct mdl_member *m)
{
    struct mdl_member *self = malloc(sizeof(*self));
    int n = 0;
    bool same_place = self && mdl_members_get(ctl, ctl->rank, self) ? self->place == m->place : !ctl->cfg.host_id.s[0];
    for (int i = 0; i < m->naddrs && n < MDL_MAX_ADDRS; i++)
        if (m->addrs[i].sa.ss_family != AF_UNIX || same_place) m->addrs[n++] = m->addrs[i];
    free(self);
    return n;
}

static void dial_member(struct mdl_ctl_peer *p, struct mdl_member *m)
{
    struct mdl_ctl *ctl = p->ctl;
    struct mdl_secret secret;
    uint64_t now = mdl_now_ns(), since = p->linked ? p->heard_ns : now;
    uint64_t patience = since + (uint64_t)ctl->cfg.dead_after * MDL_NS_PER_MS;
    if (!p->neighbour && !p->linked) patience = now + mdl_call_patience_ns(ctl);
    mdl_secret_derive(&ctl->base, "control", m->service, &secret);
    struct mdl_dial_args args = {
        .door = ctl->door,
        .secret = &secret,
        .purpose = MDL_PURPOSE_CONTROL,
        .rank = (int)ctl->rank,
        .expect_rank = p->rank,
        .addrs = m->addrs,
        .naddrs = usable_addresses(ctl, m),
        /* While joining, the exchange has the first word on who is missing. */
        .deadline_ns = ctl->joining && ctl->init_deadline_ns > now ? ctl->init_deadline_ns + MDL_NS_PER_S : patience,
        .retry_refused = ctl->patient && ctl->joining,
        .share = true,
    };
    if (!args.naddrs)
        mdl_peer_lost(p, "it has no address that this rank could reach");
    else if (mdl_dial_start(&args, on_dialed, p, &p->dial) != medleySuccess)
        mdl_peer_lost(p, mdl_error_text());
    sodium_memzero(&secret, sizeof(secret));
}

void mdl_peer_redial(struct mdl_ctl_peer *p)
{
    struct mdl_member *m;
    if (mdl_peer_gone(p) || p->dial || p->dialed) return;
    mdl_reactor_timer_cancel(p->ctl->reactor, &p->retry);
    m = malloc(sizeof(*m));
    p->dial_resumes = p->linked;
    if (m && mdl_members_get(p->ctl, (uint32_t)p->rank, m))
        dial_member(p, m);
    else
        mdl_peer_lost(p, "its addresses are not known yet");
    free(m);
}

static void start_dial(struct mdl_ctl_peer *p)
{
    if (!p->out) mdl_peer_redial(p);
}

void mdl_peer_accept(void *ctx, const struct mdl_link *link)
{
    struct mdl_ctl *ctl = ctx;
    struct mdl_frame hello = {.type = MDL_FRAME_HELLO};
    struct mdl_wire *w;
    struct mdl_ctl_peer *p = NULL;
    if (link->peer_rank >= 0 && (uint32_t)link->peer_rank < ctl->nranks && (uint32_t)link->peer_rank != ctl->rank)
        p = mdl_peer_get(ctl, (uint32_t)link->peer_rank);
    if (!p || mdl_peer_gone(p)) {
        /* From one that has left it is the end of a dial that was under way. */
        MDL_LOG(p && p->said_goodbye ? medleyLogInfo : medleyLogWarn, MDL_BOOT,
                "rank %u refused a link from rank %d: %s", ctl->rank, link->peer_rank,
                p ? "that rank is gone" : "there is no such rank");
        mdl_link_close(link);
        return;
    }
    struct mdl_wire_args args = {
        .reactor = ctl->reactor, .use = &use, .ctx = p, .self = ctl->rank, .peer = (uint32_t)p->rank};
    if (mdl_wire_open(&args, link, &w) != medleySuccess) return;
    mdl_wire_send(w, &hello, NULL, 0, NULL);
    if (!p->linked) {
        use_link(p, w);
        return;
    }
    mdl_resume_retire(p, p->fresh);
    p->fresh = w;
}

/* ---- receiving ---- */

static void take_hello(struct mdl_ctl_peer *p, struct mdl_wire *w)
{
    if (w != p->dialed) return;
    p->tries = 0;
    if (p->dial_resumes) {
        mdl_resume_start(p, w);
        return;
    }
    p->dialed = NULL;
    use_link(p, w);
}

static void take(struct mdl_ctl_peer *p, struct mdl_wire *w, const struct mdl_frame *frame, const uint8_t *payload)
{
    if (w == p->fresh) { /* a second link after all: both sides had dialed */
        mdl_wire_close(p->in);
        p->in = w;
        p->fresh = NULL;
    }
    mdl_resume_taken(p, frame->type);
    mdl_ctl_dispatch(p->ctl, p->rank, frame, payload);
    depart_if_over(p);
}

static void on_frame(struct mdl_wire *w, const struct mdl_frame *frame, const uint8_t *payload)
{
    struct mdl_ctl_peer *p = mdl_wire_ctx(w);
    if (mdl_resume_is_old(p, w)) return;
    p->heard_ns = mdl_now_ns();
    if (frame->type == MDL_FRAME_RESUME)
        mdl_resume_frame(p, w, payload, frame->length);
    else if (frame->type == MDL_FRAME_HELLO)
        take_hello(p, w);
    else
        take(p, w, frame, payload);
}

static void end_of_link(struct mdl_ctl_peer *p, struct mdl_wire *w, enum mdl_wire_end how, const char *why)
{
    bool greeted = w != p->dialed;
    if (how == MDL_WIRE_NONSENSE) MDL_WARN(MDL_BOOT, "rank %u: rank %d: %s", p->ctl->rank, p->rank, why);
    if (greeted && mdl_resume_cut(p, w, how)) return;
    if (greeted && !p->leaving) {
        mdl_peer_lost(p, why); /* closes the wire */
        return;
    }
    if (w == p->out) p->out = NULL;
    if (w == p->in) p->in = NULL;
    if (w == p->dialed) p->dialed = NULL;
    char text[160];
    snprintf(text, sizeof(text), "%s", why);
    mdl_wire_close(w);
    if (greeted || p->said_goodbye) return;
    dial_failed(p, medleyRemoteError, text);
}

/* Of a link that was replaced, or never used, it says nothing. */
static void on_end(struct mdl_wire *w, enum mdl_wire_end how, const char *why)
{
    struct mdl_ctl_peer *p = mdl_wire_ctx(w);
    if (w == p->out || w == p->in || w == p->dialed) {
        end_of_link(p, w, how, why);
    } else {
        if (w == p->fresh) p->fresh = NULL;
        mdl_resume_end_old(p, w);
    }
    depart_if_over(p);
}
