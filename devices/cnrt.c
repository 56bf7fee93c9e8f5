/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cambricon: CNRT, and its driver's library for dma-buf.
 *
 * It looks like CUDA, but the numbers of copies are others, the queue (a stream) comes before the direction, a notifier
 * (an event) before the queue, and a handle for other processes is one pointer. Some releases refuse to make a second
 * handle of an allocation, so the ones that were made are kept.
 *
 * Not certain, so not used: registration of host memory, waiting for words, whether a queue is being captured. Not
 * certain, but used: the kind of handle that means dma-buf (1 by the header, 0 by a user), whether it must begin at a
 * page.
 */
#include "config.h"

#include "devices/bind.h"
#include "devices/calls.h"
#include "devices/native.h"
#include "lib/base/status.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOT_READY = 1, BUSY = 632014, NO_HOST_MEMORY = 100010, NO_MEMORY = 100100 };
enum { COPY_H2D = 0, COPY_D2D = 1, COPY_D2H = 2, COPY_ANY = 5 };
enum { AT_DEVICE = 2, HANDLE_DMABUF = 1, HANDLE_DMABUF_TOO = 0 };

/* CALL(identifier, name, needed); the last ones are the driver's */
#define CNRT_CALLS(CALL)                                                                                               \
    CALL(COUNT, "cnrtGetDeviceCount", 1)                                                                               \
    CALL(SET_DEVICE, "cnrtSetDevice", 1)                                                                               \
    CALL(GET_DEVICE, "cnrtGetDevice", 1)                                                                               \
    CALL(ERROR_TEXT, "cnrtGetErrorStr", 0)                                                                             \
    CALL(LAST_ERROR, "cnrtGetLastError", 0)                                                                            \
    CALL(PCI, "cnrtDeviceGetPCIBusId", 0)                                                                              \
    CALL(MALLOC, "cnrtMalloc", 1)                                                                                      \
    CALL(FREE, "cnrtFree", 1)                                                                                          \
    CALL(HOST_MALLOC, "cnrtHostMalloc", 1)                                                                             \
    CALL(FREE_HOST, "cnrtFreeHost", 1)                                                                                 \
    CALL(COPY, "cnrtMemcpyAsync_V3", 0)                                                                                \
    CALL(COPY_V2, "cnrtMemcpyAsync_V2", 0)                                                                             \
    CALL(POINTER, "cnrtPointerGetAttributes", 0)                                                                       \
    CALL(QUEUE_CREATE, "cnrtQueueCreate", 1)                                                                           \
    CALL(QUEUE_DESTROY, "cnrtQueueDestroy", 1)                                                                         \
    CALL(QUEUE_SYNC, "cnrtQueueSync", 1)                                                                               \
    CALL(NOTIFIER_CREATE, "cnrtNotifierCreate", 0)                                                                     \
    CALL(NOTIFIER_CREATE_FLAGS, "cnrtNotifierCreateWithFlags", 0)                                                      \
    CALL(NOTIFIER_DESTROY, "cnrtNotifierDestroy", 0)                                                                   \
    CALL(PLACE, "cnrtPlaceNotifier", 0)                                                                                \
    CALL(QUERY, "cnrtQueryNotifier", 0)                                                                                \
    CALL(QUEUE_WAIT, "cnrtQueueWaitNotifier", 0)                                                                       \
    CALL(HOST_FUNC, "cnrtInvokeHostFunc", 0)                                                                           \
    CALL(ACQUIRE, "cnrtAcquireMemHandle", 0)                                                                           \
    CALL(MAP, "cnrtMapMemHandle", 0)                                                                                   \
    CALL(UNMAP, "cnrtUnMapMemHandle", 0)                                                                               \
    CALL(DMABUF, "cnMemGetHandleForAddressRange", 0)

enum call {
#define CALL(id, name, needed) id,
    CNRT_CALLS(CALL)
#undef CALL
        NUM_CALLS
};

static const struct mdl_call calls[] = {
#define CALL(id, name, needed) {name, needed},
    CNRT_CALLS(CALL)
#undef CALL
};

struct attributes {
    int type, device;
    size_t size;
    void *dev, *host;
    int cache_mode;
    void *base;
};

