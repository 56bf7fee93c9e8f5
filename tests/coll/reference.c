/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/coll/reference.h"
#include "tests/coll/home.h"

#include "lib/plan/text.h"
#include "lib/reduce/reduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned mix(unsigned h)
{
    h ^= h >> 16;
    h *= 0x7feb352du;
    h ^= h >> 15;
    h *= 0x846ca68bu;
    return h ^ (h >> 16);
}

/* Input of rank r at element i (of its whole IN): small, so that everything is exact. */
static double value(const struct coll_case *c, int r, size_t i)
{
    unsigned h = mix(c->seed * 31u + (unsigned)r * 7919u + (unsigned)i * 104729u);

    if (c->op == medleyProd) return h % 7 == 0 ? 2 : 1;
    return h % 3;
}

static void store(medleyDataType_t t, void *p, double v)
{
    switch (t) {
    case medleyInt8: *(int8_t *)p = (int8_t)v; break;
    case medleyUint8: *(uint8_t *)p = (uint8_t)v; break;
    case medleyInt32: *(int32_t *)p = (int32_t)v; break;
    case medleyUint32: *(uint32_t *)p = (uint32_t)v; break;
    case medleyInt64: *(int64_t *)p = (int64_t)v; break;
    case medleyUint64: *(uint64_t *)p = (uint64_t)v; break;
    case medleyFloat64: *(double *)p = v; break;
    case medleyFloat32: *(float *)p = (float)v; break;
    default: mdl_from_float(t, (float)v, p); break;
    }
}

static double factor(int r) { return 1 + r % 2; }

static double fold(const struct coll_case *c, int n, size_t i)
{
    double acc = value(c, 0, i) * (c->op == medleyNumOps ? factor(0) : 1);

    for (int r = 1; r < n; r++) {
        double v = value(c, r, i);
        switch ((int)c->op) {
        case medleyProd: acc *= v; break;
        case medleyMax: acc = v > acc ? v : acc; break;
        case medleyMin: acc = v < acc ? v : acc; break;
        case medleyNumOps: acc += v * factor(r); break;
        default: acc += v; break;
        }
    }
    if (c->op != medleyAvg) return acc;
    if (c->dtype < medleyFloat16) return (double)(long long)(acc / n);
    if (c->dtype == medleyFloat64) return acc * (1.0 / n);
    return (float)acc * (1.0f / (float)n);
}

/* ---- V tables: counts around `count`, some zero, with gaps between and before ---- */

static size_t v_count(const struct coll_case *c, int from, int to)
{
    unsigned h = mix(c->seed + (unsigned)from * 131u + (unsigned)to * 17u);

    return h % 5 == 0 ? 0 : c->count / 2 + h % (c->count + 1);
}

struct buffers {
    char *in, *out, *in_base, *out_base;
    size_t in_n, out_n;
    size_t *sc, *sd, *rc, *rd;
    char *in_at, *out_at, *device_in, *device_out; /* what the call is given; copies on the device */
};

static size_t fill_table(size_t *counts, size_t *displs, int n, unsigned gap)
{
    size_t at = gap;

    for (int r = 0; r < n; r++) {
        displs[r] = at;
        at += counts[r] + gap;
    }
    return at;
}

static void sizes(const struct coll_case *c, int rank, int n, struct buffers *b)
{
    size_t N = (size_t)n;

    b->sc = calloc(4 * N, sizeof(size_t));
    b->sd = b->sc + N;
    b->rc = b->sd + N;
    b->rd = b->rc + N;
    b->in_n = b->out_n = c->count;
    switch (c->coll) {
    case medleyCollAllGather:
    case medleyCollGather: b->out_n = N * c->count; break;
    case medleyCollReduceScatter:
    case medleyCollScatter: b->in_n = N * c->count; break;
    case medleyCollAlltoAll: b->in_n = b->out_n = N * c->count; break;
    case medleyCollAllGatherV:
        for (int r = 0; r < n; r++) b->rc[r] = v_count(c, r, 0);
        b->out_n = fill_table(b->rc, b->rd, n, 1);
        b->in_n = b->rc[rank];
        break;
    case medleyCollReduceScatterV:
        for (int r = 0; r < n; r++) b->sc[r] = v_count(c, r, 0);
        b->in_n = fill_table(b->sc, b->sd, n, 1);
        b->out_n = b->sc[rank];
        break;
    case medleyCollAlltoAllV:
        for (int r = 0; r < n; r++) {
            b->sc[r] = v_count(c, rank, r);
            b->rc[r] = v_count(c, r, rank);
        }
        b->in_n = fill_table(b->sc, b->sd, n, 2);
        b->out_n = fill_table(b->rc, b->rd, n, 1);
        break;
    default: break;
    }
}

