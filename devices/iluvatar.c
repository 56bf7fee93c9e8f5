/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Iluvatar CoreX: CUDA's names for libraries and calls. The PCI vendor tells its library from NVIDIA's where both are
 * installed.
 *
 * Not certain: which version of CUDA the calls follow. Nobody was seen to export a dma-buf: that stays off.
 */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libcudart.so", NULL};
static const char *const drivers[] = {"libcuda.so.1", "libcuda.so", NULL};
static const char *const folders[] = {"/usr/local/corex/lib", "/usr/local/corex/lib64", NULL};
static const char *const nodes[] = {"/dev/iluvatar*", "/dev/aip_bi*", NULL};
static const char *const foreign[] = {"hggcGetDeviceCount", "xpu_device_count", "hipGetDeviceCount", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    {MDL_CUDA_DMABUF, NULL},
    {MDL_CUDA_NUM_CALLS, NULL},
};

static const struct mdl_cuda_vendor iluvatar = {
    .prefix = "cuda",
    .driver_prefix = "cu",
    .runtimes = runtimes,
    .drivers = drivers,
    .folders = folders,
    .folders_first = true,
    .nodes = nodes,
    .foreign = foreign,
    .renames = renames,
    .pci_vendor = 0x1e3e,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const char *const collectives[] = {"libnccl.so", "libnccl.so.2", NULL};
static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    .prefix = "nccl",
    .libraries = collectives,
    .folders = folders,
    .folders_only = true,
    .foreign = foreign,
    .average_since = 21000,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("ixccl", &native_table);

const struct mdl_device mdl_device_iluvatar = MDL_CUDA_DEVICE("iluvatar", "Iluvatar CoreX", NULL, &iluvatar, &native);
