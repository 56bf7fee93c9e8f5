/* SPDX-License-Identifier: Apache-2.0 */
/* Doors: who gets in, who does not, and that those who do not disturb nobody. All on loopback and Unix sockets. */
#include "config.h"
#include "tests/unit/deny.h"
#include "tests/unit/door.h"
#include "tests/unit/handshake.h"
#include "lib/net/sock.h"
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- who gets in ---- */

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    getsockopt(fd, level, name, &value, &len);
    return value;
}

static void is_tuned(int fd)
{
    ck_assert_int_ne(option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    ck_assert_int_ne(option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 10);
    ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 5);
    ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
    ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 30000);
}

static void is_closed_on_exec_and_nonblocking(int fd)
{
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

/* One byte each way through a fresh link. */
static void says_hello(int from, int to)
{
    struct pollfd p = {.fd = to, .events = POLLIN};
    char c = 0;
    ck_assert_int_eq(send(from, "x", 1, MSG_NOSIGNAL), 1);
    ck_assert_int_eq(poll(&p, 1, 20000), 1);
    ck_assert_int_eq(recv(to, &c, 1, 0), 1);
    ck_assert_int_eq(c, 'x');
}

static void connects_over(const struct mdl_addr *addr)
{
    char ifname[32];
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    struct mdl_link link;
    struct mdl_dial_args args = dial_args(3, addr, 1, 20000);
    serve(3, &in, &service);
    ck_assert_msg(mdl_dial_wait(&args, NULL, &link) == medleySuccess, "%s", mdl_error_text());
    wait_links(&in, 1);
    ck_assert_int_eq(link.peer_rank, 3);
    ck_assert_int_eq(in.last.peer_rank, 7);
    ck_assert_int_eq(link.version, MDL_WIRE_VERSION);
    ck_assert_int_eq(in.last.version, MDL_WIRE_VERSION);
    ck_assert(mdl_addr_same_host(&link.remote, addr));
    is_closed_on_exec_and_nonblocking(link.fd);
    is_closed_on_exec_and_nonblocking(in.last.fd);
    mdl_addr_interface_of(link.fd, ifname, sizeof(ifname));
    if (addr->sa.ss_family == AF_UNIX) ck_assert_str_eq(ifname, "");
    if (addr->sa.ss_family != AF_UNIX) {
        is_tuned(link.fd);
        is_tuned(in.last.fd);
        ck_assert_str_eq(in.last.local.ifname, "lo");
        ck_assert_str_eq(link.local.ifname, "lo");
        ck_assert_str_eq(ifname, "lo");
        ck_assert_int_eq(mdl_addr_port(&in.last.remote), mdl_addr_port(&link.local));
    }
    says_hello(link.fd, in.last.fd);
    says_hello(in.last.fd, link.fd);
    close(link.fd);
    close_links(&in);
    mdl_door_unserve(service);
}

START_TEST(links_work_over_every_family)
{
    load_config("lo");
    get_door();
    for (int i = 0; i < naddrs; i++) connects_over(&addrs[i]);
    mdl_door_put(door);
}
END_TEST

START_TEST(bytes_behind_the_proof_stay_for_the_owner)
{
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    struct mdl_auth auth;
    uint8_t answer[MDL_AUTH_ANSWER_BYTES], tail[MDL_AUTH_MAC_BYTES + 4];
    char got[5] = "";
    open_door();
    serve(3, &in, &service);
    int fd = raw_connect(&addrs[0]);
    raw_client(&auth, &secret, 3, 1, 1);
    const uint8_t *out;
    size_t n = mdl_auth_output(&auth, &out);
    raw_send(fd, out, n);
    mdl_auth_sent(&auth, n);
    ck_assert_int_eq(recv(fd, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
    hs_feed(&auth, answer, sizeof(answer), 1000);
    ck_assert_int_eq(auth.state, MDL_AUTH_ANSWERED);
    mdl_auth_prove(&auth);
    hs_drain(&auth, tail, 1000);
    memcpy(tail + MDL_AUTH_MAC_BYTES, "data", 4);
    raw_send(fd, tail, sizeof(tail)); /* proof and data in one segment */
    wait_links(&in, 1);
    ck_assert_int_eq(recv(in.last.fd, got, 4, 0), 4);
    ck_assert_str_eq(got, "data");
    close(fd);
    close_links(&in);
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

START_TEST(ranks_of_one_process_share_a_door)
{
    struct inbox in[3] = {INBOX_INIT, INBOX_INIT, INBOX_INIT};
    struct mdl_service *service[3];
    open_door();
    for (int i = 0; i < 3; i++) serve(i, &in[i], &service[i]);
    for (int i = 2; i >= 0; i--) {
        struct mdl_link link = dial(i);
        ck_assert_int_eq(link.peer_rank, i);
        wait_links(&in[i], 1);
        close(link.fd);
    }
    struct mdl_link any = dial(-1);
    ck_assert_int_ge(any.peer_rank, 0);
    close(any.fd);
    struct inbox twice = INBOX_INIT;
    struct mdl_service *none = NULL;
    ck_assert_int_eq(mdl_door_serve(door, &secret, MDL_PURPOSE_CONTROL, 1, take_link, &twice, &none),
                     medleyInvalidUsage);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "rank 1"));
    ck_assert_int_eq(mdl_door_serve(door, &secret, MDL_PURPOSE_TCP, 1, take_link, &twice, &none), medleySuccess);
    mdl_door_unserve(none);
    for (int i = 0; i < 3; i++) mdl_door_unserve(service[i]);
    for (int i = 0; i < 3; i++) close_links(&in[i]);
    mdl_door_put(door);
}
END_TEST

START_TEST(equal_configurations_share_a_door)
{
    struct mdl_door *same, *other;
    open_door();
    ck_assert_int_eq(mdl_door_get(&cfg, &same), medleySuccess);
    ck_assert_ptr_eq(same, door);
    cfg.auth_pending = 5;
    ck_assert_int_eq(mdl_door_get(&cfg, &other), medleySuccess);
    ck_assert_ptr_ne(other, door);
    mdl_door_put(same);
    mdl_door_put(door);
    door = other; /* still alive */
    naddrs = mdl_door_addresses(door, addrs);
    connects_over(&addrs[0]);
    mdl_door_put(door);
    mdl_door_put(NULL);
}
END_TEST

START_TEST(a_port_range_is_kept)
{
    struct mdl_door *second = NULL;
    struct mdl_addr a = free_address();
    int port = mdl_addr_port(&a), fds;
    load_config("127.0.0.1");
    sprintf(cfg.port_range.s, "%d-%d", port, port);
    get_door();
    ck_assert_int_eq(mdl_addr_port(&addrs[0]), port);
    connects_over(&addrs[0]);
    cfg.auth_pending = 5; /* another door that wants the same port */
    fds = leaks_descriptors();
    ck_assert_int_eq(mdl_door_get(&cfg, &second), medleySystemError);
    ck_assert_ptr_null(second);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "MEDLEY_PORT_RANGE"));
    ck_assert_int_eq(leaks_descriptors(), fds);
    mdl_door_put(door);
}
END_TEST

