/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated Cambricon runtime as an independent user meets it. */
#include "config.h"
#include "tests/emul/frame.h"
#include <stdint.h>
#include <string.h>
#include <unistd.h>

static struct {
    int (*cnrtGetDeviceCount)(unsigned *), (*cnrtSetDevice)(int), (*cnrtGetDevice)(int *), (*cnrtGetLastError)(void);
    int (*cnrtMalloc)(void **, size_t), (*cnrtFree)(void *), (*cnrtHostMalloc)(void **, size_t),
        (*cnrtFreeHost)(void *);
    int (*cnrtMemcpy)(void *, void *, size_t, int), (*cnrtMemcpyAsync_V3)(void *, void *, size_t, void *, int);
    int (*cnrtQueueCreate)(void **), (*cnrtQueueDestroy)(void *), (*cnrtQueueSync)(void *), (*cnrtQueueQuery)(void *);
    int (*cnrtNotifierCreate)(void **), (*cnrtNotifierDestroy)(void *), (*cnrtPlaceNotifier)(void *, void *);
    int (*cnrtQueryNotifier)(void *), (*cnrtWaitNotifier)(void *), (*cnrtQueueWaitNotifier)(void *, void *, unsigned);
    int (*cnrtInvokeHostFunc)(void *, void (*)(void *), void *), (*cnrtPointerGetAttributes)(void *, const void *);
    int (*cnrtAcquireMemHandle)(void **, void *), (*cnrtMapMemHandle)(void **, void *, int),
        (*cnrtUnMapMemHandle)(void *);
    int (*cnrtGetPeerAccessibility)(unsigned *, int, int);
    int (*cnMemGetHandleForAddressRange)(void *, uint64_t, size_t, int, uint64_t);
} cn;

static void load(void)
{
    void *object = frame_open("cnrt/libcnrt.so"), *driver = frame_open("cnrt/libcndrv.so");
#define LOAD(name) *(void **)&cn.name = frame_find(object, #name)
    LOAD(cnrtGetDeviceCount), LOAD(cnrtSetDevice), LOAD(cnrtGetDevice), LOAD(cnrtGetLastError), LOAD(cnrtMalloc),
        LOAD(cnrtFree);
    LOAD(cnrtHostMalloc), LOAD(cnrtFreeHost), LOAD(cnrtMemcpy), LOAD(cnrtMemcpyAsync_V3), LOAD(cnrtQueueCreate);
    LOAD(cnrtQueueDestroy), LOAD(cnrtQueueSync), LOAD(cnrtQueueQuery), LOAD(cnrtNotifierCreate),
        LOAD(cnrtNotifierDestroy);
    LOAD(cnrtPlaceNotifier), LOAD(cnrtQueryNotifier), LOAD(cnrtWaitNotifier), LOAD(cnrtQueueWaitNotifier);
    LOAD(cnrtInvokeHostFunc), LOAD(cnrtPointerGetAttributes), LOAD(cnrtAcquireMemHandle), LOAD(cnrtMapMemHandle);
    LOAD(cnrtUnMapMemHandle), LOAD(cnrtGetPeerAccessibility);
#undef LOAD
    *(void **)&cn.cnMemGetHandleForAddressRange = frame_find(driver, "cnMemGetHandleForAddressRange");
}

static void begin(void)
{
    load();
    CHECK_IS(cn.cnrtSetDevice(0), 0);
}

enum { H2D, D2D, D2H, H2H, PEER, INFER };

static void *device_alloc(size_t size)
{
    void *out;
    CHECK_IS(cn.cnrtMalloc(&out, size), 0);
    return out;
}

static void *host_alloc(size_t size)
{
    void *out;
    CHECK_IS(cn.cnrtHostMalloc(&out, size), 0);
    return out;
}

static void *queue_new(void)
{
    void *out;
    CHECK_IS(cn.cnrtQueueCreate(&out), 0);
    return out;
}

static void identity(void)
{
    unsigned count = 0, can = 0;
    begin();
    CHECK_IS(cn.cnrtGetDeviceCount(&count), 0);
    CHECK_IS(count, 2);
    CHECK_IS(cn.cnrtSetDevice(2), 100005);
    CHECK_IS(cn.cnrtGetPeerAccessibility(&can, 0, 1), 0);
    CHECK_IS(can, 1);
}

static void no_device(void)
{
    unsigned count;
    load();
    CHECK_IS(cn.cnrtGetDeviceCount(&count), 100004);
}

static void copies(void)
{
    char text[1000], back[1000] = {0};
    begin();
    memset(text, 'q', sizeof(text));
    char *a = device_alloc(1000), *b = device_alloc(1000), *pinned = host_alloc(1000);
    void *queue = queue_new();
    CHECK_IS(cn.cnrtMemcpy(a, text, 1000, H2D), 0);
    CHECK_IS(cn.cnrtMemcpy(b, a, 1000, D2D), 0);
    CHECK_IS(cn.cnrtMemcpyAsync_V3(pinned, b, 1000, queue, D2H), 0);
    CHECK_IS(cn.cnrtQueueSync(queue), 0);
    CHECK_IS(cn.cnrtMemcpy(back, pinned, 1000, H2H), 0);
    CHECK(memcmp(text, back, 1000) == 0);
    CHECK_IS(cn.cnrtMemcpy(back, a, 1000, INFER), 0);
    CHECK_IS(cn.cnrtQueueDestroy(queue), 0);
    CHECK_IS(cn.cnrtFree(a), 0);
    CHECK_IS(cn.cnrtFree(b), 0);
    CHECK_IS(cn.cnrtFreeHost(pinned), 0);
}

static void until_set(void *word)
{
    while (!__atomic_load_n((int *)word, __ATOMIC_ACQUIRE)) frame_nap(1);
}

