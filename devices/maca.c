/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MetaX MACA; the libraries of its first years have the prefix hc. Runtime and driver are one library with one prefix.
 *
 * Not certain: all numbers (of copies, kinds of memory and errors: CUDA's here), the size of IPC handles, whether the
 * older library has this file name, the name of the range's call.
 */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libmcruntime.so", NULL};
static const char *const folders[] = {"/opt/maca/lib", NULL};
static const char *const nodes[] = {"/dev/mxcd", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    {MDL_CUDA_HOST_ALLOC, "MallocHost"},    {MDL_CUDA_MALLOC_HOST, NULL}, {MDL_CUDA_RANGE, "MemGetAddressRange_v2"},
    {MDL_CUDA_RANGE, "MemGetAddressRange"}, {MDL_CUDA_NUM_CALLS, NULL},
};

/* Its calls are the same. */
static const struct mdl_cuda_vendor older = {
    .prefix = "hc",
    .driver_prefix = "hc",
    .runtimes = runtimes,
    .folders = folders,
    .nodes = nodes,
    .renames = renames,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const struct mdl_cuda_vendor maca = {
    .prefix = "mc",
    .driver_prefix = "mc",
    .runtimes = runtimes,
    .folders = folders,
    .nodes = nodes,
    .renames = renames,
    .older = &older,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const char *const collectives[] = {"libmccl.so", NULL};
static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    .prefix = "mccl",
    .older = "mxccl",
    .libraries = collectives,
    .folders = folders,
    .folders_only = true,
    .average_since = 21000,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("mccl", &native_table);

const struct mdl_device mdl_device_maca = MDL_CUDA_DEVICE("maca", "MetaX MACA", NULL, &maca, &native);
