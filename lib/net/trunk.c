/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trunks: their life, and what they receive. See channel.h.
 *
 * A trunk may be ended and freed inside any of its channels' callbacks, so what calls back holds it (`busy`), and the
 * last holder frees it. The end is told to each channel once, after all that the other side had sent before it.
 */
#include "config.h"
#include "lib/net/trunk.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_ROOM = 4096, READ_BUDGET = 256 * 1024 };

static struct mdl_reactor *reactor(const struct mdl_trunk *t) { return t->door->reactor; }

/* ---- life ---- */

void mdl_trunk_hold(struct mdl_trunk *t) { t->busy++; }

void mdl_trunk_let_go(struct mdl_trunk *t)
{
    if (--t->busy > 0 || !t->closed) return;
    free(t->in);
    free(t);
}

static void close_fds(int *fds, int n)
{
    for (int i = 0; i < n; i++) close(fds[i]);
}

/* The descriptors go; channels may be left, which are told or closed by their owners. */
static void shut(struct mdl_trunk *t)
{
    t->ended = true;
    mdl_reactor_timer_cancel(reactor(t), &t->fail_timer);
    mdl_trunk_drop_out(t);
    if (t->watch.fd >= 0) {
        mdl_reactor_unwatch(reactor(t), &t->watch);
        close(t->watch.fd);
        t->watch.fd = -1;
    }
    if (t->pid_watch.fd >= 0) {
        mdl_reactor_unwatch(reactor(t), &t->pid_watch);
        close(t->pid_watch.fd);
        t->pid_watch.fd = -1;
    }
    for (int i = 0; i < t->nbatches; i++) close_fds(t->batches[i].fds, t->batches[i].n);
    t->nbatches = 0;
}

/* Without channels nobody knows it any more. */
static void destroy(struct mdl_trunk *t)
{
    if (t->closed) return;
    mdl_trunk_hold(t);
    shut(t);
    t->closed = true;
    mdl_reactor_unpost(reactor(t), &t->fail_task);
    mdl_list_remove(&t->link);
    mdl_trunk_let_go(t);
}

void mdl_trunk_unused(struct mdl_trunk *t)
{
    if (t->nchannels > 0 || t->closed) return;
    if (t->ended || (!t->at && t->ready && mdl_list_empty(&t->out))) destroy(t);
}

/* Each callback may close any channel, so every turn begins anew. */
static struct mdl_channel *next_to_tell(const struct mdl_trunk *t)
{
    for (int b = 0; b < MDL_TRUNK_BUCKETS; b++)
        mdl_list_each (it, &t->channels[b]) {
            struct mdl_channel *c = mdl_container_of(it, struct mdl_channel, link);
            if (c->use) return c;
        }
    return NULL;
}

static void tell_end(struct mdl_trunk *t, int err, const char *why)
{
    mdl_trunk_hold(t);
    for (struct mdl_channel *c; (c = next_to_tell(t));) {
        const struct mdl_channel_use *use = c->use;
        c->use = NULL;
        use->on_end(c->ctx, err, why);
    }
    mdl_trunk_unused(t);
    mdl_trunk_let_go(t);
}

static void end(struct mdl_trunk *t, int err, const char *why)
{
    if (t->ended) return;
    shut(t);
    tell_end(t, err, why);
}

static void end_errno(struct mdl_trunk *t, int err)
{
    char text[160], reason[96];
    snprintf(text, sizeof(text), "connection closed (%s): the process died", strerror_r(err, reason, sizeof(reason)));
    end(t, err, text);
}

static void on_failed_making(struct mdl_task *task)
{
    struct mdl_trunk *t = mdl_container_of(task, struct mdl_trunk, fail_task);
    tell_end(t, EAGAIN, "the connection that it shares was not made");
}

static void on_event(struct mdl_watch *w, uint32_t events);
static void on_exit_of(struct mdl_watch *w, uint32_t events);
static void on_fail_timer(struct mdl_timer *timer);

