/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One engine under all emulated vendor runtimes: devices whose memory the CPU cannot touch, streams on shared hardware
 * queues, events, captures, IPC. The thin objects (cuda.c, hip.c, acl.c, ...) own what is a vendor's: names, argument
 * orders, enum values, struct layouts and return codes. The engine owns behaviour and judges the caller: what a real
 * runtime may let pass but must never be done (a CPU touch, a range past its allocation, a call inside a host function)
 * is *misuse*: a message on stderr and abort(), or the returned code when EMUL_STRICT=0. README.md lists EMUL_*.
 */
#ifndef MDL_TESTS_EMUL_ENGINE_H_
#define MDL_TESTS_EMUL_ENGINE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EMUL_API __attribute__((visibility("default")))

/* Objects of one vendor (runtime, driver, CCL) share devices, memory and streams through this number. */
enum emul_vendor {
    EMUL_CUDA,
    EMUL_HIP,
    EMUL_DTK,
    EMUL_MUSA,
    EMUL_MACA,
    EMUL_TOPS,
    EMUL_SUPA,
    EMUL_TX,
    EMUL_TANG,
    EMUL_SDAA,
    EMUL_ACL,
    EMUL_CNRT,
    EMUL_ZE,
    EMUL_ILUVATAR,
    EMUL_PPU,
    EMUL_KUNLUN,
    EMUL_VENDORS
};

/* What an engine call ends with; each vendor has a table of its own numbers for these. */
enum emul_code {
    EMUL_OK,
    EMUL_INVALID,          /* bad argument */
    EMUL_NO_MEMORY,        /* of the device or pinned */
    EMUL_NO_DRIVER,        /* the library is there, a driver is not */
    EMUL_NO_DEVICE,        /* a driver, but no device */
    EMUL_BAD_DEVICE,       /* no device of this number */
    EMUL_BAD_HANDLE,       /* not a live stream, event or the like, or one of another device */
    EMUL_BAD_POINTER,      /* not memory of this runtime */
    EMUL_BAD_DIRECTION,    /* copy kind and pointers disagree */
    EMUL_NOT_READY,        /* queries */
    EMUL_UNSUPPORTED,      /* by this device or version */
    EMUL_NO_CONTEXT,       /* driver call on a thread that entered no device */
    EMUL_ASYNC,            /* an earlier operation failed: sticky */
    EMUL_NOT_PERMITTED,    /* inside a host function */
    EMUL_REGISTERED,       /* host memory is already */
    EMUL_UNREGISTERED,     /* host memory is not */
    EMUL_PEER_ON,          /* peer access is already enabled */
    EMUL_OWN_EXPORT,       /* import of what this process exported */
    EMUL_CAPTURE_UNSAFE,   /* illegal while a stream is captured; the capture is dead now */
    EMUL_CAPTURE_DEAD,     /* EndCapture of an invalidated capture */
    EMUL_CAPTURE_IMPLICIT, /* NULL stream used while a blocking stream is captured */
    EMUL_CAPTURED_EVENT,   /* host query of an event that a capture recorded */
    EMUL_CAPTURE_UNMATCHED,
    EMUL_FORKED, /* in a child of the process that used the devices */
    EMUL_NOT_FOUND,
    EMUL_CODES
};

/* What a call needs, for emul_enter. */
#define EMUL_NEED_DEVICE  1u  /* works on the thread's current device */
#define EMUL_NEED_CONTEXT 2u  /* driver call: fails where no device was entered */
#define EMUL_UNSAFE       4u  /* illegal while a capture goes on */
#define EMUL_ANYWHERE     8u  /* harmless: allowed without devices, in host functions and in children */
#define EMUL_CLEANUP      16u /* does its work after a sticky error too */

