/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything is computed in blocks of 64-bit numbers: an integer as it is, a float in eighths. A block of inputs is
 * drawn for one rank, folded over the ranks where a result is wanted, and only then stored in the datatype.
 */
#include "config.h"
#include "bench/perf/pattern.h"
#include "lib/reduce/reduce.h"
#include <string.h>

enum { BLOCK = 256 };
static const uint64_t seed_step = 0x9e3779b97f4a7c15u;

/* ---- random numbers ---- */

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Rank -1 stands for what all ranks know of an element. */
static uint64_t key_of(const struct perf_pattern *p, int rank)
{
    return mix(p->seed * seed_step + (uint64_t)(rank + 2));
}

static inline uint64_t draw(uint64_t key, size_t i) { return mix(key + (uint64_t)i * seed_step); }

/* One of 0 .. n-1 from 32 random bits. */
static inline uint32_t below(uint32_t bits, uint32_t n) { return (uint32_t)(((uint64_t)bits * n) >> 32); }

/* ---- types ---- */

static bool is_float(medleyDataType_t t) { return t >= medleyFloat16; }

/* Up to this, every whole number is exact in the type; at most 256 where the table serves. */
static int exact_limit(medleyDataType_t t)
{
    switch (t) {
    case medleyFloat8e5m2: return 8;
    case medleyFloat8e4m3: return 16;
    case medleyFloat16:
    case medleyBfloat16: return 256;
    case medleyInt8:
    case medleyUint8: return 127;
    default: return 1 << 24;
    }
}

void perf_pattern_init(struct perf_pattern *p, medleyDataType_t dtype, int op, int nranks)
{
    *p = (struct perf_pattern){.dtype = dtype, .op = op, .nranks = nranks, .elem = mdl_dtype_size(dtype)};
    p->most = exact_limit(dtype) / (op == PERF_MULSUM ? 2 : 1);
    p->largest = p->most / nranks;
    if (!is_float(dtype) || p->elem > 2) return;
    for (int q = -PERF_TABLE_HALF; q <= PERF_TABLE_HALF; q++) {
        uint16_t two = 0;
        uint8_t one = 0;
        mdl_from_float(dtype, (float)q / 8, p->elem == 2 ? (void *)&two : (void *)&one);
        p->table[q + PERF_TABLE_HALF] = p->elem == 2 ? two : one;
    }
}

/* What 64 random bits are as an integer of the type. */
static inline int64_t as_integer(medleyDataType_t t, uint64_t bits)
{
    switch (t) {
    case medleyInt8: return (int8_t)bits;
    case medleyUint8: return (uint8_t)bits;
    case medleyInt32: return (int32_t)bits;
    case medleyUint32: return (uint32_t)bits;
    default: return (int64_t)bits;
    }
}

/* ---- one rank's inputs ---- */

/* Sums to at most `most` over the ranks; all inputs of an element have one sign, so that none is lost in another. */
static int64_t small_term(const struct perf_pattern *p, int rank, uint64_t common, uint64_t own)
{
    uint32_t n = (uint32_t)p->nranks;
    bool negative = (common >> 63) && p->dtype != medleyUint8 && p->dtype != medleyUint32 && p->dtype != medleyUint64;
    int64_t v;
    if (p->largest > 0)
        v = below((uint32_t)own, (uint32_t)p->largest + 1);
    else
        v = (below((uint32_t)common, n) + (uint32_t)rank) % n < below((uint32_t)(common >> 32), (uint32_t)p->most + 1);
    return negative ? -v : v;
}

/* A factor in eighths: one rank has 1 to 1.75, one 2, one 0.5, all others 1; each with its sign. */
static int64_t factor(const struct perf_pattern *p, int rank, uint64_t common, uint64_t own)
{
    uint32_t n = (uint32_t)p->nranks, place = (below((uint32_t)common, n) + (uint32_t)rank) % n;
    int64_t q = place == 0 ? 8 + 2 * (int64_t)(own & 3) : place == 1 ? 16 : place == 2 ? 4 : 8;
    return own >> 63 ? -q : q;
}

