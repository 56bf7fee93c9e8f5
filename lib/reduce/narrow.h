/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The four narrow float formats and their exact conversion to and from fp32, one element at a time, with integers only.
 *
 * A format is described by its numbers of mantissa bits and its bias; a code of it is sign, exponent, mantissa like
 * fp32's. fp8e4m3 has no infinity: what does not fit becomes NaN. These functions are the reference; the vector
 * kernels reach the same bits by other means.
 */
#ifndef MDL_REDUCE_NARROW_H_
#define MDL_REDUCE_NARROW_H_

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct mdl_narrow {
    unsigned bits, mantissa, bias;
    uint32_t overflow; /* smallest fp32 magnitude, as bits, that rounds past the largest finite value */
    uint32_t infinity; /* code that it becomes; `nan` if the format has no infinity */
    uint32_t nan;      /* the canonical one */
    uint32_t special;  /* magnitudes of codes from here on are infinity or NaN */
};

#define MDL_NARROW_F16  ((struct mdl_narrow){16, 10, 15, 0x477ff000u, 0x7c00, 0x7e00, 0x7c00})
#define MDL_NARROW_BF16 ((struct mdl_narrow){16, 7, 127, 0x7f7f8000u, 0x7f80, 0x7fc0, 0x7f80})
#define MDL_NARROW_E4M3 ((struct mdl_narrow){8, 3, 7, 0x43e80001u, 0x7f, 0x7f, 0x7f})
#define MDL_NARROW_E5M2 ((struct mdl_narrow){8, 2, 15, 0x47700000u, 0x7c, 0x7f, 0x7c})

#define MDL_F32_NAN 0x7fc00000u
#define MDL_F64_NAN 0x7ff8000000000000ull
#define MDL_F32_INF 0x7f800000u

static inline float mdl_f32_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t mdl_f32_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float mdl_f32_canonical(float f) { return f == f ? f : mdl_f32_of_bits(MDL_F32_NAN); }

static inline double mdl_f64_canonical(double d)
{
    const uint64_t nan = MDL_F64_NAN;
    if (d != d) memcpy(&d, &nan, sizeof d);
    return d;
}

static inline float mdl_narrow_to_f32(struct mdl_narrow n, uint32_t code)
{
    const uint32_t sign = code >> (n.bits - 1), magnitude = code & ((1u << (n.bits - 1)) - 1);
    if (magnitude >= n.special)
        return magnitude == n.infinity && n.infinity != n.nan ? mdl_f32_of_bits(sign << 31 | MDL_F32_INF)
                                                              : mdl_f32_of_bits(MDL_F32_NAN);
    uint32_t exponent = magnitude >> n.mantissa;
    uint32_t mantissa = magnitude & ((1u << n.mantissa) - 1);
    /* Denormals of every format but bf16 are normal numbers of fp32: shift until the leading one is the implicit one.
     */
    if (exponent == 0 && mantissa != 0 && n.bias != 127) {
        int shift = 0;
        while (!(mantissa >> n.mantissa)) mantissa <<= 1, shift++;
        return mdl_f32_of_bits(sign << 31 | (uint32_t)(128 - (int)n.bias - shift) << 23 |
                               (mantissa & ((1u << n.mantissa) - 1)) << (23 - n.mantissa));
    }
    if (magnitude != 0) exponent += 127 - n.bias;
    return mdl_f32_of_bits(sign << 31 | exponent << 23 | mantissa << (23 - n.mantissa));
}

static inline uint32_t mdl_narrow_from_f32(struct mdl_narrow n, float value)
{
    const uint32_t bits = mdl_f32_bits(value), magnitude = bits & 0x7fffffffu;
    const uint32_t sign = bits >> 31 << (n.bits - 1);
    if (magnitude > MDL_F32_INF || (magnitude >= n.overflow && n.infinity == n.nan)) return n.nan;
    if (magnitude >= n.overflow) return sign | n.infinity;
    const int field = (int)(magnitude >> 23);
    const int exponent = (field ? field : 1) - 127 + (int)n.bias; /* biased for the narrow format; below 1: denormal */
    const uint32_t mantissa = (magnitude & 0x7fffffu) | (field ? 0x800000u : 0);
    const int drop = 23 - (int)n.mantissa + (exponent < 1 ? 1 - exponent : 0);
    if (drop > 24) return sign; /* less than half of the smallest denormal */
    const uint32_t half = 1u << (drop - 1), rest = mantissa & (2 * half - 1);
    uint32_t kept = mantissa >> drop;
    if (rest > half || (rest == half && (kept & 1))) kept++;
    /* `kept` has the implicit bit in it, so it counts one into the exponent; a carry from rounding does too. */
    return sign | ((((uint32_t)(exponent < 1 ? 1 : exponent) - 1) << n.mantissa) + kept);
}

#endif
