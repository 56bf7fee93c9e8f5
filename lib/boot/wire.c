/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wires.
 *
 * A wire may be closed inside any of its own callbacks, so the loops that call back hold it (`busy`) and the last
 * holder frees it. A failed send is not the end yet: the descriptor reports it as readable, and the end comes after
 * what the peer had sent. A timer stands in for that report if the kernel makes none.
 *
 * A wire over a channel of a shared connection leaves all of that to the channel, and only cuts what comes into frames.
 */
#include "config.h"
#include "lib/boot/wire.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/boot.h"
#include "lib/net/channel.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_ROOM = 4096, READ_BUDGET = 256 * 1024 };

struct piece {
    struct mdl_list link;
    atomic_size_t *charge;
    size_t payload, len, sent;
    uint8_t bytes[];
};

struct mdl_wire {
    struct mdl_watch watch;
    struct mdl_timer fail_timer;
    struct mdl_wire_args args;
    struct mdl_link link;
    uint64_t seq_out, seq_in;
    uint8_t *in;
    size_t in_len, in_room;
    struct mdl_list out;
    int send_errno; /* a send has failed: nothing more leaves */
    int busy;
    bool reading, ended, closed, watching_out;
};

void *mdl_wire_ctx(const struct mdl_wire *w) { return w->args.ctx; }
void mdl_wire_set_ctx(struct mdl_wire *w, void *ctx) { w->args.ctx = ctx; }
const struct mdl_link *mdl_wire_link(const struct mdl_wire *w) { return &w->link; }
bool mdl_wire_idle(const struct mdl_wire *w)
{
    return w->link.channel ? mdl_channel_idle(w->link.channel) : mdl_list_empty(&w->out);
}

/* ---- life ---- */

static void drop_piece(struct piece *p)
{
    if (p->charge) atomic_fetch_sub_explicit(p->charge, p->payload, memory_order_relaxed);
    mdl_list_remove(&p->link);
    free(p);
}

static void drop_out(struct mdl_wire *w)
{
    mdl_list_each (it, &w->out) drop_piece(mdl_container_of(it, struct piece, link));
}

static void hold(struct mdl_wire *w) { w->busy++; }

static void let_go(struct mdl_wire *w)
{
    if (--w->busy > 0 || !w->closed) return;
    free(w->in);
    free(w);
}

/* Nothing comes from the connection any more. */
static void silence(struct mdl_wire *w)
{
    w->ended = true;
    if (w->link.channel)
        mdl_channel_use(w->link.channel, NULL, NULL);
    else
        mdl_reactor_unwatch(w->args.reactor, &w->watch);
    mdl_reactor_timer_cancel(w->args.reactor, &w->fail_timer);
    drop_out(w);
}

void mdl_wire_close(struct mdl_wire *w)
{
    if (!w || w->closed) return;
    hold(w);
    w->closed = true;
    silence(w);
    mdl_link_close(&w->link);
    w->link.channel = NULL;
    let_go(w);
}

static void end(struct mdl_wire *w, enum mdl_wire_end how, const char *why)
{
    if (w->ended) return;
    silence(w);
    w->args.use->on_end(w, how, why);
}

static void end_errno(struct mdl_wire *w, int err)
{
    char text[160], reason[96];
    bool cut = err == ETIMEDOUT || err == EHOSTUNREACH || err == ENETUNREACH;
    if (cut)
        snprintf(text, sizeof(text), "connection lost (%s): the network is cut, or the host is down",
                 strerror_r(err, reason, sizeof(reason)));
    else
        snprintf(text, sizeof(text), "connection closed (%s): the process died",
                 strerror_r(err, reason, sizeof(reason)));
    end(w, cut ? MDL_WIRE_CUT : MDL_WIRE_BROKEN, text);
}

/* ---- receiving ---- */

static bool make_room(struct mdl_wire *w, size_t need)
{
    if (need <= w->in_room) return true;
    size_t room = need < FIRST_ROOM ? FIRST_ROOM : need;
    uint8_t *bigger = realloc(w->in, room);
    if (!bigger) return false;
    w->in = bigger;
    w->in_room = room;
    return true;
}

