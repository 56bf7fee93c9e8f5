/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contracts that a transport and a device adapter fulfil. Built-in ones and ones loaded from a shared object are
 * the same to the engine.
 *
 * Rules that hold for every operation below unless it says otherwise
 * - It never blocks and never waits for a peer. What cannot finish now returns medleyInProgress and is finished by
 * `progress`.
 * - One thread at a time uses a context (the engine hands it over with full barriers). Operations marked [any thread]
 * are the exception.
 * - An error has been reported through mdl_error (built in) or services->error (plugin) by whoever detected it, once,
 * naming rank, object and errno.
 * - Outputs are written only on success. `close` accepts whatever `open` left, also after a failure, and every aborted
 * state.
 * - An operation that a transport lacks is left NULL; mdl_transport_complete fills in one that returns
 * medleyInvalidUsage, so callers test caps, not pointers.
 */
#ifndef MEDLEY_PLUGIN_H_
#define MEDLEY_PLUGIN_H_

#include <medley.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MDL_PLUGIN_ABI    1u
#define MDL_ADDRESS_BYTES 1024 /* an address is at most so long: several rails, one key each */
#define MDL_KEY_BYTES     64   /* a memory key is at most so long */
#define MDL_SECRET_BYTES  32

struct mdl_config;

/* ---- memory ---- */

enum mdl_mem_kind { MDL_MEM_HOST, MDL_MEM_DEVICE, MDL_MEM_DMABUF };

/* A piece of this process's memory. `segment` is not 0 for memory that can be handed to ranks of this host as a
 * descriptor (medleyMemAlloc). */
struct mdl_mem {
    enum mdl_mem_kind kind;
    void *ptr;
    size_t len;
    int dmabuf_fd;    /* MDL_MEM_DMABUF: not owned */
    uint64_t segment; /* process-wide id of the shareable segment that holds ptr, or 0 */
    uint64_t offset;  /* of ptr in it */
};

/* ---- requests ---- */

enum mdl_request_state { MDL_REQ_IDLE, MDL_REQ_ACTIVE, MDL_REQ_DONE, MDL_REQ_FAILED };

/* Head of a request. The engine embeds `request_size` bytes per request, zeroed before first use and reused after; the
 * transport owns them from send/recv until `state` is DONE or FAILED. After `abort` a request stays the transport's
 * until `close` returns. */
struct mdl_request {
    int state;             /* enum mdl_request_state; read by the engine after progress */
    medleyResult_t result; /* why it FAILED */
    size_t bytes;          /* received or sent so far: what the watchdog calls progress */
    uint64_t peer_tag;     /* recv: the tag that came, when it was not the one expected */
    uint64_t peer_len;     /* recv: the length that came, likewise */
};

/* ---- transport ---- */

enum mdl_transport_caps {
    MDL_CAP_SAME_HOST = 1 << 0,  /* reaches only ranks of this host */
    MDL_CAP_MAP = 1 << 1,        /* map: a peer's segment as an address; notify */
    MDL_CAP_GET = 1 << 2,        /* get: synchronous read of any memory of some peers (see reach) */
    MDL_CAP_PUT = 1 << 3,        /* put with notify, for RDMA */
    MDL_CAP_DEVICE_MEM = 1 << 4, /* send and recv take device memory that was registered */
    MDL_CAP_DMABUF = 1 << 5,
};

/* What a context may do with one peer, found by `connect_all`. The engine uses a pair only as both sides see it. */
enum mdl_reach {
    MDL_REACH_SEND = 1 << 0, /* send and recv */
    MDL_REACH_MAP = 1 << 1,
    MDL_REACH_GET = 1 << 2,
};

struct mdl_transport_open {
    uint32_t size;
    int rank, nranks;
    const struct mdl_config *config;     /* valid until close */
    uint8_t secret[MDL_SECRET_BYTES];    /* of the communicator: every connection proves that it knows it */
    const char *name;                    /* of the communicator, for messages */
    const volatile uint32_t *abort_word; /* not 0: give up at once; looked at in every loop */
    int (*segment_fd)(uint64_t segment); /* [any thread] descriptor of one of this process's segments, owned by the
                                            caller of it, or -1 with an errno: ENOENT if there is none, any other
                                            if it cannot be had now */
    /* [any thread] tells the engine that peer `rank` is dead or out of reach (end of file, reset, time-out): it becomes
     * the communicator's error. With code medleyInvalidUsage: it has closed its context although messages are
     * outstanding, perhaps because of an error that this rank has not heard of yet. */
    void (*peer_lost)(void *engine, int rank, medleyResult_t code, const char *why);
    void *engine;
};

