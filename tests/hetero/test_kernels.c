/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reductions on a device beside the host's, bit by bit: test_kernels NAME [TYPE]. Every pair of codes of the 8-bit
 * types, every code of the 16-bit types against a set of partners, and special and random values of the others; every
 * operation, 1 to 8 sources and numbers above, left fold and tree, partials on either side, odd counts and elements
 * that do not begin at the device's preferred places. Exit status 77 if there is no such device or it has no compiler.
 */
#include "config.h"

#include "lib/base/log.h"
#include "lib/dev/kernels.h"
#include "lib/reduce/reduce.h"
#include "tests/hetero/device.h"

#include <string.h>

enum { SOURCES = 33, MOST = 65536, ROOM = (MOST + 64) * 8, PARTNERS = 40, SCRATCH = 1 << 20 };

static const struct mdl_dev_kernels *kernels;
static mdl_dev_stream stream;
static char *in[SOURCES], *out, *expected, *memory[SOURCES], *result, *scratch;
static uint64_t seed = 88172645463325252u;
static long checked;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* ---- one reduction on both ---- */

static size_t size_of(medleyDataType_t t, bool acc) { return acc ? mdl_dtype_acc_size(t) : mdl_dtype_size(t); }

static void explain(const struct mdl_dev_reduce *r, int n, size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(out + i * size, expected + i * size, size) == 0) continue;
        fprintf(stderr, "%s %s n %d element %zu of %zu%s%s divisor %u src_acc %llx:", mdl_dtype_name(r->dtype),
                mdl_op_name(r->op), n, i, count, r->tree ? " tree" : "", r->dst_acc ? " dst_acc" : "", r->divisor,
                (unsigned long long)r->src_acc);
        for (int k = 0; k < n && k < 8; k++) {
            uint64_t v = 0;
            size_t s = size_of(r->dtype, r->src_acc >> k & 1);
            memcpy(&v, in[k] + i * s, s);
            fprintf(stderr, " %llx", (unsigned long long)v);
        }
        uint64_t a = 0, b = 0;
        memcpy(&a, out + i * size, size);
        memcpy(&b, expected + i * size, size);
        fprintf(stderr, " gave %llx, the host %llx\n", (unsigned long long)a, (unsigned long long)b);
        exit(1);
    }
}

static void on_host(const struct mdl_dev_reduce *r, int n, size_t count)
{
    const struct mdl_reduce h = {.dtype = r->dtype,
                                 .op = r->op,
                                 .tree = r->tree,
                                 .dst_acc = r->dst_acc,
                                 .finalize = r->divisor ? MDL_FINAL_AVG : MDL_FINAL_NONE,
                                 .divisor = r->divisor};
    const void *srcs[SOURCES];

    for (int k = 0; k < n; k++) srcs[k] = in[k];
    mdl_reduce(&h, expected, srcs, r->src_acc, n, count);
}

/* Sources begin `at` elements into their memory, and source k at k more; or, in every other check, all begin where the
 * result does, so that it can go by chunks. What is around the result must stay. */
static void check(const struct mdl_dev_reduce *r, int n, size_t count, size_t at)
{
    static unsigned turn;
    size_t size = size_of(r->dtype, r->dst_acc), place = (at + 1) * size;
    const void *srcs[SOURCES];
    bool apart = ++turn % 2;

    REQUIRE(mdl_dev_reduce_scratch(r, n, count) <= SCRATCH);
    for (int k = 0; k < n; k++) {
        size_t s = size_of(r->dtype, r->src_acc >> k & 1);
        char *src = memory[k] + (apart ? at + (size_t)k % 4 : at + 1) * s;
        srcs[k] = src;
        WORKS(d->copy(d, src, in[k], count * s, MDL_COPY_H2D, stream));
    }
    memset(out, 0x5a, count * size + 2 * place);
    WORKS(d->copy(d, result, out, count * size + 2 * place, MDL_COPY_H2D, stream));
    WORKS(mdl_dev_reduce(kernels, r, result + place, srcs, n, count, scratch, stream));
    WORKS(d->copy(d, out, result, count * size + 2 * place, MDL_COPY_D2H, stream));
    WORKS(d->stream_sync(d, stream));
    for (size_t i = 0; i < place; i++) REQUIRE(out[i] == 0x5a && out[place + count * size + i] == 0x5a);
    memmove(out, out + place, count * size);
    if (!r->premul) on_host(r, n, count);
    explain(r, n, count, size);
    checked += (long)count;
}

/* ---- values ---- */

static const uint32_t special32[] = {0,          0x80000000, 1,          0x80000001, 0x007fffff, 0x00800000,
                                     0x3f800000, 0xbf800000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
                                     0x7fc00000, 0xffc12345, 0x7f800001, 0x33800000, 0x3f800001, 0x4b800000,
                                     0x477ff000, 0x477fefff, 0x43e80000, 0x43e80001, 0x47700000, 0x7f7f8000,
                                     0x7f7f7fff, 0x33000000, 0x33000001, 0x3a800000};
