/* SPDX-License-Identifier: Apache-2.0 */
/* Choices that the process keeps: equal to what is chosen anew, told apart by all that they depend on, bounded, gone with
 * their last holder, and the same from several threads. */
#include "config.h"

#include "lib/engine/choices.h"
#include "lib/topo/team.h"
#include "tests/unit/unit.h"

#include <pthread.h>

enum { RANKS = 6, THREADS = 4 };

static const struct mdl_choose_limits plain = {
    .window_bytes = 4 << 20, .scratch_bytes = 64 << 20, .max_depth = 4, .max_channels = 60, .oneshot_bytes = 65536};

/* `hosts` hosts of as many ranks each, dealt out in blocks or in turns. */
static struct mdl_team *make_team(int nranks, int hosts, bool turns, uint32_t cores)
{
    uint8_t near[RANKS][RANKS] = {0};
    struct mdl_team_facts facts[RANKS];
    struct mdl_team *team;

    for (int r = 0; r < nranks; r++) {
        for (int p = 0; p < nranks; p++) {
            int a = turns ? r % hosts : r * hosts / nranks, b = turns ? p % hosts : p * hosts / nranks;
            if (a == b) near[r][p] = MDL_NEAR_SEND | MDL_NEAR_MAP | MDL_NEAR_GET;
        }
        facts[r] = (struct mdl_team_facts){.cores = cores, .net_mbps = 10000, .rails = 1, .near = near[r]};
    }
    ck_assert_int_eq(mdl_team_make(nranks, facts, &team), medleySuccess);
    return team;
}

static struct mdl_collective all_reduce(size_t count)
{
    return (struct mdl_collective){
        .coll = medleyCollAllReduce, .dtype = medleyFloat32, .op = medleySum, .root = -1, .count = count};
}

static void expect_counts(size_t kept, uint64_t found)
{
    size_t k;
    uint64_t f;

    mdl_choices_count(&k, &f);
    ck_assert_uint_eq(k, kept);
    ck_assert_uint_eq(f, found);
}

/* What is kept is what is chosen. */
static void ask(const struct mdl_team *team, const struct mdl_collective *c, const char *spec,
                const struct mdl_choose_limits *limits)
{
    struct mdl_choice choice = {0}, fresh = {0};

    ck_assert_int_eq(mdl_choices_get(team, c, spec, limits, &choice), medleySuccess);
    ck_assert_int_eq(mdl_algo_choose(team, c, spec, limits, &fresh), medleySuccess);
    ck_assert_ptr_eq(choice.algo, fresh.algo);
    ck_assert_uint_eq(choice.window, fresh.window);
    ck_assert_uint_eq(choice.depth, fresh.depth);
    ck_assert_uint_eq(choice.predicted_ns, fresh.predicted_ns);
    ck_assert_int_eq(choice.overridden, fresh.overridden);
}

START_TEST(equal_teams_share)
{
    struct mdl_team *one = make_team(4, 2, false, 2), *same = make_team(4, 2, false, 2);
    struct mdl_collective c = all_reduce(65536);

    mdl_choices_hold();
    ask(one, &c, "", &plain);
    expect_counts(1, 0);
    ask(same, &c, "", &plain);
    ask(one, &c, "", &plain);
    expect_counts(1, 2);
    mdl_choices_release();
    expect_counts(0, 2);
    mdl_team_free(one);
    mdl_team_free(same);
}
END_TEST

/* One argument differs at a time; each is asked twice. */
START_TEST(all_arguments_count)
{
    const struct mdl_collective call = all_reduce(65536);
    struct mdl_team *teams[] = {make_team(4, 2, false, 2), make_team(4, 2, true, 2), make_team(4, 1, false, 2),
                                make_team(6, 2, false, 2), make_team(4, 2, false, 8)};
    struct mdl_collective calls[8];
    struct mdl_choose_limits limits[5];
    uint64_t n = 0;

    for (int i = 0; i < 8; i++) calls[i] = call;
    calls[0].coll = medleyCollAllGather;
    calls[1].dtype = medleyFloat64;
    calls[2].op = medleyMax;
    calls[3].deterministic = true;
    calls[4].count *= 2;
    calls[5].facts.in_place = true;
    calls[6].facts.in_mapped = true;
    calls[7].facts.apart = true;
    for (int i = 0; i < 5; i++) limits[i] = plain;
    limits[0].window_bytes /= 2;
    limits[1].scratch_bytes /= 2;
    limits[2].max_depth = 1;
    limits[3].max_channels = 30;
    limits[4].oneshot_bytes = 0;
    mdl_choices_hold();
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5; i++, n++) ask(teams[i], &call, "", &plain);
        for (int i = 0; i < 8; i++, n++) ask(teams[0], &calls[i], "", &plain);
        for (int i = 0; i < 5; i++, n++) ask(teams[0], &call, "", &limits[i]);
        ask(teams[0], &call, "ring", &plain);
        n++;
        expect_counts(19, n - 19);
    }
    mdl_choices_release();
    for (int i = 0; i < 5; i++) mdl_team_free(teams[i]);
}
END_TEST

