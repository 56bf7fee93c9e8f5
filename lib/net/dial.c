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
#include "lib/net/dial_part.h"
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

enum { HEAD_START_MS = 300 };

/* ---- the end ---- */

/* Stops everything; the callback is not called after it. */
static void stop(struct mdl_dial *d)
{
    for (int i = 0; i < d->naddrs; i++) mdl_attempt_close(&d->attempts[i], MDL_ATTEMPT_FAILED);
    mdl_reactor_timer_cancel(d->reactor, &d->stagger);
    mdl_reactor_timer_cancel(d->reactor, &d->deadline);
    mdl_reactor_unpost(d->reactor, &d->begin);
}

static void fail_dial(struct mdl_dial *d, bool late)
{
    char why[MDL_DIAL_WHY_BYTES];
    medleyResult_t code = late && d->code == medleyRemoteError ? medleyTimeout : d->code;
    mdl_dial_explain(d, late, why);
    stop(d);
    d->done(d->ctx, code, why, NULL);
}

/* The attempt's connection becomes the link's. */
static bool take_link(struct mdl_attempt *a, struct mdl_link *link)
{
    struct mdl_trunk *t = a->trunk;
    struct mdl_channel *c = a->channel;
    int fd = a->watch.fd;
    a->watch.fd = -1;
    a->trunk = NULL;
    a->channel = NULL;
    if (c) {
        mdl_trunk_fill_link(c->trunk, c, link);
    } else if (t) {
        if (mdl_trunk_ready(t, fd, link) != medleySuccess) {
            a->dial->code = medleySystemError;
            return false;
        }
    } else {
        mdl_sock_ends(fd, &link->local, &link->remote);
    }
    return true;
}

void mdl_dial_linked(struct mdl_attempt *a)
{
    struct mdl_dial *d = a->dial;
    struct mdl_link link = {.fd = a->watch.fd, .peer_rank = a->auth.peer_rank, .version = a->auth.version};
    struct mdl_addr here[MDL_MAX_ADDRS];
    if (a->watch.fd >= 0) mdl_reactor_unwatch(d->reactor, &a->watch);
    if (!take_link(a, &link)) {
        fail_dial(d, false);
        return;
    }
    link.remote.mbps = a->addr.mbps;
    link.remote.loopback = a->addr.loopback;
    for (int i = 0, n = mdl_door_addresses(d->door, here); i < n; i++)
        if (mdl_addr_same_host(&here[i], &link.local)) {
            memcpy(link.local.ifname, here[i].ifname, sizeof(link.local.ifname));
            link.local.mbps = here[i].mbps;
            link.local.loopback = here[i].loopback;
        }
    stop(d);
    d->done(d->ctx, medleySuccess, NULL, &link);
}

/* ---- the order of the attempts ---- */

static void start_next(struct mdl_dial *d)
{
    struct mdl_attempt *a = &d->attempts[d->next++];
    mdl_reactor_timer_cancel(d->reactor, &d->stagger);
    if (d->next < d->naddrs) mdl_reactor_timer(d->reactor, &d->stagger, mdl_now_ns() + HEAD_START_MS * MDL_NS_PER_MS);
    mdl_attempt_start(a);
}

static bool all_failed(const struct mdl_dial *d)
{
    for (int i = 0; i < d->naddrs; i++)
        if (d->attempts[i].state != MDL_ATTEMPT_FAILED) return false;
    return true;
}

void mdl_dial_lost(struct mdl_dial *d)
{
    if (d->next < d->naddrs)
        start_next(d);
    else if (all_failed(d))
        fail_dial(d, false);
}

void mdl_dial_only(struct mdl_attempt *a)
{
    struct mdl_dial *d = a->dial;
    mdl_reactor_timer_cancel(d->reactor, &d->stagger);
    for (int i = 0; i < d->naddrs; i++)
        if (&d->attempts[i] != a) mdl_attempt_close(&d->attempts[i], MDL_ATTEMPT_FAILED);
    d->next = d->naddrs;
}

/* ---- start and cancel ---- */

static void on_stagger(struct mdl_timer *t) { start_next(mdl_container_of(t, struct mdl_dial, stagger)); }
static void on_deadline(struct mdl_timer *t) { fail_dial(mdl_container_of(t, struct mdl_dial, deadline), true); }

static void begin(struct mdl_task *task)
{
    struct mdl_dial *d = mdl_container_of(task, struct mdl_dial, begin);
    mdl_reactor_timer(d->reactor, &d->deadline, d->deadline_ns);
    start_next(d);
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
    d->share = args->share;
    d->has_bind = args->bind != NULL;
    if (args->bind) d->bind = *args->bind;
    d->since_ns = mdl_now_ns();
    d->deadline_ns = args->deadline_ns;
    d->begin.fn = begin;
    d->stagger.fn = on_stagger;
    d->deadline.fn = on_deadline;
    d->code = medleyRemoteError;
    d->naddrs = args->naddrs;
    for (int i = 0; i < d->naddrs; i++) mdl_attempt_init(d, &args->addrs[i], &d->attempts[i]);
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