static void *take(const struct coll_case *c, size_t bytes)
{
    void *p = NULL;

    bytes = bytes ? bytes : 8;
    if (!c->mem_alloc) return malloc(bytes);
    return medleyMemAlloc(&p, bytes) == medleySuccess ? p : NULL;
}

static void drop(const struct coll_case *c, void *p)
{
    if (!c->mem_alloc)
        free(p);
    else if (medleyMemFree(p) != medleySuccess)
        abort();
}

/* Element offset of IN in OUT (or OUT in IN) of an in-place call. */
static void place(const struct coll_case *c, int rank, struct buffers *b, size_t elem)
{
    size_t N = (size_t)rank * c->count * elem;

    b->in_base = take(c, b->in_n * elem);
    b->out_base = c->in_place && c->coll != medleyCollAlltoAllV ? NULL : take(c, b->out_n * elem);
    b->in = b->in_base;
    b->out = b->out_base;
    if (b->out_base) return;
    switch (c->coll) {
    case medleyCollAllGather:
    case medleyCollGather:
    case medleyCollAllGatherV:
        drop(c, b->in_base);
        b->in_base = NULL;
        b->out = b->out_base = take(c, b->out_n * elem);
        b->in = b->out + (c->coll == medleyCollAllGatherV ? b->rd[rank] * elem : N);
        break;
    case medleyCollReduceScatter:
    case medleyCollScatter: b->out = b->in + N; break;
    case medleyCollReduceScatterV: b->out = b->in + b->sd[rank] * elem; break;
    default: b->out = b->in; break;
    }
}

/* Device buffers begin at any element. */
static size_t odd(const struct coll_case *c, size_t elem) { return c->seed / 35 % 17 * elem; }

/* On a device: copies of the buffers there, but for some that stay on the host. */
static void move_in(const struct coll_case *c, struct buffers *b, size_t elem)
{
    b->in_at = b->in;
    b->out_at = b->out;
    b->device_in = b->device_out = NULL;
    if (!home_is_device()) return;
    if (b->in_base && c->seed % 5) b->device_in = home_copy_in_odd(b->in_base, b->in_n * elem, odd(c, elem));
    if (b->out_base && c->seed % 7) b->device_out = home_copy_in_odd(b->out_base, b->out_n * elem, odd(c, elem));
    /* in place one buffer is in the other */
    char *in = b->in_base ? b->device_in : b->device_out, *out = b->out_base ? b->device_out : b->device_in;
    const char *in_base = b->in_base ? b->in_base : b->out_base, *out_base = b->out_base ? b->out_base : b->in_base;
    if (in) b->in_at = in + (b->in - in_base);
    if (out) b->out_at = out + (b->out - out_base);
}

/* False: something around a buffer of the device was changed. */
static bool move_out(const struct coll_case *c, struct buffers *b, size_t elem)
{
    bool whole = true;

    if (b->device_in && !b->out_base) home_copy_out(b->in_base, b->device_in, b->in_n * elem);
    if (b->device_out) home_copy_out(b->out_base, b->device_out, b->out_n * elem);
    if (b->device_in) whole &= home_free_odd(b->device_in, b->in_n * elem, odd(c, elem));
    if (b->device_out) whole &= home_free_odd(b->device_out, b->out_n * elem, odd(c, elem));
    return whole;
}

