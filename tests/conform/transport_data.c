/* SPDX-License-Identifier: Apache-2.0 */
/* Cases in which every message arrives, whole, in order, and touches nothing else. */
#include "config.h"
#include "tests/conform/transport_cases.h"
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20, GUARD = 64 };

/* A buffer with guards behind it. */
static uint8_t *buffer_new(size_t len)
{
    uint8_t *p = malloc(len + GUARD);
    CHECK(p != NULL);
    memset(p + len, 0xa5, GUARD);
    return p;
}

static void buffer_free(uint8_t *p, size_t len)
{
    for (int i = 0; i < GUARD; i++) CHECK(p[len + i] == 0xa5, "written behind the buffer");
    free(p);
}

static void send_one(struct rank *r, int peer, uint32_t channel, size_t len, uint64_t seed)
{
    struct mdl_request *req = request_new(r);
    uint8_t *p = buffer_new(len);
    fill_bytes(p, len, seed);
    post_send(r, peer, channel, p, len, seed, req);
    wait_done(r, req);
    memset(p, 0, len); /* it is the user's again */
    buffer_free(p, len);
    free(req);
}

static void recv_one(struct rank *r, int peer, uint32_t channel, size_t len, uint64_t seed)
{
    struct mdl_request *req = request_new(r);
    uint8_t *p = buffer_new(len);
    post_recv(r, peer, channel, p, len, seed, req);
    wait_done(r, req);
    CHECK(req->bytes == len, "%zu bytes of %zu", req->bytes, len);
    check_bytes(p, len, seed);
    buffer_free(p, len);
    free(req);
}

static const size_t *sizes_of(const struct rank *r, size_t *count)
{
    static _Thread_local size_t sizes[12];
    size_t eager = r->cfg.eager, n = 0;
    const size_t all[] = {0, 1, eager - 1, eager, eager + 1, r->cfg.tcp_chunk, MIB, MIB + 3, 33 * MIB, 2 * eager + 7};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) sizes[n++] = all[i];
    *count = n;
    return sizes;
}

void case_sizes(struct rank *r)
{
    size_t count;
    const size_t *sizes = sizes_of(r, &count);
    for (int from = 0; from < 2; from++)
        for (size_t i = 0; i < count; i++) {
            if (r->rank == from)
                send_one(r, 1 - from, 3, sizes[i], 10 * i + 1);
            else
                recv_one(r, from, 3, sizes[i], 10 * i + 1);
        }
    barrier_progress(r);
}

/* The receive comes long after the send, and the other way round. */
void case_late(struct rank *r)
{
    size_t count;
    const size_t *sizes = sizes_of(r, &count);
    for (size_t i = 0; i < count; i++)
        for (int send_first = 0; send_first < 2; send_first++) {
            struct mdl_request *req = request_new(r);
            uint8_t *p = buffer_new(sizes[i]);
            bool first = (r->rank == 0) == (send_first == 1);
            if (r->rank == 0) fill_bytes(p, sizes[i], i);
            if (!first) barrier_progress(r);
            if (r->rank == 0)
                post_send(r, 1, 0, p, sizes[i], i, req);
            else
                post_recv(r, 0, 0, p, sizes[i], i, req);
            for (int n = 0; first && n < 50; n++) CHECK(turn(r) == medleySuccess);
            if (first) barrier_progress(r);
            wait_done(r, req);
            if (r->rank == 1) check_bytes(p, sizes[i], i);
            buffer_free(p, sizes[i]);
            free(req);
        }
    barrier_progress(r);
}

/* Sends to rank 1 that are posted in one order and received in another, over channels. */
struct batch {
    struct mdl_request **reqs;
    uint8_t **bufs;
    size_t *lens;
    size_t count;
};

static struct batch batch_new(const struct rank *r, size_t count)
{
    struct batch b = {calloc(count, sizeof(void *)), calloc(count, sizeof(void *)), calloc(count, sizeof(size_t)),
                      count};
    CHECK(b.reqs && b.bufs && b.lens);
    for (size_t i = 0; i < count; i++) b.reqs[i] = request_new(r);
    return b;
}

static void batch_buffer(struct batch *b, size_t i, size_t len, bool fill)
{
    b->lens[i] = len;
    b->bufs[i] = buffer_new(len);
    if (fill) fill_bytes(b->bufs[i], len, i);
}

static void batch_finish(struct rank *r, struct batch *b, bool check)
{
    for (size_t i = 0; i < b->count; i++) {
        wait_done(r, b->reqs[i]);
        if (check) check_bytes(b->bufs[i], b->lens[i], i);
    }
    for (size_t i = 0; i < b->count; i++) {
        buffer_free(b->bufs[i], b->lens[i]);
        free(b->reqs[i]);
    }
    free(b->reqs);
    free(b->bufs);
    free(b->lens);
}

/* The sizes of 0 to 3/2 eager and, now and then, a large one. */
static size_t some_size(const struct rank *r, size_t i)
{
    return i % 17 == 5 ? 300000 + i : (i * 7919) % (r->cfg.eager * 3 / 2 + 2);
}

void case_channels(struct rank *r)
{
    enum { PER_CHANNEL = 4, COUNT = MDL_MAX_CHANNELS * PER_CHANNEL };
    struct batch b = batch_new(r, COUNT);
    for (size_t k = 0; k < COUNT; k++) {
        /* The sender goes through the channels upwards, the receiver downwards; in a channel both go in order. */
        size_t channel = r->rank == 0 ? k % MDL_MAX_CHANNELS : MDL_MAX_CHANNELS - 1 - k % MDL_MAX_CHANNELS;
        size_t i = k / MDL_MAX_CHANNELS * MDL_MAX_CHANNELS + channel;
        batch_buffer(&b, i, some_size(r, i), r->rank == 0);
        if (r->rank == 0)
            post_send(r, 1, (uint32_t)channel, b.bufs[i], b.lens[i], i, b.reqs[i]);
        else
            post_recv(r, 0, (uint32_t)channel, b.bufs[i], b.lens[i], i, b.reqs[i]);
    }
    batch_finish(r, &b, r->rank == 1);
    barrier_progress(r);
}

