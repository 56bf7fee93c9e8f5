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
enum { INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE = 6, IN_PROGRESS = 7 };

struct id {
    char bytes[ID_BYTES];
};

static const struct {
    const char *stem;
    bool needed;
} calls[] = {
#define CALL(id, stem, needed) {stem, needed},
    MDL_NCCL_CALLS(CALL)
#undef CALL
};

static const struct mdl_nccl_vendor *vendor_of(const struct mdl_native *n) { return n->self; }
static struct mdl_nccl_state *state_of(const struct mdl_native *n) { return vendor_of(n)->state; }

#define FN(n, id, ...) ((int (*)(__VA_ARGS__))(uintptr_t)state_of(n)->fn[MDL_NCCL_##id])
#define HAS(s, id)     ((s)->fn[MDL_NCCL_##id] != NULL)

static medleyResult_t code_of(int rc)
{
    switch (rc) {
    case INVALID_ARGUMENT: return medleyInvalidArgument;
    case INVALID_USAGE: return medleyInvalidUsage;
    case REMOTE: return medleyRemoteError;
    default: return medleyUnhandledDeviceError;
    }
}

static medleyResult_t report(const struct mdl_native *n, const char *stem, int rc)
{
    const struct mdl_nccl_state *s = state_of(n);
    const char *(*text)(int) = (const char *(*)(int))(uintptr_t)s->fn[MDL_NCCL_ERROR_TEXT];
    const char *words = text ? text(rc) : NULL;

    return mdl_error(code_of(rc), "%s%s failed: %d (%s)", s->prefix, stem, rc, words ? words : "no text");
}

static medleyResult_t check(const struct mdl_native *n, enum mdl_nccl_call call, int rc)
{
    return rc == 0 ? medleySuccess : report(n, calls[call].stem, rc);
}

/* ---- binding ---- */

static bool bind_calls(struct mdl_nccl_state *s, const char *prefix, char *why, size_t why_bytes)
{
    for (int i = 0; i < MDL_NCCL_NUM_CALLS; i++) {
        s->fn[i] = mdl_bind_symbol(s->library, prefix, calls[i].stem);
        if (s->fn[i] || !calls[i].needed) continue;
        snprintf(why, why_bytes, "the library has no %s%s", prefix, calls[i].stem);
        return false;
    }
    s->prefix = prefix;
    return true;
}

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

static void find_colls(const struct mdl_nccl_state *s, struct mdl_native_caps *caps)
{
    static const struct {
        enum mdl_nccl_call call;
        medleyColl_t coll;
    } pairs[] = {
        {MDL_NCCL_ALL_REDUCE, medleyCollAllReduce},         {MDL_NCCL_REDUCE, medleyCollReduce},
        {MDL_NCCL_BROADCAST, medleyCollBroadcast},          {MDL_NCCL_ALL_GATHER, medleyCollAllGather},
        {MDL_NCCL_REDUCE_SCATTER, medleyCollReduceScatter}, {MDL_NCCL_ALL_TO_ALL, medleyCollAlltoAll},
        {MDL_NCCL_SEND, medleyCollSend},                    {MDL_NCCL_RECV, medleyCollRecv},
    };

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (s->fn[pairs[i].call]) caps->colls |= bit(pairs[i].coll);
}

static void find_caps(const struct mdl_nccl_vendor *v)
{
    struct mdl_nccl_state *s = v->state;
    uint32_t wide = bit(medleyInt64) | bit(medleyUint64) | bit(medleyFloat64);
    uint32_t types = bit(medleyInt8) | bit(medleyUint8) | bit(medleyInt32) | bit(medleyUint32) | bit(medleyFloat16) |
                     bit(medleyFloat32) | bit(medleyBfloat16) | (v->narrow ? 0 : wide);

    s->caps = (struct mdl_native_caps){
        .ways = MDL_NATIVE_GROUPS | v->ways | (HAS(s, ABORT) ? MDL_NATIVE_ABORT : 0),
        .id_bytes = ID_BYTES,
        .version = (uint32_t)s->version,
    };
    find_colls(s, &s->caps);
    for (int op = medleySum; op <= medleyMin; op++) s->caps.reduces[op] = types;
    if (v->average_since && s->version >= v->average_since) s->caps.reduces[medleyAvg] = types;
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
    if (!library && v->folders_only && !where) snprintf(why, why_bytes, "no %s in the vendor's folders", v->libraries[0]);
    return library;
}

