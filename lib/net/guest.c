/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests: accepted connections that still have to prove themselves.
 *
 * Each has a deadline and counts against the cap. Who must go when the cap is reached: the oldest of those that have
 * not shown a tag that is served here (scanners, half-open connections); only if there are none, the oldest of the
 * others. Nobody goes in the time that an honest client needs, 50 ms for a hello and 1 s for a proof: the next ones
 * wait in the kernel's queue instead. So neither a flood from outside nor a crowd of real clients displaces a real
 * client.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/net/trunk.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { STRANGER_GRACE_MS = 50, KNOWN_GRACE_MS = 1000 };

struct guest {
    struct mdl_list link; /* strangers or known */
    struct mdl_watch watch;      /* of its socket, */
    struct mdl_channel *channel; /* or it is one; its trunk is no guest any more */
    struct mdl_timer deadline;
    uint64_t since_ns;
    struct mdl_listener *at;
    struct mdl_service *service; /* found by the hello */
    uint8_t hello[MDL_AUTH_HELLO_BYTES]; /* kept while it waits for a service */
    struct mdl_auth auth;
};

/* Forgets the guest; the descriptor or channel is left to the caller. */
static void release(struct guest *g)
{
    struct mdl_door *door = g->at->door;
    if (!g->channel) mdl_reactor_unwatch(door->reactor, &g->watch);
    mdl_reactor_timer_cancel(door->reactor, &g->deadline);
    mdl_list_remove(&g->link);
    if (g->channel)
        g->channel->trunk->nguests--;
    else
        door->nguests--;
    mdl_auth_fini(&g->auth);
    free(g);
}

static void drop(struct guest *g)
{
    int fd = g->watch.fd;
    struct mdl_channel *channel = g->channel;
    release(g);
    if (channel)
        mdl_channel_close(channel);
    else
        close(fd);
}

/* Says why at a level that fits: noise of the network at INFO, what an operator must know at WARN, but not more often
 * than once a second. */
static void drop_saying(struct guest *g, bool grave, const char *why)
{
    struct mdl_door *door = g->at->door;
    struct mdl_addr local, remote;
    char text[MDL_ADDR_TEXT_BYTES];
    uint64_t now = mdl_now_ns();
    if (g->channel) {
        snprintf(text, sizeof(text), "process %d", (int)mdl_channel_pid(g->channel));
    } else {
        mdl_sock_ends(g->watch.fd, &local, &remote);
        mdl_addr_format(&remote, text);
    }
    if (grave && (!door->warned_ns || now - door->warned_ns >= MDL_NS_PER_S)) {
        door->warned_ns = now;
        MDL_WARN(MDL_NET, "connection from %s refused: %s", text, why);
    } else {
        MDL_INFO(MDL_NET, "connection from %s closed: %s", text, why);
    }
    drop(g);
}

static void drop_failed(struct guest *g)
{
    char why[160];
    const struct mdl_auth *a = &g->auth;
    switch (a->failure) {
    case MDL_AUTH_UNKNOWN: drop_saying(g, false, "nobody here serves its communicator, purpose and rank"); break;
    case MDL_AUTH_BAD_PROOF: drop_saying(g, true, "it does not know the communicator's key"); break;
    case MDL_AUTH_VERSION_REFUSED:
        snprintf(why, sizeof(why), "rank %d speaks wire versions %u..%u, this build %u..%u: upgrade one side",
                 a->peer_rank, a->peer_min, a->peer_max, a->min, a->max);
        drop_saying(g, true, why);
        break;
    default: drop_saying(g, false, "not a Medley handshake");
    }
}

static bool lookup(void *ctx, const struct mdl_auth_query *query, struct mdl_secret *secret, int *rank)
{
    struct guest *g = ctx;
    struct mdl_door *door = g->at->door;
    struct mdl_auth_query asked = *query;
    if (asked.share && g->at->addr.sa.ss_family != AF_UNIX) return false;
    asked.share |= g->channel != NULL;
    g->service = mdl_door_find(door, &asked);
    if (!g->service) return false;
    *secret = g->service->secret;
    *rank = g->service->rank;
    if (g->channel) return true;
    mdl_list_remove(&g->link);
    mdl_list_append(&door->known, &g->link);
    return true;
}

/* Hands the connection over. The callback comes last: it may do anything to the door's services. */
static void welcome(struct guest *g)
{
    struct mdl_service *service = g->service;
    struct mdl_link link = {.fd = g->watch.fd, .peer_rank = g->auth.peer_rank, .version = g->auth.version};
    struct mdl_listener *at = g->at;
    struct mdl_channel *channel = g->channel;
    bool share = g->auth.share;
    release(g);
    if (channel) {
        mdl_trunk_fill_link(channel->trunk, channel, &link);
    } else if (share) {
        if (mdl_trunk_accept(at, link.fd, &link) != medleySuccess) return; /* reported */
    } else {
        mdl_sock_ends(link.fd, &link.local, &link.remote);
    }
    memcpy(link.local.ifname, at->addr.ifname, sizeof(link.local.ifname));
    link.local.mbps = at->addr.mbps;
    link.local.loopback = at->addr.loopback;
    service->on_link(service->ctx, &link);
}

static int shake(struct guest *g)
{
    if (!g->channel) return mdl_sock_shake(g->watch.fd, &g->auth);
    mdl_channel_shake(g->channel, &g->auth);
    return 0;
}

