/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huawei's libhccl.so: an id of 4108 bytes by pointer, no groups, a broadcast with one buffer, datatypes in an order of
 * their own and no average. From its documents and its source: which types reduce; that every call wants a stream and
 * both buffers, on all ranks, unless it is about nothing; alignment of what is reduced; that an all-to-all is not in
 * place; that a batch has one message for each peer and direction.
 */
#include "config.h"
#include "tests/emul/ccl.h"
#include <stdlib.h>

#define VENDOR EMUL_ACL
#define CALL(name, args)                                                                                               \
    EMUL_API int name args;                                                                                            \
    int name args
#define ENTER(needs)                                                                                                   \
    do {                                                                                                               \
        if (emul_enter(VENDOR, __func__, needs)) return E_RUNTIME;                                                     \
    } while (0)

enum { E_PARA = 1, E_PTR = 2, E_INTERNAL = 4, E_NOT_SUPPORT = 5, E_RUNTIME = 15, E_REMOTE = 21, ID = 4108 };
typedef struct emul_comm *comm;

__attribute__((constructor)) static void loaded(void) { emul_hide(VENDOR, (const void *)loaded); }

static int result(int code)
{
    return code == 0 ? 0 : code == EMUL_CCL_ARGUMENT ? E_PARA : code == EMUL_CCL_REMOTE ? E_REMOTE : E_INTERNAL;
}

/* int8, int16, int32, fp16, fp32, int64, uint64, uint8, uint16, uint32, fp64, bf16; 15 and 16 are fp8. -1: none. */
static int type_of(int type)
{
    static const int types[] = {EMUL_I8,  EMUL_I16, EMUL_I32, EMUL_F16, EMUL_F32, EMUL_I64,
                                EMUL_U64, EMUL_U8,  EMUL_U16, EMUL_U32, EMUL_F64, EMUL_BF16};
    if (type == 15 || type == 16) return type == 15 ? EMUL_E4M3 : EMUL_E5M2;
    return type >= 0 && type < 12 ? types[type] : -1;
}

static bool reduces(int type, int op)
{
    if (op == EMUL_PROD && (type == EMUL_I16 || type == EMUL_BF16)) return false;
    return type == EMUL_I8 || type == EMUL_I16 || type == EMUL_I32 || type == EMUL_I64 || type == EMUL_F16 ||
           type == EMUL_F32 || type == EMUL_BF16;
}

CALL(HcclGetRootInfo, (void *id))
{
    ENTER(EMUL_NEED_CONTEXT);
    return id ? result(emul_ccl_id(VENDOR, id, ID)) : E_PTR;
}

/* Seconds: what all versions take. */
static unsigned exec_timeout(void)
{
    const char *text = getenv("HCCL_EXEC_TIMEOUT");
    long seconds = text ? strtol(text, NULL, 10) : 1836;
    if (seconds < 68 || seconds > 17340) emul_misuse(EMUL_INVALID, "HCCL_EXEC_TIMEOUT is %s", text);
    return (unsigned)seconds;
}

CALL(HcclCommInitRootInfo, (uint32_t ranks, const void *id, uint32_t rank, comm *out))
{
    ENTER(EMUL_NEED_CONTEXT);
    if (!id || !out) return E_PTR;
    if (ranks > 0xffff || rank > 0xffff) return emul_misuse(EMUL_INVALID, "rank %u of %u", rank, ranks), E_PARA;
    int code = emul_ccl_init(VENDOR, id, ID, (int)ranks, (int)rank, out);
    if (!code) emul_ccl_limit(*out, exec_timeout());
    return result(code);
}

CALL(HcclCommDestroy, (comm comm))
{
    ENTER(EMUL_CLEANUP);
    return result(emul_ccl_destroy(comm));
}

CALL(HcclGetRankSize, (comm comm, uint32_t *ranks))
{
    int number;
    ENTER(0);
    int code = emul_ccl_ranks(comm, &number);
    if (!code) *ranks = (uint32_t)number;
    return result(code);
}

CALL(HcclGetRankId, (comm comm, uint32_t *rank))
{
    int number;
    ENTER(0);
    int code = emul_ccl_rank(comm, &number);
    if (!code) *rank = (uint32_t)number;
    return result(code);
}

CALL(HcclGetCommAsyncError, (comm comm, int *error))
{
    int number;
    ENTER(EMUL_CLEANUP);
    int code = emul_ccl_async_error(comm, &number);
    if (!code) *error = result(number);
    return result(code);
}

