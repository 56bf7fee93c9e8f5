/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcudart.so.12 and libcudart.so.13 (CUDA_MAJOR). Other makers ship the same names: CUDA_LAYER says whose devices
 * these are then, and CUDA_HGGC that the prefix is hggc, T-Head's own.
 */
#include "config.h"
#include "tests/emul/cuda_codes.h"
#include <dlfcn.h>
#include <stdlib.h>

#ifdef CUDA_LAYER
#define VENDOR CUDA_LAYER
#else
#define VENDOR EMUL_CUDA
#endif
#ifdef CUDA_HGGC
#define RT(name) hggc##name
#else
#define RT(name) cuda##name
#endif
#define RUNTIME_VERSION (CUDA_MAJOR * 1000 + (CUDA_MAJOR == 12 ? 80 : 0))
#define DRIVER_VERSION  (CUDA_MAJOR * 1000 + (CUDA_MAJOR == 12 ? 80 : 0))
#define IPC_FLAG        1u
#define POINTER_STRUCT  struct pointer

#define HAS_MANAGED
#define HAS_POOL
#define HAS_HOST_ALLOC
#define HAS_MALLOC_HOST
#define HAS_FREE_HOST
#define HAS_MEMSET
#define HAS_IPC
#define HAS_HOST_FUNCTION
#define HAS_CALLBACK
#define HAS_CAPTURE
#define HAS_STREAM_GET_DEVICE /* since 12.8 */

static const int codes[EMUL_CODES] = {CUDA_CODES};

/* 24 bytes before CUDA 13, 88 since. */
struct pointer {
    int type, device;
    void *device_pointer, *host_pointer;
#if CUDA_MAJOR >= 13
    long reserved[8];
#endif
};
_Static_assert(sizeof(struct pointer) == (CUDA_MAJOR >= 13 ? 88 : 24), "cudaPointerAttributes");

static int direction(int kind) { return kind >= 0 && kind <= 4 ? kind : -1; }

static int memory_type(int memory)
{
    return memory == EMUL_NONE ? 0 : memory == EMUL_MANAGED ? 3 : memory == EMUL_HOST || memory == EMUL_PINNED ? 1 : 2;
}

/* Unknown memory is no error: type 0 and no device. */
static void fill_pointer(struct pointer *out, const struct emul_info *info, int type, void *address)
{
    out->type = type;
    out->device = type ? info->device : -2;
    out->device_pointer = type ? address : NULL;
    out->host_pointer = type == 2 ? NULL : address;
}

#include "tests/emul/family.h"

/* Attributes by number; those that a caller of this project may ask for. */
CALL(DeviceGetAttribute, (int *value, int attribute, int device))
{
    ENTER(0);
    if (!value || attribute < 1 || attribute > 160) return finish(EMUL_INVALID);
    if (device < 0 || device >= emul_device_count(VENDOR)) return finish(EMUL_BAD_DEVICE);
    switch (attribute) {
    case 1: *value = 1024; break;           /* threads of a block */
    case 16: *value = 4; break;             /* multiprocessors */
    case 33: *value = 0x10 + device; break; /* PCI bus, device, domain */
    case 50: *value = 0xe000 + VENDOR; break;
    case 75: *value = 9; break; /* compute capability */
    case 19:
    case 31:
    case 41:
    case 83:
    case 99:
    case 115: *value = 1; break;
    case 93:
    case 122: *value = !emul_fault(VENDOR, "nowait", NULL); break; /* 64-bit stream memory operations */
    case 124: *value = emul_fault(VENDOR, "dmabuf", NULL); break;
    default: *value = 0;
    }
    return 0;
}

/* Flag 1: an event of the outside, in a capture. */
CALL(EventRecordWithFlags, (void *event, void *stream, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    if (flags) return finish(flags == 1 ? EMUL_UNSUPPORTED : EMUL_INVALID);
    return finish(emul_event_record(VENDOR, event, stream_of(stream)));
}

CALL(MemcpyPeerAsync, (void *to, int to_device, const void *from, int from_device, size_t size, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_copy_async(VENDOR, to, from, size, EMUL_D2D, stream_of(stream)));
}

/* The struct is one of the traps: its size is this version's, and a caller with another one is overrun. */
static int properties(void *out, int device, size_t size)
{
    ENTER(0);
    if (!out) return finish(EMUL_INVALID);
    memset(out, 0, size);
    return finish(emul_device_name(VENDOR, device, out, 256));
}

CALL(GetDeviceProperties, (void *out, int device)) { return properties(out, device, CUDA_MAJOR >= 13 ? 1008 : 728); }
#if CUDA_MAJOR == 12
CALL(GetDeviceProperties_v2, (void *out, int device)) { return properties(out, device, 1032); }
#endif

CALL(StreamGetCaptureInfo_v2,
     (void *stream, int *status, unsigned long long *id, void **graph, const void ***edges, size_t *count))
{
    ENTER(0);
    uint64_t number = 0;
    enum emul_code code = emul_capture_status(VENDOR, stream_of(stream), status, &number);
    if (!code && id) *id = number;
    if (graph) *graph = NULL;
    if (edges) *edges = NULL;
    if (count) *count = 0;
    return finish(code);
}

#if CUDA_MAJOR >= 13
CALL(StreamGetCaptureInfo, (void *stream, int *status, unsigned long long *id, void **graph, const void ***edges,
                            const void **data, size_t *count))
{
    if (data) *data = NULL;
    return RT(StreamGetCaptureInfo_v2)(stream, status, id, graph, edges, count);
}

CALL(GraphInstantiate, (void **out, void *graph, unsigned long long flags))
{
    return RT(GraphInstantiateWithFlags)(out, graph, flags);
}
#else
CALL(StreamGetCaptureInfo, (void *stream, int *status, unsigned long long *id))
{
    return RT(StreamGetCaptureInfo_v2)(stream, status, id, NULL, NULL, NULL);
}

CALL(GraphInstantiate, (void **out, void *graph, unsigned long long flags))
{
    return RT(GraphInstantiateWithFlags)(out, graph, flags);
}
#endif

/* The driver beside this object, asked as cuGetProcAddress would be. */
CALL(GetDriverEntryPointByVersion,
     (const char *name, void **out, unsigned version, unsigned long long flags, int *status))
{
    ENTER(0);
    Dl_info info;
    char path[4096];
    if (!name || !out || !dladdr((const void *)loaded, &info)) return finish(EMUL_INVALID);
    const char *slash = strrchr(info.dli_fname, '/');
    snprintf(path, sizeof(path), "%.*slibcuda.so.1", slash ? (int)(slash - info.dli_fname + 1) : 0, info.dli_fname);
    void *driver = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    int (*ask)(const char *, void **, int, uint64_t, int *);
    *(void **)&ask = driver ? dlsym(driver, "cuGetProcAddress_v2") : NULL;
    *out = NULL;
    if (!ask) return finish(EMUL_NO_DRIVER);
    int found;
    int code = ask(name, out, (int)version, flags, &found);
    if (status) *status = found;
    return code && code != 500 ? code : 0;
}

#if CUDA_MAJOR == 12
CALL(GetDriverEntryPoint, (const char *name, void **out, unsigned long long flags, int *status))
{
    return RT(GetDriverEntryPointByVersion)(name, out, RUNTIME_VERSION, flags, status);
}
#endif
