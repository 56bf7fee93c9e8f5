/* SPDX-License-Identifier: Apache-2.0 */
/* See stage.h: the communicator's device, where a call's buffers are, and when a stage's room is free again. */
#include "config.h"

#include "lib/engine/stage.h"
#include "lib/engine/comm.h"
#include "lib/engine/direct.h"
#include "lib/engine/island.h"
#include "lib/engine/lines.h"
#include "lib/engine/native.h"
#include "lib/engine/op.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLOSE_NS        (2 * MDL_NS_PER_S)
#define CLOSE_FAILED_NS (MDL_NS_PER_S / 10)
#define CALM_NS         (10 * MDL_NS_PER_MS)

/* Stagers of communicators that ended while a stream still used their room. */
static struct {
    pthread_mutex_t lock;
    struct mdl_list list;
    bool made;
} left_behind = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the communicator's device ---- */

/* Where pointers cannot be asked, a copy may be from ordinary memory, for which the vendors wait: then no stream may be
 * held. */
static bool is_attended(const struct mdl_stager *s)
{
    return !mdl_hold_can(&s->hold) || !(s->dev.caps & (MDL_DEV_POINTERS | MDL_DEV_COPY_ANY));
}

static void reap_left_behind(void);

static void free_stager(struct mdl_stager *s)
{
    const struct mdl_device *d = s->dev.ops;

    if (s->ready[0]) mdl_hold_free(&s->hold, MDL_STAGES_MOST, s->ready);
    mdl_stager_shrink(s);
    if (s->pinned) (void)d->free_pinned(d, s->pinned);
    mdl_direct_free(s->direct);
    if (s->idle) (void)d->stream_destroy(d, s->idle);
    mdl_native_free_rooms(d, &s->rooms);
    mdl_arena_fini(&s->arena);
    free(s);
}

static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

/* What a call needs at least, twice: between direct calls' pieces, which take half of it, there is a hole of that. */
static size_t least_bytes(const struct mdl_config *cfg, int nranks)
{
    size_t slot = cfg->window < MDL_CHOOSE_LEAST_SLOT ? cfg->window : MDL_CHOOSE_LEAST_SLOT, side = MDL_STAGE_P2P_BYTES;

    if (cfg->window > side) side = cfg->window;
    if (slot * (size_t)nranks > side) side = slot * (size_t)nranks;
    return 2 * (2 * side + 4096); /* and a scalar */
}

static medleyResult_t fill_stager(struct mdl_stager *s, const struct mdl_config *cfg, int nranks)
{
    const struct mdl_device *d = s->dev.ops;
    size_t words = MDL_STAGES_MOST * MDL_STAGE_WORD_SPACE, bytes = cfg->device_staging, least = least_bytes(cfg, nranks);

    if (bytes < least) {
        MDL_INFO(MDL_INIT, "MEDLEY_DEVICE_STAGING is %zu bytes, but a call of %d ranks may need %zu: those are taken",
                 bytes, nranks, least);
        bytes = least;
    }
    MDL_TRY(d->alloc_pinned(d, words + bytes, &s->pinned));
    s->arrived = s->pinned;
    if (!mdl_arena_init(&s->arena, (char *)s->pinned + words, bytes))
        return mdl_error(medleySystemError, "out of memory for a device");
    MDL_TRY(mdl_hold_open(&s->hold, cfg, &s->dev));
    if (d->stream_query) MDL_TRY(d->stream_create(d, &s->idle));
    return mdl_hold_can(&s->hold) ? mdl_hold_alloc(&s->hold, MDL_STAGES_MOST, s->ready) : medleySuccess;
}

medleyResult_t mdl_stager_open(const struct mdl_dev *dev, const struct mdl_config *cfg, int nranks, struct mdl_stager **out)
{
    struct mdl_stager *s = calloc(1, sizeof(*s));
    struct mdl_dev_visit visit;
    medleyResult_t res;

    if (!s) return mdl_error(medleySystemError, "out of memory for a device");
    reap_left_behind();
    s->dev = *dev;
    mdl_list_init(&s->stages);
    mdl_list_init(&s->more);
    mdl_list_init(&s->passes);
    mdl_list_init(&s->rooms);
    res = mdl_dev_enter(dev, &visit);
    if (res != medleySuccess) {
        free(s);
        return res;
    }
    res = mdl_load_find(dev, &s->load);
    if (res == medleySuccess) res = fill_stager(s, cfg, nranks);
    if (res == medleySuccess)
        *out = s;
    else
        free_stager(s);
    mdl_dev_leave(dev, &visit);
    return res;
}

