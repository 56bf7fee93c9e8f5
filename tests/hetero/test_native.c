/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pass-through promises: test_native name... The devices come from MDL_TEST_DEVICES, as in test_coll;
 * MDL_TEST_NATIVE is the name of the vendor's library. That a call has passed through shows in the statistics.
 */
#include "config.h"

#include "lib/dev/dev.h"
#include "lib/reduce/reduce.h"
#include "tests/coll/check.h"
#include "tests/coll/ranks.h"
#include "tests/coll/slack.h"
#include "tests/hetero/native_thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 3000, SHORT_MS = 500 };
#define SHORT "a short one" /* MEDLEY_TIMEOUT of scenes that wait for it */

struct place { /* a rank and what it works with */
    struct ranks_world *w;
    int rank, n;
    medleyComm_t comm;
    struct mdl_dev dev;
    uint64_t *gate; /* a word that streams wait for */
    float *in, *out;
    uint64_t done[medleyNumColls]; /* calls that are done */
};

static long short_ms; /* the same in all ranks */

static void set_variable(const char *name, const char *value)
{
    char text[32];

    snprintf(text, sizeof(text), "%ldms", short_ms);
    setenv(name, strcmp(value, SHORT) == 0 ? text : value, 1);
}

/* The call of this kind that was just made is done: did the vendor do it? 1, 0, or -1 for an error. */
static int passed(struct place *p, medleyComm_t comm, medleyColl_t coll)
{
    const char *name = getenv("MDL_TEST_NATIVE");

    return check_went(comm, coll, ++p->done[coll], name ? name : "");
}

static medleyResult_t sum(const struct place *p)
{
    return medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream());
}

/* An all-reduce that comes out right. */
static int sums(struct place *p)
{
    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(sum(p));
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    return 0;
}

/* Waits for an error of the communicator, and that the stream goes on after it. */
static medleyResult_t error_comes(const struct place *p)
{
    medleyResult_t res = medleySuccess;

    while (res == medleySuccess)
        if (medleyCommGetAsyncError(p->comm, &res) != medleySuccess) return medleyInternalError;
    return home_sync() == medleySuccess ? res : medleyInternalError;
}

/* ---- which calls pass through ---- */

static medleyResult_t call(const struct place *p, medleyColl_t coll, medleyDataType_t t, medleyRedOp_t op)
{
    const size_t counts[3] = {5, 0, 7}, displs[3] = {0, 6, 9}, mine = counts[p->rank];
    medleyComm_t c = p->comm;
    void *s = home_stream();
    int next = (p->rank + 1) % p->n, before = (p->rank + p->n - 1) % p->n;

    switch (coll) {
    case medleyCollAllReduce: return medleyAllReduce(p->in, p->out, 9, t, op, c, s);
    case medleyCollReduce: return medleyReduce(p->in, p->out, 9, t, op, 1, c, s);
    case medleyCollReduceScatter: return medleyReduceScatter(p->in, p->out, 9, t, op, c, s);
    case medleyCollReduceScatterV: return medleyReduceScatterV(p->in, p->out, counts, displs, t, op, c, s);
    case medleyCollBroadcast: return medleyBroadcast(p->in, p->out, 9, t, 1, c, s);
    case medleyCollAllGather: return medleyAllGather(p->in, p->out, 9, t, c, s);
    case medleyCollAllGatherV: return medleyAllGatherV(p->in, mine, p->out, counts, displs, t, c, s);
    case medleyCollAlltoAll: return medleyAlltoAll(p->in, p->out, 9, t, c, s);
    case medleyCollGather: return medleyGather(p->in, p->out, 9, t, 2, c, s);
    case medleyCollScatter: return medleyScatter(p->in, p->out, 9, t, 2, c, s);
    case medleyCollSend:
        MDL_TRY(medleyGroupStart());
        MDL_TRY(medleySend(p->in, 9, t, next, c, s));
        MDL_TRY(medleyRecv(p->out, 9, t, before, c, s));
        return medleyGroupEnd();
    default: return medleyInternalError;
    }
}

/* Of HCCL, whose batches of messages must be the same at both ends. */
static bool groups_alike(void) { return strcmp(getenv("MDL_TEST_NATIVE"), "hccl") == 0; }

