/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers: where they come from, where they lie, how large they are; and the operations that users make. */
#include "config.h"

#include "tests/api/scenes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- medleyMemAlloc ---- */

static int allocate(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const size_t sizes[] = {1, 63, 4096, 4097, 1 << 20, (5 << 20) + 3};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *p = &page, *q;

    (void)w;
    FAILS(medleyMemAlloc(NULL, 10), medleyInvalidArgument, "ptr is NULL");
    OK(medleyMemAlloc(&p, 0));
    CHECK(p == NULL);
    OK(medleyMemFree(NULL));
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        OK(medleyMemAlloc(&p, sizes[s]));
        CHECK(p && (uintptr_t)p % page == 0);
        for (size_t i = 0; i < sizes[s]; i++) CHECK(((char *)p)[i] == 0);
        memset(p, 0x77, sizes[s]);
        OK(medleyMemFree(p));
        OK(medleyMemAlloc(&q, sizes[s])); /* zeroed, wherever it comes from */
        for (size_t i = 0; i < sizes[s]; i++) CHECK(((char *)q)[i] == 0);
        FAILS(medleyMemFree((char *)q + 1), medleyInvalidArgument, "medleyMemAlloc");
        OK(medleyMemFree(q));
        FAILS(medleyMemFree(q), medleyInvalidArgument, "medleyMemAlloc");
    }
    FAILS(medleyMemFree(&page), medleyInvalidArgument, "medleyMemAlloc");
    p = &page;
    CHECK(medleyMemAlloc(&p, SIZE_MAX) != medleySuccess && p == &page);
    CHECK(medleyMemAlloc(&p, SIZE_MAX / 2) != medleySuccess && p == &page);
    CHECK(medleyMemAlloc(&p, (size_t)1 << 46) != medleySuccess && p == &page); /* 64 TiB: more than there is */
    CHECK(api_says(NULL, "70368744177664"));
    return 0;
}

/* ---- collectives on buffers of all kinds ---- */

enum { COUNT = 40000, KINDS = 3 };

/* Kind 0: ordinary, 1: from medleyMemAlloc, 2: ordinary pages of its own. */
static int *get(int kind, size_t bytes)
{
    void *p = NULL;

    if (kind == 1) return medleyMemAlloc(&p, bytes) == medleySuccess ? p : NULL;
    if (kind == 0) return malloc(bytes);
    p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void put(int kind, int *p, size_t bytes)
{
    if (kind == 1)
        (void)!medleyMemFree(p);
    else if (kind == 0)
        free(p);
    else
        munmap(p, bytes);
}

static int reduce_and_gather(int rank, int n, medleyComm_t comm, int *in, int *out, int seed)
{
    for (int i = 0; i < COUNT; i++) in[i] = rank + i + seed;
    memset(out, 0x66, sizeof(int) * (size_t)n * COUNT);
    OK(medleyAllReduce(in, out, COUNT, medleyInt32, medleySum, comm, NULL));
    for (int i = 0; i < COUNT; i++) CHECK(out[i] == n * (i + seed) + n * (n - 1) / 2);
    OK(medleyAllGather(in, out, COUNT, medleyInt32, comm, NULL));
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < COUNT; i++) CHECK(out[r * COUNT + i] == r + i + seed);
    }
    OK(medleyReduceScatter(out, in, COUNT, medleyInt32, medleyMax, comm, NULL));
    for (int i = 0; i < COUNT; i++) CHECK(in[i] == rank + i + seed);
    OK(medleyAlltoAll(out, out, COUNT, medleyInt32, comm, NULL)); /* in place */
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < COUNT; i++) CHECK(out[r * COUNT + i] == rank + i + seed);
    }
    return 0;
}

/* Each rank has its buffers from elsewhere, each round anew, so that an address means other memory than before. */
static int kinds(struct ranks_world *w, int rank, medleyComm_t comm)
{
    for (int round = 0; round < KINDS * KINDS; round++) {
        int a = (round + rank) % KINDS, b = (round / KINDS + 2 * rank) % KINDS;
        size_t in_bytes = sizeof(int) * COUNT, out_bytes = in_bytes * (size_t)w->nranks;
        int *in = get(a, in_bytes), *out = get(b, out_bytes);
        CHECK(in && out);
        CHECK(reduce_and_gather(rank, w->nranks, comm, in, out, round) == 0);
        put(a, in, in_bytes);
        put(b, out, out_bytes);
    }
    return 0;
}

