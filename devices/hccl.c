/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huawei Ascend's HCCL.
 *
 * What differs from NCCL: an id has 4108 bytes and travels by pointer; a broadcast has one buffer; there are no groups
 * but for messages; types have numbers of their own, and there is no average. Nothing ends what is on a stream but the
 * library's own time-out: there is no abort.
 *
 * Not certain: which types are reduced (those of its documents, which differ between generations of devices; no product
 * of bf16), the layout of a message in a batch (of public headers).
 */
#include "config.h"

#include "devices/calls.h"
#include "devices/native.h"
#include "lib/base/status.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { ID_BYTES = 4108, NONE = -1, SENDS = 0, RECEIVES = 1 };

#define HCCL_CALLS(CALL)                                                                                               \
    CALL(GET_ID, "HcclGetRootInfo", 1)                                                                                 \
    CALL(INIT, "HcclCommInitRootInfo", 1)                                                                              \
    CALL(DESTROY, "HcclCommDestroy", 1)                                                                                \
    CALL(ASYNC_ERROR, "HcclGetCommAsyncError", 0)                                                                      \
    CALL(ERROR_TEXT, "HcclGetErrorString", 0)                                                                          \
    CALL(ALL_REDUCE, "HcclAllReduce", 0)                                                                               \
    CALL(REDUCE, "HcclReduce", 0)                                                                                      \
    CALL(BROADCAST, "HcclBroadcast", 0)                                                                                \
    CALL(ALL_GATHER, "HcclAllGather", 0)                                                                               \
    CALL(REDUCE_SCATTER, "HcclReduceScatter", 0)                                                                       \
    CALL(ALL_TO_ALL, "HcclAlltoAll", 0)                                                                                \
    CALL(MESSAGES, "HcclBatchSendRecv", 0)

enum call {
#define CALL(id, name, needed) id,
    HCCL_CALLS(CALL)
#undef CALL
        NUM_CALLS
};

static const struct mdl_call calls[] = {
#define CALL(id, name, needed) {name, needed},
    HCCL_CALLS(CALL)
#undef CALL
};

static const int8_t types[medleyNumTypes] = {
    [medleyInt8] = 0,     [medleyUint8] = 7,   [medleyInt32] = 2,       [medleyUint32] = 9,
    [medleyInt64] = 5,    [medleyUint64] = 6,  [medleyFloat16] = 3,     [medleyFloat32] = 4,
    [medleyFloat64] = 10, [medleyBfloat16] = 11, [medleyFloat8e4m3] = 15, [medleyFloat8e5m2] = 16,
};
static const int8_t ops[medleyNumOps] = {
    [medleySum] = 0, [medleyProd] = 1, [medleyMax] = 2, [medleyMin] = 3, [medleyAvg] = NONE};

struct message {
    int kind;
    void *buffer;
    uint64_t count;
    int type;
    uint32_t peer;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *library, *fn[NUM_CALLS];
static struct mdl_native_caps bits;
static char bound_as[64];

#define HCCL(id, ...) ((int (*)(__VA_ARGS__))(uintptr_t)fn[id])

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
        uint32_t colls;
    } pairs[] = {
        {ALL_REDUCE, 1u << medleyCollAllReduce},         {REDUCE, 1u << medleyCollReduce},
        {BROADCAST, 1u << medleyCollBroadcast},          {ALL_GATHER, 1u << medleyCollAllGather},
        {REDUCE_SCATTER, 1u << medleyCollReduceScatter}, {ALL_TO_ALL, 1u << medleyCollAlltoAll},
        {MESSAGES, 1u << medleyCollSend | 1u << medleyCollRecv},
    };
    uint32_t sums = 1u << medleyInt8 | 1u << medleyInt32 | 1u << medleyInt64 | 1u << medleyFloat16 |
                    1u << medleyFloat32 | 1u << medleyBfloat16;

    bits = (struct mdl_native_caps){.ways = MDL_NATIVE_ONE_BUFFER, .id_bytes = ID_BYTES};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (fn[pairs[i].call]) bits.colls |= pairs[i].colls;
    bits.reduces[medleySum] = bits.reduces[medleyMax] = bits.reduces[medleyMin] = sums;
    bits.reduces[medleyProd] = sums & ~(1u << medleyBfloat16);
}

