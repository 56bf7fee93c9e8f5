/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA-shaped runtimes as a test of them sees them: see runtimes.h. */
#include "config.h"
#include "tests/emul/runtimes.h"
#include <string.h>

/* Most follow CUDA; each row then says what does not. */
#define KINDS .kinds = {0, 1, 2, 3, 4}
#define TYPES .type_unknown = 0, .type_host = 1, .type_device = 2
#define CUDA_FORM(malloc_args, wait)                                                                                   \
    KINDS, TYPES, .host_alloc = "MallocHost", .host_free = "FreeHost", .host_alloc_args = malloc_args,                 \
                  .host_function = "LaunchHostFunc", .wait_args = wait, .event_flags = 1, .memset = 1, .open_args = 3, \
                  .ipc_flag = 1
#define CUDA_LIKE                CUDA_FORM(2, 3), .pointer_bytes = 24
#define CUDA_LIKE_BUT            CUDA_FORM(2, 3)
#define CUDA_LIKE_MALLOC(number) CUDA_FORM(number, 3), .pointer_bytes = 24
#define CUDA_LIKE_WAIT(number)   CUDA_FORM(2, number), .pointer_bytes = 24
#define HIP_FORM                                                                                                       \
    KINDS, .host_alloc = "HostMalloc", .host_free = "HostFree", .host_alloc_args = 3, .wait_args = 3,                  \
           .event_flags = 1, .memset = 1, .open_args = 3, .pointer_bytes = 32
#define HIP_LIKE HIP_FORM, .ipc_flag = 1, .capture = 1, .pool = 1, .no_device_is_100 = 1
#define TX_LIKE                                                                                                        \
    KINDS, TYPES, .host_alloc = "MallocHost", .host_free = "FreeHost", .host_alloc_args = 2,                           \
                  .host_function = "LaunchHostFunc", .wait_args = 2, .open_args = 2, .pointer_bytes = 24
#define SDAA_LIKE                                                                                                      \
    KINDS, TYPES, .host_alloc = "MallocHost", .host_free = "FreeHost", .host_alloc_args = 2,                           \
                  .host_function = "LaunchHostFunc", .wait_args = 3, .event_flags = 1, .memset = 1,                    \
                  .pointer_bytes = 24

