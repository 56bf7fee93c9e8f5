/* SPDX-License-Identifier: Apache-2.0 */
/* The choice: the grammar of MEDLEY_ALGO, that something right is found for every call within the limits, that all
 * hosts find the same, and that predictions put the known algorithms where they belong. */
#include "config.h"
#include "lib/algo/cost.h"
#include "lib/algo/spec.h"
#include "lib/base/clock.h"
#include "tests/plan/run.h"
#include <stdio.h>

static const struct mdl_choose_limits defaults = {1u << 20, 64u << 20, 4, 64, 8192, false};

static struct mdl_choice choose(const struct team *team, const struct mdl_collective *c, const char *spec)
{
    struct mdl_choice choice = {0};
    ck_assert_msg(mdl_algo_choose(&team->t, c, spec, &defaults, &choice) == medleySuccess, "%s", mdl_error_text());
    return choice;
}

static struct mdl_collective floats(medleyColl_t coll, size_t bytes)
{
    bool rooted = coll == medleyCollReduce || coll == medleyCollBroadcast || coll == medleyCollGather ||
                  coll == medleyCollScatter;
    return (struct mdl_collective){
        .coll = coll, .dtype = medleyFloat32, .op = medleySum, .root = rooted ? 0 : -1, .count = bytes / 4};
}

static const char *name_for(const struct team *team, medleyColl_t coll, size_t bytes)
{
    struct mdl_collective c = floats(coll, bytes);
    return choose(team, &c, NULL).algo->name;
}

/* ---- MEDLEY_ALGO ---- */

START_TEST(spec_admits_what_it_says)
{
    static const struct {
        const char *spec;
        medleyColl_t coll;
        const char *algo;
        bool speaks, admits;
    } cases[] = {
        {NULL, medleyCollAllReduce, "ring", false, true},
        {"", medleyCollAllReduce, "ring", false, true},
        {" , ", medleyCollAllReduce, "ring", false, true},
        {"ring", medleyCollAllReduce, "ring", true, true},
        {"ring", medleyCollAllReduce, "direct", true, false},
        {"Ring , dbtree", medleyCollReduce, "dbtree", true, true},
        {"ring,dbtree", medleyCollReduce, "binomial", true, false},
        {"^ring", medleyCollAllReduce, "ring", true, false},
        {"^ring", medleyCollAllReduce, "direct", true, true},
        {"^ring,^direct", medleyCollAllReduce, "direct", true, false},
        {"allreduce:ring,broadcast:^binomial", medleyCollAllReduce, "ring", true, true},
        {"allreduce:ring,broadcast:^binomial", medleyCollAllReduce, "dbtree", true, false},
        {"allreduce:ring,broadcast:^binomial", medleyCollBroadcast, "binomial", true, false},
        {"allreduce:ring,broadcast:^binomial", medleyCollBroadcast, "ring", true, true},
        {"allreduce:ring,broadcast:^binomial", medleyCollReduce, "binomial", false, true},
        {"allreduce:ring,recdbl", medleyCollAllReduce, "recdbl", true, true},
        {"allreduce:ring,recdbl", medleyCollBarrier, "binomial", false, true},
        {"ring,all_reduce:dbtree", medleyCollAllReduce, "ring", true, false},
        {"ring,ALL_REDUCE: dbtree", medleyCollAllReduce, "dbtree", true, true},
        {"ring,all_reduce:dbtree", medleyCollBroadcast, "ring", true, true},
        {"bcast:ring", medleyCollBroadcast, "ring", true, true},
        {"alltoallv:pairwise", medleyCollAlltoAllV, "pairwise", true, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_msg(mdl_spec_speaks(cases[i].spec, cases[i].coll) == cases[i].speaks, "case %zu", i);
        ck_assert_msg(mdl_spec_admits(cases[i].spec, cases[i].coll, cases[i].algo) == cases[i].admits, "case %zu", i);
        ck_assert_int_eq(mdl_algo_spec_check(cases[i].spec), medleySuccess);
    }
}
END_TEST

START_TEST(spec_refuses_unknown_names)
{
    static const struct {
        const char *spec, *says;
    } cases[] = {
        {"rong", "no algorithm \"rong\""},
        {"ring,", NULL},
        {"ring,tree", "no algorithm \"tree\""},
        {"allreduce:", "no algorithm \"\""},
        {"allgater:ring", "\"allgater\""},
        {"^", "no algorithm \"\""},
        {"allreduce:^^ring", "\"^ring\""},
        {"rings", "\"rings\""},
        {"rin", "\"rin\""},
        {":ring", "no collective \"\""},
        {"allreduce:broadcast:ring", "\"broadcast:ring\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mdl_error_clear();
        medleyResult_t result = mdl_algo_spec_check(cases[i].spec);
        ck_assert_msg(result == (cases[i].says ? medleyInvalidArgument : medleySuccess), "%s", cases[i].spec);
        if (cases[i].says)
            ck_assert_msg(strstr(mdl_error_text(), cases[i].says), "%s: %s", cases[i].spec, mdl_error_text());
    }
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "MEDLEY_ALGO"));
}
END_TEST