static bool bind(const char *where, char *why, size_t why_bytes)
{
    static const char *const names[] = {"libhccl.so", NULL};

    library = mdl_calls_open(where, "/usr/local/Ascend/ascend-toolkit/latest/lib64", names, bound_as, sizeof(bound_as),
                             why, why_bytes);
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

static medleyResult_t get_id(const struct mdl_native *n, void *id) { return check(GET_ID, HCCL(GET_ID, void *)(id)); }

static medleyResult_t init(const struct mdl_native *n, const void *id, int nranks, int rank, int ordinal, void **comm)
{
    return check(INIT, HCCL(INIT, uint32_t, const void *, uint32_t, void **)((uint32_t)nranks, id, (uint32_t)rank, comm));
}

static medleyResult_t destroy(const struct mdl_native *n, void *comm)
{
    return check(DESTROY, HCCL(DESTROY, void *)(comm));
}

static medleyResult_t async_error(const struct mdl_native *n, void *comm)
{
    int error = 0;

    if (!fn[ASYNC_ERROR]) return medleySuccess;
    MDL_TRY(check(ASYNC_ERROR, HCCL(ASYNC_ERROR, void *, int *)(comm, &error)));
    if (error == 0) return medleySuccess;
    return mdl_error(medleyUnhandledDeviceError, "HcclGetCommAsyncError: an operation failed: %d", error);
}

/* ---- calls ---- */

static medleyResult_t run(const struct mdl_native *n, void *comm, const struct mdl_native_call *a, mdl_dev_stream stream)
{
    void *in = (void *)(uintptr_t)a->in;
    uint64_t count = a->count;
    int type = types[a->dtype], op = ops[a->op];
    uint32_t root = (uint32_t)a->root;

#define REDUCE_ARGS void *, void *, uint64_t, int, int, void *, void *
    switch (a->coll) {
    case medleyCollAllReduce:
        return check(ALL_REDUCE, HCCL(ALL_REDUCE, REDUCE_ARGS)(in, a->out, count, type, op, comm, stream));
    case medleyCollReduceScatter:
        return check(REDUCE_SCATTER, HCCL(REDUCE_SCATTER, REDUCE_ARGS)(in, a->out, count, type, op, comm, stream));
    case medleyCollReduce:
        return check(REDUCE, HCCL(REDUCE, void *, void *, uint64_t, int, int, uint32_t, void *, void *)(
                                 in, a->out, count, type, op, root, comm, stream));
    case medleyCollBroadcast:
        return check(BROADCAST, HCCL(BROADCAST, void *, uint64_t, int, uint32_t, void *, void *)(a->out, count, type,
                                                                                                root, comm, stream));
    case medleyCollAllGather:
        return check(ALL_GATHER, HCCL(ALL_GATHER, void *, void *, uint64_t, int, void *, void *)(in, a->out, count, type,
                                                                                                comm, stream));
    case medleyCollAlltoAll:
        return check(ALL_TO_ALL,
                     HCCL(ALL_TO_ALL, const void *, uint64_t, int, const void *, uint64_t, int, void *, void *)(
                         in, count, type, a->out, count, type, comm, stream));
    default: return mdl_error(medleyInternalError, "HCCL has no call for collective %d", (int)a->coll);
    }
#undef REDUCE_ARGS
}

static medleyResult_t messages(const struct mdl_native *n, void *comm, const struct mdl_native_call *list, int ncalls,
                               mdl_dev_stream stream)
{
    struct message *all = calloc((size_t)ncalls, sizeof(*all));
    medleyResult_t res;

    if (!all) return mdl_error(medleySystemError, "out of memory for %d messages", ncalls);
    for (int i = 0; i < ncalls; i++) {
        bool sends = list[i].coll == medleyCollSend;
        all[i] = (struct message){
            .kind = sends ? SENDS : RECEIVES,
            .buffer = sends ? (void *)(uintptr_t)list[i].in : list[i].out,
            .count = list[i].count,
            .type = types[list[i].dtype],
            .peer = (uint32_t)list[i].root,
        };
    }
    res = check(MESSAGES,
                HCCL(MESSAGES, struct message *, uint32_t, void *, void *)(all, (uint32_t)ncalls, comm, stream));
    free(all);
    return res;
}

const struct mdl_native mdl_native_hccl = {
    .name = "hccl",
    .probe = probe,
    .caps = caps,
    .get_id = get_id,
    .init = init,
    .destroy = destroy,
    .async_error = async_error,
    .run = run,
    .messages = messages,
};
