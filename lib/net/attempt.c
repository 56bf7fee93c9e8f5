/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One address of a dial: connect, shake hands, and after a failure that can pass wait 20 to 200 ms and begin again.
 * Connecting and shaking together have the door's time limit, so that neither a swallowed packet nor a silent server
 * holds an attempt for ever.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/net/dial_part.h"
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BACKOFF_MS = 20, BACKOFF_MAX_MS = 200, HANGUP_TRIES = 4 };

/* How a failure counts. */
enum kind {
    PASSING, /* tried again until the deadline */
    HANGUP,  /* tried again until the deadline with retry_refused, else a few times: it may just have been busy */
    REFUSED, /* tried again with retry_refused */
    SHORT,   /* of descriptors: strangers at the door may hold them, until their handshakes run out of time */
    FINAL
};

void mdl_attempt_close(struct mdl_attempt *a, enum mdl_attempt_state state)
{
    struct mdl_reactor *r = a->dial->reactor;
    mdl_reactor_timer_cancel(r, &a->timer);
    if (a->state == MDL_ATTEMPT_CONNECTING || a->state == MDL_ATTEMPT_SHAKING) {
        if (a->watch.fd >= 0) {
            mdl_reactor_unwatch(r, &a->watch);
            close(a->watch.fd);
        }
        mdl_auth_fini(&a->auth);
    }
    struct mdl_channel *channel = a->channel;
    a->channel = NULL;
    a->watch.fd = -1;
    mdl_channel_close(channel);
    mdl_trunk_abandon(a->trunk);
    a->trunk = NULL;
    a->state = state;
}

static uint64_t auth_ns(const struct mdl_dial *d) { return (uint64_t)d->door->cfg.auth_timeout * MDL_NS_PER_MS; }

static bool try_again(const struct mdl_attempt *a, enum kind kind)
{
    if (kind == PASSING) return true;
    if (kind == FINAL) return false;
    if (kind == SHORT) return mdl_now_ns() - a->dial->since_ns < 2 * auth_ns(a->dial);
    return a->dial->retry_refused || (kind == HANGUP && a->tries < HANGUP_TRIES);
}

/* May end the dial: the caller must not touch it afterwards. */
static void fail_attempt(struct mdl_attempt *a, enum kind kind, const char *why)
{
    struct mdl_dial *d = a->dial;
    if (why != a->why) snprintf(a->why, sizeof(a->why), "%s", why);
    if (try_again(a, kind)) {
        uint64_t wait_ms = (uint64_t)a->backoff_ms / 2 + randombytes_uniform((uint32_t)a->backoff_ms / 2 + 1);
        mdl_attempt_close(a, MDL_ATTEMPT_WAITING);
        a->backoff_ms = a->backoff_ms * 2 < BACKOFF_MAX_MS ? a->backoff_ms * 2 : BACKOFF_MAX_MS;
        mdl_reactor_timer(d->reactor, &a->timer, mdl_now_ns() + wait_ms * MDL_NS_PER_MS);
    } else {
        mdl_attempt_close(a, MDL_ATTEMPT_FAILED);
    }
    mdl_dial_lost(d);
}

static enum kind kind_of(int err)
{
    switch (err) {
    case EAGAIN: /* an abstract Unix listener whose queue is full */
    case ETIMEDOUT: return PASSING;
    case MDL_SOCK_EOF:
    case EPIPE:
    case ECONNRESET: return HANGUP;
    case EMFILE:
    case ENFILE: return SHORT;
    case EACCES:
    case EPERM:
    case EINVAL:
    case EAFNOSUPPORT: return FINAL;
    default: return REFUSED;
    }
}

static void fail_with(struct mdl_attempt *a, int err)
{
    if (err == EMFILE || err == ENFILE) a->dial->code = medleySystemError;
    if (err == MDL_SOCK_EOF || err == ECONNRESET || err == EPIPE)
        snprintf(a->why, sizeof(a->why), "hung up during the handshake: it does not serve %s (yet), or has another key",
                 a->dial->expect_rank >= 0 ? "this rank" : "this communicator");
    else if (err == EMFILE)
        snprintf(a->why, sizeof(a->why), "%s: raise the limit (ulimit -n)", strerror(err));
    else
        snprintf(a->why, sizeof(a->why), "%s", strerror(err));
    fail_attempt(a, kind_of(err), a->why);
}

static void fail_auth(struct mdl_attempt *a)
{
    const struct mdl_auth *auth = &a->auth;
    switch (auth->failure) {
    case MDL_AUTH_VERSION_REFUSED:
        a->dial->code = medleyInvalidUsage;
        mdl_dial_only(a); /* proved by its MAC: other addresses of the same process cannot help */
        snprintf(a->why, sizeof(a->why), "rank %d speaks wire versions %u..%u, this build %u..%u: upgrade one side",
                 auth->peer_rank, auth->peer_min, auth->peer_max, auth->min, auth->max);
        fail_attempt(a, FINAL, a->why);
        break;
    case MDL_AUTH_WRONG_RANK:
        snprintf(a->why, sizeof(a->why), "rank %d answered instead", auth->peer_rank);
        fail_attempt(a, FINAL, a->why);
        break;
    case MDL_AUTH_BAD_PROOF: fail_attempt(a, FINAL, "it does not know the communicator's key"); break;
    default: fail_attempt(a, FINAL, "not a Medley process");
    }
}

static int exchange(struct mdl_attempt *a)
{
    if (!a->channel) return mdl_sock_shake(a->watch.fd, &a->auth);
    mdl_channel_shake(a->channel, &a->auth);
    return 0;
}

