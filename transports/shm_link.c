/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handover between two processes of a host, over an authenticated abstract Unix socket: the dialler asks, the
 * owner's monitor thread answers. HELLO yields the owner's ring segment and eventfd, SEGMENT the descriptor of one of
 * its shareable segments. Questions and answers have fixed sizes; docs/wire.md has their bytes. Descriptors ride with
 * the first byte of an answer, and a reader never asks for more bytes than the answer in hand has left, so that it gets
 * no other answer's descriptors.
 *
 * A guest is a peer's socket at the owner's side. Nothing of it blocks: a guest that asks without reading its answers
 * is dropped.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC = 0x4d48534d, HANDOVER_VERSION = 1, POLL_MS = 20 }; /* "MSHM" */

struct guest {
    struct mdl_list link;
    struct mdl_watch watch;
    struct mdl_shm *ctx;
    int rank;
    size_t have;
    uint8_t query[MDL_SHM_QUERY_BYTES];
};

/* ---- bytes ---- */

static void write_head(struct mdl_writer *w, uint16_t type)
{
    mdl_write_u32(w, MAGIC);
    mdl_write_u16(w, HANDOVER_VERSION);
    mdl_write_u16(w, type);
}

static bool read_head(struct mdl_reader *r, uint16_t *type)
{
    uint32_t magic = mdl_read_u32(r);
    uint16_t version = mdl_read_u16(r);
    *type = mdl_read_u16(r);
    return magic == MAGIC && version == HANDOVER_VERSION;
}

void mdl_shm_query_write(const struct mdl_shm_query *q, uint8_t bytes[MDL_SHM_QUERY_BYTES])
{
    struct mdl_writer w = {.p = bytes, .cap = MDL_SHM_QUERY_BYTES};
    write_head(&w, q->type);
    mdl_write_u64(&w, q->seq);
    mdl_write_u64(&w, q->segment);
    mdl_write_u64(&w, q->check);
}

bool mdl_shm_query_read(const uint8_t bytes[MDL_SHM_QUERY_BYTES], struct mdl_shm_query *q)
{
    struct mdl_reader r = {.p = bytes, .left = MDL_SHM_QUERY_BYTES};
    if (!read_head(&r, &q->type)) return false;
    q->seq = mdl_read_u64(&r);
    q->segment = mdl_read_u64(&r);
    q->check = mdl_read_u64(&r);
    return q->type == MDL_SHM_ASK_HELLO || q->type == MDL_SHM_ASK_SEGMENT;
}

void mdl_shm_reply_write(const struct mdl_shm_reply *r, uint8_t bytes[MDL_SHM_REPLY_BYTES])
{
    struct mdl_writer w = {.p = bytes, .cap = MDL_SHM_REPLY_BYTES};
    write_head(&w, r->type);
    mdl_write_u16(&w, r->status);
    mdl_write_u16(&w, 0);
    mdl_write_u32(&w, r->nfds);
    mdl_write_u64(&w, r->seq);
    mdl_write_u64(&w, r->len);
    mdl_write_u64(&w, r->region);
    mdl_write_u64(&w, r->nonce);
    mdl_write_u32(&w, r->ring_bytes);
    mdl_write_u32(&w, r->bulk_slots);
    mdl_write_u32(&w, r->bulk_bytes);
    mdl_write_u32(&w, r->gone);
}

bool mdl_shm_reply_read(const uint8_t bytes[MDL_SHM_REPLY_BYTES], struct mdl_shm_reply *r)
{
    struct mdl_reader rd = {.p = bytes, .left = MDL_SHM_REPLY_BYTES};
    if (!read_head(&rd, &r->type)) return false;
    r->status = mdl_read_u16(&rd);
    mdl_read_u16(&rd);
    r->nfds = mdl_read_u32(&rd);
    r->seq = mdl_read_u64(&rd);
    r->len = mdl_read_u64(&rd);
    r->region = mdl_read_u64(&rd);
    r->nonce = mdl_read_u64(&rd);
    r->ring_bytes = mdl_read_u32(&rd);
    r->bulk_slots = mdl_read_u32(&rd);
    r->bulk_bytes = mdl_read_u32(&rd);
    r->gone = mdl_read_u32(&rd);
    return r->nfds <= MDL_SHM_REPLY_FDS;
}

void mdl_shm_address_write(const struct mdl_shm_address *a, struct mdl_writer *w)
{
    static const uint8_t none[MDL_ADDR_WIRE_BYTES];
    write_head(w, 0);
    mdl_write_u64(w, a->nonce);
    mdl_write_u64(w, a->host_id);
    mdl_write_u64(w, a->probe);
    mdl_write_u32(w, a->pid);
    mdl_write_u32(w, a->uid);
    mdl_write_u32(w, a->page);
    if (a->door.len > 0)
        mdl_addr_write(w, &a->door);
    else
        mdl_write_bytes(w, none, sizeof(none));
}

bool mdl_shm_address_read(const uint8_t *bytes, size_t len, struct mdl_shm_address *a)
{
    struct mdl_reader r = {.p = bytes, .left = len};
    uint16_t type;
    *a = (struct mdl_shm_address){0};
    if (!read_head(&r, &type)) return false;
    a->nonce = mdl_read_u64(&r);
    a->host_id = mdl_read_u64(&r);
    a->probe = mdl_read_u64(&r);
    a->pid = mdl_read_u32(&r);
    a->uid = mdl_read_u32(&r);
    a->page = mdl_read_u32(&r);
    if (r.bad || r.left < MDL_ADDR_WIRE_BYTES) return false;
    bool none = r.p[0] == 0;
    return none || mdl_addr_read(&r, &a->door) == medleySuccess;
}