START_TEST(roots_count)
{
    struct mdl_team *team = make_team(4, 1, false, 2);
    struct mdl_collective c = all_reduce(1024);

    c.coll = medleyCollBroadcast;
    mdl_choices_hold();
    for (c.root = 0; c.root < 4; c.root++) ask(team, &c, "", &plain);
    expect_counts(4, 0);
    mdl_choices_release();
    mdl_team_free(team);
}
END_TEST

/* Without a holder nothing is kept, so that nothing is left over. */
START_TEST(nothing_without_a_holder)
{
    struct mdl_team *team = make_team(4, 1, false, 2);
    struct mdl_collective c = all_reduce(1024);

    ask(team, &c, "", &plain);
    expect_counts(0, 0);
    mdl_choices_hold();
    mdl_choices_hold();
    ask(team, &c, "", &plain);
    mdl_choices_release();
    expect_counts(1, 0);
    mdl_choices_release();
    expect_counts(0, 0);
    mdl_team_free(team);
}
END_TEST

/* The newest stay, within about a MiB. */
START_TEST(bounded)
{
    struct mdl_team *team = make_team(2, 1, false, 2);
    struct mdl_choose_limits limits = plain;
    struct mdl_collective c = all_reduce(1);
    struct mdl_choice choice;
    size_t kept;
    uint64_t found, before;

    mdl_choices_hold();
    for (int i = 0; i < 5000; i++) {
        limits.scratch_bytes = plain.scratch_bytes + (size_t)i;
        ck_assert_int_eq(mdl_choices_get(team, &c, "ring", &limits, &choice), medleySuccess);
    }
    mdl_choices_count(&kept, &before);
    ck_assert_uint_gt(kept, 100);
    ck_assert_uint_lt(kept, 5000);
    ck_assert_int_eq(mdl_choices_get(team, &c, "ring", &limits, &choice), medleySuccess);
    mdl_choices_count(&kept, &found);
    ck_assert_uint_eq(found, before + 1);
    mdl_choices_release();
    mdl_team_free(team);
}
END_TEST

static void *ask_often(void *arg)
{
    for (int i = 0; i < 200; i++) {
        struct mdl_collective c = all_reduce((size_t)1 << i % 8);
        ask(arg, &c, "", &plain);
        mdl_choices_hold();
        mdl_choices_release();
    }
    return NULL;
}

START_TEST(from_several_threads)
{
    struct mdl_team *team = make_team(2, 1, false, 2);
    pthread_t threads[THREADS];
    size_t kept;
    uint64_t found;

    mdl_choices_hold();
    for (int i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_often, team), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    mdl_choices_count(&kept, &found);
    ck_assert_uint_eq(kept, 8);
    ck_assert_uint_ge(found, THREADS * 200 - THREADS * 8);
    mdl_choices_release();
    mdl_team_free(team);
}
END_TEST

START_TEST(errors_are_not_kept)
{
    struct mdl_team *team = make_team(4, 1, false, 2);
    struct mdl_collective c = all_reduce(1 << 20);
    struct mdl_choose_limits none = {.window_bytes = 1};
    struct mdl_choice choice;
    medleyResult_t res;

    mdl_choices_hold();
    c.deterministic = true;
    res = mdl_algo_choose(team, &c, "", &none, &choice);
    ck_assert_int_eq(mdl_choices_get(team, &c, "", &none, &choice), res);
    expect_counts(res == medleySuccess, 0);
    mdl_choices_release();
    mdl_team_free(team);
}
END_TEST

UNIT_MAIN("choices", equal_teams_share, all_arguments_count, roots_count, nothing_without_a_holder, bounded,
          from_several_threads, errors_are_not_kept)
