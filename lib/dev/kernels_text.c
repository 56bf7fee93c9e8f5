/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source of the kernels. What the languages call differently comes first; the rest is C that all of them have.
 *
 * A type is (code in memory, partial, load, store, operations of the partial). Floats are carried as their bits: an
 * operation that is not a sum or product never sees a float, so no compiler can flush, fuse or reorder it. Sums and
 * products of fp32 and fp64 are the vendor's own functions where they exist, which are never fused.
 *
 * A kernel folds the sources s0 .. s7, the first n of them, for elements from its own number on in steps of the grid:
 * all sources of an element are read before it is written. `how`: bits 0-1 the operation, in the order of
 * medleyRedOp_t; 2 tree; 3 dst is partials; 4 times `factor`; 5 divided by `divisor`. `accs`: bit k, sk is partials.
 */
#include "config.h"

#include "lib/dev/kernels.h"

static const char languages[] =
    "#ifdef __OPENCL_VERSION__\n"
    "#pragma OPENCL FP_CONTRACT OFF\n"
    "#ifdef cl_khr_fp64\n"
    "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n"
    "#define HAS_F64 1\n"
    "#elif defined(__opencl_c_fp64)\n"
    "#define HAS_F64 1\n"
    "#else\n"
    "#define HAS_F64 0\n"
    "#endif\n"
    "#define KERNEL __kernel\n"
    "#define FN\n"
    "#define MEM __global\n"
    "typedef char s8; typedef uchar u8; typedef ushort u16; typedef int s32; typedef uint u32;\n"
    "typedef long s64; typedef ulong u64;\n"
    "#define FIRST ((u64)get_global_id(0))\n"
    "#define STEP ((u64)get_global_size(0))\n"
    "#define F32_OF(bits) as_float(bits)\n"
    "#define BITS_OF_F32(f) as_uint(f)\n"
    "#define F64_OF(bits) as_double(bits)\n"
    "#define BITS_OF_F64(f) as_ulong(f)\n"
    "#define ADD32(a, b) ((a) + (b))\n"
    "#define MUL32(a, b) ((a) * (b))\n"
    "#define ADD64(a, b) ((a) + (b))\n"
    "#define MUL64(a, b) ((a) * (b))\n"
    "#else\n"
    "#define HAS_F64 1\n"
    "#define KERNEL extern \"C\" __global__\n"
    "#define FN static __device__ __forceinline__\n"
    "#define MEM\n"
    "typedef signed char s8; typedef unsigned char u8; typedef unsigned short u16; typedef int s32;\n"
    "typedef unsigned int u32; typedef long long s64; typedef unsigned long long u64;\n"
    "#define FIRST ((u64)blockIdx.x * blockDim.x + threadIdx.x)\n"
    "#define STEP ((u64)gridDim.x * blockDim.x)\n"
    "#define F32_OF(bits) __uint_as_float(bits)\n"
    "#define BITS_OF_F32(f) __float_as_uint(f)\n"
    "#define F64_OF(bits) __longlong_as_double((long long)(bits))\n"
    "#define BITS_OF_F64(f) ((u64)__double_as_longlong(f))\n"
    "#define ADD32(a, b) __fadd_rn(a, b)\n"
    "#define MUL32(a, b) __fmul_rn(a, b)\n"
    "#define ADD64(a, b) __dadd_rn(a, b)\n"
    "#define MUL64(a, b) __dmul_rn(a, b)\n"
    "#endif\n";

/* Unsigned arithmetic wraps. */
static const char integers[] = "#define INTEGER(t, wide, quotient) \\\n"
                               "FN t add_##t(t a, t b) { return (t)((wide)a + (wide)b); } \\\n"
                               "FN t mul_##t(t a, t b) { return (t)((wide)a * (wide)b); } \\\n"
                               "FN t max_##t(t a, t b) { return a > b ? a : b; } \\\n"
                               "FN t min_##t(t a, t b) { return a < b ? a : b; } \\\n"
                               "FN t end_##t(t v, u32 how, u64 factor, u32 divisor) { \\\n"
                               "  if (how & 16u) v = mul_##t(v, (t)factor); \\\n"
                               "  return how & 32u ? (t)((quotient)v / (quotient)divisor) : v; \\\n"
                               "}\n"
                               "INTEGER(s8, u32, s32)\n"
                               "INTEGER(u8, u32, u32)\n"
                               "INTEGER(s32, u32, s32)\n"
                               "INTEGER(u32, u32, u32)\n"
                               "INTEGER(s64, u64, s64)\n"
                               "INTEGER(u64, u64, u64)\n";