/* All buffers are parts of one allocation, at odd places; what lies between stays. */
static int sub_ranges(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int n = w->nranks, *all;
    size_t ints = (size_t)(n + 1) * COUNT + 300;
    void *p;

    OK(medleyMemAlloc(&p, sizeof(int) * ints));
    all = p;
    for (int at = 0; at < 3; at++) {
        int *in = all + 1 + 16 * at + rank, *out = in + COUNT + 33;
        out[-1] = in[-1] = 1234567;
        out[n * COUNT] = 7654321;
        CHECK(reduce_and_gather(rank, n, comm, in, out, at) == 0);
        CHECK(out[-1] == 1234567 && in[-1] == 1234567 && out[n * COUNT] == 7654321);
    }
    OK(medleyMemFree(p));
    return 0;
}

/* ---- registration ---- */

static int registration(struct ranks_world *w, int rank, medleyComm_t comm)
{
    size_t bytes = sizeof(int) * COUNT, all = bytes * (size_t)w->nranks;
    int *in = get(rank % KINDS, bytes), *out = get(1, all), x = 0;
    medleyComm_t other;
    void *h[3], *none = &x;

    CHECK(in && out);
    OK(medleyCommSplit(comm, 0, rank, &other, NULL));
    FAILS(medleyCommRegister(comm, NULL, 10, &none), medleyInvalidArgument, "buff");
    FAILS(medleyCommRegister(comm, in, 0, &none), medleyInvalidArgument, "size");
    FAILS(medleyCommRegister(comm, in, 10, NULL), medleyInvalidArgument, "NULL");
    FAILS(medleyCommRegister(NULL, in, 10, &none), medleyInvalidArgument, "communicator is NULL");
    CHECK(none == &x);
    OK(medleyCommRegister(comm, in, bytes, &h[0]));
    OK(medleyCommRegister(comm, in, bytes / 2, &h[1])); /* the same memory again */
    OK(medleyCommRegister(comm, out, all, &h[2]));
    CHECK(reduce_and_gather(rank, w->nranks, comm, in, out, 1) == 0);
    FAILS(medleyCommDeregister(other, h[0]), medleyInvalidArgument, "does not exist on this communicator");
    OK(medleyCommDeregister(comm, h[0]));
    FAILS(medleyCommDeregister(comm, h[0]), medleyInvalidArgument, "does not exist");
    FAILS(medleyCommDeregister(comm, NULL), medleyInvalidArgument, "does not exist");
    FAILS(medleyCommDeregister(comm, in), medleyInvalidArgument, "does not exist");
    CHECK(reduce_and_gather(rank, w->nranks, comm, in, out, 2) == 0);
    OK(medleyCommDeregister(comm, h[1])); /* h[2] ends with the communicator */
    OK(medleyCommDestroy(other));
    OK(medleyCommDestroy(comm));
    put(rank % KINDS, in, bytes);
    put(1, out, all);
    return 0;
}

