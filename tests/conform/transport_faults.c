/* SPDX-License-Identifier: Apache-2.0 */
/* Cases in which something is wrong: it is told to whom it concerns, within a bounded time, and nothing is touched that
 * is not the transport's any more. */
#include "config.h"
#include "tests/conform/transport_cases.h"
#include "lib/base/clock.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

/* ---- mismatches ---- */

/* Rank 0 sends (tag, len), rank 1 expects others. The receive fails and says what came; the sender's request ends
 * or its progress fails, or it was done before. */
static void mismatch(struct rank *r, size_t sent, uint64_t sent_tag, size_t expected, uint64_t expected_tag)
{
    struct mdl_request *req = request_new(r);
    uint8_t *p = calloc(1, (sent > expected ? sent : expected) + 1);
    rank_open(r);
    if (r->rank == 0) {
        post_send(r, 1, 5, p, sent, sent_tag, req);
        while (atomic_load(&r->w->words[0]) == 0 && turn(r) == medleySuccess) sched_yield();
        while (req->state == MDL_REQ_ACTIVE && turn(r) == medleySuccess) sched_yield();
        CHECK(req->state != MDL_REQ_FAILED || req->result == medleyInvalidUsage);
    } else {
        post_recv(r, 0, 5, p, expected, expected_tag, req);
        wait_end(r, req);
        CHECK(req->state == MDL_REQ_FAILED && req->result == medleyInvalidUsage, "state %d, result %d", req->state,
              req->result);
        CHECK(req->peer_tag == sent_tag && req->peer_len == sent, "told tag %lu, length %lu",
              (unsigned long)req->peer_tag, (unsigned long)req->peer_len);
        for (int i = 0; i < 50; i++) CHECK(turn(r) == medleySuccess); /* what it has to tell the sender leaves */
        atomic_store(&r->w->words[0], 1);
    }
    barrier(r);
    rank_close(r);
    free(req);
    free(p);
    atomic_store(&r->w->words[0], 0);
    barrier(r);
}

void case_tag_mismatch(struct rank *r)
{
    rank_close(r);
    mismatch(r, 8, 1, 8, 2);
    mismatch(r, 0, 1, 0, 2);
    mismatch(r, MIB, 1, MIB, 2);
}

void case_length_mismatch(struct rank *r)
{
    size_t eager = r->cfg.eager;
    rank_close(r);
    mismatch(r, 8, 7, 16, 7);
    mismatch(r, 16, 7, 8, 7);
    mismatch(r, 8, 7, MIB, 7);
    mismatch(r, MIB, 7, 8, 7);
    mismatch(r, 0, 7, 1, 7);
    mismatch(r, eager, 7, eager + 1, 7);
    mismatch(r, eager + 1, 7, eager, 7);
    mismatch(r, MIB, 7, MIB + 1, 7);
    mismatch(r, MIB + 1, 7, MIB, 7);
}

void case_bad_arguments(struct rank *r)
{
    char byte = 0;
    struct mdl_request *req = request_new(r);
    struct mdl_message good = {.ptr = &byte, .len = 1}, channel = good, null = good;
    channel.channel = MDL_MAX_CHANNELS;
    null.ptr = NULL;
    const int peers[] = {-1, r->rank, r->w->nranks};
    for (int i = 0; i < 3; i++) {
        CHECK(r->tr->send(r->ctx, peers[i], &good, req) == medleyInvalidArgument, "peer %d", peers[i]);
        CHECK(r->tr->recv(r->ctx, peers[i], &good, req) == medleyInvalidArgument, "peer %d", peers[i]);
    }
    CHECK(r->tr->send(r->ctx, 1 - r->rank, &channel, req) == medleyInvalidArgument);
    CHECK(r->tr->recv(r->ctx, 1 - r->rank, &channel, req) == medleyInvalidArgument);
    CHECK(r->tr->send(r->ctx, 1 - r->rank, &null, req) == medleyInvalidArgument);
    CHECK(r->tr->recv(r->ctx, 1 - r->rank, &null, req) == medleyInvalidArgument);
    CHECK(req->state == MDL_REQ_IDLE);
    uint8_t small[1];
    size_t len = sizeof small;
    CHECK(r->tr->address(r->ctx, small, &len) == medleyInvalidArgument && len == sizeof small);
    free(req);
}

