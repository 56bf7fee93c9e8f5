/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of the TCP transport as a state machine: two flows joined by simulated lanes that delay, reorder, stop
 * in the midst of a frame, break (losing what is under way, noticed by the two sides at different times) and come back,
 * all driven by a seed. Every byte is checked, buffers are overwritten as soon as their request is done, and nothing
 * may touch them after that.
 */
#include "config.h"
#include "tests/unit/unit.h"
#include "transports/tcp_flow.h"

enum { LANES = 4, EAGER = 1000, CHUNK = 4096, CHANNELS = 5, OUT = 6, WIRE = 64, MAX_LEN = 60000 };

/* A frame on its way. */
struct parcel {
    struct mdl_tcp_take take;
    uint8_t ack[MDL_TCP_ACK_BYTES];
    uint8_t *bytes; /* the copy that the "kernel" made */
};

/* One direction of a lane. */
struct pipe {
    struct parcel out[OUT], wire[WIRE];
    unsigned nout, nwire;
    struct mdl_tcp_reading reading;
    bool is_reading;
    size_t read; /* bytes of the payload that were copied to the sink */
    bool up_tx, up_rx;
};

struct message {
    struct mdl_tcp_request tx, rx;
    uint8_t *from, *to;
    size_t len;
    uint64_t tag;
    unsigned channel;
    bool sent, received, checked, released;
};

struct side {
    struct mdl_tcp_flow flow;
    struct mdl_tcp_pool pool;
    struct pipe pipes[LANES]; /* from this side to the other */
    struct message *messages; /* that this side sends */
    unsigned nmessages, next_send[CHANNELS], next_recv[CHANNELS], done;
};

struct sim {
    struct side sides[2];
    uint64_t random, now;
    bool faults;
    unsigned kills;
};

static uint64_t roll(struct sim *s, uint64_t n)
{
    s->random ^= s->random << 13, s->random ^= s->random >> 7, s->random ^= s->random << 17;
    return (s->random >> 11) % n;
}

static uint8_t pattern(const struct message *m, size_t i) { return (uint8_t)(m->tag * 131 + i * 7 + (i >> 8)); }

static void message_make(struct sim *s, struct message *m, uint64_t tag)
{
    static const size_t sizes[] = {0, 1, EAGER - 1, EAGER, EAGER + 1, CHUNK, CHUNK + 1, MAX_LEN};
    uint64_t kind = roll(s, 10);
    *m = (struct message){.tag = tag, .channel = (unsigned)roll(s, CHANNELS)};
    m->len = kind < 8 ? sizes[kind] : roll(s, MAX_LEN);
    m->from = malloc(m->len + 1);
    m->to = malloc(m->len + 1);
    for (size_t i = 0; i < m->len; i++) m->from[i] = pattern(m, i);
    memset(m->to, 0xee, m->len + 1);
}

static void side_init(struct sim *s, int rank, unsigned count)
{
    struct side *a = &s->sides[rank];
    mdl_tcp_pool_init(&a->pool, EAGER);
    mdl_tcp_flow_init(&a->flow, rank, 1 - rank, EAGER, CHUNK, &a->pool);
    a->messages = calloc(count, sizeof *a->messages);
    a->nmessages = count;
    for (unsigned i = 0; i < count; i++) message_make(s, &a->messages[i], 1000u * (unsigned)rank + i);
    for (int l = 0; l < LANES; l++) {
        mdl_tcp_flow_lane_up(&a->flow, l);
        a->pipes[l].up_tx = a->pipes[l].up_rx = true;
        mdl_list_init(&a->pipes[l].reading.link);
    }
}

static void pipe_clear(struct pipe *p)
{
    for (unsigned i = 0; i < p->nwire; i++) free(p->wire[i].bytes);
    p->nout = p->nwire = 0;
}

static void side_fini(struct side *a)
{
    for (int l = 0; l < LANES; l++) pipe_clear(&a->pipes[l]);
    for (unsigned i = 0; i < a->nmessages; i++) {
        if (!a->messages[i].released) free(a->messages[i].from);
        free(a->messages[i].to);
    }
    free(a->messages);
    mdl_tcp_flow_fini(&a->flow);
    mdl_tcp_pool_fini(&a->pool);
}

/* ---- what the engine does ---- */

static struct message *nth_of_channel(struct side *a, unsigned channel, unsigned n)
{
    for (unsigned i = 0; i < a->nmessages; i++)
        if (a->messages[i].channel == channel && n-- == 0) return &a->messages[i];
    return NULL;
}