/* Windows are registered by all, each its own size and kind of memory, on one and on several communicators at once. */
static int windows(struct ranks_world *w, int rank, medleyComm_t comm)
{
    size_t bytes = sizeof(int) * COUNT, all = bytes * (size_t)w->nranks;
    int *in = get(1, bytes), *out = get(rank == 1 ? 0 : 1, all);
    medleyWindow_t win[4] = {NULL};
    medleyComm_t other;

    CHECK(in && out);
    OK(medleyCommSplit(comm, 0, -rank, &other, NULL));
    FAILS(medleyCommWindowRegister(comm, in, bytes, &win[0], 2), medleyInvalidArgument, "flags 2");
    FAILS(medleyCommWindowRegister(comm, in, 0, &win[0], 0), medleyInvalidArgument, "size");
    FAILS(medleyCommWindowRegister(comm, in, bytes, NULL, 0), medleyInvalidArgument, "NULL");
    OK(medleyCommWindowRegister(comm, in, bytes, &win[0], MEDLEY_WIN_COLL_SYMMETRIC));
    OK(medleyCommWindowRegister(comm, out, all - 64 * (size_t)rank, &win[1], MEDLEY_WIN_DEFAULT));
    CHECK(reduce_and_gather(rank, w->nranks, comm, in, out, 3) == 0);
    OK(medleyGroupStart());
    OK(medleyCommWindowRegister(other, in, bytes, &win[2], 0));
    OK(medleyCommWindowRegister(comm, in, bytes, &win[3], 0));
    CHECK(win[2] == NULL);
    OK(medleyGroupEnd());
    CHECK(win[2] && win[3]);
    CHECK(reduce_and_gather(rank, w->nranks, comm, in, out, 4) == 0);
    FAILS(medleyCommWindowDeregister(comm, win[2]), medleyInvalidArgument, "does not exist");
    for (int i = rank % 2; i < 4; i++) OK(medleyCommWindowDeregister(i == 2 ? other : comm, win[i])); /* local */
    FAILS(medleyCommWindowDeregister(comm, win[3]), medleyInvalidArgument, "does not exist");
    CHECK(reduce_and_gather(rank, w->nranks, comm, in, out, 5) == 0);
    OK(medleyCommDestroy(other));
    OK(medleyCommDestroy(comm));
    put(1, in, bytes);
    put(rank == 1 ? 0 : 1, out, all);
    return 0;
}

/* ---- operations that users make ---- */

static double get_value(medleyDataType_t type, const void *at)
{
    switch (type) {
    case medleyInt8: return *(const int8_t *)at;
    case medleyUint8: return *(const uint8_t *)at;
    case medleyInt32: return *(const int32_t *)at;
    case medleyUint32: return *(const uint32_t *)at;
    case medleyInt64: return (double)*(const int64_t *)at;
    case medleyUint64: return (double)*(const uint64_t *)at;
    case medleyFloat32: return *(const float *)at;
    case medleyFloat64: return *(const double *)at;
    default: return 0;
    }
}

/* Bits of a small whole number as the type has them; returns its bytes. */
static size_t set_value(medleyDataType_t type, int value, void *at)
{
    static const uint16_t half[] = {0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700, 0x4800};
    static const uint8_t e4m3[] = {0, 0x38, 0x40, 0x44, 0x48, 0x4a, 0x4c, 0x4e, 0x50};
    static const uint8_t e5m2[] = {0, 0x3c, 0x40, 0x42, 0x44, 0x45, 0x46, 0x47, 0x48};
    float f = (float)value;
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    switch (type) {
    case medleyInt8:
    case medleyUint8: *(uint8_t *)at = (uint8_t)value; return 1;
    case medleyInt32:
    case medleyUint32: *(uint32_t *)at = (uint32_t)value; return 4;
    case medleyInt64:
    case medleyUint64: *(uint64_t *)at = (uint64_t)value; return 8;
    case medleyFloat16: *(uint16_t *)at = half[value]; return 2;
    case medleyBfloat16: *(uint16_t *)at = (uint16_t)(bits >> 16); return 2;
    case medleyFloat32: *(float *)at = f; return 4;
    case medleyFloat64: *(double *)at = value; return 8;
    case medleyFloat8e4m3: *(uint8_t *)at = e4m3[value]; return 1;
    default: *(uint8_t *)at = e5m2[value]; return 1;
    }
}

/* Rank 0 has the scalar 2, rank 1 has 3, the others 1; inputs are 1: the sum is n + 3. At most 8, so it is exact. */
static int premul_types(struct ranks_world *w, int rank, medleyComm_t comm)
{
    char scalar[8], in[8], out[8], want[8];
    medleyRedOp_t op;

    for (int type = 0; type < medleyNumTypes; type++) {
        for (int late = 0; late < 2; late++) {
            medleyScalarResidence_t where = late ? medleyScalarDevice : medleyScalarHostImmediate;
            size_t bytes = set_value((medleyDataType_t)type, rank == 0 ? 2 : rank == 1 ? 3 : 1, scalar);
            OK(medleyRedOpCreatePreMulSum(&op, scalar, (medleyDataType_t)type, where, comm));
            CHECK((int)op >= medleyNumOps);
            if (!late) memset(scalar, 0x7f, sizeof(scalar)); /* it was read */
            set_value((medleyDataType_t)type, 1, in);
            set_value((medleyDataType_t)type, w->nranks + 3, want);
            OK(medleyAllReduce(in, out, 1, (medleyDataType_t)type, op, comm, NULL));
            if (memcmp(out, want, bytes)) fprintf(stderr, "type %d: %g\n", type, get_value(type, out));
            CHECK(memcmp(out, want, bytes) == 0);
            OK(medleyRedOpDestroy(op, comm));
        }
    }
    return 0;
}

