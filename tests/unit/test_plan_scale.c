/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier at size: logarithmic all-reduces of up to 4,096 ranks, each a host of its own, are proved in seconds,
 * and a fault in one instruction of one rank is still found. */
#include "config.h"
#include "lib/plan/plan.h"
#include "tests/unit/unit.h"
#include <stdio.h>
#include <time.h>

/* Sanitizers make it ten times slower and prove nothing more at full size. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LARGEST = 512 };
#else
enum { LARGEST = 4096 };
#endif

struct large {
    int n;
    int *host, *zeros, *ones, *rank;
    const int **members;
    struct mdl_team team;
    struct mdl_collective coll;
    struct mdl_plan **plans;
};

static struct large large;

static void large_init(int n)
{
    struct large *l = &large;
    l->n = n;
    l->host = calloc((size_t)n, sizeof(int));
    l->zeros = calloc((size_t)n, sizeof(int));
    l->ones = calloc((size_t)n, sizeof(int));
    l->rank = calloc((size_t)n, sizeof(int));
    l->members = calloc((size_t)n, sizeof(int *));
    l->plans = calloc((size_t)n, sizeof(*l->plans));
    for (int r = 0; r < n; r++) {
        l->host[r] = l->rank[r] = r;
        l->ones[r] = 1;
        l->members[r] = &l->rank[r];
    }
    l->team = (struct mdl_team){
        .nranks = n, .nhosts = n, .host = l->host, .local = l->zeros, .host_size = l->ones, .members = l->members};
    l->coll =
        (struct mdl_collective){.coll = medleyCollAllReduce, .dtype = medleyBfloat16, .op = medleySum, .root = -1};
}

static void large_fini(void)
{
    for (int r = 0; r < large.n; r++) mdl_plan_free(large.plans[r]);
    free(large.host);
    free(large.zeros);
    free(large.ones);
    free(large.rank);
    free(large.members);
    free(large.plans);
}

typedef void (*builder)(struct mdl_builder *b, int n, int rank);

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void large_build(const char *name, uint32_t parts, builder build)
{
    double begin = seconds();
    size_t insts = 0;
    for (int r = 0; r < large.n; r++) {
        struct mdl_builder *b = mdl_builder_new(&large.team, &large.coll, r, parts);
        build(b, large.n, r);
        ck_assert_int_eq(mdl_builder_finish(b, name, &large.plans[r]), medleySuccess);
        insts += large.plans[r]->ninsts;
    }
    printf("%s of %d ranks: %zu instructions, built in %.2f s", name, large.n, insts, seconds() - begin);
}

static bool large_verify(char *why, size_t bytes)
{
    double begin = seconds();
    bool right = mdl_plan_verify(&large.team, &large.coll, large.plans, why, bytes) == medleySuccess;
    printf(", verified in %.2f s\n", seconds() - begin);
    return right;
}

/* dst = a + b in rank order. */
static void add(struct mdl_builder *b, struct mdl_ref dst, struct mdl_ref mine, struct mdl_ref got, bool mine_first,
                uint32_t flags)
{
    struct mdl_ref src[] = {mine_first ? mine : got, mine_first ? got : mine};
    mdl_build_reduce(b, dst, src, 2, flags);
}

/* Whole vectors exchanged with rank ^ 1, rank ^ 2, ... */
static void doubling(struct mdl_builder *b, int n, int rank)
{
    struct mdl_ref sum = mdl_ref_slots(b, rank, MDL_IN, false, 0, 1);
    for (int k = 1; k < n; k *= 2) {
        bool acc = k > 1, last = 2 * k >= n;
        uint32_t s = mdl_builder_scratch(b, 2);
        struct mdl_ref got = mdl_ref_slots(b, rank, MDL_SCRATCH, acc, s, 1), mine = sum;
        mdl_build_send(b, rank ^ k, 0, mine);
        mdl_build_recv(b, rank ^ k, 0, got);
        sum = last ? mdl_ref_slots(b, rank, MDL_OUT, false, 0, 1) : mdl_ref_slots(b, rank, MDL_SCRATCH, true, s + 1, 1);
        add(b, sum, mine, got, rank < (rank ^ k), last ? MDL_INST_FINAL : 0);
    }
}

/* Halves of halves are exchanged and added, then the sums come back the same way: n parts. */
static void halving(struct mdl_builder *b, int n, int rank)
{
    uint32_t lo = 0, hi = (uint32_t)n, got = mdl_builder_scratch(b, 3), sum = got + 2;
    for (int k = n / 2; k; k /= 2) {
        uint32_t mid = (lo + hi) / 2;
        bool upper = rank & k, first = k == n / 2;
        struct mdl_ref give = first ? mdl_ref_parts(rank, MDL_IN, false, 0, upper ? lo : mid, upper ? mid : hi)
                                    : mdl_ref_parts(rank, MDL_SCRATCH, true, sum, upper ? lo : mid, upper ? mid : hi);
        lo = upper ? mid : lo;
        hi = upper ? hi : mid;
        struct mdl_ref take = mdl_ref_parts(rank, MDL_SCRATCH, !first, first ? got : got + 1, lo, hi);
        struct mdl_ref mine =
            first ? mdl_ref_parts(rank, MDL_IN, false, 0, lo, hi) : mdl_ref_parts(rank, MDL_SCRATCH, true, sum, lo, hi);
        mdl_build_send(b, rank ^ k, 0, give);
        mdl_build_recv(b, rank ^ k, 0, take);
        struct mdl_ref dst = k == 1 ? mdl_ref_parts(rank, MDL_OUT, false, 0, lo, hi)
                                    : mdl_ref_parts(rank, MDL_SCRATCH, true, sum, lo, hi);
        add(b, dst, mine, take, !upper, k == 1 ? MDL_INST_FINAL : 0);
    }
    for (int k = 1; k < n; k *= 2) {
        uint32_t width = hi - lo;
        mdl_build_send(b, rank ^ k, 0, mdl_ref_parts(rank, MDL_OUT, false, 0, lo, hi));
        uint32_t other = rank & k ? lo - width : hi;
        mdl_build_recv(b, rank ^ k, 0, mdl_ref_parts(rank, MDL_OUT, false, 0, other, other + width));
        lo = other < lo ? other : lo;
        hi = lo + 2 * width;
    }
}

static void prove(int n, const char *name, bool in_parts, builder build)
{
    char why[512];
    large_init(n);
    large_build(name, in_parts ? (uint32_t)n : 1, build);
    bool right = large_verify(why, sizeof(why));
    ck_assert_msg(right, "%s", why);
    struct mdl_plan *p = large.plans[n / 3];
    for (uint32_t i = p->ninsts; i-- > 0;)
        if (p->insts[i].op == MDL_OP_REDUCE) {
            p->refs[p->insts[i].src] = p->refs[p->insts[i].src + 1];
            break;
        }
    printf("  with one source doubled");
    right = large_verify(why, sizeof(why));
    ck_assert_msg(!right, "a doubled source went unseen");
    ck_assert_msg(strstr(why, "twice") || strstr(why, "lacks"), "%s", why);
    large_fini();
}

START_TEST(doubling_is_proved)
{
    prove(64, "doubling", false, doubling);
    prove(LARGEST / 4, "doubling", false, doubling);
    prove(LARGEST, "doubling", false, doubling);
}
END_TEST

START_TEST(halving_is_proved)
{
    prove(64, "halving", true, halving);
    prove(LARGEST / 4, "halving", true, halving);
    prove(LARGEST, "halving", true, halving);
}
END_TEST

UNIT_MAIN("plan scale", doubling_is_proved, halving_is_proved)
