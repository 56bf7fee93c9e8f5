/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, mappings, single copies and sleeping of the shared-memory transport, between threads and between processes,
 * with each way of moving payload. */
#include "config.h"
#include "tests/unit/unit.h"
#include "tests/unit/shm_world.h"
#include "transports/shm.h"
#include <errno.h>

extern const struct mdl_transport mdl_transport_shm;

enum mode { THREADS, THREADS_BY_LINK, FORKED };

static void run_mode(enum mode mode, int n, const char *cma, void (*body)(struct world_rank *), const void *arg)
{
    struct world w = {.transport = &mdl_transport_shm, .n = n, .body = body, .arg = arg, .forked = mode == FORKED};
    w.settings[0][0] = "MEDLEY_CMA";
    w.settings[0][1] = cma;
    mdl_shm_home_hide(mode == THREADS_BY_LINK);
    world_run(&w);
}

/* Every mode, with and without single copy. */
static void run(int n, void (*body)(struct world_rank *), const void *arg)
{
    static const char *const cma[] = {"1", "0"};
    for (enum mode mode = THREADS; mode <= FORKED; mode++)
        for (int i = 0; i < 2; i++) run_mode(mode, n, cma[i], body, arg);
}

/* ---- messages ---- */

static const size_t sizes[] = {0,    1,     39,    40,    41,    104,    105,    4096,    8192,
                               8193, 16384, 32768, 65536, 65537, 262144, 262145, 1000003, (1 << 21) + 5};
enum { NSIZES = sizeof(sizes) / sizeof(sizes[0]) };

static void sweep_body(struct world_rank *r)
{
    int peer = 1 - r->rank;
    unsigned char *from = malloc(sizes[NSIZES - 1] + 1), *to = malloc(sizes[NSIZES - 1] + 1);
    struct mdl_request *send = world_request(r), *recv = world_request(r);
    REQUIRE((r->reach[peer] & (MDL_REACH_SEND | MDL_REACH_MAP)) == (MDL_REACH_SEND | MDL_REACH_MAP));
    for (int i = 0; i < NSIZES * 3; i++) {
        size_t len = sizes[i % NSIZES];
        world_fill(from, len, (unsigned)(i + r->rank));
        memset(to, 0xcc, len + 1);
        world_recv(r, peer, 7, to, len, (uint64_t)i, recv);
        world_send(r, peer, 7, from, len, (uint64_t)i, send);
        world_wait(r, send);
        world_wait(r, recv);
        REQUIRE(send->state == MDL_REQ_DONE && recv->state == MDL_REQ_DONE);
        REQUIRE(send->bytes == len && recv->bytes == len);
        REQUIRE(world_is_filled(to, len, (unsigned)(i + peer)) && to[len] == 0xcc);
    }
    world_barrier(r);
    free(from);
    free(to);
    free(send);
    free(recv);
}
START_TEST(moves_every_size_both_ways) { run(2, sweep_body, NULL); }
END_TEST

/* Many outstanding messages of mixed sizes to every peer on several channels; the receiver posts late. */
static void storm_body(struct world_rank *r)
{
    enum { MESSAGES = 60, CHANNELS = 3, LARGEST = 150000 };
    struct world *w = r->world;
    int count = w->n * MESSAGES;
    struct mdl_request **send = calloc((size_t)count, sizeof(*send)), **recv = calloc((size_t)count, sizeof(*recv));
    unsigned char **from = calloc((size_t)count, sizeof(*from)), **to = calloc((size_t)count, sizeof(*to));
    for (int i = 0; i < count; i++) {
        int peer = i / MESSAGES, k = i % MESSAGES;
        if (peer == r->rank) continue;
        size_t len = (size_t)(k * 7919) % (k % 4 ? 3000 : LARGEST);
        send[i] = world_request(r);
        recv[i] = world_request(r);
        from[i] = malloc(len + 1);
        to[i] = malloc(len + 1);
        world_fill(from[i], len, (unsigned)(k + r->rank));
        world_send(r, peer, (unsigned)k % CHANNELS, from[i], len, (uint64_t)k, send[i]);
    }
    world_progress(r);
    for (int i = 0; i < count; i++) {
        int peer = i / MESSAGES, k = i % MESSAGES;
        if (peer == r->rank) continue;
        size_t len = (size_t)(k * 7919) % (k % 4 ? 3000 : LARGEST);
        world_recv(r, peer, (unsigned)k % CHANNELS, to[i], len, (uint64_t)k, recv[i]);
    }
    for (int i = 0; i < count; i++) {
        int peer = i / MESSAGES, k = i % MESSAGES;
        if (peer == r->rank) continue;
        world_wait(r, send[i]);
        world_wait(r, recv[i]);
        REQUIRE(send[i]->state == MDL_REQ_DONE && recv[i]->state == MDL_REQ_DONE);
        REQUIRE(world_is_filled(to[i], (size_t)(k * 7919) % (k % 4 ? 3000 : LARGEST), (unsigned)(k + peer)));
        free(send[i]);
        free(recv[i]);
        free(from[i]);
        free(to[i]);
    }
    world_barrier(r);
    free(send);
    free(recv);
    free(from);
    free(to);
}
START_TEST(keeps_many_outstanding_messages_apart) { run(4, storm_body, NULL); }
END_TEST

