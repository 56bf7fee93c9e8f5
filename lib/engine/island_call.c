/* SPDX-License-Identifier: Apache-2.0 */
/* See island.h: which calls go through islands, and what the vendor's libraries and the executing thread do for one. */
#include "config.h"

#include "lib/engine/comm.h"
#include "lib/engine/exec.h"
#include "lib/engine/island.h"
#include "lib/engine/lines.h"
#include "lib/engine/stage.h"

#include <stdlib.h>
#include <string.h>

static const struct mdl_islands *map_of(const struct mdl_op *op) { return op->comm->islands->map; }

/* Elements in which slices are cut: the stages' blocks. */
static size_t block_of(const struct mdl_op *op) { return mdl_choose_block(&op->comm->islands->limits, 1, op->elem); }

static size_t slice_at(const struct mdl_op *op, int slice)
{
    return mdl_island_at(map_of(op)->nslices, op->count, block_of(op), slice);
}

/* ---- which calls ---- */

/* Averages are divided behind the sum of all, which must not leave the type before. */
static bool can_sum_up(medleyDataType_t dtype) { return dtype <= medleyUint64 || dtype == medleyFloat32 || dtype == medleyFloat64 || dtype == medleyBfloat16; }

static medleyRedOp_t inner_op(const struct mdl_op *op) { return op->call.op == medleyAvg ? medleySum : op->call.op; }

bool mdl_island_takes(const struct mdl_op *op)
{
    const struct mdl_island_comm *ic = op->comm->islands;

    if (!ic || op->call.coll != medleyCollAllReduce || op->premul || op->comm->cfg.deterministic) return false;
    if (op->count < MDL_ISLAND_LEAST_BYTES / op->elem || op->call.op >= medleyNumOps) return false;
    if (op->call.op == medleyAvg && !can_sum_up(op->call.dtype)) return false;
    return (ic->caps.reduces[inner_op(op)] >> op->call.dtype & 1) != 0;
}

/* ---- making one ---- */

static medleyResult_t new_call(struct mdl_op *op)
{
    struct mdl_island_call *call = calloc(1, sizeof(*call));

    if (!call) return mdl_error(medleySystemError, "out of memory for an operation");
    mdl_island_owned(map_of(op), op->comm->rank, &call->from, &call->to);
    call->first = slice_at(op, call->from);
    call->end = slice_at(op, call->to);
    op->island = call;
    return medleySuccess;
}

medleyResult_t mdl_island_make(struct mdl_op *op, mdl_dev_stream stream)
{
    struct mdl_island_call *call;
    char *out;

    MDL_TRY(new_call(op));
    call = op->island;
    if (!op->comm->native) return mdl_stage_add(op, stream, op->in, op->out);
    MDL_TRY(mdl_native_make(op, stream));
    if (call->first == call->end) return medleySuccess;
    out = mdl_native_address(op, MDL_OUT) + call->first * op->elem;
    return mdl_stage_add(op, op->native->stream, out, out); /* the vendor's, if it does not take the default one */
}

void mdl_island_let_go(struct mdl_op *op)
{
    struct mdl_island_call *call = op->island;

    for (int s = call->from; s < call->to; s++)
        for (int i = 0; i < MDL_MAX_DEPTH; i++)
            if (call->parts[s].runs[i]) mdl_run_stop(call->parts[s].runs[i]);
    free(call);
    op->island = NULL;
}

/* ---- the vendor's calls ---- */

typedef struct mdl_native_call maker(const struct mdl_op *op, int member, size_t first, size_t count);

static struct mdl_native_call reduction(const struct mdl_op *op, int member, size_t first, size_t count)
{
    return (struct mdl_native_call){
        .coll = medleyCollReduce,
        .in = mdl_native_address(op, MDL_IN) + first * op->elem,
        .out = mdl_native_address(op, MDL_OUT) + first * op->elem,
        .count = count,
        .dtype = op->call.dtype,
        .op = inner_op(op),
        .root = member,
    };
}

