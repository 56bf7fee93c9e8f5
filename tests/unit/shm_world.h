/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A few ranks with one transport between them, as threads of this process or as forked children: opens, exchanges
 * addresses, connects, runs a body on every rank, closes. What fails says where and ends the process with 99, which a
 * parent or Check reports.
 */
#ifndef MDL_TESTS_SHM_WORLD_H_
#define MDL_TESTS_SHM_WORLD_H_

#include "lib/base/clock.h"
#include "lib/base/config.h"
#include "lib/mem/mem.h"
#include <medley/plugin.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUIRE(cond)                                                                                                  \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: not true: %s (last error: %s)\n", __FILE__, __LINE__, #cond, mdl_error_text());    \
            _exit(99);                                                                                                 \
        }                                                                                                              \
    } while (0)

enum { WORLD_MAX = 16, WORLD_WAIT_S = 40 };

struct world;
struct world_rank {
    struct world *world;
    int rank;
    void *ctx;
    struct mdl_config config;
    uint32_t abort_word;
    uint32_t reach[WORLD_MAX];
    atomic_int lost[WORLD_MAX]; /* calls of peer_lost */
    char lost_why[WORLD_MAX][160];
    struct mdl_transport_open args;
};

struct world_shared { /* in memory that children share */
    uint8_t address[WORLD_MAX][MDL_ADDRESS_BYTES];
    size_t address_len[WORLD_MAX];
    atomic_int arrived;
    _Atomic uint64_t words[64]; /* for bodies */
    pid_t pids[WORLD_MAX];
};

struct world {
    const struct mdl_transport *transport;
    int n;
    bool forked;
    bool quick;                           /* forked: leave without the sanitizers' slow look for leaks */
    bool peer_may_die;                    /* children that a signal ended are no failure */
    const char *settings[8][2];           /* of the configuration, for all ranks */
    void (*before)(struct world_rank *r); /* forked: first thing in the child */
    void (*body)(struct world_rank *r);
    const void *arg;
    struct world_shared *shared;
    uint32_t serial; /* makes another secret */
};

static inline void world_lost(void *engine, int rank, medleyResult_t code, const char *why)
{
    struct world_rank *r = engine;
    snprintf(r->lost_why[rank], sizeof(r->lost_why[rank]), "%s", why);
    atomic_fetch_add(&r->lost[rank], 1);
}

/* Returns when all ranks have come here. */
static inline void world_barrier(struct world_rank *r)
{
    struct world *w = r->world;
    int mine = atomic_fetch_add(&w->shared->arrived, 1);
    int target = (mine / w->n + 1) * w->n;
    uint64_t deadline = mdl_now_ns() + WORLD_WAIT_S * MDL_NS_PER_S;
    while (atomic_load(&w->shared->arrived) < target) {
        REQUIRE(mdl_now_ns() < deadline);
        sched_yield();
    }
}

static inline void world_await_word(struct world_rank *r, int word, uint64_t value)
{
    uint64_t deadline = mdl_now_ns() + WORLD_WAIT_S * MDL_NS_PER_S;
    while (atomic_load(&r->world->shared->words[word]) != value) {
        REQUIRE(mdl_now_ns() < deadline);
        sched_yield();
    }
}

static inline struct mdl_request *world_request(struct world_rank *r)
{
    struct mdl_request *req = calloc(1, r->world->transport->request_size);
    REQUIRE(req);
    return req;
}

static inline void world_progress(struct world_rank *r)
{
    int events = 0;
    REQUIRE(r->world->transport->progress(r->ctx, &events) == medleySuccess);
    if (events == 0) sched_yield();
}

/* Until the request is done or has failed. */
static inline void world_wait(struct world_rank *r, struct mdl_request *req)
{
    uint64_t deadline = mdl_now_ns() + WORLD_WAIT_S * MDL_NS_PER_S;
    while (req->state == MDL_REQ_ACTIVE) {
        REQUIRE(mdl_now_ns() < deadline);
        world_progress(r);
    }
}

/* The same, asleep: a lost wake-up is a time-out of poll. */
static inline void world_wait_asleep(struct world_rank *r, struct mdl_request *req)
{
    const struct mdl_transport *t = r->world->transport;
    while (req->state == MDL_REQ_ACTIVE) {
        int events = 0, fd = -1;
        REQUIRE(t->progress(r->ctx, &events) == medleySuccess);
        if (events > 0 || req->state != MDL_REQ_ACTIVE) continue;
        medleyResult_t result = t->arm(r->ctx, &fd);
        if (result == medleyInProgress) continue;
        REQUIRE(result == medleySuccess);
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        REQUIRE(poll(&pfd, 1, WORLD_WAIT_S * 1000) == 1);
        t->disarm(r->ctx);
    }
}

static inline void world_send(struct world_rank *r, int peer, uint32_t channel, const void *ptr, size_t len,
                              uint64_t tag, struct mdl_request *req)
{
    struct mdl_message msg = {.ptr = (void *)(uintptr_t)ptr, .len = len, .tag = tag, .channel = channel};
    REQUIRE(r->world->transport->send(r->ctx, peer, &msg, req) == medleySuccess);
}

