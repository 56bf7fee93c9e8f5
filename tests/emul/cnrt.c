/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cambricon: libcnrt.so, and libcndrv.so (CNRT_DRIVER). Streams are queues, events notifiers; copy kinds have numbers
 * of their own, the queue comes before the kind, and waits name the notifier first. An IPC handle is one word.
 */
#include "config.h"
#include "tests/emul/engine.h"
#include <stdio.h>
#include <string.h>

#define VENDOR EMUL_CNRT
#define CALL(name, args)                                                                                               \
    EMUL_API int name args;                                                                                            \
    int name args
#define ENTER(needs)                                                                                                   \
    do {                                                                                                               \
        enum emul_code entered_ = emul_enter(VENDOR, __func__, needs);                                                 \
        if (entered_) return finish(entered_);                                                                         \
    } while (0)

static const int codes[EMUL_CODES] = {
    [EMUL_OK] = 0,
    [EMUL_INVALID] = 100006,
    [EMUL_NO_MEMORY] = 100100,
    [EMUL_NO_DRIVER] = 100002,
    [EMUL_NO_DEVICE] = 100004,
    [EMUL_BAD_DEVICE] = 100005,
    [EMUL_BAD_HANDLE] = 100014,
    [EMUL_BAD_POINTER] = 100006,
    [EMUL_BAD_DIRECTION] = 632013,
    [EMUL_NOT_READY] = 1,
    [EMUL_UNSUPPORTED] = 100050,
    [EMUL_NO_CONTEXT] = 632019,
    [EMUL_ASYNC] = 999991,
    [EMUL_NOT_PERMITTED] = 100051,
    [EMUL_REGISTERED] = 100006,
    [EMUL_UNREGISTERED] = 100006,
    [EMUL_PEER_ON] = 0,
    [EMUL_OWN_EXPORT] = 100006,
    [EMUL_CAPTURE_UNSAFE] = 100360,
    [EMUL_CAPTURE_DEAD] = 100361,
    [EMUL_CAPTURE_IMPLICIT] = 100365,
    [EMUL_CAPTURED_EVENT] = 100360,
    [EMUL_CAPTURE_UNMATCHED] = 100366,
    [EMUL_FORKED] = 100002,
    [EMUL_NOT_FOUND] = 100006,
};

__attribute__((constructor)) static void loaded(void) { emul_hide(VENDOR, (const void *)loaded); }

static int finish(enum emul_code code)
{
    if (code) emul_error_set(VENDOR, codes[code]);
    return codes[code];
}

#ifdef CNRT_DRIVER
CALL(cnInit, (unsigned flags))
{
    ENTER(0);
    return finish(flags ? EMUL_INVALID : EMUL_OK);
}

CALL(cnMemGetHandleForAddressRange, (void *fd, uint64_t address, size_t size, int type, uint64_t flags))
{
    ENTER(EMUL_NEED_CONTEXT);
    if (type != 1 || flags > 1) return finish(EMUL_INVALID);
    return finish(emul_dmabuf(VENDOR, (const void *)(uintptr_t)address, size, fd));
}
#else

/* busy: the deprecated code that some versions give for what is not ready. */
static int query(enum emul_code code)
{
    if (code != EMUL_NOT_READY || !emul_fault(VENDOR, "busy", NULL)) return finish(code);
    emul_error_set(VENDOR, 632014);
    return 632014;
}

CALL(cnrtGetLastError, (void))
{
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    return emul_error_get(VENDOR, true);
}

CALL(cnrtPeekAtLastError, (void)) { return emul_error_get(VENDOR, false); }

EMUL_API const char *cnrtGetErrorName(int error);
const char *cnrtGetErrorName(int error)
{
    return error == 0        ? "cnrtSuccess"
           : error == 1      ? "cnrtErrorNotReady"
           : error == 632014 ? "cnrtErrorBusy"
                             : "cnrtError";
}

