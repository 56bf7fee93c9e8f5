/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every CUDA-shaped emulated runtime as an independent user meets it: what works, what its numbers are, and that each
 * misuse is caught.
 */
#include "config.h"
#include "tests/emul/runtimes.h"
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static const struct runtime *chosen;
static void load(void) { runtime_load(chosen); }

/* Loads, enters device 0. */
static void begin(void)
{
    load();
    CHECK_IS(rt.SetDevice(0), 0);
}

static void copies(void)
{
    begin();
    char text[4096], back[4096] = {0};
    for (size_t i = 0; i < sizeof(text); i++) text[i] = (char)(i * 7);
    char *a = device_alloc(sizeof(text)), *b = device_alloc(sizeof(text));
    CHECK_IS(rt.Memcpy(a, text, sizeof(text), which->kinds[H2D]), 0);
    CHECK_IS(rt.Memcpy(b + 100, a + 50, 1000, which->kinds[D2D]), 0); /* interior addresses */
    CHECK_IS(rt.Memcpy(back, b + 100, 1000, which->kinds[D2H]), 0);
    CHECK(memcmp(back, text + 50, 1000) == 0);
    CHECK_IS(rt.Memcpy(back, text, 10, which->kinds[H2H]), 0);
    CHECK_IS(rt.Memcpy(back, a, sizeof(back), which->kinds[INFER]), 0);
    CHECK(memcmp(back, text, sizeof(text)) == 0);
    CHECK_IS(rt.Memcpy(a + sizeof(text) - 1, text, 1, which->kinds[H2D]), 0); /* the last byte */
    if (which->memset) {
        int (*set)(void *, int, size_t);
        *(void **)&set = runtime_symbol("Memset");
        CHECK_IS(set(a + 1, 0x5a, 9), 0);
        CHECK_IS(rt.Memcpy(back, a, 16, which->kinds[D2H]), 0);
        CHECK(back[1] == 0x5a && back[9] == 0x5a && back[10] == text[10]);
    } else {
        CHECK(runtime_symbol("Memset") == NULL);
    }
    CHECK_IS(rt.Free(a), 0);
    CHECK_IS(rt.Free(b), 0);
    CHECK_IS(rt.Free(NULL), 0);
}

static void identity(void)
{
    int count = 0, device = -1, version = 0, can = 0;
    char first[32], second[32];
    begin();
    CHECK_IS(rt.GetDeviceCount(&count), 0);
    CHECK_IS(count, 2);
    CHECK_IS(rt.SetDevice(1), 0);
    CHECK_IS(rt.GetDevice(&device), 0);
    CHECK_IS(device, 1);
    CHECK(rt.SetDevice(2) != 0);
    CHECK(rt.GetLastError() != 0);
    CHECK_IS(rt.GetLastError(), 0);
    CHECK_IS(rt.RuntimeGetVersion(&version), 0);
    CHECK_IS(version, which->version);
    CHECK_IS(rt.DeviceGetPCIBusId(first, sizeof(first), 0), 0);
    CHECK_IS(rt.DeviceGetPCIBusId(second, sizeof(second), 1), 0);
    CHECK(strlen(first) == 12 && strcmp(first, second) != 0);
    CHECK_IS(rt.DeviceCanAccessPeer(&can, 0, 1), 0);
    CHECK_IS(can, 1);
    CHECK_IS(rt.DeviceEnablePeerAccess(0, 0), 0);
    CHECK_IS(rt.DeviceEnablePeerAccess(0, 0), 704);
    if (which->absent) CHECK(runtime_symbol(which->absent) == NULL);
}

static void no_driver(void)
{
    int count = 77;
    load();
    void *memory;
    if (which->no_device_is_100) {
        CHECK_IS(rt.GetDeviceCount(&count), 100);
        CHECK_IS(count, 0);
        CHECK_IS(rt.Malloc(&memory, 16), 101);
        CHECK_IS(rt.PointerGetAttributes(&memory, &count), 101);
        return;
    }
    CHECK_IS(rt.GetDeviceCount(&count), 35);
    CHECK_IS(count, 77);
    CHECK_IS(rt.Malloc(&memory, 16), 35);
}