static int premul_rules(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyRedOp_t op[2], other_op, gone;
    medleyComm_t other;
    int two = 2, three = 3, one = 1, sum[2] = {0, 0}, n = w->nranks;
    void *s;

    FAILS(medleyRedOpCreatePreMulSum(NULL, &two, medleyInt32, medleyScalarHostImmediate, comm), medleyInvalidArgument,
          "op is NULL");
    FAILS(medleyRedOpCreatePreMulSum(&op[0], NULL, medleyInt32, medleyScalarHostImmediate, comm), medleyInvalidArgument,
          "scalar is NULL");
    FAILS(medleyRedOpCreatePreMulSum(&op[0], &two, medleyNumTypes, medleyScalarHostImmediate, comm),
          medleyInvalidArgument, "12 is not a datatype");
    FAILS(medleyRedOpCreatePreMulSum(&op[0], &two, medleyInt32, (medleyScalarResidence_t)7, comm),
          medleyInvalidArgument, "7 is not a residence");
    FAILS(medleyRedOpCreatePreMulSum(&op[0], &two, medleyInt32, medleyScalarHostImmediate, NULL), medleyInvalidArgument,
          "communicator is NULL");
    OK(medleyCommSplit(comm, 0, rank, &other, NULL));
    OK(medleyRedOpCreatePreMulSum(&op[0], &two, medleyInt32, medleyScalarHostImmediate, comm));
    OK(medleyRedOpCreatePreMulSum(&op[1], &three, medleyInt32, medleyScalarHostImmediate, comm));
    OK(medleyRedOpCreatePreMulSum(&other_op, &two, medleyInt32, medleyScalarHostImmediate, other));
    CHECK(op[0] != op[1]);
    FAILS(medleyAllReduce(&one, sum, 1, medleyInt32, op[0], other, NULL), medleyInvalidArgument,
          "does not exist on this communicator");
    FAILS(medleyAllReduce(&one, sum, 1, medleyUint32, op[0], comm, NULL), medleyInvalidArgument, "was made for int32");
    FAILS(medleyRedOpDestroy(other_op, comm), medleyInvalidArgument, "does not exist");
    FAILS(medleyRedOpDestroy(medleySum, comm), medleyInvalidArgument, "does not exist");
    OK(medleyGroupStart()); /* both in one group, and destroyed inside it */
    OK(medleyAllReduce(&one, &sum[0], 1, medleyInt32, op[0], comm, NULL));
    OK(medleyAllReduce(&one, &sum[1], 1, medleyInt32, op[1], comm, NULL));
    OK(medleyRedOpDestroy(op[0], comm));
    OK(medleyGroupEnd());
    CHECK(sum[0] == 2 * n && sum[1] == 3 * n);
    gone = op[0];
    OK(medleyRedOpCreatePreMulSum(&op[0], &three, medleyInt32, medleyScalarHostImmediate, comm));
    FAILS(medleyAllReduce(&one, sum, 1, medleyInt32, gone, comm, NULL), medleyInvalidArgument, "does not exist");
    FAILS(medleyRedOpDestroy(gone, comm), medleyInvalidArgument, "does not exist");
    OK(medleyStreamCreate(&s)); /* and while it is queued */
    OK(medleyAllReduce(&one, &sum[0], 1, medleyInt32, op[0], comm, s));
    OK(medleyRedOpDestroy(op[0], comm));
    OK(medleyStreamSynchronize(s));
    CHECK(sum[0] == 3 * n);
    OK(medleyReduce(&one, &sum[0], 1, medleyInt32, op[1], n - 1, comm, NULL));
    if (rank == n - 1) CHECK(sum[0] == 3 * n);
    OK(medleyStreamDestroy(s));
    OK(medleyCommDestroy(other)); /* op[1] and other_op end with their communicators */
    return 0;
}

