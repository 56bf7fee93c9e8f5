/* SPDX-License-Identifier: Apache-2.0 */
/* A communicator's end, its state, and what can be asked about it. */
#include "config.h"

#include "lib/api/create.h"
#include "lib/api/work.h"
#include "lib/engine/island.h"
#include "lib/engine/transports.h"

#include <stdio.h>
#include <string.h>

/* With the handle entered: may this call free it? */
static medleyResult_t claim(medleyComm_t handle)
{
    if (mdl_handle_claim(handle)) return medleySuccess;
    mdl_handle_leave(handle);
    return mdl_error(medleyInvalidUsage, "another thread is destroying or aborting the communicator already");
}

static void join_init_thread(medleyComm_t handle)
{
    if (handle->has_thread) pthread_join(handle->init_thread, NULL);
    handle->has_thread = false;
}

medleyResult_t medleyCommFinalize(medleyComm_t comm)
{
    struct mdl_comm *c;

    MDL_TRY(mdl_handle_enter_ready(comm, &c));
    if (mdl_group_open())
        return mdl_handle_return(comm, mdl_error(medleyInvalidUsage, "medleyCommFinalize inside a group"));
    atomic_store_explicit(&comm->finalized, true, memory_order_relaxed);
    if (!c->blocking && mdl_queue_busy(c)) return mdl_handle_return(comm, medleyInProgress);
    mdl_queue_drain(c);
    return mdl_handle_return(comm, mdl_comm_fault(c));
}

medleyResult_t medleyCommDestroy(medleyComm_t comm)
{
    struct mdl_comm *c;

    if (!comm) return medleySuccess;
    MDL_TRY(mdl_handle_enter(comm, &c));
    MDL_TRY(claim(comm));
    if (atomic_load_explicit(&comm->init, memory_order_acquire) == MDL_INIT_RUNNING)
        mdl_comm_fail(c, medleyInvalidUsage, c->rank, "the communicator was destroyed while it was being made", false);
    if (mdl_work_busy(comm)) {
        mdl_comm_fail(c, medleyInvalidUsage, c->rank, "the communicator was destroyed while it was at work", false);
        mdl_comm_fail_children(c, "the parent communicator was destroyed");
    }
    join_init_thread(comm);
    if (mdl_comm_failed(c))
        mdl_queue_cancel(c);
    else
        mdl_queue_drain(c);
    mdl_handle_leave(comm);
    mdl_comm_dispose(comm);
    return medleySuccess;
}

medleyResult_t medleyCommAbort(medleyComm_t comm)
{
    struct mdl_comm *c;
    char text[128];

    if (!comm) return medleySuccess;
    MDL_TRY(mdl_handle_enter(comm, &c));
    snprintf(text, sizeof(text), "rank %d aborted the communicator", c->rank);
    mdl_comm_fail(c, medleyRemoteError, c->rank, text, true);
    mdl_comm_fail_children(c, text);
    MDL_TRY(claim(comm)); /* a destroy that waits for queued work sees the fault, and frees it */
    join_init_thread(comm);
    mdl_queue_cancel(c);
    mdl_handle_leave(comm);
    mdl_handle_close(comm); /* calls on other threads see the abort word and leave */
    mdl_transports_abort(c);
    mdl_windows_free(c);
    mdl_comm_free(c);
    mdl_handle_recycle(comm);
    return medleySuccess;
}

medleyResult_t medleyCommRevoke(medleyComm_t comm, int flags)
{
    struct mdl_comm *c;
    char text[192];

    if (flags)
        return mdl_handle_refuse(
            comm, mdl_error(medleyInvalidArgument, "medleyCommRevoke: flags are %d, they must be 0", flags));
    MDL_TRY(mdl_handle_enter(comm, &c));
    if (atomic_load_explicit(&comm->init, memory_order_acquire) == MDL_INIT_RUNNING)
        return mdl_handle_return(comm, mdl_error(medleyInvalidUsage, "the communicator is still being made"));
    snprintf(text, sizeof(text), "rank %d (host %s) revoked the communicator: shrink, destroy or abort it", c->rank,
             c->facts[c->rank].host);
    mdl_comm_fail(c, medleyInvalidUsage, c->rank, text, true);
    mdl_queue_cancel(c);
    mdl_handle_leave(comm);
    return medleySuccess;
}

