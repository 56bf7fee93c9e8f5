/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenCL 2.0 and later, on devices with shared virtual memory.
 *
 * - An address is one of shared virtual memory (clSVMAlloc). The host may know of a context of the user's, so nothing
 * here depends on whose context an address is of: copies are appended to the user's queue, and the other side is
 * ordinary memory of the host, which every context takes. That is also what "pinned" memory is.
 * - A stream is a command queue; NULL is a queue of the adapter's own, one per device. Queues that run out of order get
 *   barriers around what is appended.
 * - OpenCL cannot be asked what an address is (clGetMemObjectInfo knows buffers only), so there is no classify: the
 * engine then copies every buffer through the queue, and clEnqueueSVMMemcpy takes addresses of the host too.
 * - Streams have no operations on words and no host functions: markers and user events stand for them (follow.h).
 * - No call of OpenCL frees memory behind what uses it, so `free` must come after the streams are through.
 */
#include "config.h"

#include "devices/opencl.h"
#include "lib/base/status.h"

#include <stdlib.h>
#include <string.h>

enum {
    QUEUE_CONTEXT = 0x1090,
    QUEUE_PROPERTIES = 0x1093,
    EVENT_STATUS = 0x11D3,
    EVENT_CONTEXT = 0x11D4,
    OUT_OF_ORDER = 1 << 0,
    READ_WRITE = 1 << 0
};
enum { COMPLETE = 0, PAGE = 4096, WORD_SPACE = 64 };

/* Calls, and reports what fails. */
#define TRY(name, ...) MDL_TRY(mdl_cl_check(mdl_cl_call.name(__VA_ARGS__), #name))

/* ---- memory ---- */

static medleyResult_t allocate(const struct mdl_device *d, size_t len, void **ptr)
{
    struct mdl_cl_device *dev;
    void *p;

    (void)d;
    MDL_TRY(mdl_cl_here(&dev));
    p = mdl_cl_call.SVMAlloc(dev->context, READ_WRITE, len ? len : 1, 0);
    if (!p)
        return mdl_error(medleySystemError,
                         "clSVMAlloc of %zu bytes failed: out of memory, or more than one allocation may be", len);
    *ptr = p;
    return medleySuccess;
}

static medleyResult_t release(const struct mdl_device *d, void *ptr)
{
    struct mdl_cl_device *dev;

    (void)d;
    MDL_TRY(mdl_cl_here(&dev));
    mdl_cl_call.SVMFree(dev->context, ptr);
    return medleySuccess;
}

static medleyResult_t alloc_pinned(const struct mdl_device *d, size_t len, void **ptr)
{
    void *p = NULL;
    int rc = posix_memalign(&p, PAGE, len ? len : 1);

    (void)d;
    if (rc) return mdl_system_error(rc, "no %zu bytes of memory for an OpenCL device", len);
    *ptr = p;
    return medleySuccess;
}

static medleyResult_t free_pinned(const struct mdl_device *d, void *ptr)
{
    (void)d;
    free(ptr);
    return medleySuccess;
}

/* ---- streams ---- */

medleyResult_t mdl_cl_queue_of(mdl_dev_stream stream, struct mdl_cl_queue *queue)
{
    struct mdl_cl_device *dev;
    uint64_t properties = 0;

    if (!stream) {
        MDL_TRY(mdl_cl_here(&dev));
        *queue = (struct mdl_cl_queue){.q = dev->queue, .context = dev->context};
        return medleySuccess;
    }
    queue->q = stream;
    TRY(GetCommandQueueInfo, stream, QUEUE_CONTEXT, sizeof(queue->context), &queue->context, NULL);
    TRY(GetCommandQueueInfo, stream, QUEUE_PROPERTIES, sizeof(properties), &properties, NULL);
    queue->unordered = (properties & OUT_OF_ORDER) != 0;
    return medleySuccess;
}

