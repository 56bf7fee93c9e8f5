/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rank of bench/compare: what the driver (worker.c) wants of a library (backend_*), and the data that both know
 * (pattern.c). C and C++.
 */
#ifndef BENCH_PEERS_WORKER_H_
#define BENCH_PEERS_WORKER_H_

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum collective { ALLREDUCE, ALLGATHER, REDUCESCATTER, BROADCAST, ALLTOALL, GATHER, SCATTER, REDUCE, COLLECTIVES };
enum type { F32, F64, I8, I32, F16, BF16, F8E4M3, F8E5M2, TYPES };
enum kind { ORDINARY, REGISTERED, KINDS }; /* of buffers: malloc's, or those of the library's own allocator */

enum { ROOT = 0 };

struct world {
    int rank;
    int nranks;
};

/* One operation. Sums, if it reduces. */
struct job {
    enum collective collective;
    enum type type;
    enum kind kind;
    int variant;  /* one of the backend's ways to do it */
    size_t bytes; /* as nccl-tests counts: of the larger of the buffers */
    size_t count; /* elements that the call names: of one rank's part, but all in allreduce, broadcast and reduce */
    void *send;   /* broadcast: the same as recv */
    void *recv;
};

/* What a library is to the driver. Functions that return false have said why with complain(). */
struct backend {
    bool unchecked; /* it moves bytes, but not to where the collective would */
    /* Sets rank and nranks. If they are set already (nranks > 0) the library learns them from there. */
    bool (*open)(struct world *world);
    void (*close)(void);
    void (*version)(char *text, size_t size);
    /* Names of the ways to do it, separated by commas; empty: the library cannot do it. */
    const char *(*variants)(enum collective collective, enum type type);
    /* Buffers of kind REGISTERED. NULL: the library has none. */
    void *(*allocate)(size_t bytes);
    void (*release)(void *buffer);
    bool (*barrier)(void);
    /* Called before the first call() of a job, and after its buffers were made. May be NULL. */
    bool (*prepare)(const struct job *job);
    bool (*call)(const struct job *job);
};
extern const struct backend backend;

/* Says why something failed, as printf does: the controller gets it. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Collective: `text` of rank 0 reaches all ranks; `size` bytes with the final 0. Goes through the controller, for
 * libraries that have no means of their own yet. */
bool share(const struct world *world, char *text, size_t size);

/* ---- pattern.c ---- */

size_t type_size(enum type type);
/* Elements in a job's send and receive buffer on this rank. */
size_t send_elements(const struct world *world, const struct job *job);
size_t recv_elements(const struct world *world, const struct job *job);
/* Fills the send buffer with this rank's data and the receive buffer with something else. */
void pattern_fill(const struct world *world, const struct job *job);
/* Is the receive buffer right? Complains of the first element that is not. */
bool pattern_check(const struct world *world, const struct job *job);

#ifdef __cplusplus
}
#endif

#endif /* BENCH_PEERS_WORKER_H_ */