static bool bind(const struct mdl_native *n, const char *where, char *why, size_t why_bytes)
{
    const struct mdl_nccl_vendor *v = vendor_of(n);
    struct mdl_nccl_state *s = v->state;
    char path[48] = "";

    s->library = open_library(v, where, path, sizeof(path), why, why_bytes);
    if (!s->library || is_foreign(v, why, why_bytes)) return false;
    if (!bind_calls(s, v->prefix, why, why_bytes) &&
        !(v->older && bind_calls(s, v->older, why, why_bytes)))
        return false;
    s->version = 0;
    if (HAS(s, VERSION)) (void)FN(n, VERSION, int *)(&s->version);
    find_caps(v);
    snprintf(s->found, sizeof(s->found), "%s version %d", path, s->version);
    return true;
}

medleyResult_t mdl_nccl_probe(const struct mdl_native *n, const char *where, char *found, size_t found_bytes, char *why,
                              size_t why_bytes)
{
    struct mdl_nccl_state *s = state_of(n);
    bool bound;

    pthread_mutex_lock(&s->lock);
    bound = s->found[0] || bind(n, where, why, why_bytes);
    if (!bound) {
        mdl_bind_close(s->library);
        s->library = NULL;
    }
    snprintf(found, found_bytes, "%s", s->found);
    pthread_mutex_unlock(&s->lock);
    return bound ? medleySuccess : medleyInvalidUsage;
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
    return error == 0 || error == IN_PROGRESS ? medleySuccess : report(n, "CommGetAsyncError: an operation", error);
}

/* ---- calls ---- */

medleyResult_t mdl_nccl_run(const struct mdl_native *n, void *comm, const struct mdl_native_call *a,
                            mdl_dev_stream stream)
{
    int type = (int)a->dtype, op = (int)a->op;

#define MOVE   const void *, void *, size_t, int, void *, void *
#define REDUCE const void *, void *, size_t, int, int, void *, void *
    switch (a->coll) {
    case medleyCollAllReduce:
        return check(n, MDL_NCCL_ALL_REDUCE, FN(n, ALL_REDUCE, REDUCE)(a->in, a->out, a->count, type, op, comm, stream));
    case medleyCollReduceScatter:
        return check(n, MDL_NCCL_REDUCE_SCATTER,
                     FN(n, REDUCE_SCATTER, REDUCE)(a->in, a->out, a->count, type, op, comm, stream));
    case medleyCollReduce:
        return check(n, MDL_NCCL_REDUCE,
                     FN(n, REDUCE, const void *, void *, size_t, int, int, int, void *, void *)(
                         a->in, a->out, a->count, type, op, a->root, comm, stream));
    case medleyCollBroadcast:
        return check(n, MDL_NCCL_BROADCAST,
                     FN(n, BROADCAST, REDUCE)(a->in, a->out, a->count, type, a->root, comm, stream));
    case medleyCollAllGather:
        return check(n, MDL_NCCL_ALL_GATHER, FN(n, ALL_GATHER, MOVE)(a->in, a->out, a->count, type, comm, stream));
    case medleyCollAlltoAll:
        return check(n, MDL_NCCL_ALL_TO_ALL, FN(n, ALL_TO_ALL, MOVE)(a->in, a->out, a->count, type, comm, stream));
    case medleyCollSend:
        return check(n, MDL_NCCL_SEND, FN(n, SEND, const void *, size_t, int, int, void *, void *)(
                                           a->in, a->count, type, a->root, comm, stream));
    case medleyCollRecv:
        return check(n, MDL_NCCL_RECV,
                     FN(n, RECV, void *, size_t, int, int, void *, void *)(a->out, a->count, type, a->root, comm, stream));
    default: return mdl_error(medleyInternalError, "%s has no call for collective %d", n->name, (int)a->coll);
    }
#undef MOVE
#undef REDUCE
}

/* A group is ended even if a call in it has failed. */
medleyResult_t mdl_nccl_messages(const struct mdl_native *n, void *comm, const struct mdl_native_call *list, int ncalls,
                                 mdl_dev_stream stream)
{
    medleyResult_t res, end;

    MDL_TRY(mdl_nccl_group_start(n));
    res = medleySuccess;
    for (int i = 0; res == medleySuccess && i < ncalls; i++) res = mdl_nccl_run(n, comm, &list[i], stream);
    end = mdl_nccl_group_end(n);
    return res == medleySuccess ? end : res;
}

medleyResult_t mdl_nccl_group_start(const struct mdl_native *n)
{
    return check(n, MDL_NCCL_GROUP_START, FN(n, GROUP_START, void)());
}

medleyResult_t mdl_nccl_group_end(const struct mdl_native *n)
{
    return check(n, MDL_NCCL_GROUP_END, FN(n, GROUP_END, void)());
}
