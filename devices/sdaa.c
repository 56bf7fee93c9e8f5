/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tecorigin SDAA. Nobody was seen to use its IPC or to export a dma-buf: both stay off.
 *
 * Not certain: the library's file name, all numbers (CUDA's here), the device's node, which is therefore not looked at.
 */
#include "config.h"

#include "devices/ccl.h"
#include "devices/cuda_family.h"

static const char *const runtimes[] = {"libsdaart.so", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    {MDL_CUDA_IPC_GET, NULL},
    {MDL_CUDA_DMABUF, NULL},
    {MDL_CUDA_RANGE, "MemGetAddressRange_v2"},
    {MDL_CUDA_RANGE, "MemGetAddressRange"},
    {MDL_CUDA_NUM_CALLS, NULL},
};

static const struct mdl_cuda_vendor sdaa = {
    .prefix = "sdaa",
    .driver_prefix = "sdaa",
    .runtimes = runtimes,
    .renames = renames,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const struct mdl_native native =
    MDL_CCL_NOT_SUPPORTED("tccl", "the calls of Tecorigin's TCCL are not known, but that they have the names of Tsingmicro's");

const struct mdl_device mdl_device_sdaa = MDL_CUDA_DEVICE("sdaa", "Tecorigin SDAA", NULL, &sdaa, &native);
