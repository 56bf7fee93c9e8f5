/* SPDX-License-Identifier: Apache-2.0 */
/* See launch.h: queueing, and the passes in which everything is appended that may be. */
#include "config.h"

#include "lib/engine/launch.h"
#include "lib/engine/comm.h"
#include "lib/engine/direct.h"
#include "lib/engine/island.h"
#include "lib/engine/native.h"
#include "lib/engine/queue.h"
#include "lib/engine/stage.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum { FEW = 8, YIELDS = 200, NAP_NS = 20000 };

/* What a stream, or a communicator, has in the pass in hand that later calls must not overtake. */
enum mark {
    FREE,
    MESSAGES, /* that pass through in this pass: what passes through may join them */
    CHOSEN,   /* a call that passes through in this pass, or one that waits for such calls */
    HELD,     /* a call that is being appended, or one that waits for it */
};

struct lane { /* a stream of a device */
    const struct mdl_device *ops;
    int ordinal;
    mdl_dev_stream stream;
    size_t waiting; /* commands that it has not come to; more than there are */
    size_t turn;    /* of its messages */
    enum mark mark;
};

struct item {
    struct mdl_op *op;
    struct lane *lane;
    int batch;
    int clique;      /* of a collective that passes through: the first batch of the same communicator of the vendor's */
    uint64_t number; /* among the vendor's collectives of its communicator: all ranks count the same */
    size_t first;    /* of a message: the turn that it begins in */
    bool over;   /* nothing more is to be appended */
    bool chosen; /* for the round of this pass */
};

struct launch {
    struct mdl_batch *const *batches;
    int n;
    struct mdl_comm **comms; /* of the batches */
    struct item *items; /* in the order of issue */
    size_t nitems, nlanes, nround;
    struct lane *lanes;
    enum mark *marks;               /* of the batches' communicators */
    uint64_t *least;                /* of the cliques: this call of the vendor's and later ones have to wait */
    struct mdl_op **round, **spare; /* that pass through in this pass */
    bool wait;                      /* the round may have calls that have to wait for others */
    bool moved, left;
    bool attended;
};

static uint64_t order_of(const struct mdl_op *op) { return op->native ? op->native->order : op->stage->order; }

static mdl_dev_stream stream_of(const struct mdl_op *op)
{
    if (op->native) return op->native->beside ? NULL : op->native->stream;
    return op->stage->stream;
}

static const struct mdl_dev *dev_of(const struct mdl_op *op) { return &op->comm->stager->dev; }

void mdl_launch_number(struct mdl_op *op, uint64_t order)
{
    if (op->native) op->native->order = order;
    if (op->stage) op->stage->order = order;
}

/* ---- commands that wait ---- */

static size_t count_waiting(const struct launch *l, const struct lane *lane)
{
    size_t n = 0;

    for (int i = 0; i < l->n; i++) {
        const struct mdl_stager *st = l->comms[i]->stager;
        if (st->dev.ops != lane->ops || st->dev.ordinal != lane->ordinal) continue;
        mdl_list_each (it, &st->stages) {
            const struct mdl_stage *s = mdl_container_of(it, struct mdl_stage, link);
            if (s->stream == lane->stream) n += mdl_stage_waiting(s);
        }
    }
    return n;
}

static bool has_space(const struct launch *l, struct lane *lane, size_t cost)
{
    if (lane->waiting + cost > MDL_LAUNCH_WAITING) lane->waiting = count_waiting(l, lane);
    return !lane->waiting || lane->waiting + cost <= MDL_LAUNCH_WAITING;
}

/* ---- appending ---- */

