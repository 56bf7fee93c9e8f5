/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the Level Zero adapter share: the calls of libze_loader.so.1 and the structures that they take,
 * declared here since no header of Level Zero is needed to build. Names are Level Zero's without `ze`.
 */
#ifndef MDL_DEVICES_ZE_H_
#define MDL_DEVICES_ZE_H_

#include "lib/base/list.h"
#include <medley/plugin.h>
#include <pthread.h>

typedef void *mdl_ze; /* any handle */

/* Handles for other processes travel by value. */
struct mdl_ze_ipc {
    char bytes[64];
};

/* The head of every structure, and those that have a few words of 32 bits behind it. */
struct mdl_ze_desc {
    uint32_t stype;
    const void *next;
    uint32_t word[6];
};
enum mdl_ze_stype {
    MDL_ZE_DEVICE_PROPERTIES = 0x3,
    MDL_ZE_QUEUE_GROUP = 0x6,
    MDL_ZE_CONTEXT = 0xd,
    MDL_ZE_QUEUE = 0xe,       /* ordinal, index, flags, mode, priority */
    MDL_ZE_EVENT_POOL = 0x10, /* flags, count */
    MDL_ZE_EVENT = 0x11,      /* index, scope of the signal, of the wait */
    MDL_ZE_DEVICE_MEMORY = 0x15,
    MDL_ZE_HOST_MEMORY = 0x16,
    MDL_ZE_MEMORY_PROPERTIES = 0x17,
    MDL_ZE_EXPORT_FD = 0x1a,
    MDL_ZE_PCI = 0x10008,
};
struct mdl_ze_memory {
    uint32_t stype;
    const void *next;
    uint32_t type; /* 0: unknown, 1: host, 2: device, 3: shared */
    uint64_t id, page_size;
};
struct mdl_ze_fd {
    uint32_t stype;
    const void *next;
    uint32_t flags;
    int fd;
};

/* CALL(name, needed, arguments); all return a code of 32 bits */
#define MDL_ZE_CALLS(CALL)                                                                                             \
    CALL(Init, 1, (uint32_t flags))                                                                                    \
    CALL(DriverGet, 1, (uint32_t * count, mdl_ze * list))                                                              \
    CALL(DriverGetApiVersion, 0, (mdl_ze driver, uint32_t * version))                                                  \
    CALL(DriverGetExtensionFunctionAddress, 0, (mdl_ze driver, const char *name, void **address))                      \
    CALL(DeviceGet, 1, (mdl_ze driver, uint32_t * count, mdl_ze * list))                                               \
    CALL(DeviceGetProperties, 1, (mdl_ze device, void *properties))                                                    \
    CALL(DevicePciGetPropertiesExt, 0, (mdl_ze device, void *properties))                                              \
    CALL(DeviceGetCommandQueueGroupProperties, 0, (mdl_ze device, uint32_t * count, void *list))                       \
    CALL(ContextCreate, 1, (mdl_ze driver, const struct mdl_ze_desc *desc, mdl_ze *context))                           \
    CALL(MemAllocDevice, 1,                                                                                            \
         (mdl_ze context, const struct mdl_ze_desc *desc, size_t bytes, size_t alignment, mdl_ze device, void **p))    \
    CALL(MemAllocHost, 1, (mdl_ze context, const struct mdl_ze_desc *desc, size_t bytes, size_t alignment, void **p))  \
    CALL(MemFree, 1, (mdl_ze context, void *p))                                                                        \
    CALL(MemGetAllocProperties, 1, (mdl_ze context, const void *p, struct mdl_ze_memory *properties, mdl_ze *device))  \
    CALL(MemGetAddressRange, 1, (mdl_ze context, const void *p, void **base, size_t *bytes))                           \
    CALL(MemGetIpcHandle, 0, (mdl_ze context, const void *p, struct mdl_ze_ipc *handle))                               \
    CALL(MemPutIpcHandle, 0, (mdl_ze context, struct mdl_ze_ipc handle))                                               \
    CALL(MemOpenIpcHandle, 0, (mdl_ze context, mdl_ze device, struct mdl_ze_ipc handle, uint32_t flags, void **p))     \
    CALL(MemCloseIpcHandle, 0, (mdl_ze context, const void *p))                                                        \
    CALL(CommandListCreateImmediate, 1,                                                                                \
         (mdl_ze context, mdl_ze device, const struct mdl_ze_desc *queue, mdl_ze *list))                               \
    CALL(CommandListDestroy, 1, (mdl_ze list))                                                                         \
    CALL(CommandListHostSynchronize, 0, (mdl_ze list, uint64_t ns))                                                    \
    CALL(CommandListAppendMemoryCopy, 1,                                                                               \
         (mdl_ze list, void *dst, const void *src, size_t bytes, mdl_ze signal, uint32_t n, mdl_ze *waits))            \
    CALL(CommandListAppendSignalEvent, 1, (mdl_ze list, mdl_ze event))                                                 \
    CALL(CommandListAppendWaitOnEvents, 1, (mdl_ze list, uint32_t n, mdl_ze * events))                                 \
    CALL(EventPoolCreate, 1,                                                                                           \
         (mdl_ze context, const struct mdl_ze_desc *desc, uint32_t n, mdl_ze *devices, mdl_ze *pool))                  \
    CALL(EventCreate, 1, (mdl_ze pool, const struct mdl_ze_desc *desc, mdl_ze *event))                                 \
    CALL(EventDestroy, 1, (mdl_ze event))                                                                              \
    CALL(EventQueryStatus, 1, (mdl_ze event))                                                                          \
    CALL(EventHostSignal, 1, (mdl_ze event))                                                                           \
    CALL(EventHostSynchronize, 1, (mdl_ze event, uint64_t ns))

