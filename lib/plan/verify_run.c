/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs all plans once on symbolic memory, in a topological order of the graph.
 *
 * Each slot of each buffer is a row of segments: neighbouring parts that have the same value, last writer and readers
 * since. Where IN and OUT are one memory they share rows. Every access adds the demands that order it against those
 * before it; if they all hold, any other order of execution gives the same values, so one run proves them all. In
 * SCRATCH of datatypes that round, elements and partials of one slot are two rows: they share bytes at other places, so
 * an access to one conflicts with the whole other, and a write leaves nothing there.
 */
#include "config.h"
#include "lib/plan/grow.h"
#include "lib/plan/verify.h"
#include <stdlib.h>
#include <string.h>

struct seg {
    uint32_t lo; /* its first part; the next one's is its end */
    uint32_t value;
    uint32_t writer;  /* instruction or MDL_NO_DEP */
    uint32_t readers; /* chain of struct reader; chains are shared and never change */
};

struct row {
    struct seg *seg; /* NULL: one segment in its first state */
    uint32_t n, cap;
};

struct reader {
    uint32_t inst, next;
};

/* Parts [lo, hi) of the slot'th slot of a reference. */
struct piece {
    uint32_t slot, lo, hi, value;
};

struct pieces {
    struct piece *v;
    uint32_t n, cap;
};

struct run {
    struct mdl_verify *v;
    uint8_t mode;
    const bool *in_place;
    uint32_t in_slots, out_slots, views;
    size_t *base; /* [rank] its first row */
    struct row *rows;
    struct reader *readers;
    uint32_t nreaders, readers_cap;
    struct pieces *sent;    /* [instruction] what a SEND carries until its RECV is done */
    struct pieces in, out;  /* sources and result of the current instruction */
    uint32_t *at, at_cap;   /* per source: its next piece */
    uint32_t *end, end_cap; /* per source: past its last piece */
    uint32_t *operands, operands_cap;
};

/* ---- rows ---- */

static struct row *row_of(struct run *run, const struct mdl_ref *ref, uint32_t k, bool view)
{
    uint32_t slot = ref->slot + k, in;
    struct row *rows = run->rows + run->base[ref->rank];
    if (ref->buf == MDL_IN) return rows + slot;
    if (ref->buf == MDL_SCRATCH) return rows + run->in_slots + run->out_slots + (size_t)slot * run->views + view;
    in = run->in_place[ref->rank] ? mdl_collective_alias(run->v->coll, (int)ref->rank, slot) : MDL_NO_SLOT;
    return rows + (in == MDL_NO_SLOT ? run->in_slots + slot : in);
}

/* A row that was never touched gets its one segment: IN holds the rank's input. */
static bool row_fill(struct run *run, struct row *row, uint32_t rank)
{
    uint32_t slot = (uint32_t)(row - run->rows - run->base[rank]), value = MDL_VALUE_NONE;
    if (row->seg) return true;
    if (slot < run->in_slots && mdl_collective_has(run->v->coll, (int)rank, MDL_IN)) {
        value = mdl_value_leaf(run->v->values, rank, slot);
        if (value == MDL_VALUE_NONE) return false;
    }
    row->seg = malloc(2 * sizeof(*row->seg));
    if (!row->seg) return false;
    row->seg[0] = (struct seg){0, value, MDL_NO_DEP, 0};
    row->cap = 2;
    row->n = 1;
    return true;
}

static uint32_t seg_end(const struct run *run, const struct row *row, uint32_t k)
{
    return k + 1 < row->n ? row->seg[k + 1].lo : run->v->parts;
}

/* The segment that begins at `part`, made by splitting if need be; UINT32_MAX: no memory. part == parts: past the last.
 */
static uint32_t row_split(struct run *run, struct row *row, uint32_t part)
{
    uint32_t lo = 0, hi = row->n;
    if (part == run->v->parts) return row->n;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (row->seg[mid].lo <= part)
            lo = mid;
        else
            hi = mid;
    }
    if (row->seg[lo].lo == part) return lo;
    if (!mdl_grow(&row->seg, &row->cap, (size_t)row->n + 1, sizeof(*row->seg))) return UINT32_MAX;
    memmove(row->seg + lo + 2, row->seg + lo + 1, (row->n - lo - 1) * sizeof(*row->seg));
    row->seg[lo + 1] = row->seg[lo];
    row->seg[lo + 1].lo = part;
    row->n++;
    return lo + 1;
}

/* ---- demands ---- */

