/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cambricon's CNCL: the calls have NCCL's arguments, but communicators are made and destroyed in arrays, an id is 128
 * bytes with a hash behind them and travels by pointer, types have numbers of their own, and there is neither fp64 nor
 * average.
 *
 * Not certain: whether messages may stand in a group with collectives, so they never do.
 */
#include "config.h"

#include "devices/calls.h"
#include "devices/native.h"
#include "lib/base/status.h"

#include <pthread.h>
#include <stdio.h>

enum { ID_BYTES = 136, NONE = -1 };

#define CNCL_CALLS(CALL)                                                                                               \
    CALL(GET_ID, "cnclGetCliqueId", 1)                                                                                 \
    CALL(INIT, "cnclInitComms", 1)                                                                                     \
    CALL(DESTROY, "cnclDestroyComms", 1)                                                                               \
    CALL(ABORT, "cnclAbortComm", 0)                                                                                    \
    CALL(ASYNC_ERROR, "cnclGetCommAsyncError", 0)                                                                      \
    CALL(ERROR_TEXT, "cnclGetErrorStr", 0)                                                                             \
    CALL(ALL_REDUCE, "cnclAllReduce", 0)                                                                               \
    CALL(REDUCE, "cnclReduce", 0)                                                                                      \
    CALL(BROADCAST, "cnclBroadcast", 0)                                                                                \
    CALL(ALL_GATHER, "cnclAllGather", 0)                                                                               \
    CALL(REDUCE_SCATTER, "cnclReduceScatter", 0)                                                                       \
    CALL(SEND, "cnclSend", 0)                                                                                          \
    CALL(RECV, "cnclRecv", 0)                                                                                          \
    CALL(GROUP_START, "cnclGroupStart", 1)                                                                             \
    CALL(GROUP_END, "cnclGroupEnd", 1)

enum call {
#define CALL(id, name, needed) id,
    CNCL_CALLS(CALL)
#undef CALL
        NUM_CALLS
};

static const struct mdl_call calls[] = {
#define CALL(id, name, needed) {name, needed},
    CNCL_CALLS(CALL)
#undef CALL
};

static const int8_t types[medleyNumTypes] = {
    [medleyInt8] = 0x20,    [medleyUint8] = 0x30,    [medleyInt32] = 0x22,      [medleyUint32] = 0x32,
    [medleyInt64] = 0x23,   [medleyUint64] = 0x33,   [medleyFloat16] = 0x10,    [medleyFloat32] = 0x12,
    [medleyFloat64] = NONE, [medleyBfloat16] = 0x11, [medleyFloat8e4m3] = NONE, [medleyFloat8e5m2] = NONE,
};
static const int8_t ops[medleyNumOps] = {
    [medleySum] = 0, [medleyProd] = 1, [medleyMax] = 2, [medleyMin] = 3, [medleyAvg] = NONE};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *library, *fn[NUM_CALLS];
static struct mdl_native_caps bits;
static char bound_as[64];

#define CNCL(id, ...) ((int (*)(__VA_ARGS__))(uintptr_t)fn[id])

static medleyResult_t check(enum call call, int rc)
{
    const char *(*text)(int) = (const char *(*)(int))(uintptr_t)fn[ERROR_TEXT];
    const char *words = text && rc ? text(rc) : NULL;

    if (rc == 0) return medleySuccess;
    return mdl_error(medleyUnhandledDeviceError, "%s failed: %d (%s)", calls[call].name, rc, words ? words : "no text");
}

/* ---- binding ---- */

