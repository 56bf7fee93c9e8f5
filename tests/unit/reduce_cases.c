/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See reduce_cases.h. Every case goes through `check_call`: it fills buffers of exactly the right size at addresses
 * that are aligned to their elements only, works out the result with the oracle, runs the reduction and compares every
 * bit of the destination, of the sources, and of what stands around the destination.
 */
#include "tests/unit/reduce_cases.h"
#include "tests/unit/reduce_oracle.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { GUARD = 64, MAX_PRINTED = 10 };

struct call {
    struct mdl_reduce r;
    uint64_t src_acc;
    int nsrc;
    size_t count;
    int in_place;             /* this source is the destination; -1: none */
    unsigned odd;             /* addresses are off by some elements that depend on it */
    bool finite;              /* no infinities and NaNs among the inputs */
    bool strange_mode;        /* run it with another floating-point mode */
    const uint64_t *given[2]; /* inputs, or NULL: random ones */
};

static int printed;
int reduce_cases_part = 1;

static bool is_float(medleyDataType_t t) { return t >= medleyFloat16; }

static bool is_narrow(medleyDataType_t t) { return mdl_dtype_size(t) != mdl_dtype_acc_size(t); }

static size_t size_of(const struct call *c, bool acc)
{
    return acc ? mdl_dtype_acc_size(c->r.dtype) : mdl_dtype_size(c->r.dtype);
}

/* Of the narrow types. */
static bool is_finite(medleyDataType_t dtype, uint64_t code)
{
    switch (dtype) {
    case medleyFloat16: return (code & 0x7fff) < 0x7c00;
    case medleyBfloat16: return (code & 0x7fff) < 0x7f80;
    case medleyFloat8e4m3: return (code & 0x7f) < 0x7f;
    default: return (code & 0x7f) < 0x7c;
    }
}

static bool src_is_acc(const struct call *c, int k) { return c->src_acc >> k & 1; }

static void print_failure(const struct call *c, size_t i, uint64_t got, uint64_t want)
{
    if (printed++ >= MAX_PRINTED) return;
    printf("%s: %s %s%s of %d sources (partials %#" PRIx64
           ") to %s, finalize %d by %u, count %zu, in place %d, odd %u: "
           "element %zu is %#" PRIx64 ", should be %#" PRIx64 "\n",
           mdl_reduce_selected(), mdl_dtype_name(c->r.dtype), mdl_op_name(c->r.op), c->r.tree ? " tree" : "", c->nsrc,
           c->src_acc, c->r.dst_acc ? "partials" : "dtype", (int)c->r.finalize, c->r.divisor, c->count, c->in_place,
           c->odd, i, got, want);
}

/* ---- the strange floating-point mode: flush denormals, round up ---- */

#if defined(__x86_64__)
static uint64_t mode_set_strange(void)
{
    const unsigned old = _mm_getcsr();
    _mm_setcsr(0xdfc0); /* FTZ, DAZ, round up */
    return old;
}
static bool mode_is_strange(void) { return (_mm_getcsr() & 0xffc0) == 0xdfc0; }
static void mode_restore(uint64_t old) { _mm_setcsr((unsigned)old); }
#elif defined(__aarch64__)
static uint64_t mode_get(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
static void mode_restore(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
enum { STRANGE = 1 << 26 | 1 << 24 | 1 << 22 }; /* alternative half, FZ, round up */
static uint64_t mode_set_strange(void)
{
    const uint64_t old = mode_get();
    mode_restore(STRANGE);
    return old;
}
static bool mode_is_strange(void) { return mode_get() == STRANGE; }
#else
static uint64_t mode_set_strange(void) { return 0; }
static bool mode_is_strange(void) { return true; }
static void mode_restore(uint64_t old) { (void)old; }
#endif

/* Half of the calls: the result must be the same. */
static bool is_padded(const struct call *c) { return c->odd & 1; }

static bool reduce_in_mode(const struct call *c, void *dst, const void *const *srcs)
{
    struct mdl_reduce r = c->r;
    r.padded = is_padded(c);
    if (!c->strange_mode) {
        mdl_reduce(&r, dst, srcs, c->src_acc, c->nsrc, c->count);
        return true;
    }
    const uint64_t old = mode_set_strange();
    mdl_reduce(&r, dst, srcs, c->src_acc, c->nsrc, c->count);
    const bool kept = mode_is_strange();
    mode_restore(old);
    return kept;
}

/* ---- one call, checked ---- */

struct buffers {
    unsigned char *memory[MDL_REDUCE_MAX_SRC + 1]; /* as malloc gave it */
    void *srcs[MDL_REDUCE_MAX_SRC];
    unsigned char *dst;
    uint64_t *in[MDL_REDUCE_MAX_SRC]; /* the sources' elements before the call */
};

static void *must_alloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) abort();
    return p;
}

