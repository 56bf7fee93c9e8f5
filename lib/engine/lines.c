/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a host's ranks: what a call says in its own, and whose it waits for. See lines.h. */
#include "config.h"

#include "lib/engine/exec.h"
#include "lib/engine/lines.h"
#include "lib/engine/quick.h"

#include <string.h>

/* Elements of IN or OUT up to the end of its last slot, gaps between slots included. */
static size_t v_span(const struct mdl_op *op, enum mdl_buffer buf)
{
    uint32_t n = (uint32_t)mdl_shape_slots(mdl_op_shape(op), buf, op->comm->nranks);
    size_t end = 0;

    for (uint32_t i = 0; i < n; i++) {
        size_t count = mdl_op_own_count(op, buf, i), at = mdl_op_slot_offset(op, buf, i);
        if (count && at + count > end) end = at + count;
    }
    return end;
}

static __attribute__((noinline)) void v_bytes(const struct mdl_op *op, size_t *in, size_t *out)
{
    *in = v_span(op, MDL_IN) * op->elem;
    *out = v_span(op, MDL_OUT) * op->elem;
}

void mdl_lines_bytes(const struct mdl_op *op, size_t *in, size_t *out)
{
    const struct mdl_shape *shape = mdl_op_shape(op);
    size_t bytes = op->count * op->elem;
    int n = op->comm->nranks;
    bool root = op->call.root == op->comm->rank;

    if (shape->v) {
        v_bytes(op, in, out);
        return;
    }
    *in = mdl_shape_own_slots(shape, MDL_IN, n, root) * bytes;
    *out = mdl_shape_own_slots(shape, MDL_OUT, n, root) * bytes;
}

/* Where IN would be if the call is in place: where the own slot of the one is that of the other, or all slots are. */
static const void *in_place_address(const struct mdl_op *op)
{
    const struct mdl_shape *shape = mdl_op_shape(op);
    uint32_t me = (uint32_t)op->comm->rank;

    if (mdl_shape_is_split(shape, MDL_IN) && mdl_shape_is_split(shape, MDL_OUT)) return op->out;
    return (const char *)op->out + mdl_op_slot_offset(op, MDL_OUT, me) * op->elem -
           mdl_op_slot_offset(op, MDL_IN, me) * op->elem;
}

static void describe(const void *ptr, size_t bytes, uint64_t *segment, uint64_t *addr, uint8_t *flags, uint8_t mapped)
{
    struct mdl_mem mem = {0};

    if (bytes) mdl_mem_describe(ptr, bytes, &mem);
    *segment = mem.segment;
    *addr = mem.segment ? mem.offset : (uint64_t)(uintptr_t)ptr;
    if (mem.segment || !bytes) *flags |= mapped;
}

static void describe_buffers(struct mdl_op *op)
{
    struct mdl_call *call = &op->call;
    uintptr_t in = (uintptr_t)op->in, out = (uintptr_t)op->out;
    size_t in_bytes, out_bytes;

    mdl_lines_bytes(op, &in_bytes, &out_bytes);
    describe(op->in, in_bytes, &call->in_segment, &call->in_addr, &call->flags, MDL_LINE_IN_MAPPED);
    describe(op->out, out_bytes, &call->out_segment, &call->out_addr, &call->flags, MDL_LINE_OUT_MAPPED);
    if (in_bytes && out_bytes && op->in == in_place_address(op)) call->flags |= MDL_LINE_IN_PLACE;
    if (!in_bytes || !out_bytes || in + in_bytes <= out || out + out_bytes <= in) call->flags |= MDL_LINE_APART;
}

/* ---- the own line ---- */

void mdl_lines_begin(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;

    op->seq = ++c->coll_seq;
    if (op->rooms || mdl_quick_take_on(op)) {
        c->history = mdl_call_chain(&op->call, c->history);
    } else {
        c->history = mdl_call_tag(&op->call, op->seq, c->history);
        op->lines_end = c->board.nlocal;
    }
    op->tag = op->call.chain = c->history;
    op->state = MDL_STATE_ROOM;
}

bool mdl_lines_make_room_now(struct mdl_op *op)
{
    struct mdl_board *b = &op->comm->board;
    uint64_t line = mdl_board_room_line(op->seq, mdl_lines_depth(op));

    for (; op->lines_seen < b->nlocal; op->lines_seen++)
        if (op->lines_seen != b->me && mdl_board_compare_late(b, op->lines_seen, line) != medleySuccess) return false;
    b->agreed = line;
    return true;
}

