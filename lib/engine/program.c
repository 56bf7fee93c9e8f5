/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles plans to programs: lanes, successor lists and request numbers. */
#include "config.h"

#include "lib/engine/program.h"

#include <stdlib.h>
#include <string.h>

static bool is_lane_op(uint8_t op)
{
    return op == MDL_OP_SEND || op == MDL_OP_RECV || op == MDL_OP_SIGNAL || op == MDL_OP_WAIT;
}

/* Links each lane. A small open-addressed table remembers the last instruction of each lane. */
static medleyResult_t link_lanes(struct mdl_program *p)
{
    const struct mdl_plan *plan = p->plan;
    uint32_t cap = 16;
    uint32_t *last;

    while (cap < plan->ninsts * 2) cap *= 2;
    last = malloc(cap * sizeof(*last));
    if (!last) return mdl_error(medleySystemError, "out of memory for a plan of %u instructions", plan->ninsts);
    memset(last, 0xff, cap * sizeof(*last));
    for (uint32_t i = 0; i < plan->ninsts; i++) {
        const struct mdl_inst *in = &plan->insts[i];
        uint32_t h = (in->peer * 64 + in->channel) * 4 + in->op;

        p->next[i] = MDL_NO_DEP;
        if (!is_lane_op(in->op)) continue;
        for (h = (h * 2654435761u) & (cap - 1); last[h] != MDL_NO_DEP; h = (h + 1) & (cap - 1)) {
            const struct mdl_inst *o = &plan->insts[last[h]];
            if (o->op == in->op && o->peer == in->peer && o->channel == in->channel) break;
        }
        if (last[h] != MDL_NO_DEP) {
            p->next[last[h]] = i;
            p->need[i]++;
        }
        last[h] = i;
    }
    free(last);
    return medleySuccess;
}

static void link_successors(struct mdl_program *p)
{
    const struct mdl_plan *plan = p->plan;
    uint32_t at = 0;

    for (uint32_t i = 0; i < plan->ninsts; i++) {
        const struct mdl_inst *in = &plan->insts[i];
        for (uint32_t d = 0; d < in->ndep; d++) p->succ_start[plan->deps[in->dep + d]]++;
        p->need[i] = (uint16_t)(p->need[i] + in->ndep);
    }
    for (uint32_t i = 0; i < plan->ninsts; i++) { /* counts to end positions, filled backwards */
        at += p->succ_start[i];
        p->succ_start[i] = at;
    }
    p->succ_start[plan->ninsts] = at;
    for (uint32_t i = plan->ninsts; i-- > 0;) {
        const struct mdl_inst *in = &plan->insts[i];
        for (uint32_t d = 0; d < in->ndep; d++) p->succ[--p->succ_start[plan->deps[in->dep + d]]] = i;
    }
}

static bool same_ref(const struct mdl_ref *a, const struct mdl_ref *b)
{
    return a->rank == b->rank && a->buf == b->buf && a->acc == b->acc && a->slots == b->slots && a->slot == b->slot &&
           a->lo == b->lo && a->hi == b->hi && a->shape == b->shape;
}

static bool depends_on(const struct mdl_plan *plan, const struct mdl_inst *in, uint32_t on)
{
    for (uint32_t d = 0; d < in->ndep; d++)
        if (plan->deps[in->dep + d] == on) return true;
    return false;
}

/* May COPY c be done along with REDUCE r? */
static bool is_along(const struct mdl_plan *plan, uint32_t r, uint32_t c)
{
    const struct mdl_inst *reduce = &plan->insts[r], *copy = &plan->insts[c];

    if (copy->op != MDL_OP_COPY || copy->flags || copy->dst.acc != reduce->dst.acc) return false;
    if (!depends_on(plan, copy, r)) return false;
    if (!same_ref(&plan->refs[copy->src], &reduce->dst)) return false;
    for (uint32_t d = 0; d < copy->ndep; d++) {
        uint32_t on = plan->deps[copy->dep + d];
        if (on != r && !depends_on(plan, reduce, on)) return false;
    }
    return true;
}

static void chain_copies(struct mdl_program *p)
{
    const struct mdl_plan *plan = p->plan;

    for (uint32_t r = 0; r < plan->ninsts; r++) {
        uint32_t last = r, many = 0;
        if (plan->insts[r].op != MDL_OP_REDUCE) continue;
        for (uint32_t s = p->succ_start[r]; s < p->succ_start[r + 1] && many < MDL_ALONG_MOST; s++) {
            uint32_t c = p->succ[s];
            if (!is_along(plan, r, c)) continue;
            p->next[last] = c;
            p->need[c]++;
            last = c;
            many++;
        }
    }
}

static void number_requests(struct mdl_program *p)
{
    for (uint32_t i = 0; i < p->plan->ninsts; i++) {
        const struct mdl_inst *in = &p->plan->insts[i];
        if (in->op == MDL_OP_SEND || in->op == MDL_OP_RECV) p->request[i] = p->nrequests++;
        if (in->nsrc > p->max_nsrc) p->max_nsrc = in->nsrc;
    }
}

medleyResult_t mdl_program_make(struct mdl_plan *plan, const struct mdl_choice *choice, struct mdl_program **out)
{
    struct mdl_program *p = calloc(1, sizeof(*p));
    size_t n = plan->ninsts + 1u;
    medleyResult_t res = medleySystemError;

    if (!p) {
        mdl_plan_free(plan);
        return mdl_error(medleySystemError, "out of memory for a plan of %u instructions", plan->ninsts);
    }
    mdl_list_init(&p->lru);
    p->plan = plan;
    p->choice = *choice;
    p->need = calloc(n, sizeof(*p->need));
    p->next = calloc(n, sizeof(*p->next));
    p->succ_start = calloc(n, sizeof(*p->succ_start));
    p->succ = calloc(plan->ndeps + 1u, sizeof(*p->succ));
    p->request = calloc(n, sizeof(*p->request));
    if (!p->need || !p->next || !p->succ_start || !p->succ || !p->request) {
        mdl_error(medleySystemError, "out of memory for a plan of %u instructions", plan->ninsts);
        goto free_program;
    }
    res = link_lanes(p);
    if (res != medleySuccess) goto free_program;
    link_successors(p);
    chain_copies(p);
    number_requests(p);
    p->bytes = sizeof(*p) + mdl_plan_bytes(plan) + n * 18 + plan->ndeps * sizeof(*p->succ);
    *out = p;
    return medleySuccess;
free_program:
    mdl_program_free(p);
    return res;
}

void mdl_program_free(struct mdl_program *p)
{
    if (!p) return;
    mdl_plan_free(p->plan);
    free(p->need);
    free(p->next);
    free(p->succ_start);
    free(p->succ);
    free(p->request);
    free(p);
}
