/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the verifier sharp? Plans that are right are changed in one place.
 *
 * Changes that can never be harmless must be refused, each one, at every place. Where a change may be harmless (a
 * dependency that something else implies), the simulator has to agree.
 */
#include "config.h"
#include "tests/unit/plan_sim.h"
#include <stdio.h>

static struct call call;

/* The unchanged plans are right, says the simulator too: it is itself tested so. */
START_TEST(originals_run)
{
    for (int k = 0; k < CALL_SETTINGS; k++) {
        char why[256];
        call_setup(&call, &call_settings[k]);
        call_accept(&call);
        for (uint64_t seed = 0; seed < 200; seed++)
            ck_assert_msg(sim_run(&call, seed, why, sizeof(why)), "%s, seed %llu: %s", call_settings[k].name,
                          (unsigned long long)seed, why);
        call_free(&call);
    }
}
END_TEST

/* ---- changes that are never harmless ---- */

/* Changes the plan at instruction `inst`, in its k-th way; false: there is no such way. *harmless: it may be accepted.
 */
typedef bool (*change)(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless);

static bool drop_inst(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    if (k) return false;
    edit_drop(p, inst);
    return true;
}

static bool change_peer(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    struct mdl_inst *in = &p->insts[inst];
    if (in->op == MDL_OP_COPY || in->op == MDL_OP_REDUCE || k + 1 >= (uint32_t)call.team.nranks) return false;
    in->peer = (in->peer + k + 1) % (uint32_t)call.team.nranks;
    return true;
}

static bool change_channel(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    struct mdl_inst *in = &p->insts[inst];
    if (in->op == MDL_OP_COPY || in->op == MDL_OP_REDUCE || k > 1) return false;
    if (k) p->channels++; /* so that it is the match that fails */
    in->channel++;
    return true;
}

static bool change_slot(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    struct mdl_ref *ref = edit_ref(p, inst, k / 2);
    if (!ref) return false;
    ref->slot += k % 2 ? 1 : UINT32_MAX;
    return call.coll.coll != medleyCollBarrier || ref->slot >= p->scratch_slots;
}

static bool change_parts(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    struct mdl_ref *ref = edit_ref(p, inst, k / 4);
    if (!ref) return false;
    if (k % 4 == 0) ref->lo++;
    if (k % 4 == 1) ref->hi--;
    if (k % 4 == 2) ref->lo--;
    if (k % 4 == 3) ref->hi++;
    return true;
}

static bool change_buffer(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    struct mdl_ref *ref = edit_ref(p, inst, k / 2);
    if (!ref) return false;
    bool root_copy = call.coll.coll == medleyCollBroadcast && p->insts[inst].op == MDL_OP_SEND;
    uint8_t was = ref->buf;
    ref->buf = (uint8_t)((ref->buf + k % 2 + 1) % 3);
    /* The rank's own block of an AllGather is in IN and OUT alike. */
    *harmless = root_copy || (call.coll.coll == medleyCollAllGather && was == MDL_OUT && ref->buf == MDL_IN);
    /* The one-shot's own contribution is still in IN. */
    *harmless |= strcmp(call.name, "oneshot") == 0 && was == MDL_SCRATCH && ref->buf == MDL_IN;
    return true;
}

static bool change_acc(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    struct mdl_ref *ref = edit_ref(p, inst, k);
    if (!ref) return false;
    ref->acc = !ref->acc;
    return true;
}

static bool change_final(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    if (k) return false;
    p->insts[inst].flags ^= MDL_INST_FINAL;
    return true;
}

static bool double_source(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    const struct mdl_inst *in = &p->insts[inst];
    if (k >= in->nsrc) return false;
    edit_add_source(p, inst, p->refs[in->src + k]);
    return true;
}

static bool drop_source(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    if (k >= p->insts[inst].nsrc) return false;
    edit_drop_source(p, inst, k);
    return true;
}

static bool replace_source(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    const struct mdl_inst *in = &p->insts[inst];
    if (in->nsrc < 2 || k >= in->nsrc) return false;
    p->refs[in->src + k] = p->refs[in->src + (k + 1) % in->nsrc];
    return true;
}

static bool change_rank(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    struct mdl_ref *ref = edit_ref(p, inst, k);
    if (!ref) return false;
    ref->rank = (ref->rank + 1) % (uint32_t)call.team.nranks;
    /* The one-shot's contributions are in every rank's SCRATCH, and that needs no release. */
    *harmless = strcmp(call.name, "oneshot") == 0 && ref->buf == MDL_SCRATCH && p->insts[inst].op == MDL_OP_REDUCE;
    return true;
}

static bool forget_flag(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    if (inst || k >= 4 || !(p->flags & 1u << k)) return false;
    p->flags ^= 1u << k;
    return true;
}