static void post(struct sim *s, int rank)
{
    struct side *from = &s->sides[rank], *to = &s->sides[1 - rank];
    unsigned c = (unsigned)roll(s, CHANNELS);
    bool send = roll(s, 2);
    unsigned *n = send ? &from->next_send[c] : &from->next_recv[c];
    struct message *m = nth_of_channel(from, c, *n);
    if (!m) return;
    ++*n;
    struct mdl_message msg = {.ptr = send ? m->from : m->to, .len = m->len, .tag = m->tag, .channel = c};
    if (send) {
        m->sent = true;
        if (mdl_tcp_flow_send(&from->flow, &msg, &m->tx) != medleySuccess) ck_abort_msg("send");
    } else {
        m->received = true;
        if (mdl_tcp_flow_recv(&to->flow, &msg, &m->rx) != medleySuccess) ck_abort_msg("recv");
    }
}

static void check_received(struct message *m)
{
    size_t wrong = m->to[m->len] != 0xee; /* ck_assert is too slow for every byte */
    for (size_t i = 0; i < m->len; i++) wrong += m->to[i] != pattern(m, i);
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_eq(m->rx.base.bytes, m->len);
    memset(m->to, 0x5a, m->len); /* the user's again */
    m->checked = true;
}

static void harvest(struct side *a)
{
    for (unsigned i = 0; i < a->nmessages; i++) {
        struct message *m = &a->messages[i];
        if (m->tx.base.state == MDL_REQ_FAILED || m->rx.base.state == MDL_REQ_FAILED) ck_abort_msg("failed");
        if (m->received && !m->checked && m->rx.base.state == MDL_REQ_DONE) {
            check_received(m);
            a->done++;
        }
        if (m->sent && !m->released && m->tx.base.state == MDL_REQ_DONE) {
            free(m->from); /* AddressSanitizer sees who still reads it */
            m->released = true;
            a->done++;
        }
    }
}

/* ---- what the lanes do ---- */

static void put_out(struct pipe *p, const struct mdl_tcp_take *t) { p->out[p->nout++] = (struct parcel){.take = *t}; }

static void feed(struct sim *s, struct side *a, int l)
{
    struct pipe *p = &a->pipes[l];
    struct mdl_tcp_take t;
    if (!p->up_tx || p->nout == OUT) return;
    if (mdl_tcp_flow_has_small(&a->flow) && roll(s, 2)) {
        medleyResult_t rc = mdl_tcp_flow_take_small(&a->flow, l, s->now, &t);
        if (rc == medleySuccess) put_out(p, &t);
    } else if (mdl_tcp_flow_room(&a->flow, l) && mdl_tcp_flow_has_chunk(&a->flow)) {
        if (mdl_tcp_flow_take_chunk(&a->flow, l, s->now, &t)) put_out(p, &t);
    } else if (mdl_tcp_flow_ack_wanted(&a->flow, roll(s, 4) == 0)) {
        struct parcel *q = &p->out[p->nout++];
        q->take.payload = NULL;
        mdl_tcp_flow_make_ack(&a->flow, MDL_TCP_ACK, &q->take.h, q->ack);
    }
}

static void write_one(struct side *a, int l)
{
    struct pipe *p = &a->pipes[l];
    if (!p->nout || p->nwire == WIRE || !p->up_tx) return;
    struct parcel q = p->out[0];
    memmove(p->out, p->out + 1, --p->nout * sizeof *p->out);
    if (q.take.h.seq == 0) q.take.payload = q.ack;
    q.bytes = calloc(1, q.take.h.length + 1);
    if (q.take.payload) memcpy(q.bytes, q.take.payload, q.take.h.length);
    q.take.payload = NULL;
    p->wire[p->nwire++] = q;
    if (q.take.h.seq) mdl_tcp_flow_written(&a->flow, q.take.h.seq);
}

/* What a lane does after acknowledgements: it lets go of payload that nobody needs any more. */
static void let_go(struct side *a)
{
    if (!a->flow.stale) return;
    a->flow.stale = false;
    for (int l = 0; l < LANES; l++)
        for (unsigned i = 0; i < a->pipes[l].nout; i++) {
            struct parcel *q = &a->pipes[l].out[i];
            if (q->take.h.seq && !mdl_tcp_flow_needs(&a->flow, q->take.h.seq)) q->take.payload = NULL;
        }
}

/* Reads from lane l of `a` into the other side: header first, payload in pieces. */
static void read_some(struct sim *s, int rank, int l)
{
    struct side *b = &s->sides[1 - rank];
    struct pipe *p = &s->sides[rank].pipes[l];
    if (!p->nwire || !p->up_rx) return;
    struct parcel *q = &p->wire[0];
    struct mdl_tcp_reading *r = &p->reading;
    if (!p->is_reading) {
        uint8_t header[MDL_TCP_HEADER_BYTES];
        mdl_tcp_header_write(&q->take.h, header);
        const char *bad = mdl_tcp_header_read(header, (uint32_t)rank, (uint32_t)(1 - rank), &r->h);
        if (bad) ck_abort_msg("%s", bad);
        if (mdl_tcp_flow_accept(&b->flow, r) != medleySuccess) ck_abort_msg("%s", b->flow.bad);
        p->is_reading = true;
        p->read = 0;
        return;
    }
    size_t n = roll(s, 3) ? r->h.length - p->read : roll(s, r->h.length - p->read + 1);
    if (r->sink) memcpy(r->sink + p->read, q->bytes + p->read, n);
    p->read += n;
    if (p->read < r->h.length) return;
    p->is_reading = false;
    if (mdl_tcp_flow_arrived(&b->flow, r, s->now) != medleySuccess) ck_abort_msg("%s", b->flow.bad);
    free(q->bytes);
    memmove(p->wire, p->wire + 1, --p->nwire * sizeof *p->wire);
    let_go(b);
}

