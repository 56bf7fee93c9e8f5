/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, events and what can be put on a stream besides copies. */
#include "config.h"
#include "tests/emul/state.h"
#include <stdlib.h>
#include <string.h>

static struct emul_queue *least_used(struct emul_device *device)
{
    struct emul_queue *best = NULL;
    for (unsigned i = 0; i < emul.queues; i++) {
        struct emul_queue *queue = &device->queues[(device->turn + i) % emul.queues];
        if (!best || queue->streams < best->streams) best = queue;
    }
    device->turn++;
    return best;
}

static struct emul_stream *stream_new(struct emul_device *device, unsigned flags)
{
    struct emul_stream *stream = calloc(1, sizeof(*stream));
    if (!stream) abort();
    stream->vendor = device->vendor;
    stream->device = device->number;
    stream->flags = flags;
    stream->live = true;
    stream->id = ++emul.next_id;
    stream->random = emul.seed * 1000003u + stream->id;
    stream->queue = least_used(device);
    stream->queue->streams++;
    stream->next = emul.streams;
    emul.streams = stream;
    return stream;
}

/* With `current` a stream of another device than the thread's is misuse. */
struct emul_stream *emul_stream_get(int vendor, void *handle, bool current, enum emul_code *code)
{
    *code = EMUL_OK;
    if (!handle) {
        struct emul_device *device = emul_device_current(vendor);
        if (!device->legacy) device->legacy = stream_new(device, 0);
        return device->legacy;
    }
    struct emul_stream *at = emul.streams;
    while (at && at != handle) at = at->next;
    if (!at)
        *code = emul_misuse(EMUL_BAD_HANDLE, "%p is no stream", handle);
    else if (!at->live)
        *code = emul_misuse(EMUL_BAD_HANDLE, "stream %llu was destroyed", (unsigned long long)at->id);
    else if (at->vendor != vendor)
        *code = emul_misuse(EMUL_BAD_HANDLE, "stream %p is one of %s", handle, emul_vendor_name(at->vendor));
    else if (current && at->device != emul_device_get(vendor))
        *code = emul_misuse(EMUL_BAD_HANDLE, "stream %llu is of device %d, this thread is in device %d",
                            (unsigned long long)at->id, at->device, emul_device_get(vendor));
    return *code ? NULL : at;
}

enum emul_code emul_stream_create(int vendor, unsigned flags, void **out)
{
    if (!out) return EMUL_INVALID;
    pthread_mutex_lock(&emul.lock);
    *out = stream_new(emul_device_current(vendor), flags);
    pthread_mutex_unlock(&emul.lock);
    return EMUL_OK;
}

/* What is pending still runs. */
enum emul_code emul_stream_destroy(int vendor, void *handle)
{
    if (!handle) return EMUL_BAD_HANDLE;
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, handle, false, &code);
    if (!code && stream->graph) stream->graph->dead = true;
    if (!code) {
        stream->live = false;
        stream->queue->streams--;
        pthread_cond_signal(&stream->queue->more);
        code = emul_sticky(vendor, stream->device);
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

/* The NULL stream waits for the blocking streams of its device, itself among them, and for no other. */
static void drain_blocking(const struct emul_stream *legacy)
{
    for (struct emul_stream *at = emul.streams; at; at = at->next)
        if (at->vendor == legacy->vendor && at->device == legacy->device && !(at->flags & EMUL_NON_BLOCKING) && at->last)
            (void)emul_op_wait(at->last, UINT64_MAX);
}

enum emul_code emul_stream_sync_for(int vendor, void *handle, uint64_t timeout_ns)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, handle, false, &code);
    if (!code && stream->graph) {
        stream->graph->dead = true;
        code = EMUL_CAPTURE_UNSAFE;
    }
    bool done = true;
    if (!code && !handle)
        drain_blocking(stream);
    else if (!code && stream->last)
        done = emul_op_wait(stream->last, timeout_ns);
    if (!code) code = emul_sticky(vendor, stream->device);
    if (!code && !done) code = EMUL_NOT_READY;
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_stream_sync(int vendor, void *handle) { return emul_stream_sync_for(vendor, handle, UINT64_MAX); }

/* notready: queries say so for ever; notready@N: from the Nth query on. */
static bool never_ready(int vendor)
{
    unsigned at, turn = ++emul.queries[vendor];
    return emul_fault(vendor, "notready", &at) && turn >= at;
}