/* A reduction with an operation that is destroyed behind it: the values times one. */
static medleyResult_t call_premul(const struct place *p, medleyColl_t coll, medleyDataType_t t)
{
    uint8_t one[8] = {1};
    medleyRedOp_t op;

    if (t >= medleyFloat16) mdl_from_float(t, 1, one);
    MDL_TRY(medleyRedOpCreatePreMulSum(&op, one, t, medleyScalarHostImmediate, p->comm));
    MDL_TRY(call(p, coll, t, op));
    return medleyRedOpDestroy(op, p->comm);
}

/* Prints for each collective how many of its types, times its operations with PreMulSum among them, the vendor did.
 * MDL_TEST_PASSED: must be. */
static int used(struct place *p)
{
    static const medleyColl_t reductions[] = {medleyCollAllReduce, medleyCollReduce, medleyCollReduceScatter,
                                              medleyCollReduceScatterV},
                              moves[] = {medleyCollBroadcast, medleyCollAllGather, medleyCollAllGatherV,
                                         medleyCollAlltoAll,  medleyCollGather,    medleyCollScatter,
                                         medleyCollSend};
    char text[256] = "";

    for (size_t i = 0; i < sizeof(reductions) / sizeof(reductions[0]); i++) {
        int n = 0;
        for (int t = 0; t < medleyNumTypes; t++) {
            for (int op = 0; op < medleyNumOps; op++) {
                OK(call(p, reductions[i], (medleyDataType_t)t, (medleyRedOp_t)op));
                n += passed(p, p->comm, reductions[i]);
            }
            OK(call_premul(p, reductions[i], (medleyDataType_t)t));
            n += passed(p, p->comm, reductions[i]);
        }
        snprintf(text + strlen(text), sizeof(text) - strlen(text), " %d", n);
    }
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
        int n = 0;
        for (int t = 0; t < medleyNumTypes; t++) {
            OK(call(p, moves[i], (medleyDataType_t)t, medleySum));
            if (moves[i] == medleyCollSend && groups_alike())
                continue; /* staged ones leave the statistics' way as it was */
            n += passed(p, p->comm, moves[i]);
        }
        snprintf(text + strlen(text), sizeof(text) - strlen(text), " %d", n);
    }
    OK(home_sync());
    if (p->rank == 0) printf("passed:%s\n", text);
    CHECK(!getenv("MDL_TEST_PASSED") || strcmp(text + 1, getenv("MDL_TEST_PASSED")) == 0);
    return 0;
}

/* Small numbers, some negative, which is large where there is no sign. Averages come out even. */
static void put_number(medleyDataType_t t, medleyRedOp_t op, int rank, size_t i, void *dst)
{
    size_t bytes = mdl_dtype_size(t);
    int64_t number = (i % 2 && rank != 1 ? -1 : 1) * (rank + 2);
    bool is_float = t >= medleyFloat16, has_sign = t == medleyInt8 || t == medleyInt32 || t == medleyInt64;

    if (op == medleyAvg && !is_float && !has_sign) number = rank + 2;
    if (is_float)
        mdl_from_float(t, (float)number, dst);
    else
        for (size_t b = 0; b < bytes; b++) ((uint8_t *)dst)[b] = (uint8_t)((uint64_t)number >> 8 * b);
}

/* One reduction, whose result is beside what the host makes of the same numbers. */
static int reduction(struct place *p, medleyColl_t coll, medleyDataType_t t, medleyRedOp_t op)
{
    enum { LEN = 9, ROOT = 1 };
    size_t bytes = mdl_dtype_size(t), first = coll == medleyCollReduceScatter ? LEN * (size_t)p->rank : 0;
    struct mdl_reduce r = {
        .dtype = t, .op = op, .finalize = op == medleyAvg ? MDL_FINAL_AVG : MDL_FINAL_NONE, .divisor = 3};
    char in[3][3 * LEN * 8], want[LEN * 8], got[LEN * 8];
    const void *srcs[3];

    for (int rank = 0; rank < 3; rank++) {
        for (size_t i = 0; i < 3 * LEN; i++) put_number(t, op, rank, i, in[rank] + i * bytes);
        srcs[rank] = in[rank] + first * bytes;
    }
    if (op == medleyAvg) r.op = medleySum;
    mdl_reduce(&r, want, srcs, 0, 3, LEN);
    home_store(p->in, in[p->rank], 3 * LEN * bytes);
    OK(call(p, coll, t, op));
    OK(home_sync());
    home_copy_out(got, p->out, LEN * bytes);
    if ((coll == medleyCollReduce && p->rank != ROOT) || memcmp(got, want, LEN * bytes) == 0) return 0;
    fprintf(stderr, "rank %d: collective %d, type %d, operation %d: wrong\n", p->rank, (int)coll, (int)t, (int)op);
    return 1;
}

