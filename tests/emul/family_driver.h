/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver library of a CUDA-shaped vendor, as a template: DRV(name) is its prefix. Addresses are 64-bit numbers. A
 * thread that entered no device has no context, and most calls fail there.
 */
#ifndef VENDOR
#error "is included by a vendor's source, after it has said who it is"
#endif
#include "tests/emul/engine.h"
#include "tests/emul/kernel.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define CALL(name, args)                                                                                               \
    EMUL_API int DRV(name) args;                                                                                       \
    int DRV(name) args
#define ENTER(needs)                                                                                                   \
    do {                                                                                                               \
        enum emul_code entered_ = emul_enter(VENDOR, __func__, needs);                                                 \
        if (entered_) return codes[entered_];                                                                          \
    } while (0)

__attribute__((constructor)) static void loaded(void) { emul_hide(VENDOR, (const void *)loaded); }

static void *stream_of(void *stream) { return stream == (void *)1 ? NULL : stream; }
static const void *at(uint64_t address) { return (const void *)(uintptr_t)address; }

CALL(Init, (unsigned flags))
{
    ENTER(0);
    return codes[flags ? EMUL_INVALID : EMUL_OK];
}

CALL(DriverGetVersion, (int *version))
{
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    if (!version) return codes[EMUL_INVALID];
    *version = DRIVER_VERSION;
    return 0;
}

CALL(DeviceGetCount, (int *count))
{
    ENTER(0);
    if (!count) return codes[EMUL_INVALID];
    *count = emul_device_count(VENDOR);
    return 0;
}

CALL(DeviceGet, (int *device, int ordinal))
{
    ENTER(0);
    if (!device) return codes[EMUL_INVALID];
    if (ordinal < 0 || ordinal >= emul_device_count(VENDOR)) return codes[EMUL_BAD_DEVICE];
    *device = ordinal;
    return 0;
}

CALL(DeviceGetName, (char *name, int size, int device))
{
    ENTER(0);
    return codes[emul_device_name(VENDOR, device, name, size > 0 ? (size_t)size : 0)];
}

CALL(DeviceGetUuid_v2, (unsigned char *uuid, int device))
{
    ENTER(0);
    return codes[uuid ? emul_device_uuid(VENDOR, device, uuid) : EMUL_INVALID];
}

CALL(DeviceGetPCIBusId, (char *id, int size, int device))
{
    ENTER(0);
    return codes[emul_device_pci(VENDOR, device, id, size > 0 ? (size_t)size : 0)];
}

CALL(CtxGetDevice, (int *device))
{
    ENTER(0);
    if (!device) return codes[EMUL_INVALID];
    if (emul_device_entered(VENDOR) < 0) return codes[EMUL_NO_CONTEXT];
    *device = emul_device_get(VENDOR);
    return 0;
}

/* A context is the number of its device + 1. */
CALL(CtxGetCurrent, (void **context))
{
    ENTER(0);
    if (!context) return codes[EMUL_INVALID];
    *context = (void *)(intptr_t)(emul_device_entered(VENDOR) + 1);
    return 0;
}

CALL(CtxSetCurrent, (void *context))
{
    ENTER(0);
    return codes[context ? emul_device_set(VENDOR, (int)(intptr_t)context - 1) : EMUL_UNSUPPORTED];
}

CALL(DevicePrimaryCtxRetain, (void **context, int device))
{
    ENTER(0);
    if (!context) return codes[EMUL_INVALID];
    if (device < 0 || device >= emul_device_count(VENDOR)) return codes[EMUL_BAD_DEVICE];
    *context = (void *)(intptr_t)(device + 1);
    return 0;
}

CALL(DevicePrimaryCtxRelease_v2, (int device))
{
    ENTER(EMUL_CLEANUP);
    return codes[device < 0 || device >= emul_device_count(VENDOR) ? EMUL_BAD_DEVICE : EMUL_OK];
}

/* Attributes: memory type 2, sync memops 6, buffer id 7, managed 8, ordinal 9, legacy IPC 10, range start 11, size 12.
 */
CALL(PointerGetAttribute, (void *out, int attribute, uint64_t address))
{
    ENTER(0);
    struct emul_info info;
    emul_lookup(VENDOR, at(address), &info);
    if (!out || info.memory == EMUL_NONE) return codes[EMUL_INVALID];
    bool host = info.memory == EMUL_HOST || info.memory == EMUL_PINNED;
    unsigned word;
    switch (attribute) {
    case 2:
        word = host ? 1 : 2;
        memcpy(out, &word, sizeof(word));
        return 0;
    case 6:
        word = 0;
        memcpy(out, &word, sizeof(word));
        return 0;
    case 7: memcpy(out, &info.id, sizeof(info.id)); return 0;
    case 8:
        word = info.memory == EMUL_MANAGED;
        memcpy(out, &word, sizeof(word));
        return 0;
    case 9: memcpy(out, &info.device, sizeof(info.device)); return 0;
    case 10:
        word = info.memory == EMUL_DEVICE;
        memcpy(out, &word, sizeof(word));
        return 0;
    case 11: memcpy(out, &info.base, sizeof(info.base)); return 0;
    case 12: memcpy(out, &info.size, sizeof(info.size)); return 0;
    default: return codes[EMUL_INVALID];
    }
}

