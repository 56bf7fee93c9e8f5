/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huawei Ascend: the ACL runtime of CANN.
 *
 * What differs from CUDA: the library is initialised once per process, by whoever comes first; copies are told the room
 * at their destination; an event's state comes through an argument, and the two calls for it count the opposite way;
 * memory for other processes has a text as its handle, and is closed by it. A thread has no device until it has entered
 * one. Libraries from before LaunchHostFunc run host functions in a thread that asks for them (acl_report.c).
 *
 * Not certain, so not used: registration of host memory (its kinds are not known), waiting for words (the arguments are
 * not known), whether a stream is being captured. Not certain, but used: that an event of kind "sync" can be queried,
 * that an allocation fails for want of memory. There is no export as dma-buf. The program may be using the library too,
 * so it is never finalised.
 */
#include "config.h"

#include "devices/acl.h"
#include "devices/bind.h"
#include "devices/native.h"
#include "lib/base/status.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALREADY_INITIALISED = 100002, HUGE_FIRST = 0, EVENT_SYNC = 1 };
enum { COPY_H2D = 1, COPY_D2H = 2, COPY_D2D = 3, COPY_ANY = 4 };
enum { AT_HOST = 0, AT_DEVICE = 1, AT_NOWHERE = 2, AT_MANAGED = 3 };
enum { EXPORT_TO_ANY = 1, IMPORT_PEER_ACCESS = 1, KEY_BYTES = 65 };
enum { RECORDED = 1, WAITED_FOR = 0 }; /* of QueryEventStatus, and of QueryEventWaitStatus */

static const struct mdl_call calls[] = {
#define CALL(id, name, needed) {"acl" name, needed},
    MDL_ACL_CALLS(CALL)
#undef CALL
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *library, *runtime; /* newer releases have the runtime in a library of its own */
static uint32_t bits;

void *mdl_acl_fn[MDL_ACL_NUM_CALLS];

struct attributes {
    uint32_t device;
    int32_t where;
    uint32_t page, reserved[4];
};

medleyResult_t mdl_acl_check(enum mdl_acl_call call, int rc)
{
    const char *(*recent)(void) = (const char *(*)(void))(uintptr_t)mdl_acl_fn[MDL_ACL_RECENT];
    const char *words = recent && rc ? recent() : NULL;
    bool room = call == MDL_ACL_MALLOC || call == MDL_ACL_MALLOC_HOST;

    if (rc == 0) return medleySuccess;
    return mdl_error(room ? medleySystemError : medleyUnhandledDeviceError, "%s failed: %d (%s)", calls[call].name, rc,
                     words && words[0] ? words : "no text");
}

/* ---- binding ---- */

static uint32_t find_caps(void)
{
    bool events = ACL_HAS(EVENT_CREATE) && ACL_HAS(EVENT_DESTROY) && ACL_HAS(EVENT_RECORD) &&
                  (ACL_HAS(EVENT_STATUS) || ACL_HAS(EVENT_WAIT_STATUS)) && ACL_HAS(STREAM_WAIT_EVENT);
    bool reports = ACL_HAS(LAUNCH_CALLBACK) && ACL_HAS(SUBSCRIBE) && ACL_HAS(PROCESS_REPORT);
    bool ipc = ACL_HAS(POINTER) && ACL_HAS(RANGE) && ACL_HAS(EXPORT) && ACL_HAS(IMPORT) && ACL_HAS(CLOSE);

    return (ACL_HAS(POINTER) ? MDL_DEV_POINTERS : 0) | (events ? MDL_DEV_EVENTS : 0) |
           (ACL_HAS(LAUNCH_HOST_FUNC) || reports ? MDL_DEV_HOST_FUNC : 0) | (ipc ? MDL_DEV_IPC : 0);
}

static void unbind(void)
{
    mdl_bind_close(runtime);
    mdl_bind_close(library);
    library = runtime = NULL;
    memset(mdl_acl_fn, 0, sizeof(mdl_acl_fn));
    bits = 0;
}

static bool start(const char *name, char *why, size_t why_bytes)
{
    uint32_t n = 0;
    int rc = ACL(INIT, const char *)(NULL);

    if (rc != 0 && rc != ALREADY_INITIALISED) {
        snprintf(why, why_bytes, "%s: aclInit gave %d", name, rc);
        return false;
    }
    rc = ACL(COUNT, uint32_t *)(&n);
    if (rc == 0 && n > 0) return true;
    snprintf(why, why_bytes, "%s found no device: aclrtGetDeviceCount gave %d, and %u devices", name, rc, n);
    return false;
}

static bool bind(const char *where, char *found, size_t found_bytes, char *why, size_t why_bytes)
{
    static const char *const names[] = {"libascendcl.so", "libacl_rt.so", NULL}, *const newer[] = {"libacl_rt.so",
                                                                                                   NULL};
    static const char folder[] = "/usr/local/Ascend/ascend-toolkit/latest/lib64";
    char name[64] = "", second[64] = "", unused[512];

    library = mdl_calls_open(where, folder, names, name, sizeof(name), why, why_bytes);
    if (!library) return false;
    runtime = mdl_calls_open(where, folder, newer, second, sizeof(second), unused, sizeof(unused));
    if (!mdl_calls_bind(library, runtime, calls, MDL_ACL_NUM_CALLS, mdl_acl_fn, why, why_bytes)) return false;
    if (!start(name, why, why_bytes)) return false;
    bits = find_caps();
    snprintf(found, found_bytes, "%s%s%s", name, strcmp(name, second) && second[0] ? ", " : "",
             strcmp(name, second) ? second : "");
    return true;
}

static medleyResult_t probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    static const char *const nodes[] = {"/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc", NULL};
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
    uint32_t u = 0;

    MDL_TRY(ACL_CHECK(COUNT, ACL(COUNT, uint32_t *)(&u)));
    *n = (int)u;
    return medleySuccess;
}

