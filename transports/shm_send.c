/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends. A small message is copied into the ring and is done. A larger one is announced with the place of its payload,
 * and the receiver, once it has a matching receive, either reads the payload itself and says TAKEN, or says SEND, and
 * then the payload goes through the bulk ring in pieces, so that both sides' copies overlap. So the receiver alone
 * decides how, and may change its mind; and no payload moves beyond the ring before it was asked for.
 *
 * `pending` keeps the order of a channel; what is announced may be answered in any order. The pieces of several
 * messages take turns in the bulk ring.
 */
#include "config.h"
#include "lib/base/copy.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <string.h>

static uint64_t record_bytes(uint64_t payload)
{
    return (sizeof(struct mdl_shm_record) + payload + MDL_SHM_LINE - 1) & ~(uint64_t)(MDL_SHM_LINE - 1);
}

static size_t inline_max(const struct mdl_shm_peer *p)
{
    size_t ring = mdl_shm_inline_max(&p->out_layout);
    return ring < p->ctx->inline_max ? ring : p->ctx->inline_max;
}

/* Bytes that are skipped so that a record of `size` is in one piece. */
static uint64_t pad_for(const struct mdl_shm_peer *p, const struct mdl_shm_tx *tx, uint64_t size)
{
    uint64_t at = tx->pos & (p->out_layout.ring_bytes - 1);
    return at + size > p->out_layout.ring_bytes ? p->out_layout.ring_bytes - at : 0;
}

/* Is there room for a record of `size`, its pad and the stamp behind it? */
static medleyResult_t look_for_room(struct mdl_shm_peer *p, struct mdl_shm_tx *tx, uint64_t size, bool *room)
{
    uint64_t end = tx->pos + pad_for(p, tx, size) + size + MDL_SHM_LINE;
    *room = end - tx->head <= p->out_layout.ring_bytes;
    if (*room) return medleySuccess;
    /* Pairs with the release in the receiver's tell. */
    uint64_t head = atomic_load_explicit(&mdl_shm_control(p->out, tx->channel)->head, memory_order_acquire);
    if (head < tx->head || head > tx->pos) return mdl_shm_broken(p, "the head of a message ring");
    tx->head = head;
    *room = end - head <= p->out_layout.ring_bytes;
    return medleySuccess;
}

/* Publishes what was written at tx->pos. The stamp behind is cleared first: what is there is old payload. */
static void publish(struct mdl_shm_peer *p, struct mdl_shm_tx *tx, uint64_t size, enum mdl_shm_kind kind)
{
    const struct mdl_shm_layout *l = &p->out_layout;
    struct mdl_shm_record *next = mdl_shm_record(l, p->out, tx->channel, tx->pos + size);
    struct mdl_shm_record *rec = mdl_shm_record(l, p->out, tx->channel, tx->pos);
    atomic_store_explicit(&next->stamp, 0, memory_order_relaxed);
    atomic_store_explicit(&rec->stamp, mdl_shm_stamp(tx->pos, kind), memory_order_release); /* pairs with rx peek */
    tx->pos += size;
}

static void put_record(struct mdl_shm_tx *tx, const struct mdl_shm_request *r, enum mdl_shm_kind kind,
                       const void *payload, size_t bytes)
{
    struct mdl_shm_peer *p = tx->peer;
    uint64_t size = record_bytes(bytes);
    uint64_t pad = pad_for(p, tx, size);
    if (pad > 0) publish(p, tx, pad, MDL_SHM_PAD);
    struct mdl_shm_record *rec = mdl_shm_record(&p->out_layout, p->out, tx->channel, tx->pos);
    rec->tag = r->tag;
    rec->len = r->len;
    mdl_copy(rec->payload, payload, bytes);
    publish(p, tx, size, kind);
}

/* Where the receiver finds the payload. */
static struct mdl_shm_place place_of(const struct mdl_shm_request *r)
{
    struct mdl_mem mem = {0};
    mdl_mem_describe(r->ptr, r->len, &mem);
    return (struct mdl_shm_place){.addr = (uintptr_t)r->ptr, .segment = mem.segment, .offset = mem.offset};
}

static void sent(struct mdl_shm_request *r)
{
    r->head.bytes = r->len;
    mdl_shm_count(&r->peer->sent_bytes, r->len);
    mdl_shm_finish(r, medleySuccess);
}