static int submit(comm comm, struct emul_ccl_op op, bool folds, size_t gives, size_t takes)
{
    if (op.count == 0 && op.call != EMUL_BARRIER) return 0;
    if (!comm || !op.stream || (gives && !op.send) || (takes && !op.recv)) return E_PTR;
    op.type = type_of(op.type);
    if (op.type < 0) return E_PARA;
    if (folds && (op.reduce < 0 || op.reduce > EMUL_MIN)) return E_PARA;
    if (folds && !reduces(op.type, op.reduce)) return E_NOT_SUPPORT;
    size_t width = emul_type_size(op.type), bytes = op.count * width;
    if (folds && ((uintptr_t)op.send % width || (uintptr_t)op.recv % width)) return E_PARA;
    if (op.call == EMUL_ALL_TO_ALL && emul_ccl_overlaps(comm, &op)) return E_PARA;
    if (bytes && gives && !emul_alias(VENDOR, op.send, bytes * gives)) return E_PARA;
    if (bytes && takes && !emul_alias(VENDOR, op.recv, bytes * takes)) return E_PARA;
    return result(emul_ccl_submit(comm, &op));
}

static size_t all(comm comm)
{
    int ranks = 0;
    emul_ccl_ranks(comm, &ranks);
    return (size_t)ranks;
}

CALL(HcclAllReduce, (void *send, void *recv, uint64_t count, int type, int op, comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    return submit(comm, (struct emul_ccl_op){EMUL_ALL_REDUCE, send, recv, count, type, op, -1, stream}, true, 1, 1);
}

CALL(HcclReduceScatter, (void *send, void *recv, uint64_t count, int type, int op, comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    return submit(comm, (struct emul_ccl_op){EMUL_REDUCE_SCATTER, send, recv, count, type, op, -1, stream}, true,
                  all(comm), 1);
}

CALL(HcclAllGather, (void *send, void *recv, uint64_t count, int type, comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    return submit(comm, (struct emul_ccl_op){EMUL_ALL_GATHER, send, recv, count, type, 0, -1, stream}, false, 1,
                  all(comm));
}

CALL(HcclBroadcast, (void *buffer, uint64_t count, int type, uint32_t root, comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    return submit(comm, (struct emul_ccl_op){EMUL_BROADCAST, buffer, buffer, count, type, 0, (int)root, stream}, false,
                  1, 1);
}

CALL(HcclReduce, (void *send, void *recv, uint64_t count, int type, int op, uint32_t root, comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    return submit(comm, (struct emul_ccl_op){EMUL_REDUCE, send, recv, count, type, op, (int)root, stream}, true, 1, 1);
}

CALL(HcclSend, (void *buffer, uint64_t count, int type, uint32_t peer, comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    return submit(comm, (struct emul_ccl_op){EMUL_SEND, buffer, NULL, count, type, 0, (int)peer, stream}, false, 1, 0);
}

CALL(HcclRecv, (void *buffer, uint64_t count, int type, uint32_t peer, comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    return submit(comm, (struct emul_ccl_op){EMUL_RECV, NULL, buffer, count, type, 0, (int)peer, stream}, false, 0, 1);
}

CALL(HcclAlltoAll, (const void *send, uint64_t send_count, int send_type, const void *recv, uint64_t recv_count,
                    int recv_type, comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    if (send_count != recv_count || send_type != recv_type) return E_PARA;
    struct emul_ccl_op op = {EMUL_ALL_TO_ALL, send, (void *)(uintptr_t)recv, send_count, send_type, 0, -1, stream};
    return submit(comm, op, false, all(comm), all(comm));
}

CALL(HcclBarrier, (comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    return submit(comm, (struct emul_ccl_op){EMUL_BARRIER, NULL, NULL, 0, 0, 0, -1, stream}, false, 0, 0);
}

/* Kinds: send 0, receive 1. */
struct item {
    int kind;
    void *buffer;
    uint64_t count;
    int type;
    uint32_t peer;
};

CALL(HcclBatchSendRecv, (struct item * items, uint32_t count, comm comm, void *stream))
{
    ENTER(EMUL_NEED_CONTEXT);
    int code = 0;
    if (count == 0) return 0;
    if (!items || !comm || !stream) return E_PTR;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < i; k++)
            if (items[i].kind == items[k].kind && items[i].peer == items[k].peer) return E_PARA;
    emul_ccl_group_start(VENDOR);
    for (uint32_t i = 0; i < count && !code; i++) {
        const struct item *item = &items[i];
        bool sends = item->kind == 0;
        struct emul_ccl_op op = {sends ? EMUL_SEND : EMUL_RECV,
                                 sends ? item->buffer : NULL,
                                 sends ? NULL : item->buffer,
                                 item->count,
                                 item->type,
                                 0,
                                 (int)item->peer,
                                 stream};
        code = submit(comm, op, false, sends, !sends);
    }
    int ended = emul_ccl_group_end(VENDOR);
    return code ? code : result(ended);
}
