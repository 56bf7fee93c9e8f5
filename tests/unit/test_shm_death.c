/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a rank as its peers see it: killed, gone in order, aborted. What is watched: the error comes within a
 * second and names the rank, what was sent before arrives, nothing is touched after an abort, nothing stays behind.
 */
#include "config.h"
#include "tests/unit/unit.h"
#include "tests/unit/shm_deny.h"
#include "tests/unit/shm_world.h"
#include "transports/shm.h"
#include <dirent.h>
#include <signal.h>

extern const struct mdl_transport mdl_transport_shm;

enum { LARGE = 16 << 20 };

static void run(int n, bool forked, void (*before)(struct world_rank *), void (*body)(struct world_rank *),
                const char *cma)
{
    struct world w = {.transport = &mdl_transport_shm, .n = n, .forked = forked, .before = before, .body = body};
    w.settings[0][0] = "MEDLEY_CMA";
    w.settings[0][1] = cma;
    w.peer_may_die = w.quick = true;
    world_run(&w);
}

static void await_failure(struct world_rank *r, struct mdl_request *req)
{
    world_wait_asleep(r, req);
    REQUIRE(req->state == MDL_REQ_FAILED && req->result == medleyRemoteError);
}

/* ---- killed ---- */

static void kill_rank(struct world_rank *r, int victim)
{
    while (*(volatile pid_t *)&r->world->shared->pids[victim] == 0) sched_yield();
    REQUIRE(kill(r->world->shared->pids[victim], SIGKILL) == 0);
}

/* Rank 1 is killed while it sends and receives; 0 does it, 2 stands by. */
static void killed_body(struct world_rank *r)
{
    char *out = malloc(LARGE), *in = malloc(LARGE);
    struct mdl_request *send = world_request(r), *recv = world_request(r);
    memset(out, r->rank, LARGE);
    if (r->rank < 2) {
        world_send(r, 1 - r->rank, 0, out, LARGE, 0, send);
        world_recv(r, 1 - r->rank, 0, in, LARGE, 0, recv);
    } else {
        world_recv(r, 1, 5, in, 10, 0, recv);
    }
    if (r->rank == 1) { /* goes on until it is killed, without ever finishing both */
        while (recv->bytes == 0 && send->bytes == 0) world_progress(r);
        atomic_store(&r->world->shared->words[0], 1);
        for (;;) pause();
    }
    if (r->rank == 0) {
        while (atomic_load(&r->world->shared->words[0]) == 0) world_progress(r);
        atomic_store(&r->world->shared->words[1], mdl_now_ns());
        kill_rank(r, 1);
    }
    if (r->rank == 2 || send->state == MDL_REQ_ACTIVE || recv->state == MDL_REQ_ACTIVE) {
        if (recv->state == MDL_REQ_ACTIVE) world_wait_asleep(r, recv);
        if (r->rank == 0 && send->state == MDL_REQ_ACTIVE) world_wait_asleep(r, send);
        REQUIRE(recv->state == MDL_REQ_FAILED || send->state == MDL_REQ_FAILED);
    }
    while (atomic_load(&r->lost[1]) == 0) world_progress(r);
    REQUIRE(mdl_now_ns() - atomic_load(&r->world->shared->words[1]) < unit_ns(1));
    char expect[64];
    snprintf(expect, sizeof(expect), "rank 1 (pid %d) died", r->world->shared->pids[1]);
    REQUIRE(strcmp(r->lost_why[1], expect) == 0 && atomic_load(&r->lost[1]) == 1);
    REQUIRE(atomic_load(&r->lost[2 - r->rank]) == 0);
    struct mdl_message msg = {.ptr = out, .len = 8};
    REQUIRE(r->world->transport->send(r->ctx, 1, &msg, send) == medleySuccess);
    REQUIRE(send->state == MDL_REQ_FAILED && send->result == medleyRemoteError && atomic_load(&r->lost[1]) == 1);
    free(out);
    free(in);
    free(send);
    free(recv);
}
static void no_pidfd(struct world_rank *r) { REQUIRE(deny(DENY_PIDFD, EPERM)); }
START_TEST(says_who_was_killed)
{
    run(3, true, NULL, killed_body, "1");
    run(3, true, NULL, killed_body, "0");
    run(3, true, no_pidfd, killed_body, "1");
    run(3, true, no_pidfd, killed_body, "0");
}
END_TEST