/* `k` numbers the buffer, so that every one is off by something else. */
static size_t offset_of(const struct call *c, int k, size_t size) { return (c->odd * (unsigned)(k + 1)) % 17 * size; }

static void make_buffers(const struct call *c, uint64_t *seed, struct buffers *b)
{
    for (int k = 0; k < c->nsrc; k++) {
        const size_t size = size_of(c, src_is_acc(c, k)), offset = offset_of(c, k, size);
        const size_t room = k == c->in_place ? GUARD : 0, tail = is_padded(c) ? MDL_REDUCE_PADDING : room;
        b->memory[k] = must_alloc(offset + room + c->count * size + tail);
        memset(b->memory[k], 0xa5, offset + room + c->count * size + tail);
        b->srcs[k] = b->memory[k] + offset + room;
        b->in[k] = must_alloc(c->count * sizeof(uint64_t));
        for (size_t i = 0; i < c->count; i++) {
            do b->in[k][i] = k < 2 && c->given[k] ? c->given[k][i] : oracle_random(c->r.dtype, src_is_acc(c, k), seed);
            while (c->finite && !is_finite(c->r.dtype, b->in[k][i]));
            oracle_store(b->srcs[k], i, size, b->in[k][i]);
        }
    }
    const size_t size = size_of(c, c->r.dst_acc), offset = offset_of(c, c->nsrc, size) + GUARD;
    b->memory[c->nsrc] = must_alloc(offset + c->count * size + GUARD);
    memset(b->memory[c->nsrc], 0xa5, offset + c->count * size + GUARD);
    b->dst = c->in_place < 0 ? b->memory[c->nsrc] + offset : b->srcs[c->in_place];
}

static void free_buffers(const struct call *c, struct buffers *b)
{
    for (int k = 0; k <= c->nsrc; k++) free(b->memory[k]);
    for (int k = 0; k < c->nsrc; k++) free(b->in[k]);
}

static int check_sources(const struct call *c, const struct buffers *b)
{
    int bad = 0;
    for (int k = 0; k < c->nsrc; k++) {
        const size_t size = size_of(c, src_is_acc(c, k));
        for (size_t i = 0; k != c->in_place && i < c->count; i++)
            bad += oracle_load(b->srcs[k], i, size) != b->in[k][i];
    }
    if (bad) printf("%d elements of the sources changed\n", bad);
    return bad;
}

static int check_guards(const struct call *c, const struct buffers *b)
{
    int bad = 0;
    const unsigned char *end = b->dst + c->count * size_of(c, c->r.dst_acc);
    for (int i = 0; i < GUARD; i++) bad += (b->dst[i - GUARD] != 0xa5) + (end[i] != 0xa5);
    if (bad) printf("%d bytes around the destination changed\n", bad);
    return bad;
}

