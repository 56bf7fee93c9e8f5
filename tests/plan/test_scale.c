/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large teams. Logarithmic algorithms are proved by the verifier up to 4,096 ranks. A ring of that size has 80 million
 * instructions: its plans are streamed, a few neighbours at a time, and what one sends must be what the next expects.
 */
#include "config.h"
#include "tests/plan/run.h"
#include <stdio.h>

struct big {
    const char *algo;
    medleyColl_t coll;
    int most; /* ranks without MDL_PLAN_FULL */
};

static const struct big logarithmic[] = {
    {"recdbl", medleyCollAllReduce, 512},       {"recdbl", medleyCollBarrier, 4096},
    {"rabenseifner", medleyCollAllReduce, 400}, {"rabenseifner", medleyCollReduce, 512},
    {"binomial", medleyCollBroadcast, 4096},    {"binomial", medleyCollReduce, 4096},
    {"binomial", medleyCollGather, 600},        {"binomial", medleyCollScatter, 600},
    {"binomial", medleyCollBarrier, 4096},      {"dbtree", medleyCollAllReduce, 4096},
    {"dbtree", medleyCollBroadcast, 4096},      {"dbtree", medleyCollReduce, 4095},
    {"recdbl", medleyCollAllGather, 256},       {"bruck", medleyCollAllGather, 300},
    {"hier", medleyCollAllReduce, 256},         {"hier", medleyCollBarrier, 4096},
};

static struct mdl_collective call_of(medleyColl_t coll, int n, bool deterministic)
{
    bool rooted = coll == medleyCollReduce || coll == medleyCollBroadcast || coll == medleyCollGather ||
                  coll == medleyCollScatter;
    return (struct mdl_collective){.coll = coll,
                                   .dtype = medleyFloat16,
                                   .op = medleyAvg,
                                   .deterministic = deterministic,
                                   .root = rooted ? n / 3 : -1,
                                   .count = coll == medleyCollBarrier ? 0 : 5000};
}

static void prove(const struct big *b, struct team *team, bool deterministic)
{
    int n = team->t.nranks;
    const struct mdl_algo *algo = mdl_algo_find(b->algo);
    struct mdl_collective c = call_of(b->coll, n, deterministic);
    char why[1024] = "";
    if (!algo->fits(&team->t, &c)) return;
    struct mdl_plan **plans = calloc((size_t)n, sizeof(*plans));
    for (int r = 0; r < n; r++)
        ck_assert_msg(mdl_algo_plan(algo, &team->t, &c, r, &plans[r]) == medleySuccess, "%s", mdl_error_text());
    ck_assert_msg(mdl_plan_verify(&team->t, &c, plans, why, sizeof(why)) == medleySuccess, "%s of %d: %s", b->algo, n,
                  why);
    for (int r = 0; r < n; r++) mdl_plan_free(plans[r]);
    free(plans);
}

START_TEST(logarithmic_algorithms_are_proved)
{
    for (size_t i = 0; i < sizeof(logarithmic) / sizeof(logarithmic[0]); i++) {
        int n = plan_full() ? 4096 : logarithmic[i].most;
        enum placement place = i % 2 ? PLACE_SCATTERED : PLACE_EIGHTS;
        for (int k = 0; k < 2; k++) {
            struct team *team = team_new(n - k * 3, place);
            prove(&logarithmic[i], team,
                  k == 0 && mdl_collective_reduces(&(struct mdl_collective){.coll = logarithmic[i].coll}));
            team_free(team);
        }
    }
}
END_TEST

/* Wide folds: more sources than a kernel takes, in every way that an algorithm can come by them. */
START_TEST(wide_folds_are_proved)
{
    static const struct big wide[] = {{"oneshot", medleyCollAllReduce, 0},
                                      {"staged", medleyCollReduceScatter, 0},
                                      {"pairwise", medleyCollReduce, 0},
                                      {"staged", medleyCollAllReduce, 0},
                                      {"direct", medleyCollReduceScatterV, 0}};
    static const int sizes[] = {65, 127, 130, 66, 200};
    for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++)
        for (size_t k = 0; k < (plan_full() ? 5 : 2); k++) {
            struct team *team = team_new(sizes[(i + k) % 5], PLACE_ONE);
            team->t.remote_get = true;
            prove(&wide[i], team, true);
            prove(&wide[i], team, false);
            team_free(team);
        }
}
END_TEST

/* Two lists of messages: what rank a sends to b, and what b expects of a. */
static void check_neighbours(const struct mdl_plan *from, int a, const struct mdl_plan *to, int b)
{
    uint32_t j = 0, messages = 0;
    for (uint32_t i = 0; i < from->ninsts; i++) {
        const struct mdl_inst *send = &from->insts[i];
        if (send->op != MDL_OP_SEND || send->peer != (uint32_t)b) continue;
        while (j < to->ninsts && (to->insts[j].op != MDL_OP_RECV || to->insts[j].peer != (uint32_t)a)) j++;
        ck_assert_msg(j < to->ninsts, "rank %d expects fewer messages of rank %d than it sends", b, a);
        const struct mdl_ref *src = &from->refs[send->src], *dst = &to->insts[j++].dst;
        ck_assert_uint_eq(src->lo, dst->lo);
        ck_assert_uint_eq(src->hi, dst->hi);
        ck_assert_uint_eq(src->acc, dst->acc);
        messages++;
    }
    for (; j < to->ninsts; j++) ck_assert(to->insts[j].op != MDL_OP_RECV || to->insts[j].peer != (uint32_t)a);
    ck_assert_uint_eq(messages, 2 * ((uint32_t)from->parts - 1));
}

START_TEST(a_ring_is_streamed)
{
    int n = plan_full() ? 4096 : 512, step = plan_full() ? 64 : 101;
    struct team *team = team_new(n, PLACE_ONE);
    struct mdl_collective c = call_of(medleyCollAllReduce, n, false);
    const struct mdl_algo *ring = mdl_algo_find("ring");
    for (int r = 0; r < n; r += step) {
        struct mdl_plan *a, *b;
        ck_assert_int_eq(mdl_algo_plan(ring, &team->t, &c, r, &a), medleySuccess);
        ck_assert_int_eq(mdl_algo_plan(ring, &team->t, &c, (r + 1) % n, &b), medleySuccess);
        check_neighbours(a, r, b, (r + 1) % n);
        mdl_plan_free(a);
        mdl_plan_free(b);
    }
    team_free(team);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {logarithmic_algorithms_are_proved, wide_folds_are_proved, a_ring_is_streamed};
    return plan_run("scale", NULL, tests, sizeof(tests) / sizeof(tests[0]));
}