static void shake(struct mdl_attempt *a)
{
    int err = exchange(a);
    if (!err && a->auth.state == MDL_AUTH_ANSWERED) {
        mdl_dial_only(a);
        mdl_auth_prove(&a->auth);
        err = exchange(a);
    }
    if (err)
        fail_with(a, err);
    else if (a->auth.state == MDL_AUTH_DONE)
        mdl_dial_linked(a);
    else if (a->auth.state == MDL_AUTH_FAILED)
        fail_auth(a);
    else if (a->channel)
        return; /* the answer comes by itself */
    else if (mdl_reactor_watch(a->dial->reactor, &a->watch, mdl_sock_events(&a->auth)) != medleySuccess)
        fail_attempt(a, FINAL, mdl_error_text());
}

static void begin_shaking(struct mdl_attempt *a)
{
    const struct mdl_dial *d = a->dial;
    struct mdl_auth_client args = {.secret = &d->secret,
                                   .purpose = d->purpose,
                                   .rank = d->rank,
                                   .expect_rank = d->expect_rank,
                                   .min = MDL_WIRE_VERSION_MIN,
                                   .max = MDL_WIRE_VERSION,
                                   .share = a->trunk != NULL,
                                   .patient = a->channel && d->retry_refused};
    a->state = MDL_ATTEMPT_SHAKING;
    mdl_auth_client_init(&a->auth, &args, NULL);
    shake(a);
}

static void on_connected(struct mdl_attempt *a)
{
    int err = mdl_sock_connected(a->watch.fd);
    if (err)
        fail_with(a, err);
    else
        begin_shaking(a);
}

static void on_ready(struct mdl_watch *w, uint32_t events)
{
    struct mdl_attempt *a = mdl_container_of(w, struct mdl_attempt, watch);
    if (a->state == MDL_ATTEMPT_SHAKING)
        shake(a);
    else
        on_connected(a);
}

static void on_timer(struct mdl_timer *t)
{
    struct mdl_attempt *a = mdl_container_of(t, struct mdl_attempt, timer);
    if (a->state == MDL_ATTEMPT_WAITING)
        mdl_attempt_start(a);
    else if (a->state == MDL_ATTEMPT_CONNECTING)
        fail_attempt(a, PASSING, "no answer");
    else
        fail_attempt(a, PASSING, "accepted the connection but did not shake hands in time");
}

static uint32_t *scope_of(struct mdl_addr *a) { return &((struct sockaddr_in6 *)&a->sa)->sin6_scope_id; }

/* A link-local address came without a scope: it is on the link of our own such address. */
static void fill_scope(const struct mdl_dial *d, struct mdl_addr *to)
{
    struct mdl_addr here[MDL_MAX_ADDRS] = {d->bind};
    if (to->sa.ss_family != AF_INET6 || *scope_of(to)) return;
    if (!IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)&to->sa)->sin6_addr)) return;
    int n = d->has_bind ? 1 : mdl_door_addresses(d->door, here);
    for (int i = 0; i < n && !*scope_of(to); i++)
        if (here[i].sa.ss_family == AF_INET6) *scope_of(to) = *scope_of(&here[i]);
}

/* ---- on a trunk ---- */

static void on_data(void *ctx, const uint8_t *bytes, size_t len, int *fds, int nfds)
{
    struct mdl_attempt *a = ctx;
    for (int i = 0; i < nfds; i++) close(fds[i]);
    if (mdl_channel_feed(&a->auth, bytes, len) || a->auth.state == MDL_AUTH_FAILED)
        shake(a);
    else
        fail_attempt(a, FINAL, "it said more than the handshake");
}

static void on_end(void *ctx, int err, const char *why) { fail_with(ctx, err > 0 ? err : MDL_SOCK_EOF); }

static void start_channel(struct mdl_attempt *a, struct mdl_trunk *t)
{
    static const struct mdl_channel_use use = {on_data, on_end};
    struct mdl_dial *d = a->dial;
    a->channel = mdl_channel_open(t, &use, a);
    if (!a->channel) {
        fail_attempt(a, FINAL, strerror(ENOMEM));
        return;
    }
    mdl_reactor_timer(d->reactor, &a->timer, mdl_now_ns() + auth_ns(d));
    begin_shaking(a);
}

/* Without memory for a trunk the link has the connection for itself. */
static bool join_trunk(struct mdl_attempt *a)
{
    struct mdl_dial *d = a->dial;
    if (!d->share || a->addr.sa.ss_family != AF_UNIX) return false;
    struct mdl_trunk *t = mdl_trunk_find(d->door, &a->addr);
    if (t)
        start_channel(a, t);
    else
        a->trunk = mdl_trunk_begin(d->door, &a->addr);
    return t != NULL;
}

void mdl_attempt_start(struct mdl_attempt *a)
{
    struct mdl_dial *d = a->dial;
    int fd = -1;
    a->tries++;
    if (join_trunk(a)) return;
    int err = mdl_sock_connect(&a->addr, d->has_bind ? &d->bind : NULL, &fd);
    if (err && err != EINPROGRESS) {
        fail_with(a, err);
        return;
    }
    a->watch.fd = fd;
    a->state = MDL_ATTEMPT_CONNECTING;
    mdl_reactor_timer(d->reactor, &a->timer, mdl_now_ns() + auth_ns(d));
    if (!err)
        on_connected(a);
    else if (mdl_reactor_watch(d->reactor, &a->watch, EPOLLOUT) != medleySuccess)
        fail_attempt(a, FINAL, mdl_error_text());
}

void mdl_attempt_init(struct mdl_dial *d, const struct mdl_addr *addr, struct mdl_attempt *a)
{
    a->dial = d;
    a->addr = *addr;
    a->watch.fd = -1;
    a->watch.fn = on_ready;
    a->timer.fn = on_timer;
    a->backoff_ms = BACKOFF_MS;
    fill_scope(d, &a->addr);
}