static inline void world_recv(struct world_rank *r, int peer, uint32_t channel, void *ptr, size_t len, uint64_t tag,
                              struct mdl_request *req)
{
    struct mdl_message msg = {.ptr = ptr, .len = len, .tag = tag, .channel = channel};
    REQUIRE(r->world->transport->recv(r->ctx, peer, &msg, req) == medleySuccess);
}

static inline void world_fill(unsigned char *p, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) p[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16) + seed);
}

static inline bool world_is_filled(const unsigned char *p, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16) + seed)) return false;
    return true;
}

static inline void world_open(struct world_rank *r)
{
    struct world *w = r->world;
    REQUIRE(mdl_config_load(&r->config) == medleySuccess);
    for (int i = 0; i < 8 && w->settings[i][0]; i++)
        REQUIRE(mdl_config_set(&r->config, w->settings[i][0], w->settings[i][1]) == medleySuccess);
    r->args = (struct mdl_transport_open){
        .size = sizeof(r->args),
        .rank = r->rank,
        .nranks = w->n,
        .config = &r->config,
        .name = "test",
        .abort_word = &r->abort_word,
        .segment_fd = mdl_segment_dup_fd,
        .peer_lost = world_lost,
        .engine = r,
    };
    memset(r->args.secret, 0x42, sizeof(r->args.secret));
    memcpy(r->args.secret, &w->serial, sizeof(w->serial));
    REQUIRE(w->transport->open(&r->args, &r->ctx) == medleySuccess);
    w->shared->address_len[r->rank] = MDL_ADDRESS_BYTES;
    REQUIRE(w->transport->address(r->ctx, w->shared->address[r->rank], &w->shared->address_len[r->rank]) ==
            medleySuccess);
}

static inline void world_connect(struct world_rank *r)
{
    struct world *w = r->world;
    struct mdl_peer peers[WORLD_MAX];
    for (int i = 0; i < w->n; i++)
        peers[i] = (struct mdl_peer){
            .rank = i, .address = w->shared->address[i], .address_len = w->shared->address_len[i]};
    uint64_t deadline = mdl_now_ns() + 20 * MDL_NS_PER_S;
    REQUIRE(w->transport->connect_all(r->ctx, peers, deadline, r->reach) == medleySuccess);
}

/* With WORLD_WARM the processes know each other from another context, so that nothing is asked for the one that is
 * tested: what does not work without a handover shows. */
#ifndef WORLD_WARM
#define WORLD_WARM 0
#endif

static inline void world_warm_up(struct world_rank *r, struct world_rank *warm)
{
    struct world w = *r->world;
    *warm = (struct world_rank){.world = &w, .rank = r->rank};
    w.serial |= 1u << 31;
    world_open(warm);
    world_barrier(r);
    world_connect(warm);
    world_barrier(r);
    warm->world = NULL;
}

static inline void world_rank_run(struct world_rank *r)
{
    struct world_rank warm = {0};
    if (WORLD_WARM && r->world->forked) world_warm_up(r, &warm);
    world_open(r);
    world_barrier(r);
    world_connect(r);
    world_barrier(r);
    r->world->body(r);
    if (r->ctx) r->world->transport->close(r->ctx);
    if (warm.ctx) r->world->transport->close(warm.ctx);
}

static inline void *world_thread(void *arg)
{
    world_rank_run(arg);
    return NULL;
}

static inline void world_rank_init(struct world_rank *r, struct world *w, int rank)
{
    memset(r, 0, sizeof(*r));
    r->world = w;
    r->rank = rank;
}

static inline void world_run_threads(struct world *w, struct world_rank *ranks)
{
    pthread_t threads[WORLD_MAX];
    for (int i = 0; i < w->n; i++) {
        world_rank_init(&ranks[i], w, i);
        REQUIRE(pthread_create(&threads[i], NULL, world_thread, &ranks[i]) == 0);
    }
    for (int i = 0; i < w->n; i++) pthread_join(threads[i], NULL);
}

static inline void world_run_children(struct world *w, struct world_rank *ranks)
{
    for (int i = 0; i < w->n; i++) {
        fflush(NULL);
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            world_rank_init(&ranks[i], w, i);
            if (w->before) w->before(&ranks[i]);
            world_rank_run(&ranks[i]);
            if (w->quick) _exit(0);
            exit(0); /* sanitizers look for leaks there */
        }
        w->shared->pids[i] = pid;
    }
    int bad = 0;
    for (int i = 0; i < w->n; i++) {
        int status = 0;
        REQUIRE(waitpid(w->shared->pids[i], &status, 0) == w->shared->pids[i]);
        bool fine = (WIFEXITED(status) && WEXITSTATUS(status) == 0) || (w->peer_may_die && WIFSIGNALED(status));
        if (!fine) fprintf(stderr, "rank %d: status %#x\n", i, status);
        bad += !fine;
    }
    REQUIRE(bad == 0);
}

static inline void world_run(struct world *w)
{
    static uint32_t serial;
    struct world_rank *ranks = calloc(WORLD_MAX, sizeof(*ranks));
    w->shared = mmap(NULL, sizeof(*w->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(ranks && w->shared != MAP_FAILED);
    w->serial = ++serial;
    if (w->forked)
        world_run_children(w, ranks);
    else
        world_run_threads(w, ranks);
    munmap(w->shared, sizeof(*w->shared));
    free(ranks);
}

#endif
