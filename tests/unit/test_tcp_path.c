/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much a lane has under way: a flow sends one long message over a simulated link, which delivers so many bytes in a
 * millisecond (and a burst at once, as token buckets do), and answers after a delay. A quick or long link has to be
 * filled, and in front of a slow one there may be no long queue.
 */
#include "config.h"
#include "tests/unit/unit.h"
#include "transports/tcp_flow_impl.h"

enum { KIB = 1024, MIB = KIB * KIB, EAGER = 64 * KIB, CHUNK = 256 * KIB, STEP_NS = 20000, QUEUE = 1024 };

struct link {
    struct mdl_tcp_flow f;
    struct mdl_tcp_pool pool;
    struct mdl_tcp_request req;
    uint64_t rate, delay_ns; /* bytes in a ms; from delivery to the answer's arrival */
    uint64_t burst, tokens;
    uint64_t now, delivered;
    size_t most; /* under way */
    struct {
        uint64_t seq, at_ns;
        size_t left, len;
    } queue[QUEUE];
    unsigned first, last, answered;
};

static struct link *link_new(uint64_t rate, uint64_t delay_ns, uint64_t burst)
{
    struct link *l = calloc(1, sizeof *l);
    static uint8_t nothing[1];
    struct mdl_message m = {.ptr = nothing, .len = (size_t)1 << 40, .tag = 7, .channel = 0};
    struct mdl_tcp_header credit = {.type = MDL_TCP_CREDIT, .tag = 7, .total = m.len};

    ck_assert_ptr_nonnull(l);
    l->rate = rate;
    l->delay_ns = delay_ns;
    l->burst = l->tokens = burst;
    l->now = 1000000000;
    mdl_tcp_pool_init(&l->pool, EAGER);
    mdl_tcp_flow_init(&l->f, 0, 1, EAGER, CHUNK, &l->pool);
    mdl_tcp_flow_lane_up(&l->f, 0);
    ck_assert_int_eq(mdl_tcp_flow_send(&l->f, &m, &l->req), medleySuccess);
    ck_assert_int_eq(mdl_tcp_flow_on_credit(&l->f, &credit), medleySuccess);
    return l;
}

static void link_free(struct link *l)
{
    mdl_tcp_flow_fail(&l->f, medleyRemoteError);
    mdl_tcp_flow_fini(&l->f);
    mdl_tcp_pool_fini(&l->pool);
    free(l);
}

static void give(struct link *l)
{
    struct mdl_tcp_take take;

    while (mdl_tcp_flow_room(&l->f, 0) && mdl_tcp_flow_take_chunk(&l->f, 0, l->now, &take)) {
        unsigned i = l->last++ % QUEUE;
        l->queue[i].seq = take.h.seq;
        l->queue[i].len = l->queue[i].left = take.h.length;
    }
    if (l->f.paths[0].unacked > l->most) l->most = l->f.paths[0].unacked;
}

/* The link carries what it can; what has come is acknowledged after the delay. */
static void carry(struct link *l)
{
    l->tokens += l->rate * STEP_NS / 1000000;
    for (; l->first != l->last && l->tokens; l->first++) {
        unsigned i = l->first % QUEUE;
        size_t n = l->queue[i].left < l->tokens ? l->queue[i].left : (size_t)l->tokens;
        l->tokens -= n;
        l->queue[i].left -= n;
        if (l->queue[i].left) break;
        l->queue[i].at_ns = l->now + l->delay_ns;
        l->delivered += l->queue[i].len;
    }
    if (l->first == l->last && l->tokens > l->burst) l->tokens = l->burst;
    for (; l->answered != l->first && l->queue[l->answered % QUEUE].at_ns <= l->now; l->answered++)
        mdl_tcp_flow_acked(&l->f, l->queue[l->answered % QUEUE].seq + 1, NULL, l->now);
}

/* Bytes delivered in a millisecond, over so many of them. */
static uint64_t run(struct link *l, unsigned ms)
{
    uint64_t before = l->delivered, end = l->now + ms * 1000000ull;

    l->most = 0;
    for (; l->now < end; l->now += STEP_NS) {
        give(l);
        carry(l);
    }
    return (l->delivered - before) / ms;
}

START_TEST(slow_link_has_short_queue)
{
    struct link *l = link_new(119000, 100000, 256 * KIB);
    (void)run(l, 50);
    ck_assert_uint_gt(run(l, 500), 119000 * 95 / 100);
    ck_assert_uint_le(l->most, 512 * KIB);
    link_free(l);
}
END_TEST

START_TEST(quick_link_is_filled)
{
    struct link *l = link_new(1190000, 300000, MIB);
    (void)run(l, 50);
    ck_assert_uint_gt(run(l, 500), 1190000 * 98 / 100);
    ck_assert_uint_le(l->most, 9 * 256 * KIB);
    link_free(l);
}
END_TEST

/* What may be under way is a limit of its own here: 2 MiB in 20 ms. */
START_TEST(long_link_is_filled)
{
    struct link *l = link_new(1190000, 20000000, 0);
    (void)run(l, 500);
    ck_assert_uint_gt(run(l, 500), (8 * 256 * KIB / 20) * 90 / 100);
    link_free(l);
}
END_TEST

/* A link that becomes slower, and longer, and quick again. */
START_TEST(follows_changes)
{
    struct link *l = link_new(1190000, 100000, 0);
    (void)run(l, 100);
    l->rate = 60000;
    (void)run(l, 400);
    ck_assert_uint_gt(run(l, 200), 60000 * 95 / 100);
    ck_assert_uint_le(l->most, 512 * KIB);
    l->rate = 1190000;
    (void)run(l, 200);
    ck_assert_uint_gt(run(l, 200), 1190000 * 95 / 100);
    l->delay_ns = 10000000;
    (void)run(l, 12000); /* the shortest time of an answer holds for ten seconds */
    ck_assert_uint_gt(run(l, 500), (8 * 256 * KIB / 12) * 90 / 100);
    link_free(l);
}
END_TEST

UNIT_MAIN("tcp path", slow_link_has_short_queue, quick_link_is_filled, long_link_is_filled, follows_changes)