static void no_device(void)
{
    int count = 77;
    load();
    CHECK_IS(rt.GetDeviceCount(&count), 100);
    CHECK_IS(count, 0);
}

static void pointers(void)
{
    unsigned char out[128];
    int type, device;
    void *address;
    begin();
    CHECK_IS(rt.SetDevice(1), 0);
    char *memory = device_alloc(1000), *pinned = host_alloc(1000);
    memset(out, 0xee, sizeof(out));
    CHECK_IS(rt.PointerGetAttributes(out, memory + 10), 0);
    memcpy(&type, out, sizeof(type));
    memcpy(&device, out + 4, sizeof(device));
    memcpy(&address, out + 8, sizeof(address));
    CHECK_IS(type, which->type_device);
    CHECK_IS(device, 1);
    CHECK(address == memory + 10);
    CHECK(out[which->pointer_bytes - 1] != 0xee);
    CHECK_IS(out[which->pointer_bytes], 0xee);
    CHECK_IS(rt.PointerGetAttributes(out, pinned + 10), 0);
    memcpy(&type, out, sizeof(type));
    CHECK_IS(type, which->type_host);
    if (which->type_unknown < 0) {
        CHECK(rt.PointerGetAttributes(out, &type) != 0);
        CHECK(rt.GetLastError() != 0);
    } else {
        CHECK_IS(rt.PointerGetAttributes(out, &device), 0);
        memcpy(&type, out, sizeof(type));
        CHECK_IS(type, which->type_unknown);
    }
    CHECK_IS(rt.Free(memory), 0);
    CHECK_IS(host_free(pinned), 0);
}

static void registration(void)
{
    begin();
    void *memory = malloc(10000), *address;
    CHECK(rt.HostGetDevicePointer(&address, memory, 0) != 0);
    CHECK_IS(rt.HostRegister(memory, 10000, 1), 0);
    CHECK(rt.HostRegister(memory, 100, 1) != 0);
    CHECK_IS(rt.HostGetDevicePointer(&address, memory, 0), 0);
    CHECK(address == memory);
    CHECK_IS(rt.HostUnregister(memory), 0);
    CHECK(rt.HostUnregister(memory) != 0);
    free(memory);
}

/* A stream of delayed copies is in order, and events carry the order over to another. */
static void ordering(void)
{
    enum { COUNT = 50 };
    begin();
    void *one = stream_new(true), *two = stream_new(true), *event;
    int *source = host_alloc(COUNT * sizeof(int)), *target = host_alloc(sizeof(int));
    int *memory = device_alloc(sizeof(int));
    CHECK_IS(event_create(&event), 0);
    CHECK_IS(rt.EventQuery(event), 0); /* never recorded: complete */
    for (int i = 0; i < COUNT; i++) {
        source[i] = i;
        CHECK_IS(copy_async(memory, &source[i], sizeof(int), H2D, one), 0);
    }
    CHECK_IS(rt.EventRecord(event, one), 0);
    CHECK_IS(stream_wait(two, event), 0);
    CHECK_IS(copy_async(target, memory, sizeof(int), D2H, two), 0);
    CHECK_IS(rt.StreamSynchronize(two), 0);
    CHECK_IS(*target, COUNT - 1);
    CHECK_IS(rt.EventSynchronize(event), 0);
    CHECK_IS(rt.EventQuery(event), 0);
    CHECK_IS(rt.StreamQuery(one), 0);
    CHECK_IS(rt.EventDestroy(event), 0);
    CHECK_IS(rt.StreamDestroy(one), 0);
    CHECK_IS(rt.StreamDestroy(two), 0);
    CHECK_IS(rt.Free(memory), 0);
    CHECK_IS(host_free(source), 0);
    CHECK_IS(host_free(target), 0);
}

