/* SPDX-License-Identifier: Apache-2.0 */
/* Channels and what they send: see channel.h and trunk.h. A message is one piece of the trunk's queue; it goes to the
 * socket at once where there is room, so the queue is empty but for a peer that does not read. */
#include "config.h"
#include "lib/net/trunk.h"
#include "lib/base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- channels ---- */

static struct mdl_list *bucket(struct mdl_trunk *t, uint32_t id) { return &t->channels[id % MDL_TRUNK_BUCKETS]; }

struct mdl_channel *mdl_channel_find(struct mdl_trunk *t, uint32_t id)
{
    mdl_list_each (it, bucket(t, id)) {
        struct mdl_channel *c = mdl_container_of(it, struct mdl_channel, link);
        if (c->id == id) return c;
    }
    return NULL;
}

struct mdl_channel *mdl_channel_new(struct mdl_trunk *t, uint32_t id)
{
    struct mdl_channel *c = calloc(1, sizeof(*c));
    if (!c) return NULL;
    c->trunk = t;
    c->id = id;
    mdl_list_append(bucket(t, id), &c->link);
    t->nchannels++;
    return c;
}

struct mdl_channel *mdl_channel_open(struct mdl_trunk *t, const struct mdl_channel_use *use, void *ctx)
{
    struct mdl_channel *c = mdl_channel_new(t, t->next_id);
    if (!c) return NULL;
    t->next_id++;
    mdl_channel_use(c, use, ctx);
    return c;
}

void mdl_channel_use(struct mdl_channel *c, const struct mdl_channel_use *use, void *ctx)
{
    c->use = use;
    c->ctx = ctx;
}

struct mdl_channel *mdl_channel_quiet(struct mdl_door *door, const struct mdl_addr *to, const void *connection,
                                      const struct mdl_channel_use *use, void *ctx)
{
    struct mdl_trunk *t = mdl_trunk_find(door, to);
    return t && t->ready && t == connection ? mdl_channel_open(t, use, ctx) : NULL;
}

bool mdl_channel_same_user(const struct mdl_channel *c)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    int fd = c->trunk->watch.fd;
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == geteuid();
}

bool mdl_channel_idle(const struct mdl_channel *c) { return !c->unsent; }
int mdl_channel_unsent(const struct mdl_channel *c) { return c->unsent; }
pid_t mdl_channel_pid(const struct mdl_channel *c) { return c->trunk->pid; }
const void *mdl_channel_connection(const struct mdl_channel *c) { return c->trunk; }
bool mdl_channel_watched(const struct mdl_channel *c) { return c->trunk->pid_watch.fd >= 0; }

/* ---- pieces ---- */

static void uncharge(struct mdl_trunk_piece *p)
{
    /* Relaxed: a limit, not a lock. */
    if (p->charge) atomic_fetch_sub_explicit(p->charge, p->charged, memory_order_relaxed);
    p->charge = NULL;
    if (p->channel) p->channel->unsent--;
    p->channel = NULL;
}

static void drop_piece(struct mdl_trunk_piece *p)
{
    uncharge(p);
    for (int i = 0; i < p->nfds && p->owns_fds; i++) close(p->fds[i]);
    mdl_list_remove(&p->link);
    free(p);
}

void mdl_trunk_drop_out(struct mdl_trunk *t)
{
    mdl_list_each (it, &t->out) drop_piece(mdl_container_of(it, struct mdl_trunk_piece, link));
}

static void write_head(uint8_t head[MDL_TRUNK_HEAD], uint32_t id, int type, int nfds, size_t len)
{
    mdl_put_u32(head, id);
    head[4] = (uint8_t)type;
    head[5] = (uint8_t)nfds;
    mdl_put_u16(head + 6, 0);
    mdl_put_u32(head + 8, (uint32_t)len);
}

static struct mdl_trunk_piece *make_piece(struct mdl_channel *c, int type, const struct mdl_channel_message *m)
{
    size_t payload = m->head_len + m->len;
    struct mdl_trunk_piece *p = calloc(1, sizeof(*p) + MDL_TRUNK_HEAD + payload);
    if (!p) return NULL;
    mdl_list_init(&p->link);
    p->len = MDL_TRUNK_HEAD + payload;
    write_head(p->bytes, c->id, type, m->nfds, payload);
    if (m->head_len) memcpy(p->bytes + MDL_TRUNK_HEAD, m->head, m->head_len);
    if (m->len) memcpy(p->bytes + MDL_TRUNK_HEAD + m->head_len, m->body, m->len);
    for (int i = 0; i < m->nfds; i++) p->fds[i] = m->fds[i];
    p->nfds = m->nfds;
    return p;
}

/* ---- to the socket ---- */

