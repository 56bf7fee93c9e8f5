/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quick kernels for the narrow floats on AVX2: what kernels_vector.h does with care for every case is done here only
 * for the usual one, sources and destination in the datatype, folded from left to right. A block in which something
 * special occurs (a NaN; an infinity, too, where sums are formed) goes through the careful kernel, so the results are
 * the same bits. Included by kernels_avx2.c after kernels_vector.h.
 *
 * Lanes of a block need not be in order as long as loads and stores agree: a vector of 32-bit words is taken apart by
 * shifting, so that nothing has to be permuted. 8-bit codes are moved to fp32's sign and the low bits of its exponent,
 * which is their value times a power of two, denormals included; there sums of up to MDL_FOLD_SRC and products of two
 * are what they are unscaled: they are multiples of fp32's smallest denormal, and those that must be rounded are large
 * enough to be normal numbers. Rounding to a code is then the same carry for normal and denormal codes.
 */
#ifndef MDL_REDUCE_QUICK_AVX2_H_
#define MDL_REDUCE_QUICK_AVX2_H_

#ifndef VECTOR_BYTES
#error "quick_avx2.h is included by kernels_avx2.c"
#endif

static bool is_quick(const struct mdl_fold *f) { return f->nsrc > 1 && !f->src_acc && !f->dst_acc && !f->tree; }

/* Blocks `at` bytes into the buffers, by the careful kernel. */
static __attribute__((noinline, cold)) void careful_block(mdl_kernel *kernel, const struct mdl_fold *f, size_t at,
                                                          size_t blocks)
{
    struct mdl_fold one = *f;
    for (int k = 0; k < f->nsrc; k++) one.src[k] = (const char *)f->src[k] + at;
    one.dst = (char *)f->dst + at;
    for (int d = 0; d < f->nalso; d++) one.also[d] = (char *)f->also[d] + at;
    kernel(&one, blocks);
}

INLINE __m256i load256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
/* stream: p is aligned to a vector at least. */
INLINE void put256(void *p, __m256i v, bool stream)
{
    if (stream)
        _mm256_stream_si256((__m256i *)p, v);
    else
        _mm256_storeu_si256((__m256i *)p, v);
}
INLINE void give256(const struct mdl_fold *f, size_t at, __m256i v)
{
    put256((char *)f->dst + at, v, f->stream & 1);
    for (int d = 0; d < f->nalso; d++) put256((char *)f->also[d] + at, v, f->stream >> (d + 1) & 1);
}

INLINE const char *source(const struct mdl_fold *f, int k, size_t at) { return (const char *)f->src[k] + at; }

/* A constant that the compiler knows nothing about: else it makes it anew in every turn, with the shuffle unit, and
 * turns multiplications into shifts. Both units have enough to do. */
INLINE __m256i constant(__m256i v)
{
    __asm__("" : "+x"(v));
    return v;
}
INLINE __m256i words(uint32_t v) { return constant(_mm256_set1_epi32((int)v)); }
INLINE __m256i halves(unsigned v) { return constant(_mm256_set1_epi16((short)v)); }
INLINE __m256i bytes(unsigned v) { return constant(_mm256_set1_epi8((char)v)); }

/* Takes the upper half of each lane of `odd` and moves that of `even` below it. */
INLINE __m256i upper_halves(__m256i even, __m256i odd)
{
    return _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xaa);
}

/* To nearest even at bit `drop`; the bits below are left as they come. one: in every word; half: the rest to round up,
 * less one. */
INLINE __m256i round_at(v_float v, int drop, __m256i one, __m256i half)
{
    const __m256i bits = (__m256i)v, odd = _mm256_and_si256(_mm256_srli_epi32(bits, drop), one);
    return _mm256_add_epi32(_mm256_add_epi32(bits, half), odd);
}

/* ---- 8-bit floats; width: their bits without exponent's, so 4 for e4m3 (sign, mantissa), 3 for e5m2 ---- */

enum { E4M3_WIDTH = 4, E5M2_WIDTH = 3, F8_DIVISOR_MOST = 1 << 16 };

struct f8 {
    __m256i sign, below; /* of bytes; the largest magnitude that is nothing special */
    __m256i up8, mask, high;
    __m256i one, half, raise, high_byte, top;
    __m256i odd, least; /* one and half, for upper halves */
};

