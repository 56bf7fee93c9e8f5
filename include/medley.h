/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off: the head has a table */
/*
 * Medley: collective communication for clusters built from different chips.
 *
 * The API has NCCL's shape: whoever knows NCCL knows Medley. Functions are NCCL's with `medley` for `nccl`, the stream
 * is a `void *`, and results, datatypes, operations and flags have NCCL's numbers. What NCCL does not have is marked
 * "Medley only".
 *
 * What every call has in common
 *
 * Errors. A call returns medleySuccess or an error. medleyInvalidArgument has no effect: the communicator stays usable,
 * and inside a group it is returned at once and, if a group could have held the call, again by medleyGroupEnd. The same
 * holds of medleyInvalidUsage where this rank sees by itself, before anything starts, that the call is wrong here: a
 * Medley stream for a rank with a device, a stream that is being captured, a communicator that is being made, at work on
 * a split, shrink or window, finalized or destroyed, a forked child. Every other error of the communicator's operations
 * is fatal to it: every later call on it returns that error until it is destroyed, aborted or shrunk, on every rank.
 * medleyGetLastError says what happened, where, and what to do.
 *
 * Counts are in elements, never bytes, and are size_t: counts over 2^32 work. A buffer needs the alignment of its
 * element. A count of 0 is allowed: collectives with nothing to move return at once (every rank must still make the
 * call); zero-count Send and Recv do match each other. Buffers of zero elements may be NULL.
 *
 * Order. The operations of one communicator run in the order in which they were issued, and all ranks must issue the
 * same collectives in the same order. A collective is no barrier, but for medleyBarrier: it returns when this rank's
 * part is done, which may be before other ranks have called, as for the root of a small broadcast. Calls that do not
 * match (another collective, count, type, operation or root) are medleyInvalidUsage on all ranks, and no rank gets data
 * of a call that is not its own; a rank that needed nothing of the others may have the error from one of its next calls
 * or from medleyCommGetAsyncError.
 *
 * One thread may use a communicator at a time; different communicators may be used by different threads at the same
 * time. medleyCommAbort, medleyCommRevoke, medleyCommGetAsyncError, medleyGetLastError and medleyCommGetStats may be
 * called from any thread at any time.
 *
 * Non-blocking communicators (blocking = 0 in their configuration) never keep the caller waiting for other ranks. What
 * would returns medleyInProgress and goes on in the background; medleyCommGetAsyncError says medleyInProgress until it
 * is done. Until an initialisation, split, shrink or window is done no other call on the communicator is allowed but
 * Count, UserRank, GetAsyncError, Destroy and Abort; the latter two give it up. A split or a shrink is at work on the
 * parent, whose mode decides whether the call waits; the mode in `config` is that of the new communicator's own calls.
 *
 * Results are bit-identical on every rank, but for calls that pass through to a vendor's collective library.
 *
 * Pass-through, unless MEDLEY_NATIVE=0 on any rank. Where all ranks have devices of one vendor, no two of them the same
 * one, and all have its collective library (NCCL, RCCL, HCCL, ...) in one version, calls become that library's calls on
 * the stream: its speed, its rounding, and the same bits on all ranks only as far as it promises them. What it does not
 * have (reductions of 8-bit floats; with some vendors the average, operations made with medleyRedOpCreatePreMulSum, or
 * some types) goes Medley's way, so ranks need not care; all must do alike. A buffer of the host is copied through memory
 * of the device: such a call may wait for what the device has to do. medleyCommStats_t.last_algorithm has the library's
 * name after such a call.
 * MEDLEY_DETERMINISTIC=1 turns it off.
 *
 * Processes. Calls in a child that was forked after the first call return medleyInvalidUsage and disturb nobody; the
 * child may exec, and what is forked before the first call is a process like any other. Descriptors are close-on-exec,
 * no signal's action or mask changes, and Medley's threads block all signals. exit with live communicators is allowed:
 * for the peers the rank has died. The shared library stays mapped after dlclose.
 *
 * What a stream means
 *
 *   communicator  stream                   the call returns        the operation runs
 *   ------------  -----------------------  ----------------------  --------------------------------------------
 *   host          NULL                     when the operation is   in the calling thread, after every earlier
 *                                          done and its buffers    operation of this communicator
 *                                          may be used
 *   host          from medleyStreamCreate  once it is queued       on Medley's threads, in stream order, after
 *                                                                  what was queued on the stream and on this
 *                                                                  communicator; medleyStreamSynchronize or an
 *                                                                  event tells when it is done
 *   host          any other pointer        medleyInvalidArgument   never: only streams that Medley made are
 *                                                                  accepted, and no other is dereferenced
 *   device        the vendor's, or NULL:   once it is in the       when the stream comes to it; what is put on
 *                 its default stream       stream                  the stream later sees the result
 *   device        from medleyStreamCreate  medleyInvalidUsage      never
 *
 * "Device" is a rank whose medleyConfig_t.device names one; ranks of both kinds may be in one communicator. Its buffers
 * may be memory of that device, found out for each call, or of the host. Streams wait for a word in memory where the
 * vendor can (CUDA and HIP; for OpenCL and Level Zero a thread of Medley's does it), or a kernel waits for it, for eight
 * streams of a device and process at most (MEDLEY_DEVICE_HOLD); with others the call returns only when the copy of its
 * result is in the stream, as does a call, or a group, of more pieces than a stream can hold: some hundred MiB.
 * `medley-info` says "attended" of a vendor whose calls return only then; so they do everywhere with
 * MEDLEY_DEVICE_HOLD=caller. There the order of calls matters across communicators too: if two ranks make calls on two
 * communicators in opposite orders, each stays in its first call and waits for the other, without end or until
 * MEDLEY_TIMEOUT, as with NCCL where streams share resources. Make such calls in the same order on all ranks, or in one
 * group. With OpenCL give a queue: NULL is one that the caller cannot wait for.
 * Attended calls of non-blocking communicators keep the caller, too.
 * A stream that is being captured is refused with medleyInvalidUsage, which leaves the capture as it was. While a stream
 * waits in a call, allocating memory on its device waits too, as with NCCL: allocate, and make communicators, before. A
 * stream may be destroyed behind a call wherever its vendor lets it. A communicator may have 128 calls outstanding that do
 * not pass through, and of staged ones as many as MEDLEY_DEVICE_STAGING has room for: the next one stays until an earlier
 * one is through, and is a medleyTimeout if none is for long, so a stream must not wait for what the host does only behind
 * that. A communicator that ends while a stream is held up by another one's call, or by the user's work, leaves what it
 * has on the device to a later end of one.
 *
 * Inside a group nothing starts before the outermost medleyGroupEnd; calls with a NULL stream on hosts are then done when
 * that returns.
 */
