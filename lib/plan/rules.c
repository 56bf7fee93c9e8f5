/* SPDX-License-Identifier: Apache-2.0 */
/* One function per rule; the first that fails writes the text. */
#include "config.h"
#include "lib/plan/rules.h"
#include "lib/plan/text.h"
#include <medley/plugin.h>
#include <stdarg.h>
#include <stdio.h>

struct check {
    const struct mdl_rules *r;
    char *text;
    size_t bytes;
};

static bool MDL_PRINTF(2, 3) refuse(const struct check *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->text, c->bytes, fmt, args);
    va_end(args);
    return false;
}

/* The same about a reference, whose name comes first. */
static bool MDL_PRINTF(3, 4) refuse_ref(const struct check *c, const struct mdl_ref *ref, const char *fmt, ...)
{
    char name[MDL_REF_TEXT_BYTES], text[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    mdl_ref_format(ref, c->r->parts, name, sizeof(name));
    return refuse(c, "%s: %s", name, text);
}

/* ---- references ---- */

static bool check_range(const struct check *c, const struct mdl_ref *ref)
{
    const struct mdl_rules *r = c->r;
    if (ref->rank >= (uint32_t)r->team->nranks) return refuse_ref(c, ref, "there is no such rank");
    if (ref->buf > MDL_SCRATCH) return refuse_ref(c, ref, "unknown buffer");
    if (!ref->slots) return refuse_ref(c, ref, "names no slot, or more than %d", UINT16_MAX);
    if (ref->lo >= ref->hi || ref->hi > r->parts) return refuse_ref(c, ref, "parts out of range (of %u)", r->parts);
    if (ref->slots > 1 && (ref->lo || ref->hi != r->parts)) return refuse_ref(c, ref, "parts of more than one slot");
    uint32_t have = ref->buf == MDL_IN ? r->in_slots : ref->buf == MDL_OUT ? r->out_slots : r->scratch_slots;
    bool known = ref->buf != MDL_SCRATCH || ref->rank == r->rank;
    if (known && (ref->slot >= have || ref->slots > have - ref->slot))
        return refuse_ref(c, ref, "slot out of range (of %u)", have);
    if (ref->buf != MDL_SCRATCH && !mdl_collective_has(r->coll, (int)ref->rank, ref->buf))
        return refuse_ref(c, ref, "only the root has this buffer");
    if (ref->acc && ref->buf != MDL_SCRATCH) return refuse_ref(c, ref, "only SCRATCH can hold partials");
    if (ref->slots > 1 && ref->buf == MDL_SCRATCH && !ref->acc && mdl_collective_reduces(r->coll))
        return refuse_ref(c, ref, "where partials are wider, elements of several slots do not touch");
    return true;
}

static bool check_v(const struct check *c, const struct mdl_ref *ref)
{
    if (!mdl_collective_is_v(c->r->coll)) return true;
    bool remote = ref->rank != c->r->rank, pairs = c->r->coll->coll == medleyCollAlltoAllV;
    if (ref->slots > 1) return refuse_ref(c, ref, "several slots in a V collective, where each has its own length");
    if (ref->shape >= (uint32_t)c->r->team->nranks) return refuse_ref(c, ref, "shape %u is no rank", ref->shape);
    uint32_t slots = ref->buf == MDL_IN ? c->r->in_slots : c->r->out_slots, shape = slots == 1 ? ref->rank : ref->slot;
    if (ref->buf != MDL_SCRATCH && ref->shape != shape)
        return refuse_ref(c, ref, "has shape %u instead of %u", ref->shape, shape);
    if (remote && (ref->buf == MDL_OUT || pairs))
        return refuse_ref(c, ref, "a V collective's displacements are known to their owner only");
    if (pairs && ref->buf == MDL_SCRATCH) return refuse_ref(c, ref, "SCRATCH has no length in AlltoAllV");
    return true;
}

static bool check_remote(const struct check *c, const struct mdl_ref *ref, bool write)
{
    const struct mdl_team *team = c->r->team;
    const struct mdl_facts *facts = &c->r->coll->facts;
    if (ref->rank == c->r->rank) return true;
    if (team->host[ref->rank] != team->host[c->r->rank]) return refuse_ref(c, ref, "is on another host");
    switch (ref->buf) {
    case MDL_IN:
        if (write) return refuse_ref(c, ref, "another rank's IN is never written");
        if (!facts->in_mapped && !team->remote_get) return refuse_ref(c, ref, "no fact allows remote IN");
        return true;
    case MDL_OUT:
        if (!facts->out_mapped && (write || !team->remote_get))
            return refuse_ref(c, ref, "no fact allows %s remote OUT", write ? "writing" : "reading");
        return true;
    default:
        if (!team->remote_scratch) return refuse_ref(c, ref, "the team has no remote SCRATCH");
        return true;
    }
}

static bool check_ref(const struct check *c, const struct mdl_ref *ref, bool write)
{
    return check_range(c, ref) && check_v(c, ref) && check_remote(c, ref, write);
}

static bool same_size(const struct check *c, const struct mdl_ref *a, const struct mdl_ref *b)
{
    char other[MDL_REF_TEXT_BYTES];
    /* AlltoAllV: only the own block moves within a rank, and there both sides name the rank itself. */
    bool shaped = !mdl_collective_is_v(c->r->coll) || a->shape == b->shape;
    if (a->slots == b->slots && a->lo == b->lo && a->hi == b->hi && shaped) return true;
    mdl_ref_format(b, c->r->parts, other, sizeof(other));
    if (a->slots != b->slots) return refuse_ref(c, a, "has another number of slots than %s", other);
    if (!shaped) return refuse_ref(c, a, "has shape %u, and %s has shape %u", a->shape, other, b->shape);
    return refuse_ref(c, a, "may differ from %s by an element", other);
}

/* ---- instructions ---- */

static bool shares_memory(const struct check *c, uint32_t peer)
{
    const struct mdl_team *team = c->r->team;
    const struct mdl_facts *facts = &c->r->coll->facts;
    return team->host[peer] == team->host[c->r->rank] &&
           (team->remote_scratch || team->remote_get || facts->in_mapped || facts->out_mapped);
}

static bool check_peer(const struct check *c, const struct mdl_inst *in)
{
    const char *op = mdl_opcode_name(in->op);
    if (in->peer >= (uint32_t)c->r->team->nranks) return refuse(c, "%s: there is no rank %u", op, in->peer);
    if (in->peer == c->r->rank) return refuse(c, "%s with itself", op);
    if (in->channel >= MDL_MAX_CHANNELS)
        return refuse(c, "%s: channel %u is over the limit of %d", op, in->channel, MDL_MAX_CHANNELS);
    if ((in->op == MDL_OP_SIGNAL || in->op == MDL_OP_WAIT) && !shares_memory(c, in->peer))
        return refuse(c, "%s: rank %u is on another host, or the host shares no memory", op, in->peer);
    if (in->flags) return refuse(c, "%s takes no flags", op);
    return true;
}

static bool check_message(const struct check *c, const struct mdl_inst *in, const struct mdl_ref *srcs)
{
    bool send = in->op == MDL_OP_SEND;
    if (!check_peer(c, in)) return false;
    if (in->nsrc != (send ? 1 : 0)) return refuse(c, "%s with %u sources", mdl_opcode_name(in->op), in->nsrc);
    if (in->op == MDL_OP_SIGNAL || in->op == MDL_OP_WAIT) return true;
    const struct mdl_ref *ref = send ? srcs : &in->dst;
    if (ref->rank != c->r->rank) return refuse(c, "%s of another rank's memory", mdl_opcode_name(in->op));
    if (!send && ref->buf == MDL_IN) return refuse(c, "IN is never written");
    return check_ref(c, ref, !send);
}

/* Sources that share bytes with the destination must be the very same elements. */
static bool check_overlap(const struct check *c, const struct mdl_ref *dst, const struct mdl_ref *src)
{
    if (dst->rank != src->rank || dst->buf != src->buf) return true;
    bool apart = dst->slot + dst->slots <= src->slot || src->slot + src->slots <= dst->slot;
    bool same = dst->slot == src->slot && dst->acc == src->acc;
    return apart || same ? true : refuse(c, "destination and source overlap without being the same");
}

static bool check_copy_flags(const struct check *c, const struct mdl_inst *in, const struct mdl_ref *src)
{
    const struct mdl_collective *coll = c->r->coll;
    if (in->flags & MDL_INST_PREMUL) {
        if (!coll->premul) return refuse(c, "PREMUL, but the operation has no factor");
        if (src->buf != MDL_IN || src->rank != c->r->rank || in->dst.buf != MDL_SCRATCH || !in->dst.acc)
            return refuse(c, "PREMUL goes from the rank's own IN to partials in SCRATCH");
        if (in->flags != MDL_INST_PREMUL) return refuse(c, "PREMUL with other flags");
        return true;
    }
    if (in->flags & MDL_INST_TREE) return refuse(c, "a COPY is no tree");
    if ((in->flags & MDL_INST_FINAL) && !mdl_collective_reduces(coll))
        return refuse(c, "FINAL, but nothing is reduced");
    if (in->dst.acc != src->acc) return refuse(c, "a COPY does not convert: use REDUCE with one source");
    return true;
}

static bool check_copy(const struct check *c, const struct mdl_inst *in, const struct mdl_ref *srcs)
{
    if (in->nsrc != 1) return refuse(c, "COPY with %u sources", in->nsrc);
    if (in->dst.buf == MDL_IN) return refuse(c, "IN is never written");
    return check_ref(c, srcs, false) && check_ref(c, &in->dst, true) && same_size(c, &in->dst, srcs) &&
           check_overlap(c, &in->dst, srcs) && check_copy_flags(c, in, srcs);
}

static bool check_reduce(const struct check *c, const struct mdl_inst *in, const struct mdl_ref *srcs)
{
    if (!mdl_collective_reduces(c->r->coll)) return refuse(c, "REDUCE, but the collective reduces nothing");
    if (!in->nsrc) return refuse(c, "REDUCE without sources");
    if (in->flags & ~(uint32_t)(MDL_INST_FINAL | MDL_INST_TREE)) return refuse(c, "REDUCE with flags %u", in->flags);
    if ((in->flags & MDL_INST_TREE) && in->nsrc > MDL_REDUCE_MAX_SRC)
        return refuse(c, "a tree of %u sources: the kernels take %d", in->nsrc, MDL_REDUCE_MAX_SRC);
    if (in->dst.rank != c->r->rank) return refuse(c, "REDUCE into another rank's memory");
    if (in->dst.buf == MDL_IN) return refuse(c, "IN is never written");
    if (!check_ref(c, &in->dst, true)) return false;
    for (uint32_t k = 0; k < in->nsrc; k++)
        if (!check_ref(c, &srcs[k], false) || !same_size(c, &in->dst, &srcs[k]) ||
            !check_overlap(c, &in->dst, &srcs[k]))
            return false;
    return true;
}

bool mdl_rules_check(const struct mdl_rules *r, const struct mdl_inst *in, const struct mdl_ref *srcs, char *text,
                     size_t bytes)
{
    struct check c = {r, text, bytes};
    switch (in->op) {
    case MDL_OP_SEND:
    case MDL_OP_RECV:
    case MDL_OP_SIGNAL:
    case MDL_OP_WAIT: return check_message(&c, in, srcs);
    case MDL_OP_COPY: return check_copy(&c, in, srcs);
    case MDL_OP_REDUCE: return check_reduce(&c, in, srcs);
    default: return refuse(&c, "opcode %u is not known here", in->op);
    }
}
