/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of a rank to itself: order, sizes, mismatches, bounded steps, abort. */
#include "config.h"
#include "tests/unit/unit.h"
#include "tests/unit/shm_world.h"

extern const struct mdl_transport mdl_transport_self;

static void run(void (*body)(struct world_rank *))
{
    struct world w = {.transport = &mdl_transport_self, .n = 1, .body = body};
    world_run(&w);
}

/* Posts a send and a receive in either order, and waits for both. */
static void exchange(struct world_rank *r, size_t len, bool recv_first)
{
    unsigned char *from = malloc(len + 1), *to = malloc(len + 1);
    struct mdl_request *send = world_request(r), *recv = world_request(r);
    world_fill(from, len, (unsigned)len);
    memset(to, 0xee, len + 1);
    if (recv_first) world_recv(r, 0, 3, to, len, 77, recv);
    world_send(r, 0, 3, from, len, 77, send);
    if (!recv_first) world_recv(r, 0, 3, to, len, 77, recv);
    world_wait(r, send);
    world_wait(r, recv);
    REQUIRE(send->state == MDL_REQ_DONE && recv->state == MDL_REQ_DONE);
    REQUIRE(send->bytes == len && recv->bytes == len);
    REQUIRE(world_is_filled(to, len, (unsigned)len) && to[len] == 0xee);
    free(from);
    free(to);
    free(send);
    free(recv);
}

static void sizes_body(struct world_rank *r)
{
    REQUIRE(r->reach[0] == MDL_REACH_SEND);
    static const size_t sizes[] = {0, 1, 4096, 262143, 262144, 262145, 3000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int first = 0; first < 2; first++) exchange(r, sizes[i], first);
    struct mdl_link_info info;
    r->world->transport->link(r->ctx, 0, &info);
    REQUIRE(info.sent_bytes == info.recv_bytes && info.sent_bytes > 6000000);
}
START_TEST(copies_every_size) { run(sizes_body); }
END_TEST

/* The k-th send of a channel meets its k-th receive, whatever other channels do. */
static void fifo_body(struct world_rank *r)
{
    enum { N = 20 };
    uint32_t from[N], to[N];
    struct mdl_request *send[N], *recv[N];
    for (int i = 0; i < N; i++) {
        from[i] = 1000u + (unsigned)i;
        to[i] = 0;
        send[i] = world_request(r);
        recv[i] = world_request(r);
        world_send(r, 0, (unsigned)i % 2, &from[i], 4, (uint64_t)i, send[i]);
    }
    for (int i = N - 1; i >= 0; i--) { /* odd channels' receives first */
        int k = i % 2 ? N - i : N - 2 - i;
        world_recv(r, 0, (unsigned)k % 2, &to[k], 4, (uint64_t)k, recv[k]);
    }
    for (int i = 0; i < N; i++) {
        REQUIRE(send[i]->state == MDL_REQ_DONE && recv[i]->state == MDL_REQ_DONE && to[i] == from[i]);
        free(send[i]);
        free(recv[i]);
    }
}
START_TEST(keeps_order_per_channel) { run(fifo_body); }
END_TEST

static void mismatch_body(struct world_rank *r)
{
    char from[64] = {1}, to[64] = {2};
    struct mdl_request *send = world_request(r), *recv = world_request(r);
    world_send(r, 0, 0, from, 64, 5, send);
    world_recv(r, 0, 0, to, 64, 6, recv);
    REQUIRE(send->state == MDL_REQ_FAILED && send->result == medleyInvalidUsage);
    REQUIRE(recv->state == MDL_REQ_FAILED && recv->result == medleyInvalidUsage);
    REQUIRE(recv->peer_tag == 5 && recv->peer_len == 64 && to[0] == 2);
    world_recv(r, 0, 0, to, 32, 5, recv);
    world_send(r, 0, 0, from, 64, 5, send);
    REQUIRE(recv->state == MDL_REQ_FAILED && recv->peer_len == 64 && to[0] == 2);
    exchange(r, 100, true); /* the next ones are not disturbed */
    free(send);
    free(recv);
}
START_TEST(reports_a_mismatch_on_both_sides) { run(mismatch_body); }
END_TEST

static void bounded_body(struct world_rank *r)
{
    const size_t len = 8 << 20;
    char *from = calloc(1, len), *to = malloc(len);
    struct mdl_request *send = world_request(r), *recv = world_request(r);
    world_send(r, 0, 0, from, len, 0, send);
    world_recv(r, 0, 0, to, len, 0, recv);
    int steps = 0, fd = 0, events = 0;
    REQUIRE(recv->state == MDL_REQ_ACTIVE);
    REQUIRE(r->world->transport->arm(r->ctx, &fd) == medleyInProgress); /* there is work: do not sleep */
    for (; recv->state == MDL_REQ_ACTIVE; steps++)
        REQUIRE(r->world->transport->progress(r->ctx, &events) == medleySuccess);
    REQUIRE(steps >= 8 && events == steps && memcmp(from, to, len) == 0);
    REQUIRE(r->world->transport->arm(r->ctx, &fd) == medleySuccess && fd == -1);
    r->world->transport->disarm(r->ctx);
    free(from);
    free(to);
    free(send);
    free(recv);
}
START_TEST(copies_in_bounded_steps) { run(bounded_body); }
END_TEST

static void abort_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    const size_t len = 1 << 20;
    char *from = calloc(1, len), *to = calloc(1, len);
    struct mdl_request *send = world_request(r), *recv = world_request(r);
    world_send(r, 0, 0, from, len, 0, send);
    world_recv(r, 0, 0, to, len, 0, recv);
    t->abort(r->ctx);
    memset(from, 1, len);
    int events = 0;
    REQUIRE(t->progress(r->ctx, &events) == medleyInvalidUsage);
    struct mdl_message msg = {.ptr = to, .len = 1};
    struct mdl_request *late = world_request(r);
    REQUIRE(t->send(r->ctx, 0, &msg, late) == medleyInvalidUsage);
    REQUIRE(t->recv(r->ctx, 0, &msg, late) == medleyInvalidUsage);
    REQUIRE(to[len - 1] == 0 && recv->state == MDL_REQ_ACTIVE);
    t->abort(r->ctx); /* again */
    t->close(r->ctx);
    r->ctx = NULL;
    free(from);
    free(to);
    free(send);
    free(recv);
    free(late);
}
START_TEST(moves_nothing_after_an_abort) { run(abort_body); }
END_TEST

static void wrong_body(struct world_rank *r)
{
    struct mdl_request *req = world_request(r);
    struct mdl_message msg = {.len = 0, .channel = MDL_MAX_CHANNELS};
    REQUIRE(r->world->transport->send(r->ctx, 0, &msg, req) == medleyInvalidArgument);
    msg.channel = 0;
    msg.len = 1;
    REQUIRE(r->world->transport->recv(r->ctx, 0, &msg, req) == medleyInvalidArgument); /* bytes at address 0 */
    msg.len = 0;
    REQUIRE(r->world->transport->recv(r->ctx, 1, &msg, req) == medleyInvalidArgument);
    free(req);
}
START_TEST(refuses_other_ranks_and_channels) { run(wrong_body); }
END_TEST

UNIT_MAIN("self", copies_every_size, keeps_order_per_channel, reports_a_mismatch_on_both_sides, copies_in_bounded_steps,
          moves_nothing_after_an_abort, refuses_other_ranks_and_channels)