START_TEST(spec_forces_or_falls_back)
{
    struct team *team = team_new(8, PLACE_ONE);
    struct mdl_collective c = floats(medleyCollAllReduce, 1 << 20);
    ck_assert(!choose(team, &c, NULL).overridden);
    struct mdl_choice choice = choose(team, &c, "ring");
    ck_assert_str_eq(choice.algo->name, "ring");
    ck_assert(choice.overridden);
    choice = choose(team, &c, "^staged");
    ck_assert_str_ne(choice.algo->name, "staged");
    ck_assert(choice.overridden);
    choice = choose(team, &c, "broadcast:ring");
    ck_assert_str_ne(choice.algo->name, "ring");
    ck_assert(!choice.overridden);
    choice = choose(team, &c, "bruck"); /* has no all-reduce */
    ck_assert_ptr_nonnull(choice.algo);
    ck_assert(!choice.overridden);
    choice = choose(team, &c, "oneshot"); /* too large for it */
    ck_assert_str_ne(choice.algo->name, "oneshot");
    ck_assert(!choice.overridden);
    team_free(team);
}
END_TEST

START_TEST(find_knows_the_names)
{
    for (int a = 0; mdl_algos[a]; a++) ck_assert_ptr_eq(mdl_algo_find(mdl_algos[a]->name), mdl_algos[a]);
    ck_assert_ptr_null(mdl_algo_find("rong"));
    ck_assert_ptr_null(mdl_algo_find(""));
}
END_TEST

/* ---- something right, within the limits ---- */

static void check_limits(const struct call *call, const struct mdl_choose_limits *l, const struct mdl_choice *choice)
{
    const struct mdl_collective *c = &call->s.c;
    size_t size = mdl_dtype_size(c->dtype), slot = (choice->window * mdl_dtype_acc_size(c->dtype) + 63) / 64 * 64;
    ck_assert_msg(choice->algo->fits(call->s.team, c), "%s: %s does not fit", call->name, choice->algo->name);
    ck_assert_msg(choice->window >= 1 && choice->depth >= 1 && choice->depth <= l->max_depth, "%s: window %zu x %u",
                  call->name, choice->window, choice->depth);
    if (choice->depth > 1 && !mdl_collective_is_v(c)) ck_assert_uint_lt(choice->window, c->count);
    for (int r = 0; r < call->s.team->nranks; r++) {
        struct mdl_plan *p;
        ck_assert_int_eq(mdl_algo_plan(choice->algo, call->s.team, c, r, &p), medleySuccess);
        bool whole = p->flags & MDL_PLAN_WHOLE;
        size_t scratch = p->scratch_slots * slot * choice->depth;
        ck_assert_msg(!whole || choice->window >= c->count, "%s: %s needs one window", call->name, choice->algo->name);
        ck_assert_msg(choice->depth == 1 || p->channels * choice->depth <= l->max_channels, "%s: channels", call->name);
        ck_assert_msg(scratch <= l->scratch_bytes, "%s: %s, rank %d: %zu of SCRATCH", call->name, choice->algo->name, r,
                      scratch);
        mdl_plan_free(p);
    }
    if (choice->depth > 1) ck_assert_uint_le(choice->window * size, l->window_bytes);
}

