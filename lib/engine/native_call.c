/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See native.h: which calls go to the vendor, and how.
 *
 * What the vendor has no call for is made of messages (gather, scatter, all-to-all, the V collectives) or of reductions
 * to one rank each (reduce-scatter V). What only moves is moved as bytes, so types count for reductions only.
 *
 * What is launched together (launch.h) is one group of the vendor's: it may hold ranks of one communicator that need
 * each other, if they are all this thread's.
 */
#include "config.h"

#include "lib/engine/comm.h"
#include "lib/engine/exec.h"
#include "lib/engine/island.h"
#include "lib/engine/lines.h"
#include "lib/engine/native.h"
#include "lib/engine/stage.h"

#include <stdlib.h>
#include <string.h>

static struct mdl_native_comm *native_of(const struct mdl_op *op) { return op->comm->native; }
static const struct mdl_device *device_of(const struct mdl_op *op) { return native_of(op)->dev.ops; }

/* ---- which calls ---- */

static bool has(const struct mdl_native_comm *n, medleyColl_t coll) { return (n->caps.colls >> coll & 1) != 0; }

static bool has_messages(const struct mdl_native_comm *n) { return has(n, medleyCollSend) && has(n, medleyCollRecv); }

static bool reduces(const struct mdl_native_comm *n, const struct mdl_op *op)
{
    if (op->premul && !(n->caps.ways & MDL_NATIVE_FACTORS)) return false;
    return op->call.op < medleyNumOps && (n->caps.reduces[op->call.op] >> op->call.dtype & 1);
}

bool mdl_native_takes(const struct mdl_op *op)
{
    const struct mdl_native_comm *n = op->comm->native;
    medleyColl_t coll = op->call.coll;

    if (!n || op->comm->islands || (!mdl_op_shape(op)->v && op->count == 0)) return false;
    switch (coll) {
    case medleyCollAllReduce:
    case medleyCollReduce:
    case medleyCollReduceScatter: return has(n, coll) && reduces(n, op);
    case medleyCollReduceScatterV: return has(n, medleyCollReduce) && reduces(n, op);
    case medleyCollBroadcast:
    case medleyCollAllGather: return has(n, coll);
    case medleyCollAlltoAll: return has(n, coll) || has_messages(n);
    case medleyCollGather:
    case medleyCollScatter:
    case medleyCollAllGatherV:
    case medleyCollAlltoAllV: return has_messages(n);
    case medleyCollSend:
    case medleyCollRecv: /* to itself: nobody else's affair */
        return has_messages(n) && !(n->caps.ways & MDL_NATIVE_ALIKE) && op->call.root != op->comm->rank;
    default: return false;
    }
}

/* ---- making one ---- */

static struct mdl_pass *reuse_pass(struct mdl_native_comm *n)
{
    struct mdl_pass *p = NULL;

    pthread_mutex_lock(&n->pool);
    if (!mdl_list_empty(&n->passes)) {
        p = mdl_container_of(n->passes.next, struct mdl_pass, link);
        mdl_list_remove(&p->link);
    }
    pthread_mutex_unlock(&n->pool);
    return p;
}

static medleyResult_t take_pass(struct mdl_op *op, mdl_dev_stream stream)
{
    const struct mdl_device *d = device_of(op);
    struct mdl_pass *p = reuse_pass(native_of(op));
    bool beside = !stream && native_of(op)->own;

    if (!p) p = calloc(1, sizeof(*p));
    if (!p) return mdl_error(medleySystemError, "out of memory for an operation");
    *p = (struct mdl_pass){.begin = p->begin, .end = p->end, .beside = beside, .owner = native_of(op)};
    p->stream = beside ? p->owner->own : stream;
    atomic_fetch_add_explicit(&p->owner->holders, 1, memory_order_relaxed);
    mdl_list_init(&p->link);
    op->native = p; /* let_go takes it from here on */
    if (!p->begin) MDL_TRY(d->event_create(d, &p->begin));
    if (!p->end) MDL_TRY(d->event_create(d, &p->end));
    return medleySuccess;
}

static struct mdl_native_room *reuse_room(struct mdl_native_comm *n, size_t bytes)
{
    struct mdl_native_room *found = NULL;

    pthread_mutex_lock(&n->pool);
    mdl_list_each (it, &n->rooms) {
        struct mdl_native_room *r = mdl_container_of(it, struct mdl_native_room, link);
        if (!found && r->bytes >= bytes) found = r;
    }
    if (found) mdl_list_remove(&found->link);
    pthread_mutex_unlock(&n->pool);
    return found;
}

