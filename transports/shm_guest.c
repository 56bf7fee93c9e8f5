/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's side of the handover. A guest is a peer's socket on which it asks; the monitor's thread answers, whatever
 * the application is doing. Nothing of it blocks: a guest that asks without reading its answers is dropped.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

struct guest {
    struct mdl_list link;
    struct mdl_watch watch;
    struct mdl_shm *ctx;
    int rank;
    size_t have;
    uint8_t query[MDL_SHM_QUERY_BYTES];
};

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

/* A descriptor of one of this process's segments, or -1 and errno. */
static int segment_fd(struct mdl_shm *s, uint64_t segment)
{
    if (segment != 0 && s->args.segment_fd) return s->args.segment_fd(segment);
    errno = ENOENT;
    return -1;
}

/* Of a segment that is there, but for which no descriptor is left, the asker must keep its mapping: it may be using it.
 */
bool mdl_shm_segment_gone(struct mdl_shm *s, uint64_t segment)
{
    int fd = segment_fd(s, segment);
    bool gone = fd < 0 && errno == ENOENT;
    if (fd >= 0) close(fd);
    return gone;
}

static bool answer_segment(struct guest *g, const struct mdl_shm_query *q)
{
    struct mdl_shm_reply r = {.type = MDL_SHM_ASK_SEGMENT, .seq = q->seq, .status = MDL_SHM_NO_SEGMENT};
    r.gone = q->check != 0 && mdl_shm_segment_gone(g->ctx, q->check);
    int fd = segment_fd(g->ctx, q->segment);
    struct stat st;
    if (fd < 0 && errno != ENOENT)
        mdl_system_error(errno, "rank %d: no descriptor for rank %d to map a segment", g->ctx->args.rank, g->rank);
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
