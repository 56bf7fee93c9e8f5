/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures of calls. Point-to-point calls use `root` for the peer, and are compared by type and bytes only. */
#include "config.h"

#include "lib/engine/call.h"
#include "lib/plan/text.h"

#include <stdio.h>

bool mdl_call_same(const struct mdl_call *a, const struct mdl_call *b)
{
    return a->coll == b->coll && a->dtype == b->dtype && a->op == b->op && a->root == b->root && a->count == b->count &&
           a->table == b->table && (a->flags & MDL_LINE_PREMUL) == (b->flags & MDL_LINE_PREMUL);
}

/* One round of splitmix64: cheap and well mixed. */
static uint64_t mix(uint64_t h, uint64_t v)
{
    h += v + 0x9e3779b97f4a7c15u;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
}

uint64_t mdl_call_hash_table(const size_t *counts, int n)
{
    uint64_t h = 1;

    for (int i = 0; i < n; i++) h = mix(h, counts[i]);
    return h;
}

uint64_t mdl_call_tag(const struct mdl_call *c, uint64_t seq, uint64_t before)
{
    bool message = mdl_call_is_message(c);
    uint64_t h = mix(mix(before, seq), message ? medleyCollSend : c->coll);

    h = mix(h, (uint64_t)c->dtype | (uint64_t)c->op << 8 | (uint64_t)(c->flags & MDL_LINE_PREMUL) << 16);
    if (!message) h = mix(h, (uint64_t)(uint32_t)c->root);
    h = mix(mix(h, c->count), c->table);
    return h ? h : 1;
}

void mdl_call_write(struct mdl_writer *w, const struct mdl_call *c)
{
    mdl_write_u8(w, c->coll);
    mdl_write_u8(w, c->dtype);
    mdl_write_u8(w, c->op);
    mdl_write_u8(w, c->flags);
    mdl_write_u32(w, (uint32_t)c->root);
    mdl_write_u64(w, c->count);
    mdl_write_u64(w, c->table);
}

void mdl_call_read(struct mdl_reader *r, struct mdl_call *c)
{
    *c = (struct mdl_call){.coll = mdl_read_u8(r), .dtype = mdl_read_u8(r), .op = mdl_read_u8(r)};
    c->flags = mdl_read_u8(r);
    c->root = (int32_t)mdl_read_u32(r);
    c->count = mdl_read_u64(r);
    c->table = mdl_read_u64(r);
}

static void shrink_text(const struct mdl_call *c, char text[MDL_CALL_TEXT_BYTES])
{
    int n = snprintf(text, MDL_CALL_TEXT_BYTES, "Shrink(to %u ranks", (unsigned)c->count);
    const char *between = ", without ";

    if (c->dtype == 0) n += snprintf(text + n, MDL_CALL_TEXT_BYTES - (size_t)n, " #%08x", (unsigned)c->table);
    for (int r = 0; c->dtype && r < 64 && n < MDL_CALL_TEXT_BYTES - 12; r++) {
        if (!(c->table >> r & 1)) continue;
        n += snprintf(text + n, MDL_CALL_TEXT_BYTES - (size_t)n, "%s%d", between, r);
        between = ", ";
    }
    snprintf(text + n, MDL_CALL_TEXT_BYTES - (size_t)n, ")");
}

static void job_text(const struct mdl_call *c, char text[MDL_CALL_TEXT_BYTES])
{
    if (c->coll == MDL_CALL_SHRINK)
        shrink_text(c, text);
    else if (c->coll == MDL_CALL_WINDOW)
        snprintf(text, MDL_CALL_TEXT_BYTES, "WindowRegister(%llu bytes)", (unsigned long long)c->count);
    else if (c->root < 0)
        snprintf(text, MDL_CALL_TEXT_BYTES, "Split(no color)");
    else
        snprintf(text, MDL_CALL_TEXT_BYTES, "Split(color %d, key %d)", c->root, (int)(uint32_t)c->count);
}

void mdl_call_text(const struct mdl_call *c, char text[MDL_CALL_TEXT_BYTES])
{
    const char *type = c->dtype < medleyNumTypes ? mdl_dtype_name(c->dtype) : "?";
    const char *op = c->flags & MDL_LINE_PREMUL ? "premulsum" : c->op < medleyNumOps ? mdl_op_name(c->op) : "?";
    int at;

    if (mdl_call_is_job(c)) {
        job_text(c, text);
        return;
    }
    if (c->coll == medleyCollBarrier) {
        snprintf(text, MDL_CALL_TEXT_BYTES, "Barrier()");
        return;
    }
    if (c->coll == medleyCollAlltoAllV) /* its counts differ from rank to rank */
        at = snprintf(text, MDL_CALL_TEXT_BYTES, "%s(%s", mdl_coll_name(c->coll), type);
    else if (mdl_shapes[c->coll].v)
        at = snprintf(text, MDL_CALL_TEXT_BYTES, "%s(%llu in all, counts #%08x, %s", mdl_coll_name(c->coll),
                      (unsigned long long)c->count, (unsigned)c->table, type);
    else
        at = snprintf(text, MDL_CALL_TEXT_BYTES, "%s(%llu x %s", mdl_coll_name(c->coll), (unsigned long long)c->count,
                      type);
    if (mdl_shapes[c->coll].reduces) at += snprintf(text + at, MDL_CALL_TEXT_BYTES - (size_t)at, ", %s", op);
    if (c->coll == medleyCollSend)
        at += snprintf(text + at, MDL_CALL_TEXT_BYTES - (size_t)at, ", to rank %d", c->root);
    else if (c->coll == medleyCollRecv)
        at += snprintf(text + at, MDL_CALL_TEXT_BYTES - (size_t)at, ", from rank %d", c->root);
    else if (c->root >= 0)
        at += snprintf(text + at, MDL_CALL_TEXT_BYTES - (size_t)at, ", root %d", c->root);
    snprintf(text + at, MDL_CALL_TEXT_BYTES - (size_t)at, ")");
}