static struct mdl_native_call broadcast(const struct mdl_op *op, int member, size_t first, size_t count)
{
    char *at = mdl_native_address(op, MDL_OUT) + first * op->elem;

    return (struct mdl_native_call){
        .coll = medleyCollBroadcast, .in = at, .out = at, .count = count * op->elem, .dtype = medleyInt8, .root = member};
}

/* One for each member that owns something. */
static medleyResult_t run_all(struct mdl_op *op, maker *make)
{
    const struct mdl_islands *map = map_of(op);
    struct mdl_native_comm *n = op->comm->native;
    int island = map->island[op->comm->rank], from, to;

    for (int m = 0; m < mdl_island_size(map, island); m++) {
        struct mdl_native_call call;
        size_t first, end;
        mdl_island_owned(map, map->members[map->start[island] + m], &from, &to);
        first = slice_at(op, from);
        end = slice_at(op, to);
        if (from == to || first == end) continue;
        call = make(op, m, first, end - first);
        MDL_TRY(n->ops->run(n->ops, n->comm, &call, op->native->stream));
    }
    return medleySuccess;
}

medleyResult_t mdl_island_run_vendor(struct mdl_op *op)
{
    return run_all(op, op->island->phase == MDL_ISLAND_GATHER ? reduction : broadcast);
}

/* ---- the executing thread's side ---- */

static medleyResult_t find_program(struct mdl_op *op, int slice, const struct mdl_collective *coll)
{
    struct mdl_comm *c = op->comm;
    struct mdl_island_slice *s = &c->islands->slices[slice];
    struct mdl_island_part *p = &op->island->parts[slice];
    struct mdl_program_args args = {.team = s->team,
                                    .ranks = s->ranks,
                                    .limits = &c->islands->limits,
                                    .spec = c->cfg.algo.s,
                                    .rank = s->rank,
                                    .verify = c->cfg.verify};
    struct mdl_collective mine = *coll;

    p->first = slice_at(op, slice);
    p->end = slice_at(op, slice + 1);
    mine.count = p->end - p->first;
    mine.facts = (struct mdl_facts){0}; /* what the lines tell is where the users' buffers are, not the owners' parts */
    if (!mine.count) return medleySuccess;
    MDL_TRY(mdl_program_get(&s->cache, &args, &mine, &p->program));
    if (p->program->plan->channels * p->program->choice.depth > args.limits->max_channels)
        return mdl_error(medleyInternalError, "bug: plan %s takes %u channels in %u windows, a slice has %u",
                         p->program->plan->algo, p->program->plan->channels, p->program->choice.depth,
                         args.limits->max_channels);
    p->nwindows = p->left = (mine.count + p->program->choice.window - 1) / p->program->choice.window;
    return medleySuccess;
}

medleyResult_t mdl_island_start(struct mdl_op *op, const struct mdl_collective *coll)
{
    struct mdl_comm *c = op->comm;

    if (!op->island) MDL_TRY(new_call(op));
    for (int s = op->island->from; s < op->island->to; s++) MDL_TRY(find_program(op, s, coll));
    atomic_store_explicit(&c->last_algo, "islands", memory_order_relaxed);
    atomic_store_explicit(&c->last_predicted_ns, 0, memory_order_relaxed);
    op->state = MDL_STATE_RUN;
    return medleySuccess;
}

/* The block of the stage that window w of a slice lies in. */
static size_t block_with(const struct mdl_op *op, const struct mdl_island_part *p, size_t w)
{
    if (op->stage->nblocks == 1) return 0; /* of one that copies nothing, too */
    return (p->first - op->island->first + w * p->program->choice.window) / op->stage->block;
}

static bool has_input(const struct mdl_op *op, const struct mdl_island_part *p, size_t w)
{
    return !op->stage || mdl_stage_has(op->stage, block_with(op, p, w));
}

