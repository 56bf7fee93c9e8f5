/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce_speed [megabytes per buffer, default 64] [sources, default 2] [kernels: scalar, avx2, neon]
 *
 * How fast the host reduces: for every datatype and operation the bytes read and written per second, beside memcpy of a
 * buffer of the same size in the same run (bytes read and written, too). Best of several runs. With a small number of
 * megabytes, such as 0.01, it shows the kernels in the cache instead of the memory.
 */
#include "config.h"

#include "lib/base/clock.h"
#include "lib/reduce/reduce.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 5, MAX_SRC = 8 };

struct bench {
    size_t bytes;
    int nsrc;
    size_t repeat; /* calls in one timed run, so that small buffers take long enough to time */
    const void *srcs[MAX_SRC];
    void *dst;
};

static double gigabytes(const struct bench *b, int buffers, uint64_t best)
{
    return (double)b->bytes * buffers * (double)b->repeat / (double)best;
}

static double time_copy(const struct bench *b)
{
    uint64_t best = UINT64_MAX;
    for (int run = 0; run < RUNS; run++) {
        const uint64_t start = mdl_now_ns();
        for (size_t i = 0; i < b->repeat; i++) {
            memcpy(b->dst, b->srcs[0], b->bytes);
            __asm__ volatile("" : : "r"(b->dst) : "memory");
        }
        const uint64_t took = mdl_now_ns() - start;
        if (took < best) best = took;
    }
    return gigabytes(b, 2, best);
}

static double time_reduce(const struct bench *b, const struct mdl_reduce *r)
{
    uint64_t best = UINT64_MAX;
    for (int run = 0; run < RUNS; run++) {
        const uint64_t start = mdl_now_ns();
        for (size_t i = 0; i < b->repeat; i++)
            mdl_reduce(r, b->dst, b->srcs, 0, b->nsrc, b->bytes / mdl_dtype_size(r->dtype));
        const uint64_t took = mdl_now_ns() - start;
        if (took < best) best = took;
    }
    return gigabytes(b, b->nsrc + 1, best);
}

static void print_table(const struct bench *b)
{
    const double copy = time_copy(b);
    printf("# %s kernels, %d sources of %zu bytes; memcpy %.2f GB/s; each entry: GB/s (ratio to memcpy)\n%-9s",
           mdl_reduce_selected(), b->nsrc, b->bytes, copy, "type");
    for (int op = 0; op < medleyNumOps; op++) printf(" %14s", mdl_op_name((medleyRedOp_t)op));
    for (int t = 0; t < medleyNumTypes; t++) {
        printf("\n%-9s", mdl_dtype_name((medleyDataType_t)t));
        for (int op = 0; op < medleyNumOps; op++) {
            const struct mdl_reduce r = {.dtype = (medleyDataType_t)t,
                                         .op = (medleyRedOp_t)op,
                                         .finalize = op == medleyAvg ? MDL_FINAL_AVG : MDL_FINAL_NONE,
                                         .divisor = 3};
            const double speed = time_reduce(b, &r);
            printf(" %7.2f (%4.2f)", speed, speed / copy);
            fflush(stdout);
        }
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    struct bench b = {.bytes = 64 << 20, .nsrc = 2};
    if (argc > 1) b.bytes = (size_t)(atof(argv[1]) * 1048576) & ~(size_t)63;
    if (argc > 2) b.nsrc = atoi(argv[2]);
    if (b.bytes == 0 || b.nsrc < 1 || b.nsrc > MAX_SRC || mdl_reduce_select(argc > 3 ? argv[3] : NULL)) {
        fprintf(stderr, "usage: reduce_speed [megabytes] [sources 1..%d] [kernels]\n", MAX_SRC);
        return 2;
    }
    b.repeat = ((size_t)16 << 20) / b.bytes + 1;
    /* 0x3c: a plausible value in every float type, so that no denormal or NaN distorts the time */
    for (int k = 0; k <= b.nsrc; k++) {
        void *buffer = aligned_alloc(64, b.bytes);
        if (!buffer) return 1;
        memset(buffer, 0x3c, b.bytes);
        if (k < b.nsrc)
            b.srcs[k] = buffer;
        else
            b.dst = buffer;
    }
    print_table(&b);
    for (int k = 0; k < b.nsrc; k++) free((void *)b.srcs[k]);
    free(b.dst);
    return 0;
}
