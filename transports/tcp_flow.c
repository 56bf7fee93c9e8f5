/* SPDX-License-Identifier: Apache-2.0 */
/* The flow's common half: channels, requests, acknowledgements in both directions, and lanes that come and go. */
#include "config.h"
#include "transports/tcp_flow_impl.h"

enum {
    FIRST_CHUNK = 64 * 1024, /* of a lane whose speed is unknown */
    LEAST_CHUNK = 16 * 1024,
    WINDOW_CHUNKS = 2,         /* a lane's window, at first and when it is slow */
    LEAST_WINDOW = 256 * 1024, /* it is not limited further for being slow */
    WHILE_BYTES = 256 * 1024,
    MAX_WINDOW_CHUNKS = 8,
    PIECE_US = 500,            /* how long a piece may take */
    UNTOLD_BYTES = 256 * 1024, /* an acknowledgement is due after so much ... */
    UNTOLD_FRAMES = 16,        /* ... or so many */
};
#define SLOW_NS  (20 * 1000000ull)    /* a lane quicker than this is never called slow */
#define WHILE_NS (4 * 1000000ull)     /* over which speed is measured */
#define QUEUE_NS 1000000ull           /* what is under way beyond two round trips is delivered in such a time */
#define LEAST_NS (10 * 1000000000ull) /* so long the shortest time of an answer holds */

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

void mdl_tcp_flow_init(struct mdl_tcp_flow *f, int rank, int peer, size_t eager, size_t chunk,
                       struct mdl_tcp_pool *pool)
{
    *f = (struct mdl_tcp_flow){.rank = rank, .peer = peer, .eager = eager, .chunk = chunk, .pool = pool};
    f->eager_max = (uint32_t)smaller(MDL_TCP_EAGER_COUNT, MDL_TCP_EAGER_BYTES / (eager ? eager : 1));
    f->base = f->next = f->seen_next = f->told_next = 1;
    struct mdl_list *lists[] = {&f->readings, &f->announces, &f->credits, &f->pulled, &f->eagers, &f->chunks};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) mdl_list_init(lists[i]);
}

static void channel_free(struct mdl_tcp_flow *f, struct mdl_tcp_channel *ch)
{
    if (!ch) return;
    mdl_list_each (it, &ch->held) mdl_tcp_pool_put(f->pool, mdl_container_of(it, struct mdl_tcp_buf, link));
    free(ch);
}

void mdl_tcp_flow_fini(struct mdl_tcp_flow *f)
{
    for (uint64_t s = f->base; s < f->next; s++) mdl_tcp_pool_put(f->pool, f->ring[s % MDL_TCP_WINDOW].buf);
    for (unsigned i = 0; i < MDL_MAX_CHANNELS; i++) channel_free(f, f->channels[i]);
}

struct mdl_tcp_channel *mdl_tcp_flow_channel(struct mdl_tcp_flow *f, unsigned number)
{
    struct mdl_tcp_channel *ch = f->channels[number];
    if (ch) return ch;
    ch = calloc(1, sizeof *ch);
    if (!ch) {
        mdl_error(medleySystemError, "rank %d: no memory for channel %u to rank %d", f->rank, number, f->peer);
        return NULL;
    }
    struct mdl_list *lists[] = {&ch->posted, &ch->held, &ch->waiting, &ch->sending, &ch->todo};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) mdl_list_init(lists[i]);
    return f->channels[number] = ch;
}

/* ---- requests ---- */

struct mdl_tcp_request *mdl_tcp_request_find(const struct mdl_list *list, uint64_t number)
{
    mdl_list_each (it, list) {
        struct mdl_tcp_request *req = MDL_TCP_OF_LINK(it);
        if (req->number == number) return req;
        if (req->number > number) break;
    }
    return NULL;
}

void mdl_tcp_request_start(struct mdl_tcp_flow *f, const struct mdl_message *m, struct mdl_tcp_request *req)
{
    *req = (struct mdl_tcp_request){.ptr = m->ptr, .len = m->len, .tag = m->tag, .channel = (uint16_t)m->channel};
    req->base.state = MDL_REQ_ACTIVE;
    mdl_list_init(&req->link);
    mdl_list_init(&req->todo);
    f->active++;
}

/* No lane may write into the buffer of a request that has ended. */
static void release_readings(struct mdl_tcp_flow *f, const struct mdl_tcp_request *req)
{
    mdl_list_each (it, &f->readings) {
        struct mdl_tcp_reading *r = mdl_container_of(it, struct mdl_tcp_reading, link);
        if (r->req != req) continue;
        r->sink = NULL;
        r->req = NULL;
    }
}

