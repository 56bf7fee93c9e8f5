/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stage appends to the user's stream, and what the executing thread sees of it (stage.h).
 *
 * Of a group, messages on one stream are appended in turns, block by block, since each may need the others to proceed:
 * when block b of none is stuck, block b + 1 is reached by all. Collectives follow one after the other.
 */
#include "config.h"

#include "lib/engine/comm.h"
#include "lib/engine/direct.h"
#include "lib/engine/exec.h"
#include "lib/engine/native.h"
#include "lib/engine/stage.h"

static struct mdl_stager *stager_of(const struct mdl_stage *s) { return s->op->comm->stager; }
static const struct mdl_device *device_of(const struct mdl_stage *s) { return stager_of(s)->dev.ops; }
static const struct mdl_hold *hold_of(const struct mdl_stage *s) { return &stager_of(s)->hold; }
static bool has_events(const struct mdl_stage *s) { return (stager_of(s)->dev.caps & MDL_DEV_EVENTS) != 0; }

/* ---- copies ---- */

/* Elements of a slot that lie in block b. */
static size_t part(const struct mdl_stage *s, enum mdl_buffer buf, uint32_t slot, size_t b)
{
    uint32_t slots = s->side[buf].slots;
    size_t n = mdl_op_slot_count(s->op, buf, slot, slots == 1 ? (uint32_t)s->op->comm->rank : slot),
           from = b * s->block;

    if (n <= from) return 0;
    return n - from < s->block ? n - from : s->block;
}

static medleyResult_t copy(const struct mdl_stage *s, enum mdl_buffer buf, char *user, char *room, size_t bytes)
{
    const struct mdl_device *d = device_of(s);

    bool known = (stager_of(s)->dev.caps & MDL_DEV_POINTERS) != 0;

    if (buf == MDL_IN) return d->copy(d, room, user, bytes, known ? MDL_COPY_D2H : MDL_COPY_ANY, s->stream);
    return d->copy(d, user, room, bytes, known ? MDL_COPY_H2D : MDL_COPY_ANY, s->stream);
}

static medleyResult_t copy_block(const struct mdl_stage *s, enum mdl_buffer buf, size_t b)
{
    const struct mdl_stage_side *side = &s->side[buf];

    if (!side->staged) return medleySuccess;
    if (s->nblocks == 1 && !mdl_op_is_v(s->op)) /* all slots in one piece */
        return copy(s, buf, side->user, side->base, side->slots * s->op->count * s->elem);
    for (uint32_t slot = 0; slot < side->slots; slot++) {
        size_t n = part(s, buf, slot, b), at = mdl_op_slot_offset(s->op, buf, slot, side->slots) + b * s->block;
        if (n) MDL_TRY(copy(s, buf, side->user + at * s->elem, mdl_stage_at(s, buf, slot, b * s->block), n * s->elem));
    }
    return medleySuccess;
}

/* ---- the stream's work ---- */

static medleyResult_t put_in(struct mdl_stage *s)
{
    const struct mdl_device *d = device_of(s);
    size_t b = s->put_in;

    if (b == 0 && s->scalar) MDL_TRY(copy(s, MDL_IN, (char *)(uintptr_t)s->scalar_user, s->scalar, s->elem));
    MDL_TRY(copy_block(s, MDL_IN, b));
    if (!s->attended)
        MDL_TRY(mdl_hold_write(hold_of(s), s->stream, s->arrived, b + 1));
    else if (has_events(s))
        MDL_TRY(d->event_record(d, s->event[b % s->ring], s->stream));
    else
        MDL_TRY(d->stream_sync(d, s->stream));
    s->put_in++;
    return medleySuccess;
}

