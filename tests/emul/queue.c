/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware queues and the operations in them. A device has EMUL_QUEUES queues, each with one thread and strictly first
 * in, first out; a stream lives on the least used one. While no more streams live than queues, each has a thread of its
 * own; beyond that streams share, and one that is held holds its neighbours: the false serialisation of real hardware.
 */
#include "config.h"
#include "tests/emul/state.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct emul_op *emul_op_new(enum emul_op_kind kind)
{
    struct emul_op *op = calloc(1, sizeof(*op));
    if (!op) abort();
    op->kind = kind;
    op->refs = 1;
    op->call = emul_me.call;
    return op;
}

void emul_op_put(struct emul_op *op)
{
    if (!op || --op->refs) return;
    for (unsigned i = 0; i < op->waits; i++) emul_op_put(op->waited[i]);
    if (op->drop) op->drop(op->data);
    free(op->waited);
    free(op->staged);
    free(op);
}

static void deadline_after(uint64_t ns, struct timespec *at)
{
    clock_gettime(CLOCK_REALTIME, at);
    at->tv_sec += (time_t)(ns / 1000000000u);
    at->tv_nsec += (long)(ns % 1000000000u);
    if (at->tv_nsec >= 1000000000) {
        at->tv_sec++;
        at->tv_nsec -= 1000000000;
    }
}

static void explain_wait(const struct emul_op *op)
{
    const struct emul_op *head = op->stream->queue ? op->stream->queue->head : NULL;
    dprintf(STDERR_FILENO,
            "emul: %s (%s, process %d) has waited %u s for %s on stream %llu of device %d; its queue stands at %s"
            " on stream %llu\n",
            emul_me.call ? emul_me.call : "a queue", emul_vendor_name(op->stream->vendor), getpid(), emul.stuck_s,
            op->call, (unsigned long long)op->stream->id, op->stream->device, head ? head->call : "nothing",
            head ? (unsigned long long)head->stream->id : 0);
}

bool emul_op_wait(struct emul_op *op, uint64_t timeout_ns)
{
    uint64_t end = timeout_ns == UINT64_MAX ? UINT64_MAX : emul_now() + timeout_ns;
    uint64_t stuck = emul.stuck_s ? emul_now() + emul.stuck_s * 1000000000ull : UINT64_MAX;
    bool told = false;
    op->refs++;
    emul.waiters++;
    while (!op->done) {
        uint64_t now = emul_now(), until = !told && stuck < end ? stuck : end;
        if (now >= end) break;
        if (now >= stuck && !told) {
            explain_wait(op);
            told = true;
            continue;
        }
        if (until == UINT64_MAX) {
            pthread_cond_wait(&emul.progress, &emul.lock);
            continue;
        }
        struct timespec at;
        deadline_after(until - now, &at);
        pthread_cond_timedwait(&emul.progress, &emul.lock, &at);
    }
    emul.waiters--;
    bool done = op->done;
    emul_op_put(op);
    return done;
}

void emul_device_drain(struct emul_device *device)
{
    for (struct emul_stream *at = emul.streams; at; at = at->next)
        if (at->vendor == device->vendor && at->device == device->number && at->last)
            emul_op_wait(at->last, UINT64_MAX);
}

/* The driver's thread for host functions: one for a vendor, so that one that blocks blocks all. */
static struct driver {
    pthread_cond_t more;
    struct emul_op *first, *last;
    bool running;
} drivers[EMUL_VENDORS];

struct ticket {
    struct emul_op *op;
    struct ticket *next;
    bool done;
};

static struct ticket *tickets[EMUL_VENDORS], **tails[EMUL_VENDORS];

static void *driver_main(void *argument)
{
    int vendor = (int)(intptr_t)argument;
    pthread_mutex_lock(&emul.lock);
    for (;;) {
        while (!tickets[vendor]) pthread_cond_wait(&drivers[vendor].more, &emul.lock);
        struct ticket *ticket = tickets[vendor];
        tickets[vendor] = ticket->next;
        if (!tickets[vendor]) tails[vendor] = &tickets[vendor];
        pthread_mutex_unlock(&emul.lock);
        emul_me.in_host = true;
        emul_me.call = "a host function";
        if (ticket->op->kind == OP_HOST)
            ticket->op->host(ticket->op->data);
        else
            ticket->op->callback(ticket->op->stream, 0, ticket->op->data);
        emul_me.in_host = false;
        pthread_mutex_lock(&emul.lock);
        ticket->done = true;
        pthread_cond_broadcast(&emul.progress);
    }
    return NULL;
}

