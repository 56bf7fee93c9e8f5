/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the OpenCL adapter share: the calls of libOpenCL.so.1, declared here since no header of OpenCL is
 * needed to build, and the devices. Handles are opaque pointers; names are OpenCL's without `cl`.
 */
#ifndef MDL_DEVICES_OPENCL_H_
#define MDL_DEVICES_OPENCL_H_

#include "devices/follow.h"
#include <medley/plugin.h>

typedef void *mdl_cl; /* any handle */

/* CALL(what it returns, name, arguments) */
#define MDL_CL_CALLS(CALL)                                                                                             \
    CALL(int32_t, GetPlatformIDs, (uint32_t n, mdl_cl * list, uint32_t * count))                                       \
    CALL(int32_t, GetPlatformInfo, (mdl_cl platform, uint32_t what, size_t room, void *value, size_t *used))           \
    CALL(int32_t, GetDeviceIDs, (mdl_cl platform, uint64_t type, uint32_t n, mdl_cl * list, uint32_t * count))         \
    CALL(int32_t, GetDeviceInfo, (mdl_cl device, uint32_t what, size_t room, void *value, size_t *used))               \
    CALL(mdl_cl, CreateContext,                                                                                        \
         (const intptr_t *properties, uint32_t n, const mdl_cl *devices, void *notify, void *arg, int32_t *rc))        \
    CALL(int32_t, ReleaseContext, (mdl_cl context))                                                                    \
    CALL(mdl_cl, CreateCommandQueueWithProperties,                                                                     \
         (mdl_cl context, mdl_cl device, const uint64_t *properties, int32_t *rc))                                     \
    CALL(int32_t, RetainCommandQueue, (mdl_cl queue))                                                                  \
    CALL(int32_t, ReleaseCommandQueue, (mdl_cl queue))                                                                 \
    CALL(int32_t, GetCommandQueueInfo, (mdl_cl queue, uint32_t what, size_t room, void *value, size_t *used))          \
    CALL(int32_t, Flush, (mdl_cl queue))                                                                               \
    CALL(int32_t, Finish, (mdl_cl queue))                                                                              \
    CALL(void *, SVMAlloc, (mdl_cl context, uint64_t flags, size_t bytes, uint32_t alignment))                         \
    CALL(void, SVMFree, (mdl_cl context, void *memory))                                                                \
    CALL(int32_t, EnqueueSVMMemcpy,                                                                                    \
         (mdl_cl queue, uint32_t blocking, void *dst, const void *src, size_t bytes, uint32_t n, const mdl_cl *events, \
          mdl_cl *event))                                                                                              \
    CALL(int32_t, EnqueueMarkerWithWaitList, (mdl_cl queue, uint32_t n, const mdl_cl *events, mdl_cl *event))          \
    CALL(int32_t, EnqueueBarrierWithWaitList, (mdl_cl queue, uint32_t n, const mdl_cl *events, mdl_cl *event))         \
    CALL(mdl_cl, CreateUserEvent, (mdl_cl context, int32_t * rc))                                                      \
    CALL(int32_t, SetUserEventStatus, (mdl_cl event, int32_t status))                                                  \
    CALL(int32_t, GetEventInfo, (mdl_cl event, uint32_t what, size_t room, void *value, size_t *used))                 \
    CALL(int32_t, RetainEvent, (mdl_cl event))                                                                         \
    CALL(int32_t, ReleaseEvent, (mdl_cl event))                                                                        \
    CALL(mdl_cl, CreateProgramWithSource,                                                                              \
         (mdl_cl context, uint32_t n, const char **texts, const size_t *lengths, int32_t *rc))                         \
    CALL(int32_t, BuildProgram,                                                                                        \
         (mdl_cl program, uint32_t n, const mdl_cl *devices, const char *options, void *notify, void *arg))            \
    CALL(int32_t, GetProgramBuildInfo,                                                                                 \
         (mdl_cl program, mdl_cl device, uint32_t what, size_t room, void *value, size_t *used))                       \
    CALL(int32_t, ReleaseProgram, (mdl_cl program))                                                                    \
    CALL(mdl_cl, CreateKernel, (mdl_cl program, const char *name, int32_t *rc))                                        \
    CALL(int32_t, ReleaseKernel, (mdl_cl kernel))                                                                      \
    CALL(int32_t, GetKernelInfo, (mdl_cl kernel, uint32_t what, size_t room, void *value, size_t *used))               \
    CALL(int32_t, GetKernelArgInfo,                                                                                    \
         (mdl_cl kernel, uint32_t index, uint32_t what, size_t room, void *value, size_t *used))                       \
    CALL(int32_t, SetKernelArg, (mdl_cl kernel, uint32_t index, size_t bytes, const void *value))                      \
    CALL(int32_t, SetKernelArgSVMPointer, (mdl_cl kernel, uint32_t index, const void *value))                          \
    CALL(int32_t, EnqueueNDRangeKernel,                                                                                \
         (mdl_cl queue, mdl_cl kernel, uint32_t dimensions, const size_t *offset, const size_t *global,                \
          const size_t *local, uint32_t n, const mdl_cl *events, mdl_cl *event))

struct mdl_cl_calls {
#define CALL(type, name, args) type(*name) args;
    MDL_CL_CALLS(CALL)
#undef CALL
};
extern struct mdl_cl_calls mdl_cl_call; /* whole once probe has succeeded */

struct mdl_cl_device {
    mdl_cl platform, id;
    bool cpu;
    const char *lacks;     /* why it cannot be used, NULL: it can */
    mdl_cl context, queue; /* of the adapter: made when it is first entered */
};

/* opencl_bind.c */
medleyResult_t mdl_cl_probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes);
uint32_t mdl_cl_caps(const struct mdl_device *d);
medleyResult_t mdl_cl_count(const struct mdl_device *d, int *count);
medleyResult_t mdl_cl_info(const struct mdl_device *d, int ordinal, struct mdl_device_info *info);
medleyResult_t mdl_cl_enter(const struct mdl_device *d, int ordinal);
medleyResult_t mdl_cl_current(const struct mdl_device *d, int *ordinal);
medleyResult_t mdl_cl_here(struct mdl_cl_device **dev); /* the device that this thread has entered, else the first one
                                                         */
medleyResult_t mdl_cl_check(int32_t rc, const char *call); /* Success, or reported */

/* opencl_kernel.c */
medleyResult_t mdl_cl_module_load(const struct mdl_device *d, const char *source, void **module);
medleyResult_t mdl_cl_module_unload(const struct mdl_device *d, void *module);
medleyResult_t mdl_cl_kernel_find(const struct mdl_device *d, void *module, const char *name, void **kernel);
medleyResult_t mdl_cl_kernel_launch(const struct mdl_device *d, void *kernel, const struct mdl_grid *grid,
                                    mdl_dev_stream stream);

/* opencl.c: what a stream is. An unordered queue gets barriers around what the adapter appends. */
struct mdl_cl_queue {
    mdl_cl q, context;
    bool unordered;
};
medleyResult_t mdl_cl_queue_of(mdl_dev_stream stream, struct mdl_cl_queue *queue);
medleyResult_t mdl_cl_fence(const struct mdl_cl_queue *queue); /* of an unordered queue; else nothing */

#endif
