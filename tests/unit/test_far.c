/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a host's ranks count as far from each other: what changes the answer, what does not, and how often it is asked. */
#include "config.h"

#include "lib/engine/far.h"
#include "tests/unit/unit.h"

enum { LIMIT = 100 };

static void note(struct mdl_far *f, uint32_t ns, int times)
{
    while (times--) mdl_far_note(f, ns);
}

START_TEST(only_several_measurements_decide)
{
    struct mdl_far f;

    mdl_far_init(&f, LIMIT);
    note(&f, 3 * LIMIT, 3);
    ck_assert(!f.is);
    note(&f, 3 * LIMIT, 1);
    ck_assert(f.is);
}
END_TEST

START_TEST(it_follows_the_cores)
{
    struct mdl_far f;

    mdl_far_init(&f, LIMIT);
    for (int turn = 0; turn < 3; turn++) {
        note(&f, LIMIT / 10, 50);
        ck_assert(!f.is);
        note(&f, 2 * LIMIT, 50);
        ck_assert(f.is);
    }
}
END_TEST

/* A rank that lost its core while it measured. */
START_TEST(one_outlier_changes_nothing)
{
    struct mdl_far f;

    mdl_far_init(&f, LIMIT);
    note(&f, LIMIT / 10, 20);
    note(&f, 4000000000u, 1);
    ck_assert(!f.is);
    note(&f, 2 * LIMIT, 50);
    note(&f, 0, 1);
    ck_assert(f.is);
}
END_TEST

START_TEST(at_the_limit_it_stays_what_it_was)
{
    struct mdl_far f;

    mdl_far_init(&f, LIMIT);
    note(&f, LIMIT + 5, 50);
    ck_assert(!f.is);
    note(&f, 2 * LIMIT, 50);
    note(&f, LIMIT - 5, 50);
    ck_assert(f.is);
}
END_TEST

START_TEST(a_limit_of_one_is_enough)
{
    struct mdl_far f;

    mdl_far_init(&f, 1);
    note(&f, 30, 10);
    ck_assert(f.is);
}
END_TEST

/* Where the processor can be told to forget a line, memory takes some time. */
START_TEST(the_limit_is_measured)
{
    struct mdl_far f;

    mdl_far_init(&f, -1);
#if defined(__x86_64__) || defined(__aarch64__)
    ck_assert_uint_gt(f.limit_ns, 0);
    ck_assert_uint_lt(f.limit_ns, 100000);
#else
    ck_assert_uint_eq(f.limit_ns, 0);
#endif
}
END_TEST

/* Two ranks' boards, as rank 0 sees them. */
static struct mdl_board board[2];

static void setup(int nlocal)
{
    for (int r = 0; r < 2; r++) {
        ck_assert_int_eq(mdl_board_create(&board[r], 2, 4096), medleySuccess);
        ck_assert_int_eq(mdl_board_attach(&board[r], nlocal, r < nlocal ? r : 0), medleySuccess);
    }
    if (nlocal == 2) board[0].base[1] = board[1].own->base;
}

static void teardown(void)
{
    for (int r = 0; r < 2; r++) mdl_board_destroy(&board[r]);
}

static uint32_t looks(struct mdl_far *f, size_t bytes, int calls)
{
    uint32_t measured = 0;

    for (int i = 0; i < calls; i++) {
        f->smoothed = UINT64_MAX; /* no measurement leaves it there */
        mdl_far_look(f, &board[0], (uint64_t)i + 1, bytes);
        measured += f->smoothed != UINT64_MAX;
    }
    return measured;
}

START_TEST(large_calls_are_measured_in_more_often)
{
    struct mdl_far f;

    setup(2);
    mdl_far_init(&f, LIMIT);
    note(&f, 0, 10);
    ck_assert_uint_eq(looks(&f, 8, 100), 0);
    ck_assert_uint_eq(looks(&f, 65536, 160), 40);
    ck_assert_uint_eq(looks(&f, 262144, 100), 100);
    mdl_far_init(&f, 0);
    ck_assert_uint_eq(looks(&f, 1 << 20, 100), 0);
    teardown();
}
END_TEST

START_TEST(a_rank_alone_asks_nobody)
{
    struct mdl_far f;

    setup(1);
    mdl_far_init(&f, LIMIT);
    ck_assert_uint_eq(looks(&f, 1 << 20, 10), 0);
    teardown();
}
END_TEST

/* What is timed must not have come along with what was waited for. */
START_TEST(the_word_lies_apart_from_its_line)
{
    struct mdl_call call = {.coll = medleyCollAllReduce, .dtype = medleyInt32, .count = 1};

    setup(2);
    for (uint64_t seq = 1; seq < 3 * MDL_BOARD_DEPTH; seq++) {
        const char *line = (const char *)mdl_board_line(&board[0], 0, seq),
                   *word = (const char *)mdl_board_probe(&board[0], 0, seq);
        ck_assert(word >= line + sizeof(struct mdl_line) + 128 && word < line + MDL_LINE_ROOM - 128);
        mdl_board_publish(&board[0], seq, &call);
        ck_assert_uint_eq(*mdl_board_probe(&board[0], 0, seq), seq);
    }
    teardown();
}
END_TEST

UNIT_MAIN("far", only_several_measurements_decide, it_follows_the_cores, one_outlier_changes_nothing,
          at_the_limit_it_stays_what_it_was, a_limit_of_one_is_enough, the_limit_is_measured,
          large_calls_are_measured_in_more_often, a_rank_alone_asks_nobody, the_word_lies_apart_from_its_line)
