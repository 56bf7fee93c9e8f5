/* SPDX-License-Identifier: Apache-2.0 */
/* The room of stages: pinned memory and words, and who gets them when there is not enough for all (stage.h). */
#include "config.h"

#include "lib/engine/comm.h"
#include "lib/engine/direct.h"
#include "lib/engine/op.h"
#include "lib/engine/stage.h"

#include <stdlib.h>

struct more {
    struct mdl_list link;
    void *pinned;
    struct mdl_arena arena;
};

/* ---- pinned memory ---- */

void *mdl_stager_take(struct mdl_stager *st, size_t bytes)
{
    void *at = mdl_arena_take(&st->arena, bytes);

    if (at) return at;
    mdl_list_each (it, &st->more) {
        at = mdl_arena_take(&mdl_container_of(it, struct more, link)->arena, bytes);
        if (at) return at;
    }
    return NULL;
}

static bool has(const struct mdl_arena *a, const char *at) { return at >= a->base && at < a->base + a->len; }

void mdl_stager_give(struct mdl_stager *st, void *at, size_t bytes)
{
    if (has(&st->arena, at)) return mdl_arena_give(&st->arena, at, bytes);
    mdl_list_each (it, &st->more) {
        struct more *m = mdl_container_of(it, struct more, link);
        if (has(&m->arena, at)) return mdl_arena_give(&m->arena, at, bytes);
    }
}

/* By as much again as the budget is. */
static medleyResult_t grow(struct mdl_stager *st)
{
    const struct mdl_device *d = st->dev.ops;
    struct more *m = calloc(1, sizeof(*m));
    medleyResult_t res;

    if (!m) return mdl_error(medleySystemError, "out of memory for a group");
    res = d->alloc_pinned(d, st->arena.len, &m->pinned);
    if (res != medleySuccess) goto free_more;
    if (!mdl_arena_init(&m->arena, m->pinned, st->arena.len)) {
        res = mdl_error(medleySystemError, "out of memory for a group");
        goto free_pinned;
    }
    mdl_list_append(&st->more, &m->link);
    MDL_WARN(
        MDL_COLL,
        "the messages of a group need more than the %zu bytes of MEDLEY_DEVICE_STAGING: as much again is allocated, "
        "for which the device may wait",
        st->arena.len);
    return medleySuccess;

free_pinned:
    (void)d->free_pinned(d, m->pinned);
free_more:
    free(m);
    return res;
}

void mdl_stager_shrink(struct mdl_stager *st)
{
    mdl_list_each (it, &st->more) {
        struct more *m = mdl_container_of(it, struct more, link);
        mdl_list_remove(it);
        mdl_arena_fini(&m->arena);
        (void)st->dev.ops->free_pinned(st->dev.ops, m->pinned);
        free(m);
    }
}

/* ---- what a stage needs ---- */

static bool take_pair(struct mdl_stager *st, struct mdl_stage *s)
{
    for (int i = 0; i < MDL_STAGES_MOST; i++) {
        if (st->pair_taken[i]) continue;
        st->pair_taken[i] = true;
        s->pair = i;
        s->arrived = st->arrived + i * MDL_STAGE_WORD_SPACE / sizeof(uint64_t);
        s->ready = st->ready[i];
        *s->arrived = *s->ready = 0;
        return true;
    }
    return false;
}

static bool take_words(struct mdl_stager *st, struct mdl_stage *s)
{
    if (s->direct) return true; /* its communicator has them */
    if (!s->attended) return take_pair(st, s);
    s->arrived = &s->own[0];
    s->ready = &s->own[1];
    return true;
}

static bool take_ring(struct mdl_stager *st, struct mdl_stage *s)
{
    for (int i = 0; i < 2; i++) {
        struct mdl_stage_side *b = &s->side[i];
        if (!b->staged) continue;
        b->bytes = s->ring * b->slots * s->stride * s->elem;
        if (s->pieces && i == MDL_OUT && s->side[MDL_IN].staged) { /* one ring for both */
            b->base = s->side[MDL_IN].base;
            b->bytes = 0;
            continue;
        }
        b->base = mdl_stager_take(st, b->bytes);
        if (!b->base) return false;
    }
    return true;
}

/* All, or nothing. */
static bool take_room(struct mdl_stage *s, size_t ring)
{
    struct mdl_stager *st = s->stager;

    s->ring = ring < s->nblocks ? ring : s->nblocks;
    if (s->scalar_user) s->scalar = mdl_stager_take(st, sizeof(uint64_t));
    s->roomy = (!s->scalar_user || s->scalar) && (s->direct ? mdl_direct_take_room(st, s->direct) : take_ring(st, s));
    if (!s->roomy) mdl_stage_drop_room(s);
    return s->roomy;
}

