/* SPDX-License-Identifier: Apache-2.0 */
/* Enflame: libtopsrt.so. HIP-shaped; memory types 1 and 2 only, so that other pointers are an error (a guess). */
#include "config.h"
#include "tests/emul/cuda_codes.h"

#define VENDOR          EMUL_TOPS
#define RT(name)        tops##name
#define RUNTIME_VERSION 30600
#define DRIVER_VERSION  30600
#define IPC_FLAG        0u
#define POINTER_STRUCT  struct pointer

#define HAS_POOL
#define OWN_MALLOC_ASYNC
#define HAS_HOST_MALLOC
#define HAS_MEMSET
#define HAS_IPC
#define HAS_HOST_FUNCTION
#define HAS_CALLBACK

static const int codes[EMUL_CODES] = {CUDA_CODES};

struct pointer {
    int type, device;
    void *device_pointer, *host_pointer;
    int managed;
    unsigned flags;
};

static int direction(int kind) { return kind >= 0 && kind <= 4 ? kind : -1; }

static int memory_type(int memory)
{
    return memory == EMUL_NONE ? -1 : memory == EMUL_HOST || memory == EMUL_PINNED ? 1 : 2;
}

static void fill_pointer(struct pointer *out, const struct emul_info *info, int type, void *address)
{
    out->type = type;
    out->device = info->device;
    out->device_pointer = address;
    out->host_pointer = type == 1 ? address : NULL;
}

#include "tests/emul/family.h"
#define RANGE MemGetAddressRange
#include "tests/emul/family_same.h"

CALL(MallocAsync, (void **out, size_t size, void *stream, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    if (flags > 0xff) return finish(emul_misuse(EMUL_INVALID, "flags 0x%x: is the fourth argument there?", flags));
    return finish(emul_malloc(VENDOR, EMUL_POOL, size, out));
}