struct access {
    uint32_t inst;
    const struct mdl_ref *ref;
    uint32_t slot;
    bool write;
};

static medleyResult_t must_follow(struct run *run, const struct access *a, uint32_t earlier, uint32_t part)
{
    struct mdl_verify *v = run->v;
    if (earlier == a->inst || earlier == MDL_NO_DEP || mdl_verify_before(v, earlier, a->inst)) return medleySuccess;
    return mdl_verify_demand(v, &(struct mdl_demand){.from = v->done[earlier],
                                                     .to = v->post[a->inst],
                                                     .a = a->inst,
                                                     .b = earlier,
                                                     .rank = a->ref->rank,
                                                     .slot = a->slot,
                                                     .part = part,
                                                     .kind = MDL_DEMAND_RACE,
                                                     .buf = a->ref->buf,
                                                     .mode = run->mode});
}

static medleyResult_t seg_follow(struct run *run, const struct access *a, const struct seg *seg)
{
    MDL_TRY(must_follow(run, a, seg->writer, seg->lo));
    for (uint32_t r = a->write ? seg->readers : 0; r; r = run->readers[r].next)
        MDL_TRY(must_follow(run, a, run->readers[r].inst, seg->lo));
    return medleySuccess;
}

/* The other rank must have started if need be, and must not have left. */
static medleyResult_t demand_owner(struct run *run, uint32_t inst, const struct mdl_ref *ref)
{
    struct mdl_verify *v = run->v;
    if (ref->rank == v->rank_of[inst] || (ref->buf == MDL_SCRATCH && v->whole)) return medleySuccess;
    struct mdl_demand d = {.from = v->done[inst],
                           .to = mdl_verify_end(v, ref->rank),
                           .a = inst,
                           .rank = ref->rank,
                           .slot = ref->slot,
                           .part = ref->lo,
                           .kind = MDL_DEMAND_RELEASE,
                           .buf = ref->buf,
                           .mode = run->mode};
    MDL_TRY(mdl_verify_demand(v, &d));
    if (ref->buf != MDL_SCRATCH) return medleySuccess;
    d.from = mdl_verify_start(v, ref->rank);
    d.to = v->post[inst];
    d.kind = MDL_DEMAND_START;
    return mdl_verify_demand(v, &d);
}

/* ---- access ---- */

static medleyResult_t follow_other_view(struct run *run, const struct access *a, bool view)
{
    if (run->views == 1 || a->ref->buf != MDL_SCRATCH) return medleySuccess;
    struct row *row = row_of(run, a->ref, a->slot - a->ref->slot, !view);
    for (uint32_t k = 0; row->seg && k < row->n; k++) {
        MDL_TRY(seg_follow(run, a, &row->seg[k]));
        if (a->write) row->seg[k].value = MDL_VALUE_NONE;
    }
    return medleySuccess;
}

static medleyResult_t pieces_add(struct run *run, struct pieces *p, struct piece piece)
{
    if (p->n) {
        struct piece *last = &p->v[p->n - 1];
        if (last->slot == piece.slot && last->hi == piece.lo && last->value == piece.value) {
            last->hi = piece.hi;
            return medleySuccess;
        }
    }
    if (!mdl_grow(&p->v, &p->cap, (size_t)p->n + 1, sizeof(*p->v))) return mdl_verify_memory(run->v);
    p->v[p->n++] = piece;
    return medleySuccess;
}

static medleyResult_t check_value(struct run *run, const struct access *a, const struct seg *seg)
{
    struct mdl_verify *v = run->v;
    char name[MDL_REF_TEXT_BYTES];
    if (v->coll->coll == medleyCollBarrier) return medleySuccess; /* only that a message came counts */
    bool counted = mdl_collective_is_v(v->coll) && v->coll->coll != medleyCollAlltoAllV;
    bool shaped = !counted || mdl_value_shape(v->values, seg->value) == a->ref->shape;
    if (seg->value != MDL_VALUE_NONE && shaped) return medleySuccess;
    mdl_ref_format(a->ref, v->parts, name, sizeof(name));
    if (seg->value == MDL_VALUE_NONE)
        return mdl_verify_fail(v, a->inst, "reads %s, of which slot %u part %u holds nothing (%s)", name, a->slot,
                               seg->lo, mdl_verify_mode_name(run->mode));
    return mdl_verify_fail(v, a->inst, "reads %s with shape %u, but its data has shape %u", name, a->ref->shape,
                           mdl_value_shape(v->values, seg->value));
}