/* Moves the first pending send into the ring if there is room. */
static medleyResult_t push_one(struct mdl_shm_tx *tx, bool *pushed)
{
    struct mdl_shm_peer *p = tx->peer;
    struct mdl_shm_request *r = mdl_container_of(tx->pending.next, struct mdl_shm_request, link);
    bool small = r->len <= inline_max(p);
    uint64_t bit = 1ull << tx->seq % MDL_SHM_ACKS;
    *pushed = false;
    if (!small && (tx->unanswered & bit)) return medleySuccess;
    bool room;
    MDL_TRY(look_for_room(p, tx, record_bytes(small ? r->len : sizeof(struct mdl_shm_place)), &room));
    if (!room) return medleySuccess;
    *pushed = true;
    if (small) {
        put_record(tx, r, MDL_SHM_INLINE, r->ptr, r->len);
        sent(r);
        return medleySuccess;
    }
    struct mdl_shm_place place = place_of(r);
    put_record(tx, r, MDL_SHM_ANNOUNCE, &place, sizeof(place));
    r->seq = tx->seq++;
    tx->unanswered |= bit;
    mdl_list_remove(&r->link);
    mdl_list_append(&tx->waiting, &r->link);
    return medleySuccess;
}

static medleyResult_t push_pending(struct mdl_shm_tx *tx, int *events)
{
    int before = *events;
    medleyResult_t result = medleySuccess;
    for (bool pushed = true; pushed && result == medleySuccess && !mdl_list_empty(&tx->pending);) {
        result = push_one(tx, &pushed);
        *events += pushed;
    }
    if (*events != before) mdl_shm_wake(tx->peer);
    return result;
}

/* ---- answers ---- */

static void send_through_bulk(struct mdl_shm_request *r)
{
    struct mdl_shm_peer *p = r->peer;
    mdl_list_remove(&r->link);
    mdl_list_append(&p->bulk_out, &r->link);
    r->head.bytes = 0;
    if (mdl_list_empty(&p->bulk_out_active)) mdl_list_append(&p->ctx->bulk_out_active, &p->bulk_out_active);
    mdl_shm_count(&p->fallbacks, 1);
}

static medleyResult_t take_answer(struct mdl_shm_request *r, uint64_t ack)
{
    struct mdl_shm_peer *p = r->peer;
    p->tx[r->channel].unanswered &= ~(1ull << r->seq % MDL_SHM_ACKS);
    switch (ack & 0xff) {
    case MDL_SHM_TAKEN: sent(r); return medleySuccess;
    case MDL_SHM_SEND: send_through_bulk(r); return medleySuccess;
    case MDL_SHM_MISMATCH:
        mdl_error(medleyInvalidUsage,
                  "rank %d: rank %d did not expect this message on channel %u (%zu bytes, tag %#llx): the ranks made "
                  "different calls",
                  p->ctx->args.rank, p->rank, r->channel, r->len, (unsigned long long)r->tag);
        mdl_shm_finish(r, medleyInvalidUsage);
        return medleySuccess;
    case MDL_SHM_BROKEN:
        mdl_error(medleyRemoteError, "rank %d: rank %d failed to receive %zu bytes on channel %u", p->ctx->args.rank,
                  p->rank, r->len, r->channel);
        mdl_shm_finish(r, medleyRemoteError);
        return medleySuccess;
    default: return mdl_shm_broken(p, "an answer to a message");
    }
}

/* 0: no answer yet. */
static uint64_t look_for_answer(struct mdl_shm_tx *tx, const struct mdl_shm_request *r)
{
    struct mdl_shm_control *c = mdl_shm_control(tx->peer->out, tx->channel);
    /* Pairs with the release in the receiver's answer. */
    uint64_t ack = atomic_load_explicit(&c->answers[r->seq % MDL_SHM_ACKS].ack, memory_order_acquire);
    return ack >> 8 == r->seq + 1 ? ack : 0;
}

/* How far the receiver has read: only for those who watch for progress. */
static void look_for_progress(struct mdl_shm_tx *tx, struct mdl_shm_request *r)
{
    struct mdl_shm_control *c = mdl_shm_control(tx->peer->out, tx->channel);
    uint64_t moved = atomic_load_explicit(&c->answers[r->seq % MDL_SHM_ACKS].moved, memory_order_relaxed);
    uint64_t bytes = moved ^ mdl_shm_moved(r->seq, 0);
    if (bytes > r->head.bytes && bytes < r->len) r->head.bytes = bytes;
}

medleyResult_t mdl_shm_tx_step(struct mdl_shm_tx *tx, int *events)
{
    mdl_list_each (it, &tx->waiting) {
        struct mdl_shm_request *r = mdl_container_of(it, struct mdl_shm_request, link);
        uint64_t ack = look_for_answer(tx, r);
        if (ack == 0) {
            look_for_progress(tx, r);
            continue;
        }
        MDL_TRY(take_answer(r, ack));
        ++*events;
    }
    MDL_TRY(push_pending(tx, events));
    if (mdl_list_empty(&tx->pending) && mdl_list_empty(&tx->waiting)) mdl_list_remove(&tx->active);
    return medleySuccess;
}