const struct runtime runtimes[] = {
    {.name = "cuda12",
     .object = "cuda12/libcudart.so.12",
     .driver = "cuda12/libcuda.so.1",
     .prefix = "cuda",
     .driver_prefix = "cu",
     CUDA_LIKE,
     .callback = "StreamAddCallback",
     .capture = 1,
     .pool = 1,
     .wait_value = 1,
     .version = 12080,
     .managed = 1},
    {.name = "cuda13",
     .object = "cuda13/libcudart.so.13",
     .driver = "cuda13/libcuda.so.1",
     .prefix = "cuda",
     .driver_prefix = "cu",
     CUDA_LIKE_BUT,
     .pointer_bytes = 88,
     .callback = "StreamAddCallback",
     .capture = 1,
     .pool = 1,
     .wait_value = 1,
     .version = 13000,
     .absent = "GetDeviceProperties_v2"},
    {.name = "hip5",
     .object = "hip5/libamdhip64.so.5",
     .prefix = "hip",
     HIP_LIKE,
     .callback = "StreamAddCallback",
     .type_unknown = -1,
     .type_host = 0,
     .type_device = 1,
     .version = 50221153,
     .absent = "LaunchHostFunc"},
    {.name = "hip6",
     .object = "hip6/libamdhip64.so.6",
     .prefix = "hip",
     HIP_LIKE,
     .host_function = "LaunchHostFunc",
     .type_unknown = 0,
     .type_host = 1,
     .type_device = 2,
     .version = 60342134},
    {.name = "hip7",
     .object = "hip7/libamdhip64.so.7",
     .prefix = "hip",
     HIP_LIKE,
     .host_function = "LaunchHostFunc",
     .type_unknown = 0,
     .type_host = 1,
     .type_device = 2,
     .version = 70051831},
    {.name = "dtk",
     .object = "dtk/libgalaxyhip.so.5",
     .prefix = "hip",
     HIP_LIKE,
     .callback = "StreamAddCallback",
     .type_unknown = -1,
     .type_host = 0,
     .type_device = 1,
     .version = 50221153,
     .absent = "LaunchHostFunc"},
    {.name = "iluvatar",
     .object = "iluvatar/libcudart.so",
     .driver = "iluvatar/libcuda.so.1",
     .prefix = "cuda",
     .driver_prefix = "cu",
     CUDA_LIKE,
     .callback = "StreamAddCallback",
     .capture = 1,
     .pool = 1,
     .wait_value = 1,
     .version = 12080,
     .layer = 1},
    {.name = "ppu",
     .object = "ppu/libcudart.so",
     .driver = "ppu/libcuda.so.1",
     .prefix = "cuda",
     .driver_prefix = "cu",
     CUDA_LIKE,
     .callback = "StreamAddCallback",
     .capture = 1,
     .pool = 1,
     .wait_value = 1,
     .version = 12080,
     .layer = 1},
    {.name = "kunlun",
     .object = "kunlun/libcudart.so",
     .driver = "kunlun/libcuda.so.1",
     .prefix = "cuda",
     .driver_prefix = "cu",
     CUDA_LIKE,
     .callback = "StreamAddCallback",
     .capture = 1,
     .pool = 1,
     .wait_value = 1,
     .version = 12080,
     .layer = 1},
    {.name = "musa",
     .object = "musa/libmusart.so.5",
     .driver = "musa/libmusa.so.1",
     .prefix = "musa",
     .driver_prefix = "mu",
     CUDA_LIKE,
     .capture = 1,
     .pool = 1,
     .version = 40300},
    {.name = "maca",
     .object = "maca/libmcruntime.so",
     .prefix = "mc",
     CUDA_LIKE_MALLOC(3),
     .capture = 1,
     .pool = 1,
     .version = 3000},
    {.name = "tops",
     .object = "tops/libtopsrt.so",
     .prefix = "tops",
     HIP_FORM,
     .host_function = "LaunchHostFunc",
     .ipc_flag = 0,
     .type_unknown = -1,
     .type_host = 1,
     .type_device = 2,
     .version = 30600,
     .absent = "FreeHost"},
    {.name = "supa", .object = "supa/libsupa-runtime.so", .prefix = "supa", CUDA_LIKE, .version = 1000},
    {.name = "supa_old",
     .object = "supa_old/libsupa-runtime.so",
     .prefix = "su",
     CUDA_LIKE_WAIT(2),
     .stream_first = 1,
     .version = 1000,
     .absent = "paMalloc"},
    {.name = "tx",
     .object = "tx/libhpgr.so",
     .prefix = "tx",
     TX_LIKE,
     .version = 1000,
     .absent = "EventCreateWithFlags"},
    {.name = "tang", .object = "tang/libtangrt_shared.so", .prefix = "tang", CUDA_LIKE, .capture = 1, .version = 11000},
    {.name = "sdaa",
     .object = "sdaa/libsdaart.so",
     .prefix = "sdaa",
     SDAA_LIKE,
     .version = 2000,
     .absent = "IpcGetMemHandle"},
};
const size_t runtime_count = sizeof(runtimes) / sizeof(runtimes[0]);

struct calls rt;
const struct runtime *which;

void *runtime_symbol(const char *name)
{
    char whole[128];
    snprintf(whole, sizeof(whole), "%s%s", which->prefix, name);
    return frame_try(rt.object, whole);
}

static void *need(const char *name)
{
    char whole[128];
    snprintf(whole, sizeof(whole), "%s%s", which->prefix, name);
    return frame_find(rt.object, whole);
}

void runtime_load(const struct runtime *runtime)
{
    which = runtime;
    rt.object = frame_open(which->object);
    rt.driver = which->driver ? frame_open(which->driver) : NULL;
#define LOAD(name) *(void **)&rt.name = need(#name)
    LOAD(GetDeviceCount);
    LOAD(SetDevice);
    LOAD(GetDevice);
    LOAD(DeviceGetPCIBusId);
    LOAD(DeviceCanAccessPeer);
    LOAD(DeviceEnablePeerAccess);
    LOAD(Malloc);
    LOAD(Free);
    LOAD(HostRegister);
    LOAD(HostUnregister);
    LOAD(HostGetDevicePointer);
    LOAD(Memcpy);
    LOAD(StreamDestroy);
    LOAD(StreamSynchronize);
    LOAD(StreamQuery);
    LOAD(StreamCreateWithFlags);
    LOAD(EventRecord);
    LOAD(EventQuery);
    LOAD(EventSynchronize);
    LOAD(EventDestroy);
    LOAD(PointerGetAttributes);
    LOAD(RuntimeGetVersion);
    LOAD(GetLastError);
    LOAD(DeviceSynchronize);
#undef LOAD
}

