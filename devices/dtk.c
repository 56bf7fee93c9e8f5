/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hygon's DTK: HIP of the 5.2 series, with its numbers, under another library name. The machine has AMD's node, and is
 * told apart by the folders of the toolkit and of its driver.
 *
 * Not certain: that every call of HIP 5.2 is in the library. There is no export as dma-buf.
 */
#include "config.h"

#include "devices/hip.h"

static const char *const runtimes[] = {"libgalaxyhip.so.5", "libgalaxyhip.so", NULL};
static const char *const folders[] = {"/opt/dtk/hip/lib", "/opt/dtk/lib", NULL};
static const char *const signs[] = {"/opt/dtk*", "/opt/hyhal*", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    MDL_HIP_RENAMES,
    {MDL_CUDA_DMABUF, NULL},
    {MDL_CUDA_NUM_CALLS, NULL},
};

static const struct mdl_cuda_vendor dtk = {
    MDL_HIP_VENDOR, .runtimes = runtimes, .folders = folders, .signs = signs, .renames = renames, .state = &state,
};

static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    MDL_RCCL_VENDOR,
    .folders = folders,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("rccl", &native_table);

const struct mdl_device mdl_device_dtk = MDL_CUDA_DEVICE("dtk", "Hygon DTK", NULL, &dtk, &native);
