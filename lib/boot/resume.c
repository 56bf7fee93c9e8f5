/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers that outlive a link.
 *
 * A link that falls silent, or that the kernel gives up, does not mean that the peer is dead: one of several networks
 * may be cut. So the messages to a peer are counted, over all links, and kept until it has said how many it took (BEAT
 * carries that). Who misses signs of life for a third of the time after which a rank is dead (the higher rank: for half
 * of it) dials anew, by any address. The first message on the new link is RESUME, with how many messages were taken;
 * the other side answers with its own, and each sends again what the other lacks. From RESUME on, what comes over the
 * former links, their end included, counts no more, and they are closed when the answer is there: so no message is
 * lost, overtaken or taken twice. Where both dial at once, the link that the lower rank dialed stays. A peer that
 * cannot be reached in any way remains silent, and is dead when its time is over.
 *
 * Links inside a host (Unix sockets) cannot be cut: their messages are not kept, and their end is the peer's.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/ctl.h"
#include <stdlib.h>

enum { TELL_EVERY = 32 }; /* messages taken, besides every heartbeat: limits what the peer keeps */

static bool counts(int type)
{
    return type != MDL_FRAME_HELLO && type != MDL_FRAME_BEAT && type != MDL_FRAME_GOODBYE && type != MDL_FRAME_RESUME;
}

bool mdl_resume_can(const struct mdl_wire *w) { return !w || mdl_wire_link(w)->local.sa.ss_family != AF_UNIX; }

/* ---- counting ---- */

static void drop_kept(struct mdl_ctl_peer *p, uint64_t below)
{
    mdl_list_each (it, &p->kept) {
        if (p->kept_from >= below) return;
        mdl_list_remove(it);
        free(mdl_container_of(it, struct mdl_ctl_message, link));
        p->kept_from++;
    }
    if (p->kept_from < below) p->kept_from = below;
}

void mdl_resume_sent(struct mdl_ctl_peer *p, int type, int flags, const void *payload, size_t len)
{
    if (!counts(type)) return;
    p->sent++;
    struct mdl_ctl_message *m = mdl_resume_can(p->out) ? malloc(sizeof(*m) + len) : NULL;
    if (!m) {
        drop_kept(p, p->sent); /* with a gap the rest is worth nothing */
        return;
    }
    if (!mdl_peer_is_wanted(p)) p->heard_ns = mdl_now_ns(); /* from now on it is listened to */
    *m = (struct mdl_ctl_message){.rank = p->rank, .type = (uint8_t)type, .flags = (uint16_t)flags, .len = len};
    if (len) memcpy(m->payload, payload, len);
    mdl_list_append(&p->kept, &m->link);
}

void mdl_resume_taken(struct mdl_ctl_peer *p, int type)
{
    if (!counts(type)) return;
    p->taken++;
    if (p->taken - p->told >= TELL_EVERY && mdl_resume_can(p->out)) mdl_peer_beat(p, 0);
}

void mdl_resume_acked(struct mdl_ctl_peer *p, uint64_t count)
{
    if (count <= p->sent) drop_kept(p, count);
}

/* ---- changing over ---- */

bool mdl_resume_is_old(const struct mdl_ctl_peer *p, const struct mdl_wire *w)
{
    for (int i = 0; i < MDL_CTL_OLD_WIRES; i++)
        if (p->old[i] == w) return true;
    return false;
}

/* Closed at once, it could be taken for the end of this process. The oldest one makes room. */
void mdl_resume_retire(struct mdl_ctl_peer *p, struct mdl_wire *w)
{
    if (!w) return;
    mdl_wire_close(p->old[MDL_CTL_OLD_WIRES - 1]);
    for (int i = MDL_CTL_OLD_WIRES - 1; i > 0; i--) p->old[i] = p->old[i - 1];
    p->old[0] = w;
}

void mdl_resume_end_old(struct mdl_ctl_peer *p, struct mdl_wire *w)
{
    for (int i = 0; i < MDL_CTL_OLD_WIRES; i++)
        if (p->old[i] == w) p->old[i] = NULL;
    mdl_wire_close(w);
}

static void close_old(struct mdl_ctl_peer *p)
{
    for (int i = 0; i < MDL_CTL_OLD_WIRES; i++) {
        mdl_wire_close(p->old[i]);
        p->old[i] = NULL;
    }
}

