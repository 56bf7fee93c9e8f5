/* SPDX-License-Identifier: Apache-2.0 */
/* See kernels.h: compiling, trying out what is left to the device's arithmetic, and launching. */
#include "config.h"

#include "lib/dev/kernels.h"
#include "lib/base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEVICES = 64, WHY_BYTES = 256, NAME_BYTES = 32, THREADS = 256, MOST_BLOCKS = 4096, ARGS = 15 };
enum how {
    HOW_TREE = 4,
    HOW_DST_ACC = 8,
    HOW_SCALE = 16,
    HOW_DIVIDE = 32,
    HOW_CHUNKS = 64,
    HOW_HEAD_SHIFT = 8,
    CHUNK = 16
};

struct mdl_dev_kernels {
    const struct mdl_device *ops;
    int ordinal;
    void *module;
    void *fold[medleyNumTypes];
    uint32_t types; /* bit of each datatype that has the host's bits */
};

/* ---- types: what lib/reduce knows of them too, which this layer does not include ---- */

static const struct {
    uint8_t size, acc;
} sizes[medleyNumTypes] = {{1, 1}, {1, 1}, {4, 4}, {4, 4}, {8, 8}, {8, 8},
                           {2, 4}, {4, 4}, {8, 8}, {2, 4}, {1, 4}, {1, 4}};

#define BIT(t)    (1u << (t))
#define F32_TYPES (BIT(medleyFloat32) | NARROW)
#define NARROW    (BIT(medleyFloat16) | BIT(medleyBfloat16) | BIT(medleyFloat8e4m3) | BIT(medleyFloat8e5m2))
#define ALL_TYPES (BIT(medleyNumTypes) - 1)

static bool is_float(medleyDataType_t t) { return t >= medleyFloat16; }

/* ---- launching ---- */

struct launch {
    void *dst;
    const void *src[MDL_DEV_FOLD_SRC];
    uint64_t count, factor;
    uint32_t n, how, accs, divisor;
};

/* Can it go by chunks? Only a left fold of elements that all begin as far behind a multiple of CHUNK. Returns how many
 * threads have work. */
static uint64_t set_chunks(medleyDataType_t dtype, struct launch *l)
{
    const size_t size = sizes[dtype].size;
    uintptr_t behind = (uintptr_t)l->dst % CHUNK, head = (CHUNK - behind) % CHUNK / size;

    if (l->accs || (l->how & (HOW_TREE | HOW_DST_ACC)) || l->count < head + CHUNK / size) return l->count;
    for (uint32_t i = 0; i < l->n; i++)
        if ((uintptr_t)l->src[i] % CHUNK != behind) return l->count;
    l->how |= HOW_CHUNKS | (uint32_t)head << HOW_HEAD_SHIFT;
    return l->count / (CHUNK / size) + 2 * CHUNK; /* what is left before and behind goes element by element */
}

static medleyResult_t launch(const struct mdl_dev_kernels *k, medleyDataType_t dtype, struct launch *l,
                             mdl_dev_stream stream)
{
    const struct mdl_device *d = k->ops;
    uint64_t blocks = (set_chunks(dtype, l) + THREADS - 1) / THREADS;
    void *args[ARGS] = {&l->dst};
    size_t bytes[ARGS] = {sizeof(void *)};
    struct mdl_grid grid = {.blocks = (uint32_t)(blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS),
                            .threads = THREADS,
                            .args = args,
                            .sizes = bytes,
                            .nargs = ARGS};

    for (uint32_t i = 0; i < MDL_DEV_FOLD_SRC; i++) {
        if (i >= l->n) l->src[i] = l->src[0]; /* not read, but some vendors want addresses */
        args[1 + i] = &l->src[i];
        bytes[1 + i] = sizeof(void *);
    }
    args[9] = &l->count;
    args[10] = &l->factor;
    bytes[9] = bytes[10] = sizeof(uint64_t);
    args[11] = &l->n;
    args[12] = &l->how;
    args[13] = &l->accs;
    args[14] = &l->divisor;
    for (int i = 11; i < ARGS; i++) bytes[i] = sizeof(uint32_t);
    return d->kernel_launch(d, k->fold[dtype], &grid, stream);
}