/* What is not ready says 600, here as the vendor's last error too. */
static void queries(void)
{
    int word;
    void *event;
    begin();
    void *stream = stream_new(true);
    CHECK_IS(event_create(&event), 0);
    hold(stream, &word);
    CHECK_IS(rt.EventRecord(event, stream), 0);
    int not_ready = rt.StreamQuery(stream);
    CHECK(not_ready != 0);
    CHECK_IS(rt.EventQuery(event), not_ready);
    CHECK_IS(rt.GetLastError(), not_ready);
    if (which->prefix[0] == 'c' || which->prefix[0] == 'h') CHECK_IS(not_ready, 600);
    release(&word);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(rt.StreamQuery(stream), 0);
    CHECK_IS(rt.EventQuery(event), 0);
    CHECK_IS(rt.StreamDestroy(stream), 0);
    CHECK_IS(rt.EventDestroy(event), 0);
}

/* The NULL stream waits for blocking streams and they for it; non-blocking ones are apart. */
static void null_stream(void)
{
    int word;
    begin();
    void *blocking = stream_new(false), *apart = stream_new(true);
    char *memory = device_alloc(64), *pinned = host_alloc(64);
    hold(blocking, &word);
    CHECK_IS(copy_async(memory, pinned, 64, H2D, NULL), 0);
    CHECK_IS(copy_async(memory, pinned, 64, H2D, apart), 0);
    CHECK_IS(rt.StreamSynchronize(apart), 0);
    frame_nap(20);
    CHECK(rt.StreamQuery(NULL) != 0);
    release(&word);
    CHECK_IS(rt.StreamSynchronize(NULL), 0);
    hold(NULL, &word);
    CHECK_IS(copy_async(memory, pinned, 64, H2D, blocking), 0);
    frame_nap(20);
    CHECK(rt.StreamQuery(blocking) != 0);
    CHECK_IS(rt.StreamQuery(apart), 0);
    release(&word);
    CHECK_IS(rt.StreamSynchronize(blocking), 0);
    CHECK_IS(rt.DeviceSynchronize(), 0);
    CHECK_IS(rt.Free(memory), 0);
    CHECK_IS(host_free(pinned), 0);
}

/* Five streams on four queues: two of them share one. */
static void shared_queues(void)
{
    enum { STREAMS = 5 };
    int word, stuck = 0;
    void *streams[STREAMS];
    begin();
    char *memory = device_alloc(64 * STREAMS), *pinned = host_alloc(64);
    for (int i = 0; i < STREAMS; i++) streams[i] = stream_new(true);
    hold(streams[0], &word);
    for (int i = 1; i < STREAMS; i++) CHECK_IS(copy_async(memory + 64 * i, pinned, 64, H2D, streams[i]), 0);
    for (int turn = 0; turn < 1000 && stuck != 1; turn++) {
        stuck = 0;
        frame_nap(10);
        for (int i = 1; i < STREAMS; i++) stuck += rt.StreamQuery(streams[i]) != 0;
    }
    frame_nap(30);
    for (int i = 1; i < STREAMS; i++) stuck += rt.StreamQuery(streams[i]) != 0;
    CHECK_IS(stuck, 2); /* the same one twice */
    release(&word);
    for (int i = 0; i < STREAMS; i++) CHECK_IS(rt.StreamSynchronize(streams[i]), 0);
}

/* One thread runs the host functions of all streams. */
static void host_functions_serialise(void)
{
    int first, second;
    begin();
    void *one = stream_new(true), *two = stream_new(true);
    hold_at_once(one, &first);
    hold(two, &second);
    release(&second);
    frame_nap(30);
    CHECK(rt.StreamQuery(one) != 0 && rt.StreamQuery(two) != 0);
    release(&first);
    CHECK_IS(rt.StreamSynchronize(two), 0);
}

static int allocated;
static void *allocate(void *unused)
{
    CHECK_IS(rt.SetDevice(0), 0);
    void *memory = device_alloc(64);
    __atomic_store_n(&allocated, 1, __ATOMIC_RELEASE);
    CHECK_IS(rt.Free(memory), 0);
    return unused;
}