static int check_call(const struct call *c, uint64_t *seed)
{
    struct buffers b;
    uint64_t in[MDL_REDUCE_MAX_SRC];
    make_buffers(c, seed, &b);
    int bad = !reduce_in_mode(c, b.dst, (const void *const *)b.srcs);
    if (bad) printf("the floating-point mode was not put back\n");
    for (size_t i = 0; i < c->count; i++) {
        for (int k = 0; k < c->nsrc; k++) in[k] = b.in[k][i];
        const uint64_t want = oracle_reduce(&c->r, in, c->src_acc, c->nsrc);
        const uint64_t got = oracle_load(b.dst, i, size_of(c, c->r.dst_acc));
        if (got != want) bad++, print_failure(c, i, got, want);
    }
    bad += check_sources(c, &b) + check_guards(c, &b);
    free_buffers(c, &b);
    return bad;
}

/* ---- cases ---- */

int case_names(void)
{
    static const char *const names[] = {"int8", "uint8", "int32",  "uint32",   "int64",  "uint64",
                                        "half", "float", "double", "bfloat16", "f8e4m3", "f8e5m2"};
    static const uint8_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1}, accs[] = {1, 1, 4, 4, 8, 8, 4, 4, 8, 4, 4, 4};
    static const char *const ops[] = {"sum", "prod", "max", "min", "avg"};
    int bad = 0;
    for (int t = 0; t < medleyNumTypes; t++) {
        const medleyDataType_t dtype = (medleyDataType_t)t;
        bad += mdl_dtype_size(dtype) != sizes[t] || mdl_dtype_acc_size(dtype) != accs[t];
        bad += strcmp(mdl_dtype_name(dtype), names[t]) != 0;
    }
    for (int op = 0; op < medleyNumOps; op++) bad += strcmp(mdl_op_name((medleyRedOp_t)op), ops[op]) != 0;
    static const int outside[] = {-1, medleyNumTypes, 1000, INT32_MIN};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        bad += mdl_dtype_size((medleyDataType_t)outside[i]) != 0 || !mdl_dtype_name((medleyDataType_t)outside[i]);
        bad += mdl_dtype_acc_size((medleyDataType_t)outside[i]) != 0 || !mdl_op_name((medleyRedOp_t)outside[i]);
    }
    return bad;
}

/* Converts `count` given elements and compares; the single-element functions must agree. */
static int check_convert(medleyDataType_t dtype, bool to_acc, const uint64_t *given, size_t count)
{
    uint64_t seed = 1;
    const struct call c = {.r = {.dtype = dtype, .op = medleySum, .dst_acc = to_acc},
                           .src_acc = !to_acc,
                           .nsrc = 1,
                           .count = count,
                           .in_place = -1,
                           .given = {given}};
    int bad = check_call(&c, &seed);
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = 0;
        float f;
        if (to_acc) {
            oracle_store(&bits, 0, mdl_dtype_size(dtype), given[i]);
            f = mdl_to_float(dtype, &bits);
            bad += oracle_load(&f, 0, 4) != oracle_canonical(dtype, oracle_to_acc(dtype, given[i]));
        } else {
            oracle_store(&f, 0, 4, given[i]);
            mdl_from_float(dtype, f, &bits);
            bad += oracle_load(&bits, 0, mdl_dtype_size(dtype)) != oracle_from_acc(dtype, given[i]);
        }
    }
    return bad;
}

int case_widen(void)
{
    int bad = 0;
    uint64_t *codes = must_alloc(0x10000 * sizeof *codes);
    for (uint64_t i = 0; i < 0x10000; i++) codes[i] = i;
    for (int t = 0; t < medleyNumTypes; t++)
        if (is_narrow((medleyDataType_t)t))
            bad +=
                check_convert((medleyDataType_t)t, true, codes, (size_t)1 << (8 * mdl_dtype_size((medleyDataType_t)t)));
    free(codes);
    return bad;
}

/* All fp32 numbers with at most one bit more than the type's mantissa has, and both neighbours of each. Far outside
 * fp16's range only some of them. */
