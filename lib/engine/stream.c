/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams and events. Both live in registries, and a pointer that the user hands in is looked up there before it is
 * touched. A destroyed stream or event stays until the last item that names it is gone.
 */
#include "config.h"

#include "lib/engine/stream.h"

#include <stdlib.h>

struct mdl_stream {
    struct mdl_list link, items;
    medleyResult_t error; /* first since the last Synchronize */
    bool destroyed;
};

struct mdl_event {
    struct mdl_list link;
    uint64_t recorded, done; /* generations */
    medleyResult_t error;    /* of the stream, when `done` was reached */
    int refs;                /* items that name it */
    bool destroyed;
};

static struct mdl_list streams = {&streams, &streams}, events = {&events, &events};

static bool listed(const struct mdl_list *list, const struct mdl_list *node)
{
    for (const struct mdl_list *it = list->next; it != list; it = it->next) {
        if (it == node) return true;
    }
    return false;
}

static struct mdl_stream *find_stream(void *p)
{
    struct mdl_stream *s = p;

    return s && listed(&streams, &s->link) && !s->destroyed ? s : NULL;
}

static struct mdl_event *find_event(void *p)
{
    struct mdl_event *e = p;

    return e && listed(&events, &e->link) && !e->destroyed ? e : NULL;
}

static medleyResult_t bad_stream(void *p)
{
    return mdl_error(medleyInvalidArgument, "stream %p was not made by medleyStreamCreate or has been destroyed", p);
}

static medleyResult_t bad_event(void *p)
{
    return mdl_error(medleyInvalidArgument, "event %p was not made by medleyEventCreate or has been destroyed", p);
}

static void free_stream(struct mdl_stream *s)
{
    mdl_list_remove(&s->link);
    free(s);
}

static void unref_event(struct mdl_event *e)
{
    if (--e->refs > 0 || !e->destroyed) return;
    mdl_list_remove(&e->link);
    free(e);
}

/* ---- for the queue, with its lock ---- */

bool mdl_stream_valid(void *stream) { return find_stream(stream) != NULL; }

bool mdl_stream_known(void *stream)
{
    bool known;

    mdl_queue_lock();
    known = mdl_stream_valid(stream);
    mdl_queue_unlock();
    return known;
}

bool mdl_stream_is_head(const struct mdl_item *item) { return item->stream->items.next == &item->link; }

medleyResult_t mdl_stream_append(void *stream, struct mdl_item *item)
{
    struct mdl_stream *s = find_stream(stream);

    if (!s) return bad_stream(stream);
    item->stream = s;
    mdl_list_append(&s->items, &item->link);
    return medleySuccess;
}

void mdl_stream_drop(struct mdl_item *item, medleyResult_t result)
{
    struct mdl_stream *s = item->stream;

    if (item->event) unref_event(item->event);
    mdl_list_remove(&item->link);
    free(item);
    if (!s) return;
    if (result != medleySuccess && s->error == medleySuccess) s->error = result;
    if (mdl_list_empty(&s->items)) mdl_queue_changed(); /* for who synchronizes; others have nothing to wake up for */
    if (s->destroyed && mdl_list_empty(&s->items)) free_stream(s);
}

static bool settle(struct mdl_item *item)
{
    if (item->kind == MDL_ITEM_BATCH) return false;
    if (item->kind == MDL_ITEM_WAIT && item->event->done < item->generation) return false;
    if (item->kind == MDL_ITEM_RECORD) {
        item->event->done = item->generation;
        item->event->error = item->stream ? item->stream->error : medleySuccess;
        mdl_queue_changed();
    }
    mdl_stream_drop(item, item->event->error); /* a stream that waits for a failed one has failed with it */
    return true;
}

bool mdl_streams_settle(void)
{
    bool moved = false;

    mdl_list_each (it, &streams) {
        struct mdl_stream *s = mdl_container_of(it, struct mdl_stream, link);
        if (!mdl_list_empty(&s->items)) moved |= settle(mdl_container_of(s->items.next, struct mdl_item, link));
    }
    return moved;
}

/* ---- streams ---- */

medleyResult_t mdl_stream_create(void **stream)
{
    struct mdl_stream *s = calloc(1, sizeof(*s));
    medleyResult_t res;

    if (!s) return mdl_error(medleySystemError, "out of memory for a stream");
    res = mdl_queue_hold();
    if (res != medleySuccess) {
        free(s);
        return res;
    }
    mdl_list_init(&s->items);
    mdl_queue_lock();
    mdl_list_append(&streams, &s->link);
    mdl_queue_unlock();
    *stream = s;
    return medleySuccess;
}