struct mdl_peer {
    int rank;
    const uint8_t *address; /* what that rank's `address` gave; NULL: it does not have this transport */
    size_t address_len;
    uint64_t segment; /* will be mapped next, or 0: the transport may fetch it with the first handover */
    uint64_t segment_place, segment_len; /* where the segment is in its process's arena; 0: in none */
};

/* One message. Matching is FIFO per (peer, channel): the k-th send on a channel meets the k-th recv. `tag` and `len`
 * are only checked: a difference FAILS the recv with medleyInvalidUsage and sets peer_tag and peer_len. The buffer is
 * the transport's until the request is DONE. */
struct mdl_message {
    void *ptr;        /* not written by send */
    size_t len;       /* bytes; 0 is a real message */
    uint64_t tag;     /* signature of the operation */
    uint32_t channel; /* 0 .. MDL_MAX_CHANNELS - 1 */
    void *reg;        /* registration that covers ptr, or NULL */
};
enum { MDL_MAX_CHANNELS = 64 };

struct mdl_link_info {
    char interface[64]; /* "eth0", "eth0,eth1"; empty if none */
    char detail[128];   /* for people: addresses, sockets, cma or slots */
    uint64_t sent_bytes, recv_bytes, retries, fallbacks;
};

struct mdl_transport {
    uint32_t abi;        /* MDL_PLUGIN_ABI */
    uint32_t size;       /* sizeof(struct mdl_transport) of the writer */
    const char *name;    /* "shm" */
    uint32_t caps;       /* enum mdl_transport_caps */
    size_t request_size; /* >= sizeof(struct mdl_request) */

    /* Can it work in this process at all? Success, or an error with the reason in `why`. Leaves nothing behind. */
    medleyResult_t (*probe)(const struct mdl_config *config, char *why, size_t why_bytes);

    /* A context for one communicator: listens, but connects to nobody. May block shortly (system calls). */
    medleyResult_t (*open)(const struct mdl_transport_open *args, void **ctx);

    /* Frees everything; no request is touched after it. Does not wait for peers. */
    void (*close)(void *ctx);

    /* The bytes that peers need to reach this rank. *len: in: room, out: used. */
    medleyResult_t (*address)(void *ctx, uint8_t *address, size_t *len);

    /* Called once with all ranks' addresses (index = rank; own entry too): stores what it needs, and finds out in
     * reach[rank] (enum mdl_reach) what is possible with whom. MAY BLOCK up to `deadline_ns` (mdl_now_ns): a same-host
     * transport makes its handovers here; a network transport connects lazily and only says SEND. An unreachable peer
     * is not an error but reach 0. */
    medleyResult_t (*connect_all)(void *ctx, const struct mdl_peer *peers, uint64_t deadline_ns, uint32_t *reach);

    /* Registration of memory, optional. [any thread] `key` (at most MDL_KEY_BYTES) is what a peer gives to map, get or
     * put. */
    medleyResult_t (*reg)(void *ctx, const struct mdl_mem *mem, void **reg, uint8_t *key, size_t *key_len);
    void (*dereg)(void *ctx, void *reg);

    /* Starts a send or a receive. Success: the request is ACTIVE, or already DONE or FAILED. InProgress: no room now,
     * try again after progress; nothing was started. */
    medleyResult_t (*send)(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req);
    medleyResult_t (*recv)(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req);

    /* Maps a peer's segment (the id that it published); again: the same address. MAY BLOCK for one exchange with the
     * peer's monitor. The mapping lives until unmap or close, or, once the peer has freed the segment, until any later
     * map: so an address is used only while its owner keeps the segment. */
    medleyResult_t (*map)(void *ctx, int peer, uint64_t segment, void **addr, size_t *len);
    void (*unmap)(void *ctx, int peer, uint64_t segment);

