/* SPDX-License-Identifier: Apache-2.0 */
/* The collectives and point-to-point calls: check the arguments, make an operation, issue it. An invalid argument has
 * no effect at all. */
#include "config.h"

#include "lib/api/group.h"
#include "lib/api/redop.h"
#include "lib/engine/stage.h"
#include "lib/engine/stream.h"

#include <stdlib.h>

struct tables {
    const size_t *in_counts, *in_displs, *out_counts, *out_displs;
};

/* A call's arguments as the user gave them. */
struct args {
    const char *name;
    const char *buffer; /* the name of both buffers, where one argument stands for them */
    medleyColl_t coll;
    const void *in;
    void *out;
    size_t count;
    medleyDataType_t dtype;
    medleyRedOp_t op;
    int root;               /* -1: none; the peer of Send and Recv */
    const struct tables *v; /* V collectives */
    medleyComm_t comm;
    void *stream;
};

static medleyResult_t check_op(const struct args *a, const struct mdl_comm *c)
{
    const struct mdl_redop *made;

    if (!mdl_shapes[a->coll].reduces) return medleySuccess;
    if ((int)a->op >= 0 && a->op < medleyNumOps) return medleySuccess;
    made = mdl_redop_find(c, a->op);
    if (!made)
        return mdl_error(medleyInvalidArgument, "%s: operation %d does not exist on this communicator", a->name,
                         (int)a->op);
    if (made->dtype != a->dtype)
        return mdl_error(medleyInvalidArgument, "%s: operation %d was made for %s, the call has %s", a->name,
                         (int)a->op, mdl_dtype_name(made->dtype), mdl_dtype_name(a->dtype));
    return medleySuccess;
}

static medleyResult_t refuse_buffer(const struct args *a, const char *which, const void *p, size_t slots, size_t elem)
{
    if (a->buffer) which = a->buffer;
    if (a->count > SIZE_MAX / 2 / elem / slots)
        return mdl_error(medleyInvalidArgument, "%s: %zu elements of %zu bytes, %zu times, do not fit into memory",
                         a->name, a->count, elem, slots);
    if (!p) return mdl_error(medleyInvalidArgument, "%s: %s is NULL but count is %zu", a->name, which, a->count);
    if ((uintptr_t)p % elem)
        return mdl_error(medleyInvalidArgument, "%s: %s = %p is not aligned to its %zu-byte elements", a->name, which,
                         p, elem);
    return medleySuccess;
}

/* Divides for large counts only: that takes time. Sizes of elements are powers of two. */
static inline medleyResult_t check_buffer(const struct args *a, const char *which, const void *p, size_t slots,
                                          size_t elem)
{
    if (slots == 0 || a->count == 0) return medleySuccess;
    if (p && ((uintptr_t)p & (elem - 1)) == 0 && (a->count | slots) >> 28 == 0) return medleySuccess;
    return refuse_buffer(a, which, p, slots, elem);
}

/* A buffer and the table of its slots. */
struct table {
    const char *buffer, *table;
    const void *p;
    const size_t *counts, *displs;
};

static medleyResult_t check_table(const struct args *a, struct table t, int n, size_t elem)
{
    size_t packed = 0;

    if (!t.counts) return mdl_error(medleyInvalidArgument, "%s: %s is NULL", a->name, t.table);
    for (int r = 0; r < n; r++) {
        size_t at = t.displs ? t.displs[r] : packed;
        if (t.counts[r] > SIZE_MAX / 2 / elem || at > SIZE_MAX / 2 / elem - t.counts[r])
            return mdl_error(medleyInvalidArgument, "%s: %s[%d] = %zu at displacement %zu does not fit into memory",
                             a->name, t.table, r, t.counts[r], at);
        if (t.counts[r] && !t.p)
            return mdl_error(medleyInvalidArgument, "%s: %s is NULL but the slot of rank %d has %zu elements", a->name,
                             t.buffer, r, t.counts[r]);
        packed += t.counts[r];
    }
    if (t.p && (uintptr_t)t.p % elem)
        return mdl_error(medleyInvalidArgument, "%s: %s = %p is not aligned to its %zu-byte elements", a->name,
                         t.buffer, t.p, elem);
    return medleySuccess;
}

/* Bytes from the start of a buffer to the end of its last slot. The tables have been checked. */
static size_t span(const size_t *counts, const size_t *displs, int n, size_t elem)
{
    size_t packed = 0, end = 0;

    for (int r = 0; r < n; packed += counts[r++]) {
        size_t at = displs ? displs[r] : packed;
        if (counts[r] && at + counts[r] > end) end = at + counts[r];
    }
    return end * elem;
}