static medleyResult_t start_windows(struct mdl_op *op, int slice)
{
    const struct mdl_choose_limits *limits = &op->comm->islands->limits;
    struct mdl_island_part *p = &op->island->parts[slice];

    while (p->next < p->nwindows) {
        struct mdl_run **run = &p->runs[p->next % p->program->choice.depth];
        const struct mdl_run_part part = {.program = p->program,
                                          .first = p->first,
                                          .end = p->end,
                                          .channel = (uint32_t)slice * limits->max_channels,
                                          .scratch = (size_t)slice * limits->scratch_bytes};
        if (*run || !has_input(op, p, p->next)) break;
        MDL_TRY(mdl_run_start_part(op, &part, p->next, run));
        p->next++;
    }
    return medleySuccess;
}

/* Blocks before the first window that is not done may leave the stage. */
static void pass_on(struct mdl_op *op)
{
    for (int s = op->island->from; op->stage && s < op->island->to; s++) {
        const struct mdl_island_part *p = &op->island->parts[s];
        uint32_t depth = p->nwindows ? p->program->choice.depth : 1;
        size_t w = p->next > depth ? p->next - depth : 0;
        if (!p->left) continue;
        while (w < p->next && !p->runs[w % depth]) w++;
        mdl_stage_done(op->stage, block_with(op, p, w));
        return;
    }
    if (op->stage) mdl_stage_done(op->stage, op->stage->nblocks);
}

static medleyResult_t step_windows(struct mdl_op *op, struct mdl_island_part *p, int *events, bool *idle)
{
    uint32_t depth = p->program->choice.depth;

    for (size_t w = p->next > depth ? p->next - depth : 0; w < p->next; w++) {
        struct mdl_run **run = &p->runs[w % depth];
        medleyResult_t res;
        if (!*run) continue;
        res = mdl_run_step(*run, events, idle);
        if (res == medleyInProgress) continue;
        if (res != medleySuccess) return res;
        mdl_run_stop(*run);
        *run = NULL;
        p->left--;
        (*events)++;
        pass_on(op);
    }
    return medleySuccess;
}

medleyResult_t mdl_island_run(struct mdl_op *op, int *events)
{
    struct mdl_island_call *call = op->island;
    bool idle = true, more = false;

    for (int s = call->from; s < call->to; s++) {
        struct mdl_island_part *p = &call->parts[s];
        if (!p->left) continue;
        MDL_TRY(start_windows(op, s));
        MDL_TRY(step_windows(op, p, events, &idle));
        more |= p->left != 0;
    }
    if (more && mdl_native_waits(op)) mdl_native_look_for_begin(op);
    if (more) return medleyInProgress;
    return op->native ? mdl_native_step(op, events) : medleySuccess;
}

/* The vendor's library does not tell whom it waits for: the other members, while their part does not come. */
static int blame_island(const struct mdl_op *op, int *peers, int cap)
{
    const struct mdl_islands *map = map_of(op);
    int island = map->island[op->comm->rank], n = 0;

    for (int gone = 0; gone < 2 && n == 0; gone++) {
        for (int m = map->start[island]; m < map->start[island + 1] && n < cap; m++) {
            int r = map->members[m];
            if (r == op->comm->rank || atomic_load_explicit(&op->comm->gone[r], memory_order_relaxed) != gone) continue;
            peers[n++] = r;
        }
    }
    return n;
}

int mdl_island_blame(const struct mdl_op *op, int *peers, int cap, uint64_t *outstanding)
{
    const struct mdl_island_call *call = op->island;
    int n = 0;

    for (int s = call->from; s < call->to; s++)
        for (int i = 0; i < MDL_MAX_DEPTH; i++)
            if (call->parts[s].runs[i]) n = mdl_run_blame(call->parts[s].runs[i], peers, n, cap, outstanding);
    return n || !op->native ? n : blame_island(op, peers, cap);
}
