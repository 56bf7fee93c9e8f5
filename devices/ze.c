/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel Level Zero.
 *
 * - A stream is an immediate command list that keeps order (made with the flag for it); NULL is one of the adapter's,
 * one per device. The user's list may be of a context of the user's: Intel's driver knows memory and events per driver,
 * and that is relied on.
 * - Streams have no operations on words that are part of Level Zero, and host functions only in recent releases: flags
 * that the list sets and waits for stand for both (follow.h). Recent host functions are not used either, so that
 * functions and words keep their order.
 * - A handle for another process begins with a descriptor of this process: it travels beside the bytes, as a copy,
 * since the driver may close its own with the memory.
 * - Kernels are not compiled: Level Zero takes no source.
 */
#include "config.h"

#include "devices/follow.h"
#include "devices/ze.h"
#include "devices/ccl.h"
#include "lib/base/status.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DMABUF = 1 << 1, MEMORY_DEVICE = 2, MEMORY_SHARED = 3, WORD_SPACE = 64 };
#define FOREVER    UINT64_MAX
#define DESTROY_NS UINT64_C(1000000000)
#define EXIT_NS    UINT64_C(500000000) /* a list with nothing to do answers within this on a busy machine, too */

/* ---- memory ---- */

static medleyResult_t allocate(const struct mdl_device *d, size_t len, void **ptr)
{
    const struct mdl_ze_desc desc = {.stype = MDL_ZE_DEVICE_MEMORY};
    struct mdl_ze_device *dev;

    (void)d;
    MDL_TRY(mdl_ze_here(&dev));
    MDL_ZE_TRY(MemAllocDevice, dev->driver->context, &desc, len ? len : 1, 0, dev->handle, ptr);
    return medleySuccess;
}

static medleyResult_t release(const struct mdl_device *d, void *ptr)
{
    struct mdl_ze_device *dev;

    (void)d;
    MDL_TRY(mdl_ze_here(&dev));
    MDL_ZE_TRY(MemFree, dev->driver->context, ptr);
    return medleySuccess;
}

static medleyResult_t alloc_pinned(const struct mdl_device *d, size_t len, void **ptr)
{
    const struct mdl_ze_desc desc = {.stype = MDL_ZE_HOST_MEMORY};
    struct mdl_ze_device *dev;

    (void)d;
    MDL_TRY(mdl_ze_here(&dev));
    MDL_ZE_TRY(MemAllocHost, dev->driver->context, &desc, len ? len : 1, 0, ptr);
    return medleySuccess;
}

static medleyResult_t pin(const struct mdl_device *d, void *ptr, size_t len)
{
    struct mdl_ze_device *dev;

    (void)d;
    MDL_TRY(mdl_ze_here(&dev));
    return mdl_ze_check(mdl_ze_call.import_pointer(dev->driver->handle, ptr, len), "xDriverImportExternalPointer");
}

static medleyResult_t unpin(const struct mdl_device *d, void *ptr)
{
    struct mdl_ze_device *dev;

    (void)d;
    MDL_TRY(mdl_ze_here(&dev));
    return mdl_ze_check(mdl_ze_call.release_pointer(dev->driver->handle, ptr), "xDriverReleaseImportedPointer");
}

static medleyResult_t classify(const struct mdl_device *d, const void *ptr, struct mdl_pointer *p)
{
    struct mdl_ze_memory memory = {.stype = MDL_ZE_MEMORY_PROPERTIES};
    struct mdl_ze_device *dev;
    mdl_ze owner = NULL;

    (void)d;
    MDL_TRY(mdl_ze_here(&dev));
    MDL_ZE_TRY(MemGetAllocProperties, dev->driver->context, ptr, &memory, &owner);
    *p = (struct mdl_pointer){.kind = MDL_POINTER_HOST, .ordinal = -1};
    if (memory.type != MEMORY_DEVICE && memory.type != MEMORY_SHARED) return medleySuccess;
    p->kind = memory.type == MEMORY_DEVICE ? MDL_POINTER_DEVICE : MDL_POINTER_SHARED;
    p->ordinal = owner ? mdl_ze_ordinal(owner) : -1;
    p->id = memory.id;
    if (mdl_ze_call.MemGetAddressRange(dev->driver->context, ptr, &p->base, &p->len) != 0) {
        p->base = NULL;
        p->len = 0;
    }
    return medleySuccess;
}