/* Every rank's slots would be overwritten before they have been sent. */
static medleyResult_t check_apart(const struct args *a, const struct mdl_comm *c, size_t elem)
{
    uintptr_t in = (uintptr_t)a->in, out = (uintptr_t)a->out;
    size_t sends = span(a->v->in_counts, a->v->in_displs, c->nranks, elem),
           recvs = span(a->v->out_counts, a->v->out_displs, c->nranks, elem);

    if (c->nranks == 1 || !sends || !recvs || in + sends <= out || out + recvs <= in) return medleySuccess;
    return mdl_error(
        medleyInvalidArgument,
        "%s: sendbuff (%zu bytes from %p) and recvbuff (%zu bytes from %p) overlap: it has no in-place form", a->name,
        sends, a->in, recvs, a->out);
}

static medleyResult_t check_tables(const struct args *a, const struct mdl_comm *c, size_t elem)
{
    const void *in = a->coll == medleyCollAllGatherV && a->v->out_counts && a->v->out_counts[c->rank] == 0 ? "" : a->in;
    const char *sends = a->coll == medleyCollAlltoAllV ? "sendcounts" : "recvcounts";

    if (a->coll != medleyCollAllGatherV)
        MDL_TRY(check_table(a, (struct table){"sendbuff", sends, a->in, a->v->in_counts, a->v->in_displs}, c->nranks,
                            elem));
    if (a->coll != medleyCollReduceScatterV)
        MDL_TRY(check_table(a, (struct table){"recvbuff", "recvcounts", a->out, a->v->out_counts, a->v->out_displs},
                            c->nranks, elem));
    if (a->coll == medleyCollAllGatherV && a->count != a->v->out_counts[c->rank])
        return mdl_error(medleyInvalidArgument, "%s: sendcount %zu differs from recvcounts[%d] = %zu", a->name,
                         a->count, c->rank, a->v->out_counts[c->rank]);
    if (a->coll == medleyCollAlltoAllV) return check_apart(a, c, elem);
    if (a->coll == medleyCollAllGatherV) return check_buffer(a, "sendbuff", in, 1, elem);
    if (a->coll == medleyCollReduceScatterV && a->v->in_counts[c->rank]) {
        struct args out = *a;
        out.count = a->v->in_counts[c->rank];
        return check_buffer(&out, "recvbuff", a->out, 1, elem);
    }
    return medleySuccess;
}

static medleyResult_t check(const struct args *a, const struct mdl_comm *c)
{
    const struct mdl_shape *shape = &mdl_shapes[a->coll];
    bool root = a->root == c->rank;
    size_t elem;

    if ((int)a->dtype < 0 || a->dtype >= medleyNumTypes)
        return mdl_error(medleyInvalidArgument, "%s: %d is not a datatype", a->name, (int)a->dtype);
    elem = mdl_dtype_size(a->dtype);
    if (shape->rooted && (a->root < 0 || a->root >= c->nranks))
        return mdl_error(medleyInvalidArgument, "%s: %s %d is not a rank of 0..%d", a->name,
                         shape->message ? "peer" : "root", a->root, c->nranks - 1);
    MDL_TRY(check_op(a, c));
    if (a->stream && !c->stager && !mdl_stream_known(a->stream))
        return mdl_error(medleyInvalidArgument, "%s: stream %p was not made by medleyStreamCreate", a->name, a->stream);
    if (a->stream && c->stager && mdl_stream_known(a->stream))
        return mdl_error(medleyInvalidUsage,
                         "%s: stream %p was made by medleyStreamCreate, but this rank's device is %s: give a stream of that",
                         a->name, a->stream, c->cfg.device.s);
    if (shape->v) return check_tables(a, c, elem);
    MDL_TRY(check_buffer(a, "sendbuff", a->in, mdl_shape_own_slots(shape, MDL_IN, c->nranks, root), elem));
    return check_buffer(a, "recvbuff", a->out, mdl_shape_own_slots(shape, MDL_OUT, c->nranks, root), elem);
}

static void fill_table(size_t *counts, size_t *displs, const size_t *c, const size_t *d, int n)
{
    size_t packed = 0;

    for (int r = 0; r < n; r++) {
        counts[r] = c[r];
        displs[r] = d ? d[r] : packed;
        packed += c[r];
    }
}

