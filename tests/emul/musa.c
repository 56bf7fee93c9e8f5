/* SPDX-License-Identifier: Apache-2.0 */
/* Moore Threads: libmusart.so.5. Names and orders are known from use; the numbers are CUDA's by guess. */
#include "config.h"

#define VENDOR          EMUL_MUSA
#define RT(name)        musa##name
#define RUNTIME_VERSION 40300
#define DRIVER_VERSION  40300
#define IPC_FLAG        1u

#define HAS_MANAGED
#define HAS_POOL
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