/* Rank 1 dies but a child of it lives on and holds its sockets open: the pidfd tells. */
static void orphan_body(struct world_rank *r)
{
    struct mdl_request *req = world_request(r);
    char byte;
    if (r->rank == 1) {
        if (fork() == 0) { /* until the test is over; it must not outlive it */
            for (int i = 0; i < 1000 && atomic_load(&r->world->shared->words[2]) == 0; i++) usleep(10000);
            _exit(0);
        }
        raise(SIGKILL);
    }
    world_recv(r, 1, 0, &byte, 1, 0, req);
    await_failure(r, req);
    REQUIRE(atomic_load(&r->lost[1]) == 1);
    atomic_store(&r->world->shared->words[2], 1);
    free(req);
}
START_TEST(sees_a_death_that_a_child_hides) { run(2, true, NULL, orphan_body, "1"); }
END_TEST

static int count_files(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    REQUIRE(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void die_body(struct world_rank *r)
{
    struct mdl_segment *segment;
    REQUIRE(mdl_segment_create(100000, false, false, &segment) == medleySuccess);
    world_barrier(r);
    raise(SIGKILL);
}
static void no_memfd(struct world_rank *r) { REQUIRE(deny(DENY_MEMFD, EPERM)); }
START_TEST(leaves_nothing_behind_when_killed)
{
    int before = count_files("/dev/shm");
    run(2, true, NULL, die_body, "1");
    run(2, true, no_memfd, die_body, "1");
    REQUIRE(count_files("/dev/shm") <= before); /* others may remove theirs */
}
END_TEST

/* ---- gone in order ---- */

/* What was sent before the sender closed arrives, also if it is asked for later; then the next receive fails. */
static void goodbye_body(struct world_rank *r)
{
    enum { N = 10 };
    const struct mdl_transport *t = r->world->transport;
    struct mdl_request *req = world_request(r);
    uint64_t value = 0;
    for (uint64_t i = 0; r->rank == 1 && i < N; i++) {
        value = 100 + i;
        world_send(r, 0, 0, &value, sizeof(value), i, req);
        REQUIRE(req->state == MDL_REQ_DONE);
    }
    if (r->rank == 1) {
        t->close(r->ctx);
        r->ctx = NULL;
        atomic_store(&r->world->shared->words[0], 1);
        world_barrier(r); /* lives on, so that it is no death */
        free(req);
        return;
    }
    world_await_word(r, 0, 1);
    for (uint64_t i = 0; i < N; i++) {
        world_recv(r, 1, 0, &value, sizeof(value), i, req);
        world_wait(r, req);
        REQUIRE(req->state == MDL_REQ_DONE && value == 100 + i);
    }
    REQUIRE(atomic_load(&r->lost[1]) == 0); /* nothing was outstanding: no loss */
    world_recv(r, 1, 0, &value, sizeof(value), 0, req);
    await_failure(r, req);
    REQUIRE(atomic_load(&r->lost[1]) == 1 && strstr(r->lost_why[1], "left"));
    world_barrier(r);
    free(req);
}
START_TEST(takes_what_was_sent_before_a_goodbye)
{
    run(2, true, NULL, goodbye_body, "1");
    run(2, false, NULL, goodbye_body, "1");
    mdl_shm_home_hide(true);
    run(2, false, NULL, goodbye_body, "1");
}
END_TEST

/* A receive that waits when the peer closes. */
static void outstanding_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    if (r->rank == 1) {
        world_await_word(r, 0, 1);
        t->close(r->ctx);
        r->ctx = NULL;
        world_barrier(r);
        return;
    }
    struct mdl_request *small = world_request(r), *large = world_request(r);
    char *buffer = malloc(LARGE);
    world_recv(r, 1, 0, buffer, 8, 0, small);
    world_send(r, 1, 3, buffer, LARGE, 0, large);
    atomic_store(&r->world->shared->words[0], 1);
    await_failure(r, small);
    await_failure(r, large);
    REQUIRE(atomic_load(&r->lost[1]) == 1 && strstr(r->lost_why[1], "rank 1 (pid") && strstr(r->lost_why[1], "left"));
    world_barrier(r);
    free(small);
    free(large);
    free(buffer);
}
START_TEST(fails_what_is_outstanding_at_a_goodbye)
{
    run(2, true, NULL, outstanding_body, "1");
    run(2, false, NULL, outstanding_body, "1");
    mdl_shm_home_hide(true);
    run(2, false, NULL, outstanding_body, "0");
}
END_TEST

static void quiet_body(struct world_rank *r)
{
    if (r->rank == 1) {
        r->world->transport->close(r->ctx);
        r->ctx = NULL;
    }
    world_barrier(r);
    for (int i = 0; i < 1000 && r->rank == 0; i++) world_progress(r);
    REQUIRE(atomic_load(&r->lost[1]) == 0);
}
START_TEST(takes_a_close_for_no_death)
{
    run(2, true, NULL, quiet_body, "1");
    run(2, false, NULL, quiet_body, "1");
}
END_TEST

/* ---- abort ---- */

static void *abort_thread(void *arg)
{
    struct world_rank *r = arg;
    while (atomic_load(&r->world->shared->words[0]) == 0) sched_yield();
    for (int i = 0; i < (int)(r->world->serial % 7) * 40; i++) sched_yield();
    r->world->transport->abort(r->ctx);
    atomic_store(&r->world->shared->words[1], 1);
    return NULL;
}

/* The sender aborts at some moment and reuses its buffer: the receiver has the right bytes or an error. */
static void abort_sender_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    const size_t len = 4 << 20;
    unsigned char *buffer = malloc(len);
    struct mdl_request *req = world_request(r);
    int events = 0;
    if (r->rank == 0) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, abort_thread, r) == 0);
        world_fill(buffer, len, 9);
        world_send(r, 1, 0, buffer, len, 0, req);
        atomic_store(&r->world->shared->words[0], 1);
        while (t->progress(r->ctx, &events) == medleySuccess) sched_yield();
        pthread_join(thread, NULL);
        memset(buffer, 0, len); /* ours again */
        world_barrier(r);
    } else {
        world_recv(r, 0, 0, buffer, len, 0, req);
        /* The sender's abort alone tells the receiver nothing if it has not read all: the engine's fault message
         * does. */
        while (req->state == MDL_REQ_ACTIVE && atomic_load(&r->world->shared->words[1]) == 0) world_progress(r);
        for (int i = 0; i < 200 && req->state == MDL_REQ_ACTIVE; i++) world_progress(r);
        if (req->state == MDL_REQ_DONE) REQUIRE(world_is_filled(buffer, len, 9));
        if (req->state == MDL_REQ_FAILED) REQUIRE(req->result == medleyRemoteError);
        world_barrier(r);
    }
    t->close(r->ctx);
    r->ctx = NULL;
    free(buffer);
    free(req);
}
START_TEST(never_delivers_what_an_abort_made_stale)
{
    for (int i = 0; i < 10; i++) {
        run(2, true, NULL, abort_sender_body, i % 2 ? "0" : "1");
        run(2, false, NULL, abort_sender_body, i % 2 ? "0" : "1");
    }
}
END_TEST