/* A handle that was made, of the allocation at `base`. */
struct made {
    struct made *next;
    void *base, *handle;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *library, *driver, *fn[NUM_CALLS];
static uint32_t bits;
static struct made *handles;

#define CN(id, ...)   ((int (*)(__VA_ARGS__))(uintptr_t)fn[id])
#define HAS(id)       (fn[id] != NULL)
#define CHECK(id, rc) check(id, rc)

static void forget_error(void)
{
    if (HAS(LAST_ERROR)) (void)CN(LAST_ERROR, void)();
}

static medleyResult_t check(enum call call, int rc)
{
    const char *(*text)(int) = (const char *(*)(int))(uintptr_t)fn[ERROR_TEXT];
    const char *words = text && rc ? text(rc) : NULL;
    bool full = rc == NO_MEMORY || rc == NO_HOST_MEMORY;

    if (rc == 0) return medleySuccess;
    return mdl_error(full ? medleySystemError : medleyUnhandledDeviceError, "%s failed: %d (%s)", calls[call].name, rc,
                     words ? words : "no text");
}

/* ---- binding ---- */

static uint32_t find_caps(void)
{
    bool events = (HAS(NOTIFIER_CREATE) || HAS(NOTIFIER_CREATE_FLAGS)) && HAS(NOTIFIER_DESTROY) && HAS(PLACE) &&
                  HAS(QUERY) && HAS(QUEUE_WAIT);
    bool ipc = HAS(POINTER) && HAS(ACQUIRE) && HAS(MAP) && HAS(UNMAP);

    return (HAS(POINTER) ? MDL_DEV_POINTERS : 0) | (events ? MDL_DEV_EVENTS : 0) |
           (HAS(HOST_FUNC) ? MDL_DEV_HOST_FUNC : 0) | (ipc ? MDL_DEV_IPC : 0) | (HAS(DMABUF) ? MDL_DEV_DMABUF : 0);
}

static void unbind(void)
{
    mdl_bind_close(driver);
    mdl_bind_close(library);
    library = driver = NULL;
    memset(fn, 0, sizeof(fn));
    bits = 0;
}

static bool has_devices(const char *name, char *why, size_t why_bytes)
{
    unsigned n = 0;
    int rc = CN(COUNT, unsigned *)(&n);

    if (rc == 0 && n > 0) return true;
    forget_error();
    snprintf(why, why_bytes, "%s found no device: cnrtGetDeviceCount gave %d, and %u devices", name, rc, n);
    return false;
}

static bool bind(const char *where, char *found, size_t found_bytes, char *why, size_t why_bytes)
{
    static const char *const names[] = {"libcnrt.so", NULL}, *const drivers[] = {"libcndrv.so", "libcndrv.so.2", NULL};
    static const char folder[] = "/usr/local/neuware/lib64";
    char name[64] = "", second[64] = "", unused[512];

    library = mdl_calls_open(where, folder, names, name, sizeof(name), why, why_bytes);
    if (!library) return false;
    driver = mdl_calls_open(where, folder, drivers, second, sizeof(second), unused, sizeof(unused));
    if (!mdl_calls_bind(library, driver, calls, NUM_CALLS, fn, why, why_bytes)) return false;
    if (!HAS(COPY) && !HAS(COPY_V2)) {
        snprintf(why, why_bytes, "the library has neither %s nor %s", calls[COPY].name, calls[COPY_V2].name);
        return false;
    }
    if (!has_devices(name, why, why_bytes)) return false;
    bits = find_caps();
    snprintf(found, found_bytes, "%s%s%s", name, second[0] ? ", " : "", second);
    return true;
}

static medleyResult_t probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    static const char *const nodes[] = {"/dev/cambricon_ctl", "/dev/cambricon_dev0", NULL};
    bool bound;

    if (!where && !mdl_bind_has_node(nodes, why, why_bytes)) return medleyInvalidUsage;
    pthread_mutex_lock(&lock);
    bound = bind(where, found, found_bytes, why, why_bytes);
    if (!bound) unbind();
    pthread_mutex_unlock(&lock);
    return bound ? medleySuccess : medleyInvalidUsage;
}

static uint32_t caps(const struct mdl_device *d) { return bits; }

/* ---- devices ---- */

static medleyResult_t count(const struct mdl_device *d, int *n)
{
    unsigned u = 0;

    MDL_TRY(CHECK(COUNT, CN(COUNT, unsigned *)(&u)));
    *n = (int)u;
    return medleySuccess;
}

/* The name is only in a structure that grew from version to version. */
static medleyResult_t info(const struct mdl_device *d, int ordinal, struct mdl_device_info *i)
{
    *i = (struct mdl_device_info){0};
    if (HAS(PCI) && CN(PCI, char *, int, int)(i->pci, sizeof(i->pci), ordinal) != 0) {
        i->pci[0] = 0;
        forget_error();
    }
    return medleySuccess;
}

static medleyResult_t enter(const struct mdl_device *d, int ordinal)
{
    return CHECK(SET_DEVICE, CN(SET_DEVICE, int)(ordinal));
}