/* The results of the next block, behind the wait for them, then what takes its place. */
static medleyResult_t put_out(struct mdl_stage *s)
{
    size_t b = s->put_out;

    if (!s->attended) MDL_TRY(mdl_hold_wait(hold_of(s), s->stream, s->ready, b + 1));
    MDL_TRY(copy_block(s, MDL_OUT, b));
    s->put_out++;
    if (s->put_in < s->nblocks) MDL_TRY(put_in(s));
    if (s->put_out < s->nblocks || s->attended) return medleySuccess;
    return mdl_hold_write(hold_of(s), s->stream, s->arrived, s->nblocks + 1);
}

static medleyResult_t make_events(struct mdl_stage *s)
{
    const struct mdl_device *d = device_of(s);

    if (!s->attended || !has_events(s)) return medleySuccess;
    for (size_t i = 0; i < s->ring; i++) MDL_TRY(d->event_create(d, &s->event[i]));
    return d->event_create(d, &s->last);
}

static medleyResult_t begin(struct mdl_stage *s)
{
    MDL_TRY(make_events(s));
    s->launched = true;
    while (s->put_in < s->ring) MDL_TRY(put_in(s));
    return medleySuccess;
}

static medleyResult_t put_all_out(struct mdl_stage *s)
{
    while (!s->attended && s->put_out < s->nblocks) MDL_TRY(put_out(s));
    return medleySuccess;
}

/* ---- launching ---- */

typedef medleyResult_t visitor(struct mdl_stage *s, bool *more);

static bool is_message(const struct mdl_op *op) { return op->call.coll >= medleyCollSend; }

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

static medleyResult_t fail_comm(struct mdl_stage *s, medleyResult_t res) { return mdl_stager_fail(s->op->comm, res); }

/* With the device entered: the caller's own may be another one. */
static medleyResult_t visit_one(struct mdl_stage *s, visitor *visit, bool *more)
{
    const struct mdl_dev *dev = &stager_of(s)->dev;
    struct mdl_dev_visit before;
    medleyResult_t res = mdl_dev_enter(dev, &before);

    if (res != medleySuccess) return fail_comm(s, res);
    res = visit(s, more);
    mdl_dev_leave(dev, &before);
    return res;
}

/* Calls `visit` for the stages of messages, or of collectives, in the order of issue. */
static medleyResult_t visit_all(struct mdl_batch *const *batches, int n, bool messages, visitor *visit, bool *more)
{
    for (int i = 0; i < n; i++) {
        mdl_list_each (it, &batches[i]->ops) {
            struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
            if (!op->stage || is_message(op) != messages) continue;
            MDL_TRY(visit_one(op->stage, visit, more));
        }
    }
    return medleySuccess;
}

static medleyResult_t reserve(struct mdl_stage *s, bool *attend)
{
    s->attended |= *attend && !s->direct;
    return mdl_stage_reserve(s);
}

static medleyResult_t begin_message(struct mdl_stage *s, bool *more)
{
    (void)more;
    return fail_comm(s, begin(s));
}

static medleyResult_t turn(struct mdl_stage *s, bool *more)
{
    if (s->attended || s->put_out == s->nblocks) return medleySuccess;
    *more = true;
    return fail_comm(s, put_out(s));
}

static medleyResult_t whole(struct mdl_stage *s, bool *more)
{
    medleyResult_t res = s->direct ? mdl_direct_launch(s) : begin(s);

    (void)more;
    if (res == medleySuccess && !s->direct) res = put_all_out(s);
    return fail_comm(s, res);
}

/* More words than there are, or more than a stream takes. */
static bool too_many(struct mdl_batch *const *batches, int n)
{
    size_t queued = 0;

    for (int i = 0; i < n; i++) {
        if (batches[i]->nops > MDL_STAGES_MOST) return true;
        mdl_list_each (it, &batches[i]->ops) {
            const struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
            if (op->stage) queued += op->stage->queued;
        }
    }
    return queued > MDL_STAGE_QUEUED_MOST;
}

static medleyResult_t launch(struct mdl_batch *const *batches, int n)
{
    bool more = true;

    MDL_TRY(mdl_native_launch(batches, n)); /* all ranks' streams have them before what is staged */
    MDL_TRY(visit_all(batches, n, true, begin_message, &more));
    while (more) {
        more = false;
        MDL_TRY(visit_all(batches, n, true, turn, &more));
    }
    return visit_all(batches, n, false, whole, &more);
}

