/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of the reduction kernels: cuts a reduction into what a kernel takes.
 *
 * Up to MDL_FOLD_SRC sources are one pass of a kernel over whole blocks, plus one padded block for the rest. More
 * sources are folded in groups, tile by tile, so that the partials between the groups stay in the first-level cache and
 * memory is still read and written once: the left fold carries one tile of partials from group to group; the tree folds
 * each group to a tile of its own and then folds these tiles, which is the same tree because a group is a power of two.
 *
 * A kernel stores to up to MDL_FOLD_DST destinations. What is more, or cannot be streamed in step with the others, is
 * copied from the first destination, tile by tile, out of the cache.
 */
#include "config.h"

#include "lib/base/copy.h"
#include "lib/reduce/fpmode.h"
#include "lib/reduce/kernels.h"
#include <string.h>

enum {
    TILE_BYTES = 4096,        /* of partials */
    RESULT_BYTES = 64 * 1024, /* of results that are copied further */
    GROUPS = (MDL_REDUCE_MAX_SRC + MDL_FOLD_SRC - 1) / MDL_FOLD_SRC,
};

/* What every piece of one reduction has in common. */
struct pass {
    mdl_kernel *kernel;
    size_t size, acc_size, block; /* bytes, bytes, elements: powers of two */
    bool padded;
};

static struct pass pass_of(medleyDataType_t dtype, medleyRedOp_t op, bool padded)
{
    const struct mdl_kernels *k = mdl_kernels_get();
    const size_t acc_size = mdl_dtype_acc_size(dtype);
    const unsigned row = (unsigned)op < MDL_FOLD_OPS ? (unsigned)op : medleySum; /* Avg and PreMulSum fold as Sum */
    return (struct pass){.kernel = k->fold[dtype][row],
                         .size = mdl_dtype_size(dtype),
                         .acc_size = acc_size,
                         .block = k->block_bytes ? k->block_bytes >> __builtin_ctzl(acc_size) : 1,
                         .padded = padded};
}

static size_t src_size(const struct pass *p, const struct mdl_fold *f, int k)
{
    return f->src_acc >> k & 1 ? p->acc_size : p->size;
}

static size_t dst_size(const struct pass *p, const struct mdl_fold *f) { return f->dst_acc ? p->acc_size : p->size; }

/* `f` from element `first` on; its sources stay where they are. */
static struct mdl_fold fold_from(const struct pass *p, const struct mdl_fold *f, size_t first)
{
    struct mdl_fold from = *f;
    from.dst = (char *)f->dst + first * dst_size(p, f);
    for (int d = 0; d < f->nalso; d++) from.also[d] = (char *)f->also[d] + first * dst_size(p, f);
    return from;
}

/* Folds `count` elements, fewer than a block, that start `first` elements into the buffers. */
static void fold_rest(const struct pass *p, const struct mdl_fold *f, size_t first, size_t count)
{
    unsigned char in[MDL_FOLD_SRC][MDL_BLOCK_BYTES_MAX], out[MDL_BLOCK_BYTES_MAX];
    struct mdl_fold rest = *f;
    const size_t bytes = count * dst_size(p, f), at = first * dst_size(p, f);
    for (int k = 0; k < f->nsrc; k++) {
        const size_t size = src_size(p, f, k);
        rest.src[k] = (const char *)f->src[k] + first * size;
        if (p->padded) continue;
        memcpy(in[k], (const char *)f->src[k] + first * size, count * size);
        memset(in[k] + count * size, 0, (p->block - count) * size);
        rest.src[k] = in[k];
    }
    rest.dst = out;
    rest.nalso = 0;
    rest.stream = 0;
    p->kernel(&rest, 1);
    memcpy((char *)f->dst + at, out, bytes);
    for (int d = 0; d < f->nalso; d++) memcpy((char *)f->also[d] + at, out, bytes);
}