START_TEST(bad_configurations_open_no_door)
{
    open_door();
    mdl_door_put(door); /* the first thread of a process may bring helpers of a sanitizer */
    int fds = leaks_descriptors(), threads = leaks_threads();
    load_config("nosuchif");
    ck_assert_int_eq(mdl_door_get(&cfg, &door), medleyInvalidArgument);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "nosuchif"));
    load_config("127.0.0.1");
    strcpy(cfg.port_range.s, "5-4");
    ck_assert_int_eq(mdl_door_get(&cfg, &door), medleyInvalidArgument);
    ck_assert_int_eq(leaks_descriptors(), fds);
    ck_assert_int_eq(leaks_threads_settle(threads), threads);
}
END_TEST

START_TEST(without_unix_sockets_tcp_is_left)
{
    static const struct deny no_unix[] = {{.call = SYS_socket, .err = EACCES, .arg = 0, .mask = AF_UNIX}};
    if (!deny_calls(no_unix, 1)) return;
    open_door();
    ck_assert_ptr_null(mdl_door_unix(door));
    ck_assert_int_eq(naddrs, 1);
    connects_over(&addrs[0]);
    mdl_door_put(door);
}
END_TEST

/* A sandbox without a network: not even loopback is up. */
START_TEST(without_interfaces_unix_sockets_are_left)
{
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        printf("skipped: no network namespaces here: %s\n", strerror(errno));
        return;
    }
    load_config("");
    ck_assert_msg(mdl_door_get(&cfg, &door) == medleySuccess, "%s", mdl_error_text());
    ck_assert_int_eq(mdl_door_addresses(door, addrs), 0);
    connects_over(mdl_door_unix(door));
    mdl_door_put(door);
    load_config("lo"); /* asked for by name: its absence is an error */
    ck_assert_int_eq(mdl_door_get(&cfg, &door), medleySystemError);
    static const struct deny no_unix[] = {{.call = SYS_socket, .err = EACCES, .arg = 0, .mask = AF_UNIX}};
    if (!deny_calls(no_unix, 1)) return;
    load_config("");
    ck_assert_int_eq(mdl_door_get(&cfg, &door), medleySystemError);
}
END_TEST

