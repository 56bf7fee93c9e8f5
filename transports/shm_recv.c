/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receives. Records of a channel meet the posted receives in order. A small message is copied out at once. For an
 * announced one the receiver chooses: memcpy from the sender's mapped segment, reading the sender's memory, both in
 * tiles, or asking for it through the bulk ring.
 *
 * Everything that is read here was written by another process: it is copied, checked, and only then used.
 */
#include "config.h"
#include "lib/base/copy.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <string.h>

static void answer(struct mdl_shm_request *r, enum mdl_shm_answer what)
{
    struct mdl_shm_peer *p = r->peer;
    struct mdl_shm_control *c = mdl_shm_control(p->in, r->channel);
    /* Pairs with look_for_answer. */
    atomic_store_explicit(&c->answers[r->seq % MDL_SHM_ACKS].ack, mdl_shm_ack(r->seq, what), memory_order_release);
    mdl_shm_wake(p);
}

static void received(struct mdl_shm_request *r)
{
    mdl_shm_count(&r->peer->recv_bytes, r->len);
    mdl_shm_finish(r, medleySuccess);
}

/* ---- large messages ---- */

static void ask_through_bulk(struct mdl_shm_request *r)
{
    struct mdl_shm_peer *p = r->peer;
    r->head.bytes = 0;
    mdl_list_remove(&r->link);
    mdl_list_append(&p->bulk_in, &r->link);
    if (mdl_list_empty(&p->bulk_in_active)) mdl_list_append(&p->ctx->bulk_in_active, &p->bulk_in_active);
    mdl_shm_count(&p->fallbacks, 1);
    answer(r, MDL_SHM_SEND);
}

static void begin_large(struct mdl_shm_request *r)
{
    struct mdl_shm_peer *p = r->peer;
    bool direct = p->can_get || mdl_shm_map_find(p, r->place.segment, r->place.offset, r->len);
    if (!direct) {
        ask_through_bulk(r);
        return;
    }
    mdl_list_remove(&r->link);
    mdl_list_append(&p->ctx->pulls, &r->link);
}

static medleyResult_t pull_tile(struct mdl_shm_request *r, size_t n, bool last)
{
    struct mdl_shm_peer *p = r->peer;
    size_t at = r->head.bytes;
    const char *mapped = mdl_shm_map_find(p, r->place.segment, r->place.offset, r->len);
    if (mapped) {
        mdl_copy(r->ptr + at, mapped + at, n);
        return last ? mdl_shm_check_open(p) : medleySuccess;
    }
    if (!p->can_get) return medleyInvalidUsage;
    return mdl_shm_read_tile(p, r->place.addr + at, r->ptr + at, n, last);
}

void mdl_shm_pull_step(struct mdl_shm_request *r)
{
    struct mdl_shm_peer *p = r->peer;
    size_t left = r->len - r->head.bytes;
    size_t n = left < MDL_SHM_TILE ? left : MDL_SHM_TILE;
    medleyResult_t result = pull_tile(r, n, n == left);
    if (result == medleyInvalidUsage) { /* the kernel refuses it from now on */
        if (p->can_get)
            MDL_INFO(MDL_SHM, "rank %d: the kernel no longer lets it read rank %d: messages go through slots",
                     p->ctx->args.rank, p->rank);
        p->can_get = false;
        ask_through_bulk(r);
        return;
    }
    if (result != medleySuccess) {
        answer(r, MDL_SHM_BROKEN);
        mdl_shm_finish(r, result);
        return;
    }
    r->head.bytes += n;
    if (n < left) {
        struct mdl_shm_control *c = mdl_shm_control(p->in, r->channel);
        atomic_store_explicit(&c->answers[r->seq % MDL_SHM_ACKS].moved, mdl_shm_moved(r->seq, r->head.bytes),
                              memory_order_relaxed); /* pairs with look_for_progress; orders nothing */
        return;
    }
    answer(r, MDL_SHM_TAKEN);
    received(r);
}

/* ---- records ---- */

