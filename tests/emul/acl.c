/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huawei Ascend: libascendcl.so. Nothing works before aclInit, nor on a thread without a device. Copies name the room
 * of their target; the two queries of an event have opposite polarity; IPC goes by a string, and is closed by it.
 */
#include "config.h"
#include "tests/emul/engine.h"
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define VENDOR EMUL_ACL
#define CALL(name, args)                                                                                               \
    EMUL_API int name args;                                                                                            \
    int name args
#define ENTER(needs)                                                                                                   \
    do {                                                                                                               \
        int entered_ = enter(__func__, needs);                                                                         \
        if (entered_) return entered_;                                                                                 \
    } while (0)

enum { UNINITIALISED = 100001, REPEATED = 100002, REPORT_TIMEOUT = 107012 };

static const int codes[EMUL_CODES] = {
    [EMUL_OK] = 0,
    [EMUL_INVALID] = 107000,
    [EMUL_NO_MEMORY] = 207001,
    [EMUL_NO_DRIVER] = 507899,
    [EMUL_NO_DEVICE] = 107001,
    [EMUL_BAD_DEVICE] = 107001,
    [EMUL_BAD_HANDLE] = 107003,
    [EMUL_BAD_POINTER] = 107000,
    [EMUL_BAD_DIRECTION] = 107000,
    [EMUL_NOT_READY] = 507000,
    [EMUL_UNSUPPORTED] = 207000,
    [EMUL_NO_CONTEXT] = 107002,
    [EMUL_ASYNC] = 507015,
    [EMUL_NOT_PERMITTED] = 207000,
    [EMUL_REGISTERED] = 107000,
    [EMUL_UNREGISTERED] = 107000,
    [EMUL_PEER_ON] = 0,
    [EMUL_OWN_EXPORT] = 107000,
    [EMUL_CAPTURE_UNSAFE] = 107000,
    [EMUL_CAPTURE_DEAD] = 107000,
    [EMUL_CAPTURE_IMPLICIT] = 107000,
    [EMUL_CAPTURED_EVENT] = 107000,
    [EMUL_CAPTURE_UNMATCHED] = 107000,
    [EMUL_FORKED] = 507899,
    [EMUL_NOT_FOUND] = 107000,
};

static int initialised;

__attribute__((constructor)) static void loaded(void) { emul_hide(VENDOR, (const void *)loaded); }

static int finish(enum emul_code code)
{
    if (code) emul_error_set(VENDOR, codes[code]);
    return codes[code];
}

static int enter(const char *call, unsigned needs)
{
    if (needs & EMUL_NEED_DEVICE) needs = (needs & ~EMUL_NEED_DEVICE) | EMUL_NEED_CONTEXT;
    enum emul_code code = emul_enter(VENDOR, call, needs);
    if (code) return finish(code);
    return __atomic_load_n(&initialised, __ATOMIC_ACQUIRE) ? 0 : UNINITIALISED;
}

CALL(aclInit, (const char *config))
{
    enum emul_code code = emul_enter(VENDOR, __func__, 0);
    if (code && code != EMUL_NO_DEVICE) return finish(code);
    return __atomic_exchange_n(&initialised, 1, __ATOMIC_ACQ_REL) ? REPEATED : 0;
}

CALL(aclFinalize, (void))
{
    ENTER(EMUL_CLEANUP);
    __atomic_store_n(&initialised, 0, __ATOMIC_RELEASE);
    return 0;
}

EMUL_API const char *aclGetRecentErrMsg(void);
const char *aclGetRecentErrMsg(void)
{
    static _Thread_local char text[64];
    int error = emul_error_get(VENDOR, true);
    snprintf(text, sizeof(text), "emulated acl error %d", error);
    return error ? text : NULL;
}

EMUL_API const char *aclrtGetSocName(void);
const char *aclrtGetSocName(void) { return "Ascend910B1"; }

CALL(aclrtGetVersion, (int32_t * major, int32_t *minor, int32_t *patch))
{
    if (!major || !minor || !patch) return codes[EMUL_INVALID];
    *major = 1;
    *minor = 13;
    *patch = 0;
    return 0;
}

CALL(aclrtGetDeviceCount, (uint32_t * count))
{
    ENTER(EMUL_CLEANUP);
    if (!count) return finish(EMUL_INVALID);
    *count = (uint32_t)emul_device_count(VENDOR);
    return 0;
}