static int member(const struct mdl_comm *c, int i) { return c->team->members[c->team->host[c->rank]][i]; }

/* Names the first call up to `seq` in which local rank i and this one differ. */
static medleyResult_t fail_difference(struct mdl_op *op, int i, uint64_t seq)
{
    struct mdl_comm *c = op->comm;
    const struct mdl_board *b = &c->board;
    struct mdl_call own, other;

    for (uint64_t s = b->agreed + 1; s <= seq; s++) {
        if (mdl_board_look(b, b->me, s, &own) != medleySuccess || mdl_board_look(b, i, s, &other) != medleySuccess ||
            mdl_call_same(&own, &other))
            continue;
        mdl_diag_mismatch(c, s, c->rank, &own, member(c, i), &other);
        return mdl_comm_fault(c);
    }
    op->suspect = member(c, i); /* it is asked */
    return mdl_error(medleyInvalidUsage, "calls before #%llu differ", (unsigned long long)seq);
}

medleyResult_t mdl_lines_make_room(struct mdl_op *op, int *events)
{
    const struct mdl_board *b = &op->comm->board;
    uint64_t line = mdl_board_room_line(op->seq, mdl_lines_depth(op));
    int before = op->lines_seen;

    if (mdl_lines_has_room(op)) return medleySuccess;
    *events += op->lines_seen - before;
    if (mdl_board_compare_late(b, op->lines_seen, line) == medleyInvalidUsage)
        return fail_difference(op, op->lines_seen, line);
    return medleyInProgress;
}

/* Who sleeps may wait for the line, though it is none that he needs, but room.
 *
 * There is no fence between the line and this look at who sleeps: it would have the processor wait until the line has
 * left it, which takes longer than the rest of a call that waits for nobody. So the look may be done before the line
 * can be seen, by as long as a store takes to come out; who is about to sleep looks once more after a multiple of that
 * (settle in drive.c). */
static void wake_all(struct mdl_comm *c)
{
    struct mdl_board *b = &c->board;

    atomic_signal_fence(memory_order_seq_cst); /* the compiler keeps the order */
    for (int i = 0; i < b->nlocal; i++)
        if (i != b->me && atomic_load_explicit(mdl_board_asleep(b, i), memory_order_relaxed))
            c->map_transport->ops->notify(c->map_transport->ctx, member(c, i));
}

void mdl_lines_publish(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;

    if (op->rooms) {
        mdl_quick_publish(op);
    } else {
        describe_buffers(op);
        memset(c->mapped, 0, (size_t)c->board.nlocal * sizeof(*c->mapped));
        mdl_board_publish(&c->board, op->seq, &op->call);
    }
    op->lines_seen = op->lines_first;
    op->state = MDL_STATE_LINES;
    wake_all(c);
}

/* ---- the others' ---- */

medleyResult_t mdl_lines_read(struct mdl_op *op, int *events)
{
    struct mdl_comm *c = op->comm;

    for (; op->lines_seen < op->lines_end; op->lines_seen++) {
        int i = op->lines_seen;
        medleyResult_t res = mdl_board_look(&c->board, i, op->seq, &c->calls[i]);

        for (int k = c->spin_ns ? MDL_LOOKS : 0; res == medleyInProgress && k > 0; k--) {
            mdl_relax();
            res = mdl_board_look(&c->board, i, op->seq, &c->calls[i]);
        }
        if (res == medleyInProgress) return res;
        if (res != medleySuccess) { /* it went on without us: it called something else as this collective */
            op->suspect = member(c, i);
            return medleyInvalidUsage;
        }
        if (c->calls[i].chain != op->call.chain) return fail_difference(op, i, op->seq);
        (*events)++;
    }
    mdl_lines_seen(op);
    return medleySuccess;
}

int mdl_lines_blame(const struct mdl_op *op, int *peers, int cap)
{
    const struct mdl_board *b = &op->comm->board;
    bool room = op->state == MDL_STATE_ROOM;
    uint64_t line = room ? mdl_board_room_line(op->seq, mdl_lines_depth(op)) : op->seq;
    int n = 0, end = room ? b->nlocal : op->lines_end;

    for (int i = op->lines_seen; i < end && n < cap; i++) {
        struct mdl_call unused;
        if (i != b->me && mdl_board_look(b, i, line, &unused) == medleyInProgress) peers[n++] = member(op->comm, i);
    }
    return n;
}