static int check_narrow(medleyDataType_t dtype, unsigned extra)
{
    enum { BATCH = 3 * 4096 };
    int bad = 0;
    size_t n = 0;
    uint64_t *given = must_alloc(BATCH * sizeof *given);
    for (uint64_t p = 0; p < (uint64_t)1 << (32 - extra); p++) {
        const uint32_t bits = (uint32_t)(p << extra);
        const int exponent = (int)(bits >> 23 & 0xff) - 127;
        if (extra == 12 && (exponent < -27 || exponent > 17) && p % 61 > 0) continue;
        given[n++] = bits;
        given[n++] = (uint32_t)(bits + 1);
        given[n++] = (uint32_t)(bits - 1);
        if (n == BATCH) bad += check_convert(dtype, false, given, n), n = 0;
    }
    bad += check_convert(dtype, false, given, n);
    free(given);
    return bad;
}

int case_narrow(void)
{
    return check_narrow(medleyFloat16, 12) + check_narrow(medleyBfloat16, 15) + check_narrow(medleyFloat8e4m3, 19) +
           check_narrow(medleyFloat8e5m2, 20);
}

int case_bytes(void)
{
    int bad = 0;
    uint64_t seed = 2, *a = must_alloc(0x10000 * sizeof *a), *b = must_alloc(0x10000 * sizeof *b);
    for (uint64_t i = 0; i < 0x10000; i++) a[i] = i >> 8, b[i] = i & 0xff;
    for (int t = 0; t < medleyNumTypes; t++)
        for (int op = 0; op < 4 && mdl_dtype_size((medleyDataType_t)t) == 1; op++)
            for (int acc = 0; acc <= is_narrow((medleyDataType_t)t); acc++) {
                const struct call c = {.r = {.dtype = (medleyDataType_t)t, .op = (medleyRedOp_t)op, .dst_acc = acc},
                                       .nsrc = 2,
                                       .count = 0x10000,
                                       .in_place = -1,
                                       .given = {a, b}};
                bad += check_call(&c, &seed);
            }
    free(a);
    free(b);
    return bad;
}

/* Pairs of codes of which none is infinity or NaN: those are what kernels may treat apart. */
static size_t finite_pairs(medleyDataType_t dtype, uint64_t *a, uint64_t *b)
{
    const unsigned special = dtype == medleyFloat8e5m2 ? 0x7c : 0x7f;
    size_t n = 0;
    for (unsigned i = 0; i < 0x10000; i++)
        if ((i >> 8 & 0x7f) < special && (i & 0x7f) < special) a[n] = i >> 8, b[n++] = i & 0xff;
    return n;
}

/* Buffers of finite numbers only, two sources and more. */
static int check_finite(medleyDataType_t dtype, medleyRedOp_t op, const uint64_t *a, const uint64_t *b, size_t count)
{
    int bad = 0;
    uint64_t seed = 12 + (uint64_t)op;
    for (int nsrc = 2; nsrc <= 9; nsrc++)
        for (uint32_t divisor = 0; divisor <= (op == medleySum ? 4 : 0); divisor = divisor ? divisor + 1 : 3) {
            const struct call c = {.r = {.dtype = dtype,
                                         .op = op,
                                         .finalize = divisor ? MDL_FINAL_AVG : MDL_FINAL_NONE,
                                         .divisor = divisor},
                                   .nsrc = nsrc,
                                   .count = nsrc == 2 ? count : 1000,
                                   .in_place = nsrc % 4 == 1 ? 1 : -1,
                                   .odd = (unsigned)nsrc % 3,
                                   .finite = true,
                                   .given = {nsrc == 2 ? a : NULL, nsrc == 2 ? b : NULL}};
            bad += check_call(&c, &seed);
        }
    return bad;
}

int case_finite(void)
{
    int bad = 0;
    uint64_t *a = must_alloc(0x10000 * sizeof *a), *b = must_alloc(0x10000 * sizeof *b);
    for (int t = 0; t < medleyNumTypes; t++)
        for (int op = 0; op < 4 && is_narrow((medleyDataType_t)t); op++) {
            const bool byte = mdl_dtype_size((medleyDataType_t)t) == 1;
            const size_t count = byte ? finite_pairs((medleyDataType_t)t, a, b) : 0;
            bad += check_finite((medleyDataType_t)t, (medleyRedOp_t)op, byte ? a : NULL, byte ? b : NULL,
                                byte ? count : 20000);
        }
    free(a);
    free(b);
    return bad;
}