CALL(aclrtSetDevice, (int32_t device))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_device_set(VENDOR, device));
}

CALL(aclrtGetDevice, (int32_t * device))
{
    ENTER(EMUL_CLEANUP); /* a question, so that it is no misuse without a device */
    if (!device) return finish(EMUL_INVALID);
    if (emul_device_entered(VENDOR) < 0) return finish(EMUL_NO_CONTEXT);
    *device = emul_device_get(VENDOR);
    return 0;
}

CALL(aclrtResetDevice, (int32_t device))
{
    ENTER(EMUL_CLEANUP);
    return finish(device < 0 || device >= emul_device_count(VENDOR) ? EMUL_BAD_DEVICE : EMUL_OK);
}

CALL(aclrtSynchronizeDevice, (void))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_device_sync(VENDOR));
}

/* A context is the number of its device + 1. */
CALL(aclrtGetCurrentContext, (void **context))
{
    ENTER(EMUL_CLEANUP);
    if (!context) return finish(EMUL_INVALID);
    if (emul_device_entered(VENDOR) < 0) return finish(EMUL_NO_CONTEXT);
    *context = (void *)(intptr_t)(emul_device_get(VENDOR) + 1);
    return 0;
}

CALL(aclrtSetCurrentContext, (void *context))
{
    ENTER(0);
    return finish(context ? emul_device_set(VENDOR, (int)(intptr_t)context - 1) : EMUL_INVALID);
}

CALL(aclrtDeviceGetPCIBusId, (int32_t device, char *id, int32_t size))
{
    ENTER(0);
    return finish(emul_device_pci(VENDOR, device, id, size > 0 ? (size_t)size : 0));
}

CALL(aclrtDeviceGetByPCIBusId, (const char *id, int32_t *device))
{
    ENTER(0);
    int found = emul_device_by_pci(VENDOR, id);
    if (found < 0 || !device) return finish(EMUL_INVALID);
    *device = found;
    return 0;
}

CALL(aclrtDeviceGetUuid, (int32_t device, unsigned char *uuid))
{
    ENTER(0);
    return finish(uuid ? emul_device_uuid(VENDOR, device, uuid) : EMUL_INVALID);
}

CALL(aclrtGetPhyDevIdByLogicDevId, (int32_t logical, int32_t *physical))
{
    ENTER(0);
    if (!physical || logical < 0 || logical >= emul_device_count(VENDOR)) return finish(EMUL_INVALID);
    *physical = logical;
    return 0;
}

CALL(aclrtDeviceCanAccessPeer, (int32_t * can, int32_t device, int32_t peer))
{
    ENTER(0);
    int count = emul_device_count(VENDOR);
    if (!can || device < 0 || device >= count || peer < 0 || peer >= count) return finish(EMUL_INVALID);
    *can = device != peer && !emul_fault(VENDOR, "nopeer", NULL);
    return 0;
}

CALL(aclrtDeviceEnablePeerAccess, (int32_t peer, uint32_t flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags ? EMUL_INVALID : emul_peer_enable(VENDOR, peer));
}

CALL(aclrtGetMemInfo, (int attribute, size_t *free_bytes, size_t *total))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_device_memory(VENDOR, free_bytes, total));
}

/* Memory. */
CALL(aclrtMalloc, (void **out, size_t size, int policy))
{
    ENTER(EMUL_NEED_DEVICE);
    if (policy < 0 || policy > 5) return finish(emul_misuse(EMUL_INVALID, "policy %d", policy));
    return finish(emul_malloc(VENDOR, EMUL_DEVICE, size, out));
}

CALL(aclrtFree, (void *address))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_free(VENDOR, EMUL_DEVICE, address));
}

CALL(aclrtMallocHost, (void **out, size_t size))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_malloc(VENDOR, EMUL_HOST, size, out));
}

CALL(aclrtFreeHost, (void *address))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_free(VENDOR, EMUL_HOST, address));
}

CALL(aclrtHostRegister, (void *address, uint64_t size, int type, void **device))
{
    ENTER(EMUL_NEED_DEVICE);
    if (type || !device) return finish(EMUL_INVALID);
    enum emul_code code = emul_register(VENDOR, address, size);
    if (!code) *device = address;
    return finish(code);
}

