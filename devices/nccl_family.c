/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls the collective libraries of NCCL's shape (nccl_family.h); no vendor's name is in this file.
 *
 * An id travels by value, as a structure of its 128 bytes. The 8-bit floats are moved and never reduced: whether a
 * library does depends on the device, which the ranks do not compare.
 */
#include "config.h"

#include "devices/nccl_family.h"
#include "devices/bind.h"
#include "lib/base/status.h"

#include <stdio.h>
#include <string.h>

enum { ID_BYTES = 128, TEXT_BYTES = 512 };
enum { SCALAR_DEVICE = 0, SCALAR_HOST_IMMEDIATE = 1 };
enum { INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE = 6, IN_PROGRESS = 7 };

struct id {
    char bytes[ID_BYTES];
};

#define NONE MDL_CCL_NONE
static const struct mdl_ccl_call calls[] = {
#define CALL(id, stem, needed, coll) {stem, needed, coll},
    MDL_NCCL_CALLS(CALL)
#undef CALL
};
_Static_assert(MDL_NCCL_NUM_CALLS <= (int)MDL_CCL_CALLS_MOST, "mdl_ccl_state has too little room");

static medleyResult_t code_of(int rc)
{
    switch (rc) {
    case INVALID_ARGUMENT: return medleyInvalidArgument;
    case INVALID_USAGE: return medleyInvalidUsage;
    case REMOTE: return medleyRemoteError;
    default: return medleyUnhandledDeviceError;
    }
}

static const struct mdl_ccl_shape shape = {
    .calls = calls,
    .ncalls = MDL_NCCL_NUM_CALLS,
    .error_text = MDL_NCCL_ERROR_TEXT,
    .code_of = code_of,
    .types = {[medleyInt8] = 0,
              [medleyUint8] = 1,
              [medleyInt32] = 2,
              [medleyUint32] = 3,
              [medleyInt64] = 4,
              [medleyUint64] = 5,
              [medleyFloat16] = 6,
              [medleyFloat32] = 7,
              [medleyFloat64] = 8,
              [medleyBfloat16] = 9,
              [medleyFloat8e4m3] = 10,
              [medleyFloat8e5m2] = 11},
    .ops = {[medleySum] = 0, [medleyProd] = 1, [medleyMax] = 2, [medleyMin] = 3, [medleyAvg] = 4},
};

static const struct mdl_nccl_vendor *vendor_of(const struct mdl_native *n) { return n->self; }
static struct mdl_ccl_state *state_of(const struct mdl_native *n) { return vendor_of(n)->state; }

#define FN(n, id, ...) MDL_CCL_FN(state_of(n), MDL_NCCL_##id, __VA_ARGS__)
#define HAS(s, id)     ((s)->fn[MDL_NCCL_##id] != NULL)

static medleyResult_t check(const struct mdl_native *n, enum mdl_nccl_call call, int rc)
{
    return mdl_ccl_check(state_of(n), (int)call, rc);
}

/* ---- binding ---- */

static bool is_foreign(const struct mdl_nccl_vendor *v, char *why, size_t why_bytes)
{
    for (const char *const *name = v->foreign; name && *name; name++) {
        if (!mdl_bind_symbol(v->state->library, "", *name)) continue;
        snprintf(why, why_bytes, "the library is another vendor's: it comes with %s", *name);
        return true;
    }
    return false;
}

static uint32_t bit(int i) { return (uint32_t)1 << i; }

static void find_caps(const struct mdl_nccl_vendor *v, int version)
{
    struct mdl_ccl_state *s = v->state;
    uint32_t wide = bit(medleyInt64) | bit(medleyUint64) | bit(medleyFloat64);
    uint32_t types = bit(medleyInt8) | bit(medleyUint8) | bit(medleyInt32) | bit(medleyUint32) | bit(medleyFloat16) |
                     bit(medleyFloat32) | bit(medleyBfloat16) | (v->narrow ? 0 : wide);

    s->caps.ways = MDL_NATIVE_GROUPS | v->ways | (HAS(s, ABORT) ? MDL_NATIVE_ABORT : 0) |
                   (HAS(s, MAKE_PREMUL) && HAS(s, DROP_OP) ? MDL_NATIVE_FACTORS : 0);
    s->caps.id_bytes = ID_BYTES;
    s->caps.version = (uint32_t)version;
    mdl_ccl_reduces(s, types);
    if (!(v->average_since && version >= v->average_since)) s->caps.reduces[medleyAvg] = 0;
}