/* More small messages than the ring holds, none of them received yet: they wait, and nothing is lost. */
static void overflow_body(struct world_rank *r)
{
    enum { N = 3000 };
    static const size_t len = 100;
    int peer = 1 - r->rank;
    struct mdl_request **send = calloc(N, sizeof(*send));
    unsigned char *from = malloc(N * len), to[100];
    world_fill(from, N * len, (unsigned)r->rank);
    for (int i = 0; i < N; i++) {
        send[i] = world_request(r);
        world_send(r, peer, 63, from + (size_t)i * len, len, 0, send[i]);
    }
    REQUIRE(send[0]->state == MDL_REQ_DONE && send[N - 1]->state == MDL_REQ_ACTIVE);
    world_barrier(r);
    unsigned char *expect = malloc(N * len);
    world_fill(expect, N * len, (unsigned)peer);
    struct mdl_request *recv = world_request(r);
    for (int i = 0; i < N; i++) {
        world_recv(r, peer, 63, to, len, 0, recv);
        world_wait(r, recv);
        REQUIRE(memcmp(to, expect + (size_t)i * len, len) == 0);
    }
    for (int i = 0; i < N; i++) {
        world_wait(r, send[i]);
        free(send[i]);
    }
    world_barrier(r);
    free(send);
    free(from);
    free(expect);
    free(recv);
}
START_TEST(queues_what_the_ring_cannot_hold) { run(2, overflow_body, NULL); }
END_TEST

/* Wrong tag or length, small and large: the receive says what came, a large send fails too, the next message is fine.
 */
static void mismatch_one(struct world_rank *r, size_t sent, size_t expected, uint64_t tag)
{
    int peer = 1 - r->rank;
    char *buffer = calloc(1, 200000);
    struct mdl_request *req = world_request(r);
    if (r->rank == 0) {
        world_send(r, peer, 2, buffer, sent, 5, req);
        world_wait(r, req);
        bool known = sent > 10000; /* a small one is done before the receiver can look */
        REQUIRE(req->state == (known ? MDL_REQ_FAILED : MDL_REQ_DONE));
        if (known) REQUIRE(req->result == medleyInvalidUsage);
        world_send(r, peer, 2, "next", 4, 6, req);
        world_wait(r, req);
    } else {
        world_recv(r, peer, 2, buffer, expected, tag, req);
        world_wait(r, req);
        REQUIRE(req->state == MDL_REQ_FAILED && req->result == medleyInvalidUsage);
        REQUIRE(req->peer_tag == 5 && req->peer_len == sent);
        world_recv(r, peer, 2, buffer, 4, 6, req);
        world_wait(r, req);
        REQUIRE(req->state == MDL_REQ_DONE && memcmp(buffer, "next", 4) == 0);
    }
    world_barrier(r);
    free(buffer);
    free(req);
}
static void mismatch_body(struct world_rank *r)
{
    mismatch_one(r, 100, 100, 4);
    mismatch_one(r, 100, 101, 5);
    mismatch_one(r, 100000, 100000, 4);
    mismatch_one(r, 100000, 99999, 5);
    mismatch_one(r, 100, 100000, 5);
    mismatch_one(r, 100000, 100, 5);
}
START_TEST(reports_mismatches) { run(2, mismatch_body, NULL); }
END_TEST

/* ---- map, get, notify, link ---- */

