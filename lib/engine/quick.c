/* SPDX-License-Identifier: Apache-2.0 */
/* See quick.h. */
#include "config.h"

#include "lib/engine/quick.h"
#include "lib/algo/spec.h"
#include "lib/reduce/reduce.h"

#include <string.h>

/* What is read of the payloads. Without a root every rank reads everything, so that the sum over the ranks counts as
 * well. Where ranks take turns on the processors, each further round of signals costs more than reading this: 8 ranks on
 * 2 cores, 8 KiB, 73 us staged and 31 us so. A reduction's root works alone while a plan would share its work, but
 * nobody waits for it: 4 ranks on 2 cores, 128 KiB, 31 us staged and 20 us so. In all other collectives with a root a
 * byte is written once and read by who needs it, and only the room bounds them. */
enum { MOST_READ = 32768, MOST_READ_CROWDED = 131072, ROOT_READS = 131072, ROOT_READS_CROWDED = 1048576 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Bytes of a payload. By facts of the team, not of this rank: all must decide alike. */
static size_t most_of(const struct mdl_comm *c, medleyColl_t coll)
{
    bool crowded = c->nranks > (int)c->team->cores;
    size_t n = (size_t)c->nranks, room = least(MDL_BOARD_PAYLOAD_BYTES, c->cfg.oneshot);

    if (mdl_shapes[coll].v || mdl_shapes[coll].message || !mdl_spec_admits(c->cfg.algo.s, coll, "oneshot")) return 0;
    if (coll == medleyCollReduce) return least(room, (crowded ? ROOT_READS_CROWDED : ROOT_READS) / n);
    if (mdl_shapes[coll].rooted) return room;
    return least(room, (crowded ? MOST_READ_CROWDED : MOST_READ) / n);
}

void mdl_quick_init(struct mdl_comm *c)
{
    c->quick = 0;
    if (!c->use_board || c->team->nhosts > 1 || c->nranks > MDL_REDUCE_MAX_SRC) return;
    for (medleyColl_t coll = 0; coll < medleyNumColls; coll++) {
        c->quick_most[coll] = (uint32_t)most_of(c, coll);
        if (c->quick_most[coll]) c->quick |= 1u << coll;
    }
}

/* Bytes of an element in the payload: PreMulSum sends products, unrounded. */
static size_t payload_elem(const struct mdl_op *op)
{
    return op->premul ? mdl_dtype_acc_size(op->call.dtype) : op->elem;
}

static size_t payload_count(const struct mdl_op *op)
{
    return op->count * (mdl_shape_is_split(mdl_op_shape(op), MDL_IN) ? (size_t)op->comm->nranks : 1);
}

/* A stage brings its buffers block by block, and this way takes them at once. The same on all ranks. */
static bool is_one_block(const struct mdl_op *op)
{
    const struct mdl_shape *shape = mdl_op_shape(op);
    size_t in, out;

    if (!op->comm->limits.blocks) return true;
    in = mdl_shape_slots(shape, MDL_IN, op->comm->nranks);
    out = mdl_shape_slots(shape, MDL_OUT, op->comm->nranks);
    return op->count <= mdl_choose_block(&op->comm->limits, (uint32_t)(in > out ? in : out), op->elem);
}

bool mdl_quick_take_on(struct mdl_op *op)
{
    const struct mdl_comm *c = op->comm;
    const struct mdl_shape *shape = mdl_op_shape(op);
    int root = op->call.root;
    bool is_root = root == c->rank, from_root;
    size_t bytes;

    if (!(c->quick >> op->call.coll & 1) || op->count > MDL_BOARD_PAYLOAD_BYTES || !is_one_block(op)) return false;
    bytes = payload_count(op) * payload_elem(op);
    if (bytes > c->quick_most[op->call.coll]) return false;
    op->rooms = mdl_board_rooms(bytes, root < 0);
    op->puts = true;
    op->lines_first = 0;
    op->lines_end = c->nranks; /* in one host the local numbers are the ranks */
    if (!shape->rooted) return true;
    from_root = mdl_shape_is_roots(shape, MDL_IN);
    /* A gather's root takes its own part from where it is; a reduction's needs it as the others' are. */
    op->puts = from_root ? is_root : op->call.coll != medleyCollGather || !is_root;
    if (from_root && !is_root) {
        op->lines_first = root;
        op->lines_end = root + 1;
    } else if (from_root || !is_root) {
        op->lines_end = 0; /* nobody has anything for this rank */
    }
    return true;
}

static inline void put(const struct mdl_op *op)
{
    const struct mdl_board *b = &op->comm->board;
    void *payload = mdl_board_payload(b, b->me, op->seq, op->rooms);

    if (!op->in) return; /* a barrier */
    if (op->premul)
        mdl_premul(op->call.dtype, payload, op->in, &op->scalar, payload_count(op));
    else
        memcpy(payload, op->in, payload_count(op) * op->elem);
}

void mdl_quick_publish(struct mdl_op *op)
{
    if (op->puts) put(op);
    mdl_board_publish_short(&op->comm->board, op->seq, &op->call);
    if (op->call.root >= 0) __builtin_prefetch(mdl_board_line(&op->comm->board, op->comm->board.me, op->seq + 2), 1);
}

/* Where rank `rank` put its part number `part`. In one host the local numbers are the ranks. */
static const char *take_part(const struct mdl_op *op, int rank, int part)
{
    const struct mdl_comm *c = op->comm;

    if (rank != c->rank) mdl_board_count_read(&c->board, rank, op->count * op->elem);
    return (const char *)mdl_board_payload(&c->board, rank, op->seq, op->rooms) +
           (size_t)part * op->count * payload_elem(op);
}

static void fold(const struct mdl_op *op, int part)
{
    const struct mdl_comm *c = op->comm;
    const void *srcs[MDL_REDUCE_MAX_SRC];
    bool avg = op->call.op == medleyAvg;
    struct mdl_reduce r = {
        .dtype = op->call.dtype,
        .op = avg ? medleySum : op->call.op,
        .tree = c->cfg.deterministic,
        .finalize = avg ? MDL_FINAL_AVG : MDL_FINAL_NONE,
        .padded = true,
        .divisor = (uint32_t)c->nranks,
    };

    for (int i = 0; i < c->nranks; i++) srcs[i] = take_part(op, i, part);
    mdl_reduce(&r, op->out, srcs, op->premul ? UINT64_MAX : 0, c->nranks, op->count);
}

static void collect(const struct mdl_op *op, int part)
{
    size_t bytes = op->count * op->elem;

    for (int i = 0; i < op->comm->nranks; i++)
        memcpy((char *)op->out + (size_t)i * bytes, take_part(op, i, part), bytes);
}

/* The own part, which was not put, goes first: IN may lie in OUT. */
static void gather(const struct mdl_op *op)
{
    size_t bytes = op->count * op->elem;
    int me = op->comm->rank;

    memmove((char *)op->out + (size_t)me * bytes, op->in, bytes);
    for (int i = 0; i < op->comm->nranks; i++)
        if (i != me) memcpy((char *)op->out + (size_t)i * bytes, take_part(op, i, 0), bytes);
}

/* From the root, to which it came in parts. */
static void receive(const struct mdl_op *op, int part)
{
    size_t bytes = op->count * op->elem;
    int root = op->call.root;

    if (root == op->comm->rank)
        memmove(op->out, (const char *)op->in + (size_t)part * bytes, bytes);
    else
        memcpy(op->out, take_part(op, root, part), bytes);
}

void mdl_quick_finish(const struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    int me = c->rank;

    switch (op->call.coll) {
    case medleyCollAllReduce: fold(op, 0); break;
    case medleyCollReduceScatter: fold(op, me); break;
    case medleyCollAllGather: collect(op, 0); break;
    case medleyCollAlltoAll: collect(op, me); break;
    case medleyCollScatter: receive(op, me); break;
    case medleyCollBroadcast: receive(op, 0); break;
    case medleyCollReduce:
        if (op->call.root == me) fold(op, 0);
        break;
    case medleyCollGather:
        if (op->call.root == me) gather(op);
        break;
    default: break; /* a barrier is over when all lines are there */
    }
    atomic_store_explicit(&c->last_algo, "oneshot", memory_order_relaxed);
    atomic_store_explicit(&c->last_predicted_ns,
                          c->team->local_alpha +
                              (uint64_t)op->count * op->elem * (uint64_t)c->nranks * c->team->copy_beta / 1000,
                          memory_order_relaxed);
}