/* What only moves: each rank's numbers where they belong. */
static int moves(struct place *p)
{
    enum { LEN = 9 };

    for (int r = 0; r < 3; r++) check_fill(p->in + LEN * r, LEN, (float)(10 * p->rank + r));
    OK(call(p, medleyCollAllGather, medleyFloat, medleySum));
    OK(home_sync());
    for (int r = 0; r < 3; r++) CHECK(check_holds(p->out + LEN * r, LEN, (float)(10 * r)));
    OK(call(p, medleyCollAlltoAll, medleyFloat, medleySum));
    OK(home_sync());
    for (int r = 0; r < 3; r++) CHECK(check_holds(p->out + LEN * r, LEN, (float)(10 * r + p->rank)));
    OK(call(p, medleyCollBroadcast, medleyFloat, medleySum));
    OK(home_sync());
    CHECK(check_holds(p->out, LEN, 10));
    OK(call(p, medleyCollGather, medleyFloat, medleySum));
    OK(call(p, medleyCollScatter, medleyFloat, medleySum));
    OK(home_sync());
    CHECK(check_holds(p->out, LEN, (float)(20 + p->rank)));
    return 0;
}

static int values(struct place *p)
{
    static const medleyColl_t colls[] = {medleyCollAllReduce, medleyCollReduce, medleyCollReduceScatter};

    for (size_t i = 0; i < sizeof(colls) / sizeof(colls[0]); i++)
        for (int t = 0; t < medleyNumTypes; t++)
            for (int op = 0; op < medleyNumOps; op++)
                if (reduction(p, colls[i], (medleyDataType_t)t, (medleyRedOp_t)op)) return 1;
    if (moves(p)) return 1;
    p->done[medleyCollAllReduce] = medleyNumTypes * medleyNumOps;
    check_fill(p->in, COUNT, 1);
    OK(sum(p));
    CHECK(passed(p, p->comm, medleyCollAllReduce) == 1);
    return 0;
}

/* Nothing does, and all is right. */
static int unused(struct place *p)
{
    if (sums(p)) return 1;
    CHECK(passed(p, p->comm, medleyCollAllReduce) == 0);
    return 0;
}

static int one_is_off(struct place *p) { return unused(p); }

/* ---- buffers ---- */

/* Each rank has its own mixture of buffers of the host and of the device. */
static int host_buffers(struct place *p)
{
    float *in = malloc(3 * COUNT * sizeof(float)), *out = malloc(3 * COUNT * sizeof(float));
    bool in_host = p->rank != 0, out_host = p->rank != 1;

    for (size_t i = 0; i < 3 * COUNT; i++) {
        in[i] = (float)(p->rank + 1);
        out[i] = -1;
    }
    check_fill(p->in, COUNT, (float)(p->rank + 1));
    OK(medleyAllReduce(in_host ? in : p->in, out_host ? out : p->out, COUNT, medleyFloat, medleySum, p->comm,
                       home_stream()));
    OK(home_sync());
    CHECK(passed(p, p->comm, medleyCollAllReduce) == 1);
    for (size_t i = 0; out_host && i < COUNT; i++) CHECK(out[i] == check_sum_to(p->n));
    if (!out_host) CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));

    /* What is between the slots is not the call's. */
    const size_t counts[3] = {10, 20, 5}, displs[3] = {0, 15, 40};
    for (size_t i = 0; i < COUNT; i++) out[i] = -1;
    OK(medleyAllGatherV(in, counts[p->rank], out, counts, displs, medleyFloat, p->comm, home_stream()));
    OK(home_sync());
    CHECK(passed(p, p->comm, medleyCollAllGatherV) == 1);
    for (size_t i = 0; i < 60; i++) {
        float want = -1;
        for (int r = 0; r < 3; r++)
            if (i >= displs[r] && i < displs[r] + counts[r]) want = (float)r + 1;
        CHECK(out[i] == want);
    }
    free(in);
    free(out);
    return 0;
}

/* ---- groups ---- */

