/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outgoing connections.
 *
 * A dial has one attempt per address. The first starts at once, each next one 300 ms after the one before it or when
 * that fails; an attempt that fails in a way that can pass is made again after 20 to 200 ms, for as long as the
 * deadline allows. All attempts may shake hands at once, but only the first whose server has proved itself sends its
 * own proof: so the server side sees one link, not several of which all but one die.
 *
 * A dial belongs to the reactor's thread from start to cancel. `done` is the last thing that touches it: the callback
 * may free it.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/net/door_part.h"
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/epoll.h>

enum { HEAD_START_MS = 300, BACKOFF_MS = 20, BACKOFF_MAX_MS = 200, HANGUP_TRIES = 4, WHY_BYTES = 2048 };

enum attempt_state { NOT_TRIED, CONNECTING, SHAKING, WAITING, FAILED };

/* How a failure counts. */
enum kind {
    PASSING, /* tried again until the deadline */
    HANGUP,  /* tried again until the deadline with retry_refused, else a few times: it may just have been busy */
    REFUSED, /* tried again with retry_refused */
    FINAL
};

struct attempt {
    enum attempt_state state;
    struct mdl_dial *dial;
    struct mdl_addr addr;
    struct mdl_watch watch;
    struct mdl_timer timer; /* CONNECTING, SHAKING: the attempt's limit; WAITING: the next try */
    struct mdl_auth auth;
    int tries, backoff_ms;
    char why[160]; /* of the last failure */
};

struct mdl_dial {
    struct mdl_door *door;
    struct mdl_reactor *reactor;
    struct mdl_secret secret;
    enum mdl_purpose purpose;
    int rank, expect_rank;
    bool retry_refused, has_bind, finished;
    struct mdl_addr bind;
    uint64_t since_ns, deadline_ns;
    void (*done)(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link);
    void *ctx;
    struct mdl_task begin;
    struct mdl_timer stagger, deadline;
    medleyResult_t code; /* of the failure: the gravest so far */
    int naddrs, next;
    struct attempt attempts[];
};

/* ---- the end ---- */

static void close_attempt(struct attempt *a, enum attempt_state state)
{
    struct mdl_reactor *r = a->dial->reactor;
    mdl_reactor_timer_cancel(r, &a->timer);
    if (a->state == CONNECTING || a->state == SHAKING) {
        mdl_reactor_unwatch(r, &a->watch);
        if (a->watch.fd >= 0) close(a->watch.fd);
        mdl_auth_fini(&a->auth);
    }
    a->watch.fd = -1;
    a->state = state;
}

/* Stops everything; the callback is not called after it. */
static void stop(struct mdl_dial *d)
{
    for (int i = 0; i < d->naddrs; i++) close_attempt(&d->attempts[i], FAILED);
    mdl_reactor_timer_cancel(d->reactor, &d->stagger);
    mdl_reactor_timer_cancel(d->reactor, &d->deadline);
    mdl_reactor_unpost(d->reactor, &d->begin);
    d->finished = true;
}

struct text {
    char *p;
    size_t len, cap;
};

static void append(struct text *t, const char *fmt, ...) MDL_PRINTF(2, 3);
static void append(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->p + t->len, t->cap - t->len, fmt, args);
    va_end(args);
    t->len = t->len + (size_t)n < t->cap ? t->len + (size_t)n : t->cap - 1;
}

static void append_peer(struct text *t, const struct mdl_dial *d)
{
    if (d->expect_rank >= 0)
        append(t, "rank %d", d->expect_rank);
    else
        append(t, "the peer");
}

static const char *why_of(const struct attempt *a)
{
    if (a->why[0]) return a->why;
    return a->state == NOT_TRIED ? "not tried" : "no answer";
}

/* Has an address before `i` failed for the same reason? */
static bool same_as_before(const struct mdl_dial *d, int i)
{
    for (int j = 0; j < i; j++)
        if (!strcmp(why_of(&d->attempts[j]), why_of(&d->attempts[i]))) return true;
    return false;
}