static void run_host(struct emul_op *op)
{
    int vendor = op->stream->vendor;
    struct ticket ticket = {.op = op};
    pthread_mutex_lock(&emul.lock);
    if (!drivers[vendor].running) {
        pthread_t thread;
        pthread_cond_init(&drivers[vendor].more, NULL);
        tails[vendor] = &tickets[vendor];
        if (pthread_create(&thread, NULL, driver_main, (void *)(intptr_t)vendor) != 0) abort();
        pthread_detach(thread);
        drivers[vendor].running = true;
    }
    *tails[vendor] = &ticket;
    tails[vendor] = &ticket.next;
    pthread_cond_signal(&drivers[vendor].more);
    emul.waiters++;
    while (!ticket.done) pthread_cond_wait(&emul.progress, &emul.lock);
    emul.waiters--;
    pthread_mutex_unlock(&emul.lock);
}

static uint64_t load(const char *word, size_t bytes)
{
    if (bytes == 4) return __atomic_load_n((const uint32_t *)(const void *)word, __ATOMIC_ACQUIRE);
    return __atomic_load_n((const uint64_t *)(const void *)word, __ATOMIC_ACQUIRE);
}

static bool satisfied(const struct emul_op *op)
{
    uint64_t now = load(op->to, op->width) & op->mask;
    if (op->compare == EMUL_EQ) return now == op->value;
    if (op->compare == EMUL_AND) return (now & op->value) != 0;
    if (op->compare == EMUL_NOR) return ~(now | op->value) & op->mask;
    return op->width == 4 ? (int32_t)(now - op->value) >= 0 : (int64_t)(now - op->value) >= 0;
}

static void nap(unsigned us)
{
    struct timespec time = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
    nanosleep(&time, NULL);
}

static void run_fill(const struct emul_op *op)
{
    if (op->width == 1) {
        memset(op->to, op->pattern[0], op->size);
        return;
    }
    for (size_t i = 0; i < op->size; i += op->width) memcpy(op->to + i, op->pattern, op->width);
}

/* Without the lock. Not 0: an asynchronous error. */
static int run(struct emul_op *op, struct emul_device *device)
{
    switch (op->kind) {
    case OP_COPY: memmove(op->to, op->staged ? op->staged : op->from, op->size); return 0;
    case OP_FILL: run_fill(op); return 0;
    case OP_WRITE:
        if (op->width == 4)
            __atomic_store_n((uint32_t *)(void *)op->to, (uint32_t)op->value, __ATOMIC_RELEASE);
        else
            __atomic_store_n((uint64_t *)(void *)op->to, op->value, __ATOMIC_RELEASE);
        return 0;
    case OP_WAIT:
        for (unsigned turn = 0; !satisfied(op); turn++) {
            if (atomic_load_explicit(&device->failed, memory_order_relaxed)) return 0;
            nap(turn < 20 ? 5 : 50);
        }
        return 0;
    case OP_HOST:
    case OP_CALLBACK: run_host(op); return 0;
    case OP_WORK: return op->work(op->data);
    default: return 0;
    }
}

/* async@N and hang@N: at the Nth operation of a stream. */
static bool fault_at(const struct emul_op *op, const char *name)
{
    unsigned at;
    return emul_fault(op->stream->vendor, name, &at) && op->stream->executed == at;
}

