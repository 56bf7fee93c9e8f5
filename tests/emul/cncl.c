/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cambricon's libcncl.so: collectives of NCCL's shape, but communicators are made and destroyed in arrays, an id has
 * 128 bytes and a hash behind them, datatypes and results have numbers of their own, and there is neither fp64 nor
 * average. From the notes of its header: a process initialises with an id once; an operation in progress is an
 * asynchronous result, and no error; a group is of messages. That groups do not nest is not said, nor the opposite.
 */
#include "config.h"
#include "tests/emul/ccl.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define VENDOR EMUL_CNRT
#define CALL(name, args)                                                                                               \
    EMUL_API int name args;                                                                                            \
    int name args
#define ENTER(needs)                                                                                                   \
    do {                                                                                                               \
        if (emul_enter(VENDOR, __func__, needs)) return E_RUNTIME;                                               \
    } while (0)

enum {
    E_INTERNAL = 0x01,
    E_UNSUPPORTED = 0x11,
    E_POINTER = 0x21,
    E_INIT = 0x51,
    E_REINIT = 0x71,
    E_SYSTEM = 0x02,
    E_RUNTIME = 0x03,
    IN_PROGRESS = 0x06,
    E_ASYNC = 0x16,
    E_ARGUMENTS = 0x07,
};

static int result(int code)
{
    switch (code) {
    case EMUL_CCL_OK: return 0;
    case EMUL_CCL_DEVICE: return E_RUNTIME;
    case EMUL_CCL_SYSTEM: return E_SYSTEM;
    case EMUL_CCL_ARGUMENT: return E_ARGUMENTS;
    case EMUL_CCL_USAGE: return E_INIT;
    case EMUL_CCL_REMOTE: return E_ASYNC;
    default: return E_INTERNAL;
    }
}

struct clique_id {
    char data[128];
    uint64_t hash;
};
typedef struct emul_comm *comm;

__attribute__((constructor)) static void loaded(void) { emul_hide(VENDOR, (const void *)loaded); }

static int type_of(int type)
{
    switch (type) {
    case 0x10: return EMUL_F16;
    case 0x11: return EMUL_BF16;
    case 0x12: return EMUL_F32;
    case 0x20: return EMUL_I8;
    case 0x21: return EMUL_I16;
    case 0x22: return EMUL_I32;
    case 0x23: return EMUL_I64;
    case 0x30: return EMUL_U8;
    case 0x31: return EMUL_U16;
    case 0x32: return EMUL_U32;
    case 0x33: return EMUL_U64;
    default: return -1;
    }
}

CALL(cnclGetCliqueId, (struct clique_id * id))
{
    ENTER(0);
    return result(emul_ccl_id(VENDOR, id, sizeof(*id)));
}

EMUL_API const char *cnclGetErrorStr(int code);
const char *cnclGetErrorStr(int code) { return code ? "emulated collective error" : "no error"; }

CALL(cnclGetLibVersion, (int *major, int *minor, int *patch))
{
    unsigned other = 12500;
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    if (!major || !minor || !patch) return E_ARGUMENTS;
    emul_fault(VENDOR, "cclversion", &other);
    *major = (int)other / 10000;
    *minor = (int)other / 100 % 100;
    *patch = (int)other % 100;
    return 0;
}

/* Has this process used the id? Now it has. */
static bool used(const struct clique_id *id)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct clique_id *ids;
    static size_t count;
    bool known = false;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < count; i++) known |= memcmp(&ids[i], id, sizeof(*id)) == 0;
    if (!known && !(ids = realloc(ids, (count + 1) * sizeof(*ids)))) abort();
    if (!known) ids[count++] = *id;
    pthread_mutex_unlock(&lock);
    return known;
}

CALL(cnclInitComms, (comm * out, int count, const int *devices, const int *ranks, int all, const struct clique_id *id))
{
    ENTER(EMUL_NEED_DEVICE);
    if (!out || !devices || !ranks || !id || count < 1) return E_ARGUMENTS;
    if (used(id)) return E_REINIT;
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&one); /* one after the other, in the order of the calls */
    int device = emul_device_get(VENDOR);
    emul_ccl_group_start(VENDOR);
    for (int i = 0; i < count; i++) {
        if (emul_device_set(VENDOR, devices[i])) emul_misuse(EMUL_INVALID, "device %d", devices[i]);
        emul_ccl_init(VENDOR, id, sizeof(*id), all, ranks[i], &out[i]);
    }
    int code = emul_ccl_group_end(VENDOR);
    emul_device_set(VENDOR, device);
    pthread_mutex_unlock(&one);
    return result(code);
}