static void map_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    struct mdl_segment *segment;
    const size_t len = 300000;
    int peer = 1 - r->rank;
    REQUIRE(mdl_segment_create(len, false, false, &segment) == medleySuccess);
    world_fill(segment->base, len, (unsigned)r->rank);
    atomic_store(&r->world->shared->words[r->rank], segment->id);
    world_barrier(r);
    uint64_t id = atomic_load(&r->world->shared->words[peer]);
    void *addr = NULL, *again = NULL;
    size_t mapped = 0;
    REQUIRE(t->map(r->ctx, peer, id, &addr, &mapped) == medleySuccess);
    REQUIRE(mapped >= len && world_is_filled(addr, len, (unsigned)peer));
    REQUIRE(t->map(r->ctx, peer, id, &again, &mapped) == medleySuccess && again == addr);
    struct mdl_link_info info;
    t->link(r->ctx, peer, &info);
    REQUIRE(strstr(info.detail, "1 mapped"));
    world_barrier(r);
    ((unsigned char *)segment->base)[5] = 99;
    world_barrier(r);
    REQUIRE(((unsigned char *)addr)[5] == 99); /* one memory */
    REQUIRE(t->map(r->ctx, peer, id ^ 0x1234567, &again, &mapped) == medleyRemoteError);
    t->unmap(r->ctx, peer, id);
    t->unmap(r->ctx, peer, id);
    t->link(r->ctx, peer, &info);
    REQUIRE(!strstr(info.detail, "mapped"));
    world_barrier(r);
    mdl_segment_destroy(segment);
    world_barrier(r);
    REQUIRE(t->map(r->ctx, peer, id, &again, &mapped) == medleyRemoteError); /* freed: no longer to be had */
    world_barrier(r);
}
START_TEST(maps_a_segment_of_the_peer) { run(2, map_body, NULL); }
END_TEST

/* Freed segments whose mappings nobody unmapped do not pile up. */
static void stale_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    int peer = 1 - r->rank;
    struct mdl_segment *kept, *segment;
    REQUIRE(mdl_segment_create(4096, false, false, &kept) == medleySuccess);
    void *kept_addr = NULL, *addr;
    size_t len;
    struct mdl_segment *idle[3]; /* mapped once, as a board is, and never asked for again */
    for (int i = 0; i < 3; i++) {
        REQUIRE(mdl_segment_create(4096, false, false, &idle[i]) == medleySuccess);
        atomic_store(&r->world->shared->words[r->rank], idle[i]->id);
        world_barrier(r);
        REQUIRE(t->map(r->ctx, peer, atomic_load(&r->world->shared->words[peer]), &addr, &len) == medleySuccess);
        world_barrier(r);
    }
    for (int i = 0; i < 100; i++) {
        REQUIRE(mdl_segment_create(4096, false, false, &segment) == medleySuccess);
        atomic_store(&r->world->shared->words[r->rank], segment->id);
        atomic_store(&r->world->shared->words[2 + r->rank], kept->id);
        world_barrier(r);
        uint64_t kept_id = atomic_load(&r->world->shared->words[2 + peer]);
        REQUIRE(t->map(r->ctx, peer, kept_id, &addr, &len) == medleySuccess);
        REQUIRE(i == 0 || addr == kept_addr); /* what lives stays where it is */
        kept_addr = addr;
        REQUIRE(t->map(r->ctx, peer, atomic_load(&r->world->shared->words[peer]), &addr, &len) == medleySuccess);
        world_barrier(r);
        mdl_segment_destroy(segment);
        world_barrier(r);
    }
    struct mdl_link_info info;
    t->link(r->ctx, peer, &info);
    int maps = 0;
    const char *comma = strchr(info.detail, ',');
    REQUIRE(comma && sscanf(comma, ", %d mapped", &maps) == 1 && maps <= 10);
    world_barrier(r);
    for (int i = 0; i < 3; i++) mdl_segment_destroy(idle[i]);
    mdl_segment_destroy(kept);
}
START_TEST(forgets_freed_segments) { run(2, stale_body, NULL); }
END_TEST

