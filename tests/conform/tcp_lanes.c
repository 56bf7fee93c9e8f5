/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only the TCP transport can suffer: lanes that break or get stuck in the midst of transfers, ways that are
 * closed, peers that know the key and send nonsense; and its data cases over IPv6, with one socket, with tiny buffers.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "tests/conform/transport_cases.h"
#include "transports/tcp_context.h"
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static struct mdl_tcp_peer *peer_of(struct rank *r, int rank)
{
    struct mdl_tcp *t = r->ctx;
    return t->peers[rank];
}

static struct mdl_tcp_lane *some_lane(struct rank *r, int peer, unsigned n)
{
    struct mdl_tcp_peer *p = peer_of(r, peer);
    for (unsigned i = 0; p && p->nlanes && i < MDL_TCP_MAX_LANES; i++) {
        struct mdl_tcp_lane *lane = p->lanes[(n + i) % MDL_TCP_MAX_LANES];
        if (lane) return lane;
    }
    return NULL;
}

static uint64_t retries(struct rank *r)
{
    struct mdl_link_info info;
    r->tr->link(r->ctx, 1 - r->rank, &info);
    return info.retries;
}

static void wait_lanes(struct rank *r, int count)
{
    while (!peer_of(r, 1 - r->rank) || peer_of(r, 1 - r->rank)->nlanes < count) {
        CHECK(turn(r) == medleySuccess);
        sched_yield();
    }
}

/* A first message, and then so many lanes. */
static void connect_lanes(struct rank *r, int lanes)
{
    struct mdl_request *req = request_new(r);
    uint8_t byte = 0;
    if (r->rank == 0)
        post_send(r, 1, 9, &byte, 1, 0, req);
    else
        post_recv(r, 0, 9, &byte, 1, 0, req);
    wait_done(r, req);
    wait_lanes(r, lanes);
    barrier_progress(r);
    free(req);
}

/* ---- lanes that break ---- */

/* Both ways at once; both sides shut a lane down whenever some more has moved. */
static void transfer_and_break(struct rank *r, int lanes, bool all)
{
    enum { LEN = 24 * MIB };
    struct mdl_request *in = request_new(r), *out = request_new(r);
    uint8_t *from = malloc(LEN), *to = malloc(LEN);
    int peer = 1 - r->rank, kills = 0;
    connect_lanes(r, lanes); /* before it: all may be through when a late one comes */
    fill_bytes(from, LEN, (uint64_t)r->rank);
    post_recv(r, peer, 0, to, LEN, 0, in);
    post_send(r, peer, 0, from, LEN, 0, out);
    while (in->state == MDL_REQ_ACTIVE || out->state == MDL_REQ_ACTIVE) {
        CHECK(turn(r) == medleySuccess);
        if (kills < 4 && in->bytes > (size_t)(kills + 1) * (LEN / 6)) {
            for (unsigned i = 0; i < (all ? MDL_TCP_MAX_LANES : 1u); i++) {
                struct mdl_tcp_lane *lane = all ? peer_of(r, peer)->lanes[i] : some_lane(r, peer, (unsigned)kills);
                if (lane) shutdown(lane->fd, kills % 2 ? SHUT_RDWR : SHUT_WR);
            }
            kills++;
        }
        sched_yield();
    }
    CHECK(in->state == MDL_REQ_DONE && out->state == MDL_REQ_DONE, "%d %d", in->result, out->result);
    check_bytes(to, LEN, (uint64_t)peer);
    CHECK(kills > 0);
    atomic_fetch_add(&r->w->words[1], retries(r));
    barrier_progress(r);
    CHECK(atomic_load(&r->w->words[1]) > 0, "no retries");
    barrier(r);
    free(from);
    free(to);
    free(in);
    free(out);
}

static void case_lane_breaks(struct rank *r)
{
    transfer_and_break(r, 2, false);
    wait_lanes(r, 2); /* dialled again */
    barrier_progress(r);
}

static void case_all_lanes_break(struct rank *r) { transfer_and_break(r, 1, true); }

