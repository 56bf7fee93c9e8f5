/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rank of this host that can be reached, from the handover to its end, which the end of the channel that was dialled
 * to it shows. A peer that closed in order has said so in its front page before.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct mdl_shm_peer *mdl_shm_peer_new(struct mdl_shm *s, int rank, const struct mdl_shm_address *a)
{
    struct mdl_shm_peer *p = calloc(1, sizeof(*p));
    if (!p) return NULL;
    p->ctx = s;
    p->rank = rank;
    p->told_pid = a->pid;
    p->nonce = a->nonce;
    p->probe = a->probe;
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
        if (p->out) munmap(p->out, p->out_layout.region_bytes);
        if (p->front && !p->front_view.base) munmap(p->front, p->out_layout.front_bytes);
        mdl_arena_leave(&p->front_view);
        mdl_shm_bells_put(p->bells);
    }
    mdl_shm_yard_put(p->yard);
    for (int i = 0; p->answer.there && i < MDL_SHM_REPLY_FDS; i++)
        if (p->answer.fds[i] >= 0) close(p->answer.fds[i]);
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

static void departed(struct mdl_shm_peer *p)
{
    struct mdl_shm *s = p->ctx;
    /* Pairs with mdl_shm_home_end in the peer, which comes before its channels are closed. */
    bool left = atomic_load_explicit(&p->front->state, memory_order_acquire) == MDL_SHM_CLOSED;
    atomic_store_explicit(&p->fate, left ? MDL_SHM_LEFT : MDL_SHM_DIED, memory_order_release);
    if (!left) {
        char why[96];
        snprintf(why, sizeof(why), "rank %d (pid %u) died", p->rank, p->told_pid);
        if (s->args.peer_lost) s->args.peer_lost(s->args.engine, p->rank, medleyRemoteError, why);
    }
    mdl_shm_home_departed(s->home);
}

void mdl_shm_peer_ended(struct mdl_shm_peer *p)
{
    if (p->watched) departed(p);
}

void mdl_shm_peer_watch(struct mdl_shm_peer *p)
{
    struct mdl_shm *s = p->ctx;
    p->watched = true;
    if (!p->channel) {
        departed(p); /* it has ended meanwhile */
    } else if (!mdl_channel_watched(p->channel) && p->pid != getpid() && mdl_shm_note(s, MDL_SHM_NOTE_PIDFD)) {
        MDL_INFO(MDL_SHM,
                 "rank %d: no pidfd of rank %d (pid %u)%s; its death is noticed by its socket's end, unless a child of "
                 "it holds that open",
                 s->args.rank, p->rank, p->told_pid, p->pid > 0 ? "" : ": its process is in another PID namespace");
    }
}

/* To a rank of another process, whose channel may stay open for other communicators. */
static void tell_closed(struct mdl_shm_peer *p)
{
    atomic_fetch_add_explicit(&p->front->departures, 1, memory_order_release); /* pairs with count_departures */
    mdl_shm_wake(p);
}

static void end_watches(void *arg)
{
    struct mdl_shm *s = arg;
    for (int r = 0; r < s->args.nranks; r++) {
        struct mdl_shm_peer *p = mdl_shm_peer(s, r);
        if (!p || p->same_process) continue;
        mdl_shm_ring_there(p); /* before the link goes */
        mdl_shm_link_end(p);
    }
    mdl_shm_drop_guests(s);
    mdl_reactor_unpost(mdl_door_reactor(s->door), &s->settle_task);
}

void mdl_shm_peers_close(struct mdl_shm *s)
{
    for (int r = 0; s->peers && r < s->args.nranks; r++) {
        struct mdl_shm_peer *p = mdl_shm_peer(s, r);
        if (p && !p->same_process) tell_closed(p);
    }
    if (s->door) mdl_reactor_call(mdl_door_reactor(s->door), end_watches, s);
    for (int r = 0; s->peers && r < s->args.nranks; r++) {
        struct mdl_shm_peer *p = mdl_shm_peer(s, r);
        if (!p) continue;
        if (p->same_process) mdl_shm_home_departed(p->home);
        atomic_store_explicit(&s->peers[r], NULL, memory_order_relaxed);
        mdl_shm_peer_free(p);
    }
}
