/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that come and go out. Both end on the reactor's thread, which puts them into the context's hand-off queue
 * and raises its eventfd; the using thread takes them from there.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "transports/tcp_context.h"
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DIAL_MS = 3000, MAX_HANDOFF = 1024, BACKOFF_MS = 50, MAX_BACKOFF_MS = 5000 };

/* ---- the reactor's thread ---- */

static bool hand_off(struct mdl_tcp *t, struct mdl_tcp_dial *d)
{
    static const uint64_t one = 1;
    pthread_mutex_lock(&t->handoff_lock);
    /* A peer that knows the key may still open sockets without end. */
    bool fits = d->peer || t->nhandoff < MAX_HANDOFF;
    if (fits) {
        mdl_list_append(&t->handoff, &d->link);
        t->nhandoff++;
        /* Pairs with the acquire in mdl_tcp_take_handoff. */
        atomic_store_explicit(&t->handed, true, memory_order_release);
        if (write(t->wake_fd, &one, sizeof one) < 0) {} /* it is full: the reader wakes anyhow */
    }
    pthread_mutex_unlock(&t->handoff_lock);
    return fits;
}

void mdl_tcp_on_link(void *ctx, const struct mdl_link *link)
{
    struct mdl_tcp *t = ctx;
    bool good = link->peer_rank >= 0 && link->peer_rank < t->nranks && link->peer_rank != t->rank;
    struct mdl_tcp_dial *d = good ? calloc(1, sizeof *d) : NULL;
    if (d) {
        d->t = t;
        d->conn = *link;
        d->rail = -1;
        mdl_list_init(&d->peer_link);
        if (hand_off(t, d)) return;
        free(d);
    }
    close(link->fd);
}

static void on_done(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    struct mdl_tcp_dial *d = ctx;
    d->result = result;
    if (link) d->conn = *link;
    if (why) snprintf(d->why, sizeof d->why, "%s", why);
    hand_off(d->t, d);
}

/* ---- the using thread ---- */

medleyResult_t mdl_tcp_dial_rail(struct mdl_tcp_peer *p, int rail)
{
    struct mdl_tcp *t = p->t;
    const struct mdl_tcp_rail *r = &p->rails[rail].rail;
    bool any = rail == p->nrails;
    struct mdl_tcp_dial *d = calloc(1, sizeof *d);
    if (!d) return mdl_error(medleySystemError, "rank %d: no memory to connect to rank %d", t->rank, p->rank);
    d->t = t;
    d->peer = p;
    d->rail = rail;
    d->conn.fd = -1;
    mdl_list_init(&d->link);
    struct mdl_dial_args args = {.door = t->door,
                                 .secret = &t->secret,
                                 .purpose = MDL_PURPOSE_TCP,
                                 .rank = t->rank,
                                 .expect_rank = p->rank,
                                 .addrs = any ? p->remotes : &r->remote,
                                 .naddrs = any ? p->nremotes : 1,
                                 .bind = any ? NULL : &r->local,
                                 .deadline_ns = t->now + DIAL_MS * MDL_NS_PER_MS};
    medleyResult_t rc = mdl_dial_start(&args, on_done, d, &d->dial);
    if (rc != medleySuccess) {
        free(d);
        return rc;
    }
    mdl_list_append(&p->dials, &d->peer_link);
    p->rails[rail].dialing++;
    return medleySuccess;
}

static void dial_free(struct mdl_tcp_dial *d)
{
    if (d->dial) mdl_dial_cancel(d->dial);
    mdl_list_remove(&d->peer_link);
    free(d);
}