int case_words(void)
{
    int bad = 0;
    uint64_t seed = 3;
    for (int t = 0; t < medleyNumTypes; t++)
        for (int op = 0; op < 4; op++) {
            const struct call c = {.r = {.dtype = (medleyDataType_t)t, .op = (medleyRedOp_t)op},
                                   .nsrc = 2,
                                   .count = mdl_dtype_size((medleyDataType_t)t) == 1 ? 0 : 50000,
                                   .in_place = -1};
            bad += check_call(&c, &seed);
        }
    return bad;
}

static uint64_t pick(uint64_t *seed, uint64_t below) { return oracle_random(medleyUint64, false, seed) / 5 % below; }

static struct call random_call(uint64_t *seed)
{
    static const uint32_t divisors[] = {1,   2,   3,    7,     8,          64,         100,
                                        255, 256, 1000, 65537, 0x7fffffff, 0x80000001, 0xffffffff};
    struct call c = {.in_place = -1};
    c.r.dtype = (medleyDataType_t)pick(seed, medleyNumTypes);
    c.r.op = (medleyRedOp_t)pick(seed, medleyNumOps);
    c.r.tree = pick(seed, 2);
    c.r.dst_acc = pick(seed, 2);
    c.r.finalize = pick(seed, 3) ? MDL_FINAL_NONE : MDL_FINAL_AVG;
    c.r.divisor = divisors[pick(seed, sizeof divisors / sizeof *divisors)];
    c.nsrc = 1 + (int)(pick(seed, 4) ? pick(seed, 9) : pick(seed, MDL_REDUCE_MAX_SRC));
    c.src_acc = pick(seed, 2) ? 0 : oracle_random(medleyUint64, false, seed);
    c.count = pick(seed, 2) ? pick(seed, 40) : pick(seed, 300);
    c.odd = (unsigned)pick(seed, 17);
    return c;
}

int case_shapes(void)
{
    int bad = 0;
    uint64_t seed = 4;
    for (int i = 0; i < 4000; i++) {
        const struct call c = random_call(&seed);
        bad += check_call(&c, &seed);
    }
    /* every number of sources, both orders of evaluation, where the order shows */
    for (int nsrc = 1; nsrc <= MDL_REDUCE_MAX_SRC; nsrc++)
        for (int tree = 0; tree < 2; tree++) {
            const struct call c = {.r = {.dtype = medleyFloat32, .op = medleySum, .tree = tree},
                                   .nsrc = nsrc,
                                   .count = 77,
                                   .in_place = -1};
            bad += check_call(&c, &seed);
        }
    return bad;
}

int case_stream(void)
{
    int bad = 0;
    uint64_t seed = 13;
    for (int i = 0; i < 1500 / reduce_cases_part; i++) {
        struct call c = random_call(&seed);
        c.r.stream = 1;
        c.count = pick(&seed, 3) ? c.count : c.count + 1000 + pick(&seed, 5000);
        if (pick(&seed, 4) == 0) c.in_place = 0, c.src_acc = (c.src_acc & ~(uint64_t)1) | c.r.dst_acc;
        bad += check_call(&c, &seed);
    }
    return bad;
}

/* ---- several destinations ---- */

enum { LINE = 64 };

struct several {
    int ndst, in_place; /* this destination is a source; -1: none */
    void *dsts[MDL_REDUCE_MAX_DST];
    unsigned char *memory[MDL_REDUCE_MAX_DST];
    size_t bytes;
};