/* Both sides of the tables are filled, so that the engine need not know which one a collective has. */
static medleyResult_t copy_tables(struct mdl_op *op, const struct args *a)
{
    size_t n = (size_t)op->comm->nranks;
    const size_t *ic = a->v->in_counts ? a->v->in_counts : a->v->out_counts,
                 *oc = a->v->out_counts ? a->v->out_counts : a->v->in_counts;

    op->tables = malloc(4 * n * sizeof(size_t));
    if (!op->tables) return mdl_error(medleySystemError, "out of memory for count tables");
    fill_table(op->tables, op->tables + n, ic, a->v->in_displs, (int)n);
    fill_table(op->tables + 2 * n, op->tables + 3 * n, oc, a->v->out_displs, (int)n);
    op->call.count = 0; /* what all ranks know: all elements together */
    for (size_t r = 0; r < n && a->coll != medleyCollAlltoAllV; r++) op->call.count += ic[r];
    /* AlltoAllV: every rank has its own row, so nothing can be compared */
    op->call.table = a->coll == medleyCollAlltoAllV ? 0 : mdl_call_hash_table(ic, (int)n);
    return medleySuccess;
}

static void use_premul(struct mdl_op *op, const struct mdl_redop *r)
{
    op->premul = true;
    op->call.op = medleySum;
    op->call.flags |= MDL_LINE_PREMUL;
    op->scalar = r->value;
    op->scalar_at = r->residence == medleyScalarDevice ? r->pointer : NULL;
}

static medleyResult_t fill_op(const struct args *a, struct mdl_comm *c, struct mdl_op *op)
{
    const struct mdl_shape *shape = &mdl_shapes[a->coll];

    mdl_op_init(op, c, a->coll, a->in, a->out, a->count, a->dtype, shape->reduces ? a->op : medleySum, a->root);
    if (shape->reduces && a->op >= medleyNumOps) use_premul(op, mdl_redop_find(c, a->op));
    return shape->v ? copy_tables(op, a) : medleySuccess;
}

/* The plain call, in this thread and with nothing allocated. */
static medleyResult_t run_now(const struct args *a, struct mdl_comm *c)
{
    struct mdl_op op;
    struct mdl_batch batch, *one = &batch;
    medleyResult_t res = fill_op(a, c, &op);

    if (res != medleySuccess) return res;
    if (mdl_op_run_quick(&op)) return op.result;
    mdl_batch_init(&batch, c);
    mdl_batch_add(&batch, &op);
    res = mdl_drive(&one, 1);
    mdl_op_fini(&op);
    return res;
}

static medleyResult_t run_later(const struct args *a, struct mdl_comm *c)
{
    struct mdl_op *op = malloc(sizeof(*op));
    medleyResult_t res = op ? fill_op(a, c, op) : mdl_error(medleySystemError, "out of memory for an operation");

    if (res == medleySuccess) return mdl_group_op(a->comm, op, a->stream);
    free(op);
    return mdl_handle_return(a->comm, res);
}

/* A rank with a device: the stream is the vendor's, also the one that NULL stands for. */
static medleyResult_t run_on_device(const struct args *a, struct mdl_comm *c)
{
    struct mdl_op *op = malloc(sizeof(*op));
    struct mdl_dev_visit visit;
    medleyResult_t res;

    if (!op) return mdl_handle_return(a->comm, mdl_error(medleySystemError, "out of memory for an operation"));
    res = fill_op(a, c, op);
    if (res == medleySuccess) res = mdl_dev_enter(&c->stager->dev, &visit);
    if (res == medleySuccess) {
        res = mdl_stage_make(op, a->stream);
        mdl_dev_leave(&c->stager->dev, &visit);
    }
    if (res == medleySuccess) return mdl_group_op_on_device(a->comm, op);
    mdl_op_fini(op);
    free(op);
    return mdl_handle_return(a->comm, res);
}

static medleyResult_t issue(const struct args *a)
{
    struct mdl_comm *c;
    medleyResult_t res = mdl_handle_enter_ready(a->comm, &c);

    if (res == medleySuccess) {
        res = check(a, c);
        if (res != medleySuccess)
            res = mdl_handle_return(a->comm, res);
        else if (c->stager)
            res = run_on_device(a, c);
        else if (mdl_group_open() || a->stream || !c->blocking || mdl_queue_busy(c))
            res = run_later(a, c);
        else
            res = mdl_handle_return(a->comm, run_now(a, c));
    }
    if (res != medleySuccess) mdl_group_error(res);
    return res;
}

