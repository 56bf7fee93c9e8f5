/* SPDX-License-Identifier: Apache-2.0 */
/* See reduce_oracle.h. */
#include "tests/unit/reduce_oracle.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef __int128 wide_int;
#if LDBL_MANT_DIG >= 113
typedef long double quad;
#else
__extension__ typedef __float128 quad;
#endif

enum kind { SIGNED, UNSIGNED, FLOAT, DOUBLE };

static enum kind kind_of(medleyDataType_t dtype)
{
    switch (dtype) {
    case medleyInt8:
    case medleyInt32:
    case medleyInt64: return SIGNED;
    case medleyUint8:
    case medleyUint32:
    case medleyUint64: return UNSIGNED;
    case medleyFloat64: return DOUBLE;
    default: return FLOAT;
    }
}

uint64_t oracle_load(const void *p, size_t i, size_t size)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    const char *at = (const char *)p + i * size;
    switch (size) {
    case 1: return memcpy(&u8, at, size), u8;
    case 2: return memcpy(&u16, at, size), u16;
    case 4: return memcpy(&u32, at, size), u32;
    default: return memcpy(&u64, at, size), u64;
    }
}

void oracle_store(void *p, size_t i, size_t size, uint64_t bits)
{
    const uint8_t u8 = (uint8_t)bits;
    const uint16_t u16 = (uint16_t)bits;
    const uint32_t u32 = (uint32_t)bits;
    char *at = (char *)p + i * size;
    switch (size) {
    case 1: memcpy(at, &u8, size); break;
    case 2: memcpy(at, &u16, size); break;
    case 4: memcpy(at, &u32, size); break;
    default: memcpy(at, &bits, size); break;
    }
}

/* ---- floats ---- */

static double value_of(medleyDataType_t dtype, uint64_t acc)
{
    float f;
    double d;
    const uint32_t low = (uint32_t)acc;
    if (kind_of(dtype) == DOUBLE) return memcpy(&d, &acc, 8), d;
    return memcpy(&f, &low, 4), (double)f;
}

static uint64_t double_bits(double d)
{
    uint64_t bits = 0x7ff8000000000000u;
    if (!isnan(d)) memcpy(&bits, &d, 8);
    return bits;
}

static uint64_t float_bits(float f)
{
    uint32_t bits = 0x7fc00000u;
    if (!isnan(f)) memcpy(&bits, &f, 4);
    return bits;
}

static uint64_t round_to_acc(medleyDataType_t dtype, quad q)
{
    return kind_of(dtype) == DOUBLE ? double_bits((double)q) : float_bits((float)q);
}

static uint64_t float_op(medleyDataType_t dtype, medleyRedOp_t op, uint64_t ab, uint64_t bb)
{
    const double a = value_of(dtype, ab), b = value_of(dtype, bb);
    if (isnan(a) || isnan(b)) return round_to_acc(dtype, NAN);
    bool first;
    switch (op) {
    case medleyProd: return round_to_acc(dtype, (quad)a * (quad)b);
    case medleyMax: first = a > b || (a == b && !signbit(a)); break;
    case medleyMin: first = a < b || (a == b && signbit(a)); break;
    default: return round_to_acc(dtype, (quad)a + (quad)b);
    }
    return first ? ab : bb;
}

/* Of a narrow type: the number of bits and of mantissa bits, the bias, the largest finite code, the NaN. */
struct shape {
    int bits, mantissa, bias;
    uint32_t largest, nan;
    bool infinity;
};

static struct shape shape_of(medleyDataType_t dtype)
{
    switch (dtype) {
    case medleyFloat16: return (struct shape){16, 10, 15, 0x7bff, 0x7e00, true};
    case medleyBfloat16: return (struct shape){16, 7, 127, 0x7f7f, 0x7fc0, true};
    case medleyFloat8e4m3: return (struct shape){8, 3, 7, 0x7e, 0x7f, false};
    default: return (struct shape){8, 2, 15, 0x7b, 0x7f, true};
    }
}

