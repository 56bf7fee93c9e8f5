/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated Ascend runtime as an independent user meets it. */
#include "config.h"
#include "tests/emul/frame.h"
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

static struct {
    int (*aclInit)(const char *), (*aclFinalize)(void);
    int (*aclrtGetDeviceCount)(uint32_t *), (*aclrtSetDevice)(int32_t), (*aclrtGetDevice)(int32_t *);
    int (*aclrtMalloc)(void **, size_t, int), (*aclrtFree)(void *), (*aclrtMallocHost)(void **, size_t),
        (*aclrtFreeHost)(void *);
    int (*aclrtMemcpy)(void *, size_t, const void *, size_t, int);
    int (*aclrtMemcpyAsync)(void *, size_t, const void *, size_t, int, void *);
    int (*aclrtMemset)(void *, size_t, int32_t, size_t);
    int (*aclrtCreateStream)(void **), (*aclrtDestroyStream)(void *), (*aclrtSynchronizeStream)(void *);
    int (*aclrtStreamQuery)(void *, int *);
    int (*aclrtCreateEventWithFlag)(void **, uint32_t), (*aclrtRecordEvent)(void *, void *),
        (*aclrtQueryEventStatus)(void *, int *);
    int (*aclrtQueryEventWaitStatus)(void *, int *), (*aclrtSynchronizeEvent)(void *), (*aclrtDestroyEvent)(void *);
    int (*aclrtStreamWaitEvent)(void *, void *), (*aclrtLaunchHostFunc)(void *, void (*)(void *), void *);
    int (*aclrtLaunchCallback)(void (*)(void *), void *, int, void *), (*aclrtProcessReport)(int32_t);
    int (*aclrtSubscribeReport)(uint64_t, void *), (*aclrtPointerGetAttributes)(const void *, void *);
    int (*aclrtIpcMemGetExportKey)(void *, size_t, char *, size_t, uint64_t),
        (*aclrtIpcMemImportByKey)(void **, const char *, uint64_t);
    int (*aclrtIpcMemClose)(const char *), (*aclrtIpcMemSetImportPid)(const char *, int32_t *, size_t);
    int (*aclrtDeviceGetBareTgid)(int32_t *), (*aclrtValueWait)(void *, uint64_t, uint32_t, void *);
    int (*aclrtDeviceGetPCIBusId)(int32_t, char *, int32_t);
    int (*aclrtHostRegister)(void *, uint64_t, int, void **), (*aclrtHostUnregister)(void *);
} acl;

static void load(void)
{
    void *object = frame_open("acl/libascendcl.so");
#define LOAD(name) *(void **)&acl.name = frame_find(object, #name)
    LOAD(aclInit), LOAD(aclFinalize), LOAD(aclrtGetDeviceCount), LOAD(aclrtSetDevice), LOAD(aclrtGetDevice);
    LOAD(aclrtMalloc), LOAD(aclrtFree), LOAD(aclrtMallocHost), LOAD(aclrtFreeHost), LOAD(aclrtMemcpy),
        LOAD(aclrtMemcpyAsync);
    LOAD(aclrtMemset), LOAD(aclrtCreateStream), LOAD(aclrtDestroyStream), LOAD(aclrtSynchronizeStream),
        LOAD(aclrtStreamQuery);
    LOAD(aclrtCreateEventWithFlag), LOAD(aclrtRecordEvent), LOAD(aclrtQueryEventStatus),
        LOAD(aclrtQueryEventWaitStatus);
    LOAD(aclrtSynchronizeEvent), LOAD(aclrtDestroyEvent), LOAD(aclrtStreamWaitEvent), LOAD(aclrtLaunchHostFunc);
    LOAD(aclrtLaunchCallback), LOAD(aclrtProcessReport), LOAD(aclrtSubscribeReport), LOAD(aclrtPointerGetAttributes);
    LOAD(aclrtIpcMemGetExportKey), LOAD(aclrtIpcMemImportByKey), LOAD(aclrtIpcMemClose), LOAD(aclrtIpcMemSetImportPid);
    LOAD(aclrtDeviceGetBareTgid), LOAD(aclrtValueWait), LOAD(aclrtDeviceGetPCIBusId), LOAD(aclrtHostRegister),
        LOAD(aclrtHostUnregister);
#undef LOAD
}

static void begin(void)
{
    load();
    CHECK_IS(acl.aclInit(NULL), 0);
    CHECK_IS(acl.aclrtSetDevice(0), 0);
}

