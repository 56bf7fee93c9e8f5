/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of published lines: what may be written when, what a late reader finds, and where payloads lie. */
#include "config.h"

#include "lib/engine/call.h"
#include "lib/reduce/reduce.h"
#include "tests/unit/unit.h"

enum { RANKS = 3 };

static struct mdl_board board[RANKS];

/* All ranks' boards, as ranks of one host see them. */
static void setup(void)
{
    for (int r = 0; r < RANKS; r++) {
        ck_assert_int_eq(mdl_board_create(&board[r], RANKS, 4096), medleySuccess);
        ck_assert_int_eq(mdl_board_attach(&board[r], RANKS, r), medleySuccess);
    }
    for (int r = 0; r < RANKS; r++)
        for (int i = 0; i < RANKS; i++) board[r].base[i] = board[i].own->base;
}

static void teardown(void)
{
    for (int r = 0; r < RANKS; r++) mdl_board_destroy(&board[r]);
}

static struct mdl_call call_of(uint64_t seq)
{
    struct mdl_call c = {.coll = medleyCollBroadcast, .dtype = medleyInt32, .root = 0, .count = seq * 3};

    c.chain = mdl_call_chain(&c, seq);
    return c;
}

static void publish(int rank, uint64_t seq)
{
    struct mdl_call c = call_of(seq);

    mdl_board_publish_short(&board[rank], seq, &c);
}

START_TEST(newest_lines_can_be_read)
{
    struct mdl_call found;

    setup();
    for (uint64_t seq = 1; seq <= 3 * MDL_BOARD_DEPTH + 5; seq++) {
        ck_assert_int_eq(mdl_board_look(&board[1], 0, seq, &found), medleyInProgress);
        ck_assert(!mdl_board_is_same(&board[1], 0, seq, call_of(seq).chain));
        publish(0, seq);
        for (uint64_t back = 0; back < MDL_BOARD_DEPTH && back < seq; back++) {
            struct mdl_call c = call_of(seq - back);
            ck_assert_int_eq(mdl_board_look(&board[1], 0, seq - back, &found), medleySuccess);
            ck_assert(mdl_call_same(&found, &c) && found.chain == c.chain);
            ck_assert(mdl_board_is_same(&board[1], 0, seq - back, c.chain));
            ck_assert(!mdl_board_is_same(&board[1], 0, seq - back, c.chain + 1));
        }
        if (seq > MDL_BOARD_DEPTH)
            ck_assert_int_eq(mdl_board_look(&board[1], 0, seq - MDL_BOARD_DEPTH, &found), medleyInvalidUsage);
    }
    teardown();
}
END_TEST

START_TEST(long_lines_carry_buffers)
{
    struct mdl_call c = {.coll = medleyCollAllGatherV,
                         .root = -1,
                         .count = 9,
                         .table = 8,
                         .in_segment = 7,
                         .in_addr = 6,
                         .out_segment = 5,
                         .out_addr = 4,
                         .chain = 3,
                         .flags = MDL_LINE_APART},
                    found;

    setup();
    mdl_board_publish(&board[2], 40, &c);
    ck_assert_int_eq(mdl_board_look(&board[0], 2, 40, &found), medleySuccess);
    ck_assert(mdl_call_same(&found, &c) && found.table == 8 && found.in_segment == 7 && found.in_addr == 6 &&
              found.out_segment == 5 && found.out_addr == 4 && found.chain == 3 && found.flags == MDL_LINE_APART);
    teardown();
}
END_TEST

START_TEST(late_comparison)
{
    struct mdl_call other = call_of(6);

    setup();
    for (uint64_t seq = 1; seq <= 6; seq++) publish(1, seq);
    for (uint64_t seq = 1; seq <= 5; seq++) publish(0, seq);
    ck_assert_int_eq(mdl_board_compare_late(&board[1], 0, 5), medleySuccess);
    ck_assert_int_eq(mdl_board_compare_late(&board[1], 0, 6), medleyInProgress);
    other.chain++;
    mdl_board_publish_short(&board[0], 6, &other);
    ck_assert_int_eq(mdl_board_compare_late(&board[1], 0, 6), medleyInvalidUsage);
    for (uint64_t seq = 7; seq <= 6 + MDL_BOARD_DEPTH; seq++) publish(0, seq);
    ck_assert_int_eq(mdl_board_compare_late(&board[1], 0, 6), medleySuccess); /* it is further, so it has compared */
    teardown();
}
END_TEST

START_TEST(a_line_that_is_being_written_is_not_there)
{
    struct mdl_call c = call_of(2), found;

    setup();
    publish(0, 1);
    publish(1, 2 + MDL_BOARD_DEPTH);
    publish(0, 2);
    (void)mdl_board_open(&board[0], 2 + MDL_BOARD_DEPTH, &c);
    ck_assert_int_eq(mdl_board_look(&board[1], 0, 2 + MDL_BOARD_DEPTH, &found), medleyInProgress);
    ck_assert_int_eq(mdl_board_look(&board[1], 0, 2, &found), medleyInProgress);
    ck_assert_int_eq(mdl_board_compare_late(&board[1], 0, 2), medleyInProgress);
    ck_assert(!mdl_board_is_same(&board[1], 0, 2 + MDL_BOARD_DEPTH, c.chain));
    teardown();
}
END_TEST

