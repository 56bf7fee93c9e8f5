/* SPDX-License-Identifier: Apache-2.0 */
/* Every algorithm with every collective that it claims passes the verifier: ranks from 1 to 64 in every placement, the
 * rest of the call drawn. MDL_PLAN_FULL=1 draws more and leaves no number of ranks out. */
#include "config.h"
#include "tests/plan/run.h"

static void try(const struct mdl_algo *algo, struct team *team, medleyColl_t coll, uint64_t seed, int *ran)
{
    struct call call;
    char why[1024] = "";
    struct mdl_plan *plans[64] = {NULL};
    call_draw(&call, team, coll, seed);
    if (algo->fits(&team->t, &call.s.c)) {
        for (int r = 0; r < team->t.nranks; r++)
            ck_assert_msg(mdl_algo_plan(algo, &team->t, &call.s.c, r, &plans[r]) == medleySuccess, "%s: %s: %s",
                          algo->name, call.name, mdl_error_text());
        for (int r = 1; r < team->t.nranks && coll != medleyCollBarrier; r++)
            ck_assert_msg(plans[r]->scratch_slots == plans[0]->scratch_slots,
                          "%s: %s: SCRATCH of ranks 0 and %d: %u, %u", algo->name, call.name, r,
                          plans[0]->scratch_slots, plans[r]->scratch_slots);
        ck_assert_msg(mdl_plan_verify(&team->t, &call.s.c, plans, why, sizeof(why)) == medleySuccess, "%s: %s: %s",
                      algo->name, call.name, why);
        for (int r = 0; r < team->t.nranks; r++) mdl_plan_free(plans[r]);
        ++*ran;
    }
    call_fini(&call);
}

static int draws_for(int n) { return plan_full() ? 40 : n <= 9 ? 5 : 1; }

static bool wanted(int n)
{
    return plan_full() || n <= 9 || n == 16 || n == 17 || n == 23 || n == 32 || n == 33 || n == 64;
}

START_TEST(is_proved)
{
    const struct mdl_algo *algo = mdl_algos[_i];
    int ran = 0;
    for (int n = 1; n <= 64; n++)
        for (int place = 0; wanted(n) && place < PLACEMENTS; place++) {
            struct team *team = team_new(n, (enum placement)place);
            for (int coll = 0; coll < medleyNumColls; coll++)
                for (int k = 0; algo->colls >> coll & 1 && k < draws_for(n); k++)
                    try(algo, team, (medleyColl_t)coll,
                        (uint64_t)(((n * PLACEMENTS + place) * medleyNumColls + coll) * 1000 + k), &ran);
            team_free(team);
        }
    ck_assert_int_gt(ran, 50);
}
END_TEST

int main(void) { return plan_run("verify", is_proved, NULL, 0); }