/* clang-format on */
#ifndef MEDLEY_H_
#define MEDLEY_H_

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEDLEY_MAJOR 0
#define MEDLEY_MINOR 1
#define MEDLEY_PATCH 0
/* One number to compare versions by: 10000 * major + 100 * minor + patch. */
#define MEDLEY_VERSION(major, minor, patch) ((major)*10000 + (minor)*100 + (patch))
#define MEDLEY_VERSION_CODE                 MEDLEY_VERSION(MEDLEY_MAJOR, MEDLEY_MINOR, MEDLEY_PATCH)

#if defined(__GNUC__)
#define MEDLEY_API __attribute__((visibility("default")))
#else
#define MEDLEY_API
#endif

/* ---- types ---- */

typedef struct medleyComm *medleyComm_t;
typedef struct medleyWindow *medleyWindow_t;
typedef void *medleyStream_t; /* what medleyStreamCreate makes */
typedef void *medleyEvent_t;  /* what medleyEventCreate makes */

#define MEDLEY_COMM_NULL       NULL
#define MEDLEY_UNIQUE_ID_BYTES 128
/* Names a communicator to be. It carries a secret key and where to meet: hand it to the ranks through a channel that
 * you trust, and keep it out of logs. */
typedef struct {
    char internal[MEDLEY_UNIQUE_ID_BYTES];
} medleyUniqueId;

typedef enum {
    medleySuccess = 0,
    medleyUnhandledDeviceError = 1, /* ncclUnhandledCudaError */
    medleySystemError = 2,          /* a call to the operating system failed */
    medleyInternalError = 3,        /* a bug in Medley */
    medleyInvalidArgument = 4,      /* the caller's argument is wrong; nothing was done */
    medleyInvalidUsage = 5, /* the call is wrong here: mismatched, not supported, after an abort, in a forked child */
    medleyRemoteError = 6,  /* another rank failed or cannot be reached */
    medleyInProgress = 7,   /* a non-blocking communicator is still at work */
    medleyTimeout = 8,      /* a deadline passed */
    medleyNumResults = 9
} medleyResult_t;

typedef enum {
    medleyInt8 = 0,
    medleyChar = 0,
    medleyUint8 = 1,
    medleyInt32 = 2,
    medleyInt = 2,
    medleyUint32 = 3,
    medleyInt64 = 4,
    medleyUint64 = 5,
    medleyFloat16 = 6,
    medleyHalf = 6,
    medleyFloat32 = 7,
    medleyFloat = 7,
    medleyFloat64 = 8,
    medleyDouble = 8,
    medleyBfloat16 = 9,
    medleyFloat8e4m3 = 10,
    medleyFloat8e5m2 = 11,
    medleyNumTypes = 12
} medleyDataType_t;