CALL(aclrtHostRegisterV2, (void *address, uint64_t size, uint32_t flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags > 0xff ? EMUL_INVALID : emul_register(VENDOR, address, size));
}

CALL(aclrtHostUnregister, (void *address))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_unregister(VENDOR, address));
}

/* Kinds as CUDA's; 4 infers. */
static int room(size_t max, size_t size, int kind)
{
    if (size > max) return finish(emul_misuse(EMUL_INVALID, "%zu bytes into room for %zu", size, max));
    if (kind < 0 || kind > 4) return finish(emul_misuse(EMUL_BAD_DIRECTION, "copy kind %d", kind));
    return 0;
}

CALL(aclrtMemcpy, (void *to, size_t max, const void *from, size_t size, int kind))
{
    ENTER(EMUL_NEED_DEVICE);
    int code = room(max, size, kind);
    return code ? code : finish(emul_copy(VENDOR, to, from, size, kind));
}

CALL(aclrtMemcpyAsync, (void *to, size_t max, const void *from, size_t size, int kind, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    int code = room(max, size, kind);
    return code ? code : finish(emul_copy_async(VENDOR, to, from, size, kind, stream));
}

CALL(aclrtMemset, (void *to, size_t max, int32_t value, size_t size))
{
    unsigned char byte = (unsigned char)value;
    ENTER(EMUL_NEED_DEVICE);
    int code = room(max, size, 0);
    return code ? code : finish(emul_fill(VENDOR, to, &byte, 1, size));
}

CALL(aclrtMemsetAsync, (void *to, size_t max, int32_t value, size_t size, void *stream))
{
    unsigned char byte = (unsigned char)value;
    ENTER(EMUL_NEED_DEVICE);
    int code = room(max, size, 0);
    return code ? code : finish(emul_fill_async(VENDOR, to, &byte, 1, size, stream));
}

/* Types: host 0, device 1, unregistered 2, managed 3. */
struct pointer {
    uint32_t device;
    int type;
    uint32_t page_size, reserved[4];
};

CALL(aclrtPointerGetAttributes, (const void *address, struct pointer *out))
{
    ENTER(0);
    struct emul_info info;
    if (!address || !out) return finish(EMUL_INVALID);
    emul_lookup(VENDOR, address, &info);
    bool host = info.memory == EMUL_HOST || info.memory == EMUL_PINNED;
    memset(out, 0, sizeof(*out));
    out->type = info.memory == EMUL_NONE ? 2 : info.memory == EMUL_MANAGED ? 3 : host ? 0 : 1;
    out->device = info.memory == EMUL_NONE ? 0 : (uint32_t)info.device;
    out->page_size = 4096;
    return 0;
}

CALL(aclrtMemGetAddressRange, (void *address, void **base, size_t *size))
{
    ENTER(EMUL_NEED_DEVICE);
    struct emul_info info;
    emul_lookup(VENDOR, address, &info);
    if (info.memory == EMUL_NONE || !base || !size) return finish(EMUL_INVALID);
    *base = info.base;
    *size = info.size;
    return 0;
}

/* IPC: a key is text. Flag 1 of an export lets any process import; else the owner names them. */
CALL(aclrtIpcMemGetExportKey, (void *address, size_t size, char *key, size_t length, uint64_t flags))
{
    ENTER(EMUL_NEED_DEVICE);
    uint64_t token;
    struct emul_info info;
    emul_lookup(VENDOR, address, &info);
    if (!key || length < 65 || flags > 1)
        return finish(emul_misuse(EMUL_INVALID, "key of %zu bytes, flags %" PRIu64, length, flags));
    if (size > info.size) return finish(EMUL_INVALID);
    enum emul_code code = emul_ipc_token(VENDOR, address, flags != 1, &token);
    if (!code) {
        memset(key, 0xff, length);
        snprintf(key, length, "emulated-acl-export-of-%016" PRIx64 "-and-is-long-like-its-key", token);
    }
    return finish(code);
}

static bool token_of(const char *key, uint64_t *token)
{
    int end = 0;
    return key && sscanf(key, "emulated-acl-export-of-%16" SCNx64 "-and-is-long-like-its-key%n", token, &end) == 1 &&
           end && !key[end];
}

CALL(aclrtIpcMemImportByKey, (void **out, const char *key, uint64_t flags))
{
    ENTER(EMUL_NEED_DEVICE);
    uint64_t token;
    if (!token_of(key, &token)) return finish(emul_misuse(EMUL_INVALID, "the key of an export is damaged"));
    if (flags == 0 && emul_ipc_token_device(VENDOR, token) != emul_device_get(VENDOR))
        return finish(emul_misuse(EMUL_INVALID, "an import from another device without peer access (flag 1)"));
    return finish(flags > 1 ? EMUL_INVALID : emul_ipc_import_token(VENDOR, token, out));
}

CALL(aclrtIpcMemClose, (const char *key))
{
    ENTER(EMUL_CLEANUP);
    uint64_t token;
    if (!token_of(key, &token)) return finish(emul_misuse(EMUL_INVALID, "what is closed is no key"));
    return finish(emul_ipc_close_token(VENDOR, token));
}

CALL(aclrtIpcMemSetImportPid, (const char *key, int32_t *pids, size_t count))
{
    ENTER(EMUL_NEED_DEVICE);
    uint64_t token;
    return finish(token_of(key, &token) ? emul_ipc_allow(VENDOR, token, pids, count) : EMUL_INVALID);
}

CALL(aclrtDeviceGetBareTgid, (int32_t * pid))
{
    ENTER(0);
    if (!pid) return finish(EMUL_INVALID);
    *pid = getpid();
    return 0;
}

/* Streams. */
CALL(aclrtCreateStream, (void **out))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_stream_create(VENDOR, EMUL_NON_BLOCKING, out));
}