static struct mdl_trunk *new_trunk(struct mdl_door *door)
{
    struct mdl_trunk *t = calloc(1, sizeof(*t));
    if (!t) return NULL;
    t->door = door;
    t->watch = (struct mdl_watch){.fd = -1, .fn = on_event};
    t->pid_watch = (struct mdl_watch){.fd = -1, .fn = on_exit_of};
    t->fail_timer.fn = on_fail_timer;
    t->fail_task.fn = on_failed_making;
    t->next_id = 1;
    mdl_list_init(&t->out);
    for (int b = 0; b < MDL_TRUNK_BUCKETS; b++) mdl_list_init(&t->channels[b]);
    mdl_list_append(&door->trunks, &t->link);
    return t;
}

void mdl_trunks_close(struct mdl_door *door)
{
    mdl_list_each (it, &door->trunks) {
        struct mdl_trunk *t = mdl_container_of(it, struct mdl_trunk, link);
        mdl_list_remove(it); /* the door will not be there */
        shut(t);
        tell_end(t, 0, "this process has closed its door"); /* frees it: all on it had ended */
    }
}

/* ---- making ---- */

struct mdl_trunk *mdl_trunk_find(struct mdl_door *door, const struct mdl_addr *to)
{
    mdl_list_each (it, &door->trunks) {
        struct mdl_trunk *t = mdl_container_of(it, struct mdl_trunk, link);
        if (!t->at && !t->ended && !t->send_errno && t->next_id < UINT32_MAX && t->remote.len == to->len &&
            !memcmp(&t->remote.sa, &to->sa, to->len))
            return t;
    }
    return NULL;
}

struct mdl_trunk *mdl_trunk_begin(struct mdl_door *door, const struct mdl_addr *to)
{
    struct mdl_trunk *t = new_trunk(door);
    if (t) t->remote = *to;
    return t;
}

/* Those that queue on it hear of it soon, not inside of what their neighbour does. */
void mdl_trunk_abandon(struct mdl_trunk *t)
{
    if (!t) return;
    shut(t);
    if (t->nchannels > 0)
        mdl_reactor_post(reactor(t), &t->fail_task);
    else
        destroy(t);
}

void mdl_trunk_fill_link(const struct mdl_trunk *t, struct mdl_channel *c, struct mdl_link *link)
{
    link->fd = -1;
    link->channel = c;
    link->local = t->local;
    link->remote = t->remote;
}

static medleyResult_t start(struct mdl_trunk *t, int fd, struct mdl_link *link)
{
    struct mdl_addr ignored;
    struct mdl_channel *c = mdl_channel_new(t, 0);
    t->watch.fd = fd;
    if (!c) return mdl_system_error(ENOMEM, "no memory for a connection");
    c->opened = true;
    mdl_sock_ends(fd, &t->local, t->at ? &t->remote : &ignored);
    mdl_trunk_fill_link(t, c, link);
    MDL_TRY(mdl_reactor_watch(reactor(t), &t->watch, EPOLLIN));
    t->ready = true;
    t->pid_watch.fd = mdl_sock_pidfd(fd, &t->pid);
    if (t->pid_watch.fd >= 0 && mdl_reactor_watch(reactor(t), &t->pid_watch, EPOLLIN) != medleySuccess) {
        close(t->pid_watch.fd);
        t->pid_watch.fd = -1;
    }
    return medleySuccess;
}

medleyResult_t mdl_trunk_ready(struct mdl_trunk *t, int fd, struct mdl_link *link)
{
    medleyResult_t result = start(t, fd, link);
    if (result != medleySuccess) {
        if (link->channel) mdl_channel_close(link->channel);
        link->channel = NULL;
        mdl_trunk_abandon(t);
        return result;
    }
    mdl_trunk_flush(t);
    return medleySuccess;
}

medleyResult_t mdl_trunk_accept(struct mdl_listener *at, int fd, struct mdl_link *link)
{
    struct mdl_trunk *t = new_trunk(at->door);
    if (!t) {
        close(fd);
        return mdl_system_error(ENOMEM, "no memory for a connection");
    }
    t->at = at;
    medleyResult_t result = start(t, fd, link);
    if (result == medleySuccess) return medleySuccess;
    shut(t);
    if (link->channel)
        mdl_channel_close(link->channel); /* the last one: it takes the trunk with it */
    else
        destroy(t);
    return result;
}