static void go_on(struct guest *g)
{
    int err = shake(g);
    if (err)
        drop_saying(g, false, err == MDL_SOCK_EOF ? "it hung up before it had proved itself" : strerror(err));
    else if (g->auth.state == MDL_AUTH_DONE)
        welcome(g);
    else if (g->auth.state == MDL_AUTH_FAILED)
        drop_failed(g);
    else if (g->channel)
        return; /* its next message comes by itself */
    else if (mdl_reactor_watch(g->at->door->reactor, &g->watch, mdl_sock_events(&g->auth)) != medleySuccess)
        drop(g);
}

static void on_ready(struct mdl_watch *w, uint32_t events) { go_on(mdl_container_of(w, struct guest, watch)); }

static void on_deadline(struct mdl_timer *t)
{
    drop_saying(mdl_container_of(t, struct guest, deadline), false, "it has not proved itself in time");
}

static struct guest *new_guest(struct mdl_listener *at)
{
    struct mdl_door *door = at->door;
    struct guest *g = calloc(1, sizeof(*g));
    if (!g) return NULL;
    g->at = at;
    g->watch.fd = -1;
    g->deadline.fn = on_deadline;
    g->since_ns = mdl_now_ns();
    mdl_reactor_timer(door->reactor, &g->deadline, g->since_ns + (uint64_t)door->cfg.auth_timeout * MDL_NS_PER_MS);
    mdl_auth_server_init(&g->auth, MDL_WIRE_VERSION_MIN, MDL_WIRE_VERSION, lookup, g, NULL);
    return g;
}

void mdl_guest_admit(struct mdl_listener *at, int fd)
{
    struct mdl_door *door = at->door;
    struct guest *g = new_guest(at);
    if (!g) {
        close(fd);
        return;
    }
    g->watch.fd = fd;
    g->watch.fn = on_ready;
    mdl_sock_tune(fd, at->addr.sa.ss_family);
    mdl_list_append(&door->strangers, &g->link);
    door->nguests++;
    go_on(g);
}

/* ---- on a trunk ---- */

static void feed(struct guest *g, const uint8_t *bytes, size_t len)
{
    if (mdl_channel_feed(&g->auth, bytes, len) || g->auth.state == MDL_AUTH_FAILED)
        go_on(g);
    else
        drop_saying(g, false, "it said more than the handshake");
}

static void on_data(void *ctx, const uint8_t *bytes, size_t len, int *fds, int nfds)
{
    for (int i = 0; i < nfds; i++) close(fds[i]);
    feed(ctx, bytes, len);
}

static void on_end(void *ctx, int err, const char *why)
{
    drop_saying(ctx, false, "it hung up before it had proved itself");
}

/* Has nobody here called for this yet, and does the client like to wait? */
static bool must_wait(struct mdl_door *door, const uint8_t *hello, size_t len)
{
    struct mdl_auth_query query;
    return mdl_auth_peek(hello, len, &query) && query.patient && !mdl_door_find(door, &query);
}

/* A member of a new communicator that is later than the others finds their knocks, instead of having them knock again
 * and again. They wait as long as a handshake may take. */
void mdl_guest_served(struct mdl_door *door)
{
    mdl_list_each (it, &door->waiting) {
        struct guest *g = mdl_container_of(it, struct guest, link);
        if (must_wait(door, g->hello, sizeof(g->hello))) continue;
        mdl_list_remove(&g->link);
        mdl_list_append(&door->shared, &g->link);
        feed(g, g->hello, sizeof(g->hello));
    }
}

/* Who opens it has proved itself for another link: it counts against the trunk's cap and displaces nobody. */
void mdl_guest_admit_channel(struct mdl_trunk *t, struct mdl_channel *c, const uint8_t *hello, size_t len)
{
    static const struct mdl_channel_use use = {on_data, on_end};
    struct guest *g = new_guest(t->at);
    if (!g) {
        mdl_channel_close(c);
        return;
    }
    g->channel = c;
    t->nguests++;
    mdl_channel_use(c, &use, g);
    if (must_wait(t->door, hello, len)) {
        memcpy(g->hello, hello, len);
        mdl_list_append(&t->door->waiting, &g->link);
    } else {
        mdl_list_append(&t->door->shared, &g->link);
        feed(g, hello, len);
    }
}

/* Drops the oldest of a list, if it has had its time. */
static bool drop_oldest(struct mdl_list *list, uint64_t grace_ms, bool grave)
{
    if (mdl_list_empty(list)) return false;
    struct guest *oldest = mdl_container_of(list->next, struct guest, link);
    if (mdl_now_ns() - oldest->since_ns < grace_ms * MDL_NS_PER_MS) return false;
    drop_saying(oldest, grave, "too many half-open connections; MEDLEY_AUTH_PENDING is their limit");
    return true;
}

bool mdl_guest_make_room(struct mdl_door *door)
{
    if (door->nguests < door->cfg.auth_pending) return true;
    if (drop_oldest(&door->strangers, STRANGER_GRACE_MS, false)) return true;
    return mdl_list_empty(&door->strangers) && drop_oldest(&door->known, KNOWN_GRACE_MS, true);
}

static void drop_of(struct mdl_list *list, const struct mdl_service *service)
{
    mdl_list_each (it, list) {
        struct guest *g = mdl_container_of(it, struct guest, link);
        if (!service || g->service == service) drop(g);
    }
}

void mdl_guest_drop_all(struct mdl_door *door, const struct mdl_service *service)
{
    drop_of(&door->strangers, service);
    drop_of(&door->known, service);
    drop_of(&door->shared, service);
    drop_of(&door->waiting, service);
}