void case_fifo(struct rank *r)
{
    enum { COUNT = 300 };
    struct batch b = batch_new(r, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        batch_buffer(&b, i, some_size(r, i), r->rank == 0);
        if (r->rank == 0)
            post_send(r, 1, 7, b.bufs[i], b.lens[i], i, b.reqs[i]);
        else
            post_recv(r, 0, 7, b.bufs[i], b.lens[i], i, b.reqs[i]);
        if (i % 5 == 0) CHECK(turn(r) == medleySuccess);
    }
    batch_finish(r, &b, r->rank == 1);
    barrier_progress(r);
}

void case_both_ways(struct rank *r)
{
    enum { COUNT = 12, LEN = 3 * MIB + 5 };
    struct batch out = batch_new(r, COUNT), in = batch_new(r, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        batch_buffer(&out, i, i % 3 ? LEN : 64, true);
        batch_buffer(&in, i, i % 3 ? LEN : 64, false);
        post_recv(r, 1 - r->rank, i % 2, in.bufs[i], in.lens[i], i, in.reqs[i]);
        post_send(r, 1 - r->rank, i % 2, out.bufs[i], out.lens[i], i, out.reqs[i]);
    }
    batch_finish(r, &in, true);
    batch_finish(r, &out, false);
    barrier_progress(r);
}

/* Far more unexpected messages than any bound; nothing is lost, and the receiver needs them only later. */
void case_flood(struct rank *r)
{
    enum { COUNT = 2000 };
    struct batch b = batch_new(r, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        batch_buffer(&b, i, i % 97, r->rank == 0);
        if (r->rank == 0) post_send(r, 1, 0, b.bufs[i], b.lens[i], i, b.reqs[i]);
    }
    for (int i = 0; i < 200; i++) CHECK(turn(r) == medleySuccess);
    for (size_t i = 0; r->rank == 1 && i < COUNT; i++) post_recv(r, 0, 0, b.bufs[i], b.lens[i], i, b.reqs[i]);
    batch_finish(r, &b, r->rank == 1);
    barrier_progress(r);
}

/* A channel that nobody reads does not stop another one, neither small messages nor large ones. */
void case_flood_other_channel(struct rank *r)
{
    enum { COUNT = 1000 };
    struct batch b = batch_new(r, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        batch_buffer(&b, i, i % 97, r->rank == 0);
        if (r->rank == 0) post_send(r, 1, 0, b.bufs[i], b.lens[i], i, b.reqs[i]);
    }
    for (size_t k = 0; k < 20; k++) {
        size_t len = k % 2 ? 100 : 200000;
        if (r->rank == 0)
            send_one(r, 1, 1, len, k);
        else
            recv_one(r, 0, 1, len, k);
    }
    for (size_t i = 0; r->rank == 1 && i < COUNT; i++) post_recv(r, 0, 0, b.bufs[i], b.lens[i], i, b.reqs[i]);
    batch_finish(r, &b, r->rank == 1);
    barrier_progress(r);
}

/* Both sides sleep for every message: a wake-up that is lost shows as a sleep that takes seconds. */
void case_sleep_wake(struct rank *r)
{
    enum { TURNS = 10000 };
    struct mdl_request *in = request_new(r), *out = request_new(r);
    uint64_t send = 0, recv = 0;
    r->sleeps = true;
    for (uint64_t i = 0; i < TURNS; i++) {
        post_recv(r, 1 - r->rank, 0, &recv, sizeof recv, i, in);
        if (r->rank == 1) wait_done(r, in);
        send = i * 3 + (uint64_t)r->rank;
        post_send(r, 1 - r->rank, 0, &send, sizeof send, i, out);
        if (r->rank == 0) wait_done(r, in);
        wait_done(r, out);
        CHECK(recv == i * 3 + (uint64_t)(1 - r->rank), "turn %d", (int)i);
    }
    barrier_progress(r);
    free(in);
    free(out);
}

void case_all_to_all(struct rank *r)
{
    enum { ROUNDS = 3 };
    int n = r->w->nranks;
    static const size_t lens[ROUNDS] = {8, 20000, 500000};
    for (size_t round = 0; round < ROUNDS; round++) {
        struct batch in = batch_new(r, (size_t)n), out = batch_new(r, (size_t)n);
        for (int p = 0; p < n; p++) {
            in.lens[p] = out.lens[p] = p == r->rank ? 0 : lens[round];
            in.bufs[p] = buffer_new(in.lens[p]);
            out.bufs[p] = buffer_new(out.lens[p]);
            fill_bytes(out.bufs[p], out.lens[p], (uint64_t)(r->rank * n + p));
            if (p == r->rank) continue;
            post_recv(r, p, 2, in.bufs[p], in.lens[p], round, in.reqs[p]);
            post_send(r, p, 2, out.bufs[p], out.lens[p], round, out.reqs[p]);
        }
        for (int p = 0; p < n; p++) {
            if (p == r->rank) {
                in.reqs[p]->state = out.reqs[p]->state = MDL_REQ_DONE;
                continue;
            }
            wait_done(r, in.reqs[p]);
            check_bytes(in.bufs[p], in.lens[p], (uint64_t)(p * n + r->rank));
        }
        batch_finish(r, &in, false);
        batch_finish(r, &out, false);
    }
    barrier_progress(r);
}
