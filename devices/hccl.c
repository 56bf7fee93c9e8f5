/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huawei Ascend's HCCL.
 *
 * What differs from NCCL: an id has 4108 bytes and travels by pointer; a broadcast has one buffer; there are no groups
 * but for messages; types have numbers of their own, and there is no average; a reduce wants a receive buffer of all
 * ranks, and every call a stream of the caller's. Nothing ends what is on a stream but the library's own time-out:
 * there is no abort.
 *
 * A batch of messages holds one for each peer and direction, ends as a whole, and works on them in an order of its own.
 * So ends that put the same messages into different batches would wait for each other, and what one end has in a group
 * the other does not know: the user's messages do not pass through. Collectives that are made of messages are the same
 * batch on all ranks.
 *
 * Its deadlines are read from the environment, once in a process, when it is bound: Medley's own are put there where
 * the user has put none, so that a call which has failed lets its stream go not much later.
 *
 * Not certain: which types are reduced (those of its documents, which differ between generations of devices; no product
 * of bf16).
 */
#include "config.h"

#include "devices/calls.h"
#include "devices/ccl.h"
#include "devices/native.h"
#include "lib/base/config.h"
#include "lib/base/status.h"

#include <stdio.h>
#include <stdlib.h>

enum { ID_BYTES = 4108, SENDS = 0, RECEIVES = 1, TIMED_OUT = 9, REMOTE = 21, LATER_S = 10 };
#define NONE MDL_CCL_NONE

#define HCCL_CALLS(CALL)                                                                                               \
    CALL(GET_ID, "GetRootInfo", 1, NONE)                                                                               \
    CALL(INIT, "CommInitRootInfo", 1, NONE)                                                                            \
    CALL(DESTROY, "CommDestroy", 1, NONE)                                                                              \
    CALL(ASYNC_ERROR, "GetCommAsyncError", 0, NONE)                                                                    \
    CALL(ERROR_TEXT, "GetErrorString", 0, NONE)                                                                        \
    CALL(ALL_REDUCE, "AllReduce", 0, medleyCollAllReduce)                                                              \
    CALL(REDUCE, "Reduce", 0, medleyCollReduce)                                                                        \
    CALL(BROADCAST, "Broadcast", 0, medleyCollBroadcast)                                                               \
    CALL(ALL_GATHER, "AllGather", 0, medleyCollAllGather)                                                              \
    CALL(REDUCE_SCATTER, "ReduceScatter", 0, medleyCollReduceScatter)                                                  \
    CALL(ALL_TO_ALL, "AlltoAll", 0, medleyCollAlltoAll)                                                                \
    CALL(MESSAGES, "BatchSendRecv", 0, medleyCollSend)

enum call {
#define CALL(id, stem, needed, coll) id,
    HCCL_CALLS(CALL)
#undef CALL
        NUM_CALLS
};

static const struct mdl_ccl_call calls[] = {
#define CALL(id, stem, needed, coll) {stem, needed, coll},
    HCCL_CALLS(CALL)
#undef CALL
};

struct message {
    int kind;
    void *buffer;
    uint64_t count;
    int type;
    uint32_t peer;
};

static medleyResult_t code_of(int rc)
{
    switch (rc) {
    case TIMED_OUT: return medleyTimeout;
    case REMOTE: return medleyRemoteError;
    default: return medleyUnhandledDeviceError;
    }
}

static const struct mdl_ccl_shape shape = {
    .calls = calls,
    .ncalls = NUM_CALLS,
    .error_text = ERROR_TEXT,
    .code_of = code_of,
    .types = {[medleyInt8] = 0,
              [medleyUint8] = 7,
              [medleyInt32] = 2,
              [medleyUint32] = 9,
              [medleyInt64] = 5,
              [medleyUint64] = 6,
              [medleyFloat16] = 3,
              [medleyFloat32] = 4,
              [medleyFloat64] = 10,
              [medleyBfloat16] = 11,
              [medleyFloat8e4m3] = 15,
              [medleyFloat8e5m2] = 16},
    .ops = {[medleySum] = 0, [medleyProd] = 1, [medleyMax] = 2, [medleyMin] = 3, [medleyAvg] = NONE},
};
static struct mdl_ccl_state lib = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define HCCL(id, ...) MDL_CCL_FN(&lib, id, __VA_ARGS__)

static medleyResult_t check(enum call call, int rc) { return mdl_ccl_check(&lib, (int)call, rc); }

/* ---- binding ---- */

static void find_caps(void)
{
    uint32_t types = 1u << medleyInt8 | 1u << medleyInt32 | 1u << medleyInt64 | 1u << medleyFloat16 |
                     1u << medleyFloat32 | 1u << medleyBfloat16;

    lib.caps.ways = MDL_NATIVE_ONE_BUFFER | MDL_NATIVE_REDUCE_OUT | MDL_NATIVE_STREAM | MDL_NATIVE_ALIKE;
    lib.caps.id_bytes = ID_BYTES;
    if (lib.fn[MESSAGES]) lib.caps.colls |= 1u << medleyCollRecv;
    mdl_ccl_reduces(&lib, types);
    lib.caps.reduces[medleyProd] &= ~(1u << medleyBfloat16);
}

static void follow(const char *name, uint64_t ms, unsigned least, unsigned most)
{
    uint64_t seconds = ms / 1000 + LATER_S;
    char text[24];

    if (!ms || seconds > most) seconds = most;
    if (seconds < least) seconds = least;
    snprintf(text, sizeof(text), "%llu", (unsigned long long)seconds);
    (void)setenv(name, text, 0);
}

