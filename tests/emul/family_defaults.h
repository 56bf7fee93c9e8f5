/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a CUDA-shaped vendor has whose numbers nobody outside has seen: CUDA's. All of it is a guess, and README.md says
 * for whom. Included before family.h by those vendors.
 */
#ifndef VENDOR
#error "is included by a vendor's source, after it has said who it is"
#endif
#include "tests/emul/cuda_codes.h"

#define POINTER_STRUCT struct pointer

static const int codes[EMUL_CODES] = {CUDA_CODES};

struct pointer {
    int type, device;
    void *device_pointer, *host_pointer;
};

static int direction(int kind) { return kind >= 0 && kind <= 4 ? kind : -1; }

static int memory_type(int memory)
{
    return memory == EMUL_NONE ? 0 : memory == EMUL_MANAGED ? 3 : memory == EMUL_HOST || memory == EMUL_PINNED ? 1 : 2;
}

static void fill_pointer(struct pointer *out, const struct emul_info *info, int type, void *address)
{
    out->type = type;
    out->device = type ? info->device : -2;
    out->device_pointer = type ? address : NULL;
    out->host_pointer = type == 2 ? NULL : address;
}
