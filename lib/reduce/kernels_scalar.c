/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference kernels: one element at a time, in plain C. Every other set of kernels must give the same bits.
 *
 * A type is (acc, load of the datatype, store of the datatype, load and store of the partial, finish). From these and
 * the operation of its acc type, FOLD writes one kernel: load the sources, combine, finish, store.
 */
#include "config.h"

#include "lib/reduce/kernels.h"
#include "lib/reduce/narrow.h"

/* ---- operations: OP_acc(a, b) ---- */

/* Unsigned arithmetic of at least int's rank: wraps, and small types are not promoted to a signed int that overflows.
 */
#define INTEGER_OPS(acc, wide)                                                                                         \
    static inline acc sum_##acc(acc a, acc b) { return (acc)((wide)a + (wide)b); }                                     \
    static inline acc prod_##acc(acc a, acc b) { return (acc)((wide)a * (wide)b); }                                    \
    static inline acc max_##acc(acc a, acc b) { return a > b ? a : b; }                                                \
    static inline acc min_##acc(acc a, acc b) { return a < b ? a : b; }

INTEGER_OPS(int8_t, uint32_t)
INTEGER_OPS(uint8_t, uint32_t)
INTEGER_OPS(int32_t, uint32_t)
INTEGER_OPS(uint32_t, uint32_t)
INTEGER_OPS(int64_t, uint64_t)
INTEGER_OPS(uint64_t, uint64_t)

/* Equal floats differ in bits only as -0 and +0; a comparison with a NaN is false, and a + b is then a NaN. */
#define FLOAT_OPS(acc)                                                                                                 \
    static inline acc sum_##acc(acc a, acc b) { return a + b; }                                                        \
    static inline acc prod_##acc(acc a, acc b) { return a * b; }                                                       \
    static inline acc max_##acc(acc a, acc b)                                                                          \
    {                                                                                                                  \
        if (a == b) return __builtin_signbit(a) ? b : a;                                                               \
        return a > b ? a : a < b ? b : a + b;                                                                          \
    }                                                                                                                  \
    static inline acc min_##acc(acc a, acc b)                                                                          \
    {                                                                                                                  \
        if (a == b) return __builtin_signbit(a) ? a : b;                                                               \
        return a < b ? a : a > b ? b : a + b;                                                                          \
    }

FLOAT_OPS(float)
FLOAT_OPS(double)

/* ---- types: load, store, finish ---- */

#define ACC_MEMORY(acc)                                                                                                \
    static inline acc load_##acc(const void *p, size_t i)                                                              \
    {                                                                                                                  \
        acc v;                                                                                                         \
        memcpy(&v, (const char *)p + i * sizeof v, sizeof v);                                                          \
        return v;                                                                                                      \
    }                                                                                                                  \
    static inline void store_##acc(void *p, size_t i, acc v) { memcpy((char *)p + i * sizeof v, &v, sizeof v); }

ACC_MEMORY(int8_t)
ACC_MEMORY(uint8_t)
ACC_MEMORY(uint16_t)
ACC_MEMORY(int32_t)
ACC_MEMORY(uint32_t)
ACC_MEMORY(int64_t)
ACC_MEMORY(uint64_t)
ACC_MEMORY(float)
ACC_MEMORY(double)

/* `wide` holds every value of the type and every divisor. */
#define INTEGER_FINISH(acc, member, wide)                                                                              \
    static inline acc finish_##acc(const struct mdl_fold *f, acc v)                                                    \
    {                                                                                                                  \
        if (f->finish == MDL_FINISH_SCALE) return prod_##acc(v, (acc)f->scale.member);                                 \
        return f->finish == MDL_FINISH_DIVIDE ? (acc)((wide)v / (wide)f->divisor) : v;                                 \
    }

INTEGER_FINISH(int8_t, u8, int64_t)
INTEGER_FINISH(uint8_t, u8, uint64_t)
INTEGER_FINISH(int32_t, u32, int64_t)
INTEGER_FINISH(uint32_t, u32, uint64_t)
INTEGER_FINISH(int64_t, u64, int64_t)
INTEGER_FINISH(uint64_t, u64, uint64_t)