/* How the last fold ends. Factors are computed here: quotients of floats are not the same on every device. */
static void set_end(const struct mdl_dev_reduce *r, struct launch *l)
{
    float f;
    double d;

    l->how |= r->dst_acc ? HOW_DST_ACC : 0;
    if (r->premul) {
        l->how |= HOW_SCALE;
        l->factor = r->scalar;
    } else if (r->divisor && is_float(r->dtype)) {
        l->how |= HOW_SCALE;
        f = 1.0f / (float)r->divisor;
        d = 1.0 / (double)r->divisor;
        if (r->dtype == medleyFloat64)
            memcpy(&l->factor, &d, sizeof(d));
        else
            memcpy(&l->factor, &f, sizeof(f));
    } else if (r->divisor > 1) {
        l->how |= HOW_DIVIDE;
        l->divisor = r->divisor;
    }
}

/* Sources [from, to) behind those that are there. */
static void add_sources(const struct mdl_dev_reduce *r, struct launch *l, const void *const *srcs, int from, int to)
{
    for (int i = from; i < to; i++) {
        l->accs |= (uint32_t)(r->src_acc >> i & 1) << l->n;
        l->src[l->n++] = srcs[i];
    }
}

static int smaller(int a, int b) { return a < b ? a : b; }

/* As lib/reduce/reduce.c: the left fold carries partials from group to group, the tree folds groups of their own. */
static medleyResult_t carry(const struct mdl_dev_kernels *k, const struct mdl_dev_reduce *r, struct launch *l,
                            const void *const *srcs, int nsrc, char *scratch, mdl_dev_stream stream)
{
    const size_t tile = l->count * sizes[r->dtype].acc;
    const struct launch none = {.count = l->count, .how = l->how, .divisor = 1};
    struct launch last = none;
    int done = r->tree ? 0 : MDL_DEV_FOLD_SRC;

    if (!r->tree) add_sources(r, l, srcs, 0, done);
    while (done < nsrc) {
        struct launch f = r->tree ? none : *l;
        int to = smaller(nsrc, done + (r->tree ? MDL_DEV_FOLD_SRC : MDL_DEV_FOLD_SRC - 1));
        f.dst = r->tree ? scratch + tile * last.n : scratch;
        f.how |= HOW_DST_ACC;
        if (r->tree) add_sources(r, &f, srcs, done, to);
        MDL_TRY(launch(k, r->dtype, &f, stream));
        last.accs |= 1u << last.n;
        last.src[last.n++] = f.dst;
        if (!r->tree) {
            add_sources(r, &last, srcs, done, to);
            *l = last;
            last = none;
        }
        done = to;
    }
    if (r->tree) *l = last;
    return medleySuccess;
}

size_t mdl_dev_reduce_scratch(const struct mdl_dev_reduce *r, int nsrc, size_t count)
{
    size_t tiles = r->tree ? ((size_t)nsrc + MDL_DEV_FOLD_SRC - 1) / MDL_DEV_FOLD_SRC : 1;

    return nsrc > MDL_DEV_FOLD_SRC ? tiles * count * sizes[r->dtype].acc : 0;
}

/* One source, unchanged: its bits move, whatever they are. */
static bool is_copy(const struct mdl_dev_reduce *r, int nsrc)
{
    bool narrow = sizes[r->dtype].size != sizes[r->dtype].acc;

    return nsrc == 1 && !r->premul && !r->divisor && (!narrow || (r->src_acc & 1) == r->dst_acc);
}

medleyResult_t mdl_dev_reduce(const struct mdl_dev_kernels *k, const struct mdl_dev_reduce *r, void *dst,
                              const void *const *srcs, int nsrc, size_t count, void *scratch, mdl_dev_stream stream)
{
    size_t size = r->dst_acc ? sizes[r->dtype].acc : sizes[r->dtype].size;
    struct launch l = {.count = count, .divisor = 1};

    if (!count) return medleySuccess;
    if (is_copy(r, nsrc))
        return dst == srcs[0] ? medleySuccess : k->ops->copy(k->ops, dst, srcs[0], count * size, MDL_COPY_D2D, stream);
    l.how = (uint32_t)(r->op < medleyAvg ? r->op : medleySum) | (r->tree && nsrc > 2 ? HOW_TREE : 0);
    if (nsrc > MDL_DEV_FOLD_SRC)
        MDL_TRY(carry(k, r, &l, srcs, nsrc, scratch, stream));
    else
        add_sources(r, &l, srcs, 0, nsrc);
    l.dst = dst;
    set_end(r, &l);
    return launch(k, r->dtype, &l, stream);
}

