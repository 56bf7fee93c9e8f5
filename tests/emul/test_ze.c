/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated Level Zero as an independent user meets it: the newer and the older loader. */
#include "config.h"
#include "tests/emul/frame.h"
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct ipc_bytes {
    char bytes[64];
};
static struct {
    uint32_t (*zeInit)(uint32_t), (*zeDriverGet)(uint32_t *, void **), (*zeDeviceGet)(void *, uint32_t *, void **);
    uint32_t (*zeDeviceGetProperties)(void *, void *), (*zeDevicePciGetPropertiesExt)(void *, void *);
    uint32_t (*zeContextCreate)(void *, const void *, void **), (*zeContextDestroy)(void *);
    uint32_t (*zeMemAllocDevice)(void *, const void *, size_t, size_t, void *, void **);
    uint32_t (*zeMemAllocHost)(void *, const void *, size_t, size_t, void **), (*zeMemFree)(void *, void *);
    uint32_t (*zeMemGetAllocProperties)(void *, const void *, void *, void **);
    uint32_t (*zeMemGetAddressRange)(void *, const void *, void **, size_t *);
    uint32_t (*zeCommandListCreateImmediate)(void *, void *, const void *, void **), (*zeCommandListDestroy)(void *);
    uint32_t (*zeCommandListAppendMemoryCopy)(void *, void *, const void *, size_t, void *, uint32_t, void **);
    uint32_t (*zeCommandListAppendMemoryFill)(void *, void *, const void *, size_t, size_t, void *, uint32_t, void **);
    uint32_t (*zeCommandListAppendSignalEvent)(void *, void *),
        (*zeCommandListAppendWaitOnEvents)(void *, uint32_t, void **);
    uint32_t (*zeEventPoolCreate)(void *, const void *, uint32_t, void **, void **), (*zeEventPoolDestroy)(void *);
    uint32_t (*zeEventCreate)(void *, const void *, void **), (*zeEventDestroy)(void *), (*zeEventQueryStatus)(void *);
    uint32_t (*zeEventHostSynchronize)(void *, uint64_t), (*zeEventHostSignal)(void *), (*zeEventHostReset)(void *);
    uint32_t (*zeMemGetIpcHandle)(void *, const void *, struct ipc_bytes *),
        (*zeMemPutIpcHandle)(void *, struct ipc_bytes);
    uint32_t (*zeMemOpenIpcHandle)(void *, void *, struct ipc_bytes, uint32_t, void **),
        (*zeMemCloseIpcHandle)(void *, void *);
    uint32_t (*zeDriverGetExtensionFunctionAddress)(void *, const char *, void **);
    uint32_t (*zeCommandListHostSynchronize)(void *, uint64_t); /* new */
    uint32_t (*zeCommandListAppendHostFunction)(void *, void (*)(void *), void *, void *, void *, uint32_t,
                                                void **); /* new */
} ze;

static const char *chosen;
static void *driver, *device, *context;

static void load(void)
{
    void *object = frame_open(chosen);
#define LOAD(name) *(void **)&ze.name = frame_find(object, #name)
    LOAD(zeInit), LOAD(zeDriverGet), LOAD(zeDeviceGet), LOAD(zeDeviceGetProperties), LOAD(zeDevicePciGetPropertiesExt);
    LOAD(zeContextCreate), LOAD(zeContextDestroy), LOAD(zeMemAllocDevice), LOAD(zeMemAllocHost), LOAD(zeMemFree);
    LOAD(zeMemGetAllocProperties), LOAD(zeMemGetAddressRange), LOAD(zeCommandListCreateImmediate),
        LOAD(zeCommandListDestroy);
    LOAD(zeCommandListAppendMemoryCopy), LOAD(zeCommandListAppendMemoryFill), LOAD(zeCommandListAppendSignalEvent);
    LOAD(zeCommandListAppendWaitOnEvents), LOAD(zeEventPoolCreate), LOAD(zeEventPoolDestroy), LOAD(zeEventCreate);
    LOAD(zeEventDestroy), LOAD(zeEventQueryStatus), LOAD(zeEventHostSynchronize), LOAD(zeEventHostSignal),
        LOAD(zeEventHostReset);
    LOAD(zeMemGetIpcHandle), LOAD(zeMemPutIpcHandle), LOAD(zeMemOpenIpcHandle), LOAD(zeMemCloseIpcHandle);
    LOAD(zeDriverGetExtensionFunctionAddress);
#undef LOAD
    *(void **)&ze.zeCommandListHostSynchronize = frame_try(object, "zeCommandListHostSynchronize");
    *(void **)&ze.zeCommandListAppendHostFunction = frame_try(object, "zeCommandListAppendHostFunction");
    bool old = strstr(chosen, "old") != NULL;
    CHECK_IS(ze.zeCommandListHostSynchronize == NULL, old);
    CHECK_IS(ze.zeCommandListAppendHostFunction == NULL, old);
    CHECK_IS(frame_try(object, "zeInitDrivers") == NULL, old);
}

