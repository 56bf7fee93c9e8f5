/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signs of life.
 *
 * Every interval a rank sends a BEAT to its tree neighbours, and one that wants an answer to the other ranks that it
 * watches, or that have not said that its messages came. Whatever a peer sends is a sign of life. If this thread itself
 * was late (the process was stopped, the machine suspended), everybody gets a new term: the silence was ours.
 *
 * Of processes of this host, to which the link is a Unix socket, the end shows at once in a pidfd, even where a forked
 * child keeps their end of the socket open. Shared connections watch for it themselves (lib/net/trunk.c).
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/ctl.h"
#include "lib/net/sock.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/* ---- heartbeats ---- */

static void tell_silence(struct mdl_ctl_peer *p)
{
    char why[120];
    snprintf(why, sizeof(why), "no sign of life for %.3g s (stopped, or the network is cut)",
             (double)p->ctl->cfg.dead_after / 1000);
    mdl_peer_lost(p, why);
}

static void look_after(struct mdl_ctl_peer *p, uint64_t now)
{
    struct mdl_ctl *ctl = p->ctl;
    bool linked = p->out || p->dialed || p->linked, wanted = mdl_peer_is_wanted(p);
    if (mdl_peer_gone(p) || (!wanted && !p->dialed)) return;
    if (linked && now > p->heard_ns && now - p->heard_ns > (uint64_t)ctl->cfg.dead_after * MDL_NS_PER_MS)
        tell_silence(p);
    else
        mdl_resume_watch(p, now);
    if (mdl_peer_gone(p) || !wanted || p->resuming || (p->linked && !p->out)) return;
    if (!p->out || mdl_wire_idle(p->out)) /* what waits there is a sign of life too */
        mdl_peer_beat(p, p->neighbour && !p->watched ? 0 : MDL_FRAME_ANSWER);
}

static uint64_t interval_ns(const struct mdl_ctl *ctl)
{
    int64_t ms = ctl->cfg.heartbeat < ctl->cfg.dead_after / 4 ? ctl->cfg.heartbeat : ctl->cfg.dead_after / 4;
    return (uint64_t)(ms ? ms : 1) * MDL_NS_PER_MS;
}

static void forgive_all(struct mdl_ctl *ctl, uint64_t now)
{
    mdl_list_each (it, &ctl->known) mdl_container_of(it, struct mdl_ctl_peer, link)->heard_ns = now;
}

static void on_beat(struct mdl_timer *timer)
{
    struct mdl_ctl *ctl = mdl_container_of(timer, struct mdl_ctl, beat);
    uint64_t now = mdl_now_ns(), interval = interval_ns(ctl);
    if (now - ctl->beat.due_ns > (uint64_t)ctl->cfg.dead_after * MDL_NS_PER_MS / 2) {
        MDL_WARN(MDL_BOOT, "rank %u: this process did not run for %.1f s", ctl->rank,
                 (double)(now - ctl->beat.due_ns) / 1e9);
        forgive_all(ctl, now);
    }
    mdl_list_each (it, &ctl->known) look_after(mdl_container_of(it, struct mdl_ctl_peer, link), now);
    if (!ctl->closing) mdl_reactor_timer(ctl->reactor, &ctl->beat, now + interval);
}

void mdl_beat_start(struct mdl_ctl *ctl)
{
    uint32_t list[1 + MDL_TREE_ARITY];
    int n = mdl_tree_neighbours(ctl->rank, ctl->nranks, list);
    for (int i = 0; i < n; i++) mdl_peer_get(ctl, list[i]);
    ctl->beat.fn = on_beat;
    mdl_reactor_timer(ctl->reactor, &ctl->beat, mdl_now_ns() + interval_ns(ctl));
}

void mdl_beat_stop(struct mdl_ctl *ctl) { mdl_reactor_timer_cancel(ctl->reactor, &ctl->beat); }

/* ---- processes of this host ---- */

static void on_exit_of(struct mdl_watch *watch, uint32_t events)
{
    struct mdl_ctl_peer *p = mdl_container_of(watch, struct mdl_ctl_peer, pid_watch);
    char why[80];
    snprintf(why, sizeof(why), "its process %d has ended", p->pid);
    mdl_beat_unwatch_process(p);
    /* A goodbye may still be in the sockets. */
    while (p->out && !mdl_wire_read_now(p->out)) {}
    while (p->fresh && !mdl_wire_read_now(p->fresh)) {} /* may become `in` */
    while (p->in && !mdl_wire_read_now(p->in)) {}
    if (!mdl_peer_gone(p)) mdl_peer_lost(p, why);
}

void mdl_beat_watch_process(struct mdl_ctl_peer *p, int fd)
{
    if (p->pid_watch.fd >= 0) return;
    int pidfd = mdl_sock_pidfd(fd, &p->pid);
    if (pidfd < 0) return;
    p->pid_watch.fd = pidfd;
    p->pid_watch.fn = on_exit_of;
    if (mdl_reactor_watch(p->ctl->reactor, &p->pid_watch, EPOLLIN) != medleySuccess) mdl_beat_unwatch_process(p);
}

void mdl_beat_unwatch_process(struct mdl_ctl_peer *p)
{
    if (p->pid_watch.fd < 0) return;
    mdl_reactor_unwatch(p->ctl->reactor, &p->pid_watch);
    close(p->pid_watch.fd);
    p->pid_watch.fd = -1;
}