static medleyResult_t info(const struct mdl_device *d, int ordinal, struct mdl_device_info *i)
{
    const char *(*name)(void) = (const char *(*)(void))(uintptr_t)mdl_acl_fn[MDL_ACL_SOC_NAME];
    const char *soc = name ? name() : NULL;

    *i = (struct mdl_device_info){0};
    snprintf(i->name, sizeof(i->name), "%s", soc ? soc : "");
    if (ACL_HAS(PCI) && ACL(PCI, int32_t, char *, int32_t)(ordinal, i->pci, sizeof(i->pci)) != 0) i->pci[0] = 0;
    return medleySuccess;
}

static medleyResult_t enter(const struct mdl_device *d, int ordinal)
{
    return ACL_CHECK(SET_DEVICE, ACL(SET_DEVICE, int32_t)(ordinal));
}

/* An error, which a thread without a device gets, is an answer here. */
static medleyResult_t current(const struct mdl_device *d, int *ordinal)
{
    int32_t n = 0;

    if (ACL(GET_DEVICE, int32_t *)(&n) != 0) return medleyInvalidUsage;
    *ordinal = n;
    return medleySuccess;
}

/* ---- memory ---- */

static medleyResult_t alloc(const struct mdl_device *d, size_t len, void **ptr)
{
    return ACL_CHECK(MALLOC, ACL(MALLOC, void **, size_t, int)(ptr, len, HUGE_FIRST));
}

static medleyResult_t release(const struct mdl_device *d, void *ptr) { return ACL_CHECK(FREE, ACL(FREE, void *)(ptr)); }

static medleyResult_t alloc_pinned(const struct mdl_device *d, size_t len, void **ptr)
{
    return ACL_CHECK(MALLOC_HOST, ACL(MALLOC_HOST, void **, size_t)(ptr, len));
}

static medleyResult_t free_pinned(const struct mdl_device *d, void *ptr)
{
    return ACL_CHECK(FREE_HOST, ACL(FREE_HOST, void *)(ptr));
}

/* What the library does not know is ordinary memory, whether it says so by a code or by a kind. */
static medleyResult_t classify(const struct mdl_device *d, const void *ptr, struct mdl_pointer *p)
{
    union {
        struct attributes a;
        char room[128];
    } u;
    void *base = NULL;
    size_t len = 0;

    memset(&u, 0, sizeof(u));
    *p = (struct mdl_pointer){.kind = MDL_POINTER_HOST, .ordinal = -1};
    if (ACL(POINTER, const void *, void *)(ptr, &u) != 0) return medleySuccess;
    if (u.a.where != AT_DEVICE && u.a.where != AT_MANAGED) return medleySuccess;
    p->kind = u.a.where == AT_DEVICE ? MDL_POINTER_DEVICE : MDL_POINTER_SHARED;
    p->ordinal = (int)u.a.device;
    if (ACL_HAS(RANGE) && ACL(RANGE, void *, void **, size_t *)((void *)(uintptr_t)ptr, &base, &len) == 0) {
        p->base = base;
        p->len = len;
    }
    return medleySuccess;
}

static medleyResult_t copy(const struct mdl_device *d, void *dst, const void *src, size_t len, enum mdl_copy_kind kind,
                           mdl_dev_stream stream)
{
    static const int kinds[] = {
        [MDL_COPY_H2D] = COPY_H2D, [MDL_COPY_D2H] = COPY_D2H, [MDL_COPY_D2D] = COPY_D2D, [MDL_COPY_ANY] = COPY_ANY};

    return ACL_CHECK(
        COPY, ACL(COPY, void *, size_t, const void *, size_t, int, void *)(dst, len, src, len, kinds[kind], stream));
}

/* ---- streams and events ---- */

static medleyResult_t stream_create(const struct mdl_device *d, mdl_dev_stream *stream)
{
    return ACL_CHECK(STREAM_CREATE, ACL(STREAM_CREATE, void **)(stream));
}

