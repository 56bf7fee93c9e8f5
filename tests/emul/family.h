/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime of a CUDA-shaped vendor, as a template: section 2 of the vendor reference with the prefix replaced. The
 * vendor's source defines, before it includes this,
 *   VENDOR               its engine number
 *   RT(name)             its prefix
 *   codes[EMUL_CODES]    its error numbers
 *   RUNTIME_VERSION, DRIVER_VERSION
 *   memory_type(enum emul_memory), or -1: such pointers are an error
 *   direction(int kind)  copy kinds to EMUL_H2H.. (-1: unknown)
 *   IPC_FLAG             the lazy-peer flag of IpcOpenMemHandle
 *   POINTER_STRUCT       the layout of PointerGetAttributes, and fill_pointer()
 * and HAS_* for what only some have. What differs in arguments stands in the vendor's own source.
 */
#ifndef VENDOR
#error "is included by a vendor's source, after it has said who it is"
#endif
#include "tests/emul/engine.h"
#include <stdio.h>
#include <string.h>

#define CALL(name, args)                                                                                               \
    EMUL_API int RT(name) args;                                                                                        \
    int RT(name) args
#define ENTER(needs)                                                                                                   \
    do {                                                                                                               \
        enum emul_code entered_ = emul_enter(VENDOR, __func__, needs);                                                 \
        if (entered_) return finish(entered_);                                                                         \
    } while (0)

static int finish(enum emul_code code)
{
    if (code) emul_error_set(VENDOR, codes[code]);
    return codes[code];
}

__attribute__((constructor)) static void loaded(void) { emul_hide(VENDOR, (const void *)loaded); }

/* Handle values that are no pointers: 1 is the legacy stream by name. */
static void *stream_of(void *stream) { return stream == (void *)1 ? NULL : stream; }

CALL(GetLastError, (void))
{
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    return emul_error_get(VENDOR, true);
}

CALL(PeekAtLastError, (void)) { return emul_error_get(VENDOR, false); }

EMUL_API const char *RT(GetErrorString)(int error);
const char *RT(GetErrorString)(int error)
{
    static _Thread_local char text[64];
    snprintf(text, sizeof(text), error ? "emulated %s error %d" : "no error", emul_vendor_name(VENDOR), error);
    return text;
}

EMUL_API const char *RT(GetErrorName)(int error);
const char *RT(GetErrorName)(int error) { return RT(GetErrorString)(error); }

CALL(RuntimeGetVersion, (int *version))
{
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    if (!version) return finish(EMUL_INVALID);
    *version = RUNTIME_VERSION;
    return 0;
}

CALL(DriverGetVersion, (int *version))
{
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    if (!version) return finish(EMUL_INVALID);
    *version = emul_device_count(VENDOR) < 0 ? 0 : DRIVER_VERSION;
    return 0;
}

/* Devices. */
#ifndef DEVICE_NUMBER
#define DEVICE_NUMBER int
#endif

#ifndef OWN_COUNT
CALL(GetDeviceCount, (DEVICE_NUMBER * count))
{
    enum emul_code code = emul_enter(VENDOR, __func__, EMUL_CLEANUP);
    if (code == EMUL_NO_DEVICE && count) *count = 0;
    if (code) return finish(code);
    if (!count) return finish(EMUL_INVALID);
    *count = (DEVICE_NUMBER)emul_device_count(VENDOR);
    return 0;
}
#endif

CALL(SetDevice, (DEVICE_NUMBER device))
{
    ENTER(EMUL_CLEANUP);
    return finish(emul_device_set(VENDOR, (int)device));
}

CALL(GetDevice, (DEVICE_NUMBER * device))
{
    ENTER(EMUL_CLEANUP);
    if (!device) return finish(EMUL_INVALID);
    *device = (DEVICE_NUMBER)emul_device_get(VENDOR);
    return 0;
}

CALL(DeviceGetPCIBusId, (char *id, int size, DEVICE_NUMBER device))
{
    ENTER(0);
    return finish(emul_device_pci(VENDOR, (int)device, id, size > 0 ? (size_t)size : 0));
}

CALL(DeviceGetByPCIBusId, (DEVICE_NUMBER * device, const char *id))
{
    ENTER(0);
    int found = emul_device_by_pci(VENDOR, id);
    if (!device || found < 0) return finish(EMUL_INVALID);
    *device = (DEVICE_NUMBER)found;
    return 0;
}

CALL(DeviceSynchronize, (void))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return finish(emul_device_sync(VENDOR));
}

CALL(MemGetInfo, (size_t * free_bytes, size_t *total))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_device_memory(VENDOR, free_bytes, total));
}

CALL(DeviceCanAccessPeer, (int *can, DEVICE_NUMBER device, DEVICE_NUMBER peer))
{
    ENTER(0);
    int count = emul_device_count(VENDOR);
    if (!can) return finish(EMUL_INVALID);
    if ((int)device < 0 || (int)device >= count || (int)peer < 0 || (int)peer >= count) return finish(EMUL_BAD_DEVICE);
    *can = device != peer && !emul_fault(VENDOR, "nopeer", NULL);
    return 0;
}

CALL(DeviceEnablePeerAccess, (DEVICE_NUMBER peer, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags ? EMUL_INVALID : emul_peer_enable(VENDOR, (int)peer));
}

/* Memory. */
CALL(Malloc, (void **out, size_t size))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return finish(emul_malloc(VENDOR, EMUL_DEVICE, size, out));
}

CALL(Free, (void *address))
{
    ENTER(EMUL_UNSAFE | EMUL_CLEANUP);
    return finish(emul_free(VENDOR, EMUL_DEVICE, address));
}

