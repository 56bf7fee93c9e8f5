/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the emulated collectives share. */
#ifndef MDL_TESTS_EMUL_CCL_STATE_H_
#define MDL_TESTS_EMUL_CCL_STATE_H_

#include "tests/emul/ccl.h"
#include <stdatomic.h>

enum { CCL_RANKS = 64, CCL_CHUNK = 1 << 18, CCL_MESSAGE = 1 << 16, CCL_FACTORS = 4096 };

/* One rank's line in the shared memory. */
struct ccl_rank {
    _Atomic uint32_t attached, left;
    _Atomic uint64_t arrived; /* barriers */
    _Atomic uint64_t called;  /* cclconnect: collectives */
    char device[16];
    /* Of the operation that it is in, to compare. */
    int call, type, reduce, peer;
    size_t count;
};

/* One message in flight from a rank to another. */
struct ccl_channel {
    _Atomic uint64_t written, read;
    size_t bytes, total;
    char data[CCL_MESSAGE];
};

struct ccl_shared {
    uint64_t magic;
    int ranks;
    struct ccl_rank rank[CCL_RANKS];
    char chunk[CCL_RANKS][CCL_CHUNK];
    struct ccl_channel channel[]; /* [from * ranks + to] */
};

/* An operation that was made. Places are used in turns: those of calls that run yet are not written. */
struct ccl_factor {
    bool used;
    int type;
    const void *at; /* of a device; NULL: it is here */
    uint64_t value;
};

struct emul_comm {
    uint64_t magic;
    struct emul_comm *next;
    int vendor, ranks, rank, device;
    _Atomic int refs, error;
    _Atomic bool aborted;
    bool dead;
    uint64_t limit_ns;          /* an operation may take so long; 0: for ever */
    _Atomic uint64_t began_ns;  /* the newest operation that was begun; 0: none yet */
    uint64_t barriers;
    _Atomic uint64_t operations, ended;
    uint64_t group, before_group; /* the newest group that had some; operations before it */
    struct ccl_shared *shared;
    size_t size;
    unsigned nfactors; /* made so far */
    struct ccl_factor *factors;
};

/* Operations that are one work on a stream: collectives in order, and all messages at once. */
struct ccl_batch {
    struct emul_comm *comm;
    struct emul_ccl_op *ops;
    size_t count;
    uint64_t first; /* number of the first of them in the communicator */
    uint64_t after; /* so many must have ended: those before the group that these are of, which is one operation */
};

uint64_t ccl_now(void);
const struct ccl_factor *ccl_factor_of(struct emul_comm *comm, int op); /* NULL: none of its operations */
unsigned ccl_factors_left(struct emul_comm *comm);
int ccl_run(void *batch); /* of emul_work */
void ccl_drop(void *batch);
void ccl_put(struct emul_comm *comm);
bool ccl_known(struct emul_comm *comm); /* a live one, else misuse */
int ccl_init_now(int vendor, const void *id, size_t size, int ranks, int rank, struct emul_comm **out);
/* false: aborted, or out of time. */
bool ccl_pause(struct emul_comm *comm, unsigned *turn);
bool ccl_barrier(struct emul_comm *comm);
/* Tells of the communicators that are left, and returns how many they are. */
unsigned emul_comms_left(unsigned (*tell)(const char *what, int vendor, uint64_t id, const char *detail));

#endif