medleyResult_t mdl_cl_fence(const struct mdl_cl_queue *queue)
{
    if (queue->unordered) TRY(EnqueueBarrierWithWaitList, queue->q, 0, NULL, NULL);
    return medleySuccess;
}

static medleyResult_t copy(const struct mdl_device *d, void *dst, const void *src, size_t len, enum mdl_copy_kind kind,
                           mdl_dev_stream stream)
{
    struct mdl_cl_queue queue;

    (void)d;
    (void)kind;
    if (!len) return medleySuccess;
    MDL_TRY(mdl_cl_queue_of(stream, &queue));
    MDL_TRY(mdl_cl_fence(&queue));
    TRY(EnqueueSVMMemcpy, queue.q, 0, dst, src, len, 0, NULL, NULL);
    return mdl_cl_fence(&queue);
}

static medleyResult_t stream_create(const struct mdl_device *d, mdl_dev_stream *stream)
{
    struct mdl_cl_device *dev;
    int32_t rc = 0;
    mdl_cl q;

    (void)d;
    MDL_TRY(mdl_cl_here(&dev));
    q = mdl_cl_call.CreateCommandQueueWithProperties(dev->context, dev->id, NULL, &rc);
    MDL_TRY(mdl_cl_check(rc, "CreateCommandQueueWithProperties"));
    *stream = q;
    return medleySuccess;
}

static medleyResult_t stream_destroy(const struct mdl_device *d, mdl_dev_stream stream)
{
    (void)d;
    TRY(ReleaseCommandQueue, stream);
    return medleySuccess;
}

/* ---- words and host functions ---- */

static medleyResult_t passed(void *mark)
{
    int32_t status = 0;

    TRY(GetEventInfo, mark, EVENT_STATUS, sizeof(status), &status, NULL);
    if (status > COMPLETE) return medleyInProgress;
    if (status == COMPLETE) return medleySuccess;
    return mdl_cl_check(status, "EnqueueSVMMemcpy or what was before it in the queue");
}

/* Never with a failure: PoCL 3.1 ends the process then. */
static void open_gate(void *gate)
{
    (void)mdl_cl_check(mdl_cl_call.SetUserEventStatus(gate, COMPLETE), "SetUserEventStatus");
}

static void drop(void *event) { (void)mdl_cl_check(mdl_cl_call.ReleaseEvent(event), "ReleaseEvent"); }
static void hold_queue(void *q) { (void)mdl_cl_check(mdl_cl_call.RetainCommandQueue(q), "RetainCommandQueue"); }
static void let_queue_go(void *q) { (void)mdl_cl_check(mdl_cl_call.ReleaseCommandQueue(q), "ReleaseCommandQueue"); }

static const struct mdl_follow_ops follow_ops = {
    .passed = passed, .open = open_gate, .drop = drop, .hold = hold_queue, .let_go = let_queue_go};
static struct mdl_follow follower = MDL_FOLLOW_INITIALIZER(&follow_ops);

/* What the marker is behind must reach the device without anybody waiting for it. */
static medleyResult_t append_mark(const struct mdl_cl_queue *queue, void **mark)
{
    mdl_cl event = NULL;
    int32_t rc;

    TRY(EnqueueMarkerWithWaitList, queue->q, 0, NULL, &event);
    rc = mdl_cl_call.Flush(queue->q);
    if (rc != 0) {
        drop(event);
        return mdl_cl_check(rc, "Flush");
    }
    *mark = event;
    return medleySuccess;
}

static medleyResult_t append_gate(const struct mdl_cl_queue *queue, void **gate)
{
    int32_t rc = 0;
    mdl_cl event = mdl_cl_call.CreateUserEvent(queue->context, &rc);

    MDL_TRY(mdl_cl_check(rc, "CreateUserEvent"));
    rc = mdl_cl_call.EnqueueBarrierWithWaitList(queue->q, 1, &event, NULL);
    if (rc == 0) rc = mdl_cl_call.Flush(queue->q);
    if (rc != 0) {
        open_gate(event);
        drop(event);
        return mdl_cl_check(rc, "EnqueueBarrierWithWaitList");
    }
    *gate = event;
    return medleySuccess;
}