/* In a namespace of its own, with loopback and the kernel's choice of congestion control. */
static bool can_choose_congestion(const char *name)
{
    struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int sock, file;
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    file = open("/proc/sys/net/ipv4/tcp_congestion_control", O_WRONLY | O_CLOEXEC);
    bool could = ioctl(sock, SIOCSIFFLAGS, &up) == 0 && write(file, name, strlen(name)) == (ssize_t)strlen(name);
    close(sock);
    close(file);
    return could;
}

static void is_congestion(int fd, const char *name)
{
    char is[MDL_SOCK_CONGESTION_BYTES] = "";
    socklen_t len = sizeof(is) - 1;
    ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, is, &len), 0);
    ck_assert_str_eq(is, name);
}

static void links_begin_with(const char *usual, const char *first)
{
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    char name[MDL_SOCK_CONGESTION_BYTES];
    struct mdl_link link;
    if (!can_choose_congestion(usual)) {
        printf("skipped: %s cannot be made the usual congestion control here: %s\n", usual, strerror(errno));
        return;
    }
    open_door();
    serve(3, &in, &service);
    link = dial(3);
    wait_links(&in, 1);
    mdl_sock_congestion_default(name);
    ck_assert_str_eq(name, usual);
    is_congestion(link.fd, first);
    is_congestion(in.last.fd, first);
    ck_assert_int_eq(setsockopt(link.fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)), 0);
    close(link.fd);
    close_links(&in);
    mdl_door_unserve(service);
    mdl_door_put(door);
}

/* What bbr leaves behind on a connection slows it down for ever; other kinds leave nothing. */
START_TEST(links_begin_without_bbr) { links_begin_with("bbr", "reno"); }
END_TEST

START_TEST(links_keep_other_congestion_controls) { links_begin_with("cubic", "cubic"); }
END_TEST

/* ---- who does not ---- */

/* After an attack a real client gets in, and nobody else has. */
static void still_serves(struct inbox *in)
{
    ck_assert_int_eq(count_links(in), 0);
    struct mdl_link link = dial(3);
    wait_links(in, 1);
    close(link.fd);
    close_links(in);
}

struct attack {
    struct inbox in;
    struct mdl_service *service;
};

static void begin_attack(struct attack *a)
{
    *a = (struct attack){.in = INBOX_INIT};
    get_door();
    serve(3, &a->in, &a->service);
}

static void end_attack(struct attack *a)
{
    still_serves(&a->in);
    mdl_door_unserve(a->service);
    mdl_door_put(door);
}

START_TEST(a_port_scanner_leaves_no_trace)
{
    struct attack a;
    load_config("127.0.0.1");
    begin_attack(&a);
    for (int i = 0; i < 500; i++) close(raw_connect(&addrs[i % naddrs]));
    int fds = leaks_descriptors();
    end_attack(&a);
    ck_assert_int_le(leaks_descriptors(), fds);
}
END_TEST