enum emul_code emul_stream_query(int vendor, void *handle)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, handle, false, &code);
    if (!code && stream->graph) {
        stream->graph->dead = true;
        code = EMUL_CAPTURE_UNSAFE;
    }
    if (!code) code = emul_sticky(vendor, stream->device);
    if (!code && ((stream->last && !stream->last->done) || never_ready(vendor))) code = EMUL_NOT_READY;
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_stream_device(int vendor, void *handle, int *device)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, handle, false, &code);
    if (!code) *device = stream->device;
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_stream_flags(int vendor, void *handle, unsigned *flags)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, handle, false, &code);
    if (!code) *flags = stream->flags;
    pthread_mutex_unlock(&emul.lock);
    return code;
}

static struct emul_event *event_get(int vendor, void *handle, enum emul_code *code)
{
    *code = EMUL_OK;
    struct emul_event *at = emul.events;
    while (at && at != handle) at = at->next;
    if (!at)
        *code = emul_misuse(EMUL_BAD_HANDLE, "%p is no event", handle);
    else if (!at->live)
        *code = emul_misuse(EMUL_BAD_HANDLE, "event %llu was destroyed", (unsigned long long)at->id);
    else if (at->vendor != vendor)
        *code = emul_misuse(EMUL_BAD_HANDLE, "event %p is one of %s", handle, emul_vendor_name(at->vendor));
    return *code ? NULL : at;
}

enum emul_code emul_event_create(int vendor, unsigned flags, void **out)
{
    if (!out) return EMUL_INVALID;
    if ((flags & EMUL_EVENT_SHARED) && (flags & EMUL_EVENT_TIMING)) return EMUL_INVALID;
    struct emul_event *event = calloc(1, sizeof(*event));
    if (!event) abort();
    pthread_mutex_lock(&emul.lock);
    event->vendor = vendor;
    event->device = emul_device_get(vendor);
    event->flags = flags;
    event->live = true;
    event->id = ++emul.next_id;
    event->next = emul.events;
    emul.events = event;
    *out = event;
    pthread_mutex_unlock(&emul.lock);
    return EMUL_OK;
}

enum emul_code emul_event_flags(int vendor, void *handle, unsigned *flags)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    const struct emul_event *event = event_get(vendor, handle, &code);
    if (!code) *flags = event->flags;
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_event_destroy(int vendor, void *handle)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_event *event = event_get(vendor, handle, &code);
    if (!code) {
        event->live = false;
        emul_op_put(event->last);
        event->last = NULL;
        code = emul_sticky(vendor, event->device);
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_event_record(int vendor, void *handle, void *stream_handle)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_event *event = event_get(vendor, handle, &code);
    struct emul_stream *stream = code ? NULL : emul_stream_get(vendor, stream_handle, true, &code);
    if (!code && stream->device != event->device)
        code = emul_misuse(EMUL_BAD_HANDLE, "event %llu of device %d on a stream of device %d",
                           (unsigned long long)event->id, event->device, stream->device);
    if (!code) {
        struct emul_op *op = emul_op_new(OP_NOTHING);
        op->refs++;
        event->graph = stream->graph;
        code = emul_submit(stream, op);
        if (!code && !stream->graph) {
            emul_op_put(event->last);
            event->last = op;
        } else {
            emul_op_put(op);
        }
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

static enum emul_code captured(const struct emul_event *event)
{
    if (!event->graph) return EMUL_OK;
    event->graph->dead = true;
    return EMUL_CAPTURED_EVENT;
}

enum emul_code emul_event_query(int vendor, void *handle)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_event *event = event_get(vendor, handle, &code);
    if (!code) code = captured(event);
    if (!code) code = emul_sticky(vendor, event->device);
    if (!code && ((event->last && !event->last->done) || never_ready(vendor))) code = EMUL_NOT_READY;
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_event_sync(int vendor, void *handle)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_event *event = event_get(vendor, handle, &code);
    if (!code) code = captured(event);
    if (!code && event->last) emul_op_wait(event->last, UINT64_MAX);
    if (!code) code = emul_sticky(vendor, event->device);
    pthread_mutex_unlock(&emul.lock);
    return code;
}

/* The stream waits for what the event stands for now; a later record changes nothing. */
enum emul_code emul_event_wait(int vendor, void *stream_handle, void *handle)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, stream_handle, true, &code);
    struct emul_event *event = code ? NULL : event_get(vendor, handle, &code);
    if (!code && event->graph && event->graph->active && !stream->graph) stream->graph = event->graph; /* a fork */
    if (!code && stream->graph && !event->graph) {
        stream->graph->dead = true;
        code = EMUL_CAPTURE_UNSAFE;
    }
    if (!code) {
        struct emul_op *op = emul_op_new(OP_NOTHING);
        if (event->last && !event->last->done && !stream->graph) {
            op->waited = malloc(sizeof(op->waited[0]));
            if (!op->waited) abort();
            op->waited[op->waits++] = event->last;
            event->last->refs++;
        }
        code = emul_submit(stream, op);
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_event_elapsed(int vendor, void *from, void *to, float *ms)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_event *first = event_get(vendor, from, &code);
    struct emul_event *second = code ? NULL : event_get(vendor, to, &code);
    if (!code && (!(first->flags & second->flags & EMUL_EVENT_TIMING) || !first->last || !second->last))
        code = EMUL_BAD_HANDLE;
    if (!code && (!first->last->done || !second->last->done)) code = EMUL_NOT_READY;
    if (!code) *ms = (float)((double)(second->last->ended - first->last->ended) * 1e-6);
    pthread_mutex_unlock(&emul.lock);
    return code;
}