/* " address, address: reason" for the addresses that failed as number `i` did. */
static void append_failure(struct text *t, const struct mdl_dial *d, int i)
{
    char addr[MDL_ADDR_TEXT_BYTES];
    for (int j = i; j < d->naddrs; j++) {
        if (strcmp(why_of(&d->attempts[j]), why_of(&d->attempts[i]))) continue;
        mdl_addr_format(&d->attempts[j].addr, addr);
        append(t, "%s %s", j > i ? "," : "", addr);
    }
    append(t, ": %s", why_of(&d->attempts[i]));
}

/* The advice comes first: a long list of addresses may be cut. */
static void explain(const struct mdl_dial *d, bool late, char why[WHY_BYTES])
{
    struct text t = {why, 0, WHY_BYTES};
    append(&t, "cannot connect to ");
    append_peer(&t, d);
    if (late) append(&t, " within %.1f s", (double)(mdl_now_ns() - d->since_ns) / 1e9);
    if (d->code == medleyRemoteError)
        append(&t, " (does it run, is a firewall between, does MEDLEY_SOCKET_IFNAME pick the right interfaces?)");
    for (int i = 0; i < d->naddrs; i++) {
        if (same_as_before(d, i)) continue;
        append(&t, "%s", i ? ";" : ":");
        append_failure(&t, d, i);
    }
}

static void fail_dial(struct mdl_dial *d, bool late)
{
    char why[WHY_BYTES];
    medleyResult_t code = late && d->code == medleyRemoteError ? medleyTimeout : d->code;
    explain(d, late, why);
    stop(d);
    d->done(d->ctx, code, why, NULL);
}

static void finish(struct attempt *a)
{
    struct mdl_dial *d = a->dial;
    struct mdl_link link = {.fd = a->watch.fd, .peer_rank = a->auth.peer_rank, .version = a->auth.version};
    struct mdl_addr here[MDL_MAX_ADDRS];
    mdl_sock_ends(link.fd, &link.local, &link.remote);
    link.remote.mbps = a->addr.mbps;
    link.remote.loopback = a->addr.loopback;
    for (int i = 0, n = mdl_door_addresses(d->door, here); i < n; i++)
        if (mdl_addr_same_host(&here[i], &link.local)) {
            memcpy(link.local.ifname, here[i].ifname, sizeof(link.local.ifname));
            link.local.mbps = here[i].mbps;
            link.local.loopback = here[i].loopback;
        }
    mdl_reactor_unwatch(d->reactor, &a->watch);
    a->watch.fd = -1; /* the link's now */
    stop(d);
    d->done(d->ctx, medleySuccess, NULL, &link);
}

/* ---- attempts ---- */

static void start_attempt(struct attempt *a);
static void start_next(struct mdl_dial *d);

static bool try_again(const struct attempt *a, enum kind kind)
{
    if (kind == PASSING) return true;
    if (kind == FINAL) return false;
    return a->dial->retry_refused || (kind == HANGUP && a->tries < HANGUP_TRIES);
}

static bool all_failed(const struct mdl_dial *d)
{
    for (int i = 0; i < d->naddrs; i++)
        if (d->attempts[i].state != FAILED) return false;
    return true;
}