static medleyResult_t read_slot(struct run *run, const struct access *a, struct pieces *pieces)
{
    bool view = a->ref->acc && run->views == 2;
    uint32_t k = a->slot - a->ref->slot;
    struct row *row = row_of(run, a->ref, k, view);
    if (!row_fill(run, row, a->ref->rank)) return mdl_verify_memory(run->v);
    uint32_t s = row_split(run, row, a->ref->lo), end = s == UINT32_MAX ? s : row_split(run, row, a->ref->hi);
    if (end == UINT32_MAX) return mdl_verify_memory(run->v);
    for (; s < end; s++) {
        struct seg *seg = &row->seg[s];
        MDL_TRY(check_value(run, a, seg));
        MDL_TRY(seg_follow(run, a, seg));
        MDL_TRY(pieces_add(run, pieces, (struct piece){k, seg->lo, seg_end(run, row, s), seg->value}));
        if (!mdl_grow(&run->readers, &run->readers_cap, (size_t)run->nreaders + 1, sizeof(*run->readers)))
            return mdl_verify_memory(run->v);
        run->readers[run->nreaders] = (struct reader){a->inst, seg->readers};
        seg->readers = run->nreaders++;
    }
    return follow_other_view(run, a, view);
}

static medleyResult_t read_ref(struct run *run, uint32_t inst, const struct mdl_ref *ref, struct pieces *pieces)
{
    MDL_TRY(demand_owner(run, inst, ref));
    struct access a = {inst, ref, ref->slot, false};
    for (uint32_t k = 0; k < ref->slots; k++, a.slot++) MDL_TRY(read_slot(run, &a, pieces));
    return medleySuccess;
}

static medleyResult_t write_piece(struct run *run, const struct access *a, const struct piece *piece)
{
    bool view = a->ref->acc && run->views == 2;
    struct row *row = row_of(run, a->ref, piece->slot, view);
    if (!row_fill(run, row, a->ref->rank)) return mdl_verify_memory(run->v);
    uint32_t s = row_split(run, row, piece->lo), end = s == UINT32_MAX ? s : row_split(run, row, piece->hi);
    if (end == UINT32_MAX) return mdl_verify_memory(run->v);
    for (uint32_t k = s; k < end; k++) MDL_TRY(seg_follow(run, a, &row->seg[k]));
    row->seg[s] = (struct seg){piece->lo, piece->value, a->inst, 0};
    memmove(row->seg + s + 1, row->seg + end, (row->n - end) * sizeof(*row->seg));
    row->n -= end - s - 1;
    return follow_other_view(run, a, view);
}

static medleyResult_t write_ref(struct run *run, uint32_t inst, const struct mdl_ref *ref, const struct pieces *pieces)
{
    MDL_TRY(demand_owner(run, inst, ref));
    for (uint32_t k = 0; k < pieces->n; k++) {
        struct access a = {inst, ref, ref->slot + pieces->v[k].slot, true};
        MDL_TRY(write_piece(run, &a, &pieces->v[k]));
    }
    return medleySuccess;
}

/* ---- instructions ---- */

static medleyResult_t value_fail(struct run *run, uint32_t inst, enum mdl_value_error error)
{
    static const char *const text[] = {
        [MDL_VALUE_ROUNDED] = "an operand was rounded to the datatype before: keep partials in acc",
        [MDL_VALUE_FINAL] = "an operand is final already",
        [MDL_VALUE_PREMUL] = "an operand lacks the factor, or has one that it should not have",
    };
    if (error == MDL_VALUE_MEMORY) return mdl_verify_memory(run->v);
    return mdl_verify_fail(run->v, inst, "%s", text[error]);
}

/* One piece of the result from one value of each source. */
static enum mdl_value_error compute(struct run *run, const struct mdl_inst *in, uint32_t *value)
{
    struct mdl_values *values = run->v->values;
    enum mdl_value_error error =
        in->flags & MDL_INST_PREMUL ? mdl_value_premul(values, run->operands[0], value)
                                    : mdl_value_fold(values, run->operands, in->nsrc, in->flags & MDL_INST_TREE, value);
    if (!error && in->flags & MDL_INST_FINAL) error = mdl_value_final(values, *value, value);
    if (!error && !in->dst.acc) error = mdl_value_round(values, *value, value);
    return error;
}

