/* SPDX-License-Identifier: Apache-2.0 */
/* Socket calls. Options that a kernel or a sandbox refuses are left out silently: they make failures be seen sooner,
 * nothing is wrong without them. */
#include "config.h"
#include "lib/net/sock.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

enum { KEEPALIVE_IDLE_S = 10, KEEPALIVE_INTERVAL_S = 5, KEEPALIVE_PROBES = 3, USER_TIMEOUT_MS = 30000 };

static bool parse_port(const char *text, char end, int *port, const char **rest)
{
    char *stop;
    if (*text < '0' || *text > '9') return false;
    long n = strtol(text, &stop, 10);
    if (*stop != end || n < 1 || n > 65535) return false;
    *port = (int)n;
    *rest = stop + 1;
    return true;
}

medleyResult_t mdl_ports_parse(const char *text, struct mdl_ports *ports)
{
    struct mdl_ports got = {0, 0};
    const char *rest = text;
    bool good = !*text || (parse_port(text, '-', &got.first, &rest) && parse_port(rest, 0, &got.last, &rest)) ||
                parse_port(text, 0, &got.last, &rest);
    if (!got.first) got.first = got.last;
    if (!good || got.first > got.last)
        return mdl_error(medleyInvalidArgument, "MEDLEY_PORT_RANGE=%s: write first-last, each 1 to 65535", text);
    *ports = got;
    return medleySuccess;
}

static void set_int(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

void mdl_sock_congestion_default(char name[MDL_SOCK_CONGESTION_BYTES])
{
    socklen_t len = MDL_SOCK_CONGESTION_BYTES - 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(name, 0, MDL_SOCK_CONGESTION_BYTES);
    if (fd < 0) return;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len) < 0) name[0] = 0;
    close(fd);
}

/* A connection on which bbr was ever in force stays paced by the kernel, by its smoothed round trip, whatever is set
 * later; and after a pause that has the other end's delayed acknowledgement in it, 40 ms. So connections, accepted ones
 * too, begin without it, and those that shall have it get it back (transports/tcp_peer.c). */
static void begin_unpaced(int fd)
{
    char name[MDL_SOCK_CONGESTION_BYTES] = "";
    socklen_t len = sizeof(name) - 1;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len) == 0 && strcmp(name, "bbr") == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

static int new_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && family == AF_INET6) set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (fd >= 0 && family != AF_UNIX) begin_unpaced(fd);
    return fd;
}

static int bind_and_listen(int fd, const struct mdl_addr *a)
{
    if (bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0) return errno;
    if (listen(fd, SOMAXCONN) < 0) return errno;
    return 0;
}

/* A socket whose listen failed stays bound, so each port gets a fresh one. */
static int listen_at(const struct mdl_addr *a, int *out)
{
    int fd = new_socket(a->sa.ss_family);
    if (fd < 0) return errno;
    if (a->sa.ss_family != AF_UNIX) set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    int err = bind_and_listen(fd, a);
    if (err)
        close(fd);
    else
        *out = fd;
    return err;
}

int mdl_sock_listen(struct mdl_addr *a, const struct mdl_ports *ports, int *fd)
{
    int err = EADDRINUSE;
    for (int port = ports->first; port <= ports->last && err == EADDRINUSE; port++) {
        mdl_addr_set_port(a, (uint16_t)port);
        err = listen_at(a, fd);
    }
    if (err) return err;
    socklen_t len = sizeof(a->sa);
    if (a->sa.ss_family != AF_UNIX) getsockname(*fd, (struct sockaddr *)&a->sa, &len);
    return 0;
}

/* The port is chosen when connecting, so that many connections to different peers can share one. */
static int bind_source(int fd, const struct mdl_addr *bind_to)
{
    struct mdl_addr a = *bind_to;
    mdl_addr_set_port(&a, 0);
    set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    return bind(fd, (const struct sockaddr *)&a.sa, a.len) < 0 ? errno : 0;
}

