/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow's sending half. A send waits (in its channel's list `waiting`, and in `eagers` if it is small) until it may
 * leave. Frames are made only when a lane takes them, so nothing is queued that a lane could not carry; the order of
 * preference is: what is sent again, refusals, announcements, credits, small messages, chunks.
 */
#include "config.h"
#include "transports/tcp_flow_impl.h"

/* Messages go one after the other, so that the first is there early and the peer can work on it; a longer one lets the
 * others pass after so many bytes. */
enum { TURN_BYTES = 1 << 20 };

/* Only the first waiting send of a channel is announced: that bounds what the receiver stores. */
static void announce_head(struct mdl_tcp_flow *f, struct mdl_tcp_channel *ch)
{
    if (mdl_list_empty(&ch->waiting) || !mdl_list_empty(&ch->todo)) return;
    const struct mdl_tcp_request *head = MDL_TCP_OF_LINK(ch->waiting.next);
    if (head->len > f->eager && head->number >= ch->announced) mdl_list_append(&f->announces, &ch->todo);
}

static void start_sending(struct mdl_tcp_flow *f, struct mdl_tcp_channel *ch, struct mdl_tcp_request *req)
{
    mdl_list_remove(&req->link);
    mdl_list_remove(&req->todo);
    mdl_list_append(&ch->sending, &req->link);
    announce_head(f, ch);
}

/* The receiver has a buffer for it. */
static void credited(struct mdl_tcp_flow *f, struct mdl_tcp_channel *ch, struct mdl_tcp_request *req, uint64_t tag,
                     uint64_t room)
{
    if (tag != req->tag || room != req->len) {
        mdl_tcp_flow_refuse(f, MDL_TCP_REFUSE_RECV, req);
        mdl_tcp_request_mismatch(f, req, tag, room);
        announce_head(f, ch);
    } else if (req->len <= f->eager) {
        mdl_list_remove(&req->todo);
        mdl_list_append(&f->pulled, &req->todo);
    } else {
        start_sending(f, ch, req);
        mdl_list_append(&f->chunks, &req->todo);
    }
}

medleyResult_t mdl_tcp_flow_send(struct mdl_tcp_flow *f, const struct mdl_message *m, struct mdl_tcp_request *req)
{
    struct mdl_tcp_channel *ch = mdl_tcp_flow_channel(f, m->channel);
    if (!ch) return medleySystemError;
    mdl_tcp_request_start(f, m, req);
    req->sends = true;
    req->number = ch->send_next++;
    mdl_list_append(&ch->waiting, &req->link);
    const struct mdl_tcp_credit *c = &ch->credits[req->number % MDL_TCP_CREDITS];
    if (req->len <= f->eager) mdl_list_append(&f->eagers, &req->todo);
    if (c->set && c->number == req->number)
        credited(f, ch, req, c->tag, c->room);
    else
        announce_head(f, ch);
    return medleySuccess;
}

medleyResult_t mdl_tcp_flow_on_credit(struct mdl_tcp_flow *f, const struct mdl_tcp_header *h)
{
    struct mdl_tcp_channel *ch = mdl_tcp_flow_channel(f, h->channel);
    if (!ch) return medleySystemError;
    if (h->number < ch->send_next) {
        struct mdl_tcp_request *req = mdl_tcp_request_find(&ch->waiting, h->number);
        if (req) credited(f, ch, req, h->tag, h->total);
        return medleySuccess;
    }
    struct mdl_tcp_credit *c = &ch->credits[h->number % MDL_TCP_CREDITS];
    /* One that comes late, for a message of which nobody needs it any more, must not hide a younger one. */
    if (!c->set || c->number < h->number)
        *c = (struct mdl_tcp_credit){.number = h->number, .tag = h->tag, .room = h->total, .set = true};
    return medleySuccess;
}

medleyResult_t mdl_tcp_flow_on_refuse_send(struct mdl_tcp_flow *f, const struct mdl_tcp_header *h)
{
    struct mdl_tcp_channel *ch = f->channels[h->channel];
    if (!ch || h->number >= ch->send_next) {
        f->bad = "refusal of a message that was never sent";
        return medleyInternalError;
    }
    struct mdl_tcp_request *req = mdl_tcp_request_find(&ch->waiting, h->number);
    if (req) {
        mdl_tcp_request_mismatch(f, req, h->tag, h->total);
        announce_head(f, ch);
    } else if (!ch->mismatched) {
        ch->mismatched = true;
        return mdl_error(medleyInvalidUsage,
                         "rank %d: rank %d refused send %llu on channel %u: it expects tag %#llx and %llu bytes; all "
                         "ranks must make the same calls in the same order",
                         f->rank, f->peer, (unsigned long long)h->number, (unsigned)h->channel,
                         (unsigned long long)h->tag, (unsigned long long)h->total);
    }
    return medleySuccess;
}