static struct mdl_choose_limits draw_limits(uint64_t *state)
{
    static const size_t windows[] = {4096, 65536, 1 << 20, 16 << 20}, scratch[] = {1 << 20, 4 << 20, 64 << 20};
    return (struct mdl_choose_limits){.window_bytes = windows[sim_random(state) % 4],
                                      .scratch_bytes = scratch[sim_random(state) % 3],
                                      .max_depth = 1 + (uint32_t)(sim_random(state) % 8),
                                      .max_channels = 1 + (uint32_t)(sim_random(state) % 64),
                                      .oneshot_bytes = sim_random(state) % 2 ? 8192 : 0};
}

START_TEST(always_finds_something)
{
    static const int sizes[] = {1, 2, 3, 5, 8, 17, 40};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int place = 0; place < PLACEMENTS; place++) {
            struct team *team = team_new(sizes[i], (enum placement)place);
            for (int k = 0; k < (plan_full() ? 500 : 24); k++) {
                uint64_t seed = (i * PLACEMENTS + (size_t)place) * 1000 + (size_t)k;
                struct call call;
                struct mdl_choice choice;
                call_draw(&call, team, (medleyColl_t)(k % medleyCollSend), seed);
                if (!mdl_collective_is_v(&call.s.c)) call.s.c.count <<= sim_random(&seed) % 16;
                struct mdl_choose_limits limits = draw_limits(&seed);
                ck_assert_msg(mdl_algo_choose(&team->t, &call.s.c, NULL, &limits, &choice) == medleySuccess, "%s: %s",
                              call.name, mdl_error_text());
                check_limits(&call, &limits, &choice);
                call_fini(&call);
            }
            team_free(team);
        }
}
END_TEST

START_TEST(says_when_the_budget_is_too_small)
{
    struct team *team = team_new(64, PLACE_APART);
    struct mdl_choose_limits limits = defaults;
    struct mdl_choice choice;
    struct mdl_collective c = floats(medleyCollReduceScatter, 1 << 20);
    limits.scratch_bytes = 4096;
    mdl_error_clear();
    c.deterministic = true; /* leaves pairwise only */
    ck_assert_int_eq(mdl_algo_choose(&team->t, &c, NULL, &limits, &choice), medleySuccess);
    ck_assert_uint_le(choice.window, 16);
    limits.scratch_bytes = 1024;
    ck_assert_int_eq(mdl_algo_choose(&team->t, &c, NULL, &limits, &choice), medleyInvalidUsage);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "MEDLEY_MEMORY_BUDGET"));
    team_free(team);
}
END_TEST

/* Facts belong to a host; V counts to a rank. */
START_TEST(all_ranks_choose_the_same)
{
    struct team *team = team_new(12, PLACE_UNEVEN);
    team->t.remote_get = true;
    for (int coll = 0; coll < medleyCollSend; coll++)
        for (size_t bytes = 4; bytes < 64u << 20; bytes *= 64) {
            struct mdl_collective c = floats((medleyColl_t)coll, bytes), d = c;
            d.facts = (struct mdl_facts){.in_place = true, .in_mapped = true, .out_mapped = true};
            if (mdl_collective_is_v(&c)) d.count = 7;
            struct mdl_choice a = choose(team, &c, NULL), b = choose(team, &d, NULL);
            d.facts = (struct mdl_facts){.apart = true};
            struct mdl_choice e = choose(team, &d, NULL);
            ck_assert(a.algo == b.algo && a.window == b.window && a.depth == b.depth);
            ck_assert(a.algo == e.algo && a.window == e.window && a.depth == e.depth);
            ck_assert_uint_eq(a.predicted_ns, choose(team, &c, NULL).predicted_ns);
        }
    team_free(team);
}
END_TEST