/* level: all begin at the same place of a cache line. */
static void make_several(const struct call *c, const struct buffers *b, bool level, uint64_t *seed, struct several *s)
{
    const size_t size = size_of(c, c->r.dst_acc), shift = pick(seed, LINE / size) * size;
    s->bytes = c->count * size;
    s->in_place = -1;
    for (int d = 0; d < s->ndst; d++) {
        const size_t all = (GUARD + LINE + s->bytes + GUARD + LINE - 1) / LINE * LINE;
        const size_t at = GUARD + (level ? shift : pick(seed, LINE / size) * size);
        s->memory[d] = aligned_alloc(LINE, all);
        if (!s->memory[d]) abort();
        memset(s->memory[d], 0xa5, all);
        s->dsts[d] = s->memory[d] + at;
    }
    const int source = (int)pick(seed, (uint64_t)c->nsrc);
    if (pick(seed, 2) || src_is_acc(c, source) != c->r.dst_acc) return;
    s->in_place = (int)pick(seed, (uint64_t)s->ndst);
    s->dsts[s->in_place] = b->srcs[source];
}

static int check_several(struct call *c, struct several *s, bool level, uint64_t *seed)
{
    struct buffers b;
    int bad = 0;
    c->r.padded = is_padded(c);
    make_buffers(c, seed, &b);
    make_several(c, &b, level, seed, s);
    struct mdl_reduce alone = c->r;
    alone.stream = 0;
    mdl_reduce(&alone, b.dst, (const void *const *)b.srcs, c->src_acc, c->nsrc, c->count);
    mdl_reduce_to(&c->r, s->dsts, s->ndst, (const void *const *)b.srcs, c->src_acc, c->nsrc, c->count);
    for (int d = 0; d < s->ndst; d++) {
        const unsigned char *dst = s->dsts[d];
        int wrong = s->bytes && memcmp(dst, b.dst, s->bytes) != 0;
        for (int i = 1; i <= GUARD && d != s->in_place; i++) wrong += dst[-i] != 0xa5;
        for (int i = 0; i < GUARD && d != s->in_place; i++) wrong += dst[s->bytes + (size_t)i] != 0xa5;
        if (wrong && printed++ < MAX_PRINTED)
            printf("%s: destination %d of %d is wrong: %s %s of %d sources, %zu elements, stream %#" PRIx64
                   ", in place %d\n",
                   mdl_reduce_selected(), d, s->ndst, mdl_dtype_name(c->r.dtype), mdl_op_name(c->r.op), c->nsrc,
                   c->count, c->r.stream, s->in_place);
        bad += wrong;
        free(s->memory[d]);
    }
    free_buffers(c, &b);
    return bad;
}

/* What one destination gets is checked by the other cases: all must get the same, and nothing around them change. */
int case_several(void)
{
    static struct several s;
    int bad = 0;
    uint64_t seed = 14;
    for (int i = 0; i < 2400 / reduce_cases_part; i++) {
        struct call c = random_call(&seed);
        s.ndst = 1 + (int)(pick(&seed, 8) ? pick(&seed, 10) : pick(&seed, MDL_REDUCE_MAX_DST));
        c.r.stream = pick(&seed, 3) == 0 ? 0 : pick(&seed, 2) ? UINT64_MAX : oracle_random(medleyUint64, false, &seed);
        c.finite = is_narrow(c.r.dtype) && !c.src_acc && pick(&seed, 2);
        if (pick(&seed, 50) == 0) c.nsrc = 1 + c.nsrc % 3, c.count = 20000 + pick(&seed, 60000);
        bad += check_several(&c, &s, pick(&seed, 4) != 0, &seed);
    }
    return bad;
}

int case_in_place(void)
{
    int bad = 0;
    uint64_t seed = 5;
    for (int i = 0; i < 1500; i++) {
        struct call c = random_call(&seed);
        c.in_place = (int)pick(&seed, (uint64_t)c.nsrc);
        if (src_is_acc(&c, c.in_place) != c.r.dst_acc) c.src_acc ^= (uint64_t)1 << c.in_place;
        bad += check_call(&c, &seed);
    }
    return bad;
}