/* A collective needs the result of the one before it; a second communicator and messages are in the group too. */
static int group(struct place *p)
{
    const struct mdl_device *d = p->dev.ops;
    int next = (p->rank + 1) % p->n, before = (p->rank + p->n - 1) % p->n;
    float *a = p->in + COUNT, *b = p->out + COUNT, *got = p->out + 2 * COUNT;
    mdl_dev_stream stream;
    medleyComm_t other;

    OK(medleyCommSplit(p->comm, 0, p->n - p->rank, &other, NULL));
    OK(d->stream_create(d, &stream));
    check_fill(p->in, COUNT, (float)p->rank + 1);
    check_fill(a, COUNT, (float)p->rank + 1);
    OK(medleyGroupStart());
    OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
    OK(medleySend(a, COUNT, medleyFloat, next, p->comm, home_stream()));
    OK(medleyAllReduce(p->out, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
    OK(medleyBroadcast(a, b, COUNT, medleyFloat, 0, other, stream)); /* of the last rank; another kind of call */
    OK(medleyRecv(got, COUNT, medleyFloat, before, p->comm, home_stream()));
    OK(medleyGroupEnd());
    OK(home_sync());
    OK(d->stream_sync(d, stream));
    p->done[medleyCollAllReduce]++;
    CHECK(passed(p, p->comm, medleyCollAllReduce) == 1);
    CHECK(check_holds(p->out, COUNT, (float)p->n * check_sum_to(p->n)));
    CHECK(check_holds(b, COUNT, (float)p->n));
    CHECK(check_holds(got, COUNT, (float)before + 1));
    OK(d->stream_destroy(d, stream));
    OK(medleyCommDestroy(other));
    return 0;
}

/* Several messages to one rank and from one, in one group, whose order counts; one more to the third rank. */
static int same_peer(struct place *p)
{
    enum { MANY = 5 };
    int next = (p->rank + 1) % p->n, before = (p->rank + p->n - 1) % p->n;
    medleyComm_t c = p->comm;
    void *s = home_stream();
    size_t n = COUNT / MANY;

    for (int i = 0; i < MANY; i++) check_fill(p->in + (size_t)i * n, n, (float)(10 * p->rank + i));
    OK(medleyGroupStart());
    for (int i = 0; i < MANY; i++) OK(medleySend(p->in + (size_t)i * n, n - (size_t)i, medleyFloat, next, c, s));
    OK(medleySend(p->in, 7, medleyFloat, before, c, s));
    for (int i = 0; i < MANY; i++) OK(medleyRecv(p->out + (size_t)i * n, n - (size_t)i, medleyFloat, before, c, s));
    OK(medleyRecv(p->out + COUNT, 7, medleyFloat, next, c, s));
    OK(medleyGroupEnd());
    OK(home_sync());
    p->done[medleyCollSend] += MANY;
    CHECK(passed(p, c, medleyCollSend) == !groups_alike());
    for (int i = 0; i < MANY; i++) CHECK(check_holds(p->out + (size_t)i * n, n - (size_t)i, (float)(10 * before + i)));
    CHECK(check_holds(p->out + COUNT, 7, (float)(10 * next)));
    return 0;
}

/* One end has in a group what the other does call by call. */
static int uneven(struct place *p)
{
    medleyComm_t c = p->comm;
    void *s = home_stream();

    check_fill(p->in, COUNT, (float)p->rank);
    if (p->rank == 0) {
        OK(medleyGroupStart());
        OK(medleySend(p->in, COUNT, medleyFloat, 1, c, s));
        OK(medleySend(p->in, COUNT, medleyFloat, 1, c, s));
        OK(medleyRecv(p->out, COUNT, medleyFloat, 1, c, s));
        OK(medleyGroupEnd());
    } else if (p->rank == 1) {
        OK(medleyRecv(p->out, COUNT, medleyFloat, 0, c, s));
        OK(home_sync());
        OK(medleyRecv(p->out, COUNT, medleyFloat, 0, c, s));
        OK(medleySend(p->in, COUNT, medleyFloat, 0, c, s));
    }
    OK(home_sync());
    CHECK(p->rank == 2 || check_holds(p->out, COUNT, (float)(1 - p->rank)));
    p->done[medleyCollSend]++;
    CHECK(p->rank != 0 || passed(p, c, medleyCollSend) == !groups_alike());
    return 0;
}

/* On the vendor's default stream, between copies that come before and after; and one that is not the default between.
 */
static int default_stream(struct place *p)
{
    const struct mdl_device *d = p->dev.ops;
    size_t bytes = COUNT * sizeof(float);
    float *source = p->in + COUNT, *result = p->out + COUNT;

    check_fill(source, COUNT, (float)p->rank + 1);
    for (int i = 0; i < 5; i++) {
        check_fill(p->in, COUNT, -1);
        for (int k = 0; k < 20; k++) OK(d->copy(d, result, source, bytes, MDL_COPY_D2D, NULL)); /* holds it up */
        OK(d->copy(d, p->in, source, bytes, MDL_COPY_D2D, NULL));
        OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, NULL));
        OK(medleyReduce(p->out, p->out, COUNT, medleyFloat, medleySum, 1, p->comm, NULL));
        OK(d->copy(d, result, p->out, bytes, MDL_COPY_D2D, NULL));
        OK(d->stream_sync(d, NULL));
        CHECK(passed(p, p->comm, medleyCollAllReduce) == 1);
        CHECK(check_holds(result, COUNT, check_sum_to(p->n) * (p->rank == 1 ? (float)p->n : 1)));
        if (sums(p)) return 1;
        p->done[medleyCollAllReduce]++;
    }
    return 0;
}