/* Seconds, in ranges that all versions take. Medley's deadline comes first, since it names who is late. */
static void follow_deadlines(void)
{
    struct mdl_config cfg;

    if (mdl_config_load(&cfg) != medleySuccess) return;
    follow("HCCL_EXEC_TIMEOUT", (uint64_t)cfg.timeout, 68, 17340);
    follow("HCCL_CONNECT_TIMEOUT", (uint64_t)cfg.init_timeout, 120, 7200);
}

static bool bind(const struct mdl_native *n, const char *where, char *why, size_t why_bytes)
{
    static const char *const names[] = {"libhccl.so", NULL};
    char path[64];

    follow_deadlines();
    lib.library = mdl_calls_open(where, "/usr/local/Ascend/ascend-toolkit/latest/lib64", names, path, sizeof(path), why,
                                 why_bytes);
    if (!lib.library || !mdl_ccl_bind(&lib, &shape, "Hccl", why, why_bytes)) return false;
    find_caps();
    snprintf(lib.found, sizeof(lib.found), "%s", path);
    return true;
}

static medleyResult_t probe(const struct mdl_native *n, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    return mdl_ccl_probe(&lib, n, bind, where, found, found_bytes, why, why_bytes);
}

static const struct mdl_native_caps *caps(const struct mdl_native *n) { return &lib.caps; }

/* ---- communicators ---- */

static medleyResult_t get_id(const struct mdl_native *n, void *id) { return check(GET_ID, HCCL(GET_ID, void *)(id)); }

static medleyResult_t init(const struct mdl_native *n, const void *id, int nranks, int rank, int ordinal, void **comm)
{
    return check(INIT,
                 HCCL(INIT, uint32_t, const void *, uint32_t, void **)((uint32_t)nranks, id, (uint32_t)rank, comm));
}

static medleyResult_t destroy(const struct mdl_native *n, void *comm)
{
    return check(DESTROY, HCCL(DESTROY, void *)(comm));
}

static medleyResult_t async_error(const struct mdl_native *n, void *comm)
{
    int error = 0;

    if (!lib.fn[ASYNC_ERROR]) return medleySuccess;
    MDL_TRY(check(ASYNC_ERROR, HCCL(ASYNC_ERROR, void *, int *)(comm, &error)));
    if (error == 0) return medleySuccess;
    return mdl_ccl_report(&lib, "GetCommAsyncError: an operation", error);
}

/* ---- calls ---- */

static medleyResult_t run(const struct mdl_native *n, void *comm, const struct mdl_native_call *a,
                          mdl_dev_stream stream)
{
    void *in = (void *)(uintptr_t)a->in;
    uint64_t count = a->count;
    int type = mdl_ccl_type(&lib, a->dtype), op = mdl_ccl_op(&lib, a->op);
    uint32_t root = (uint32_t)a->root;

#define REDUCE_ARGS void *, void *, uint64_t, int, int, void *, void *
    switch (a->coll) {
    case medleyCollAllReduce:
        return check(ALL_REDUCE, HCCL(ALL_REDUCE, REDUCE_ARGS)(in, a->out, count, type, op, comm, stream));
    case medleyCollReduceScatter:
        return check(REDUCE_SCATTER, HCCL(REDUCE_SCATTER, REDUCE_ARGS)(in, a->out, count, type, op, comm, stream));
    case medleyCollReduce:
        return check(REDUCE, HCCL(REDUCE, void *, void *, uint64_t, int, int, uint32_t, void *,
                                  void *)(in, a->out, count, type, op, root, comm, stream));
    case medleyCollBroadcast:
        return check(BROADCAST, HCCL(BROADCAST, void *, uint64_t, int, uint32_t, void *, void *)(a->out, count, type,
                                                                                                 root, comm, stream));
    case medleyCollAllGather:
        return check(ALL_GATHER, HCCL(ALL_GATHER, void *, void *, uint64_t, int, void *, void *)(in, a->out, count,
                                                                                                 type, comm, stream));
    case medleyCollAlltoAll:
        return check(ALL_TO_ALL, HCCL(ALL_TO_ALL, const void *, uint64_t, int, const void *, uint64_t, int, void *,
                                      void *)(in, count, type, a->out, count, type, comm, stream));
    default: return mdl_error(medleyInternalError, "HCCL has no call for collective %d", (int)a->coll);
    }
#undef REDUCE_ARGS
}

/* At most one to each peer and from each, and the same ones at the other ends (MDL_NATIVE_ALIKE). */
static medleyResult_t messages(const struct mdl_native *n, void *comm, const struct mdl_native_call *list, int ncalls,
                               mdl_dev_stream stream)
{
    struct message *batch = calloc((size_t)ncalls, sizeof(*batch));
    medleyResult_t res;

    if (!batch) return mdl_error(medleySystemError, "out of memory for %d messages", ncalls);
    for (int i = 0; i < ncalls; i++) {
        bool sends = list[i].coll == medleyCollSend;
        batch[i] = (struct message){
            .kind = sends ? SENDS : RECEIVES,
            .buffer = sends ? (void *)(uintptr_t)list[i].in : list[i].out,
            .count = list[i].count,
            .type = mdl_ccl_type(&lib, list[i].dtype),
            .peer = (uint32_t)list[i].root,
        };
    }
    res = check(MESSAGES,
                HCCL(MESSAGES, struct message *, uint32_t, void *, void *)(batch, (uint32_t)ncalls, comm, stream));
    free(batch);
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
