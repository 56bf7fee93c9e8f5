/* SPDX-License-Identifier: Apache-2.0 */
/* See island.h: the parts of a call, and what the executing thread does with those that this rank owns. */
#include "config.h"

#include "lib/engine/exec.h"
#include "lib/engine/island.h"
#include "lib/engine/island_part.h"
#include "lib/engine/stage.h"

#include <stdlib.h>

/* ---- the parts of a call ---- */

medleyColl_t mdl_island_middle(medleyColl_t coll)
{
    switch (coll) {
    case medleyCollAllReduce: return medleyCollAllReduce;
    case medleyCollBroadcast:
    case medleyCollAllGather: return medleyCollBroadcast;
    case medleyCollReduce:
    case medleyCollReduceScatter: return medleyCollReduce;
    default: return medleyNumColls;
    }
}

/* Elements in which slices are cut: the stages' blocks. */
static size_t block_of(const struct mdl_op *op) { return mdl_choose_block(&op->comm->islands->limits, 1, op->elem); }

size_t mdl_island_slice_at(const struct mdl_op *op, int slice)
{
    return mdl_island_at(mdl_island_map(op)->nslices, op->count, block_of(op), slice);
}

static int owner_of(const struct mdl_op *op, int island, int part)
{
    const struct mdl_islands *map = mdl_island_map(op);

    return mdl_island_has_rows(op->call.coll) ? mdl_island_row_owner(map, island, part)
                                              : mdl_island_owner(map, island, part);
}

static int count_parts(const struct mdl_op *op)
{
    return mdl_island_has_rows(op->call.coll) ? op->comm->nranks : mdl_island_map(op)->nslices;
}

static void add_part(struct mdl_op *op, int index)
{
    const struct mdl_islands *map = mdl_island_map(op);
    bool row = mdl_island_has_rows(op->call.coll);
    struct mdl_island_part *p = &op->island->parts[op->island->nparts];
    int root = mdl_island_root(op, index);

    p->index = index;
    p->root = root < 0 ? -1 : map->island[root];
    p->first = row ? (size_t)index * op->count : mdl_island_slice_at(op, index);
    p->count = row ? op->count : mdl_island_slice_at(op, index + 1) - p->first;
    op->island->nparts += p->count != 0;
}

medleyResult_t mdl_island_new(struct mdl_op *op)
{
    int own = mdl_island_map(op)->island[op->comm->rank], n = count_parts(op), owned = 0;
    struct mdl_island_call *call;

    for (int i = 0; i < n; i++) owned += owner_of(op, own, i) == op->comm->rank;
    call = calloc(1, sizeof(*call) + (size_t)owned * (sizeof(call->parts[0]) + sizeof(call->pieces[0])));
    if (!call) return mdl_error(medleySystemError, "out of memory for an operation");
    call->pieces = (struct mdl_stage_piece *)(call->parts + owned);
    op->island = call;
    for (int i = 0; i < n; i++)
        if (owner_of(op, own, i) == op->comm->rank) add_part(op, i);
    return medleySuccess;
}

void mdl_island_let_go(struct mdl_op *op)
{
    struct mdl_island_call *call = op->island;

    for (int k = 0; k < call->nparts; k++)
        for (int i = 0; i < MDL_MAX_DEPTH; i++)
            if (call->parts[k].runs[i]) mdl_run_stop(call->parts[k].runs[i]);
    free(call);
    op->island = NULL;
}

/* ---- programs ---- */

static int lane_of(const struct mdl_op *op, const struct mdl_island_part *p)
{
    return p->index % mdl_island_map(op)->nslices;
}

/* Lanes are used again within a call, for which such plans are not made. */
static medleyResult_t check_program(const struct mdl_op *op, const struct mdl_island_part *p)
{
    const struct mdl_choose_limits *limits = &op->comm->islands->limits;
    const struct mdl_plan *plan = p->run.program->plan;
    uint32_t depth = p->run.program->choice.depth;

    if (plan->channels * depth > limits->max_channels)
        return mdl_error(medleyInternalError, "bug: plan %s takes %u channels in %u windows, a lane has %u", plan->algo,
                         plan->channels, depth, limits->max_channels);
    if (mdl_island_has_rows(op->call.coll) && (plan->flags & MDL_PLAN_WHOLE) && (plan->flags & MDL_PLAN_REMOTE_SCRATCH))
        return mdl_error(medleyInternalError, "bug: plan %s cannot be one of many in a call", plan->algo);
    return medleySuccess;
}