/* Rounded up to a power of two, so that a few serve all. */
static medleyResult_t take_room(struct mdl_op *op, int side, size_t bytes, bool from_host)
{
    const struct mdl_device *d = device_of(op);
    struct mdl_native_room *r = reuse_room(native_of(op), bytes);
    size_t rounded = 4096;
    medleyResult_t res;

    op->native->from_host[side] = from_host;
    op->native->room[side] = r;
    if (r) return medleySuccess;
    r = calloc(1, sizeof(*r));
    if (!r) return mdl_error(medleySystemError, "out of memory for an operation");
    while (rounded < bytes) rounded *= 2;
    mdl_list_init(&r->link);
    r->bytes = rounded;
    res = d->alloc(d, rounded, (void **)&r->at);
    if (res != medleySuccess) {
        free(r);
        return res;
    }
    op->native->room[side] = r;
    return medleySuccess;
}

/* Bytes that the vendor wants to have for the result of a reduction to another rank. */
static size_t spare_bytes(const struct mdl_op *op)
{
    size_t most = 0;

    if (op->island) return mdl_island_spare(op);
    if (!(native_of(op)->caps.ways & MDL_NATIVE_REDUCE_OUT)) return 0;
    if (op->call.coll == medleyCollReduce) return op->call.root == op->comm->rank ? 0 : op->count * op->elem;
    for (int r = 0; op->call.coll == medleyCollReduceScatterV && r < op->comm->nranks; r++)
        if (r != op->comm->rank && op->tables[r] > most) most = op->tables[r];
    return most * op->elem;
}

static medleyResult_t find_factor(struct mdl_op *op)
{
    bool of_device;

    op->native->factor_at = op->scalar_at;
    op->scalar_at = NULL; /* nobody else reads it */
    if (!op->native->factor_at) return medleySuccess;
    MDL_TRY(mdl_stage_find_out(op, op->native->factor_at, &of_device));
    return of_device ? medleySuccess : take_room(op, MDL_NATIVE_FACTOR, op->elem, true);
}

medleyResult_t mdl_native_make(struct mdl_op *op, mdl_dev_stream stream)
{
    const void *user[2] = {op->in, op->out};
    size_t bytes[2];

    mdl_lines_bytes(op, &bytes[MDL_IN], &bytes[MDL_OUT]);
    MDL_TRY(take_pass(op, stream));
    for (int side = 0; side < 2; side++) {
        bool of_device = false, again = side == MDL_IN && op->call.coll == medleyCollAlltoAll && op->in == op->out;
        if (!bytes[side]) continue;
        MDL_TRY(mdl_stage_find_out(op, user[side], &of_device));
        if (!of_device || again) MDL_TRY(take_room(op, side, bytes[side], !of_device));
    }
    MDL_TRY(find_factor(op));
    bytes[0] = spare_bytes(op);
    return bytes[0] ? take_room(op, MDL_NATIVE_SPARE, bytes[0], false) : medleySuccess;
}

/* ---- the stream's work ---- */

char *mdl_native_address(const struct mdl_op *op, int side)
{
    size_t bytes[2];

    if (op->native->room[side]) return op->native->room[side]->at;
    mdl_lines_bytes(op, &bytes[MDL_IN], &bytes[MDL_OUT]);
    if (!bytes[side]) return NULL;
    return side == MDL_IN ? (char *)(uintptr_t)op->in : op->out;
}

static char *spare(const struct mdl_op *op)
{
    return op->native->room[MDL_NATIVE_SPARE] ? op->native->room[MDL_NATIVE_SPARE]->at : NULL;
}

static medleyResult_t copy(const struct mdl_op *op, void *dst, const void *src, size_t bytes, enum mdl_copy_kind kind)
{
    const struct mdl_device *d = device_of(op);

    return bytes && dst != src ? d->copy(d, dst, src, bytes, kind, op->native->stream) : medleySuccess;
}

static bool needs_one_buffer(const struct mdl_op *op)
{
    return op->call.coll == medleyCollBroadcast && (native_of(op)->caps.ways & MDL_NATIVE_ONE_BUFFER) &&
           op->call.root == op->comm->rank;
}

static medleyResult_t put_event(struct mdl_op *op, mdl_dev_event event, mdl_dev_stream stream, enum mdl_pass_put which)
{
    MDL_TRY(device_of(op)->event_record(device_of(op), event, stream));
    atomic_store_explicit(&op->native->put, which, memory_order_release); /* pairs with put in native.c */
    return medleySuccess;
}