int mdl_sock_connect(const struct mdl_addr *to, const struct mdl_addr *bind_to, int *out)
{
    int err = 0, fd = new_socket(to->sa.ss_family);
    if (fd < 0) return errno;
    mdl_sock_tune(fd, to->sa.ss_family);
    if (bind_to) err = bind_source(fd, bind_to);
    if (!err && connect(fd, (const struct sockaddr *)&to->sa, to->len) < 0) err = errno == EINTR ? EINPROGRESS : errno;
    if (err && err != EINPROGRESS)
        close(fd);
    else
        *out = fd;
    return err;
}

int mdl_sock_connected(int fd)
{
    struct mdl_addr local, remote;
    int err = 0;
    socklen_t len = sizeof(err);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0) return errno;
    if (err) return err;
    mdl_sock_ends(fd, &local, &remote);
    bool self = local.sa.ss_family != AF_UNIX && mdl_addr_same_host(&local, &remote) &&
                mdl_addr_port(&local) == mdl_addr_port(&remote);
    return self ? ECONNREFUSED : 0;
}

void mdl_sock_tune(int fd, int family)
{
    if (family == AF_UNIX) return;
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
}

void mdl_sock_ends(int fd, struct mdl_addr *local, struct mdl_addr *remote)
{
    memset(local, 0, sizeof(*local));
    memset(remote, 0, sizeof(*remote));
    local->len = remote->len = sizeof(local->sa);
    if (getsockname(fd, (struct sockaddr *)&local->sa, &local->len) < 0) local->len = 0;
    if (getpeername(fd, (struct sockaddr *)&remote->sa, &remote->len) < 0) remote->len = 0;
}

int mdl_sock_pidfd(int fd, pid_t *pid)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    int pidfd = -1;
    *pid = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.pid <= 0) return -1;
    *pid = cred.pid;
    if (cred.pid == getpid()) return -1;
    len = sizeof(pidfd);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0) return pidfd;
#ifdef SYS_pidfd_open
    pidfd = (int)syscall(SYS_pidfd_open, cred.pid, 0);
#endif
    return pidfd;
}

/* ---- the handshake on a socket ---- */

enum { PROGRESS = -2, BLOCKED = -3 }; /* beside errno and MDL_SOCK_EOF */

static int write_some(int fd, struct mdl_auth *auth)
{
    const uint8_t *out;
    size_t len = mdl_auth_output(auth, &out);
    if (!len) return BLOCKED;
    ssize_t n = send(fd, out, len, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN ? BLOCKED : errno == EINTR ? PROGRESS : errno;
    mdl_auth_sent(auth, (size_t)n);
    return PROGRESS;
}

static int read_some(int fd, struct mdl_auth *auth)
{
    uint8_t *room;
    size_t len = mdl_auth_room(auth, &room);
    if (!len) return BLOCKED;
    ssize_t n = recv(fd, room, len, 0);
    if (n < 0) return errno == EAGAIN ? BLOCKED : errno == EINTR ? PROGRESS : errno;
    if (n == 0) return MDL_SOCK_EOF;
    mdl_auth_got(auth, (size_t)n);
    return PROGRESS;
}

static bool needs_owner(const struct mdl_auth *auth)
{
    return auth->state == MDL_AUTH_ANSWERED || auth->state == MDL_AUTH_DONE || auth->state == MDL_AUTH_FAILED;
}

int mdl_sock_shake(int fd, struct mdl_auth *auth)
{
    while (!needs_owner(auth)) {
        int wrote = write_some(fd, auth);
        if (wrote == PROGRESS) continue;
        if (wrote != BLOCKED) return wrote;
        int got = read_some(fd, auth);
        if (got == BLOCKED) return 0;
        if (got != PROGRESS) return got;
    }
    return 0;
}

uint32_t mdl_sock_events(const struct mdl_auth *auth)
{
    const uint8_t *out;
    uint32_t events = auth->in_end > auth->in_at ? EPOLLIN : 0;
    return mdl_auth_output(auth, &out) ? events | EPOLLOUT : events;
}