/* With the device entered. */
static medleyResult_t append(struct launch *l, struct item *it, bool whole)
{
    struct mdl_stage *s = it->op->stage;
    bool again = true;

    if (!s->roomy) {
        medleyResult_t res = mdl_stage_take_room(s);
        if (res == medleyInProgress) return medleySuccess;
        MDL_TRY(res);
    }
    while (again && !s->over) {
        size_t cost = mdl_stage_cost(s);
        if (!has_space(l, it->lane, cost)) break;
        again = whole && !s->attended;
        MDL_TRY(mdl_stage_append(s, &l->moved));
        it->lane->waiting += cost;
        l->attended |= s->attended;
    }
    it->over = s->over;
    return medleySuccess;
}

/* Of an island's member: the vendor's calls, its stage if it has one, the vendor's again. */
static bool is_vendors(const struct mdl_op *op)
{
    return op->native && (!op->island || op->island->phase != MDL_ISLAND_STAGE);
}

static void next_phase(struct launch *l, struct item *it)
{
    l->moved = true;
    it->over = false;
    it->op->island->phase++;
}

/* One turn of a message, or as much of a collective as can be. */
static medleyResult_t visit(struct launch *l, struct item *it)
{
    struct mdl_dev_visit before;
    medleyResult_t res = mdl_dev_enter(dev_of(it->op), &before);

    if (res == medleySuccess) {
        res = append(l, it, !mdl_op_is_message(it->op));
        mdl_dev_leave(dev_of(it->op), &before);
    }
    return mdl_stager_fail(it->op->comm, res);
}

/* What its communicator's failure has made pointless. */
static bool is_pointless(struct launch *l, struct item *it)
{
    struct mdl_dev_visit before;

    if (!mdl_comm_failed(it->op->comm)) return false;
    it->over = l->moved = true;
    if (!it->op->stage || mdl_dev_enter(dev_of(it->op), &before) != medleySuccess) return true;
    mdl_stage_close(it->op->stage);
    mdl_dev_leave(dev_of(it->op), &before);
    return true;
}

static void choose(struct item *it)
{
    it->over = !it->op->island || it->op->island->phase == MDL_ISLAND_SPREAD;
    it->chosen = true;
}

static void clear_marks(struct launch *l)
{
    for (size_t i = 0; i < l->nlanes; i++) l->lanes[i].mark = FREE;
    for (int i = 0; i < l->n; i++) l->marks[i] = FREE;
}

static void raise_mark(enum mark *m, enum mark to)
{
    if (*m < to) *m = to;
}

/* ---- messages ---- */

static size_t turn_of(const struct item *it)
{
    const struct mdl_stage *s = it->op->stage;

    return it->first + (s->launched ? s->put_out + 1 : 0);
}

/* Messages of one rank to another follow one another: the next has its first block when the one before has had its last.
 * Among `items`, in the order of issue. */
static size_t first_turn(const struct item *items, const struct item *it)
{
    const struct item *x = it;

    if (!it->op->stage || !mdl_op_is_message(it->op)) return 0;
    while (x-- > items)
        if (x->batch == it->batch && x->op->stage && x->op->call.coll == it->op->call.coll &&
            x->op->call.root == it->op->call.root)
            return x->first + x->op->stage->nblocks;
    return 0;
}

static void find_turns(struct launch *l)
{
    for (size_t i = 0; i < l->nlanes; i++) l->lanes[i].turn = SIZE_MAX;
    for (size_t i = 0; i < l->nitems; i++) {
        const struct item *it = &l->items[i];
        if (it->over || !it->op->stage || !mdl_op_is_message(it->op) || it->op->stage->attended) continue;
        if (turn_of(it) < it->lane->turn) it->lane->turn = turn_of(it);
    }
}

static medleyResult_t pass_message(struct launch *l, struct item *it)
{
    const struct mdl_stage *s = it->op->stage;

    if (it->op->native) {
        choose(it);
        raise_mark(&it->lane->mark, MESSAGES);
        return medleySuccess;
    }
    if (s->attended || turn_of(it) <= it->lane->turn) MDL_TRY(visit(l, it));
    if (!it->over) raise_mark(&it->lane->mark, HELD);
    return medleySuccess;
}