static void mismatch(struct mdl_shm_request *r, uint64_t tag, uint64_t len)
{
    struct mdl_shm_peer *p = r->peer;
    r->head.peer_tag = tag;
    r->head.peer_len = len;
    mdl_error(
        medleyInvalidUsage,
        "rank %d: message of rank %d on channel %u does not match: it has %llu bytes and tag %#llx, expected were "
        "%zu bytes and tag %#llx: the ranks made different calls",
        p->ctx->args.rank, p->rank, r->channel, (unsigned long long)len, (unsigned long long)tag, r->len,
        (unsigned long long)r->tag);
    mdl_shm_finish(r, medleyInvalidUsage);
}

static struct mdl_shm_record *record_at(struct mdl_shm_rx *rx)
{
    return mdl_shm_record(&rx->peer->ctx->home->layout, rx->peer->in, rx->channel, rx->pos);
}

static uint64_t peek(struct mdl_shm_rx *rx)
{
    return atomic_load_explicit(&record_at(rx)->stamp, memory_order_acquire); /* pairs with publish */
}

static uint64_t take_inline(struct mdl_shm_rx *rx, struct mdl_shm_request *r, uint64_t tag, uint64_t len)
{
    if (tag != r->tag || len != r->len) {
        mismatch(r, tag, len);
    } else {
        mdl_copy(r->ptr, record_at(rx)->payload, len);
        r->head.bytes = len;
        received(r);
    }
    return (sizeof(struct mdl_shm_record) + len + MDL_SHM_LINE - 1) & ~(uint64_t)(MDL_SHM_LINE - 1);
}

static uint64_t take_announcement(struct mdl_shm_rx *rx, struct mdl_shm_request *r, uint64_t tag, uint64_t len)
{
    memcpy(&r->place, record_at(rx)->payload, sizeof(r->place));
    r->seq = rx->seq++;
    if (tag != r->tag || len != r->len) {
        answer(r, MDL_SHM_MISMATCH);
        mismatch(r, tag, len);
    } else {
        begin_large(r);
    }
    return (sizeof(struct mdl_shm_record) + sizeof(r->place) + MDL_SHM_LINE - 1) & ~(uint64_t)(MDL_SHM_LINE - 1);
}

/* Consumes one record for the first posted receive. *taken = 0: there is none yet. */
static medleyResult_t take_record(struct mdl_shm_rx *rx, uint64_t *taken)
{
    const struct mdl_shm_layout *l = &rx->peer->ctx->home->layout;
    uint64_t left = l->ring_bytes - (rx->pos & (l->ring_bytes - 1));
    uint64_t stamp = peek(rx);
    *taken = 0;
    if (stamp == 0) return medleySuccess;
    if ((stamp & ~(uint64_t)(MDL_SHM_LINE - 1)) != rx->pos + MDL_SHM_LINE)
        return mdl_shm_broken(rx->peer, "the stamp of a message");
    uint64_t tag = record_at(rx)->tag, len = record_at(rx)->len;
    struct mdl_shm_request *r = mdl_container_of(rx->posted.next, struct mdl_shm_request, link);
    switch (stamp & (MDL_SHM_LINE - 1)) {
    case MDL_SHM_PAD: *taken = left; return medleySuccess;
    case MDL_SHM_INLINE:
        if (len > mdl_shm_inline_max(l) || sizeof(struct mdl_shm_record) + len > left)
            return mdl_shm_broken(rx->peer, "the length of a message");
        *taken = take_inline(rx, r, tag, len);
        return medleySuccess;
    case MDL_SHM_ANNOUNCE: *taken = take_announcement(rx, r, tag, len); return medleySuccess;
    default: return mdl_shm_broken(rx->peer, "the kind of a message");
    }
}

static void tell(struct mdl_shm_rx *rx)
{
    struct mdl_shm_peer *p = rx->peer;
    if (rx->pos - rx->told < mdl_shm_tell_after(&p->ctx->home->layout)) return;
    rx->told = rx->pos;
    /* Pairs with look_for_room: the sender may write over what was read. */
    atomic_store_explicit(&mdl_shm_control(p->in, rx->channel)->head, rx->pos, memory_order_release);
    mdl_shm_wake(p);
}

