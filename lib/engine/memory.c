/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reference of a plan means in memory: own buffers, the host's mapped boards and segments, or an address in a
 * peer that only single copy can read. Also the two instructions that move data by reference.
 */
#include "config.h"

#include "lib/base/copy.h"
#include "lib/engine/exec.h"
#include "lib/engine/stage.h"
#include "lib/engine/workers.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE = 4096,
    TILE_BYTES = 128 * 1024,
    TILE_BYTES_MIN = 16 * 1024,
    TILE_BYTES_ALL = 512 * 1024,
    FAR_BYTES = 4096
};

_Static_assert(1 + (int)MDL_ALONG_MOST <= (int)MDL_REDUCE_MAX_DST, "a REDUCE and its copies are one reduction");

static const size_t *table(const struct mdl_op *op, int which)
{
    return op->tables + (size_t)which * (size_t)op->comm->nranks;
}

size_t mdl_op_slot_count(const struct mdl_op *op, enum mdl_buffer buf, uint32_t slot, uint32_t shape)
{
    if (!mdl_op_shape(op)->v) return op->count;
    if (op->call.coll == medleyCollAlltoAllV) return table(op, buf == MDL_OUT ? 2 : 0)[slot];
    return table(op, 0)[shape];
}

size_t mdl_op_own_count(const struct mdl_op *op, enum mdl_buffer buf, uint32_t slot)
{
    bool split = mdl_shape_is_split(mdl_op_shape(op), buf);

    return mdl_op_slot_count(op, buf, slot, split ? slot : (uint32_t)op->comm->rank);
}

size_t mdl_op_slot_offset(const struct mdl_op *op, enum mdl_buffer buf, uint32_t slot)
{
    const struct mdl_shape *shape = mdl_op_shape(op);

    if (!mdl_shape_is_split(shape, buf)) return 0;
    if (shape->v) return table(op, buf == MDL_IN ? 1 : 3)[slot];
    return (size_t)slot * op->count;
}

static size_t window_count(const struct mdl_run *run, const struct mdl_ref *ref)
{
    size_t n = mdl_op_slot_count(run->op, ref->buf, ref->slot, ref->shape);

    if (n > run->end) n = run->end;
    if (n <= run->start) return 0;
    n -= run->start;
    return n < run->prog->choice.window ? n : run->prog->choice.window;
}

/* Points `place` at a buffer of another rank of this host. */
static medleyResult_t resolve_peer_buffer(const struct mdl_run *run, const struct mdl_ref *ref, size_t offset,
                                          struct mdl_place *place)
{
    struct mdl_comm *c = run->op->comm;
    int i = c->team->local[ref->rank];
    const struct mdl_call *call = &c->calls[i];
    uint64_t segment = ref->buf == MDL_IN ? call->in_segment : call->out_segment;
    uint64_t addr = ref->buf == MDL_IN ? call->in_addr : call->out_addr;
    void **base = ref->buf == MDL_IN ? &c->mapped[i].in : &c->mapped[i].out;
    size_t *len = ref->buf == MDL_IN ? &c->mapped[i].in_len : &c->mapped[i].out_len;

    if (!segment) {
        place->ptr = NULL;
        place->remote = addr + offset;
        return medleySuccess;
    }
    if (!*base) {
        medleyResult_t res = c->map_transport->ops->map(c->map_transport->ctx, (int)ref->rank, segment, base, len);
        if (res == medleyRemoteError) run->op->suspect = (int)ref->rank;
        MDL_TRY(res);
    }
    if (addr > *len || offset > *len - addr || place->bytes > *len - addr - offset)
        return mdl_error(medleyRemoteError, "rank %u published a buffer outside its segment", ref->rank);
    place->ptr = (char *)*base + addr + offset;
    return medleySuccess;
}

/* Of this rank, as of a part's. */
static char *part_address(const struct mdl_run *run, enum mdl_buffer buf, size_t first)
{
    const struct mdl_run_part *part = run->part;
    const struct mdl_stage *s = run->op->stage;

    if (s && s->side[buf].staged) return mdl_stage_at(s, buf, 0, part->staged + run->start + first);
    return (buf == MDL_IN ? part->in : part->out) + (run->start + first) * run->op->elem;
}

