/* SPDX-License-Identifier: Apache-2.0 */
/* The arena against a model: a byte for each unit of 256 bytes, and first fit by looking at all of them. */
#include "config.h"
#include "lib/dev/arena.h"
#include "tests/unit/unit.h"
#include <stdint.h>

enum { UNIT = 256, UNITS = 600, BYTES = UNITS * UNIT, STEPS = 20000 };

static char block[BYTES + UNIT];
static struct {
    char *at;
    size_t len;
} piece[UNITS];
static int npieces;
static bool taken[UNITS];
static struct mdl_arena arena;

static char *base(void) { return block + (UNIT - (uintptr_t)block % UNIT) % UNIT; }

static unsigned next(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static int units_of(size_t len) { return len ? (int)((len + UNIT - 1) / UNIT) : 1; }

/* The first unit where so many are free, or -1. */
static int first_fit(int units)
{
    for (int i = 0, run = 0; i < UNITS; i++) {
        run = taken[i] ? 0 : run + 1;
        if (run == units) return i - units + 1;
    }
    return -1;
}

static void mark(char *at, size_t len, bool value)
{
    int first = (int)((at - base()) / UNIT);
    for (int i = first; i < first + units_of(len); i++) {
        ck_assert_int_ne(taken[i], value);
        taken[i] = value;
    }
}

static void take(size_t len)
{
    int expected = first_fit(units_of(len));
    char *p = mdl_arena_take(&arena, len);
    if (expected < 0) {
        ck_assert_ptr_null(p);
        return;
    }
    ck_assert_ptr_eq(p, base() + (size_t)expected * UNIT);
    mark(p, len, true);
    piece[npieces].at = p;
    piece[npieces++].len = len;
}

static void give(int i)
{
    mark(piece[i].at, piece[i].len, false);
    mdl_arena_give(&arena, piece[i].at, piece[i].len);
    piece[i] = piece[--npieces];
}

static void start(void)
{
    npieces = 0;
    memset(taken, 0, sizeof(taken));
    ck_assert(mdl_arena_init(&arena, base(), BYTES));
    ck_assert(mdl_arena_is_whole(&arena));
}

static void finish(void)
{
    while (npieces) give(0);
    ck_assert(mdl_arena_is_whole(&arena));
    take(BYTES); /* all of it, in one piece */
    ck_assert_int_eq(npieces, 1);
    give(0);
    mdl_arena_fini(&arena);
}

/* Mostly taking, then mostly giving back, in turns, so that it is full and empty again and again. */
static void walk(unsigned seed, size_t longest)
{
    unsigned s = seed;
    start();
    for (int i = 0; i < STEPS; i++) {
        bool grow = next(&s) % 10 < (i / 1000 % 2 ? 3u : 7u);
        if (grow || !npieces)
            take(next(&s) % (longest + 1));
        else
            give((int)(next(&s) % (unsigned)npieces));
        ck_assert_int_eq(mdl_arena_is_whole(&arena), npieces == 0);
    }
    finish();
}

START_TEST(small_pieces) { walk(1, 3 * UNIT); }
END_TEST
START_TEST(large_pieces) { walk(2, BYTES / 4); }
END_TEST
START_TEST(one_unit_each) { walk(3, UNIT); }
END_TEST

/* Every second piece goes back, which makes as many holes as there can be, then the others, from the end. */
START_TEST(as_many_holes_as_can_be)
{
    start();
    for (int i = 0; i < UNITS; i++) take(1);
    ck_assert_int_eq(npieces, UNITS);
    ck_assert_ptr_null(mdl_arena_take(&arena, 1));
    for (int i = 0; i < UNITS; i += 2) {
        mark(piece[i].at, 1, false);
        mdl_arena_give(&arena, piece[i].at, 1);
    }
    ck_assert_int_eq(arena.n, UNITS / 2);
    ck_assert_ptr_null(mdl_arena_take(&arena, UNIT + 1));
    for (int i = UNITS - 1; i > 0; i -= 2) {
        mark(piece[i].at, 1, false);
        mdl_arena_give(&arena, piece[i].at, 1);
    }
    npieces = 0;
    finish();
}
END_TEST

START_TEST(odd_lengths)
{
    start();
    take(0);
    take(UNIT - 1);
    take(UNIT);
    take(UNIT + 1);
    ck_assert_int_eq(npieces, 4);
    ck_assert_ptr_eq(piece[3].at, base() + 3 * UNIT);
    ck_assert_ptr_null(mdl_arena_take(&arena, BYTES));
    finish();
}
END_TEST

START_TEST(an_end_that_fills_no_unit_is_not_given_out)
{
    ck_assert(mdl_arena_init(&arena, base(), 2 * UNIT + 10));
    ck_assert_ptr_nonnull(mdl_arena_take(&arena, 2 * UNIT));
    ck_assert_ptr_null(mdl_arena_take(&arena, 1));
    mdl_arena_give(&arena, base(), 2 * UNIT);
    ck_assert(mdl_arena_is_whole(&arena));
    mdl_arena_fini(&arena);
}
END_TEST

START_TEST(nothing_to_give_out)
{
    ck_assert(mdl_arena_init(&arena, base(), 0));
    ck_assert_ptr_null(mdl_arena_take(&arena, 1));
    mdl_arena_fini(&arena);
}
END_TEST

UNIT_MAIN("dev_arena", small_pieces, large_pieces, one_unit_each, as_many_holes_as_can_be, odd_lengths,
          an_end_that_fills_no_unit_is_not_given_out, nothing_to_give_out)