struct mdl_ze_calls {
#define CALL(name, needed, args) uint32_t(*name) args;
    MDL_ZE_CALLS(CALL)
#undef CALL
    uint32_t (*import_pointer)(mdl_ze driver, void *p, size_t bytes); /* extensions of the driver, or NULL */
    uint32_t (*release_pointer)(mdl_ze driver, void *p);
};
extern struct mdl_ze_calls mdl_ze_call;

/* Calls, and reports what fails. */
#define MDL_ZE_TRY(name, ...) MDL_TRY(mdl_ze_check(mdl_ze_call.name(__VA_ARGS__), #name))

enum { MDL_ZE_NOT_READY = 1 };

struct mdl_ze_driver {
    mdl_ze handle, context;
    pthread_mutex_t lock; /* of what follows */
    struct mdl_list chunks, retired;
};

struct mdl_ze_device {
    struct mdl_ze_driver *driver;
    mdl_ze handle, list; /* list: the default stream */
    uint32_t group;      /* of its queues: the one that streams are made of */
    pthread_mutex_t use; /* of the default stream: a list takes one thread at a time */
};

/* ze_bind.c */
medleyResult_t mdl_ze_probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes);
uint32_t mdl_ze_caps(const struct mdl_device *d);
medleyResult_t mdl_ze_count(const struct mdl_device *d, int *count);
medleyResult_t mdl_ze_info(const struct mdl_device *d, int ordinal, struct mdl_device_info *info);
medleyResult_t mdl_ze_enter(const struct mdl_device *d, int ordinal);
medleyResult_t mdl_ze_current(const struct mdl_device *d, int *ordinal);
medleyResult_t mdl_ze_here(struct mdl_ze_device **dev); /* the one that this thread has entered, else the first one */
struct mdl_ze_device *mdl_ze_device(int ordinal);       /* NULL: there are not so many */
int mdl_ze_ordinal(mdl_ze device);                      /* -1: none of ours, such as a part of a device */
medleyResult_t mdl_ze_list_create(const struct mdl_ze_device *dev, mdl_ze *list);
medleyResult_t mdl_ze_check(uint32_t rc, const char *call); /* Success, or reported */

/* ze_event.c: an event of Level Zero's is a flag. Each signal gets a flag of its own, which is used again only when it
 * is certain that no list will set it or wait for it any more. */
struct mdl_ze_flag;
medleyResult_t mdl_ze_flag_take(struct mdl_ze_driver *driver, struct mdl_ze_flag **flag); /* held once */
void mdl_ze_flag_drop(struct mdl_ze_flag *flag); /* lets go; what has not been set yet is kept until it is */
void mdl_ze_flag_hold(struct mdl_ze_flag *flag);
void mdl_ze_flag_keep(struct mdl_ze_flag *receipt, struct mdl_ze_flag *kept); /* holds `kept` until `receipt` is set */
mdl_ze mdl_ze_flag_event(const struct mdl_ze_flag *flag);
medleyResult_t mdl_ze_flag_query(const struct mdl_ze_flag *flag); /* InProgress: it is not set */

#endif
