/* SPDX-License-Identifier: Apache-2.0 */
/* AMD HIP, from ROCm 5 to 7. Hygon's machines have the same node: dtk.c is for them. */
#include "config.h"

#include "devices/hip.h"

static const char *const runtimes[] = {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so",
                                       NULL};
static const char *const folders[] = {"/opt/rocm/lib", NULL};
static const char *const others[] = {"/opt/dtk*", "/opt/hyhal*", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    MDL_HIP_RENAMES,
    {MDL_CUDA_LAUNCH, "ModuleLaunchKernel"},
    {MDL_CUDA_NUM_CALLS, NULL},
};

static const char *const compilers[] = {"libhiprtc.so.7", "libhiprtc.so.6", "libhiprtc.so.5", "libhiprtc.so", NULL};
static const char *const options[] = {"-ffp-contract=off", NULL};

/* It compiles for the current device unless it is told another. */
static const struct mdl_rtc_vendor hiprtc = {
    .prefix = "hiprtc",
    .code_size = "GetCodeSize",
    .code = "GetCode",
    .libraries = compilers,
    .options = options,
    .version_unit = 10000000,
};

static const char *const blocking[] = {"HIP_LAUNCH_BLOCKING", "AMD_SERIALIZE_KERNEL", NULL};

/* HIP itself exports no dma-buf before 7. */
static const char *const exporters[] = {"libhsa-runtime64.so.1", NULL};

static const struct mdl_cuda_vendor hip = {
    MDL_HIP_VENDOR, .runtimes = runtimes, .folders = folders,     .others = others, .renames = renames,
    .rtc = &hiprtc, .blocking = blocking, .exporters = exporters, .state = &state,
};

static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    MDL_RCCL_VENDOR,
    .folders = folders,
    .nodes = mdl_hip_nodes,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("rccl", &native_table);

const struct mdl_device mdl_device_hip = MDL_CUDA_DEVICE("hip", "AMD HIP", NULL, &hip, &native);
