/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ranks of this process and how they are driven: `threads` threads, each with `per_thread` ranks, whose calls it
 * makes one after the other inside a group. Every thread runs the same sequence of measurements; what one must know of
 * the others (times, errors) goes through the communicators themselves, so that threads and processes are alike.
 */
#ifndef PERF_WORLD_H_
#define PERF_WORLD_H_

#include "bench/perf/home.h"
#include "bench/perf/options.h"
#include "bench/perf/place.h"
#include <pthread.h>

struct perf_buffer {
    void *base;
    void *host; /* what the host reads and writes of it: on hosts the same, else a copy */
    size_t bytes;
    void *handle;          /* of medleyCommRegister */
    medleyWindow_t window; /* of medleyCommWindowRegister */
    char *at, *host_at;    /* where the elements begin, in both */
};

struct perf_rank {
    int rank;
    medleyComm_t comm;
    struct perf_home home;
    void *stream; /* NULL without -y 0 */
    struct perf_buffer send, recv;
    medleyRedOp_t op;
    size_t *counts; /* tables of V collectives, 2 x nranks */
};

struct perf_report;
struct perf_thread {
    struct perf_world *world;
    int number, nranks;
    struct perf_rank *ranks;
    size_t max_bytes; /* -e, or less for want of memory; the same everywhere */
    pthread_t id;
    int status;                 /* exit status */
    bool failed;                /* a call failed: the communicators are gone */
    bool met;                   /* has been to perf_thread_meet */
    struct perf_report *report; /* only the main thread of process 0; else NULL */
};

struct perf_world {
    const struct perf_options *o;
    struct perf_place place;
    int nranks;
    medleyUniqueId id;
    struct perf_thread *threads;
    struct perf_watch *watch;
    pthread_mutex_t lock; /* of how many threads have met */
    pthread_cond_t all_met;
    int nmet;
    double memory_start, memory_ready; /* bytes resident before and after the communicators were made */
};

/* With o and place set: makes the id, the threads' descriptions and, unless -p 1, all communicators. Says what fails.
 */
medleyResult_t perf_world_open(struct perf_world *w);
void perf_world_close(struct perf_world *w);

/* The threads of this process, once: with `wait` it returns when all have come, who fails before included. */
void perf_thread_meet(struct perf_thread *t, bool wait);

/* Makes the communicators of one thread (-p 1), and its streams. */
medleyResult_t perf_thread_open(struct perf_thread *t);
void perf_thread_close(struct perf_thread *t);

/* Says which rank failed in what, and aborts the thread's communicators so that nobody waits for them. */
medleyResult_t perf_thread_fail(struct perf_thread *t, medleyResult_t result, const char *what);

/* Calls `fn` for each rank of the thread, inside a group if it has several or `group` says so. */
typedef medleyResult_t (*perf_rank_fn)(struct perf_thread *t, struct perf_rank *r, void *arg);
medleyResult_t perf_thread_each(struct perf_thread *t, bool group, perf_rank_fn fn, void *arg);

/* ---- between all ranks ---- */

medleyResult_t perf_all_wait(struct perf_thread *t);

/* all[r] = rank r's `bytes` bytes; `mine` has those of the thread's ranks. */
medleyResult_t perf_all_gather(struct perf_thread *t, const void *mine, size_t bytes, void *all);

/* values[i] = the largest of all ranks' values[i]. */
medleyResult_t perf_all_max(struct perf_thread *t, double *values, size_t count);

#endif
