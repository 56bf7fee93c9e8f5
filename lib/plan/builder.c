/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The builder: turns a sequential program of one rank into a plan whose dependencies let it overlap.
 *
 * Memory orders instructions: a read comes after the last write, a write after the last write and the reads since
 * (depend.c). IN and OUT that are the same memory when the call is in place are ordered against each other always, so
 * that a plan is right both ways. What other ranks of the host do is not seen here, hence two conservative rules: an
 * access that a peer's access could race with comes after every WAIT before it; a SIGNAL comes after every such access
 * and every WAIT before it. Nobody writes another rank's IN, so reading IN waits for nothing.
 *
 * Errors are kept, not returned: the first broken rule makes finish fail, and nothing is added after it.
 */
#include "config.h"
#include "lib/plan/depend.h"
#include "lib/plan/grow.h"
#include "lib/plan/rules.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct lane_wait {
    uint32_t peer, channel, inst;
};

struct mdl_builder {
    struct mdl_rules rules;
    uint32_t rank, parts, in_slots, out_slots, scratch_slots, channels, flags;
    bool shares_scratch, shares_user; /* may other ranks touch this rank's SCRATCH; its IN or OUT */
    bool failed;                      /* memory ran out */
    bool broken;                      /* a rule was broken: `why` */
    char why[256];
    struct mdl_inst *insts;
    uint32_t ninsts, insts_cap;
    struct mdl_ref *refs;
    uint32_t nrefs, refs_cap;
    uint32_t *deps;
    uint32_t ndeps, deps_cap;
    struct mdl_depend depend;
    struct mdl_depend_list list;
    struct lane_wait *waits; /* the last WAIT of each lane */
    uint32_t nwaits, waits_cap;
    uint32_t *narrowed, narrow, narrow_cap; /* mdl_build_after: stands for waits and shared, for one instruction */
    struct mdl_depend_list shared; /* accesses that a SIGNAL covers, without those that another one of them implies */
};

struct mdl_builder *mdl_builder_new(const struct mdl_team *team, const struct mdl_collective *c, int rank,
                                    uint32_t parts)
{
    struct mdl_builder *b = calloc(1, sizeof(*b));
    if (!b) return NULL;
    b->rules = (struct mdl_rules){.team = team, .coll = c, .rank = (uint32_t)rank, .parts = parts};
    b->rank = (uint32_t)rank;
    b->parts = parts;
    mdl_collective_slots(c, team->nranks, &b->in_slots, &b->out_slots);
    b->rules.in_slots = b->in_slots;
    b->rules.out_slots = b->out_slots;
    bool peers = team->host_size[team->host[rank]] > 1;
    b->shares_scratch = (peers && team->remote_scratch) || c->coll == medleyCollBarrier;
    b->shares_user = peers && (team->remote_get || c->facts.in_mapped || c->facts.out_mapped);
    mdl_depend_init(&b->depend, parts, mdl_dtype_rounds(c->dtype));
    if (parts == 0) {
        b->broken = true;
        snprintf(b->why, sizeof(b->why), "a slot cannot have 0 parts");
    }
    return b;
}

static void builder_free(struct mdl_builder *b)
{
    if (!b) return;
    mdl_depend_fini(&b->depend);
    free(b->list.v);
    free(b->shared.v);
    free(b->waits);
    free(b->narrowed);
    free(b->insts);
    free(b->refs);
    free(b->deps);
    free(b);
}

uint32_t mdl_builder_scratch(struct mdl_builder *b, uint32_t slots)
{
    if (!b) return 0;
    uint32_t first = b->scratch_slots;
    if (slots > UINT32_MAX - first) {
        b->failed = true;
        return first;
    }
    b->scratch_slots += slots;
    b->rules.scratch_slots = b->scratch_slots;
    return first;
}

void mdl_builder_whole(struct mdl_builder *b)
{
    if (b) b->flags |= MDL_PLAN_WHOLE;
}

struct mdl_ref mdl_ref_slots(const struct mdl_builder *b, int rank, enum mdl_buffer buf, bool acc, uint32_t slot,
                             uint32_t slots)
{
    struct mdl_ref ref = mdl_ref_parts(rank, buf, acc, slot, 0, b ? b->parts : 1);
    ref.slots = slots <= UINT16_MAX ? (uint16_t)slots : 0; /* 0 slots is refused where it is used */
    return ref;
}

/* ---- dependencies ---- */

static bool waits_matter(const struct mdl_builder *b, const struct mdl_ref *ref)
{
    if (ref->buf == MDL_IN) return false;
    if (ref->rank != b->rank) return true;
    return ref->buf == MDL_SCRATCH ? b->shares_scratch : b->shares_user;
}

