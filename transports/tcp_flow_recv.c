/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow's receiving half. Payload goes straight to its place: the posted buffer, or a buffer of the pool for a small
 * message that nobody has asked for yet. A frame counts when all of it has come, and only the first time.
 */
#include "config.h"
#include "transports/tcp_flow_impl.h"

static bool crowded(const struct mdl_tcp_flow *f) { return 2 * f->held >= f->eager_max; }

void mdl_tcp_flow_grant(struct mdl_tcp_flow *f, struct mdl_tcp_channel *ch)
{
    if (mdl_list_empty(&ch->posted)) return;
    uint64_t end = MDL_TCP_OF_LINK(ch->posted.next)->number + MDL_TCP_CREDITS;
    mdl_list_each (it, &ch->posted) {
        struct mdl_tcp_request *req = MDL_TCP_OF_LINK(it);
        if (!ch->owing || req->number >= end) return;
        if (req->grant != MDL_TCP_GRANT_OWED) continue;
        req->grant = MDL_TCP_GRANT_GIVEN;
        ch->owing--;
        mdl_list_append(&f->credits, &req->todo);
    }
}

/* Too many messages wait unexpected: whatever this rank does wait for must get past them. */
static void grant_all(struct mdl_tcp_flow *f)
{
    for (unsigned i = 0; i < MDL_MAX_CHANNELS; i++) {
        struct mdl_tcp_channel *ch = f->channels[i];
        if (!ch) continue;
        mdl_list_each (it, &ch->posted) {
            struct mdl_tcp_request *req = MDL_TCP_OF_LINK(it);
            if (req->grant != MDL_TCP_GRANT_NONE) continue;
            req->grant = MDL_TCP_GRANT_OWED;
            ch->owing++;
        }
        mdl_tcp_flow_grant(f, ch);
    }
}

/* The message for `req` is in `data`, or was refused. */
static void deliver(struct mdl_tcp_flow *f, struct mdl_tcp_request *req, const uint8_t *data, uint64_t tag,
                    uint64_t len)
{
    f->taken++;
    if (tag != req->tag || len != req->len) {
        mdl_tcp_flow_refuse(f, MDL_TCP_REFUSE_SEND, req);
        mdl_tcp_request_mismatch(f, req, tag, len);
        return;
    }
    if (data && len) memcpy(req->ptr, data, len);
    req->base.bytes = len;
    mdl_tcp_request_end(f, req, medleySuccess);
}

static bool take_held(struct mdl_tcp_flow *f, struct mdl_tcp_channel *ch, struct mdl_tcp_request *req)
{
    if (mdl_list_empty(&ch->held)) return false;
    struct mdl_tcp_buf *buf = mdl_container_of(ch->held.next, struct mdl_tcp_buf, link);
    if (buf->number != req->number) return false;
    deliver(f, req, buf->data, buf->tag, buf->len);
    f->held--;
    mdl_tcp_pool_put(f->pool, buf);
    return true;
}

/* A large message that was announced is compared at once: its CREDIT might never be asked for. */
static bool compare_announced(struct mdl_tcp_flow *f, const struct mdl_tcp_channel *ch, struct mdl_tcp_request *req)
{
    const struct mdl_tcp_credit *a = &ch->heard;
    if (!a->set || a->number != req->number || (a->tag == req->tag && a->room == req->len)) return true;
    mdl_tcp_flow_refuse(f, MDL_TCP_REFUSE_SEND, req);
    mdl_tcp_request_mismatch(f, req, a->tag, a->room);
    return false;
}

medleyResult_t mdl_tcp_flow_recv(struct mdl_tcp_flow *f, const struct mdl_message *m, struct mdl_tcp_request *req)
{
    struct mdl_tcp_channel *ch = mdl_tcp_flow_channel(f, m->channel);
    if (!ch) return medleySystemError;
    mdl_tcp_request_start(f, m, req);
    req->number = ch->recv_next++;
    if (take_held(f, ch, req) || !compare_announced(f, ch, req)) return medleySuccess;
    mdl_list_append(&ch->posted, &req->link);
    if (req->len > f->eager || crowded(f)) {
        req->grant = MDL_TCP_GRANT_OWED;
        ch->owing++;
        mdl_tcp_flow_grant(f, ch);
    }
    return medleySuccess;
}

/* ---- a header has come ---- */

static medleyResult_t violation(struct mdl_tcp_flow *f, const char *what)
{
    f->bad = what;
    return medleyInternalError;
}

