/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call's part of direct.h: its steps, what they put into the stream, and what the executing thread does in them.
 *
 * The steps of a piece are FILL (if IN is in the host's memory), MEET, a second MEET (if shares are collected), EMPTY
 * (if OUT is in the host's memory). In the window a piece has its slots one behind the other: slot j at j times its
 * length.
 */
#include "config.h"

#include "lib/engine/direct.h"
#include "lib/engine/exec.h"
#include "lib/engine/lines.h"
#include "lib/engine/op.h"
#include "lib/engine/quick.h"

#include <stdlib.h>
#include <string.h>

enum step { FILL, MEET, EMPTY };
enum { COMMANDS_FOR_HOST = 4 }; /* operations of a piece whose buffers are the host's */

/* What is taken of the windows, and of whose: slots of all or of the root; the shares of all, each of which one rank
 * has reduced; or the own slot, which this rank reduces. */
enum take { FROM_ALL, FROM_ROOT, SHARES, REDUCED };

static enum take take_of(const struct mdl_shape *shape)
{
    if (shape->reduces) return mdl_shape_is_split(shape, MDL_IN) ? REDUCED : SHARES;
    return mdl_shape_is_roots(shape, MDL_IN) ? FROM_ROOT : FROM_ALL;
}

static struct mdl_direct *direct_of(const struct mdl_stage *s) { return s->op->comm->direct; }

/* ---- which calls ---- */

/* The same on all ranks: the call's signature, and what all have told each other. */
static bool takes(struct mdl_op *op)
{
    const struct mdl_comm *c = op->comm;
    const struct mdl_shape *shape = mdl_op_shape(op);

    if (!c->direct || shape->v || shape->message || op->count == 0 || op->premul) return false;
    if (shape->reduces && !(c->direct->types >> op->call.dtype & 1)) return false;
    if (shape->reduces && c->nranks > (c->cfg.deterministic ? MDL_DEV_FOLD_SRC : MDL_DEV_REDUCE_SRC)) return false;
    return !mdl_quick_take_on(op); /* a small one rides in the lines */
}

static void set_slots(const struct mdl_op *op, struct mdl_direct_call *call)
{
    const struct mdl_comm *c = op->comm;
    bool root = op->call.root == c->rank;

    call->in_slots = (uint32_t)mdl_shape_own_slots(mdl_op_shape(op), MDL_IN, c->nranks, root);
    call->out_slots = (uint32_t)mdl_shape_own_slots(mdl_op_shape(op), MDL_OUT, c->nranks, root);
}

/* Commands that a stream gets for a piece, at most. */
static size_t commands_of_piece(const struct mdl_op *op)
{
    const struct mdl_shape *shape = mdl_op_shape(op);
    const bool shares = take_of(shape) == SHARES;
    const size_t n = (size_t)op->comm->nranks, in = mdl_shape_slots(shape, MDL_IN, op->comm->nranks),
                 out = shares ? n : mdl_shape_slots(shape, MDL_OUT, op->comm->nranks);
    const size_t reduction = shape->reduces ? 1 + n / MDL_DEV_FOLD_SRC * 2 + (op->comm->direct->copies ? n : 0) : 0;

    return in + out + reduction + (shares ? 4 : 2) + COMMANDS_FOR_HOST;
}

medleyResult_t mdl_direct_make(struct mdl_stage *s)
{
    struct mdl_op *op = s->op;
    const struct mdl_shape *shape = mdl_op_shape(op);
    struct mdl_direct_call *call;
    size_t in, out;

    if (!takes(op)) return medleySuccess;
    in = mdl_shape_slots(shape, MDL_IN, op->comm->nranks);
    out = mdl_shape_slots(shape, MDL_OUT, op->comm->nranks);
    call = calloc(1, sizeof(*call));
    if (!call) return mdl_error(medleySystemError, "out of memory for an operation");
    set_slots(op, call);
    call->owner = op->comm->direct;
    call->cost = commands_of_piece(op);
    call->piece = op->comm->direct->most / (in > out ? in : out) / op->elem;
    if (call->piece > op->count) call->piece = op->count;
    call->npieces = (op->count + call->piece - 1) / call->piece;
    call->twice = take_of(shape) == SHARES;
    call->host_in = call->in_slots && !s->side[MDL_IN].staged;
    call->host_out = call->out_slots && !s->side[MDL_OUT].staged;
    call->per_piece = 1u + call->twice + call->host_in + call->host_out;
    call->total = (uint64_t)call->npieces * call->per_piece;
    s->direct = call;
    s->attended = false;
    return medleySuccess;
}

/* ---- room in pinned memory for what is in the host's ---- */

static bool take_bounce(struct mdl_stager *st, struct mdl_direct_call *call, int side)
{
    struct mdl_direct *d = call->owner;

    if (call->bounce[side]) return true;
    if (!d->bounce[side].users) d->bounce[side].at = mdl_stager_take(st, d->most);
    call->bounce[side] = d->bounce[side].at;
    d->bounce[side].users += call->bounce[side] != NULL;
    return call->bounce[side] != NULL;
}

bool mdl_direct_take_room(struct mdl_stager *st, struct mdl_direct_call *call)
{
    return (!call->host_in || take_bounce(st, call, MDL_IN)) && (!call->host_out || take_bounce(st, call, MDL_OUT));
}

void mdl_direct_drop_room(struct mdl_stager *st, struct mdl_direct_call *call)
{
    struct mdl_direct *d = call->owner;

    for (int i = 0; i < 2; i++) {
        if (call->bounce[i] && --d->bounce[i].users == 0) mdl_stager_give(st, d->bounce[i].at, d->most);
        call->bounce[i] = NULL;
    }
}

/* ---- pieces ---- */

struct piece {
    struct mdl_stage *s;
    const struct mdl_op *op;
    struct mdl_direct *d;
    struct mdl_direct_call *call;
    size_t first, len; /* elements of each slot */
    size_t half;       /* where it is in the windows */
    uint64_t step;     /* the newest that was put into the stream */
};

static struct piece piece_of(struct mdl_stage *s, size_t p)
{
    struct mdl_direct_call *call = s->direct;
    struct piece x = {.s = s, .op = s->op, .d = direct_of(s), .call = call, .first = p * call->piece};

    x.len = s->op->count - x.first < call->piece ? s->op->count - x.first : call->piece;
    x.half = ((call->first_piece + p) & 1) * x.d->half;
    x.step = call->base + p * call->per_piece;
    return x;
}

static char *window(const struct piece *x, int rank) { return x->d->peers[rank].window + x->half; }

/* Where slot j of a user's buffer has this piece. */
static char *user(const struct piece *x, int side, size_t j)
{
    return x->s->side[side].user + (j * x->op->count + x->first) * x->op->elem;
}

/* The share that rank r reduces: elements [from, to). */
static size_t share(const struct piece *x, int r) { return x->len * (size_t)r / (size_t)x->op->comm->nranks; }

/* ---- what goes into the stream ---- */

static medleyResult_t copy(const struct piece *x, void *dst, const void *src, size_t bytes, enum mdl_copy_kind kind)
{
    if (!bytes || dst == src) return medleySuccess;
    return x->d->dev.ops->copy(x->d->dev.ops, dst, src, bytes, kind, x->s->stream);
}

/* The end of what stands before the next step, and the wait for the step. */
static medleyResult_t pass(struct piece *x)
{
    x->step++;
    MDL_TRY(mdl_hold_write(x->d->hold, x->s->stream, x->d->arrived, x->step));
    return mdl_hold_wait(x->d->hold, x->s->stream, x->d->ready, x->step);
}

static medleyResult_t put_in(struct piece *x)
{
    const size_t bytes = x->len * x->op->elem;
    const uint32_t slots = x->call->in_slots;
    char *w = window(x, x->op->comm->rank);

    if (!slots) return medleySuccess;
    if (x->call->host_in) {
        MDL_TRY(pass(x));
        return copy(x, w, x->call->bounce[MDL_IN], slots * bytes, MDL_COPY_H2D);
    }
    if (x->call->npieces == 1) return copy(x, w, user(x, MDL_IN, 0), slots * bytes, MDL_COPY_D2D);
    for (size_t j = 0; j < slots; j++) MDL_TRY(copy(x, w + j * bytes, user(x, MDL_IN, j), bytes, MDL_COPY_D2D));
    return medleySuccess;
}

/* Bytes [at, at + bytes) of all windows as sources; what kernels may not read is copied first. */
static medleyResult_t find_sources(const struct piece *x, size_t at, size_t bytes, const void **srcs)
{
    char *room = x->d->scratch;

    for (int r = 0; r < x->op->comm->nranks; r++) {
        srcs[r] = window(x, r) + at;
        if (x->d->peers[r].reads) continue;
        MDL_TRY(copy(x, room, srcs[r], bytes, MDL_COPY_D2D));
        srcs[r] = room;
        room += bytes;
    }
    return medleySuccess;
}

/* Elements [from, from + n) of the windows to `dst`, in the order of the ranks. */
static medleyResult_t reduce(const struct piece *x, size_t from, size_t n, char *dst)
{
    const struct mdl_comm *c = x->op->comm;
    const void *srcs[MDL_DEV_REDUCE_SRC];
    const struct mdl_dev_reduce r = {
        .dtype = x->op->call.dtype,
        .op = x->op->call.op,
        .tree = c->cfg.deterministic,
        .divisor = x->op->call.op == medleyAvg ? (uint32_t)c->nranks : 0,
    };

    if (!n) return medleySuccess;
    MDL_TRY(find_sources(x, from * x->op->elem, n * x->op->elem, srcs));
    return mdl_dev_reduce(x->d->kernels, &r, dst, srcs, c->nranks, n, x->d->carry, x->s->stream);
}

/* The own share, or the own slot: in the window, but to OUT where that is the end of it. */
static medleyResult_t put_reduction(struct piece *x)
{
    const size_t elem = x->op->elem;
    int me = x->op->comm->rank;
    size_t from = x->call->twice ? share(x, me) : (size_t)me * x->len,
           n = x->call->twice ? share(x, me + 1) - from : x->len;
    char *dst = window(x, me) + from * elem;

    if (!mdl_op_shape(x->op)->reduces) return medleySuccess;
    if (!x->call->twice && !x->call->host_out) dst = user(x, MDL_OUT, 0);
    MDL_TRY(reduce(x, from, n, dst));
    return x->call->twice ? pass(x) : medleySuccess;
}

/* From rank r's window to slot j of OUT, `at` elements into this piece of it. */
static medleyResult_t collect(const struct piece *x, int r, size_t from, size_t j, size_t at, size_t n)
{
    const size_t elem = x->op->elem;
    const char *src = window(x, r) + from * elem;

    if (x->call->host_out)
        return copy(x, x->call->bounce[MDL_OUT] + (j * x->len + at) * elem, src, n * elem, MDL_COPY_D2H);
    return copy(x, user(x, MDL_OUT, j) + at * elem, src, n * elem, MDL_COPY_D2D);
}

/* Each begins with another rank, so that not all read the same window at once. */
static medleyResult_t put_out(struct piece *x)
{
    const enum take take = take_of(mdl_op_shape(x->op));
    const int n = x->op->comm->nranks, me = x->op->comm->rank, root = x->op->call.root;
    const size_t own = mdl_shape_is_split(mdl_op_shape(x->op), MDL_IN) ? (size_t)me * x->len : 0;

    if (!x->call->out_slots) return medleySuccess;
    if (take == FROM_ROOT) return collect(x, root, own, 0, 0, x->len);
    if (take == REDUCED) return x->call->host_out ? collect(x, me, own, 0, 0, x->len) : medleySuccess;
    for (int i = 0; i < n; i++) {
        int r = (me + i) % n;
        if (take == FROM_ALL)
            MDL_TRY(collect(x, r, own, (size_t)r, 0, x->len));
        else
            MDL_TRY(collect(x, r, share(x, r), 0, share(x, r), share(x, r + 1) - share(x, r)));
    }
    return medleySuccess;
}

static medleyResult_t put_piece(struct mdl_stage *s, size_t p)
{
    struct piece x = piece_of(s, p);

    MDL_TRY(put_in(&x));
    MDL_TRY(pass(&x));
    MDL_TRY(put_reduction(&x));
    MDL_TRY(put_out(&x));
    return x.call->host_out ? pass(&x) : medleySuccess;
}

void mdl_direct_number(struct mdl_stage *s)
{
    struct mdl_direct_call *call = s->direct;
    struct mdl_direct *d = call->owner;

    call->base = d->steps;
    call->first_piece = d->pieces;
    d->steps += call->total + 1;
    d->pieces += call->npieces;
}

static medleyResult_t put_end(struct mdl_stage *s)
{
    struct mdl_direct_call *call = s->direct;
    struct mdl_direct *d = call->owner;
    const struct mdl_device *ops = d->dev.ops;

    MDL_TRY(mdl_hold_write(d->hold, s->stream, d->arrived, call->base + call->total + 1));
    MDL_TRY(ops->event_record(ops, d->event, s->stream));
    d->used = true;
    return medleySuccess;
}

medleyResult_t mdl_direct_append(struct mdl_stage *s)
{
    struct mdl_direct *d = s->direct->owner;

    if (!s->launched && d->used) MDL_TRY(d->dev.ops->stream_wait_event(d->dev.ops, s->stream, d->event));
    s->launched = true;
    MDL_TRY(put_piece(s, s->put_out++));
    if (s->put_out < s->direct->npieces) return medleySuccess;
    s->over = true;
    return put_end(s);
}

void mdl_direct_end(struct mdl_stage *s) { (void)put_end(s); }

/* ---- the executing thread's side ---- */

static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

bool mdl_direct_is_through(const struct mdl_direct_call *call)
{
    return (load(call->owner->arrived) & ~MDL_WORD_FAILED) >= call->base + call->total + 1;
}

size_t mdl_direct_waiting(const struct mdl_stage *s)
{
    const struct mdl_direct_call *call = s->direct;
    uint64_t word = load(call->owner->arrived) & ~MDL_WORD_FAILED, steps = word > call->base ? word - call->base - 1 : 0;
    size_t pieces = (size_t)(steps / call->per_piece);

    return pieces < s->put_out ? (s->put_out - pieces) * call->cost : 0;
}

/* Has the stream come to the step in hand? */
static bool has_arrived(const struct mdl_op *op)
{
    const struct mdl_direct *d = op->comm->direct;
    uint64_t word = load(d->arrived); /* pairs with the stream's write */

    if (!(word & MDL_WORD_FAILED)) return word > op->stage->direct->base + op->stage->direct->done;
    if (!mdl_comm_failed(op->comm))
        (void)mdl_stager_fail(
            op->comm, mdl_error(medleyUnhandledDeviceError, "stream %p has failed", (void *)op->stage->stream));
    return false;
}

static enum step step_in_hand(const struct mdl_direct_call *call)
{
    uint32_t i = (uint32_t)(call->done % call->per_piece);

    if (call->host_in && i-- == 0) return FILL;
    return i < 1u + call->twice ? MEET : EMPTY;
}

static void finish_step(struct mdl_op *op)
{
    struct mdl_direct_call *call = op->stage->direct;

    call->done++;
    call->signalled = false;
    call->met = 0;
    __atomic_store_n(op->comm->direct->ready, call->base + call->done, __ATOMIC_RELEASE); /* the stream's wait */
}

/* Between the user's memory, which is the host's, and the pinned room. */
static void copy_piece(struct mdl_op *op, int side)
{
    struct mdl_direct_call *call = op->stage->direct;
    const struct piece x = piece_of(op->stage, (size_t)(call->done / call->per_piece));
    const size_t bytes = x.len * op->elem, slots = side == MDL_IN ? call->in_slots : call->out_slots;

    for (size_t j = 0; j < slots; j++) {
        char *room = call->bounce[side] + j * bytes, *own = user(&x, side, j);
        if (side == MDL_IN)
            memcpy(room, own, bytes);
        else
            memcpy(own, room, bytes);
    }
}

static bool have_met(struct mdl_op *op, int *events)
{
    struct mdl_comm *c = op->comm;
    struct mdl_direct_call *call = op->stage->direct;
    struct mdl_board *b = &c->board;

    for (int i = 0; !call->signalled && i < b->nlocal; i++) {
        if (i == b->me) continue;
        mdl_board_signal(b, i, MDL_P2P_CHANNEL);
        c->map_transport->ops->notify(c->map_transport->ctx, c->team->members[c->team->host[c->rank]][i]);
        (*events)++;
    }
    call->signalled = true;
    for (; call->met < b->nlocal; call->met++) {
        if (call->met != b->me && !mdl_board_consume(b, call->met, MDL_P2P_CHANNEL)) return false;
        (*events)++;
    }
    return true;
}

bool mdl_direct_is_reached(struct mdl_op *op)
{
    struct mdl_direct_call *call = op->stage->direct;

    if (call->host_in && call->done == 0) {
        if (!has_arrived(op)) return false;
        copy_piece(op, MDL_IN);
        finish_step(op);
    }
    return has_arrived(op);
}

void mdl_direct_start(struct mdl_op *op)
{
    /* before the step, which may be the last one that the stream, and who waits for it, is held by */
    atomic_store_explicit(&op->comm->last_algo, MDL_DIRECT_NAME, memory_order_relaxed);
    atomic_store_explicit(&op->comm->last_predicted_ns, 0, memory_order_relaxed);
    finish_step(op);
    MDL_TRACE(MDL_COLL, "rank %d: #%llu goes from device to device, %zu pieces", op->comm->rank,
              (unsigned long long)op->seq, op->stage->direct->npieces);
    op->state = MDL_STATE_RUN;
}

/* Elements of a piece that this rank's device reads of rank r's window. */
static size_t read_of(const struct piece *x, int r)
{
    const enum take take = take_of(mdl_op_shape(x->op));
    int me = x->op->comm->rank;
    size_t n = 0;

    if (take == SHARES) n = share(x, me + 1) - share(x, me);
    if (take == REDUCED) n = x->len;
    if (!x->call->out_slots) return n;
    if (take == SHARES) n += share(x, r + 1) - share(x, r);
    if (take == FROM_ALL || (take == FROM_ROOT && r == x->op->call.root)) n = x->len;
    return n;
}

static void count_reads(const struct mdl_op *op)
{
    const struct mdl_comm *c = op->comm;

    for (size_t p = 0; p < op->stage->direct->npieces; p++) {
        const struct piece x = piece_of(op->stage, p);
        for (int r = 0; r < c->nranks; r++)
            if (r != c->rank) mdl_board_count_read(&c->board, c->team->local[r], read_of(&x, r) * op->elem);
    }
}

medleyResult_t mdl_direct_run(struct mdl_op *op, int *events)
{
    struct mdl_direct_call *call = op->stage->direct;

    while (call->done < call->total) {
        enum step step = step_in_hand(call);
        if (!has_arrived(op)) return medleyInProgress;
        if (step == MEET && !have_met(op, events)) return medleyInProgress;
        if (step != MEET) copy_piece(op, step == FILL ? MDL_IN : MDL_OUT);
        finish_step(op);
        (*events)++;
    }
    count_reads(op);
    return medleySuccess;
}

int mdl_direct_blame(const struct mdl_op *op, int *peers, int cap)
{
    const struct mdl_direct_call *call = op->stage->direct;
    const struct mdl_comm *c = op->comm;

    if (op->state != MDL_STATE_RUN || !call->signalled || call->met >= c->board.nlocal || cap < 1) return 0;
    peers[0] = c->team->members[c->team->host[c->rank]][call->met];
    return 1;
}

void mdl_direct_release(struct mdl_direct_call *call)
{
    __atomic_store_n(call->owner->ready, MDL_HOLD_RELEASED, __ATOMIC_RELEASE); /* pairs with the stream's wait */
}

/* What the stream still waits for does not come any more. */
void mdl_direct_let_go(struct mdl_stage *s)
{
    if (s->launched && s->direct->done < s->direct->total) mdl_direct_release(s->direct);
}