void mdl_tcp_cancel_dials(struct mdl_tcp_peer *p)
{
    mdl_list_each (it, &p->dials) {
        struct mdl_tcp_dial *d = mdl_container_of(it, struct mdl_tcp_dial, peer_link);
        p->rails[d->rail].dialing--;
        mdl_dial_cancel(d->dial); /* after it, it is in the queue or nobody has it */
        d->dial = NULL;
        pthread_mutex_lock(&p->t->handoff_lock);
        if (!mdl_list_empty(&d->link)) {
            mdl_list_remove(&d->link);
            p->t->nhandoff--;
        }
        pthread_mutex_unlock(&p->t->handoff_lock);
        if (d->conn.fd >= 0) close(d->conn.fd);
        dial_free(d);
    }
}

static void dial_failed(struct mdl_tcp_peer *p, struct mdl_tcp_dial *d)
{
    struct mdl_tcp_rail_state *r = &p->rails[d->rail];
    uint64_t ms = BACKOFF_MS << (r->failures < 8 ? r->failures : 8);
    if (p->t->now >= r->next_ns) r->failures++; /* those that were dialled together count once */
    r->next_ns = p->t->now + (ms < MAX_BACKOFF_MS ? ms : MAX_BACKOFF_MS) * MDL_NS_PER_MS;
    mdl_tcp_tick_at(p->t, r->next_ns);
    snprintf(p->why, sizeof p->why, "%s", d->why);
    bool all = true;
    for (int i = 0; i < p->nrails; i++) all = all && p->rails[i].failures && !p->rails[i].dialing;
    p->fallback = p->fallback || all;
    MDL_INFO(MDL_NET, "rank %d: %s", p->t->rank, d->why);
}

static void take_dialled(struct mdl_tcp *t, struct mdl_tcp_dial *d)
{
    struct mdl_tcp_peer *p = d->peer;
    struct mdl_tcp_rail_state *r = &p->rails[d->rail];
    r->dialing--;
    if (d->result != medleySuccess) {
        dial_failed(p, d);
        return;
    }
    r->failures = 0;
    if (mdl_tcp_peer_adopt(p, &d->conn, d->rail) != medleySuccess) t->failed = medleySystemError;
}

static void take_accepted(struct mdl_tcp *t, struct mdl_tcp_dial *d)
{
    int rank = d->conn.peer_rank;
    struct mdl_tcp_peer *p = t->addresses[rank] ? mdl_tcp_peer_get(t, rank) : NULL;
    if (!p)
        close(d->conn.fd);
    else if (mdl_tcp_peer_adopt(p, &d->conn, -1) != medleySuccess)
        t->failed = medleySystemError;
}

static struct mdl_tcp_dial *next(struct mdl_tcp *t)
{
    struct mdl_tcp_dial *d = NULL;
    pthread_mutex_lock(&t->handoff_lock);
    if (!mdl_list_empty(&t->handoff)) {
        d = mdl_container_of(t->handoff.next, struct mdl_tcp_dial, link);
        mdl_list_remove(&d->link);
        t->nhandoff--;
    } else {
        uint64_t count;
        atomic_store_explicit(&t->handed, false, memory_order_relaxed);
        if (read(t->wake_fd, &count, sizeof count) < 0) {} /* nothing in it */
    }
    pthread_mutex_unlock(&t->handoff_lock);
    return d;
}

void mdl_tcp_take_handoff(struct mdl_tcp *t)
{
    /* Pairs with the release in hand_off; what it misses is found the next time, and the eventfd stays readable. */
    if (!atomic_load_explicit(&t->handed, memory_order_acquire) || !t->connected) return;
    for (struct mdl_tcp_dial *d; (d = next(t));) {
        mdl_list_remove(&d->peer_link);
        if (d->peer)
            take_dialled(t, d);
        else
            take_accepted(t, d);
        dial_free(d);
    }
}

/* At the end: no callback comes any more, and the peers are gone. */
void mdl_tcp_drop_handoff(struct mdl_tcp *t)
{
    mdl_list_each (it, &t->handoff) {
        struct mdl_tcp_dial *d = mdl_container_of(it, struct mdl_tcp_dial, link);
        close(d->conn.fd);
        free(d);
    }
    mdl_list_init(&t->handoff);
}
