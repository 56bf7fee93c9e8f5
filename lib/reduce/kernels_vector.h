/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vector kernels, written once with the compiler's vector types and included by one file for each instruction set.
 * That file sets VECTOR_BYTES and includes kernels_vector_types.h, then defines what the language cannot say well:
 *
 *     codes_load8                  a block of 8-bit codes, each widened to a lane of 16 bits (a half block)
 *     codes_load16                 a block of 16-bit codes, each widened to a lane of 32 bits
 *     codes_store8, codes_store16  a block of lanes of 32 bits to codes; every lane fits
 *     high16, high32               the upper half of the products of lanes
 *     f16_load, f16_store          a block of fp16 to and from fp32, round to nearest even
 *     f16_widen                    a half block of fp16 to fp32
 *
 * A block is VECTORS vectors of partials and stays in registers from the first load to the last store. Lanes never
 * meet, so a result does not depend on its place. What the reference does by cases is done here by selecting with
 * masks. Partials may hold any NaN on the way; `finish` makes it the canonical one, and what narrows relies on that.
 */
#ifndef VECTOR_BYTES
#error "kernels_vector.h is included by the file of an instruction set"
#endif

/* ---- operations ---- */

/* Where the mask's bits are set; masks are whole lanes. */
#ifndef SELECT
#define SELECT(type, mask, yes, no) ((type)(((mask) & (__typeof__(mask))(yes)) | (~(mask) & (__typeof__(mask))(no))))
#endif

/* Unsigned lanes wrap; signed ones would be undefined. */
#define INTEGER_OPS(acc, uacc)                                                                                         \
    INLINE v_##acc sum_##acc(v_##acc a, v_##acc b) { return (v_##acc)((v_##uacc)a + (v_##uacc)b); }                    \
    INLINE v_##acc prod_##acc(v_##acc a, v_##acc b) { return (v_##acc)((v_##uacc)a * (v_##uacc)b); }                   \
    INLINE v_##acc max_##acc(v_##acc a, v_##acc b) { return SELECT(v_##acc, a > b, a, b); }                            \
    INLINE v_##acc min_##acc(v_##acc a, v_##acc b) { return SELECT(v_##acc, a < b, a, b); }

INTEGER_OPS(int8_t, uint8_t)
INTEGER_OPS(uint8_t, uint8_t)
INTEGER_OPS(int32_t, uint32_t)
INTEGER_OPS(uint32_t, uint32_t)
INTEGER_OPS(int64_t, uint64_t)
INTEGER_OPS(uint64_t, uint64_t)

/* Equal floats differ in bits only as -0 and +0, where `and` gives +0 and `or` -0. If b is a NaN both comparisons are
 * false and b is taken; if a is one, all bits are set, which is a NaN. */