static const char *check_frame(const struct mdl_wire *w, const struct mdl_frame *f)
{
    if (f->seq != w->seq_in) return "a message out of sequence";
    if (w->args.any_address) return NULL;
    if (f->src != w->args.peer) return "a message in another rank's name";
    return f->dst == w->args.self ? NULL : "a message for another rank";
}

static void nonsense(struct mdl_wire *w, const char *what)
{
    char text[120];
    snprintf(text, sizeof(text), "it sent %s: the connection was closed", what);
    end(w, MDL_WIRE_NONSENSE, text);
}

/* Hands over the complete frames in the buffer; *need: bytes of the one that is not complete yet. */
static void take_frames(struct mdl_wire *w, size_t *need)
{
    size_t at = 0;
    *need = MDL_FRAME_BYTES;
    while (!w->ended && w->in_len - at >= MDL_FRAME_BYTES) {
        struct mdl_frame frame;
        const char *wrong = mdl_frame_read(w->in + at, &frame);
        if (!wrong) wrong = check_frame(w, &frame);
        if (wrong) {
            nonsense(w, wrong);
            return;
        }
        *need = MDL_FRAME_BYTES + (size_t)frame.length;
        if (w->in_len - at < *need) break;
        at += *need;
        *need = MDL_FRAME_BYTES;
        w->seq_in++;
        w->args.use->on_frame(w, &frame, w->in + at - frame.length);
    }
    if (w->ended) return;
    if (at) memmove(w->in, w->in + at, w->in_len - at);
    w->in_len -= at;
}

/* One recv and what it completes. false: nothing more now. */
static bool read_some(struct mdl_wire *w, size_t *budget)
{
    size_t need = MDL_FRAME_BYTES;
    if (w->in_len >= w->in_room && !make_room(w, FIRST_ROOM)) {
        end_errno(w, ENOMEM);
        return false;
    }
    ssize_t n = recv(w->watch.fd, w->in + w->in_len, w->in_room - w->in_len, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) return true;
    if (n < 0 && errno == EAGAIN) return false;
    if (n <= 0) {
        if (n < 0)
            end_errno(w, errno);
        else
            end(w, MDL_WIRE_CLOSED, "connection closed: the process died");
        return false;
    }
    w->in_len += (size_t)n;
    *budget -= (size_t)n < *budget ? (size_t)n : *budget;
    take_frames(w, &need);
    if (!w->ended && !make_room(w, need)) end_errno(w, ENOMEM);
    return !w->ended && *budget;
}

bool mdl_wire_read_now(struct mdl_wire *w)
{
    size_t budget = READ_BUDGET;
    if (w->reading || w->link.channel) return true;
    hold(w);
    w->reading = true;
    while (!w->ended && read_some(w, &budget)) {}
    if (!w->ended && w->send_errno && budget) end_errno(w, w->send_errno);
    w->reading = false;
    let_go(w);
    return budget > 0;
}

/* ---- over a channel ---- */

static void on_data(void *ctx, const uint8_t *bytes, size_t len, int *fds, int nfds)
{
    struct mdl_wire *w = ctx;
    size_t need;
    for (int i = 0; i < nfds; i++) close(fds[i]);
    if (!make_room(w, w->in_len + len)) {
        end_errno(w, ENOMEM);
        return;
    }
    hold(w);
    memcpy(w->in + w->in_len, bytes, len);
    w->in_len += len;
    take_frames(w, &need);
    if (!w->in_len) { /* mostly: a wire that has nothing to do keeps nothing */
        free(w->in);
        w->in = NULL;
        w->in_room = 0;
    }
    let_go(w);
}

static void on_channel_end(void *ctx, int err, const char *why)
{
    struct mdl_wire *w = ctx;
    hold(w);
    end(w, err > 0 ? MDL_WIRE_BROKEN : MDL_WIRE_CLOSED, err == 0 ? "connection closed: the process died" : why);
    let_go(w);
}

static const struct mdl_channel_use channel_use = {on_data, on_channel_end};

/* ---- sending ---- */

static void watch_out(struct mdl_wire *w, bool want)
{
    if (w->watching_out == want || w->ended) return;
    w->watching_out = want;
    if (mdl_reactor_watch(w->args.reactor, &w->watch, EPOLLIN | (want ? EPOLLOUT : 0)) != medleySuccess)
        w->send_errno = EIO;
}