static enum emul_code submit(int vendor, void *handle, struct emul_op *op)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, handle, true, &code);
    if (code)
        emul_op_put(op);
    else
        code = emul_submit(stream, op);
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_host(int vendor, void *stream, void (*fn)(void *), void *data)
{
    if (!fn) return EMUL_INVALID;
    struct emul_op *op = emul_op_new(OP_HOST);
    op->host = fn;
    op->data = data;
    return submit(vendor, stream, op);
}

enum emul_code emul_callback(int vendor, void *stream, void (*fn)(void *, int, void *), void *data)
{
    if (!fn) return EMUL_INVALID;
    struct emul_op *op = emul_op_new(OP_CALLBACK);
    op->callback = fn;
    op->data = data;
    return submit(vendor, stream, op);
}

enum emul_code emul_work(int vendor, void *stream, int (*work)(void *), void (*drop)(void *), void *data)
{
    struct emul_op *op = emul_op_new(OP_WORK);
    op->work = work;
    op->drop = drop;
    op->data = data;
    return submit(vendor, stream, op);
}

static enum emul_code submit_write(int vendor, void *stream, char *alias, uint64_t value, size_t bytes)
{
    struct emul_op *op = emul_op_new(OP_WRITE);
    op->to = alias;
    op->width = bytes;
    op->value = value;
    return submit(vendor, stream, op);
}

static enum emul_code submit_wait(int vendor, void *stream, char *alias, uint64_t value, uint64_t mask, size_t bytes,
                                  int compare)
{
    struct emul_op *op = emul_op_new(OP_WAIT);
    op->to = alias;
    op->width = bytes;
    op->value = value;
    op->mask = bytes == 4 ? (uint32_t)mask : mask;
    op->compare = compare;
    return submit(vendor, stream, op);
}

enum emul_code emul_write(int vendor, void *stream, void *word, uint64_t value, size_t bytes)
{
    char *alias = emul_alias(vendor, word, bytes);
    if (!alias || (uintptr_t)word % bytes) return EMUL_INVALID;
    return submit_write(vendor, stream, alias, value, bytes);
}

enum emul_code emul_wait(int vendor, void *stream, void *word, uint64_t value, uint64_t mask, size_t bytes, int compare)
{
    char *alias = emul_alias(vendor, word, bytes);
    if (!alias || (uintptr_t)word % bytes || compare < EMUL_GEQ || compare > EMUL_NOR) return EMUL_INVALID;
    return submit_wait(vendor, stream, alias, value, mask, bytes, compare);
}

enum emul_code emul_flag_set(int vendor, void *stream, uint64_t *flag, uint64_t value)
{
    return submit_write(vendor, stream, (char *)flag, value, 8);
}

enum emul_code emul_flag_wait(int vendor, void *stream, uint64_t *flag, uint64_t value)
{
    return submit_wait(vendor, stream, (char *)flag, value, UINT64_MAX, 8, EMUL_EQ);
}

enum emul_code emul_free_async(int vendor, void *address, void *stream)
{
    struct emul_info info;
    emul_lookup(vendor, address, &info);
    if (info.base != address || (info.memory != EMUL_DEVICE && info.memory != EMUL_POOL))
        return emul_misuse(EMUL_INVALID, "%p is no device allocation", address);
    struct emul_op *op = emul_op_new(OP_FREE);
    op->data = address;
    return submit(vendor, stream, op);
}