static void fold(const struct pass *p, const struct mdl_fold *f, size_t count)
{
    const size_t rest = count & (p->block - 1), blocks = (count - rest) >> __builtin_ctzl(p->block);
    if (blocks) p->kernel(f, blocks);
    if (rest) fold_rest(p, f, blocks * p->block, rest);
}

/* A reduction of more sources than a kernel takes. */
struct many {
    const void *const *srcs;
    uint64_t src_acc;
    int nsrc;
};

/* Appends the sources [from, to) to `f`, starting with element `first`. */
static void add_sources(const struct pass *p, struct mdl_fold *f, const struct many *m, int from, int to, size_t first)
{
    for (int k = from; k < to; k++) {
        const bool acc = m->src_acc >> k & 1;
        f->src_acc |= (uint32_t)acc << f->nsrc;
        f->src[f->nsrc++] = (const char *)m->srcs[k] + first * (acc ? p->acc_size : p->size);
    }
}

static int min_int(int a, int b) { return a < b ? a : b; }

/* Leaves in `last`, which has the destination and how to finish, the sources of the last fold of a tile. */
static void tile_left(const struct pass *p, const struct many *m, size_t first, size_t count, void *tile,
                      struct mdl_fold *last)
{
    struct mdl_fold f = {.dst = tile, .dst_acc = true};
    int k = min_int(m->nsrc, MDL_FOLD_SRC);
    add_sources(p, &f, m, 0, k, first);
    while (k < m->nsrc) {
        fold(p, &f, count);
        const int to = min_int(m->nsrc, k + MDL_FOLD_SRC - 1);
        f = (struct mdl_fold){.dst = tile, .dst_acc = true, .src = {tile}, .src_acc = 1, .nsrc = 1};
        add_sources(p, &f, m, k, to, first);
        k = to;
    }
    memcpy(last->src, f.src, sizeof f.src);
    last->src_acc = f.src_acc;
    last->nsrc = f.nsrc;
}

static void tile_tree(const struct pass *p, const struct many *m, size_t first, size_t count,
                      unsigned char tiles[GROUPS][TILE_BYTES], struct mdl_fold *last)
{
    last->tree = true;
    for (int from = 0; from < m->nsrc; from += MDL_FOLD_SRC) {
        unsigned char *tile = tiles[from / MDL_FOLD_SRC];
        struct mdl_fold f = {.dst = tile, .dst_acc = true, .tree = true};
        add_sources(p, &f, m, from, min_int(m->nsrc, from + MDL_FOLD_SRC), first);
        fold(p, &f, count);
        last->src_acc |= 1u << last->nsrc;
        last->src[last->nsrc++] = tile;
    }
}

/* Sources from element `from` on. */
static void fold_many(const struct pass *p, const struct mdl_fold *f, const struct many *m, size_t from, size_t count)
{
    _Alignas(64) unsigned char tiles[GROUPS][TILE_BYTES];
    const size_t step = TILE_BYTES / p->acc_size;
    for (size_t first = 0; first < count; first += step) {
        const size_t n = count - first < step ? count - first : step;
        struct mdl_fold last = fold_from(p, f, first);
        if (f->tree)
            tile_tree(p, m, from + first, n, tiles, &last);
        else
            tile_left(p, m, from + first, n, tiles[0], &last);
        fold(p, &last, n);
    }
}

static void fold_all(const struct pass *p, const struct mdl_fold *f, const struct many *m, size_t first, size_t count)
{
    if (m->nsrc > MDL_FOLD_SRC) {
        fold_many(p, f, m, first, count);
        return;
    }
    struct mdl_fold all = *f;
    add_sources(p, &all, m, 0, m->nsrc, first);
    fold(p, &all, count);
}

/* What stands before the first whole cache line of the destinations `stream` is written in the ordinary way. They all
 * begin at the same place of a line. */