/* Many small messages, each checked, while lanes come and go: none is lost, none comes twice. */
static void case_small_while_breaking(struct rank *r)
{
    enum { COUNT = 3000, DEPTH = 8 };
    uint64_t values[DEPTH];
    struct mdl_request *reqs[DEPTH];
    for (int i = 0; i < DEPTH; i++) reqs[i] = request_new(r);
    for (uint64_t i = 0; i < COUNT + DEPTH; i++) {
        unsigned k = i % DEPTH;
        if (i >= DEPTH) {
            wait_done(r, reqs[k]);
            if (r->rank == 1) CHECK(values[k] == (i - DEPTH) * 77, "message %d", (int)i);
        }
        if (i >= COUNT) continue;
        if (r->rank == 0) {
            values[k] = i * 77;
            post_send(r, 1, 3, &values[k], 8, i, reqs[k]);
        } else {
            post_recv(r, 0, 3, &values[k], 8, i, reqs[k]);
        }
        struct mdl_tcp_lane *lane = i % 100 == 50 ? some_lane(r, 1 - r->rank, (unsigned)i) : NULL;
        if (lane && (i / 100) % 2 == (uint64_t)r->rank) shutdown(lane->fd, SHUT_RDWR);
    }
    barrier_progress(r);
    for (int i = 0; i < DEPTH; i++) free(reqs[i]);
}

/* Whoever is done may go although the peer has not read yet and the kernel's buffers are full: all that was DONE
 * arrives. (A socket closed too early answers the peer's acknowledgements with a reset, and what was on its way is
 * lost.) */
static void case_leave_full(struct rank *r)
{
    enum { LEN = 1000, MOST = 60 };
    struct mdl_request *req = NULL;
    uint8_t *p = malloc(LEN);
    unsigned long done = 0;
    connect_lanes(r, 2);
    if (r->rank == 0) {
        for (bool full = false; !full && done < MOST; done += !full) {
            free(req);
            req = request_new(r);
            fill_bytes(p, LEN, done);
            post_send(r, 1, 1, p, LEN, done, req);
            for (int n = 0; n < 100 && req->state == MDL_REQ_ACTIVE; n++) CHECK(turn(r) == medleySuccess);
            full = req->state == MDL_REQ_ACTIVE;
        }
        rank_close(r);
        atomic_store(&r->w->words[0], done);
    } else {
        req = request_new(r);
        while (atomic_load(&r->w->words[0]) == 0) sched_yield();
        done = atomic_load(&r->w->words[0]);
        for (uint64_t i = 0; i < done; i++) {
            post_recv(r, 0, 1, p, LEN, i, req);
            wait_done(r, req);
            check_bytes(p, LEN, i);
        }
    }
    free(p);
    free(req);
}