/* ---- receiving ---- */

static bool make_room(struct mdl_trunk *t, size_t need)
{
    if (need <= t->in_room) return true;
    size_t room = need < FIRST_ROOM ? FIRST_ROOM : need;
    uint8_t *bigger = realloc(t->in, room);
    if (!bigger) return false;
    t->in = bigger;
    t->in_room = room;
    return true;
}

struct frame {
    uint32_t channel;
    uint8_t type;
    int nfds;
    size_t len;
};

static bool read_head(const uint8_t *p, struct frame *f)
{
    f->channel = mdl_get_u32(p);
    f->type = p[4];
    f->nfds = p[5];
    f->len = mdl_get_u32(p + 8);
    return f->type >= MDL_TRUNK_OPEN && f->type <= MDL_TRUNK_END && f->nfds <= MDL_CHANNEL_FDS &&
           f->len <= MDL_CHANNEL_MAX;
}

/* A batch may have fewer than announced: this process had no descriptors left. */
static int take_batch(struct mdl_trunk *t, const struct frame *f, int *fds)
{
    if (f->nfds == 0 || t->nbatches == 0) return 0;
    struct mdl_trunk_batch first = t->batches[0];
    t->nbatches--;
    memmove(t->batches, t->batches + 1, sizeof(t->batches[0]) * (size_t)t->nbatches);
    int n = first.n < f->nfds ? first.n : f->nfds;
    memcpy(fds, first.fds, sizeof(int) * (size_t)n);
    close_fds(first.fds + n, first.n - n);
    return n;
}

/* The other side opens one. Its handshake is the first message. */
static bool open_channel(struct mdl_trunk *t, const struct frame *f, const uint8_t *payload)
{
    if (!t->at || f->channel < t->next_id) return false;
    t->next_id = f->channel + 1;
    struct mdl_channel *c = mdl_channel_new(t, f->channel);
    if (!c) {
        end_errno(t, ENOMEM);
        return true;
    }
    c->opened = true;
    if (t->nguests < MDL_TRUNK_GUESTS)
        mdl_guest_admit_channel(t, c, payload, f->len);
    else
        mdl_channel_close(c);
    return true;
}

static void end_channel(struct mdl_channel *c)
{
    const struct mdl_channel_use *use = c->use;
    c->use = NULL;
    if (use) use->on_end(c->ctx, 0, "connection closed");
}

/* What comes for a channel that was closed here was under way. */
static bool take_frame(struct mdl_trunk *t, const struct frame *f, const uint8_t *payload)
{
    int fds[MDL_CHANNEL_FDS], n = take_batch(t, f, fds);
    struct mdl_channel *c = f->type == MDL_TRUNK_OPEN ? NULL : mdl_channel_find(t, f->channel);
    if (c && c->use && f->type == MDL_TRUNK_DATA) {
        c->use->on_data(c->ctx, payload, f->len, fds, n);
        return true;
    }
    close_fds(fds, n);
    if (f->type == MDL_TRUNK_OPEN) return open_channel(t, f, payload);
    if (c && f->type == MDL_TRUNK_END) end_channel(c);
    return true;
}

static void nonsense(struct mdl_trunk *t)
{
    MDL_WARN(MDL_NET, "process %d sent what is no message: the connection was closed", (int)t->pid);
    end(t, EPROTO, "it sent what is no message: the connection was closed");
}

/* Hands over the complete frames; *need: bytes of the one that is not complete yet. */
static void take_frames(struct mdl_trunk *t, size_t *need)
{
    size_t at = 0;
    struct frame f;
    *need = MDL_TRUNK_HEAD;
    while (!t->ended && t->in_len - at >= MDL_TRUNK_HEAD) {
        bool good = read_head(t->in + at, &f);
        *need = MDL_TRUNK_HEAD + f.len;
        if (good && t->in_len - at < *need) break;
        at += *need;
        *need = MDL_TRUNK_HEAD;
        if (!good || !take_frame(t, &f, t->in + at - f.len)) {
            nonsense(t);
            return;
        }
    }
    if (t->ended) return;
    if (at) memmove(t->in, t->in + at, t->in_len - at);
    t->in_len -= at;
}