static void *device_alloc(size_t size)
{
    void *out;
    CHECK_IS(acl.aclrtMalloc(&out, size, 0), 0);
    return out;
}

static void *host_alloc(size_t size)
{
    void *out;
    CHECK_IS(acl.aclrtMallocHost(&out, size), 0);
    return out;
}

static void *stream_new(void)
{
    void *out;
    CHECK_IS(acl.aclrtCreateStream(&out), 0);
    return out;
}

static void life(void)
{
    uint32_t count = 0;
    int32_t device = -1;
    void *memory;
    char id[16];
    load();
    CHECK_IS(acl.aclrtGetDeviceCount(&count), 100001);
    CHECK_IS(acl.aclInit(NULL), 0);
    CHECK_IS(acl.aclInit(NULL), 100002);
    CHECK_IS(acl.aclrtGetDeviceCount(&count), 0);
    CHECK_IS(count, 2);
    CHECK_IS(acl.aclrtGetDevice(&device), 107002);
    CHECK_IS(acl.aclrtMalloc(&memory, 16, 0), 107002); /* no device is current */
    CHECK_IS(acl.aclrtSetDevice(2), 107001);
    CHECK_IS(acl.aclrtSetDevice(1), 0);
    CHECK_IS(acl.aclrtGetDevice(&device), 0);
    CHECK_IS(device, 1);
    CHECK_IS(acl.aclrtDeviceGetPCIBusId(1, id, sizeof(id)), 0);
    CHECK_IS(acl.aclFinalize(), 0);
    CHECK_IS(acl.aclrtMalloc(&memory, 16, 0), 100001);
}

static void copies(void)
{
    char text[4096], back[4096];
    begin();
    memset(text, 'x', sizeof(text));
    char *a = device_alloc(4096), *b = device_alloc(4096);
    CHECK_IS(acl.aclrtMemcpy(a, 4096, text, 4096, 1), 0);
    CHECK_IS(acl.aclrtMemcpy(b + 8, 4088, a, 4000, 3), 0);
    CHECK_IS(acl.aclrtMemset(b + 8, 100, 'y', 10), 0);
    CHECK_IS(acl.aclrtMemcpy(back, sizeof(back), b + 8, 4000, 2), 0);
    CHECK(back[0] == 'y' && back[9] == 'y' && back[10] == 'x' && back[3999] == 'x');
    CHECK_IS(acl.aclrtFree(a), 0);
    CHECK_IS(acl.aclrtFree(b), 0);
}

static void until_set(void *word)
{
    while (!__atomic_load_n((int *)word, __ATOMIC_ACQUIRE)) frame_nap(1);
}

/* Two queries of one event say the same with opposite numbers. */
static void polarity(void)
{
    int word = 0, status = -1;
    void *event, *plain;
    begin();
    void *stream = stream_new(), *other = stream_new();
    CHECK_IS(acl.aclrtCreateEventWithFlag(&event, 1), 0);
    CHECK_IS(acl.aclrtCreateEventWithFlag(&plain, 8), 0);
    CHECK_IS(acl.aclrtLaunchHostFunc(stream, until_set, &word), 0);
    CHECK_IS(acl.aclrtRecordEvent(event, stream), 0);
    CHECK_IS(acl.aclrtStreamQuery(stream, &status), 0);
    CHECK_IS(status, 1);
    CHECK_IS(acl.aclrtQueryEventStatus(event, &status), 0);
    CHECK_IS(status, 0);
    CHECK_IS(acl.aclrtQueryEventWaitStatus(event, &status), 0);
    CHECK_IS(status, 1);
    CHECK_IS(acl.aclrtStreamWaitEvent(other, event), 0);
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    CHECK_IS(acl.aclrtSynchronizeStream(other), 0);
    CHECK_IS(acl.aclrtSynchronizeEvent(event), 0);
    CHECK_IS(acl.aclrtStreamQuery(stream, &status), 0);
    CHECK_IS(status, 0);
    CHECK_IS(acl.aclrtQueryEventStatus(event, &status), 0);
    CHECK_IS(status, 1);
    CHECK_IS(acl.aclrtQueryEventWaitStatus(event, &status), 0);
    CHECK_IS(status, 0);
    CHECK_IS(acl.aclrtDestroyEvent(event), 0);
    CHECK_IS(acl.aclrtDestroyEvent(plain), 0);
    CHECK_IS(acl.aclrtDestroyStream(stream), 0);
    CHECK_IS(acl.aclrtDestroyStream(other), 0);
}