/* ---- streams ---- */

/* A list takes one thread at a time. The user's are the user's to guard, as the calls that they are given to; the
 * default one is ours. */
struct list {
    mdl_ze handle;
    struct mdl_ze_device *dev;
    bool ours;
};

static medleyResult_t list_of(mdl_dev_stream stream, struct list *list)
{
    MDL_TRY(mdl_ze_here(&list->dev));
    list->ours = !stream;
    list->handle = stream ? stream : list->dev->list;
    return medleySuccess;
}

static void begin_use(const struct list *list)
{
    if (list->ours) pthread_mutex_lock(&list->dev->use);
}

static medleyResult_t end_use(const struct list *list, uint32_t rc, const char *call)
{
    if (list->ours) pthread_mutex_unlock(&list->dev->use);
    return mdl_ze_check(rc, call);
}

static medleyResult_t copy(const struct mdl_device *d, void *dst, const void *src, size_t len, enum mdl_copy_kind kind,
                           mdl_dev_stream stream)
{
    struct list list;
    uint32_t rc;

    (void)d;
    (void)kind;
    if (!len) return medleySuccess;
    MDL_TRY(list_of(stream, &list));
    begin_use(&list);
    rc = mdl_ze_call.CommandListAppendMemoryCopy(list.handle, dst, src, len, NULL, 0, NULL);
    return end_use(&list, rc, "CommandListAppendMemoryCopy");
}

static medleyResult_t append_signal(const struct list *list, const struct mdl_ze_flag *flag)
{
    uint32_t rc;

    begin_use(list);
    rc = mdl_ze_call.CommandListAppendSignalEvent(list->handle, mdl_ze_flag_event(flag));
    return end_use(list, rc, "CommandListAppendSignalEvent");
}

static medleyResult_t append_wait(const struct list *list, const struct mdl_ze_flag *flag)
{
    mdl_ze event = mdl_ze_flag_event(flag);
    uint32_t rc;

    begin_use(list);
    rc = mdl_ze_call.CommandListAppendWaitOnEvents(list->handle, 1, &event);
    return end_use(list, rc, "CommandListAppendWaitOnEvents");
}

static void drop(void *flag) { mdl_ze_flag_drop(flag); }

/* A flag that the list sets behind all that it has now. */
static medleyResult_t append_mark(const struct list *list, struct mdl_ze_flag **out)
{
    struct mdl_ze_flag *flag;
    medleyResult_t res;

    MDL_TRY(mdl_ze_flag_take(list->dev->driver, &flag));
    res = append_signal(list, flag);
    if (res != medleySuccess) {
        (void)mdl_ze_call.EventHostSignal(mdl_ze_flag_event(flag)); /* nobody else will */
        drop(flag);
        return res;
    }
    *out = flag;
    return medleySuccess;
}

static medleyResult_t stream_create(const struct mdl_device *d, mdl_dev_stream *stream)
{
    struct mdl_ze_device *dev;

    (void)d;
    MDL_TRY(mdl_ze_here(&dev));
    return mdl_ze_list_create(dev, stream);
}

/* Success, InProgress, or an error. Recent releases wait for a list, others for a flag behind it. */
static medleyResult_t await(const struct list *list, uint64_t ns)
{
    struct mdl_ze_flag *flag;
    uint32_t rc;

    if (mdl_ze_call.CommandListHostSynchronize) {
        rc = mdl_ze_call.CommandListHostSynchronize(list->handle, ns);
        return rc == MDL_ZE_NOT_READY ? medleyInProgress : mdl_ze_check(rc, "CommandListHostSynchronize");
    }
    MDL_TRY(append_mark(list, &flag));
    rc = mdl_ze_call.EventHostSynchronize(mdl_ze_flag_event(flag), ns);
    drop(flag);
    return rc == MDL_ZE_NOT_READY ? medleyInProgress : mdl_ze_check(rc, "EventHostSynchronize");
}