START_TEST(random_bytes_get_no_answer)
{
    struct attack a;
    uint8_t bytes[512];
    load_config("127.0.0.1");
    begin_attack(&a);
    for (int i = 0; i < 200; i++) {
        int fd = raw_connect(&addrs[i % naddrs]);
        randombytes_buf(bytes, sizeof(bytes));
        raw_send(fd, bytes, 1 + randombytes_uniform(sizeof(bytes)));
        ck_assert_uint_eq(raw_closed(fd), 0);
    }
    end_attack(&a);
}
END_TEST

/* All ones where a length, a rank or a version could be, behind a right beginning; and more than any buffer holds. */
START_TEST(huge_fields_and_floods_are_cut_off)
{
    static uint8_t flood[1 << 20];
    struct attack a;
    memset(flood, 0xff, sizeof(flood));
    memcpy(flood, "MEDLEY\r\n", 8);
    load_config("127.0.0.1");
    begin_attack(&a);
    for (int i = 0; i < 4; i++) {
        int fd = raw_connect(&addrs[0]);
        raw_send(fd, flood, i % 2 ? sizeof(flood) : 512);
        ck_assert_uint_eq(raw_closed(fd), 0);
    }
    end_attack(&a);
}
END_TEST

START_TEST(a_wrong_key_gets_no_answer)
{
    struct attack a;
    struct mdl_auth auth;
    load_config("127.0.0.1");
    begin_attack(&a);
    struct mdl_secret wrong = secret;
    wrong.key[31] ^= 0x80;
    int fd = raw_connect(&addrs[0]);
    raw_client(&auth, &wrong, 3, 1, 1);
    raw_shake(fd, &auth, 1000);
    ck_assert_int_eq(auth.state, MDL_AUTH_GREETING);
    ck_assert_uint_eq(raw_closed(fd), 0);
    ck_assert_int_ge(log_count("nobody here serves"), 1);
    end_attack(&a);
}
END_TEST