medleyResult_t mdl_stager_fail(struct mdl_comm *c, medleyResult_t res)
{
    struct mdl_stager *st = c->stager;
    char why[MDL_ERROR_TEXT_BYTES];

    if (res == medleySuccess || mdl_comm_failed(c)) return res;
    atomic_store_explicit(&st->failed, true, memory_order_relaxed); /* looked at when all threads are through */
    snprintf(why, sizeof(why), "%s", mdl_error_text());
    mdl_comm_fail_here(c, mdl_error(res, "rank %d (host %s) on %s:%d: %s", c->rank, c->facts[c->rank].host,
                                    st->dev.ops->vendor, st->dev.ordinal, why[0] ? why : medleyGetErrorString(res)));
    return res;
}

/* ---- the end of a stage ---- */

/* Is the stream through with it? */
static bool is_through(const struct mdl_stager *st, struct mdl_stage *s)
{
    const struct mdl_device *d = st->dev.ops;

    if (!s->launched) return true;
    if (s->direct) return mdl_direct_is_through(s->direct);
    if (!s->attended) return (load(s->arrived) & ~MDL_WORD_FAILED) >= s->nblocks + 1;
    return !s->last || d->event_query(d, s->last) != medleyInProgress;
}

static void give_back(struct mdl_stager *st, struct mdl_stage *s)
{
    const struct mdl_device *d = st->dev.ops;

    mdl_stage_drop_room(s);
    free(s->direct);
    if (s->pair >= 0) st->pair_taken[s->pair] = false;
    for (int i = 0; i < MDL_STAGE_RING; i++)
        if (s->event[i]) (void)d->event_destroy(d, s->event[i]);
    if (s->last) (void)d->event_destroy(d, s->last);
    mdl_list_remove(&s->link);
    free(s);
}

bool mdl_stager_reap(struct mdl_stager *st)
{
    mdl_list_each (it, &st->stages) {
        struct mdl_stage *s = mdl_container_of(it, struct mdl_stage, link);
        bool done = atomic_load_explicit(&s->let_go, memory_order_acquire); /* pairs with mdl_stage_let_go */
        if ((!done && (!s->over || !s->roomy)) || !is_through(st, s)) continue;
        if (done)
            give_back(st, s);
        else
            mdl_stage_drop_room(s); /* the rest of its group may need that */
    }
    return mdl_native_reap_passes(st->dev.ops, &st->passes) && mdl_list_empty(&st->stages);
}

static void reap_left_behind(void)
{
    pthread_mutex_lock(&left_behind.lock);
    if (left_behind.made) {
        mdl_list_each (it, &left_behind.list) {
            struct mdl_stager *st = mdl_container_of(it, struct mdl_stager, link);
            struct mdl_dev dev = st->dev;
            struct mdl_dev_visit visit;
            struct mdl_load *load = st->load;
            if (st->kept || !mdl_load_pause(load, 0)) continue;
            if (mdl_dev_enter(&dev, &visit) == medleySuccess) {
                if (mdl_stager_reap(st)) {
                    mdl_list_remove(&st->link);
                    free_stager(st);
                }
                mdl_dev_leave(&dev, &visit);
            }
            mdl_load_resume(load);
        }
    }
    pthread_mutex_unlock(&left_behind.lock);
    mdl_window_free_idle();
}

static void leave_behind(struct mdl_stager *st)
{
    if (mdl_load_any(st->load))
        MDL_INFO(MDL_COLL, "calls of other communicators are on streams of %s:%d: %zu bytes of staging memory of one that "
                 "has ended are freed later", st->dev.ops->vendor, st->dev.ordinal, st->arena.len);
    else
        MDL_WARN(MDL_COLL, "a stream of %s:%d still uses %zu bytes of staging memory of a communicator that has ended",
                 st->dev.ops->vendor, st->dev.ordinal, st->arena.len);
    pthread_mutex_lock(&left_behind.lock);
    if (!left_behind.made) mdl_list_init(&left_behind.list);
    left_behind.made = true;
    mdl_list_append(&left_behind.list, &st->link);
    pthread_mutex_unlock(&left_behind.lock);
}

void mdl_stager_nap(void)
{
    const struct timespec ts = {.tv_nsec = 50000};

    nanosleep(&ts, NULL);
}