static medleyResult_t call(const struct coll_case *c, const struct buffers *b, medleyRedOp_t op, medleyComm_t comm,
                           void *stream)
{
    const char *in = b->in_at;
    char *out = b->out_at;

    switch (c->coll) {
    case medleyCollAllReduce: return medleyAllReduce(in, out, c->count, c->dtype, op, comm, stream);
    case medleyCollReduce: return medleyReduce(in, out, c->count, c->dtype, op, c->root, comm, stream);
    case medleyCollBroadcast: return medleyBroadcast(in, out, c->count, c->dtype, c->root, comm, stream);
    case medleyCollAllGather: return medleyAllGather(in, out, c->count, c->dtype, comm, stream);
    case medleyCollReduceScatter: return medleyReduceScatter(in, out, c->count, c->dtype, op, comm, stream);
    case medleyCollAlltoAll: return medleyAlltoAll(in, out, c->count, c->dtype, comm, stream);
    case medleyCollGather: return medleyGather(in, out, c->count, c->dtype, c->root, comm, stream);
    case medleyCollScatter: return medleyScatter(in, out, c->count, c->dtype, c->root, comm, stream);
    case medleyCollBarrier: return medleyBarrier(comm, stream);
    case medleyCollAllGatherV: return medleyAllGatherV(in, b->in_n, out, b->rc, b->rd, c->dtype, comm, stream);
    case medleyCollReduceScatterV: return medleyReduceScatterV(in, out, b->sc, b->sd, c->dtype, op, comm, stream);
    case medleyCollAlltoAllV: return medleyAlltoAllV(in, b->sc, b->sd, out, b->rc, b->rd, c->dtype, comm, stream);
    default: return medleyInvalidArgument;
    }
}

/* What OUT[i] must be; false: not to be written. */
static bool expected(const struct coll_case *c, int rank, int n, const struct buffers *b, size_t i, double *v)
{
    switch (c->coll) {
    case medleyCollAllReduce: *v = fold(c, n, i); return true;
    case medleyCollReduce: *v = fold(c, n, i); return rank == c->root;
    case medleyCollBroadcast: *v = value(c, c->root, i); return true;
    case medleyCollAllGather: *v = value(c, (int)(i / c->count), i % c->count); return true;
    case medleyCollReduceScatter: *v = fold(c, n, (size_t)rank * c->count + i); return true;
    case medleyCollAlltoAll: *v = value(c, (int)(i / c->count), (size_t)rank * c->count + i % c->count); return true;
    case medleyCollGather: *v = value(c, (int)(i / c->count), i % c->count); return rank == c->root;
    case medleyCollScatter: *v = value(c, c->root, (size_t)rank * c->count + i); return true;
    case medleyCollReduceScatterV: *v = fold(c, n, b->sd[rank] + i); return true;
    case medleyCollAllGatherV:
        for (int r = 0; r < n; r++) {
            if (i < b->rd[r] || i >= b->rd[r] + b->rc[r]) continue;
            *v = value(c, r, i - b->rd[r]);
            return true;
        }
        return false;
    case medleyCollAlltoAllV:
        for (int r = 0; r < n; r++) {
            size_t at = 2; /* the first displacement in r's IN, and what follows */
            if (i < b->rd[r] || i >= b->rd[r] + b->rc[r]) continue;
            for (int p = 0; p < rank; p++) at += v_count(c, r, p) + 2;
            *v = value(c, r, at + i - b->rd[r]);
            return true;
        }
        return false;
    default: return false;
    }
}

/* A vendor's library need not round an average as Medley does: MDL_TEST_AVG_ULPS says by how much it may differ. */
static bool is_near(const struct coll_case *c, const char *got, const char *want, size_t elem)
{
    const char *ulps = getenv("MDL_TEST_AVG_ULPS");
    uint64_t a = 0, b = 0;

    if (!ulps || c->op != medleyAvg) return false;
    if (c->dtype != medleyFloat16 && c->dtype != medleyBfloat16 && c->dtype != medleyFloat32 &&
        c->dtype != medleyFloat64)
        return false;
    memcpy(&a, got, elem);
    memcpy(&b, want, elem);
    return (a > b ? a - b : b - a) <= strtoull(ulps, NULL, 10);
}