/* Numerics. Integers wrap around. 16- and 8-bit floats are added in fp32 and rounded to nearest even; min and max order
 * -0 before +0 and give NaN if any input is NaN; a NaN result is one canonical NaN; denormals are kept. Avg is the sum
 * divided by the number of ranks: toward zero for integers. What is too large for a float type becomes infinite (f8e4m3,
 * which has no infinity: NaN), in Avg too if the sum does. Values from medleyNumOps on come from
 * medleyRedOpCreatePreMulSum. */
typedef enum {
    medleySum = 0,
    medleyProd = 1,
    medleyMax = 2,
    medleyMin = 3,
    medleyAvg = 4,
    medleyNumOps = 5,
    medleyMaxRedOp = 0x7fffffff
} medleyRedOp_t;

typedef enum { medleyScalarDevice = 0, medleyScalarHostImmediate = 1 } medleyScalarResidence_t;

#define MEDLEY_SPLIT_NOCOLOR      (-1)
#define MEDLEY_SHRINK_DEFAULT     0x00 /* every rank that stays is healthy and has no operation outstanding */
#define MEDLEY_SHRINK_ABORT       0x01 /* the parent has failed: drop what it had outstanding first */
#define MEDLEY_WIN_DEFAULT        0x00
#define MEDLEY_WIN_COLL_SYMMETRIC 0x01

#define MEDLEY_CONFIG_MAGIC     0x6d65646cu /* "medl" */
#define MEDLEY_CONFIG_VERSION   1u
#define MEDLEY_CONFIG_UNDEF_INT INT_MIN
#define MEDLEY_CONFIG_UNDEF_PTR NULL

/* How a communicator shall work. Initialise it with MEDLEY_CONFIG_INITIALIZER and set what you want; what stays
 * undefined comes from the environment (`medley-info --env` lists it) or has its default. A field set here wins over
 * the environment. The strings need to live until the call returns. ncclConfig_t. */
typedef struct medleyConfig_v1 {
    size_t size;          /* sizeof(medleyConfig_t): lets the structure grow */
    unsigned int magic;   /* MEDLEY_CONFIG_MAGIC */
    unsigned int version; /* MEDLEY_CONFIG_VERSION */
    int blocking;         /* 1 (default): calls return when done; 0: they may return medleyInProgress */
    int timeout_ms;       /* an operation in which nothing moves for so many milliseconds fails; 0: never.
                             MEDLEY_TIMEOUT */
    int init_timeout_ms;  /* deadline of initialisation in milliseconds. MEDLEY_INIT_TIMEOUT */
    int deterministic;    /* 1: the same bits for any placement, algorithm and transport. MEDLEY_DETERMINISTIC */
    int threads;          /* worker threads of this process for large copies and reductions; 0: none. MEDLEY_THREADS */
    int split_share;      /* accepted for NCCL's sake; resources are shared where that is safe */
    const char *device;   /* the device of this rank: "host" (default); "cuda:1", vendor and number; "cuda", the calling
                             thread's current one; "auto", the current one of the one vendor that is here, else the
                             host. `medley-info` lists the vendors. MEDLEY_DEVICE */
    const char *transports; /* which transports may be used: "shm,tcp", in any order. MEDLEY_TRANSPORT */
    const char *cpu_set;    /* where Medley's threads run: "0-3,8". MEDLEY_CPU_SET */
    const char *net_ifname; /* network interfaces, by name, prefix or CIDR. MEDLEY_SOCKET_IFNAME */
    const char *comm_name;  /* a name for the log and for errors, at most 63 characters */
    size_t memory_budget;   /* bytes of staging memory that this communicator may use; 0: the default.
                               MEDLEY_MEMORY_BUDGET */
    void *reserved[16];     /* NULL */
} medleyConfig_t;

#define MEDLEY_CONFIG_INITIALIZER                                                                                      \
    {                                                                                                                  \
        sizeof(medleyConfig_t), MEDLEY_CONFIG_MAGIC, MEDLEY_CONFIG_VERSION, MEDLEY_CONFIG_UNDEF_INT,                   \
            MEDLEY_CONFIG_UNDEF_INT, MEDLEY_CONFIG_UNDEF_INT, MEDLEY_CONFIG_UNDEF_INT, MEDLEY_CONFIG_UNDEF_INT,        \
            MEDLEY_CONFIG_UNDEF_INT, MEDLEY_CONFIG_UNDEF_PTR, MEDLEY_CONFIG_UNDEF_PTR, MEDLEY_CONFIG_UNDEF_PTR,        \
            MEDLEY_CONFIG_UNDEF_PTR, MEDLEY_CONFIG_UNDEF_PTR, 0,                                                       \
        {                                                                                                              \
            NULL                                                                                                       \
        }                                                                                                              \
    }

