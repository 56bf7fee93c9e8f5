/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_speed [rounds, default 7] [sockets, default 2]
 *
 * The TCP transport over loopback beside a bare pump: the same number of non-blocking sockets, the same buffers, send
 * and recv in a loop and nothing else. Two processes; the two ways take turns, and the median of the rounds counts.
 * Latency is half of a ping-pong of 8 bytes; throughput is a stream of messages, two under way at a time.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/config.h"
#include <errno.h>
#include <medley/plugin.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern const struct mdl_transport mdl_transport_tcp;

enum { MIB = 1 << 20, MAX_ROUNDS = 31, MAX_SOCKETS = 16, PINGS = 2000, STREAM = 256 * MIB, PUMP = 256 * 1024 };

struct shared {
    atomic_uint arrived, generation;
    uint8_t address[2][MDL_ADDRESS_BYTES];
    size_t address_len[2];
};

struct side {
    struct shared *s;
    int rank, sockets;
    int fds[MAX_SOCKETS];
    const struct mdl_transport *tr;
    void *ctx;
    struct mdl_config cfg;
    uint32_t abort_word;
    struct mdl_request *reqs[4];
    uint8_t *buf;
};

static void die(const char *what)
{
    fprintf(stderr, "tcp_speed: %s: %s\n", what, mdl_error_text());
    _exit(1);
}

static void meet(struct shared *s)
{
    unsigned g = atomic_load(&s->generation);
    if (atomic_fetch_add(&s->arrived, 1) == 1) {
        atomic_store(&s->arrived, 0);
        atomic_fetch_add(&s->generation, 1);
    }
    while (atomic_load(&s->generation) == g) sched_yield();
}

/* ---- the bare pump ---- */

/* Message i travels in pieces, piece k on socket k modulo their number, so the sockets fill and drain together. */
static void pump(struct side *b, uint8_t *p, size_t len, bool send_it)
{
    size_t at[MAX_SOCKETS], end[MAX_SOCKETS];
    int open = b->sockets;
    for (int k = 0; k < b->sockets; k++) {
        at[k] = len / (size_t)b->sockets * (size_t)k;
        end[k] = k + 1 == b->sockets ? len : at[k] + len / (size_t)b->sockets;
    }
    while (open) {
        bool moved = false;
        for (int k = 0; k < b->sockets; k++) {
            if (at[k] == end[k]) continue;
            size_t left = end[k] - at[k], n = left < PUMP ? left : PUMP;
            ssize_t got = send_it ? send(b->fds[k], p + at[k], n, MSG_DONTWAIT | MSG_NOSIGNAL)
                                  : recv(b->fds[k], p + at[k], n, MSG_DONTWAIT);
            if (got <= 0) {
                if (got == 0 || errno != EAGAIN) die("the pump's socket broke");
                continue;
            }
            moved = true;
            at[k] += (size_t)got;
            if (at[k] == end[k]) open--;
        }
        if (!moved) sched_yield();
    }
}

static void pump_small(struct side *b, bool send_it)
{
    for (size_t done = 0; done < 8;) {
        ssize_t n = send_it ? send(b->fds[0], b->buf + done, 8 - done, MSG_DONTWAIT | MSG_NOSIGNAL)
                            : recv(b->fds[0], b->buf + done, 8 - done, MSG_DONTWAIT);
        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            sched_yield();
        else
            die("the pump's socket broke");
    }
}

static void bare_pings(struct side *b)
{
    for (int i = 0; i < PINGS; i++) {
        pump_small(b, b->rank == 0);
        pump_small(b, b->rank == 1);
    }
}

static void bare_stream(struct side *b, size_t len)
{
    for (size_t sent = 0; sent < STREAM; sent += len) pump(b, b->buf + sent / len % 2 * len, len, b->rank == 0);
}

/* ---- the transport ---- */

static void turn(struct side *b)
{
    int events = 0;
    if (b->tr->progress(b->ctx, &events) != medleySuccess) die("progress");
    if (!events) sched_yield();
}

static void wait_for(struct side *b, struct mdl_request *req)
{
    while (req->state == MDL_REQ_ACTIVE) turn(b);
    if (req->state != MDL_REQ_DONE) die("a request failed");
}

static void post(struct side *b, bool send_it, uint8_t *p, size_t len, struct mdl_request *req)
{
    struct mdl_message m = {.ptr = p, .len = len};
    if ((send_it ? b->tr->send : b->tr->recv)(b->ctx, 1 - b->rank, &m, req) != medleySuccess) die("post");
}

static void medley_pings(struct side *b)
{
    for (int i = 0; i < PINGS; i++) {
        post(b, false, b->buf, 8, b->reqs[0]);
        if (b->rank == 1) wait_for(b, b->reqs[0]);
        post(b, true, b->buf + 64, 8, b->reqs[1]);
        if (b->rank == 0) wait_for(b, b->reqs[0]);
        wait_for(b, b->reqs[1]);
    }
}

