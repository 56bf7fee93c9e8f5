/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collective libraries of NCCL's shape: libnccl, librccl, libmccl of both makers, libeccl, libsuccl, libtccl,
 * libpccl. The build says which by CCL_<name>; N(name) is the prefix, TYPES how many of NCCL's datatypes there are.
 */
#include "config.h"
#include "tests/emul/ccl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined CCL_NCCL
#ifdef CUDA_LAYER
#define VENDOR CUDA_LAYER
#else
#define VENDOR EMUL_CUDA
#endif
#define N(name)     nccl##name
#define COMM_DEVICE CommCuDevice
#define TYPES       12
#define CCL_VERSION 22809
#define NEWEST
#define FACTORS
#elif defined CCL_RCCL || defined CCL_DTK
#ifdef CCL_DTK
#define VENDOR EMUL_DTK
#else
#define VENDOR EMUL_HIP
#endif
#define N(name)     nccl##name
#define COMM_DEVICE CommCuDevice
#define TYPES       10 /* fp8 in some builds only */
#define CCL_VERSION 21805
#define FACTORS
#elif defined CCL_MUSA
#define VENDOR      EMUL_MUSA
#define N(name)     mccl##name
#define COMM_DEVICE CommMuDevice
#define TYPES       10
#define CCL_VERSION 21104
#elif defined CCL_MACA || defined CCL_MACA_MX
#define VENDOR EMUL_MACA
#ifdef CCL_MACA_MX
#define N(name) mxccl##name
#else
#define N(name) mccl##name
#endif
#define COMM_DEVICE CommMcDevice
#define TYPES       10
#define CCL_VERSION 21605
#elif defined CCL_ECCL
#define VENDOR      EMUL_TOPS
#define N(name)     eccl##name
#define COMM_DEVICE CommDevice
#define TYPES       10
#define CCL_VERSION 30000
#elif defined CCL_SUCCL
#define VENDOR      EMUL_SUPA
#define N(name)     succl##name
#define COMM_DEVICE CommDevice
#define TYPES       10
#define CCL_VERSION 10000
#elif defined CCL_TCCL
#define VENDOR      EMUL_TX
#define N(name)     tccl##name
#define COMM_DEVICE CommDevice
#define TYPES       10
#define CCL_VERSION 10000
#elif defined CCL_PCCL
#define VENDOR      EMUL_TANG
#define N(name)     pccl##name
#define COMM_DEVICE CommCuDevice
#define TYPES       10
#define CCL_VERSION 10000
#endif

#define CALL(name, args)                                                                                               \
    EMUL_API int N(name) args;                                                                                         \
    int N(name) args
#define ENTER(needs)                                                                                                   \
    do {                                                                                                               \
        if (emul_enter(VENDOR, __func__, needs)) return EMUL_CCL_DEVICE;                                               \
    } while (0)

struct unique_id {
    char bytes[128];
};
typedef struct emul_comm *comm;

__attribute__((constructor)) static void loaded(void) { emul_hide(VENDOR, (const void *)loaded); }

CALL(GetVersion, (int *version))
{
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    if (!version) return EMUL_CCL_ARGUMENT;
    unsigned other;
    *version = emul_fault(VENDOR, "cclversion", &other) ? (int)other : CCL_VERSION;
    return 0;
}

EMUL_API const char *N(GetErrorString)(int result);
const char *N(GetErrorString)(int result) { return result ? "emulated collective error" : "no error"; }

EMUL_API const char *N(GetLastError)(comm comm);
const char *N(GetLastError)(comm comm) { return ""; }

CALL(GetUniqueId, (struct unique_id * id))
{
    ENTER(0);
    return emul_ccl_id(VENDOR, id, sizeof(*id));
}

CALL(CommInitRank, (comm * out, int ranks, struct unique_id id, int rank))
{
    ENTER(EMUL_NEED_DEVICE);
    return emul_ccl_init(VENDOR, &id, sizeof(id), ranks, rank, out);
}

