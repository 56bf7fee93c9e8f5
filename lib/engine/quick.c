/* SPDX-License-Identifier: Apache-2.0 */
/* See quick.h. */
#include "config.h"

#include "lib/engine/quick.h"
#include "lib/algo/spec.h"
#include "lib/reduce/reduce.h"

#include <string.h>

/* Every rank reads everything, so that the sum over the ranks counts as well. Where ranks take turns on the processors,
 * each further round of signals costs more than reading this: 8 ranks on 2 cores, 8 KiB, 73 us staged and 31 us so. */
enum { MOST_READ = 32768, MOST_READ_CROWDED = 131072 };

static const uint32_t quick_colls = 1u << medleyCollAllReduce | 1u << medleyCollReduce | 1u << medleyCollBroadcast |
                                    1u << medleyCollAllGather | 1u << medleyCollReduceScatter |
                                    1u << medleyCollAlltoAll | 1u << medleyCollGather | 1u << medleyCollScatter |
                                    1u << medleyCollBarrier;

void mdl_quick_init(struct mdl_comm *c)
{
    c->quick = 0;
    if (!c->use_board || c->team->nhosts > 1 || c->nranks > MDL_REDUCE_MAX_SRC) return;
    /* of the team, not of this rank: all must decide alike */
    c->quick_read = c->nranks > (int)c->team->cores ? MOST_READ_CROWDED : MOST_READ;
    for (medleyColl_t coll = 0; coll < medleyNumColls; coll++) {
        if ((quick_colls >> coll & 1) && mdl_spec_admits(c->cfg.algo.s, coll, "oneshot")) c->quick |= 1u << coll;
    }
}

/* Bytes of an element in the payload: PreMulSum sends products, unrounded. */
static size_t payload_elem(const struct mdl_op *op)
{
    return op->premul ? mdl_dtype_acc_size(op->call.dtype) : op->elem;
}

/* Does IN hold a part for each rank? */
static bool is_split(const struct mdl_op *op)
{
    return op->call.coll == medleyCollReduceScatter || op->call.coll == medleyCollAlltoAll ||
           op->call.coll == medleyCollScatter;
}

static size_t payload_count(const struct mdl_op *op)
{
    return op->count * (is_split(op) ? (size_t)op->comm->nranks : 1);
}

/* A stage brings its buffers block by block, and this way takes them at once. The same on all ranks. */
static bool is_one_block(const struct mdl_op *op)
{
    const struct mdl_collective coll = {.coll = op->call.coll};
    uint32_t in = 1, out = 1;

    if (!op->comm->limits.blocks) return true;
    mdl_collective_slots(&coll, op->comm->nranks, &in, &out);
    return op->count <= mdl_choose_block(&op->comm->limits, in > out ? in : out, op->elem);
}

bool mdl_quick_fits(const struct mdl_op *op)
{
    const struct mdl_comm *c = op->comm;
    size_t bytes;

    if (!(c->quick >> op->call.coll & 1) || op->count > MDL_BOARD_PAYLOAD_BYTES || !is_one_block(op)) return false;
    bytes = payload_count(op) * payload_elem(op);
    return bytes <= MDL_BOARD_PAYLOAD_BYTES && bytes <= c->cfg.oneshot && bytes * (size_t)c->nranks <= c->quick_read;
}

static bool has_input(const struct mdl_op *op)
{
    bool from_root = op->call.coll == medleyCollBroadcast || op->call.coll == medleyCollScatter;

    return op->call.coll != medleyCollBarrier && (!from_root || op->call.root == op->comm->rank);
}

void mdl_quick_put(const struct mdl_op *op)
{
    const struct mdl_board *b = &op->comm->board;
    void *payload = mdl_board_payload(b, b->me, op->seq);

    if (!has_input(op)) return;
    if (op->premul)
        mdl_premul(op->call.dtype, payload, op->in, &op->scalar, payload_count(op));
    else
        memcpy(payload, op->in, payload_count(op) * op->elem);
}

/* Where rank `rank` put its part number `part`. In one host the local numbers are the ranks. */
static const char *take_part(const struct mdl_op *op, int rank, int part)
{
    const struct mdl_comm *c = op->comm;

    if (rank != c->rank) mdl_board_count_read(&c->board, rank, op->count * op->elem);
    return (const char *)mdl_board_payload(&op->comm->board, rank, op->seq) +
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
        .padded = payload_count(op) * payload_elem(op) + MDL_REDUCE_PADDING <= MDL_BOARD_PAYLOAD_BYTES,
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

void mdl_quick_take(const struct mdl_op *op)
{
    int me = op->comm->rank, root = op->call.root;
    size_t bytes = op->count * op->elem;

    switch (op->call.coll) {
    case medleyCollAllReduce: fold(op, 0); break;
    case medleyCollReduceScatter: fold(op, me); break;
    case medleyCollAllGather: collect(op, 0); break;
    case medleyCollAlltoAll: collect(op, me); break;
    case medleyCollScatter: memcpy(op->out, take_part(op, root, me), bytes); break;
    case medleyCollReduce:
        if (root == me) fold(op, 0);
        break;
    case medleyCollGather:
        if (root == me) collect(op, 0);
        break;
    case medleyCollBroadcast:
        if (root != me || op->out != op->in) memcpy(op->out, take_part(op, root, 0), bytes);
        break;
    default: break; /* a barrier is over when all lines are there */
    }
}
