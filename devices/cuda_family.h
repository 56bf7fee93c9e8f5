/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vendors whose runtime has CUDA's calls under another name. A vendor is a table: the prefix of its names, the files
 * that hold them, how to recognise its devices, and where its calls differ from CUDA's.
 *
 * What is not in a vendor's table is as in CUDA: `<prefix><stem>` with the same arguments. A call that the library
 * lacks takes its capability bit away; only those marked NEEDED must be there.
 */
#ifndef MDL_DEVICES_CUDA_FAMILY_H_
#define MDL_DEVICES_CUDA_FAMILY_H_

#include <medley/plugin.h>
#include <pthread.h>

/* CALL(identifier, library, stem, needed). Of HOST_ALLOC and MALLOC_HOST, and of STREAM_CREATE and STREAM_CREATE_PLAIN,
 * one is needed; as of EVENT_CREATE and EVENT_RECORD the second one is used where there is no first. */
#define MDL_CUDA_CALLS(CALL)                                                                                           \
    CALL(COUNT, RUNTIME, "GetDeviceCount", 1)                                                                          \
    CALL(SET_DEVICE, RUNTIME, "SetDevice", 1)                                                                          \
    CALL(GET_DEVICE, RUNTIME, "GetDevice", 1)                                                                          \
    CALL(MALLOC, RUNTIME, "Malloc", 1)                                                                                 \
    CALL(FREE, RUNTIME, "Free", 1)                                                                                     \
    CALL(HOST_ALLOC, RUNTIME, "HostAlloc", 0)                                                                          \
    CALL(MALLOC_HOST, RUNTIME, "MallocHost", 0)                                                                        \
    CALL(HOST_FREE, RUNTIME, "FreeHost", 1)                                                                            \
    CALL(COPY, RUNTIME, "MemcpyAsync", 1)                                                                              \
    CALL(STREAM_CREATE, RUNTIME, "StreamCreateWithFlags", 0)                                                           \
    CALL(STREAM_CREATE_PLAIN, RUNTIME, "StreamCreate", 0)                                                              \
    CALL(STREAM_DESTROY, RUNTIME, "StreamDestroy", 1)                                                                  \
    CALL(STREAM_SYNC, RUNTIME, "StreamSynchronize", 1)                                                                 \
    CALL(STREAM_QUERY, RUNTIME, "StreamQuery", 0)                                                                      \
    CALL(VERSION, RUNTIME, "RuntimeGetVersion", 0)                                                                     \
    CALL(ERROR_TEXT, RUNTIME, "GetErrorString", 0)                                                                     \
    CALL(ERROR_NAME, RUNTIME, "GetErrorName", 0)                                                                       \
    CALL(LAST_ERROR, RUNTIME, "GetLastError", 0)                                                                       \
    CALL(PCI, RUNTIME, "DeviceGetPCIBusId", 0)                                                                         \
    CALL(PIN, RUNTIME, "HostRegister", 0)                                                                              \
    CALL(UNPIN, RUNTIME, "HostUnregister", 0)                                                                          \
    CALL(POINTER, RUNTIME, "PointerGetAttributes", 0)                                                                  \
    CALL(CAPTURING, RUNTIME, "StreamIsCapturing", 0)                                                                   \
    CALL(CAPTURE_MODE, RUNTIME, "ThreadExchangeStreamCaptureMode", 0)                                                  \
    CALL(EVENT_CREATE, RUNTIME, "EventCreateWithFlags", 0)                                                             \
    CALL(EVENT_CREATE_PLAIN, RUNTIME, "EventCreate", 0)                                                                \
    CALL(EVENT_DESTROY, RUNTIME, "EventDestroy", 0)                                                                    \
    CALL(EVENT_RECORD, RUNTIME, "EventRecord", 0)                                                                      \
    CALL(EVENT_RECORD_FLAGS, RUNTIME, "EventRecordWithFlags", 0)                                                       \
    CALL(EVENT_QUERY, RUNTIME, "EventQuery", 0)                                                                        \
    CALL(STREAM_WAIT_EVENT, RUNTIME, "StreamWaitEvent", 0)                                                             \
    CALL(HOST_FUNC, RUNTIME, "LaunchHostFunc", 0)                                                                      \
    CALL(IPC_GET, RUNTIME, "IpcGetMemHandle", 0)                                                                       \
    CALL(IPC_OPEN, RUNTIME, "IpcOpenMemHandle", 0)                                                                     \
    CALL(IPC_CLOSE, RUNTIME, "IpcCloseMemHandle", 0)                                                                   \
    CALL(NAME, DRIVER, "DeviceGetName", 0)                                                                             \
    CALL(BUFFER_ID, DRIVER, "PointerGetAttribute", 0)                                                                  \
    CALL(RANGE, DRIVER, "MemGetAddressRange_v2", 0)                                                                    \
    CALL(DMABUF, DRIVER, "MemGetHandleForAddressRange", 0)                                                             \
    CALL(WRITE_WORD, DRIVER, "StreamWriteValue64_v2", 0)                                                               \
    CALL(WAIT_WORD, DRIVER, "StreamWaitValue64_v2", 0)                                                                 \
    CALL(WORD_ALLOC, DRIVER, NULL, 0)                                                                                  \
    CALL(MODULE_LOAD, DRIVER, "ModuleLoadData", 0)                                                                     \
    CALL(MODULE_UNLOAD, DRIVER, "ModuleUnload", 0)                                                                     \
    CALL(MODULE_FUNCTION, DRIVER, "ModuleGetFunction", 0)                                                              \
    CALL(LAUNCH, DRIVER, "LaunchKernel", 0)                                                                            \
    CALL(HOST_POINTER, RUNTIME, "HostGetDevicePointer", 0)                                                             \
    CALL(FUNC_CALLBACK, RUNTIME, NULL, 0)