static medleyResult_t find_program(struct mdl_op *op, struct mdl_island_part *p, const struct mdl_collective *coll)
{
    struct mdl_comm *c = op->comm;
    struct mdl_island_comm *ic = c->islands;
    struct mdl_island_plans *plans = mdl_island_has_rows(op->call.coll) ? &ic->rows[p->index] : &ic->slices[p->index];
    struct mdl_program_args args = {.ranks = ic->ranks,
                                    .limits = &ic->limits,
                                    .spec = c->cfg.algo.s,
                                    .rank = ic->map->island[c->rank],
                                    .verify = c->cfg.verify};
    struct mdl_collective middle = *coll;
    struct mdl_program *program;

    for (int i = 0; i < ic->map->n; i++) ic->ranks[i] = owner_of(op, i, p->index);
    middle.coll = mdl_island_middle(op->call.coll);
    middle.root = p->root;
    middle.count = p->count;
    middle.facts = (struct mdl_facts){0}; /* what the lines tell is where the users' buffers are, not the owners' parts
                                           */
    if (!plans->team) MDL_TRY(mdl_island_team(c, &plans->team));
    args.team = plans->team;
    MDL_TRY(mdl_program_get(&plans->cache, &args, &middle, &program));
    p->run.program = program;
    p->run.count = p->count;
    p->run.in = p->in;
    p->run.out = p->out;
    p->run.channel = (uint32_t)lane_of(op, p) * ic->limits.max_channels;
    p->run.scratch = (size_t)lane_of(op, p) * ic->limits.scratch_bytes;
    p->nwindows = p->left = (p->count + program->choice.window - 1) / program->choice.window;
    return check_program(op, p);
}

medleyResult_t mdl_island_start(struct mdl_op *op, const struct mdl_collective *coll)
{
    struct mdl_comm *c = op->comm;

    if (!op->island) { /* of a host */
        MDL_TRY(mdl_island_new(op));
        mdl_island_place(op);
    }
    for (int k = 0; k < op->island->nparts; k++) {
        struct mdl_island_part *p = &op->island->parts[k];
        MDL_TRY(find_program(op, p, coll));
        if (op->stage) p->run.staged = op->island->pieces[k].block * op->stage->block;
    }
    atomic_store_explicit(&c->last_algo, "islands", memory_order_relaxed);
    atomic_store_explicit(&c->last_predicted_ns, 0, memory_order_relaxed);
    op->state = MDL_STATE_RUN;
    return medleySuccess;
}

/* ---- windows ---- */

/* The block of the stage that window w of a part lies in. */
static size_t block_with(const struct mdl_op *op, const struct mdl_island_part *p, size_t w)
{
    if (op->stage->nblocks == 1) return 0; /* of one that copies nothing, too */
    return (p->run.staged + w * p->run.program->choice.window) / op->stage->block;
}

static medleyResult_t start_windows(struct mdl_op *op, struct mdl_island_part *p)
{
    while (p->next < p->nwindows) {
        struct mdl_run **run = &p->runs[p->next % p->run.program->choice.depth];
        if (*run || (op->stage && !mdl_stage_has(op->stage, block_with(op, p, p->next)))) break;
        MDL_TRY(mdl_run_start_part(op, &p->run, p->next, run));
        p->next++;
    }
    return medleySuccess;
}

/* Blocks before the first window that is not done may leave the stage. */
static void pass_on(struct mdl_op *op)
{
    struct mdl_island_call *call = op->island;
    const struct mdl_island_part *p;
    uint32_t depth;
    size_t w;

    while (call->done < call->nparts && !call->parts[call->done].left) call->done++;
    if (!op->stage) return;
    if (call->done == call->nparts) {
        mdl_stage_done(op->stage, op->stage->nblocks);
        return;
    }
    p = &call->parts[call->done];
    depth = p->run.program->choice.depth;
    w = p->next > depth ? p->next - depth : 0;
    while (w < p->next && !p->runs[w % depth]) w++;
    mdl_stage_done(op->stage, block_with(op, p, w));
}

static medleyResult_t step_windows(struct mdl_op *op, struct mdl_island_part *p, int *events, bool *idle)
{
    uint32_t depth = p->run.program->choice.depth;

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
    uint32_t taken = 0; /* lanes */
    bool idle = true;

    for (int k = call->done; k < call->nparts; k++) {
        struct mdl_island_part *p = &call->parts[k];
        uint32_t lane = 1u << lane_of(op, p);
        if (!p->left || (taken & lane)) continue;
        MDL_TRY(start_windows(op, p));
        MDL_TRY(step_windows(op, p, events, &idle));
        if (p->left) taken |= lane;
    }
    if (taken && mdl_native_waits(op)) mdl_native_look_for_begin(op);
    if (taken) return medleyInProgress;
    return op->native ? mdl_native_step(op, events) : medleySuccess;
}

/* ---- whom it waits for ---- */

/* The vendor's library does not tell whom it waits for: the other members, while their part does not come. */
static int blame_island(const struct mdl_op *op, int *peers, int cap)
{
    const struct mdl_islands *map = mdl_island_map(op);
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

    for (int k = call->done; k < call->nparts; k++)
        for (int i = 0; i < MDL_MAX_DEPTH; i++)
            if (call->parts[k].runs[i]) n = mdl_run_blame(call->parts[k].runs[i], peers, n, cap, outstanding);
    return n || !op->native ? n : blame_island(op, peers, cap);
}