/* ---- version, errors, log ---- */

/* Stores MEDLEY_VERSION_CODE of the library that is loaded. InvalidArgument if `version` is NULL. ncclGetVersion. */
MEDLEY_API medleyResult_t medleyGetVersion(int *version);

/* A short text for a result; never NULL. ncclGetErrorString. */
MEDLEY_API const char *medleyGetErrorString(medleyResult_t result);

/* What went wrong last, in words: what happened, on which rank and host, and what to do. With a communicator: its first
 * fatal error if it has one, else its last error; with NULL: the last error of the calling thread. Never NULL, empty if
 * there was none; the text stays valid until the calling thread's next call of this function. Any thread, any time.
 * ncclGetLastError. */
MEDLEY_API const char *medleyGetLastError(medleyComm_t comm);

typedef enum {
    medleyLogNone = 0,
    medleyLogVersion = 1,
    medleyLogWarn = 2,
    medleyLogInfo = 3,
    medleyLogTrace = 4
} medleyLogLevel_t;

/* Called with one message, without newline, that the callback must not keep. It may run on any thread and must not call
 * Medley. */
typedef void (*medleyLogCallback_t)(medleyLogLevel_t level, const char *subsystem, const char *message, void *user);

/* Sends log messages up to `level` to `callback` (NULL: back to MEDLEY_DEBUG_FILE or stderr) in place of the file. The
 * former callback may still be running on another thread when this returns. Medley only. */
MEDLEY_API medleyResult_t medleySetLogCallback(medleyLogCallback_t callback, medleyLogLevel_t level, void *user);

/* ---- communicators ---- */

/* Makes an id and starts listening for the ranks that will use it: call it on one rank and send the 128 bytes to the
 * others. Until its ranks have met, or else for twice MEDLEY_INIT_TIMEOUT, an id costs this process about 6 KB and is
 * one more to look through for each connection: do not make them in store. With MEDLEY_COMM_ID=host:port in the
 * environment every rank may call it instead of exchanging the id; that needs MEDLEY_COMM_KEY or MEDLEY_COMM_KEY_FILE
 * unless the address is loopback. ncclGetUniqueId. */
MEDLEY_API medleyResult_t medleyGetUniqueId(medleyUniqueId *id);

/* Makes this process rank `rank` of a communicator of `nranks` ranks; every rank calls it with the same id. Blocks
 * until all ranks are there or the init deadline passes; the error then names the ranks that are missing. Several ranks
 * may live in one process: one thread each, or one thread for all inside a group. On error *comm is NULL.
 * ncclCommInitRank. */
MEDLEY_API medleyResult_t medleyCommInitRank(medleyComm_t *comm, int nranks, medleyUniqueId id, int rank);

/* The same with a configuration (NULL: the defaults). With blocking = 0 it returns medleyInProgress at once, *comm is
 * set, and medleyCommGetAsyncError tells when it is ready. ncclCommInitRankConfig. */
MEDLEY_API medleyResult_t medleyCommInitRankConfig(medleyComm_t *comm, int nranks, medleyUniqueId id, int rank,
                                                   medleyConfig_t *config);

/* The same with `nid` ids, made by `nid` different ranks, which share the work of bringing the ranks together. All
 * ranks give the same array. ncclCommInitRankScalable. */
MEDLEY_API medleyResult_t medleyCommInitRankScalable(medleyComm_t *comm, int nranks, int rank, int nid,
                                                     medleyUniqueId *ids, medleyConfig_t *config);

/* Makes `ndev` communicators, ranks 0..ndev-1, in this process. Where MEDLEY_DEVICE names a vendor ("cuda", "cuda:0", or
 * "auto" and one is here), rank i is on that vendor's device devlist[i], or, with NULL, on device i: InvalidArgument if
 * there is no such device. Several ranks may be on one device, which NCCL refuses; each then needs a stream of its own,
 * since none of their calls ends before all have begun. The thread's current device stays what it was. On hosts
 * `devlist` is ignored. ncclCommInitAll. */
MEDLEY_API medleyResult_t medleyCommInitAll(medleyComm_t *comms, int ndev, const int *devlist);