enum mdl_cuda_call {
#define CALL(id, lib, stem, needed) MDL_CUDA_##id,
    MDL_CUDA_CALLS(CALL)
#undef CALL
        MDL_CUDA_NUM_CALLS
};

/* Where a call has other arguments than CUDA's. */
enum mdl_cuda_quirks {
    MDL_CUDA_UNSIGNED_DEVICE = 1 << 0,    /* numbers of devices are uint32_t */
    MDL_CUDA_WAIT_EVENT_PLAIN = 1 << 1,   /* (stream, event): no flags */
    MDL_CUDA_IPC_OPEN_PLAIN = 1 << 2,     /* (void **, handle): no flags */
    MDL_CUDA_STREAM_BEFORE_KIND = 1 << 3, /* copy: (dst, src, n, stream, kind) */
    MDL_CUDA_WAIT_MASK = 1 << 4,          /* wait for a word: one more argument, the mask */
    MDL_CUDA_SIGNAL_WORDS = 1 << 5,       /* words come from WORD_ALLOC, with HIP's flag for signals */
    MDL_CUDA_HIP_TYPES = 1 << 6,          /* the numbers of kinds of memory depend on the version, as HIP's do */
};

/* The vendor's run-time compiler, in NVRTC's shape: its calls have a prefix of their own, and two of them their own
 * stems. */
#define MDL_RTC_CALLS(CALL)                                                                                            \
    CALL(CREATE, "CreateProgram")                                                                                      \
    CALL(COMPILE, "CompileProgram")                                                                                    \
    CALL(DESTROY, "DestroyProgram")                                                                                    \
    CALL(LOG_SIZE, "GetProgramLogSize")                                                                                \
    CALL(LOG, "GetProgramLog")                                                                                         \
    CALL(CODE_SIZE, NULL)                                                                                              \
    CALL(CODE, NULL)

enum mdl_rtc_call {
#define CALL(id, stem) MDL_RTC_##id,
    MDL_RTC_CALLS(CALL)
#undef CALL
        MDL_RTC_NUM_CALLS
};

struct mdl_rtc_vendor {
    const char *prefix, *code_size, *code; /* "nvrtc", "GetPTXSize", "GetPTX" */
    const char *const *libraries;          /* file names, best first: those of the runtime's version go before */
    const char *const *options;            /* that keep the compiler from fusing products and sums */
    int version_unit;                      /* the runtime's version divided by it is the number in its file names */
};

struct mdl_cuda_vendor;
struct mdl_cuda_state {
    pthread_mutex_t lock;
    const struct mdl_cuda_vendor *bound; /* the table that the library has the shape of; NULL: not bound */
    void *runtime, *driver;
    void *fn[MDL_CUDA_NUM_CALLS];
    const char *stem[MDL_CUDA_NUM_CALLS]; /* what each was found as */
    int version, type_device, type_managed;
    uint32_t caps;
    void *rtc, *rtc_fn[MDL_RTC_NUM_CALLS];
    void *exporter, *export_fn; /* NULL: there is none */
};