static medleyResult_t current(const struct mdl_device *d, int *ordinal)
{
    int n = 0;

    MDL_TRY(CHECK(GET_DEVICE, CN(GET_DEVICE, int *)(&n)));
    *ordinal = n;
    return medleySuccess;
}

/* ---- memory ---- */

static medleyResult_t alloc(const struct mdl_device *d, size_t len, void **ptr)
{
    return CHECK(MALLOC, CN(MALLOC, void **, size_t)(ptr, len));
}

static void drop_handle(const void *base)
{
    pthread_mutex_lock(&lock);
    for (struct made **at = &handles; *at; at = &(*at)->next) {
        struct made *m = *at;
        if (m->base != base) continue;
        *at = m->next;
        free(m);
        break;
    }
    pthread_mutex_unlock(&lock);
}

static medleyResult_t release(const struct mdl_device *d, void *ptr)
{
    drop_handle(ptr);
    return CHECK(FREE, CN(FREE, void *)(ptr));
}

static medleyResult_t alloc_pinned(const struct mdl_device *d, size_t len, void **ptr)
{
    return CHECK(HOST_MALLOC, CN(HOST_MALLOC, void **, size_t)(ptr, len));
}

static medleyResult_t free_pinned(const struct mdl_device *d, void *ptr)
{
    return CHECK(FREE_HOST, CN(FREE_HOST, void *)(ptr));
}

static medleyResult_t classify(const struct mdl_device *d, const void *ptr, struct mdl_pointer *p)
{
    union {
        struct attributes a;
        char room[256];
    } u;

    memset(&u, 0, sizeof(u));
    *p = (struct mdl_pointer){.kind = MDL_POINTER_HOST, .ordinal = -1};
    if (CN(POINTER, void *, const void *)(&u, ptr) != 0) {
        forget_error();
        return medleySuccess;
    }
    if (u.a.type != AT_DEVICE) return medleySuccess;
    p->kind = MDL_POINTER_DEVICE;
    p->ordinal = u.a.device;
    p->base = u.a.base;
    p->len = u.a.base ? u.a.size : 0;
    return medleySuccess;
}

static medleyResult_t copy(const struct mdl_device *d, void *dst, const void *src, size_t len, enum mdl_copy_kind kind,
                           mdl_dev_stream stream)
{
    static const int kinds[] = {
        [MDL_COPY_H2D] = COPY_H2D, [MDL_COPY_D2H] = COPY_D2H, [MDL_COPY_D2D] = COPY_D2D, [MDL_COPY_ANY] = COPY_ANY};
    enum call call = HAS(COPY) ? COPY : COPY_V2;
    int (*run)(void *, void *, size_t, void *, int) = (int (*)(void *, void *, size_t, void *, int))(uintptr_t)fn[call];

    return CHECK(call, run(dst, (void *)(uintptr_t)src, len, stream, kinds[kind]));
}

/* ---- queues and notifiers ---- */

static medleyResult_t stream_create(const struct mdl_device *d, mdl_dev_stream *stream)
{
    return CHECK(QUEUE_CREATE, CN(QUEUE_CREATE, void **)(stream));
}

static medleyResult_t stream_destroy(const struct mdl_device *d, mdl_dev_stream stream)
{
    return CHECK(QUEUE_DESTROY, CN(QUEUE_DESTROY, void *)(stream));
}

static medleyResult_t stream_sync(const struct mdl_device *d, mdl_dev_stream stream)
{
    return CHECK(QUEUE_SYNC, CN(QUEUE_SYNC, void *)(stream));
}

static medleyResult_t event_create(const struct mdl_device *d, mdl_dev_event *event)
{
    if (HAS(NOTIFIER_CREATE)) return CHECK(NOTIFIER_CREATE, CN(NOTIFIER_CREATE, void **)(event));
    return CHECK(NOTIFIER_CREATE_FLAGS, CN(NOTIFIER_CREATE_FLAGS, void **, unsigned)(event, 0));
}

static medleyResult_t event_destroy(const struct mdl_device *d, mdl_dev_event event)
{
    return CHECK(NOTIFIER_DESTROY, CN(NOTIFIER_DESTROY, void *)(event));
}

static medleyResult_t event_record(const struct mdl_device *d, mdl_dev_event event, mdl_dev_stream stream)
{
    return CHECK(PLACE, CN(PLACE, void *, void *)(event, stream));
}

static medleyResult_t event_query(const struct mdl_device *d, mdl_dev_event event)
{
    int rc = CN(QUERY, void *)(event);

    if (rc != NOT_READY && rc != BUSY) return CHECK(QUERY, rc);
    forget_error();
    return medleyInProgress;
}