/* With the lane. A mark that the stream has been given stays there without harm if what comes next fails. */
static medleyResult_t append_parts(const struct mdl_cl_queue *queue, struct mdl_step *step)
{
    MDL_TRY(mdl_cl_fence(queue));
    if (step->kind == MDL_STEP_WRITE || step->kind == MDL_STEP_CALL) MDL_TRY(append_mark(queue, &step->mark));
    if (step->kind != MDL_STEP_WRITE) MDL_TRY(append_gate(queue, &step->gate));
    return medleySuccess;
}

/* Drops the step's mark, one way or the other. */
static medleyResult_t append_step(mdl_dev_stream stream, struct mdl_step step)
{
    struct mdl_cl_queue queue;
    struct mdl_lane *lane;
    medleyResult_t res = mdl_cl_queue_of(stream, &queue);

    if (res == medleySuccess) res = mdl_follow_enter(&follower, queue.q, &lane);
    if (res == medleySuccess) {
        res = append_parts(&queue, &step);
        mdl_follow_leave(&follower, lane, res == medleySuccess ? &step : NULL);
    }
    if (res != medleySuccess && step.mark) drop(step.mark);
    return res;
}

static medleyResult_t stream_write(const struct mdl_device *d, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    (void)d;
    return append_step(stream, (struct mdl_step){.kind = MDL_STEP_WRITE, .word = word, .value = value});
}

static medleyResult_t stream_wait(const struct mdl_device *d, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    (void)d;
    return append_step(stream, (struct mdl_step){.kind = MDL_STEP_WAIT, .word = word, .value = value});
}

static medleyResult_t stream_host_func(const struct mdl_device *d, mdl_dev_stream stream, void (*fn)(void *), void *arg)
{
    (void)d;
    return append_step(stream, (struct mdl_step){.kind = MDL_STEP_CALL, .fn = fn, .arg = arg});
}

/* The queue is through before the follower has done what it was passed for. */
static medleyResult_t stream_sync(const struct mdl_device *d, mdl_dev_stream stream)
{
    struct mdl_cl_queue queue;
    int32_t rc;

    (void)d;
    MDL_TRY(mdl_cl_queue_of(stream, &queue));
    rc = mdl_cl_call.Finish(queue.q);
    if (rc == 0) mdl_follow_sync(&follower, queue.q);
    return mdl_cl_check(rc, "Finish");
}

static medleyResult_t alloc_words(const struct mdl_device *d, int n, uint64_t **words)
{
    void *p = NULL;

    MDL_TRY(alloc_pinned(d, (size_t)n * WORD_SPACE, &p));
    memset(p, 0, (size_t)n * WORD_SPACE);
    for (int i = 0; i < n; i++) words[i] = (uint64_t *)((char *)p + (size_t)i * WORD_SPACE);
    return medleySuccess;
}

static medleyResult_t free_words(const struct mdl_device *d, int n, uint64_t **words)
{
    return n ? free_pinned(d, words[0]) : medleySuccess;
}

/* ---- events: each record is a marker of its own ---- */

struct event {
    pthread_mutex_t lock;
    mdl_cl mark; /* of the last record, NULL: none */
};

static medleyResult_t event_create(const struct mdl_device *d, mdl_dev_event *event)
{
    struct event *e = calloc(1, sizeof(*e));

    (void)d;
    if (!e) return mdl_error(medleySystemError, "out of memory for an event");
    pthread_mutex_init(&e->lock, NULL);
    *event = e;
    return medleySuccess;
}

static medleyResult_t event_destroy(const struct mdl_device *d, mdl_dev_event event)
{
    struct event *e = event;

    (void)d;
    if (e->mark) drop(e->mark);
    pthread_mutex_destroy(&e->lock);
    free(e);
    return medleySuccess;
}