/* ---- collectives ---- */

static medleyResult_t pass_collective(struct launch *l, struct item *it)
{
    enum mark *lane = &it->lane->mark, *comm = &l->marks[it->batch], mark = *lane > *comm ? *lane : *comm;

    if (is_vendors(it->op) && mark < CHOSEN) {
        choose(it);
        mark = CHOSEN;
    } else if (is_vendors(it->op)) {
        l->wait = true;
    } else if (mark == FREE) {
        if (it->op->stage) MDL_TRY(visit(l, it));
        if (it->op->native && (it->over || !it->op->stage)) next_phase(l, it);
        mark = it->over ? FREE : HELD;
        l->wait |= it->op->native != NULL;
    } else {
        raise_mark(&mark, CHOSEN); /* nothing behind it may join the round */
    }
    raise_mark(lane, mark);
    raise_mark(comm, mark);
    return medleySuccess;
}

/* ---- rounds ---- */

/*
 * A round is one group of the vendor's. Ranks of one communicator that are this thread's must be in it together, for the
 * vendor may wait for all of them when a group ends. So a collective that has to wait for something makes those of its
 * communicator's other ranks wait that bear its number or a later one, and these what is behind them in their streams and
 * communicators. Nothing else may be made to wait: another rank may need it before it makes the call that is waited for.
 *
 * So a call waits for what is before it in its stream or communicator, or before the same call of another rank, and for
 * nothing else; where each rank makes the calls of a communicator in one order, no rank that waits for the call can be
 * needed for those.
 */
static bool is_pending(const struct item *it) { return !mdl_op_is_message(it->op) && (!it->over || it->chosen); }

/* Of an island's member: its second part of the vendor's comes behind the first. */
static uint64_t place_of(const struct item *it)
{
    return 2 * it->number + (it->op->island && it->op->island->phase != MDL_ISLAND_GATHER);
}

static void put_back(struct item *it) { it->chosen = it->over = false; }

/* One look at all; true: there is reason for another. */
static bool hold_back(struct launch *l)
{
    bool any = false;

    clear_marks(l);
    for (size_t i = 0; i < l->nitems; i++) {
        struct item *it = &l->items[i];
        if (!is_pending(it)) continue;
        if (it->chosen && it->lane->mark == FREE && l->marks[it->batch] == FREE && place_of(it) < l->least[it->clique])
            continue;
        any |= it->chosen;
        put_back(it);
        it->lane->mark = l->marks[it->batch] = HELD;
        if (!it->op->native || place_of(it) >= l->least[it->clique]) continue;
        l->least[it->clique] = place_of(it);
        any = true;
    }
    return any;
}

/* Streams of one thread that have the calls of two communicators in different orders would wait for each other. The calls
 * of a group run concurrently, so the first that nothing but streams holds up goes ahead. */
static void break_circle(struct launch *l)
{
    const struct item *first = NULL;

    for (size_t i = 0; i < l->nitems; i++) {
        const struct item *it = &l->items[i];
        if (it->over) continue;
        if (mdl_op_is_message(it->op) || !is_vendors(it->op)) return; /* that may still come to its end */
        if (!first) first = it;
    }
    for (size_t i = 0; first && i < l->nitems; i++) {
        struct item *it = &l->items[i];
        if (is_pending(it) && it->clique == first->clique && place_of(it) == place_of(first)) choose(it);
    }
}

static void list_round(struct launch *l)
{
    l->nround = 0;
    for (int colls = 0; colls < 2; colls++)
        for (size_t i = 0; i < l->nitems; i++)
            if (l->items[i].chosen && mdl_op_is_message(l->items[i].op) != colls)
                l->round[l->nround++] = l->items[i].op;
}

static void settle_round(struct launch *l)
{
    for (int i = 0; i < l->n; i++) l->least[i] = UINT64_MAX;
    while (l->wait && hold_back(l)) {}
    list_round(l);
    if (l->nround || l->moved || !l->wait) return;
    break_circle(l);
    list_round(l);
}