/* After abort has returned nothing writes into the receiver's buffer. */
static void *watch_thread(void *arg)
{
    struct world_rank *r = arg;
    while (atomic_load(&r->world->shared->words[0]) == 0) sched_yield();
    r->world->transport->abort(r->ctx);
    return NULL;
}
static void abort_receiver_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    unsigned char *buffer = malloc(LARGE);
    struct mdl_request *req = world_request(r);
    pthread_t thread;
    int events = 0;
    memset(buffer, 7, LARGE);
    if (r->rank == 0) {
        world_send(r, 1, 0, buffer, LARGE, 0, req);
        while (atomic_load(&r->world->shared->words[1]) == 0) world_progress(r);
    } else {
        REQUIRE(pthread_create(&thread, NULL, watch_thread, r) == 0);
        world_recv(r, 0, 0, buffer, LARGE, 0, req);
        while (req->bytes == 0) world_progress(r);
        atomic_store(&r->world->shared->words[0], 1);
        while (t->progress(r->ctx, &events) == medleySuccess) {}
        pthread_join(thread, NULL);
        memset(buffer, 1, LARGE);
        for (int i = 0; i < 100; i++) REQUIRE(t->progress(r->ctx, &events) == medleyInvalidUsage);
        char text[8];
        REQUIRE(t->get(r->ctx, 0, (uintptr_t)buffer, text, sizeof(text)) == medleyInvalidUsage);
        for (size_t i = 0; i < LARGE; i++) REQUIRE(buffer[i] == 1);
        atomic_store(&r->world->shared->words[1], 1);
    }
    world_barrier(r);
    t->close(r->ctx);
    r->ctx = NULL;
    free(buffer);
    free(req);
}
START_TEST(writes_nothing_after_an_abort)
{
    run(2, true, NULL, abort_receiver_body, "1");
    run(2, true, NULL, abort_receiver_body, "0");
}
END_TEST

