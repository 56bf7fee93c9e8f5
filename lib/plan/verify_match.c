/* SPDX-License-Identifier: Apache-2.0 */
/* Who meets whom. All messages and signals are sorted by lane, side and position; then the k-th of one side belongs to
 * the k-th of the other, and neighbours within a side follow each other in the lane. */
#include "config.h"
#include "lib/plan/verify.h"
#include <stdlib.h>

struct entry {
    uint64_t lane; /* kind, from, to, channel */
    uint32_t inst;
    uint32_t side; /* 0: SEND or SIGNAL */
};

static int compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->lane != y->lane) return x->lane < y->lane ? -1 : 1;
    if (x->side != y->side) return x->side < y->side ? -1 : 1;
    return x->inst < y->inst ? -1 : 1;
}

static struct entry entry_of(const struct mdl_verify *v, uint32_t inst)
{
    const struct mdl_inst *in = mdl_verify_inst(v, inst);
    uint64_t me = v->rank_of[inst], peer = in->peer;
    bool gives = in->op == MDL_OP_SEND || in->op == MDL_OP_SIGNAL;
    bool signal = in->op == MDL_OP_SIGNAL || in->op == MDL_OP_WAIT;
    uint64_t from = gives ? me : peer, to = gives ? peer : me;
    return (struct entry){(uint64_t)signal << 63 | from << 36 | to << 9 | in->channel, inst, gives ? 0 : 1};
}

/* Length in AlltoAllV is what `from` has for `to`: both sides must mean that pair. */
static bool same_length(const struct mdl_verify *v, uint32_t from, uint32_t to, const struct mdl_ref *a,
                        const struct mdl_ref *b)
{
    if (!mdl_collective_is_v(v->coll)) return true;
    if (v->coll->coll == medleyCollAlltoAllV) return a->shape == to && b->shape == from;
    return a->shape == b->shape;
}

static medleyResult_t pair(struct mdl_verify *v, uint32_t give, uint32_t take)
{
    v->partner[give] = take;
    v->partner[take] = give;
    if (mdl_verify_inst(v, give)->op != MDL_OP_SEND) return medleySuccess;
    const struct mdl_ref *a = mdl_verify_srcs(v, give), *b = &mdl_verify_inst(v, take)->dst;
    uint32_t from = v->rank_of[give], to = v->rank_of[take];
    /* Ranges of equal length at other places may differ by an element: only equal ranges are equal for every size. */
    bool same = a->slots == b->slots && a->lo == b->lo && a->hi == b->hi && same_length(v, from, to, a, b);
    if (same && a->acc == b->acc) return medleySuccess;
    char x[MDL_REF_TEXT_BYTES], y[MDL_REF_TEXT_BYTES];
    mdl_ref_format(a, v->parts, x, sizeof(x));
    mdl_ref_format(b, v->parts, y, sizeof(y));
    if (!same)
        return mdl_verify_fail(v, give, "sends %s, but rank %u instruction %u receives %s of another size", x, to,
                               take - v->first[to], y);
    return mdl_verify_fail(v, give, "sends %s, but rank %u instruction %u receives %s: only one is a partial", x, to,
                           take - v->first[to], y);
}

/* Entries [at, end) are one lane; the first `gives` of them give. */
static medleyResult_t match_lane(struct mdl_verify *v, const struct entry *at, uint32_t n)
{
    uint32_t gives = 0;
    while (gives < n && at[gives].side == 0) gives++;
    uint32_t takes = n - gives, pairs = gives < takes ? gives : takes;
    for (uint32_t k = 1; k < n; k++)
        if (k != gives) v->lane_prev[at[k].inst] = at[k - 1].inst;
    for (uint32_t k = 0; k < pairs; k++) MDL_TRY(pair(v, at[k].inst, at[gives + k].inst));
    if (gives == takes) return medleySuccess;
    uint32_t odd = gives > takes ? at[pairs].inst : at[gives + pairs].inst;
    const struct mdl_inst *in = mdl_verify_inst(v, odd);
    return mdl_verify_fail(v, odd, "has no counterpart on rank %u, channel %u (%u against %u)", in->peer, in->channel,
                           gives, takes);
}

static medleyResult_t match_all(struct mdl_verify *v, struct entry *entries)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->total; i++) {
        unsigned op = mdl_verify_inst(v, i)->op;
        v->partner[i] = v->lane_prev[i] = MDL_NO_DEP;
        if (op != MDL_OP_COPY && op != MDL_OP_REDUCE) entries[n++] = entry_of(v, i);
    }
    qsort(entries, n, sizeof(*entries), compare);
    for (uint32_t at = 0, end; at < n; at = end) {
        for (end = at + 1; end < n && entries[end].lane == entries[at].lane;) end++;
        MDL_TRY(match_lane(v, entries + at, end - at));
    }
    return medleySuccess;
}

medleyResult_t mdl_verify_match(struct mdl_verify *v)
{
    size_t room = (size_t)v->total + 1;
    v->partner = malloc(room * sizeof(*v->partner));
    v->lane_prev = malloc(room * sizeof(*v->lane_prev));
    struct entry *entries = malloc(room * sizeof(*entries));
    medleyResult_t result = v->partner && v->lane_prev && entries ? match_all(v, entries) : mdl_verify_memory(v);
    free(entries);
    return result;
}