static void get_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    int peer = 1 - r->rank;
    const size_t len = 3000001;
    unsigned char *mine = malloc(len), *copy = malloc(len);
    world_fill(mine, len, (unsigned)r->rank);
    atomic_store(&r->world->shared->words[r->rank], (uintptr_t)mine);
    world_barrier(r);
    uint64_t remote = atomic_load(&r->world->shared->words[peer]);
    if (!r->config.cma) {
        REQUIRE(!(r->reach[peer] & MDL_REACH_GET));
        REQUIRE(t->get(r->ctx, peer, remote, copy, len) == medleyInvalidUsage);
    } else {
        REQUIRE(r->reach[peer] & MDL_REACH_GET);
        memset(copy, 0, len);
        REQUIRE(t->get(r->ctx, peer, remote, copy, len) == medleySuccess);
        REQUIRE(world_is_filled(copy, len, (unsigned)peer));
        REQUIRE(t->get(r->ctx, peer, remote, copy, 0) == medleySuccess);
        memset(copy, 0, 10);
        REQUIRE(t->get(r->ctx, peer, remote, copy, 1) == medleySuccess && copy[0] == (unsigned char)peer && !copy[1]);
    }
    world_barrier(r);
    free(mine);
    free(copy);
}
START_TEST(reads_memory_of_the_peer) { run(2, get_body, NULL); }
END_TEST

static void bad_get_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    static char copy[3 * 65536];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *mine = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mine != MAP_FAILED && munmap(mine + page, page) == 0);
    memset(mine, 3, page);
    atomic_store(&r->world->shared->words[r->rank], (uintptr_t)mine);
    world_barrier(r);
    uint64_t remote = atomic_load(&r->world->shared->words[1 - r->rank]);
    REQUIRE(t->get(r->ctx, 1 - r->rank, remote, copy, page) == medleySuccess && copy[page - 1] == 3);
    REQUIRE(t->get(r->ctx, 1 - r->rank, remote, copy, page + 1) == medleySystemError);
    REQUIRE(strstr(mdl_error_text(), "reading"));
    REQUIRE(t->get(r->ctx, r->rank, remote, copy, 1) == medleyInvalidUsage);
    world_barrier(r);
    munmap(mine, page);
}
START_TEST(explains_a_read_of_memory_that_is_not_there) { run_mode(FORKED, 2, "1", bad_get_body, NULL); }
END_TEST

/* A large message out of a segment that the receiver has mapped needs no single copy and no slots. */
static void mapped_send_body(struct world_rank *r)
{
    struct mdl_segment *segment;
    const size_t len = 1 << 20;
    struct mdl_request *req = world_request(r);
    REQUIRE(mdl_segment_create(len, false, false, &segment) == medleySuccess);
    world_fill(segment->base, len, 3);
    atomic_store(&r->world->shared->words[r->rank], segment->id);
    world_barrier(r);
    if (r->rank == 0) {
        world_send(r, 1, 0, (char *)segment->base + 4096, len - 4096, 0, req);
    } else {
        void *addr;
        size_t mapped;
        REQUIRE(r->world->transport->map(r->ctx, 0, atomic_load(&r->world->shared->words[0]), &addr, &mapped) ==
                medleySuccess);
        world_recv(r, 0, 0, segment->base, len - 4096, 0, req);
    }
    world_wait(r, req);
    REQUIRE(req->state == MDL_REQ_DONE);
    struct mdl_link_info info;
    r->world->transport->link(r->ctx, 1 - r->rank, &info);
    REQUIRE(info.fallbacks == 0 && info.sent_bytes + info.recv_bytes == len - 4096);
    if (r->rank == 1) {
        unsigned char *expect = malloc(len);
        world_fill(expect, len, 3);
        REQUIRE(memcmp(segment->base, expect + 4096, len - 4096) == 0);
        free(expect);
    }
    world_barrier(r);
    mdl_segment_destroy(segment);
    free(req);
}
START_TEST(copies_out_of_a_mapped_segment) { run(2, mapped_send_body, NULL); }
END_TEST

static void link_body(struct world_rank *r)
{
    struct mdl_link_info info;
    int peer = 1 - r->rank;
    const size_t len = 200000;
    char *buffer = calloc(1, len);
    struct mdl_request *send = world_request(r), *recv = world_request(r);
    char *to = calloc(1, len);
    world_send(r, peer, 0, buffer, len, 0, send);
    world_recv(r, peer, 0, to, len, 0, recv);
    world_wait(r, send);
    world_wait(r, recv);
    r->world->transport->link(r->ctx, peer, &info);
    REQUIRE(info.sent_bytes == len && info.recv_bytes == len);
    REQUIRE(strcmp(info.detail, r->world->arg) == 0);
    REQUIRE(info.fallbacks == (r->config.cma ? 0 : 2));
    r->world->transport->link(r->ctx, r->rank, &info);
    REQUIRE(info.detail[0] == 0);
    world_barrier(r);
    free(buffer);
    free(to);
    free(send);
    free(recv);
}
START_TEST(says_how_it_moved)
{
    run_mode(FORKED, 2, "1", link_body, "cma");
    run_mode(FORKED, 2, "0", link_body, "slots");
    run_mode(THREADS, 2, "1", link_body, "memcpy in one process");
    run_mode(THREADS, 2, "0", link_body, "slots");
}
END_TEST