/* ---- in place, alignment ---- */

/* Every collective in place as its documentation says, small and large, on a buffer that starts at any element. */
static int in_place_one(int rank, int n, medleyComm_t comm, int *b, size_t count)
{
    size_t all = count * (size_t)n;
    int root = n - 1, *mine = b + (size_t)rank * count;

#define FILL(len, value)                                                                                               \
    for (size_t i = 0; i < (len); i++) b[i] = (int)(value)
#define EACH(len, value)                                                                                               \
    for (size_t i = 0; i < (len); i++) CHECK(b[i] == (int)(value))
    FILL(count, i + (size_t)rank);
    OK(medleyAllReduce(b, b, count, medleyInt32, medleySum, comm, NULL));
    EACH(count, i * (size_t)n + (size_t)(n * (n - 1) / 2));
    FILL(count, i + (size_t)rank);
    OK(medleyReduce(b, rank == root ? b : NULL, count, medleyInt32, medleyMax, root, comm, NULL));
    EACH(count, i + (size_t)rank); /* at the root the largest is its own */
    FILL(count, rank == root ? 5 * i : 0);
    OK(rank % 2 ? medleyBcast(b, count, medleyInt32, root, comm, NULL)
                : medleyBroadcast(b, b, count, medleyInt32, root, comm, NULL));
    EACH(count, 5 * i);
    FILL(all, i / count == (size_t)rank ? i : 0);
    OK(medleyAllGather(mine, b, count, medleyInt32, comm, NULL));
    EACH(all, i);
    FILL(all, i + (size_t)rank);
    OK(medleyReduceScatter(b, mine, count, medleyInt32, medleyMin, comm, NULL));
    for (size_t i = 0; i < count; i++) CHECK(mine[i] == (int)(i + (size_t)rank * count));
    FILL(all, i % count + 1000 * (size_t)rank + i / count);
    OK(medleyAlltoAll(b, b, count, medleyInt32, comm, NULL));
    EACH(all, i % count + 1000 * (i / count) + (size_t)rank);
    FILL(all, i / count == (size_t)rank ? 3 * i : 0);
    OK(medleyGather(rank == root ? mine : mine, rank == root ? b : NULL, count, medleyInt32, root, comm, NULL));
    if (rank == root) EACH(all, 3 * i);
    FILL(all, rank == root ? 7 * i : 0);
    OK(medleyScatter(rank == root ? b : NULL, mine, count, medleyInt32, root, comm, NULL));
    for (size_t i = 0; i < count; i++) CHECK(mine[i] == (int)(7 * (i + (size_t)rank * count)));
#undef FILL
#undef EACH
    return 0;
}

static int in_place_v(int rank, int n, medleyComm_t comm, int *b, size_t count)
{
    size_t counts[64], displs[64], end = 0;

    for (int r = 0; r < n; r++) {
        counts[r] = r == 1 ? 0 : count + (size_t)r;
        displs[r] = end + 3;
        end = displs[r] + counts[r];
    }
    for (size_t i = 0; i < end; i++) b[i] = -1;
    for (size_t i = 0; i < counts[rank]; i++) b[displs[rank] + i] = rank * 1000 + (int)i;
    OK(medleyAllGatherV(b + displs[rank], counts[rank], b, counts, displs, medleyInt32, comm, NULL));
    for (int r = 0; r < n; r++) {
        for (int gap = 1; gap <= 3; gap++) CHECK(b[displs[r] - (size_t)gap] == -1);
        for (size_t i = 0; i < counts[r]; i++) CHECK(b[displs[r] + i] == r * 1000 + (int)i);
    }
    for (size_t i = 0; i < end; i++) b[i] = (int)i + rank;
    OK(medleyReduceScatterV(b, b + displs[rank], counts, displs, medleyInt32, medleySum, comm, NULL));
    for (size_t i = 0; i < counts[rank]; i++)
        CHECK(b[displs[rank] + i] == n * (int)(displs[rank] + i) + n * (n - 1) / 2);
    return 0;
}