    /* Reads [remote, remote + len) of the peer's address space into local memory, done on return. Verifies that the
     * peer is still the same process before it reports success. */
    medleyResult_t (*get)(void *ctx, int peer, uint64_t remote, void *local, size_t len);

    /* For RDMA: writes to a peer's registered memory, then raises its signal `signal` by one when all bytes are
     * visible. */
    medleyResult_t (*put)(void *ctx, int peer, const struct mdl_message *msg, const uint8_t *key, size_t key_len,
                          uint64_t offset, uint32_t signal, struct mdl_request *req);
    medleyResult_t (*flush)(void *ctx, int peer, struct mdl_request *req);

    /* Wakes peer if it sleeps: called after a store to mapped memory that it may wait for. Costs a fence and a load
     * when it does not sleep. */
    void (*notify)(void *ctx, int peer);

    /* Moves whatever can move; *events grows by the number of things that did. An error is fatal to the communicator.
     */
    medleyResult_t (*progress)(void *ctx, int *events);

    /* Prepares to sleep: after it, anything that progress would act on, and every notify, makes *fd readable (*fd = -1:
     * it never has anything to wait for). InProgress: there is work already, do not sleep. disarm undoes it and drains.
     */
    medleyResult_t (*arm)(void *ctx, int *fd);
    void (*disarm)(void *ctx);

    /* [any thread] Stops all traffic at once: when it returns no user memory is read or written any more by this rank,
     * nor by a peer through this context. */
    void (*abort)(void *ctx);

    /* [any thread] What is known of the link to `peer`. */
    void (*link)(void *ctx, int peer, struct mdl_link_info *info);

    /* All ranks have connected, and what the engine wants to map of them at creation is mapped: what was kept for that
     * only may go. */
    void (*settle)(void *ctx);
};

/* A shared object with a transport exports `const struct mdl_transport *medley_transport_v1(void)`. */

/* ---- device ---- */

/* What a bound adapter can do beyond what every one can; which symbols the vendor's library has decides. */
enum mdl_device_caps {
    MDL_DEV_HOST_ACCESS = 1 << 0, /* the CPU may read and write its memory */
    MDL_DEV_POINTERS = 1 << 1,    /* classify */
    MDL_DEV_PIN = 1 << 2,         /* pin, unpin */
    MDL_DEV_EVENTS = 1 << 3,      /* event_*, stream_wait_event */
    MDL_DEV_WORDS = 1 << 4,       /* stream_write, stream_wait on words from alloc_words */
    MDL_DEV_HOST_FUNC = 1 << 5,
    MDL_DEV_CAPTURE = 1 << 6, /* stream_capturing */
    MDL_DEV_IPC = 1 << 7,
    MDL_DEV_DMABUF = 1 << 8,
    MDL_DEV_KERNELS = 1 << 9,   /* module_load, kernel_launch */
    MDL_DEV_CPU = 1 << 10,      /* all its devices are processors of the host: "auto" does not take it */
    MDL_DEV_COPY_ANY = 1 << 11, /* copies from and to ordinary memory do not wait for the stream either */
    MDL_DEV_KERNEL_WORDS = 1 << 12, /* with KERNELS: kernel_address; a launch returns before its kernel has ended */
};

/* Set in a word beside the value that a stream was to write, where the adapter has heard that the stream has failed. */
#define MDL_WORD_FAILED ((uint64_t)1 << 63)

struct mdl_device_info {
    char name[128], pci[32]; /* "" where the vendor does not tell; pci: 0000:01:00.0 */
};

enum mdl_copy_kind {
    MDL_COPY_H2D,
    MDL_COPY_D2H,
    MDL_COPY_D2D,
    MDL_COPY_ANY, /* only without MDL_DEV_POINTERS: between memory of which nothing is known */
};
typedef void *mdl_dev_stream; /* the vendor's own; NULL: its default stream */
typedef void *mdl_dev_event;

enum mdl_pointer_kind {
    MDL_POINTER_HOST,   /* ordinary memory, or pinned: the CPU may use it */
    MDL_POINTER_DEVICE, /* only the device and its copies may */
    MDL_POINTER_SHARED, /* managed: both may, not at once */
};
struct mdl_pointer {
    enum mdl_pointer_kind kind;
    int ordinal;   /* of the device that it belongs to; -1: unknown */
    void *base;    /* of the allocation, and its bytes; NULL, 0: unknown */
    size_t len;
    uint64_t id;   /* of the allocation: never used twice in a process; 0: the vendor has none */
};