static medleyResult_t run_round(struct launch *l)
{
    medleyResult_t res = medleySuccess;

    settle_round(l);
    if (l->nround) res = mdl_native_launch(l->round, l->nround, l->spare);
    l->moved |= l->nround > 0;
    for (size_t i = 0; i < l->nitems; i++) {
        struct item *it = &l->items[i];
        l->left |= !it->over;
        if (it->chosen && !it->over) next_phase(l, it);
        it->chosen = false;
    }
    return res;
}

/* ---- passes ---- */

static medleyResult_t pass(struct launch *l)
{
    clear_marks(l);
    l->moved = l->left = l->wait = false;
    find_turns(l);
    for (int colls = 0; colls < 2; colls++) {
        for (size_t i = 0; i < l->nitems; i++) {
            struct item *it = &l->items[i];
            if (it->over || mdl_op_is_message(it->op) == colls || is_pointless(l, it)) continue;
            MDL_TRY(colls ? pass_collective(l, it) : pass_message(l, it));
            l->left |= !it->over;
        }
    }
    return run_round(l);
}

/* Something has to come first: results of other ranks, mostly. */
static void rest(unsigned *turns)
{
    if (++*turns <= YIELDS)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
}

static medleyResult_t run_passes(struct launch *l)
{
    struct mdl_stage_wait w = {0};
    unsigned turns = 0;

    do {
        MDL_TRY(pass(l));
        if (l->moved) {
            turns = 0;
            w.begun_ns = 0;
        } else if (l->left) {
            rest(&turns);
            if (turns > YIELDS) MDL_TRY(mdl_stage_wait_check(l->comms[0], &w, 2)); /* the calls' own deadlines come first */
        }
    } while (l->left);
    return medleySuccess;
}

/* ---- what there is to append ---- */

static struct lane *lane_of(struct launch *l, const struct mdl_op *op)
{
    const struct mdl_dev *dev = dev_of(op);
    struct lane *lane;

    for (size_t i = 0; i < l->nlanes; i++) {
        lane = &l->lanes[i];
        if (lane->ops == dev->ops && lane->ordinal == dev->ordinal && lane->stream == stream_of(op)) return lane;
    }
    lane = &l->lanes[l->nlanes++];
    *lane = (struct lane){.ops = dev->ops, .ordinal = dev->ordinal, .stream = stream_of(op)};
    return lane;
}

static int by_order(const void *a, const void *b)
{
    uint64_t x = order_of(((const struct item *)a)->op), y = order_of(((const struct item *)b)->op);

    return x < y ? -1 : x > y;
}

/* The first batch of a rank of the same communicator of the vendor's. */
static int clique_of(const struct launch *l, int batch)
{
    const struct mdl_native_comm *n = l->comms[batch]->native;

    for (int i = 0; n && i < batch; i++)
        if (l->comms[i]->native && l->comms[i]->native->key == n->key) return i;
    return batch;
}

static void list_items(struct launch *l)
{
    for (int i = 0; i < l->n; i++) {
        l->comms[i] = l->batches[i]->comm;
        mdl_list_each (it, &l->batches[i]->ops)
            l->items[l->nitems++] = (struct item){.op = mdl_container_of(it, struct mdl_op, link), .batch = i};
    }
    if (l->n > 1) qsort(l->items, l->nitems, sizeof(*l->items), by_order);
    for (size_t i = 0; i < l->nitems; i++) {
        struct item *it = &l->items[i];
        it->lane = lane_of(l, it->op);
        it->clique = clique_of(l, it->batch);
        it->first = first_turn(l->items, it);
        if (it->op->native && !mdl_op_is_message(it->op)) it->number = ++it->op->native->owner->ncalls;
    }
    for (size_t i = 0; i < l->nlanes; i++) l->lanes[i].waiting = count_waiting(l, &l->lanes[i]);
}