CALL(PointerSetAttribute, (const void *value, int attribute, uint64_t address))
{
    ENTER(0);
    struct emul_info info;
    emul_lookup(VENDOR, at(address), &info);
    return codes[value && attribute == 6 && info.memory != EMUL_NONE ? EMUL_OK : EMUL_INVALID];
}

CALL(MemGetAddressRange_v2, (uint64_t * base, size_t *size, uint64_t address))
{
    ENTER(EMUL_NEED_CONTEXT);
    struct emul_info info;
    emul_lookup(VENDOR, at(address), &info);
    if (info.memory == EMUL_NONE) return codes[EMUL_NOT_FOUND];
    if (base) *base = (uintptr_t)info.base;
    if (size) *size = info.size;
    return 0;
}

/* The first generation of the call has 32-bit outputs. */
CALL(MemGetAddressRange, (unsigned *base, unsigned *size, unsigned address))
{
    ENTER(0);
    return codes[emul_misuse(EMUL_INVALID, "the call without _v2 is one for 32-bit addresses")];
}

CALL(MemGetHandleForAddressRange, (void *out, uint64_t address, size_t size, int type, unsigned long long flags))
{
    ENTER(EMUL_NEED_CONTEXT);
    if (type != 1) return codes[emul_misuse(EMUL_INVALID, "handle type %d, and 1 is a dma-buf", type)];
    if (flags > 1) return codes[EMUL_INVALID];
    return codes[emul_dmabuf(VENDOR, at(address), size, out)];
}

/* Flags of a wait: >= 0, == 1, & 2, nor 3; of a write: 0, or 1 without a barrier. */
CALL(StreamWriteValue64_v2, (void *stream, uint64_t address, uint64_t value, unsigned flags))
{
    ENTER(EMUL_NEED_CONTEXT);
    if (emul_fault(VENDOR, "nowait", NULL)) return codes[EMUL_UNSUPPORTED];
    return codes[flags > 1 ? EMUL_INVALID : emul_write(VENDOR, stream_of(stream), (void *)at(address), value, 8)];
}

CALL(StreamWaitValue64_v2, (void *stream, uint64_t address, uint64_t value, unsigned flags))
{
    ENTER(EMUL_NEED_CONTEXT);
    if (emul_fault(VENDOR, "nowait", NULL)) return codes[EMUL_UNSUPPORTED];
    return codes[emul_wait(VENDOR, stream_of(stream), (void *)at(address), value, UINT64_MAX, 8, (int)flags)];
}

CALL(StreamWriteValue32_v2, (void *stream, uint64_t address, uint32_t value, unsigned flags))
{
    ENTER(EMUL_NEED_CONTEXT);
    return codes[flags > 1 ? EMUL_INVALID : emul_write(VENDOR, stream_of(stream), (void *)at(address), value, 4)];
}

CALL(StreamWaitValue32_v2, (void *stream, uint64_t address, uint32_t value, unsigned flags))
{
    ENTER(EMUL_NEED_CONTEXT);
    return codes[emul_wait(VENDOR, stream_of(stream), (void *)at(address), value, UINT32_MAX, 4, (int)flags)];
}

/* The first generation is off unless a module option of the kernel driver turns it on. */
CALL(StreamWriteValue64, (void *stream, uint64_t address, uint64_t value, unsigned flags))
{
    ENTER(EMUL_NEED_CONTEXT);
    return codes[EMUL_UNSUPPORTED];
}

CALL(StreamWaitValue64, (void *stream, uint64_t address, uint64_t value, unsigned flags))
{
    ENTER(EMUL_NEED_CONTEXT);
    return codes[EMUL_UNSUPPORTED];
}

CALL(StreamIsCapturing, (void *stream, int *status))
{
    ENTER(0);
    return codes[status ? emul_capture_status(VENDOR, stream_of(stream), status, NULL) : EMUL_INVALID];
}

CALL(ModuleLoadData, (void **module, const void *image))
{
    ENTER(EMUL_NEED_CONTEXT | EMUL_UNSAFE);
    return codes[emul_module_load(VENDOR, image, module)];
}

CALL(ModuleLoadDataEx, (void **module, const void *image, unsigned count, int *options, void **values))
{
    ENTER(EMUL_NEED_CONTEXT | EMUL_UNSAFE);
    return codes[emul_module_load(VENDOR, image, module)];
}

CALL(ModuleUnload, (void *module))
{
    ENTER(EMUL_NEED_CONTEXT | EMUL_UNSAFE | EMUL_CLEANUP);
    return codes[emul_module_unload(VENDOR, module)];
}

CALL(ModuleGetFunction, (void **function, void *module, const char *name))
{
    ENTER(EMUL_NEED_CONTEXT);
    return codes[emul_module_function(VENDOR, module, name, function)];
}

CALL(LaunchKernel, (void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                    unsigned shared, void *stream, void **arguments, void **extra))
{
    ENTER(EMUL_NEED_CONTEXT);
    if (extra || shared > 49152) return codes[EMUL_INVALID];
    return codes[emul_launch(VENDOR, function, (unsigned[]){gx, gy, gz, bx, by, bz}, arguments, stream_of(stream))];
}

CALL(GetErrorString, (int error, const char **text))
{
    if (!text) return codes[EMUL_INVALID];
    *text = error ? "emulated driver error" : "no error";
    return 0;
}

CALL(GetErrorName, (int error, const char **text)) { return DRV(GetErrorString)(error, text); }