static int compare(const struct coll_case *c, int rank, int n, const struct buffers *b, const char *before, size_t elem,
                   unsigned long long *hash)
{
    int wrong = 0;

    *hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < b->out_n; i++) {
        char want[8] = {0};
        double v = 0;
        const char *got = b->out + i * elem;
        bool written = expected(c, rank, n, b, i, &v);

        if (written)
            store(c->dtype, want, v);
        else
            memcpy(want, before + i * elem, elem);
        for (size_t k = 0; written && k < elem; k++) *hash = (*hash ^ (unsigned char)got[k]) * 0x100000001b3u;
        if (memcmp(got, want, elem) == 0 || (written && is_near(c, got, want, elem))) continue;
        if (wrong++ == 0) {
            char text[256];
            coll_case_text(c, text, sizeof(text));
            fprintf(stderr, "rank %d: %s: element %zu of %zu is %02x%02x, should be %02x%02x (%g)%s\n", rank, text, i,
                    b->out_n, (unsigned char)got[0], elem > 1 ? (unsigned char)got[1] : 0, (unsigned char)want[0],
                    elem > 1 ? (unsigned char)want[1] : 0, v, written ? "" : " and was not to be touched");
        }
    }
    return wrong;
}

void coll_case_text(const struct coll_case *c, char *text, size_t bytes)
{
    snprintf(text, bytes, "%s %s op %d count %zu root %d%s%s seed %u", mdl_coll_name(c->coll), mdl_dtype_name(c->dtype),
             (int)c->op, c->count, c->root, c->in_place ? " in place" : "", c->mem_alloc ? " mapped" : "", c->seed);
}

int coll_case_run(const struct coll_case *c, medleyComm_t comm, int rank, int n, void *stream, unsigned long long *hash)
{
    size_t elem = mdl_dtype_size(c->dtype);
    struct buffers b = {0};
    char *before, scalar[8] = {0}, text[256];
    void *device_scalar = NULL;
    medleyRedOp_t op = c->op;
    medleyResult_t res = medleySuccess;
    bool whole;
    int wrong;

    sizes(c, rank, n, &b);
    place(c, rank, &b, elem);
    memset(b.out, 0x5a, b.out_n * elem);
    for (size_t i = 0; i < b.in_n; i++) store(c->dtype, b.in + i * elem, value(c, rank, i));
    before = malloc(b.out_n * elem + 8);
    memcpy(before, b.out, b.out_n * elem);
    move_in(c, &b, elem);
    if (home_is_device()) stream = home_stream();
    if (c->op == medleyNumOps) {
        bool there = home_is_device() && c->seed % 3;
        store(c->dtype, scalar, factor(rank));
        if (there) device_scalar = home_copy_in(scalar, sizeof(scalar));
        res = medleyRedOpCreatePreMulSum(&op, there ? device_scalar : scalar, c->dtype,
                                         there ? medleyScalarDevice : medleyScalarHostImmediate, comm);
    }
    if (res == medleySuccess) res = call(c, &b, op, comm, stream);
    if (res == medleySuccess && c->op == medleyNumOps) res = medleyRedOpDestroy(op, comm);
    if (res == medleySuccess && home_is_device())
        res = home_sync();
    else if (res == medleySuccess && stream)
        res = medleyStreamSynchronize(stream);
    whole = move_out(c, &b, elem);
    if (device_scalar) home_free(device_scalar);
    if (res != medleySuccess) {
        coll_case_text(c, text, sizeof(text));
        fprintf(stderr, "rank %d: %s: %s: %s\n", rank, text, medleyGetErrorString(res), medleyGetLastError(comm));
        wrong = 1;
    } else {
        wrong = compare(c, rank, n, &b, before, elem, hash);
        if (!whole) {
            coll_case_text(c, text, sizeof(text));
            fprintf(stderr, "rank %d: %s: bytes around a device's buffer changed\n", rank, text);
            wrong++;
        }
    }
    free(before);
    free(b.sc);
    if (b.in_base) drop(c, b.in_base);
    if (b.out_base) drop(c, b.out_base);
    return wrong;
}
