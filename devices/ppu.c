/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T-Head's PPU: libraries with CUDA's names over the vendor's own (hggc*), whose folder the loader must know.
 *
 * Not certain: everything but the names. Where NVIDIA's libraries are installed too, name the folder.
 */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libcudart.so.13", "libcudart.so.12", "libcudart.so", NULL};
static const char *const drivers[] = {"libcuda.so.1", "libcuda.so", NULL};
static const char *const nodes[] = {"/dev/alixpu*", NULL};
static const char *const foreign[] = {"xpu_device_count", "hipGetDeviceCount", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_vendor ppu = {
    .prefix = "cuda",
    .driver_prefix = "cu",
    .runtimes = runtimes,
    .drivers = drivers,
    .nodes = nodes,
    .foreign = foreign,
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
    .folders_only = true,
    .foreign = foreign,
    .average_since = 21000,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("ppu nccl", &native_table);

const struct mdl_device mdl_device_ppu = MDL_CUDA_DEVICE("ppu", "T-Head PPU", NULL, &ppu, &native);
