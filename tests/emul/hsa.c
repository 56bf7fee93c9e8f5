/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ROCr's libhsa-runtime64.so.1, which libamdhip64 is built on: of it only the export as dma-buf. It takes any range of
 * one allocation, says where in the descriptor it begins, and does not know HIP's current device. ROCr 5.2 lacks it.
 */
#include "config.h"
#include "tests/emul/engine.h"
#include <unistd.h>

enum { HSA_INVALID_ARGUMENT = 0x1001, HSA_OUT_OF_RESOURCES = 0x1008, HSA_NOT_INITIALIZED = 0x100b };

__attribute__((constructor)) static void loaded(void) { emul_hide(EMUL_HIP, (const void *)loaded); }

EMUL_API uint32_t hsa_amd_portable_export_dmabuf(const void *ptr, size_t size, int *dmabuf, uint64_t *offset);
uint32_t hsa_amd_portable_export_dmabuf(const void *ptr, size_t size, int *dmabuf, uint64_t *offset)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), at = (size_t)(uintptr_t)ptr % page;

    if (emul_enter(EMUL_HIP, __func__, EMUL_CLEANUP)) return HSA_NOT_INITIALIZED;
    if (!ptr || !size || !dmabuf || !offset) {
        (void)emul_misuse(EMUL_INVALID, "%zu bytes at %p as dma-buf", size, ptr);
        return HSA_INVALID_ARGUMENT;
    }
    switch (emul_dmabuf(EMUL_HIP, (const char *)ptr - at, (at + size + page - 1) / page * page, dmabuf)) {
    case EMUL_OK: *offset = at; return 0;
    case EMUL_INVALID: return HSA_INVALID_ARGUMENT;
    default: return HSA_OUT_OF_RESOURCES;
    }
}
