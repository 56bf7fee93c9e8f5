/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Biren: libsupa-runtime.so. Newer SDKs have supa* like CUDA; older ones (SUPA_OLD) su*, with the stream before the
 * kind and waits of two arguments. The numbers are CUDA's by guess.
 */
#include "config.h"

#define VENDOR          EMUL_SUPA
#define RUNTIME_VERSION 1000
#define DRIVER_VERSION  1000
#define IPC_FLAG        1u
#ifdef SUPA_OLD
#define RT(name) su##name
#define OWN_MEMCPY_ASYNC
#define OWN_WAIT_EVENT
#else
#define RT(name) supa##name
#endif

#define HAS_HOST_ALLOC
#define HAS_MALLOC_HOST
#define HAS_FREE_HOST
#define HAS_MEMSET
#define HAS_IPC
#define HAS_HOST_FUNCTION

#include "tests/emul/family_defaults.h"
#include "tests/emul/family.h"
#define RANGE      MemGetAddressRange_v2
#define SAME(name) su##name
#define HAS_MEMORY_OPERATIONS
#include "tests/emul/family_same.h"

#ifdef SUPA_OLD
CALL(MemcpyAsync, (void *to, const void *from, size_t size, void *stream, int kind))
{
    ENTER(EMUL_NEED_DEVICE);
    return copy_async(to, from, size, kind, stream);
}

CALL(StreamWaitEvent, (void *stream, void *event))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_event_wait(VENDOR, stream_of(stream), event));
}
#endif

EMUL_API int suMemGetHandleForAddressRange(void *fd, uint64_t address, size_t size, int type, unsigned long long flags);
int suMemGetHandleForAddressRange(void *fd, uint64_t address, size_t size, int type, unsigned long long flags)
{
    ENTER(EMUL_NEED_CONTEXT);
    if (type != 1 || flags > 1) return finish(EMUL_INVALID);
    return finish(emul_dmabuf(VENDOR, (const void *)(uintptr_t)address, size, fd));
}
