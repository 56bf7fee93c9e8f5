/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Division of many integers by one divisor without a division each, after Granlund and Montgomery, "Division by
 * invariant integers using multiplication" (1994), figure 4.1: exact for every 64-bit dividend and every divisor.
 */
#ifndef MDL_REDUCE_DIVIDE_H_
#define MDL_REDUCE_DIVIDE_H_

#include <stdbool.h>
#include <stdint.h>

__extension__ typedef unsigned __int128 mdl_u128;

struct mdl_divisor {
    uint64_t factor;
    uint32_t factor32; /* with the same shifts, for 32-bit dividends and products */
    uint16_t factor16; /* for 8-bit dividends and divisors from 2 on: n / d = n * factor16 / 2^16. It exceeds 2^16 / d
                          by less than 1, so the quotient by less than 255 / 2^16, which is less than 1 / d; from 256 on
                          it is 256 at most, and the quotient 0 */
    unsigned shift1, shift2;
};

static inline struct mdl_divisor mdl_divisor_of(uint32_t d)
{
    const unsigned log = d > 1 ? 32 - (unsigned)__builtin_clz(d - 1) : 0; /* ceil(log2(d)) */
    return (struct mdl_divisor){.factor = (uint64_t)((((mdl_u128)1 << log) - d) * ((mdl_u128)1 << 64) / d) + 1,
                                .factor32 = (uint32_t)((((uint64_t)1 << log) - d) * (((mdl_u128)1 << 32)) / d) + 1,
                                .factor16 = (uint16_t)((0xffffu + d) / d),
                                .shift1 = log > 0 ? 1 : 0,
                                .shift2 = log > 0 ? log - 1 : 0};
}

static inline uint64_t mdl_divide_u64(uint64_t n, struct mdl_divisor d)
{
    const uint64_t high = (uint64_t)((mdl_u128)d.factor * n >> 64);
    return (high + ((n - high) >> d.shift1)) >> d.shift2;
}

/* Toward zero. */
static inline int64_t mdl_divide_i64(int64_t n, struct mdl_divisor d)
{
    const uint64_t sign = n < 0 ? ~(uint64_t)0 : 0;
    const uint64_t quotient = mdl_divide_u64(((uint64_t)n ^ sign) - sign, d);
    return (int64_t)((quotient ^ sign) - sign);
}

#endif