/* An allocation waits for the device. */
static void allocation_synchronises(void)
{
    int word;
    pthread_t thread;
    begin();
    void *stream = stream_new(true);
    hold(stream, &word);
    CHECK_IS(pthread_create(&thread, NULL, allocate, NULL), 0);
    frame_nap(50);
    CHECK_IS(__atomic_load_n(&allocated, __ATOMIC_ACQUIRE), 0);
    release(&word);
    pthread_join(thread, NULL);
    CHECK_IS(__atomic_load_n(&allocated, __ATOMIC_ACQUIRE), 1);
}

/* Two processes: the one exports, the other reads and writes. */
static int to_child[2], to_parent[2];

static void importer(void)
{
    struct ipc_bytes handle;
    void *memory, *again;
    int value = 0, answer = 4711;
    begin();
    CHECK_IS(read(to_child[0], &handle, sizeof(handle)), sizeof(handle));
    CHECK_IS(ipc_open(&memory, handle), 0);
    CHECK_IS(ipc_open(&again, handle), 0);
    CHECK(again == memory);
    CHECK_IS(rt.Memcpy(&value, (char *)memory + 100, sizeof(value), which->kinds[D2H]), 0);
    CHECK_IS(value, 1147);
    CHECK_IS(rt.Memcpy((char *)memory + 200, &answer, sizeof(answer), which->kinds[H2D]), 0);
    int (*done)(void *);
    *(void **)&done = runtime_symbol("IpcCloseMemHandle");
    CHECK_IS(done(memory), 0);
    CHECK_IS(done(memory), 0);
    CHECK_IS(write(to_parent[1], "x", 1), 1);
    /* The owner has freed it. */
    CHECK_IS(read(to_child[0], &value, 1), 1);
    CHECK(ipc_open(&memory, handle) != 0);
}

static void ipc(void)
{
    struct ipc_bytes handle;
    char byte;
    int value = 1147, pid;
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    pid = frame_fork(importer);
    begin();
    int (*get)(struct ipc_bytes *, void *);
    *(void **)&get = runtime_symbol("IpcGetMemHandle");
    CHECK(get != NULL);
    char *memory = device_alloc(5000), *self;
    CHECK_IS(rt.Memcpy(memory + 100, &value, sizeof(value), which->kinds[H2D]), 0);
    CHECK_IS(get(&handle, memory + 4000), 0);     /* means the whole allocation */
    CHECK(ipc_open((void **)&self, handle) != 0); /* not where it came from */
    CHECK(get(&handle, &value) != 0);
    CHECK_IS(get(&handle, memory), 0);
    if (which->pool) {
        int (*pool)(void **, size_t, void *);
        struct ipc_bytes other;
        void *unshared;
        *(void **)&pool = runtime_symbol("MallocAsync");
        CHECK_IS(pool(&unshared, 64, NULL), 0);
        CHECK(get(&other, unshared) != 0);
    }
    CHECK_IS(write(to_child[1], &handle, sizeof(handle)), sizeof(handle));
    CHECK_IS(read(to_parent[0], &byte, 1), 1);
    CHECK_IS(rt.Memcpy(&value, memory + 200, sizeof(value), which->kinds[D2H]), 0);
    CHECK_IS(value, 4711);
    CHECK_IS(rt.Free(memory), 0);
    CHECK_IS(write(to_child[1], "x", 1), 1);
    frame_join(pid);
}

