/* SPDX-License-Identifier: Apache-2.0 */
/* Joining: ranks as threads of this process, and what goes wrong when they do not fit together. */
#include "config.h"
#include "lib/boot/id.h"
#include "tests/unit/boot_world.h"
#include "tests/unit/leaks.h"

static struct world world;

/* Asserts once: with hundreds of ranks each assertion counts. */
static void exchange(struct world_rank *r)
{
    struct world *w = r->world;
    static _Thread_local uint32_t all[WORLD_MAX][3];
    uint32_t mine[3] = {(uint32_t)r->rank, (uint32_t)r->rank * 7, 0xabcd};
    int wrong = 0;
    for (int round = 0; round < 3; round++) {
        mine[2]++;
        memset(all, 0, sizeof(all));
        wrong += mdl_ctl_allgather(r->ctl, mine, sizeof(mine), all, world_soon(10000), "test") != medleySuccess;
        for (uint32_t i = 0; i < (uint32_t)w->nranks; i++)
            wrong += all[i][0] != i || all[i][1] != i * 7 || all[i][2] != mine[2];
    }
    for (int i = 0; i < w->nranks; i++) wrong += !strcmp(mdl_ctl_host(r->ctl, i), "?");
    ck_assert_int_eq(wrong, 0);
}

static void joins(int nranks)
{
    world_init(&world, nranks);
    world.body = exchange;
    world_make_id(&world);
    world_run(&world);
    world_all_joined(&world);
}

START_TEST(joins_any_number)
{
    for (int n = 1; n <= 16; n++) joins(n);
}
END_TEST

START_TEST(joins_64) { joins(64); }
END_TEST

/* More than the root holds: the others come back for their answer. */
START_TEST(joins_270) { joins(270); }
END_TEST

START_TEST(joins_through_several_roots)
{
    for (int nids = 2; nids <= 4; nids++) {
        world_init(&world, 10);
        world.nids = nids;
        world.body = exchange;
        world_make_id(&world);
        world_run(&world);
        world_all_joined(&world);
    }
}
END_TEST

/* ---- somebody is missing ---- */

/* Joins n ranks through nids roots without some, which is given as a list that ends with -1. */
static void misses(int n, int nids, const int *absent, const char *say)
{
    WORLD_TRY_LONGER(ms)
    {
        world_init(&world, n);
        world.nids = nids;
        world.cfg.init_timeout = ms;
        for (const int *a = absent; *a >= 0; a++) world.ranks[*a].absent = true;
        world_make_id(&world);
        world_run(&world);
        if (world_all_say(&world, medleyTimeout, say)) return;
    }
    world_all_failed(&world, medleyTimeout, say);
}

START_TEST(missing_ranks_are_named)
{
    misses(8, 1, (const int[]){0, -1}, "1 of 8 ranks are missing: 0 (");
    misses(8, 1, (const int[]){6, -1}, "1 of 8 ranks are missing: 6 (");
    misses(10, 1, (const int[]){3, 5, 6, 7, -1}, "4 of 10 ranks are missing: 3, 5-7 (");
    misses(10, 1, (const int[]){3, -1}, "was reached): gave up after");
}
END_TEST

START_TEST(missing_behind_another_root) { misses(10, 2, (const int[]){2, 9, -1}, "2 of 10 ranks are missing: 2, 9 ("); }
END_TEST

START_TEST(aborted)
{
    world_init(&world, 4);
    world.ranks[2].absent = true;
    world.abort_word = 1;
    world_make_id(&world);
    uint64_t since = mdl_now_ns();
    world_run(&world);
    ck_assert_uint_lt(mdl_now_ns() - since, unit_ns(5));
    world_all_failed(&world, medleyRemoteError, "aborted");
}
END_TEST

/* ---- they contradict each other ---- */

START_TEST(duplicate_rank)
{
    char say[80];
    world_init(&world, 4);
    world.nthreads = 5;
    world.ranks[0].absent = true; /* so that the session is open when the impostor comes */
    world.ranks[4].as = 2;
    world_make_id(&world);
    world_run(&world);
    snprintf(say, sizeof(say), "pid %d) and ", (int)getpid());
    world_all_failed(&world, medleyInvalidUsage, "two processes say that they are rank 2: rank 2 (");
    world_all_failed(&world, medleyInvalidUsage, say);
}
END_TEST

START_TEST(duplicate_behind_another_root)
{
    world_init(&world, 8);
    world.nids = 2;
    world.nthreads = 9;
    world.ranks[0].absent = true;
    world.ranks[8].as = 6;
    world_make_id(&world);
    world_run(&world);
    world_all_failed(&world, medleyInvalidUsage, "two processes say that they are rank 6");
}
END_TEST

