/* SPDX-License-Identifier: Apache-2.0 */
/* The other half of ze.c: events and immediate command lists, each of which is a stream. */
#ifndef VENDOR
#error "is included by ze.c"
#endif

struct pool_descriptor {
    uint32_t stype;
    const void *next;
    uint32_t flags, count;
};

CALL(zeEventPoolCreate,
     (void *context, const struct pool_descriptor *descriptor, uint32_t devices_in, void **list, void **out))
{
    ENTER(0);
    WANT(context, CONTEXT);
    WANT_TYPE(descriptor, 0x10);
    if (!descriptor->count || !out) return INVALID_SIZE;
    struct pool *pool = (struct pool *)object_new(sizeof(*pool), POOL, 0);
    pool->count = descriptor->count;
    pool->flags = descriptor->flags;
    pool->used = calloc(pool->count, sizeof(bool));
    *out = pool;
    return 0;
}

CALL(zeEventPoolDestroy, (void *pool))
{
    ENTER(EMUL_CLEANUP);
    WANT(pool, POOL);
    struct pool *one = pool;
    for (uint32_t i = 0; i < one->count; i++)
        if (one->used[i]) return emul_misuse(EMUL_INVALID, "event %u of the pool lives", i), INVALID_ARGUMENT;
    free(one->used);
    return bury(pool);
}

struct event_descriptor {
    uint32_t stype;
    const void *next;
    uint32_t index, signal, wait;
};

CALL(zeEventCreate, (void *pool, const struct event_descriptor *descriptor, void **out))
{
    ENTER(0);
    WANT(pool, POOL);
    WANT_TYPE(descriptor, 0x11);
    struct pool *from = pool;
    if (!out) return NULL_POINTER;
    if (descriptor->index >= from->count || from->used[descriptor->index])
        return emul_misuse(EMUL_INVALID, "event %u of a pool of %u is taken or none", descriptor->index, from->count),
               INVALID_ARGUMENT;
    struct event *event = (struct event *)object_new(sizeof(*event), EVENT, 0);
    from->used[descriptor->index] = true;
    event->pool = from;
    event->index = descriptor->index;
    *out = event;
    return 0;
}

CALL(zeEventDestroy, (void *event))
{
    ENTER(EMUL_CLEANUP);
    WANT(event, EVENT);
    struct event *one = event;
    if (!__atomic_load_n(&one->flag, __ATOMIC_ACQUIRE) && __atomic_load_n(&one->awaited, __ATOMIC_ACQUIRE))
        return emul_misuse(EMUL_INVALID, "an event that lists have yet to set or wait for"), INVALID_ARGUMENT;
    one->pool->used[one->index] = false;
    return bury(event);
}

/* The host's calls are for events of pools that it can see. */
#define WANT_VISIBLE(event)                                                                                            \
    do {                                                                                                               \
        WANT(event, EVENT);                                                                                            \
        if (!(((struct event *)(event))->pool->flags & 1))                                                             \
            return emul_misuse(EMUL_INVALID, "the host's call for an event that it cannot see"), INVALID_ARGUMENT;     \
    } while (0)

static uint32_t set_flag(void *event, uint64_t value)
{
    WANT_VISIBLE(event);
    __atomic_store_n(&((struct event *)event)->awaited, false, __ATOMIC_RELEASE);
    __atomic_store_n(&((struct event *)event)->flag, value, __ATOMIC_RELEASE);
    return 0;
}

CALL(zeEventHostSignal, (void *event))
{
    ENTER(0);
    return set_flag(event, 1);
}

CALL(zeEventHostReset, (void *event))
{
    ENTER(0);
    return set_flag(event, 0);
}