/* Two messages of one lane in the other order. */
static bool swap_lane(struct mdl_plan *p, uint32_t inst, uint32_t k, bool *harmless)
{
    struct mdl_inst *a = &p->insts[inst];
    for (uint32_t j = inst + 1; j < p->ninsts; j++) {
        struct mdl_inst *b = &p->insts[j];
        if (b->op != a->op || b->peer != a->peer || b->channel != a->channel || k--) continue;
        if (a->op == MDL_OP_SEND) {
            struct mdl_ref t = p->refs[a->src];
            p->refs[a->src] = p->refs[b->src];
            p->refs[b->src] = t;
        } else if (a->op == MDL_OP_RECV) {
            struct mdl_ref t = a->dst;
            a->dst = b->dst;
            b->dst = t;
        } else {
            return false;
        }
        return true;
    }
    return false;
}

/* Applies one change at every place of every rank's plan; returns how many were accepted though none may be. */
static void refuse_everywhere(const char *what, change apply)
{
    for (int k = 0; k < CALL_SETTINGS; k++) {
        call_setup(&call, &call_settings[k]);
        for (int r = 0; r < call.team.nranks; r++) {
            struct mdl_plan *right = call.plans[r];
            for (uint32_t i = 0; i < right->ninsts; i++)
                for (uint32_t way = 0; way < 64; way++) {
                    bool harmless = false;
                    char why[512];
                    call.plans[r] = plan_copy(right);
                    bool changed = apply(call.plans[r], i, way, &harmless);
                    if (changed && !harmless)
                        ck_assert_msg(!call_accepted(&call, why, sizeof(why)),
                                      "%s: %s, rank %d instruction %u, way %u accepted", call_settings[k].name, what, r,
                                      i, way);
                    mdl_plan_free(call.plans[r]);
                }
            call.plans[r] = right;
        }
        call_free(&call);
    }
}

#define REFUSE(name)                                                                                                   \
    START_TEST(refuse_##name) { refuse_everywhere(#name, name); }                                                      \
    END_TEST
REFUSE(drop_inst)
REFUSE(change_peer)
REFUSE(change_channel)
REFUSE(change_slot)
REFUSE(change_parts)
REFUSE(change_buffer)
REFUSE(change_acc)
REFUSE(change_final)
REFUSE(double_source)
REFUSE(drop_source)
REFUSE(replace_source)
REFUSE(change_rank)
REFUSE(forget_flag)
REFUSE(swap_lane)

/* ---- dependencies ---- */

struct tally {
    uint32_t tried, spare, seen; /* dependencies; those that the verifier can spare; faults that the simulator saw too
                                  */
};

/* Does the simulator see it go wrong in some order? */
static bool goes_wrong(char *why, size_t bytes)
{
    for (uint64_t seed = 0; seed < 60; seed++)
        if (!sim_run(&call, seed, why, bytes)) return true;
    return false;
}

static void drop_dep(int rank, uint32_t inst, uint32_t k, struct tally *t)
{
    struct mdl_plan *right = call.plans[rank];
    char why[512];
    call.plans[rank] = plan_copy(right);
    edit_drop_dep(call.plans[rank], inst, k);
    bool spare = call_accepted(&call, why, sizeof(why)), wrong = goes_wrong(why, sizeof(why));
    ck_assert_msg(!spare || !wrong, "%s: rank %d instruction %u without dependency %u was accepted: %s", call.name,
                  rank, inst, k, why);
    t->tried++;
    t->spare += spare;
    t->seen += wrong;
    mdl_plan_free(call.plans[rank]);
    call.plans[rank] = right;
}

/* A dependency may be dropped without harm only if something else keeps the order. Plans over messages have none to
 * spare: there the builder adds just what is needed. */
START_TEST(dropped_deps)
{
    struct tally all = {0};
    for (int s = 0; s < CALL_SETTINGS; s++) {
        struct tally t = {0};
        call_setup(&call, &call_settings[s]);
        for (int r = 0; r < call.team.nranks; r++)
            for (uint32_t i = 0; i < call.plans[r]->ninsts; i++)
                for (uint32_t k = 0; k < call.plans[r]->insts[i].ndep; k++) drop_dep(r, i, k, &t);
        printf("%s: %u dependencies, %u to spare; the simulator saw %u go wrong\n", call.name, t.tried, t.spare,
               t.seen);
        bool messages = strcmp(call.name, "ring") == 0 || call.coll.coll == medleyCollAlltoAll ||
                        call.coll.coll == medleyCollAllGather;
        if (messages) ck_assert_uint_eq(t.spare, 0);
        all.tried += t.tried;
        all.spare += t.spare;
        all.seen += t.seen;
        call_free(&call);
    }
    /* The judge is not blind. (A race on data that nobody looks at, in a barrier, does no harm that it could see.) */
    ck_assert_uint_gt(all.seen, (all.tried - all.spare) / 2);
}
END_TEST

UNIT_MAIN("plan mutations", originals_run, refuse_drop_inst, refuse_change_peer, refuse_change_channel,
          refuse_change_slot, refuse_change_parts, refuse_change_buffer, refuse_change_acc, refuse_change_final,
          refuse_double_source, refuse_drop_source, refuse_replace_source, refuse_change_rank, refuse_forget_flag,
          refuse_swap_lane, dropped_deps)
