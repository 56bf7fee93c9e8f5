/* SPDX-License-Identifier: Apache-2.0 */
/* NVIDIA CUDA 11 to 13. */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so", NULL};
static const char *const drivers[] = {"libcuda.so.1", NULL};
static const char *const folders[] = {"/usr/local/cuda/lib64", NULL};
static const char *const nodes[] = {"/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-ctrl-gpu", NULL};
/* of T-Head, Kunlunxin, Hygon and Iluvatar, whose libraries have the same names */
static const char *const foreign[] = {"hggcGetDeviceCount", "xpu_device_count", "hipGetDeviceCount",
                                      "ixDriverGetVersion", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char *const compilers[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so", NULL};
static const char *const options[] = {"--fmad=false", "--ftz=false", NULL};

/* Without an architecture it makes PTX that the driver compiles for the device that is here. */
static const struct mdl_rtc_vendor nvrtc = {
    .prefix = "nvrtc",
    .code_size = "GetPTXSize",
    .code = "GetPTX",
    .libraries = compilers,
    .options = options,
    .version_unit = 1000,
};

static const char *const blocking[] = {"CUDA_LAUNCH_BLOCKING", NULL};

static const struct mdl_cuda_vendor cuda = {
    .prefix = "cuda",
    .driver_prefix = "cu",
    .runtimes = runtimes,
    .drivers = drivers,
    .folders = folders,
    .nodes = nodes,
    .pci_vendor = 0x10de,
    .foreign = foreign,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .rtc = &nvrtc,
    .blocking = blocking,
    .state = &state,
};

static const char *const collectives[] = {"libnccl.so.2", NULL};
static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    .prefix = "nccl",
    .libraries = collectives,
    .folders = folders,
    .nodes = nodes,
    .foreign = foreign,
    .average_since = 21000,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("nccl", &native_table);

const struct mdl_device mdl_device_cuda = MDL_CUDA_DEVICE("cuda", "NVIDIA CUDA", NULL, &cuda, &native);