static medleyResult_t begin(struct mdl_op *op)
{
    struct mdl_pass *p = op->native;
    size_t in, out;

    if (op->island && op->island->phase != MDL_ISLAND_GATHER) return medleySuccess;
    MDL_TRY(put_event(op, p->begin, p->beside ? NULL : p->stream, MDL_PASS_BEGIN));
    if (p->beside) MDL_TRY(device_of(op)->stream_wait_event(device_of(op), p->stream, p->begin));
    mdl_lines_bytes(op, &in, &out);
    if (p->room[MDL_IN])
        MDL_TRY(copy(op, p->room[MDL_IN]->at, op->in, in, p->from_host[MDL_IN] ? MDL_COPY_H2D : MDL_COPY_D2D));
    if (p->room[MDL_NATIVE_FACTOR])
        MDL_TRY(copy(op, p->room[MDL_NATIVE_FACTOR]->at, p->factor_at, op->elem, MDL_COPY_H2D));
    if (op->island) return mdl_island_begin(op);
    if (needs_one_buffer(op))
        return copy(op, mdl_native_address(op, MDL_OUT), mdl_native_address(op, MDL_IN), in, MDL_COPY_D2D);
    return medleySuccess;
}

/* Slot by slot where there may be gaps between them, which are not the call's. */
static medleyResult_t copy_out(struct mdl_op *op)
{
    const char *from = op->native->room[MDL_OUT]->at;
    char *to = op->out;
    size_t in, out;

    mdl_lines_bytes(op, &in, &out);
    if (!mdl_op_shape(op)->v || !mdl_shape_is_split(mdl_op_shape(op), MDL_OUT))
        return copy(op, to, from, out, MDL_COPY_D2H);
    for (uint32_t r = 0; r < (uint32_t)op->comm->nranks; r++) {
        size_t n = mdl_op_own_count(op, MDL_OUT, r) * op->elem, at = mdl_op_slot_offset(op, MDL_OUT, r) * op->elem;
        MDL_TRY(copy(op, to + at, from + at, n, MDL_COPY_D2H));
    }
    return medleySuccess;
}

static medleyResult_t end(struct mdl_op *op)
{
    struct mdl_pass *p = op->native;

    if (op->island && op->island->phase != MDL_ISLAND_SPREAD) return medleySuccess;
    if (p->room[MDL_OUT]) MDL_TRY(copy_out(op));
    MDL_TRY(put_event(op, p->end, p->stream, MDL_PASS_END));
    return p->beside ? device_of(op)->stream_wait_event(device_of(op), NULL, p->end) : medleySuccess;
}

/* ---- the vendor's calls ---- */

static struct mdl_native_call message(medleyColl_t coll, char *at, size_t bytes, int peer)
{
    bool sends = coll == medleyCollSend;

    return (struct mdl_native_call){.coll = coll,
                                    .in = sends ? at : NULL,
                                    .out = sends ? NULL : at,
                                    .count = bytes,
                                    .dtype = medleyInt8,
                                    .root = peer};
}

/* What goes to rank r, or comes from it: bytes at an offset of IN or OUT. */
static size_t part(const struct mdl_op *op, enum mdl_buffer side, int r, size_t *at)
{
    const struct mdl_shape *shape = mdl_op_shape(op);
    enum mdl_buffer other = side == MDL_IN ? MDL_OUT : MDL_IN;

    *at = mdl_op_slot_offset(op, side, (uint32_t)r) * op->elem;
    if (!mdl_shape_has(shape, side, op->call.root == op->comm->rank)) return 0;
    if (!mdl_shape_has(shape, other, op->call.root == r)) return 0;
    return mdl_op_own_count(op, side, (uint32_t)r) * op->elem;
}