bool mdl_stager_settle(struct mdl_stager *st)
{
    bool failed = atomic_load_explicit(&st->failed, memory_order_relaxed);
    struct mdl_dev dev = st->dev;
    struct mdl_dev_visit visit;
    bool none;

    if (!st->settled_ns) st->settled_ns = mdl_now_ns() + (failed ? CLOSE_FAILED_NS : CLOSE_NS);
    if (mdl_dev_enter(&dev, &visit) != medleySuccess) return false;
    while (none = mdl_stager_reap(st), !none && mdl_now_ns() < st->settled_ns) mdl_stager_nap();
    mdl_dev_leave(&dev, &visit);
    return none;
}

bool mdl_stager_calm(struct mdl_stager *st, bool patient)
{
    uint64_t until = mdl_now_ns() + CALM_NS;

    if (patient && st->settled_ns > until) until = st->settled_ns;
    while (!mdl_load_pause(st->load, CALM_NS)) {
        if (mdl_now_ns() >= until) return false;
        mdl_stager_nap();
    }
    return true;
}

void mdl_stager_close(struct mdl_stager *st)
{
    struct mdl_load *load;
    struct mdl_dev_visit visit;
    struct mdl_dev dev;

    reap_left_behind();
    if (!st) return;
    dev = st->dev;
    load = st->load;
    if (st->kept || !mdl_stager_settle(st) || !mdl_stager_calm(st, false)) return leave_behind(st);
    if (mdl_dev_enter(&dev, &visit) == medleySuccess) {
        free_stager(st);
        mdl_dev_leave(&dev, &visit);
    } else {
        leave_behind(st);
    }
    mdl_load_resume(load);
    mdl_window_free_idle();
}

/* ---- where a call's buffers are ---- */

/* Shared memory is treated as the device's: the host must not touch it while the device runs. */
medleyResult_t mdl_stage_find_out(struct mdl_op *op, const void *p, bool *of_device)
{
    const struct mdl_dev *dev = &op->comm->stager->dev;
    struct mdl_pointer where;

    *of_device = false;
    if (!p) return medleySuccess;
    if (!(dev->caps & MDL_DEV_POINTERS)) {
        *of_device = true; /* it cannot be asked, and a copy takes any address */
        return medleySuccess;
    }
    MDL_TRY(dev->ops->classify(dev->ops, p, &where));
    if (where.kind == MDL_POINTER_DEVICE && where.ordinal >= 0 && where.ordinal != dev->ordinal)
        return mdl_error(medleyInvalidArgument, "buffer %p is on %s:%d, but this rank's device is %s:%d", p,
                         dev->ops->vendor, where.ordinal, dev->ops->vendor, dev->ordinal);
    if (where.kind == MDL_POINTER_HOST) MDL_TRY(mdl_dev_check_host(dev, p));
    *of_device = where.kind != MDL_POINTER_HOST;
    return medleySuccess;
}

static void measure(struct mdl_stage *s, const struct mdl_op *op)
{
    const struct mdl_comm *c = op->comm;
    const struct mdl_shape *shape = mdl_op_shape(op);
    uint32_t in = (uint32_t)mdl_shape_slots(shape, MDL_IN, c->nranks),
             out = (uint32_t)mdl_shape_slots(shape, MDL_OUT, c->nranks);
    size_t longest = mdl_op_longest_slot(op);

    s->side[MDL_IN].slots = in;
    s->side[MDL_OUT].slots = out;
    s->block =
        shape->message ? MDL_STAGE_P2P_BYTES / op->elem : mdl_choose_block(&c->limits, in > out ? in : out, op->elem);
    s->stride = s->block;
    s->nblocks = (longest + s->block - 1) / s->block;
    if (!s->nblocks) s->nblocks = 1;
    /* a message takes as many turns as at its other end (launch.c) */
    if (!s->side[MDL_IN].staged && !s->side[MDL_OUT].staged && !shape->message) s->nblocks = 1;
    if (s->nblocks == 1) s->stride = longest; /* where all slots are equal, as the user's buffer is */
    for (int i = 0; i < 2; i++)
        s->cost[i] = 1 + (!s->side[i].staged ? 0 : s->nblocks == 1 && !shape->v ? 1 : s->side[i].slots);
}

static medleyResult_t new_stage(struct mdl_op *op, mdl_dev_stream stream)
{
    struct mdl_stage *s = calloc(1, sizeof(*s));

    if (!s) return mdl_error(medleySystemError, "out of memory for an operation");
    *s = (struct mdl_stage){
        .op = op, .stager = op->comm->stager, .stream = stream, .elem = op->elem, .pair = -1,
        .attended = is_attended(op->comm->stager)};
    mdl_list_init(&s->link);
    op->stage = s;
    return medleySuccess;
}