void mdl_tcp_request_end(struct mdl_tcp_flow *f, struct mdl_tcp_request *req, medleyResult_t result)
{
    struct mdl_tcp_channel *ch = f->channels[req->channel];
    if (!req->sends) release_readings(f, req);
    mdl_list_remove(&req->link);
    mdl_list_remove(&req->todo);
    if (req->grant == MDL_TCP_GRANT_OWED) ch->owing--;
    req->grant = MDL_TCP_GRANT_NONE;
    f->active--;
    f->events++;
    req->base.result = result;
    req->base.state = result == medleySuccess ? MDL_REQ_DONE : MDL_REQ_FAILED;
    if (!req->sends && ch->owing) mdl_tcp_flow_grant(f, ch);
}

void mdl_tcp_request_mismatch(struct mdl_tcp_flow *f, struct mdl_tcp_request *req, uint64_t tag, uint64_t len)
{
    f->channels[req->channel]->mismatched = true;
    mdl_error(medleyInvalidUsage,
              "rank %d: %s %llu on channel %u %s rank %d does not match its peer: here tag %#llx and %zu bytes, there "
              "tag %#llx and %llu bytes; all ranks must make the same calls in the same order",
              f->rank, req->sends ? "send" : "receive", (unsigned long long)req->number, (unsigned)req->channel,
              req->sends ? "to" : "from", f->peer, (unsigned long long)req->tag, req->len, (unsigned long long)tag,
              (unsigned long long)len);
    req->base.peer_tag = tag;
    req->base.peer_len = len;
    mdl_tcp_request_end(f, req, medleyInvalidUsage);
}

void mdl_tcp_flow_refuse(struct mdl_tcp_flow *f, uint8_t type, const struct mdl_tcp_request *req)
{
    /* The communicator fails by the first one: more than fit need not be told. */
    if (f->nrefusals == MDL_TCP_REFUSALS) return;
    f->refusals[f->nrefusals++] = (struct mdl_tcp_refusal){
        .type = type, .channel = req->channel, .number = req->number, .tag = req->tag, .len = req->len};
}

static void fail_list(struct mdl_tcp_flow *f, struct mdl_list *list, medleyResult_t code)
{
    while (!mdl_list_empty(list)) mdl_tcp_request_end(f, MDL_TCP_OF_LINK(list->next), code);
}

void mdl_tcp_flow_fail(struct mdl_tcp_flow *f, medleyResult_t code)
{
    for (uint64_t s = f->base; s < f->next; s++) {
        struct mdl_tcp_frame *frame = &f->ring[s % MDL_TCP_WINDOW];
        mdl_tcp_pool_put(f->pool, frame->buf);
        *frame = (struct mdl_tcp_frame){0};
    }
    f->base = f->next;
    f->again_small = f->again_chunks = f->nrefusals = 0;
    f->announcing = false;
    f->stale = true;
    for (unsigned i = 0; i < MDL_MAX_CHANNELS; i++) {
        struct mdl_tcp_channel *ch = f->channels[i];
        if (!ch) continue;
        ch->owing = 0;
        mdl_list_each (it, &ch->posted) MDL_TCP_OF_LINK(it)->grant = MDL_TCP_GRANT_NONE;
        fail_list(f, &ch->posted, code);
        fail_list(f, &ch->waiting, code);
        fail_list(f, &ch->sending, code);
        mdl_list_remove(&ch->todo);
    }
}

bool mdl_tcp_flow_busy(const struct mdl_tcp_flow *f) { return f->active || f->base != f->next; }

/* ---- acknowledgements that come ---- */

static uint64_t quickest(const struct mdl_tcp_flow *f, const struct mdl_tcp_path *but)
{
    uint64_t best = 0;
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++) {
        const struct mdl_tcp_path *p = &f->paths[i];
        if (p != but && p->up && p->rtt_ns && (!best || p->rtt_ns < best)) best = p->rtt_ns;
    }
    return best;
}

/* A lane that had too little to do shows less than it can: what is less counts less. */
static void learn_rate(struct mdl_tcp_path *p, const struct mdl_tcp_frame *frame, uint64_t rtt)
{
    uint64_t rate = (p->delivered - frame->delivered) * 1000000 / (rtt ? rtt : 1);
    if (rate >= p->rate)
        p->rate = p->rate ? (p->rate + rate) / 2 : rate;
    else
        p->rate = (15 * p->rate + rate) / 16;
    if (!p->rate) p->rate = 1;
}

/* Pieces are as long as the speed makes them short in time, so that no message waits long for the slowest lane. */
static void fit_chunk(const struct mdl_tcp_flow *f, struct mdl_tcp_path *p)
{
    size_t chunk = smaller(p->rate * PIECE_US / 1000, f->chunk), least = smaller(LEAST_CHUNK, f->chunk);
    p->chunk = chunk > least ? chunk : least;
}