static int64_t float_number(const struct perf_pattern *p, int rank, uint64_t common, uint64_t own)
{
    switch (p->op) {
    case medleyProd: return factor(p, rank, common, own);
    case medleyMax:
    case medleyMin: return 8 * ((int64_t)below((uint32_t)own, 2 * (uint32_t)p->most + 1) - p->most);
    default: return 8 * small_term(p, rank, common, own);
    }
}

static int64_t int_number(const struct perf_pattern *p, int rank, uint64_t common, uint64_t own)
{
    switch (p->op) {
    case medleyAvg: return small_term(p, rank, common, own);
    case medleyProd: return as_integer(p->dtype, own | 1); /* odd: no product of many is 0 */
    default: return as_integer(p->dtype, own);
    }
}

static void draw_block(const struct perf_pattern *p, int rank, size_t from, size_t count, int64_t *numbers)
{
    uint64_t mine = key_of(p, rank), common = key_of(p, -1);
    bool real = is_float(p->dtype) && p->op != PERF_COPY;
    for (size_t k = 0; k < count; k++) {
        uint64_t own = draw(mine, from + k);
        if (p->op == PERF_COPY)
            numbers[k] = (int64_t)own;
        else if (real)
            numbers[k] = float_number(p, rank, draw(common, from + k), own);
        else
            numbers[k] = int_number(p, rank, draw(common, from + k), own);
    }
}

/* ---- storing ---- */

#define STORE_BLOCK(type, value)                                                                                       \
    for (size_t k = 0; k < count; k++) ((type *)dst)[k] = (type)(value)

static void store_bits(size_t elem, const int64_t *numbers, size_t count, void *dst)
{
    switch (elem) {
    case 1: STORE_BLOCK(uint8_t, numbers[k]); break;
    case 2: STORE_BLOCK(uint16_t, numbers[k]); break;
    case 4: STORE_BLOCK(uint32_t, numbers[k]); break;
    default: STORE_BLOCK(uint64_t, numbers[k]); break;
    }
}

static void store_block(const struct perf_pattern *p, const int64_t *numbers, size_t count, void *dst)
{
    const uint16_t *table = p->table + PERF_TABLE_HALF;
    if (p->op == PERF_COPY || !is_float(p->dtype))
        store_bits(p->elem, numbers, count, dst);
    else if (p->dtype == medleyFloat32)
        STORE_BLOCK(float, (double)numbers[k] / 8);
    else if (p->dtype == medleyFloat64)
        STORE_BLOCK(double, (double)numbers[k] / 8);
    else if (p->elem == 2)
        STORE_BLOCK(uint16_t, table[numbers[k]]);
    else
        STORE_BLOCK(uint8_t, table[numbers[k]]);
}

void perf_pattern_input(const struct perf_pattern *p, int rank, size_t from, size_t count, void *dst)
{
    int64_t numbers[BLOCK];
    for (size_t done = 0, n; done < count; done += n) {
        n = count - done < BLOCK ? count - done : BLOCK;
        draw_block(p, rank, from + done, n, numbers);
        store_block(p, numbers, n, (char *)dst + done * p->elem);
    }
}

/* ---- results ---- */

static int64_t scalar_of(const struct perf_pattern *p, int rank)
{
    return is_float(p->dtype) ? 1 + (rank & 1) : as_integer(p->dtype, 2 * (uint64_t)rank + 1);
}

void perf_pattern_scalar(const struct perf_pattern *p, int rank, void *scalar)
{
    int64_t number = scalar_of(p, rank) * (is_float(p->dtype) ? 8 : 1);
    store_block(p, &number, 1, scalar);
}

static int64_t multiply(bool real, int64_t a, int64_t b)
{
    return real ? a * b / 8 : (int64_t)((uint64_t)a * (uint64_t)b);
}

