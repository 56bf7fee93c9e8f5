/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the verifier right? Plans are changed at random in one place or several, and what the verifier still accepts must
 * run right in the simulator, in every order tried. The plans are hand-built ones and those of all algorithms.
 *
 * MDL_TEST_SEED and MDL_TEST_ROUNDS repeat or lengthen a run.
 */
#include "config.h"
#include "tests/unit/plan_sim.h"
#include <stdio.h>

static struct call call;
static uint64_t seed_now;
static uint32_t pick(uint32_t n) { return n ? (uint32_t)(sim_random(&seed_now) % n) : 0; }

static void random_ref(struct mdl_plan *p, uint32_t inst)
{
    struct mdl_ref *ref = edit_ref(p, inst, pick(p->insts[inst].nsrc + 1));
    if (!ref) return;
    switch (pick(6)) {
    case 0: ref->slot = pick(p->scratch_slots + 3); break;
    case 1: ref->lo = pick(p->parts), ref->hi = ref->lo + 1 + pick(p->parts - ref->lo); break;
    case 2: ref->buf = (uint8_t)pick(3); break;
    case 3: ref->rank = pick((uint32_t)call.team.nranks); break;
    case 4: ref->acc ^= 1; break;
    default: ref->slots = (uint16_t)(1 + pick(2));
    }
}

static void random_source(struct mdl_plan *p, uint32_t inst)
{
    struct mdl_inst *in = &p->insts[inst];
    if (!in->nsrc) return;
    uint32_t a = pick(in->nsrc), b = pick(in->nsrc);
    struct mdl_ref t = p->refs[in->src + a];
    switch (pick(3)) {
    case 0: edit_drop_source(p, inst, a); break;
    case 1: edit_add_source(p, inst, t); break;
    default: p->refs[in->src + a] = p->refs[in->src + b], p->refs[in->src + b] = t;
    }
}

/* Drops an instruction and, of a pair, the peer's that meets it: matching alone does not find that. */
static void random_drop(int rank, uint32_t inst)
{
    static const unsigned other[] = {[MDL_OP_SEND] = MDL_OP_RECV,
                                     [MDL_OP_RECV] = MDL_OP_SEND,
                                     [MDL_OP_SIGNAL] = MDL_OP_WAIT,
                                     [MDL_OP_WAIT] = MDL_OP_SIGNAL};
    struct mdl_inst gone = call.plans[rank]->insts[inst];
    edit_drop(call.plans[rank], inst);
    if (gone.op == MDL_OP_COPY || gone.op == MDL_OP_REDUCE || gone.peer >= (uint32_t)call.team.nranks) return;
    struct mdl_plan *peer = call.plans[gone.peer];
    uint32_t at = pick(peer->ninsts);
    for (uint32_t k = 0; k < peer->ninsts; k++, at = (at + 1) % peer->ninsts) {
        const struct mdl_inst *in = &peer->insts[at];
        if (in->op != other[gone.op] || in->peer != (uint32_t)rank || in->channel != gone.channel) continue;
        edit_drop(peer, at);
        return;
    }
}

static void random_deps(struct mdl_plan *p, uint32_t inst)
{
    struct mdl_inst *in = &p->insts[inst];
    if (pick(4) == 0)
        in->ndep = 0;
    else if (in->ndep && pick(4))
        edit_drop_dep(p, inst, pick(in->ndep));
    else if (in->ndep && inst)
        p->deps[in->dep + pick(in->ndep)] = pick(inst);
}

static void random_change(void)
{
    int r = (int)pick((uint32_t)call.team.nranks);
    struct mdl_plan *p = call.plans[r];
    if (!p->ninsts) return;
    uint32_t i = pick(p->ninsts);
    struct mdl_inst *in = &p->insts[i];
    switch (pick(9)) {
    case 0: random_ref(p, i); break;
    case 1: random_source(p, i); break;
    case 2: random_drop(r, i); break;
    case 3:
    case 4:
    case 5: random_deps(p, i); break;
    case 6:
        if (i + 1 < p->ninsts) edit_swap(p, i);
        break;
    case 7: in->flags ^= (uint8_t)(1u << pick(3)); break;
    default:
        if (pick(2))
            in->peer = pick((uint32_t)call.team.nranks);
        else
            in->op = (uint8_t)pick(6);
    }
}