static void execute(struct emul_op *op, struct emul_device *device)
{
    struct emul_stream *stream = op->stream;
    for (unsigned i = 0; i < op->waits; i++) emul_op_wait(op->waited[i], UINT64_MAX);
    unsigned delay = emul.delay_us ? (unsigned)(emul_random(&stream->random) % (emul.delay_us + 1)) : 0;
    bool dead = atomic_load_explicit(&device->failed, memory_order_relaxed);
    stream->executed++;
    bool broken = fault_at(op, "async"), hung = fault_at(op, "hang");
    pthread_mutex_unlock(&emul.lock);
    emul_me.call = op->call;
    emul_me.vendor = stream->vendor;
    if (delay) nap(delay);
    while (hung) nap(1000000);
    if (!dead && (broken || run(op, device))) atomic_store_explicit(&device->failed, true, memory_order_relaxed);
    pthread_mutex_lock(&emul.lock);
    op->ended = emul_now();
}

static void *queue_main(void *argument)
{
    struct emul_queue *queue = argument;
    pthread_mutex_lock(&emul.lock);
    for (;;) {
        while (!queue->head && queue->streams) pthread_cond_wait(&queue->more, &emul.lock);
        if (!queue->head) break;
        struct emul_op *op = queue->head;
        execute(op, queue->device);
        queue->head = op->next;
        if (!queue->head) queue->tail = NULL;
        op->done = true;
        if (op->kind == OP_FREE) {
            struct emul_range *range = emul_range_find((uintptr_t)op->data);
            if (range && !range->freed) emul_range_free(range);
        }
        if (emul.waiters) pthread_cond_broadcast(&emul.progress);
        emul_op_put(op);
    }
    queue->running = false;
    pthread_mutex_unlock(&emul.lock);
    return NULL;
}

static void enqueue(struct emul_queue *queue, struct emul_op *op)
{
    op->next = NULL;
    if (queue->tail)
        queue->tail->next = op;
    else
        queue->head = op;
    queue->tail = op;
    if (!queue->running) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, queue_main, queue) != 0) abort();
        pthread_detach(thread);
        queue->running = true;
    }
    pthread_cond_signal(&queue->more);
}

static void wait_for(struct emul_op *op, struct emul_op *other)
{
    if (!other || other->done) return;
    op->waited = realloc(op->waited, (op->waits + 1) * sizeof(op->waited[0]));
    if (!op->waited) abort();
    op->waited[op->waits++] = other;
    other->refs++;
}

/* The NULL stream waits for all blocking streams of its device, and they for it. */
static void legacy_order(struct emul_stream *stream, struct emul_op *op)
{
    struct emul_stream *legacy = emul_device_at(stream->vendor, stream->device)->legacy;
    if (stream != legacy) {
        if (legacy && !(stream->flags & EMUL_NON_BLOCKING)) wait_for(op, legacy->last);
        return;
    }
    for (struct emul_stream *at = emul.streams; at; at = at->next)
        if (at != stream && at->vendor == stream->vendor && at->device == stream->device &&
            !(at->flags & EMUL_NON_BLOCKING))
            wait_for(op, at->last);
}

static void record(struct emul_graph *graph, struct emul_op *op)
{
    if (graph->last)
        graph->last->next = op;
    else
        graph->first = op;
    graph->last = op;
    graph->nodes++;
}

static bool implicit_capture(const struct emul_stream *stream)
{
    bool found = false;
    if (stream != emul_device_at(stream->vendor, stream->device)->legacy) return false;
    for (struct emul_stream *at = emul.streams; at; at = at->next)
        if (at->graph && at->vendor == stream->vendor && !(at->flags & EMUL_NON_BLOCKING))
            found = at->graph->dead = true;
    return found;
}

enum emul_code emul_submit(struct emul_stream *stream, struct emul_op *op)
{
    op->stream = stream;
    if (implicit_capture(stream)) {
        emul_op_put(op);
        return EMUL_CAPTURE_IMPLICIT;
    }
    if (stream->graph) {
        enum emul_code code = stream->graph->dead ? EMUL_CAPTURE_DEAD : EMUL_OK;
        if (code)
            emul_op_put(op);
        else
            record(stream->graph, op);
        return code;
    }
    while (emul.depth && stream->submitted - stream->executed >= emul.depth) {
        emul.waiters++;
        pthread_cond_wait(&emul.progress, &emul.lock);
        emul.waiters--;
    }
    legacy_order(stream, op);
    stream->submitted++;
    emul_op_put(stream->last);
    stream->last = op;
    op->refs++;
    enqueue(stream->queue, op);
    return EMUL_OK;
}