medleyResult_t mdl_stream_destroy(void *stream)
{
    struct mdl_stream *s;

    mdl_queue_lock();
    s = find_stream(stream);
    if (!s) {
        mdl_queue_unlock();
        return bad_stream(stream);
    }
    s->destroyed = true;
    if (mdl_list_empty(&s->items)) free_stream(s);
    mdl_queue_unlock();
    mdl_queue_release();
    return medleySuccess;
}

medleyResult_t mdl_stream_synchronize(void *stream)
{
    struct mdl_stream *s;
    medleyResult_t res;

    mdl_queue_lock();
    while ((s = find_stream(stream)) && !mdl_list_empty(&s->items)) mdl_queue_wait(0);
    if (!s) {
        mdl_queue_unlock();
        return bad_stream(stream);
    }
    res = s->error;
    s->error = medleySuccess;
    mdl_queue_unlock();
    return res;
}

medleyResult_t mdl_stream_query(void *stream)
{
    struct mdl_stream *s;
    medleyResult_t res;

    mdl_queue_lock();
    s = find_stream(stream);
    res = !s ? bad_stream(stream) : !mdl_list_empty(&s->items) ? medleyInProgress : s->error;
    mdl_queue_unlock();
    return res;
}

/* ---- events ---- */

/* With the lock: puts a record or a wait at the end of a stream, or does it at once on an empty one. */
static medleyResult_t append(struct mdl_stream *s, enum mdl_item_kind kind, struct mdl_event *e, uint64_t generation)
{
    struct mdl_item *item = calloc(1, sizeof(*item));

    if (!item) return mdl_error(medleySystemError, "out of memory for an event");
    *item = (struct mdl_item){.kind = kind, .event = e, .generation = generation, .stream = s};
    e->refs++;
    mdl_list_append(&s->items, &item->link);
    while (mdl_streams_settle()) continue;
    mdl_queue_poke(); /* what settled may have been all that a batch waited for */
    return medleySuccess;
}

medleyResult_t mdl_stream_wait_event(void *stream, void *event)
{
    struct mdl_stream *s;
    struct mdl_event *e;
    medleyResult_t res;

    mdl_queue_lock();
    s = find_stream(stream);
    e = find_event(event);
    res = !s ? bad_stream(stream) : !e ? bad_event(event) : append(s, MDL_ITEM_WAIT, e, e->recorded);
    mdl_queue_unlock();
    return res;
}

medleyResult_t mdl_event_record(void *event, void *stream)
{
    struct mdl_stream *s;
    struct mdl_event *e;
    medleyResult_t res;

    mdl_queue_lock();
    s = find_stream(stream);
    e = find_event(event);
    res = !s ? bad_stream(stream) : !e ? bad_event(event) : append(s, MDL_ITEM_RECORD, e, ++e->recorded);
    mdl_queue_unlock();
    return res;
}

medleyResult_t mdl_event_create(void **event)
{
    struct mdl_event *e = calloc(1, sizeof(*e));

    if (!e) return mdl_error(medleySystemError, "out of memory for an event");
    mdl_queue_lock();
    mdl_list_append(&events, &e->link);
    mdl_queue_unlock();
    *event = e;
    return medleySuccess;
}

medleyResult_t mdl_event_destroy(void *event)
{
    struct mdl_event *e;

    mdl_queue_lock();
    e = find_event(event);
    if (e) {
        e->destroyed = true;
        e->refs++;
        unref_event(e);
    }
    mdl_queue_unlock();
    return e ? medleySuccess : bad_event(event);
}

/* With the lock. */
static medleyResult_t outcome(const struct mdl_event *e)
{
    if (e->error == medleySuccess) return medleySuccess;
    return mdl_error_set(e->error, "an operation before the event has failed: medleyGetLastError of its communicator "
                                   "says why");
}

medleyResult_t mdl_event_query(void *event)
{
    struct mdl_event *e;
    medleyResult_t res;

    mdl_queue_lock();
    e = find_event(event);
    res = !e ? bad_event(event) : e->done >= e->recorded ? outcome(e) : medleyInProgress;
    mdl_queue_unlock();
    return res;
}

medleyResult_t mdl_event_synchronize(void *event, int timeout_ms)
{
    uint64_t deadline = timeout_ms < 0 ? 0 : mdl_now_ns() + (uint64_t)timeout_ms * MDL_NS_PER_MS;
    medleyResult_t res = medleySuccess;
    struct mdl_event *e;

    mdl_queue_lock();
    while ((e = find_event(event)) && e->done < e->recorded && res == medleySuccess) res = mdl_queue_wait(deadline);
    if (e && e->done >= e->recorded) res = outcome(e);
    mdl_queue_unlock();
    if (!e) return bad_event(event);
    if (res == medleyTimeout)
        return mdl_error(medleyTimeout, "event %p did not happen within %d ms", event, timeout_ms);
    return res;
}
