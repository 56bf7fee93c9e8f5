/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tsingmicro TX: numbers of devices are unsigned, and what has flags in CUDA has none.
 *
 * Not certain: all numbers (CUDA's here), the size of IPC handles, the device's node, which is therefore not looked at.
 */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libhpgr.so", NULL};
static const char *const folders[] = {"/usr/local/kuiper/lib", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    {MDL_CUDA_EVENT_CREATE, NULL},
    {MDL_CUDA_RANGE, "MemGetAddressRange_v2"},
    {MDL_CUDA_RANGE, "MemGetAddressRange"},
    {MDL_CUDA_NUM_CALLS, NULL},
};

static const struct mdl_cuda_vendor tx = {
    .prefix = "tx",
    .driver_prefix = "tx",
    .runtimes = runtimes,
    .folders = folders,
    .renames = renames,
    .quirks = MDL_CUDA_UNSIGNED_DEVICE | MDL_CUDA_IPC_OPEN_PLAIN | MDL_CUDA_WAIT_EVENT_PLAIN,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const char *const collectives[] = {"libtccl.so", NULL};
static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    .prefix = "tccl",
    .libraries = collectives,
    .folders = folders,
    .folders_only = true,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("tccl", &native_table);

const struct mdl_device mdl_device_tx = MDL_CUDA_DEVICE("tx", "Tsingmicro TX", NULL, &tx, &native);
