/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier's frame: each plan by itself, then the steps that look at all of them together. */
#include "config.h"
#include "lib/plan/rules.h"
#include "lib/plan/verify.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

medleyResult_t mdl_verify_fail(struct mdl_verify *v, uint32_t inst, const char *fmt, ...)
{
    char text[384];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    const char *coll = mdl_coll_name(v->coll->coll), *algo = v->plans[0]->algo ? v->plans[0]->algo : "?";
    if (!v->why_bytes) return medleyInternalError;
    if (inst == MDL_NO_DEP)
        snprintf(v->why, v->why_bytes, "%s of %u ranks, %s: %s", coll, v->n, algo, text);
    else
        snprintf(v->why, v->why_bytes, "%s of %u ranks, %s: rank %u instruction %u (%s): %s", coll, v->n, algo,
                 v->rank_of[inst], inst - v->first[v->rank_of[inst]], mdl_opcode_name(mdl_verify_inst(v, inst)->op),
                 text);
    return medleyInternalError;
}

medleyResult_t mdl_verify_memory(struct mdl_verify *v)
{
    if (v->why_bytes) snprintf(v->why, v->why_bytes, "out of memory while verifying %u ranks", v->n);
    return mdl_error(medleySystemError, "out of memory while verifying the plans of %u ranks", v->n);
}

/* ---- each plan by itself ---- */

static medleyResult_t check_header(struct mdl_verify *v, uint32_t rank)
{
    const struct mdl_plan *p = v->plans[rank];
    uint32_t in, out;
    mdl_collective_slots(v->coll, (int)v->n, &in, &out);
    if (p->in_slots != in || p->out_slots != out)
        return mdl_verify_fail(v, MDL_NO_DEP, "rank %u has %u and %u slots instead of %u and %u", rank, p->in_slots,
                               p->out_slots, in, out);
    if (p->parts != v->parts)
        return mdl_verify_fail(v, MDL_NO_DEP, "rank %u has %u parts, rank 0 has %u", rank, p->parts, v->parts);
    if (!(p->flags & MDL_PLAN_WHOLE) == v->whole)
        return mdl_verify_fail(v, MDL_NO_DEP, "rank %u and rank 0 differ in MDL_PLAN_WHOLE: see mdl_builder_whole",
                               rank);
    return medleySuccess;
}

static uint32_t ref_flags(uint32_t rank, const struct mdl_ref *ref)
{
    static const uint32_t flag[] = {
        [MDL_IN] = MDL_PLAN_REMOTE_IN, [MDL_OUT] = MDL_PLAN_REMOTE_OUT, [MDL_SCRATCH] = MDL_PLAN_REMOTE_SCRATCH};
    return (ref->rank == rank ? 0 : flag[ref->buf]) | (ref->slots > 1 ? MDL_PLAN_WHOLE : 0);
}

static medleyResult_t check_ref(struct mdl_verify *v, uint32_t inst, const struct mdl_ref *ref)
{
    const struct mdl_plan *p = v->plans[v->rank_of[inst]];
    char name[MDL_REF_TEXT_BYTES];
    uint32_t have = v->plans[ref->rank]->scratch_slots, need = ref_flags(v->rank_of[inst], ref);
    bool inside = ref->buf != MDL_SCRATCH || (ref->slot < have && ref->slots <= have - ref->slot);
    if (inside && (p->flags & need) == need) return medleySuccess;
    mdl_ref_format(ref, v->parts, name, sizeof(name));
    if (!inside) return mdl_verify_fail(v, inst, "%s: slot out of range (of %u)", name, have);
    return mdl_verify_fail(v, inst, "%s: the plan lacks the flags %u", name, need);
}

static medleyResult_t check_inst(struct mdl_verify *v, const struct mdl_rules *rules, uint32_t inst)
{
    const struct mdl_plan *p = v->plans[rules->rank];
    const struct mdl_inst *in = mdl_verify_inst(v, inst);
    if (in->src > p->nrefs || in->nsrc > p->nrefs - in->src)
        return mdl_verify_fail(v, inst, "sources %u + %u of %u", in->src, in->nsrc, p->nrefs);
    if (in->dep > p->ndeps || in->ndep > p->ndeps - in->dep)
        return mdl_verify_fail(v, inst, "dependencies %u + %u of %u", in->dep, in->ndep, p->ndeps);
    for (uint32_t k = 0; k < in->ndep; k++)
        if (p->deps[in->dep + k] >= inst - v->first[rules->rank])
            return mdl_verify_fail(v, inst, "depends on instruction %u, which is not before it", p->deps[in->dep + k]);
    char text[256];
    if (!mdl_rules_check(rules, in, p->refs + in->src, text, sizeof(text))) return mdl_verify_fail(v, inst, "%s", text);
    bool copies = in->op == MDL_OP_COPY || in->op == MDL_OP_REDUCE;
    if (!copies && in->channel >= p->channels)
        return mdl_verify_fail(v, inst, "channel %u of a plan of %u", in->channel, p->channels);
    for (uint32_t k = 0; k < in->nsrc; k++) MDL_TRY(check_ref(v, inst, &p->refs[in->src + k]));
    return copies || in->op == MDL_OP_RECV ? check_ref(v, inst, &in->dst) : medleySuccess;
}