/* The shortest time of an answer, when there was no queue. The network may change, so now and then the queue is let run
 * dry to see. */
static void learn_least(struct mdl_tcp_path *p, uint64_t rtt, uint64_t now)
{
    bool old = now - p->least_at_ns > LEAST_NS;
    if (p->least_ns && rtt >= p->least_ns && !old) return;
    if (p->least_ns && rtt >= p->least_ns && p->window > LEAST_WINDOW) p->window = LEAST_WINDOW;
    p->least_ns = rtt;
    p->least_at_ns = now;
}

/* How much is delivered in a while in which something was under way. Over shorter times it cannot be told: links let
 * bursts pass, and answers come in clumps. */
static void learn_speed(struct mdl_tcp_path *p, const struct mdl_tcp_frame *frame, uint64_t now)
{
    uint64_t ns = now - p->since_ns;
    p->bulk -= frame->length;
    p->since_bytes += frame->length;
    if (ns >= WHILE_NS && p->since_bytes >= WHILE_BYTES) {
        uint64_t speed = p->since_bytes * 1000000 / ns;
        p->speed = p->speed ? (p->speed + speed + 1) / 2 : speed + 1;
        p->since_ns = now;
        p->since_bytes = 0;
    }
    if (!p->bulk) p->idle_ns = now;
}

/* What is under way beyond two round trips, and beyond what a peer misses that computes for a while, waits in front of
 * the link and holds up what is needed sooner, on the way back the acknowledgements too. */
static size_t most_window(const struct mdl_tcp_flow *f, const struct mdl_tcp_path *p)
{
    size_t most = MAX_WINDOW_CHUNKS * f->chunk;
    uint64_t bytes = p->speed * ((QUEUE_NS + 2 * p->least_ns) / 1000) / 1000;
    if (!p->speed || bytes > most) return most;
    return bytes < LEAST_WINDOW ? smaller(LEAST_WINDOW, most) : (size_t)bytes;
}

/* A lane that is slow beside the others gets little at a time; any other lane gets more as long as it asks for more. */
static void fit_window(struct mdl_tcp_flow *f, struct mdl_tcp_path *p)
{
    uint64_t best = p->rtt_ns > SLOW_NS ? quickest(f, p) : 0;
    if (best && p->rtt_ns > 4 * best)
        p->window = WINDOW_CHUNKS * p->chunk;
    else
        p->window = smaller(p->limited ? 2 * p->window : p->window, most_window(f, p));
    p->limited = false;
}

static void path_adapt(struct mdl_tcp_flow *f, struct mdl_tcp_path *p, const struct mdl_tcp_frame *frame, uint64_t now)
{
    uint64_t rtt = now - frame->sent_ns;
    learn_rate(p, frame, rtt);
    p->rtt_ns = p->rtt_ns ? (7 * p->rtt_ns + rtt) / 8 : rtt;
    fit_chunk(f, p);
    learn_least(p, rtt, now);
    fit_window(f, p);
}

static void unqueue(struct mdl_tcp_flow *f, const struct mdl_tcp_frame *frame)
{
    if (frame->type == MDL_TCP_CHUNK)
        f->again_chunks--;
    else
        f->again_small--;
}

static void settle_request(struct mdl_tcp_flow *f, struct mdl_tcp_frame *frame)
{
    struct mdl_tcp_request *req = frame->req;
    if (!req) return;
    frame->req = NULL;
    req->settled += frame->length;
    req->base.bytes = req->settled;
    if (req->settled == req->len) mdl_tcp_request_end(f, req, medleySuccess);
}

static void settle(struct mdl_tcp_flow *f, struct mdl_tcp_frame *frame, uint64_t now)
{
    if (frame->state == MDL_TCP_ACKED || frame->state == MDL_TCP_FREE) return;
    if (frame->state == MDL_TCP_QUEUED) {
        unqueue(f, frame);
    } else {
        struct mdl_tcp_path *p = &f->paths[frame->lane];
        p->unacked -= MDL_TCP_HEADER_BYTES + frame->length;
        p->delivered += MDL_TCP_HEADER_BYTES + frame->length;
        p->heard_ns = now;
        if (frame->type == MDL_TCP_CHUNK) learn_speed(p, frame, now);
        if (frame->type == MDL_TCP_CHUNK && !frame->again) path_adapt(f, p, frame, now);
        if (frame->sent_ns > f->acked_sent_ns && !frame->again) f->acked_sent_ns = frame->sent_ns;
    }
    frame->state = MDL_TCP_ACKED;
    f->settled_ns = now;
    if (frame->again) f->stale = true;
    mdl_tcp_pool_put(f->pool, frame->buf);
    frame->buf = NULL;
    settle_request(f, frame);
}