/* Calls that pass through and calls that do not, in turns on one stream: 8-bit floats are reduced by no vendor. */
static int turns(struct place *p)
{
    uint8_t own[COUNT], got[COUNT], *bytes = (uint8_t *)(p->in + COUNT);
    uint8_t right;

    mdl_from_float(medleyFloat8e4m3, check_sum_to(p->n), &right);
    for (int i = 0; i < 20; i++) {
        mdl_from_float(medleyFloat8e4m3, (float)p->rank + 1, own);
        memset(own, own[0], COUNT);
        home_store(bytes, own, COUNT);
        check_fill(p->in, COUNT, (float)p->rank + 1);
        OK(sum(p));
        OK(medleyAllReduce(bytes, bytes, COUNT, medleyFloat8e4m3, medleySum, p->comm, home_stream()));
        OK(medleyAllReduce(bytes, bytes, COUNT, medleyUint8, medleyMax, p->comm, home_stream()));
        OK(home_sync());
        CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
        home_copy_out(got, bytes, COUNT);
        for (int k = 0; k < COUNT; k++) CHECK(got[k] == right);
    }
    return 0;
}

/* ---- factors ---- */

enum factor_place { AT_ONCE, ON_HOST, ON_DEVICE, FACTOR_PLACES };

/* Where it is read late, the stream writes it before the call, which has to wait for that, and spoils it behind. */
static int with_factor(struct place *p, enum factor_place where, float *at, float *numbers)
{
    const struct mdl_device *d = p->dev.ops;
    medleyRedOp_t op;

    numbers[0] = (float)p->rank + 2; /* of this rank */
    numbers[1] = -7;
    numbers[2] = where == AT_ONCE ? numbers[0] : -5;
    if (where == ON_HOST) numbers[2] = numbers[0]; /* memory that the stream cannot write is there before the call */
    if (where == ON_DEVICE) {
        home_store(at, numbers + 1, sizeof(float));
        OK(d->copy(d, at, numbers, sizeof(float), MDL_COPY_H2D, home_stream()));
    }
    OK(medleyRedOpCreatePreMulSum(&op, where == ON_DEVICE ? at : numbers + 2, medleyFloat,
                                  where == AT_ONCE ? medleyScalarHostImmediate : medleyScalarDevice, p->comm));
    if (where == AT_ONCE) numbers[2] = -9; /* it was read */
    OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, op, p->comm, home_stream()));
    OK(medleyReduceScatter(p->in, p->out + COUNT, COUNT / p->n, medleyFloat, op, p->comm, home_stream()));
    OK(medleyRedOpDestroy(op, p->comm));
    if (where == ON_DEVICE) OK(d->copy(d, at, numbers + 1, sizeof(float), MDL_COPY_H2D, home_stream()));
    return 0;
}