static bool signals_cover(const struct mdl_builder *b, const struct mdl_ref *ref)
{
    if (ref->rank != b->rank) return true;
    return ref->buf == MDL_SCRATCH ? b->shares_scratch : b->shares_user;
}

static void after_waits(struct mdl_builder *b)
{
    for (uint32_t w = 0; w < b->nwaits && !b->narrow; w++) mdl_depend_add(&b->depend, b->waits[w].inst, &b->list);
}

static void after_shared(struct mdl_builder *b)
{
    for (uint32_t k = 0; k < b->shared.n && !b->narrow; k++) mdl_depend_add(&b->depend, b->shared.v[k], &b->list);
}

/* The OUT slot that may be the same memory as this IN slot. Candidates: the first, the rank's own, the same. */
static uint32_t alias_of_in(const struct mdl_builder *b, uint32_t rank, uint32_t in)
{
    const uint32_t candidates[] = {0, rank, in};
    for (unsigned k = 0; k < 3; k++)
        if (candidates[k] < b->out_slots && mdl_collective_alias(b->rules.coll, (int)rank, candidates[k]) == in)
            return candidates[k];
    return MDL_NO_SLOT;
}

/* Is it a COPY that moves nothing when in place? Then it is ordered against nobody else who uses IN. */
static bool is_self_copy(const struct mdl_builder *b, const struct mdl_inst *in)
{
    if (in->op != MDL_OP_COPY || in->flags) return false;
    const struct mdl_ref *src = &b->refs[in->src], *dst = &in->dst;
    if (src->buf != MDL_IN || dst->buf != MDL_OUT || src->rank != dst->rank) return false;
    for (uint32_t s = 0; s < dst->slots; s++)
        if (mdl_collective_alias(b->rules.coll, (int)dst->rank, dst->slot + s) != src->slot + s) return false;
    return true;
}

/* Where IN and OUT may be one memory: reading IN comes after writes to OUT, writing OUT after reads of IN. */
static void follow_alias(struct mdl_builder *b, uint32_t inst, const struct mdl_ref *ref, bool write)
{
    struct mdl_ref other = *ref;
    bool in = ref->buf == MDL_IN;
    if (ref->buf == MDL_SCRATCH || b->rules.coll->facts.apart || in == write) return;
    uint32_t before = b->list.n;
    other.buf = in ? MDL_OUT : MDL_IN;
    other.slots = 1;
    for (uint32_t s = 0; s < ref->slots; s++) {
        other.slot = in ? alias_of_in(b, ref->rank, ref->slot + s)
                        : mdl_collective_alias(b->rules.coll, (int)ref->rank, ref->slot + s);
        if (other.slot != MDL_NO_SLOT) mdl_depend_follow(&b->depend, inst, &other, write, &b->list);
    }
    for (uint32_t k = b->list.n; k-- > before;)
        if (is_self_copy(b, &b->insts[b->list.v[k]])) mdl_depend_remove(&b->depend, k, &b->list);
}

/* The last instruction joins the accesses that the next SIGNAL covers; those which it depends on are implied. */
static void shared_add(struct mdl_builder *b, uint32_t inst)
{
    struct mdl_depend_list *s = &b->shared;
    uint32_t kept = 0;
    const struct mdl_inst *at = &b->insts[inst];
    for (uint32_t k = 0; k < s->n; k++) {
        bool implied = false;
        for (uint32_t d = 0; d < at->ndep && !implied; d++) implied = b->deps[at->dep + d] == s->v[k];
        if (!implied) s->v[kept++] = s->v[k];
    }
    s->n = kept;
    if (!mdl_grow(&s->v, &s->cap, (size_t)s->n + 1, sizeof(*s->v))) {
        b->failed = true;
        return;
    }
    s->v[s->n++] = inst;
}

static void wait_add(struct mdl_builder *b, uint32_t inst, uint32_t peer, uint32_t channel)
{
    for (uint32_t w = 0; w < b->nwaits; w++) {
        if (b->waits[w].peer != peer || b->waits[w].channel != channel) continue;
        b->waits[w].inst = inst;
        return;
    }
    if (!mdl_grow(&b->waits, &b->waits_cap, (size_t)b->nwaits + 1, sizeof(*b->waits))) {
        b->failed = true;
        return;
    }
    b->waits[b->nwaits++] = (struct lane_wait){peer, channel, inst};
}

static bool writes(const struct mdl_inst *in)
{
    return in->op == MDL_OP_RECV || in->op == MDL_OP_COPY || in->op == MDL_OP_REDUCE;
}

