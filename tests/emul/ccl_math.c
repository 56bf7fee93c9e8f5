/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic of the emulated collectives: integers wrap, floats are summed as doubles in the order of the ranks and
 * rounded once. It is meant to be obviously right, not fast, and not the bits of any vendor.
 */
#include "config.h"
#include "tests/emul/ccl.h"
#include <math.h>
#include <string.h>

size_t emul_type_size(int type)
{
    static const size_t sizes[EMUL_TYPES] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1, 2, 2};
    return sizes[type];
}

/* A small float: sign, `exponent` bits, `mantissa` bits. `finite`: no infinities, all ones is NaN (E4M3). */
struct small {
    int exponent, mantissa;
    bool finite;
};

static const struct small *small_of(int type)
{
    static const struct small half = {5, 10, false}, brain = {8, 7, false}, e4m3 = {4, 3, true}, e5m2 = {5, 2, false};
    return type == EMUL_F16    ? &half
           : type == EMUL_BF16 ? &brain
           : type == EMUL_E4M3 ? &e4m3
           : type == EMUL_E5M2 ? &e5m2
                               : NULL;
}

static double decode(const struct small *form, unsigned bits)
{
    unsigned most = (1u << form->exponent) - 1, fraction = bits & ((1u << form->mantissa) - 1);
    unsigned exponent = bits >> form->mantissa & most;
    int bias = (1 << (form->exponent - 1)) - 1;
    double sign = bits >> (form->exponent + form->mantissa) & 1 ? -1 : 1;
    bool nan = form->finite ? exponent == most && fraction == (1u << form->mantissa) - 1 : exponent == most && fraction;
    if (nan) return NAN;
    if (!form->finite && exponent == most) return sign * INFINITY;
    if (!exponent) return sign * ldexp(fraction, 1 - bias - form->mantissa);
    return sign * ldexp((double)(fraction + (1u << form->mantissa)), (int)exponent - bias - form->mantissa);
}

/* To the nearest, ties to even; what is too large becomes infinite, or NaN where there is no infinity. */
static unsigned encode(const struct small *form, double value)
{
    unsigned most = (1u << form->exponent) - 1, ones = (1u << form->mantissa) - 1;
    int bias = (1 << (form->exponent - 1)) - 1, exponent;
    unsigned sign = signbit(value) ? 1u << (form->exponent + form->mantissa) : 0;
    unsigned large = most << form->mantissa | (form->finite ? ones : 0);
    if (isnan(value)) return most << form->mantissa | (form->finite ? ones : 1u << (form->mantissa - 1));
    if (isinf(value)) return sign | large;
    frexp(value, &exponent);
    exponent--; /* of 1.x */
    if (exponent < 1 - bias) exponent = 1 - bias;
    double steps = nearbyint(ldexp(fabs(value), form->mantissa - exponent));
    unsigned bits = (unsigned)steps;
    if (bits > 2 * ones + 1) { /* rounded up into the next power */
        bits >>= 1;
        exponent++;
    }
    unsigned field = bits > ones ? (unsigned)(exponent + bias) : 0;
    unsigned word = field << form->mantissa | (bits & ones);
    return sign | (word > large || field > most || (!form->finite && field == most) ? large : word);
}

static double load_float(int type, const void *from, size_t i)
{
    const struct small *form = small_of(type);
    float single;
    double twice;
    uint16_t half;
    uint8_t byte;
    if (!form && type == EMUL_F32) return memcpy(&single, (const char *)from + 4 * i, 4), (double)single;
    if (!form) return memcpy(&twice, (const char *)from + 8 * i, 8), twice;
    if (emul_type_size(type) == 2) return memcpy(&half, (const char *)from + 2 * i, 2), decode(form, half);
    return memcpy(&byte, (const char *)from + i, 1), decode(form, byte);
}

static void store_float(int type, void *to, size_t i, double value)
{
    const struct small *form = small_of(type);
    float single = (float)value;
    if (!form && type == EMUL_F32)
        memcpy((char *)to + 4 * i, &single, 4);
    else if (!form)
        memcpy((char *)to + 8 * i, &value, 8);
    else if (emul_type_size(type) == 2) {
        uint16_t half = (uint16_t)encode(form, value);
        memcpy((char *)to + 2 * i, &half, 2);
    } else {
        ((uint8_t *)to)[i] = (uint8_t)encode(form, value);
    }
}

static bool is_float(int type) { return type == EMUL_F32 || type == EMUL_F64 || small_of(type); }
static bool is_signed(int type) { return type == EMUL_I8 || type == EMUL_I16 || type == EMUL_I32 || type == EMUL_I64; }

static uint64_t load_word(int type, const void *from, size_t i)
{
    size_t size = emul_type_size(type);
    uint64_t word = 0;
    memcpy(&word, (const char *)from + size * i, size); /* little-endian hosts only, as all that this runs on */
    unsigned spare = (unsigned)(64 - 8 * size);
    return is_signed(type) ? (uint64_t)((int64_t)(word << spare) >> spare) : word;
}

static double fold_float(int reduce, double a, double b)
{
    if (reduce == EMUL_PROD) return a * b;
    if (reduce == EMUL_MAX || reduce == EMUL_MIN) {
        if (isnan(a) || isnan(b)) return NAN;
        return (reduce == EMUL_MAX) == (a > b) ? a : b;
    }
    return a + b;
}

static uint64_t fold_word(int type, int reduce, uint64_t a, uint64_t b)
{
    if (reduce == EMUL_PROD) return a * b;
    if (reduce == EMUL_MAX || reduce == EMUL_MIN) {
        bool above = is_signed(type) ? (int64_t)a > (int64_t)b : a > b;
        return above == (reduce == EMUL_MAX) ? a : b;
    }
    return a + b;
}

void emul_scale(int type, void *values, const void *factor, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_float(type)) {
            store_float(type, values, i, load_float(type, values, i) * load_float(type, factor, 0));
            continue;
        }
        uint64_t word = load_word(type, values, i) * load_word(type, factor, 0);
        memcpy((char *)values + emul_type_size(type) * i, &word, emul_type_size(type));
    }
}

void emul_reduce_ranks(int type, int reduce, void *to, const void *const *from, int ranks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_float(type)) {
            double all = load_float(type, from[0], i);
            for (int r = 1; r < ranks; r++) all = fold_float(reduce, all, load_float(type, from[r], i));
            store_float(type, to, i, reduce == EMUL_AVG ? all / ranks : all);
            continue;
        }
        uint64_t all = load_word(type, from[0], i);
        for (int r = 1; r < ranks; r++) all = fold_word(type, reduce, all, load_word(type, from[r], i));
        if (reduce == EMUL_AVG) all = is_signed(type) ? (uint64_t)((int64_t)all / ranks) : all / (uint64_t)ranks;
        memcpy((char *)to + emul_type_size(type) * i, &all, emul_type_size(type));
    }
}