enum { MDL_IPC_BYTES = 256 };
struct mdl_ipc {
    uint8_t bytes[MDL_IPC_BYTES];
    size_t len;      /* bytes of it that count */
    uint64_t offset; /* of the pointer in the allocation that the handle names */
    int fd;          /* travels beside the bytes; -1: none. Owned by whoever holds the structure */
};

struct mdl_grid {
    uint32_t blocks, threads; /* of a one-dimensional grid, of a block */
    void *const *args;        /* addresses of the arguments */
    const size_t *sizes;      /* bytes of each */
    int nargs;
};

/* ---- a vendor's own collectives ---- */

enum { MDL_NATIVE_ID_BYTES = 4608 }; /* the largest id of a vendor has 4108 */

/* A call, as medley.h has it: of Send and Recv `root` is the peer. What is only moved comes as medleyInt8. */
struct mdl_native_call {
    medleyColl_t coll;
    const void *in;
    void *out;
    size_t count;
    medleyDataType_t dtype;
    medleyRedOp_t op;
    int root; /* -1: none */
    /* Of a Sum, with MDL_NATIVE_FACTORS: the rank's values are multiplied by this one value of dtype first. NULL: none. */
    const void *factor;
    bool factor_of_device; /* the device reads it when the stream has come to the call; else the call itself does */
};

enum mdl_native_ways {
    MDL_NATIVE_GROUPS = 1 << 0,     /* group_start, group_end */
    MDL_NATIVE_ONE_KIND = 1 << 1,   /* a group holds calls of one collective, or messages */
    MDL_NATIVE_ONE_BUFFER = 1 << 2, /* a broadcast's IN is its OUT */
    MDL_NATIVE_ABORT = 1 << 3,      /* abort ends what is on the streams */
    MDL_NATIVE_REDUCE_OUT = 1 << 4, /* a reduce wants an OUT of the other ranks too, of which nothing is read */
    MDL_NATIVE_STREAM = 1 << 5,     /* the default stream, NULL, is not taken */
    MDL_NATIVE_MESSAGES = 1 << 6,   /* a group holds messages only */
    MDL_NATIVE_ONE_RANK = 1 << 7,   /* a process may have one rank of a communicator only */
    MDL_NATIVE_ALIKE = 1 << 8,      /* both ends must give the same messages to one call: so the user's, which each end
                                       groups as it likes, are not passed through, but collectives made of messages */
    MDL_NATIVE_ORDERED = 1 << 9,    /* communicators are made in the same order in all processes, one after the other */
    MDL_NATIVE_FACTORS = 1 << 10,   /* takes a factor with all types that it sums */
};

/* What a library that was bound does. The communicator uses what all ranks have. */
struct mdl_native_caps {
    uint32_t colls;                 /* bit of each medleyColl_t that `run` takes */
    uint32_t reduces[medleyNumOps]; /* bit of each medleyDataType_t that it reduces with the operation */
    uint32_t ways;                  /* enum mdl_native_ways */
    uint32_t id_bytes;              /* <= MDL_NATIVE_ID_BYTES */
    uint32_t version;               /* as the vendor counts; 0: it does not tell */
};

/*
 * A vendor's collective library, beside its device adapter. `probe` comes first; it may come again. Any thread may call;
 * all but probe and caps with a rank's device entered, and one at a time for a communicator, except that abort
 * comes when another call does not end.
 *
 * - run and messages append to the stream and return, as far as the vendor does.
 * - Vendor codes become medleyUnhandledDeviceError, or what they say, with the vendor's call, its code and its text.
 */
struct mdl_native {
    const char *name; /* "nccl": what medleyCommGetStats says */
    const void *self;