void mdl_stage_drop_room(struct mdl_stage *s)
{
    struct mdl_stager *st = s->stager;

    if (s->direct) mdl_direct_drop_room(st, s->direct);
    for (int i = 0; i < 2; i++) {
        if (s->side[i].bytes && s->side[i].base) mdl_stager_give(st, s->side[i].base, s->side[i].bytes);
        s->side[i].base = NULL;
    }
    if (s->scalar) mdl_stager_give(st, s->scalar, sizeof(uint64_t));
    s->scalar = NULL;
    s->roomy = false;
}

/* ---- the calls of a batch ---- */

static bool any_launched(const struct mdl_stager *st)
{
    mdl_list_each (it, &st->stages)
        if (mdl_container_of(it, struct mdl_stage, link)->launched) return true;
    return false;
}

medleyResult_t mdl_stage_wait_check(const struct mdl_comm *c, struct mdl_stage_wait *w, unsigned patience)
{
    uint64_t now = mdl_now_ns(), waited;

    if (!w->begun_ns) w->begun_ns = now;
    waited = now - w->begun_ns;
    if (c->cfg.timeout && waited > patience * (uint64_t)c->cfg.timeout * MDL_NS_PER_MS)
        return mdl_error(
            medleyTimeout,
            "the calls that are outstanding leave no room for another one, and none of them has come to its "
            "end for %llu ms (MEDLEY_TIMEOUT): does a stream wait for something that comes later?",
            waited / MDL_NS_PER_MS);
    if (!w->told && c->cfg.stall && waited > (uint64_t)c->cfg.stall * MDL_NS_PER_MS) {
        w->told = true;
        MDL_WARN(MDL_COLL,
                 "rank %d: the calls that are outstanding leave no room for another one: waiting for their streams",
                 c->rank);
    }
    return medleySuccess;
}

static medleyResult_t wait_some(struct mdl_comm *c, struct mdl_stage_wait *w)
{
    if (mdl_comm_failed(c)) return mdl_comm_fault(c);
    MDL_TRY(mdl_stage_wait_check(c, w, 1));
    mdl_stager_nap();
    return medleySuccess;
}

/* They are the communicator's: as many as there can be at once are there. */
static medleyResult_t wait_for_words(struct mdl_stager *st, struct mdl_stage *s)
{
    struct mdl_stage_wait w = {0};

    while (!take_words(st, s)) {
        MDL_TRY(wait_some(s->op->comm, &w));
        (void)mdl_stager_reap(st);
    }
    mdl_list_append(&st->stages, &s->link);
    s->listed = true; /* the link itself is the issuing threads': neighbours come and go */
    return medleySuccess;
}

/* Rings as long as can be, of the messages or of the others, in their order; false: not for all. */
static bool take_rooms(struct mdl_batch *b, bool messages, size_t ring)
{
    mdl_list_each (it, &b->ops) {
        struct mdl_stage *s = mdl_stage_of(it);
        if (s && !s->roomy && mdl_op_is_message(s->op) == messages && !take_room(s, ring)) return false;
    }
    return true;
}

static void drop_rooms(struct mdl_batch *b)
{
    mdl_list_each (it, &b->ops)
        if (mdl_stage_of(it) && mdl_stage_of(it)->roomy) mdl_stage_drop_room(mdl_stage_of(it));
}

/* Each of a group's messages may need all the others, here and elsewhere: they cannot wait for each other's room. */
static medleyResult_t take_rooms_of_messages(struct mdl_stager *st, struct mdl_batch *b)
{
    struct mdl_stage_wait w = {0};

    while (!take_rooms(b, true, 1)) {
        MDL_TRY(any_launched(st) ? wait_some(b->comm, &w) : grow(st));
        (void)mdl_stager_reap(st);
    }
    return medleySuccess;
}

medleyResult_t mdl_stage_reserve(struct mdl_batch *b)
{
    struct mdl_stager *st = b->comm->stager;

    (void)mdl_stager_reap(st);
    mdl_list_each (it, &b->ops)
        if (mdl_stage_of(it)) MDL_TRY(wait_for_words(st, mdl_stage_of(it)));
    for (size_t ring = MDL_STAGE_RING; ring > 1; ring--) {
        if (take_rooms(b, true, ring) && take_rooms(b, false, ring)) return medleySuccess;
        drop_rooms(b);
    }
    MDL_TRY(take_rooms_of_messages(st, b));
    (void)take_rooms(b, false, 1); /* the others later */
    return medleySuccess;
}

medleyResult_t mdl_stage_take_room(struct mdl_stage *s)
{
    struct mdl_stager *st = s->stager;
    bool others = false;

    if (s->roomy) return medleySuccess;
    (void)mdl_stager_reap(st);
    for (size_t ring = MDL_STAGE_RING; ring; ring--)
        if (take_room(s, ring)) return medleySuccess;
    mdl_list_each (it, &st->stages) others |= mdl_container_of(it, struct mdl_stage, link)->roomy;
    if (others) return medleyInProgress;
    return mdl_error(medleyInternalError, "a call of %zu slots has no room in %zu bytes of pinned memory",
                     (size_t)s->side[MDL_IN].slots + s->side[MDL_OUT].slots, st->arena.len);
}
