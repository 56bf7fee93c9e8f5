/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cambricon's CNCL: the calls have NCCL's arguments, but communicators are made and destroyed in arrays, an id is 128
 * bytes with a hash behind them and travels by pointer, types and results have numbers of their own, and there is
 * neither fp64 nor average.
 *
 * By the notes of its header: all processes make their communicators in the same order; a process may make communicators
 * of an id once, all that it has of it; a group is for messages; "in progress" is an asynchronous result that is no error.
 * Nothing is said of groups in groups, so there are none.
 */
#include "config.h"

#include "devices/calls.h"
#include "devices/ccl.h"
#include "devices/native.h"
#include "lib/base/status.h"

#include <stdio.h>

enum { ID_BYTES = 136 };
enum { IN_PROGRESS = 0x06, BAD_ARGUMENTS = 0x07, ASYNC_ERROR_RESULT = 0x16, NULL_POINTER = 0x21 };
#define NONE MDL_CCL_NONE

#define CNCL_CALLS(CALL)                                                                                               \
    CALL(GET_ID, "GetCliqueId", 1, NONE)                                                                               \
    CALL(INIT, "InitComms", 1, NONE)                                                                                   \
    CALL(DESTROY, "DestroyComms", 1, NONE)                                                                             \
    CALL(ABORT, "AbortComm", 0, NONE)                                                                                  \
    CALL(ASYNC_ERROR, "GetCommAsyncError", 0, NONE)                                                                    \
    CALL(LIB_VERSION, "GetLibVersion", 0, NONE)                                                                        \
    CALL(ERROR_TEXT, "GetErrorStr", 0, NONE)                                                                           \
    CALL(ALL_REDUCE, "AllReduce", 0, medleyCollAllReduce)                                                              \
    CALL(REDUCE, "Reduce", 0, medleyCollReduce)                                                                        \
    CALL(BROADCAST, "Broadcast", 0, medleyCollBroadcast)                                                               \
    CALL(ALL_GATHER, "AllGather", 0, medleyCollAllGather)                                                              \
    CALL(REDUCE_SCATTER, "ReduceScatter", 0, medleyCollReduceScatter)                                                  \
    CALL(ALL_TO_ALL, "AlltoAll", 0, medleyCollAlltoAll)                                                                \
    CALL(SEND, "Send", 0, medleyCollSend)                                                                              \
    CALL(RECV, "Recv", 0, medleyCollRecv)                                                                              \
    CALL(GROUP_START, "GroupStart", 1, NONE)                                                                           \
    CALL(GROUP_END, "GroupEnd", 1, NONE)

enum call {
#define CALL(id, stem, needed, coll) id,
    CNCL_CALLS(CALL)
#undef CALL
        NUM_CALLS
};

static const struct mdl_ccl_call calls[] = {
#define CALL(id, stem, needed, coll) {stem, needed, coll},
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

static medleyResult_t code_of(int rc)
{
    switch (rc) {
    case BAD_ARGUMENTS:
    case NULL_POINTER: return medleyInvalidArgument;
    case ASYNC_ERROR_RESULT: return medleyRemoteError;
    default: return medleyUnhandledDeviceError;
    }
}

static const struct mdl_ccl_shape shape = {
    .calls = calls, .ncalls = NUM_CALLS, .error_text = ERROR_TEXT, .code_of = code_of};
static struct mdl_ccl_state lib = {.lock = PTHREAD_MUTEX_INITIALIZER};
static _Thread_local int depth; /* groups that are open */

#define CNCL(id, ...) MDL_CCL_FN(&lib, id, __VA_ARGS__)

static medleyResult_t check(enum call call, int rc) { return mdl_ccl_check(&lib, (int)call, rc); }

/* ---- binding ---- */

static void find_caps(int version)
{
    lib.caps.ways = MDL_NATIVE_GROUPS | MDL_NATIVE_MESSAGES | MDL_NATIVE_ONE_RANK | MDL_NATIVE_ORDERED;
    if (lib.fn[ABORT]) lib.caps.ways |= MDL_NATIVE_ABORT;
    lib.caps.id_bytes = ID_BYTES;
    lib.caps.version = (uint32_t)version;
    mdl_ccl_reduces(&lib, types, ops);
}

static bool bind(const struct mdl_native *n, const char *where, char *why, size_t why_bytes)
{
    static const char *const names[] = {"libcncl.so", NULL};
    int major = 0, minor = 0, patch = 0;
    char path[48];

    lib.library = mdl_calls_open(where, "/usr/local/neuware/lib64", names, path, sizeof(path), why, why_bytes);
    if (!lib.library || !mdl_ccl_bind(&lib, &shape, "cncl", why, why_bytes)) return false;
    if (lib.fn[LIB_VERSION]) (void)CNCL(LIB_VERSION, int *, int *, int *)(&major, &minor, &patch);
    find_caps(major * 10000 + minor * 100 + patch);
    snprintf(lib.found, sizeof(lib.found), "%s version %d.%d.%d", path, major, minor, patch);
    return true;
}

static medleyResult_t probe(const struct mdl_native *n, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    return mdl_ccl_probe(&lib, n, bind, where, found, found_bytes, why, why_bytes);
}

static const struct mdl_native_caps *caps(const struct mdl_native *n) { return &lib.caps; }

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
    int error = lib.fn[ASYNC_ERROR] ? CNCL(ASYNC_ERROR, void *)(comm) : 0;

    return error == IN_PROGRESS ? medleySuccess : check(ASYNC_ERROR, error);
}

/* ---- calls ---- */

static medleyResult_t run(const struct mdl_native *n, void *comm, const struct mdl_native_call *a,
                          mdl_dev_stream stream)
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
        return check(REDUCE, CNCL(REDUCE, const void *, void *, size_t, int, int, int, void *,
                                  void *)(in, a->out, a->count, type, op, a->root, comm, stream));
    case medleyCollBroadcast:
        return check(BROADCAST, CNCL(BROADCAST, REDUCE_ARGS)(in, a->out, a->count, type, a->root, comm, stream));
    case medleyCollAllGather:
        return check(ALL_GATHER, CNCL(ALL_GATHER, const void *, void *, size_t, int, void *,
                                      void *)(in, a->out, a->count, type, comm, stream));
    case medleyCollAlltoAll:
        return check(ALL_TO_ALL, CNCL(ALL_TO_ALL, const void *, void *, size_t, int, void *,
                                      void *)(in, a->out, a->count, type, comm, stream));
    case medleyCollSend:
        return check(SEND,
                     CNCL(SEND, void *, size_t, int, int, void *, void *)(in, a->count, type, a->root, comm, stream));
    case medleyCollRecv:
        return check(
            RECV, CNCL(RECV, void *, size_t, int, int, void *, void *)(a->out, a->count, type, a->root, comm, stream));
    default: return mdl_error(medleyInternalError, "CNCL has no call for collective %d", (int)a->coll);
    }
#undef REDUCE_ARGS
}

static medleyResult_t group_start(const struct mdl_native *n)
{
    if (!depth) MDL_TRY(check(GROUP_START, CNCL(GROUP_START, void)()));
    depth++;
    return medleySuccess;
}

static medleyResult_t group_end(const struct mdl_native *n)
{
    return --depth ? medleySuccess : check(GROUP_END, CNCL(GROUP_END, void)());
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
    .messages = mdl_ccl_messages,
    .group_start = group_start,
    .group_end = group_end,
};