static medleyResult_t event_record(const struct mdl_device *d, mdl_dev_event event, mdl_dev_stream stream)
{
    struct event *e = event;
    struct mdl_cl_queue queue;
    mdl_cl mark, before;

    (void)d;
    MDL_TRY(mdl_cl_queue_of(stream, &queue));
    MDL_TRY(append_mark(&queue, &mark));
    pthread_mutex_lock(&e->lock);
    before = e->mark;
    e->mark = mark;
    pthread_mutex_unlock(&e->lock);
    if (before) drop(before);
    return medleySuccess;
}

/* The mark of the last record, held; NULL: it was never recorded, which counts as passed. */
static mdl_cl hold_mark(struct event *e)
{
    mdl_cl mark;

    pthread_mutex_lock(&e->lock);
    mark = e->mark;
    if (mark) (void)mdl_cl_check(mdl_cl_call.RetainEvent(mark), "RetainEvent");
    pthread_mutex_unlock(&e->lock);
    return mark;
}

static medleyResult_t event_query(const struct mdl_device *d, mdl_dev_event event)
{
    mdl_cl mark = hold_mark(event);
    medleyResult_t res = mark ? passed(mark) : medleySuccess;

    (void)d;
    if (mark) drop(mark);
    return res;
}

/* A mark of another context cannot be in a wait list: the follower carries it over. */
static medleyResult_t join_mark(mdl_dev_stream stream, mdl_cl mark)
{
    struct mdl_cl_queue queue;
    mdl_cl context = NULL;

    MDL_TRY(mdl_cl_queue_of(stream, &queue));
    TRY(GetEventInfo, mark, EVENT_CONTEXT, sizeof(context), &context, NULL);
    if (context != queue.context) {
        TRY(RetainEvent, mark); /* the step drops it */
        return append_step(stream, (struct mdl_step){.kind = MDL_STEP_JOIN, .mark = mark});
    }
    MDL_TRY(mdl_cl_fence(&queue));
    TRY(EnqueueBarrierWithWaitList, queue.q, 1, &mark, NULL);
    return medleySuccess;
}

static medleyResult_t stream_wait_event(const struct mdl_device *d, mdl_dev_stream stream, mdl_dev_event event)
{
    mdl_cl mark = hold_mark(event);
    medleyResult_t res;

    (void)d;
    if (!mark) return medleySuccess;
    res = join_mark(stream, mark);
    drop(mark);
    return res;
}

/* ---- the adapter ---- */

static void stop_following(void) { mdl_follow_stop(&follower); }
static void plan_stop(void) { (void)atexit(stop_following); }

/* After the platforms have registered what they do at exit, and so called before. */
static medleyResult_t probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    MDL_TRY(mdl_cl_probe(d, where, found, found_bytes, why, why_bytes));
    pthread_once(&once, plan_stop);
    return medleySuccess;
}

const struct mdl_device mdl_device_opencl = {
    .abi = MDL_PLUGIN_ABI,
    .size = sizeof(struct mdl_device),
    .vendor = "opencl",
    .title = "OpenCL",
    .proof = NULL,
    .generic = true,
    .probe = probe,
    .caps = mdl_cl_caps,
    .count = mdl_cl_count,
    .info = mdl_cl_info,
    .enter = mdl_cl_enter,
    .current = mdl_cl_current,
    .alloc = allocate,
    .free = release,
    .alloc_pinned = alloc_pinned,
    .free_pinned = free_pinned,
    .copy = copy,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_sync = stream_sync,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_query = event_query,
    .stream_wait_event = stream_wait_event,
    .alloc_words = alloc_words,
    .free_words = free_words,
    .stream_write = stream_write,
    .stream_wait = stream_wait,
    .stream_host_func = stream_host_func,
    .module_load = mdl_cl_module_load,
    .module_unload = mdl_cl_module_unload,
    .kernel_find = mdl_cl_kernel_find,
    .kernel_launch = mdl_cl_kernel_launch,
};