CALL(aclrtCreateStreamWithConfig, (void **out, uint32_t priority, uint32_t flags))
{
    ENTER(EMUL_NEED_DEVICE);
    if (priority > 7) return finish(emul_misuse(EMUL_INVALID, "priority %u: are the arguments in order?", priority));
    return finish(emul_stream_create(VENDOR, EMUL_NON_BLOCKING, out));
}

CALL(aclrtDestroyStream, (void *stream))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_stream_destroy(VENDOR, stream));
}

CALL(aclrtSynchronizeStream, (void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_stream_sync(VENDOR, stream));
}

CALL(aclrtSynchronizeStreamWithTimeout, (void *stream, int32_t ms))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_stream_sync_for(VENDOR, stream, ms < 0 ? UINT64_MAX : (uint64_t)ms * 1000000u));
}

/* Every query says how it stands in its output; the code is for failures. */
static int status_of(enum emul_code code, int *status, int complete, int not_ready)
{
    if (!status) return finish(EMUL_INVALID);
    if (code && code != EMUL_NOT_READY) return finish(code);
    *status = code ? not_ready : complete;
    return 0;
}

CALL(aclrtStreamQuery, (void *stream, int *status))
{
    ENTER(EMUL_NEED_DEVICE);
    return status_of(emul_stream_query(VENDOR, stream), status, 0, 1);
}

/* Flags: sync 1, which waits need; timeline 8. */
#define SYNC 0x100u
CALL(aclrtCreateEventWithFlag, (void **out, uint32_t flags))
{
    ENTER(EMUL_NEED_DEVICE);
    if (!flags || flags & ~0xfu) return finish(EMUL_INVALID);
    return finish(emul_event_create(VENDOR, (flags & 8 ? EMUL_EVENT_TIMING : 0) | (flags & 1 ? SYNC : 0), out));
}

CALL(aclrtCreateEvent, (void **out))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_event_create(VENDOR, EMUL_EVENT_TIMING | SYNC, out));
}

CALL(aclrtDestroyEvent, (void *event))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_event_destroy(VENDOR, event));
}

CALL(aclrtRecordEvent, (void *event, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_event_record(VENDOR, event, stream));
}

CALL(aclrtQueryEventStatus, (void *event, int *status))
{
    ENTER(EMUL_NEED_DEVICE);
    return status_of(emul_event_query(VENDOR, event), status, 1, 0);
}

CALL(aclrtQueryEventWaitStatus, (void *event, int *status))
{
    ENTER(EMUL_NEED_DEVICE);
    return status_of(emul_event_query(VENDOR, event), status, 0, 1);
}

CALL(aclrtSynchronizeEvent, (void *event))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_event_sync(VENDOR, event));
}

CALL(aclrtStreamWaitEvent, (void *stream, void *event))
{
    ENTER(EMUL_NEED_DEVICE);
    unsigned flags = 0;
    enum emul_code code = emul_event_flags(VENDOR, event, &flags);
    if (!code && !(flags & SYNC)) code = emul_misuse(EMUL_INVALID, "a wait for an event without the sync flag");
    return finish(code ? code : emul_event_wait(VENDOR, stream, event));
}