static void capture(void)
{
    int status = -1;
    void *graph = NULL;
    begin();
    if (!which->capture) {
        CHECK(runtime_symbol("StreamBeginCapture") == NULL);
        return;
    }
    int (*start)(void *, int), (*end)(void *, void **), (*is)(void *, int *);
    *(void **)&start = runtime_symbol("StreamBeginCapture");
    *(void **)&end = runtime_symbol("StreamEndCapture");
    *(void **)&is = runtime_symbol("StreamIsCapturing");
    void *stream = stream_new(true), *memory;
    int *pinned = host_alloc(sizeof(int)), *cell = device_alloc(sizeof(int));
    CHECK_IS(is(stream, &status), 0);
    CHECK_IS(status, 0);
    CHECK_IS(start(stream, 0), 0);
    CHECK_IS(is(stream, &status), 0);
    CHECK_IS(status, 1);
    *pinned = 5;
    CHECK_IS(copy_async(cell, pinned, sizeof(int), H2D, stream), 0);
    CHECK_IS(end(stream, &graph), 0);
    int (*instantiate)(void **, void *, unsigned long long), (*launch)(void *, void *);
    void *exec;
    *(void **)&instantiate = runtime_symbol("GraphInstantiateWithFlags");
    *(void **)&launch = runtime_symbol("GraphLaunch");
    CHECK_IS(instantiate(&exec, graph, 0), 0);
    *pinned = 6;
    CHECK_IS(launch(exec, stream), 0);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(rt.Memcpy(pinned, cell, sizeof(int), which->kinds[D2H]), 0);
    CHECK_IS(*pinned, 6);
    /* What is illegal kills it. CUDA counts the query of any event to that. */
    void *event;
    CHECK_IS(event_create(&event), 0);
    CHECK_IS(start(stream, 0), 0);
    CHECK_IS(rt.EventQuery(event), strcmp(which->prefix, "cuda") == 0 && !which->layer ? 900 : 0);
    CHECK_IS(end(stream, &graph), strcmp(which->prefix, "cuda") == 0 && !which->layer ? 901 : 0);
    CHECK_IS(start(stream, 0), 0);
    CHECK_IS(rt.Malloc(&memory, 64), 900);
    CHECK_IS(is(stream, &status), 0);
    CHECK_IS(status, 2);
    CHECK_IS(end(stream, &graph), 901);
    CHECK_IS(start(stream, 2), 0); /* relaxed */
    CHECK_IS(rt.Malloc(&memory, 64), 0);
    CHECK(rt.StreamSynchronize(stream) != 0);
    CHECK(end(stream, &graph) != 0);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
}

static void driver_memory_operations(void)
{
    begin();
    if (!which->wait_value) return;
    int (*writes)(void *, uint64_t, uint64_t, unsigned), (*waits)(void *, uint64_t, uint64_t, unsigned),
        (*old)(void *, uint64_t, uint64_t, unsigned);
    *(void **)&writes = frame_find(rt.driver, "cuStreamWriteValue64_v2");
    *(void **)&waits = frame_find(rt.driver, "cuStreamWaitValue64_v2");
    *(void **)&old = frame_find(rt.driver, "cuStreamWaitValue64");
    uint64_t *word = host_alloc(16);
    void *stream = stream_new(true);
    word[0] = word[1] = 0;
    CHECK_IS(old(stream, (uintptr_t)word, 1, 0), 801);
    CHECK_IS(waits(stream, (uintptr_t)word, 5, 0), 0);
    CHECK_IS(writes(stream, (uintptr_t)&word[1], 9, 0), 0);
    frame_nap(20);
    CHECK_IS(__atomic_load_n(&word[1], __ATOMIC_ACQUIRE), 0);
    CHECK_IS(rt.StreamQuery(stream), 600);
    __atomic_store_n(&word[0], 6, __ATOMIC_RELEASE);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(__atomic_load_n(&word[1], __ATOMIC_ACQUIRE), 9);
}

/* HIP's take a mask, and only memory made for it. */
static void hip_memory_operations(void)
{
    begin();
    int (*writes)(void *, void *, uint64_t, unsigned), (*waits)(void *, void *, uint64_t, unsigned, uint64_t);
    int (*make)(void **, size_t, unsigned);
    *(void **)&writes = runtime_symbol("StreamWriteValue64");
    *(void **)&waits = runtime_symbol("StreamWaitValue64");
    *(void **)&make = runtime_symbol("ExtMallocWithFlags");
    if (strcmp(which->prefix, "hip") != 0) {
        CHECK(!writes && !waits && !make);
        return;
    }
    uint64_t *word;
    void *stream = stream_new(true);
    CHECK_IS(make((void **)&word, 8, 2), 0);
    *word = 0x100;
    CHECK_IS(waits(stream, word, 5, 1, 0xff), 0); /* equal, of the low byte */
    frame_nap(20);
    CHECK_IS(rt.StreamQuery(stream), 600);
    __atomic_store_n(word, 0x305, __ATOMIC_RELEASE);
    CHECK_IS(writes(stream, word, 7, 0), 0);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(*word, 7);
    CHECK_IS(rt.Free(word), 0);
}

