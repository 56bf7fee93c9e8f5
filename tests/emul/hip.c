/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libamdhip64.so.5, .6 and .7 (HIP_MAJOR), and Hygon's libgalaxyhip.so.5 (HIP_DTK, as HIP 5.2). HIP renumbered its
 * memory types between 5 and 6 under the same names, and 5 has no hipLaunchHostFunc.
 */
#include "config.h"
#include "tests/emul/cuda_codes.h"

#ifdef HIP_DTK
#define VENDOR EMUL_DTK
#else
#define VENDOR EMUL_HIP
#endif
#define RT(name)        hip##name
#define RUNTIME_VERSION (HIP_MAJOR == 5 ? 50221153 : HIP_MAJOR == 6 ? 60342134 : 70051831)
#define DRIVER_VERSION  RUNTIME_VERSION
#define IPC_FLAG        1u
#define POINTER_STRUCT  struct pointer

#define HAS_MANAGED
#define HAS_POOL
#define HAS_HOST_MALLOC
#define HAS_MALLOC_HOST
#define HAS_FREE_HOST
#define HAS_MEMSET
#define HAS_IPC
#define HAS_CALLBACK
#define HAS_CAPTURE
#define OWN_COUNT
#if HIP_MAJOR >= 6
#define HAS_HOST_FUNCTION
#define HAS_HOST_ALLOC
#endif

/* Without a device the count says 100, all else 101 (seen with 5.2.3). */
static const int codes[EMUL_CODES] = {
    [EMUL_OK] = 0,
    [EMUL_INVALID] = 1,
    [EMUL_NO_MEMORY] = 2,
    [EMUL_NO_DRIVER] = 101,
    [EMUL_NO_DEVICE] = 101,
    [EMUL_BAD_DEVICE] = 101,
    [EMUL_BAD_HANDLE] = 400,
    [EMUL_BAD_POINTER] = 17,
    [EMUL_BAD_DIRECTION] = 21,
    [EMUL_NOT_READY] = 600,
    [EMUL_UNSUPPORTED] = 801,
    [EMUL_NO_CONTEXT] = 201,
    [EMUL_ASYNC] = 700,
    [EMUL_NOT_PERMITTED] = 1,
    [EMUL_REGISTERED] = 712,
    [EMUL_UNREGISTERED] = 713,
    [EMUL_PEER_ON] = 704,
    [EMUL_OWN_EXPORT] = 201,
    [EMUL_CAPTURE_UNSAFE] = 900,
    [EMUL_CAPTURE_DEAD] = 901,
    [EMUL_CAPTURE_UNMATCHED] = 903,
    [EMUL_CAPTURE_IMPLICIT] = 906,
    [EMUL_CAPTURED_EVENT] = 907,
    [EMUL_FORKED] = 3,
    [EMUL_NOT_FOUND] = 500,
};

struct pointer {
    int type, device;
    void *device_pointer, *host_pointer;
    int managed;
    unsigned flags;
};
_Static_assert(sizeof(struct pointer) == 32, "hipPointerAttribute_t");

static int direction(int kind) { return kind >= 0 && kind <= 4 ? kind : -1; }

/* 5: host 0, device 1, managed 3, and no number for the rest, which is an error. 6: as CUDA. */
static int memory_type(int memory)
{
    bool host = memory == EMUL_HOST || memory == EMUL_PINNED;
    if (HIP_MAJOR == 5) return memory == EMUL_NONE ? -1 : memory == EMUL_MANAGED ? 3 : host ? 0 : 1;
    return memory == EMUL_NONE ? 0 : memory == EMUL_MANAGED ? 3 : host ? 1 : 2;
}

static void fill_pointer(struct pointer *out, const struct emul_info *info, int type, void *address)
{
    bool known = info->memory != EMUL_NONE, host = info->memory == EMUL_HOST || info->memory == EMUL_PINNED;
    out->type = type;
    out->device = known ? info->device : -2;
    out->device_pointer = known ? address : NULL;
    out->host_pointer = host || info->memory == EMUL_MANAGED ? address : NULL;
    out->managed = info->memory == EMUL_MANAGED;
}

#include "tests/emul/family.h"
#include "tests/emul/kernel.h"

CALL(GetDeviceCount, (int *count))
{
    enum emul_code code = emul_enter(VENDOR, __func__, EMUL_CLEANUP);
    if (!count) return finish(EMUL_INVALID);
    if (code == EMUL_NO_DEVICE || code == EMUL_NO_DRIVER) {
        *count = 0;
        return 100;
    }
    if (!code) *count = emul_device_count(VENDOR);
    return finish(code);
}