/* Each rank's, wherever it is; passed through where the library has such operations. */
static int factors(struct place *p)
{
    const bool has = (p->dev.ops->native->caps(p->dev.ops->native)->ways & MDL_NATIVE_FACTORS) != 0;
    float *at = home_take(sizeof(float)), *numbers, right = 0;

    OK(p->dev.ops->alloc_pinned(p->dev.ops, 3 * sizeof(float), (void **)&numbers));
    check_fill(p->in, COUNT, (float)p->rank + 1);
    for (int r = 0; r < p->n; r++) right += (float)((r + 1) * (r + 2));
    for (int i = 0; i < 4 * FACTOR_PLACES; i++) {
        check_fill(p->out, 2 * COUNT, 0);
        if (with_factor(p, (enum factor_place)((i + p->rank) % FACTOR_PLACES), at, numbers)) return 1;
        OK(home_sync());
        CHECK(check_holds(p->out, COUNT, right));
        CHECK(check_holds(p->out + COUNT, (size_t)(COUNT / p->n), right));
        CHECK(passed(p, p->comm, medleyCollReduceScatter) == has);
    }
    OK(p->dev.ops->free_pinned(p->dev.ops, numbers));
    home_free(at);
    return 0;
}

/* ---- creation ---- */

struct child {
    medleyComm_t parent, comm;
    pthread_t thread;
    medleyResult_t res;
};

static void *make_child(void *arg)
{
    struct child *ch = arg;

    ch->res = medleyCommSplit(ch->parent, 0, 0, &ch->comm, NULL);
    return NULL;
}

/* Threads make several communicators at a time, each process in an order of its own; all pass through. */
static int made_at_once(struct place *p)
{
    enum { MANY = 6 };
    struct child ch[MANY];

    for (int i = 0; i < MANY; i++) OK(medleyCommSplit(p->comm, 0, 0, &ch[i].parent, NULL));
    ranks_meet(p->w, 1);
    for (int i = 0; i < MANY; i++) {
        struct child *one = &ch[(i * (p->rank == 1 ? MANY - 1 : 1) + p->rank) % MANY];
        CHECK(pthread_create(&one->thread, NULL, make_child, one) == 0);
    }
    for (int i = 0; i < MANY; i++) pthread_join(ch[i].thread, NULL);
    for (int i = 0; i < MANY; i++) {
        OK(ch[i].res);
        check_fill(p->in, COUNT, (float)p->rank + 1);
        OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, ch[i].comm, home_stream()));
        OK(home_sync());
        CHECK(check_went(ch[i].comm, medleyCollAllReduce, 1, getenv("MDL_TEST_NATIVE")) == 1);
        CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    }
    for (int i = 0; i < MANY; i++) OK(medleyCommDestroy(ch[i].comm));
    for (int i = 0; i < MANY; i++) OK(medleyCommDestroy(ch[i].parent));
    return 0;
}

/* ---- errors ---- */

/* Rank 2 dies while the others are in a call. */
static int killed(struct place *p)
{
    medleyResult_t res;

    if (sums(p)) return 1;
    ranks_meet(p->w, 1);
    if (p->rank == 2) raise(SIGKILL);
    res = sum(p); /* it may be known already */
    if (res == medleySuccess) res = error_comes(p);
    CHECK(res == medleyRemoteError);
    CHECK(strstr(medleyGetLastError(p->comm), "rank 2") != NULL);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    check_fill(p->in, COUNT, 7); /* the device is as it should be */
    CHECK(check_holds(p->in, COUNT, 7));
    return 0;
}

/* The vendor's library finds an error in the second call. */
static int asynchronous(struct place *p)
{
    medleyResult_t res;

    if (sums(p)) return 1;
    ranks_meet(p->w, 1);
    res = sum(p); /* that of another rank may be known already */
    if (res == medleySuccess) res = error_comes(p);
    CHECK(res == medleyRemoteError);
    CHECK(strstr(medleyGetLastError(p->comm), "AsyncError") != NULL);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    return 0;
}

/* Rank 2 does not make the call. */
static int late(struct place *p)
{
    if (sums(p)) return 1;
    if (p->rank != 2) {
        OK(sum(p));
        CHECK(error_comes(p) == medleyTimeout);
        CHECK(strstr(medleyGetLastError(p->comm), "rank 2") != NULL);
    }
    ranks_meet(p->w, 1);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    return 0;
}

/* Rank 2 sends late, which holds up rank 0's group; rank 1 has its part of it and waits for the next one. Nobody is
 * wrong.
 */