EMUL_API const char *cnrtGetErrorStr(int error);
const char *cnrtGetErrorStr(int error) { return cnrtGetErrorName(error); }

CALL(cnrtGetLibVersion, (int *major, int *minor, int *patch))
{
    if (!major || !minor || !patch) return codes[EMUL_INVALID];
    *major = 6;
    *minor = 5;
    *patch = 0;
    return 0;
}

CALL(cnrtGetDeviceCount, (unsigned *count))
{
    ENTER(EMUL_CLEANUP);
    if (!count) return finish(EMUL_INVALID);
    *count = (unsigned)emul_device_count(VENDOR);
    return 0;
}

CALL(cnrtSetDevice, (int device))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_device_set(VENDOR, device));
}

CALL(cnrtGetDevice, (int *device))
{
    ENTER(EMUL_CLEANUP);
    if (!device) return finish(EMUL_INVALID);
    *device = emul_device_get(VENDOR);
    return 0;
}

CALL(cnrtDeviceGetPCIBusId, (char *id, int size, int device))
{
    ENTER(0);
    return finish(emul_device_pci(VENDOR, device, id, size > 0 ? (size_t)size : 0));
}

CALL(cnrtDeviceGetByPCIBusId, (int *device, const char *id))
{
    ENTER(0);
    int found = emul_device_by_pci(VENDOR, id);
    if (found < 0 || !device) return finish(EMUL_INVALID);
    *device = found;
    return 0;
}

CALL(cnrtGetDeviceProperties, (void *out, int device))
{
    ENTER(0);
    return finish(emul_device_name(VENDOR, device, out, 256));
}

CALL(cnrtSyncDevice, (void))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_device_sync(VENDOR));
}

CALL(cnrtMemGetInfo, (size_t * free_bytes, size_t *total))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_device_memory(VENDOR, free_bytes, total));
}

CALL(cnrtGetPeerAccessibility, (unsigned *can, int device, int peer))
{
    ENTER(0);
    int count = emul_device_count(VENDOR);
    if (!can || device < 0 || device >= count || peer < 0 || peer >= count) return finish(EMUL_INVALID);
    *can = device != peer && !emul_fault(VENDOR, "nopeer", NULL);
    return 0;
}

CALL(cnrtMalloc, (void **out, size_t size))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_malloc(VENDOR, EMUL_DEVICE, size, out));
}

CALL(cnrtFree, (void *address))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_free(VENDOR, EMUL_DEVICE, address));
}

CALL(cnrtHostMalloc, (void **out, size_t size))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_malloc(VENDOR, EMUL_HOST, size, out));
}

CALL(cnrtFreeHost, (void *address))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_free(VENDOR, EMUL_HOST, address));
}

/* To the device 0, between 1, from it 2, on the host 3, between cards 4, inferred 5. */
static int direction(int kind)
{
    static const int ways[] = {EMUL_H2D, EMUL_D2D, EMUL_D2H, EMUL_H2H, EMUL_D2D, EMUL_INFER};
    return kind >= 0 && kind <= 5 ? ways[kind] : -1;
}

static int bad_kind(int kind) { return finish(emul_misuse(EMUL_BAD_DIRECTION, "copy direction %d", kind)); }

CALL(cnrtMemcpy, (void *to, void *from, size_t size, int kind))
{
    ENTER(EMUL_NEED_DEVICE);
    return direction(kind) < 0 ? bad_kind(kind) : finish(emul_copy(VENDOR, to, from, size, direction(kind)));
}

static int copy_async(void *to, const void *from, size_t size, void *queue, int kind)
{
    return direction(kind) < 0 ? bad_kind(kind)
                               : finish(emul_copy_async(VENDOR, to, from, size, direction(kind), queue));
}

CALL(cnrtMemcpyAsync_V2, (void *to, void *from, size_t size, void *queue, int kind))
{
    ENTER(EMUL_NEED_DEVICE);
    return copy_async(to, from, size, queue, kind);
}