static medleyResult_t add(struct mdl_op *op, mdl_dev_stream stream)
{
    size_t in_bytes, out_bytes;
    bool scalar = false;
    struct mdl_stage *s;

    MDL_TRY(new_stage(op, stream));
    s = op->stage;
    mdl_lines_bytes(op, &in_bytes, &out_bytes);
    s->side[MDL_IN].user = in_bytes ? (char *)(uintptr_t)op->in : NULL;
    s->side[MDL_OUT].user = out_bytes ? op->out : NULL;
    for (int i = 0; i < 2; i++) MDL_TRY(mdl_stage_find_out(op, s->side[i].user, &s->side[i].staged));
    MDL_TRY(mdl_stage_find_out(op, op->scalar_at, &scalar));
    if (scalar) s->scalar_user = op->scalar_at;
    measure(s, op);
    return medleySuccess;
}

medleyResult_t mdl_stage_add_pieces(struct mdl_op *op, mdl_dev_stream stream, const void *in, const void *out,
                                    struct mdl_stage_piece *pieces, size_t npieces)
{
    const void *user[2] = {in, out};
    size_t most = 0;
    struct mdl_stage *s;

    MDL_TRY(new_stage(op, stream));
    s = op->stage;
    for (int i = 0; i < 2; i++) MDL_TRY(mdl_stage_find_out(op, user[i], &s->side[i].staged));
    for (int i = 0; i < 2; i++) { /* a buffer that the user has not, but a plan may have, is in the ring */
        s->side[i].staged |= !user[i];
        s->side[i].slots = 1;
        s->cost[i] = 2;
    }
    s->pieces = pieces;
    s->npieces = npieces;
    s->block = mdl_choose_block(&op->comm->islands->limits, 1, op->elem);
    for (size_t i = 0; i < npieces; i++) {
        pieces[i].block = s->nblocks;
        s->nblocks += (pieces[i].count + s->block - 1) / s->block;
        if (pieces[i].count > most) most = pieces[i].count;
    }
    if (!s->side[MDL_IN].staged && !s->side[MDL_OUT].staged) s->nblocks = 1; /* it tells how far the stream is */
    s->stride = most < s->block ? most : s->block;
    return medleySuccess;
}

medleyResult_t mdl_stage_make(struct mdl_op *op, mdl_dev_stream stream)
{
    const struct mdl_stager *st = op->comm->stager;
    const struct mdl_device *d = st->dev.ops;
    bool capturing = false;

    if (st->dev.caps & MDL_DEV_CAPTURE) MDL_TRY(d->stream_capturing(d, stream, &capturing));
    if (capturing)
        return mdl_error(medleyInvalidUsage, "the stream is being captured into a graph, which is not supported");
    if (mdl_island_takes(op)) return mdl_island_make(op, stream);
    if (mdl_native_takes(op)) return mdl_native_make(op, stream);
    MDL_TRY(add(op, stream));
    return mdl_direct_make(op->stage);
}

/* ---- for who asks why it does not move: relaxed, it only chooses words for people ---- */

void mdl_stage_queued(struct mdl_stage *s)
{
    s->unreached = true;
    atomic_fetch_add_explicit(&s->op->comm->unreached, 1, memory_order_relaxed);
}

void mdl_stage_reached(struct mdl_stage *s)
{
    if (s->unreached) atomic_fetch_sub_explicit(&s->op->comm->unreached, 1, memory_order_relaxed);
    s->unreached = false;
}

/* ---- the executing thread's side ---- */

void mdl_stage_release(struct mdl_stage *s)
{
    if (s->direct)
        mdl_direct_release(s->direct);
    else if (s->ready)
        __atomic_store_n(s->ready, MDL_HOLD_RELEASED, __ATOMIC_RELEASE); /* pairs with the stream's wait, or with attend
                                                                          */
}

void mdl_stage_let_go(struct mdl_stage *s)
{
    if (s->direct)
        mdl_direct_let_go(s);
    else if (s->launched)
        mdl_stage_release(s);
    if (s->placed)
        mdl_hold_give(&s->op->comm->stager->hold, s->stream); /* nothing on it waits any more for this call */
    s->placed = false;
    s->op = NULL;
    if (!s->listed) {
        free(s->direct); /* it was never given room; its communicator may be gone, if a group ends after that */
        free(s);
        return;
    }
    atomic_store_explicit(&s->let_go, true, memory_order_release); /* pairs with is_through */
}
