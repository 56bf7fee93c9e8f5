/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kunlunxin's CUDA layer over its XPU runtime, which itself has no asynchronous copies, no queries and no host
 * functions. The driver's calls are in libxpucuda.so, to which libcuda.so.1 is a link. It has one context per process.
 *
 * Not certain: everything but the names. Where NVIDIA's libraries are installed too, name the folder.
 */
#include "config.h"

#include "devices/ccl.h"
#include "devices/cuda_family.h"

static const char *const runtimes[] = {"libcudart.so", NULL};
static const char *const drivers[] = {"libxpucuda.so.1", "libxpucuda.so", "libcuda.so.1", NULL};
static const char *const folders[] = {"/usr/local/xpu/so", NULL};
static const char *const nodes[] = {"/dev/xpuctrl", "/dev/xpu0", NULL};
static const char *const foreign[] = {"hggcGetDeviceCount", "hipGetDeviceCount", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_vendor kunlun = {
    .prefix = "cuda",
    .driver_prefix = "cu",
    .runtimes = runtimes,
    .drivers = drivers,
    .folders = folders,
    .folders_first = true,
    .nodes = nodes,
    .foreign = foreign,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const struct mdl_native native =
    MDL_CCL_NOT_SUPPORTED("bkcl", "the numbers of the types and operations of Kunlunxin's BKCL are not known");

const struct mdl_device mdl_device_kunlun = MDL_CUDA_DEVICE("kunlun", "Kunlunxin XPU (CUDA layer)", NULL, &kunlun,
                                                                   &native);