/* May end the dial: the caller must not touch it afterwards. */
static void fail_attempt(struct attempt *a, enum kind kind, const char *why)
{
    struct mdl_dial *d = a->dial;
    if (why != a->why) snprintf(a->why, sizeof(a->why), "%s", why);
    if (try_again(a, kind)) {
        uint64_t wait_ms = (uint64_t)a->backoff_ms / 2 + randombytes_uniform((uint32_t)a->backoff_ms / 2 + 1);
        close_attempt(a, WAITING);
        a->backoff_ms = a->backoff_ms * 2 < BACKOFF_MAX_MS ? a->backoff_ms * 2 : BACKOFF_MAX_MS;
        mdl_reactor_timer(d->reactor, &a->timer, mdl_now_ns() + wait_ms * MDL_NS_PER_MS);
    } else {
        close_attempt(a, FAILED);
    }
    if (d->next < d->naddrs)
        start_next(d);
    else if (all_failed(d))
        fail_dial(d, false);
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
    case ENFILE:
    case EACCES:
    case EPERM:
    case EINVAL:
    case EAFNOSUPPORT: return FINAL;
    default: return REFUSED;
    }
}

static void fail_with(struct attempt *a, int err)
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

static void fail_auth(struct attempt *a)
{
    const struct mdl_auth *auth = &a->auth;
    switch (auth->failure) {
    case MDL_AUTH_VERSION_REFUSED:
        a->dial->code = medleyInvalidUsage;
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

/* The server has proved itself: this attempt goes on alone. */
static void win(struct attempt *a)
{
    struct mdl_dial *d = a->dial;
    mdl_reactor_timer_cancel(d->reactor, &d->stagger);
    for (int i = 0; i < d->naddrs; i++)
        if (&d->attempts[i] != a) close_attempt(&d->attempts[i], FAILED);
    d->next = d->naddrs;
    mdl_auth_prove(&a->auth);
}

static void shake(struct attempt *a)
{
    int err = mdl_sock_shake(a->watch.fd, &a->auth);
    if (!err && a->auth.state == MDL_AUTH_ANSWERED) {
        win(a);
        err = mdl_sock_shake(a->watch.fd, &a->auth);
    }
    if (err)
        fail_with(a, err);
    else if (a->auth.state == MDL_AUTH_DONE)
        finish(a);
    else if (a->auth.state == MDL_AUTH_FAILED)
        fail_auth(a);
    else if (mdl_reactor_watch(a->dial->reactor, &a->watch, mdl_sock_events(&a->auth)) != medleySuccess)
        fail_attempt(a, FINAL, mdl_error_text());
}

static void begin_shaking(struct attempt *a)
{
    const struct mdl_dial *d = a->dial;
    struct mdl_auth_client args = {.secret = &d->secret,
                                   .purpose = d->purpose,
                                   .rank = d->rank,
                                   .expect_rank = d->expect_rank,
                                   .min = MDL_WIRE_VERSION_MIN,
                                   .max = MDL_WIRE_VERSION};
    a->state = SHAKING;
    mdl_auth_client_init(&a->auth, &args, NULL);
    shake(a);
}

static void on_connected(struct attempt *a)
{
    int err = mdl_sock_connected(a->watch.fd);
    if (err)
        fail_with(a, err);
    else
        begin_shaking(a);
}

static void on_ready(struct mdl_watch *w, uint32_t events)
{
    struct attempt *a = mdl_container_of(w, struct attempt, watch);
    if (a->state == SHAKING)
        shake(a);
    else
        on_connected(a);
}

static void on_timer(struct mdl_timer *t)
{
    struct attempt *a = mdl_container_of(t, struct attempt, timer);
    if (a->state == WAITING)
        start_attempt(a);
    else if (a->state == CONNECTING)
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

static void start_attempt(struct attempt *a)
{
    struct mdl_dial *d = a->dial;
    int fd = -1;
    a->tries++;
    int err = mdl_sock_connect(&a->addr, d->has_bind ? &d->bind : NULL, &fd);
    if (err && err != EINPROGRESS) {
        fail_with(a, err);
        return;
    }
    a->watch.fd = fd;
    a->state = CONNECTING;
    mdl_reactor_timer(d->reactor, &a->timer, mdl_now_ns() + (uint64_t)d->door->cfg.auth_timeout * MDL_NS_PER_MS);
    if (!err)
        on_connected(a);
    else if (mdl_reactor_watch(d->reactor, &a->watch, EPOLLOUT) != medleySuccess)
        fail_attempt(a, FINAL, mdl_error_text());
}

/* ---- the dial ---- */

static void start_next(struct mdl_dial *d)
{
    struct attempt *a = &d->attempts[d->next++];
    mdl_reactor_timer_cancel(d->reactor, &d->stagger);
    if (d->next < d->naddrs) mdl_reactor_timer(d->reactor, &d->stagger, mdl_now_ns() + HEAD_START_MS * MDL_NS_PER_MS);
    start_attempt(a);
}

static void on_stagger(struct mdl_timer *t) { start_next(mdl_container_of(t, struct mdl_dial, stagger)); }
static void on_deadline(struct mdl_timer *t) { fail_dial(mdl_container_of(t, struct mdl_dial, deadline), true); }

static void begin(struct mdl_task *task)
{
    struct mdl_dial *d = mdl_container_of(task, struct mdl_dial, begin);
    mdl_reactor_timer(d->reactor, &d->deadline, d->deadline_ns);
    start_next(d);
}

static void init_attempt(struct mdl_dial *d, const struct mdl_addr *addr, struct attempt *a)
{
    a->dial = d;
    a->addr = *addr;
    a->watch.fd = -1;
    a->watch.fn = on_ready;
    a->timer.fn = on_timer;
    a->backoff_ms = BACKOFF_MS;
    fill_scope(d, &a->addr);
}

static struct mdl_dial *new_dial(const struct mdl_dial_args *args)
{
    struct mdl_dial *d = calloc(1, sizeof(*d) + (size_t)args->naddrs * sizeof(d->attempts[0]));
    if (!d) return NULL;
    d->door = args->door;
    d->reactor = mdl_door_reactor(args->door);
    d->secret = *args->secret;
    d->purpose = args->purpose;
    d->rank = args->rank;
    d->expect_rank = args->expect_rank;
    d->retry_refused = args->retry_refused;
    d->has_bind = args->bind != NULL;
    if (args->bind) d->bind = *args->bind;
    d->since_ns = mdl_now_ns();
    d->deadline_ns = args->deadline_ns;
    d->begin.fn = begin;
    d->stagger.fn = on_stagger;
    d->deadline.fn = on_deadline;
    d->code = medleyRemoteError;
    d->naddrs = args->naddrs;
    for (int i = 0; i < d->naddrs; i++) init_attempt(d, &args->addrs[i], &d->attempts[i]);
    return d;
}

medleyResult_t mdl_dial_start(const struct mdl_dial_args *args,
                              void (*done)(void *ctx, medleyResult_t result, const char *why,
                                           const struct mdl_link *link),
                              void *ctx, struct mdl_dial **dial)
{
    if (!mdl_reactor_alive(mdl_door_reactor(args->door)))
        return mdl_error(medleyInvalidUsage, "Medley cannot be used in a forked child of a process that uses it");
    if (args->naddrs < 1 || args->naddrs > MDL_MAX_ADDRS)
        return mdl_error(medleyInvalidArgument, "rank %d has %d addresses to connect to: 1 to %d are possible",
                         args->expect_rank, args->naddrs, MDL_MAX_ADDRS);
    struct mdl_dial *d = new_dial(args);
    if (!d) return mdl_system_error(ENOMEM, "cannot connect to rank %d", args->expect_rank);
    d->done = done;
    d->ctx = ctx;
    *dial = d; /* before the post: `done` may come at once */
    mdl_reactor_post(d->reactor, &d->begin);
    return medleySuccess;
}

static void cancel_inside(void *arg)
{
    struct mdl_dial *d = arg;
    stop(d);
    sodium_memzero(&d->secret, sizeof(d->secret));
    free(d);
}

void mdl_dial_cancel(struct mdl_dial *dial)
{
    if (dial) mdl_reactor_call(dial->reactor, cancel_inside, dial);
}
