/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of bench/limits. A case is one way to do one thing (a collective, a copy, a message); a team is a number of
 * processes that run all cases of that number of ranks in turns. A case's function does the thing once, on every rank,
 * and leaves all counters of the team equal on all ranks, so that the next one can start without a meeting.
 */
#ifndef BENCH_LIMITS_H_
#define BENCH_LIMITS_H_

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    MAX_RANKS = 8,
    MAX_TILE = 1 << 20, /* bytes */
    BOX_BYTES = 64 << 10,
    DEPTH = 4, /* slots of a rank */
    CONNS = 4,
};

/* What a rank counts up for the others to see; each count has a cache line of its own (two: lines are fetched in
 * pairs). */
enum flag { FLAG_MEET, FLAG_START, FLAG_MID, FLAG_END, FLAG_READY, FLAG_REDUCED, FLAG_DONE, FLAG_KINDS };

struct line {
    _Alignas(128) _Atomic uint64_t value;
};

/* A small payload in the line of its own flag, and the lines after it; two in turns. */
struct box {
    _Alignas(128) _Atomic uint64_t seq;
    char data[BOX_BYTES];
};

/* Mapped by all ranks. */
struct shared {
    struct line flag[MAX_RANKS][FLAG_KINDS];
    struct box box[MAX_RANKS][2];
    _Alignas(4096) char slot[MAX_RANKS][2][DEPTH][MAX_TILE]; /* copies of inputs; reduced pieces */
    pid_t pid[MAX_RANKS];
    uint64_t took[MAX_RANKS];
    _Atomic uint32_t wrong; /* a result was wrong, or a system call failed */
};

struct rank {
    int rank, n;
    unsigned spins; /* before each yield of a wait */
    int core;
    struct shared *s;
    uint64_t count[FLAG_KINDS], box_seq;
    const float *in[MAX_RANKS]; /* everybody's, mapped: ordinary or huge pages as the case wants */
    float *out[MAX_RANKS];
    float *own_in, *own_out; /* private memory, at the same address on every rank */
    float *scratch[MAX_RANKS];
    int conn[CONNS];
};

enum coll { COLL_NONE, COLL_ALLREDUCE, COLL_REDUCE_SCATTER, COLL_ALLGATHER, COLL_BROADCAST, COLL_ALLTOALL, COLL_COPY };

struct limit_case {
    const char *limit, *name, *variant; /* of what, which collective or figure, how */
    unsigned ranks;                     /* bit n: with n ranks */
    size_t min, max;                    /* bytes */
    void (*run)(struct rank *me, const struct limit_case *c, size_t bytes);
    enum coll coll; /* what the result must be */
    size_t tile;    /* bytes */
    bool nt;        /* non-temporal stores */
    bool huge;      /* mapped buffers in huge pages */
    bool mapped;    /* works on in[] and out[], not on own_in and own_out */
    bool one_core;
    double share; /* of a call's time that is reported; 0: all of it */
    int option;   /* the function's own */
};

extern const struct limit_case direct_cases[], pvr_cases[], slots_cases[], machine_cases[];
extern const size_t direct_cases_count, pvr_cases_count, slots_cases_count, machine_cases_count;

/* ---- sums.c: dst[0..ndst) = src[0] + ... + src[nsrc - 1]; non-temporal stores need dst aligned to 32 bytes ---- */
void sum_floats(float *const *dst, int ndst, const float *const *src, int nsrc, size_t count, bool nt);
void copy_floats(float *dst, const float *src, size_t count, bool nt);
/* The first of the elements that rank r of n reduces; whole cache lines. r = n: the end. */
size_t slice_start(size_t count, int n, int r);

/* ---- wait.c ---- */
void count_up(struct rank *me, enum flag kind, uint64_t by);
void wait_value(const struct rank *me, const _Atomic uint64_t *word, uint64_t value);
void wait_rank(const struct rank *me, enum flag kind, int rank, uint64_t value);
void wait_all(const struct rank *me, enum flag kind, uint64_t value);
void meet(struct rank *me, enum flag kind);
void pin(int core);
uint64_t now_ns(void);

/* ---- team.c: runs the cases `entries` and fills in the times ---- */
struct entry {
    const struct limit_case *c;
    size_t bytes;
    double us; /* median; below 0: could not run */
};
/* 0, or 1 if a result was wrong. */
int team_run(int ranks, struct entry *entries, size_t count, int rounds, double batch_ms);

/* Whether all pages of shared mappings could be made huge at the last call. */
bool team_has_huge(void);

#endif