/* special: the smallest magnitude that is, with the sign bit set. */
INLINE struct f8 f8_constants(int width, unsigned special)
{
    return (struct f8){.sign = bytes(0x80),
                       .below = bytes(special - 1),
                       .up8 = halves(0x100),
                       .mask = halves(0x8000u | 0x7f00u >> width),
                       .high = words(0xffff0000u),
                       .one = words(1),
                       .half = words((1u << (23 - width)) - 1),
                       .raise = halves(1u << width),
                       .high_byte = halves(0xff00u),
                       .top = bytes(width == E4M3_WIDTH ? 0x7f : 0x7c),
                       .odd = halves(1),
                       .least = halves((1u << (7 - width)) - 1)};
}

/* Byte k of every word becomes the lane of vector k: fp32's sign, and the code `width` bits below it. Shifts are
 * scarce, so bytes are moved two at a time, and up by a multiplication. */
INLINE b_float f8_take(const struct f8 *c, __m256i v, int width)
{
    const __m256i even = _mm256_and_si256(_mm256_srai_epi16(_mm256_mullo_epi16(v, c->up8), width), c->mask);
    const __m256i odd = _mm256_and_si256(_mm256_srai_epi16(v, width), c->mask);
    b_float b;
    b.v[0] = (v_float)_mm256_slli_epi32(even, 16);
    b.v[1] = (v_float)_mm256_slli_epi32(odd, 16);
    b.v[2] = (v_float)_mm256_and_si256(even, c->high);
    b.v[3] = (v_float)_mm256_and_si256(odd, c->high);
    return b;
}

/* Numbers of which each half lane of `even` and `odd` has the upper half, rounded to codes. What is beyond the largest
 * code becomes infinity, or for e4m3 NaN, which has no sign. */
INLINE __m256i f8_pack(const struct f8 *c, __m256i even, __m256i odd, int width)
{
    const __m256i low_code = _mm256_srli_epi16(_mm256_mullo_epi16(even, c->raise), 8);
    const __m256i high_code = _mm256_and_si256(_mm256_mullo_epi16(odd, c->raise), c->high_byte);
    const __m256i code = _mm256_min_epu8(_mm256_or_si256(low_code, high_code), c->top);
    __m256i sign = _mm256_blendv_epi8(_mm256_srli_epi16(even, 8), odd, c->high_byte);
    sign = _mm256_and_si256(sign, c->sign);
    if (width == E4M3_WIDTH) sign = _mm256_andnot_si256(_mm256_cmpeq_epi8(code, c->top), sign);
    return _mm256_or_si256(code, sign);
}

INLINE __m256i f8_give(const struct f8 *c, b_float b, int width)
{
    __m256i r[4];
    EACH(j) r[j] = round_at(b.v[j], 24 - width, c->one, c->half);
    return f8_pack(c, upper_halves(r[0], r[2]), upper_halves(r[1], r[3]), width);
}

INLINE __m256i e4m3_give_sum(const struct f8 *c, b_float b, int nsrc) { return f8_give(c, b, E4M3_WIDTH); }

/* Of two sources all bits that count are in the upper half. If there are any below it, one source is less than 2^-5 of
 * the other, too little to bring the sum near to where rounding changes. */
INLINE __m256i e5m2_give_sum(const struct f8 *c, b_float b, int nsrc)
{
    if (nsrc > 2) return f8_give(c, b, E5M2_WIDTH);
    __m256i r[2];
    EACH_HALF(j)
    {
        const __m256i v = upper_halves((__m256i)b.v[j], (__m256i)b.v[j + 2]);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi16(v, 8 - E5M2_WIDTH), c->odd);
        r[j] = _mm256_add_epi16(_mm256_add_epi16(v, c->least), odd);
    }
    return f8_pack(c, r[0], r[1], E5M2_WIDTH);
}

/* Whether something special is in a block, or in several. */
INLINE bool f8_any(const struct f8 *c, const struct mdl_fold *f, int nsrc, size_t at, int blocks)
{
    __m256i most = c->sign;
    for (int i = 0; i < blocks; i++)
        for (int k = 0; k < nsrc; k++)
            most = _mm256_max_epu8(most, _mm256_or_si256(load256(source(f, k, at + 32 * (size_t)i)), c->sign));
    const __m256i over = _mm256_subs_epu8(most, c->below);
    return !_mm256_testz_si256(over, over);
}

/* As the codes are ordered when they are signed integers; its own inverse. */
INLINE __m256i f8_order(__m256i v, __m256i magnitude)
{
    const __m256i negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), v);
    return _mm256_xor_si256(v, _mm256_and_si256(negative, magnitude));
}

/* Averages: what a scaled sum is multiplied with. Multiplied unscaled, as the careful kernels do, and scaled again it
 * may be rounded once too often: see is_plain_average and type##_scaled. */
enum f8_finish { F8_KEEP, F8_PLAIN, F8_CHECKED };