static void collect_deps(struct mdl_builder *b, uint32_t inst)
{
    const struct mdl_inst *at = &b->insts[inst];
    bool waits = at->op == MDL_OP_SIGNAL;
    mdl_depend_start(&b->depend, inst, &b->list);
    for (uint32_t k = 0; k < b->narrow; k++) mdl_depend_add(&b->depend, b->narrowed[k], &b->list);
    if (at->op == MDL_OP_SIGNAL) after_shared(b);
    for (uint32_t k = 0; k < at->nsrc; k++) {
        const struct mdl_ref *ref = &b->refs[at->src + k];
        waits = waits || waits_matter(b, ref);
        mdl_depend_access(&b->depend, inst, ref, false, &b->list);
        follow_alias(b, inst, ref, false);
    }
    if (writes(at)) {
        waits = waits || waits_matter(b, &at->dst);
        mdl_depend_access(&b->depend, inst, &at->dst, true, &b->list);
        if (!is_self_copy(b, at)) follow_alias(b, inst, &at->dst, true);
    }
    if (waits) after_waits(b);
    b->narrow = 0;
    mdl_depend_reduce(&b->depend, b->insts, b->deps, &b->list);
}

static void store_deps(struct mdl_builder *b, uint32_t inst)
{
    if (b->depend.failed || !mdl_grow(&b->deps, &b->deps_cap, (size_t)b->ndeps + b->list.n, sizeof(*b->deps))) {
        b->failed = true;
        return;
    }
    b->insts[inst].dep = b->ndeps;
    b->insts[inst].ndep = b->list.n;
    for (uint32_t k = b->list.n; k; k--) b->deps[b->ndeps++] = b->list.v[k - 1];
}

/* ---- instructions ---- */

static void note_remote(struct mdl_builder *b, const struct mdl_ref *ref)
{
    static const uint32_t flag[] = {
        [MDL_IN] = MDL_PLAN_REMOTE_IN, [MDL_OUT] = MDL_PLAN_REMOTE_OUT, [MDL_SCRATCH] = MDL_PLAN_REMOTE_SCRATCH};
    if (ref->rank != b->rank) b->flags |= flag[ref->buf];
    if (ref->slots > 1) b->flags |= MDL_PLAN_WHOLE;
}

/* In IN and OUT the shape follows from the collective; only SCRATCH leaves a choice. */
static void set_shape(const struct mdl_builder *b, struct mdl_ref *ref)
{
    if (ref->buf == MDL_IN) ref->shape = b->in_slots == 1 ? ref->rank : ref->slot;
    if (ref->buf == MDL_OUT) ref->shape = b->out_slots == 1 ? ref->rank : ref->slot;
}

static bool reserve(struct mdl_builder *b, uint32_t nsrc)
{
    b->failed = b->failed || !mdl_grow(&b->insts, &b->insts_cap, (size_t)b->ninsts + 1, sizeof(*b->insts)) ||
                !mdl_grow(&b->refs, &b->refs_cap, (size_t)b->nrefs + nsrc, sizeof(*b->refs));
    return !b->failed;
}

static void link_inst(struct mdl_builder *b, uint32_t inst)
{
    struct mdl_inst *at = &b->insts[inst];
    collect_deps(b, inst);
    store_deps(b, inst);
    if (b->failed) return;
    bool covered = writes(at) && signals_cover(b, &at->dst);
    if (writes(at)) note_remote(b, &at->dst);
    for (uint32_t k = 0; k < at->nsrc; k++) {
        note_remote(b, &b->refs[at->src + k]);
        covered = covered || signals_cover(b, &b->refs[at->src + k]);
    }
    if (covered) shared_add(b, inst);
    if (at->op == MDL_OP_WAIT) wait_add(b, inst, at->peer, at->channel);
}

static uint32_t add(struct mdl_builder *b, struct mdl_inst inst, const struct mdl_ref *srcs, uint32_t nsrc,
                    uint32_t channel, uint32_t flags)
{
    if (!b || b->failed || b->broken || !reserve(b, nsrc)) return MDL_NO_DEP;
    inst.channel = (uint16_t)channel;
    inst.flags = (uint8_t)flags;
    inst.src = b->nrefs;
    inst.nsrc = nsrc;
    if (writes(&inst)) set_shape(b, &inst.dst);
    for (uint32_t k = 0; k < nsrc; k++) {
        b->refs[b->nrefs + k] = srcs[k];
        set_shape(b, &b->refs[b->nrefs + k]);
    }
    char text[160];
    if (channel > UINT16_MAX || flags > UINT8_MAX)
        snprintf(text, sizeof(text), "channel %u or flags %u out of range", channel, flags);
    else if (mdl_rules_check(&b->rules, &inst, b->refs ? b->refs + b->nrefs : NULL, text, sizeof(text)))
        text[0] = 0;
    if (text[0]) {
        b->broken = true;
        snprintf(b->why, sizeof(b->why), "instruction %u: %s", b->ninsts, text);
        return MDL_NO_DEP;
    }
    uint32_t index = b->ninsts++;
    b->insts[index] = inst;
    b->nrefs += nsrc;
    if (inst.op != MDL_OP_COPY && inst.op != MDL_OP_REDUCE && channel >= b->channels) b->channels = channel + 1;
    link_inst(b, index);
    return index;
}