medleyResult_t medleyAllReduce(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype,
                               medleyRedOp_t op, medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyAllReduce",
                                .coll = medleyCollAllReduce,
                                .in = sendbuff,
                                .out = recvbuff,
                                .count = count,
                                .dtype = datatype,
                                .op = op,
                                .root = -1,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyReduce(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype,
                            medleyRedOp_t op, int root, medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyReduce",
                                .coll = medleyCollReduce,
                                .in = sendbuff,
                                .out = recvbuff,
                                .count = count,
                                .dtype = datatype,
                                .op = op,
                                .root = root,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyBroadcast(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype, int root,
                               medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyBroadcast",
                                .coll = medleyCollBroadcast,
                                .in = sendbuff,
                                .out = recvbuff,
                                .count = count,
                                .dtype = datatype,
                                .root = root,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyBcast(void *buff, size_t count, medleyDataType_t datatype, int root, medleyComm_t comm,
                           void *stream)
{
    return issue(&(struct args){.name = "medleyBcast",
                                .buffer = "buff",
                                .coll = medleyCollBroadcast,
                                .in = buff,
                                .out = buff,
                                .count = count,
                                .dtype = datatype,
                                .root = root,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyAllGather(const void *sendbuff, void *recvbuff, size_t sendcount, medleyDataType_t datatype,
                               medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyAllGather",
                                .coll = medleyCollAllGather,
                                .in = sendbuff,
                                .out = recvbuff,
                                .count = sendcount,
                                .dtype = datatype,
                                .root = -1,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyReduceScatter(const void *sendbuff, void *recvbuff, size_t recvcount, medleyDataType_t datatype,
                                   medleyRedOp_t op, medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyReduceScatter",
                                .coll = medleyCollReduceScatter,
                                .in = sendbuff,
                                .out = recvbuff,
                                .count = recvcount,
                                .dtype = datatype,
                                .op = op,
                                .root = -1,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyAlltoAll(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype,
                              medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyAlltoAll",
                                .coll = medleyCollAlltoAll,
                                .in = sendbuff,
                                .out = recvbuff,
                                .count = count,
                                .dtype = datatype,
                                .root = -1,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyGather(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype, int root,
                            medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyGather",
                                .coll = medleyCollGather,
                                .in = sendbuff,
                                .out = recvbuff,
                                .count = count,
                                .dtype = datatype,
                                .root = root,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyScatter(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype, int root,
                             medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyScatter",
                                .coll = medleyCollScatter,
                                .in = sendbuff,
                                .out = recvbuff,
                                .count = count,
                                .dtype = datatype,
                                .root = root,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyBarrier(medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyBarrier",
                                .coll = medleyCollBarrier,
                                .dtype = medleyInt8,
                                .root = -1,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyAllGatherV(const void *sendbuff, size_t sendcount, void *recvbuff, const size_t *recvcounts,
                                const size_t *displs, medleyDataType_t datatype, medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyAllGatherV",
                                .coll = medleyCollAllGatherV,
                                .in = sendbuff,
                                .out = recvbuff,
                                .count = sendcount,
                                .v = &(struct tables){.out_counts = recvcounts, .out_displs = displs},
                                .dtype = datatype,
                                .root = -1,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyReduceScatterV(const void *sendbuff, void *recvbuff, const size_t *recvcounts,
                                    const size_t *displs, medleyDataType_t datatype, medleyRedOp_t op,
                                    medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyReduceScatterV",
                                .coll = medleyCollReduceScatterV,
                                .in = sendbuff,
                                .out = recvbuff,
                                .v = &(struct tables){.in_counts = recvcounts, .in_displs = displs},
                                .dtype = datatype,
                                .op = op,
                                .root = -1,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyAlltoAllV(const void *sendbuff, const size_t *sendcounts, const size_t *sdispls, void *recvbuff,
                               const size_t *recvcounts, const size_t *rdispls, medleyDataType_t datatype,
                               medleyComm_t comm, void *stream)
{
    return issue(&(struct args){.name = "medleyAlltoAllV",
                                .coll = medleyCollAlltoAllV,
                                .in = sendbuff,
                                .out = recvbuff,
                                .v = &(struct tables){sendcounts, sdispls, recvcounts, rdispls},
                                .dtype = datatype,
                                .root = -1,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleySend(const void *sendbuff, size_t count, medleyDataType_t datatype, int peer, medleyComm_t comm,
                          void *stream)
{
    return issue(&(struct args){.name = "medleySend",
                                .coll = medleyCollSend,
                                .in = sendbuff,
                                .count = count,
                                .dtype = datatype,
                                .root = peer,
                                .comm = comm,
                                .stream = stream});
}

medleyResult_t medleyRecv(void *recvbuff, size_t count, medleyDataType_t datatype, int peer, medleyComm_t comm,
                          void *stream)
{
    return issue(&(struct args){.name = "medleyRecv",
                                .coll = medleyCollRecv,
                                .out = recvbuff,
                                .count = count,
                                .dtype = datatype,
                                .root = peer,
                                .comm = comm,
                                .stream = stream});
}
