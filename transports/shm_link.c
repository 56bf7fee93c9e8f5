/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The asker's side of the handover between two processes of a host, on the authenticated abstract Unix socket that it
 * dialled: HELLO yields the other's ring segment and eventfd, SEGMENT the descriptor of one of its shareable segments.
 *
 * Descriptors ride with the first byte of an answer, and a reader never asks for more bytes than the answer in hand has
 * left, so that it gets no other answer's descriptors.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { POLL_MS = 20 };

medleyResult_t mdl_shm_ask(struct mdl_shm_peer *p, const struct mdl_shm_query *q)
{
    uint8_t bytes[MDL_SHM_QUERY_BYTES];
    mdl_shm_query_write(q, bytes);
    ssize_t n;
    do n = send(p->link_fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof(bytes)) return medleySuccess;
    if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
        return mdl_error(medleyRemoteError, "rank %d: rank %d (pid %u) was asked for shared memory, and is gone",
                         p->ctx->args.rank, p->rank, p->told_pid);
    return mdl_system_error(n < 0 ? errno : EPIPE, "rank %d: asking rank %d (pid %u) for shared memory",
                            p->ctx->args.rank, p->rank, p->told_pid);
}

static void close_fds(int *fds)
{
    for (int i = 0; i < MDL_SHM_REPLY_FDS; i++) {
        if (fds[i] >= 0) close(fds[i]);
        fds[i] = -1;
    }
}

/* Keeps the descriptors that came with a piece of an answer; closes those too many. */
static void take_fds(struct msghdr *msg, int *fds)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            int slot = 0;
            while (slot < MDL_SHM_REPLY_FDS && fds[slot] >= 0) slot++;
            if (slot < MDL_SHM_REPLY_FDS)
                fds[slot] = fd;
            else
                close(fd);
        }
    }
}

/* Reads up to `len` bytes of an answer: their number, 0 at the end of the stream, or -1 with errno. */
static ssize_t receive_piece(int fd, uint8_t *bytes, size_t len, int *fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * MDL_SHM_REPLY_FDS)];
    } control;
    struct iovec iov = {.iov_base = bytes, .iov_len = len};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    do n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0) take_fds(&msg, fds);
    return n;
}

/* Waits for the next bytes in short sleeps, so that an abort is seen. */
static medleyResult_t await_bytes(struct mdl_shm_peer *p, uint64_t deadline_ns)
{
    struct pollfd pfd = {.fd = p->link_fd, .events = POLLIN};
    for (;;) {
        uint64_t now = mdl_now_ns();
        int ms = now >= deadline_ns ? 0 : POLL_MS;
        if (ms > 0 && deadline_ns - now < (uint64_t)ms * MDL_NS_PER_MS)
            ms = (int)((deadline_ns - now) / MDL_NS_PER_MS) + 1;
        int n = poll(&pfd, 1, ms);
        if (n > 0) return medleySuccess;
        if (mdl_shm_told_to_stop(p->ctx)) return mdl_guard_refuse();
        if (n < 0 && errno != EINTR)
            return mdl_system_error(errno, "rank %d: waiting for rank %d", p->ctx->args.rank, p->rank);
        if (now >= deadline_ns)
            return mdl_error(medleyTimeout,
                             "rank %d: rank %d (pid %u) did not answer a question about shared memory in time; is it "
                             "stopped?",
                             p->ctx->args.rank, p->rank, p->told_pid);
    }
}

static medleyResult_t hear_one(struct mdl_shm_peer *p, uint64_t deadline_ns, struct mdl_shm_reply *r, int *fds)
{
    uint8_t bytes[MDL_SHM_REPLY_BYTES];
    for (size_t have = 0; have < sizeof(bytes);) {
        MDL_TRY(await_bytes(p, deadline_ns));
        ssize_t n = receive_piece(p->link_fd, bytes + have, sizeof(bytes) - have, fds);
        if (n < 0 && errno == EAGAIN) continue;
        if (n <= 0)
            return mdl_error(medleyRemoteError, "rank %d: rank %d (pid %u) ended the shared-memory link%s%s",
                             p->ctx->args.rank, p->rank, p->told_pid, n < 0 ? ": " : "", n < 0 ? strerror(errno) : "");
        have += (size_t)n;
    }
    uint32_t got = 0;
    bool good = mdl_shm_reply_read(bytes, r);
    while (got < MDL_SHM_REPLY_FDS && fds[got] >= 0) got++;
    if (good && r->nfds == got) return medleySuccess;
    return mdl_error(good ? medleySystemError : medleyRemoteError,
                     "rank %d: a bad answer of rank %d (pid %u) about shared memory: %u descriptors of %u came (is the "
                     "limit of open files reached? raise `ulimit -n`)",
                     p->ctx->args.rank, p->rank, p->told_pid, got, good ? r->nfds : 0);
}

medleyResult_t mdl_shm_hear(struct mdl_shm_peer *p, uint64_t seq, uint64_t deadline_ns, struct mdl_shm_reply *r,
                            int *fds)
{
    for (;;) {
        for (int i = 0; i < MDL_SHM_REPLY_FDS; i++) fds[i] = -1;
        medleyResult_t result = hear_one(p, deadline_ns, r, fds);
        if (result == medleySuccess && r->seq == seq) return result;
        close_fds(fds); /* an answer that came after its question was given up */
        if (result != medleySuccess) return result;
    }
}