#ifdef HAS_MANAGED
CALL(MallocManaged, (void **out, size_t size, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return finish(flags != 1 && flags != 2 ? EMUL_INVALID : emul_malloc(VENDOR, EMUL_MANAGED, size, out));
}
#endif

#ifdef HAS_POOL
#ifndef OWN_MALLOC_ASYNC
CALL(MallocAsync, (void **out, size_t size, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_malloc(VENDOR, EMUL_POOL, size, out));
}
#endif

CALL(FreeAsync, (void *address, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_free_async(VENDOR, address, stream_of(stream)));
}
#endif

/* Flags of pinned memory: portable 1, mapped 2, write-combined 4, I/O memory 4 and read-only 8 for registrations. */
static int pinned(void **out, size_t size, unsigned flags)
{
    return finish(flags & ~0x7u ? EMUL_INVALID : emul_malloc(VENDOR, EMUL_HOST, size, out));
}

#ifdef HAS_HOST_ALLOC
CALL(HostAlloc, (void **out, size_t size, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return pinned(out, size, flags);
}
#endif

#ifdef HAS_HOST_MALLOC
CALL(HostMalloc, (void **out, size_t size, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return pinned(out, size, flags & 0x7fffffffu & ~0xe0000000u & 0x7u);
}

CALL(HostFree, (void *address))
{
    ENTER(EMUL_UNSAFE | EMUL_CLEANUP);
    return finish(emul_free(VENDOR, EMUL_HOST, address));
}
#endif

#ifdef HAS_MALLOC_HOST
CALL(MallocHost, (void **out, size_t size))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return pinned(out, size, 0);
}
#endif

#ifdef HAS_MALLOC_HOST_FLAGS
CALL(MallocHost, (void **out, size_t size, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return pinned(out, size, flags);
}
#endif

#ifdef HAS_FREE_HOST
CALL(FreeHost, (void *address))
{
    ENTER(EMUL_UNSAFE | EMUL_CLEANUP);
    return finish(emul_free(VENDOR, EMUL_HOST, address));
}
#endif

CALL(HostRegister, (void *address, size_t size, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return finish(flags & ~0xfu ? EMUL_INVALID : emul_register(VENDOR, address, size));
}

CALL(HostUnregister, (void *address))
{
    ENTER(EMUL_UNSAFE | EMUL_CLEANUP);
    return finish(emul_unregister(VENDOR, address));
}

CALL(HostGetDevicePointer, (void **out, void *address, unsigned flags))
{
    ENTER(0);
    struct emul_info info;
    emul_lookup(VENDOR, address, &info);
    if (!out || flags || (info.memory != EMUL_HOST && info.memory != EMUL_PINNED)) return finish(EMUL_INVALID);
    *out = address;
    return 0;
}

static int copy(void *to, const void *from, size_t size, int kind)
{
    int way = direction(kind);
    if (way < 0) return finish(emul_misuse(EMUL_BAD_DIRECTION, "copy kind %d is none of this vendor", kind));
    return finish(emul_copy(VENDOR, to, from, size, way));
}

static int copy_async(void *to, const void *from, size_t size, int kind, void *stream)
{
    int way = direction(kind);
    if (way < 0) return finish(emul_misuse(EMUL_BAD_DIRECTION, "copy kind %d is none of this vendor", kind));
    return finish(emul_copy_async(VENDOR, to, from, size, way, stream_of(stream)));
}

CALL(Memcpy, (void *to, const void *from, size_t size, int kind))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return copy(to, from, size, kind);
}

#ifndef OWN_MEMCPY_ASYNC
CALL(MemcpyAsync, (void *to, const void *from, size_t size, int kind, void *stream))
{
    ENTER(EMUL_NEED_DEVICE);
    return copy_async(to, from, size, kind, stream);
}
#endif

#ifdef HAS_MEMSET
CALL(Memset, (void *to, int value, size_t size))
{
    unsigned char byte = (unsigned char)value;
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return finish(emul_fill(VENDOR, to, &byte, 1, size));
}

CALL(MemsetAsync, (void *to, int value, size_t size, void *stream))
{
    unsigned char byte = (unsigned char)value;
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_fill_async(VENDOR, to, &byte, 1, size, stream_of(stream)));
}
#endif

CALL(PointerGetAttributes, (POINTER_STRUCT * out, const void *address))
{
    ENTER(0);
    struct emul_info info;
    if (!out || !address) return finish(EMUL_INVALID);
    emul_lookup(VENDOR, address, &info);
    int type = memory_type(info.memory);
    if (type < 0) return finish(EMUL_INVALID);
    memset(out, 0, sizeof(*out));
    fill_pointer(out, &info, type, (void *)(uintptr_t)address);
    return 0;
}

/* IPC. By value: a struct of 64 bytes goes through the stack. */
#ifdef HAS_IPC
struct ipc_handle {
    char bytes[EMUL_IPC_BYTES];
};

CALL(IpcGetMemHandle, (struct ipc_handle * handle, void *address))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    return finish(emul_ipc_export(VENDOR, address, handle));
}

#ifndef OWN_IPC_OPEN
CALL(IpcOpenMemHandle, (void **out, struct ipc_handle handle, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    if (flags != IPC_FLAG)
        return finish(emul_misuse(EMUL_INVALID, "flags %u, but %u is the only one", flags, IPC_FLAG));
    return finish(emul_ipc_import(VENDOR, &handle, out));
}
#endif

CALL(IpcCloseMemHandle, (void *address))
{
    ENTER(EMUL_UNSAFE | EMUL_CLEANUP);
    return finish(emul_ipc_close(VENDOR, address));
}
#endif

#include "tests/emul/family_streams.h"
