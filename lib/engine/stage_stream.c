/* SPDX-License-Identifier: Apache-2.0 */
/* What a stage appends to the user's stream, part by part, and what the executing thread sees of it (stage.h). */
#include "config.h"

#include "lib/engine/comm.h"
#include "lib/engine/direct.h"
#include "lib/engine/exec.h"
#include "lib/engine/stage.h"

static struct mdl_stager *stager_of(const struct mdl_stage *s) { return s->op->comm->stager; }
static const struct mdl_device *device_of(const struct mdl_stage *s) { return stager_of(s)->dev.ops; }
static const struct mdl_hold *hold_of(const struct mdl_stage *s) { return &stager_of(s)->hold; }
static bool has_events(const struct mdl_stage *s) { return (stager_of(s)->dev.caps & MDL_DEV_EVENTS) != 0; }

/* ---- copies ---- */

/* Elements of a slot that lie in block b. */
static size_t part(const struct mdl_stage *s, enum mdl_buffer buf, uint32_t slot, size_t b)
{
    size_t n = mdl_op_own_count(s->op, buf, slot), from = b * s->block;

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

static medleyResult_t copy_piece(const struct mdl_stage *s, enum mdl_buffer buf, size_t b)
{
    const struct mdl_stage_piece *p = s->pieces;
    size_t from, n;
    char *user;

    while (p + 1 < s->pieces + s->npieces && p[1].block <= b) p++;
    user = buf == MDL_IN ? (char *)(uintptr_t)p->in : p->out;
    from = (b - p->block) * s->block;
    n = p->count - from < s->block ? p->count - from : s->block;
    return user ? copy(s, buf, user + from * s->elem, mdl_stage_at(s, buf, 0, b * s->block), n * s->elem)
                : medleySuccess;
}

static medleyResult_t copy_block(const struct mdl_stage *s, enum mdl_buffer buf, size_t b)
{
    const struct mdl_stage_side *side = &s->side[buf];

    if (!side->staged) return medleySuccess;
    if (s->pieces) return copy_piece(s, buf, b);
    if (s->nblocks == 1 && !mdl_op_shape(s->op)->v) /* all slots in one piece */
        return copy(s, buf, side->user, side->base, side->slots * s->op->count * s->elem);
    for (uint32_t slot = 0; slot < side->slots; slot++) {
        size_t n = part(s, buf, slot, b), at = mdl_op_slot_offset(s->op, buf, slot) + b * s->block;
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

/* What tells that the stream is through with it. */
static medleyResult_t put_end(struct mdl_stage *s)
{
    const struct mdl_device *d = device_of(s);

    if (!s->attended) return mdl_hold_write(hold_of(s), s->stream, s->arrived, s->nblocks + 1);
    return s->last ? d->event_record(d, s->last, s->stream) : d->stream_sync(d, s->stream);
}

/* The results of the next block, behind the wait for them, then what takes its place. */
static medleyResult_t put_out(struct mdl_stage *s)
{
    size_t b = s->put_out;

    if (!s->attended) MDL_TRY(mdl_hold_wait(hold_of(s), s->stream, s->ready, b + 1));
    MDL_TRY(copy_block(s, MDL_OUT, b));
    s->put_out++;
    if (s->put_in < s->nblocks) MDL_TRY(put_in(s));
    if (s->put_out < s->nblocks) return medleySuccess;
    s->over = true;
    return put_end(s);
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

/* What the stream itself does where it can wait: it says what has arrived, and takes what is ready. */
static medleyResult_t attend(struct mdl_stage *s, bool *moved)
{
    const struct mdl_device *d = device_of(s);
    uint64_t ready = __atomic_load_n(s->ready, __ATOMIC_ACQUIRE); /* pairs with mdl_stage_done and mdl_stage_release */

    while (s->told < s->put_in) {
        medleyResult_t res = has_events(s) ? d->event_query(d, s->event[s->told % s->ring]) : medleySuccess;
        if (res == medleyInProgress) break;
        MDL_TRY(res);
        __atomic_store_n(s->arrived, ++s->told, __ATOMIC_RELEASE); /* pairs with look */
        *moved = true;
    }
    if (ready > s->nblocks) return medleySuccess; /* released: there are no results */
    for (; s->put_out < ready; *moved = true) MDL_TRY(put_out(s));
    return medleySuccess;
}

medleyResult_t mdl_stage_append(struct mdl_stage *s, bool *moved)
{
    if (s->attended && s->launched) return attend(s, moved);
    *moved = true;
    if (s->direct) return mdl_direct_append(s);
    return s->launched ? put_out(s) : begin(s);
}

void mdl_stage_close(struct mdl_stage *s)
{
    if (s->over) return;
    s->over = true;
    if (!s->launched) return;
    if (s->direct)
        mdl_direct_end(s);
    else if (put_end(s) != medleySuccess)
        (void)device_of(s)->stream_sync(device_of(s), s->stream);
}

/* ---- how much that is ---- */

size_t mdl_stage_cost(const struct mdl_stage *s)
{
    if (s->direct) return s->direct->cost;
    if (s->attended) return 0; /* none of it waits */
    if (!s->launched) return s->ring * s->cost[MDL_IN];
    return s->cost[MDL_OUT] + (s->put_in < s->nblocks ? s->cost[MDL_IN] : 1);
}

size_t mdl_stage_waiting(const struct mdl_stage *s)
{
    size_t word, in, out;

    if (!s->launched || s->attended) return 0;
    if (s->direct) return mdl_direct_waiting(s);
    word = (size_t)(__atomic_load_n(s->arrived, __ATOMIC_RELAXED) & ~MDL_WORD_FAILED);
    if (word > s->nblocks) return 0;
    in = word < s->put_in ? word : s->put_in;
    out = word > s->ring ? word - s->ring : 0; /* block b + ring arrives behind what comes out of block b */
    out = s->put_out > out ? s->put_out - out : 0;
    return (s->put_in - in) * s->cost[MDL_IN] + out * s->cost[MDL_OUT];
}

/* ---- the executing thread's side ---- */

/* How far the stream is. */
static void look(struct mdl_stage *s)
{
    uint64_t word = __atomic_load_n(s->arrived, __ATOMIC_ACQUIRE); /* pairs with the stream's write, or attend */

    if (!(word & MDL_WORD_FAILED))
        s->seen = word;
    else if (!mdl_comm_failed(s->op->comm))
        (void)mdl_stager_fail(s->op->comm,
                              mdl_error(medleyUnhandledDeviceError, "stream %p has failed", (void *)s->stream));
}

void mdl_stage_look_for_error(struct mdl_stage *s)
{
    const struct mdl_device *d = device_of(s);
    struct mdl_dev_visit visit;
    medleyResult_t res;

    if (!stager_of(s)->idle || mdl_comm_failed(s->op->comm)) return;
    res = mdl_dev_enter(&stager_of(s)->dev, &visit);
    if (res == medleySuccess) {
        res = d->stream_query(d, stager_of(s)->idle);
        mdl_dev_leave(&stager_of(s)->dev, &visit);
    }
    if (res != medleyInProgress) (void)mdl_stager_fail(s->op->comm, res);
}

bool mdl_stage_has(struct mdl_stage *s, size_t block)
{
    if (s->seen <= block) look(s);
    return s->seen > block;
}

void mdl_stage_done(struct mdl_stage *s, size_t blocks)
{
    __atomic_store_n(s->ready, blocks, __ATOMIC_RELEASE); /* pairs with the stream's wait, or attend */
}