static void wait_on_ordinary_memory(void)
{
    begin();
    int (*waits)(void *, void *, uint64_t, unsigned, uint64_t);
    *(void **)&waits = runtime_symbol("StreamWaitValue64");
    waits(NULL, host_alloc(8), 1, 0, UINT64_MAX);
}

/* A copy between two cards fails instead of being staged. */
static void cross_card(void)
{
    begin();
    char *first = device_alloc(16);
    CHECK_IS(rt.SetDevice(1), 0);
    char *second = device_alloc(16);
    int code = rt.Memcpy(first, second, 16, which->kinds[D2D]);
    CHECK((code != 0) == (strcmp(which->name, "tops") == 0));
}

static void driver_pointers(void)
{
    begin();
    if (!which->driver || strcmp(which->driver_prefix, "cu") != 0) return;
    int (*get)(void *, int, uint64_t), (*range)(uint64_t *, size_t *, uint64_t),
        (*handle)(void *, uint64_t, size_t, int, unsigned long long);
    *(void **)&get = frame_find(rt.driver, "cuPointerGetAttribute");
    *(void **)&range = frame_find(rt.driver, "cuMemGetAddressRange_v2");
    *(void **)&handle = frame_find(rt.driver, "cuMemGetHandleForAddressRange");
    char *memory = device_alloc(5000);
    uint64_t address = (uintptr_t)memory, id = 0, other = 0, base;
    unsigned type = 0;
    size_t size;
    int fd = -1;
    CHECK_IS(get(&type, 2, address + 9), 0);
    CHECK_IS(type, 2);
    CHECK_IS(get(&id, 7, address + 9), 0);
    CHECK_IS(get(&other, 7, (uintptr_t)device_alloc(10)), 0);
    CHECK(id != 0 && id != other);
    CHECK_IS(get(&type, 2, (uintptr_t)&type), 1);
    CHECK_IS(range(&base, &size, address + 4999), 0);
    CHECK(base == address && size == 5000);
    CHECK_IS(handle(&fd, address + 1, 4096, 1, 0), 1);
    int code = handle(&fd, address, 4096, 1, 0);
    CHECK(code == 801 || (code == 0 && fd >= 0));
}

/* Misuse. */
static void wrong_kind(void)
{
    char text[16];
    begin();
    rt.Memcpy(device_alloc(16), text, 16, which->kinds[D2H]);
}

static void past_the_end(void)
{
    char text[32];
    begin();
    rt.Memcpy((char *)device_alloc(4096) + 4080, text, 32, which->kinds[H2D]);
}

static void two_allocations(void)
{
    static char text[65536];
    begin();
    char *a = device_alloc(4096), *b = device_alloc(4096), *low = a < b ? a : b;
    rt.Memcpy(low, text, (size_t)((a < b ? b : a) - low) + 16, which->kinds[H2D]);
}

static void after_free(void)
{
    char text[16];
    begin();
    char *memory = device_alloc(16);
    CHECK_IS(rt.Free(memory), 0);
    device_alloc(16);
    rt.Memcpy(memory, text, 16, which->kinds[H2D]);
}

static void double_free(void)
{
    begin();
    char *memory = device_alloc(16);
    CHECK_IS(rt.Free(memory), 0);
    rt.Free(memory);
}

static void interior_free(void)
{
    begin();
    rt.Free((char *)device_alloc(4096) + 16);
}

static void host_read(void)
{
    begin();
    volatile char *memory = device_alloc(4096);
    if (memory[128]) exit(0);
}

static void host_write(void)
{
    begin();
    volatile char *memory = device_alloc(4096);
    CHECK_IS(rt.Free((void *)memory), 0);
    memory[5] = 1;
}

static void free_of_host(void)
{
    begin();
    rt.Free(host_alloc(16));
}

static void calls_runtime(void *unused)
{
    int device;
    rt.GetDevice(&device);
    (void)unused;
}

static void call_in_host_function(void)
{
    begin();
    void *stream = stream_new(true);
    host_function(stream, calls_runtime, NULL);
    rt.StreamSynchronize(stream);
}

