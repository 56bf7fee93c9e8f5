/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel Level Zero: libze_loader.so.1; ZE_OLD is one of the age of 1.8.12, without zeInitDrivers, host functions and
 * waits for a list. Nothing is current: contexts and devices are arguments. Events are flags that stay set until they
 * are reset, and memory handles begin with a descriptor of their process, which has to travel by other means.
 */
#include "config.h"
#include "tests/emul/engine.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define VENDOR EMUL_ZE
#define CALL(name, args)                                                                                               \
    EMUL_API uint32_t name args;                                                                                       \
    uint32_t name args
#define ENTER(needs)                                                                                                   \
    do {                                                                                                               \
        enum emul_code entered_ = emul_enter(VENDOR, __func__, needs);                                                 \
        if (entered_) return codes[entered_];                                                                          \
    } while (0)

enum {
    NOT_READY = 1,
    UNINITIALISED = 0x78000001,
    UNSUPPORTED = 0x78000003,
    INVALID_ARGUMENT = 0x78000004,
    NULL_HANDLE = 0x78000005,
    NULL_POINTER = 0x78000007,
    INVALID_SIZE = 0x78000008,
};

static const uint32_t codes[EMUL_CODES] = {
    [EMUL_OK] = 0,
    [EMUL_INVALID] = INVALID_ARGUMENT,
    [EMUL_NO_MEMORY] = 0x70000003,
    [EMUL_NO_DRIVER] = UNINITIALISED,
    [EMUL_NO_DEVICE] = UNINITIALISED,
    [EMUL_BAD_DEVICE] = INVALID_ARGUMENT,
    [EMUL_BAD_HANDLE] = INVALID_ARGUMENT,
    [EMUL_BAD_POINTER] = INVALID_ARGUMENT,
    [EMUL_BAD_DIRECTION] = INVALID_ARGUMENT,
    [EMUL_NOT_READY] = NOT_READY,
    [EMUL_UNSUPPORTED] = UNSUPPORTED,
    [EMUL_NO_CONTEXT] = INVALID_ARGUMENT,
    [EMUL_ASYNC] = 0x70000001,
    [EMUL_NOT_PERMITTED] = INVALID_ARGUMENT,
    [EMUL_REGISTERED] = INVALID_ARGUMENT,
    [EMUL_UNREGISTERED] = INVALID_ARGUMENT,
    [EMUL_PEER_ON] = 0,
    [EMUL_OWN_EXPORT] = INVALID_ARGUMENT,
    [EMUL_CAPTURE_UNSAFE] = UNSUPPORTED,
    [EMUL_CAPTURE_DEAD] = UNSUPPORTED,
    [EMUL_CAPTURE_IMPLICIT] = UNSUPPORTED,
    [EMUL_CAPTURED_EVENT] = UNSUPPORTED,
    [EMUL_CAPTURE_UNMATCHED] = UNSUPPORTED,
    [EMUL_FORKED] = UNINITIALISED,
    [EMUL_NOT_FOUND] = INVALID_ARGUMENT,
};

/* Every object begins with what it is, so that an argument in the wrong place is seen. */
enum kind { DRIVER = 0x7a650001, DEVICE, CONTEXT, LIST, POOL, EVENT, DEAD };
struct object {
    enum kind kind;
    int device;
    struct object *next; /* of all that were made */
};
static struct object *made;
struct list {
    struct object object;
    void *stream;
    bool synchronous;
};
struct pool {
    struct object object;
    uint32_t count, flags;
    bool *used;
};
struct event {
    struct object object;
    struct pool *pool;
    uint32_t index;
    uint64_t flag;
    bool awaited; /* a list was told to set it, or to wait for it */
};
/* The head of every descriptor struct. */
struct head {
    uint32_t stype;
    const void *next;
};

static struct object driver = {DRIVER, 0, NULL}, devices[16];
static int initialised;

__attribute__((constructor)) static void loaded(void) { emul_hide(VENDOR, (const void *)loaded); }