static void find_caps(void)
{
    static const struct {
        enum call call;
        medleyColl_t coll;
    } pairs[] = {
        {ALL_REDUCE, medleyCollAllReduce},         {REDUCE, medleyCollReduce}, {BROADCAST, medleyCollBroadcast},
        {ALL_GATHER, medleyCollAllGather},         {SEND, medleyCollSend},     {RECV, medleyCollRecv},
        {REDUCE_SCATTER, medleyCollReduceScatter},
    };

    bits = (struct mdl_native_caps){
        .ways = MDL_NATIVE_GROUPS | MDL_NATIVE_ONE_KIND | (fn[ABORT] ? MDL_NATIVE_ABORT : 0),
        .id_bytes = ID_BYTES,
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (fn[pairs[i].call]) bits.colls |= 1u << pairs[i].coll;
    for (int op = 0; op < medleyNumOps; op++)
        for (int type = 0; type < medleyNumTypes; type++)
            if (ops[op] != NONE && types[type] != NONE) bits.reduces[op] |= 1u << type;
}

static bool bind(const char *where, char *why, size_t why_bytes)
{
    static const char *const names[] = {"libcncl.so", NULL};

    library = mdl_calls_open(where, "/usr/local/neuware/lib64", names, bound_as, sizeof(bound_as), why, why_bytes);
    if (!library || !mdl_calls_bind(library, NULL, calls, NUM_CALLS, fn, why, why_bytes)) return false;
    find_caps();
    return true;
}

static medleyResult_t probe(const struct mdl_native *n, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    bool bound;

    pthread_mutex_lock(&lock);
    bound = bits.id_bytes || bind(where, why, why_bytes);
    if (bound) snprintf(found, found_bytes, "%s", bound_as);
    pthread_mutex_unlock(&lock);
    return bound ? medleySuccess : medleyInvalidUsage;
}

static const struct mdl_native_caps *caps(const struct mdl_native *n) { return &bits; }

/* ---- communicators ---- */

static medleyResult_t get_id(const struct mdl_native *n, void *id) { return check(GET_ID, CNCL(GET_ID, void *)(id)); }

static medleyResult_t init(const struct mdl_native *n, const void *id, int nranks, int rank, int ordinal, void **comm)
{
    return check(INIT, CNCL(INIT, void **, int, const int *, const int *, int, const void *)(comm, 1, &ordinal, &rank,
                                                                                           nranks, id));
}

static medleyResult_t destroy(const struct mdl_native *n, void *comm)
{
    return check(DESTROY, CNCL(DESTROY, void **, int)(&comm, 1));
}

static medleyResult_t abort_comm(const struct mdl_native *n, void *comm)
{
    return check(ABORT, CNCL(ABORT, void *)(comm));
}

/* What it returns is the error. */
static medleyResult_t async_error(const struct mdl_native *n, void *comm)
{
    return fn[ASYNC_ERROR] ? check(ASYNC_ERROR, CNCL(ASYNC_ERROR, void *)(comm)) : medleySuccess;
}

/* ---- calls ---- */

static medleyResult_t run(const struct mdl_native *n, void *comm, const struct mdl_native_call *a, mdl_dev_stream stream)
{
    int type = types[a->dtype], op = ops[a->op];
    void *in = (void *)(uintptr_t)a->in;

#define REDUCE_ARGS const void *, void *, size_t, int, int, void *, void *
    switch (a->coll) {
    case medleyCollAllReduce:
        return check(ALL_REDUCE, CNCL(ALL_REDUCE, REDUCE_ARGS)(in, a->out, a->count, type, op, comm, stream));
    case medleyCollReduceScatter:
        return check(REDUCE_SCATTER, CNCL(REDUCE_SCATTER, REDUCE_ARGS)(in, a->out, a->count, type, op, comm, stream));
    case medleyCollReduce:
        return check(REDUCE, CNCL(REDUCE, const void *, void *, size_t, int, int, int, void *, void *)(
                                 in, a->out, a->count, type, op, a->root, comm, stream));
    case medleyCollBroadcast:
        return check(BROADCAST, CNCL(BROADCAST, REDUCE_ARGS)(in, a->out, a->count, type, a->root, comm, stream));
    case medleyCollAllGather:
        return check(ALL_GATHER, CNCL(ALL_GATHER, const void *, void *, size_t, int, void *, void *)(
                                     in, a->out, a->count, type, comm, stream));
    case medleyCollSend:
        return check(SEND, CNCL(SEND, void *, size_t, int, int, void *, void *)(in, a->count, type, a->root, comm, stream));
    case medleyCollRecv:
        return check(RECV,
                     CNCL(RECV, void *, size_t, int, int, void *, void *)(a->out, a->count, type, a->root, comm, stream));
    default: return mdl_error(medleyInternalError, "CNCL has no call for collective %d", (int)a->coll);
    }
#undef REDUCE_ARGS
}

static medleyResult_t group_start(const struct mdl_native *n)
{
    return check(GROUP_START, CNCL(GROUP_START, void)());
}

static medleyResult_t group_end(const struct mdl_native *n) { return check(GROUP_END, CNCL(GROUP_END, void)()); }

/* A group is ended even if a call in it has failed. */
static medleyResult_t messages(const struct mdl_native *n, void *comm, const struct mdl_native_call *list, int ncalls,
                               mdl_dev_stream stream)
{
    medleyResult_t res, end;

    MDL_TRY(group_start(n));
    res = medleySuccess;
    for (int i = 0; res == medleySuccess && i < ncalls; i++) res = run(n, comm, &list[i], stream);
    end = group_end(n);
    return res == medleySuccess ? end : res;
}

const struct mdl_native mdl_native_cncl = {
    .name = "cncl",
    .probe = probe,
    .caps = caps,
    .get_id = get_id,
    .init = init,
    .destroy = destroy,
    .abort = abort_comm,
    .async_error = async_error,
    .run = run,
    .messages = messages,
    .group_start = group_start,
    .group_end = group_end,
};
