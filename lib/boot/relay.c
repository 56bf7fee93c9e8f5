/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Relays: with several ids, the way from a root to that of id 0.
 *
 * One connection carries the JOINs of all its ranks, each in its rank's name, and brings back READY and REFUSE for
 * them. If it breaks it is made again and every rank that is still there is announced again: the root of id 0 knows
 * them by their nonces. So the decision is made in one place, and the others only share the work of holding
 * connections.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/session.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum { RETRY_MS = 250, DIAL_MS = 10000 };

struct mdl_relay {
    struct mdl_session *session;
    struct mdl_id first;
    struct mdl_dial *dial;
    struct mdl_wire *wire;
    struct mdl_timer retry;
    struct mdl_wait news;
};

const struct mdl_wait *mdl_relay_news(const struct mdl_relay *relay) { return &relay->news; }

static struct mdl_reactor *reactor_of(const struct mdl_relay *relay) { return mdl_root_reactor(relay->session->root); }

/* ---- sending ---- */

static void send_as(struct mdl_relay *relay, int type, int flags, uint32_t rank, const void *payload, size_t len)
{
    struct mdl_frame frame = {.type = (uint8_t)type, .flags = (uint16_t)flags, .src = rank, .dst = MDL_FRAME_ROOT};
    if (relay->wire) mdl_wire_send(relay->wire, &frame, payload, len, NULL);
}

void mdl_relay_join(struct mdl_relay *relay, uint32_t rank)
{
    const struct mdl_session *s = relay->session;
    const struct mdl_seat *seat = &s->seats[rank];
    uint8_t bytes[64 + MDL_MEMBER_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    mdl_write_u32(&w, s->nranks);
    mdl_write_u32(&w, rank);
    mdl_write_u32(&w, s->nids);
    mdl_write_u32(&w, s->index);
    mdl_write_bytes(&w, seat->nonce, sizeof(seat->nonce));
    mdl_write_bytes(&w, seat->process, sizeof(seat->process));
    mdl_write_bytes(&w, seat->member, seat->member_len);
    send_as(relay, MDL_FRAME_JOIN, MDL_FRAME_FORWARDED, rank, bytes, w.len);
}

void mdl_relay_leave(struct mdl_relay *relay, uint32_t rank, const uint8_t *nonce)
{
    send_as(relay, MDL_FRAME_LEAVE, 0, rank, nonce, MDL_NONCE_BYTES);
}

void mdl_relay_got(struct mdl_relay *relay, uint32_t rank) { send_as(relay, MDL_FRAME_GOT, 0, rank, NULL, 0); }

void mdl_relay_refuse(struct mdl_relay *relay, const struct mdl_trouble *trouble)
{
    uint8_t bytes[16 + MDL_ERROR_TEXT_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    mdl_trouble_write(&w, trouble);
    send_as(relay, MDL_FRAME_REFUSE, 0, MDL_FRAME_ROOT, bytes, w.len);
}

/* ---- receiving ---- */

static void on_frame(struct mdl_wire *w, const struct mdl_frame *frame, const uint8_t *payload)
{
    struct mdl_relay *relay = mdl_wire_ctx(w);
    struct mdl_trouble trouble;
    struct mdl_wait wait;
    if (frame->type == MDL_FRAME_WAIT && mdl_wait_read(payload, frame->length, &wait))
        relay->news = wait;
    else if (frame->type == MDL_FRAME_READY)
        mdl_session_ready(relay->session, frame->dst, payload, frame->length);
    else if (frame->type == MDL_FRAME_REFUSE && mdl_trouble_read(payload, frame->length, &trouble))
        mdl_session_fail(relay->session, trouble.code, trouble.text);
}

static void try_later(struct mdl_relay *relay, const char *why)
{
    snprintf(relay->news.note, sizeof(relay->news.note), "root %u cannot reach the root of id 0: %s",
             relay->session->index, why);
    mdl_reactor_timer(reactor_of(relay), &relay->retry, mdl_now_ns() + RETRY_MS * MDL_NS_PER_MS);
}

static void on_end(struct mdl_wire *w, enum mdl_wire_end how, const char *why)
{
    struct mdl_relay *relay = mdl_wire_ctx(w);
    mdl_wire_close(w);
    relay->wire = NULL;
    try_later(relay, why);
}

static void on_dialed(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    static const struct mdl_wire_use use = {on_frame, on_end};
    struct mdl_relay *relay = ctx;
    struct mdl_wire_args args = {.reactor = reactor_of(relay), .use = &use, .ctx = relay, .any_address = true};
    if (result == medleySuccess) result = mdl_wire_open(&args, link, &relay->wire);
    if (result != medleySuccess) {
        try_later(relay, why ? why : mdl_error_text());
        return;
    }
    relay->news.note[0] = 0;
    for (uint32_t r = 0; r < relay->session->nranks; r++) {
        enum mdl_seat_state state = relay->session->seats[r].state;
        if (state == MDL_SEAT_HELD || state == MDL_SEAT_AWAY) mdl_relay_join(relay, r);
    }
    if (relay->session->state == MDL_SESSION_FAILED) mdl_relay_refuse(relay, &relay->session->trouble);
}

static void start_dial(struct mdl_timer *timer)
{
    struct mdl_relay *relay = mdl_container_of(timer, struct mdl_relay, retry);
    struct mdl_dial_args args = {
        .door = mdl_root_door(relay->session->root),
        .secret = &relay->first.secret,
        .purpose = MDL_PURPOSE_RENDEZVOUS,
        .rank = (int)relay->session->index,
        .expect_rank = -1,
        .addrs = relay->first.addrs,
        .naddrs = relay->first.naddrs,
        .deadline_ns = mdl_now_ns() + DIAL_MS * MDL_NS_PER_MS,
    };
    mdl_dial_cancel(relay->dial);
    relay->dial = NULL;
    if (mdl_dial_start(&args, on_dialed, relay, &relay->dial) != medleySuccess) try_later(relay, mdl_error_text());
}

/* ---- life ---- */

medleyResult_t mdl_relay_create(struct mdl_session *s, const struct mdl_id *first, struct mdl_relay **relay)
{
    struct mdl_relay *made = calloc(1, sizeof(*made));
    if (!made) return mdl_system_error(ENOMEM, "the root has no memory");
    made->session = s;
    made->first = *first;
    made->retry.fn = start_dial;
    *relay = made;
    start_dial(&made->retry);
    return medleySuccess;
}

void mdl_relay_destroy(struct mdl_relay *relay)
{
    if (!relay) return;
    mdl_reactor_timer_cancel(reactor_of(relay), &relay->retry);
    mdl_dial_cancel(relay->dial);
    mdl_wire_close(relay->wire);
    sodium_memzero(relay, sizeof(*relay));
    free(relay);
}