START_TEST(room_is_where_all_have_finished)
{
    static const uint32_t depths[] = {2, 4, 8, 16, MDL_BOARD_DEPTH};

    setup();
    for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++) {
        uint64_t ahead = 0;
        board[0].agreed = 100; /* so all have finished 99 */
        while (mdl_board_has_room(&board[0], 101 + ahead, depths[d])) ahead++;
        ck_assert_uint_eq(101 + ahead - depths[d], 100); /* the first without would overwrite what 100 may still use */
        board[0].agreed = mdl_board_room_line(101 + ahead, depths[d]);
        ck_assert(board[0].agreed > 100 && board[0].agreed < 101 + ahead);
        ck_assert(mdl_board_has_room(&board[0], 101 + ahead, depths[d]));
    }
    board[0].agreed = 0;
    ck_assert(mdl_board_has_room(&board[0], 1, 2));
    teardown();
}
END_TEST

static void fill(const struct mdl_rooms *r, uint8_t *used, size_t from, size_t bytes, uint8_t with)
{
    for (uint64_t seq = 0; seq < r->depth; seq++) {
        size_t at = (size_t)((char *)mdl_board_payload(&board[0], 0, seq, r) - (char *)board[0].own->base) + from;
        for (size_t b = 0; b < bytes; b++) {
            ck_assert(used[at + b] != 1 && (with != 1 || used[at + b] == 0));
            used[at + b] = with;
        }
    }
}

/* No two payloads and no signal share a byte; what is read behind one is no other's. */
START_TEST(rooms_lie_apart)
{
    const struct mdl_rooms *all[16];
    uint8_t *used;
    int n = 0;

    setup();
    used = calloc(1, (size_t)((char *)mdl_board_read_bytes(&board[0], 0, 0) - (char *)board[0].own->base));
    ck_assert_ptr_nonnull(used);
    all[n++] = mdl_board_rooms(1, false);
    for (size_t bytes = 1; bytes <= MDL_BOARD_PAYLOAD_BYTES; bytes++) {
        const struct mdl_rooms *r = mdl_board_rooms(bytes, false), *m = mdl_board_rooms(bytes, true);
        ck_assert(r->most >= bytes && m->most >= bytes && (r->depth & (r->depth - 1)) == 0);
        ck_assert(r->depth >= 4 && r->depth <= MDL_BOARD_DEPTH && m->depth >= 2);
        if (r != all[n - 1]) all[n++] = r;
    }
    all[n++] = mdl_board_rooms(MDL_BOARD_PAYLOAD_BYTES, true);
    ck_assert_int_ge(n, 4);
    for (int i = 0; i < n; i++) fill(all[i], used, 0, all[i]->most, 1);
    for (int i = 0; i < n; i++) fill(all[i], used, all[i]->most, MDL_REDUCE_PADDING, 2);
    ck_assert_uint_eq(mdl_board_rooms(8, true)->depth, MDL_BOARD_DEPTH);
    free(used);
    teardown();
}
END_TEST

/* Whatever differs shows, in this call and in all that follow. */
START_TEST(chains_tell_calls_apart)
{
    const struct mdl_call usual = {
        .coll = medleyCollReduce, .dtype = medleyInt32, .op = medleySum, .root = 1, .count = 4};
    struct mdl_call odd[6] = {usual, usual, usual, usual, usual, usual};
    uint64_t chain = mdl_call_chain(&usual, 17);

    odd[0].coll = medleyCollGather;
    odd[1].dtype = medleyFloat32;
    odd[2].op = medleyMax;
    odd[3].root = 0;
    odd[4].count = 5;
    odd[5].flags = MDL_LINE_PREMUL;
    for (int i = 0; i < 6; i++) {
        uint64_t other = mdl_call_chain(&odd[i], 17);
        ck_assert(other != chain);
        ck_assert(mdl_call_chain(&usual, other) != mdl_call_chain(&usual, chain));
        ck_assert(mdl_call_chain(&odd[i], chain) != mdl_call_chain(&usual, other)); /* the order counts */
    }
    odd[0] = usual;
    odd[0].flags = MDL_LINE_IN_PLACE | MDL_LINE_APART; /* what ranks may do differently */
    ck_assert_uint_eq(mdl_call_chain(&odd[0], 17), chain);
}
END_TEST

UNIT_MAIN("board", newest_lines_can_be_read, long_lines_carry_buffers, late_comparison,
          a_line_that_is_being_written_is_not_there, room_is_where_all_have_finished, rooms_lie_apart,
          chains_tell_calls_apart)