/* The value of a code that has no sign; also of the one after the largest, where the next binade would begin. */
static double code_value(struct shape s, uint32_t code)
{
    const int exponent = (int)(code >> s.mantissa), mantissa = (int)(code & ((1u << s.mantissa) - 1));
    if (exponent == 0) return ldexp(mantissa, 1 - s.bias - s.mantissa);
    return ldexp((1 << s.mantissa) + mantissa, exponent - s.bias - s.mantissa);
}

/* The same from a table: searching calls it often. */
static const double *code_values(medleyDataType_t dtype)
{
    static double tables[medleyNumTypes][0x8000];
    const struct shape s = shape_of(dtype);
    double *table = tables[dtype];
    if (table[1] == 0)
        for (uint32_t code = 0; code <= s.largest + 1; code++) table[code] = code_value(s, code);
    return table;
}

static bool is_narrow(medleyDataType_t dtype) { return mdl_dtype_size(dtype) != mdl_dtype_acc_size(dtype); }

uint64_t oracle_to_acc(medleyDataType_t dtype, uint64_t bits)
{
    if (!is_narrow(dtype)) return bits;
    const struct shape s = shape_of(dtype);
    const uint32_t sign = (uint32_t)bits >> (s.bits - 1), code = (uint32_t)bits & ((1u << (s.bits - 1)) - 1);
    double v = code_value(s, code);
    if (code > s.largest) v = s.infinity && code == s.largest + 1 ? INFINITY : NAN;
    return float_bits((float)(sign ? -v : v));
}

uint64_t oracle_from_acc(medleyDataType_t dtype, uint64_t acc)
{
    if (!is_narrow(dtype)) return oracle_canonical(dtype, acc);
    const struct shape s = shape_of(dtype);
    const double *value = code_values(dtype), v = value_of(dtype, acc), a = fabs(v);
    const uint32_t sign = signbit(v) ? 1u << (s.bits - 1) : 0;
    if (isnan(v)) return s.nan;
    uint32_t low = 0, high = s.largest + 1; /* value(low) <= a < value(high), or a is beyond all */
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (value[middle] <= a)
            low = middle;
        else
            high = middle;
    }
    const double below = a - value[low], above = value[high] - a; /* exact: neighbours */
    const uint32_t code = below < above || (below == above && !(low & 1)) ? low : high;
    if (code <= s.largest) return sign | code;
    return s.infinity ? sign | (s.largest + 1) : s.nan;
}

uint64_t oracle_canonical(medleyDataType_t dtype, uint64_t acc)
{
    const enum kind k = kind_of(dtype);
    return (k == FLOAT || k == DOUBLE) && isnan(value_of(dtype, acc)) ? round_to_acc(dtype, NAN) : acc;
}

/* ---- integers ---- */

static wide_int integer_of(medleyDataType_t dtype, uint64_t bits)
{
    const int width = (int)mdl_dtype_size(dtype) * 8;
    wide_int v = bits;
    if (kind_of(dtype) == SIGNED && bits >> (width - 1) & 1) v -= (wide_int)1 << width;
    return v;
}

static uint64_t integer_bits(medleyDataType_t dtype, wide_int v)
{
    const int width = (int)mdl_dtype_size(dtype) * 8;
    return (uint64_t)v & (~(uint64_t)0 >> (64 - width));
}

static uint64_t integer_op(medleyDataType_t dtype, medleyRedOp_t op, uint64_t ab, uint64_t bb)
{
    const wide_int a = integer_of(dtype, ab), b = integer_of(dtype, bb);
    switch (op) {
    case medleyProd: return integer_bits(dtype, (wide_int)((unsigned __int128)a * (unsigned __int128)b));
    case medleyMax: return a > b ? ab : bb;
    case medleyMin: return a < b ? ab : bb;
    default: return integer_bits(dtype, a + b);
    }
}

/* ---- reductions ---- */

uint64_t oracle_op(medleyDataType_t dtype, medleyRedOp_t op, uint64_t a, uint64_t b)
{
    const enum kind k = kind_of(dtype);
    return k == FLOAT || k == DOUBLE ? float_op(dtype, op, a, b) : integer_op(dtype, op, a, b);
}