static bool was_seen(const struct mdl_tcp_flow *f, uint64_t seq)
{
    unsigned i = (unsigned)(seq % MDL_TCP_WINDOW);
    return seq < f->seen_next || (f->seen[i / 64] >> (i % 64) & 1);
}

static medleyResult_t accept_eager(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r)
{
    if (r->h.length > f->eager) return violation(f, "eager message over the agreed limit");
    struct mdl_tcp_channel *ch = mdl_tcp_flow_channel(f, r->h.channel);
    if (!ch) return medleySystemError;
    if (r->h.number < ch->recv_next) {
        r->req = mdl_tcp_request_find(&ch->posted, r->h.number);
        if (r->req && r->req->len == r->h.total && r->req->tag == r->h.tag) r->sink = r->req->ptr;
        return medleySuccess;
    }
    if (f->held >= f->eager_max) return violation(f, "more unexpected messages than agreed");
    r->buf = mdl_tcp_pool_get(f->pool);
    if (!r->buf) return mdl_error(medleySystemError, "rank %d: no memory for a message from rank %d", f->rank, f->peer);
    r->sink = r->buf->data;
    return medleySuccess;
}

static medleyResult_t accept_chunk(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r)
{
    const struct mdl_tcp_channel *ch = f->channels[r->h.channel];
    if (!ch || r->h.number >= ch->recv_next) return violation(f, "chunk that was not asked for");
    r->req = mdl_tcp_request_find(&ch->posted, r->h.number);
    if (!r->req) return medleySuccess;
    if (r->h.total != r->req->len) return violation(f, "chunk of a message of another length");
    if (r->h.length > r->req->len - r->req->settled) return violation(f, "more chunks than the message has bytes");
    r->sink = r->req->ptr + r->h.tag;
    return medleySuccess;
}

static medleyResult_t check_progress(struct mdl_tcp_flow *f, const struct mdl_tcp_header *h)
{
    if (h->ack > f->next) return violation(f, "acknowledgement of a frame that was never sent");
    if (f->eager_sent - h->taken > UINT32_MAX / 2) return violation(f, "consumed more messages than were sent");
    if (h->seq >= f->seen_next + MDL_TCP_WINDOW) return violation(f, "sequence beyond the window");
    return medleySuccess;
}

medleyResult_t mdl_tcp_flow_accept(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r)
{
    r->sink = NULL;
    r->req = NULL;
    r->buf = NULL;
    MDL_TRY(check_progress(f, &r->h));
    if (r->h.seq == 0)
        r->sink = r->small;
    else if (r->h.type == MDL_TCP_EAGER && !was_seen(f, r->h.seq))
        MDL_TRY(accept_eager(f, r));
    else if (r->h.type == MDL_TCP_CHUNK && !was_seen(f, r->h.seq))
        MDL_TRY(accept_chunk(f, r));
    mdl_list_append(&f->readings, &r->link);
    return medleySuccess;
}

/* ---- all of a frame has come ---- */

void mdl_tcp_flow_cancel(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r)
{
    mdl_list_remove(&r->link);
    mdl_tcp_pool_put(f->pool, r->buf);
    r->buf = NULL;
    r->sink = NULL;
}

/* Other lanes may be in the midst of the same frame. */
static void drop_copies(struct mdl_tcp_flow *f, uint64_t seq)
{
    mdl_list_each (it, &f->readings) {
        struct mdl_tcp_reading *r = mdl_container_of(it, struct mdl_tcp_reading, link);
        if (r->h.seq != seq) continue;
        mdl_tcp_pool_put(f->pool, r->buf);
        r->buf = NULL;
        r->sink = NULL;
        r->req = NULL;
    }
}

static void mark_seen(struct mdl_tcp_flow *f, uint64_t seq)
{
    unsigned i = (unsigned)(seq % MDL_TCP_WINDOW);
    f->seen[i / 64] |= 1ull << (i % 64);
    for (;;) {
        i = (unsigned)(f->seen_next % MDL_TCP_WINDOW);
        if (!(f->seen[i / 64] >> (i % 64) & 1)) return;
        f->seen[i / 64] &= ~(1ull << (i % 64));
        f->seen_next++;
    }
}

