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
#include "devices/nccl_family.h"
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
    CALL(VERSION, "GetLibVersion", 0, NONE)                                                                            \
    CALL(ERROR_TEXT, "GetErrorStr", 0, NONE)                                                                           \
    MDL_NCCL_STREAM_CALLS(CALL)

static const struct mdl_ccl_call calls[] = {
#define CALL(id, stem, needed, coll) [MDL_NCCL_##id] = {stem, needed, coll},
    CNCL_CALLS(CALL)
#undef CALL
};

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
    .calls = calls,
    .ncalls = MDL_NCCL_NUM_CALLS,
    .error_text = MDL_NCCL_ERROR_TEXT,
    .code_of = code_of,
    .types = {[medleyInt8] = 0x20,
              [medleyUint8] = 0x30,
              [medleyInt32] = 0x22,
              [medleyUint32] = 0x32,
              [medleyInt64] = 0x23,
              [medleyUint64] = 0x33,
              [medleyFloat16] = 0x10,
              [medleyFloat32] = 0x12,
              [medleyFloat64] = NONE,
              [medleyBfloat16] = 0x11,
              [medleyFloat8e4m3] = NONE,
              [medleyFloat8e5m2] = NONE},
    .ops = {[medleySum] = 0, [medleyProd] = 1, [medleyMax] = 2, [medleyMin] = 3, [medleyAvg] = NONE},
};
static struct mdl_ccl_state lib = {.lock = PTHREAD_MUTEX_INITIALIZER};
static _Thread_local int depth; /* groups that are open */

#define CNCL(id, ...) MDL_CCL_FN(&lib, MDL_NCCL_##id, __VA_ARGS__)
#define HAS(id)       (lib.fn[MDL_NCCL_##id] != NULL)

static medleyResult_t check(enum mdl_nccl_call call, int rc) { return mdl_ccl_check(&lib, (int)call, rc); }

/* ---- binding ---- */

static void find_caps(int version)
{
    lib.caps.ways = MDL_NATIVE_GROUPS | MDL_NATIVE_MESSAGES | MDL_NATIVE_ONE_RANK | MDL_NATIVE_ORDERED;
    if (HAS(ABORT)) lib.caps.ways |= MDL_NATIVE_ABORT;
    lib.caps.id_bytes = ID_BYTES;
    lib.caps.version = (uint32_t)version;
    mdl_ccl_reduces(&lib, UINT32_MAX);
}

static bool bind(const struct mdl_native *n, const char *where, char *why, size_t why_bytes)
{
    static const char *const names[] = {"libcncl.so", NULL};
    int major = 0, minor = 0, patch = 0;
    char path[48];

    lib.library = mdl_calls_open(where, "/usr/local/neuware/lib64", names, path, sizeof(path), why, why_bytes);
    if (!lib.library || !mdl_ccl_bind(&lib, &shape, "cncl", why, why_bytes)) return false;
    if (HAS(VERSION)) (void)CNCL(VERSION, int *, int *, int *)(&major, &minor, &patch);
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

static medleyResult_t get_id(const struct mdl_native *n, void *id)
{
    return check(MDL_NCCL_GET_ID, CNCL(GET_ID, void *)(id));
}

static medleyResult_t init(const struct mdl_native *n, const void *id, int nranks, int rank, int ordinal, void **comm)
{
    return check(MDL_NCCL_INIT, CNCL(INIT, void **, int, const int *, const int *, int,
                                     const void *)(comm, 1, &ordinal, &rank, nranks, id));
}

static medleyResult_t destroy(const struct mdl_native *n, void *comm)
{
    return check(MDL_NCCL_DESTROY, CNCL(DESTROY, void **, int)(&comm, 1));
}

/* What it returns is the error. */
static medleyResult_t async_error(const struct mdl_native *n, void *comm)
{
    int error = HAS(ASYNC_ERROR) ? CNCL(ASYNC_ERROR, void *)(comm) : 0;

    return error == IN_PROGRESS ? medleySuccess : check(MDL_NCCL_ASYNC_ERROR, error);
}

/* ---- groups ---- */

static medleyResult_t group_start(const struct mdl_native *n)
{
    if (!depth) MDL_TRY(check(MDL_NCCL_GROUP_START, CNCL(GROUP_START, void)()));
    depth++;
    return medleySuccess;
}

static medleyResult_t group_end(const struct mdl_native *n)
{
    return --depth ? medleySuccess : check(MDL_NCCL_GROUP_END, CNCL(GROUP_END, void)());
}

static const struct mdl_nccl_vendor vendor = {.state = &lib}; /* for mdl_nccl_abort and mdl_nccl_run */

const struct mdl_native mdl_native_cncl = {
    .name = "cncl",
    .self = &vendor,
    .probe = probe,
    .caps = caps,
    .get_id = get_id,
    .init = init,
    .destroy = destroy,
    .abort = mdl_nccl_abort,
    .async_error = async_error,
    .run = mdl_nccl_run,
    .messages = mdl_ccl_messages,
    .group_start = group_start,
    .group_end = group_end,
};