CALL(aclrtEventElapsedTime, (float *ms, void *from, void *to))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(ms ? emul_event_elapsed(VENDOR, from, to, ms) : EMUL_INVALID);
}

/* Flags of a wait: >= 0, == 1, & 2, nor 3. */
CALL(aclrtValueWrite, (void *address, uint64_t value, uint32_t flags, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags ? EMUL_INVALID : emul_write(VENDOR, stream, address, value, 8));
}

CALL(aclrtValueWait, (void *address, uint64_t value, uint32_t flags, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_wait(VENDOR, stream, address, value, UINT64_MAX, 8, (int)flags));
}

CALL(aclrtLaunchHostFunc, (void *stream, void (*fn)(void *), void *data))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_host(VENDOR, stream, fn, data));
}

/* The older way: a thread that serves the reports of the streams that it has subscribed to. */
struct report {
    struct report *next;
    uint64_t thread;
    void (*fn)(void *);
    void *data;
    bool block, done;
};
static struct subscription {
    struct subscription *next;
    uint64_t thread;
    void *stream;
} * subscriptions;
static struct report *reports;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;

CALL(aclrtSubscribeReport, (uint64_t thread, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    int device;
    enum emul_code code = emul_stream_device(VENDOR, stream, &device); /* judges the stream */
    struct subscription *one = code ? NULL : calloc(1, sizeof(*one));
    if (!one) return finish(code ? code : EMUL_NO_MEMORY);
    pthread_mutex_lock(&lock);
    *one = (struct subscription){subscriptions, thread, stream};
    subscriptions = one;
    pthread_mutex_unlock(&lock);
    return 0;
}

CALL(aclrtUnSubscribeReport, (uint64_t thread, void *stream))
{
    ENTER(EMUL_CLEANUP);
    pthread_mutex_lock(&lock);
    for (struct subscription **at = &subscriptions; *at;) {
        struct subscription *one = *at;
        if (one->thread == thread && one->stream == stream) {
            *at = one->next;
            free(one);
        } else {
            at = &one->next;
        }
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

static int deliver(void *data)
{
    struct report *report = data;
    pthread_mutex_lock(&lock);
    struct report **end = &reports;
    while (*end) end = &(*end)->next;
    *end = report;
    pthread_cond_broadcast(&moved);
    bool block = report->block;
    while (block && !report->done) pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
    if (block) free(report);
    return 0;
}

CALL(aclrtLaunchCallback, (void (*fn)(void *), void *data, int block, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    if (!fn || block < 0 || block > 1) return finish(EMUL_INVALID);
    uint64_t thread = 0;
    pthread_mutex_lock(&lock);
    for (struct subscription *at = subscriptions; at; at = at->next)
        if (at->stream == stream) thread = at->thread;
    pthread_mutex_unlock(&lock);
    if (!thread) return finish(emul_misuse(EMUL_INVALID, "nobody has subscribed to the reports of this stream"));
    struct report *report = calloc(1, sizeof(*report));
    if (!report) return finish(EMUL_NO_MEMORY);
    *report = (struct report){.thread = thread, .fn = fn, .data = data, .block = block == 1};
    return finish(emul_work(VENDOR, stream, deliver, NULL, report));
}

static struct report *take(uint64_t thread)
{
    for (struct report **at = &reports; *at; at = &(*at)->next) {
        struct report *report = *at;
        if (report->thread != thread) continue;
        *at = report->next;
        return report;
    }
    return NULL;
}

CALL(aclrtProcessReport, (int32_t timeout_ms))
{
    ENTER(0);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t ns = until.tv_nsec + (timeout_ms < 0 ? 3600000 : (int64_t)timeout_ms) * 1000000;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&lock);
    struct report *report;
    while (!(report = take((uint64_t)pthread_self())))
        if (pthread_cond_timedwait(&moved, &lock, &until) == ETIMEDOUT) break;
    pthread_mutex_unlock(&lock);
    if (!report) return REPORT_TIMEOUT;
    bool block = report->block;
    report->fn(report->data);
    pthread_mutex_lock(&lock);
    report->done = true;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
    if (!block) free(report);
    return 0;
}
