/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Biren SUPA. In older SDKs the runtime had the prefix that is the driver's now, and some calls other arguments.
 *
 * Not certain: all numbers (CUDA's here), the size of IPC handles, which file holds the driver's calls (the runtime's
 * is asked for them), the older library's file name and its names for pinned memory.
 */
#include "config.h"

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const runtimes[] = {"libsupa-runtime.so", NULL};
static const char *const nodes[] = {"/dev/biren*", NULL};

static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_cuda_rename renames[] = {
    {MDL_CUDA_RANGE, "MemGetAddressRange_v2"},
    {MDL_CUDA_RANGE, "MemGetAddressRange"},
    {MDL_CUDA_NUM_CALLS, NULL},
};

/* The words and the rest of the driver did not exist. */
static const struct mdl_cuda_vendor older = {
    .prefix = "su",
    .driver_prefix = "su",
    .runtimes = runtimes,
    .nodes = nodes,
    .renames = renames,
    .quirks = MDL_CUDA_STREAM_BEFORE_KIND | MDL_CUDA_WAIT_EVENT_PLAIN,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const struct mdl_cuda_vendor supa = {
    .prefix = "supa",
    .driver_prefix = "su",
    .runtimes = runtimes,
    .nodes = nodes,
    .renames = renames,
    .older = &older,
    .not_ready = 600,
    .out_of_memory = 2,
    .ipc_flag = 1,
    .state = &state,
};

static const char *const collectives[] = {"libsuccl.so", NULL};
static struct mdl_ccl_state native_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct mdl_nccl_vendor native_table = {
    .prefix = "succl",
    .libraries = collectives,
    .nodes = nodes,
    .state = &native_state,
};

static const struct mdl_native native = MDL_NCCL_NATIVE("succl", &native_table);

const struct mdl_device mdl_device_supa = MDL_CUDA_DEVICE("supa", "Biren SUPA", NULL, &supa, &native);
