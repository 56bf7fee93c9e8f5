/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host reduction kernels: every datatype x operation, n-ary, one pass over memory.
 *
 * Every type has a partial ("acc") type in which it is added up: fp32 for fp16, bf16, fp8e4m3 and fp8e5m2; every other
 * type is its own partial type. Sources and the destination are each either in the datatype or in its acc type. The
 * arithmetic is
 *
 *     acc = to_acc(src[0]);  acc = op(acc, to_acc(src[k])) for k = 1 .. nsrc-1;  finalize;  dst = acc or
 * round_to_dtype(acc)
 *
 * or, with `tree`, the canonical binary tree over the source numbers: T(lo, hi) = op(T(lo, mid), T(mid, hi)) where mid
 * - lo is the largest power of two smaller than hi - lo. Each element's result depends only on that element's inputs,
 * their order and the fields of the description: never on SIMD width, alignment, count or position. So results are
 * bit-equal on every machine: no FMA contraction, denormals kept, round to nearest even; a NaN result (in dtype or acc)
 * is the type's canonical quiet NaN (sign 0, fp32 0x7fc00000, fp64 0x7ff8..., fp16 0x7e00, bf16 0x7fc0, e4m3 0x7f, e5m2
 * 0x7f); min and max give NaN if any input is NaN, and order -0 < +0. fp8e4m3 is OCP E4M3FN: no infinity, overflow
 * rounds to NaN; e5m2 has infinities and overflows to them. Integers wrap. A plain copy (nsrc == 1, same type, no
 * finalize) moves bits unchanged.
 */
#ifndef MDL_REDUCE_REDUCE_H_
#define MDL_REDUCE_REDUCE_H_

#include <medley.h>
#include <stdbool.h>

enum { MDL_REDUCE_MAX_SRC = 64, MDL_REDUCE_MAX_DST = 65, MDL_REDUCE_PADDING = 256 };

enum mdl_finalize {
    MDL_FINAL_NONE, /* leave the folded value */
    MDL_FINAL_AVG,  /* divide by divisor: integers toward zero, floats times (1 / divisor) computed in acc precision */
};

struct mdl_reduce {
    medleyDataType_t dtype;
    medleyRedOp_t op; /* Sum, Prod, Max or Min (Avg and PreMulSum fold as Sum) */
    bool tree;        /* canonical tree instead of a left fold */
    bool dst_acc;     /* dst is in the acc type */
    bool padded;      /* sources may be read, and what is there ignored, MDL_REDUCE_PADDING bytes beyond their ends: for
                         few elements this saves copies */
    uint64_t stream;  /* bit d: write destination d past the caches (non-temporal stores), for destinations that nobody
                         reads before they would have left the caches anyway; complete for other threads when the call
                         returns */
    enum mdl_finalize finalize;
    uint32_t divisor; /* for MDL_FINAL_AVG: >= 1 */
};

size_t mdl_dtype_size(medleyDataType_t dtype);      /* bytes of one element; 0 if dtype is out of range */
size_t mdl_dtype_acc_size(medleyDataType_t dtype);  /* bytes of one partial */
const char *mdl_dtype_name(medleyDataType_t dtype); /* nccl-tests' names: int8 uint8 int32 uint32 int64 uint64 half
                                                       float double bfloat16 f8e4m3 f8e5m2 */
const char *mdl_op_name(medleyRedOp_t op);          /* sum prod max min avg */

/* Folds `count` elements of nsrc sources (1 .. MDL_REDUCE_MAX_SRC; more: call it in pieces through an acc destination,
 * left fold only) into dst. src_acc: bit k says that srcs[k] is in the acc type. dst may be the same address as any
 * source of the same element size (element by element); no other overlap. Buffers are aligned to their elements only.
 * Never fails, never allocates, never blocks; any thread. */
void mdl_reduce(const struct mdl_reduce *r, void *dst, const void *const *srcs, uint64_t src_acc, int nsrc,
                size_t count);

/* The same result to ndst destinations (1 .. MDL_REDUCE_MAX_DST) of one kind, which do not overlap each other: in the
 * same pass if they are few and those to be written past the caches begin at the same place of a cache line, else tile
 * by tile. */
void mdl_reduce_to(const struct mdl_reduce *r, void *const *dsts, int ndst, const void *const *srcs, uint64_t src_acc,
                   int nsrc, size_t count);

/* dst (acc type) = to_acc(src) * scalar, for PreMulSum: `scalar` points to one value of `dtype`; integers wrap. */
void mdl_premul(medleyDataType_t dtype, void *dst_acc, const void *src, const void *scalar, size_t count);

/* Which kernels run: "scalar", "avx2", "neon"; MEDLEY_SIMD (config `simd`, NULL = best) is applied by
 * mdl_reduce_select. Unknown or unavailable names give medleyInvalidArgument. Called once before the first reduction;
 * without it the best is taken. */
medleyResult_t mdl_reduce_select(const char *name);
const char *mdl_reduce_selected(void);

/* One element of a float type to and from fp32 by the same rules; for tests and the benchmark's check. */
float mdl_to_float(medleyDataType_t dtype, const void *src);
void mdl_from_float(medleyDataType_t dtype, float value, void *dst);

#endif