/* T(lo, hi) as the contract says it. */
static uint64_t tree(const struct mdl_reduce *r, const uint64_t *v, int lo, int hi)
{
    int half = 1;
    if (hi - lo == 1) return v[lo];
    while (half * 2 < hi - lo) half *= 2;
    return oracle_op(r->dtype, r->op, tree(r, v, lo, lo + half), tree(r, v, lo + half, hi));
}

static uint64_t average(medleyDataType_t dtype, uint64_t acc, uint32_t divisor)
{
    switch (kind_of(dtype)) {
    case FLOAT: return round_to_acc(dtype, (quad)value_of(dtype, acc) * (quad)(float)((quad)1 / (quad)(float)divisor));
    case DOUBLE: return round_to_acc(dtype, (quad)value_of(dtype, acc) * (quad)(double)((quad)1 / (quad)divisor));
    default: return integer_bits(dtype, integer_of(dtype, acc) / (wide_int)divisor);
    }
}

uint64_t oracle_reduce(const struct mdl_reduce *r, const uint64_t *in, uint64_t src_acc, int nsrc)
{
    uint64_t v[MDL_REDUCE_MAX_SRC];
    const bool same = !is_narrow(r->dtype) || (src_acc & 1) == (uint64_t)r->dst_acc;
    if (nsrc == 1 && r->finalize == MDL_FINAL_NONE && same) return in[0];
    for (int k = 0; k < nsrc; k++) v[k] = src_acc >> k & 1 ? in[k] : oracle_to_acc(r->dtype, in[k]);
    uint64_t acc = v[0];
    if (r->tree)
        acc = tree(r, v, 0, nsrc);
    else
        for (int k = 1; k < nsrc; k++) acc = oracle_op(r->dtype, r->op, acc, v[k]);
    if (r->finalize == MDL_FINAL_AVG) acc = average(r->dtype, acc, r->divisor);
    return r->dst_acc ? oracle_canonical(r->dtype, acc) : oracle_from_acc(r->dtype, acc);
}

uint64_t oracle_premul(medleyDataType_t dtype, uint64_t bits, uint64_t scalar)
{
    return oracle_canonical(dtype,
                            oracle_op(dtype, medleyProd, oracle_to_acc(dtype, bits), oracle_to_acc(dtype, scalar)));
}

/* ---- inputs ---- */

/* splitmix64 */
static uint64_t next(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Around infinity, or the largest value of a type that has none. */
static uint64_t near_limit(medleyDataType_t dtype, bool acc, uint64_t any)
{
    const uint64_t delta = (any & 3) - 2;
    switch (kind_of(dtype)) {
    case DOUBLE: return 0x7ff0000000000000u + delta;
    case FLOAT: return (acc || !is_narrow(dtype) ? 0x7f800000u : shape_of(dtype).largest) + delta;
    default: return ~(uint64_t)0 >> (65 - 8 * mdl_dtype_size(dtype)) >> (any >> 2 & 1);
    }
}

uint64_t oracle_random(medleyDataType_t dtype, bool acc, uint64_t *seed)
{
    const size_t size = acc ? mdl_dtype_acc_size(dtype) : mdl_dtype_size(dtype);
    const uint64_t mask = ~(uint64_t)0 >> (64 - 8 * size), sign = (mask >> 1) + 1, any = next(seed);
    const enum kind k = kind_of(dtype);
    switch (next(seed) % 4) {
    case 0: return any & mask;                      /* any bits: NaNs with payloads, all exponents */
    case 1: return (any & sign) | (next(seed) & 3); /* zeros of both signs, denormals; small integers */
    case 2: return near_limit(dtype, acc, next(seed)) ^ (any & sign);
    default: break;
    }
    if (k != FLOAT && k != DOUBLE) return (any & 1 ? next(seed) % 100 : mask + 1 - next(seed) % 100) & mask;
    const double v = ldexp((double)(any >> 40), (int)(any >> 8 & 15) - 30); /* up to 512 */
    const uint64_t bits = round_to_acc(dtype, (quad)(any >> 16 & 1 ? -v : v));
    return acc ? bits : oracle_from_acc(dtype, bits);
}
