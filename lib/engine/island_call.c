/* SPDX-License-Identifier: Apache-2.0 */
/* See island.h: which calls go through islands, where a rank has its parts, and what the vendor's libraries do. */
#include "config.h"

#include "lib/engine/comm.h"
#include "lib/engine/island.h"
#include "lib/engine/island_part.h"
#include "lib/engine/lines.h"

#include <stdlib.h>

enum { SPARE_ALIGN = 512 }; /* as device memory is */

/* ---- which calls ---- */

/* Averages are divided behind the sum of all, which must not leave the type before. */
static bool can_sum_up(medleyDataType_t dtype)
{
    return dtype <= medleyUint64 || dtype == medleyFloat32 || dtype == medleyFloat64 || dtype == medleyBfloat16;
}

static medleyRedOp_t inner_op(const struct mdl_op *op) { return op->call.op == medleyAvg ? medleySum : op->call.op; }

static bool reduces(const struct mdl_op *op) { return mdl_island_middle(op->call.coll) != medleyCollBroadcast; }

static bool is_large(const struct mdl_op *op)
{
    size_t n = (size_t)op->comm->nranks;

    if (!mdl_island_has_rows(op->call.coll)) return op->count >= MDL_ISLAND_LEAST_BYTES / op->elem;
    return n <= MDL_ISLAND_ROWS_MOST && op->count >= MDL_ISLAND_ROW_BYTES / op->elem &&
           op->count >= MDL_ISLAND_LEAST_BYTES / op->elem / n;
}

bool mdl_island_takes(const struct mdl_op *op)
{
    const struct mdl_island_comm *ic = op->comm->islands;

    if (!ic || mdl_island_middle(op->call.coll) == medleyNumColls || !is_large(op)) return false;
    if (!reduces(op)) return true;
    if (op->premul || op->comm->cfg.deterministic || op->call.op >= medleyNumOps) return false;
    if (op->call.op == medleyAvg && !can_sum_up(op->call.dtype)) return false;
    return (ic->caps.reduces[inner_op(op)] >> op->call.dtype & 1) != 0;
}

/* ---- units of the vendor's calls ---- */

/* What one member owns: its slices, or a row. */
struct unit {
    int index;           /* of the member in its island, or the row */
    int owner;           /* a rank */
    size_t first, count; /* elements, in a buffer that has them all */
};

static int own_island(const struct mdl_op *op) { return mdl_island_map(op)->island[op->comm->rank]; }

static bool is_here(const struct mdl_op *op, int rank) { return mdl_island_map(op)->island[rank] == own_island(op); }

static int count_units(const struct mdl_op *op)
{
    return mdl_island_has_rows(op->call.coll) ? op->comm->nranks : mdl_island_size(mdl_island_map(op), own_island(op));
}

static struct unit unit_at(const struct mdl_op *op, int i)
{
    const struct mdl_islands *map = mdl_island_map(op);
    int from, to, rank;

    if (mdl_island_has_rows(op->call.coll))
        return (struct unit){i, mdl_island_row_owner(map, own_island(op), i), (size_t)i * op->count, op->count};
    rank = map->members[map->start[own_island(op)] + i];
    mdl_island_owned(map, rank, &from, &to);
    return (struct unit){i, rank, mdl_island_slice_at(op, from),
                         mdl_island_slice_at(op, to) - mdl_island_slice_at(op, from)};
}

/* ---- where this rank has what ---- */

/* Of what is kept in the spare room, in bytes: all units that this rank owns and that are not of its OUT. */
static size_t kept_bytes(const struct mdl_op *op)
{
    const struct mdl_island_call *call = op->island;
    size_t n = 0;

    if (op->call.coll == medleyCollReduce && op->call.root == op->comm->rank) return 0;
    for (int i = 0; i < call->nparts; i++)
        if (op->call.coll == medleyCollReduce || call->parts[i].index != op->comm->rank) n += call->parts[i].count;
    return (n * op->elem + SPARE_ALIGN - 1) / SPARE_ALIGN * SPARE_ALIGN;
}