static void pointers(void)
{
    struct {
        uint32_t device;
        int type;
        uint32_t rest[6];
    } out;
    begin();
    CHECK_IS(acl.aclrtSetDevice(1), 0);
    memset(&out, 0xee, sizeof(out));
    CHECK_IS(acl.aclrtPointerGetAttributes((char *)device_alloc(100) + 5, &out), 0);
    CHECK(out.device == 1 && out.type == 1 && out.rest[4] == 0 && out.rest[5] == 0xeeeeeeee);
    CHECK_IS(acl.aclrtPointerGetAttributes(host_alloc(10), &out), 0);
    CHECK_IS(out.type, 0);
    CHECK_IS(acl.aclrtPointerGetAttributes(&out, &out), 0);
    CHECK_IS(out.type, 2);
}

static void registration(void)
{
    void *memory = malloc(100), *device;
    begin();
    CHECK_IS(acl.aclrtHostRegister(memory, 100, 0, &device), 0);
    CHECK(device == memory);
    CHECK_IS(acl.aclrtHostUnregister(memory), 0);
    free(memory);
}

static int served;
static void *server(void *unused)
{
    CHECK_IS(acl.aclrtSetDevice(0), 0);
    while (acl.aclrtProcessReport(2000) == 0 && __atomic_load_n(&served, __ATOMIC_ACQUIRE) < 2) {}
    return unused;
}
static void serve(void *counter) { __atomic_fetch_add((int *)counter, 1, __ATOMIC_ACQ_REL); }

/* The older host functions: a thread serves them. */
static void callbacks(void)
{
    pthread_t thread;
    begin();
    void *stream = stream_new();
    CHECK_IS(pthread_create(&thread, NULL, server, NULL), 0);
    CHECK_IS(acl.aclrtSubscribeReport((uint64_t)thread, stream), 0);
    CHECK_IS(acl.aclrtLaunchCallback(serve, &served, 1, stream), 0);
    CHECK_IS(acl.aclrtSynchronizeStream(stream), 0);
    CHECK_IS(__atomic_load_n(&served, __ATOMIC_ACQUIRE), 1);
    CHECK_IS(acl.aclrtLaunchCallback(serve, &served, 1, stream), 0);
    pthread_join(thread, NULL);
    CHECK_IS(__atomic_load_n(&served, __ATOMIC_ACQUIRE), 2);
    CHECK(acl.aclrtProcessReport(1) != 0);
}

static void values(void)
{
    begin();
    void *stream = stream_new();
    uint64_t *word = host_alloc(8);
    int status;
    *word = 0;
    CHECK_IS(acl.aclrtValueWait(word, 3, 0, stream), 0);
    frame_nap(10);
    CHECK_IS(acl.aclrtStreamQuery(stream, &status), 0);
    CHECK_IS(status, 1);
    __atomic_store_n(word, 3, __ATOMIC_RELEASE);
    CHECK_IS(acl.aclrtSynchronizeStream(stream), 0);
}

static int to_child[2], to_parent[2];
static int32_t child_pid;

static void importer(void)
{
    char key[65], value = 0;
    int32_t pid;
    void *memory;
    begin();
    CHECK_IS(acl.aclrtDeviceGetBareTgid(&pid), 0);
    CHECK_IS(write(to_parent[1], &pid, sizeof(pid)), sizeof(pid));
    CHECK_IS(read(to_child[0], key, sizeof(key)), sizeof(key));
    CHECK(acl.aclrtIpcMemImportByKey(&memory, key, 1) != 0); /* not named yet */
    CHECK_IS(write(to_parent[1], "x", 1), 1);
    CHECK_IS(read(to_child[0], &value, 1), 1);
    CHECK_IS(acl.aclrtIpcMemImportByKey(&memory, key, 1), 0);
    CHECK_IS(acl.aclrtMemcpy(&value, 1, (char *)memory + 99, 1, 2), 0);
    CHECK_IS(value, 'v');
    CHECK_IS(acl.aclrtIpcMemClose(key), 0);
    CHECK_IS(read(to_child[0], key, sizeof(key)), sizeof(key)); /* the unrestricted one */
    CHECK_IS(acl.aclrtIpcMemImportByKey(&memory, key, 0), 0);
    CHECK_IS(acl.aclrtIpcMemClose(key), 0);
}