/* Level Zero leaves it to its user that the list is through. */
static medleyResult_t stream_destroy(const struct mdl_device *d, mdl_dev_stream stream)
{
    struct list list;

    (void)d;
    MDL_TRY(list_of(stream, &list));
    if (await(&list, DESTROY_NS) == medleyInProgress)
        return mdl_error(medleyInvalidUsage, "command list %p is not through and cannot be destroyed", (void *)stream);
    MDL_ZE_TRY(CommandListDestroy, stream);
    return medleySuccess;
}

/* ---- words and host functions ---- */

static medleyResult_t passed(void *mark) { return mdl_ze_flag_query(mark); }

static void open_gate(void *gate)
{
    (void)mdl_ze_check(mdl_ze_call.EventHostSignal(mdl_ze_flag_event(gate)), "EventHostSignal");
}

static const struct mdl_follow_ops follow_ops = {.passed = passed, .open = open_gate, .drop = drop};
static struct mdl_follow follower = MDL_FOLLOW_INITIALIZER(&follow_ops);

/* The list's wait for a flag, and behind it a mark that tells when the flag is not needed any more. */
static medleyResult_t append_gate(const struct list *list, struct mdl_step *step)
{
    struct mdl_ze_flag *gate, *receipt;
    medleyResult_t res;

    MDL_TRY(mdl_ze_flag_take(list->dev->driver, &gate));
    res = append_wait(list, gate);
    if (res == medleySuccess) res = append_mark(list, &receipt);
    if (res != medleySuccess) {
        open_gate(gate); /* the list, if it has the wait, goes on; the flag is never used again then */
        return res;
    }
    step->gate = gate;
    step->receipt = receipt;
    return medleySuccess;
}

static medleyResult_t append_parts(const struct list *list, struct mdl_step *step)
{
    struct mdl_ze_flag *mark;

    if (step->kind == MDL_STEP_WRITE || step->kind == MDL_STEP_CALL) {
        MDL_TRY(append_mark(list, &mark));
        step->mark = mark;
    }
    return step->kind == MDL_STEP_WRITE ? medleySuccess : append_gate(list, step);
}

