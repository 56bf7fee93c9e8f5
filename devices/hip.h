/* SPDX-License-Identifier: Apache-2.0 */
/* What AMD's HIP and Hygon's DTK, which is HIP of the 5.2 series, have in common: rows of their tables. */
#ifndef MDL_DEVICES_HIP_H_
#define MDL_DEVICES_HIP_H_

#include "devices/cuda_family.h"
#include "devices/nccl_family.h"

static const char *const mdl_hip_nodes[] = {"/dev/kfd", NULL};
static const char *const mdl_rccl_libraries[] = {"librccl.so.1", "librccl.so", NULL};

#define MDL_HIP_RENAMES                                                                                                \
    {MDL_CUDA_HOST_ALLOC, "HostMalloc"},                                                                               \
    {MDL_CUDA_HOST_FREE, "HostFree"},                                                                                  \
    {MDL_CUDA_RANGE, "MemGetAddressRange"},                                                                            \
    {MDL_CUDA_WRITE_WORD, "StreamWriteValue64"},                                                                       \
    {MDL_CUDA_WAIT_WORD, "StreamWaitValue64"},                                                                         \
    {MDL_CUDA_WORD_ALLOC, "ExtMallocWithFlags"},                                                                       \
    {MDL_CUDA_BUFFER_ID, NULL},                                                                                        \
    {MDL_CUDA_FUNC_CALLBACK, "StreamAddCallback"}

/* Of struct mdl_cuda_vendor: the driver's calls are in the same library and have the same prefix. */
#define MDL_HIP_VENDOR                                                                                                 \
    .prefix = "hip", .driver_prefix = "hip", .nodes = mdl_hip_nodes,                                                   \
    .quirks = MDL_CUDA_WAIT_MASK | MDL_CUDA_SIGNAL_WORDS | MDL_CUDA_HIP_TYPES, .not_ready = 600, .out_of_memory = 2,   \
    .ipc_flag = 1

/* Of struct mdl_nccl_vendor. */
#define MDL_RCCL_VENDOR .prefix = "nccl", .libraries = mdl_rccl_libraries, .average_since = 21000

#endif
