/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests, from their start to their end, and the progress that serves them. Only channels and peers with something
 * outstanding are on the lists that progress walks; one call moves about a tile of payload each way.
 *
 * The requests of a peer that is gone fail only when its rings are empty: what it sent in time arrives.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <stdio.h>

enum { SHARE = 64 * 1024 }; /* of a call's payload for one peer's bulk ring before the next peer's turn */

bool mdl_shm_is_gone(struct mdl_shm_peer *p)
{
    /* The one pairs with mdl_shm_home_end, the other with peer_ended. */
    return atomic_load_explicit(&p->front->state, memory_order_acquire) == MDL_SHM_CLOSED ||
           atomic_load_explicit(&p->fate, memory_order_acquire) != MDL_SHM_HERE;
}

/* Ranks that are gone: those that the monitor or a rank of this process tells of, and those that told it themselves. */
static uint32_t count_departures(const struct mdl_shm *s)
{
    return atomic_load_explicit(&s->home->departures, memory_order_acquire) + /* pairs with mdl_shm_home_departed, */
           atomic_load_explicit(&s->home->front->departures, memory_order_acquire); /* and with tell_closed */
}

medleyResult_t mdl_shm_broken(struct mdl_shm_peer *p, const char *what)
{
    return mdl_error(
        medleyRemoteError,
        "rank %d: rank %d (pid %u) wrote nonsense into shared memory (%s): it is broken, or another library "
        "version",
        p->ctx->args.rank, p->rank, p->told_pid, what);
}

/* ---- requests ---- */

medleyResult_t mdl_shm_start(struct mdl_shm *s, int rank, const struct mdl_message *msg, struct mdl_request *req,
                             struct mdl_shm_request **request)
{
    struct mdl_shm_peer *p = mdl_shm_peer(s, rank);
    if (mdl_guard_is_shut(&s->guard)) return mdl_guard_refuse();
    if (!p || msg->channel >= MDL_MAX_CHANNELS)
        return mdl_error(medleyInvalidArgument, "rank %d: no shared memory to rank %d on channel %u", s->args.rank,
                         rank, msg->channel);
    if (!msg->ptr && msg->len > 0)
        return mdl_error(medleyInvalidArgument, "rank %d: a message of %zu bytes at address 0", s->args.rank, msg->len);
    struct mdl_shm_request *r = mdl_container_of(req, struct mdl_shm_request, head);
    *r = (struct mdl_shm_request){
        .head = {.state = MDL_REQ_ACTIVE},
        .peer = p,
        .ptr = msg->ptr,
        .len = msg->len,
        .tag = msg->tag,
        .channel = msg->channel,
    };
    mdl_list_init(&r->link);
    p->outstanding++;
    *request = r;
    return medleySuccess;
}

void mdl_shm_finish(struct mdl_shm_request *r, medleyResult_t result)
{
    mdl_list_remove(&r->link);
    r->peer->outstanding--;
    r->head.result = result;
    r->head.state = result == medleySuccess ? MDL_REQ_DONE : MDL_REQ_FAILED;
}

static void fail_list(struct mdl_list *list, const struct mdl_shm_peer *only)
{
    mdl_list_each (it, list) {
        struct mdl_shm_request *r = mdl_container_of(it, struct mdl_shm_request, link);
        if (!only || r->peer == only) mdl_shm_finish(r, medleyRemoteError);
    }
}

/* A death was told by the monitor. */
static void tell_departure(struct mdl_shm_peer *p)
{
    struct mdl_shm *s = p->ctx;
    char why[128];
    bool died = atomic_load_explicit(&p->fate, memory_order_acquire) == MDL_SHM_DIED;
    snprintf(why, sizeof(why), "rank %d (pid %u) %s with %u messages to and from rank %d outstanding", p->rank,
             p->told_pid, died ? "died" : "left", p->outstanding, s->args.rank);
    mdl_error(medleyRemoteError, "rank %d: %s", s->args.rank, why);
    if (!died && !p->told && s->args.peer_lost) s->args.peer_lost(s->args.engine, p->rank, medleyInvalidUsage, why);
    p->told = true;
}

void mdl_shm_refuse_gone(struct mdl_shm_request *r)
{
    tell_departure(r->peer);
    mdl_shm_finish(r, medleyRemoteError);
}

static void fail_all(struct mdl_shm_peer *p)
{
    for (int c = 0; c < MDL_MAX_CHANNELS; c++) {
        fail_list(&p->tx[c].pending, NULL);
        fail_list(&p->tx[c].waiting, NULL);
        fail_list(&p->rx[c].posted, NULL);
        mdl_list_remove(&p->tx[c].active);
        mdl_list_remove(&p->rx[c].active);
    }
    fail_list(&p->bulk_out, NULL);
    fail_list(&p->bulk_in, NULL);
    fail_list(&p->ctx->pulls, p);
    mdl_list_remove(&p->bulk_out_active);
    mdl_list_remove(&p->bulk_in_active);
}