static const uint64_t special64[] = {0,
                                     1,
                                     0x8000000000000000,
                                     0x8000000000000001,
                                     0x000fffffffffffff,
                                     0x0010000000000000,
                                     0x3ff0000000000000,
                                     0xbff0000000000000,
                                     0x7fefffffffffffff,
                                     0x7ff0000000000000,
                                     0xfff0000000000000,
                                     0x7ff8000000000000,
                                     0xfff8000000000123,
                                     0x7ff0000000000001,
                                     0x3ca0000000000000,
                                     0x3ff0000000000001,
                                     0x7fffffffffffffff,
                                     0xffffffffffffffff};
#define PICK(list) ((list)[draw() % (sizeof(list) / sizeof((list)[0]))])

/* A third special values, a third any bits, a third of moderate size, so that sums round. */
static uint64_t value(size_t size)
{
    unsigned way = (unsigned)(draw() % 3);

    if (size == 8) return way == 0 ? PICK(special64) : way == 1 ? draw() : 0x3fe0000000000000 + (draw() >> 10);
    if (size == 4) return way == 0 ? PICK(special32) : way == 1 ? draw() : 0x3f000000 + (draw() & 0x1ffffff);
    return draw();
}

static void fill(char *p, size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t v = value(size);
        memcpy(p + i * size, &v, size);
    }
}

/* ---- cases ---- */

static void pairs_of_8_bits(medleyDataType_t t)
{
    for (size_t i = 0; i < MOST; i++) {
        in[0][i] = (char)(i >> 8);
        in[1][i] = (char)i;
    }
    for (int op = 0; op < 4; op++)
        for (int acc = 0; acc < 2; acc++)
            check(&(struct mdl_dev_reduce){.dtype = t, .op = (medleyRedOp_t)op, .dst_acc = acc}, 2, MOST, 0);
    check(&(struct mdl_dev_reduce){.dtype = t, .op = medleyAvg, .divisor = 2}, 2, MOST, 0);
    check(&(struct mdl_dev_reduce){.dtype = t, .op = medleyAvg, .divisor = 3}, 2, MOST, 0);
}

static void codes_of_16_bits(medleyDataType_t t)
{
    static const uint16_t partners[] = {0,      0x8000, 1,      0x8001, 0x03ff, 0x0400, 0x3c00,
                                        0xbc00, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01,
                                        0x7f80, 0xff80, 0x7f7f, 0x7fc0, 0x3f80, 0x3555, 0x0080};

    for (int p = 0; p < PARTNERS; p++) {
        uint16_t partner = p < (int)(sizeof(partners) / 2) ? partners[p] : (uint16_t)draw();
        for (size_t i = 0; i < MOST; i++) {
            memcpy(in[0] + 2 * i, &(uint16_t){(uint16_t)i}, 2);
            memcpy(in[1] + 2 * i, &partner, 2);
        }
        for (int op = 0; op < 4; op++)
            check(&(struct mdl_dev_reduce){.dtype = t, .op = (medleyRedOp_t)op, .dst_acc = p % 4 == 3}, 2, MOST, 0);
        check(&(struct mdl_dev_reduce){.dtype = t, .op = medleyAvg, .divisor = (uint32_t)(2 + p)}, 2, MOST, 0);
    }
}

/* Every fp32 that rounds to an 8- or 16-bit code from just below, at and above the middle between two codes. */
static void roundings(medleyDataType_t t)
{
    for (uint32_t i = 0; i < MOST; i++) {
        uint32_t code = i, v;
        float f;
        if (mdl_dtype_size(t) == 1) code = i & 0xff;
        f = mdl_to_float(t, &code);
        memcpy(&v, &f, 4);
        /* steps of half a unit in the last place of the code, a little more and a little less */
        v += (uint32_t)(draw() % 3) - 1 + ((draw() & 1) ? 1u << (draw() % 24) : 0);
        memcpy(in[0] + 4 * i, &v, 4);
    }
    check(&(struct mdl_dev_reduce){.dtype = t, .op = medleySum, .src_acc = 1}, 1, MOST, 0);
    check(&(struct mdl_dev_reduce){.dtype = t, .op = medleyAvg, .src_acc = 1, .divisor = 7}, 1, MOST, 0);
}