#ifndef CCL_ECCL
CALL(CommInitRankConfig, (comm * out, int ranks, struct unique_id id, int rank, void *config))
{
    ENTER(EMUL_NEED_DEVICE);
    return emul_ccl_init(VENDOR, &id, sizeof(id), ranks, rank, out);
}
#endif

CALL(CommInitAll, (comm * out, int count, const int *list))
{
    struct unique_id id;
    ENTER(EMUL_NEED_DEVICE);
    int device = emul_device_get(VENDOR), code = emul_ccl_id(VENDOR, &id, sizeof(id));
    if (code) return code;
    emul_ccl_group_start(VENDOR);
    for (int i = 0; i < count; i++) {
        emul_device_set(VENDOR, list ? list[i] : i);
        emul_ccl_init(VENDOR, &id, sizeof(id), count, i, &out[i]);
    }
    code = emul_ccl_group_end(VENDOR);
    emul_device_set(VENDOR, device);
    return code;
}

CALL(CommFinalize, (comm comm))
{
    int rank;
    ENTER(EMUL_CLEANUP);
    return emul_ccl_rank(comm, &rank);
}

CALL(CommDestroy, (comm comm))
{
    ENTER(EMUL_CLEANUP);
    return emul_ccl_destroy(comm);
}

CALL(CommAbort, (comm comm))
{
    ENTER(EMUL_CLEANUP);
    return emul_ccl_abort(comm);
}

CALL(CommGetAsyncError, (comm comm, int *error))
{
    ENTER(EMUL_CLEANUP);
    return emul_ccl_async_error(comm, error);
}

CALL(CommCount, (comm comm, int *ranks))
{
    ENTER(0);
    return emul_ccl_ranks(comm, ranks);
}

CALL(CommUserRank, (comm comm, int *rank))
{
    ENTER(0);
    return emul_ccl_rank(comm, rank);
}

#define NAMED(name) N(name)
EMUL_API int NAMED(COMM_DEVICE)(comm comm, int *device);
int NAMED(COMM_DEVICE)(comm comm, int *device)
{
    ENTER(0);
    return emul_ccl_device(comm, device);
}

/* How many counts the buffers of a call hold. */
static size_t sends(enum emul_ccl_call call, int ranks)
{
    return call == EMUL_REDUCE_SCATTER || call == EMUL_ALL_TO_ALL ? ranks : 1;
}
static size_t receives(enum emul_ccl_call call, int ranks)
{
    return call == EMUL_ALL_GATHER || call == EMUL_ALL_TO_ALL ? ranks : 1;
}

static int judge(comm comm, const struct emul_ccl_op *op)
{
    int ranks, rank;
    if (emul_ccl_ranks(comm, &ranks) || emul_ccl_rank(comm, &rank)) return EMUL_CCL_ARGUMENT;
    if (op->type < 0 || op->type >= TYPES) return EMUL_CCL_ARGUMENT;
    if (op->reduce < 0 || (op->reduce > EMUL_AVG && !emul_ccl_op_known(comm, op->reduce, op->type))) return EMUL_CCL_ARGUMENT;
    size_t bytes = op->count * emul_type_size(op->type);
    bool root = op->peer == rank;
    bool gives = op->call != EMUL_RECV && (op->call != EMUL_BROADCAST || root);
    bool takes = op->call != EMUL_SEND && (op->call != EMUL_REDUCE || root);
    if (bytes && gives && !emul_alias(VENDOR, op->send, bytes * sends(op->call, ranks))) return EMUL_CCL_ARGUMENT;
    if (bytes && takes && !emul_alias(VENDOR, op->recv, bytes * receives(op->call, ranks))) return EMUL_CCL_ARGUMENT;
#ifdef CCL_ECCL
    /* 64-bit types only travel, and a group is of one kind. */
    bool wide = emul_type_size(op->type) == 8, moves = op->call == EMUL_BROADCAST || op->call == EMUL_ALL_GATHER;
    if (wide && !moves) return EMUL_CCL_ARGUMENT;
    bool message = op->call == EMUL_SEND || op->call == EMUL_RECV;
    unsigned kin = message ? 1u << EMUL_SEND | 1u << EMUL_RECV : 1u << op->call;
    if (emul_ccl_group_calls(VENDOR) & ~kin) return EMUL_CCL_USAGE;
#endif
    return EMUL_CCL_OK;
}

