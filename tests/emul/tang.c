/* SPDX-License-Identifier: Apache-2.0 */
/* Sunrise: libtangrt_shared.so, close to CUDA 11. Numbers by guess. */
#include "config.h"

#define VENDOR          EMUL_TANG
#define RT(name)        tang##name
#define RUNTIME_VERSION 11000
#define DRIVER_VERSION  11000
#define IPC_FLAG        1u

#define HAS_HOST_ALLOC
#define HAS_MALLOC_HOST
#define HAS_FREE_HOST
#define HAS_MEMSET
#define HAS_IPC
#define HAS_HOST_FUNCTION
#define HAS_CALLBACK
#define HAS_CAPTURE

#include "tests/emul/family_defaults.h"
#include "tests/emul/family.h"
#define RANGE MemGetAddressRange_v2
#define HAS_MEMORY_OPERATIONS
#include "tests/emul/family_same.h"