    /* Finds and binds the library: in folder `where` if not NULL, else where the loader looks and in the vendor's
     * folders. `found`: what was bound, with its version; `why`: why not. A library that is known and not supported has
     * this function alone, which says why. */
    medleyResult_t (*probe)(const struct mdl_native *n, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes);
    const struct mdl_native_caps *(*caps)(const struct mdl_native *n);
    medleyResult_t (*get_id)(const struct mdl_native *n, void *id); /* with the device entered */
    /* MAY BLOCK until all ranks have called it, without end. ordinal: of the device. */
    medleyResult_t (*init)(const struct mdl_native *n, const void *id, int nranks, int rank, int ordinal, void **comm);
    medleyResult_t (*destroy)(const struct mdl_native *n, void *comm); /* may wait for the other ranks */
    medleyResult_t (*abort)(const struct mdl_native *n, void *comm);   /* and destroys; may wait for the device */
    medleyResult_t (*async_error)(const struct mdl_native *n, void *comm); /* may be NULL */
    medleyResult_t (*run)(const struct mdl_native *n, void *comm, const struct mdl_native_call *call,
                          mdl_dev_stream stream);
    /* Sends and receives that may need each other. */
    medleyResult_t (*messages)(const struct mdl_native *n, void *comm, const struct mdl_native_call *calls, int ncalls,
                               mdl_dev_stream stream);
    medleyResult_t (*group_start)(const struct mdl_native *n); /* of the calling thread, for all its communicators */
    medleyResult_t (*group_end)(const struct mdl_native *n);
};

/*
 * A vendor. `probe` comes first and once for the process; only after it has succeeded may others be called. Required:
 * probe, caps, count, enter, info, alloc, free, alloc_pinned, free_pinned, copy, stream_create, stream_destroy,
 * stream_sync; the rest comes with its capability bit and may be NULL without it.
 *
 * - Every operation works on the device that the calling thread has entered, and may be called from any thread.
 * - Nothing waits for a stream but stream_sync, and what the vendor makes wait: alloc, free, pin, unpin, module_load may
 *   wait for all that the device has to do. So they are not called while a stream is held.
 * - Pointers are the device's addresses, as the user has them; interior pointers are allowed everywhere.
 * - Vendor codes become medleyUnhandledDeviceError (out of memory: medleySystemError), reported once with the name of the
 *   vendor's call, its code and its text.
 */
struct mdl_device {
    uint32_t abi;       /* MDL_PLUGIN_ABI */
    uint32_t size;      /* sizeof(struct mdl_device) of the writer */
    const char *vendor; /* "cuda": as in MEDLEY_DEVICE */
    const char *title;  /* "NVIDIA CUDA" */
    const char *proof;  /* on which hardware it was run, and when; NULL: never */
    const void *self;   /* the adapter's own, for those that share code */
    bool generic;       /* its devices may be another vendor's as well: "auto" looks at it only if no other is here */

    /* Finds the vendor's libraries and binds them: in folder `where` if not NULL, which is trusted to be this vendor's;
     * otherwise where the loader looks, and only if the machine has such a device. Fails with the reason in `why`
     * (nothing is logged), which says what was looked for. `found`: what was bound, with versions. */
    medleyResult_t (*probe)(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes);
    uint32_t (*caps)(const struct mdl_device *d); /* enum mdl_device_caps */
    medleyResult_t (*count)(const struct mdl_device *d, int *count);
    medleyResult_t (*info)(const struct mdl_device *d, int ordinal, struct mdl_device_info *info);

    /* Makes the device current for this thread. current: which one is; may be NULL. */
    medleyResult_t (*enter)(const struct mdl_device *d, int ordinal);
    medleyResult_t (*current)(const struct mdl_device *d, int *ordinal);

    /* Device memory; and memory of the host that the device copies from and to at full speed, for all devices. */
    medleyResult_t (*alloc)(const struct mdl_device *d, size_t len, void **ptr);
    medleyResult_t (*free)(const struct mdl_device *d, void *ptr);
    medleyResult_t (*alloc_pinned)(const struct mdl_device *d, size_t len, void **ptr);
    medleyResult_t (*free_pinned)(const struct mdl_device *d, void *ptr);
    medleyResult_t (*pin)(const struct mdl_device *d, void *ptr, size_t len);
    medleyResult_t (*unpin)(const struct mdl_device *d, void *ptr);
    medleyResult_t (*classify)(const struct mdl_device *d, const void *ptr, struct mdl_pointer *p);

    /* Appends to the stream; returns at once where the host side is pinned. */
    medleyResult_t (*copy)(const struct mdl_device *d, void *dst, const void *src, size_t len, enum mdl_copy_kind kind,
                           mdl_dev_stream stream);