/* May scaled sums simply be multiplied with 1 / divisor? Numbers that are scaled too small for all their bits lose
 * those below 2^-20 of the least code. What is no half of it is further from that, as the divisor is small; so this
 * matters only if a half would be hit, but the unscaled product misses it by its own rounding. There are 8 such halves.
 */
static bool is_plain_average(const struct mdl_fold *f)
{
    const int d = (int)(1 / f->scale.f32 + 0.5f);
    if (d < 1 || d > F8_DIVISOR_MOST || 1.0f / (float)d != f->scale.f32) return false;
    for (int half = 1; d % 2 == 0 && half < 16; half += 2)
        if ((float)(d / 2 * half) * f->scale.f32 != 0.5f * (float)half) return false;
    return true;
}

/* Gives nothing if a rounding was too much. */
#define F8_SCALED(type, unit)                                                                                          \
    INLINE bool type##_scaled(const struct mdl_fold *f, b_float *b)                                                    \
    {                                                                                                                  \
        const v_float up = (v_float){0} + unit, factor = up * f->scale.f32;                                            \
        v_int32_t same = (v_int32_t){0} - 1;                                                                           \
        EACH(j)                                                                                                        \
        {                                                                                                              \
            const v_float exact = b->v[j] * factor;                                                                    \
            b->v[j] = exact * (1 / unit);                                                                              \
            same &= b->v[j] * up == exact;                                                                             \
        }                                                                                                              \
        return _mm256_movemask_ps((__m256)same) == 0xff;                                                               \
    }