medleyResult_t mdl_place_resolve(const struct mdl_run *run, const struct mdl_ref *ref, struct mdl_place *place)
{
    const struct mdl_op *op = run->op;
    struct mdl_comm *c = op->comm;
    size_t w = window_count(run, ref), first = 0, elem = ref->acc ? mdl_dtype_acc_size(op->call.dtype) : op->elem,
           offset;

    if (ref->slots == 1) {
        first = mdl_plan_part(w, run->prog->plan->parts, ref->lo);
        place->count = mdl_plan_part(w, run->prog->plan->parts, ref->hi) - first;
    } else {
        place->count = w * ref->slots;
    }
    place->bytes = place->count * elem;
    place->rank = (int)ref->rank;
    place->ptr = NULL;
    place->remote = 0;
    if (place->count == 0)
        return medleySuccess; /* a shorter slot of a V collective: its end may lie outside the buffer */
    if (ref->buf == MDL_SCRATCH) {
        char *base = mdl_board_scratch(&c->board, c->team->local[ref->rank]);
        place->ptr = base + run->scratch + ref->slot * run->slot_bytes + first * elem;
        return medleySuccess;
    }
    if (run->part) {
        if ((int)ref->rank != c->rank) return mdl_error(medleyInternalError, "bug: a part reads a peer's buffer");
        place->ptr = part_address(run, ref->buf, first);
        return medleySuccess;
    }
    offset = (mdl_op_slot_offset(op, ref->buf, ref->slot) + run->start + first) * elem;
    if ((int)ref->rank != c->rank) return resolve_peer_buffer(run, ref, offset, place);
    if (op->stage && op->stage->side[ref->buf].staged) {
        place->ptr = mdl_stage_at(op->stage, ref->buf, ref->slot, run->start + first);
        return medleySuccess;
    }
    place->ptr = (char *)(ref->buf == MDL_IN ? (void *)(uintptr_t)op->in : op->out) + offset;
    return medleySuccess;
}

static medleyResult_t get(struct mdl_op *op, const struct mdl_place *from, size_t offset, void *to, size_t bytes)
{
    const struct mdl_transport_use *t = op->comm->map_transport;
    medleyResult_t res = t->ops->get(t->ctx, from->rank, from->remote + offset, to, bytes);

    if (res == medleyRemoteError) op->suspect = from->rank;
    return res;
}

static medleyResult_t need_stage(struct mdl_comm *c, size_t bytes)
{
    if (c->stage_bytes >= bytes) return medleySuccess;
    free(c->stage);
    c->stage_bytes = 0;
    c->stage = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
    if (!c->stage) return mdl_error(medleySystemError, "out of memory for %zu bytes of staging", bytes);
    c->stage_bytes = bytes;
    return medleySuccess;
}

/* Where in a page-aligned buffer with a page to spare a copy of `remote` lies best: at the same place in its page. */
static char *beside(char *buffer, uint64_t remote) { return buffer + remote % PAGE; }

/* Tile by tile; through the stage if the two addresses lie so that the kernel's copy would crawl. */
static medleyResult_t copy_remote(struct mdl_op *op, const struct mdl_place *dst, const struct mdl_place *src)
{
    struct mdl_comm *c = op->comm;
    bool detour = mdl_copy_is_slow(dst->ptr, (const void *)(uintptr_t)src->remote, src->bytes);
    size_t tile = detour ? TILE_BYTES : TILE_BYTES_ALL;

    if (detour) MDL_TRY(need_stage(c, tile + PAGE));
    for (size_t at = 0; at < src->bytes; at += tile) {
        size_t n = src->bytes - at < tile ? src->bytes - at : tile;
        char *to = detour ? beside(c->stage, src->remote + at) : (char *)dst->ptr + at;
        if (mdl_comm_failed(c)) return mdl_comm_fault(c);
        MDL_TRY(get(op, src, at, to, n));
        if (detour) mdl_copy((char *)dst->ptr + at, to, n);
    }
    return medleySuccess;
}

/* ---- large copies and reductions in pieces, for the workers ---- */

enum { SHARE_BYTES = 256 * 1024 }; /* below it a worker costs more than it brings */

struct shared_copy {
    int pieces;
    size_t bytes;
    char *dst;
    const char *src;
    bool stream;
};

static void copy_piece(void *arg, int piece)
{
    const struct shared_copy *w = arg;
    size_t from = mdl_plan_part(w->bytes, (uint32_t)w->pieces, (uint32_t)piece);
    size_t n = mdl_plan_part(w->bytes, (uint32_t)w->pieces, (uint32_t)piece + 1) - from;

    (w->stream ? mdl_copy_stream : mdl_copy)(w->dst + from, w->src + from, n);
}

static int pieces_for(const struct mdl_comm *c, size_t bytes) { return bytes < SHARE_BYTES ? 1 : c->cfg.threads + 1; }

