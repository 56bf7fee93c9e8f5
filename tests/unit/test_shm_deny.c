/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the system may refuse: system calls by a seccomp filter, memory by a tiny /dev/shm, rights by user ids and
 * namespaces. Every refusal has a fallback that moves the same bytes, and is logged once. And who is no peer at all:
 * another network namespace, another MEDLEY_HOST_ID.
 */
#include "config.h"
#include "tests/unit/unit.h"
#include "tests/unit/shm_deny.h"
#include "tests/unit/shm_world.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>

extern const struct mdl_transport mdl_transport_shm;

struct refusal {
    unsigned calls; /* enum deny */
    int err;
    bool other_user, dumpable;
};

/* ---- the notes ---- */

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static atomic_int notes_readv, notes_pidfd, notes_memfd;

static void count_note(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    if (level != medleyLogInfo || strcmp(subsystem, "SHM") != 0) return;
    notes_readv += strstr(message, "process_vm_readv cannot") != NULL;
    notes_pidfd += strstr(message, "no pidfd of") != NULL;
    notes_memfd += strstr(message, "no memfd here") != NULL;
}

/* ---- the body of all: every way of moving bytes to every peer ---- */

static void exchange(struct world_rank *r, int peer, size_t len, struct mdl_request *send, struct mdl_request *recv)
{
    unsigned char *from = malloc(len + 1), *to = malloc(len + 1);
    world_fill(from, len, (unsigned)r->rank);
    world_recv(r, peer, 1, to, len, len, recv);
    world_send(r, peer, 1, from, len, len, send);
    world_wait_asleep(r, recv);
    world_wait_asleep(r, send);
    REQUIRE(send->state == MDL_REQ_DONE && recv->state == MDL_REQ_DONE);
    REQUIRE(world_is_filled(to, len, (unsigned)peer));
    free(from);
    free(to);
}

static void map_one(struct world_rank *r, int peer)
{
    void *addr;
    size_t len;
    uint64_t id = atomic_load(&r->world->shared->words[peer]);
    REQUIRE(r->world->transport->map(r->ctx, peer, id, &addr, &len) == medleySuccess);
    REQUIRE(len >= 4096 && world_is_filled(addr, 4096, (unsigned)peer));
}

/* Both sides' view, as the engine forms it. */
static bool is_pair(struct world_rank *r, int peer)
{
    _Atomic uint64_t *reached = &r->world->shared->words[20];
    return atomic_load(&reached[r->rank * 4 + peer]) && atomic_load(&reached[peer * 4 + r->rank]);
}

static void tell_reach(struct world_rank *r)
{
    for (int p = 0; p < r->world->n; p++) atomic_store(&r->world->shared->words[20 + r->rank * 4 + p], r->reach[p]);
    world_barrier(r);
}

static void everything(struct world_rank *r)
{
    static const size_t sizes[] = {0, 8, 300, 5000, 100000, 1500000};
    struct mdl_request *send = world_request(r), *recv = world_request(r);
    struct mdl_segment *segment;
    REQUIRE(mdl_segment_create(4096, false, false, &segment) == medleySuccess);
    world_fill(segment->base, 4096, (unsigned)r->rank);
    atomic_store(&r->world->shared->words[r->rank], segment->id);
    tell_reach(r);
    for (int peer = 0; peer < r->world->n; peer++) {
        if (peer == r->rank || !is_pair(r, peer)) continue;
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) exchange(r, peer, sizes[i], send, recv);
        if (segment->fd >= 0) map_one(r, peer);
    }
    world_barrier(r);
    mdl_segment_destroy(segment);
    free(send);
    free(recv);
}

/* ---- refusals ---- */

static void refuse(struct world_rank *r)
{
    const struct refusal *refusal = r->world->arg;
    REQUIRE(mdl_log_set_callback(count_note, medleyLogInfo, NULL) == medleySuccess);
    if (refusal->other_user) {
        REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
        REQUIRE(prctl(PR_SET_DUMPABLE, refusal->dumpable) == 0);
    }
    REQUIRE(deny(refusal->calls, refusal->err));
}

/* Linux 6.5 and later: pidfd_open is not needed. */
static bool sockets_have_pidfds(void)
{
    int pair[2], pidfd = -1;
    socklen_t len = sizeof(pidfd);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    bool have = getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0;
    if (have) close(pidfd);
    close(pair[0]);
    close(pair[1]);
    return have;
}