static int late_message(struct place *p)
{
    int next = (p->rank + 1) % p->n, before = (p->rank + p->n - 1) % p->n;

    for (int turn = 0; turn < 2; turn++) {
        check_fill(p->in, COUNT, (float)p->rank);
        if (p->rank == 2 && turn == 0) check_pause_ms(500);
        OK(medleyGroupStart());
        OK(medleyRecv(p->out, COUNT, medleyFloat, before, p->comm, home_stream()));
        OK(medleySend(p->in, COUNT, medleyFloat, next, p->comm, home_stream()));
        OK(medleyGroupEnd());
        if (p->rank != 1 || turn) OK(home_sync());
    }
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, (float)before));
    return 0;
}

/* A stream that comes to the call late, longer than any deadline, is nobody's fault. */
static int held(struct place *p)
{
    medleyResult_t res;

    if (!p->gate) return SKIPPED;
    check_fill(p->in, COUNT, (float)p->rank + 1);
    __atomic_store_n(p->gate, 0, __ATOMIC_RELEASE);
    OK(p->dev.ops->stream_wait(p->dev.ops, home_stream(), p->gate, 1));
    OK(sum(p));
    ranks_meet(p->w, 1);
    check_pause_ms(3 * short_ms);
    OK(medleyCommGetAsyncError(p->comm, &res));
    CHECK(res == medleySuccess);
    ranks_meet(p->w, 2);
    __atomic_store_n(p->gate, 1, __ATOMIC_RELEASE);
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    return 0;
}

/* An abort while the stream has not come to the call, and one while it is in it. */
static int aborted(struct place *p)
{
    mdl_dev_event behind;

    if (p->rank != 2) OK(sum(p));
    ranks_meet(p->w, 1);
    if (p->rank == 0) {
        OK(medleyCommAbort(p->comm));
        p->comm = NULL;
        /* without an abort of the vendor's the stream goes on later: nobody waits for that */
        OK(p->dev.ops->event_create(p->dev.ops, &behind));
        OK(p->dev.ops->event_record(p->dev.ops, behind, home_stream()));
        CHECK(!groups_alike() || p->dev.ops->event_query(p->dev.ops, behind) == medleyInProgress);
        OK(p->dev.ops->event_destroy(p->dev.ops, behind));
    }
    if (p->rank == 1) CHECK(error_comes(p) == medleyRemoteError);
    OK(home_sync());
    ranks_meet(p->w, 2);
    if (p->comm) OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    return 0;
}

/* The communicator goes while a group has a call on it: the group's end finds it gone, and touches nothing of it. */
static int left_open(struct place *p)
{
    OK(medleyGroupStart());
    OK(sum(p));
    ranks_meet(p->w, 1);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    CHECK(medleyGroupEnd() != medleySuccess);
    OK(home_sync());
    return 0;
}

/* Rank 0 calls something else. */
static int mismatch(struct place *p)
{
    const medleyRedOp_t op = p->rank == 0 ? medleyMax : medleySum;
    medleyResult_t res = medleyAllReduce(p->in, p->out, COUNT, medleyFloat, op, p->comm, home_stream());

    CHECK(res == medleySuccess || res == medleyInvalidUsage); /* it may be known already */
    CHECK(error_comes(p) == medleyInvalidUsage);
    CHECK(strstr(medleyGetLastError(p->comm), "max") && strstr(medleyGetLastError(p->comm), "sum"));
    ranks_meet(p->w, 1);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    return 0;
}

/* ---- running them ---- */

