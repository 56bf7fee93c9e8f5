/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reductions on devices, with the bits of the host's (lib/reduce/reduce.h says which those are).
 *
 * One source text, in the common subset of CUDA, HIP and OpenCL C, is compiled by the vendor's run-time compiler: one
 * kernel for each datatype. What would depend on the device is not left to it: narrow floats are converted by integers,
 * min and max compare bits, NaNs are made canonical by bits, quotients of floats come from the host as factors. Left
 * are sums and products of fp32 and fp64, of which no two meet in one expression, so that nothing can be fused; that
 * these round to nearest and keep denormals is tried out once, on the device.
 *
 * Kernels are compiled once for each device of the process and stay until the process ends.
 */
#ifndef MDL_DEV_KERNELS_H_
#define MDL_DEV_KERNELS_H_

#include "lib/dev/dev.h"

enum { MDL_DEV_FOLD_SRC = 8, MDL_DEV_REDUCE_SRC = 64 };

struct mdl_dev_kernels;

/* The kernels of a device, which the calling thread has entered; the first call compiles them and MAY WAIT for all that
 * the device has to do, so no stream is held. NULL: there are none, says *why. */
const struct mdl_dev_kernels *mdl_dev_kernels_of(const struct mdl_dev *dev, char *why, size_t why_bytes);

/* Can it reduce this type with the host's bits? The reason why it cannot is logged when the kernels are compiled. */
bool mdl_dev_kernels_can(const struct mdl_dev_kernels *k, medleyDataType_t dtype);

/* As struct mdl_reduce, for memory that the device can reach. */
struct mdl_dev_reduce {
    medleyDataType_t dtype;
    medleyRedOp_t op; /* Avg and PreMulSum fold as Sum */
    bool tree;        /* canonical tree instead of a left fold */
    bool dst_acc;     /* dst is in the acc type */
    uint64_t src_acc; /* bit k: srcs[k] is in the acc type */
    uint32_t divisor; /* not 0: the result is divided by it: integers toward zero, floats times 1 / divisor */
    bool premul;      /* one source, times `scalar` in the acc type */
    uint64_t scalar;  /* one value of dtype, for integers, fp32 and fp64; for narrow floats its value in fp32 */
};

/* Bytes of device memory that mdl_dev_reduce needs besides: partials between more sources than a kernel takes. */
size_t mdl_dev_reduce_scratch(const struct mdl_dev_reduce *r, int nsrc, size_t count);

/* Appends the reduction of `count` elements of nsrc sources (1 .. MDL_DEV_REDUCE_SRC) to the stream. Buffers are
 * aligned to their elements; dst may be one of the sources of the same element size. */
medleyResult_t mdl_dev_reduce(const struct mdl_dev_kernels *k, const struct mdl_dev_reduce *r, void *dst,
                              const void *const *srcs, int nsrc, size_t count, void *scratch,
                              mdl_dev_stream stream) MDL_MUST_USE;

/* kernels_text.c: the source, as pieces that follow each other; ends with NULL. */
extern const char *const mdl_dev_kernels_text[];

#endif