/* ---- sleeping ---- */

/* Ping-pong in which both sides sleep for every message. A wake-up that gets lost is a time-out. */
static void pingpong_body(struct world_rank *r)
{
    const int turns = *(const int *)r->world->arg;
    int peer = 1 - r->rank;
    char *buffer = calloc(1, 70000);
    struct mdl_request *req = world_request(r);
    for (int i = 0; i < turns; i++) {
        size_t len = i % 50 == 49 ? 70000 : 8;
        if (i % 2 == r->rank)
            world_send(r, peer, 0, buffer, len, (uint64_t)i, req);
        else
            world_recv(r, peer, 0, buffer, len, (uint64_t)i, req);
        world_wait_asleep(r, req);
        REQUIRE(req->state == MDL_REQ_DONE);
    }
    world_barrier(r);
    free(buffer);
    free(req);
}
START_TEST(loses_no_wakeup)
{
    const int many = 10000, some = 2000;
    run_mode(FORKED, 2, "1", pingpong_body, &many);
    run_mode(FORKED, 2, "0", pingpong_body, &some);
    run_mode(THREADS, 2, "1", pingpong_body, &some);
}
END_TEST

/* notify wakes for flags that the transport knows nothing of. */
static void notify_body(struct world_rank *r)
{
    const struct mdl_transport *t = r->world->transport;
    const uint64_t turns = *(const int *)r->world->arg;
    int peer = 1 - r->rank;
    _Atomic uint64_t *mine = &r->world->shared->words[r->rank], *theirs = &r->world->shared->words[peer];
    for (uint64_t i = 1; i <= turns; i++) {
        if (i % 2 == (uint64_t)r->rank) {
            atomic_store_explicit(theirs, i, memory_order_release);
            t->notify(r->ctx, peer);
        }
        while (i % 2 != (uint64_t)r->rank && atomic_load_explicit(mine, memory_order_acquire) != i) {
            int fd;
            medleyResult_t result = t->arm(r->ctx, &fd);
            REQUIRE(result == medleySuccess || result == medleyInProgress);
            if (result == medleyInProgress) continue;
            struct pollfd pfd = {.fd = fd, .events = POLLIN};
            if (atomic_load_explicit(mine, memory_order_acquire) != i) REQUIRE(poll(&pfd, 1, WORLD_WAIT_S * 1000) == 1);
            t->disarm(r->ctx);
        }
    }
    world_barrier(r);
}
START_TEST(wakes_by_notify)
{
    const int turns = 10000;
    run_mode(FORKED, 2, "1", notify_body, &turns);
    run_mode(THREADS, 2, "1", notify_body, &turns);
}
END_TEST

/* ---- without descriptors ---- */

static int none_left(uint64_t segment)
{
    errno = segment == 7 ? ENOENT : EMFILE;
    return -1;
}

/* A peer unmaps what is said to be gone, in the midst of its use. */
START_TEST(is_not_gone_for_want_of_a_descriptor)
{
    struct mdl_shm s = {.args.segment_fd = none_left};
    ck_assert(!mdl_shm_segment_gone(&s, 6));
    ck_assert(mdl_shm_segment_gone(&s, 7));
    ck_assert(mdl_shm_segment_gone(&s, 0));
}
END_TEST

UNIT_MAIN("shm", moves_every_size_both_ways, keeps_many_outstanding_messages_apart, queues_what_the_ring_cannot_hold,
          reports_mismatches, maps_a_segment_of_the_peer, forgets_freed_segments, reads_memory_of_the_peer,
          explains_a_read_of_memory_that_is_not_there, copies_out_of_a_mapped_segment, says_how_it_moved,
          loses_no_wakeup, wakes_by_notify, is_not_gone_for_want_of_a_descriptor)