static medleyResult_t append_step(mdl_dev_stream stream, struct mdl_step step)
{
    struct mdl_lane *lane;
    struct list list;
    medleyResult_t res;

    MDL_TRY(list_of(stream, &list));
    MDL_TRY(mdl_follow_enter(&follower, list.handle, &lane));
    res = append_parts(&list, &step);
    mdl_follow_leave(&follower, lane, res == medleySuccess ? &step : NULL);
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

static medleyResult_t stream_sync(const struct mdl_device *d, mdl_dev_stream stream)
{
    struct list list;

    (void)d;
    MDL_TRY(list_of(stream, &list));
    MDL_TRY(await(&list, FOREVER));
    mdl_follow_sync(&follower, list.handle);
    return medleySuccess;
}

/* Older releases can only be asked by what is appended to the list, which is its user's to do: InProgress then. */
static medleyResult_t stream_query(const struct mdl_device *d, mdl_dev_stream stream)
{
    struct list list;

    (void)d;
    MDL_TRY(list_of(stream, &list));
    return mdl_ze_call.CommandListHostSynchronize ? await(&list, 0) : medleyInProgress;
}

/* Only the host touches them: ordinary memory, a cache line each. */
static medleyResult_t alloc_words(const struct mdl_device *d, int n, uint64_t **words)
{
    char *p = aligned_alloc(WORD_SPACE, (size_t)n * WORD_SPACE);

    (void)d;
    if (!p) return mdl_error(medleySystemError, "out of memory for %d words", n);
    memset(p, 0, (size_t)n * WORD_SPACE);
    for (int i = 0; i < n; i++) words[i] = (uint64_t *)(p + (size_t)i * WORD_SPACE);
    return medleySuccess;
}

static medleyResult_t free_words(const struct mdl_device *d, int n, uint64_t **words)
{
    (void)d;
    if (n) free(words[0]);
    return medleySuccess;
}

/* ---- events: each record is a flag of its own ---- */

struct event {
    pthread_mutex_t lock;
    struct mdl_ze_flag *flag; /* of the last record, NULL: none */
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
    if (e->flag) drop(e->flag);
    pthread_mutex_destroy(&e->lock);
    free(e);
    return medleySuccess;
}

static medleyResult_t event_record(const struct mdl_device *d, mdl_dev_event event, mdl_dev_stream stream)
{
    struct mdl_ze_flag *flag, *before;
    struct event *e = event;
    struct list list;

    (void)d;
    MDL_TRY(list_of(stream, &list));
    MDL_TRY(append_mark(&list, &flag));
    pthread_mutex_lock(&e->lock);
    before = e->flag;
    e->flag = flag;
    pthread_mutex_unlock(&e->lock);
    if (before) drop(before);
    return medleySuccess;
}

/* The flag of the last record, held; NULL: it was never recorded, which counts as passed. */
static struct mdl_ze_flag *hold_flag(struct event *e)
{
    struct mdl_ze_flag *flag;

    pthread_mutex_lock(&e->lock);
    flag = e->flag;
    if (flag) mdl_ze_flag_hold(flag);
    pthread_mutex_unlock(&e->lock);
    return flag;
}

static medleyResult_t event_query(const struct mdl_device *d, mdl_dev_event event)
{
    struct mdl_ze_flag *flag = hold_flag(event);
    medleyResult_t res = flag ? mdl_ze_flag_query(flag) : medleySuccess;

    (void)d;
    if (flag) drop(flag);
    return res;
}

static medleyResult_t stream_wait_event(const struct mdl_device *d, mdl_dev_stream stream, mdl_dev_event event)
{
    struct mdl_ze_flag *flag = hold_flag(event), *receipt;
    struct list list;
    medleyResult_t res;

    (void)d;
    if (!flag) return medleySuccess;
    res = list_of(stream, &list);
    if (res == medleySuccess) res = append_wait(&list, flag);
    if (res == medleySuccess) res = append_mark(&list, &receipt);
    if (res == medleySuccess) {
        mdl_ze_flag_keep(receipt, flag);
        drop(receipt);
    }
    drop(flag);
    return res;
}

/* ---- other processes, other devices ---- */

/* A handle names the whole allocation. */
static medleyResult_t ipc_export(const struct mdl_device *d, void *ptr, struct mdl_ipc *ipc)
{
    struct mdl_ze_device *dev;
    struct mdl_ze_ipc handle;
    struct mdl_pointer p;
    int fd;

    MDL_TRY(classify(d, ptr, &p));
    if (p.kind != MDL_POINTER_DEVICE || !p.base) return medleyInvalidUsage;
    MDL_TRY(mdl_ze_here(&dev));
    if (mdl_ze_call.MemGetIpcHandle(dev->driver->context, p.base, &handle) != 0) return medleyInvalidUsage;
    memcpy(&fd, handle.bytes, sizeof(fd));
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (mdl_ze_call.MemPutIpcHandle) (void)mdl_ze_call.MemPutIpcHandle(dev->driver->context, handle);
    if (fd < 0) return medleyInvalidUsage; /* a driver whose handles are of another kind */
    *ipc = (struct mdl_ipc){.len = sizeof(handle), .offset = (uint64_t)((char *)ptr - (char *)p.base), .fd = fd};
    memcpy(ipc->bytes, &handle, sizeof(handle));
    return medleySuccess;
}

/* The descriptor stays its owner's. */
static medleyResult_t ipc_import(const struct mdl_device *d, const struct mdl_ipc *ipc, void **import, void **ptr)
{
    struct mdl_ze_device *dev;
    struct mdl_ze_ipc handle;
    void *base = NULL;

    if (ipc->len != sizeof(handle) || ipc->fd < 0)
        return mdl_error(medleyRemoteError,
                         "a memory handle of %s has %zu bytes%s, it should have %zu and a descriptor", d->vendor,
                         ipc->len, ipc->fd < 0 ? " and no descriptor" : "", sizeof(handle));
    MDL_TRY(mdl_ze_here(&dev));
    memcpy(&handle, ipc->bytes, sizeof(handle));
    memcpy(handle.bytes, &ipc->fd, sizeof(ipc->fd));
    MDL_ZE_TRY(MemOpenIpcHandle, dev->driver->context, dev->handle, handle, 0, &base);
    *import = base;
    *ptr = (char *)base + ipc->offset;
    return medleySuccess;
}

static medleyResult_t ipc_close(const struct mdl_device *d, void *import)
{
    struct mdl_ze_device *dev;

    (void)d;
    MDL_TRY(mdl_ze_here(&dev));
    MDL_ZE_TRY(MemCloseIpcHandle, dev->driver->context, import);
    return medleySuccess;
}

/* Of the whole allocation. */
static medleyResult_t dmabuf_export(const struct mdl_device *d, void *ptr, size_t len, int *fd, uint64_t *offset)
{
    struct mdl_ze_fd wanted = {.stype = MDL_ZE_EXPORT_FD, .flags = DMABUF, .fd = -1};
    struct mdl_ze_memory memory = {.stype = MDL_ZE_MEMORY_PROPERTIES, .next = &wanted};
    struct mdl_ze_device *dev;
    void *base = NULL;
    size_t whole = 0;

    (void)d;
    MDL_TRY(mdl_ze_here(&dev));
    MDL_ZE_TRY(MemGetAddressRange, dev->driver->context, ptr, &base, &whole);
    if ((uint64_t)((char *)ptr - (char *)base) + len > whole)
        return mdl_error(medleyInvalidArgument, "%p and %zu bytes are not one allocation", ptr, len);
    MDL_ZE_TRY(MemGetAllocProperties, dev->driver->context, base, &memory, NULL);
    if (wanted.fd < 0) return mdl_error(medleyInvalidUsage, "the driver exports no dma-buf of %p", ptr);
    *fd = wanted.fd;
    *offset = (uint64_t)((char *)ptr - (char *)base);
    return medleySuccess;
}

/* ---- the adapter ---- */

static pid_t owner; /* the process that has bound the library; its children may not call it */

/* The default streams go too, but for those that are still at work. */
static void stop(void)
{
    struct mdl_ze_device *dev;

    mdl_follow_stop(&follower);
    for (int i = 0; getpid() == owner && (dev = mdl_ze_device(i)); i++) {
        const struct list list = {.handle = dev->list, .dev = dev, .ours = true};
        if (dev->list && await(&list, EXIT_NS) == medleySuccess) (void)mdl_ze_call.CommandListDestroy(dev->list);
    }
}

static void plan_stop(void)
{
    owner = getpid();
    (void)atexit(stop);
}

/* After the drivers have registered what they do at exit, and so called before. */
static medleyResult_t probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    MDL_TRY(mdl_ze_probe(d, where, found, found_bytes, why, why_bytes));
    pthread_once(&once, plan_stop);
    return medleySuccess;
}