/* stream: past the caches. */
static void copy_bytes(const struct mdl_comm *c, void *dst, const void *src, size_t bytes, bool stream)
{
    struct shared_copy w = {.pieces = pieces_for(c, bytes), .bytes = bytes, .dst = dst, .src = src, .stream = stream};

    if (w.pieces == 1)
        copy_piece(&w, 0);
    else
        mdl_workers_run(copy_piece, &w, w.pieces);
}

/* Results that the caches cannot hold, or what others read whose cores are far. */
static bool is_streamed(const struct mdl_op *op, const struct mdl_ref *dst, size_t bytes)
{
    if (dst->buf == MDL_OUT) return op->stream;
    return dst->buf == MDL_SCRATCH && op->comm->far.is && bytes >= FAR_BYTES;
}

/* One reduction with where its results go: the destination of the REDUCE, then those of the copies along with it. */
struct reduction {
    struct mdl_reduce r;
    void *dst[1 + MDL_ALONG_MOST];
    int ndst, nsrc, pieces;
    size_t count, dst_size, bytes; /* bytes: of a destination */
    const void *src[MDL_REDUCE_MAX_SRC];
    size_t src_size[MDL_REDUCE_MAX_SRC];
    uint64_t src_acc;
};

/* Elements [from, from + n), of sources that lie somewhere else if `srcs` is given. */
static void reduce_elements(const struct reduction *d, const void *const *srcs, size_t from, size_t n)
{
    const void *src[MDL_REDUCE_MAX_SRC];
    void *dst[1 + MDL_ALONG_MOST];

    for (int s = 0; s < d->nsrc && !srcs; s++) src[s] = (const char *)d->src[s] + from * d->src_size[s];
    for (int k = 0; k < d->ndst; k++) dst[k] = (char *)d->dst[k] + from * d->dst_size;
    mdl_reduce_to(&d->r, dst, d->ndst, srcs ? srcs : src, d->src_acc, d->nsrc, n);
}

static void reduce_piece(void *arg, int piece)
{
    const struct reduction *d = arg;
    size_t from = mdl_plan_part(d->count, (uint32_t)d->pieces, (uint32_t)piece);
    size_t to = mdl_plan_part(d->count, (uint32_t)d->pieces, (uint32_t)piece + 1);

    reduce_elements(d, NULL, from, to - from);
}

static void reduce_all(const struct mdl_comm *c, struct reduction *d)
{
    d->pieces = pieces_for(c, d->bytes);
    if (d->pieces == 1)
        mdl_reduce_to(&d->r, d->dst, d->ndst, d->src, d->src_acc, d->nsrc, d->count);
    else
        mdl_workers_run(reduce_piece, d, d->pieces);
}

static struct mdl_reduce reduce_of(const struct mdl_run *run, const struct mdl_inst *in)
{
    const struct mdl_op *op = run->op;
    bool avg = op->call.op == medleyAvg && (in->flags & MDL_INST_FINAL);

    return (struct mdl_reduce){
        .dtype = op->call.dtype,
        .op = op->call.op == medleyAvg ? medleySum : op->call.op,
        .tree = (in->flags & MDL_INST_TREE) != 0,
        .dst_acc = in->dst.acc,
        .finalize = avg ? MDL_FINAL_AVG : MDL_FINAL_NONE,
        .divisor = (uint32_t)op->comm->nranks,
    };
}

static void count_read(const struct mdl_op *op, const struct mdl_place *src)
{
    const struct mdl_comm *c = op->comm;

    if (src->rank != c->rank) mdl_board_count_read(&c->board, c->team->local[src->rank], src->bytes);
}

medleyResult_t mdl_place_copy(struct mdl_run *run, const struct mdl_inst *in)
{
    const struct mdl_ref *ref = &run->prog->plan->refs[in->src];
    struct mdl_op *op = run->op;
    struct mdl_place src, dst;

    MDL_TRY(mdl_place_resolve(run, ref, &src));
    MDL_TRY(mdl_place_resolve(run, &in->dst, &dst));
    if (src.count != dst.count)
        return mdl_error(medleyInternalError, "plan %s copies %zu elements to %zu", run->prog->plan->algo, src.count,
                         dst.count);
    if (src.count == 0) return medleySuccess;
    if (!dst.ptr) return mdl_error(medleyInternalError, "plan %s writes unmapped memory", run->prog->plan->algo);
    count_read(op, &src);
    if (in->flags & MDL_INST_PREMUL) {
        mdl_premul(op->call.dtype, dst.ptr, src.ptr, &op->scalar, src.count);
    } else if (ref->acc != in->dst.acc || ((in->flags & MDL_INST_FINAL) && op->call.op == medleyAvg)) {
        struct mdl_reduce r = reduce_of(run, in);
        const void *one = src.ptr;
        mdl_reduce(&r, dst.ptr, &one, ref->acc, 1, src.count);
    } else if (!src.ptr) {
        return copy_remote(op, &dst, &src);
    } else if (dst.ptr != src.ptr) {
        copy_bytes(op->comm, dst.ptr, src.ptr, src.bytes, is_streamed(op, &in->dst, src.bytes));
    }
    return medleySuccess;
}