struct descriptor {
    uint32_t stype;
    const void *next;
    uint32_t a, b, c, d, e;
};

static void begin(void)
{
    uint32_t count = 0;
    struct descriptor plain = {.stype = 0xd};
    load();
    CHECK_IS(ze.zeDriverGet(&count, NULL), 0x78000001);
    CHECK_IS(ze.zeInit(0), 0);
    CHECK_IS(ze.zeDriverGet(&count, NULL), 0);
    CHECK_IS(count, 1);
    CHECK_IS(ze.zeDriverGet(&count, &driver), 0);
    count = 0;
    CHECK_IS(ze.zeDeviceGet(driver, &count, NULL), 0);
    CHECK(count >= 1);
    count = 1;
    CHECK_IS(ze.zeDeviceGet(driver, &count, &device), 0);
    CHECK_IS(ze.zeContextCreate(driver, &plain, &context), 0);
}

static void *device_alloc(size_t size)
{
    struct descriptor plain = {.stype = 0x15};
    void *out;
    CHECK_IS(ze.zeMemAllocDevice(context, &plain, size, 64, device, &out), 0);
    return out;
}

static void *host_alloc(size_t size)
{
    struct descriptor plain = {.stype = 0x16};
    void *out;
    CHECK_IS(ze.zeMemAllocHost(context, &plain, size, 64, &out), 0);
    return out;
}

static void *list_new(uint32_t mode)
{
    struct descriptor queue = {.stype = 0xe, .c = 2, .d = mode};
    void *out;
    CHECK_IS(ze.zeCommandListCreateImmediate(context, device, &queue, &out), 0);
    return out;
}

static void *event_new(void *pool, uint32_t index)
{
    struct descriptor event = {.stype = 0x11, .a = index};
    void *out;
    CHECK_IS(ze.zeEventCreate(pool, &event, &out), 0);
    return out;
}

static void *pool_new(uint32_t count)
{
    struct descriptor pool = {.stype = 0x10, .a = 1, .b = count};
    void *out;
    CHECK_IS(ze.zeEventPoolCreate(context, &pool, 1, &device, &out), 0);
    return out;
}

static void identity(void)
{
    struct {
        uint32_t stype;
        const void *next;
        uint32_t domain, bus, device, function, rest[8];
    } pci = {.stype = 0x10008};
    union {
        uint32_t stype;
        char bytes[1024];
    } props = {.stype = 3};
    begin();
    CHECK_IS(ze.zeDevicePciGetPropertiesExt(device, &pci), 0);
    CHECK(pci.domain != 0 && pci.bus == 0x10);
    CHECK_IS(ze.zeDeviceGetProperties(device, &props), 0);
}

static void no_driver(void)
{
    load();
    CHECK_IS(ze.zeInit(0), 0x78000001);
}