/* Cuts the sources where any of them changes its value. */
static medleyResult_t combine(struct run *run, uint32_t inst)
{
    const struct mdl_inst *in = mdl_verify_inst(run->v, inst);
    const struct mdl_ref *dst = &in->dst;
    uint32_t lo = dst->lo;
    run->out.n = 0;
    while (run->at[0] < run->end[0]) {
        uint32_t hi = UINT32_MAX, slot = run->in.v[run->at[0]].slot, value;
        for (uint32_t k = 0; k < in->nsrc; k++) {
            const struct piece *p = &run->in.v[run->at[k]];
            run->operands[k] = p->value;
            if (p->hi < hi) hi = p->hi;
        }
        enum mdl_value_error error = compute(run, in, &value);
        if (error) return value_fail(run, inst, error);
        MDL_TRY(pieces_add(run, &run->out, (struct piece){slot, lo, hi, value}));
        for (uint32_t k = 0; k < in->nsrc; k++)
            if (run->in.v[run->at[k]].hi == hi) run->at[k]++;
        lo = hi == dst->hi ? dst->lo : hi;
    }
    return medleySuccess;
}

/* Is it IN onto the same memory in OUT? *shifted: it overlaps otherwise, which no kernel does right. */
static bool onto_itself(const struct run *run, const struct mdl_ref *dst, const struct mdl_ref *src, bool *shifted)
{
    uint32_t same = 0;
    if (dst->rank != src->rank || dst->buf != MDL_OUT || src->buf != MDL_IN || !run->in_place[dst->rank]) return false;
    for (uint32_t k = 0; k < dst->slots; k++) {
        uint32_t in = mdl_collective_alias(run->v->coll, (int)dst->rank, dst->slot + k);
        if (in == MDL_NO_SLOT || in < src->slot || in - src->slot >= src->slots) continue;
        same += in - src->slot == k;
        *shifted |= in - src->slot != k;
    }
    return same == dst->slots;
}

static medleyResult_t read_sources(struct run *run, uint32_t inst)
{
    const struct mdl_inst *in = mdl_verify_inst(run->v, inst);
    const struct mdl_ref *srcs = mdl_verify_srcs(run->v, inst);
    struct pieces one = {0}; /* apart, so that pieces of two sources never join */
    medleyResult_t result = medleySuccess;
    run->in.n = 0;
    for (uint32_t k = 0; k < in->nsrc && result == medleySuccess; k++) {
        run->at[k] = run->in.n;
        one.n = 0;
        result = read_ref(run, inst, &srcs[k], &one);
        if (result != medleySuccess) break;
        if (!mdl_grow(&run->in.v, &run->in.cap, (size_t)run->in.n + one.n, sizeof(*run->in.v)))
            result = mdl_verify_memory(run->v);
        else
            memcpy(run->in.v + run->in.n, one.v, one.n * sizeof(*one.v));
        run->end[k] = run->in.n += one.n;
    }
    free(one.v);
    return result;
}

static medleyResult_t run_local(struct run *run, uint32_t inst)
{
    const struct mdl_inst *in = mdl_verify_inst(run->v, inst);
    const struct mdl_ref *srcs = mdl_verify_srcs(run->v, inst);
    bool shifted = false, itself = false;
    for (uint32_t k = 0; k < in->nsrc; k++) itself |= onto_itself(run, &in->dst, &srcs[k], &shifted);
    if (shifted)
        return mdl_verify_fail(run->v, inst, "destination and source overlap, shifted (%s)",
                               mdl_verify_mode_name(run->mode));
    if (in->op == MDL_OP_COPY && itself && !in->flags) return medleySuccess;
    if (!mdl_grow(&run->at, &run->at_cap, in->nsrc, sizeof(*run->at)) ||
        !mdl_grow(&run->end, &run->end_cap, in->nsrc, sizeof(*run->end)) ||
        !mdl_grow(&run->operands, &run->operands_cap, in->nsrc, sizeof(*run->operands)))
        return mdl_verify_memory(run->v);
    MDL_TRY(read_sources(run, inst));
    MDL_TRY(combine(run, inst));
    return write_ref(run, inst, &in->dst, &run->out);
}

static medleyResult_t run_node(struct run *run, uint32_t node)
{
    struct mdl_verify *v = run->v;
    uint32_t inst = v->node_inst[node];
    if (inst >= v->total) return medleySuccess;
    switch (mdl_verify_inst(v, inst)->op) {
    case MDL_OP_SEND:
        if (node != v->post[inst]) return medleySuccess;
        return read_ref(run, inst, mdl_verify_srcs(v, inst), &run->sent[inst]);
    case MDL_OP_RECV: {
        if (node != v->done[inst]) return medleySuccess;
        struct pieces *sent = &run->sent[v->partner[inst]];
        medleyResult_t result = write_ref(run, inst, &mdl_verify_inst(v, inst)->dst, sent);
        free(sent->v);
        *sent = (struct pieces){0};
        return result;
    }
    case MDL_OP_COPY:
    case MDL_OP_REDUCE: return run_local(run, inst);
    default: return medleySuccess;
    }
}