/* What the faker of the next case sends as rank 0: `first` alone, or `first` and then the other frame. */
static void fake_link(struct rank *r, const struct mdl_tcp_header *first, const struct mdl_tcp_header *other)
{
    struct mdl_tcp *t = r->ctx;
    struct mdl_addr to;
    struct mdl_reader in = {.p = r->w->address[1] + 8, .left = r->w->address_len[1] - 8};
    struct mdl_dial_args args = {.door = t->door, .secret = &t->secret, .purpose = MDL_PURPOSE_TCP, .naddrs = 1};
    uint8_t bytes[4 * MDL_TCP_HEADER_BYTES + 2 * MDL_TCP_ACK_BYTES] = {0};
    struct mdl_link link;
    size_t len = MDL_TCP_HEADER_BYTES + first->length;
    CHECK(mdl_addr_read(&in, &to) == medleySuccess);
    args.expect_rank = 1;
    args.addrs = &to;
    args.deadline_ns = mdl_now_ns() + within_s(5);
    CHECK(mdl_dial_wait(&args, NULL, &link) == medleySuccess);
    mdl_tcp_header_write(first, bytes);
    if (other) mdl_tcp_header_write(other, bytes + len);
    if (other) len += MDL_TCP_HEADER_BYTES + other->length;
    CHECK(send(link.fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len);
    close(link.fd);
}

/* Who leaves says so on every lane, and the lane that has the last message comes after the one that only says so: the
 * handshake of one took longer. */
static void case_late_lane(struct rank *r)
{
    struct mdl_request *req = request_new(r);
    uint8_t got[8] = {1};
    if (r->rank == 0) {
        struct mdl_tcp_header bye = {.type = MDL_TCP_BYE, .dst = 1, .ack = 1, .number = 2, .length = MDL_TCP_ACK_BYTES};
        struct mdl_tcp_header message = {
            .type = MDL_TCP_EAGER, .dst = 1, .ack = 1, .seq = 1, .tag = 4, .total = 8, .length = 8};
        fake_link(r, &bye, NULL);
        while (!atomic_load(&r->w->words[0])) sched_yield();
        fake_link(r, &message, &bye);
    } else {
        post_recv(r, 0, 0, got, 8, 4, req);
        while (!peer_of(r, 0)->flow.bye_next || peer_of(r, 0)->nlanes) {
            CHECK(turn(r) == medleySuccess);
            sched_yield();
        }
        for (int i = 0; i < 100; i++) CHECK(turn(r) == medleySuccess);
        CHECK(req->state == MDL_REQ_ACTIVE);
        atomic_store(&r->w->words[0], 1);
        wait_done(r, req);
        CHECK(got[0] == 0); /* the faker's bytes are zeros */
        CHECK(atomic_load(&r->w->lost[1][0]) == 0);
        while (!peer_of(r, 0)->left) CHECK(turn(r) == medleySuccess);
    }
    barrier(r);
    free(req);
}

/* It says that it has sent something, and that never comes: an error, in bounded time. */
static void case_lying_goodbye(struct rank *r)
{
    struct mdl_request *req = request_new(r);
    uint8_t byte;
    if (r->rank == 0) {
        struct mdl_tcp_header bye = {.type = MDL_TCP_BYE, .dst = 1, .ack = 1, .number = 2, .length = MDL_TCP_ACK_BYTES};
        fake_link(r, &bye, NULL);
    } else {
        uint64_t start = mdl_now_ns();
        post_recv(r, 0, 0, &byte, 1, 4, req);
        wait_end(r, req);
        CHECK(req->state == MDL_REQ_FAILED && req->result == medleyRemoteError);
        CHECK(atomic_load(&r->w->lost[1][0]) == 1);
        CHECK(mdl_now_ns() - start < within_s(10));
    }
    barrier(r);
    free(req);
}

/* ---- ways that are closed or stuck: addresses that lead elsewhere ---- */

/* Reopens with addresses of one's own making: port[r] in place of where rank r listens (0: as it is). */
static void reopen_with_ports(struct rank *r, const uint16_t ports[2])
{
    struct mdl_peer peers[2];
    uint8_t blob[2][MDL_ADDRESS_BYTES];
    struct mdl_transport_open args = {.size = sizeof args,
                                      .rank = r->rank,
                                      .nranks = 2,
                                      .config = &r->cfg,
                                      .abort_word = &r->abort_word,
                                      .peer_lost = rank_on_lost,
                                      .engine = r};
    memcpy(args.secret, r->w->secret, sizeof args.secret);
    barrier(r);
    rank_close(r);
    CHECK(r->tr->open(&args, &r->ctx) == medleySuccess);
    r->w->address_len[r->rank] = MDL_ADDRESS_BYTES;
    CHECK(r->tr->address(r->ctx, r->w->address[r->rank], &r->w->address_len[r->rank]) == medleySuccess);
    barrier(r);
    for (int i = 0; i < 2; i++) {
        memcpy(blob[i], r->w->address[i], r->w->address_len[i]);
        CHECK(blob[i][1] == 1, "one address expected");
        if (ports[i]) mdl_put_u16(blob[i] + 8 + 2, ports[i]);
        peers[i] = (struct mdl_peer){.rank = i, .address = blob[i], .address_len = r->w->address_len[i]};
    }
    CHECK(r->tr->connect_all(r->ctx, peers, mdl_now_ns() + MDL_NS_PER_S, r->reach) == medleySuccess);
}

/* A port of loopback at which nobody listens: bound, so that nobody else gets it. */
static uint16_t dead_port(int *fd)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(*fd, (struct sockaddr *)&a, len) == 0);
    CHECK(getsockname(*fd, (struct sockaddr *)&a, &len) == 0);
    return ntohs(a.sin_port);
}