uint32_t mdl_build_send(struct mdl_builder *b, int peer, uint32_t channel, struct mdl_ref src)
{
    return add(b, (struct mdl_inst){.op = MDL_OP_SEND, .peer = (uint32_t)peer}, &src, 1, channel, 0);
}

uint32_t mdl_build_recv(struct mdl_builder *b, int peer, uint32_t channel, struct mdl_ref dst)
{
    return add(b, (struct mdl_inst){.op = MDL_OP_RECV, .peer = (uint32_t)peer, .dst = dst}, NULL, 0, channel, 0);
}

uint32_t mdl_build_copy(struct mdl_builder *b, struct mdl_ref dst, struct mdl_ref src, uint32_t flags)
{
    return add(b, (struct mdl_inst){.op = MDL_OP_COPY, .dst = dst}, &src, 1, 0, flags);
}

uint32_t mdl_build_reduce(struct mdl_builder *b, struct mdl_ref dst, const struct mdl_ref *srcs, uint32_t nsrc,
                          uint32_t flags)
{
    return add(b, (struct mdl_inst){.op = MDL_OP_REDUCE, .dst = dst}, srcs, nsrc, 0, flags);
}

uint32_t mdl_build_signal(struct mdl_builder *b, int peer, uint32_t channel)
{
    return add(b, (struct mdl_inst){.op = MDL_OP_SIGNAL, .peer = (uint32_t)peer}, NULL, 0, channel, 0);
}

uint32_t mdl_build_wait(struct mdl_builder *b, int peer, uint32_t channel)
{
    return add(b, (struct mdl_inst){.op = MDL_OP_WAIT, .peer = (uint32_t)peer}, NULL, 0, channel, 0);
}

void mdl_build_after(struct mdl_builder *b, uint32_t inst)
{
    if (!b || b->failed || b->broken) return;
    if (inst >= b->ninsts) {
        b->broken = true;
        snprintf(b->why, sizeof(b->why), "instruction %u: shall come after %u, which is not there", b->ninsts, inst);
    } else if (!mdl_grow(&b->narrowed, &b->narrow_cap, (size_t)b->narrow + 1, sizeof(*b->narrowed))) {
        b->failed = true;
    } else {
        b->narrowed[b->narrow++] = inst;
    }
}

/* ---- end ---- */

static struct mdl_plan *pack(const struct mdl_builder *b, const char *algo)
{
    size_t insts = b->ninsts * sizeof(*b->insts), refs = b->nrefs * sizeof(*b->refs),
           deps = b->ndeps * sizeof(*b->deps);
    struct mdl_plan *p = malloc(sizeof(*p) + insts + refs + deps);
    if (!p) return NULL;
    *p = (struct mdl_plan){.algo = algo,
                           .flags = b->flags,
                           .parts = b->parts,
                           .channels = b->channels,
                           .scratch_slots = b->scratch_slots,
                           .in_slots = b->in_slots,
                           .out_slots = b->out_slots,
                           .ninsts = b->ninsts,
                           .nrefs = b->nrefs,
                           .ndeps = b->ndeps};
    p->insts = (struct mdl_inst *)(p + 1);
    p->refs = (struct mdl_ref *)((char *)p->insts + insts);
    p->deps = (uint32_t *)((char *)p->refs + refs);
    if (insts) memcpy(p->insts, b->insts, insts);
    if (refs) memcpy(p->refs, b->refs, refs);
    if (deps) memcpy(p->deps, b->deps, deps);
    return p;
}

medleyResult_t mdl_builder_finish(struct mdl_builder *b, const char *algo, struct mdl_plan **plan)
{
    if (!b) return mdl_error(medleyInternalError, "out of memory while building a plan of algorithm %s", algo);
    medleyResult_t result = medleySuccess;
    struct mdl_plan *p = NULL;
    if (b->broken)
        result = mdl_error(medleyInternalError, "bug in algorithm %s, plan of rank %u, %s", algo, b->rank, b->why);
    else if (b->failed || !(p = pack(b, algo)))
        result = mdl_error(medleyInternalError, "out of memory while building the plan of algorithm %s for rank %u",
                           algo, b->rank);
    else
        *plan = p;
    builder_free(b);
    return result;
}