static void refused_body(struct world_rank *r)
{
    const struct refusal *refusal = r->world->arg;
    bool readv = !(refusal->calls & DENY_READV) && (!refusal->other_user || refusal->dumpable);
    struct mdl_link_info info;
    for (int p = 0; p < r->world->n; p++) {
        if (p == r->rank) continue;
        REQUIRE(r->reach[p] == (MDL_REACH_SEND | MDL_REACH_MAP | (readv ? MDL_REACH_GET : 0)));
        r->world->transport->link(r->ctx, p, &info);
        REQUIRE(strcmp(info.detail, readv ? "cma" : "slots") == 0);
    }
    everything(r);
    REQUIRE(notes_readv == !readv);
    REQUIRE(notes_pidfd == ((refusal->calls & DENY_PIDFD) && !sockets_have_pidfds()));
    REQUIRE(notes_memfd == ((refusal->calls & DENY_MEMFD) != 0));
}

static void run_refusal(const struct refusal *refusal)
{
    struct world w = {
        .transport = &mdl_transport_shm, .n = 3, .body = refused_body, .arg = refusal, .forked = true, .quick = true};
    w.before = refuse;
    world_run(&w);
}

START_TEST(lives_without_any_of_its_system_calls)
{
    static const int errors[] = {EPERM, ENOSYS};
    for (unsigned calls = 0; calls <= DENY_ALL; calls++)
        for (int e = 0; e < 2; e++) run_refusal(&(struct refusal){.calls = calls, .err = errors[e]});
}
END_TEST

START_TEST(needs_no_root)
{
    if (geteuid() != 0) {
        printf("SKIP: cannot change the user without root (and this user is not root anyway)\n");
        return;
    }
    run_refusal(&(struct refusal){.other_user = true, .dumpable = true});
    run_refusal(&(struct refusal){.other_user = true, .dumpable = false});
    run_refusal(&(struct refusal){.other_user = true, .dumpable = true, .calls = DENY_ALL, .err = EPERM});
}
END_TEST

/* ---- a tiny /dev/shm ---- */

static bool tiny_shm(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1M") != 0) {
        printf("SKIP: no mount namespace with a tiny /dev/shm: %s\n", strerror(errno));
        return false;
    }
    return true;
}

static void tiny_body(struct world_rank *r)
{
    everything(r);
    if (r->world->n > 4) return;
    for (int p = 0; p < r->world->n; p++) REQUIRE(p == r->rank || (r->reach[p] & MDL_REACH_SEND));
}

static void deny_memfd(struct world_rank *r) { REQUIRE(deny(DENY_MEMFD | DENY_READV, EPERM)); }

START_TEST(lives_with_a_tiny_dev_shm)
{
    if (!tiny_shm()) return;
    struct world w = {.transport = &mdl_transport_shm, .n = 4, .body = tiny_body, .forked = true, .quick = true};
    world_run(&w); /* with memfd its size does not matter */
    w.before = deny_memfd;
    world_run(&w);
}
END_TEST

/* No memfd, and /dev/shm too full for anybody: no peer, no crash. */
static void full_body(struct world_rank *r)
{
    for (int p = 0; p < r->world->n; p++) REQUIRE(r->reach[p] == 0);
}
START_TEST(finds_no_peer_when_nothing_can_be_shared)
{
    if (!tiny_shm()) return;
    char junk[65536] = {0};
    FILE *f = fopen("/dev/shm/full", "w");
    REQUIRE(f);
    while (fwrite(junk, 1, sizeof(junk), f) == sizeof(junk)) {}
    fclose(f);
    struct world w = {.transport = &mdl_transport_shm,
                      .n = 3,
                      .body = full_body,
                      .forked = true,
                      .quick = true,
                      .before = deny_memfd};
    world_run(&w);
}
END_TEST