/* Behind it, of what others own and the vendor wants memory for all the same. */
static size_t refuse_bytes(const struct mdl_op *op)
{
    bool wants_out = (op->comm->native->caps.ways & MDL_NATIVE_REDUCE_OUT) != 0;
    size_t most = 0;

    if (op->call.coll == medleyCollReduce &&
        (op->call.root == op->comm->rank || (!wants_out && !is_here(op, op->call.root))))
        return 0;
    if (op->call.coll == medleyCollReduceScatter && !wants_out) return 0;
    for (int i = 0; i < count_units(op); i++) {
        struct unit u = unit_at(op, i);
        if (u.owner != op->comm->rank && u.count > most) most = u.count;
    }
    return most * op->elem;
}

static bool has_spare(const struct mdl_op *op)
{
    return op->call.coll == medleyCollReduce || op->call.coll == medleyCollReduceScatter;
}

size_t mdl_island_spare(const struct mdl_op *op) { return has_spare(op) ? kept_bytes(op) + refuse_bytes(op) : 0; }

static char *spare(const struct mdl_op *op)
{
    const struct mdl_native_room *room = op->native->room[MDL_NATIVE_SPARE];

    return room ? room->at : NULL;
}

/* A member's part. */
static char *place_part(const struct mdl_op *op, const struct mdl_island_part *p)
{
    const struct mdl_island_part *first = op->island->parts;
    size_t before;

    if (op->call.coll == medleyCollReduce && op->call.root != op->comm->rank)
        return spare(op) + (p->first - first->first) * op->elem;
    if (op->call.coll == medleyCollReduceScatter && p->index != op->comm->rank) {
        before = (size_t)(p - first);
        for (const struct mdl_island_part *q = first; q < p; q++) before -= q->index == op->comm->rank;
        return spare(op) + before * op->count * op->elem;
    }
    return mdl_native_address(op, MDL_OUT) + (op->call.coll == medleyCollReduceScatter ? 0 : p->first * op->elem);
}

/* Where this rank has a unit, or memory for what of it is not its own; NULL: it needs none. */
static char *place_unit(const struct mdl_op *op, const struct unit *u)
{
    const struct mdl_island_call *call = op->island;
    bool scatters = op->call.coll == medleyCollReduceScatter;

    if (!has_spare(op) || (op->call.coll == medleyCollReduce && op->call.root == op->comm->rank))
        return mdl_native_address(op, MDL_OUT) + u->first * op->elem;
    if (u->owner != op->comm->rank) return spare(op) ? spare(op) + kept_bytes(op) : NULL;
    for (int i = 0; i < call->nparts; i++)
        if (!scatters || call->parts[i].index == u->index) return call->parts[i].in;
    return NULL;
}

/* Of a rank without a vendor: its own buffers. */
static void place_lone(const struct mdl_op *op, struct mdl_island_part *p)
{
    char *in = (char *)(uintptr_t)op->in, *out = op->out;
    size_t at = p->first * op->elem;
    bool mine = mdl_island_root(op, p->index) == op->comm->rank;

    switch (op->call.coll) {
    case medleyCollBroadcast: in = mine ? in + at : NULL, out += at; break;
    case medleyCollReduce: in += at, out = mine ? out + at : NULL; break;
    case medleyCollAllGather: in = mine ? in : NULL, out += at; break;
    case medleyCollReduceScatter: in += at, out = mine ? out : NULL; break;
    default: in += at, out += at; break;
    }
    p->in = in;
    p->out = out;
}

void mdl_island_place(struct mdl_op *op)
{
    for (int i = 0; i < op->island->nparts; i++) {
        struct mdl_island_part *p = &op->island->parts[i];
        if (op->native)
            p->in = p->out = place_part(op, p);
        else
            place_lone(op, p);
    }
}

/* ---- making one ---- */

/* What of a part passes through the stage: what the plan reads, and what it makes. */
static struct mdl_stage_piece piece_of(const struct mdl_op *op, const struct mdl_island_part *p)
{
    medleyColl_t middle = mdl_island_middle(op->call.coll);
    bool root = p->root == own_island(op), gives = true, gets = true;