/* ---- predictions ---- */

static uint64_t cost(const struct team *team, medleyColl_t coll, const char *algo, size_t bytes)
{
    struct mdl_collective c = floats(coll, bytes);
    return mdl_plan_cost(&team->t, &c, mdl_algo_find(algo), (1u << 20) / 4, 4);
}

START_TEST(small_messages_go_logarithmic)
{
    struct team *one = team_new(8, PLACE_ONE), *apart = team_new(16, PLACE_APART), *eights = team_new(64, PLACE_EIGHTS);
    ck_assert_str_eq(name_for(one, medleyCollAllReduce, 8), "oneshot");
    ck_assert_str_eq(name_for(apart, medleyCollAllReduce, 8), "recdbl");
    ck_assert_str_eq(name_for(eights, medleyCollAllReduce, 8), "recdbl");
    ck_assert_str_eq(name_for(apart, medleyCollBroadcast, 8), "binomial");
    ck_assert_str_ne(name_for(apart, medleyCollReduce, 8), "ring");
    ck_assert_str_eq(name_for(apart, medleyCollAlltoAll, 8), "bruck");
    ck_assert_uint_lt(cost(apart, medleyCollAllReduce, "recdbl", 8), cost(apart, medleyCollAllReduce, "ring", 8));
    ck_assert_uint_lt(cost(eights, medleyCollBroadcast, "binomial", 8), cost(eights, medleyCollBroadcast, "ring", 8));
    team_free(one), team_free(apart), team_free(eights);
}
END_TEST

START_TEST(large_messages_go_by_bandwidth)
{
    const size_t large = 64u << 20;
    struct team *one = team_new(8, PLACE_ONE), *apart = team_new(16, PLACE_APART);
    struct mdl_collective c = floats(medleyCollAllReduce, large);
    ck_assert_str_eq(choose(one, &c, NULL).algo->name, "staged");
    c.facts.in_mapped = c.facts.out_mapped = true;
    ck_assert_str_eq(choose(one, &c, NULL).algo->name, "direct");
    ck_assert_uint_lt(cost(apart, medleyCollAllReduce, "ring", large),
                      cost(apart, medleyCollAllReduce, "recdbl", large));
    ck_assert_uint_lt(cost(apart, medleyCollBroadcast, "ring", large),
                      cost(apart, medleyCollBroadcast, "binomial", large));
    /* a ring moves 2 (n - 1) / n of the data over each link: within a tenth of the links' speed */
    uint64_t ideal = (uint64_t)large * 2 * 15 / 16 * apart->t.net_beta / 1000, ring;
    ring = cost(apart, medleyCollAllReduce, "ring", large);
    ck_assert_msg(ring > ideal && ring < ideal + ideal / 10, "ring %llu, ideal %llu", (unsigned long long)ring,
                  (unsigned long long)ideal);
    team_free(one), team_free(apart);
}
END_TEST

START_TEST(two_levels_beat_one_across_hosts)
{
    const size_t large = 64u << 20;
    struct team *team = team_new(64, PLACE_EIGHTS), *mixed = team_new(16, PLACE_INTERLEAVED);
    const medleyColl_t colls[] = {medleyCollAllReduce, medleyCollAllGather, medleyCollReduceScatter};
    for (size_t i = 0; i < 3; i++) {
        size_t bytes = colls[i] == medleyCollAllReduce ? large : large / 64;
        struct mdl_collective c = floats(colls[i], bytes);
        ck_assert_uint_lt(choose(team, &c, "hier").predicted_ns, choose(team, &c, "ring").predicted_ns);
        ck_assert_uint_lt(choose(mixed, &c, "hier").predicted_ns, choose(mixed, &c, "pairwise").predicted_ns);
    }
    team_free(team), team_free(mixed);
}
END_TEST

