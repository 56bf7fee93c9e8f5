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

/* ---- device: contract of the adapters; a host adapter is the only one of this release ---- */

enum mdl_device_caps {
    MDL_DEV_HOST_ACCESS = 1 << 0, /* the CPU may read and write its memory */
    MDL_DEV_IPC = 1 << 1,
    MDL_DEV_DMABUF = 1 << 2,
    MDL_DEV_STREAM_WRITE = 1 << 3,
    MDL_DEV_STREAM_WAIT = 1 << 4,
    MDL_DEV_HOST_FUNC = 1 << 5,
    MDL_DEV_EVENTS = 1 << 6,
    MDL_DEV_REDUCE = 1 << 7,
    MDL_DEV_POINTER_QUERY = 1 << 8,
    MDL_DEV_CAPTURE = 1 << 9,
};

struct mdl_device_info {
    char name[64], pci[32], driver[64];
    int numa;
    uint32_t caps;
};
enum mdl_copy_kind { MDL_COPY_H2D, MDL_COPY_D2H, MDL_COPY_D2D };
typedef void *mdl_dev_stream;
typedef void *mdl_dev_event;

/* Required: probe, count, enter, info, alloc, free, copy, stream_create, stream_destroy, stream_sync. The rest is
 * optional and has a capability bit. Every function works on the device that the calling thread has entered. */
struct mdl_device {
    uint32_t abi, size;
    const char *vendor;                                   /* "host", "cuda" ... */
    medleyResult_t (*probe)(char *why, size_t why_bytes); /* finds and binds the vendor's library */
    medleyResult_t (*count)(int *count);
    medleyResult_t (*enter)(int ordinal); /* makes the device current for this thread; leave restores what was current
                                           */
    void (*leave)(void);
    medleyResult_t (*info)(int ordinal, struct mdl_device_info *info);
    medleyResult_t (*alloc)(size_t len, void **ptr);
    void (*free)(void *ptr);
    medleyResult_t (*alloc_pinned)(size_t len, void **ptr);
    void (*free_pinned)(void *ptr);
    medleyResult_t (*pin)(void *ptr, size_t len);
    void (*unpin)(void *ptr);
    medleyResult_t (*classify)(const void *ptr, struct mdl_mem *mem, int *ordinal, uint64_t *buffer_id);
    medleyResult_t (*copy)(void *dst, const void *src, size_t len, enum mdl_copy_kind kind, mdl_dev_stream stream);
    medleyResult_t (*stream_create)(mdl_dev_stream *stream);
    void (*stream_destroy)(mdl_dev_stream stream);
    medleyResult_t (*stream_sync)(mdl_dev_stream stream);
    medleyResult_t (*stream_capturing)(mdl_dev_stream stream, bool *capturing);
    medleyResult_t (*stream_write)(mdl_dev_stream stream, void *word, uint64_t value);
    medleyResult_t (*stream_wait)(mdl_dev_stream stream, void *word, uint64_t at_least);
    medleyResult_t (*stream_host_func)(mdl_dev_stream stream, void (*fn)(void *), void *arg);
    medleyResult_t (*event_create)(mdl_dev_event *event);
    void (*event_destroy)(mdl_dev_event event);
    medleyResult_t (*event_record)(mdl_dev_event event, mdl_dev_stream stream);
    medleyResult_t (*event_query)(mdl_dev_event event); /* Success, InProgress or an error */
    medleyResult_t (*stream_wait_event)(mdl_dev_stream stream, mdl_dev_event event);
    medleyResult_t (*ipc_export)(void *ptr, uint8_t *handle, size_t *len, uint64_t *offset, int *fd);
    medleyResult_t (*ipc_import)(const uint8_t *handle, size_t len, int fd, void **import, void **base);
    void (*ipc_close)(void *import);
    medleyResult_t (*dmabuf_export)(void *ptr, size_t len, int *fd, uint64_t *offset);
    medleyResult_t (*reduce)(const void *desc, void *dst, const void *const *srcs, int nsrc, size_t count,
                             mdl_dev_stream stream);
};

#ifdef __cplusplus
}
#endif

#endif
