/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tsingmicro: libhpgr.so. Device numbers are unsigned, IPC opens and stream waits have two arguments, events no flags,
 * and there is no memset. The numbers are CUDA's by guess.
 */
#include "config.h"
#include <stdint.h>

#define VENDOR          EMUL_TX
#define RT(name)        tx##name
#define DEVICE_NUMBER   uint32_t
#define RUNTIME_VERSION 1000
#define DRIVER_VERSION  1000

#define HAS_MALLOC_HOST
#define HAS_FREE_HOST
#define HAS_IPC
#define HAS_HOST_FUNCTION
#define OWN_WAIT_EVENT
#define OWN_IPC_OPEN
#define NO_EVENT_FLAGS

#include "tests/emul/family_defaults.h"
#include "tests/emul/family.h"
#define RANGE MemGetAddressRange_v2
#include "tests/emul/family_same.h"

/* The callee cannot know what a caller gave it beyond its arguments. With the fault `spare` it looks into the register
 * behind the last one: flags, which such a call has elsewhere, are 0 for a wait and 1 for an import, while a caller
 * that gives none leaves there what it had. */
static bool is_spare(uint64_t found, unsigned flags)
{
    return !emul_fault(VENDOR, "spare", NULL) || (unsigned)found != flags;
}

CALL(StreamWaitEvent, (void *stream, void *event, uint64_t behind))
{
    ENTER(EMUL_NEED_DEVICE);
    if (!is_spare(behind, 0)) return finish(emul_misuse(EMUL_INVALID, "a third argument, where there are two"));
    return finish(emul_event_wait(VENDOR, stream_of(stream), event));
}

CALL(IpcOpenMemHandle, (void **out, struct ipc_handle handle, uint64_t behind))
{
    ENTER(EMUL_NEED_DEVICE | EMUL_UNSAFE);
    if (!is_spare(behind, 1)) return finish(emul_misuse(EMUL_INVALID, "a third argument, where there are two"));
    return finish(emul_ipc_import(VENDOR, &handle, out));
}

CALL(GetDeviceProperty, (uint32_t device, void *out))
{
    ENTER(0);
    return finish(emul_device_name(VENDOR, (int)device, out, 256));
}

CALL(MemGetHandleForAddressRange, (void *fd, uint64_t address, size_t size, int type, unsigned long long flags))
{
    ENTER(EMUL_NEED_DEVICE);
    if (type != 1 || flags > 1) return finish(EMUL_INVALID);
    return finish(emul_dmabuf(VENDOR, (const void *)(uintptr_t)address, size, fd));
}
