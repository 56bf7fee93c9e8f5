/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the driver (reduce.c) and the kernels: a kernel folds whole blocks of elements of up to MDL_FOLD_SRC sources
 * and does nothing else. The driver cuts counts into blocks, pads the rest, and folds more sources through tiles.
 *
 * A set of kernels holds one kernel for every datatype and operation. A block is `block_bytes` of partials: all of it
 * stays in registers while the sources are folded, and all sources of a block are read before the block is written, so
 * a destination may be one of the sources.
 */
#ifndef MDL_REDUCE_KERNELS_H_
#define MDL_REDUCE_KERNELS_H_

#include "lib/reduce/divide.h"
#include "lib/reduce/reduce.h"
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { MDL_FOLD_SRC = 8, MDL_FOLD_DST = 8, MDL_FOLD_OPS = 4, MDL_BLOCK_BYTES_MAX = MDL_REDUCE_PADDING };

enum mdl_finish {
    MDL_FINISH_KEEP,
    MDL_FINISH_SCALE,  /* times `scale`, in the acc type */
    MDL_FINISH_DIVIDE, /* integers only: divided by `divisor`, toward zero */
};

/* One value of an acc type. */
union mdl_value {
    uint8_t u8;
    uint32_t u32;
    uint64_t u64;
    float f32;
    double f64;
};

struct mdl_fold {
    void *dst;
    void *also[MDL_FOLD_DST - 1]; /* where the same results go in the same pass */
    const void *src[MDL_FOLD_SRC];
    uint32_t src_acc; /* bit k: src[k] holds partials */
    uint32_t stream;  /* bit 0: dst is aligned to a cache line, it may be written past the caches; bit d: also[d - 1] */
    int nsrc;         /* 1 .. MDL_FOLD_SRC */
    int nalso;        /* 0 .. MDL_FOLD_DST - 1 */
    bool dst_acc, tree;
    enum mdl_finish finish;
    uint32_t divisor;
    struct mdl_divisor reciprocal; /* of divisor */
    union mdl_value scale;
};

typedef void mdl_kernel(const struct mdl_fold *f, size_t blocks);

struct mdl_kernels {
    const char *name;
    size_t block_bytes; /* of partials in one block; 0: a block is one element */
    mdl_kernel *fold[medleyNumTypes][MDL_FOLD_OPS];
};

/* Table entries of one datatype, in the order of medleyRedOp_t. */
#define MDL_KERNEL_ROW(prefix)                                                                                         \
    {                                                                                                                  \
        prefix##_sum, prefix##_prod, prefix##_max, prefix##_min                                                        \
    }
#define MDL_KERNEL_TABLE MDL_KERNEL_TABLE_OF(f16, bf16, e4m3, e5m2)
/* With the prefixes of the kernels of narrow floats. */
#define MDL_KERNEL_TABLE_OF(f16, bf16, e4m3, e5m2)                                                                     \
    {                                                                                                                  \
        [medleyInt8] = MDL_KERNEL_ROW(int8), [medleyUint8] = MDL_KERNEL_ROW(uint8),                                    \
        [medleyInt32] = MDL_KERNEL_ROW(int32), [medleyUint32] = MDL_KERNEL_ROW(uint32),                                \
        [medleyInt64] = MDL_KERNEL_ROW(int64), [medleyUint64] = MDL_KERNEL_ROW(uint64),                                \
        [medleyFloat16] = MDL_KERNEL_ROW(f16), [medleyFloat32] = MDL_KERNEL_ROW(f32),                                  \
        [medleyFloat64] = MDL_KERNEL_ROW(f64), [medleyBfloat16] = MDL_KERNEL_ROW(bf16),                                \
        [medleyFloat8e4m3] = MDL_KERNEL_ROW(e4m3), [medleyFloat8e5m2] = MDL_KERNEL_ROW(e5m2),                          \
    }

extern const struct mdl_kernels mdl_kernels_scalar;
#if defined(__x86_64__)
extern const struct mdl_kernels mdl_kernels_avx2;
#elif defined(__aarch64__)
extern const struct mdl_kernels mdl_kernels_neon;
#endif

/* Orders stores past the caches before the caller's next stores. */
enum { MDL_STREAM_LINE = 64 };
static inline void mdl_stream_fence(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

/* The selected set; selects the best one at first use. */
const struct mdl_kernels *mdl_kernels_get(void);

#endif