static void send_failed(struct mdl_wire *w, int err)
{
    w->send_errno = err;
    drop_out(w);
    mdl_reactor_timer(w->args.reactor, &w->fail_timer, mdl_now_ns());
}

static void flush(struct mdl_wire *w)
{
    while (!mdl_list_empty(&w->out) && !w->send_errno) {
        struct piece *p = mdl_container_of(w->out.next, struct piece, link);
        ssize_t n = send(w->watch.fd, p->bytes + p->sent, p->len - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) {
            send_failed(w, errno);
            break;
        }
        p->sent += (size_t)n;
        if (p->sent == p->len) drop_piece(p);
    }
    watch_out(w, !mdl_list_empty(&w->out));
}

static struct mdl_frame complete(struct mdl_wire *w, const struct mdl_frame *frame, size_t len)
{
    struct mdl_frame f = *frame;
    f.length = (uint32_t)len;
    f.seq = w->seq_out++;
    if (!w->args.any_address) {
        f.src = w->args.self;
        f.dst = w->args.peer;
    }
    return f;
}

static void send_over_channel(struct mdl_wire *w, const struct mdl_frame *frame, const void *payload, size_t len,
                              atomic_size_t *charge)
{
    uint8_t head[MDL_FRAME_BYTES];
    struct mdl_frame f = complete(w, frame, len);
    mdl_frame_write(head, &f);
    mdl_channel_send(w->link.channel,
                     &(struct mdl_channel_message){
                         .head = head, .head_len = sizeof(head), .body = payload, .len = len, .charge = charge});
}

void mdl_wire_send(struct mdl_wire *w, const struct mdl_frame *frame, const void *payload, size_t len,
                   atomic_size_t *charge)
{
    if (w->link.channel && !w->ended) {
        send_over_channel(w, frame, payload, len, charge);
        return;
    }
    struct piece *p = w->ended || w->send_errno ? NULL : malloc(sizeof(*p) + MDL_FRAME_BYTES + len);
    if (!p) {
        if (charge) atomic_fetch_sub_explicit(charge, len, memory_order_relaxed);
        if (!w->ended && !w->send_errno) send_failed(w, ENOMEM);
        return;
    }
    struct mdl_frame f = complete(w, frame, len);
    *p = (struct piece){.charge = charge, .payload = len, .len = MDL_FRAME_BYTES + len};
    mdl_frame_write(p->bytes, &f);
    if (len) memcpy(p->bytes + MDL_FRAME_BYTES, payload, len);
    bool first = mdl_list_empty(&w->out);
    mdl_list_append(&w->out, &p->link);
    if (first) flush(w);
}

void mdl_wire_finish(struct mdl_wire *w)
{
    if (w->link.channel)
        mdl_channel_finish(w->link.channel);
    else
        shutdown(w->watch.fd, SHUT_WR);
}

/* ---- events ---- */

static void on_event(struct mdl_watch *watch, uint32_t events)
{
    struct mdl_wire *w = mdl_container_of(watch, struct mdl_wire, watch);
    hold(w);
    if (events & EPOLLOUT) flush(w);
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) mdl_wire_read_now(w);
    let_go(w);
}

static void on_fail_timer(struct mdl_timer *timer)
{
    mdl_wire_read_now(mdl_container_of(timer, struct mdl_wire, fail_timer));
}

medleyResult_t mdl_wire_open(const struct mdl_wire_args *args, const struct mdl_link *link, struct mdl_wire **wire)
{
    medleyResult_t result;
    struct mdl_wire *w = calloc(1, sizeof(*w));
    if (!w) {
        result = mdl_system_error(ENOMEM, "no memory for a connection");
        goto close_link;
    }
    w->args = *args;
    w->link = *link;
    w->watch = (struct mdl_watch){.fd = link->fd, .fn = on_event};
    w->fail_timer.fn = on_fail_timer;
    mdl_list_init(&w->out);
    if (link->channel) {
        mdl_channel_use(link->channel, &channel_use, w);
    } else {
        result = mdl_reactor_watch(args->reactor, &w->watch, EPOLLIN);
        if (result != medleySuccess) goto free_wire;
    }
    *wire = w;
    return medleySuccess;

free_wire:
    free(w);
close_link:
    mdl_link_close(link);
    return result;
}