#define FLOAT_OPS(acc, mask)                                                                                           \
    INLINE v_##acc sum_##acc(v_##acc a, v_##acc b) { return a + b; }                                                   \
    INLINE v_##acc prod_##acc(v_##acc a, v_##acc b) { return a * b; }                                                  \
    INLINE v_##acc max_##acc(v_##acc a, v_##acc b)                                                                     \
    {                                                                                                                  \
        const v_##mask larger = SELECT(v_##mask, a > b, a, b);                                                         \
        return (v_##acc)((larger & ((v_##mask)a | (a != b))) | (a != a));                                              \
    }                                                                                                                  \
    INLINE v_##acc min_##acc(v_##acc a, v_##acc b)                                                                     \
    {                                                                                                                  \
        const v_##mask smaller = SELECT(v_##mask, a < b, a, b);                                                        \
        return (v_##acc)(smaller | ((v_##mask)a & (a == b)) | (a != a));                                               \
    }

FLOAT_OPS(float, int32_t)
FLOAT_OPS(double, int64_t)

/* ---- finishing a block ---- */

/* See divide.h. */
INLINE v_uint8_t divide_v_uint8_t(const struct mdl_divisor *d, v_uint8_t n)
{
    const v_uint16_t pairs = (v_uint16_t)n, factor = (v_uint16_t){0} + d->factor16;
    return (v_uint8_t)(high16(pairs & 0xff, factor) | high16(pairs >> 8, factor) << 8);
}

INLINE v_uint32_t divide_v_uint32_t(const struct mdl_divisor *d, v_uint32_t n)
{
    const v_uint32_t high = high32(n, (v_uint32_t){0} + d->factor32);
    const v_uint32_t shift1 = (v_uint32_t){0} + d->shift1, shift2 = (v_uint32_t){0} + d->shift2;
    return (high + ((n - high) >> shift1)) >> shift2;
}

#define DIVIDE_SIGNED(acc, uacc)                                                                                       \
    INLINE b_##acc divide_##acc(const struct mdl_divisor *d, b_##acc b)                                                \
    {                                                                                                                  \
        EACH(j)                                                                                                        \
        {                                                                                                              \
            const v_##uacc sign = (v_##uacc)(b.v[j] < 0);                                                              \
            const v_##uacc quotient = divide_v_##uacc(d, ((v_##uacc)b.v[j] ^ sign) - sign);                            \
            b.v[j] = (v_##acc)((quotient ^ sign) - sign);                                                              \
        }                                                                                                              \
        return b;                                                                                                      \
    }
#define DIVIDE_UNSIGNED(acc)                                                                                           \
    INLINE b_##acc divide_##acc(const struct mdl_divisor *d, b_##acc b)                                                \
    {                                                                                                                  \
        EACH(j) b.v[j] = divide_v_##acc(d, b.v[j]);                                                                    \
        return b;                                                                                                      \
    }
#define DIVIDE_LANES(acc, wide)                                                                                        \
    INLINE b_##acc divide_##acc(const struct mdl_divisor *d, b_##acc b)                                                \
    {                                                                                                                  \
        acc lanes[sizeof b / sizeof(acc)];                                                                             \
        memcpy(lanes, &b, sizeof b);                                                                                   \
        for (size_t k = 0; k < sizeof b / sizeof(acc); k++) lanes[k] = mdl_divide_##wide(lanes[k], *d);                \
        memcpy(&b, lanes, sizeof b);                                                                                   \
        return b;                                                                                                      \
    }

DIVIDE_SIGNED(int8_t, uint8_t)
DIVIDE_UNSIGNED(uint8_t)
DIVIDE_SIGNED(int32_t, uint32_t)
DIVIDE_UNSIGNED(uint32_t)
DIVIDE_LANES(int64_t, i64)
DIVIDE_LANES(uint64_t, u64)

#define INTEGER_FINISH(acc, member)                                                                                    \
    INLINE b_##acc finish_##acc(const struct mdl_fold *f, b_##acc b)                                                   \
    {                                                                                                                  \
        if (f->finish == MDL_FINISH_SCALE) {                                                                           \
            const v_##acc scale = (v_##acc){0} + (acc)f->scale.member;                                                 \
            EACH(j) b.v[j] = prod_##acc(b.v[j], scale);                                                                \
        } else if (f->finish == MDL_FINISH_DIVIDE) {                                                                   \
            b = divide_##acc(&f->reciprocal, b);                                                                       \
        }                                                                                                              \
        return b;                                                                                                      \
    }

INTEGER_FINISH(int8_t, u8)
INTEGER_FINISH(uint8_t, u8)
INTEGER_FINISH(int32_t, u32)
INTEGER_FINISH(uint32_t, u32)
INTEGER_FINISH(int64_t, u64)
INTEGER_FINISH(uint64_t, u64)

#define FLOAT_FINISH(acc, member, mask, nan)                                                                           \
    INLINE b_##acc finish_##acc(const struct mdl_fold *f, b_##acc b)                                                   \
    {                                                                                                                  \
        if (f->finish == MDL_FINISH_SCALE) EACH(j) b.v[j] *= f->scale.member;                                          \
        EACH(j) b.v[j] = SELECT(v_##acc, b.v[j] == b.v[j], b.v[j], (v_##mask){0} + (mask)nan);                         \
        return b;                                                                                                      \
    }

FLOAT_FINISH(float, f32, int32_t, MDL_F32_NAN)
FLOAT_FINISH(double, f64, int64_t, MDL_F64_NAN)

/* ---- narrow floats: the same value in fp32, and back ---- */

INLINE b_float bf16_load(const void *p)
{
    b_uint32_t b = codes_load16(p);
    EACH(j) b.v[j] <<= 16;
    return as_float(b);
}

/* A carry out of the mantissa goes on into the exponent, up to infinity. */
INLINE void bf16_store(void *p, b_float f)
{
    b_uint32_t b = as_bits(f);
    EACH(j) b.v[j] = (b.v[j] + 0x7fff + (b.v[j] >> 16 & 1)) >> 16;
    codes_store16(p, b);
}

/* The 8-bit formats become fp16 first, which holds all their values, and are widened by the hardware. e5m2 is the upper
 * half of fp16. e4m3 has another bias: its bits in fp16's places are worth 2^-8 of it, denormals too. */
INLINE b_float e5m2_load(const void *p)
{
    h_uint16_t h = codes_load8(p);
    EACH_HALF(j) h.v[j] <<= 8;
    return f16_widen(h);
}

INLINE b_float e4m3_load(const void *p)
{
    h_uint16_t h = codes_load8(p);
    EACH_HALF(j)
    {
        const v_uint16_t magnitude = h.v[j] & 0x7f;
        h.v[j] = magnitude << 7 | (h.v[j] & 0x80) << 8 | ((v_uint16_t)(magnitude == 0x7f) & 0x7c00);
    }
    b_float f = f16_widen(h);
    EACH(j) f.v[j] *= 256;
    return f;
}

/* Below the smallest normal value the sum with `magic`, whose last place is the smallest denormal, rounds. */
INLINE v_uint32_t f8_narrow(struct mdl_narrow n, v_uint32_t bits)
{
    const v_uint32_t magnitude = bits & 0x7fffffff;
    const uint32_t magic = (151 - n.bias - n.mantissa) << 23;
    const v_uint32_t odd = magnitude >> (23 - n.mantissa) & 1;
    const v_uint32_t normal =
        (magnitude - ((127 - n.bias) << 23) + ((1u << (22 - n.mantissa)) - 1) + odd) >> (23 - n.mantissa);
    const v_uint32_t tiny = (v_uint32_t)((v_float)magnitude + mdl_f32_of_bits(magic)) - magic;
    const v_int32_t is_tiny = (v_int32_t)magnitude < (int32_t)((128 - n.bias) << 23);
    const v_int32_t over = (v_int32_t)magnitude >= (int32_t)n.overflow;
    const v_int32_t is_nan = n.infinity == n.nan ? over : (v_int32_t)magnitude > (int32_t)MDL_F32_INF;
    v_uint32_t code = SELECT(v_uint32_t, is_tiny, tiny, normal);
    code = SELECT(v_uint32_t, over, (v_uint32_t){0} + n.infinity, code) | bits >> 31 << 7;
    return SELECT(v_uint32_t, is_nan, (v_uint32_t){0} + n.nan, code);
}

#define F8_STORE(type, format)                                                                                         \
    INLINE void type##_store(void *p, b_float f)                                                                       \
    {                                                                                                                  \
        b_uint32_t b = as_bits(f);                                                                                     \
        EACH(j) b.v[j] = f8_narrow(format, b.v[j]);                                                                    \
        codes_store8(p, b);                                                                                            \
    }

F8_STORE(e4m3, MDL_NARROW_E4M3)
F8_STORE(e5m2, MDL_NARROW_E5M2)

/* ---- kernels ---- */

/* The tree is evaluated by strides, as in the reference. */
#define FOLD(prefix, acc, op)                                                                                          \
    INLINE b_##acc prefix##_##op##_left(const struct mdl_fold *f, size_t i)                                            \
    {                                                                                                                  \
        b_##acc a = prefix##_source(f, 0, i);                                                                          \
        for (int k = 1; k < f->nsrc; k++) {                                                                            \
            const b_##acc b = prefix##_source(f, k, i);                                                                \
            EACH(j) a.v[j] = op##_##acc(a.v[j], b.v[j]);                                                               \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    INLINE b_##acc prefix##_##op##_tree(const struct mdl_fold *f, size_t i)                                            \
    {                                                                                                                  \
        b_##acc b[MDL_FOLD_SRC];                                                                                       \
        for (int k = 0; k < f->nsrc; k++) b[k] = prefix##_source(f, k, i);                                             \
        for (int step = 1; step < f->nsrc; step *= 2)                                                                  \
            for (int k = 0; k + step < f->nsrc; k += 2 * step)                                                         \
                EACH(j) b[k].v[j] = op##_##acc(b[k].v[j], b[k + step].v[j]);                                           \
        return b[0];                                                                                                   \
    }                                                                                                                  \
    static void prefix##_##op(const struct mdl_fold *fold, size_t blocks)                                              \
    {                                                                                                                  \
        const struct mdl_fold f = *fold; /* a copy that no store can change */                                         \
        for (size_t i = 0; i < blocks; i++)                                                                            \
            prefix##_result(&f, i, f.tree ? prefix##_##op##_tree(&f, i) : prefix##_##op##_left(&f, i));                \
    }

#define FOLD_OPS(prefix, acc)                                                                                          \
    FOLD(prefix, acc, sum)                                                                                             \
    FOLD(prefix, acc, prod)                                                                                            \
    FOLD(prefix, acc, max)                                                                                             \
    FOLD(prefix, acc, min)

/* Types that are their own partial type. */
#define FOLD_PLAIN(prefix, acc)                                                                                        \
    INLINE b_##acc prefix##_source(const struct mdl_fold *f, int k, size_t i)                                          \
    {                                                                                                                  \
        return load_##acc((const char *)f->src[k] + i * sizeof(b_##acc));                                              \
    }                                                                                                                  \
    INLINE void prefix##_result(const struct mdl_fold *f, size_t i, b_##acc b)                                         \
    {                                                                                                                  \
        give_##acc(f, i * sizeof b, finish_##acc(f, b));                                                               \
    }                                                                                                                  \
    FOLD_OPS(prefix, acc)

#define FOLD_NARROW(prefix, code)                                                                                      \
    enum { prefix##_bytes = sizeof(b_float) / sizeof(float) * sizeof(code) };                                          \
    INLINE b_float prefix##_source(const struct mdl_fold *f, int k, size_t i)                                          \
    {                                                                                                                  \
        const char *p = f->src[k];                                                                                     \
        return f->src_acc >> k & 1 ? load_float(p + i * sizeof(b_float)) : prefix##_load(p + i * prefix##_bytes);      \
    }                                                                                                                  \
    INLINE void prefix##_result(const struct mdl_fold *f, size_t i, b_float b)                                         \
    {                                                                                                                  \
        b = finish_float(f, b);                                                                                        \
        if (f->dst_acc) {                                                                                              \
            give_float(f, i * sizeof b, b);                                                                            \
            return;                                                                                                    \
        }                                                                                                              \
        char *code = (char *)f->dst + i * prefix##_bytes;                                                              \
        prefix##_store(code, b);                                                                                       \
        for (int d = 0; d < f->nalso; d++) memcpy((char *)f->also[d] + i * prefix##_bytes, code, prefix##_bytes);      \
    }                                                                                                                  \
    FOLD_OPS(prefix, float)

FOLD_PLAIN(int8, int8_t)
FOLD_PLAIN(uint8, uint8_t)
FOLD_PLAIN(int32, int32_t)
FOLD_PLAIN(uint32, uint32_t)
FOLD_PLAIN(int64, int64_t)
FOLD_PLAIN(uint64, uint64_t)
FOLD_NARROW(f16, uint16_t)
FOLD_PLAIN(f32, float)
FOLD_PLAIN(f64, double)
FOLD_NARROW(bf16, uint16_t)
FOLD_NARROW(e4m3, uint8_t)
FOLD_NARROW(e5m2, uint8_t)