/* The descriptors that a peer hands over do not fit: it is no peer, and nothing leaks. */
static int count_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}
static void short_of_descriptors(struct world_rank *r)
{
    struct rlimit limit;
    world_open(r);
    world_barrier(r);
    if (r->rank == 0) {
        world_connect(r); /* first: it makes descriptors in rank 1 too */
        world_barrier(r);
        world_barrier(r);
        _exit(0);
    }
    world_barrier(r);
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    int before = count_descriptors(), next = dup(0);
    close(next);
    for (int spare = 0; spare <= 5; spare++) { /* 1: the socket, 2: and a pidfd, 5: and three descriptors */
        limit.rlim_cur = (rlim_t)(next + spare);
        REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        memset(r->reach, 0xff, sizeof(r->reach));
        world_connect(r);
        REQUIRE((r->reach[0] != 0) == (spare == 5));
        REQUIRE(spare == 5 || count_descriptors() == before);
    }
    world_barrier(r);
    r->world->transport->close(r->ctx);
    exit(0);
}
static void nothing_body(struct world_rank *r) { (void)r; }
START_TEST(copes_without_descriptors)
{
    struct world w = {.transport = &mdl_transport_shm, .n = 2, .body = nothing_body, .forked = true, .quick = true};
    w.before = short_of_descriptors;
    world_run(&w);
}
END_TEST

/* ---- who is a peer ---- */

static void apart_body(struct world_rank *r)
{
    for (int p = 0; p < r->world->n; p++) {
        bool together = p != r->rank && p < 2 && r->rank < 2;
        REQUIRE(together == (r->reach[p] != 0));
    }
    struct mdl_request *req = world_request(r);
    struct mdl_message msg = {.len = 0};
    if (r->rank == 2) REQUIRE(r->world->transport->send(r->ctx, 0, &msg, req) == medleyInvalidArgument);
    free(req);
    world_barrier(r);
}

static void run_apart(void (*before)(struct world_rank *))
{
    struct world w = {
        .transport = &mdl_transport_shm, .n = 3, .body = apart_body, .forked = true, .quick = true, .before = before};
    uint64_t start = mdl_now_ns();
    world_run(&w);
    REQUIRE(mdl_now_ns() - start < unit_ns(10)); /* refused at once, not at the deadline */
}

static void other_host_id(struct world_rank *r) { setenv("MEDLEY_HOST_ID", r->rank == 2 ? "b" : "a", 1); }
START_TEST(keeps_away_from_another_host_id) { run_apart(other_host_id); }
END_TEST

static void other_network(struct world_rank *r)
{
    if (r->rank != 2) return;
    REQUIRE(unshare(CLONE_NEWNET) == 0);
    struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &ifr) == 0);
    close(fd);
}
START_TEST(keeps_away_from_another_network_namespace)
{
    if (geteuid() != 0) {
        printf("SKIP: no network namespace without root\n");
        return;
    }
    run_apart(other_network);
}
END_TEST

/* ---- user and PID namespaces ---- */

static void other_user_namespace(struct world_rank *r)
{
    if (r->rank == 1) REQUIRE(unshare(CLONE_NEWUSER) == 0);
}

static bool can_unshare(int what)
{
    pid_t pid = fork();
    if (pid == 0) _exit(unshare(what) == 0 ? 0 : 1);
    int status;
    waitpid(pid, &status, 0);
    if (status != 0) printf("SKIP: this namespace cannot be made here\n");
    return status == 0;
}

static void namespace_body(struct world_rank *r)
{
    for (int p = 0; p < r->world->n; p++) REQUIRE(p == r->rank || (r->reach[p] & MDL_REACH_MAP));
    everything(r);
}
START_TEST(crosses_user_namespaces)
{
    if (!can_unshare(CLONE_NEWUSER)) return;
    struct world w = {.transport = &mdl_transport_shm, .n = 3, .body = namespace_body, .forked = true, .quick = true};
    w.before = other_user_namespace;
    world_run(&w);
}
END_TEST

/* Rank 1 runs as a child in a PID namespace of its own: the others' numbers mean nothing to it. */
static void other_pid_namespace(struct world_rank *r)
{
    if (r->rank != 1) return;
    REQUIRE(unshare(CLONE_NEWPID) == 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) return;
    int status = 0;
    waitpid(pid, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 98);
}
START_TEST(crosses_pid_namespaces)
{
    if (!can_unshare(CLONE_NEWPID)) return;
    struct world w = {.transport = &mdl_transport_shm, .n = 3, .body = namespace_body, .forked = true, .quick = true};
    w.before = other_pid_namespace;
    world_run(&w);
}
END_TEST

UNIT_MAIN("shm_deny", lives_without_any_of_its_system_calls, needs_no_root, lives_with_a_tiny_dev_shm,
          finds_no_peer_when_nothing_can_be_shared, copes_without_descriptors, keeps_away_from_another_host_id,
          keeps_away_from_another_network_namespace, crosses_user_namespaces, crosses_pid_namespaces)
