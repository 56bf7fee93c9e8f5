/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sunrise TANG: close to CUDA 11. It wants captures to be relaxed around allocations of host memory, which the family
 * does for all that can.
 *
 * Not certain: all numbers (CUDA's here), the size of IPC handles, the device's node, which is therefore not looked at.
 */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libtangrt_shared.so", NULL};
static const char *const folders[] = {"/usr/local/tangrt/targets/linux-x86_64/lib", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    {MDL_CUDA_RANGE, "MemGetAddressRange_v2"},
    {MDL_CUDA_RANGE, "MemGetAddressRange"},
    {MDL_CUDA_NUM_CALLS, NULL},
};

static const struct mdl_cuda_vendor tang = {
    .prefix = "tang",
    .driver_prefix = "tang",
    .runtimes = runtimes,
    .folders = folders,
    .renames = renames,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const char *const collectives[] = {"libpccl.so", NULL};
static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    .prefix = "pccl",
    .libraries = collectives,
    .folders = folders,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("pccl", &native_table);

const struct mdl_device mdl_device_tang = MDL_CUDA_DEVICE("tang", "Sunrise TANG", NULL, &tang, &native);
