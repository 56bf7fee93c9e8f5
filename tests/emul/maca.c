/* SPDX-License-Identifier: Apache-2.0 */
/* MetaX: libmcruntime.so, runtime and driver in one. mcMallocHost takes flags; the numbers are CUDA's by guess. */
#include "config.h"

#define VENDOR          EMUL_MACA
#define RT(name)        mc##name
#define RUNTIME_VERSION 3000
#define DRIVER_VERSION  3000
#define IPC_FLAG        1u

#define HAS_MANAGED
#define HAS_POOL
#define HAS_MALLOC_HOST_FLAGS
#define HAS_FREE_HOST
#define HAS_MEMSET
#define HAS_IPC
#define HAS_HOST_FUNCTION
#define HAS_CALLBACK
#define HAS_CAPTURE

#include "tests/emul/family_defaults.h"
#include "tests/emul/family.h"
#define RANGE MemGetAddressRange
#include "tests/emul/family_same.h"

/* What cannot be exported is an invalid device pointer: 17 in CUDA's numbers. */
CALL(MemGetHandleForAddressRange, (void *fd, void *address, size_t size, int type, unsigned long long flags))
{
    ENTER(EMUL_NEED_DEVICE);
    struct emul_info info;
    emul_lookup(VENDOR, address, &info);
    if (type != 1 || flags > 1) return finish(EMUL_INVALID);
    if (info.memory != EMUL_DEVICE) {
        emul_error_set(VENDOR, 17);
        return 17;
    }
    return finish(emul_dmabuf(VENDOR, address, size, fd));
}