/* Bits of floats of one sign order as integers do, and those of negative ones the other way round: so -0 < +0. */
static const char floats[] =
    "typedef u32 f32; typedef u64 f64;\n"
    "#define FLOAT(t, s, sign, inf, quiet, add, mul, of, bits) \\\n"
    "FN bool nan_##t(t v) { return (v & ~(sign)) > (inf); } \\\n"
    "FN s key_##t(t v) { return (s)(v & (sign) ? v ^ ~(sign) : v); } \\\n"
    "FN t add_##t(t a, t b) { return bits(add(of(a), of(b))); } \\\n"
    "FN t mul_##t(t a, t b) { return bits(mul(of(a), of(b))); } \\\n"
    "FN t max_##t(t a, t b) { return nan_##t(a) ? a : nan_##t(b) ? b : key_##t(a) > key_##t(b) ? a : b; } \\\n"
    "FN t min_##t(t a, t b) { return nan_##t(a) ? a : nan_##t(b) ? b : key_##t(a) < key_##t(b) ? a : b; } \\\n"
    "FN t end_##t(t v, u32 how, u64 factor, u32 divisor) { \\\n"
    "  if (how & 16u) v = mul_##t(v, (t)factor); \\\n"
    "  return nan_##t(v) ? (quiet) : v; \\\n"
    "}\n"
    "FLOAT(f32, s32, 0x80000000u, 0x7f800000u, 0x7fc00000u, ADD32, MUL32, F32_OF, BITS_OF_F32)\n"
    "#if HAS_F64\n"
    "FLOAT(f64, s64, (u64)0x8000000000000000ul, (u64)0x7ff0000000000000ul, (u64)0x7ff8000000000000ul, ADD64, MUL64, "
    "F64_OF, BITS_OF_F64)\n"
    "#endif\n";

/*
 * Codes to fp32 and back, rounded to nearest even, as lib/reduce/narrow.h does it. A denormal code is its mantissa, a
 * small integer, times a power of two: both steps are exact, and the result is a normal fp32 number. bf16 has fp32's
 * exponents: there the bits are moved only.
 */
static const char narrow[] =
    "FN u32 widen(u32 code, u32 width, u32 m, u32 bias, u32 special, u32 inf, u32 nan) {\n"
    "  u32 sign = code >> (width - 1u) << 31, low = code & ((1u << (width - 1u)) - 1u);\n"
    "  if (low >= special) return low == inf && inf != nan ? sign | 0x7f800000u : 0x7fc00000u;\n"
    "  if (bias == 127u) return sign | low << 16;\n"
    "  if (low >> m) return sign | ((low << (23u - m)) + ((127u - bias) << 23));\n"
    "  return sign | BITS_OF_F32(MUL32((float)(int)low, F32_OF((128u - bias - m) << 23)));\n"
    "}\n"
    "FN u32 narrow(u32 bits, u32 width, u32 m, u32 bias, u32 overflow, u32 inf, u32 nan) {\n"
    "  u32 low = bits & 0x7fffffffu, sign = bits >> 31 << (width - 1u), field = low >> 23;\n"
    "  u32 whole = (low & 0x7fffffu) | (field ? 0x800000u : 0u), kept, half_, rest;\n"
    "  int exponent = (int)(field ? field : 1u) - 127 + (int)bias, drop;\n"
    "  if (low > 0x7f800000u || (low >= overflow && inf == nan)) return nan;\n"
    "  if (low >= overflow) return sign | inf;\n"
    "  drop = 23 - (int)m + (exponent < 1 ? 1 - exponent : 0);\n"
    "  if (drop > 24) return sign;\n"
    "  half_ = 1u << (drop - 1);\n"
    "  rest = whole & (2u * half_ - 1u);\n"
    "  kept = whole >> drop;\n"
    "  if (rest > half_ || (rest == half_ && (kept & 1u))) kept++;\n"
    "  return sign | (((u32)(exponent < 1 ? 0 : exponent - 1) << m) + kept);\n"
    "}\n"
    "#define NARROW(t, code, width, m, bias, special, overflow, inf, nan) \\\n"
    "FN f32 get_##t(MEM const code *p, u64 i) { return widen(p[i], width, m, bias, special, inf, nan); } \\\n"
    "FN void put_##t(MEM code *p, u64 i, f32 v) { p[i] = (code)narrow(v, width, m, bias, overflow, inf, nan); }\n"
    "NARROW(f16, u16, 16u, 10u, 15u, 0x7c00u, 0x477ff000u, 0x7c00u, 0x7e00u)\n"
    "NARROW(bf16, u16, 16u, 7u, 127u, 0x7f80u, 0x7f7f8000u, 0x7f80u, 0x7fc0u)\n"
    "NARROW(e4m3, u8, 8u, 3u, 7u, 0x7fu, 0x43e80001u, 0x7fu, 0x7fu)\n"
    "NARROW(e5m2, u8, 8u, 2u, 15u, 0x7cu, 0x47700000u, 0x7cu, 0x7fu)\n"
    "#define PLAIN(t) \\\n"
    "FN t get_##t(MEM const t *p, u64 i) { return p[i]; } \\\n"
    "FN void put_##t(MEM t *p, u64 i, t v) { p[i] = v; }\n"
    "PLAIN(s8)\nPLAIN(u8)\nPLAIN(s32)\nPLAIN(u32)\nPLAIN(s64)\nPLAIN(u64)\n";

