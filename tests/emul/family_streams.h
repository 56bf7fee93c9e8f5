/* SPDX-License-Identifier: Apache-2.0 */
/* The other half of family.h: streams, events, host functions, capture. */
#ifndef VENDOR
#error "is included by family.h"
#endif

CALL(StreamCreate, (void **out))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_stream_create(VENDOR, 0, out));
}

CALL(StreamCreateWithFlags, (void **out, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags > 1 ? EMUL_INVALID : emul_stream_create(VENDOR, flags ? EMUL_NON_BLOCKING : 0, out));
}

CALL(StreamCreateWithPriority, (void **out, unsigned flags, int priority))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags > 1 ? EMUL_INVALID : emul_stream_create(VENDOR, flags ? EMUL_NON_BLOCKING : 0, out));
}

CALL(DeviceGetStreamPriorityRange, (int *least, int *greatest))
{
    ENTER(EMUL_NEED_DEVICE);
    if (least) *least = 0;
    if (greatest) *greatest = -1;
    return 0;
}

CALL(StreamDestroy, (void *stream))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_stream_destroy(VENDOR, stream_of(stream)));
}

CALL(StreamSynchronize, (void *stream))
{
    ENTER(stream_of(stream) ? 0 : EMUL_NEED_DEVICE);
    return finish(emul_stream_sync(VENDOR, stream_of(stream)));
}

CALL(StreamQuery, (void *stream))
{
    ENTER(stream_of(stream) ? 0 : EMUL_NEED_DEVICE);
    return finish(emul_stream_query(VENDOR, stream_of(stream)));
}

CALL(StreamGetFlags, (void *stream, unsigned *flags))
{
    ENTER(0);
    return finish(flags ? emul_stream_flags(VENDOR, stream_of(stream), flags) : EMUL_INVALID);
}

#ifdef HAS_STREAM_GET_DEVICE
CALL(StreamGetDevice, (void *stream, int *device))
{
    ENTER(0);
    return finish(device ? emul_stream_device(VENDOR, stream_of(stream), device) : EMUL_INVALID);
}
#endif

#ifndef OWN_WAIT_EVENT
CALL(StreamWaitEvent, (void *stream, void *event, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags > 1 ? EMUL_INVALID : emul_event_wait(VENDOR, stream_of(stream), event));
}
#endif

/* Flags: blocking sync 1, no timing 2, interprocess 4 (needs 2). */
static int event_create(void **out, unsigned flags)
{
    if (flags & ~0x7u) return finish(EMUL_INVALID);
    return finish(
        emul_event_create(VENDOR, (flags & 2 ? 0 : EMUL_EVENT_TIMING) | (flags & 4 ? EMUL_EVENT_SHARED : 0), out));
}

CALL(EventCreate, (void **out))
{
    ENTER(EMUL_NEED_DEVICE);
    return event_create(out, 0);
}

#ifndef NO_EVENT_FLAGS
CALL(EventCreateWithFlags, (void **out, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return event_create(out, flags);
}
#endif

CALL(EventDestroy, (void *event))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_event_destroy(VENDOR, event));
}

CALL(EventRecord, (void *event, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_event_record(VENDOR, event, stream_of(stream)));
}

/* Under a capture of global mode CUDA takes this for unsafe, on any thread. */
CALL(EventQuery, (void *event))
{
    ENTER(VENDOR == EMUL_CUDA ? EMUL_UNSAFE : 0);
    return finish(emul_event_query(VENDOR, event));
}

CALL(EventSynchronize, (void *event))
{
    ENTER(0);
    return finish(emul_event_sync(VENDOR, event));
}

CALL(EventElapsedTime, (float *ms, void *from, void *to))
{
    ENTER(0);
    return finish(ms ? emul_event_elapsed(VENDOR, from, to, ms) : EMUL_INVALID);
}

#ifdef HAS_HOST_FUNCTION
CALL(LaunchHostFunc, (void *stream, void (*fn)(void *), void *data))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_host(VENDOR, stream_of(stream), fn, data));
}
#endif

#ifdef HAS_CALLBACK
CALL(StreamAddCallback, (void *stream, void (*fn)(void *, int, void *), void *data, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return finish(flags ? EMUL_INVALID : emul_callback(VENDOR, stream_of(stream), fn, data));
}
#endif

#ifdef HAS_CAPTURE
CALL(StreamBeginCapture, (void *stream, int mode))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_capture_begin(VENDOR, stream_of(stream), mode));
}

CALL(StreamEndCapture, (void *stream, void **graph))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_capture_end(VENDOR, stream_of(stream), graph));
}

CALL(StreamIsCapturing, (void *stream, int *status))
{
    ENTER(0);
    return finish(status ? emul_capture_status(VENDOR, stream_of(stream), status, NULL) : EMUL_INVALID);
}

CALL(ThreadExchangeStreamCaptureMode, (int *mode))
{
    ENTER(0);
    return finish(emul_capture_mode(VENDOR, mode));
}

CALL(GraphLaunch, (void *graph, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_graph_launch(VENDOR, graph, stream_of(stream)));
}

CALL(GraphGetNodes, (void *graph, void **nodes, size_t *count))
{
    ENTER(0);
    if (nodes || !count) return finish(EMUL_UNSUPPORTED); /* only how many */
    return finish(emul_graph_nodes(VENDOR, graph, count));
}

CALL(GraphInstantiateWithFlags, (void **out, void *graph, unsigned long long flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(out ? emul_graph_copy(VENDOR, graph, out) : EMUL_INVALID);
}

CALL(GraphDestroy, (void *graph))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_graph_destroy(VENDOR, graph));
}

CALL(GraphExecDestroy, (void *graph))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_graph_destroy(VENDOR, graph));
}
#endif