/* ---- the asker ---- */

medleyResult_t mdl_shm_ask(struct mdl_shm_peer *p, const struct mdl_shm_query *q)
{
    uint8_t bytes[MDL_SHM_QUERY_BYTES];
    mdl_shm_query_write(q, bytes);
    ssize_t n;
    do n = send(p->link_fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof(bytes)) return medleySuccess;
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

/* ---- the owner's side ---- */

static void guest_drop(struct guest *g)
{
    mdl_reactor_unwatch(mdl_door_reactor(g->ctx->door), &g->watch);
    mdl_list_remove(&g->link);
    close(g->watch.fd);
    free(g);
}

static bool answer(struct guest *g, const struct mdl_shm_reply *r, const int *fds)
{
    uint8_t bytes[MDL_SHM_REPLY_BYTES];
    mdl_shm_reply_write(r, bytes);
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * MDL_SHM_REPLY_FDS)];
    } control = {0};
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (r->nfds > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * r->nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * r->nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * r->nfds);
    }
    ssize_t n;
    do n = sendmsg(g->watch.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(bytes))
        MDL_INFO(MDL_SHM, "rank %d: could not answer rank %d: %s", g->ctx->args.rank, g->rank,
                 n < 0 ? strerror(errno) : "cut short");
    return n == (ssize_t)sizeof(bytes);
}

pid_t mdl_shm_socket_pid(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 ? cred.pid : 0;
}

static bool answer_hello(struct guest *g, uint64_t seq)
{
    struct mdl_shm_home *h = g->ctx->home;
    struct mdl_shm_reply r = {.type = MDL_SHM_ASK_HELLO, .seq = seq, .nonce = h->nonce};
    r.status = h->fd < 0 ? MDL_SHM_NO_SEGMENT : MDL_SHM_OK;
    if (r.status == MDL_SHM_OK && (r.region = mdl_shm_home_region(h, g->rank)) == 0) r.status = MDL_SHM_NO_ROOM;
    if (r.status != MDL_SHM_OK) return answer(g, &r, NULL);
    mdl_shm_yama_allow(g->ctx, mdl_shm_socket_pid(g->watch.fd)); /* before it tries */
    r.nfds = 2;
    r.len = h->len;
    r.ring_bytes = h->layout.ring_bytes;
    r.bulk_slots = h->layout.bulk_slots;
    r.bulk_bytes = h->layout.bulk_bytes;
    return answer(g, &r, (int[]){h->fd, h->event_fd});
}

/* A descriptor of one of this process's segments, or -1. */
static int segment_fd(struct mdl_shm *s, uint64_t segment)
{
    return segment != 0 && s->args.segment_fd ? s->args.segment_fd(segment) : -1;
}

bool mdl_shm_segment_gone(struct mdl_shm *s, uint64_t segment)
{
    int fd = segment_fd(s, segment);
    if (fd >= 0) close(fd);
    return fd < 0;
}

static bool answer_segment(struct guest *g, const struct mdl_shm_query *q)
{
    struct mdl_shm_reply r = {.type = MDL_SHM_ASK_SEGMENT, .seq = q->seq, .status = MDL_SHM_NO_SEGMENT};
    r.gone = q->check != 0 && mdl_shm_segment_gone(g->ctx, q->check);
    int fd = segment_fd(g->ctx, q->segment);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        r.status = MDL_SHM_OK;
        r.nfds = 1;
        r.len = (uint64_t)st.st_size;
    }
    bool good = answer(g, &r, &fd);
    if (fd >= 0) close(fd);
    return good;
}

static bool guest_asked(struct guest *g)
{
    struct mdl_shm_query q;
    g->have = 0;
    if (!mdl_shm_query_read(g->query, &q)) {
        MDL_WARN(MDL_SHM, "rank %d: rank %d asked in a way that is not understood", g->ctx->args.rank, g->rank);
        return false;
    }
    return q.type == MDL_SHM_ASK_HELLO ? answer_hello(g, q.seq) : answer_segment(g, &q);
}

static void guest_ready(struct mdl_watch *w, uint32_t events)
{
    struct guest *g = mdl_container_of(w, struct guest, watch);
    ssize_t n = recv(w->fd, g->query + g->have, sizeof(g->query) - g->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) g->have += (size_t)n;
    bool keep = n > 0 && (g->have < sizeof(g->query) || guest_asked(g));
    if (!keep) guest_drop(g);
}

void mdl_shm_on_link(void *ctx, const struct mdl_link *link)
{
    struct mdl_shm *s = ctx;
    bool known = link->peer_rank >= 0 && link->peer_rank < s->args.nranks && link->peer_rank != s->args.rank;
    struct guest *g = known ? calloc(1, sizeof(*g)) : NULL;
    if (!g) goto close_fd;
    g->ctx = s;
    g->rank = link->peer_rank;
    g->watch = (struct mdl_watch){.fd = link->fd, .fn = guest_ready};
    mdl_list_append(&s->guests, &g->link);
    if (mdl_reactor_watch(mdl_door_reactor(s->door), &g->watch, EPOLLIN) == medleySuccess) return;
    mdl_list_remove(&g->link);
    free(g);
close_fd:
    close(link->fd);
}

void mdl_shm_drop_guests(struct mdl_shm *s)
{
    mdl_list_each (it, &s->guests) guest_drop(mdl_container_of(it, struct guest, link));
}