static void copies(void)
{
    char back[4096];
    uint32_t pattern = 0x01020304;
    begin();
    void *list = list_new(2), *pool = pool_new(2), *event = event_new(pool, 0), *gate = event_new(pool, 1);
    char *a = device_alloc(4096), *pinned = host_alloc(4096);
    CHECK_IS(ze.zeCommandListAppendWaitOnEvents(list, 1, &gate), 0);
    CHECK_IS(ze.zeCommandListAppendMemoryFill(list, a, &pattern, 4, 4096, NULL, 0, NULL), 0);
    CHECK_IS(ze.zeCommandListAppendMemoryCopy(list, pinned, a, 4096, event, 0, NULL), 0);
    CHECK_IS(ze.zeEventQueryStatus(event), 1);
    CHECK_IS(ze.zeEventHostSynchronize(event, 1000000), 1);
    CHECK_IS(ze.zeEventHostSignal(gate), 0);
    CHECK_IS(ze.zeEventHostSynchronize(event, UINT64_MAX), 0);
    CHECK(pinned[0] == 4 && pinned[3] == 1 && pinned[4095] == 1);
    CHECK_IS(ze.zeEventHostReset(event), 0);
    CHECK_IS(ze.zeEventQueryStatus(event), 1);
    CHECK_IS(ze.zeCommandListAppendSignalEvent(list, event), 0);
    CHECK_IS(ze.zeEventHostSynchronize(event, UINT64_MAX), 0);
    void *synchronous = list_new(1);
    CHECK_IS(ze.zeCommandListAppendMemoryCopy(synchronous, back, a, 4096, NULL, 0, NULL), 0);
    CHECK_IS(back[4], 4);
    CHECK_IS(ze.zeCommandListDestroy(list), 0);
    CHECK_IS(ze.zeCommandListDestroy(synchronous), 0);
    CHECK_IS(ze.zeEventDestroy(event), 0);
    CHECK_IS(ze.zeEventDestroy(gate), 0);
    CHECK_IS(ze.zeEventPoolDestroy(pool), 0);
    CHECK_IS(ze.zeMemFree(context, a), 0);
    CHECK_IS(ze.zeMemFree(context, pinned), 0);
    CHECK_IS(ze.zeContextDestroy(context), 0);
}

static void set(void *word) { __atomic_store_n((int *)word, 1, __ATOMIC_RELEASE); }

static void newer(void)
{
    int word = 0;
    begin();
    if (!ze.zeCommandListHostSynchronize) return;
    void *list = list_new(2);
    CHECK_IS(ze.zeCommandListAppendHostFunction(list, set, &word, NULL, NULL, 0, NULL), 0);
    CHECK_IS(ze.zeCommandListHostSynchronize(list, UINT64_MAX), 0);
    CHECK_IS(__atomic_load_n(&word, __ATOMIC_ACQUIRE), 1);
    void *pool = pool_new(1), *gate = event_new(pool, 0);
    CHECK_IS(ze.zeCommandListAppendWaitOnEvents(list, 1, &gate), 0);
    CHECK_IS(ze.zeCommandListHostSynchronize(list, 1000000), 1);
    CHECK_IS(ze.zeEventHostSignal(gate), 0);
    CHECK_IS(ze.zeCommandListHostSynchronize(list, UINT64_MAX), 0);
}

static void pointers(void)
{
    struct {
        uint32_t stype;
        void *next;
        uint32_t type;
        uint64_t id, page;
    } out = {.stype = 0x17};
    void *owner, *base, *address;
    size_t size;
    begin();
    char *memory = device_alloc(100), *pinned = host_alloc(100);
    CHECK_IS(ze.zeMemGetAllocProperties(context, memory + 50, &out, &owner), 0);
    CHECK(out.type == 2 && out.id != 0 && owner == device);
    CHECK_IS(ze.zeMemGetAllocProperties(context, pinned, &out, &owner), 0);
    CHECK_IS(out.type, 1);
    CHECK_IS(ze.zeMemGetAllocProperties(context, &out, &out, &owner), 0);
    CHECK_IS(out.type, 0);
    CHECK_IS(ze.zeMemGetAddressRange(context, memory + 50, &base, &size), 0);
    CHECK(base == memory && size == 100);
    uint32_t (*import)(void *, void *, size_t), (*drop)(void *, void *);
    CHECK_IS(ze.zeDriverGetExtensionFunctionAddress(driver, "zexDriverImportExternalPointer", (void **)&import), 0);
    CHECK_IS(ze.zeDriverGetExtensionFunctionAddress(driver, "zexDriverReleaseImportedPointer", (void **)&drop), 0);
    CHECK(ze.zeDriverGetExtensionFunctionAddress(driver, "nothing", &address) != 0);
    CHECK_IS(import(driver, &out, sizeof(out)), 0);
    CHECK_IS(drop(driver, &out), 0);
}

/* The descriptor in a handle travels beside it. */
static int wire[2];

static void send_fd(int fd, const struct ipc_bytes *bytes)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)bytes, sizeof(*bytes)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &fd, sizeof(fd));
    CHECK_IS(sendmsg(wire[0], &message, 0), sizeof(*bytes));
}