    if (middle == medleyCollBroadcast) {
        gives = root;
        gets = !root || p->in != p->out;
    } else if (middle == medleyCollReduce) {
        gets = root;
    }
    return (struct mdl_stage_piece){.in = gives ? p->in : NULL, .out = gets ? p->out : NULL, .count = p->count};
}

static medleyResult_t add_stage(struct mdl_op *op, mdl_dev_stream stream)
{
    struct mdl_island_call *call = op->island;
    const void *in = NULL, *out = NULL;

    for (int i = 0; i < call->nparts; i++) {
        call->pieces[i] = piece_of(op, &call->parts[i]);
        if (call->pieces[i].in) in = call->pieces[i].in;
        if (call->parts[i].out) out = call->parts[i].out;
    }
    return mdl_stage_add_pieces(op, stream, in, out, call->pieces, (size_t)call->nparts);
}

medleyResult_t mdl_island_make(struct mdl_op *op, mdl_dev_stream stream)
{
    MDL_TRY(mdl_island_new(op));
    if (op->comm->native) MDL_TRY(mdl_native_make(op, stream));
    mdl_island_place(op);
    if (!op->island->nparts) return medleySuccess;
    return add_stage(op, op->native ? op->native->stream : stream); /* the vendor's, if it takes no default one */
}

/* ---- the vendor's calls ---- */

medleyResult_t mdl_island_begin(struct mdl_op *op)
{
    const struct mdl_device *d = op->native->owner->dev.ops;
    char *out = mdl_native_address(op, MDL_OUT);
    const char *in;

    if (op->call.coll != medleyCollAllGather &&
        (op->call.coll != medleyCollBroadcast || op->call.root != op->comm->rank))
        return medleySuccess;
    in = mdl_native_address(op, MDL_IN);
    if (op->call.coll == medleyCollAllGather) out += (size_t)op->comm->rank * op->count * op->elem;
    return in == out ? medleySuccess : d->copy(d, out, in, op->count * op->elem, MDL_COPY_D2D, op->native->stream);
}

medleyColl_t mdl_island_vendor_coll(const struct mdl_op *op)
{
    return op->island->phase == MDL_ISLAND_GATHER && reduces(op) ? medleyCollReduce : medleyCollBroadcast;
}

/* Does the unit take part in the phase? */
static bool is_wanted(const struct mdl_op *op, const struct unit *u)
{
    bool first = op->island->phase == MDL_ISLAND_GATHER;

    if (!u->count) return false;
    switch (op->call.coll) {
    case medleyCollAllReduce: return true;
    case medleyCollBroadcast: return !first && !is_here(op, op->call.root);
    case medleyCollReduce: return first || is_here(op, op->call.root);
    case medleyCollAllGather: return first == is_here(op, u->index);
    default: return first; /* ReduceScatter: its results are where they belong */
    }
}

static medleyResult_t run_unit(struct mdl_op *op, const struct unit *u)
{
    struct mdl_native_comm *n = op->comm->native;
    struct mdl_native_call call = {.coll = mdl_island_vendor_coll(op), .root = mdl_island_map(op)->index[u->owner]};

    if (mdl_native_is_over(n)) return mdl_comm_fault(op->comm); /* aborted while an earlier one of them was waiting */
    call.out = place_unit(op, u);
    if (call.coll == medleyCollReduce) {
        call.in = mdl_native_address(op, MDL_IN) + u->first * op->elem;
        call.count = u->count;
        call.dtype = op->call.dtype;
        call.op = inner_op(op);
    } else {
        call.in = call.out;
        call.count = u->count * op->elem;
        call.dtype = medleyInt8;
    }
    return n->ops->run(n->ops, n->comm, &call, op->native->stream);
}

medleyResult_t mdl_island_run_vendor(struct mdl_op *op)
{
    const struct unit all = {.owner = op->call.root, .count = op->count};

    if (op->call.coll == medleyCollBroadcast && op->island->phase == MDL_ISLAND_GATHER)
        return is_here(op, op->call.root) ? run_unit(op, &all) : medleySuccess;
    for (int i = 0; i < count_units(op); i++) {
        struct unit u = unit_at(op, i);
        if (is_wanted(op, &u)) MDL_TRY(run_unit(op, &u));
    }
    return medleySuccess;
}