/* ---- issuing ---- */

/* From here on nothing but a fault keeps them from being issued. */
static void number(const struct mdl_batch *b)
{
    mdl_list_each (it, &b->ops) {
        struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
        if (op->stage && op->stage->direct) mdl_direct_number(op->stage);
        if (op->stage) mdl_stage_queued(op->stage);
    }
}

/* Returns how many were queued; the one behind them is gone if that is not all. */
static int submit(const struct launch *l, medleyResult_t *res)
{
    for (int i = 0; i < l->n; i++) {
        number(l->batches[i]);
        l->batches[i]->issuing = true;
        *res = mdl_queue_submit(l->batches[i], NULL, 0);
        if (*res != medleySuccess) return i;
    }
    return l->n;
}

/* A group that is issued in part leaves its communicators with calls that their peers have and they have not. */
static medleyResult_t fail_all(struct launch *l, medleyResult_t res)
{
    for (int i = 0; i < l->n; i++) (void)mdl_stager_fail(l->comms[i], res);
    return mdl_comm_fault(l->comms[0]);
}

static medleyResult_t issue(struct launch *l)
{
    medleyResult_t res;
    int queued = submit(l, &res);

    if (res == medleySuccess) res = run_passes(l);
    if (res != medleySuccess) res = fail_all(l, res);
    for (size_t i = 0; res != medleySuccess && queued == l->n && i < l->nitems; i++)
        if (!l->items[i].over) (void)is_pointless(l, &l->items[i]);
    for (int i = 0; i < queued; i++) mdl_queue_issued(l->batches[i]);
    for (int i = queued + 1; i < l->n; i++) mdl_batch_free(l->batches[i]);
    for (int i = 0; i < l->n && res == medleySuccess && l->attended; i++) res = mdl_comm_fault(l->comms[i]);
    return res;
}

/* ---- memory for it ---- */

struct space {
    struct item items[FEW];
    struct lane lanes[FEW];
    struct mdl_op *ops[2 * FEW];
    struct mdl_comm *comms[FEW];
    enum mark marks[FEW];
    uint64_t least[FEW];
};

/* More than a few: one piece of memory for all. Each has one operation at least. */
static medleyResult_t issue_many(struct launch *l, size_t nops)
{
    char *all = calloc(nops, sizeof(struct item) + sizeof(struct lane) + 2 * sizeof(struct mdl_op *) +
                                 sizeof(struct mdl_comm *) + sizeof(uint64_t) + sizeof(enum mark));
    medleyResult_t res;

    if (!all) {
        res = mdl_error(medleySystemError, "out of memory for a group of %zu operations", nops);
        for (int i = 0; i < l->n; i++) {
            (void)mdl_stager_fail(l->batches[i]->comm, res);
            mdl_batch_free(l->batches[i]);
        }
        return res;
    }
    l->items = (struct item *)all;
    l->lanes = (struct lane *)(l->items + nops);
    l->round = (struct mdl_op **)(l->lanes + nops);
    l->spare = l->round + nops;
    l->comms = (struct mdl_comm **)(l->spare + nops);
    l->least = (uint64_t *)(l->comms + nops);
    l->marks = (enum mark *)(l->least + nops);
    list_items(l);
    res = issue(l);
    free(all);
    return res;
}

medleyResult_t mdl_launch(struct mdl_batch *const *batches, int n)
{
    struct launch l = {.batches = batches, .n = n};
    size_t nops = 0;
    struct space few;

    for (int i = 0; i < n; i++) nops += (size_t)batches[i]->nops;
    if (nops > FEW) return issue_many(&l, nops);
    l.items = few.items;
    l.lanes = few.lanes;
    l.round = few.ops;
    l.spare = few.ops + FEW;
    l.comms = few.comms;
    l.marks = few.marks;
    l.least = few.least;
    list_items(&l);
    return issue(&l);
}