/* Changes the plans of `call`; true: they are still right. */
static bool survives(uint64_t seed)
{
    char why[512];
    seed_now = seed;
    for (int r = 0; r < call.team.nranks; r++) edit_plan(&call, r);
    for (uint32_t k = 1 + pick(3); k; k--) random_change();
    if (!call_accepted(&call, why, sizeof(why))) return false;
    for (int run = 0; run < 20; run++)
        ck_assert_msg(sim_run(&call, sim_random(&seed_now), why, sizeof(why)),
                      "%s, MDL_TEST_SEED=%llu: accepted, but %s", call.name, (unsigned long long)seed, why);
    return true;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

START_TEST(hand_built)
{
    uint64_t seed = number("MDL_TEST_SEED", 20240601), rounds = number("MDL_TEST_ROUNDS", 300);
    printf("MDL_TEST_SEED=%llu\n", (unsigned long long)seed);
    for (int k = 0; k < CALL_SETTINGS; k++) {
        uint32_t right = 0;
        for (uint64_t round = 0; round < rounds; round++) {
            call_setup(&call, &call_settings[k]);
            right += survives(seed + round);
            call_free(&call);
        }
        printf("%s: %u of %llu changed plans are still right\n", call_settings[k].name, right,
               (unsigned long long)rounds);
    }
}
END_TEST

/* ---- all algorithms ---- */

/* A call that the algorithm fits, or false. Everything that matters to it is drawn. */
static bool draw_call(const struct mdl_algo *algo, medleyColl_t coll, uint64_t seed)
{
    static const char *const hosts[] = {"aa", "aaa", "aabb", "abab", "abc", "aaaab", "aaaa"};
    seed_now = seed;
    const char *where = hosts[pick(sizeof(hosts) / sizeof(*hosts))];
    bool rooted = coll == medleyCollReduce || coll == medleyCollBroadcast || coll == medleyCollGather ||
                  coll == medleyCollScatter;
    call_init(&call, where, coll, pick(2) ? medleyFloat16 : medleyFloat32,
              rooted ? (int)pick((uint32_t)strlen(where)) : -1);
    call.team.remote_scratch = pick(4);
    call.team.remote_get = pick(4);
    call.coll.facts.in_mapped = pick(2);
    call.coll.facts.out_mapped = pick(2);
    call.coll.facts.apart = pick(4) == 0;
    call.coll.premul = mdl_collective_reduces(&call.coll) && pick(4) == 0;
    call.coll.deterministic = pick(4) == 0;
    call.coll.count = mdl_collective_is_v(&call.coll) ? 0 : pick(2) ? 10 : 1000000;
    call.name = algo->name;
    return algo->fits(&call.team, &call.coll);
}

static bool algo_survives(const struct mdl_algo *algo, medleyColl_t coll, uint64_t seed, uint32_t *tried)
{
    char why[512];
    if (!draw_call(algo, coll, seed)) return false;
    for (int r = 0; r < call.team.nranks; r++)
        ck_assert_int_eq(mdl_algo_plan(algo, &call.team, &call.coll, r, &call.plans[r]), medleySuccess);
    if (seed % 8 == 0)
        ck_assert_msg(sim_run(&call, seed, why, sizeof(why)), "%s, MDL_TEST_SEED=%llu, unchanged: %s", algo->name,
                      (unsigned long long)seed, why);
    ++*tried;
    bool right = survives(seed);
    call_free(&call);
    return right;
}

START_TEST(algorithms)
{
    uint64_t seed = number("MDL_TEST_SEED", 20240601), rounds = number("MDL_TEST_ROUNDS", 60);
    for (const struct mdl_algo *const *algo = mdl_algos; *algo; algo++) {
        uint32_t right = 0, tried = 0;
        for (int coll = 0; coll <= medleyCollAlltoAllV; coll++)
            for (uint64_t round = 0; (*algo)->colls >> coll & 1 && round < rounds; round++)
                right += algo_survives(*algo, (medleyColl_t)coll, seed + round, &tried);
        printf("%s: %u of %u changed plans are still right\n", (*algo)->name, right, tried);
    }
}
END_TEST

UNIT_MAIN("plan fuzz", hand_built, algorithms)