START_TEST(a_stolen_tag_gets_an_answer_and_no_further)
{
    struct attack a;
    struct mdl_auth auth;
    load_config("127.0.0.1");
    begin_attack(&a);
    int fd = raw_connect(&addrs[0]);
    raw_client(&auth, &secret, 3, 1, 1);
    raw_shake(fd, &auth, 1000); /* a good one, to be recorded */
    close(fd);
    wait_links(&a.in, 1);
    close_links(&a.in);
    a.in.count = a.in.closed = 0;
    fd = raw_connect(&addrs[0]);
    raw_send(fd, auth.bytes, MDL_AUTH_HELLO_BYTES); /* the recorded hello: the tag is right */
    uint8_t answer[MDL_AUTH_ANSWER_BYTES];
    ck_assert_int_eq(recv(fd, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
    ck_assert_mem_ne(answer, auth.bytes + MDL_AUTH_HELLO_BYTES, sizeof(answer));                 /* a fresh nonce */
    raw_send(fd, auth.bytes + MDL_AUTH_HELLO_BYTES + MDL_AUTH_ANSWER_BYTES, MDL_AUTH_MAC_BYTES); /* the replay */
    ck_assert_uint_eq(raw_closed(fd), 0);
    fd = raw_connect(&addrs[0]);
    raw_send(fd, auth.bytes, MDL_AUTH_HELLO_BYTES);
    ck_assert_int_eq(recv(fd, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
    raw_send(fd, answer + 48, MDL_AUTH_MAC_BYTES); /* the reflection */
    ck_assert_uint_eq(raw_closed(fd), 0);
    ck_assert_int_ge(log_count("does not know the communicator's key"), 2);
    end_attack(&a);
}
END_TEST

START_TEST(a_client_of_other_versions_is_told_ours)
{
    struct attack a;
    struct mdl_auth auth;
    load_config("127.0.0.1");
    begin_attack(&a);
    int fd = raw_connect(&addrs[0]);
    raw_client(&auth, &secret, 3, MDL_WIRE_VERSION + 1, MDL_WIRE_VERSION + 2);
    raw_shake(fd, &auth, 1000);
    ck_assert_int_eq(auth.failure, MDL_AUTH_VERSION_REFUSED);
    ck_assert_int_eq(auth.peer_min, MDL_WIRE_VERSION_MIN);
    ck_assert_int_eq(auth.peer_max, MDL_WIRE_VERSION);
    ck_assert_uint_eq(raw_closed(fd), 0);
    ck_assert_int_eq(log_count("rank 7 speaks wire versions 2..3, this build 1..1: upgrade one side"), 1);
    end_attack(&a);
}
END_TEST

static void allow_descriptors(rlim_t want)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= want) return;
    limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

START_TEST(half_open_connections_do_not_keep_others_out)
{
    enum { MANY = 1000, CAP = 16 };
    static int fds[MANY];
    struct attack a;
    allow_descriptors(MANY + 100);
    load_config("127.0.0.1");
    cfg.auth_pending = CAP;
    begin_attack(&a);
    int before = leaks_descriptors();
    for (int i = 0; i < MANY; i++) {
        fds[i] = raw_connect(&addrs[0]);
        if (i % 3 == 0) raw_send(fds[i], "MEDLEY\r\n", 8);
    }
    still_serves(&a.in);
    /* Ours, the cap's, and one link that may still be closing. */
    ck_assert_int_le(leaks_descriptors() - before - MANY, CAP + 1);
    ck_assert_int_ge(log_count("too many half-open connections"), 100);
    for (int i = 0; i < MANY; i++) close(fds[i]);
    mdl_door_unserve(a.service);
    mdl_door_put(door);
}
END_TEST

START_TEST(silence_ends_at_the_deadline)
{
    struct attack a;
    load_config("127.0.0.1");
    cfg.auth_timeout = 100;
    begin_attack(&a);
    uint64_t start = mdl_now_ns();
    int fd = raw_connect(&addrs[0]);
    ck_assert_uint_eq(raw_closed(fd), 0);
    uint64_t ms = (mdl_now_ns() - start) / MDL_NS_PER_MS;
    ck_assert_msg(ms >= 100 && ms < unit_ns(2) / MDL_NS_PER_MS, "closed after %d ms", (int)ms);
    ck_assert_int_ge(log_count("has not proved itself in time"), 1);
    end_attack(&a);
}
END_TEST

/* A byte every 5 ms would take 360 ms: the deadline counts from the beginning, not from the last byte. */
START_TEST(a_trickle_does_not_stretch_the_deadline)
{
    struct attack a;
    struct mdl_auth auth;
    const uint8_t *out;
    load_config("127.0.0.1");
    cfg.auth_timeout = 100;
    begin_attack(&a);
    int fd = raw_connect(&addrs[0]), sent = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    raw_client(&auth, &secret, 3, 1, 1);
    mdl_auth_output(&auth, &out);
    for (; sent < MDL_AUTH_HELLO_BYTES && poll(&p, 1, 5) == 0; sent++) raw_send(fd, out + sent, 1);
    ck_assert_int_lt(sent, MDL_AUTH_HELLO_BYTES);
    ck_assert_uint_eq(raw_closed(fd), 0);
    end_attack(&a);
}
END_TEST

START_TEST(a_slow_client_gets_in_before_the_deadline)
{
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    struct mdl_auth auth;
    open_door();
    serve(3, &in, &service);
    for (int i = 0; i < naddrs; i++) {
        int fd = raw_connect(&addrs[i]);
        raw_client(&auth, &secret, 3, 1, 1);
        raw_shake(fd, &auth, 1); /* byte by byte */
        ck_assert_int_eq(auth.state, MDL_AUTH_DONE);
        wait_links(&in, i + 1);
        close(fd);
    }
    close_links(&in);
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* No descriptor is left for the accept: the door rests, says so once, and goes on when there is one. */
START_TEST(a_lack_of_descriptors_is_waited_out)
{
    struct attack a;
    struct rlimit old, low;
    struct mdl_auth auth;
    load_config("127.0.0.1");
    begin_attack(&a);
    int fd = raw_socket(AF_INET);
    getrlimit(RLIMIT_NOFILE, &old);
    low = old;
    int top = dup(fd);
    low.rlim_cur = (rlim_t)top;
    close(top);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addrs[0].sa, addrs[0].len), 0);
    while (!log_count("connections wait")) sched_yield();
    double before = cpu_ms();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 350), 0); /* several retries long */
    ck_assert_msg(cpu_ms() - before < 100, "spun for %.0f ms of 350", cpu_ms() - before);
    ck_assert_int_eq(log_count("connections wait"), 1);
    ck_assert_int_eq(log_count("ulimit -n"), 1);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    raw_client(&auth, &secret, 3, 1, 1);
    raw_shake(fd, &auth, 1000);
    ck_assert_int_eq(auth.state, MDL_AUTH_DONE);
    wait_links(&a.in, 1);
    close(fd);
    close_links(&a.in);
    a.in.count = a.in.closed = 0;
    end_attack(&a);
}
END_TEST