/* into[k] = op(into[k], more[k]); `rank` is that of `more`. */
static void fold_block(const struct perf_pattern *p, int rank, const int64_t *more, size_t count, int64_t *into)
{
    /* Unsigned 64-bit numbers are compared as signed ones with the top bit turned. */
    uint64_t turn = p->dtype == medleyUint64 ? (uint64_t)1 << 63 : 0;
    int64_t scalar = p->op == PERF_MULSUM ? scalar_of(p, rank) : 1;
    for (size_t k = 0; k < count; k++) {
        int64_t a = into[k], b = more[k];
        bool less = (int64_t)((uint64_t)b ^ turn) < (int64_t)((uint64_t)a ^ turn);
        switch (p->op) {
        case medleyProd: into[k] = multiply(is_float(p->dtype), a, b); break;
        case medleyMax: into[k] = less ? a : b; break;
        case medleyMin: into[k] = less ? b : a; break;
        default: into[k] = (int64_t)((uint64_t)a + (uint64_t)b * (uint64_t)scalar); break;
        }
    }
}

static void store_average(const struct perf_pattern *p, const int64_t *sums, size_t count, void *dst)
{
    for (size_t k = 0; k < count; k++) {
        void *to = (char *)dst + k * p->elem;
        double mean = (double)sums[k] / 8 / p->nranks;
        if (p->dtype == medleyFloat64)
            memcpy(to, &mean, sizeof(mean));
        else
            mdl_from_float(p->dtype, (float)mean, to);
    }
}

static void result_block(const struct perf_pattern *p, size_t from, size_t count, void *dst)
{
    int64_t sums[BLOCK], numbers[BLOCK];
    draw_block(p, 0, from, count, sums); /* the scalar of rank 0 is 1 */
    for (int r = 1; r < p->nranks; r++) {
        draw_block(p, r, from, count, numbers);
        fold_block(p, r, numbers, count, sums);
    }
    if (p->op == medleyAvg && is_float(p->dtype)) {
        store_average(p, sums, count, dst);
        return;
    }
    for (size_t k = 0; p->op == medleyAvg && k < count; k++) sums[k] /= p->nranks;
    /* Wrapped sums and products: back to the type. */
    store_block(p, sums, count, dst);
}

void perf_pattern_result(const struct perf_pattern *p, size_t from, size_t count, void *dst)
{
    for (size_t done = 0, n; done < count; done += n) {
        n = count - done < BLOCK ? count - done : BLOCK;
        result_block(p, from + done, n, (char *)dst + done * p->elem);
    }
}

/* ---- comparison ---- */

static uint64_t load_bits(const void *at, size_t elem)
{
    uint8_t one;
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (elem) {
    case 1: memcpy(&one, at, 1); return one;
    case 2: memcpy(&two, at, 2); return two;
    case 4: memcpy(&four, at, 4); return four;
    default: memcpy(&eight, at, 8); return eight;
    }
}

/* Bits of a float as a number that grows with it: neighbours differ by 1, and both zeros are 0. */
static int64_t as_ordered(uint64_t bits, size_t elem)
{
    uint64_t sign = (uint64_t)1 << (8 * elem - 1);
    return bits & sign ? -(int64_t)(bits ^ sign) : (int64_t)bits;
}

static bool is_close(const struct perf_pattern *p, uint64_t a, uint64_t b)
{
    if (p->op != medleyAvg || !is_float(p->dtype)) return a == b;
    int64_t x = as_ordered(a, p->elem), y = as_ordered(b, p->elem);
    uint64_t apart = x > y ? (uint64_t)x - (uint64_t)y : (uint64_t)y - (uint64_t)x;
    return apart <= 2;
}

size_t perf_pattern_compare(const struct perf_pattern *p, const void *got, const void *want, size_t count)
{
    size_t wrong = 0;
    if (!memcmp(got, want, count * p->elem)) return 0;
    for (size_t k = 0; k < count; k++) {
        size_t at = k * p->elem;
        wrong += !is_close(p, load_bits((const char *)got + at, p->elem), load_bits((const char *)want + at, p->elem));
    }
    return wrong;
}