static medleyResult_t check_plan(struct mdl_verify *v, uint32_t rank)
{
    const struct mdl_plan *p = v->plans[rank];
    struct mdl_rules rules = {.team = v->team,
                              .coll = v->coll,
                              .rank = rank,
                              .parts = v->parts,
                              .in_slots = p->in_slots,
                              .out_slots = p->out_slots,
                              .scratch_slots = p->scratch_slots};
    MDL_TRY(check_header(v, rank));
    for (uint32_t i = v->first[rank]; i < v->first[rank + 1]; i++) MDL_TRY(check_inst(v, &rules, i));
    return medleySuccess;
}

/* ---- all together ---- */

enum { MODES = 4 };

const char *mdl_verify_mode_name(uint8_t mode)
{
    static const char *const names[MODES] = {"out of place", "in place", "some ranks in place", "some ranks in place"};
    return names[mode];
}

/* Every mix is legal; none, all and two pseudo-random ones stand for the rest. */
static bool mode_in_place(uint8_t mode, uint32_t rank)
{
    if (mode < 2) return mode == 1;
    return ((rank + 1) * 0x9e3779b1u >> (27 + mode) & 1) != (rank & 1 && mode == 2);
}

static bool aliases(const struct mdl_verify *v)
{
    uint32_t in, out;
    if (v->coll->facts.apart) return false;
    mdl_collective_slots(v->coll, (int)v->n, &in, &out);
    for (uint32_t r = 0; r < v->n; r++)
        for (uint32_t s = 0; s < out; s++)
            if (mdl_collective_alias(v->coll, (int)r, s) != MDL_NO_SLOT) return true;
    return false;
}

static medleyResult_t run_modes(struct mdl_verify *v)
{
    bool *in_place = calloc(v->n, sizeof(*in_place));
    if (!in_place) return mdl_verify_memory(v);
    medleyResult_t result = medleySuccess;
    uint8_t modes = !aliases(v) ? 1 : v->n > 1 && v->coll->root < 0 ? MODES : 2;
    for (uint8_t m = 0; m < modes && result == medleySuccess; m++) {
        for (uint32_t r = 0; r < v->n; r++) in_place[r] = mode_in_place(m, r);
        result = mdl_verify_run(v, m, in_place);
    }
    free(in_place);
    return result;
}

static medleyResult_t number_insts(struct mdl_verify *v)
{
    v->first = calloc(v->n + 1, sizeof(*v->first));
    if (!v->first) return mdl_verify_memory(v);
    for (uint32_t r = 0; r < v->n; r++) {
        if (v->plans[r]->ninsts > UINT32_MAX / 8 - v->first[r])
            return mdl_verify_fail(v, MDL_NO_DEP, "more instructions than the verifier can number");
        v->first[r + 1] = v->first[r] + v->plans[r]->ninsts;
    }
    v->total = v->first[v->n];
    v->rank_of = malloc(((size_t)v->total + 1) * sizeof(*v->rank_of));
    if (!v->rank_of) return mdl_verify_memory(v);
    for (uint32_t r = 0; r < v->n; r++)
        for (uint32_t i = v->first[r]; i < v->first[r + 1]; i++) v->rank_of[i] = r;
    return medleySuccess;
}

static medleyResult_t verify(struct mdl_verify *v)
{
    MDL_TRY(number_insts(v));
    for (uint32_t r = 0; r < v->n; r++) MDL_TRY(check_plan(v, r));
    MDL_TRY(mdl_verify_match(v));
    MDL_TRY(mdl_verify_local(v));
    MDL_TRY(mdl_verify_graph(v));
    if (v->coll->coll == medleyCollBarrier) MDL_TRY(mdl_verify_barrier(v));
    MDL_TRY(mdl_values_new(v));
    MDL_TRY(run_modes(v));
    return mdl_verify_demands(v);
}

static void verify_fini(struct mdl_verify *v)
{
    mdl_values_free(v->values);
    mdl_verify_local_free(v);
    free(v->first);
    free(v->rank_of);
    free(v->partner);
    free(v->lane_prev);
    free(v->post);
    free(v->done);
    free(v->node_inst);
    free(v->pred_at);
    free(v->pred);
    free(v->order);
    free(v->demands);
    free(v->recent);
}

medleyResult_t mdl_plan_verify(const struct mdl_team *team, const struct mdl_collective *c,
                               struct mdl_plan *const *plans, char *why, size_t why_bytes)
{
    if (team->nranks < 1 || (unsigned)c->coll > medleyCollAlltoAllV)
        return mdl_error(medleyInvalidArgument, "cannot verify collective %d of %d ranks", (int)c->coll, team->nranks);
    struct mdl_verify v = {.team = team,
                           .coll = c,
                           .plans = plans,
                           .n = (uint32_t)team->nranks,
                           .parts = plans[0]->parts,
                           .whole = plans[0]->flags & MDL_PLAN_WHOLE,
                           .rounds = mdl_collective_reduces(c) && mdl_dtype_rounds(c->dtype),
                           .why = why,
                           .why_bytes = why_bytes};
    if (why_bytes) why[0] = 0;
    medleyResult_t result = verify(&v);
    verify_fini(&v);
    return result;
}
