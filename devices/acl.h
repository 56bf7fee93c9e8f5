/* SPDX-License-Identifier: Apache-2.0 */
/* ACL's calls as they were bound, for the two sources of its adapter. */
#ifndef MDL_DEVICES_ACL_H_
#define MDL_DEVICES_ACL_H_

#include "devices/calls.h"

/* CALL(identifier, name without "acl", needed) */
#define MDL_ACL_CALLS(CALL)                                                                                            \
    CALL(INIT, "Init", 1)                                                                                              \
    CALL(RECENT, "GetRecentErrMsg", 0)                                                                                 \
    CALL(COUNT, "rtGetDeviceCount", 1)                                                                                 \
    CALL(SET_DEVICE, "rtSetDevice", 1)                                                                                 \
    CALL(GET_DEVICE, "rtGetDevice", 1)                                                                                 \
    CALL(SOC_NAME, "rtGetSocName", 0)                                                                                  \
    CALL(PCI, "rtDeviceGetPCIBusId", 0)                                                                                \
    CALL(MALLOC, "rtMalloc", 1)                                                                                        \
    CALL(FREE, "rtFree", 1)                                                                                            \
    CALL(MALLOC_HOST, "rtMallocHost", 1)                                                                               \
    CALL(FREE_HOST, "rtFreeHost", 1)                                                                                   \
    CALL(COPY, "rtMemcpyAsync", 1)                                                                                     \
    CALL(POINTER, "rtPointerGetAttributes", 0)                                                                         \
    CALL(RANGE, "rtMemGetAddressRange", 0)                                                                             \
    CALL(STREAM_CREATE, "rtCreateStream", 1)                                                                           \
    CALL(STREAM_DESTROY, "rtDestroyStream", 1)                                                                         \
    CALL(STREAM_SYNC, "rtSynchronizeStream", 1)                                                                        \
    CALL(EVENT_CREATE, "rtCreateEventWithFlag", 0)                                                                     \
    CALL(EVENT_DESTROY, "rtDestroyEvent", 0)                                                                           \
    CALL(EVENT_RECORD, "rtRecordEvent", 0)                                                                             \
    CALL(EVENT_STATUS, "rtQueryEventStatus", 0)                                                                        \
    CALL(EVENT_WAIT_STATUS, "rtQueryEventWaitStatus", 0)                                                               \
    CALL(STREAM_WAIT_EVENT, "rtStreamWaitEvent", 0)                                                                    \
    CALL(LAUNCH_HOST_FUNC, "rtLaunchHostFunc", 0)                                                                      \
    CALL(LAUNCH_CALLBACK, "rtLaunchCallback", 0)                                                                       \
    CALL(SUBSCRIBE, "rtSubscribeReport", 0)                                                                            \
    CALL(PROCESS_REPORT, "rtProcessReport", 0)                                                                         \
    CALL(EXPORT, "rtIpcMemGetExportKey", 0)                                                                            \
    CALL(IMPORT, "rtIpcMemImportByKey", 0)                                                                             \
    CALL(CLOSE, "rtIpcMemClose", 0)

enum mdl_acl_call {
#define CALL(id, name, needed) MDL_ACL_##id,
    MDL_ACL_CALLS(CALL)
#undef CALL
        MDL_ACL_NUM_CALLS
};

extern void *mdl_acl_fn[MDL_ACL_NUM_CALLS];

#define ACL(id, ...)      ((int (*)(__VA_ARGS__))(uintptr_t)mdl_acl_fn[MDL_ACL_##id])
#define ACL_HAS(id)       (mdl_acl_fn[MDL_ACL_##id] != NULL)
#define ACL_CHECK(id, rc) mdl_acl_check(MDL_ACL_##id, rc)

medleyResult_t mdl_acl_check(enum mdl_acl_call call, int rc); /* reports an error */

/* acl_report.c: a host function where there is no LaunchHostFunc, and the end of a stream that may have had some. */
medleyResult_t mdl_acl_report(mdl_dev_stream stream, void (*fn)(void *), void *arg);
void mdl_acl_forget_stream(mdl_dev_stream stream);

#endif