/* Collective. Ranks that give the same `color` (>= 0) form a new communicator, ordered by `key`, then by rank in
 * `comm`. With MEDLEY_SPLIT_NOCOLOR *newcomm becomes NULL. `config` NULL: the parent's. If the ranks cannot agree on
 * who goes where, `comm` has failed, on all of them. If only the new communicator cannot be made, its members get that
 * error and `comm` stays usable. Non-blocking `comm`: medleyInProgress; *newcomm is set when
 * medleyCommGetAsyncError(comm) does not say medleyInProgress any more, with an error as its own state if it could not
 * be made, and stays NULL if `comm` has failed. ncclCommSplit. */
MEDLEY_API medleyResult_t medleyCommSplit(medleyComm_t comm, int color, int key, medleyComm_t *newcomm,
                                          medleyConfig_t *config);

/* Makes a communicator without the `count` ranks listed in `exclude`, order kept. Called by every rank that stays, with
 * the same list. MEDLEY_SHRINK_DEFAULT: the parent is healthy and stays usable. MEDLEY_SHRINK_ABORT: the parent has
 * failed; its outstanding operations are dropped first, and only destroy is left for it. Non-blocking `comm`: as Split;
 * with MEDLEY_SHRINK_ABORT the state of `comm` is medleyInProgress until *newcomm is set, then its error again.
 * ncclCommShrink. */
MEDLEY_API medleyResult_t medleyCommShrink(medleyComm_t comm, const int *exclude, int count, medleyComm_t *newcomm,
                                           medleyConfig_t *config, int flags);

/* Not supported: returns medleyInvalidUsage. ncclCommGrow. */
MEDLEY_API medleyResult_t medleyCommGrow(medleyComm_t comm, int nranks, const medleyUniqueId *id, int rank,
                                         medleyComm_t *newcomm, medleyConfig_t *config);

/* Waits until everything queued on `comm` is done on this rank; no further operation may be issued. Optional before
 * destroy. Non-blocking communicators: returns medleyInProgress, see medleyCommGetAsyncError. ncclCommFinalize. */
MEDLEY_API medleyResult_t medleyCommFinalize(medleyComm_t comm);

/* Finalizes if needed and frees the communicator. Does not wait for peers once this rank's work is done. After an error
 * it only frees. NULL is allowed. ncclCommDestroy. */
MEDLEY_API medleyResult_t medleyCommDestroy(medleyComm_t comm);

/* Stops whatever the communicator does and frees it, without waiting for any peer; calls that are inside it on other
 * threads return an error first. When it returns, no peer writes to this rank's buffers. The peers learn of it and fail
 * with medleyRemoteError. ncclCommAbort. */
MEDLEY_API medleyResult_t medleyCommAbort(medleyComm_t comm);

/* Stops whatever the communicator does on all ranks; their calls return an error; the communicator may then only be
 * shrunk, destroyed or aborted. `flags` must be 0. ncclCommRevoke. */
MEDLEY_API medleyResult_t medleyCommRevoke(medleyComm_t comm, int flags);

/* Stores the state of the communicator: medleySuccess, medleyInProgress (a non-blocking call is still at work; one of a
 * rank with a device is not, once it is in its stream) or the error that it failed with. Never blocks.
 * ncclCommGetAsyncError. */
MEDLEY_API medleyResult_t medleyCommGetAsyncError(medleyComm_t comm, medleyResult_t *async_error);

MEDLEY_API medleyResult_t medleyCommCount(const medleyComm_t comm, int *count);   /* number of ranks. ncclCommCount */
MEDLEY_API medleyResult_t medleyCommUserRank(const medleyComm_t comm, int *rank); /* own rank. ncclCommUserRank */

#define MEDLEY_NAME_BYTES 64
typedef struct {
    size_t size;                       /* set by the caller: sizeof(medleyRankInfo_t) */
    int rank;                          /* the rank that this describes */
    int island;                        /* ranks with the same number reach each other inside a host (MEDLEY_TRANSPORT
                                          may keep those of one host apart), or by a vendor's fabric */
    int local_rank;                    /* its number among the ranks of its host, by host name */
    int pid;                           /* its process, in its own PID namespace */
    char host[MEDLEY_NAME_BYTES];      /* host name */
    char vendor[MEDLEY_NAME_BYTES];    /* "host" for a rank without a device */
    char device[MEDLEY_NAME_BYTES];    /* "host" or vendor:ordinal */
    char arch[MEDLEY_NAME_BYTES];      /* "x86_64", "aarch64" ... */
    char transport[MEDLEY_NAME_BYTES]; /* how this rank reaches it: "self", "shm", "tcp" */
    char interface[MEDLEY_NAME_BYTES]; /* over which network interface, empty if none or not yet connected */
    int native_island; /* ranks with the same number are in one communicator of their vendor's collective library, for
                          all calls or, beside other vendors' ranks and hosts, for their part of large ones; -1: it is
                          in none */
    char native[MEDLEY_NAME_BYTES]; /* that library, "nccl"; or why the rank is in none while others are; or empty */
} medleyRankInfo_t;