/* The lower rank cannot connect, so after a while the higher one does. */
static void case_other_way(struct rank *r)
{
    int fd;
    uint16_t ports[2] = {0, dead_port(&fd)};
    struct mdl_request *req = request_new(r);
    uint8_t *p = malloc(MIB);
    reopen_with_ports(r, r->rank == 0 ? ports : (uint16_t[2]){0, 0});
    fill_bytes(p, r->rank ? MIB : 0, 5);
    if (r->rank == 1)
        post_send(r, 0, 0, p, MIB, 0, req);
    else
        post_recv(r, 1, 0, p, MIB, 0, req);
    wait_done(r, req);
    check_bytes(p, MIB, 5);
    barrier_progress(r);
    close(fd);
    free(p);
    free(req);
}

/* The lower rank cannot connect, and the higher one is not there for longer than a silent one may be. */
static void case_late_other_way(struct rank *r)
{
    if (r->rank == 1) usleep((useconds_t)r->cfg.dead_after * 1500);
    case_other_way(r);
}

/* The higher rank computes for longer than a silent one may be, while something waits for the lower one: it has not
 * looked whether there is a connection, nor tried to make one. */
static void case_looks_away(struct rank *r)
{
    struct mdl_request *req = request_new(r);
    uint8_t byte = 7;
    if (r->rank == 1) {
        post_recv(r, 0, 0, &byte, 1, 0, req);
        usleep((useconds_t)r->cfg.dead_after * 1500);
        CHECK(turn(r) == medleySuccess);
        CHECK(atomic_load(&r->w->lost[1][0]) == 0);
        atomic_store(&r->w->words[0], 1);
    } else {
        while (atomic_load(&r->w->words[0]) == 0) sched_yield();
        post_send(r, 1, 0, &byte, 1, 0, req);
    }
    wait_done(r, req);
    barrier_progress(r);
    free(req);
}

/* The higher rank finds out; the lower one cannot know that the other is not merely late. */
static void case_no_way(struct rank *r)
{
    int fd;
    uint16_t port = dead_port(&fd);
    struct mdl_request *req = request_new(r);
    uint8_t byte = 0;
    reopen_with_ports(r, (uint16_t[2]){port, port});
    uint64_t start = mdl_now_ns();
    if (r->rank == 1)
        post_send(r, 0, 0, &byte, 1, 0, req);
    else
        post_recv(r, 1, 0, &byte, 1, 0, req);
    while (atomic_load(&r->w->lost[1][0]) == 0) {
        CHECK(turn(r) == medleySuccess);
        CHECK(mdl_now_ns() - start < within_s(10));
    }
    CHECK(atomic_load(&r->w->lost[0][1]) == 0 && atomic_load(&r->w->lost[1][0]) == 1);
    if (r->rank == 1) {
        struct mdl_message m = {.ptr = &byte, .len = 1};
        CHECK(req->state == MDL_REQ_FAILED && req->result == medleyRemoteError);
        CHECK(r->tr->send(r->ctx, 0, &m, req) == medleyRemoteError);
    }
    rank_close(r);
    close(fd);
    free(req);
}

/* A proxy on the way to rank 1: the second connection stops moving bytes after a while without being closed. */
struct proxy {
    int listener, from[16], to[16], count;
    size_t moved[16];
    uint16_t target;
    atomic_bool stop;
};

static void proxy_accept(struct proxy *x)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(x->target)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int i = x->count;
    if (i == 16) return;
    x->from[i] = accept4(x->listener, NULL, NULL, SOCK_CLOEXEC);
    x->to[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (x->from[i] >= 0 && connect(x->to[i], (struct sockaddr *)&a, sizeof a) == 0) x->count++;
}

