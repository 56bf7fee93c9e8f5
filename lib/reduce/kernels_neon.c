/* SPDX-License-Identifier: Apache-2.0 */
/* The vector kernels for AArch64: 128-bit vectors, conversion of fp16 included in the base instruction set. */
#include "config.h"

#if defined(__aarch64__)

#include "lib/reduce/kernels.h"
#include "lib/reduce/narrow.h"
#include <arm_neon.h>

#define VECTOR_BYTES 16
#include "lib/reduce/kernels_vector_types.h"

INLINE v_uint16_t high16(v_uint16_t a, v_uint16_t b)
{
    const uint16x8_t x = (uint16x8_t)a, y = (uint16x8_t)b;
    const uint32x4_t low = vmull_u16(vget_low_u16(x), vget_low_u16(y)), high = vmull_high_u16(x, y);
    return (v_uint16_t)vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
}

INLINE v_uint32_t high32(v_uint32_t a, v_uint32_t b)
{
    const uint32x4_t x = (uint32x4_t)a, y = (uint32x4_t)b;
    const uint64x2_t low = vmull_u32(vget_low_u32(x), vget_low_u32(y)), high = vmull_high_u32(x, y);
    return (v_uint32_t)vuzp2q_u32(vreinterpretq_u32_u64(low), vreinterpretq_u32_u64(high));
}

INLINE void widen_half(uint16x8_t codes, v_uint32_t *v)
{
    v[0] = (v_uint32_t)vmovl_u16(vget_low_u16(codes));
    v[1] = (v_uint32_t)vmovl_u16(vget_high_u16(codes));
}

INLINE uint16x8_t narrow_half(const v_uint32_t *v)
{
    return vcombine_u16(vmovn_u32((uint32x4_t)v[0]), vmovn_u32((uint32x4_t)v[1]));
}

INLINE h_uint16_t codes_load8(const void *p)
{
    h_uint16_t h;
    EACH_HALF(j) h.v[j] = (v_uint16_t)vmovl_u8(vld1_u8((const uint8_t *)p + 8 * j));
    return h;
}

INLINE b_uint32_t codes_load16(const void *p)
{
    b_uint32_t b;
    for (int j = 0; j < 4; j++) widen_half((uint16x8_t)vld1q_u8((const uint8_t *)p + 16 * j), &b.v[2 * j]);
    return b;
}

INLINE void codes_store8(void *p, b_uint32_t b)
{
    for (int j = 0; j < 2; j++) {
        const uint8x8_t low = vmovn_u16(narrow_half(&b.v[4 * j])), high = vmovn_u16(narrow_half(&b.v[4 * j + 2]));
        vst1q_u8((uint8_t *)p + 16 * j, vcombine_u8(low, high));
    }
}

INLINE void codes_store16(void *p, b_uint32_t b)
{
    for (int j = 0; j < 4; j++) vst1q_u8((uint8_t *)p + 16 * j, (uint8x16_t)narrow_half(&b.v[2 * j]));
}

INLINE b_float f16_load(const void *p)
{
    b_float b;
    EACH(j) b.v[j] = (v_float)vcvt_f32_f16((float16x4_t)vld1_u8((const uint8_t *)p + 8 * j));
    return b;
}

INLINE b_float f16_widen(h_uint16_t h)
{
    b_float b;
    EACH_HALF(j)
    {
        b.v[2 * j] = (v_float)vcvt_f32_f16((float16x4_t)vget_low_u16((uint16x8_t)h.v[j]));
        b.v[2 * j + 1] = (v_float)vcvt_f32_f16((float16x4_t)vget_high_u16((uint16x8_t)h.v[j]));
    }
    return b;
}

INLINE void f16_store(void *p, b_float b)
{
    EACH(j) vst1_u8((uint8_t *)p + 8 * j, (uint8x8_t)vcvt_f16_f32((float32x4_t)b.v[j]));
}

#include "lib/reduce/kernels_vector.h"

const struct mdl_kernels mdl_kernels_neon = {.name = "neon", .block_bytes = BLOCK_BYTES, .fold = MDL_KERNEL_TABLE};

#else
/* ISO C wants a declaration in every file. */
typedef int mdl_kernels_neon_not_here;
#endif