/* The descriptors ride with the first byte. */
static ssize_t send_piece(int fd, const struct mdl_trunk_piece *p)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * MDL_CHANNEL_FDS)];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)(p->bytes + p->sent), .iov_len = p->len - p->sent};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (p->nfds > 0 && p->sent == 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)p->nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)p->nfds);
        memcpy(CMSG_DATA(c), p->fds, sizeof(int) * (size_t)p->nfds);
    }
    ssize_t n;
    do n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Not the end yet: the descriptor reports it after what the peer had sent. The timer stands in if it makes none. */
static void send_failed(struct mdl_trunk *t, int err)
{
    t->send_errno = err;
    mdl_trunk_drop_out(t);
    mdl_reactor_timer(t->door->reactor, &t->fail_timer, mdl_now_ns());
}

static void watch_out(struct mdl_trunk *t, bool want)
{
    if (t->watching_out == want || t->ended) return;
    t->watching_out = want;
    if (mdl_reactor_watch(t->door->reactor, &t->watch, EPOLLIN | (want ? EPOLLOUT : 0)) != medleySuccess)
        send_failed(t, EIO);
}

void mdl_trunk_flush(struct mdl_trunk *t)
{
    if (!t->ready) return;
    while (!mdl_list_empty(&t->out) && !t->send_errno) {
        struct mdl_trunk_piece *p = mdl_container_of(t->out.next, struct mdl_trunk_piece, link);
        ssize_t n = send_piece(t->watch.fd, p);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) {
            send_failed(t, errno);
            break;
        }
        p->sent += (size_t)n;
        if (p->sent == p->len) drop_piece(p);
    }
    watch_out(t, !mdl_list_empty(&t->out));
}

/* What could not go at once needs descriptors of its own; mostly it can, even where the process has none left. */
static void keep_fds(struct mdl_trunk *t)
{
    if (mdl_list_empty(&t->out)) return;
    struct mdl_trunk_piece *p = mdl_container_of(t->out.prev, struct mdl_trunk_piece, link);
    int fds[MDL_CHANNEL_FDS], n = 0;
    if (p->owns_fds || p->nfds == 0) return;
    if (p->sent > 0) p->nfds = 0; /* they are gone with the first byte */
    while (n < p->nfds && (fds[n] = fcntl(p->fds[n], F_DUPFD_CLOEXEC, 3)) >= 0) n++;
    int err = n < p->nfds ? errno : 0;
    memcpy(p->fds, fds, sizeof(int) * (size_t)n);
    p->nfds = n;
    p->owns_fds = true;
    if (err) send_failed(t, err);
}

static void send_frame(struct mdl_channel *c, int type, const struct mdl_channel_message *m)
{
    struct mdl_trunk *t = c->trunk;
    struct mdl_trunk_piece *p = t->ended || t->send_errno ? NULL : make_piece(c, type, m);
    if (!p) {
        if (m->charge) atomic_fetch_sub_explicit(m->charge, m->len, memory_order_relaxed);
        if (!t->ended && !t->send_errno) send_failed(t, ENOMEM);
        return;
    }
    p->channel = c;
    p->charge = m->charge;
    p->charged = m->len;
    c->unsent++;
    bool first = mdl_list_empty(&t->out);
    mdl_list_append(&t->out, &p->link);
    if (first) mdl_trunk_flush(t);
    keep_fds(t);
}

void mdl_channel_send(struct mdl_channel *c, const struct mdl_channel_message *m)
{
    int type = c->opened ? MDL_TRUNK_DATA : MDL_TRUNK_OPEN;
    c->opened = true;
    send_frame(c, type, m);
}

void mdl_channel_finish(struct mdl_channel *c)
{
    static const struct mdl_channel_message nothing;
    if (c->finished) return;
    c->finished = true;
    if (c->opened) send_frame(c, MDL_TRUNK_END, &nothing);
}

/* What is under way belongs to the trunk from now on. */
void mdl_channel_close(struct mdl_channel *c)
{
    if (!c) return;
    struct mdl_trunk *t = c->trunk;
    mdl_channel_finish(c);
    mdl_list_each (it, &t->out) {
        struct mdl_trunk_piece *p = mdl_container_of(it, struct mdl_trunk_piece, link);
        if (p->channel == c) uncharge(p);
    }
    mdl_list_remove(&c->link);
    free(c);
    t->nchannels--;
    mdl_trunk_unused(t);
}

/* ---- handshakes ---- */

void mdl_channel_shake(struct mdl_channel *c, struct mdl_auth *auth)
{
    const uint8_t *out;
    size_t len;
    while ((len = mdl_auth_output(auth, &out)) > 0) {
        mdl_channel_send(c, &(struct mdl_channel_message){.head = out, .head_len = len});
        mdl_auth_sent(auth, len);
    }
}

bool mdl_channel_feed(struct mdl_auth *auth, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        uint8_t *room;
        size_t n = mdl_auth_room(auth, &room);
        if (n == 0) return false;
        if (n > len) n = len;
        memcpy(room, bytes, n);
        mdl_auth_got(auth, n);
        bytes += n;
        len -= n;
    }
    return true;
}