/* Describes rank `rank` of the communicator. Medley only. */
MEDLEY_API medleyResult_t medleyCommGetInfo(const medleyComm_t comm, int rank, medleyRankInfo_t *info);

/* ---- collectives ---- */

/* recvbuff[i] = op over all ranks of sendbuff[i], for i < count. In place: sendbuff == recvbuff. ncclAllReduce. */
MEDLEY_API medleyResult_t medleyAllReduce(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype,
                                          medleyRedOp_t op, medleyComm_t comm, void *stream);

/* As AllReduce, but only rank `root` gets the result; recvbuff may be NULL elsewhere. In place at the root. ncclReduce.
 */
MEDLEY_API medleyResult_t medleyReduce(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype,
                                       medleyRedOp_t op, int root, medleyComm_t comm, void *stream);

/* Copies `count` elements of the root's sendbuff to everyone's recvbuff; sendbuff is ignored elsewhere. In place at the
 * root: sendbuff == recvbuff. ncclBroadcast. */
MEDLEY_API medleyResult_t medleyBroadcast(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype,
                                          int root, medleyComm_t comm, void *stream);

/* Broadcast in place. ncclBcast. */
MEDLEY_API medleyResult_t medleyBcast(void *buff, size_t count, medleyDataType_t datatype, int root, medleyComm_t comm,
                                      void *stream);

/* Everyone gets recvbuff[r * sendcount + i] = rank r's sendbuff[i]; recvbuff holds nranks * sendcount elements.
 * In place: sendbuff == recvbuff + rank * sendcount. ncclAllGather. */
MEDLEY_API medleyResult_t medleyAllGather(const void *sendbuff, void *recvbuff, size_t sendcount,
                                          medleyDataType_t datatype, medleyComm_t comm, void *stream);

/* Rank r gets recvbuff[i] = op over all ranks of sendbuff[r * recvcount + i]; sendbuff holds nranks * recvcount
 * elements. In place: recvbuff == sendbuff + rank * recvcount. ncclReduceScatter. */
MEDLEY_API medleyResult_t medleyReduceScatter(const void *sendbuff, void *recvbuff, size_t recvcount,
                                              medleyDataType_t datatype, medleyRedOp_t op, medleyComm_t comm,
                                              void *stream);

/* recvbuff[r * count + i] = rank r's sendbuff[rank * count + i]; both hold nranks * count elements.
 * In place: sendbuff == recvbuff. ncclAlltoAll. */
MEDLEY_API medleyResult_t medleyAlltoAll(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype,
                                         medleyComm_t comm, void *stream);

/* The root gets recvbuff[r * count + i] = rank r's sendbuff[i]; recvbuff may be NULL elsewhere.
 * In place at the root: sendbuff == recvbuff + root * count. ncclGather. */
MEDLEY_API medleyResult_t medleyGather(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype,
                                       int root, medleyComm_t comm, void *stream);

/* Rank r gets recvbuff[i] = the root's sendbuff[r * count + i]; sendbuff may be NULL elsewhere.
 * In place at the root: recvbuff == sendbuff + root * count. ncclScatter. */
MEDLEY_API medleyResult_t medleyScatter(const void *sendbuff, void *recvbuff, size_t count, medleyDataType_t datatype,
                                        int root, medleyComm_t comm, void *stream);

/* Returns (or lets the stream go on) when every rank has called it. Medley only. */
MEDLEY_API medleyResult_t medleyBarrier(medleyComm_t comm, void *stream);

/* Everyone gets rank r's sendcount elements at recvbuff + displs[r]. recvcounts and displs: nranks entries, in
 * elements, and the recvcounts are the same on every rank; sendcount == recvcounts[rank]. displs NULL: packed in rank
 * order. The tables are read during the call. In place: sendbuff == recvbuff + displs[rank]. Medley only. */
MEDLEY_API medleyResult_t medleyAllGatherV(const void *sendbuff, size_t sendcount, void *recvbuff,
                                           const size_t *recvcounts, const size_t *displs, medleyDataType_t datatype,
                                           medleyComm_t comm, void *stream);

/* Rank r gets recvcounts[r] elements: op over all ranks of sendbuff + displs[r]. recvcounts and displs (NULL: packed)
 * are the same on every rank. In place: recvbuff == sendbuff + displs[rank]. Medley only. */
MEDLEY_API medleyResult_t medleyReduceScatterV(const void *sendbuff, void *recvbuff, const size_t *recvcounts,
                                               const size_t *displs, medleyDataType_t datatype, medleyRedOp_t op,
                                               medleyComm_t comm, void *stream);