static inline float finish_float(const struct mdl_fold *f, float v)
{
    return mdl_f32_canonical(f->finish == MDL_FINISH_SCALE ? v * f->scale.f32 : v);
}

static inline double finish_double(const struct mdl_fold *f, double v)
{
    return mdl_f64_canonical(f->finish == MDL_FINISH_SCALE ? v * f->scale.f64 : v);
}

#define NARROW_MEMORY(type, code, format)                                                                              \
    static inline float load_##type(const void *p, size_t i) { return mdl_narrow_to_f32(format, load_##code(p, i)); }  \
    static inline void store_##type(void *p, size_t i, float v)                                                        \
    {                                                                                                                  \
        store_##code(p, i, (code)mdl_narrow_from_f32(format, v));                                                      \
    }

NARROW_MEMORY(f16, uint16_t, MDL_NARROW_F16)
NARROW_MEMORY(bf16, uint16_t, MDL_NARROW_BF16)
NARROW_MEMORY(e4m3, uint8_t, MDL_NARROW_E4M3)
NARROW_MEMORY(e5m2, uint8_t, MDL_NARROW_E5M2)

/* ---- kernels ---- */

/* The tree is evaluated by strides: after the pass with stride s, v[k] is the value of the subtree of 2s sources at k.
 */
#define FOLD(prefix, type, acc, op)                                                                                    \
    static void prefix##_##op(const struct mdl_fold *f, size_t blocks)                                                 \
    {                                                                                                                  \
        for (size_t i = 0; i < blocks; i++) {                                                                          \
            acc v[MDL_FOLD_SRC] = {prefix##_source(f, 0, i)};                                                          \
            for (int k = 1; k < f->nsrc; k++) v[k] = prefix##_source(f, k, i);                                         \
            for (int step = 1; f->tree && step < f->nsrc; step *= 2)                                                   \
                for (int k = 0; k + step < f->nsrc; k += 2 * step) v[k] = op##_##acc(v[k], v[k + step]);               \
            for (int k = 1; !f->tree && k < f->nsrc; k++) v[0] = op##_##acc(v[0], v[k]);                               \
            prefix##_result(f, i, finish_##acc(f, v[0]));                                                              \
        }                                                                                                              \
    }

#define FOLD_ALL(prefix, type, acc)                                                                                    \
    static inline acc prefix##_source(const struct mdl_fold *f, int k, size_t i)                                       \
    {                                                                                                                  \
        return f->src_acc >> k & 1 ? load_##acc(f->src[k], i) : load_##type(f->src[k], i);                             \
    }                                                                                                                  \
    static inline void prefix##_put(const struct mdl_fold *f, void *dst, size_t i, acc v)                              \
    {                                                                                                                  \
        if (f->dst_acc)                                                                                                \
            store_##acc(dst, i, v);                                                                                    \
        else                                                                                                           \
            store_##type(dst, i, v);                                                                                   \
    }                                                                                                                  \
    static inline void prefix##_result(const struct mdl_fold *f, size_t i, acc v)                                      \
    {                                                                                                                  \
        prefix##_put(f, f->dst, i, v);                                                                                 \
        for (int d = 0; d < f->nalso; d++) prefix##_put(f, f->also[d], i, v);                                          \
    }                                                                                                                  \
    FOLD(prefix, type, acc, sum)                                                                                       \
    FOLD(prefix, type, acc, prod)                                                                                      \
    FOLD(prefix, type, acc, max)                                                                                       \
    FOLD(prefix, type, acc, min)

FOLD_ALL(int8, int8_t, int8_t)
FOLD_ALL(uint8, uint8_t, uint8_t)
FOLD_ALL(int32, int32_t, int32_t)
FOLD_ALL(uint32, uint32_t, uint32_t)
FOLD_ALL(int64, int64_t, int64_t)
FOLD_ALL(uint64, uint64_t, uint64_t)
FOLD_ALL(f16, f16, float)
FOLD_ALL(f32, float, float)
FOLD_ALL(f64, double, double)
FOLD_ALL(bf16, bf16, float)
FOLD_ALL(e4m3, e4m3, float)
FOLD_ALL(e5m2, e5m2, float)

const struct mdl_kernels mdl_kernels_scalar = {.name = "scalar", .block_bytes = 0, .fold = MDL_KERNEL_TABLE};