/* ---- frames ---- */

static bool window_open(const struct mdl_tcp_flow *f) { return f->next - f->base < MDL_TCP_WINDOW; }

static bool may_send_eager(const struct mdl_tcp_flow *f)
{
    return !mdl_list_empty(&f->eagers) && f->eager_sent - f->eager_taken < f->eager_max;
}

bool mdl_tcp_flow_has_small(const struct mdl_tcp_flow *f)
{
    if (f->again_small) return true;
    if (!window_open(f)) return false;
    return f->nrefusals || f->announcing || !mdl_list_empty(&f->credits) || !mdl_list_empty(&f->pulled) ||
           may_send_eager(f);
}

void mdl_tcp_flow_announce(struct mdl_tcp_flow *f) { f->announcing = !mdl_list_empty(&f->announces); }

bool mdl_tcp_flow_has_chunk(const struct mdl_tcp_flow *f)
{
    return f->again_chunks || (window_open(f) && !mdl_list_empty(&f->chunks));
}

bool mdl_tcp_flow_room(struct mdl_tcp_flow *f, int lane)
{
    struct mdl_tcp_path *p = &f->paths[lane];
    if (p->unacked < p->window) return true;
    p->limited = true;
    return false;
}

/* Time in which nothing was under way does not count. */
static void start_bulk(struct mdl_tcp_path *p, size_t bytes, uint64_t now)
{
    if (!p->bulk) p->since_ns += now - p->idle_ns;
    p->bulk += bytes;
}

/* Puts a frame on a lane: fills `t` and counts its bytes. */
static void take(struct mdl_tcp_flow *f, uint64_t seq, int lane, uint64_t now, struct mdl_tcp_take *t)
{
    struct mdl_tcp_frame *frame = &f->ring[seq % MDL_TCP_WINDOW];
    frame->state = MDL_TCP_SENT;
    frame->lane = (uint8_t)lane;
    frame->sent_ns = now;
    frame->delivered = f->paths[lane].delivered;
    f->paths[lane].unacked += MDL_TCP_HEADER_BYTES + frame->length;
    if (frame->type == MDL_TCP_CHUNK) start_bulk(&f->paths[lane], frame->length, now);
    t->h = (struct mdl_tcp_header){.type = frame->type,
                                   .channel = frame->channel,
                                   .length = frame->length,
                                   .seq = seq,
                                   .number = frame->number,
                                   .tag = frame->tag,
                                   .total = frame->total};
    t->payload = NULL;
    if (frame->buf) t->payload = frame->buf->data;
    if (frame->type == MDL_TCP_CHUNK) t->payload = frame->req->ptr + frame->tag;
    mdl_tcp_flow_tell(f, &t->h);
}

static uint64_t find_again(const struct mdl_tcp_flow *f, bool chunk)
{
    for (uint64_t s = f->base; s < f->next; s++) {
        const struct mdl_tcp_frame *frame = &f->ring[s % MDL_TCP_WINDOW];
        if (frame->state == MDL_TCP_QUEUED && (frame->type == MDL_TCP_CHUNK) == chunk) return s;
    }
    return 0;
}

static void take_again(struct mdl_tcp_flow *f, bool chunk, int lane, uint64_t now, struct mdl_tcp_take *t)
{
    uint64_t seq = find_again(f, chunk);
    f->ring[seq % MDL_TCP_WINDOW].again = true;
    if (chunk)
        f->again_chunks--;
    else
        f->again_small--;
    take(f, seq, lane, now, t);
}

static struct mdl_tcp_frame *new_frame(struct mdl_tcp_flow *f, uint8_t type, uint16_t channel, uint64_t number,
                                       uint64_t tag, uint64_t total)
{
    struct mdl_tcp_frame *frame = &f->ring[f->next++ % MDL_TCP_WINDOW];
    *frame = (struct mdl_tcp_frame){.type = type, .channel = channel, .number = number, .tag = tag, .total = total};
    return frame;
}

static void make_refusal(struct mdl_tcp_flow *f)
{
    const struct mdl_tcp_refusal *r = &f->refusals[--f->nrefusals];
    new_frame(f, r->type, r->channel, r->number, r->tag, r->len);
}