    medleyResult_t (*stream_create)(const struct mdl_device *d, mdl_dev_stream *stream); /* independent of the default */
    medleyResult_t (*stream_destroy)(const struct mdl_device *d, mdl_dev_stream stream);
    medleyResult_t (*stream_sync)(const struct mdl_device *d, mdl_dev_stream stream);
    /* Success: all is done; InProgress; or the error that the device has failed with, whatever stream that was on. May be
     * NULL. */
    medleyResult_t (*stream_query)(const struct mdl_device *d, mdl_dev_stream stream);
    medleyResult_t (*stream_capturing)(const struct mdl_device *d, mdl_dev_stream stream, bool *capturing);

    medleyResult_t (*event_create)(const struct mdl_device *d, mdl_dev_event *event);
    medleyResult_t (*event_destroy)(const struct mdl_device *d, mdl_dev_event event);
    medleyResult_t (*event_record)(const struct mdl_device *d, mdl_dev_event event, mdl_dev_stream stream);
    medleyResult_t (*event_query)(const struct mdl_device *d, mdl_dev_event event); /* InProgress: has not happened */
    medleyResult_t (*stream_wait_event)(const struct mdl_device *d, mdl_dev_stream stream, mdl_dev_event event);

    /* Words of host memory, 8 bytes each and 0 at first, that streams write and wait for: stream_write stores `value`
     * behind all that is before it, its writes to host memory included; stream_wait lets nothing behind it start until
     * (int64_t)(*word - value) >= 0. The word's address is the host's. */
    medleyResult_t (*alloc_words)(const struct mdl_device *d, int n, uint64_t **words);
    medleyResult_t (*free_words)(const struct mdl_device *d, int n, uint64_t **words);
    medleyResult_t (*stream_write)(const struct mdl_device *d, mdl_dev_stream stream, uint64_t *word, uint64_t value);
    medleyResult_t (*stream_wait)(const struct mdl_device *d, mdl_dev_stream stream, uint64_t *word, uint64_t value);

    /* `fn` must not call the vendor, nor block. */
    medleyResult_t (*stream_host_func)(const struct mdl_device *d, mdl_dev_stream stream, void (*fn)(void *), void *arg);

    /* Memory of one process for another process of this vendor on this host. InvalidUsage without a log line: this
     * memory cannot be exported. An import is closed by its object. */
    medleyResult_t (*ipc_export)(const struct mdl_device *d, void *ptr, struct mdl_ipc *ipc);
    medleyResult_t (*ipc_import)(const struct mdl_device *d, const struct mdl_ipc *ipc, void **import, void **ptr);
    medleyResult_t (*ipc_close)(const struct mdl_device *d, void *import);

    /* A descriptor for RDMA, owned by the caller, in which ptr lies at *offset. */
    medleyResult_t (*dmabuf_export)(const struct mdl_device *d, void *ptr, size_t len, int *fd, uint64_t *offset);

    /* Kernels from source text (the common subset of CUDA, HIP and OpenCL C that lib/dev/kernels defines). */
    medleyResult_t (*module_load)(const struct mdl_device *d, const char *source, void **module);
    medleyResult_t (*module_unload)(const struct mdl_device *d, void *module);
    medleyResult_t (*kernel_find)(const struct mdl_device *d, void *module, const char *name, void **kernel);
    medleyResult_t (*kernel_launch)(const struct mdl_device *d, void *kernel, const struct mdl_grid *grid,
                                    mdl_dev_stream stream);
    /* Where kernels find memory from alloc_pinned, of which they see what the host writes while they run. */
    medleyResult_t (*kernel_address)(const struct mdl_device *d, void *pinned, void **address);

    const struct mdl_native *native; /* the vendor's collective library; NULL: none is known */
};

/* What a loaded adapter may call. */
struct mdl_services {
    uint32_t size;
    medleyResult_t (*error)(medleyResult_t code, const char *format, ...); /* reports, and returns code */
};

/* A shared object with a device adapter (MEDLEY_DEVICE_PLUGIN) exports
 * `const struct mdl_device *medley_device_v1(const struct mdl_services *services)`. */

#ifdef __cplusplus
}
#endif

#endif