static void *open_in_folders(const struct mdl_nccl_vendor *v, char *path, size_t path_bytes)
{
    char unused[TEXT_BYTES];

    for (const char *const *folder = v->folders; folder && *folder; folder++) {
        void *library = mdl_bind_open(*folder, v->libraries, path, path_bytes, unused, sizeof(unused));
        if (library) return library;
    }
    return NULL;
}

/* The library need not come with the runtime: if it is not in its folder, it is looked for elsewhere, on a machine that
 * has such devices. */
static void *open_library(const struct mdl_nccl_vendor *v, const char *where, char *path, size_t path_bytes, char *why,
                          size_t why_bytes)
{
    char unused[TEXT_BYTES];
    void *library = NULL;

    if (where) library = mdl_bind_open(where, v->libraries, path, path_bytes, why, why_bytes);
    if (library || (where && v->nodes && !mdl_bind_has_node(v->nodes, unused, sizeof(unused)))) return library;
    if (where && !v->nodes) return NULL;
    library = open_in_folders(v, path, path_bytes);
    if (!library && !v->folders_only) library = mdl_bind_open(NULL, v->libraries, path, path_bytes, why, why_bytes);
    if (!library && v->folders_only && !where)
        snprintf(why, why_bytes, "no %s in the vendor's folders", v->libraries[0]);
    return library;
}

static bool bind(const struct mdl_native *n, const char *where, char *why, size_t why_bytes)
{
    const struct mdl_nccl_vendor *v = vendor_of(n);
    struct mdl_ccl_state *s = v->state;
    char path[48] = "";
    int version = 0;

    s->library = open_library(v, where, path, sizeof(path), why, why_bytes);
    if (!s->library || is_foreign(v, why, why_bytes)) return false;
    if (!mdl_ccl_bind(s, &shape, v->prefix, why, why_bytes) &&
        !(v->older && mdl_ccl_bind(s, &shape, v->older, why, why_bytes)))
        return false;
    if (HAS(s, VERSION)) (void)FN(n, VERSION, int *)(&version);
    find_caps(v, version);
    snprintf(s->found, sizeof(s->found), "%s version %d", path, version);
    return true;
}

medleyResult_t mdl_nccl_probe(const struct mdl_native *n, const char *where, char *found, size_t found_bytes, char *why,
                              size_t why_bytes)
{
    return mdl_ccl_probe(state_of(n), n, bind, where, found, found_bytes, why, why_bytes);
}

const struct mdl_native_caps *mdl_nccl_caps(const struct mdl_native *n) { return &state_of(n)->caps; }

/* ---- communicators ---- */

medleyResult_t mdl_nccl_get_id(const struct mdl_native *n, void *id)
{
    return check(n, MDL_NCCL_GET_ID, FN(n, GET_ID, void *)(id));
}

medleyResult_t mdl_nccl_init(const struct mdl_native *n, const void *id, int nranks, int rank, int ordinal, void **comm)
{
    struct id value;

    memcpy(&value, id, sizeof(value));
    return check(n, MDL_NCCL_INIT, FN(n, INIT, void **, int, struct id, int)(comm, nranks, value, rank));
}

medleyResult_t mdl_nccl_destroy(const struct mdl_native *n, void *comm)
{
    return check(n, MDL_NCCL_DESTROY, FN(n, DESTROY, void *)(comm));
}

medleyResult_t mdl_nccl_abort(const struct mdl_native *n, void *comm)
{
    return check(n, MDL_NCCL_ABORT, FN(n, ABORT, void *)(comm));
}

