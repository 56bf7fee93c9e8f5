/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frame of the transports' conformance suite: a case is a function that every rank runs, the ranks being threads of one
 * process or processes of their own. Each run has processes of its own and a time limit, after which it is killed and
 * the case has failed, so a hang is a failure like any other.
 *
 * What ranks share (addresses, barriers, what was lost) is in a piece of memory that the parent maps before it forks.
 */
#ifndef MDL_TESTS_CONFORM_TRANSPORT_H_
#define MDL_TESTS_CONFORM_TRANSPORT_H_

#include "lib/base/config.h"
#include <medley/plugin.h>
#include <stdatomic.h>
#include <stdio.h>

enum { MAX_RANKS = 16, WORDS = 32 };

struct world {
    int nranks;
    bool processes;
    double stretch;                  /* of MEDLEY_DEAD_AFTER, for a busy machine */
    atomic_uint arrived, generation; /* barrier */
    atomic_uint two;                 /* of barrier_two: how often a rank came */
    atomic_bool failed;
    uint8_t secret[MDL_SECRET_BYTES];
    uint8_t address[MAX_RANKS][MDL_ADDRESS_BYTES];
    size_t address_len[MAX_RANKS];
    atomic_int lost[MAX_RANKS][MAX_RANKS]; /* [who says it][about whom]: times */
    atomic_ulong words[WORDS];             /* for the case */
};

struct rank {
    struct world *w;
    const struct mdl_transport *tr;
    const struct test_case *test;
    int rank;
    void *ctx;
    bool sleeps; /* waits asleep instead of in a loop */
    struct mdl_config cfg;
    volatile uint32_t abort_word;
    uint32_t reach[MAX_RANKS];
};

enum { THREADS = 1, PROCESSES = 2, BOTH = 3 };

struct test_case {
    const char *name;
    int nranks, modes;
    void (*fn)(struct rank *r); /* runs between open and close */
    const char *settings;       /* "MEDLEY_EAGER=4K MEDLEY_TCP_CHUNK=8K"; NULL: none */
    int limit_s;                /* 0: 30 */
};

/* Runs all cases (or those named in argv) on the transport; what main returns. */
int run_cases(const char *transport, const struct test_case *cases, size_t count, int argc, char **argv);

/* Ends the run with a message if the condition does not hold. */
#define CHECK(cond, ...)                                                                                               \
    do {                                                                                                               \
        if (!(cond)) check_failed(__FILE__, __LINE__, #cond, " " __VA_ARGS__);                                         \
    } while (0)
void check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

/* ---- for the ranks ---- */

/* So many seconds in ns, as much longer as the machine is busy. */
uint64_t within_s(double seconds);

void rank_open(struct rank *r);
void rank_close(struct rank *r);

/* All ranks meet; the transport makes no progress meanwhile ... */
void barrier(struct rank *r);
/* ... or it does. */
void barrier_progress(struct rank *r);

/* Ranks 0 and 1 meet, making progress; the others take no part. */
void barrier_two(struct rank *r);

/* The engine's peer_lost: counts in the world. */
void rank_on_lost(void *engine, int rank, medleyResult_t code, const char *why);

struct mdl_request *request_new(const struct rank *r);

/* Post, trying again as long as there is no room. */
void post_send(struct rank *r, int peer, uint32_t channel, const void *ptr, size_t len, uint64_t tag,
               struct mdl_request *req);
void post_recv(struct rank *r, int peer, uint32_t channel, void *ptr, size_t len, uint64_t tag,
               struct mdl_request *req);
/* One turn of progress; returns its result. */
medleyResult_t turn(struct rank *r);
/* Until the request is DONE (or FAILED, for wait_end). */
void wait_done(struct rank *r, struct mdl_request *req);
void wait_end(struct rank *r, struct mdl_request *req);
/* Until a word of the world has a value. */
void wait_word(struct rank *r, int word, unsigned long value);

/* Bytes that depend on a seed; check_bytes says where they differ. */
void fill_bytes(uint8_t *p, size_t len, uint64_t seed);
void check_bytes(const uint8_t *p, size_t len, uint64_t seed);

#endif