/* Is there something of it that was not taken yet? */
static bool has_arrivals(struct mdl_shm_peer *p)
{
    if (!mdl_list_empty(&p->bulk_in) && mdl_shm_bulk_in_ready(p)) return true;
    for (int c = 0; c < MDL_MAX_CHANNELS; c++)
        if (mdl_shm_rx_ready(&p->rx[c])) return true;
    return false;
}

/* False: some peer's arrivals come first. */
static bool fail_departed(struct mdl_shm *s)
{
    bool all = true;
    for (int r = 0; r < s->args.nranks; r++) {
        struct mdl_shm_peer *p = mdl_shm_peer(s, r);
        if (!p || p->outstanding == 0 || !mdl_shm_is_gone(p)) continue;
        if (has_arrivals(p)) {
            all = false;
            continue;
        }
        tell_departure(p);
        fail_all(p);
    }
    return all;
}

/* ---- progress ---- */

static medleyResult_t step_channels(struct mdl_shm *s, int *events)
{
    mdl_list_each (it, &s->tx_active) MDL_TRY(mdl_shm_tx_step(mdl_container_of(it, struct mdl_shm_tx, active), events));
    mdl_list_each (rt, &s->rx_active) MDL_TRY(mdl_shm_rx_step(mdl_container_of(rt, struct mdl_shm_rx, active), events));
    return medleySuccess;
}

/* One tile of the pull whose turn it is. */
static void step_pulls(struct mdl_shm *s, int *events)
{
    if (mdl_list_empty(&s->pulls)) return;
    struct mdl_shm_request *r = mdl_container_of(s->pulls.next, struct mdl_shm_request, link);
    mdl_list_remove(&r->link);
    mdl_list_append(&s->pulls, &r->link);
    mdl_shm_pull_step(r);
    ++*events;
}

/* The first is last next time. */
static void rotate(struct mdl_list *list)
{
    struct mdl_list *first = list->next;
    if (mdl_list_empty(list)) return;
    mdl_list_remove(first);
    mdl_list_append(list, first);
}

static medleyResult_t step_bulk(struct mdl_shm *s, int *events)
{
    size_t left = MDL_SHM_TILE;
    rotate(&s->bulk_out_active);
    mdl_list_each (it, &s->bulk_out_active) {
        size_t share = left < SHARE ? left : SHARE, had = share;
        MDL_TRY(mdl_shm_bulk_out_step(mdl_container_of(it, struct mdl_shm_peer, bulk_out_active), &share, events));
        left -= had - share;
    }
    left = MDL_SHM_TILE;
    rotate(&s->bulk_in_active);
    mdl_list_each (jt, &s->bulk_in_active) {
        size_t share = left < SHARE ? left : SHARE, had = share;
        MDL_TRY(mdl_shm_bulk_in_step(mdl_container_of(jt, struct mdl_shm_peer, bulk_in_active), &share, events));
        left -= had - share;
    }
    return medleySuccess;
}

medleyResult_t mdl_shm_progress(void *ctx, int *events)
{
    struct mdl_shm *s = ctx;
    if (!mdl_guard_enter(&s->guard)) return mdl_guard_refuse();
    uint32_t departures = count_departures(s); /* before the rings are looked at */
    medleyResult_t result = step_channels(s, events);
    if (result == medleySuccess) step_pulls(s, events);
    if (result == medleySuccess) result = step_bulk(s, events);
    mdl_guard_leave(&s->guard);
    if (result != medleySuccess || departures == s->departures) return result;
    /* Outside the guard: the engine may abort from peer_lost. */
    if (fail_departed(s)) s->departures = departures;
    ++*events;
    return medleySuccess;
}

bool mdl_shm_has_work(struct mdl_shm *s)
{
    if (!mdl_list_empty(&s->pulls)) return true;
    if (count_departures(s) != s->departures) return true;
    mdl_list_each (a, &s->tx_active)
        if (mdl_shm_tx_ready(mdl_container_of(a, struct mdl_shm_tx, active))) return true;
    mdl_list_each (b, &s->rx_active)
        if (mdl_shm_rx_ready(mdl_container_of(b, struct mdl_shm_rx, active))) return true;
    mdl_list_each (c, &s->bulk_out_active)
        if (mdl_shm_bulk_out_ready(mdl_container_of(c, struct mdl_shm_peer, bulk_out_active))) return true;
    mdl_list_each (d, &s->bulk_in_active)
        if (mdl_shm_bulk_in_ready(mdl_container_of(d, struct mdl_shm_peer, bulk_in_active))) return true;
    return false;
}