static int in_place(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const size_t counts[] = {1, 17, 3000, 70001};
    size_t most = (counts[3] + 8) * (size_t)w->nranks + 64;

    for (int kind = 0; kind < 2; kind++) {
        int *b = get(kind, sizeof(int) * most);
        CHECK(b);
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
            CHECK(in_place_one(rank, w->nranks, comm, b + c + (size_t)rank, counts[c]) == 0);
            CHECK(in_place_v(rank, w->nranks, comm, b + c + (size_t)rank, counts[c]) == 0);
        }
        put(kind, b, sizeof(int) * most);
    }
    return 0;
}

/* Every alignment that a byte type and an 8-byte type allow, on each rank another one. */
static int unaligned(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { BYTES = 5000 };
    char *a = malloc(BYTES + 128), *b = malloc(BYTES + 128);

    for (int shift = 0; shift < 64; shift += 3) {
        char *in = a + (shift + 7 * rank) % 64, *out = b + (3 * shift + 13 * rank) % 64;
        double *din = (double *)(void *)a + (shift + rank) % 8, *dout = (double *)(void *)b + (shift + 3 * rank) % 8;
        for (int i = 0; i < BYTES; i++) in[i] = (char)(i % 16);
        OK(medleyAllReduce(in, out, BYTES - (size_t)shift, medleyInt8, medleySum, comm, NULL));
        for (int i = 0; i < BYTES - shift; i++) CHECK(out[i] == (char)(i % 16 * w->nranks));
        for (int i = 0; i < BYTES / 8; i++) din[i] = i;
        OK(medleyAllReduce(din, dout, BYTES / 8, medleyFloat64, medleySum, comm, NULL));
        for (int i = 0; i < BYTES / 8; i++) CHECK(dout[i] == (double)i * w->nranks);
    }
    free(a);
    free(b);
    return 0;
}

/* ---- large ---- */

enum { CHUNK = 64 << 20, CHUNKS = 64, TAIL = 12345 };

/* 4 GiB of addresses that are the same CHUNK of memory over and over, and TAIL bytes behind them; NULL: not possible
 * here. */
static char *get_huge(void)
{
    const size_t bytes = (size_t)CHUNK * CHUNKS + TAIL;
    int fd = memfd_create("huge", MFD_CLOEXEC);
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool ok = fd >= 0 && p != MAP_FAILED && ftruncate(fd, CHUNK) == 0;

    for (size_t i = 0; ok && i < CHUNKS; i++)
        ok = mmap(p + i * CHUNK, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
    if (fd >= 0) close(fd);
    return ok ? p : NULL;
}

/* More elements than 32 bits count, from the first rank to the second. */
static int huge(struct ranks_world *w, int rank, medleyComm_t comm)
{
    const size_t count = (size_t)CHUNK * CHUNKS + TAIL;
    char *p = rank < 2 ? get_huge() : NULL;

    (void)w;
    if (rank < 2 && !p) {
        fprintf(stderr, "4 GiB of addresses cannot be had\n");
        return 1;
    }
    if (rank == 0) {
        for (size_t i = 0; i < CHUNK; i++) p[i] = (char)(i % 251);
        for (size_t i = count - TAIL; i < count; i++) p[i] = (char)(i % 241);
        OK(medleySend(p, count, medleyInt8, 1, comm, NULL));
    }
    if (rank == 1) {
        OK(medleyRecv(p, count, medleyInt8, 0, comm, NULL));
        for (size_t i = 0; i < CHUNK; i++) CHECK(p[i] == (char)(i % 251));
        for (size_t i = count - TAIL; i < count; i++) CHECK(p[i] == (char)(i % 241));
    }
    if (p) munmap(p, count);
    return api_works(rank, comm);
}

static const struct api_scene scenes[] = {
    {"allocate", allocate, BARE | ALONE, NULL}, {"kinds", kinds, 0, NULL},
    {"sub_ranges", sub_ranges, 0, NULL},        {"registration", registration, GONE, NULL},
    {"windows", windows, GONE, NULL},           {"premul_types", premul_types, 0, NULL},
    {"premul_rules", premul_rules, 0, NULL},    {"in_place", in_place, 0, NULL},
    {"unaligned", unaligned, 0, NULL},          {"huge", huge, 0, NULL},
};

int main(int argc, char **argv) { return api_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0])); }