static int not_ready;
static void notifiers(void)
{
    int word = 0;
    void *notifier;
    begin();
    void *one = queue_new(), *two = queue_new();
    CHECK_IS(cn.cnrtNotifierCreate(&notifier), 0);
    CHECK_IS(cn.cnrtInvokeHostFunc(one, until_set, &word), 0);
    CHECK_IS(cn.cnrtPlaceNotifier(notifier, one), 0);
    CHECK_IS(cn.cnrtQueueWaitNotifier(notifier, two, 0), 0);
    CHECK_IS(cn.cnrtQueueQuery(two), 1);
    CHECK_IS(cn.cnrtQueryNotifier(notifier), not_ready);
    CHECK_IS(cn.cnrtGetLastError(), not_ready);
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    CHECK_IS(cn.cnrtQueueSync(two), 0);
    CHECK_IS(cn.cnrtWaitNotifier(notifier), 0);
    CHECK_IS(cn.cnrtQueryNotifier(notifier), 0);
    CHECK_IS(cn.cnrtNotifierDestroy(notifier), 0);
    CHECK_IS(cn.cnrtQueueDestroy(one), 0);
    CHECK_IS(cn.cnrtQueueDestroy(two), 0);
}

static void not_ready_code(void)
{
    not_ready = 1;
    notifiers();
}

static void busy_code(void)
{
    not_ready = 632014;
    notifiers();
}

static void pointers(void)
{
    struct {
        int type, device;
        size_t size;
        void *device_pointer, *host_pointer;
        int cache;
        void *base;
    } out;
    begin();
    char *memory = device_alloc(777), *pinned = host_alloc(10);
    CHECK_IS(cn.cnrtPointerGetAttributes(&out, memory + 7), 0);
    CHECK(out.type == 2 && out.device == 0 && out.size == 777 && out.device_pointer == memory + 7 &&
          out.base == memory);
    CHECK_IS(cn.cnrtPointerGetAttributes(&out, pinned), 0);
    CHECK(out.type == 1 && out.host_pointer == pinned);
    CHECK_IS(cn.cnrtPointerGetAttributes(&out, &out), 0);
    CHECK_IS(out.type, 0);
    int fd;
    CHECK_IS(cn.cnMemGetHandleForAddressRange(&fd, (uintptr_t)memory, 4096, 0, 0), 100006);
    int code = cn.cnMemGetHandleForAddressRange(&fd, (uintptr_t)memory, 4096, 1, 0);
    CHECK(code == 0 || code == 100050);
}

static int to_child[2];

static void importer(void)
{
    void *handle, *memory;
    char value = 0;
    begin();
    CHECK_IS(read(to_child[0], &handle, sizeof(handle)), sizeof(handle));
    CHECK_IS(cn.cnrtMapMemHandle(&memory, handle, 0), 0);
    CHECK_IS(cn.cnrtMemcpy(&value, (char *)memory + 4000, 1, D2H), 0);
    CHECK_IS(value, 'w');
    CHECK_IS(cn.cnrtUnMapMemHandle(memory), 0);
}

static void ipc(void)
{
    void *handle;
    char byte = 'w';
    CHECK(pipe(to_child) == 0);
    int pid = frame_fork(importer);
    begin();
    char *memory = device_alloc(4096);
    CHECK_IS(cn.cnrtMemcpy(memory + 4000, &byte, 1, H2D), 0);
    CHECK_IS(cn.cnrtAcquireMemHandle(&handle, memory), 0);
    CHECK_IS(write(to_child[1], &handle, sizeof(handle)), sizeof(handle));
    frame_join(pid);
    void *own;
    CHECK(cn.cnrtMapMemHandle(&own, handle, 0) != 0);
    CHECK_IS(cn.cnrtFree(memory), 0);
}

static void acquire_once(void)
{
    void *handle;
    begin();
    char *memory = device_alloc(4096);
    CHECK_IS(cn.cnrtAcquireMemHandle(&handle, memory), 0);
    CHECK(cn.cnrtAcquireMemHandle(&handle, memory) != 0);
}

/* CUDA's numbers for directions are other ones here. */
static void cuda_kind(void)
{
    char text[64];
    begin();
    cn.cnrtMemcpy(device_alloc(64), text, 64, 1);
}

static void swapped_queue(void)
{
    void *notifier;
    begin();
    CHECK_IS(cn.cnrtNotifierCreate(&notifier), 0);
    cn.cnrtQueueWaitNotifier(queue_new(), notifier, 0);
}

static void interior_export(void)
{
    void *handle;
    begin();
    cn.cnrtAcquireMemHandle(&handle, (char *)device_alloc(4096) + 8);
}

static const struct frame_case cases[] = {
    PASSES("identity", identity, "EMUL_DEVICES=2"),
    PASSES("no device", no_device, "EMUL_DEVICES=0"),
    PASSES("copies", copies, "EMUL_LEAKS=2 EMUL_DELAY_US=200 EMUL_REQUIRE_ENTER=1"),
    PASSES("notifiers", not_ready_code, "EMUL_LEAKS=2"),
    PASSES("notifiers, busy", busy_code, "EMUL_FAULT=busy"),
    PASSES("pointers", pointers, NULL),
    PASSES("IPC", ipc, "EMUL_LEAKS=2"),
    PASSES("acquire once", acquire_once, "EMUL_FAULT=acquireonce"),
    DIES("CUDA's direction", cuda_kind, NULL, "was called device to device"),
    DIES("queue and notifier swapped", swapped_queue, NULL, "is no"),
    DIES("interior export", interior_export, NULL, "not the base"),
};

int main(void) { return frame_run("cnrt", cases, sizeof(cases) / sizeof(cases[0])) != 0; }