/* First in every vendor call: checks the thread, remembers the name for messages. */
EMUL_API enum emul_code emul_enter(int vendor, const char *call, unsigned needs);
/* Reports misuse and aborts; returns `soft` when EMUL_STRICT=0. */
EMUL_API enum emul_code emul_misuse(enum emul_code soft, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The vendor's own number of the last failure of this thread. */
EMUL_API void emul_error_set(int vendor, int number);
EMUL_API int emul_error_get(int vendor, bool clear);
/* Whether EMUL_FAULT holds `name` (for this vendor), and its number after @ (0 where none). */
EMUL_API bool emul_fault(int vendor, const char *name, unsigned *number);
EMUL_API const char *emul_vendor_name(int vendor);
/* Takes a symbol named in EMUL_FAULT=missing=... out of the calling object; each object's constructor calls this. */
EMUL_API void emul_hide(int vendor, const void *inside);

/* Devices. */
EMUL_API int emul_device_count(int vendor); /* -1: no driver */
EMUL_API enum emul_code emul_device_set(int vendor, int device);
EMUL_API int emul_device_get(int vendor);     /* 0 where never set */
EMUL_API int emul_device_entered(int vendor); /* -1 where never set */
EMUL_API enum emul_code emul_device_name(int vendor, int device, char *name, size_t size);
EMUL_API enum emul_code emul_device_pci(int vendor, int device, char *id, size_t size);
EMUL_API int emul_device_by_pci(int vendor, const char *id); /* -1: none */
EMUL_API enum emul_code emul_device_uuid(int vendor, int device, unsigned char uuid[16]);
EMUL_API enum emul_code emul_device_sync(int vendor);
EMUL_API enum emul_code emul_device_memory(int vendor, size_t *free_bytes, size_t *total);
EMUL_API enum emul_code emul_peer_enable(int vendor, int peer);

/* Memory. */
enum emul_memory {
    EMUL_NONE,   /* not this vendor's */
    EMUL_DEVICE, /* the CPU cannot touch it */
    EMUL_POOL,   /* the same, out of a pool that IPC cannot export */
    EMUL_IMPORT, /* the same, of another process */
    EMUL_MANAGED,
    EMUL_HOST,   /* pinned by the runtime */
    EMUL_PINNED, /* registered */
};
struct emul_info {
    int memory, device;
    void *base;
    size_t size;
    uint64_t id;
};
EMUL_API enum emul_code emul_malloc(int vendor, int memory, size_t size, void **out);
EMUL_API enum emul_code emul_free(int vendor, int memory, void *address); /* EMUL_DEVICE frees pool and managed too */
EMUL_API enum emul_code emul_free_async(int vendor, void *address, void *stream);
EMUL_API enum emul_code emul_register(int vendor, void *address, size_t size);
EMUL_API enum emul_code emul_unregister(int vendor, void *address);
EMUL_API void emul_lookup(int vendor, const void *address, struct emul_info *info);
/* The address through which code of the device may touch [address, address + size), or NULL after a report. */
EMUL_API char *emul_alias(int vendor, const void *address, size_t size);
/* Like it, but NULL without a report for what is not device memory. */
EMUL_API char *emul_translate(const void *address);

enum emul_direction { EMUL_H2H, EMUL_H2D, EMUL_D2H, EMUL_D2D, EMUL_INFER };
EMUL_API enum emul_code emul_copy(int vendor, void *to, const void *from, size_t size, int direction);
EMUL_API enum emul_code emul_copy_async(int vendor, void *to, const void *from, size_t size, int direction,
                                        void *stream);
/* Repeats a pattern of at most 16 bytes over `size` bytes. */
EMUL_API enum emul_code emul_fill(int vendor, void *to, const void *pattern, size_t width, size_t size);
EMUL_API enum emul_code emul_fill_async(int vendor, void *to, const void *pattern, size_t width, size_t size,
                                        void *stream);

#define EMUL_IPC_BYTES 64
EMUL_API enum emul_code emul_ipc_export(int vendor, const void *address, void *handle);
EMUL_API enum emul_code emul_ipc_import(int vendor, const void *handle, void **out);
EMUL_API enum emul_code emul_ipc_close(int vendor, void *address);
/* The same through a descriptor that the importer has got hold of (Level Zero); *fd of the export is a new one. */
EMUL_API enum emul_code emul_ipc_export_fd(int vendor, const void *address, void *handle, int *fd);
EMUL_API enum emul_code emul_ipc_import_fd(int vendor, const void *handle, int fd, void **out);
/* The same by a name of 64 bits. Restricted: only processes that the owner has named may import. */
EMUL_API enum emul_code emul_ipc_token(int vendor, const void *address, bool restricted, uint64_t *token);
EMUL_API enum emul_code emul_ipc_allow(int vendor, uint64_t token, const int32_t *pids, size_t count);
EMUL_API int emul_ipc_token_device(int vendor, uint64_t token); /* of the export; -1: there is none */
EMUL_API enum emul_code emul_ipc_import_token(int vendor, uint64_t token, void **out);
EMUL_API enum emul_code emul_ipc_close_token(int vendor, uint64_t token); /* the importer's end, or the owner's */
EMUL_API enum emul_code emul_dmabuf(int vendor, const void *address, size_t size, int *fd);

/* Streams. NULL is the legacy stream of the current device. */
#define EMUL_NON_BLOCKING 1u
EMUL_API enum emul_code emul_stream_create(int vendor, unsigned flags, void **out);
EMUL_API enum emul_code emul_stream_destroy(int vendor, void *stream);
EMUL_API enum emul_code emul_stream_sync(int vendor, void *stream);
EMUL_API enum emul_code emul_stream_sync_for(int vendor, void *stream, uint64_t timeout_ns);
EMUL_API enum emul_code emul_stream_query(int vendor, void *stream);
EMUL_API enum emul_code emul_stream_device(int vendor, void *stream, int *device);
EMUL_API enum emul_code emul_stream_flags(int vendor, void *stream, unsigned *flags);

#define EMUL_EVENT_TIMING 1u
#define EMUL_EVENT_SHARED 2u
EMUL_API enum emul_code emul_event_create(int vendor, unsigned flags, void **out);
EMUL_API enum emul_code emul_event_flags(int vendor, void *event, unsigned *flags); /* other bits are the vendor's own
                                                                                     */
EMUL_API enum emul_code emul_event_destroy(int vendor, void *event);
EMUL_API enum emul_code emul_event_record(int vendor, void *event, void *stream);
EMUL_API enum emul_code emul_event_query(int vendor, void *event);
EMUL_API enum emul_code emul_event_sync(int vendor, void *event);
EMUL_API enum emul_code emul_event_wait(int vendor, void *stream, void *event);
EMUL_API enum emul_code emul_event_elapsed(int vendor, void *from, void *to, float *ms);

/* Operations. `host` runs on the vendor's one driver thread and may call no vendor; `work` runs on the queue itself. */
EMUL_API enum emul_code emul_host(int vendor, void *stream, void (*fn)(void *), void *data);
EMUL_API enum emul_code emul_callback(int vendor, void *stream, void (*fn)(void *, int, void *), void *data);
/* `work` returns 0, or not 0 for an asynchronous error; `drop`, if not NULL, frees `data` afterwards. */
EMUL_API enum emul_code emul_work(int vendor, void *stream, int (*work)(void *), void (*drop)(void *), void *data);
EMUL_API enum emul_code emul_write(int vendor, void *stream, void *word, uint64_t value, size_t bytes);
enum emul_compare { EMUL_GEQ, EMUL_EQ, EMUL_AND, EMUL_NOR };
EMUL_API enum emul_code emul_wait(int vendor, void *stream, void *word, uint64_t value, uint64_t mask, size_t bytes,
                                  int compare);
/* A word of the emulator itself, for vendors whose events are flags. */
EMUL_API enum emul_code emul_flag_set(int vendor, void *stream, uint64_t *flag, uint64_t value);
EMUL_API enum emul_code emul_flag_wait(int vendor, void *stream, uint64_t *flag, uint64_t value);
/* Whether a blocking `work` of this stream should give up: its device has failed. */
EMUL_API bool emul_device_failed(int vendor, int device);

/* Capture. Status: 0 none, 1 active, 2 invalidated. Modes: 0 global, 1 thread-local, 2 relaxed. */
EMUL_API enum emul_code emul_capture_begin(int vendor, void *stream, int mode);
EMUL_API enum emul_code emul_capture_end(int vendor, void *stream, void **graph);
EMUL_API enum emul_code emul_capture_status(int vendor, void *stream, int *status, uint64_t *id);
EMUL_API enum emul_code emul_capture_mode(int vendor, int *mode);
EMUL_API enum emul_code emul_graph_launch(int vendor, void *graph, void *stream);
EMUL_API enum emul_code emul_graph_nodes(int vendor, void *graph, size_t *nodes);
EMUL_API enum emul_code emul_graph_copy(int vendor, void *graph, void **out);
EMUL_API enum emul_code emul_graph_destroy(int vendor, void *graph);

#endif