/* ---- trying out ---- */

/* Sums and products that come out otherwise where denormals are flushed or rounding is not to nearest even. */
enum { TRIALS = 4 };
struct trial {
    medleyDataType_t dtype;
    medleyRedOp_t op;
    uint64_t a[TRIALS], b[TRIALS], result[TRIALS];
};
#define ONE64 0x3ff0000000000000u
static const struct trial trials[] = {
    {medleyFloat32,
     medleySum,
     {1, 0x3f800000, 0x3f800001, 0x00800000},
     {1, 0x33800000, 0x33800000, 0x80000001},
     {2, 0x3f800000, 0x3f800002, 0x007fffff}},
    {medleyFloat32,
     medleyProd,
     {3, 0x00800000, 0x3f800001, 0x7f7fffff},
     {0x3f000000, 0x3f000000, 0x3f800001, 0x3f800000},
     {2, 0x00400000, 0x3f800002, 0x7f7fffff}},
    {medleyFloat64,
     medleySum,
     {1, ONE64, ONE64 + 1, 0x0010000000000000},
     {1, 0x3ca0000000000000, 0x3ca0000000000000, 0x8000000000000001},
     {2, ONE64, ONE64 + 2, 0x000fffffffffffff}},
    {medleyFloat64,
     medleyProd,
     {3, 0x0010000000000000, ONE64 + 1, 0x7fefffffffffffff},
     {0x3fe0000000000000, 0x3fe0000000000000, ONE64 + 1, ONE64},
     {2, 0x0008000000000000, ONE64 + 2, 0x7fefffffffffffff}},
};

struct bench {
    mdl_dev_stream stream;
    void *device;
    uint64_t *host; /* pinned: a, b, result */
};

static void pack(void *to, const uint64_t *values, size_t size)
{
    for (int i = 0; i < TRIALS; i++) {
        uint32_t low = (uint32_t)values[i];
        memcpy((char *)to + (size_t)i * size, size == 8 ? (const void *)&values[i] : (const void *)&low, size);
    }
}

static medleyResult_t run_trial(const struct mdl_dev_kernels *k, const struct bench *b, const struct trial *t,
                                bool *good)
{
    const struct mdl_device *d = k->ops;
    const size_t size = sizes[t->dtype].size, bytes = TRIALS * size;
    const struct mdl_dev_reduce r = {.dtype = t->dtype, .op = t->op};
    char *host = (char *)b->host, *device = b->device;
    const void *srcs[2] = {device, device + bytes};
    uint64_t expected[TRIALS];

    pack(host, t->a, size);
    pack(host + bytes, t->b, size);
    memset(host + 2 * bytes, 0xee, bytes);
    pack(expected, t->result, size);
    MDL_TRY(d->copy(d, device, host, 3 * bytes, MDL_COPY_H2D, b->stream));
    MDL_TRY(mdl_dev_reduce(k, &r, device + 2 * bytes, srcs, 2, TRIALS, NULL, b->stream));
    MDL_TRY(d->copy(d, host + 2 * bytes, device + 2 * bytes, bytes, MDL_COPY_D2H, b->stream));
    MDL_TRY(d->stream_sync(d, b->stream));
    *good = memcmp(expected, host + 2 * bytes, bytes) == 0;
    return medleySuccess;
}

static medleyResult_t run_trials(struct mdl_dev_kernels *k, const struct bench *b)
{
    k->types = ALL_TYPES;
    for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
        const struct trial *t = &trials[i];
        bool good = false;
        MDL_TRY(run_trial(k, b, t, &good));
        if (good) continue;
        k->types &= ~(t->dtype == medleyFloat32 ? F32_TYPES : BIT(t->dtype));
        MDL_INFO(MDL_COLL, "%s:%d does not compute as the host: sums and products of %s go through the host",
                 k->ops->vendor, k->ordinal, t->dtype == medleyFloat32 ? "fp32 and narrower floats" : "fp64");
    }
    return medleySuccess;
}

