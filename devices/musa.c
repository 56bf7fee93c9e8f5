/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moore Threads MUSA.
 *
 * Not certain: the numbers of memory kinds and of errors, which are CUDA's here (an error that the library calls
 * NotReady counts too), the size of IPC handles, whether the range of an allocation and the words are asked for under
 * CUDA's versioned names. Of the sonames .5, .4 and .1.x were seen.
 */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libmusart.so.5", "libmusart.so.4", "libmusart.so", NULL};
static const char *const drivers[] = {"libmusa.so.1", "libmusa.so", NULL};
static const char *const folders[] = {"/usr/local/musa/lib", NULL};
static const char *const nodes[] = {"/dev/mtgpu.0", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    {MDL_CUDA_RANGE, "MemGetAddressRange_v2"},
    {MDL_CUDA_RANGE, "MemGetAddressRange"},
    {MDL_CUDA_NUM_CALLS, NULL},
};

static const struct mdl_cuda_vendor musa = {
    .prefix = "musa",
    .driver_prefix = "mu",
    .runtimes = runtimes,
    .drivers = drivers,
    .folders = folders,
    .nodes = nodes,
    .renames = renames,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const char *const collectives[] = {"libmccl.so", NULL};
static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    .prefix = "mccl",
    .libraries = collectives,
    .folders = folders,
    .folders_only = true,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("mccl", &native_table);

const struct mdl_device mdl_device_musa = MDL_CUDA_DEVICE("musa", "Moore Threads MUSA", NULL, &musa, &native);