static void *without_device(void *unused)
{
    void *memory;
    rt.Malloc(&memory, 16);
    return unused;
}

static void never_entered(void)
{
    pthread_t thread;
    begin();
    CHECK_IS(pthread_create(&thread, NULL, without_device, NULL), 0);
    pthread_join(thread, NULL);
}

static void stream_of_other_device(void)
{
    begin();
    void *stream = stream_new(true), *event;
    CHECK_IS(rt.SetDevice(1), 0);
    CHECK_IS(event_create(&event), 0);
    rt.EventRecord(event, stream);
}

static void destroyed_stream(void)
{
    begin();
    void *stream = stream_new(true);
    CHECK_IS(rt.StreamDestroy(stream), 0);
    rt.StreamQuery(stream);
}

static void soft(void)
{
    char text[32];
    begin();
    CHECK(rt.Memcpy((char *)device_alloc(4096) + 4080, text, 32, which->kinds[H2D]) != 0);
    CHECK(rt.Memcpy(text, device_alloc(16), 16, which->kinds[H2D]) != 0);
}

/* Faults. */
static void out_of_memory(void)
{
    void *memory;
    begin();
    device_alloc(16);
    CHECK(rt.Malloc(&memory, 16) != 0);
    CHECK(rt.GetLastError() != 0);
    device_alloc(16);
}

static void too_much(void)
{
    void *memory;
    begin();
    device_alloc(600000);
    CHECK(rt.Malloc(&memory, 600000) != 0);
}

/* The second operation fails: nothing is seen at once, then everything fails for ever. */
static void asynchronous_error(void)
{
    begin();
    void *stream = stream_new(true), *memory = device_alloc(64), *pinned = host_alloc(64);
    CHECK_IS(copy_async(memory, pinned, 64, H2D, stream), 0);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(copy_async(memory, pinned, 64, H2D, stream), 0);
    CHECK(rt.StreamSynchronize(stream) != 0);
    CHECK(rt.StreamQuery(stream) != 0);
    CHECK(rt.Malloc(&memory, 64) != 0);
    CHECK(rt.GetLastError() != 0);
    CHECK(rt.StreamDestroy(stream) != 0);
    CHECK(rt.DeviceSynchronize() != 0);
}

static void never_ready(void)
{
    begin();
    void *stream = stream_new(true);
    for (int i = 0; i < 100; i++) CHECK(rt.StreamQuery(stream) != 0);
}

static void hang(void)
{
    begin();
    void *stream = stream_new(true), *memory = device_alloc(64), *pinned = host_alloc(64);
    CHECK_IS(copy_async(memory, pinned, 64, H2D, stream), 0);
    frame_nap(50);
    CHECK(rt.StreamQuery(stream) != 0);
    _exit(0);
}

static void missing_one(void)
{
    char fault[64];
    which = chosen;
    snprintf(fault, sizeof(fault), "missing=%sStreamQuery", which->prefix);
    setenv("EMUL_FAULT", fault, 1);
    rt.object = frame_open(which->object);
    CHECK(runtime_symbol("StreamQuery") == NULL);
    CHECK(runtime_symbol("StreamSynchronize") != NULL);
}

static void leaks(void)
{
    void *event;
    begin();
    device_alloc(1234);
    CHECK_IS(rt.HostRegister(malloc(77), 77, 1), 0);
    CHECK_IS(event_create(&event), 0);
    stream_new(true);
}

static void no_leaks(void)
{
    begin();
    CHECK_IS(rt.Free(device_alloc(1234)), 0);
    CHECK_IS(rt.StreamDestroy(stream_new(true)), 0);
}

static void child_uses_parents(void)
{
    int count;
    CHECK_IS(rt.GetDeviceCount(&count), 3);
}

static void forked(void)
{
    begin();
    if (which->prefix[0] == 'c') frame_join(frame_fork(child_uses_parents));
}

