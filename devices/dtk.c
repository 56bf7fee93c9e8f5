/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hygon's DTK: HIP of the 5.2 series, with its numbers, under another library name. The machine has AMD's node, and is
 * told apart by the folders of the toolkit and of its driver.
 *
 * Not certain: that every call of HIP 5.2 is in the library. There is no export as dma-buf.
 */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libgalaxyhip.so.5", "libgalaxyhip.so", NULL};
static const char *const folders[] = {"/opt/dtk/hip/lib", "/opt/dtk/lib", NULL};
static const char *const nodes[] = {"/dev/kfd", NULL};
static const char *const signs[] = {"/opt/dtk*", "/opt/hyhal*", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    {MDL_CUDA_HOST_ALLOC, "HostMalloc"},
    {MDL_CUDA_HOST_FREE, "HostFree"},
    {MDL_CUDA_RANGE, "MemGetAddressRange"},
    {MDL_CUDA_WRITE_WORD, "StreamWriteValue64"},
    {MDL_CUDA_WAIT_WORD, "StreamWaitValue64"},
    {MDL_CUDA_WORD_ALLOC, "ExtMallocWithFlags"},
    {MDL_CUDA_BUFFER_ID, NULL},
    {MDL_CUDA_FUNC_CALLBACK, "StreamAddCallback"},
    {MDL_CUDA_DMABUF, NULL},
    {MDL_CUDA_NUM_CALLS, NULL},
};

static const struct mdl_cuda_vendor dtk = {
    .prefix = "hip",
    .driver_prefix = "hip",
    .runtimes = runtimes,
    .folders = folders,
    .nodes = nodes,
    .signs = signs,
    .renames = renames,
    .quirks = MDL_CUDA_WAIT_MASK | MDL_CUDA_SIGNAL_WORDS | MDL_CUDA_HIP_TYPES,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const char *const collectives[] = {"librccl.so.1", "librccl.so", NULL};
static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    .prefix = "nccl",
    .libraries = collectives,
    .folders = folders,
    .average_since = 21000,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("rccl", &native_table);

const struct mdl_device mdl_device_dtk = MDL_CUDA_DEVICE("dtk", "Hygon DTK", NULL, &dtk, &native);
