/* SPDX-License-Identifier: Apache-2.0 */
/* Every algorithm with every collective that it claims computes what the collective says, on real buffers: ranks from 1
 * to 64 in every placement, the rest of the call drawn. */
#include "config.h"
#include "tests/plan/run.h"

static void try(const struct mdl_algo *algo, struct team *team, medleyColl_t coll, uint64_t seed, int *ran)
{
    struct call call;
    char why[512] = "";
    call_draw(&call, team, coll, seed);
    if (algo->fits(&team->t, &call.s.c)) {
        ck_assert_msg(sim_run(&call.s, algo, why, sizeof(why)), "%s: %s: %s", algo->name, call.name, why);
        ++*ran;
    }
    call_fini(&call);
}

static int draws_for(int n) { return (plan_full() ? 400 : n <= 9 ? 12 : 2) * 4 / (4 + n / 8); }

static bool wanted(int n)
{
    return plan_full() || n <= 9 || n == 16 || n == 17 || n == 23 || n == 32 || n == 33 || n == 64;
}

START_TEST(computes_what_the_collective_says)
{
    const struct mdl_algo *algo = mdl_algos[_i];
    int ran[medleyNumColls] = {0};
    for (int n = 1; n <= 64; n++)
        for (int place = 0; wanted(n) && place < PLACEMENTS; place++) {
            struct team *team = team_new(n, (enum placement)place);
            for (int coll = 0; coll < medleyNumColls; coll++)
                for (int k = 0; algo->colls >> coll & 1 && k < draws_for(n); k++)
                    try(algo, team, (medleyColl_t)coll,
                        (uint64_t)(((n * PLACEMENTS + place) * medleyNumColls + coll) * 1000 + k), &ran[coll]);
            team_free(team);
        }
    for (int coll = 0; coll < medleyNumColls; coll++)
        if (algo->colls >> coll & 1)
            ck_assert_msg(ran[coll] > 10, "%s, collective %d: %d runs", algo->name, coll, ran[coll]);
}
END_TEST

int main(void) { return plan_run("sim", computes_what_the_collective_says, NULL, 0); }
