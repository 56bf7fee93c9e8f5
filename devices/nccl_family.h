/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collective libraries of NCCL's shape under another name. A library is a table beside that of its runtime: the prefix
 * of its names, the files that hold them, and what it does less than NCCL.
 *
 * The numbers of types, operations and results are NCCL's for all of them, as far as is known: a library that does not
 * keep them needs a source of its own, as hccl.c and cncl.c are; one that keeps the arguments of what goes to a stream
 * uses mdl_nccl_run all the same.
 */
#ifndef MDL_DEVICES_NCCL_FAMILY_H_
#define MDL_DEVICES_NCCL_FAMILY_H_

#include "devices/ccl.h"

/* What is not a collective has NONE for one. The first seven may have other names in a library that has the others'
 * arguments (cncl.c). */
#define MDL_NCCL_CALLS(CALL)                                                                                           \
    CALL(GET_ID, "GetUniqueId", 1, NONE)                                                                               \
    CALL(INIT, "CommInitRank", 1, NONE)                                                                                \
    CALL(DESTROY, "CommDestroy", 1, NONE)                                                                              \
    CALL(ABORT, "CommAbort", 0, NONE)                                                                                  \
    CALL(ASYNC_ERROR, "CommGetAsyncError", 0, NONE)                                                                    \
    CALL(VERSION, "GetVersion", 0, NONE)                                                                               \
    CALL(ERROR_TEXT, "GetErrorString", 0, NONE)                                                                        \
    MDL_NCCL_STREAM_CALLS(CALL)

#define MDL_NCCL_STREAM_CALLS(CALL)                                                                                    \
    CALL(ALL_REDUCE, "AllReduce", 0, medleyCollAllReduce)                                                              \
    CALL(REDUCE, "Reduce", 0, medleyCollReduce)                                                                        \
    CALL(BROADCAST, "Broadcast", 0, medleyCollBroadcast)                                                               \
    CALL(ALL_GATHER, "AllGather", 0, medleyCollAllGather)                                                              \
    CALL(REDUCE_SCATTER, "ReduceScatter", 0, medleyCollReduceScatter)                                                  \
    CALL(ALL_TO_ALL, "AlltoAll", 0, medleyCollAlltoAll)                                                                \
    CALL(SEND, "Send", 0, medleyCollSend)                                                                              \
    CALL(RECV, "Recv", 0, medleyCollRecv)                                                                              \
    CALL(GROUP_START, "GroupStart", 1, NONE)                                                                           \
    CALL(GROUP_END, "GroupEnd", 1, NONE)                                                                               \
    CALL(MAKE_PREMUL, "RedOpCreatePreMulSum", 0, NONE)                                                                 \
    CALL(DROP_OP, "RedOpDestroy", 0, NONE)

enum mdl_nccl_call {
#define CALL(id, stem, needed, coll) MDL_NCCL_##id,
    MDL_NCCL_CALLS(CALL)
#undef CALL
        MDL_NCCL_NUM_CALLS
};

struct mdl_nccl_vendor {
    const char *prefix, *older;   /* of its names; older: tried next; may be NULL */
    const char *const *libraries; /* file names, best first */
    const char *const *folders;   /* the vendor's own; may be NULL */
    bool folders_only;            /* the loader may know another vendor's of this name: not asked */
    const char *const *nodes;     /* of the vendor's devices: where one is, a library that is not in the folder that was
                                     asked for may be elsewhere; may be NULL */
    const char *const *foreign;   /* symbols of others that use these file names; may be NULL */
    int average_since;            /* version that has the average; 0: it is not known to */
    bool narrow;                  /* 64-bit types are not reduced */
    uint32_t ways;                /* more than GROUPS */
    struct mdl_ccl_state *state;
};

medleyResult_t mdl_nccl_probe(const struct mdl_native *n, const char *where, char *found, size_t found_bytes, char *why,
                              size_t why_bytes);
const struct mdl_native_caps *mdl_nccl_caps(const struct mdl_native *n);
medleyResult_t mdl_nccl_get_id(const struct mdl_native *n, void *id);
medleyResult_t mdl_nccl_init(const struct mdl_native *n, const void *id, int nranks, int rank, int ordinal,
                             void **comm);
medleyResult_t mdl_nccl_destroy(const struct mdl_native *n, void *comm);
medleyResult_t mdl_nccl_abort(const struct mdl_native *n, void *comm);
medleyResult_t mdl_nccl_async_error(const struct mdl_native *n, void *comm);
/* For any library whose calls have the numbers of enum mdl_nccl_call and NCCL's arguments; `self` is a table, of which
 * only `state` is looked at. */
medleyResult_t mdl_nccl_run(const struct mdl_native *n, void *comm, const struct mdl_native_call *call,
                            mdl_dev_stream stream);
medleyResult_t mdl_nccl_group_start(const struct mdl_native *n);
medleyResult_t mdl_nccl_group_end(const struct mdl_native *n);

/* A library of the family, for `static const struct mdl_native native = MDL_NCCL_NATIVE("nccl", &table)`. */
#define MDL_NCCL_NATIVE(name_, table)                                                                                  \
    {                                                                                                                  \
        .name = name_, .self = table, .probe = mdl_nccl_probe, .caps = mdl_nccl_caps, .get_id = mdl_nccl_get_id,       \
        .init = mdl_nccl_init, .destroy = mdl_nccl_destroy, .abort = mdl_nccl_abort,                                   \
        .async_error = mdl_nccl_async_error, .run = mdl_nccl_run, .messages = mdl_ccl_messages,                        \
        .group_start = mdl_nccl_group_start, .group_end = mdl_nccl_group_end,                                          \
    }

#endif