/* The tree is that of the host's kernels: after the pass with stride s, v[k] is the value of the 2s sources at k. */
static const char kernels[] =
    "#define LEFT(op) \\\n"
    "  if (n > 1u) v0 = op(v0, v1); if (n > 2u) v0 = op(v0, v2); if (n > 3u) v0 = op(v0, v3); \\\n"
    "  if (n > 4u) v0 = op(v0, v4); if (n > 5u) v0 = op(v0, v5); if (n > 6u) v0 = op(v0, v6); \\\n"
    "  if (n > 7u) v0 = op(v0, v7);\n"
    "#define TREE(op) \\\n"
    "  if (n > 1u) v0 = op(v0, v1); if (n > 3u) v2 = op(v2, v3); if (n > 5u) v4 = op(v4, v5); \\\n"
    "  if (n > 7u) v6 = op(v6, v7); if (n > 2u) v0 = op(v0, v2); if (n > 6u) v4 = op(v4, v6); \\\n"
    "  if (n > 4u) v0 = op(v0, v4);\n"
    "#define OPERATION(op) { if (how & 4u) { TREE(op) } else { LEFT(op) } }\n"
    "#define ARGS MEM void *dst, MEM const void *s0, MEM const void *s1, MEM const void *s2, MEM const void *s3, \\\n"
    "  MEM const void *s4, MEM const void *s5, MEM const void *s6, MEM const void *s7, u64 count, u64 factor, u32 n, "
    "\\\n"
    "  u32 how, u32 accs, u32 divisor\n"
    "#define TAKE(A, CODE, LOAD, k) \\\n"
    "  if (n > k##u) v##k = accs >> k & 1u ? ((MEM const A *)s##k)[i] : LOAD((MEM const CODE *)s##k, i);\n"
    "#define FOLD(name, A, CODE, LOAD, STORE) \\\n"
    "KERNEL void mdl_fold_##name(ARGS) { \\\n"
    "  for (u64 i = FIRST; i < count; i += STEP) { \\\n"
    "    A v0 = 0, v1 = 0, v2 = 0, v3 = 0, v4 = 0, v5 = 0, v6 = 0, v7 = 0; \\\n"
    "    TAKE(A, CODE, LOAD, 0) TAKE(A, CODE, LOAD, 1) TAKE(A, CODE, LOAD, 2) TAKE(A, CODE, LOAD, 3) \\\n"
    "    TAKE(A, CODE, LOAD, 4) TAKE(A, CODE, LOAD, 5) TAKE(A, CODE, LOAD, 6) TAKE(A, CODE, LOAD, 7) \\\n"
    "    switch (how & 3u) { \\\n"
    "    case 0u: OPERATION(add_##A) break; \\\n"
    "    case 1u: OPERATION(mul_##A) break; \\\n"
    "    case 2u: OPERATION(max_##A) break; \\\n"
    "    default: OPERATION(min_##A) \\\n"
    "    } \\\n"
    "    v0 = end_##A(v0, how, factor, divisor); \\\n"
    "    if (how & 8u) ((MEM A *)dst)[i] = v0; else STORE((MEM CODE *)dst, i, v0); \\\n"
    "  } \\\n"
    "}\n"
    "FOLD(0, s8, s8, get_s8, put_s8)\n"
    "FOLD(1, u8, u8, get_u8, put_u8)\n"
    "FOLD(2, s32, s32, get_s32, put_s32)\n"
    "FOLD(3, u32, u32, get_u32, put_u32)\n"
    "FOLD(4, s64, s64, get_s64, put_s64)\n"
    "FOLD(5, u64, u64, get_u64, put_u64)\n"
    "FOLD(6, f32, u16, get_f16, put_f16)\n"
    "FOLD(7, f32, u32, get_u32, put_u32)\n"
    "#if HAS_F64\n"
    "FOLD(8, f64, u64, get_u64, put_u64)\n"
    "#else\n"
    "KERNEL void mdl_fold_8(ARGS) {}\n"
    "#endif\n"
    "FOLD(9, f32, u16, get_bf16, put_bf16)\n"
    "FOLD(10, f32, u8, get_e4m3, put_e4m3)\n"
    "FOLD(11, f32, u8, get_e5m2, put_e5m2)\n";

const char *const mdl_dev_kernels_text[] = {languages, integers, floats, narrow, kernels, NULL};