static int submit(comm comm, const struct emul_ccl_op *op)
{
    int code = judge(comm, op);
    return code ? code : emul_ccl_submit(comm, op);
}

CALL(AllReduce, (const void *send, void *recv, size_t count, int type, int op, comm comm, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, &(struct emul_ccl_op){EMUL_ALL_REDUCE, send, recv, count, type, op, -1, stream});
}

CALL(ReduceScatter, (const void *send, void *recv, size_t count, int type, int op, comm comm, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, &(struct emul_ccl_op){EMUL_REDUCE_SCATTER, send, recv, count, type, op, -1, stream});
}

CALL(AllGather, (const void *send, void *recv, size_t count, int type, comm comm, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, &(struct emul_ccl_op){EMUL_ALL_GATHER, send, recv, count, type, 0, -1, stream});
}

CALL(Broadcast, (const void *send, void *recv, size_t count, int type, int root, comm comm, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, &(struct emul_ccl_op){EMUL_BROADCAST, send, recv, count, type, 0, root, stream});
}

CALL(Reduce, (const void *send, void *recv, size_t count, int type, int op, int root, comm comm, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, &(struct emul_ccl_op){EMUL_REDUCE, send, recv, count, type, op, root, stream});
}

CALL(Send, (const void *buffer, size_t count, int type, int peer, comm comm, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, &(struct emul_ccl_op){EMUL_SEND, buffer, NULL, count, type, 0, peer, stream});
}

CALL(Recv, (void *buffer, size_t count, int type, int peer, comm comm, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, &(struct emul_ccl_op){EMUL_RECV, NULL, buffer, count, type, 0, peer, stream});
}

CALL(GroupStart, (void))
{
    ENTER(EMUL_CLEANUP);
    return emul_ccl_group_start(VENDOR);
}

CALL(GroupEnd, (void))
{
    ENTER(EMUL_CLEANUP);
    return emul_ccl_group_end(VENDOR);
}

#ifdef FACTORS
CALL(RedOpCreatePreMulSum, (int *op, void *scalar, int type, int residence, comm comm))
{
    ENTER(EMUL_NEED_DEVICE);
    if (type < 0 || type >= TYPES || residence < 0 || residence > 1) return EMUL_CCL_ARGUMENT;
    return emul_ccl_op_make(comm, op, scalar, type, residence == 0);
}

CALL(RedOpDestroy, (int op, comm comm))
{
    ENTER(EMUL_CLEANUP);
    return emul_ccl_op_drop(comm, op);
}
#endif

#ifdef NEWEST
CALL(AlltoAll, (const void *send, void *recv, size_t count, int type, comm comm, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, &(struct emul_ccl_op){EMUL_ALL_TO_ALL, send, recv, count, type, 0, -1, stream});
}

CALL(MemAlloc, (void **out, size_t size))
{
    ENTER(EMUL_NEED_DEVICE);
    return emul_malloc(VENDOR, EMUL_DEVICE, size, out) ? EMUL_CCL_DEVICE : 0;
}

CALL(MemFree, (void *address))
{
    ENTER(EMUL_CLEANUP);
    return emul_free(VENDOR, EMUL_DEVICE, address) ? EMUL_CCL_DEVICE : 0;
}

CALL(CommRegister, (comm comm, void *buffer, size_t size, void **handle))
{
    ENTER(EMUL_NEED_DEVICE);
    if (!handle || !emul_alias(VENDOR, buffer, size)) return EMUL_CCL_ARGUMENT;
    *handle = buffer;
    return 0;
}

CALL(CommDeregister, (comm comm, void *handle))
{
    ENTER(EMUL_CLEANUP);
    return handle ? 0 : EMUL_CCL_ARGUMENT;
}
#endif