static medleyResult_t hold(struct mdl_tcp_flow *f, struct mdl_tcp_channel *ch, struct mdl_tcp_reading *r)
{
    struct mdl_list *after = ch->held.prev;
    while (after != &ch->held && mdl_container_of(after, struct mdl_tcp_buf, link)->number > r->h.number)
        after = after->prev;
    if (after != &ch->held && mdl_container_of(after, struct mdl_tcp_buf, link)->number == r->h.number)
        return violation(f, "two messages with one number");
    r->buf->number = r->h.number;
    r->buf->tag = r->h.tag;
    r->buf->len = r->h.length;
    mdl_list_append(after->next, &r->buf->link);
    r->buf = NULL;
    f->held++;
    if (crowded(f)) grant_all(f);
    return medleySuccess;
}

static medleyResult_t arrived_eager(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r)
{
    struct mdl_tcp_channel *ch = f->channels[r->h.channel];
    if (!r->buf) {
        if (r->req)
            deliver(f, r->req, NULL, r->h.tag, r->h.total);
        else
            f->taken++;
        return medleySuccess;
    }
    if (r->h.number >= ch->recv_next) return hold(f, ch, r);
    /* Its receive was posted while it came. */
    struct mdl_tcp_request *req = mdl_tcp_request_find(&ch->posted, r->h.number);
    if (req)
        deliver(f, req, r->buf->data, r->h.tag, r->h.total);
    else
        f->taken++;
    return medleySuccess;
}

static medleyResult_t arrived_chunk(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r)
{
    struct mdl_tcp_request *req = r->req;
    f->ack_due = true;
    if (!req) return medleySuccess;
    if (r->h.length > req->len - req->settled) return violation(f, "more chunks than the message has bytes");
    req->settled += r->h.length;
    req->base.bytes = req->settled;
    if (req->settled == req->len) mdl_tcp_request_end(f, req, medleySuccess);
    return medleySuccess;
}

static medleyResult_t arrived_announce(struct mdl_tcp_flow *f, const struct mdl_tcp_header *h)
{
    struct mdl_tcp_channel *ch = mdl_tcp_flow_channel(f, h->channel);
    if (!ch) return medleySystemError;
    if (ch->heard.set && ch->heard.number >= h->number) return medleySuccess;
    ch->heard = (struct mdl_tcp_credit){.number = h->number, .tag = h->tag, .room = h->total, .set = true};
    struct mdl_tcp_request *req = mdl_tcp_request_find(&ch->posted, h->number);
    if (req) compare_announced(f, ch, req);
    return medleySuccess;
}

static medleyResult_t arrived_refusal(struct mdl_tcp_flow *f, const struct mdl_tcp_header *h)
{
    struct mdl_tcp_channel *ch = f->channels[h->channel];
    if (!ch || h->number >= ch->recv_next) return violation(f, "refusal of a receive that was never posted");
    struct mdl_tcp_request *req = mdl_tcp_request_find(&ch->posted, h->number);
    if (req) mdl_tcp_request_mismatch(f, req, h->tag, h->total);
    return medleySuccess;
}

static medleyResult_t arrived_sequenced(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r)
{
    drop_copies(f, r->h.seq);
    mark_seen(f, r->h.seq);
    switch (r->h.type) {
    case MDL_TCP_EAGER: return arrived_eager(f, r);
    case MDL_TCP_CHUNK: return arrived_chunk(f, r);
    case MDL_TCP_ANNOUNCE: return arrived_announce(f, &r->h);
    case MDL_TCP_CREDIT: return mdl_tcp_flow_on_credit(f, &r->h);
    case MDL_TCP_REFUSE_SEND: return mdl_tcp_flow_on_refuse_send(f, &r->h);
    default: return arrived_refusal(f, &r->h);
    }
}

medleyResult_t mdl_tcp_flow_arrived(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r, uint64_t now)
{
    medleyResult_t rc = medleySuccess;
    mdl_list_remove(&r->link);
    if ((int32_t)(r->h.taken - f->eager_taken) > 0) f->eager_taken = r->h.taken;
    mdl_tcp_flow_acked(f, r->h.ack, r->h.length && !r->h.seq ? r->small : NULL, now);
    f->events++;
    if (r->h.seq == 0) {
        if (r->h.type == MDL_TCP_BYE) f->bye_next = r->h.number;
        return medleySuccess;
    }
    f->untold++;
    f->untold_bytes += MDL_TCP_HEADER_BYTES + r->h.length;
    if (was_seen(f, r->h.seq))
        f->ack_due = true; /* the peer does not know that it has come */
    else
        rc = arrived_sequenced(f, r);
    mdl_tcp_pool_put(f->pool, r->buf);
    r->buf = NULL;
    return rc;
}
