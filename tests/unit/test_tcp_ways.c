/* SPDX-License-Identifier: Apache-2.0 */
/* Which lane the TCP transport gives a frame to: by address, speed, and what is under way. */
#include "config.h"
#include "tests/unit/unit.h"
#include "transports/tcp_context.h"
#include <arpa/inet.h>

enum { KIB = 1024, MIB = 1 << 20, NOW = 1000000000 };

struct world {
    struct mdl_tcp t;
    struct mdl_tcp_peer p;
    struct mdl_tcp_lane lanes[MDL_TCP_MAX_LANES];
};

static struct mdl_addr address(const char *text)
{
    struct mdl_addr a = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&a.sa;
    in->sin_family = AF_INET;
    inet_pton(AF_INET, text, &in->sin_addr);
    a.len = sizeof *in;
    return a;
}

/* A lane that was heard just now and delivers `rate` bytes per ms. */
static void add(struct world *w, int slot, const char *local, const char *remote, uint64_t rate)
{
    struct mdl_tcp_lane *lane = &w->lanes[slot];
    *lane = (struct mdl_tcp_lane){.flow = &w->p.flow, .owner = &w->p, .slot = slot, .heard_ns = NOW};
    lane->local = address(local);
    lane->remote = address(remote);
    w->p.lanes[slot] = lane;
    w->p.flow.paths[slot] = (struct mdl_tcp_path){
        .up = true, .chunk = 64 * KIB, .window = MIB, .rate = rate, .rtt_ns = 100000, .heard_ns = NOW};
    mdl_tcp_ways_find(&w->p);
}

static struct world *world(void)
{
    struct world *w = calloc(1, sizeof *w);
    w->t.now = NOW + 1000;
    w->p.t = &w->t;
    return w;
}

/* Two networks of two lanes each, the first three times as fast. */
static struct world *two_ways(void)
{
    struct world *w = world();
    add(w, 0, "10.0.0.1", "10.0.0.2", 360000);
    add(w, 1, "10.0.1.1", "10.0.1.2", 120000);
    add(w, 2, "10.0.0.1", "10.0.0.2", 0);
    add(w, 3, "10.0.1.1", "10.0.1.2", 0);
    return w;
}

static int give(struct world *w)
{
    struct mdl_tcp_lane *lane = mdl_tcp_lane_for_chunk(&w->p);
    if (!lane) return -1;
    w->p.flow.paths[lane->slot].unacked += w->p.flow.paths[lane->slot].chunk;
    return lane->slot;
}

START_TEST(test_ways)
{
    struct world *w = two_ways();
    ck_assert_int_eq(w->p.nslots, 4);
    ck_assert_int_eq(w->lanes[2].first, 0);
    ck_assert_int_eq(w->lanes[3].first, 1);
    w->p.lanes[0] = w->p.lanes[3] = NULL;
    mdl_tcp_ways_find(&w->p);
    ck_assert_int_eq(w->p.nslots, 3);
    ck_assert_int_eq(w->lanes[2].first, 2);
    free(w);
}
END_TEST

START_TEST(test_shares_follow_speed)
{
    struct world *w = two_ways();
    int given[4] = {0};
    for (int i = 0; i < 16; i++) {
        int slot = give(w);
        ck_assert_int_ge(slot, 0);
        given[slot]++;
    }
    ck_assert_int_eq(given[0], 12);
    ck_assert_int_eq(given[1], 4);
    free(w);
}
END_TEST

START_TEST(test_unknown_way_is_tried)
{
    struct world *w = world();
    add(w, 0, "10.0.0.1", "10.0.0.2", 360000);
    add(w, 1, "10.0.1.1", "10.0.1.2", 0);
    ck_assert_int_eq(give(w), 0);
    ck_assert_int_eq(give(w), 1);
    free(w);
}
END_TEST

START_TEST(test_full_way_is_awaited_while_it_lives)
{
    struct world *w = two_ways();
    w->lanes[0].blocked = true;
    ck_assert_int_eq(give(w), -1); /* it would be quicker there all the same */
    w->t.now += 50000000;
    w->p.flow.paths[1].heard_ns = w->t.now;
    ck_assert_int_eq(give(w), 2); /* silent: the lane beside it may pass */
    w->lanes[2].blocked = true;
    ck_assert_int_eq(give(w), 1); /* and nobody waits for the way */
    free(w);
}
END_TEST

START_TEST(test_next_lane_where_it_pays)
{
    struct world *w = world();
    add(w, 0, "10.0.0.1", "10.0.0.2", 1200000);
    add(w, 1, "10.0.0.1", "10.0.0.2", 0);
    w->p.flow.paths[0].unacked = w->p.flow.paths[0].window;
    ck_assert_int_eq(give(w), -1);
    w->p.flow.paths[0].least_ns = 20000000;
    ck_assert_int_eq(give(w), 1);
    w->p.flow.paths[0].least_ns = 100000;
    w->p.flow.paths[0].speed = 5000000;
    ck_assert_int_eq(give(w), 1);
    free(w);
}
END_TEST

START_TEST(test_small_frames_pass_chunks)
{
    struct world *w = world();
    add(w, 0, "10.0.0.1", "10.0.0.2", 1200000);
    add(w, 1, "10.0.0.1", "10.0.0.2", 0);
    w->p.heard = &w->lanes[0];
    ck_assert_ptr_eq(mdl_tcp_lane_for_small(&w->p), &w->lanes[0]);
    ck_assert_ptr_eq(mdl_tcp_lane_for_ack(&w->p), &w->lanes[0]);
    w->p.flow.paths[0].unacked = MIB / 2;
    ck_assert_ptr_eq(mdl_tcp_lane_for_small(&w->p), &w->lanes[1]);
    ck_assert_ptr_eq(mdl_tcp_lane_for_ack(&w->p), &w->lanes[1]);
    w->lanes[1].heard_ns = 0; /* is it alive? */
    ck_assert_ptr_eq(mdl_tcp_lane_for_ack(&w->p), &w->lanes[0]);
    w->lanes[0].nout = w->lanes[1].nout = MDL_TCP_BATCH;
    ck_assert_ptr_null(mdl_tcp_lane_for_small(&w->p));
    ck_assert_ptr_null(mdl_tcp_lane_for_ack(&w->p));
    free(w);
}
END_TEST

UNIT_MAIN("tcp ways", test_ways, test_shares_follow_speed, test_unknown_way_is_tried,
          test_full_way_is_awaited_while_it_lives, test_next_lane_where_it_pays, test_small_frames_pass_chunks)