/* Of each recvmsg at most one batch: the kernel ends it with the bytes that they rode with. */
static bool keep_batch(struct mdl_trunk *t, struct msghdr *msg)
{
    struct mdl_trunk_batch batch = {0};
    bool any = msg->msg_flags & MSG_CTRUNC;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        any = true;
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (batch.n < MDL_CHANNEL_FDS)
                batch.fds[batch.n++] = fd;
            else
                close(fd);
        }
    }
    if (!any) return true;
    if (t->nbatches < MDL_TRUNK_BATCHES) {
        t->batches[t->nbatches++] = batch;
        return true;
    }
    close_fds(batch.fds, batch.n);
    return false;
}

/* *all: it took what there was, as far as the kernel tells. */
static ssize_t receive(struct mdl_trunk *t, bool *good, bool *all)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * MDL_CHANNEL_FDS)];
    } control;
    struct iovec iov = {.iov_base = t->in + t->in_len, .iov_len = t->in_room - t->in_len};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(t->watch.fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    *good = n <= 0 || keep_batch(t, &msg);
    /* Descriptors end a recvmsg before its room does. */
    *all = n > 0 && (size_t)n < iov.iov_len && !CMSG_FIRSTHDR(&msg) && !(msg.msg_flags & MSG_CTRUNC);
    return n;
}

/* One recvmsg and what it completes. false: nothing more now. */
static bool read_some(struct mdl_trunk *t, size_t *budget)
{
    size_t need = MDL_TRUNK_HEAD;
    bool good, all;
    if (t->in_len >= t->in_room && !make_room(t, FIRST_ROOM)) {
        end_errno(t, ENOMEM);
        return false;
    }
    ssize_t n = receive(t, &good, &all);
    if (n < 0 && errno == EINTR) return true;
    if (n < 0 && errno == EAGAIN) return false;
    if (n < 0) {
        end_errno(t, errno);
        return false;
    }
    if (n == 0) {
        end(t, MDL_CHANNEL_DIED, "connection closed: the process died");
        return false;
    }
    t->in_len += (size_t)n;
    *budget -= (size_t)n < *budget ? (size_t)n : *budget;
    if (good)
        take_frames(t, &need);
    else
        nonsense(t);
    if (!t->ended && !make_room(t, need)) end_errno(t, ENOMEM);
    return !t->ended && *budget && !all;
}

static void read_now(struct mdl_trunk *t)
{
    size_t budget = READ_BUDGET;
    while (!t->ended && read_some(t, &budget)) {}
    while (!t->ended && t->send_errno && budget && read_some(t, &budget)) {} /* to the very end */
    if (!t->ended && t->send_errno && budget) end_errno(t, t->send_errno);
}

static void on_event(struct mdl_watch *w, uint32_t events)
{
    struct mdl_trunk *t = mdl_container_of(w, struct mdl_trunk, watch);
    mdl_trunk_hold(t);
    if (events & EPOLLOUT) mdl_trunk_flush(t);
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) read_now(t);
    mdl_trunk_unused(t);
    mdl_trunk_let_go(t);
}

static void on_fail_timer(struct mdl_timer *timer)
{
    struct mdl_trunk *t = mdl_container_of(timer, struct mdl_trunk, fail_timer);
    mdl_trunk_hold(t);
    read_now(t);
    mdl_trunk_let_go(t);
}

/* What it said last may still be in the socket, whose end a forked child may hold open. */
static void on_exit_of(struct mdl_watch *w, uint32_t events)
{
    struct mdl_trunk *t = mdl_container_of(w, struct mdl_trunk, pid_watch);
    char why[80];
    size_t budget;
    mdl_trunk_hold(t);
    do budget = SIZE_MAX;
    while (!t->ended && read_some(t, &budget));
    snprintf(why, sizeof(why), "its process %d has ended", (int)t->pid);
    end(t, MDL_CHANNEL_DIED, why);
    mdl_trunk_let_go(t);
}