static medleyResult_t stream_wait_event(const struct mdl_device *d, mdl_dev_stream stream, mdl_dev_event event)
{
    return CHECK(QUEUE_WAIT, CN(QUEUE_WAIT, void *, void *, unsigned)(event, stream, 0));
}

static medleyResult_t stream_host_func(const struct mdl_device *d, mdl_dev_stream stream, void (*call)(void *),
                                       void *arg)
{
    return CHECK(HOST_FUNC, CN(HOST_FUNC, void *, void (*)(void *), void *)(stream, call, arg));
}

/* ---- other processes, other devices ---- */

/* With the lock. A release that refuses a second handle of an allocation gave the first one not long ago; one that was
 * made now replaces what an allocation before it had at this address. */
static medleyResult_t acquire(void *base, void **handle)
{
    struct made *m = handles;
    void *h = NULL;

    while (m && m->base != base) m = m->next;
    if (CN(ACQUIRE, void **, void *)(&h, base) != 0) {
        forget_error();
        if (!m) return medleyInvalidUsage;
        *handle = m->handle;
        return medleySuccess;
    }
    if (!m) {
        m = malloc(sizeof(*m));
        if (!m) return mdl_error(medleySystemError, "out of memory for a memory handle");
        *m = (struct made){.next = handles, .base = base};
        handles = m;
    }
    *handle = m->handle = h;
    return medleySuccess;
}

static medleyResult_t ipc_export(const struct mdl_device *d, void *ptr, struct mdl_ipc *ipc)
{
    struct mdl_pointer p;
    void *handle = NULL;
    medleyResult_t res;

    MDL_TRY(classify(d, ptr, &p));
    if (p.kind != MDL_POINTER_DEVICE || !p.base) return medleyInvalidUsage;
    pthread_mutex_lock(&lock);
    res = acquire(p.base, &handle);
    pthread_mutex_unlock(&lock);
    MDL_TRY(res);
    *ipc = (struct mdl_ipc){.len = sizeof(handle), .offset = (uint64_t)((char *)ptr - (char *)p.base), .fd = -1};
    memcpy(ipc->bytes, &handle, sizeof(handle));
    return medleySuccess;
}

static medleyResult_t ipc_import(const struct mdl_device *d, const struct mdl_ipc *ipc, void **import, void **ptr)
{
    void *handle, *base = NULL;

    if (ipc->len != sizeof(handle))
        return mdl_error(medleyRemoteError, "a memory handle of %s has %zu bytes, it should have %zu", d->vendor,
                         ipc->len, sizeof(handle));
    memcpy(&handle, ipc->bytes, sizeof(handle));
    MDL_TRY(CHECK(MAP, CN(MAP, void **, void *, int)(&base, handle, 0)));
    *import = base;
    *ptr = (char *)base + ipc->offset;
    return medleySuccess;
}

static medleyResult_t ipc_close(const struct mdl_device *d, void *import)
{
    return CHECK(UNMAP, CN(UNMAP, void *)(import));
}

static medleyResult_t dmabuf_export(const struct mdl_device *d, void *ptr, size_t len, int *fd, uint64_t *offset)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), at = (uint64_t)(uintptr_t)ptr, from = at / page * page;
    size_t bytes = (at + len + page - 1) / page * page - from;
    int made = -1, rc = CN(DMABUF, void *, uint64_t, size_t, int, uint64_t)(&made, from, bytes, HANDLE_DMABUF, 0);

    if (rc != 0) rc = CN(DMABUF, void *, uint64_t, size_t, int, uint64_t)(&made, from, bytes, HANDLE_DMABUF_TOO, 0);
    MDL_TRY(CHECK(DMABUF, rc));
    *fd = made;
    *offset = at - from;
    return medleySuccess;
}

const struct mdl_device mdl_device_cnrt = {
    .abi = MDL_PLUGIN_ABI,
    .size = sizeof(struct mdl_device),
    .vendor = "cnrt",
    .title = "Cambricon",
    .probe = probe,
    .caps = caps,
    .count = count,
    .info = info,
    .enter = enter,
    .current = current,
    .alloc = alloc,
    .free = release,
    .alloc_pinned = alloc_pinned,
    .free_pinned = free_pinned,
    .classify = classify,
    .copy = copy,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_sync = stream_sync,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_query = event_query,
    .stream_wait_event = stream_wait_event,
    .stream_host_func = stream_host_func,
    .ipc_export = ipc_export,
    .ipc_import = ipc_import,
    .ipc_close = ipc_close,
    .dmabuf_export = dmabuf_export,
    .native = &mdl_native_cncl,
};