/* Of a device, a call is done with when it is in the stream: the user asks the stream for the rest. */
static bool is_at_work(const medleyComm_t comm, const struct mdl_comm *c)
{
    return !c->blocking && (!c->stager || atomic_load_explicit(&comm->finalized, memory_order_relaxed)) &&
           mdl_queue_busy(c);
}

medleyResult_t medleyCommGetAsyncError(medleyComm_t comm, medleyResult_t *async_error)
{
    struct mdl_comm *c;

    if (!async_error)
        return mdl_handle_refuse(comm,
                                 mdl_error(medleyInvalidArgument, "medleyCommGetAsyncError: async_error is NULL"));
    MDL_TRY(mdl_handle_enter(comm, &c));
    if (mdl_work_busy(comm)) /* also of a failed one: what the call writes is not there yet */
        *async_error = medleyInProgress;
    else if (mdl_comm_failed(c))
        *async_error = mdl_comm_fault(c);
    else if (atomic_load_explicit(&comm->init, memory_order_acquire) == MDL_INIT_RUNNING)
        *async_error = medleyInProgress;
    else
        *async_error = is_at_work(comm, c) ? medleyInProgress : medleySuccess;
    mdl_handle_leave(comm);
    return medleySuccess;
}

medleyResult_t medleyCommCount(const medleyComm_t comm, int *count)
{
    struct mdl_comm *c;

    if (!count) return mdl_handle_refuse(comm, mdl_error(medleyInvalidArgument, "medleyCommCount: count is NULL"));
    MDL_TRY(mdl_handle_enter(comm, &c));
    *count = c->nranks;
    mdl_handle_leave(comm);
    return medleySuccess;
}

medleyResult_t medleyCommUserRank(const medleyComm_t comm, int *rank)
{
    struct mdl_comm *c;

    if (!rank) return mdl_handle_refuse(comm, mdl_error(medleyInvalidArgument, "medleyCommUserRank: rank is NULL"));
    MDL_TRY(mdl_handle_enter(comm, &c));
    *rank = c->rank;
    mdl_handle_leave(comm);
    return medleySuccess;
}

/* A host is where processes run, whether their ranks may share memory or not. */
static int local_rank(const struct mdl_comm *c, int rank)
{
    int n = 0;

    for (int r = 0; r < rank; r++) n += strcmp(c->facts[r].host, c->facts[rank].host) == 0;
    return n;
}

static void fill_info(const struct mdl_comm *c, int rank, medleyRankInfo_t *info)
{
    const struct mdl_transport_use *t = &c->transport[c->via[rank]];
    struct mdl_link_info link = {0};

    *info = (medleyRankInfo_t){
        .size = sizeof(*info), .rank = rank, .island = c->team->host[rank], .local_rank = local_rank(c, rank)};
    info->pid = (int)c->facts[rank].pid;
    snprintf(info->host, sizeof(info->host), "%s", c->facts[rank].host);
    snprintf(info->arch, sizeof(info->arch), "%s", c->facts[rank].arch);
    snprintf(info->vendor, sizeof(info->vendor), "%.*s", (int)strcspn(c->facts[rank].device, ":"),
             c->facts[rank].device);
    snprintf(info->device, sizeof(info->device), "%s", c->facts[rank].device);
    snprintf(info->transport, sizeof(info->transport), "%s", t->ops->name);
    t->ops->link(t->ctx, rank, &link);
    snprintf(info->interface, sizeof(info->interface), "%s", link.interface);
    info->native_island = mdl_island_of(c, rank, info->native, sizeof(info->native));
}

medleyResult_t medleyCommGetInfo(const medleyComm_t comm, int rank, medleyRankInfo_t *info)
{
    struct mdl_comm *c;
    medleyRankInfo_t full;
    size_t size;

    if (!info || info->size < offsetof(medleyRankInfo_t, host))
        return mdl_handle_refuse(
            comm, mdl_error(medleyInvalidArgument,
                            "medleyCommGetInfo: info is NULL or its size is not set to sizeof(medleyRankInfo_t)"));
    MDL_TRY(mdl_handle_enter_ready(comm, &c));
    if (rank < 0 || rank >= c->nranks)
        return mdl_handle_return(comm, mdl_error(medleyInvalidArgument, "medleyCommGetInfo: %d is not a rank of 0..%d",
                                                 rank, c->nranks - 1));
    fill_info(c, rank, &full);
    size = info->size < sizeof(full) ? info->size : sizeof(full);
    memcpy(info, &full, size);
    info->size = size;
    mdl_handle_leave(comm);
    return medleySuccess;
}