/* Reduces sources of which `nget` must be fetched: tile by tile, so that what was fetched is still in the cache when it
 * is added. */
static medleyResult_t reduce_fetching(struct mdl_op *op, const struct reduction *d, const struct mdl_place *places,
                                      int nget)
{
    struct mdl_comm *c = op->comm;
    size_t tile = TILE_BYTES_ALL / (size_t)nget, elems;
    const void *srcs[MDL_REDUCE_MAX_SRC];

    tile = tile > TILE_BYTES ? TILE_BYTES : tile < TILE_BYTES_MIN ? TILE_BYTES_MIN : tile;
    elems = tile / mdl_dtype_acc_size(op->call.dtype);
    MDL_TRY(need_stage(c, (size_t)nget * (tile + PAGE)));
    for (size_t at = 0; at < d->count; at += elems) {
        size_t n = d->count - at < elems ? d->count - at : elems;
        char *stage = c->stage;

        if (mdl_comm_failed(c)) return mdl_comm_fault(c);
        for (int s = 0; s < d->nsrc; s++) {
            char *to = beside(stage, places[s].remote + at * d->src_size[s]);
            srcs[s] = d->src[s] ? (const char *)d->src[s] + at * d->src_size[s] : to;
            if (d->src[s]) continue;
            MDL_TRY(get(op, &places[s], at * d->src_size[s], to, n * d->src_size[s]));
            stage += tile + PAGE;
        }
        reduce_elements(d, srcs, at, n);
    }
    return medleySuccess;
}

static medleyResult_t resolve_results(const struct mdl_run *run, uint32_t i, struct reduction *d)
{
    const struct mdl_program *p = run->prog;

    for (d->ndst = 0; i != MDL_NO_DEP; i = p->next[i], d->ndst++) {
        const struct mdl_inst *in = &p->plan->insts[i];
        struct mdl_place to;
        MDL_TRY(mdl_place_resolve(run, &in->dst, &to));
        if (d->ndst == 0) {
            d->count = to.count;
            d->bytes = to.bytes;
            d->dst_size = in->dst.acc ? mdl_dtype_acc_size(run->op->call.dtype) : run->op->elem;
        }
        if (to.count != d->count)
            return mdl_error(medleyInternalError, "plan %s copies %zu elements to %zu", p->plan->algo, d->count,
                             to.count);
        if (to.count && !to.ptr) return mdl_error(medleyInternalError, "plan %s writes unmapped memory", p->plan->algo);
        if (d->ndst < 64) d->r.stream |= (uint64_t)is_streamed(run->op, &in->dst, to.bytes) << d->ndst;
        d->dst[d->ndst] = to.ptr;
    }
    return medleySuccess;
}

medleyResult_t mdl_place_reduce(struct mdl_run *run, uint32_t i)
{
    const struct mdl_inst *in = &run->prog->plan->insts[i];
    struct mdl_place places[MDL_REDUCE_MAX_SRC];
    struct reduction d;
    int nget = 0;

    if (in->nsrc > MDL_REDUCE_MAX_SRC)
        return mdl_error(medleyInternalError, "plan %s reduces %u sources at once", run->prog->plan->algo, in->nsrc);
    d.r = reduce_of(run, in);
    d.nsrc = (int)in->nsrc;
    d.src_acc = 0;
    MDL_TRY(resolve_results(run, i, &d));
    if (d.count == 0) return medleySuccess;
    for (uint32_t s = 0; s < in->nsrc; s++) {
        const struct mdl_ref *ref = &run->prog->plan->refs[in->src + s];
        MDL_TRY(mdl_place_resolve(run, ref, &places[s]));
        if (places[s].count != d.count)
            return mdl_error(medleyInternalError, "plan %s reduces %zu elements to %zu", run->prog->plan->algo,
                             places[s].count, d.count);
        d.src_acc |= (uint64_t)ref->acc << s;
        d.src_size[s] = ref->acc ? mdl_dtype_acc_size(run->op->call.dtype) : run->op->elem;
        d.src[s] = places[s].ptr;
        nget += !places[s].ptr;
        count_read(run->op, &places[s]);
    }
    if (nget) return reduce_fetching(run->op, &d, places, nget);
    reduce_all(run->op->comm, &d);
    return medleySuccess;
}