static void ipc(void)
{
    char key[65], byte = 'v';
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    int pid = frame_fork(importer);
    begin();
    char *memory = device_alloc(4096), *other = device_alloc(10);
    CHECK_IS(acl.aclrtMemcpy(memory + 99, 1, &byte, 1, 1), 0);
    CHECK_IS(acl.aclrtIpcMemGetExportKey(memory, 4096, key, sizeof(key), 0), 0);
    CHECK(strlen(key) == 64);
    CHECK_IS(read(to_parent[0], &child_pid, sizeof(child_pid)), sizeof(child_pid));
    CHECK_IS(write(to_child[1], key, sizeof(key)), sizeof(key));
    CHECK_IS(read(to_parent[0], &byte, 1), 1);
    CHECK_IS(acl.aclrtIpcMemSetImportPid(key, &child_pid, 1), 0);
    CHECK_IS(write(to_child[1], &byte, 1), 1);
    CHECK_IS(acl.aclrtIpcMemGetExportKey(other, 10, key, sizeof(key), 1), 0);
    CHECK_IS(write(to_child[1], key, sizeof(key)), sizeof(key));
    frame_join(pid);
    CHECK_IS(acl.aclrtIpcMemClose(key), 0);
    CHECK_IS(acl.aclrtFree(memory), 0);
    CHECK_IS(acl.aclrtFree(other), 0);
}

/* Misuse. */
static void swapped_room(void)
{
    char text[64];
    begin();
    acl.aclrtMemcpy(device_alloc(64), 16, text, 64, 1);
}

static void wrong_kind(void)
{
    char text[64];
    begin();
    acl.aclrtMemcpy(device_alloc(64), 64, text, 64, 2);
}

static void close_by_address(void)
{
    begin();
    acl.aclrtIpcMemClose("no key");
}

static void wait_without_sync(void)
{
    void *event;
    begin();
    CHECK_IS(acl.aclrtCreateEventWithFlag(&event, 8), 0);
    acl.aclrtStreamWaitEvent(stream_new(), event);
}

static void callback_nobody_serves(void)
{
    begin();
    acl.aclrtLaunchCallback(serve, &served, 1, stream_new());
}

static void *enters_nothing(void *unused)
{
    void *memory;
    acl.aclrtMalloc(&memory, 16, 0);
    return unused;
}

static void never_entered(void)
{
    pthread_t thread;
    begin();
    CHECK_IS(pthread_create(&thread, NULL, enters_nothing, NULL), 0);
    pthread_join(thread, NULL);
}

static void calls(void *unused)
{
    acl.aclrtFree(NULL);
    (void)unused;
}

static void call_in_host_function(void)
{
    begin();
    void *stream = stream_new();
    acl.aclrtLaunchHostFunc(stream, calls, NULL);
    acl.aclrtSynchronizeStream(stream);
}

static void out_of_memory(void)
{
    void *memory;
    begin();
    CHECK_IS(acl.aclrtMalloc(&memory, 16, 0), 207001);
}

static const struct frame_case cases[] = {
    PASSES("life", life, "EMUL_DEVICES=2"),
    PASSES("copies", copies, "EMUL_REQUIRE_ENTER=1 EMUL_LEAKS=2 EMUL_DELAY_US=200"),
    PASSES("polarity", polarity, "EMUL_LEAKS=2"),
    PASSES("pointers", pointers, "EMUL_DEVICES=2"),
    PASSES("registration", registration, "EMUL_LEAKS=2"),
    PASSES("callbacks", callbacks, NULL),
    PASSES("values", values, NULL),
    PASSES("IPC", ipc, "EMUL_LEAKS=2"),
    PASSES("out of memory", out_of_memory, "EMUL_FAULT=oom@1"),
    DIES("swapped room", swapped_room, NULL, "into room for 16"),
    DIES("wrong kind", wrong_kind, NULL, "was called device to host"),
    DIES("close by address", close_by_address, NULL, "is no key"),
    DIES("wait without sync", wait_without_sync, NULL, "without the sync flag"),
    DIES("callback nobody serves", callback_nobody_serves, NULL, "nobody has subscribed"),
    DIES("never entered", never_entered, "EMUL_REQUIRE_ENTER=1", "entered no device"),
    DIES("call in a host function", call_in_host_function, NULL, "inside a host function"),
};

int main(void) { return frame_run("acl", cases, sizeof(cases) / sizeof(cases[0])) != 0; }
