/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rank of this host that can be reached, from the handover to its end. While it is there the monitor waits for the
 * end of the socket that was dialled to it, and of its process by its pidfd: PID namespaces defeat one, forked children
 * that hold the socket the other. A peer that closed in order has said so in its front page before.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

struct mdl_shm_peer *mdl_shm_peer_new(struct mdl_shm *s, int rank, const struct mdl_shm_address *a)
{
    struct mdl_shm_peer *p = calloc(1, sizeof(*p));
    if (!p) return NULL;
    p->ctx = s;
    p->rank = rank;
    p->told_pid = a->pid;
    p->nonce = a->nonce;
    p->probe = a->probe;
    p->event_fd = p->link_fd = p->pid_fd = -1;
    mdl_list_init(&p->maps);
    mdl_list_init(&p->bulk_out);
    mdl_list_init(&p->bulk_in);
    mdl_list_init(&p->bulk_out_active);
    mdl_list_init(&p->bulk_in_active);
    for (int i = 0; i < MDL_MAX_CHANNELS; i++) {
        p->tx[i].peer = p->rx[i].peer = p;
        p->tx[i].channel = p->rx[i].channel = (uint32_t)i;
        mdl_list_init(&p->tx[i].active);
        mdl_list_init(&p->tx[i].pending);
        mdl_list_init(&p->tx[i].waiting);
        mdl_list_init(&p->rx[i].active);
        mdl_list_init(&p->rx[i].posted);
    }
    return p;
}

void mdl_shm_peer_free(struct mdl_shm_peer *p)
{
    mdl_shm_unmap_all(p);
    if (p->home) {
        mdl_shm_home_put(p->home);
    } else {
        if (p->front) munmap(p->front, p->out_layout.front_bytes);
        if (p->out) munmap(p->out, p->out_layout.region_bytes);
        if (p->event_fd >= 0) close(p->event_fd);
    }
    if (p->link_fd >= 0) close(p->link_fd);
    if (p->pid_fd >= 0) close(p->pid_fd);
    free(p);
}

/* Both directions have a place: the peer counts from now on. */
bool mdl_shm_peer_publish(struct mdl_shm_peer *p)
{
    struct mdl_shm *s = p->ctx;
    uint64_t region = mdl_shm_home_region(s->home, p->rank);
    if (region == 0) return false;
    p->in = (char *)s->home->base + region;
    mdl_shm_probe_peer(p);
    atomic_store_explicit(&s->peers[p->rank], p, memory_order_release); /* pairs with mdl_shm_peer */
    s->npeers++;
    MDL_TRACE(MDL_SHM, "rank %d: rank %d (pid %u) is in this host: %s", s->args.rank, p->rank, p->told_pid,
              p->can_get ? "single copy" : "slots");
    return true;
}

/* ---- death watch: monitor's thread ---- */

static void unwatch(struct mdl_shm_peer *p)
{
    struct mdl_reactor *r = mdl_door_reactor(p->ctx->door);
    if (p->end_watch.fn) mdl_reactor_unwatch(r, &p->end_watch);
    if (p->pid_watch.fn) mdl_reactor_unwatch(r, &p->pid_watch);
    p->end_watch.fn = p->pid_watch.fn = NULL;
}

static void peer_ended(struct mdl_shm_peer *p)
{
    struct mdl_shm *s = p->ctx;
    unwatch(p);
    /* Pairs with mdl_shm_home_end in the peer, which comes before its sockets are closed. */
    bool left = atomic_load_explicit(&p->front->state, memory_order_acquire) == MDL_SHM_CLOSED;
    atomic_store_explicit(&p->fate, left ? MDL_SHM_LEFT : MDL_SHM_DIED, memory_order_release);
    if (!left) {
        char why[96];
        snprintf(why, sizeof(why), "rank %d (pid %u) died", p->rank, p->told_pid);
        if (s->args.peer_lost) s->args.peer_lost(s->args.engine, p->rank, medleyRemoteError, why);
    }
    mdl_shm_home_departed(s->home);
}

static void socket_ended(struct mdl_watch *w, uint32_t events)
{
    if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) peer_ended(mdl_container_of(w, struct mdl_shm_peer, end_watch));
}

static void process_ended(struct mdl_watch *w, uint32_t events)
{
    peer_ended(mdl_container_of(w, struct mdl_shm_peer, pid_watch));
}

void mdl_shm_peer_open_pidfd(struct mdl_shm_peer *p)
{
    struct mdl_shm *s = p->ctx;
    p->pid_fd = p->pid > 0 ? (int)syscall(SYS_pidfd_open, p->pid, 0u) : -1;
    if (p->pid_fd < 0 && mdl_shm_note(s, MDL_SHM_NOTE_PIDFD))
        MDL_INFO(
            MDL_SHM,
            "rank %d: no pidfd of rank %d (pid %u): %s; its death is noticed by its socket's end, unless a child of "
            "it holds that open",
            s->args.rank, p->rank, p->told_pid,
            p->pid > 0 ? strerror(errno) : "its process is in another PID namespace");
}

void mdl_shm_peer_watch(struct mdl_shm_peer *p)
{
    struct mdl_reactor *r = mdl_door_reactor(p->ctx->door);
    p->end_watch = (struct mdl_watch){.fd = p->link_fd, .fn = socket_ended};
    if (mdl_reactor_watch(r, &p->end_watch, EPOLLRDHUP) != medleySuccess) p->end_watch.fn = NULL;
    p->pid_watch = (struct mdl_watch){.fd = p->pid_fd, .fn = process_ended};
    if (p->pid_fd < 0 || mdl_reactor_watch(r, &p->pid_watch, EPOLLIN) != medleySuccess) p->pid_watch.fn = NULL;
}

static void end_watches(void *arg)
{
    struct mdl_shm *s = arg;
    for (int r = 0; r < s->args.nranks; r++) {
        struct mdl_shm_peer *p = mdl_shm_peer(s, r);
        if (p && !p->same_process) unwatch(p);
    }
    mdl_shm_drop_guests(s);
}

void mdl_shm_peers_close(struct mdl_shm *s)
{
    if (s->door) mdl_reactor_call(mdl_door_reactor(s->door), end_watches, s);
    for (int r = 0; s->peers && r < s->args.nranks; r++) {
        struct mdl_shm_peer *p = mdl_shm_peer(s, r);
        if (!p) continue;
        if (p->same_process) mdl_shm_home_departed(p->home);
        atomic_store_explicit(&s->peers[r], NULL, memory_order_relaxed);
        mdl_shm_peer_free(p);
    }
}
