/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier and the simulated executor against each other: the plans of every algorithm with one thing changed. What
 * the verifier still accepts has to compute the right result, in whatever order. (The reverse cannot be asked: a wrong
 * plan may be lucky.) Most changes have to be refused, or the tests of the algorithms would prove nothing.
 */
#include "config.h"
#include "tests/plan/run.h"
#include <stdio.h>

enum { SEEDS = 4, RANKS = 6 };

static uint32_t draw(uint64_t *state, uint32_t below) { return (uint32_t)(sim_random(state) >> 33) % below; }

static void drop_dependency(struct mdl_plan *p, struct mdl_inst *in, uint64_t *state)
{
    uint32_t k = in->dep + draw(state, in->ndep);
    p->deps[k] = p->deps[in->dep + in->ndep - 1];
    in->ndep--;
}

static void swap_sources(struct mdl_plan *p, struct mdl_inst *in, uint64_t *state)
{
    uint32_t a = in->src + draw(state, in->nsrc - 1);
    struct mdl_ref first = p->refs[a];
    p->refs[a] = p->refs[a + 1];
    p->refs[a + 1] = first;
}

/* Another part of the same slot everywhere in the instruction. */
static void shift_parts(struct mdl_plan *p, struct mdl_inst *in)
{
    uint32_t lo = (in->dst.lo + 1) % p->parts;
    in->dst.lo = lo, in->dst.hi = lo + 1;
    for (uint32_t k = 0; k < in->nsrc; k++) p->refs[in->src + k].lo = lo, p->refs[in->src + k].hi = lo + 1;
}

/* Changes one thing; false: this draw found nothing to change. */
static bool mutate(struct mdl_plan *p, uint64_t *state)
{
    if (!p->ninsts) return false;
    struct mdl_inst *in = &p->insts[draw(state, p->ninsts)];
    bool reduce = in->op == MDL_OP_REDUCE, local = reduce || in->op == MDL_OP_COPY;
    switch (draw(state, 5)) {
    case 0:
        if (in->ndep) return drop_dependency(p, in, state), true;
        return false;
    case 1:
        if (reduce && in->flags & MDL_INST_FINAL) return in->flags &= (uint8_t)~MDL_INST_FINAL, true;
        return false;
    case 2:
        if (reduce && in->nsrc > 1) return swap_sources(p, in, state), true;
        return false;
    case 3:
        if (local && p->parts > 1 && in->dst.slots == 1 && in->dst.hi == in->dst.lo + 1)
            return shift_parts(p, in), true;
        return false;
    default:
        if (local && in->nsrc) return p->refs[in->src].slot = (p->refs[in->src].slot + 1) % 4, true;
        return false;
    }
}

struct score {
    int refused, accepted;
};

static void judge(const struct call *call, const char *algo, struct mdl_plan **plans, struct score *score)
{
    char why[1024] = "";
    if (mdl_plan_verify(call->s.team, &call->s.c, plans, why, sizeof(why)) != medleySuccess) {
        score->refused++;
        return;
    }
    score->accepted++;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim s = call->s;
        s.seed += seed << 32;
        ck_assert_msg(sim_run_plans(&s, plans, why, sizeof(why)), "%s: %s: accepted by the verifier, but %s", algo,
                      call->name, why);
    }
}

static void try(const struct mdl_algo *algo, struct team *team, medleyColl_t coll, uint64_t seed, struct score *score)
{
    struct call call;
    struct mdl_plan *plans[RANKS] = {NULL};
    call_draw(&call, team, coll, seed);
    call.s.c.count = coll == medleyCollBarrier ? 0 : 100;
    call.s.rough = false;
    int n = team->t.nranks;
    for (int r = 0; r < n && algo->fits(&team->t, &call.s.c); r++)
        ck_assert_int_eq(mdl_algo_plan(algo, &team->t, &call.s.c, r, &plans[r]), medleySuccess);
    if (plans[0] && mutate(plans[draw(&seed, (uint32_t)n)], &seed)) judge(&call, algo->name, plans, score);
    for (int r = 0; r < n; r++)
        if (plans[r]) mdl_plan_free(plans[r]);
    call_fini(&call);
}

START_TEST(what_is_accepted_is_right)
{
    const struct mdl_algo *algo = mdl_algos[_i];
    struct score score = {0};
    for (int n = 2; n <= RANKS; n++)
        for (int place = 0; place < PLACEMENTS; place++) {
            struct team *team = team_new(n, (enum placement)place);
            for (int coll = 0; coll < medleyNumColls; coll++)
                for (int k = 0; algo->colls >> coll & 1 && k < (plan_full() ? 400 : 12); k++)
                    try(algo, team, (medleyColl_t)coll,
                        (uint64_t)(((n * PLACEMENTS + place) * medleyNumColls + coll) * 1000 + k) + 77, &score);
            team_free(team);
        }
    ck_assert_msg(score.refused > 20 && score.refused > score.accepted, "%s: %d refused, %d accepted", algo->name,
                  score.refused, score.accepted);
}
END_TEST

int main(void) { return plan_run("agree", what_is_accepted_is_right, NULL, 0); }