START_TEST(different_nranks)
{
    world_init(&world, 4);
    world.ranks[3].of = 5;
    world_make_id(&world);
    world_run(&world);
    world_all_failed(&world, medleyInvalidUsage, "with nranks 5");
    world_all_failed(&world, medleyInvalidUsage, "with nranks 4");
}
END_TEST

START_TEST(senseless_arguments)
{
    world_init(&world, 1);
    world_make_id(&world);
    static const int bad[][3] = {{0, 0, 1}, {-1, 1, 1}, {1, 1, 1}, {0, -5, 1}, {0, 1, 0}, {0, 1, 2}, {0, 1 << 24, 1}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mdl_boot_args args = {
            .config = &world.cfg, .ids = world.ids, .rank = bad[i][0], .nranks = bad[i][1], .nids = bad[i][2]};
        struct mdl_ctl *ctl = NULL;
        ck_assert_int_eq(mdl_boot_join(&args, &ctl), medleyInvalidArgument);
        ck_assert_ptr_null(ctl);
    }
    memset(&world.ids[0], 0, sizeof(world.ids[0]));
    world_run(&world);
    world_all_failed(&world, medleyInvalidArgument, "not a unique id");
}
END_TEST

/* ---- coming back, and coming late ---- */

/* A rank that gives up and tries again takes its old seat. */
START_TEST(second_try)
{
    world_init(&world, 3);
    world_make_id(&world);
    struct world_rank early = world.ranks[1];
    early.cfg = world.cfg;
    early.cfg.init_timeout = 250;
    world_join(&early);
    ck_assert_int_eq(early.result, medleyTimeout);
    world.body = exchange;
    world_run(&world);
    world_all_joined(&world);
}
END_TEST

/* While the communicator lives its root says that the id is used up. */
static void use_again(struct world_rank *r)
{
    struct world_rank again = *r;
    if (r->rank == 0) {
        again.of = 1;
        world_join(&again);
        ck_assert_int_eq(again.result, medleyInvalidUsage);
        ck_assert_ptr_nonnull(strstr(again.error, "has been used"));
    }
    pthread_barrier_wait(&r->world->barrier);
}

START_TEST(used_id)
{
    world_init(&world, 2);
    world.body = use_again;
    world_make_id(&world);
    world_run(&world);
    world_all_joined(&world);
    /* Afterwards nobody serves it any more. */
    struct world_rank late = world.ranks[0];
    late.cfg.init_timeout = (int64_t)(unit_ns(3) / MDL_NS_PER_MS);
    uint64_t since = mdl_now_ns();
    world_join(&late);
    ck_assert_int_eq(late.result, medleyRemoteError);
    ck_assert_ptr_nonnull(strstr(late.error, "used before"));
    ck_assert_uint_lt(mdl_now_ns() - since, ((uint64_t)late.cfg.init_timeout - 100) * MDL_NS_PER_MS);
}
END_TEST

/* ---- leaving nothing behind ---- */

START_TEST(cycles_leave_nothing)
{
    joins(1); /* what a sanitizer starts with the first thread */
    int fds = leaks_descriptors(), threads = leaks_threads_settle(ALONE);
    for (int i = 0; i < 200; i++) joins(3);
    ck_assert_int_eq(leaks_descriptors(), fds);
    ck_assert_int_eq(leaks_threads_settle(threads), threads);
}
END_TEST

START_TEST(failures_leave_nothing)
{
    joins(1);
    int fds = leaks_descriptors(), threads = leaks_threads_settle(ALONE);
    for (int i = 0; i < 6; i++) {
        world_init(&world, 3);
        world.cfg.init_timeout = 100;
        world.ranks[i % 3].absent = true;
        world_make_id(&world);
        world_run(&world);
        world_all_failed(&world, medleyTimeout, "");
    }
    /* The last roots live for twice the init time-out; what comes after closes them. */
    usleep(250 * 1000);
    joins(1);
    for (uint64_t start = mdl_now_ns(); leaks_descriptors() != fds && mdl_now_ns() - start < unit_ns(5);) {
        usleep(50 * 1000); /* its thread was late */
        joins(1);
    }
    ck_assert_int_eq(leaks_descriptors(), fds);
    ck_assert_int_eq(leaks_threads_settle(threads), threads);
}
END_TEST

UNIT_MAIN("boot_join", joins_any_number, joins_64, joins_270, joins_through_several_roots, missing_ranks_are_named,
          missing_behind_another_root, aborted, duplicate_rank, duplicate_behind_another_root, different_nranks,
          senseless_arguments, second_try, used_id, cycles_leave_nothing, failures_leave_nothing)