struct mdl_cuda_rename {
    enum mdl_cuda_call call;
    const char *stem; /* NULL: the vendor has none */
};

struct mdl_cuda_vendor {
    const char *prefix, *driver_prefix;
    const char *const *runtimes, *const *drivers; /* file names, best first; drivers NULL: the runtime has all */

    /* How such a machine is recognised: files as patterns; each list may be NULL. */
    const char *const *folders; /* where its libraries are as a rule, if the loader knows nothing of them */
    bool folders_first;         /* since the loader might know another vendor's of the same name */
    const char *const *nodes;   /* one of them is there; NULL: the vendor's are not known */
    const char *const *signs;   /* and one of these */
    const char *const *others;  /* and none of these: they are of others, that have the same nodes */
    const char *const *foreign; /* symbols of others that use these file names */
    unsigned pci_vendor;        /* of its devices, where others use these file names; 0: not looked at */

    const struct mdl_cuda_rename *renames; /* ends with call MDL_CUDA_NUM_CALLS; several of a call: in this order */
    const struct mdl_cuda_vendor *older;   /* the shape of an older library, tried next; it has the same state */
    uint32_t quirks;                       /* enum mdl_cuda_quirks */
    int not_ready, out_of_memory;          /* the vendor's own names of errors count, too, where it tells them */
    unsigned ipc_flag;
    const struct mdl_rtc_vendor *rtc; /* NULL: there is none, or it is not known */
    const char *const *blocking;      /* variables of the environment that make launches wait, unless they are 0 */
    const char *const *exporters; /* libraries with HSA's call for dma-buf, where DMABUF is not there; may be NULL */
    struct mdl_cuda_state *state;
};

medleyResult_t mdl_cuda_probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                              size_t why_bytes);
uint32_t mdl_cuda_caps(const struct mdl_device *d);
medleyResult_t mdl_cuda_count(const struct mdl_device *d, int *count);
medleyResult_t mdl_cuda_info(const struct mdl_device *d, int ordinal, struct mdl_device_info *info);
medleyResult_t mdl_cuda_enter(const struct mdl_device *d, int ordinal);
medleyResult_t mdl_cuda_current(const struct mdl_device *d, int *ordinal);
medleyResult_t mdl_cuda_alloc(const struct mdl_device *d, size_t len, void **ptr);
medleyResult_t mdl_cuda_free(const struct mdl_device *d, void *ptr);
medleyResult_t mdl_cuda_alloc_pinned(const struct mdl_device *d, size_t len, void **ptr);
medleyResult_t mdl_cuda_free_pinned(const struct mdl_device *d, void *ptr);
medleyResult_t mdl_cuda_pin(const struct mdl_device *d, void *ptr, size_t len);
medleyResult_t mdl_cuda_unpin(const struct mdl_device *d, void *ptr);
medleyResult_t mdl_cuda_classify(const struct mdl_device *d, const void *ptr, struct mdl_pointer *p);
medleyResult_t mdl_cuda_copy(const struct mdl_device *d, void *dst, const void *src, size_t len,
                             enum mdl_copy_kind kind, mdl_dev_stream stream);
medleyResult_t mdl_cuda_stream_create(const struct mdl_device *d, mdl_dev_stream *stream);
medleyResult_t mdl_cuda_stream_destroy(const struct mdl_device *d, mdl_dev_stream stream);
medleyResult_t mdl_cuda_stream_sync(const struct mdl_device *d, mdl_dev_stream stream);
medleyResult_t mdl_cuda_stream_query(const struct mdl_device *d, mdl_dev_stream stream);
medleyResult_t mdl_cuda_stream_capturing(const struct mdl_device *d, mdl_dev_stream stream, bool *capturing);
medleyResult_t mdl_cuda_event_create(const struct mdl_device *d, mdl_dev_event *event);
medleyResult_t mdl_cuda_event_destroy(const struct mdl_device *d, mdl_dev_event event);
medleyResult_t mdl_cuda_event_record(const struct mdl_device *d, mdl_dev_event event, mdl_dev_stream stream);
medleyResult_t mdl_cuda_event_query(const struct mdl_device *d, mdl_dev_event event);
medleyResult_t mdl_cuda_stream_wait_event(const struct mdl_device *d, mdl_dev_stream stream, mdl_dev_event event);
medleyResult_t mdl_cuda_alloc_words(const struct mdl_device *d, int n, uint64_t **words);
medleyResult_t mdl_cuda_free_words(const struct mdl_device *d, int n, uint64_t **words);
medleyResult_t mdl_cuda_stream_write(const struct mdl_device *d, mdl_dev_stream stream, uint64_t *word, uint64_t value);
medleyResult_t mdl_cuda_stream_wait(const struct mdl_device *d, mdl_dev_stream stream, uint64_t *word, uint64_t value);
medleyResult_t mdl_cuda_stream_host_func(const struct mdl_device *d, mdl_dev_stream stream, void (*fn)(void *),
                                         void *arg);