int case_copy(void)
{
    int bad = 0;
    uint64_t seed = 6;
    for (int t = 0; t < medleyNumTypes; t++)
        for (int acc = 0; acc < 2; acc++)
            for (int in_place = -1; in_place < 1; in_place++) {
                const struct call c = {.r = {.dtype = (medleyDataType_t)t, .op = medleyMax, .dst_acc = acc},
                                       .src_acc = (uint64_t)acc,
                                       .nsrc = 1,
                                       .count = 1001,
                                       .in_place = in_place,
                                       .odd = 3};
                bad += check_call(&c, &seed);
            }
    mdl_reduce(&(struct mdl_reduce){.dtype = medleyFloat32}, NULL, (const void *const[]){NULL}, 0, 1, 0);
    return bad;
}

int case_average(void)
{
    int bad = 0;
    uint64_t seed = 7;
    for (int t = 0; t < medleyNumTypes; t++)
        for (uint64_t d = 1; d <= UINT32_MAX; d = d < 20 ? d + 1 : d * 13 / 10 + pick(&seed, 3)) {
            const struct call c = {
                .r = {.dtype = (medleyDataType_t)t, .op = medleyAvg, .finalize = MDL_FINAL_AVG, .divisor = (uint32_t)d},
                .nsrc = 1 + (int)(d % 3),
                .count = 400,
                .in_place = -1};
            bad += check_call(&c, &seed);
        }
    return bad;
}

/* What the selected kernels give must be what the scalar ones do, which the oracle has checked. */
static int check_average8(medleyDataType_t dtype, uint32_t divisor, int nsrc, const void *const *srcs, size_t count,
                          uint8_t *got, uint8_t *want)
{
    const struct mdl_reduce r = {.dtype = dtype, .op = medleyAvg, .finalize = MDL_FINAL_AVG, .divisor = divisor};
    const char *name = mdl_reduce_selected();
    int bad = 0;
    mdl_reduce(&r, got, srcs, 0, nsrc, count);
    bad += mdl_reduce_select("scalar") != medleySuccess;
    mdl_reduce(&r, want, srcs, 0, nsrc, count);
    bad += mdl_reduce_select(name) != medleySuccess;
    for (size_t i = 0; i < count; i++) {
        if (got[i] == want[i]) continue;
        if (printed++ < MAX_PRINTED)
            printf("%s: average of %d %s by %u: element %zu is %#x, should be %#x\n", name, nsrc, mdl_dtype_name(dtype),
                   divisor, i, got[i], want[i]);
        bad++;
    }
    return bad;
}

int case_average8(void)
{
    static const uint32_t large[] = {254,  255,  256,   258,   510,   768,   1000,   1022,    4098,
                                     4096, 7000, 65534, 65535, 65536, 65538, 100000, 1000000, 0xfffffffe};
    int bad = 0;
    if (strcmp(mdl_reduce_selected(), "scalar") == 0) return 0; /* it would be compared with itself */
    uint64_t seed = 15, *a = must_alloc(0x10000 * sizeof *a), *b = must_alloc(0x10000 * sizeof *b);
    uint8_t *memory = must_alloc(5 * 0x10000), *src[3] = {memory, memory + 0x10000, memory + 0x20000};
    for (int t = 0; t < medleyNumTypes; t++) {
        const medleyDataType_t dtype = (medleyDataType_t)t;
        if (!is_narrow(dtype) || mdl_dtype_size(dtype) != 1) continue;
        const size_t count = finite_pairs(dtype, a, b);
        for (size_t i = 0; i < count; i++) {
            src[0][i] = (uint8_t)a[i], src[1][i] = (uint8_t)b[i];
            do src[2][i] = (uint8_t)oracle_random(dtype, false, &seed);
            while (!is_finite(dtype, src[2][i]));
        }
        for (uint32_t i = 1; i < 140 + sizeof large / sizeof *large; i++)
            for (int nsrc = 2; nsrc < 4; nsrc++)
                bad += check_average8(dtype, i < 140 ? i : large[i - 140], nsrc, (const void *const *)src, count,
                                      memory + 0x30000, memory + 0x40000);
    }
    free(a);
    free(b);
    free(memory);
    return bad;
}