static medleyResult_t stream_destroy(const struct mdl_device *d, mdl_dev_stream stream)
{
    mdl_acl_forget_stream(stream);
    return ACL_CHECK(STREAM_DESTROY, ACL(STREAM_DESTROY, void *)(stream));
}

static medleyResult_t stream_sync(const struct mdl_device *d, mdl_dev_stream stream)
{
    return ACL_CHECK(STREAM_SYNC, ACL(STREAM_SYNC, void *)(stream));
}

static medleyResult_t event_create(const struct mdl_device *d, mdl_dev_event *event)
{
    return ACL_CHECK(EVENT_CREATE, ACL(EVENT_CREATE, void **, uint32_t)(event, EVENT_SYNC));
}

static medleyResult_t event_destroy(const struct mdl_device *d, mdl_dev_event event)
{
    return ACL_CHECK(EVENT_DESTROY, ACL(EVENT_DESTROY, void *)(event));
}

static medleyResult_t event_record(const struct mdl_device *d, mdl_dev_event event, mdl_dev_stream stream)
{
    return ACL_CHECK(EVENT_RECORD, ACL(EVENT_RECORD, void *, void *)(event, stream));
}

static medleyResult_t event_query(const struct mdl_device *d, mdl_dev_event event)
{
    int status = 0;

    if (ACL_HAS(EVENT_STATUS)) {
        MDL_TRY(ACL_CHECK(EVENT_STATUS, ACL(EVENT_STATUS, void *, int *)(event, &status)));
        return status == RECORDED ? medleySuccess : medleyInProgress;
    }
    MDL_TRY(ACL_CHECK(EVENT_WAIT_STATUS, ACL(EVENT_WAIT_STATUS, void *, int *)(event, &status)));
    return status == WAITED_FOR ? medleySuccess : medleyInProgress;
}

static medleyResult_t stream_wait_event(const struct mdl_device *d, mdl_dev_stream stream, mdl_dev_event event)
{
    return ACL_CHECK(STREAM_WAIT_EVENT, ACL(STREAM_WAIT_EVENT, void *, void *)(stream, event));
}

static medleyResult_t stream_host_func(const struct mdl_device *d, mdl_dev_stream stream, void (*fn)(void *), void *arg)
{
    if (ACL_HAS(LAUNCH_HOST_FUNC))
        return ACL_CHECK(LAUNCH_HOST_FUNC, ACL(LAUNCH_HOST_FUNC, void *, void (*)(void *), void *)(stream, fn, arg));
    return mdl_acl_report(stream, fn, arg);
}

/* ---- other processes ---- */

/* The key names the allocation from its base on. */
static medleyResult_t ipc_export(const struct mdl_device *d, void *ptr, struct mdl_ipc *ipc)
{
    struct mdl_pointer p;
    struct mdl_ipc made = {.fd = -1};

    MDL_TRY(classify(d, ptr, &p));
    if (p.kind != MDL_POINTER_DEVICE || !p.base) return medleyInvalidUsage;
    if (ACL(EXPORT, void *, size_t, char *, size_t, uint64_t)(p.base, p.len, (char *)made.bytes, KEY_BYTES,
                                                              EXPORT_TO_ANY) != 0)
        return medleyInvalidUsage;
    made.bytes[KEY_BYTES] = 0;
    made.len = strlen((char *)made.bytes) + 1;
    made.offset = (uint64_t)((char *)ptr - (char *)p.base);
    *ipc = made;
    return medleySuccess;
}

static medleyResult_t ipc_import(const struct mdl_device *d, const struct mdl_ipc *ipc, void **import, void **ptr)
{
    void *base = NULL;
    medleyResult_t res;
    char *key;

    if (ipc->len < 2 || ipc->len > sizeof(ipc->bytes) || ipc->bytes[ipc->len - 1] != 0)
        return mdl_error(medleyRemoteError, "a memory key of %s has %zu bytes and does not end", d->vendor, ipc->len);
    key = strdup((const char *)ipc->bytes);
    if (!key) return mdl_error(medleySystemError, "out of memory for a memory key");
    res = ACL_CHECK(IMPORT, ACL(IMPORT, void **, const char *, uint64_t)(&base, key, IMPORT_PEER_ACCESS));
    if (res != medleySuccess) {
        free(key);
        return res;
    }
    *import = key;
    *ptr = (char *)base + ipc->offset;
    return medleySuccess;
}

static medleyResult_t ipc_close(const struct mdl_device *d, void *import)
{
    medleyResult_t res = ACL_CHECK(CLOSE, ACL(CLOSE, const char *)(import));

    free(import);
    return res;
}

const struct mdl_device mdl_device_acl = {
    .abi = MDL_PLUGIN_ABI,
    .size = sizeof(struct mdl_device),
    .vendor = "acl",
    .title = "Huawei Ascend",
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
    .native = &mdl_native_hccl,
};