/* ---- abort ---- */

struct aborter {
    struct rank *r;
    uint8_t *buffer;
    size_t len;
};

/* Waits until payload is moving, aborts, and then owns the buffer. */
static void *abort_and_write(void *arg)
{
    struct aborter *a = arg;
    while (atomic_load(&a->r->w->words[a->r->rank]) == 0) sched_yield();
    uint64_t start = mdl_now_ns();
    a->r->tr->abort(a->r->ctx);
    CHECK(mdl_now_ns() - start < within_s(5), "abort took long");
    memset(a->buffer, 0x77, a->len);
    for (int i = 0; i < 20; i++) sched_yield();
    for (size_t i = 0; i < a->len; i++) CHECK(a->buffer[i] == 0x77, "written after the abort");
    return NULL;
}

void case_abort(struct rank *r)
{
    enum { LEN = 64 * MIB };
    struct aborter a = {r, malloc(LEN), LEN};
    struct mdl_request *req = request_new(r);
    pthread_t thread;
    int events = 0;
    memset(a.buffer, 1, LEN);
    CHECK(pthread_create(&thread, NULL, abort_and_write, &a) == 0);
    if (r->rank == 0)
        post_send(r, 1, 0, a.buffer, LEN, 0, req);
    else
        post_recv(r, 0, 0, a.buffer, LEN, 0, req);
    while (r->tr->progress(r->ctx, &events) == medleySuccess && req->state == MDL_REQ_ACTIVE)
        if (req->bytes > LEN / 8) atomic_store(&r->w->words[r->rank], 1);
    atomic_store(&r->w->words[r->rank], 1);
    pthread_join(thread, NULL);
    CHECK(r->tr->progress(r->ctx, &events) != medleySuccess, "progress goes on after an abort");
    r->tr->abort(r->ctx); /* once more does no harm */
    rank_close(r);
    free(req);
    free(a.buffer);
}

void case_abort_before_use(struct rank *r)
{
    struct mdl_request *req = request_new(r);
    char byte = 0;
    struct mdl_message m = {.ptr = &byte, .len = 1};
    r->tr->abort(r->ctx);
    CHECK(r->tr->send(r->ctx, 1 - r->rank, &m, req) != medleySuccess);
    CHECK(r->tr->recv(r->ctx, 1 - r->rank, &m, req) != medleySuccess);
    rank_close(r);
    free(req);
}

/* ---- peers that go ---- */

/* Rank 2 dies in the midst of transfers with rank 0 and rank 1, which learn it; they can go on with each other. */
void case_killed(struct rank *r)
{
    enum { LEN = 256 * MIB };
    struct mdl_request *req = request_new(r);
    uint8_t *p = calloc(1, LEN);
    if (r->rank == 2) {
        struct mdl_request *second = request_new(r);
        post_recv(r, 0, 0, p, LEN, 0, req);
        post_send(r, 1, 0, p, LEN, 0, second);
        /* Of both together: one may be through before the other has begun, on a busy machine. */
        while (req->bytes + second->bytes < LEN / 8) CHECK(turn(r) == medleySuccess);
        atomic_store(&r->w->words[WORDS - 1], 3);
        kill(getpid(), SIGKILL);
    }
    if (r->rank == 0)
        post_send(r, 2, 0, p, LEN, 0, req);
    else
        post_recv(r, 2, 0, p, LEN, 0, req);
    uint64_t start = mdl_now_ns();
    /* peer_lost may come from another thread, before the request has failed. */
    while (atomic_load(&r->w->lost[r->rank][2]) == 0 || req->state == MDL_REQ_ACTIVE) {
        CHECK(mdl_now_ns() - start < within_s(15), "the dead rank was not noticed");
        (void)turn(r);
        sched_yield();
    }
    CHECK(req->state == MDL_REQ_FAILED && req->result == medleyRemoteError, "state %d, result %d", req->state,
          req->result);
    CHECK(atomic_load(&r->w->lost[r->rank][2]) == 1, "told more than once");
    CHECK(atomic_load(&r->w->lost[r->rank][1 - r->rank]) == 0, "the living is called dead");
    if (r->rank == 0)
        post_send(r, 1, 1, p, MIB, 9, req);
    else
        post_recv(r, 0, 1, p, MIB, 9, req);
    wait_done(r, req);
    free(p);
    free(req);
}