static bool bit(const uint8_t *bitmap, uint64_t seq)
{
    unsigned i = (unsigned)(seq % MDL_TCP_WINDOW);
    return bitmap[i / 8] >> (i % 8) & 1;
}

void mdl_tcp_flow_acked(struct mdl_tcp_flow *f, uint64_t cum, const uint8_t *bitmap, uint64_t now)
{
    for (uint64_t s = f->base; s < cum; s++) settle(f, &f->ring[s % MDL_TCP_WINDOW], now);
    if (bitmap) {
        for (uint64_t s = cum > f->base ? cum : f->base; s < f->next && s < cum + MDL_TCP_WINDOW; s++)
            if (bit(bitmap, s)) settle(f, &f->ring[s % MDL_TCP_WINDOW], now);
    }
    while (f->base < f->next && f->ring[f->base % MDL_TCP_WINDOW].state == MDL_TCP_ACKED)
        f->ring[f->base++ % MDL_TCP_WINDOW].state = MDL_TCP_FREE;
}

bool mdl_tcp_flow_needs(const struct mdl_tcp_flow *f, uint64_t seq)
{
    return seq >= f->base && seq < f->next && f->ring[seq % MDL_TCP_WINDOW].state != MDL_TCP_ACKED;
}

/* ---- acknowledgements that go ---- */

static bool has_holes(const struct mdl_tcp_flow *f)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < MDL_TCP_WINDOW / 64; i++) any |= f->seen[i];
    return any != 0;
}

void mdl_tcp_flow_tell(struct mdl_tcp_flow *f, struct mdl_tcp_header *h)
{
    h->src = (uint32_t)f->rank;
    h->dst = (uint32_t)f->peer;
    h->ack = f->told_next = f->seen_next;
    h->taken = f->told_taken = f->taken;
    if (h->type != MDL_TCP_ACK && h->type != MDL_TCP_BYE && has_holes(f)) return; /* it tells only of a part */
    f->untold = 0;
    f->untold_bytes = 0;
    f->ack_due = false;
}

bool mdl_tcp_flow_ack_wanted(const struct mdl_tcp_flow *f, bool idle)
{
    if (f->ack_due) return true;
    if (idle) return f->untold || f->taken != f->told_taken;
    return f->untold >= UNTOLD_FRAMES || f->untold_bytes >= UNTOLD_BYTES || f->taken - f->told_taken > f->eager_max / 4;
}

void mdl_tcp_flow_make_ack(struct mdl_tcp_flow *f, uint8_t type, struct mdl_tcp_header *h,
                           uint8_t payload[MDL_TCP_ACK_BYTES])
{
    *h = (struct mdl_tcp_header){.type = type, .length = MDL_TCP_ACK_BYTES};
    if (type == MDL_TCP_BYE) h->number = f->next;
    mdl_tcp_flow_tell(f, h);
    for (unsigned i = 0; i < MDL_TCP_WINDOW / 64; i++) mdl_put_u64(payload + 8 * i, f->seen[i]);
}

/* ---- lanes ---- */

void mdl_tcp_flow_lane_up(struct mdl_tcp_flow *f, int lane)
{
    size_t chunk = smaller(FIRST_CHUNK, f->chunk);
    f->paths[lane] = (struct mdl_tcp_path){.up = true, .chunk = chunk, .window = WINDOW_CHUNKS * chunk};
}

void mdl_tcp_flow_lane_down(struct mdl_tcp_flow *f, int lane)
{
    for (uint64_t s = f->base; s < f->next; s++) {
        struct mdl_tcp_frame *frame = &f->ring[s % MDL_TCP_WINDOW];
        if (frame->state != MDL_TCP_SENT || frame->lane != lane) continue;
        frame->state = MDL_TCP_QUEUED;
        if (frame->type == MDL_TCP_CHUNK)
            f->again_chunks++;
        else
            f->again_small++;
        f->retries++;
    }
    f->paths[lane] = (struct mdl_tcp_path){0};
    f->ack_due = true; /* acknowledgements may have been lost with it */
}

uint64_t mdl_tcp_flow_oldest(const struct mdl_tcp_flow *f, int lane)
{
    for (uint64_t s = f->base; s < f->next; s++) {
        const struct mdl_tcp_frame *frame = &f->ring[s % MDL_TCP_WINDOW];
        if (frame->state == MDL_TCP_SENT && frame->lane == lane) return frame->sent_ns;
    }
    return 0;
}