static void proxy_move(struct proxy *x, int i, int from, int to)
{
    static char buf[65536];
    if (i == 1 && x->moved[i] > 300000) return; /* stuck */
    ssize_t n = recv(from, buf, sizeof buf, MSG_DONTWAIT);
    if (n == 0) shutdown(to, SHUT_WR);
    if (n <= 0) return;
    x->moved[i] += (size_t)n;
    if (send(to, buf, (size_t)n, MSG_NOSIGNAL) != n) shutdown(from, SHUT_RDWR);
}

static void *proxy_main(void *arg)
{
    struct proxy *x = arg;
    while (!atomic_load(&x->stop)) {
        struct pollfd p = {.fd = x->listener, .events = POLLIN};
        if (poll(&p, 1, 0) > 0) proxy_accept(x);
        for (int i = 0; i < x->count; i++) {
            proxy_move(x, i, x->from[i], x->to[i]);
            proxy_move(x, i, x->to[i], x->from[i]);
        }
        usleep(100);
    }
    for (int i = 0; i < x->count; i++) {
        close(x->from[i]);
        close(x->to[i]);
    }
    close(x->listener);
    return NULL;
}

/* A message for rank 1, which checks it. */
static void pass(struct rank *r, struct mdl_request *req, uint8_t *p, size_t len)
{
    if (r->rank == 0) fill_bytes(p, len, 3);
    if (r->rank == 0)
        post_send(r, 1, 0, p, len, 0, req);
    else
        post_recv(r, 0, 0, p, len, 0, req);
    wait_done(r, req);
    if (r->rank == 1) check_bytes(p, len, 3);
}

/* One of two lanes gets stuck without a word: what it holds goes over the other. While the other is faster, all may go
 * over that one before the lane holds anything: so several messages, until one was stuck. */
static void case_stuck_lane(struct rank *r)
{
    enum { LEN = 48 * MIB, MESSAGES = 40 };
    struct proxy *x = calloc(1, sizeof *x);
    struct mdl_request *req = request_new(r);
    uint8_t *p = malloc(LEN);
    bool more = true;
    pthread_t thread;
    reopen_with_ports(r, (uint16_t[2]){0, 0});
    if (r->rank == 0) {
        uint16_t port = dead_port(&x->listener);
        CHECK(listen(x->listener, 16) == 0);
        x->target = mdl_get_u16(r->w->address[1] + 8 + 2);
        mdl_put_u16(((struct mdl_tcp *)r->ctx)->addresses[1] + 2 + 8 + 2, port);
        CHECK(pthread_create(&thread, NULL, proxy_main, x) == 0);
    }
    barrier(r);
    for (int i = 0; more && i < MESSAGES; i++) {
        pass(r, req, p, LEN);
        if (r->rank == 0) atomic_store(&r->w->words[1], retries(r) == 0);
        barrier_progress(r);
        more = atomic_load(&r->w->words[1]) != 0;
        barrier(r);
    }
    CHECK(!more, "no retries");
    rank_close(r);
    if (r->rank == 0) {
        atomic_store(&x->stop, true);
        pthread_join(thread, NULL);
    }
    free(x);
    free(p);
    free(req);
}

/* ---- nonsense from one that knows the key ---- */