CALL(cnrtMemcpyAsync_V3, (void *to, void *from, size_t size, void *queue, int kind))
{
    ENTER(EMUL_NEED_DEVICE);
    return copy_async(to, from, size, queue, kind);
}

CALL(cnrtMemset, (void *to, int value, size_t size))
{
    unsigned char byte = (unsigned char)value;
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_fill(VENDOR, to, &byte, 1, size));
}

CALL(cnrtMemsetAsync, (void *to, int value, size_t size, void *queue))
{
    unsigned char byte = (unsigned char)value;
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_fill_async(VENDOR, to, &byte, 1, size, queue));
}

CALL(cnrtQueueCreate, (void **out))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_stream_create(VENDOR, EMUL_NON_BLOCKING, out));
}

CALL(cnrtQueueCreateWithPriority, (void **out, unsigned flags, int priority))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_stream_create(VENDOR, EMUL_NON_BLOCKING, out));
}

CALL(cnrtQueueDestroy, (void *queue))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_stream_destroy(VENDOR, queue));
}

CALL(cnrtQueueSync, (void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_stream_sync(VENDOR, queue));
}

CALL(cnrtQueueQuery, (void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_stream_query(VENDOR, queue));
}

CALL(cnrtNotifierCreate, (void **out))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_event_create(VENDOR, EMUL_EVENT_TIMING, out));
}

CALL(cnrtNotifierCreateWithFlags, (void **out, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags > 7 ? EMUL_INVALID : emul_event_create(VENDOR, flags ? 0 : EMUL_EVENT_TIMING, out));
}

CALL(cnrtNotifierDestroy, (void *notifier))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_event_destroy(VENDOR, notifier));
}

CALL(cnrtPlaceNotifier, (void *notifier, void *queue))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_event_record(VENDOR, notifier, queue));
}

CALL(cnrtQueryNotifier, (void *notifier))
{
    ENTER(EMUL_NEED_DEVICE);
    return query(emul_event_query(VENDOR, notifier));
}

CALL(cnrtWaitNotifier, (void *notifier))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_event_sync(VENDOR, notifier));
}

CALL(cnrtQueueWaitNotifier, (void *notifier, void *queue, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags ? EMUL_INVALID : emul_event_wait(VENDOR, queue, notifier));
}

CALL(cnrtInvokeHostFunc, (void *queue, void (*fn)(void *), void *data))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_host(VENDOR, queue, fn, data));
}

/* Types: unregistered 0, host 1, device 2. */
struct pointer {
    int type, device;
    size_t size;
    void *device_pointer, *host_pointer;
    int cache_mode;
    void *base;
};

CALL(cnrtPointerGetAttributes, (struct pointer * out, const void *address))
{
    ENTER(0);
    struct emul_info info;
    if (!out || !address) return finish(EMUL_INVALID);
    emul_lookup(VENDOR, address, &info);
    bool host = info.memory == EMUL_HOST || info.memory == EMUL_PINNED;
    void *same = (void *)(uintptr_t)address;
    memset(out, 0, sizeof(*out));
    if (info.memory == EMUL_NONE) return 0;
    *out = (struct pointer){host ? 1 : 2, info.device, info.size, host ? NULL : same, host ? same : NULL, 0, info.base};
    return 0;
}

/* acquireonce: a second handle of one allocation is refused, as by some versions. */
CALL(cnrtAcquireMemHandle, (uint64_t * handle, void *address))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_ipc_token(VENDOR, address, false, handle));
}

CALL(cnrtMapMemHandle, (void **out, uint64_t handle, int flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags ? EMUL_INVALID : emul_ipc_import_token(VENDOR, handle, out));
}

CALL(cnrtUnMapMemHandle, (void *address))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_ipc_close(VENDOR, address));
}
#endif