/* What travels through shared memory is counted by who reads it, where the other side can see it. */
static uint64_t read_bytes(const struct mdl_comm *c, int reader, int from)
{
    const struct mdl_team *t = c->team;

    if (!c->use_board || reader == from || t->host[reader] != t->host[from]) return 0;
    return atomic_load_explicit(mdl_board_read_bytes(&c->board, t->local[reader], t->local[from]),
                                memory_order_relaxed);
}

static void fill_peer(const struct mdl_comm *c, int r, medleyPeerStats_t *p)
{
    const struct mdl_transport_use *t = &c->transport[c->via[r]];
    struct mdl_link_info link = {0};

    *p = (medleyPeerStats_t){
        .rank = r,
        .wait_ns = atomic_load_explicit(&c->peers[r].wait_ns, memory_order_relaxed),
        .sent_bytes = atomic_load_explicit(&c->peers[r].sent, memory_order_relaxed) + read_bytes(c, r, c->rank),
        .recv_bytes = atomic_load_explicit(&c->peers[r].received, memory_order_relaxed) + read_bytes(c, c->rank, r),
    };
    t->ops->link(t->ctx, r, &link);
    p->retries = link.retries;
    snprintf(p->transport, sizeof(p->transport), "%s", t->ops->name);
}

static void fill_stats(const struct mdl_comm *c, medleyCommStats_t *s, int npeers)
{
    const char *algo;

    for (int k = 0; k < medleyNumColls; k++) {
        s->coll[k].calls = atomic_load_explicit(&c->colls[k].calls, memory_order_relaxed);
        s->coll[k].bytes = atomic_load_explicit(&c->colls[k].bytes, memory_order_relaxed);
        s->coll[k].time_ns = mdl_ticks_ns(atomic_load_explicit(&c->colls[k].ticks, memory_order_relaxed));
    }
    s->fallbacks = atomic_load_explicit(&c->fallbacks, memory_order_relaxed);
    s->plans_built = atomic_load_explicit(&c->cache.built, memory_order_relaxed);
    s->plans_reused = atomic_load_explicit(&c->cache.reused, memory_order_relaxed);
    algo = atomic_load_explicit(&c->last_algo, memory_order_relaxed);
    snprintf(s->last_algorithm, sizeof(s->last_algorithm), "%s", algo ? algo : "");
    s->last_predicted_ns = atomic_load_explicit(&c->last_predicted_ns, memory_order_relaxed);
    for (int r = 0; s->peers && r < npeers && r < c->nranks; r++) fill_peer(c, r, &s->peers[r]);
    s->npeers = c->nranks;
}

medleyResult_t medleyCommGetStats(medleyComm_t comm, medleyCommStats_t *stats)
{
    struct mdl_comm *c;

    if (!stats || stats->size < sizeof(*stats))
        return mdl_handle_refuse(
            comm, mdl_error(medleyInvalidArgument,
                            "medleyCommGetStats: stats is NULL or its size is not set to sizeof(medleyCommStats_t)"));
    if (stats->npeers < 0)
        return mdl_handle_refuse(comm,
                                 mdl_error(medleyInvalidArgument, "medleyCommGetStats: npeers is %d", stats->npeers));
    MDL_TRY(mdl_handle_enter(comm, &c));
    if (atomic_load_explicit(&comm->init, memory_order_acquire) == MDL_INIT_RUNNING || !c->team)
        return mdl_handle_return(comm, mdl_error(medleyInvalidUsage, "the communicator is still being made"));
    if (stats->size > sizeof(*stats)) /* of a later version */
        memset((char *)stats + sizeof(*stats), 0, stats->size - sizeof(*stats));
    fill_stats(c, stats, stats->npeers);
    mdl_handle_leave(comm);
    return medleySuccess;
}