CALL(DeviceGetName, (char *name, int size, int device))
{
    ENTER(0);
    return finish(emul_device_name(VENDOR, device, name, size > 0 ? (size_t)size : 0));
}

CALL(DeviceGetUuid, (unsigned char *uuid, int device))
{
    ENTER(0);
    return finish(uuid ? emul_device_uuid(VENDOR, device, uuid) : EMUL_INVALID);
}

/* 10013: stream wait-value; the number is from memory of the header, not from the vendor reference. */
CALL(DeviceGetAttribute, (int *value, int attribute, int device))
{
    ENTER(0);
    if (!value || attribute < 0) return finish(EMUL_INVALID);
    if (device < 0 || device >= emul_device_count(VENDOR)) return finish(EMUL_BAD_DEVICE);
    *value = attribute == 10013 && !emul_fault(VENDOR, "nowait", NULL);
    return 0;
}

/* Structs of two layouts under two names: nobody should ask. */
static int properties(void *out, int device, size_t size)
{
    ENTER(0);
    if (!out) return finish(EMUL_INVALID);
    memset(out, 0, size);
    return finish(emul_device_name(VENDOR, device, out, 256));
}
CALL(GetDeviceProperties, (void *out, int device)) { return properties(out, device, 792); }
#if HIP_MAJOR >= 6
CALL(GetDevicePropertiesR0600, (void *out, int device)) { return properties(out, device, 1472); }
#endif

CALL(MemGetAddressRange, (void **base, size_t *size, void *address))
{
    ENTER(0);
    struct emul_info info;
    emul_lookup(VENDOR, address, &info);
    if (info.memory == EMUL_NONE) return finish(EMUL_BAD_POINTER);
    if (base) *base = info.base;
    if (size) *size = info.size;
    return 0;
}

#if HIP_MAJOR >= 7
CALL(MemGetHandleForAddressRange, (void *fd, void *address, size_t size, int type, unsigned long long flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(type != 1 || flags ? EMUL_INVALID : emul_dmabuf(VENDOR, address, size, fd));
}
#endif

/* Flags: 2 is signal memory, of 8 bytes, the only memory that stream memory operations take. */
static void *signals[65536];
static int signal_count;

CALL(ExtMallocWithFlags, (void **out, size_t size, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    if (flags != 2) return finish(flags > 3 ? EMUL_INVALID : emul_malloc(VENDOR, EMUL_DEVICE, size, out));
    if (size != 8) return finish(EMUL_INVALID);
    enum emul_code code = emul_malloc(VENDOR, EMUL_MANAGED, size, out);
    int at = code ? 0 : __atomic_fetch_add(&signal_count, 1, __ATOMIC_RELAXED) % 65536;
    if (!code) __atomic_store_n(&signals[at], *(void **)out, __ATOMIC_RELAXED);
    return finish(code);
}

static bool is_signal(const void *address)
{
    int count = __atomic_load_n(&signal_count, __ATOMIC_RELAXED);
    for (int i = 0; i < count && i < 65536; i++)
        if (__atomic_load_n(&signals[i], __ATOMIC_RELAXED) == address) return true;
    return false;
}

CALL(StreamWriteValue64, (void *stream, void *address, uint64_t value, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    if (flags || emul_fault(VENDOR, "nowait", NULL)) return finish(flags ? EMUL_INVALID : EMUL_UNSUPPORTED);
    return finish(emul_write(VENDOR, stream_of(stream), address, value, 8));
}

CALL(StreamWaitValue64, (void *stream, void *address, uint64_t value, unsigned flags, uint64_t mask))
{
    ENTER(EMUL_NEED_DEVICE);
    if (emul_fault(VENDOR, "nowait", NULL)) return finish(EMUL_UNSUPPORTED);
    if (!is_signal(address)) return finish(emul_misuse(EMUL_INVALID, "%p is no signal memory", address));
    return finish(emul_wait(VENDOR, stream_of(stream), address, value, mask, 8, (int)flags));
}

/* Modules. */
CALL(ModuleLoadData, (void **module, const void *image))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return finish(emul_module_load(VENDOR, image, module));
}

CALL(ModuleUnload, (void *module))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE | EMUL_CLEANUP);
    return finish(emul_module_unload(VENDOR, module));
}

CALL(ModuleGetFunction, (void **function, void *module, const char *name))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_module_function(VENDOR, module, name, function));
}

CALL(ModuleLaunchKernel, (void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          unsigned shared, void *stream, void **arguments, void **extra))
{
    ENTER(EMUL_NEED_DEVICE);
    if (extra || shared > 65536) return finish(EMUL_INVALID);
    return finish(emul_launch(VENDOR, function, (unsigned[]){gx, gy, gz, bx, by, bz}, arguments, stream_of(stream)));
}