CALL(zeEventQueryStatus, (void *event))
{
    ENTER(0);
    WANT_VISIBLE(event);
    unsigned at;
    if (emul_fault(VENDOR, "notready", &at)) return NOT_READY;
    return __atomic_load_n(&((struct event *)event)->flag, __ATOMIC_ACQUIRE) ? 0 : (uint32_t)NOT_READY;
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

CALL(zeEventHostSynchronize, (void *event, uint64_t timeout_ns))
{
    ENTER(0);
    WANT_VISIBLE(event);
    struct timespec nap = {.tv_nsec = 20000};
    uint64_t start = now_ns();
    while (!__atomic_load_n(&((struct event *)event)->flag, __ATOMIC_ACQUIRE)) {
        if (timeout_ns != UINT64_MAX && now_ns() - start >= timeout_ns) return NOT_READY;
        if (emul_device_failed(VENDOR, emul_device_get(VENDOR))) return codes[EMUL_ASYNC];
        nanosleep(&nap, NULL);
    }
    return 0;
}

struct queue_descriptor {
    uint32_t stype;
    const void *next;
    uint32_t ordinal, index, flags, mode, priority;
};

/* Flags: explicit 1, in order 2. Modes: 1 synchronous, 2 asynchronous. */
CALL(zeCommandListCreateImmediate, (void *context, void *device, const struct queue_descriptor *descriptor, void **out))
{
    ENTER(0);
    WANT(context, CONTEXT);
    WANT(device, DEVICE);
    WANT_TYPE(descriptor, 0xe);
    if (!out) return NULL_POINTER;
    if (descriptor->ordinal || descriptor->index || descriptor->mode > 2 || descriptor->priority > 2)
        return INVALID_ARGUMENT;
    if (!(descriptor->flags & 2)) return emul_misuse(EMUL_UNSUPPORTED, "only lists in order are emulated"), UNSUPPORTED;
    int number = ((struct object *)device)->device;
    on(number);
    struct list *list = (struct list *)object_new(sizeof(*list), LIST, number);
    list->synchronous = descriptor->mode == 1;
    enum emul_code code = emul_stream_create(VENDOR, EMUL_NON_BLOCKING, &list->stream);
    *out = list;
    return codes[code];
}

CALL(zeCommandListDestroy, (void *list))
{
    ENTER(EMUL_CLEANUP);
    WANT(list, LIST);
    enum emul_code code = emul_stream_destroy(VENDOR, ((struct list *)list)->stream);
    bury(list);
    return codes[code];
}

#ifndef ZE_OLD
CALL(zeCommandListHostSynchronize, (void *list, uint64_t timeout_ns))
{
    ENTER(0);
    WANT(list, LIST);
    return codes[emul_stream_sync_for(VENDOR, ((struct list *)list)->stream, timeout_ns)];
}
#endif

static enum emul_code wait_all(struct list *list, uint32_t count, void **events)
{
    enum emul_code code = EMUL_OK;
    if (count && !events) return EMUL_INVALID;
    on(list->object.device);
    for (uint32_t i = 0; i < count && !code; i++) {
        if (!is(events[i], EVENT, "EVENT")) return EMUL_INVALID;
        __atomic_store_n(&((struct event *)events[i])->awaited, true, __ATOMIC_RELEASE);
        code = emul_flag_wait(VENDOR, list->stream, &((struct event *)events[i])->flag, 1);
    }
    return code;
}

/* The signal of an append, and the wait of a synchronous list. */
static uint32_t appended(struct list *list, enum emul_code code, void *event)
{
    if (!code && event && !is(event, EVENT, "EVENT")) return INVALID_ARGUMENT;
    if (!code && event) __atomic_store_n(&((struct event *)event)->awaited, true, __ATOMIC_RELEASE);
    if (!code && event) code = emul_flag_set(VENDOR, list->stream, &((struct event *)event)->flag, 1);
    if (!code && list->synchronous) code = emul_stream_sync(VENDOR, list->stream);
    return codes[code];
}

CALL(zeCommandListAppendMemoryCopy,
     (void *list, void *to, const void *from, size_t size, void *signal, uint32_t count, void **events))
{
    ENTER(0);
    WANT(list, LIST);
    struct list *one = list;
    enum emul_code code = wait_all(one, count, events);
    if (!code) code = emul_copy_async(VENDOR, to, from, size, EMUL_INFER, one->stream);
    return appended(one, code, signal);
}

CALL(zeCommandListAppendMemoryFill, (void *list, void *to, const void *pattern, size_t width, size_t size, void *signal,
                                     uint32_t count, void **events))
{
    ENTER(0);
    WANT(list, LIST);
    struct list *one = list;
    if (!pattern) return NULL_POINTER;
    if (width > 16 || (width & (width - 1)) || !width)
        return emul_misuse(EMUL_INVALID, "a pattern of %zu bytes", width), INVALID_SIZE;
    enum emul_code code = wait_all(one, count, events);
    if (!code) code = emul_fill_async(VENDOR, to, pattern, width, size, one->stream);
    return appended(one, code, signal);
}

CALL(zeCommandListAppendSignalEvent, (void *list, void *event))
{
    ENTER(0);
    WANT(list, LIST);
    WANT(event, EVENT);
    on(((struct list *)list)->object.device);
    return appended(list, EMUL_OK, event);
}

CALL(zeCommandListAppendEventReset, (void *list, void *event))
{
    ENTER(0);
    WANT(list, LIST);
    WANT(event, EVENT);
    on(((struct list *)list)->object.device);
    return codes[emul_flag_set(VENDOR, ((struct list *)list)->stream, &((struct event *)event)->flag, 0)];
}

CALL(zeCommandListAppendWaitOnEvents, (void *list, uint32_t count, void **events))
{
    ENTER(0);
    WANT(list, LIST);
    return appended(list, wait_all(list, count, events), NULL);
}

CALL(zeCommandListAppendBarrier, (void *list, void *signal, uint32_t count, void **events))
{
    ENTER(0);
    WANT(list, LIST);
    return appended(list, wait_all(list, count, events), signal);
}

#ifndef ZE_OLD
CALL(zeCommandListAppendHostFunction,
     (void *list, void (*fn)(void *), void *data, const void *next, void *signal, uint32_t count, void **events))
{
    ENTER(0);
    WANT(list, LIST);
    struct list *one = list;
    enum emul_code code = wait_all(one, count, events);
    if (!code) code = emul_host(VENDOR, one->stream, fn, data);
    return appended(one, code, signal);
}
#endif
