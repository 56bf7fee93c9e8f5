/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One engine under the emulated vendor collective libraries. The ranks of a communicator meet in a memory that the
 * maker of the unique id owns; operations are work on the caller's stream and compute real results. The thin objects
 * own names, argument orders, numbers and what their vendor lacks.
 */
#ifndef MDL_TESTS_EMUL_CCL_H_
#define MDL_TESTS_EMUL_CCL_H_

#include "tests/emul/engine.h"

/* NCCL's numbers, which most keep. */
enum emul_ccl_result {
    EMUL_CCL_OK,
    EMUL_CCL_DEVICE,
    EMUL_CCL_SYSTEM,
    EMUL_CCL_INTERNAL,
    EMUL_CCL_ARGUMENT,
    EMUL_CCL_USAGE,
    EMUL_CCL_REMOTE,
    EMUL_CCL_BUSY,
};

enum emul_type {
    EMUL_I8,
    EMUL_U8,
    EMUL_I32,
    EMUL_U32,
    EMUL_I64,
    EMUL_U64,
    EMUL_F16,
    EMUL_F32,
    EMUL_F64,
    EMUL_BF16,
    EMUL_E4M3,
    EMUL_E5M2,
    EMUL_I16,
    EMUL_U16,
    EMUL_TYPES
};
enum emul_reduce { EMUL_SUM, EMUL_PROD, EMUL_MAX, EMUL_MIN, EMUL_AVG, EMUL_MADE /* and above: emul_ccl_op_make */ };

enum emul_ccl_call {
    EMUL_ALL_REDUCE,
    EMUL_REDUCE,
    EMUL_BROADCAST,
    EMUL_ALL_GATHER,
    EMUL_REDUCE_SCATTER,
    EMUL_ALL_TO_ALL,
    EMUL_SEND,
    EMUL_RECV,
    EMUL_BARRIER,
};

struct emul_ccl_op {
    enum emul_ccl_call call;
    const void *send;
    void *recv;
    size_t count;           /* of one rank, as the call's own argument means it */
    int type, reduce, peer; /* peer: or root */
    void *stream;
};

struct emul_comm;
/* Fills all `size` bytes. */
EMUL_API int emul_ccl_id(int vendor, void *id, size_t size);
/* Collective; inside a group it happens at its end. On the thread's current device. */
EMUL_API int emul_ccl_init(int vendor, const void *id, size_t size, int ranks, int rank, struct emul_comm **out);
EMUL_API int emul_ccl_submit(struct emul_comm *comm, const struct emul_ccl_op *op);
EMUL_API int emul_ccl_group_start(int vendor);
EMUL_API int emul_ccl_group_end(int vendor);
EMUL_API bool emul_ccl_grouped(int vendor); /* is this thread in a group? */
/* The calls of the group of this thread so far: bit per emul_ccl_call. */
EMUL_API unsigned emul_ccl_group_calls(int vendor);
EMUL_API int emul_ccl_destroy(struct emul_comm *comm);
EMUL_API int emul_ccl_abort(struct emul_comm *comm); /* operations in progress end without a result */
/* An operation that takes longer than so many of the vendor's seconds ends with an error. A second of the vendor's lasts
 * EMUL_CCL_SECOND milliseconds, 1000 if that is not set. */
EMUL_API void emul_ccl_limit(struct emul_comm *comm, unsigned seconds);
EMUL_API int emul_ccl_async_error(struct emul_comm *comm, int *error);
EMUL_API bool emul_ccl_busy(struct emul_comm *comm); /* has it operations that have not ended? */
EMUL_API int emul_ccl_ranks(struct emul_comm *comm, int *ranks);
EMUL_API int emul_ccl_rank(struct emul_comm *comm, int *rank);
EMUL_API int emul_ccl_device(struct emul_comm *comm, int *device);

/* An operation of one communicator: sums what the ranks have times their factors. The factor is read at once, or, of a
 * device, when an operation that has it runs. */
EMUL_API int emul_ccl_op_make(struct emul_comm *comm, int *op, const void *factor, int type, bool of_device);
EMUL_API int emul_ccl_op_drop(struct emul_comm *comm, int op);
EMUL_API bool emul_ccl_op_known(struct emul_comm *comm, int op, int type);

EMUL_API size_t emul_type_size(int type);
EMUL_API bool emul_ccl_overlaps(struct emul_comm *comm, const struct emul_ccl_op *op); /* as no library takes it */
/* to[i] = reduction of from[0][i], from[1][i], ... in this order. */
EMUL_API void emul_reduce_ranks(int type, int reduce, void *to, const void *const *from, int ranks, size_t count);

EMUL_API void emul_scale(int type, void *values, const void *factor, size_t count); /* rounds each product */

#endif