static void medley_stream(struct side *b, size_t len)
{
    size_t count = STREAM / len;
    for (size_t i = 0; i < count + 2; i++) {
        if (i >= 2) wait_for(b, b->reqs[i % 2]);
        if (i < count) post(b, b->rank == 0, b->buf + i % 2 * len, len, b->reqs[i % 2]);
    }
}

/* ---- rounds ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, compare);
    return v[n / 2];
}

static double timed(struct side *b, void (*pings)(struct side *), void (*stream)(struct side *, size_t), size_t len)
{
    meet(b->s);
    uint64_t start = mdl_now_ns();
    if (len)
        stream(b, len);
    else
        pings(b);
    meet(b->s);
    return (double)(mdl_now_ns() - start);
}

static void compare_ways(struct side *b, size_t len, int rounds)
{
    double bare[MAX_ROUNDS], medley[MAX_ROUNDS];
    for (int i = -1; i < rounds; i++) { /* the first one warms up */
        double x = timed(b, bare_pings, bare_stream, len), y = timed(b, medley_pings, medley_stream, len);
        if (i < 0) continue;
        bare[i] = x;
        medley[i] = y;
    }
    if (b->rank) return;
    double x = median(bare, rounds), y = median(medley, rounds);
    if (len)
        printf("%10zu bytes   bare %7.2f GB/s   medley %7.2f GB/s   %5.1f %%\n", len, STREAM / x, STREAM / y,
               100 * x / y);
    else
        printf("         8 bytes   bare %7.2f us     medley %7.2f us     +%.2f us\n", x / PINGS / 2e3, y / PINGS / 2e3,
               (y - x) / PINGS / 2e3);
    fflush(stdout);
}

/* ---- setting up ---- */

static void connect_pair(int fds[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&a, &len) || connect(fds[0], (struct sockaddr *)&a, len))
        die("sockets");
    fds[1] = accept(listener, NULL, NULL);
    close(listener);
    for (int i = 0; i < 2; i++) setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int no_segment(uint64_t segment) { return -1; }

static void open_transport(struct side *b)
{
    struct mdl_peer peers[2];
    uint32_t reach[2];
    char text[16];
    snprintf(text, sizeof text, "%d", b->sockets);
    if (mdl_config_load(&b->cfg) || mdl_config_set(&b->cfg, "MEDLEY_NSOCKS_PERPEER", text) ||
        mdl_config_set(&b->cfg, "MEDLEY_SOCKET_IFNAME", "lo") ||
        mdl_config_set(&b->cfg, "MEDLEY_SOCKET_FAMILY", "AF_INET"))
        die("configuration");
    struct mdl_transport_open args = {
        .size = sizeof args, .rank = b->rank, .nranks = 2, .config = &b->cfg, .name = "speed"};
    args.abort_word = &b->abort_word;
    args.segment_fd = no_segment;
    b->tr = &mdl_transport_tcp;
    b->s->address_len[b->rank] = MDL_ADDRESS_BYTES;
    if (b->tr->open(&args, &b->ctx) || b->tr->address(b->ctx, b->s->address[b->rank], &b->s->address_len[b->rank]))
        die("open");
    meet(b->s);
    for (int i = 0; i < 2; i++)
        peers[i] = (struct mdl_peer){.rank = i, .address = b->s->address[i], .address_len = b->s->address_len[i]};
    if (b->tr->connect_all(b->ctx, peers, mdl_now_ns() + MDL_NS_PER_S, reach)) die("connect_all");
    for (int i = 0; i < 4; i++) b->reqs[i] = calloc(1, b->tr->request_size);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {0, 16 * 1024, 64 * 1024, MIB, 4 * MIB, 32 * MIB};
    int rounds = argc > 1 ? atoi(argv[1]) : 7, pair[MAX_SOCKETS][2];
    struct side b = {.sockets = argc > 2 ? atoi(argv[2]) : 2};
    if (rounds < 1 || rounds > MAX_ROUNDS || b.sockets < 1 || b.sockets > MAX_SOCKETS) die("arguments");
    b.s = mmap(NULL, sizeof *b.s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < b.sockets; i++) connect_pair(pair[i]);
    pid_t child = fork();
    b.rank = child == 0;
    for (int i = 0; i < b.sockets; i++) b.fds[i] = pair[i][b.rank];
    b.buf = malloc(64 * MIB);
    memset(b.buf, 1, 64 * MIB);
    open_transport(&b);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) compare_ways(&b, sizes[i], rounds);
    b.tr->close(b.ctx);
    if (child) waitpid(child, NULL, 0);
    return 0;
}
