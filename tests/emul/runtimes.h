/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA-shaped runtimes as a test of them sees them: what differs stands in a table, the rest by prefix. */
#ifndef MDL_TESTS_EMUL_RUNTIMES_H_
#define MDL_TESTS_EMUL_RUNTIMES_H_

#include "tests/emul/frame.h"
#include <stdint.h>

struct runtime {
    const char *name, *object, *driver; /* driver: the object with MemGetHandle..., NULL: none */
    const char *prefix, *driver_prefix;
    const char *host_alloc, *host_free;
    int host_alloc_args;       /* 2, or 3 with flags */
    const char *host_function; /* NULL: only the callback */
    const char *callback;      /* NULL: only the function */
    int wait_args;             /* of StreamWaitEvent */
    int event_flags;           /* whether EventCreateWithFlags is there */
    int memset;
    int open_args; /* of IpcOpenMemHandle; 0: no IPC */
    unsigned ipc_flag;
    int stream_first; /* MemcpyAsync(dst, src, n, stream, kind) */
    int type_unknown; /* of PointerGetAttributes; -1: an error */
    int type_host, type_device;
    int pointer_bytes;    /* of the struct */
    int no_device_is_100; /* and 101 elsewhere, whether or not there is a driver */
    int managed, layer;   /* layer: CUDA's names over another maker's devices */
    int kinds[5];         /* host to host, to device, from device, between, inferred */
    int capture, pool, wait_value;
    int version;
    const char *absent; /* a symbol that this release lacks */
};

extern const struct runtime runtimes[];
extern const size_t runtime_count;

struct ipc_bytes {
    char bytes[64];
};

/* The loaded one. Calls with varying arguments are wrapped below. */
struct calls {
    void *object, *driver;
    int (*GetDeviceCount)(int *), (*SetDevice)(int), (*GetDevice)(int *);
    int (*DeviceGetPCIBusId)(char *, int, int), (*DeviceCanAccessPeer)(int *, int, int),
        (*DeviceEnablePeerAccess)(int, unsigned);
    int (*Malloc)(void **, size_t), (*Free)(void *);
    int (*HostRegister)(void *, size_t, unsigned), (*HostUnregister)(void *),
        (*HostGetDevicePointer)(void **, void *, unsigned);
    int (*Memcpy)(void *, const void *, size_t, int);
    int (*StreamDestroy)(void *), (*StreamSynchronize)(void *), (*StreamQuery)(void *);
    int (*StreamCreateWithFlags)(void **, unsigned);
    int (*EventRecord)(void *, void *), (*EventQuery)(void *), (*EventSynchronize)(void *), (*EventDestroy)(void *);
    int (*PointerGetAttributes)(void *, const void *);
    int (*RuntimeGetVersion)(int *), (*GetLastError)(void), (*DeviceSynchronize)(void);
};
extern struct calls rt;
extern const struct runtime *which;

enum { H2H, H2D, D2H, D2D, INFER };

void runtime_load(const struct runtime *runtime);
void *runtime_symbol(const char *name); /* with the prefix; NULL if absent */
void *device_alloc(size_t size);
void *host_alloc(size_t size);
int host_free(void *address);
int copy_async(void *to, const void *from, size_t size, int kind, void *stream);
int event_create(void **event);
int stream_wait(void *stream, void *event);
/* By function or callback, whichever there is. */
int host_function(void *stream, void (*fn)(void *), void *data);
int ipc_open(void **out, struct ipc_bytes handle);
void *stream_new(bool non_blocking);
/* Holds a stream by a host function until *word is set. */
void hold(void *stream, int *word);
void hold_at_once(void *stream, int *word); /* returns when it is held */
void release(int *word);

#endif
