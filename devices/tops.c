/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enflame TOPS: HIP's names, and CUDA's numbers of memory kinds in all versions. The flag of an IPC import is 0. Older
 * releases have no LaunchHostFunc. There is no export as dma-buf.
 *
 * Not certain: the name of the range's call, without which nothing is exported by IPC; the number of running out of
 * memory. Version 3.6 is said to fail at copies from card to card, which nothing here asks for.
 */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libtopsrt.so", NULL};
static const char *const folders[] = {"/opt/tops/lib", "/usr/lib", NULL};
static const char *const nodes[] = {"/dev/gcu0", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    {MDL_CUDA_HOST_ALLOC, "HostMalloc"},
    {MDL_CUDA_HOST_FREE, "HostFree"},
    {MDL_CUDA_RANGE, "MemGetAddressRange_v2"},
    {MDL_CUDA_RANGE, "MemGetAddressRange"},
    {MDL_CUDA_FUNC_CALLBACK, "StreamAddCallback"},
    {MDL_CUDA_DMABUF, NULL},
    {MDL_CUDA_NUM_CALLS, NULL},
};

static const struct mdl_cuda_vendor tops = {
    .prefix = "tops",
    .driver_prefix = "tops",
    .runtimes = runtimes,
    .folders = folders,
    .nodes = nodes,
    .renames = renames,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 0,
    .state = &state,
};

static const char *const collectives[] = {"libeccl.so", NULL};
static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    .prefix = "eccl",
    .libraries = collectives,
    .folders = folders,
    .nodes = nodes,
    .average_since = 1,
    .narrow = true,
    .ways = MDL_NATIVE_ONE_KIND,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("eccl", &native_table);

const struct mdl_device mdl_device_tops = MDL_CUDA_DEVICE("tops", "Enflame TOPS", NULL, &tops, &native);