static void tell_taken(struct mdl_ctl_peer *p)
{
    struct mdl_frame frame = {.type = MDL_FRAME_RESUME};
    uint8_t count[8];
    mdl_put_u64(count, p->taken);
    p->told = p->taken;
    mdl_wire_send(p->out, &frame, count, sizeof(count), NULL);
}

static void change_over(struct mdl_ctl_peer *p, struct mdl_wire *w)
{
    mdl_resume_retire(p, p->out);
    mdl_resume_retire(p, p->in);
    p->out = w;
    p->in = NULL;
    tell_taken(p);
}

void mdl_resume_start(struct mdl_ctl_peer *p, struct mdl_wire *w)
{
    p->dialed = NULL;
    p->resuming = true;
    change_over(p, w);
}

/* The other side has `count` messages; what follows goes over `out` again. */
static void go_on(struct mdl_ctl_peer *p, uint64_t count)
{
    char text[MDL_ADDR_TEXT_BYTES];
    p->resuming = false;
    mdl_wire_close(p->fresh); /* what was dialed before this is given up there too */
    p->fresh = NULL;
    close_old(p);
    drop_kept(p, count);
    mdl_addr_format(&mdl_wire_link(p->out)->remote, text);
    MDL_WARN(MDL_BOOT, "rank %u: the link to rank %d (%s) was silent and goes on at %s: a network may be cut",
             p->ctl->rank, p->rank, mdl_ctl_host(p->ctl, p->rank), text);
    mdl_list_each (it, &p->kept) {
        const struct mdl_ctl_message *m = mdl_container_of(it, struct mdl_ctl_message, link);
        struct mdl_frame frame = {.type = m->type, .flags = m->flags};
        mdl_wire_send(p->out, &frame, m->payload, m->len, NULL);
    }
    mdl_peer_flush(p);
    mdl_fault_linked(p);
}

void mdl_resume_frame(struct mdl_ctl_peer *p, struct mdl_wire *w, const uint8_t *payload, size_t len)
{
    bool answer = w == p->out && p->resuming;
    uint64_t count = len >= 8 ? mdl_get_u64(payload) : UINT64_MAX;
    if ((!answer && w != p->fresh) || count > p->sent) {
        mdl_peer_lost(p, "it resumed a link in a way that makes no sense");
    } else if (count < p->kept_from) {
        mdl_peer_lost(p, "the network was cut, and messages that were under way are lost");
    } else if (answer) {
        go_on(p, count);
    } else if (p->resuming && p->ctl->rank < (uint32_t)p->rank) {
        p->fresh = NULL; /* ours stays; the peer will see it */
        mdl_resume_retire(p, w);
    } else {
        p->fresh = NULL;
        mdl_dial_cancel(p->dial);
        p->dial = NULL;
        mdl_wire_close(p->dialed);
        p->dialed = NULL;
        change_over(p, w);
        go_on(p, count);
    }
}

/* ---- when ---- */

void mdl_resume_watch(struct mdl_ctl_peer *p, uint64_t now)
{
    uint64_t dead = (uint64_t)p->ctl->cfg.dead_after * MDL_NS_PER_MS;
    uint64_t patience = dead / (p->ctl->rank < (uint32_t)p->rank ? 3 : 2);
    if (!p->linked || !mdl_resume_can(p->out) || p->heard_ns + patience >= now) return;
    if (p->dialed && now - p->dialed_ns > dead / 4) { /* this way is cut too */
        mdl_wire_close(p->dialed);
        p->dialed = NULL;
    }
    mdl_peer_redial(p);
}

bool mdl_resume_cut(struct mdl_ctl_peer *p, struct mdl_wire *w, enum mdl_wire_end how)
{
    bool changing = w == p->out && p->resuming; /* the peer may have chosen another link */
    if (p->said_goodbye || !mdl_resume_can(w) || (how != MDL_WIRE_CUT && !changing)) return false;
    if (w == p->in) {
        p->in = NULL;
    } else {
        p->out = NULL;
        p->resuming = false;
    }
    mdl_wire_close(w);
    if (!mdl_peer_is_wanted(p)) p->heard_ns = mdl_now_ns(); /* nobody listened to it */
    if (!p->out && (mdl_peer_is_wanted(p) || !mdl_list_empty(&p->queue))) mdl_peer_redial(p);
    return true;
}

void mdl_resume_fini(struct mdl_ctl_peer *p)
{
    mdl_wire_close(p->fresh);
    p->fresh = NULL;
    close_old(p);
    drop_kept(p, p->sent);
}