/* False: its message has got its credit meanwhile. */
static bool make_announce(struct mdl_tcp_flow *f)
{
    struct mdl_tcp_channel *ch = mdl_container_of(f->announces.next, struct mdl_tcp_channel, todo);
    mdl_list_remove(&ch->todo);
    f->announcing = !mdl_list_empty(&f->announces);
    if (mdl_list_empty(&ch->waiting)) return false;
    const struct mdl_tcp_request *req = MDL_TCP_OF_LINK(ch->waiting.next);
    if (req->len <= f->eager || req->number < ch->announced) return false;
    ch->announced = req->number + 1;
    new_frame(f, MDL_TCP_ANNOUNCE, req->channel, req->number, req->tag, req->len);
    return true;
}

static void make_credit(struct mdl_tcp_flow *f)
{
    struct mdl_tcp_request *req = MDL_TCP_OF_TODO(f->credits.next);
    mdl_list_remove(&req->todo);
    new_frame(f, MDL_TCP_CREDIT, req->channel, req->number, req->tag, req->len);
}

static medleyResult_t make_eager(struct mdl_tcp_flow *f, struct mdl_tcp_request *req)
{
    struct mdl_tcp_buf *buf = NULL;
    if (req->len) {
        buf = mdl_tcp_pool_get(f->pool);
        if (!buf)
            return mdl_error(medleySystemError, "rank %d: no memory for a message of %zu bytes to rank %d", f->rank,
                             req->len, f->peer);
        memcpy(buf->data, req->ptr, req->len);
    }
    struct mdl_tcp_frame *frame = new_frame(f, MDL_TCP_EAGER, req->channel, req->number, req->tag, req->len);
    frame->length = (uint32_t)req->len;
    frame->buf = buf;
    frame->req = req;
    f->eager_sent++;
    start_sending(f, f->channels[req->channel], req);
    return medleySuccess;
}

medleyResult_t mdl_tcp_flow_take_small(struct mdl_tcp_flow *f, int lane, uint64_t now, struct mdl_tcp_take *t)
{
    medleyResult_t rc = medleySuccess;
    if (f->again_small) {
        take_again(f, false, lane, now, t);
        return medleySuccess;
    }
    if (!window_open(f)) return medleyInProgress;
    if (f->nrefusals)
        make_refusal(f);
    else if (f->announcing)
        rc = make_announce(f) ? medleySuccess : medleyInProgress;
    else if (!mdl_list_empty(&f->credits))
        make_credit(f);
    else if (!mdl_list_empty(&f->pulled))
        rc = make_eager(f, MDL_TCP_OF_TODO(f->pulled.next));
    else if (may_send_eager(f))
        rc = make_eager(f, MDL_TCP_OF_TODO(f->eagers.next));
    else
        rc = medleyInProgress;
    if (rc == medleySuccess) take(f, f->next - 1, lane, now, t);
    return rc;
}

bool mdl_tcp_flow_take_chunk(struct mdl_tcp_flow *f, int lane, uint64_t now, struct mdl_tcp_take *t)
{
    if (f->again_chunks) {
        take_again(f, true, lane, now, t);
        return true;
    }
    if (!window_open(f) || mdl_list_empty(&f->chunks)) return false;
    struct mdl_tcp_request *req = MDL_TCP_OF_TODO(f->chunks.next);
    size_t left = req->len - req->issued, chunk = f->paths[lane].chunk;
    struct mdl_tcp_frame *frame = new_frame(f, MDL_TCP_CHUNK, req->channel, req->number, req->issued, req->len);
    frame->length = (uint32_t)(left < chunk ? left : chunk);
    frame->req = req;
    size_t turn = req->issued / TURN_BYTES;
    req->issued += frame->length;
    if (req->issued == req->len || req->issued / TURN_BYTES != turn) mdl_list_remove(&req->todo);
    if (req->issued < req->len && mdl_list_empty(&req->todo)) mdl_list_append(&f->chunks, &req->todo);
    take(f, f->next - 1, lane, now, t);
    return true;
}

void mdl_tcp_flow_written(struct mdl_tcp_flow *f, uint64_t seq)
{
    if (!mdl_tcp_flow_needs(f, seq)) return;
    struct mdl_tcp_frame *frame = &f->ring[seq % MDL_TCP_WINDOW];
    struct mdl_tcp_request *req = frame->req;
    if (frame->type != MDL_TCP_EAGER || !req) return;
    frame->req = NULL;
    req->base.bytes = req->len;
    mdl_tcp_request_end(f, req, medleySuccess);
}