medleyResult_t mdl_nccl_async_error(const struct mdl_native *n, void *comm)
{
    int error = 0;

    if (!HAS(state_of(n), ASYNC_ERROR)) return medleySuccess;
    MDL_TRY(check(n, MDL_NCCL_ASYNC_ERROR, FN(n, ASYNC_ERROR, void *, int *)(comm, &error)));
    return error == 0 || error == IN_PROGRESS ? medleySuccess
                                              : mdl_ccl_report(state_of(n), "CommGetAsyncError: an operation", error);
}

/* ---- calls ---- */

static medleyResult_t run(const struct mdl_native *n, void *comm, const struct mdl_native_call *a, int op,
                          mdl_dev_stream stream)
{
    int type = mdl_ccl_type(state_of(n), a->dtype);

#define MOVE   const void *, void *, size_t, int, void *, void *
#define REDUCE const void *, void *, size_t, int, int, void *, void *
    switch (a->coll) {
    case medleyCollAllReduce:
        return check(n, MDL_NCCL_ALL_REDUCE,
                     FN(n, ALL_REDUCE, REDUCE)(a->in, a->out, a->count, type, op, comm, stream));
    case medleyCollReduceScatter:
        return check(n, MDL_NCCL_REDUCE_SCATTER,
                     FN(n, REDUCE_SCATTER, REDUCE)(a->in, a->out, a->count, type, op, comm, stream));
    case medleyCollReduce:
        return check(n, MDL_NCCL_REDUCE,
                     FN(n, REDUCE, const void *, void *, size_t, int, int, int, void *,
                        void *)(a->in, a->out, a->count, type, op, a->root, comm, stream));
    case medleyCollBroadcast:
        return check(n, MDL_NCCL_BROADCAST,
                     FN(n, BROADCAST, REDUCE)(a->in, a->out, a->count, type, a->root, comm, stream));
    case medleyCollAllGather:
        return check(n, MDL_NCCL_ALL_GATHER, FN(n, ALL_GATHER, MOVE)(a->in, a->out, a->count, type, comm, stream));
    case medleyCollAlltoAll:
        return check(n, MDL_NCCL_ALL_TO_ALL, FN(n, ALL_TO_ALL, MOVE)(a->in, a->out, a->count, type, comm, stream));
    case medleyCollSend:
        return check(
            n, MDL_NCCL_SEND,
            FN(n, SEND, const void *, size_t, int, int, void *, void *)(a->in, a->count, type, a->root, comm, stream));
    case medleyCollRecv:
        return check(
            n, MDL_NCCL_RECV,
            FN(n, RECV, void *, size_t, int, int, void *, void *)(a->out, a->count, type, a->root, comm, stream));
    default: return mdl_error(medleyInternalError, "%s has no call for collective %d", n->name, (int)a->coll);
    }
#undef MOVE
#undef REDUCE
}

/* An operation may go as soon as the call with it has returned, in a group too. */
medleyResult_t mdl_nccl_run(const struct mdl_native *n, void *comm, const struct mdl_native_call *a,
                            mdl_dev_stream stream)
{
    int op, type = mdl_ccl_type(state_of(n), a->dtype),
            residence = a->factor_of_device ? SCALAR_DEVICE : SCALAR_HOST_IMMEDIATE;
    medleyResult_t res, dropped;

    if (!a->factor) return run(n, comm, a, mdl_ccl_op(state_of(n), a->op), stream);
    MDL_TRY(check(n, MDL_NCCL_MAKE_PREMUL,
                  FN(n, MAKE_PREMUL, int *, const void *, int, int, void *)(&op, a->factor, type, residence, comm)));
    res = run(n, comm, a, op, stream);
    dropped = check(n, MDL_NCCL_DROP_OP, FN(n, DROP_OP, int, void *)(op, comm));
    return res == medleySuccess ? dropped : res;
}

medleyResult_t mdl_nccl_group_start(const struct mdl_native *n)
{
    return check(n, MDL_NCCL_GROUP_START, FN(n, GROUP_START, void)());
}

medleyResult_t mdl_nccl_group_end(const struct mdl_native *n)
{
    return check(n, MDL_NCCL_GROUP_END, FN(n, GROUP_END, void)());
}