/* Closing drops what is under way and touches nothing afterwards. */
void case_close_outstanding(struct rank *r)
{
    struct mdl_request *in = request_new(r), *out = request_new(r), *small = request_new(r);
    uint8_t *p = calloc(1, 4 * MIB);
    int peer = 1 - r->rank;
    post_recv(r, peer, 0, p, MIB, 0, in);
    post_recv(r, peer, 1, p + MIB, 8, 0, small);
    post_send(r, peer, r->rank ? 0 : 2, p + 2 * MIB, MIB, 0, out);
    for (int i = 0; i < 30; i++) (void)turn(r);
    rank_close(r);
    free(p);
    free(in);
    free(out);
    free(small);
}

/* Whoever is done may go: what was sent arrives all the same. */
void case_leave_early(struct rank *r)
{
    enum { SMALL = 12, LARGE = 2 * MIB };
    struct mdl_request *req = request_new(r), *extra = request_new(r);
    uint8_t *p = malloc(LARGE), *q = malloc(MIB);
    if (r->rank == 0) {
        fill_bytes(p, LARGE, 1);
        post_send(r, 1, 0, p, LARGE, 1, req);
        wait_done(r, req);
        for (uint64_t i = 0; i < SMALL; i++) {
            fill_bytes(p, 1000, i);
            post_send(r, 1, 1, p, 1000, i, req);
            wait_done(r, req);
        }
        rank_close(r);
        atomic_store(&r->w->words[0], 1);
    } else {
        post_recv(r, 0, 0, p, LARGE, 1, req);
        post_recv(r, 0, 2, q, MIB, 1, extra); /* never met: rank 0 is told of it and does not read that */
        wait_done(r, req);
        check_bytes(p, LARGE, 1);
        while (atomic_load(&r->w->words[0]) == 0) sched_yield();
        for (uint64_t i = 0; i < SMALL; i++) {
            post_recv(r, 0, 1, p, 1000, i, req);
            wait_done(r, req);
            check_bytes(p, 1000, i);
        }
        rank_close(r);
    }
    free(p);
    free(q);
    free(req);
    free(extra);
}

/* Contexts come and go without leaving descriptors behind (the frame counts them). */
void case_reopen(struct rank *r)
{
    for (uint64_t i = 0; i < 40; i++) {
        struct mdl_request *in = request_new(r), *out = request_new(r);
        uint64_t mine = i, theirs = 0;
        if (i % 4) {
            post_recv(r, 1 - r->rank, 0, &theirs, 8, i, in);
            post_send(r, 1 - r->rank, 0, &mine, 8, i, out);
            wait_done(r, in);
            wait_done(r, out);
            CHECK(theirs == i);
        }
        rank_close(r);
        free(in);
        free(out);
        rank_open(r);
    }
}

void case_links(struct rank *r)
{
    struct mdl_link_info info;
    struct mdl_request *req = request_new(r);
    uint8_t *p = calloc(1, MIB);
    r->tr->link(r->ctx, 1 - r->rank, &info);
    CHECK(info.sent_bytes == 0 && info.recv_bytes == 0);
    if (r->rank == 0)
        post_send(r, 1, 0, p, MIB, 0, req);
    else
        post_recv(r, 0, 0, p, MIB, 0, req);
    wait_done(r, req);
    r->tr->link(r->ctx, 1 - r->rank, &info);
    uint64_t bytes = r->rank ? info.recv_bytes : info.sent_bytes;
    CHECK(bytes >= MIB && bytes < 2 * MIB, "%lu bytes", (unsigned long)bytes);
    CHECK(info.detail[0] && info.retries == 0, "%s", info.detail);
    barrier_progress(r);
    free(p);
    free(req);
}