static medleyResult_t try_out(struct mdl_dev_kernels *k)
{
    const struct mdl_device *d = k->ops;
    const size_t bytes = 3 * TRIALS * sizeof(uint64_t);
    struct bench b = {0};
    medleyResult_t res = d->stream_create(d, &b.stream);

    if (res != medleySuccess) return res;
    res = d->alloc(d, bytes, &b.device);
    if (res != medleySuccess) goto destroy_stream;
    res = d->alloc_pinned(d, bytes, (void **)&b.host);
    if (res != medleySuccess) goto free_device;
    res = run_trials(k, &b);
    (void)d->free_pinned(d, b.host);
free_device:
    (void)d->free(d, b.device);
destroy_stream:
    (void)d->stream_destroy(d, b.stream);
    return res;
}

/* ---- compiling ---- */

static char *whole_text(void)
{
    size_t bytes = 1;
    char *text;

    for (const char *const *part = mdl_dev_kernels_text; *part; part++) bytes += strlen(*part);
    text = calloc(1, bytes);
    for (const char *const *part = mdl_dev_kernels_text; text && *part; part++) strcat(text, *part);
    return text;
}

static medleyResult_t find_kernels(struct mdl_dev_kernels *k)
{
    for (int t = 0; t < medleyNumTypes; t++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof(name), "mdl_fold_%d", t);
        MDL_TRY(k->ops->kernel_find(k->ops, k->module, name, &k->fold[t]));
    }
    return medleySuccess;
}

static medleyResult_t load(struct mdl_dev_kernels *k, const char *text)
{
    const struct mdl_device *d = k->ops;
    medleyResult_t res = d->module_load(d, text, &k->module);

    if (res != medleySuccess) return res;
    res = find_kernels(k);
    if (res == medleySuccess) res = try_out(k);
    if (res != medleySuccess) (void)d->module_unload(d, k->module);
    return res;
}

/* What was compiled in this process, or could not be. */
static struct {
    pthread_mutex_t lock;
    int n;
    struct {
        struct mdl_dev_kernels kernels;
        bool usable;
        char why[WHY_BYTES];
    } device[MOST_DEVICES];
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A failure is the adapter's to report, and nobody's error: its words must not stand for that of a later call. */
static bool compile(struct mdl_dev_kernels *k, char *why)
{
    char before[MDL_ERROR_TEXT_BYTES];
    char *text = whole_text();
    medleyResult_t res;

    snprintf(before, sizeof(before), "%s", mdl_error_text());
    if (!text) {
        snprintf(why, WHY_BYTES, "out of memory");
        return false;
    }
    res = load(k, text);
    free(text);
    if (res != medleySuccess) snprintf(why, WHY_BYTES, "%.250s", mdl_error_text());
    (void)mdl_error_set(res, before);
    return res == medleySuccess;
}

static int find(const struct mdl_dev *dev)
{
    for (int i = 0; i < all.n; i++)
        if (all.device[i].kernels.ops == dev->ops && all.device[i].kernels.ordinal == dev->ordinal) return i;
    if (all.n == MOST_DEVICES) return -1;
    all.device[all.n].kernels = (struct mdl_dev_kernels){.ops = dev->ops, .ordinal = dev->ordinal};
    all.device[all.n].usable = compile(&all.device[all.n].kernels, all.device[all.n].why);
    return all.n++;
}

const struct mdl_dev_kernels *mdl_dev_kernels_of(const struct mdl_dev *dev, char *why, size_t why_bytes)
{
    const struct mdl_dev_kernels *k = NULL;
    int i;

    if (!(dev->caps & MDL_DEV_KERNELS)) {
        snprintf(why, why_bytes, "%s has no run-time compiler", dev->ops->vendor);
        return NULL;
    }
    pthread_mutex_lock(&all.lock);
    i = find(dev);
    if (i >= 0 && all.device[i].usable) k = &all.device[i].kernels;
    if (!k) snprintf(why, why_bytes, "%s", i < 0 ? "too many devices" : all.device[i].why);
    pthread_mutex_unlock(&all.lock);
    return k;
}

bool mdl_dev_kernels_can(const struct mdl_dev_kernels *k, medleyDataType_t dtype)
{
    return (unsigned)dtype < medleyNumTypes && (k->types & BIT(dtype)) != 0;
}