/* Sends sendcounts[r] elements at sendbuff + sdispls[r] to rank r and receives recvcounts[r] at recvbuff + rdispls[r]
 * from it; sendcounts[r] here equals recvcounts[rank] there. displs NULL: packed. Not in place: the buffers must not
 * overlap. The tables are read during the call. ncclAllToAllv of RCCL. */
MEDLEY_API medleyResult_t medleyAlltoAllV(const void *sendbuff, const size_t *sendcounts, const size_t *sdispls,
                                          void *recvbuff, const size_t *recvcounts, const size_t *rdispls,
                                          medleyDataType_t datatype, medleyComm_t comm, void *stream);

/* ---- point to point ---- */

/* Sends to or receives from rank `peer`, which makes the matching call with the same count and type. Calls between one
 * pair match in order. Calls that need each other to proceed (exchanges, sends to oneself) must be in one group.
 * ncclSend, ncclRecv. */
MEDLEY_API medleyResult_t medleySend(const void *sendbuff, size_t count, medleyDataType_t datatype, int peer,
                                     medleyComm_t comm, void *stream);
MEDLEY_API medleyResult_t medleyRecv(void *recvbuff, size_t count, medleyDataType_t datatype, int peer,
                                     medleyComm_t comm, void *stream);

/* ---- groups ---- */

/* Calls of this thread between Start and the matching End are launched together by the outermost End and run
 * concurrently. Groups nest. End returns the first error of the group's calls, or medleyInProgress if a call of a
 * non-blocking communicator goes on in the background. ncclGroupStart, ncclGroupEnd. */
MEDLEY_API medleyResult_t medleyGroupStart(void);
MEDLEY_API medleyResult_t medleyGroupEnd(void);

/* Not supported: returns medleyInvalidUsage. ncclGroupSimulateEnd. */
typedef struct medleySimInfo medleySimInfo_t;
MEDLEY_API medleyResult_t medleyGroupSimulateEnd(medleySimInfo_t *info);

/* ---- memory ---- */

/* Allocates `size` bytes, page-aligned and zeroed, that ranks of the same host can map: collectives on such buffers
 * move each byte once. Free it with medleyMemFree when no operation uses it any more. ncclMemAlloc, ncclMemFree. */
MEDLEY_API medleyResult_t medleyMemAlloc(void **ptr, size_t size);
MEDLEY_API medleyResult_t medleyMemFree(void *ptr);

/* Registers a buffer of this rank for the communicator's transports; local, optional. ncclCommRegister,
 * ncclCommDeregister. */
MEDLEY_API medleyResult_t medleyCommRegister(const medleyComm_t comm, void *buff, size_t size, void **handle);
MEDLEY_API medleyResult_t medleyCommDeregister(const medleyComm_t comm, void *handle);

/* Collective: every rank registers a buffer of `size` bytes (its own size). `buff` should come from medleyMemAlloc to
 * be mapped by peers; any other memory is accepted and used without that gain. Non-blocking `comm`: medleyInProgress;
 * *win is set when medleyCommGetAsyncError(comm) says medleySuccess. Deregister is local.
 * ncclCommWindowRegister, ncclCommWindowDeregister. */
MEDLEY_API medleyResult_t medleyCommWindowRegister(medleyComm_t comm, void *buff, size_t size, medleyWindow_t *win,
                                                   int winFlags);
MEDLEY_API medleyResult_t medleyCommWindowDeregister(medleyComm_t comm, medleyWindow_t win);

/* ---- operations ---- */

/* Makes an operation that multiplies this rank's input by *scalar (of type `datatype`) and sums. It belongs to `comm`
 * and `datatype`; each rank may have another scalar. medleyScalarHostImmediate reads it now; medleyScalarDevice when an
 * operation uses it. It may be destroyed once the calls that use it have returned, inside a group too.
 * ncclRedOpCreatePreMulSum, ncclRedOpDestroy. */
MEDLEY_API medleyResult_t medleyRedOpCreatePreMulSum(medleyRedOp_t *op, void *scalar, medleyDataType_t datatype,
                                                     medleyScalarResidence_t residence, medleyComm_t comm);
MEDLEY_API medleyResult_t medleyRedOpDestroy(medleyRedOp_t op, medleyComm_t comm);

/* ---- host streams and events (Medley only; cudaStream* and cudaEvent* in shape) ---- */

/* A stream is a queue of operations that run in order on Medley's threads. Destroy returns at once; queued work still
 * runs. */
MEDLEY_API medleyResult_t medleyStreamCreate(void **stream);
MEDLEY_API medleyResult_t medleyStreamDestroy(void *stream);

/* Waits until all that was queued is done; returns the first error of that work since the last Synchronize. Query never
 * waits: medleySuccess, medleyInProgress or the error. */