static void many(medleyDataType_t t)
{
    static const size_t counts[] = {1, 3, 255, 257, 1001};
    static const int above[] = {9, 15, 16, 17, 33};
    const bool narrow = mdl_dtype_size(t) != mdl_dtype_acc_size(t);

    for (int i = 0; i < 13; i++) {
        int n = i < 8 ? i + 1 : above[i - 8];
        for (int op = 0; op < 5; op++) {
            size_t count = counts[draw() % 5];
            struct mdl_dev_reduce r = {.dtype = t,
                                       .op = (medleyRedOp_t)op,
                                       .tree = draw() & 1,
                                       .dst_acc = draw() % 4 == 0,
                                       .src_acc = narrow && (draw() & 1) ? draw() : 0,
                                       .divisor = op == medleyAvg ? (uint32_t)(1 + draw() % 70) : 0};
            if (!narrow) r.dst_acc = false;
            for (int k = 0; k < n; k++) fill(in[k], size_of(t, r.src_acc >> k & 1), count);
            check(&r, n, count, draw() % 4);
        }
    }
}

static void premul(medleyDataType_t t)
{
    size_t size = mdl_dtype_size(t), count = 1001;

    for (int i = 0; i < 8; i++) {
        uint64_t code = i ? value(size) : 0;
        struct mdl_dev_reduce r = {.dtype = t, .op = medleySum, .dst_acc = true, .premul = true};
        memcpy(&r.scalar, &code, size);
        if (size != mdl_dtype_acc_size(t)) {
            float f = mdl_to_float(t, &code);
            r.scalar = 0;
            memcpy(&r.scalar, &f, sizeof(f));
        }
        fill(in[0], size, count);
        mdl_premul(t, expected, in[0], &code, count);
        check(&r, 1, count, (size_t)i % 4);
    }
}

/* The destination is one of the sources; and nothing is done for no elements. */
static void in_place(medleyDataType_t t)
{
    size_t size = mdl_dtype_size(t), count = 777;
    const struct mdl_dev_reduce r = {.dtype = t, .op = medleySum};
    const void *srcs[3];

    for (int k = 0; k < 3; k++) {
        fill(in[k], size, count);
        srcs[k] = memory[k];
        WORKS(d->copy(d, memory[k], in[k], count * size, MDL_COPY_H2D, stream));
    }
    WORKS(mdl_dev_reduce(kernels, &r, memory[1], srcs, 3, count, NULL, stream));
    WORKS(mdl_dev_reduce(kernels, &r, NULL, srcs, 3, 0, NULL, stream));
    WORKS(d->copy(d, out, memory[1], count * size, MDL_COPY_D2H, stream));
    WORKS(d->stream_sync(d, stream));
    on_host(&r, 3, count);
    explain(&r, 3, count, size);
}

static void check_type(medleyDataType_t t)
{
    size_t size = mdl_dtype_size(t);

    if (!mdl_dev_kernels_can(kernels, t)) {
        printf("left out: %s\n", mdl_dtype_name(t));
        return;
    }
    if (size == 1) pairs_of_8_bits(t);
    if (size == 2) codes_of_16_bits(t);
    if (size != mdl_dtype_acc_size(t)) roundings(t);
    for (int i = 0; i < 4; i++) many(t);
    premul(t);
    in_place(t);
}

/* ---- setting up ---- */

static void begin(void)
{
    WORKS(d->stream_create(d, &stream));
    for (int k = 0; k < SOURCES; k++) {
        WORKS(d->alloc_pinned(d, ROOM, (void **)&in[k]));
        WORKS(d->alloc(d, ROOM, (void **)&memory[k]));
    }
    WORKS(d->alloc_pinned(d, ROOM, (void **)&out));
    WORKS(d->alloc(d, ROOM, (void **)&result));
    WORKS(d->alloc(d, SCRATCH, (void **)&scratch));
    expected = malloc(ROOM);
    REQUIRE(expected);
}

static void end(void)
{
    for (int k = 0; k < SOURCES; k++) {
        WORKS(d->free_pinned(d, in[k]));
        WORKS(d->free(d, memory[k]));
    }
    WORKS(d->free_pinned(d, out));
    WORKS(d->free(d, result));
    WORKS(d->free(d, scratch));
    WORKS(d->stream_destroy(d, stream));
    free(expected);
}

int main(int argc, char **argv)
{
    char why[512];

    if (argc < 2) {
        fprintf(stderr, "usage: test_kernels NAME [TYPE]\n");
        return 2;
    }
    find_device(argv[1]);
    kernels = mdl_dev_kernels_of(&dev, why, sizeof(why));
    if (!kernels) {
        printf("no kernels on %s: %s\n", argv[1], why);
        return 77;
    }
    REQUIRE(mdl_dev_kernels_of(&dev, why, sizeof(why)) == kernels);
    begin();
    for (int t = 0; t < medleyNumTypes; t++)
        if (argc < 3 || strcmp(argv[2], mdl_dtype_name((medleyDataType_t)t)) == 0) check_type((medleyDataType_t)t);
    end();
    printf("%s: %ld elements have the host's bits\n", argv[1], checked);
    return 0;
}