static const struct mdl_native native =
    MDL_CCL_NOT_SUPPORTED("oneccl", "the streams of Intel's oneCCL are SYCL queues, which Level Zero's lists are not");

const struct mdl_device mdl_device_ze = {
    .abi = MDL_PLUGIN_ABI,
    .size = sizeof(struct mdl_device),
    .vendor = "ze",
    .title = "Intel Level Zero",
    .proof = NULL,
    .probe = probe,
    .caps = mdl_ze_caps,
    .count = mdl_ze_count,
    .info = mdl_ze_info,
    .enter = mdl_ze_enter,
    .current = mdl_ze_current,
    .alloc = allocate,
    .free = release,
    .alloc_pinned = alloc_pinned,
    .free_pinned = release,
    .pin = pin,
    .unpin = unpin,
    .classify = classify,
    .copy = copy,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_sync = stream_sync,
    .stream_query = stream_query,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_query = event_query,
    .native = &native,
    .stream_wait_event = stream_wait_event,
    .alloc_words = alloc_words,
    .free_words = free_words,
    .stream_write = stream_write,
    .stream_wait = stream_wait,
    .stream_host_func = stream_host_func,
    .ipc_export = ipc_export,
    .ipc_import = ipc_import,
    .ipc_close = ipc_close,
    .dmabuf_export = dmabuf_export,
};