static int receive_fd(struct ipc_bytes *bytes)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {bytes, sizeof(*bytes)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    CHECK_IS(recvmsg(wire[1], &message, 0), sizeof(*bytes));
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

static bool travels;
static void importer(void)
{
    struct ipc_bytes handle;
    char value = 0;
    void *memory;
    begin();
    int fd = receive_fd(&handle);
    if (travels) memcpy(&handle, &fd, sizeof(fd));
    CHECK_IS(ze.zeMemOpenIpcHandle(context, device, handle, 0, &memory), 0);
    close(fd);
    void *list = list_new(1);
    CHECK_IS(ze.zeCommandListAppendMemoryCopy(list, &value, (char *)memory + 7, 1, NULL, 0, NULL), 0);
    CHECK_IS(value, 'z');
    CHECK_IS(ze.zeMemCloseIpcHandle(context, memory), 0);
    CHECK_IS(ze.zeCommandListDestroy(list), 0);
}

static void exchange(void)
{
    struct ipc_bytes handle;
    char byte = 'z';
    int fd;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, wire) == 0);
    int pid = frame_fork(importer);
    begin();
    char *memory = device_alloc(64);
    void *list = list_new(1);
    CHECK_IS(ze.zeCommandListAppendMemoryFill(list, memory, &byte, 1, 64, NULL, 0, NULL), 0);
    CHECK_IS(ze.zeMemGetIpcHandle(context, memory, &handle), 0);
    memcpy(&fd, &handle, sizeof(fd));
    send_fd(fd, &handle);
    frame_join(pid);
    CHECK_IS(ze.zeMemPutIpcHandle(context, handle), 0);
    CHECK_IS(ze.zeMemFree(context, memory), 0);
    CHECK_IS(ze.zeCommandListDestroy(list), 0);
}

static void ipc(void)
{
    travels = true;
    exchange();
}

static void ipc_bytes_alone(void)
{
    travels = false;
    exchange();
}

static void wrong_descriptor(void)
{
    struct descriptor plain = {.stype = 0x16};
    void *out;
    begin();
    ze.zeMemAllocDevice(context, &plain, 64, 64, device, &out);
}

static void swapped_handles(void)
{
    struct descriptor queue = {.stype = 0xe, .c = 2};
    void *out;
    begin();
    ze.zeCommandListCreateImmediate(device, context, &queue, &out);
}

static void swapped_sizes(void)
{
    uint32_t pattern = 0;
    begin();
    ze.zeCommandListAppendMemoryFill(list_new(2), device_alloc(4096), &pattern, 4096, 4, NULL, 0, NULL);
}

static void dead_list(void)
{
    begin();
    void *list = list_new(2);
    CHECK_IS(ze.zeCommandListDestroy(list), 0);
    ze.zeCommandListAppendSignalEvent(list, NULL);
}

static void host_touch(void)
{
    begin();
    *(volatile char *)device_alloc(64) = 1;
}

static const struct frame_case cases[] = {
    PASSES("identity", identity, NULL),
    PASSES("no driver", no_driver, "EMUL_DEVICES=-1"),
    PASSES("copies", copies, "EMUL_LEAKS=2 EMUL_DELAY_US=200"),
    PASSES("newer calls", newer, NULL),
    PASSES("pointers", pointers, NULL),
    PASSES("IPC", ipc, "EMUL_LEAKS=2"),
    DIES("IPC without the descriptor", ipc_bytes_alone, NULL, "is not the exporter's memory"),
    DIES("wrong descriptor", wrong_descriptor, NULL, "descriptor of type 0x16"),
    DIES("context and device swapped", swapped_handles, NULL, "is no CONTEXT"),
    DIES("sizes of a fill swapped", swapped_sizes, NULL, "a pattern of 4096 bytes"),
    DIES("destroyed list", dead_list, NULL, "a destroyed LIST"),
    DIES("host touch", host_touch, NULL, "the CPU touched"),
};

int main(void)
{
    int failed = 0;
    static const char *const objects[] = {"ze/libze_loader.so.1", "ze_old/libze_loader.so.1"};
    for (int i = 0; i < 2; i++) {
        chosen = objects[i];
        failed += frame_run(chosen, cases, sizeof(cases) / sizeof(cases[0]));
    }
    return failed != 0;
}