static bool is(const void *handle, enum kind kind, const char *what)
{
    const struct object *object = handle;
    if (object && object->kind == kind) return true;
    if (object && object->kind == DEAD)
        emul_misuse(EMUL_INVALID, "a destroyed %s", what);
    else if (object)
        emul_misuse(EMUL_INVALID, "the argument is no %s", what);
    return false;
}
#define WANT(handle, kind)                                                                                             \
    do {                                                                                                               \
        if (!is(handle, kind, #kind)) return NULL_HANDLE;                                                              \
    } while (0)

static bool described(const void *descriptor, uint32_t stype)
{
    const struct head *head = descriptor;
    if (head && head->stype == stype) return true;
    emul_misuse(EMUL_INVALID, "descriptor of type 0x%x, not 0x%x", head ? head->stype : 0, stype);
    return false;
}
#define WANT_TYPE(descriptor, stype)                                                                                   \
    do {                                                                                                               \
        if (!described(descriptor, stype)) return INVALID_ARGUMENT;                                                    \
    } while (0)

static void make_devices(void)
{
    for (int i = 0; i < 16; i++) devices[i] = (struct object){DEVICE, i, NULL};
}

CALL(zeInit, (uint32_t flags))
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    ENTER(EMUL_CLEANUP);
    if (flags > 3) return INVALID_ARGUMENT;
    pthread_once(&once, make_devices);
    __atomic_store_n(&initialised, 1, __ATOMIC_RELEASE);
    return 0;
}

static bool ready(void) { return __atomic_load_n(&initialised, __ATOMIC_ACQUIRE); }

static uint32_t one_driver(uint32_t *count, void **out)
{
    if (!count) return NULL_POINTER;
    if (out && *count >= 1) out[0] = &driver;
    *count = 1;
    return 0;
}

CALL(zeDriverGet, (uint32_t * count, void **out))
{
    ENTER(0);
    return ready() ? one_driver(count, out) : (uint32_t)UNINITIALISED;
}

#ifndef ZE_OLD
CALL(zeInitDrivers, (uint32_t * count, void **out, const void *descriptor))
{
    if (!descriptor) return NULL_POINTER;
    uint32_t code = zeInit(0);
    return code ? code : one_driver(count, out);
}
#endif

CALL(zeDriverGetApiVersion, (void *which, uint32_t *version))
{
    ENTER(0);
    WANT(which, DRIVER);
    if (!version) return NULL_POINTER;
#ifdef ZE_OLD
    *version = 0x10003;
#else
    *version = 0x1000c;
#endif
    return 0;
}

CALL(zeDeviceGet, (void *which, uint32_t *count, void **out))
{
    ENTER(0);
    WANT(which, DRIVER);
    if (!count) return NULL_POINTER;
    uint32_t have = (uint32_t)emul_device_count(VENDOR);
    if (*count == 0 || *count > have) *count = have;
    for (uint32_t i = 0; out && i < *count; i++) out[i] = &devices[i];
    return 0;
}

struct device_properties {
    uint32_t stype;
    const void *next;
    uint32_t type, vendor, device, flags, subdevice, clock;
    uint64_t most_memory;
    uint32_t contexts, priority, threads, width, units, subslices, slices;
    uint64_t timer;
    uint32_t timestamp_bits, kernel_bits;
    unsigned char uuid[16];
    char name[256];
};

CALL(zeDeviceGetProperties, (void *device, struct device_properties *out))
{
    ENTER(0);
    WANT(device, DEVICE);
    WANT_TYPE(out, 0x3);
    int number = ((struct object *)device)->device;
    size_t skip = offsetof(struct device_properties, type);
    memset((char *)out + skip, 0, sizeof(*out) - skip);
    out->type = 1;
    out->vendor = 0x8086;
    emul_device_uuid(VENDOR, number, out->uuid);
    emul_device_name(VENDOR, number, out->name, sizeof(out->name));
    return 0;
}

struct pci_properties {
    uint32_t stype;
    const void *next;
    uint32_t domain, bus, device, function;
    int32_t generation, width;
    int64_t bandwidth;
};

CALL(zeDevicePciGetPropertiesExt, (void *device, struct pci_properties *out))
{
    char id[16];
    ENTER(0);
    WANT(device, DEVICE);
    if (!out) return NULL_POINTER;
    emul_device_pci(VENDOR, ((struct object *)device)->device, id, sizeof(id));
    if (sscanf(id, "%x:%x:%x.%x", &out->domain, &out->bus, &out->device, &out->function) != 4) abort();
    out->generation = out->width = -1;
    out->bandwidth = -1;
    return 0;
}

CALL(zeDeviceCanAccessPeer, (void *device, void *peer, unsigned char *can))
{
    ENTER(0);
    WANT(device, DEVICE);
    WANT(peer, DEVICE);
    if (!can) return NULL_POINTER;
    *can = !emul_fault(VENDOR, "nopeer", NULL);
    return 0;
}

struct group_properties {
    uint32_t stype;
    const void *next;
    uint32_t flags;
    size_t fill_width;
    uint32_t queues;
};

CALL(zeDeviceGetCommandQueueGroupProperties, (void *device, uint32_t *count, struct group_properties *out))
{
    ENTER(0);
    WANT(device, DEVICE);
    if (!count) return NULL_POINTER;
    if (out && *count >= 1) {
        out->flags = 3;
        out->fill_width = 16;
        out->queues = 1;
    }
    *count = 1;
    return 0;
}

static struct object *object_new(size_t size, enum kind kind, int device)
{
    struct object *object = calloc(1, size);
    if (!object) abort();
    *object = (struct object){kind, device, __atomic_load_n(&made, __ATOMIC_RELAXED)};
    while (!__atomic_compare_exchange_n(&made, &object->next, object, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {}
    return object;
}

CALL(zeContextCreate, (void *which, const void *descriptor, void **out))
{
    ENTER(0);
    WANT(which, DRIVER);
    WANT_TYPE(descriptor, 0xd);
    if (!out) return NULL_POINTER;
    *out = object_new(sizeof(struct object), CONTEXT, 0);
    return 0;
}

/* Objects stay as dead ones, so that a later use of them is seen. */
static uint32_t bury(void *handle)
{
    ((struct object *)handle)->kind = DEAD;
    return 0;
}

CALL(zeContextDestroy, (void *context))
{
    ENTER(EMUL_CLEANUP);
    WANT(context, CONTEXT);
    return bury(context);
}

/* The engine works on the thread's device. */
static void on(int device) { emul_device_set(VENDOR, device); }

/* Memory. */
CALL(zeMemAllocDevice, (void *context, const void *descriptor, size_t size, size_t align, void *device, void **out))
{
    ENTER(0);
    WANT(context, CONTEXT);
    WANT_TYPE(descriptor, 0x15);
    WANT(device, DEVICE);
    if (align > 4096 || (align & (align - 1))) return emul_misuse(EMUL_INVALID, "alignment %zu", align), 0x78000009;
    if (!size) return INVALID_SIZE;
    on(((struct object *)device)->device);
    return codes[emul_malloc(VENDOR, EMUL_DEVICE, size, out)];
}

CALL(zeMemAllocHost, (void *context, const void *descriptor, size_t size, size_t align, void **out))
{
    ENTER(0);
    WANT(context, CONTEXT);
    WANT_TYPE(descriptor, 0x16);
    if (align > 4096 || (align & (align - 1))) return emul_misuse(EMUL_INVALID, "alignment %zu", align), 0x78000009;
    if (!size) return INVALID_SIZE;
    return codes[emul_malloc(VENDOR, EMUL_HOST, size, out)];
}

CALL(zeMemFree, (void *context, void *address))
{
    struct emul_info info;
    ENTER(EMUL_CLEANUP);
    WANT(context, CONTEXT);
    if (!address) return NULL_POINTER;
    emul_lookup(VENDOR, address, &info);
    return codes[emul_free(VENDOR, info.memory == EMUL_HOST ? EMUL_HOST : EMUL_DEVICE, address)];
}

/* Type: unknown 0, host 1, device 2, shared 3. Chained: 0x1a, a dma-buf where flag 2 asks for one. */
struct memory_properties {
    uint32_t stype;
    void *next;
    uint32_t type;
    uint64_t id, page_size;
};
struct export_fd {
    uint32_t stype;
    void *next;
    uint32_t flags;
    int fd;
};

CALL(zeMemGetAllocProperties, (void *context, const void *address, struct memory_properties *out, void **device))
{
    struct emul_info info;
    ENTER(0);
    WANT(context, CONTEXT);
    WANT_TYPE(out, 0x17);
    emul_lookup(VENDOR, address, &info);
    bool host = info.memory == EMUL_HOST || info.memory == EMUL_PINNED;
    out->type = info.memory == EMUL_NONE ? 0 : host ? 1 : info.memory == EMUL_MANAGED ? 3 : 2;
    out->id = info.id;
    out->page_size = 4096;
    if (device) *device = out->type == 2 ? &devices[info.device] : NULL;
    struct export_fd *wanted = out->next;
    if (!wanted) return 0;
    if (wanted->stype != 0x1a || wanted->flags != 2)
        return emul_misuse(EMUL_INVALID, "type 0x%x, flags %u: no export of a dma-buf", wanted->stype, wanted->flags),
               INVALID_ARGUMENT;
    if (out->type != 2) return UNSUPPORTED;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return codes[emul_dmabuf(VENDOR, info.base, (info.size + page - 1) & ~(page - 1), &wanted->fd)];
}

CALL(zeMemGetAddressRange, (void *context, const void *address, void **base, size_t *size))
{
    struct emul_info info;
    ENTER(0);
    WANT(context, CONTEXT);
    emul_lookup(VENDOR, address, &info);
    if (info.memory == EMUL_NONE) return INVALID_ARGUMENT;
    if (base) *base = info.base;
    if (size) *size = info.size;
    return 0;
}

/* No core call registers host memory; the driver has one by name. */
static uint32_t import_host(void *which, void *address, size_t size)
{
    emul_enter(VENDOR, "zexDriverImportExternalPointer", 0);
    WANT(which, DRIVER);
    return codes[emul_register(VENDOR, address, size)];
}

static uint32_t release_host(void *which, void *address)
{
    emul_enter(VENDOR, "zexDriverReleaseImportedPointer", EMUL_CLEANUP);
    WANT(which, DRIVER);
    return codes[emul_unregister(VENDOR, address)];
}

CALL(zeDriverGetExtensionFunctionAddress, (void *which, const char *name, void **out))
{
    ENTER(0);
    WANT(which, DRIVER);
    if (!name || !out) return NULL_POINTER;
    if (strcmp(name, "zexDriverImportExternalPointer") == 0)
        *out = (void *)import_host;
    else if (strcmp(name, "zexDriverReleaseImportedPointer") == 0)
        *out = (void *)release_host;
    else
        return INVALID_ARGUMENT;
    return 0;
}

/* IPC: the first four bytes are a descriptor; the importer has put one of its own there. */
struct ipc_handle {
    char bytes[EMUL_IPC_BYTES];
};
static const uint32_t magic = 0x454d4950;

CALL(zeMemGetIpcHandle, (void *context, const void *address, struct ipc_handle *out))
{
    int fd;
    ENTER(0);
    WANT(context, CONTEXT);
    if (!out) return NULL_POINTER;
    enum emul_code code = emul_ipc_export_fd(VENDOR, address, out, &fd);
    if (!code) memcpy(out, &fd, sizeof(fd));
    return codes[code];
}

CALL(zeMemPutIpcHandle, (void *context, struct ipc_handle handle))
{
    int fd;
    ENTER(EMUL_CLEANUP);
    WANT(context, CONTEXT);
    memcpy(&fd, &handle, sizeof(fd));
    return close(fd) == 0 ? 0 : (uint32_t)INVALID_ARGUMENT;
}

CALL(zeMemOpenIpcHandle, (void *context, void *device, struct ipc_handle handle, uint32_t flags, void **out))
{
    int fd;
    ENTER(0);
    WANT(context, CONTEXT);
    WANT(device, DEVICE);
    if (flags > 3) return INVALID_ARGUMENT;
    on(((struct object *)device)->device);
    memcpy(&fd, &handle, sizeof(fd));
    memcpy(&handle, &magic, sizeof(magic));
    return codes[emul_ipc_import_fd(VENDOR, &handle, fd, out)];
}

CALL(zeMemCloseIpcHandle, (void *context, void *address))
{
    ENTER(EMUL_CLEANUP);
    WANT(context, CONTEXT);
    return codes[emul_ipc_close(VENDOR, address)];
}

#include "tests/emul/ze_lists.h"