#define F8_SUM(type, width, special)                                                                                   \
    INLINE void type##_sum_block(const struct f8 *c, const struct mdl_fold *f, int nsrc, enum f8_finish how,           \
                                 size_t at)                                                                            \
    {                                                                                                                  \
        b_float a = f8_take(c, load256(source(f, 0, at)), width);                                                      \
        for (int k = 1; k < nsrc; k++) {                                                                               \
            const b_float b = f8_take(c, load256(source(f, k, at)), width);                                            \
            EACH(j) a.v[j] += b.v[j];                                                                                  \
        }                                                                                                              \
        if (how == F8_PLAIN) EACH(j) a.v[j] *= f->scale.f32;                                                           \
        if (how == F8_CHECKED && !type##_scaled(f, &a))                                                                \
            careful_block(type##_sum, f, at, 1);                                                                       \
        else                                                                                                           \
            give256(f, at, how == F8_KEEP ? type##_give_sum(c, a, nsrc) : f8_give(c, a, width));                       \
    }                                                                                                                  \
    INLINE void type##_sum_blocks(const struct mdl_fold *f, int nsrc, enum f8_finish how, size_t blocks)               \
    {                                                                                                                  \
        const struct f8 c = f8_constants(width, special);                                                              \
        size_t at = 0;                                                                                                 \
        for (; at + 32 < 32 * blocks; at += 64) {                                                                      \
            if (__builtin_expect(f8_any(&c, f, nsrc, at, 2), 0)) {                                                     \
                careful_block(type##_sum, f, at, 2);                                                                   \
                continue;                                                                                              \
            }                                                                                                          \
            type##_sum_block(&c, f, nsrc, how, at);                                                                    \
            type##_sum_block(&c, f, nsrc, how, at + 32);                                                               \
        }                                                                                                              \
        if (at == 32 * blocks) return;                                                                                 \
        if (f8_any(&c, f, nsrc, at, 1))                                                                                \
            careful_block(type##_sum, f, at, 1);                                                                       \
        else                                                                                                           \
            type##_sum_block(&c, f, nsrc, how, at);                                                                    \
    }                                                                                                                  \
    static void type##_quick_sum(const struct mdl_fold *fold, size_t blocks)                                           \
    {                                                                                                                  \
        const struct mdl_fold f = *fold;                                                                               \
        if (!is_quick(&f)) return type##_sum(&f, blocks);                                                              \
        const bool keep = f.finish == MDL_FINISH_KEEP, plain = keep || is_plain_average(&f);                           \
        if (!plain) return type##_sum_blocks(&f, f.nsrc, F8_CHECKED, blocks);                                          \
        if (keep && f.nsrc == 2) return type##_sum_blocks(&f, 2, F8_KEEP, blocks);                                     \
        if (keep) return type##_sum_blocks(&f, f.nsrc, F8_KEEP, blocks);                                               \
        if (f.nsrc == 2) return type##_sum_blocks(&f, 2, F8_PLAIN, blocks);                                            \
        type##_sum_blocks(&f, f.nsrc, F8_PLAIN, blocks);                                                               \
    }

#define F8_PROD(type, width, unit, special)                                                                            \
    static void type##_quick_prod(const struct mdl_fold *fold, size_t blocks)                                          \
    {                                                                                                                  \
        const struct mdl_fold f = *fold;                                                                               \
        if (!is_quick(&f) || f.nsrc > 2 || f.finish != MDL_FINISH_KEEP) return type##_prod(&f, blocks);                \
        const struct f8 c = f8_constants(width, special);                                                              \
        for (size_t i = 0, at = 0; i < blocks; i++, at += 32) {                                                        \
            if (__builtin_expect(f8_any(&c, &f, 2, at, 1), 0)) {                                                       \
                careful_block(type##_prod, &f, at, 1);                                                                 \
                continue;                                                                                              \
            }                                                                                                          \
            b_float a = f8_take(&c, load256(source(&f, 0, at)), width);                                                \
            const b_float b = f8_take(&c, load256(source(&f, 1, at)), width);                                          \
            EACH(j) a.v[j] = (a.v[j] * (unit)) * b.v[j];                                                               \
            give256(&f, at, f8_give(&c, a, width));                                                                    \
        }                                                                                                              \
    }

/* nan: the smallest magnitude that is one, with the sign bit set. */
#define F8_ORDERED(type, op, nan)                                                                                      \
    static void type##_quick_##op(const struct mdl_fold *fold, size_t blocks)                                          \
    {                                                                                                                  \
        const struct mdl_fold f = *fold;                                                                               \
        if (!is_quick(&f) || f.finish != MDL_FINISH_KEEP) return type##_##op(&f, blocks);                              \
        const struct f8 c = f8_constants(E4M3_WIDTH, nan);                                                             \
        const __m256i magnitude = bytes(0x7f);                                                                         \
        for (size_t i = 0, at = 0; i < blocks; i++, at += 32) {                                                        \
            if (__builtin_expect(f8_any(&c, &f, f.nsrc, at, 1), 0)) {                                                  \
                careful_block(type##_##op, &f, at, 1);                                                                 \
                continue;                                                                                              \
            }                                                                                                          \
            __m256i a = f8_order(load256(source(&f, 0, at)), magnitude);                                               \
            for (int k = 1; k < f.nsrc; k++)                                                                           \
                a = _mm256_##op##_epi8(a, f8_order(load256(source(&f, k, at)), magnitude));                            \
            give256(&f, at, f8_order(a, magnitude));                                                                   \
        }                                                                                                              \
    }

#define F8_QUICK(type, width, unit, special, nan)                                                                      \
    F8_SCALED(type, unit)                                                                                              \
    F8_SUM(type, width, special)                                                                                       \
    F8_PROD(type, width, unit, special)                                                                                \
    F8_ORDERED(type, max, nan)                                                                                         \
    F8_ORDERED(type, min, nan)

F8_QUICK(e4m3, E4M3_WIDTH, 0x1p120f, 0xffu, 0xffu)
F8_QUICK(e5m2, E5M2_WIDTH, 0x1p112f, 0xfcu, 0xfdu)

/* ---- 16-bit floats: 64 bytes to a block ---- */

struct f16 {
    __m256i high, one, half;
};

INLINE struct f16 f16_constants(void)
{
    return (struct f16){.high = words(0xffff0000u), .one = words(1), .half = words(0x7fff)};
}

/* bf16 is the upper half of fp32: the halves of each word become two vectors. */
INLINE b_float bf16_take(const struct f16 *c, const char *p)
{
    b_float b;
    for (int j = 0; j < 2; j++) {
        const __m256i v = load256(p + 32 * j);
        b.v[2 * j] = (v_float)_mm256_slli_epi32(v, 16);
        b.v[2 * j + 1] = (v_float)_mm256_and_si256(v, c->high);
    }
    return b;
}

INLINE void bf16_give(const struct f16 *c, const struct mdl_fold *f, size_t at, b_float b)
{
    __m256i r[4];
    EACH(j) r[j] = round_at(b.v[j], 16, c->one, c->half);
    for (int j = 0; j < 2; j++) give256(f, at + 32 * (size_t)j, upper_halves(r[2 * j], r[2 * j + 1]));
}

INLINE b_float f16_take(const struct f16 *c, const char *p) { return f16_load(p); }
INLINE void f16_give(const struct f16 *c, const struct mdl_fold *f, size_t at, b_float b)
{
    for (int j = 0; j < 2; j++) {
        const __m128i low = _mm256_cvtps_ph(b.v[2 * j], _MM_FROUND_TO_NEAREST_INT);
        const __m128i high = _mm256_cvtps_ph(b.v[2 * j + 1], _MM_FROUND_TO_NEAREST_INT);
        give256(f, at + 32 * (size_t)j, _mm256_set_m128i(high, low));
    }
}

INLINE bool has_nan(b_float b)
{
    return _mm256_movemask_ps(
        _mm256_or_ps(_mm256_cmp_ps(b.v[0], b.v[1], _CMP_UNORD_Q), _mm256_cmp_ps(b.v[2], b.v[3], _CMP_UNORD_Q)));
}

INLINE __m256i f16_order(__m256i v) { return _mm256_xor_si256(v, _mm256_srli_epi16(_mm256_srai_epi16(v, 15), 1)); }

/* The magnitude, or what was given if that is larger. */
INLINE __m256i f16_most(__m256i most, __m256i v, __m256i mask)
{
    return _mm256_max_epi16(most, _mm256_and_si256(v, mask));
}

#define F16_FOLD(type, op)                                                                                             \
    INLINE void type##_##op##_blocks(const struct mdl_fold *f, int nsrc, size_t blocks)                                \
    {                                                                                                                  \
        const struct f16 c = f16_constants();                                                                          \
        for (size_t i = 0, at = 0; i < blocks; i++, at += 64) {                                                        \
            b_float a = type##_take(&c, source(f, 0, at));                                                             \
            for (int k = 1; k < nsrc; k++) {                                                                           \
                const b_float b = type##_take(&c, source(f, k, at));                                                   \
                EACH(j) a.v[j] = op##_float(a.v[j], b.v[j]);                                                           \
            }                                                                                                          \
            if (f->finish == MDL_FINISH_SCALE) EACH(j) a.v[j] *= f->scale.f32;                                         \
            if (__builtin_expect(has_nan(a), 0))                                                                       \
                careful_block(type##_##op, f, at, 1);                                                                  \
            else                                                                                                       \
                type##_give(&c, f, at, a);                                                                             \
        }                                                                                                              \
    }                                                                                                                  \
    static void type##_quick_##op(const struct mdl_fold *fold, size_t blocks)                                          \
    {                                                                                                                  \
        const struct mdl_fold f = *fold;                                                                               \
        if (!is_quick(&f)) return type##_##op(&f, blocks);                                                             \
        if (f.nsrc == 2) return type##_##op##_blocks(&f, 2, blocks);                                                   \
        type##_##op##_blocks(&f, f.nsrc, blocks);                                                                      \
    }

/* A block is two vectors; infinity: the largest magnitude that is no NaN. */
#define F16_ORDERED(type, op, infinity)                                                                                \
    static void type##_quick_##op(const struct mdl_fold *fold, size_t blocks)                                          \
    {                                                                                                                  \
        const struct mdl_fold f = *fold;                                                                               \
        if (!is_quick(&f) || f.finish != MDL_FINISH_KEEP) return type##_##op(&f, blocks);                              \
        const __m256i mask = halves(0x7fff), largest = halves(infinity);                                               \
        for (size_t i = 0, at = 0; i < blocks; i++, at += 64) {                                                        \
            __m256i a = load256(source(&f, 0, at)), b = load256(source(&f, 0, at + 32));                               \
            __m256i most = f16_most(f16_most(_mm256_setzero_si256(), a, mask), b, mask);                               \
            a = f16_order(a), b = f16_order(b);                                                                        \
            for (int k = 1; k < f.nsrc; k++) {                                                                         \
                const __m256i c = load256(source(&f, k, at)), d = load256(source(&f, k, at + 32));                     \
                most = f16_most(f16_most(most, c, mask), d, mask);                                                     \
                a = _mm256_##op##_epi16(a, f16_order(c));                                                              \
                b = _mm256_##op##_epi16(b, f16_order(d));                                                              \
            }                                                                                                          \
            if (__builtin_expect(_mm256_movemask_epi8(_mm256_cmpgt_epi16(most, largest)), 0)) {                        \
                careful_block(type##_##op, &f, at, 1);                                                                 \
                continue;                                                                                              \
            }                                                                                                          \
            give256(&f, at, f16_order(a));                                                                             \
            give256(&f, at + 32, f16_order(b));                                                                        \
        }                                                                                                              \
    }

#define F16_QUICK(type, infinity)                                                                                      \
    F16_FOLD(type, sum)                                                                                                \
    F16_FOLD(type, prod)                                                                                               \
    F16_ORDERED(type, max, infinity)                                                                                   \
    F16_ORDERED(type, min, infinity)

F16_QUICK(f16, 0x7c00)
F16_QUICK(bf16, 0x7f80)

#endif