/* Rank 2 authenticates and sends garbage, again and again; ranks 0 and 1 are not disturbed. */
static void case_nonsense(struct rank *r)
{
    enum { LINKS = 40 };
    struct mdl_tcp *t = r->ctx;
    uint8_t *p = calloc(1, 8 * MIB);
    struct mdl_request *req = request_new(r);
    if (r->rank == 2) {
        struct mdl_tcp_header h = {.type = MDL_TCP_CREDIT, .src = 2, .dst = 0, .seq = 1, .ack = 1};
        struct mdl_addr to[MDL_MAX_ADDRS];
        struct mdl_reader in = {.p = r->w->address[0] + 8, .left = r->w->address_len[0] - 8};
        CHECK(mdl_addr_read(&in, &to[0]) == medleySuccess);
        for (int i = 0; i < LINKS; i++) {
            struct mdl_link link;
            struct mdl_dial_args args = {.door = t->door, .secret = &t->secret, .purpose = MDL_PURPOSE_TCP};
            args.rank = 2;
            args.addrs = to;
            args.naddrs = 1;
            args.deadline_ns = mdl_now_ns() + within_s(5);
            CHECK(mdl_dial_wait(&args, NULL, &link) == medleySuccess);
            fill_bytes(p, 4096, (uint64_t)i);
            mdl_tcp_header_write(&h, p); /* a good frame, then what is not one */
            h.seq++;
            p[i % 64] ^= (uint8_t)(i % 3);
            CHECK(send(link.fd, p, 1 + (size_t)i * 100, MSG_NOSIGNAL) > 0);
            close(link.fd);
        }
        atomic_store(&r->w->words[0], 1);
    } else {
        while (atomic_load(&r->w->words[2]) == 0) {
            if (r->rank == 0)
                post_send(r, 1, 0, p, 8 * MIB, 0, req);
            else
                post_recv(r, 0, 0, p, 8 * MIB, 0, req);
            wait_done(r, req);
            barrier_two(r);
            if (r->rank == 0) atomic_store(&r->w->words[2], atomic_load(&r->w->words[0])); /* both see the same */
            barrier_two(r);
        }
        CHECK(atomic_load(&r->w->lost[r->rank][1 - r->rank]) == 0);
    }
    free(p);
    free(req);
}

#define LO "MEDLEY_SOCKET_IFNAME=lo MEDLEY_SOCKET_FAMILY=AF_INET "

static const struct test_case cases[] = {
    {"lane_breaks", 2, BOTH, case_lane_breaks, NULL, 60},
    {"all_lanes_break", 2, BOTH, case_all_lanes_break, NULL, 60},
    {"small_while_breaking", 2, BOTH, case_small_while_breaking, NULL, 60},
    {"leave_full", 2, BOTH, case_leave_full, LO "MEDLEY_SOCKET_BUFFER=16K", 0},
    {"late_lane", 2, BOTH, case_late_lane, LO "MEDLEY_DEAD_AFTER=20s", 0},
    {"lying_goodbye", 2, BOTH, case_lying_goodbye, LO "MEDLEY_DEAD_AFTER=700ms", 0},
    {"other_way", 2, BOTH, case_other_way, LO, 0},
    {"late_other_way", 2, BOTH, case_late_other_way, LO "MEDLEY_DEAD_AFTER=1s", 0},
    {"looks_away", 2, BOTH, case_looks_away, LO "MEDLEY_DEAD_AFTER=500ms", 0},
    {"no_way", 2, BOTH, case_no_way, LO "MEDLEY_DEAD_AFTER=1500ms", 0},
    {"stuck_lane", 2, BOTH, case_stuck_lane, LO, 60},
    {"nonsense", 3, BOTH, case_nonsense, LO, 60},
    {"ipv6", 2, BOTH, case_sizes, "MEDLEY_SOCKET_IFNAME=lo MEDLEY_SOCKET_FAMILY=AF_INET6", 60},
    {"one_socket", 2, BOTH, case_sizes, "MEDLEY_NSOCKS_PERPEER=1", 60},
    {"many_sockets", 2, BOTH, case_both_ways, "MEDLEY_NSOCKS_PERPEER=16", 60},
    {"small_chunks", 2, BOTH, case_both_ways, "MEDLEY_TCP_CHUNK=4K MEDLEY_EAGER=100", 60},
    {"tiny_buffers", 2, BOTH, case_channels, "MEDLEY_SOCKET_BUFFER=16K", 60},
    {"large_eager", 2, BOTH, case_flood, "MEDLEY_EAGER=64K", 60},
};

int main(int argc, char **argv) { return run_cases("tcp", cases, sizeof cases / sizeof *cases, argc, argv); }