/* ---- outputs ---- */

static medleyResult_t output_fail(struct run *run, uint32_t rank, uint32_t slot, const struct seg *seg,
                                  const char *text)
{
    char value[160];
    mdl_value_format(run->v->values, seg->value, value, sizeof(value));
    return mdl_verify_fail(run->v, MDL_NO_DEP, "rank %u OUT[%u] part %u %s: it is %s (%s)", rank, slot, seg->lo, text,
                           value, mdl_verify_mode_name(run->mode));
}

/* All ranks of an AllReduce have the same expression; agreed[part] is rank 0's. */
static medleyResult_t check_slot(struct run *run, uint32_t rank, uint32_t slot, uint32_t *agreed)
{
    struct mdl_ref ref = {.rank = rank, .buf = MDL_OUT, .slots = 1, .slot = slot};
    struct row *row = row_of(run, &ref, 0, false);
    char text[128];
    if (!row_fill(run, row, rank)) return mdl_verify_memory(run->v);
    for (uint32_t k = 0; k < row->n; k++) {
        const struct seg *seg = &row->seg[k];
        if (!mdl_value_expected(run->v->values, rank, slot, seg->value, text, sizeof(text)))
            return output_fail(run, rank, slot, seg, text);
        for (uint32_t p = seg->lo; agreed && p < seg_end(run, row, k); p++) {
            if (rank == 0) agreed[p] = seg->value;
            if (agreed[p] != seg->value) return output_fail(run, rank, slot, seg, "differs from rank 0's");
        }
    }
    return medleySuccess;
}

static medleyResult_t check_outputs(struct run *run)
{
    struct mdl_verify *v = run->v;
    uint32_t *agreed = NULL;
    if (v->coll->coll == medleyCollAllReduce) {
        agreed = malloc(v->parts * sizeof(*agreed));
        if (!agreed) return mdl_verify_memory(v);
    }
    medleyResult_t result = medleySuccess;
    for (uint32_t r = 0; r < v->n; r++) {
        if (!mdl_collective_has(v->coll, (int)r, MDL_OUT)) continue;
        for (uint32_t s = 0; s < run->out_slots && result == medleySuccess; s++) result = check_slot(run, r, s, agreed);
    }
    free(agreed);
    return result;
}

/* ---- a run ---- */

static medleyResult_t run_init(struct run *run)
{
    struct mdl_verify *v = run->v;
    size_t rows = 0;
    run->views = v->rounds ? 2 : 1;
    run->nreaders = 1; /* 0 ends a chain */
    mdl_collective_slots(v->coll, (int)v->n, &run->in_slots, &run->out_slots);
    run->base = malloc(((size_t)v->n + 1) * sizeof(*run->base));
    if (!run->base) return mdl_verify_memory(v);
    for (uint32_t r = 0; r < v->n; r++) {
        run->base[r] = rows;
        rows += run->in_slots + run->out_slots + (size_t)v->plans[r]->scratch_slots * run->views;
    }
    run->base[v->n] = rows;
    run->rows = calloc(rows + 1, sizeof(*run->rows));
    run->sent = calloc((size_t)v->total + 1, sizeof(*run->sent));
    return run->rows && run->sent ? medleySuccess : mdl_verify_memory(v);
}

static void run_fini(struct run *run)
{
    for (size_t k = 0; run->rows && k < run->base[run->v->n]; k++) free(run->rows[k].seg);
    for (uint32_t i = 0; run->sent && i < run->v->total; i++) free(run->sent[i].v);
    free(run->base);
    free(run->rows);
    free(run->sent);
    free(run->readers);
    free(run->in.v);
    free(run->out.v);
    free(run->at);
    free(run->end);
    free(run->operands);
}

medleyResult_t mdl_verify_run(struct mdl_verify *v, uint8_t mode, const bool *in_place)
{
    struct run run = {.v = v, .mode = mode, .in_place = in_place};
    medleyResult_t result = run_init(&run);
    for (uint32_t k = 0; k < v->nodes && result == medleySuccess; k++) result = run_node(&run, v->order[k]);
    if (result == medleySuccess) result = check_outputs(&run);
    run_fini(&run);
    return result;
}