MEDLEY_API medleyResult_t medleyStreamSynchronize(void *stream);
MEDLEY_API medleyResult_t medleyStreamQuery(void *stream);

/* What is queued on `stream` after this starts only when `event` has happened, as last recorded at this call. An event
 * that was never recorded has happened. If the event stands behind an operation that failed, `stream` has failed with
 * it: what is queued still runs, so that other ranks are not left waiting, and Synchronize and Query return the error.
 */
MEDLEY_API medleyResult_t medleyStreamWaitEvent(void *stream, void *event);

MEDLEY_API medleyResult_t medleyEventCreate(void **event);
MEDLEY_API medleyResult_t medleyEventDestroy(void *event);
MEDLEY_API medleyResult_t medleyEventRecord(void *event, void *stream);

/* medleySuccess, medleyInProgress, or the error of the stream when the event happened: the first since the stream's
 * last Synchronize. */
MEDLEY_API medleyResult_t medleyEventQuery(void *event);

/* Waits for the event, at most timeout_ms milliseconds (negative: without limit), then medleyTimeout. Otherwise returns
 * what Query does. */
MEDLEY_API medleyResult_t medleyEventSynchronize(void *event, int timeout_ms);

/* ---- statistics (Medley only) ---- */

typedef enum {
    medleyCollAllReduce = 0,
    medleyCollReduce = 1,
    medleyCollBroadcast = 2,
    medleyCollAllGather = 3,
    medleyCollReduceScatter = 4,
    medleyCollAlltoAll = 5,
    medleyCollGather = 6,
    medleyCollScatter = 7,
    medleyCollBarrier = 8,
    medleyCollAllGatherV = 9,
    medleyCollReduceScatterV = 10,
    medleyCollAlltoAllV = 11,
    medleyCollSend = 12,
    medleyCollRecv = 13,
    medleyNumColls = 14
} medleyColl_t;

typedef struct {
    uint64_t calls;   /* operations finished */
    uint64_t bytes;   /* bytes of payload: the larger of this rank's send and receive buffer */
    uint64_t time_ns; /* from issue to completion, summed; of small calls one in eight stands for all */
} medleyCollStats_t;

typedef struct {
    int rank;            /* the peer */
    uint64_t wait_ns;    /* time that this rank had nothing to do but wait for that peer, or, in a wait of more than
                            MEDLEY_STALL, for another rank that it was found to wait for in turn: who is slow */
    uint64_t sent_bytes; /* payload that left for it, or that it read here */
    uint64_t recv_bytes; /* payload that came from it; of "device-direct" calls below what the device read of its memory */
    uint64_t retries;    /* pieces sent again or moved to another link */
    char transport[16];  /* what reaches it: "self", "shm", "tcp" */
    uint64_t reserved[4];
} medleyPeerStats_t;

typedef struct {
    size_t size;                            /* set by the caller: sizeof(medleyCommStats_t); what a later version has
                                               more than the library comes back as 0 */
    medleyCollStats_t coll[medleyNumColls]; /* indexed by medleyColl_t */
    uint64_t fallbacks;                     /* times a slower path was taken because the better one was refused */
    uint64_t plans_built, plans_reused;     /* plan cache */
    char last_algorithm[32];                /* of the last collective that ran, see below */
    uint64_t last_predicted_ns;             /* what the cost model expected of it */
    int npeers;                             /* in: entries in `peers`; out: number of ranks */
    medleyPeerStats_t *peers;               /* may be NULL */
} medleyCommStats_t;

/* last_algorithm is "oneshot" (a small call inside a host), the name of a plan ("ring", "direct", ...; medley-info lists
 * them), "device-direct" (devices of one host read each other's memory), "islands", or the name of the vendor's library.
 * What a "device-direct" call of `count` elements reads of each peer, for n ranks:
 *
 * - AllGather, and the root of Gather: count elements; AlltoAll: count;
 * - Broadcast and Scatter: count of the root, but for the root itself;
 * - ReduceScatter: count;
 * - AllReduce: rank r reduces the elements from count * r / n up to count * (r + 1) / n, rounded down; it reads these of
 *   each peer, and then each peer's share. Reduce: only the root reads the peers' shares.
 *
 * A call that is cut into pieces for MEDLEY_DEVICE_WINDOW does so for each piece. */

/* Copies the communicator's counters since it was made. Cheap; any thread, any time; the figures of a running operation
 * may be half counted. */
MEDLEY_API medleyResult_t medleyCommGetStats(medleyComm_t comm, medleyCommStats_t *stats);

#ifdef __cplusplus
}
#endif

#endif /* MEDLEY_H_ */