static void fold_streamed(const struct pass *p, const struct mdl_fold *f, const struct many *m, uint64_t stream,
                          size_t count)
{
    const int one = __builtin_ctzll(stream);
    const uintptr_t at = (uintptr_t)(one ? f->also[one - 1] : f->dst);
    const size_t to_line = (MDL_STREAM_LINE - at % MDL_STREAM_LINE) % MDL_STREAM_LINE / dst_size(p, f);
    const size_t head = to_line < count ? to_line : count;
    struct mdl_fold rest = fold_from(p, f, head);
    if (head) fold_all(p, f, m, 0, head);
    rest.stream = (uint32_t)stream;
    if (head < count) fold_all(p, &rest, m, head, count - head);
    mdl_stream_fence();
}

/* The way a kernel ends: floats are multiplied, integers divided. */
static void set_average(medleyDataType_t dtype, uint32_t divisor, struct mdl_fold *f)
{
    f->finish = MDL_FINISH_SCALE;
    if (dtype == medleyFloat64) {
        f->scale.f64 = 1.0 / (double)divisor;
    } else if (dtype >= medleyFloat16) {
        f->scale.f32 = 1.0f / (float)divisor;
    } else if (divisor == 1) {
        f->finish = MDL_FINISH_KEEP;
    } else {
        f->finish = MDL_FINISH_DIVIDE;
        f->divisor = divisor;
        f->reciprocal = mdl_divisor_of(divisor);
    }
}

/* A block at most, of padded sources: one call of a kernel, and next to nothing around it. */
static void reduce_short(const struct mdl_reduce *r, const struct pass *p, void *dst, const void *const *srcs,
                         uint64_t src_acc, int nsrc, size_t count)
{
    unsigned char out[MDL_BLOCK_BYTES_MAX];
    struct mdl_fold f;
    f.dst = out;
    f.nalso = 0;
    f.dst_acc = r->dst_acc;
    f.tree = r->tree && nsrc > 2;
    f.src_acc = (uint32_t)src_acc;
    f.nsrc = nsrc;
    f.stream = 0;
    f.finish = MDL_FINISH_KEEP;
    for (int k = 0; k < nsrc; k++) f.src[k] = srcs[k];
    const uint64_t mode = mdl_fpmode_enter();
    if (r->finalize == MDL_FINAL_AVG) set_average(r->dtype, r->divisor, &f);
    p->kernel(&f, 1);
    mdl_fpmode_leave(mode);
    memcpy(dst, out, count * (r->dst_acc ? p->acc_size : p->size));
}

/* Bits of nsrc sources that move unchanged. */
static bool is_copy(const struct mdl_reduce *r, const struct pass *p, uint64_t src_acc, int nsrc)
{
    return nsrc == 1 && r->finalize == MDL_FINAL_NONE && (p->size == p->acc_size || (src_acc & 1) == r->dst_acc);
}

/* Not to itself. */
static void copy_to(void *dst, const void *src, size_t bytes, bool stream)
{
    if (dst != src) (stream ? mdl_copy_stream : mdl_copy)(dst, src, bytes);
}

/* To as many destinations as a kernel takes. */
static void reduce_pass(const struct mdl_reduce *r, const struct pass *p, void *const *dsts, int ndst,
                        const struct many *m, size_t count)
{
    struct mdl_fold f = {.dst = dsts[0], .nalso = ndst - 1, .dst_acc = r->dst_acc, .tree = r->tree && m->nsrc > 2};
    const uint64_t stream = r->stream & (((uint64_t)1 << ndst) - 1), mode = mdl_fpmode_enter();
    for (int d = 1; d < ndst; d++) f.also[d - 1] = dsts[d];
    if (r->finalize == MDL_FINAL_AVG) set_average(r->dtype, r->divisor, &f);
    if (stream)
        fold_streamed(p, &f, m, stream, count);
    else
        fold_all(p, &f, m, 0, count);
    mdl_fpmode_leave(mode);
}