static void sleeper_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    struct mdl_request *req = world_request(r);
    char byte;
    pthread_t thread;
    int fd = -1;
    if (r->rank == 0) {
        REQUIRE(pthread_create(&thread, NULL, watch_thread, r) == 0);
        world_recv(r, 1, 0, &byte, 1, 0, req);
        REQUIRE(t->arm(r->ctx, &fd) == medleySuccess && fd >= 0);
        atomic_store(&r->world->shared->words[0], 1);
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        REQUIRE(poll(&pfd, 1, WORLD_WAIT_S * 1000) == 1);
        t->disarm(r->ctx);
        pthread_join(thread, NULL);
        REQUIRE(t->arm(r->ctx, &fd) == medleyInProgress); /* nobody sleeps on an aborted context */
    }
    world_barrier(r);
    t->close(r->ctx);
    r->ctx = NULL;
    free(req);
}
START_TEST(wakes_a_sleeper_by_an_abort)
{
    run(2, true, NULL, sleeper_body, "1");
    run(2, false, NULL, sleeper_body, "1");
}
END_TEST

/* The abort word ends connect_all although a peer is stopped. */
static void stopped_body(struct world_rank *r) { (void)r; }
static void *set_abort_word(void *arg)
{
    struct world_rank *r = arg;
    usleep(50000);
    __atomic_store_n(&r->abort_word, 1, __ATOMIC_RELEASE);
    return NULL;
}
static void stopped_rank(struct world_rank *r)
{
    world_open(r);
    world_barrier(r);
    if (r->rank == 1) {
        raise(SIGSTOP);
        _exit(0);
    }
    struct mdl_peer peers[2];
    for (int i = 0; i < 2; i++)
        peers[i] = (struct mdl_peer){
            .rank = i, .address = r->world->shared->address[i], .address_len = r->world->shared->address_len[i]};
    uint64_t start = mdl_now_ns();
    while (r->world->shared->pids[1] == 0) sched_yield();
    for (int i = 0; i < 2000; i++) { /* until it has really stopped */
        char path[64], text[256] = "";
        snprintf(path, sizeof(path), "/proc/%d/stat", r->world->shared->pids[1]);
        FILE *f = fopen(path, "r");
        if (f && fgets(text, sizeof(text), f) && strstr(text, ") T")) i = 2000;
        if (f) fclose(f);
        usleep(1000);
    }
    start = mdl_now_ns();
    REQUIRE(r->world->transport->connect_all(r->ctx, peers, start + 300 * MDL_NS_PER_MS, r->reach) == medleySuccess);
    REQUIRE(r->reach[1] == 0 && mdl_now_ns() - start < unit_ns(2)); /* the deadline */
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, set_abort_word, r) == 0);
    start = mdl_now_ns();
    REQUIRE(r->world->transport->connect_all(r->ctx, peers, start + 30 * MDL_NS_PER_S, r->reach) != medleySuccess);
    REQUIRE(mdl_now_ns() - start < unit_ns(2));
    pthread_join(thread, NULL);
    r->world->transport->close(r->ctx);
    kill(r->world->shared->pids[1], SIGKILL);
    exit(0);
}
START_TEST(does_not_wait_for_a_stopped_peer) { run(2, true, stopped_rank, stopped_body, "1"); }
END_TEST

UNIT_MAIN("shm_death", says_who_was_killed, sees_a_death_that_a_child_hides, leaves_nothing_behind_when_killed,
          takes_what_was_sent_before_a_goodbye, fails_what_is_outstanding_at_a_goodbye, takes_a_close_for_no_death,
          never_delivers_what_an_abort_made_stale, writes_nothing_after_an_abort, wakes_a_sleeper_by_an_abort,
          does_not_wait_for_a_stopped_peer)