static int check_premul(medleyDataType_t dtype, size_t count, uint64_t *seed)
{
    int bad = 0;
    const size_t size = mdl_dtype_size(dtype), acc_size = mdl_dtype_acc_size(dtype);
    unsigned char *src = must_alloc(count * size), *dst = must_alloc(count * acc_size), scalar[8];
    uint64_t *in = must_alloc(count * sizeof *in), factor = oracle_random(dtype, false, seed);
    oracle_store(scalar, 0, size, factor);
    for (size_t i = 0; i < count; i++) oracle_store(src, i, size, in[i] = oracle_random(dtype, false, seed));
    mdl_premul(dtype, dst, src, scalar, count);
    for (size_t i = 0; i < count; i++) {
        const uint64_t want = oracle_premul(dtype, in[i], factor), got = oracle_load(dst, i, acc_size);
        if (got == want) continue;
        if (printed++ < MAX_PRINTED)
            printf("premul %s: %#" PRIx64 " * %#" PRIx64 " is %#" PRIx64 ", should be %#" PRIx64 "\n",
                   mdl_dtype_name(dtype), in[i], factor, got, want);
        bad++;
    }
    free(src);
    free(dst);
    free(in);
    return bad;
}

int case_premul(void)
{
    int bad = 0;
    uint64_t seed = 8;
    for (int t = 0; t < medleyNumTypes; t++)
        for (size_t count = 0; count < 100; count++) bad += check_premul((medleyDataType_t)t, count, &seed);
    return bad;
}

int case_mode(void)
{
    int bad = 0;
    uint64_t seed = 9;
    for (int i = 0; i < 600; i++) {
        struct call c = random_call(&seed);
        c.strange_mode = true;
        if (is_float(c.r.dtype)) bad += check_call(&c, &seed);
    }
    return bad;
}

int case_large(void)
{
    static const int nsrcs[] = {2, 8, 9, 15, 16, 33, 64};
    int bad = 0;
    uint64_t seed = 10;
    for (int t = 0; t < medleyNumTypes; t++)
        for (size_t i = 0; i < sizeof nsrcs / sizeof *nsrcs; i++) {
            const struct call c = {.r = {.dtype = (medleyDataType_t)t, .op = medleySum, .tree = (t + i) & 1},
                                   .src_acc = 0x5a5a5a5a5a5a5a5au,
                                   .nsrc = nsrcs[i],
                                   .count = 9001 / (size_t)nsrcs[i] + 1033,
                                   .in_place = -1,
                                   .odd = 5};
            bad += check_call(&c, &seed);
        }
    return bad;
}

uint64_t case_digest(void)
{
    uint64_t seed = 11, digest = 0xcbf29ce484222325u;
    for (int i = 0; i < 2000; i++) {
        struct buffers b;
        const struct call c = random_call(&seed);
        make_buffers(&c, &seed, &b);
        mdl_reduce(&c.r, b.dst, (const void *const *)b.srcs, c.src_acc, c.nsrc, c.count);
        for (size_t k = 0; k < c.count; k++)
            digest = (digest ^ oracle_load(b.dst, k, size_of(&c, c.r.dst_acc))) * 0x100000001b3u;
        free_buffers(&c, &b);
    }
    return digest;
}

const struct reduce_case_row reduce_cases[] = {
    {"names", case_names},     {"widen", case_widen},   {"narrow", case_narrow},     {"bytes", case_bytes},
    {"words", case_words},     {"shapes", case_shapes}, {"in place", case_in_place}, {"copy", case_copy},
    {"average", case_average}, {"premul", case_premul}, {"mode", case_mode},         {"large", case_large},
    {"finite", case_finite},   {"stream", case_stream}, {"several", case_several},   {"average8", case_average8},

};
const int reduce_cases_count = sizeof reduce_cases / sizeof *reduce_cases;