static const struct test {
    const char *name;
    int (*run)(struct place *p);
    const char *variable, *value; /* set on rank `only`, or, if that is -1, on all */
    int only;
    int lost; /* a rank that does not come back; -1: none */
} tests[] = {
    {"used", used, "MEDLEY_NATIVE", "1", -1, -1},
    {"values", values, "MEDLEY_NATIVE", "1", -1, -1},
    {"unused", unused, "MEDLEY_NATIVE", NULL, -1, -1},
    {"one_is_off", one_is_off, "MEDLEY_NATIVE", "0", 1, -1},
    {"deterministic", unused, "MEDLEY_DETERMINISTIC", "1", -1, -1},
    {"versions", unused, "EMUL_FAULT", "cclversion@22000", 1, -1},
    {"no_init", unused, "EMUL_FAULT", "cclinit", 1, -1},
    {"host_buffers", host_buffers, "MEDLEY_NATIVE", "1", -1, -1},
    {"group", group, "MEDLEY_NATIVE", "1", -1, -1},
    {"same_peer", same_peer, "MEDLEY_NATIVE", "1", -1, -1},
    {"uneven", uneven, "MEDLEY_NATIVE", "1", -1, -1},
    {"made_at_once", made_at_once, "MEDLEY_INIT_TIMEOUT", "20s", -1, -1},
    {"default_stream", default_stream, "MEDLEY_NATIVE", "1", -1, -1},
    {"factors", factors, "MEDLEY_NATIVE", "1", -1, -1},
    {"turns", turns, "MEDLEY_NATIVE", "1", -1, -1},
    {"killed", killed, "MEDLEY_NATIVE", "1", -1, 2},
    {"asynchronous", asynchronous, "EMUL_FAULT", "cclasync@2", -1, -1},
    {"late", late, "MEDLEY_TIMEOUT", SHORT, -1, -1},
    {"late_message", late_message, "MEDLEY_STALL", "20ms", -1, -1},
    {"held", held, "MEDLEY_TIMEOUT", SHORT, -1, -1},
    {"aborted", aborted, "MEDLEY_NATIVE", "1", -1, -1},
    {"left_open", left_open, "MEDLEY_NATIVE", "1", -1, -1},
    {"left_open_staged", left_open, "MEDLEY_NATIVE", "0", -1, -1},
    {"mismatch", mismatch, "EMUL_STRICT", "0", -1, -1},
    {"lost_in_init", NULL, "EMUL_FAULT", "cclexit", 2, 2},
};

/* Rank 2 dies in the vendor's init: the others must not wait there for ever. */
static int lost_in_init(struct place *p, medleyResult_t res)
{
    CHECK(p->rank != 2 && res == medleyRemoteError);
    CHECK(strstr(medleyGetLastError(NULL), "rank 2") != NULL);
    return 0;
}

static int run_one(struct ranks_world *w, int rank, void *arg)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    const struct test *t = arg;
    struct place p = {.w = w, .rank = rank, .n = w->nranks};
    struct mdl_config cfg;
    medleyResult_t made;
    int res;

    if (t->value && (t->only < 0 || t->only == rank)) set_variable(t->variable, t->value);
    config.device = home_name(rank);
    OK(home_enter(config.device, true));
    OK(mdl_config_load(&cfg));
    OK(mdl_dev_find(&cfg, config.device, &p.dev));
    made = ranks_comm(w, rank, &config, &p.comm);
    if (!t->run) return lost_in_init(&p, made);
    OK(made);
    if (p.dev.caps & MDL_DEV_WORDS) OK(p.dev.ops->alloc_words(p.dev.ops, 1, &p.gate));
    p.in = home_take(3 * COUNT * sizeof(float));
    p.out = home_take(3 * COUNT * sizeof(float));
    ranks_meet(w, 0);
    res = t->run(&p);
    if (res) return res;
    if (t->lost < 0) ranks_meet(w, 15);
    OK(medleyCommDestroy(p.comm));
    if (p.gate) OK(p.dev.ops->free_words(p.dev.ops, 1, &p.gate));
    home_free(p.in);
    home_free(p.out);
    home_leave();
    return 0;
}

static bool is_bad(const struct test *t, const int *status)
{
    for (int r = 0; r < 3; r++)
        if (r != t->lost && status[r] != 0) return true;
    return false;
}

int main(int argc, char **argv)
{
    int failed = 0, ran = 0, status[3];

    for (int i = 1; i < argc; i++) {
        const struct test *t = NULL;
        bool bad, skip;
        if (strcmp(argv[i], "one_thread") == 0) {
            bad = ranks_run(1, false, native_one_thread, NULL, 30, NULL) != 0;
            printf("one_thread: %s\n", bad ? "FAILED" : "ok");
            failed += bad;
            ran++;
            continue;
        }
        for (size_t k = 0; k < sizeof(tests) / sizeof(tests[0]); k++)
            if (strcmp(tests[k].name, argv[i]) == 0) t = &tests[k];
        if (!t) return 2;
        fflush(stdout);
        short_ms = slack_short_ms(SHORT_MS);
        (void)ranks_run(3, false, run_one, (void *)(uintptr_t)t, 30, status);
        bad = is_bad(t, status);
        skip = bad && status[0] == SKIPPED;
        printf("%s: %s\n", t->name, skip ? "skipped: streams cannot wait for words" : bad ? "FAILED" : "ok");
        failed += bad && !skip;
        ran += !skip;
    }
    return failed ? 1 : ran ? 0 : SKIPPED;
}