medleyResult_t mdl_cuda_ipc_export(const struct mdl_device *d, void *ptr, struct mdl_ipc *ipc);
medleyResult_t mdl_cuda_ipc_import(const struct mdl_device *d, const struct mdl_ipc *ipc, void **import, void **ptr);
medleyResult_t mdl_cuda_ipc_close(const struct mdl_device *d, void *import);
medleyResult_t mdl_cuda_dmabuf_export(const struct mdl_device *d, void *ptr, size_t len, int *fd, uint64_t *offset);

/* rtc.c */
bool mdl_rtc_bind(const struct mdl_cuda_vendor *v, const char *where); /* finds the compiler; false: there is none */
void mdl_rtc_unbind(struct mdl_cuda_state *s);
medleyResult_t mdl_cuda_module_load(const struct mdl_device *d, const char *source, void **module);
medleyResult_t mdl_cuda_module_unload(const struct mdl_device *d, void *module);
medleyResult_t mdl_cuda_kernel_find(const struct mdl_device *d, void *module, const char *name, void **kernel);
medleyResult_t mdl_cuda_kernel_launch(const struct mdl_device *d, void *kernel, const struct mdl_grid *grid,
                                      mdl_dev_stream stream);
medleyResult_t mdl_cuda_kernel_address(const struct mdl_device *d, void *pinned, void **address);

/* A vendor of the family, for `const struct mdl_device mdl_device_x = MDL_CUDA_DEVICE("x", "Maker X", NULL, &table,
 * &native)`. native: its collective library, or NULL. */
#define MDL_CUDA_DEVICE(vendor_, title_, proof_, table, native_)                                                       \
    {                                                                                                                  \
        .abi = MDL_PLUGIN_ABI, .size = sizeof(struct mdl_device), .vendor = vendor_, .title = title_, .proof = proof_, \
        .self = table, .native = native_, .probe = mdl_cuda_probe, .caps = mdl_cuda_caps, .count = mdl_cuda_count,     \
        .info = mdl_cuda_info, .enter = mdl_cuda_enter, .current = mdl_cuda_current, .alloc = mdl_cuda_alloc,          \
        .free = mdl_cuda_free, .alloc_pinned = mdl_cuda_alloc_pinned, .free_pinned = mdl_cuda_free_pinned,             \
        .pin = mdl_cuda_pin, .unpin = mdl_cuda_unpin, .classify = mdl_cuda_classify, .copy = mdl_cuda_copy,            \
        .stream_create = mdl_cuda_stream_create, .stream_destroy = mdl_cuda_stream_destroy,                            \
        .stream_sync = mdl_cuda_stream_sync, .stream_capturing = mdl_cuda_stream_capturing,                            \
        .stream_query = mdl_cuda_stream_query, .event_create = mdl_cuda_event_create,                                  \
        .event_destroy = mdl_cuda_event_destroy, .event_record = mdl_cuda_event_record,                                \
        .event_query = mdl_cuda_event_query, .stream_wait_event = mdl_cuda_stream_wait_event,                          \
        .alloc_words = mdl_cuda_alloc_words, .free_words = mdl_cuda_free_words, .stream_write = mdl_cuda_stream_write, \
        .stream_wait = mdl_cuda_stream_wait, .stream_host_func = mdl_cuda_stream_host_func,                            \
        .ipc_export = mdl_cuda_ipc_export, .ipc_import = mdl_cuda_ipc_import, .ipc_close = mdl_cuda_ipc_close,         \
        .dmabuf_export = mdl_cuda_dmabuf_export, .module_load = mdl_cuda_module_load,                                  \
        .module_unload = mdl_cuda_module_unload, .kernel_find = mdl_cuda_kernel_find,                                  \
        .kernel_launch = mdl_cuda_kernel_launch, .kernel_address = mdl_cuda_kernel_address,                            \
    }

#endif