/* ---- faults ---- */

/* The writing side of both directions ends: what was not written is lost, what is on the wire may still be read. */
static void break_lane(struct sim *s, int l)
{
    s->kills++;
    for (int rank = 0; rank < 2; rank++) {
        struct pipe *p = &s->sides[rank].pipes[l];
        if (!p->up_tx) continue;
        p->up_tx = false;
        p->nout = 0;
        unsigned keep = (unsigned)roll(s, p->nwire + 1);
        while (p->nwire > keep) free(p->wire[--p->nwire].bytes);
        if (p->is_reading && !p->nwire) {
            mdl_tcp_flow_cancel(&s->sides[1 - rank].flow, &p->reading);
            p->is_reading = false;
        }
        mdl_tcp_flow_lane_down(&s->sides[rank].flow, l);
    }
}

static void mend_lane(struct sim *s, int l)
{
    for (int rank = 0; rank < 2; rank++) {
        struct pipe *p = &s->sides[rank].pipes[l];
        if (p->up_tx || p->nwire || s->sides[1 - rank].pipes[l].nwire) continue;
        p->up_tx = true;
        mdl_tcp_flow_lane_up(&s->sides[rank].flow, l);
    }
}

static void step(struct sim *s)
{
    int rank = (int)roll(s, 2), l = (int)roll(s, LANES);
    struct side *a = &s->sides[rank];
    s->now += roll(s, 1000) * 1000;
    switch (roll(s, 8)) {
    case 0: post(s, rank); break;
    case 1:
    case 2: feed(s, a, l); break;
    case 3:
    case 4: write_one(a, l); break;
    default:
        /* Lane 0 is slow: its frames are overtaken. */
        if (l || roll(s, 8) == 0) read_some(s, rank, l);
    }
    if (s->faults && roll(s, 2000) == 0) break_lane(s, l);
    if (roll(s, 200) == 0) mend_lane(s, l);
    if (roll(s, 16) == 0) {
        harvest(&s->sides[0]);
        harvest(&s->sides[1]);
    }
}

static void check_untouched(const struct side *a)
{
    size_t wrong = 0;
    for (unsigned i = 0; i < a->nmessages; i++)
        for (size_t k = 0; k < a->messages[i].len; k++) wrong += a->messages[i].to[k] != 0x5a;
    ck_assert_uint_eq(wrong, 0);
}

static void run(uint64_t seed, bool faults)
{
    enum { COUNT = 120 };
    struct sim *s = calloc(1, sizeof *s);
    s->random = seed * 0x9e3779b97f4a7c15ull + 1;
    s->faults = faults;
    side_init(s, 0, COUNT);
    side_init(s, 1, COUNT);
    unsigned steps = 0;
    while (s->sides[0].done + s->sides[1].done < 4 * COUNT) {
        step(s);
        if (++steps > 3000000) ck_abort_msg("seed %llu: no progress", (unsigned long long)seed);
    }
    /* What is still under way may not touch anything; and at its end nothing is left unacknowledged. */
    s->faults = false;
    for (int i = 0; i < 60000 || mdl_tcp_flow_busy(&s->sides[0].flow) || mdl_tcp_flow_busy(&s->sides[1].flow); i++) {
        step(s);
        if (i > 1000000) ck_abort_msg("seed %llu: never quiet", (unsigned long long)seed);
    }
    for (int i = 0; i < 2; i++) {
        check_untouched(&s->sides[i]);
        ck_assert_uint_eq(s->sides[i].flow.held, 0);
        if (faults && s->kills > 20) ck_assert_uint_gt(s->sides[i].flow.retries, 0);
    }
    side_fini(&s->sides[0]);
    side_fini(&s->sides[1]);
    free(s);
}

START_TEST(reorders)
{
    for (uint64_t seed = 1; seed <= 20; seed++) run(seed, false);
}
END_TEST

START_TEST(survives_lanes)
{
    for (uint64_t seed = 1; seed <= 60; seed++) run(seed, true);
}
END_TEST

UNIT_MAIN("tcp flow", reorders, survives_lanes)