medleyResult_t mdl_shm_rx_step(struct mdl_shm_rx *rx, int *events)
{
    while (!mdl_list_empty(&rx->posted)) {
        uint64_t taken;
        MDL_TRY(take_record(rx, &taken));
        if (taken == 0) break;
        rx->pos += taken;
        ++*events;
        tell(rx);
    }
    if (mdl_list_empty(&rx->posted)) mdl_list_remove(&rx->active);
    return medleySuccess;
}

bool mdl_shm_rx_ready(struct mdl_shm_rx *rx) { return !mdl_list_empty(&rx->posted) && peek(rx) != 0; }

medleyResult_t mdl_shm_recv(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req)
{
    struct mdl_shm_request *r;
    MDL_TRY(mdl_shm_start(ctx, peer, msg, req, &r));
    struct mdl_shm *s = ctx;
    struct mdl_shm_rx *rx = &r->peer->rx[msg->channel];
    int events = 0;
    if (!mdl_guard_enter(&s->guard)) return mdl_guard_refuse();
    mdl_list_append(&rx->posted, &r->link);
    if (mdl_list_empty(&rx->active)) mdl_list_append(&s->rx_active, &rx->active);
    medleyResult_t result = mdl_shm_rx_step(rx, &events);
    mdl_guard_leave(&s->guard);
    if (r->head.state == MDL_REQ_ACTIVE && mdl_shm_is_gone(r->peer)) s->departures--; /* progress looks again */
    return result;
}

/* ---- the bulk ring ---- */

static struct mdl_shm_request *find_bulk(struct mdl_shm_peer *p, uint32_t channel, uint64_t seq)
{
    mdl_list_each (it, &p->bulk_in) {
        struct mdl_shm_request *r = mdl_container_of(it, struct mdl_shm_request, link);
        if (r->channel == channel && r->seq == seq) return r;
    }
    return NULL;
}

static bool piece_ready(struct mdl_shm_peer *p)
{
    struct mdl_shm_bulk *b = mdl_shm_bulk(&p->ctx->home->layout, p->in, p->bulk_in_pos);
    return atomic_load_explicit(&b->stamp, memory_order_acquire) == p->bulk_in_pos + 1; /* pairs with put_piece */
}

static medleyResult_t take_piece(struct mdl_shm_peer *p, size_t *bytes)
{
    const struct mdl_shm_layout *l = &p->ctx->home->layout;
    const struct mdl_shm_bulk *b = mdl_shm_bulk(l, p->in, p->bulk_in_pos);
    uint64_t seq = b->seq, offset = b->offset;
    uint32_t channel = b->channel, len = b->len;
    struct mdl_shm_request *r = find_bulk(p, channel, seq);
    if (!r || offset != r->head.bytes || len == 0 || len > l->bulk_bytes || len > r->len - offset)
        return mdl_shm_broken(p, "a piece in the bulk ring");
    mdl_copy(r->ptr + offset, mdl_shm_bulk_data(l, p->in, p->bulk_in_pos), len);
    r->head.bytes += len;
    p->bulk_in_pos++;
    /* Pairs with look_for_slot. */
    atomic_store_explicit(&mdl_shm_bulk_control(l, p->in)->head, p->bulk_in_pos, memory_order_release);
    if (r->head.bytes == r->len) received(r);
    *bytes = len;
    return medleySuccess;
}

medleyResult_t mdl_shm_bulk_in_step(struct mdl_shm_peer *p, size_t *budget, int *events)
{
    int before = *events;
    medleyResult_t result = medleySuccess;
    while (!mdl_list_empty(&p->bulk_in) && *budget > 0 && piece_ready(p)) {
        size_t n = 0;
        result = take_piece(p, &n);
        if (result != medleySuccess) break;
        *budget -= n < *budget ? n : *budget;
        ++*events;
    }
    if (*events != before) mdl_shm_wake(p);
    if (mdl_list_empty(&p->bulk_in)) mdl_list_remove(&p->bulk_in_active);
    return result;
}

bool mdl_shm_bulk_in_ready(struct mdl_shm_peer *p) { return piece_ready(p); }