static medleyResult_t run_as_messages(struct mdl_op *op)
{
    struct mdl_native_comm *n = native_of(op);
    char *in = mdl_native_address(op, MDL_IN), *out = mdl_native_address(op, MDL_OUT);
    struct mdl_native_call *list = calloc(2 * (size_t)op->comm->nranks, sizeof(*list));
    medleyResult_t res = medleySuccess;
    size_t from, to, bytes;
    int k = 0;

    if (!list) return mdl_error(medleySystemError, "out of memory for %d messages", 2 * op->comm->nranks);
    for (int r = 0; r < op->comm->nranks; r++) {
        if (r == op->comm->rank) continue;
        bytes = part(op, MDL_IN, r, &from);
        if (bytes) list[k++] = message(medleyCollSend, in + from, bytes, r);
        bytes = part(op, MDL_OUT, r, &to);
        if (bytes) list[k++] = message(medleyCollRecv, out + to, bytes, r);
    }
    bytes = part(op, MDL_IN, op->comm->rank, &from);
    if (bytes && part(op, MDL_OUT, op->comm->rank, &to)) res = copy(op, out + to, in + from, bytes, MDL_COPY_D2D);
    if (res == medleySuccess && k) res = n->ops->messages(n->ops, n->comm, list, k, op->native->stream);
    free(list);
    return res;
}

static void set_factor(const struct mdl_op *op, struct mdl_native_call *call)
{
    const struct mdl_pass *p = op->native;

    if (!op->premul) return;
    call->factor_of_device = p->factor_at != NULL;
    call->factor = p->room[MDL_NATIVE_FACTOR] ? p->room[MDL_NATIVE_FACTOR]->at
                   : p->factor_at             ? p->factor_at
                                              : &op->scalar;
}

static medleyResult_t run_as_reductions(struct mdl_op *op)
{
    struct mdl_native_comm *n = native_of(op);
    size_t nranks = (size_t)op->comm->nranks;
    char *in = mdl_native_address(op, MDL_IN);

    for (size_t r = 0; r < nranks; r++) {
        struct mdl_native_call call = {
            .coll = medleyCollReduce,
            .in = in + op->tables[nranks + r] * op->elem,
            .out = (int)r == op->comm->rank ? mdl_native_address(op, MDL_OUT) : spare(op),
            .count = op->tables[r],
            .dtype = op->call.dtype,
            .op = op->call.op,
            .root = (int)r,
        };
        set_factor(op, &call);
        if (mdl_native_is_over(n)) return mdl_comm_fault(op->comm); /* aborted while an earlier one was waiting */
        if (call.count) MDL_TRY(n->ops->run(n->ops, n->comm, &call, op->native->stream));
    }
    return medleySuccess;
}

static struct mdl_native_call call_of(const struct mdl_op *op)
{
    bool moves = !mdl_op_shape(op)->reduces;
    struct mdl_native_call call = {
        .coll = op->call.coll,
        .in = mdl_native_address(op, MDL_IN),
        .out = mdl_native_address(op, MDL_OUT),
        .count = moves ? op->count * op->elem : op->count,
        .dtype = moves ? medleyInt8 : op->call.dtype,
        .op = op->call.op,
        .root = op->call.root,
    };

    set_factor(op, &call);
    if (!call.out) call.out = spare(op);
    if (call.coll == medleyCollBroadcast && (!call.in || needs_one_buffer(op))) call.in = call.out;
    return call;
}

/* Is it made of messages? */
static bool is_composed(const struct mdl_op *op)
{
    medleyColl_t coll = op->call.coll;

    return coll == medleyCollGather || coll == medleyCollScatter || coll == medleyCollAllGatherV ||
           coll == medleyCollAlltoAllV || (coll == medleyCollAlltoAll && !has(native_of(op), coll));
}

static medleyResult_t run(struct mdl_op *op)
{
    struct mdl_native_comm *n = native_of(op);
    struct mdl_native_call call;

    if (op->island) return mdl_island_run_vendor(op);
    if (is_composed(op)) return run_as_messages(op);
    if (op->call.coll == medleyCollReduceScatterV) return run_as_reductions(op);
    call = call_of(op);
    return mdl_op_is_message(op) ? n->ops->messages(n->ops, n->comm, &call, 1, op->native->stream)
                                 : n->ops->run(n->ops, n->comm, &call, op->native->stream);
}

/* ---- groups ---- */

struct round {
    struct mdl_op **ops; /* NULL: done */
    size_t n;
};

static medleyResult_t fail_op(struct mdl_op *op, medleyResult_t res) { return mdl_stager_fail(op->comm, res); }

/* With the device entered. */
static medleyResult_t visit(struct mdl_op *op, medleyResult_t (*fn)(struct mdl_op *op))
{
    const struct mdl_dev *dev = &native_of(op)->dev;
    struct mdl_dev_visit before;
    medleyResult_t res = mdl_dev_enter(dev, &before);

    if (res != medleySuccess) return fail_op(op, res);
    res = fn(op);
    mdl_dev_leave(dev, &before);
    return fail_op(op, res);
}