bool mdl_shm_tx_ready(struct mdl_shm_tx *tx)
{
    mdl_list_each (it, &tx->waiting) {
        if (look_for_answer(tx, mdl_container_of(it, struct mdl_shm_request, link))) return true;
    }
    if (mdl_list_empty(&tx->pending)) return false;
    struct mdl_shm_request *r = mdl_container_of(tx->pending.next, struct mdl_shm_request, link);
    bool small = r->len <= inline_max(tx->peer), room;
    if (!small && (tx->unanswered & 1ull << tx->seq % MDL_SHM_ACKS)) return false;
    size_t payload = small ? r->len : sizeof(struct mdl_shm_place);
    return look_for_room(tx->peer, tx, record_bytes(payload), &room) != medleySuccess || room;
}

medleyResult_t mdl_shm_send(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req)
{
    struct mdl_shm_request *r;
    MDL_TRY(mdl_shm_start(ctx, peer, msg, req, &r));
    struct mdl_shm *s = ctx;
    struct mdl_shm_tx *tx = &r->peer->tx[msg->channel];
    int events = 0;
    if (mdl_shm_is_gone(r->peer)) {
        mdl_shm_refuse_gone(r);
        return medleySuccess;
    }
    if (!mdl_guard_enter(&s->guard)) return mdl_guard_refuse();
    bool first = mdl_list_empty(&tx->pending);
    mdl_list_append(&tx->pending, &r->link);
    medleyResult_t result = first ? push_pending(tx, &events) : medleySuccess;
    if (r->head.state == MDL_REQ_ACTIVE && mdl_list_empty(&tx->active)) mdl_list_append(&s->tx_active, &tx->active);
    mdl_guard_leave(&s->guard);
    return result;
}

/* ---- the bulk ring ---- */

static medleyResult_t look_for_slot(struct mdl_shm_peer *p, bool *room)
{
    const struct mdl_shm_layout *l = &p->out_layout;
    *room = p->bulk_out_pos - p->bulk_out_head < l->bulk_slots;
    if (*room) return medleySuccess;
    /* Pairs with the release in mdl_shm_bulk_in_step. */
    uint64_t head = atomic_load_explicit(&mdl_shm_bulk_control(l, p->out)->head, memory_order_acquire);
    if (head < p->bulk_out_head || head > p->bulk_out_pos) return mdl_shm_broken(p, "the head of the bulk ring");
    p->bulk_out_head = head;
    *room = p->bulk_out_pos - head < l->bulk_slots;
    return medleySuccess;
}

static size_t put_piece(struct mdl_shm_peer *p, struct mdl_shm_request *r)
{
    const struct mdl_shm_layout *l = &p->out_layout;
    struct mdl_shm_bulk *b = mdl_shm_bulk(l, p->out, p->bulk_out_pos);
    size_t left = r->len - r->head.bytes;
    size_t n = left < l->bulk_bytes ? left : l->bulk_bytes;
    mdl_copy(mdl_shm_bulk_data(l, p->out, p->bulk_out_pos), r->ptr + r->head.bytes, n);
    b->seq = r->seq;
    b->offset = r->head.bytes;
    b->channel = r->channel;
    b->len = (uint32_t)n;
    atomic_store_explicit(&b->stamp, p->bulk_out_pos + 1, memory_order_release); /* pairs with bulk_in's peek */
    p->bulk_out_pos++;
    r->head.bytes += n;
    return n;
}

medleyResult_t mdl_shm_bulk_out_step(struct mdl_shm_peer *p, size_t *budget, int *events)
{
    int before = *events;
    medleyResult_t result = medleySuccess;
    while (!mdl_list_empty(&p->bulk_out) && *budget > 0) {
        bool room;
        result = look_for_slot(p, &room);
        if (result != medleySuccess || !room) break;
        struct mdl_shm_request *r = mdl_container_of(p->bulk_out.next, struct mdl_shm_request, link);
        size_t n = put_piece(p, r);
        *budget -= n < *budget ? n : *budget;
        ++*events;
        if (r->head.bytes == r->len) {
            sent(r);
        } else { /* the next message's turn */
            mdl_list_remove(&r->link);
            mdl_list_append(&p->bulk_out, &r->link);
        }
    }
    if (*events != before) mdl_shm_wake(p);
    if (mdl_list_empty(&p->bulk_out)) mdl_list_remove(&p->bulk_out_active);
    return result;
}

bool mdl_shm_bulk_out_ready(struct mdl_shm_peer *p)
{
    bool room;
    return look_for_slot(p, &room) != medleySuccess || room;
}