/* ---- comings and goings ---- */

struct crowd {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int good, bad;
};

static void crowd_done(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    struct crowd *c = ctx;
    pthread_mutex_lock(&c->lock);
    if (link) close(link->fd);
    if (result == medleySuccess)
        c->good++;
    else
        c->bad++;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* Far more real clients at once than the cap: all get in, none is pushed out by another. */
START_TEST(a_crowd_of_clients_gets_in)
{
    enum { CROWD = 400 };
    static struct mdl_dial *dials[CROWD];
    struct crowd c = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    load_config("127.0.0.1");
    cfg.auth_pending = 4;
    get_door();
    serve(3, &in, &service);
    for (int i = 0; i < CROWD; i++) {
        struct mdl_dial_args args = dial_args(3, &addrs[i % naddrs], 1, 20000);
        ck_assert_int_eq(mdl_dial_start(&args, crowd_done, &c, &dials[i]), medleySuccess);
    }
    pthread_mutex_lock(&c.lock);
    while (c.good + c.bad < CROWD) pthread_cond_wait(&c.changed, &c.lock);
    pthread_mutex_unlock(&c.lock);
    for (int i = 0; i < CROWD; i++) mdl_dial_cancel(dials[i]);
    ck_assert_int_eq(c.bad, 0);
    wait_links(&in, CROWD);
    close_links(&in);
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

START_TEST(unserving_ends_the_handshakes_in_hand)
{
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    struct mdl_auth auth;
    uint8_t answer[MDL_AUTH_ANSWER_BYTES];
    open_door();
    serve(3, &in, &service);
    int fd = raw_connect(&addrs[0]);
    raw_client(&auth, &secret, 3, 1, 1);
    raw_send(fd, auth.bytes, MDL_AUTH_HELLO_BYTES);
    ck_assert_int_eq(recv(fd, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
    mdl_door_unserve(service);
    ck_assert_uint_eq(raw_closed(fd), 0);
    ck_assert_int_eq(in.count, 0);
    mdl_door_unserve(NULL);
    mdl_door_put(door);
}
END_TEST

START_TEST(a_put_closes_what_is_half_open)
{
    int fds = leaks_descriptors();
    open_door();
    int fd = raw_connect(&addrs[0]);
    struct mdl_addr a = addrs[naddrs - 1];
    close(raw_connect(&a));
    mdl_door_put(door); /* both accepted by now, or still in the queue */
    ck_assert_uint_eq(raw_closed(fd), 0);
    ck_assert_int_eq(leaks_descriptors(), fds);
}
END_TEST

START_TEST(a_thousand_cycles_leave_nothing)
{
    open_door();
    mdl_door_put(door);
    int fds = leaks_descriptors(), threads = leaks_threads();
    for (int i = 0; i < 1000; i++) {
        struct inbox in = INBOX_INIT;
        struct mdl_service *service;
        get_door();
        serve(3, &in, &service);
        struct mdl_dial_args args = dial_args(3, &addrs[i % naddrs], 1, 20000);
        struct mdl_link link;
        ck_assert_int_eq(mdl_dial_wait(&args, NULL, &link), medleySuccess);
        wait_links(&in, 1);
        close(link.fd);
        close_links(&in);
        mdl_door_unserve(service);
        mdl_door_put(door);
    }
    ck_assert_int_eq(leaks_descriptors(), fds);
    ck_assert_int_eq(leaks_threads_settle(threads), threads);
}
END_TEST

static void *come_and_go(void *arg)
{
    int rank = (int)(intptr_t)arg;
    for (int i = 0; i < 50; i++) {
        struct inbox in = INBOX_INIT;
        struct mdl_service *service;
        struct mdl_door *mine;
        struct mdl_link link;
        ck_assert_int_eq(mdl_door_get(&cfg, &mine), medleySuccess);
        ck_assert_int_eq(mdl_door_serve(mine, &secret, MDL_PURPOSE_TCP, rank, take_link, &in, &service), medleySuccess);
        struct mdl_dial_args args = dial_args(rank, mdl_door_unix(mine), 1, 20000);
        args.door = mine;
        args.purpose = MDL_PURPOSE_TCP;
        ck_assert_msg(mdl_dial_wait(&args, NULL, &link) == medleySuccess, "%s", mdl_error_text());
        close(link.fd);
        if (i % 2) wait_links(&in, 1);
        mdl_door_unserve(service);
        close_links(&in);
        mdl_door_put(mine);
    }
    return NULL;
}

START_TEST(threads_may_come_and_go)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    int fds = leaks_descriptors();
    load_config("127.0.0.1");
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, (void *)(intptr_t)i), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    ck_assert_int_eq(leaks_descriptors(), fds);
}
END_TEST

static int in_child(struct mdl_service *served)
{
    struct mdl_door *other;
    struct mdl_service *service;
    struct mdl_link link;
    struct inbox in = INBOX_INIT;
    struct mdl_dial_args args = dial_args(3, addrs, 1, 1000);
    alarm(20);
    if (mdl_door_get(&cfg, &other) != medleyInvalidUsage) return 1;
    if (mdl_door_serve(door, &secret, MDL_PURPOSE_SHM, 3, take_link, &in, &service) != medleyInvalidUsage) return 2;
    if (mdl_dial_wait(&args, NULL, &link) != medleyInvalidUsage) return 3;
    mdl_door_unserve(served);
    mdl_door_put(door);
    return 0;
}

START_TEST(a_forked_child_gets_errors_and_disturbs_nothing)
{
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    int status;
    open_door();
    serve(3, &in, &service);
    pid_t pid = fork();
    if (pid == 0) _exit(in_child(service));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    still_serves(&in);
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

UNIT_MAIN("door", links_work_over_every_family, bytes_behind_the_proof_stay_for_the_owner,
          ranks_of_one_process_share_a_door, equal_configurations_share_a_door, a_port_range_is_kept,
          bad_configurations_open_no_door, without_unix_sockets_tcp_is_left, without_interfaces_unix_sockets_are_left,
          links_begin_without_bbr, links_keep_other_congestion_controls, a_port_scanner_leaves_no_trace,
          random_bytes_get_no_answer, huge_fields_and_floods_are_cut_off, a_wrong_key_gets_no_answer,
          a_stolen_tag_gets_an_answer_and_no_further, a_client_of_other_versions_is_told_ours,
          half_open_connections_do_not_keep_others_out, silence_ends_at_the_deadline,
          a_trickle_does_not_stretch_the_deadline, a_slow_client_gets_in_before_the_deadline,
          a_lack_of_descriptors_is_waited_out, a_crowd_of_clients_gets_in, unserving_ends_the_handshakes_in_hand,
          a_put_closes_what_is_half_open, a_thousand_cycles_leave_nothing, threads_may_come_and_go,
          a_forked_child_gets_errors_and_disturbs_nothing)