static const struct frame_case cases[] = {
    PASSES("copies", copies, NULL),
    PASSES("copies, all checks on", copies, "EMUL_REQUIRE_ENTER=1 EMUL_DELAY_US=300 EMUL_LEAKS=2"),
    PASSES("identity", identity, "EMUL_DEVICES=2"),
    PASSES("no driver", no_driver, "EMUL_DEVICES=-1"),
    PASSES("no device", no_device, "EMUL_DEVICES=0"),
    PASSES("pointers", pointers, "EMUL_DEVICES=2 EMUL_LEAKS=2"),
    PASSES("registration", registration, "EMUL_LEAKS=2"),
    PASSES("ordering", ordering, "EMUL_DELAY_US=500 EMUL_SEED=3 EMUL_LEAKS=2"),
    PASSES("ordering on one queue", ordering, "EMUL_QUEUES=1"),
    PASSES("queries", queries, "EMUL_LEAKS=2"),
    PASSES("NULL stream", null_stream, NULL),
    PASSES("shared queues", shared_queues, "EMUL_QUEUES=4"),
    PASSES("host functions serialise", host_functions_serialise, NULL),
    PASSES("allocation synchronises", allocation_synchronises, NULL),
    PASSES("capture", capture, NULL),
    PASSES("memory operations of the driver", driver_memory_operations, NULL),
    PASSES("memory operations of HIP", hip_memory_operations, NULL),
    PASSES("copies between cards", cross_card, "EMUL_DEVICES=2"),
    PASSES("pointers of the driver", driver_pointers, NULL),
    DIES("wrong kind", wrong_kind, NULL, "was called device to host"),
    DIES("past the end", past_the_end, NULL, "runs past the end"),
    DIES("two allocations", two_allocations, NULL, "runs past the end"),
    DIES("after free", after_free, NULL, "was freed by"),
    DIES("double free", double_free, NULL, "double free"),
    DIES("interior free", interior_free, NULL, "inside of the allocation"),
    DIES("free of host memory", free_of_host, NULL, "matching call"),
    DIES("host read", host_read, NULL, "byte 128 of 4096"),
    DIES("host write after free", host_write, NULL, "freed by"),
    DIES("call in a host function", call_in_host_function, NULL, "inside a host function"),
    DIES("never entered", never_entered, "EMUL_REQUIRE_ENTER=1", "entered no device"),
    PASSES("never entered, not asked", never_entered, NULL),
    DIES("stream of another device", stream_of_other_device, "EMUL_DEVICES=2", "is of device 0"),
    DIES("destroyed stream", destroyed_stream, NULL, "was destroyed"),
    PASSES("soft", soft, "EMUL_STRICT=0"),
    PASSES("out of memory", out_of_memory, "EMUL_FAULT=oom@2"),
    PASSES("too much", too_much, "EMUL_MEMORY=1000000"),
    PASSES("asynchronous error", asynchronous_error, "EMUL_FAULT=async@2 EMUL_LEAKS=2"),
    PASSES("never ready", never_ready, "EMUL_FAULT=notready"),
    PASSES("hang", hang, "EMUL_FAULT=hang@1"),
    PASSES("missing symbol", missing_one, NULL),
    {.name = "leaks", .run = leaks, .settings = "EMUL_LEAKS=2", .says = "LEAK", .status = 66},
    PASSES("no leaks", no_leaks, "EMUL_LEAKS=2"),
    PASSES("forked", forked, NULL),
};
static const struct frame_case signal_case =
    DIES("wait on ordinary memory", wait_on_ordinary_memory, NULL, "no signal memory");
static const struct frame_case ipc_case = PASSES("IPC", ipc, NULL);

int main(int argc, char **argv)
{
    int failed = 0;
    for (size_t i = 0; i < runtime_count; i++) {
        chosen = &runtimes[i];
        if (argc > 1 && strcmp(argv[1], chosen->name) != 0) continue;
        failed += frame_run(chosen->name, cases, sizeof(cases) / sizeof(cases[0]));
        if (chosen->open_args) failed += frame_run(chosen->name, &ipc_case, 1);
        if (strcmp(chosen->prefix, "hip") == 0) failed += frame_run(chosen->name, &signal_case, 1);
    }
    return failed != 0;
}