START_TEST(more_data_never_costs_less)
{
    struct team *team = team_new(12, PLACE_TWO);
    for (int a = 0; mdl_algos[a]; a++)
        for (int coll = 0; coll < medleyCollAllGatherV; coll++) {
            struct mdl_collective c = floats((medleyColl_t)coll, 4);
            if (!(mdl_algos[a]->colls >> coll & 1) || !mdl_algos[a]->fits(&team->t, &c)) continue;
            uint64_t before = 0;
            for (c.count = 16; c.count < 16u << 20; c.count *= 4) {
                uint64_t now = mdl_plan_cost(&team->t, &c, mdl_algos[a], 65536, 2);
                /* what becomes ready first may change, and by that a little of the order */
                ck_assert_msg(now >= before - before / 20 && now != UINT64_MAX, "%s, collective %d, count %zu: %llu ns",
                              mdl_algos[a]->name, coll, c.count, (unsigned long long)now);
                before = coll == medleyCollBarrier ? 0 : now;
            }
        }
    team_free(team);
}
END_TEST

/* Faster parts make faster predictions, and who has more of them too. */
START_TEST(speeds_count)
{
    struct team *team = team_new(16, PLACE_TWO);
    const size_t large = 64u << 20;
    uint64_t base = cost(team, medleyCollAllReduce, "hier", large);
    team->t.rails = 4;
    uint64_t rails = cost(team, medleyCollAllReduce, "hier", large);
    ck_assert_uint_lt(rails, base / 2);
    team->t.rails = 1;
    team->t.net_beta /= 2;
    ck_assert_uint_lt(cost(team, medleyCollAllReduce, "hier", large), base * 2 / 3);
    team->t.net_beta *= 2;
    team->t.net_alpha *= 10;
    ck_assert_uint_gt(cost(team, medleyCollAllReduce, "recdbl", 8), 100000);
    team_free(team);
    team = team_new(16, PLACE_ONE);
    base = cost(team, medleyCollAllReduce, "staged", large);
    team->t.cores = 2;
    ck_assert_uint_gt(cost(team, medleyCollAllReduce, "staged", large), base * 3 / 2);
    team_free(team);
}
END_TEST

/* Large teams are predicted from a sample: in no time, whatever the number of ranks. The bound is generous, for slow
 * machines under load; it would take minutes without the sample. */
START_TEST(large_teams_are_cheap)
{
    struct team *team = team_new(10000, PLACE_EIGHTS), *ring = team_new(256, PLACE_EIGHTS);
    uint64_t start = mdl_now_ns();
    uint64_t small = cost(team, medleyCollAllReduce, "recdbl", 8);
    ck_assert_uint_gt(small, 10 * 15000); /* of 14 steps, 10 or 11 cross hosts */
    ck_assert_uint_lt(small, 1000000);
    ck_assert_uint_ne(cost(team, medleyCollBroadcast, "dbtree", 1 << 20), UINT64_MAX);
    ck_assert_uint_ne(cost(ring, medleyCollAllReduce, "ring", 64 << 20), UINT64_MAX);
    ck_assert_str_eq(name_for(team, medleyCollAllReduce, 8), "recdbl");
    ck_assert_uint_lt(mdl_now_ns() - start, 20000000000u);
    team_free(team), team_free(ring);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {spec_admits_what_it_says,       spec_refuses_unknown_names,
                                  spec_forces_or_falls_back,      find_knows_the_names,
                                  always_finds_something,         says_when_the_budget_is_too_small,
                                  all_ranks_choose_the_same,      small_messages_go_logarithmic,
                                  large_messages_go_by_bandwidth, two_levels_beat_one_across_hosts,
                                  more_data_never_costs_less,     speeds_count,
                                  large_teams_are_cheap};
    return plan_run("choose", NULL, tests, sizeof(tests) / sizeof(tests[0]));
}