/* A group that is launched in part leaves its communicators with calls that their peers have and they have not. */
static medleyResult_t fail_all(struct mdl_batch *const *batches, int n, medleyResult_t res)
{
    for (int i = 0; i < n; i++) (void)mdl_stager_fail(batches[i]->comm, res);
    return res;
}

medleyResult_t mdl_stage_launch(struct mdl_batch *const *batches, int n)
{
    bool attend = too_many(batches, n);
    medleyResult_t res;

    MDL_TRY(visit_all(batches, n, true, reserve, &attend));
    MDL_TRY(visit_all(batches, n, false, reserve, &attend));
    res = launch(batches, n);
    return res == medleySuccess ? res : fail_all(batches, n, res);
}

/* ---- the executing thread's side ---- */

static void look_at_word(struct mdl_stage *s)
{
    uint64_t word = __atomic_load_n(s->arrived, __ATOMIC_ACQUIRE); /* pairs with the stream's write */

    if (!(word & MDL_WORD_FAILED))
        s->seen = word;
    else if (!mdl_comm_failed(s->op->comm))
        (void)fail_comm(s, mdl_error(medleyUnhandledDeviceError, "stream %p has failed", (void *)s->stream));
}

static medleyResult_t look_at_events(struct mdl_stage *s, bool *more)
{
    const struct mdl_device *d = device_of(s);

    (void)more;
    while (s->seen < s->put_in) {
        medleyResult_t res = d->event_query(d, s->event[s->seen % s->ring]);
        if (res == medleyInProgress) break;
        if (res != medleySuccess) return fail_comm(s, res);
        s->seen++;
    }
    return medleySuccess;
}

/* How far the stream is. */
static void look(struct mdl_stage *s)
{
    if (!s->attended)
        look_at_word(s);
    else if (!has_events(s))
        s->seen = s->put_in;
    else if (s->seen < s->put_in)
        (void)visit_one(s, look_at_events, NULL);
}

void mdl_stage_look_for_error(struct mdl_stage *s)
{
    const struct mdl_device *d = device_of(s);
    struct mdl_dev_visit visit;
    medleyResult_t res;

    if (!d->stream_query || mdl_comm_failed(s->op->comm)) return;
    res = mdl_dev_enter(&stager_of(s)->dev, &visit);
    if (res == medleySuccess) {
        res = d->stream_query(d, s->stream);
        mdl_dev_leave(&stager_of(s)->dev, &visit);
    }
    if (res != medleyInProgress) (void)fail_comm(s, res);
}

bool mdl_stage_has(struct mdl_stage *s, size_t block)
{
    if (s->seen <= block) look(s);
    return s->seen > block;
}

medleyResult_t mdl_stage_done(struct mdl_stage *s, size_t blocks)
{
    const struct mdl_dev *dev = &stager_of(s)->dev;
    struct mdl_dev_visit visit;
    medleyResult_t res = medleySuccess;

    if (!s->attended) {
        __atomic_store_n(s->ready, blocks, __ATOMIC_RELEASE); /* pairs with the stream's wait */
        return medleySuccess;
    }
    if (s->put_out >= blocks) return medleySuccess;
    MDL_TRY(mdl_dev_enter(dev, &visit));
    while (res == medleySuccess && s->put_out < blocks) res = put_out(s);
    mdl_dev_leave(dev, &visit);
    return fail_comm(s, res);
}

static medleyResult_t close_attended(struct mdl_stage *s, bool *more)
{
    const struct mdl_device *d = device_of(s);

    (void)more;
    if (!s->last || d->event_record(d, s->last, s->stream) != medleySuccess) return d->stream_sync(d, s->stream);
    return medleySuccess;
}

void mdl_stage_close_attended(struct mdl_stage *s) { (void)visit_one(s, close_attended, NULL); }