CALL(cnclDestroyComms, (comm * list, int count))
{
    ENTER(EMUL_CLEANUP);
    int code = 0;
    for (int i = 0; i < count; i++)
        if (emul_ccl_destroy(list[i])) code = E_ARGUMENTS;
    return code;
}

CALL(cnclAbortComm, (comm comm))
{
    ENTER(EMUL_CLEANUP);
    return result(emul_ccl_abort(comm));
}

CALL(cnclGetCommCount, (int *ranks, comm comm))
{
    ENTER(0);
    return result(emul_ccl_ranks(comm, ranks));
}

CALL(cnclGetCommRank, (int *rank, comm comm))
{
    ENTER(0);
    return result(emul_ccl_rank(comm, rank));
}

/* The code itself is the error. */
CALL(cnclGetCommAsyncError, (comm comm))
{
    int error;
    ENTER(EMUL_CLEANUP);
    int code = emul_ccl_async_error(comm, &error);
    if (code || error) return result(code ? code : error);
    return emul_ccl_busy(comm) ? IN_PROGRESS : 0;
}

static int submit(comm comm, struct emul_ccl_op op, size_t gives, size_t takes)
{
    op.type = type_of(op.type);
    if (op.type < 0 || op.reduce < 0 || op.reduce > EMUL_MIN) return E_ARGUMENTS;
    if (emul_ccl_grouped(VENDOR) && op.call != EMUL_SEND && op.call != EMUL_RECV) return E_UNSUPPORTED;
    size_t bytes = op.count * emul_type_size(op.type);
    if (bytes && ((gives && !op.send) || (takes && !op.recv))) return E_POINTER;
    if (bytes && gives && !emul_alias(VENDOR, op.send, bytes * gives)) return E_ARGUMENTS;
    if (bytes && takes && !emul_alias(VENDOR, op.recv, bytes * takes)) return E_ARGUMENTS;
    return result(emul_ccl_submit(comm, &op));
}

static size_t all(comm comm)
{
    int ranks = 0;
    emul_ccl_ranks(comm, &ranks);
    return (size_t)ranks;
}

static bool is_root(comm comm, int root)
{
    int rank = -1;
    emul_ccl_rank(comm, &rank);
    return rank == root;
}

CALL(cnclAllReduce, (const void *send, void *recv, size_t count, int type, int op, comm comm, void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, (struct emul_ccl_op){EMUL_ALL_REDUCE, send, recv, count, type, op, -1, queue}, 1, 1);
}

CALL(cnclReduceScatter, (const void *send, void *recv, size_t count, int type, int op, comm comm, void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, (struct emul_ccl_op){EMUL_REDUCE_SCATTER, send, recv, count, type, op, -1, queue}, all(comm),
                  1);
}

CALL(cnclAllGather, (const void *send, void *recv, size_t count, int type, comm comm, void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, (struct emul_ccl_op){EMUL_ALL_GATHER, send, recv, count, type, 0, -1, queue}, 1, all(comm));
}

CALL(cnclBroadcast, (const void *send, void *recv, size_t count, int type, int root, comm comm, void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, (struct emul_ccl_op){EMUL_BROADCAST, send, recv, count, type, 0, root, queue},
                  is_root(comm, root), 1);
}

CALL(cnclReduce, (const void *send, void *recv, size_t count, int type, int op, int root, comm comm, void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, (struct emul_ccl_op){EMUL_REDUCE, send, recv, count, type, op, root, queue}, 1,
                  is_root(comm, root));
}

CALL(cnclAlltoAll, (const void *send, void *recv, size_t count, int type, comm comm, void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, (struct emul_ccl_op){EMUL_ALL_TO_ALL, send, recv, count, type, 0, -1, queue}, all(comm),
                  all(comm));
}

CALL(cnclSend, (void *buffer, size_t count, int type, int peer, comm comm, void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, (struct emul_ccl_op){EMUL_SEND, buffer, NULL, count, type, 0, peer, queue}, 1, 0);
}

CALL(cnclRecv, (void *buffer, size_t count, int type, int peer, comm comm, void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return submit(comm, (struct emul_ccl_op){EMUL_RECV, NULL, buffer, count, type, 0, peer, queue}, 0, 1);
}

CALL(cnclGroupStart, (void))
{
    ENTER(EMUL_CLEANUP);
    if (emul_ccl_grouped(VENDOR)) return E_UNSUPPORTED;
    return result(emul_ccl_group_start(VENDOR));
}

CALL(cnclGroupEnd, (void))
{
    ENTER(EMUL_CLEANUP);
    return result(emul_ccl_group_end(VENDOR));
}