void *device_alloc(size_t size)
{
    void *out = NULL;
    CHECK_IS(rt.Malloc(&out, size), 0);
    CHECK(out != NULL);
    return out;
}

void *host_alloc(size_t size)
{
    void *out = NULL;
    if (which->host_alloc_args == 2) {
        int (*two)(void **, size_t);
        *(void **)&two = need(which->host_alloc);
        CHECK_IS(two(&out, size), 0);
    } else {
        int (*three)(void **, size_t, unsigned);
        *(void **)&three = need(which->host_alloc);
        CHECK_IS(three(&out, size, 1), 0);
    }
    CHECK(out != NULL);
    return out;
}

int host_free(void *address)
{
    int (*call)(void *);
    *(void **)&call = need(which->host_free);
    return call(address);
}

int copy_async(void *to, const void *from, size_t size, int kind, void *stream)
{
    if (which->stream_first) {
        int (*call)(void *, const void *, size_t, void *, int);
        *(void **)&call = need("MemcpyAsync");
        return call(to, from, size, stream, which->kinds[kind]);
    }
    int (*call)(void *, const void *, size_t, int, void *);
    *(void **)&call = need("MemcpyAsync");
    return call(to, from, size, which->kinds[kind], stream);
}

int event_create(void **event)
{
    if (!which->event_flags) {
        int (*call)(void **);
        *(void **)&call = need("EventCreate");
        return call(event);
    }
    int (*call)(void **, unsigned);
    *(void **)&call = need("EventCreateWithFlags");
    return call(event, 2);
}

int stream_wait(void *stream, void *event)
{
    if (which->wait_args == 2) {
        int (*call)(void *, void *);
        *(void **)&call = need("StreamWaitEvent");
        return call(stream, event);
    }
    int (*call)(void *, void *, unsigned);
    *(void **)&call = need("StreamWaitEvent");
    return call(stream, event, 0);
}

struct bridge {
    void (*fn)(void *);
    void *data;
};

static void crossed(void *stream, int status, void *data)
{
    struct bridge bridge = *(struct bridge *)data;
    free(data);
    CHECK_IS(status, 0);
    CHECK(stream != NULL);
    bridge.fn(bridge.data);
}

int host_function(void *stream, void (*fn)(void *), void *data)
{
    if (which->host_function) {
        int (*call)(void *, void (*)(void *), void *);
        *(void **)&call = need(which->host_function);
        return call(stream, fn, data);
    }
    int (*call)(void *, void (*)(void *, int, void *), void *, unsigned);
    *(void **)&call = need(which->callback);
    struct bridge *bridge = malloc(sizeof(*bridge));
    CHECK(bridge != NULL);
    *bridge = (struct bridge){fn, data};
    return call(stream, crossed, bridge, 0);
}

int ipc_open(void **out, struct ipc_bytes handle)
{
    if (which->open_args == 2) {
        int (*call)(void **, struct ipc_bytes);
        *(void **)&call = need("IpcOpenMemHandle");
        return call(out, handle);
    }
    int (*call)(void **, struct ipc_bytes, unsigned);
    *(void **)&call = need("IpcOpenMemHandle");
    return call(out, handle, which->ipc_flag);
}

void *stream_new(bool non_blocking)
{
    void *stream = NULL;
    CHECK_IS(rt.StreamCreateWithFlags(&stream, non_blocking), 0);
    CHECK(stream != NULL);
    return stream;
}

static int running;

static void until_set(void *word)
{
    __atomic_store_n(&running, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n((int *)word, __ATOMIC_ACQUIRE)) frame_nap(1);
}

void hold(void *stream, int *word)
{
    __atomic_store_n(word, 0, __ATOMIC_RELEASE);
    CHECK_IS(host_function(stream, until_set, word), 0);
}

void hold_at_once(void *stream, int *word)
{
    __atomic_store_n(&running, 0, __ATOMIC_RELEASE);
    hold(stream, word);
    while (!__atomic_load_n(&running, __ATOMIC_ACQUIRE)) frame_nap(1);
}

void release(int *word) { __atomic_store_n(word, 1, __ATOMIC_RELEASE); }
