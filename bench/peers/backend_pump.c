/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No library: bare sockets between pairs of ranks, the limit of what goes over TCP. Moves as many bytes as a collective
 * must move over the link between two hosts at least (or between two ranks, over loopback), and does nothing else:
 * nothing is reduced, and what the ranks of a host have in common crosses once, a share by each pair.
 *
 * Rank r of the first half of the ranks listens for rank r + n/2; the port is told by a file in COMPARE_STORE, the
 * address is COMPARE_PARTNER.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker.h"

enum { CHUNK = 1 << 20, SLEEPING = 1 };

static int fd = -1;
static bool first_half;
static int pairs;
static char out[CHUNK], in[CHUNK];

static bool failed(const char *what)
{
    complain("%s: %s", what, strerror(errno));
    return false;
}

static void port_file(int rank, char *path, size_t size)
{
    snprintf(path, size, "%s/port-%d", getenv("COMPARE_STORE"), rank);
}

static bool tell_port(int listener, int rank)
{
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    char path[256], new_path[264];
    FILE *file;

    if (getsockname(listener, (struct sockaddr *)&address, &length)) return failed("getsockname");
    port_file(rank, path, sizeof(path));
    snprintf(new_path, sizeof(new_path), "%s.new", path);
    file = fopen(new_path, "w");
    if (!file || fprintf(file, "%d\n", ntohs(address.sin_port)) < 0 || fclose(file) || rename(new_path, path))
        return failed(path);
    return true;
}

/* As Medley does between near hosts: what bbr paces is no limit of the machine. */
static int open_socket(void)
{
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (sock >= 0) (void)setsockopt(sock, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    return sock;
}

static bool wait_for_partner(const struct world *world)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int listener = open_socket();

    if (inet_pton(AF_INET, getenv("COMPARE_ADDRESS"), &address.sin_addr) != 1) return failed("COMPARE_ADDRESS");
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 1))
        return failed("listen");
    if (!tell_port(listener, world->rank)) return false;
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    return fd >= 0 || failed("accept");
}

static bool find_partner(const struct world *world)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char path[256];
    FILE *file = NULL;
    int port = 0;

    port_file(world->rank - pairs, path, sizeof(path));
    while (!(file = fopen(path, "r"))) usleep(10000); /* the driver's alarm ends this if nobody comes */
    if (fscanf(file, "%d", &port) != 1) port = 0;
    fclose(file);
    address.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, getenv("COMPARE_PARTNER"), &address.sin_addr) != 1) return failed("COMPARE_PARTNER");
    fd = open_socket();
    return (fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address))) || failed("connect");
}

static bool open_pump(struct world *world)
{
    int one = 1;

    if (!getenv("COMPARE_STORE") || !getenv("COMPARE_ADDRESS") || !getenv("COMPARE_PARTNER") || world->nranks % 2) {
        complain("COMPARE_STORE, COMPARE_ADDRESS and COMPARE_PARTNER must be set, and ranks be pairs");
        return false;
    }
    pairs = world->nranks / 2;
    first_half = world->rank < pairs;
    if (!(first_half ? wait_for_partner(world) : find_partner(world))) return false;
    return !setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) || failed("TCP_NODELAY");
}

static void close_pump(void) { close(fd); }

static void tell_version(char *text, size_t size) { snprintf(text, size, "bare sockets"); }

static const char *variants(enum collective collective, enum type type)
{
    (void)collective, (void)type;
    return "polling,sleeping";
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Bytes moved; 0 if the socket would have to be waited for, -1 if it has failed. */
static ssize_t try_one(bool sending, size_t left)
{
    ssize_t n = sending ? send(fd, out, least(left, CHUNK), MSG_DONTWAIT | MSG_NOSIGNAL)
                        : recv(fd, in, least(left, CHUNK), MSG_DONTWAIT);

    if (n > 0) return n;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    failed(sending ? "send" : "recv");
    return -1;
}

static bool move(size_t to_send, size_t to_receive, bool sleeping)
{
    while (to_send || to_receive) {
        ssize_t sent = to_send ? try_one(true, to_send) : 0;
        ssize_t received = to_receive ? try_one(false, to_receive) : 0;
        struct pollfd wanted = {.fd = fd};

        if (sent < 0 || received < 0) return false;
        to_send -= (size_t)sent;
        to_receive -= (size_t)received;
        if (sent || received || !sleeping) continue;
        wanted.events = (short)((to_send ? POLLOUT : 0) | (to_receive ? POLLIN : 0));
        if (poll(&wanted, 1, -1) < 0 && errno != EINTR) return failed("poll");
    }
    return true;
}

static bool barrier(void) { return move(1, 1, true); }

static bool call(const struct job *job)
{
    size_t share = job->bytes / (size_t)pairs, half = share / 2;
    bool sleeping = job->variant == SLEEPING;

    switch (job->collective) {
    case ALLREDUCE: return move(share, share, sleeping);
    case ALLTOALL: return move(job->bytes / 2, job->bytes / 2, sleeping);
    case BROADCAST: return first_half ? move(share, 0, sleeping) : move(0, share, sleeping);
    case REDUCE: return first_half ? move(0, share, sleeping) : move(share, 0, sleeping);
    case SCATTER: return first_half ? move(half, 0, sleeping) : move(0, half, sleeping);
    case GATHER: return first_half ? move(0, half, sleeping) : move(half, 0, sleeping);
    default: return move(half, half, sleeping);
    }
}

const struct backend backend = {
    .unchecked = true,
    .open = open_pump,
    .close = close_pump,
    .version = tell_version,
    .variants = variants,
    .barrier = barrier,
    .call = call,
};