void mdl_reduce(const struct mdl_reduce *r, void *dst, const void *const *srcs, uint64_t src_acc, int nsrc,
                size_t count)
{
    const struct pass p = pass_of(r->dtype, r->op, r->padded);
    if (r->padded && count <= p.block && nsrc > 1 && nsrc <= MDL_FOLD_SRC) {
        reduce_short(r, &p, dst, srcs, src_acc, nsrc, count);
        return;
    }
    const struct many m = {srcs, src_acc, nsrc};
    if (count == 0) return;
    if (is_copy(r, &p, src_acc, nsrc))
        copy_to(dst, srcs[0], count * (r->dst_acc ? p.acc_size : p.size), r->stream & 1);
    else
        reduce_pass(r, &p, &dst, 1, &m, count);
}

/* ---- several destinations ---- */

/* Can one pass of a kernel write them all? */
static bool is_level(uint64_t stream, void *const *dsts, int ndst)
{
    uintptr_t first = 0;
    if (ndst > MDL_FOLD_DST) return false;
    for (int d = 0; d < ndst; d++) {
        if (!(stream >> d & 1)) continue;
        if (first && ((uintptr_t)dsts[d] - first) % MDL_STREAM_LINE) return false;
        first = (uintptr_t)dsts[d];
    }
    return true;
}

static void copy_to_all(const struct mdl_reduce *r, void *const *dsts, int ndst, int from, const char *src, size_t at,
                        size_t bytes)
{
    for (int d = from; d < ndst; d++) {
        const bool stream = d < 64 && r->stream >> d & 1;
        copy_to((char *)dsts[d] + at, src, bytes, stream);
    }
}

/* Results of the first destination go on while they are in the cache; so it is not written past that. */
static void reduce_tiles(const struct mdl_reduce *r, const struct pass *p, void *const *dsts, int ndst,
                         const struct many *m, size_t count)
{
    const size_t size = r->dst_acc ? p->acc_size : p->size, step = RESULT_BYTES / size;
    const void *srcs[MDL_REDUCE_MAX_SRC];
    struct mdl_reduce first = *r;
    first.stream = 0;
    for (size_t at = 0; at < count; at += step) {
        const size_t n = count - at < step ? count - at : step;
        char *result = (char *)dsts[0] + at * size;
        for (int k = 0; k < m->nsrc; k++)
            srcs[k] = (const char *)m->srcs[k] + at * (m->src_acc >> k & 1 ? p->acc_size : p->size);
        mdl_reduce(&first, result, srcs, m->src_acc, m->nsrc, n);
        copy_to_all(r, dsts, ndst, 1, result, at * size, n * size);
    }
}

void mdl_reduce_to(const struct mdl_reduce *r, void *const *dsts, int ndst, const void *const *srcs, uint64_t src_acc,
                   int nsrc, size_t count)
{
    if (ndst == 1) {
        mdl_reduce(r, dsts[0], srcs, src_acc, nsrc, count);
        return;
    }
    const struct pass p = pass_of(r->dtype, r->op, r->padded);
    const struct many m = {srcs, src_acc, nsrc};
    if (count == 0) return;
    if (is_level(r->stream, dsts, ndst) && !is_copy(r, &p, src_acc, nsrc))
        reduce_pass(r, &p, dsts, ndst, &m, count);
    else
        reduce_tiles(r, &p, dsts, ndst, &m, count);
}

void mdl_premul(medleyDataType_t dtype, void *dst_acc, const void *src, const void *scalar, size_t count)
{
    const struct pass p = pass_of(dtype, medleySum, false);
    struct mdl_fold f = {.dst = dst_acc, .src = {src}, .nsrc = 1, .dst_acc = true, .finish = MDL_FINISH_SCALE};
    if (count == 0) return;
    const uint64_t mode = mdl_fpmode_enter();
    if (p.size == p.acc_size)
        memcpy(&f.scale, scalar, p.size);
    else
        f.scale.f32 = mdl_to_float(dtype, scalar);
    fold(&p, &f, count);
    mdl_fpmode_leave(mode);
}