static int kind_of(const struct mdl_op *op)
{
    if (op->island) return mdl_island_vendor_coll(op);
    if (mdl_op_is_message(op) || is_composed(op)) return medleyCollSend;
    return op->call.coll == medleyCollReduceScatterV ? medleyCollReduce : op->call.coll;
}

static bool may_be_grouped(const struct mdl_op *op)
{
    uint32_t ways = native_of(op)->caps.ways;

    return (ways & MDL_NATIVE_GROUPS) && (!(ways & MDL_NATIVE_MESSAGES) || kind_of(op) == medleyCollSend);
}

static bool fit_together(const struct mdl_op *a, const struct mdl_op *b)
{
    const struct mdl_native_comm *x = native_of(a), *y = native_of(b);

    if (x->ops != y->ops || !may_be_grouped(b) || mdl_op_is_message(a) != mdl_op_is_message(b)) return false;
    return !(x->caps.ways & MDL_NATIVE_ONE_KIND) || kind_of(a) == kind_of(b);
}

/* Those that fit to the one at `first`, in one group of the vendor's. */
static medleyResult_t run_group(const struct round *round, size_t first)
{
    struct mdl_op *lead = round->ops[first];
    const struct mdl_native *ops = native_of(lead)->ops;
    const struct mdl_dev *dev = &native_of(lead)->dev;
    struct mdl_dev_visit before;
    medleyResult_t res = mdl_dev_enter(dev, &before), ended;

    if (res != medleySuccess) return fail_op(lead, res);
    res = ops->group_start(ops);
    if (res != medleySuccess) {
        mdl_dev_leave(dev, &before);
        return fail_op(lead, res);
    }
    for (size_t i = first; i < round->n; i++) {
        struct mdl_op *op = round->ops[i];
        if (!op || !fit_together(lead, op)) continue;
        if (res == medleySuccess) res = visit(op, run);
        if (i != first) round->ops[i] = NULL;
    }
    ended = ops->group_end(ops);
    mdl_dev_leave(dev, &before);
    round->ops[first] = NULL;
    return fail_op(lead, res == medleySuccess ? ended : res);
}

static medleyResult_t run_next(const struct round *round, size_t first)
{
    struct mdl_op *op = round->ops[first];

    if (may_be_grouped(op)) return run_group(round, first);
    round->ops[first] = NULL;
    return visit(op, run);
}

static medleyResult_t run_all(const struct round *round)
{
    if (round->n == 1) return visit(round->ops[0], run);
    /* Messages first, and in a group of their own: their order and that of collectives need not be the same on all
     * ranks, and vendors differ in which of them a group with both begins with. */
    for (int rest = 0; rest < 2; rest++)
        for (size_t i = 0; i < round->n; i++)
            if (round->ops[i] && (rest || mdl_op_is_message(round->ops[i]))) MDL_TRY(run_next(round, i));
    return medleySuccess;
}

/* ---- launching ---- */

/* Is its communicator that of one before it? */
static bool is_known(struct mdl_op *const *ops, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (ops[k]->comm == ops[i]->comm) return true;
    return false;
}

/* Whoever ends the vendor's communicator takes its lock, so nothing that may wait is done with it but the vendor's own
 * calls, which the end does not wait for. */
static medleyResult_t lock_all(struct mdl_op *const *ops, size_t n)
{
    medleyResult_t res = medleySuccess;

    for (size_t i = 0; i < n; i++) {
        if (is_known(ops, i)) continue;
        pthread_mutex_lock(&native_of(ops[i])->lock);
        if (res == medleySuccess && mdl_native_is_over(native_of(ops[i]))) res = mdl_comm_fault(ops[i]->comm);
    }
    return res;
}

static void unlock_all(struct mdl_op *const *ops, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!is_known(ops, i)) pthread_mutex_unlock(&native_of(ops[i])->lock);
}

medleyResult_t mdl_native_launch(struct mdl_op *const *ops, size_t n, struct mdl_op **room)
{
    struct round round = {room, n};
    medleyResult_t res;

    memcpy(room, ops, n * sizeof(struct mdl_op *));
    for (size_t i = 0; i < n; i++) MDL_TRY(visit(ops[i], begin));
    res = lock_all(ops, n);
    if (res == medleySuccess) res = run_all(&round);
    unlock_all(ops, n);
    for (size_t i = 0; res == medleySuccess && i < n; i++) res = visit(ops[i], end);
    return res;
}
