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

/* ---- references ---- */

static bool check_range(const struct check *c, const struct mdl_ref *ref)
{
    const struct mdl_rules *r = c->r;
    char name[MDL_REF_TEXT_BYTES];
    mdl_ref_format(ref, r->parts, name, sizeof(name));
    if (ref->rank >= (uint32_t)r->team->nranks) return refuse(c, "%s: there is no such rank", name);
    if (ref->buf > MDL_SCRATCH) return refuse(c, "%s: unknown buffer", name);
    if (!ref->slots) return refuse(c, "%s names no slot, or more than %d", name, UINT16_MAX);
    if (ref->lo >= ref->hi || ref->hi > r->parts) return refuse(c, "%s: parts out of range (of %u)", name, r->parts);
    if (ref->slots > 1 && (ref->lo || ref->hi != r->parts)) return refuse(c, "%s: parts of more than one slot", name);
    uint32_t have = ref->buf == MDL_IN ? r->in_slots : ref->buf == MDL_OUT ? r->out_slots : r->scratch_slots;
    bool known = ref->buf != MDL_SCRATCH || ref->rank == r->rank;
    if (known && (ref->slot >= have || ref->slots > have - ref->slot))
        return refuse(c, "%s: slot out of range (of %u)", name, have);
    if (ref->buf != MDL_SCRATCH && !mdl_collective_has(r->coll, (int)ref->rank, ref->buf))
        return refuse(c, "%s: only the root has this buffer", name);
    if (ref->acc && ref->buf != MDL_SCRATCH) return refuse(c, "%s: only SCRATCH can hold partials", name);
    if (ref->slots > 1 && ref->buf == MDL_SCRATCH && !ref->acc && mdl_collective_reduces(r->coll))
        return refuse(c, "%s: where partials are wider, elements of several slots do not touch", name);
    return true;
}

static bool check_v(const struct check *c, const struct mdl_ref *ref)
{
    char name[MDL_REF_TEXT_BYTES];
    if (!mdl_collective_is_v(c->r->coll)) return true;
    mdl_ref_format(ref, c->r->parts, name, sizeof(name));
    bool remote = ref->rank != c->r->rank, pairs = c->r->coll->coll == medleyCollAlltoAllV;
    if (ref->slots > 1) return refuse(c, "%s: several slots in a V collective, where each has its own length", name);
    if (ref->shape >= (uint32_t)c->r->team->nranks) return refuse(c, "%s: shape %u is no rank", name, ref->shape);
    if (remote && (ref->buf == MDL_OUT || pairs))
        return refuse(c, "%s: a V collective's displacements are known to their owner only", name);
    if (pairs && ref->buf == MDL_SCRATCH) return refuse(c, "%s: SCRATCH has no length in AlltoAllV", name);
    return true;
}

static bool check_remote(const struct check *c, const struct mdl_ref *ref, bool write)
{
    const struct mdl_team *team = c->r->team;
    const struct mdl_facts *facts = &c->r->coll->facts;
    if (ref->rank == c->r->rank) return true;
    char name[MDL_REF_TEXT_BYTES];
    mdl_ref_format(ref, c->r->parts, name, sizeof(name));
    if (team->host[ref->rank] != team->host[c->r->rank]) return refuse(c, "%s is on another host", name);
    switch (ref->buf) {
    case MDL_IN:
        if (write) return refuse(c, "%s: another rank's IN is never written", name);
        if (!facts->in_mapped && !team->remote_get) return refuse(c, "%s: no fact allows remote IN", name);
        return true;
    case MDL_OUT:
        if (!facts->out_mapped && (write || !team->remote_get))
            return refuse(c, "%s: no fact allows %s remote OUT", name, write ? "writing" : "reading");
        return true;
    default:
        if (!team->remote_scratch) return refuse(c, "%s: the team has no remote SCRATCH", name);
        return true;
    }
}

static bool check_ref(const struct check *c, const struct mdl_ref *ref, bool write)
{
    return check_range(c, ref) && check_v(c, ref) && check_remote(c, ref, write);
}

static bool same_size(const struct check *c, const struct mdl_ref *a, const struct mdl_ref *b)
{
    char x[MDL_REF_TEXT_BYTES], y[MDL_REF_TEXT_BYTES];
    mdl_ref_format(a, c->r->parts, x, sizeof(x));
    mdl_ref_format(b, c->r->parts, y, sizeof(y));
    if (a->slots != b->slots) return refuse(c, "%s and %s have different numbers of slots", x, y);
    if (a->lo != b->lo || a->hi != b->hi) return refuse(c, "%s and %s may differ by an element", x, y);
    /* AlltoAllV: only the own block moves within a rank, and there both sides name the rank itself. */
    if (mdl_collective_is_v(c->r->coll) && a->shape != b->shape)
        return refuse(c, "%s and %s have the shapes %u and %u", x, y, a->shape, b->shape);
    return true;
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
