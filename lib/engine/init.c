/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brings a communicator up, once its control plane stands: open the transports, tell all ranks who we are and how to
 * reach us, connect, agree on who reaches whom, group hosts, map their boards. Each stage is logged, bounded by the
 * init deadline, and ends with an exchange, so that a rank that fails in it is an error on all.
 */
#include "config.h"

#include "lib/engine/direct.h"
#include "lib/engine/exec.h"
#include "lib/engine/facts.h"
#include "lib/engine/job.h"
#include "lib/engine/island.h"
#include "lib/engine/native.h"
#include "lib/engine/queue.h"
#include "lib/engine/quick.h"
#include "lib/engine/stage.h"
#include "lib/engine/transports.h"
#include "lib/topo/cache.h"
#include "lib/engine/workers.h"
#include "lib/net/bell.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What one rank found out about one peer over one transport, as a byte in the exchange. */
enum { STAGE_OK = 0x80 };

/* How long a waiting thread spins and yields. A yield costs next to nothing where nobody else wants to run, and all
 * where the rank that is waited for does: so spinning is short. */
enum { SPIN_US = 3, YIELD_US = 500, CROWDED_YIELD_US = 200 };

medleyResult_t mdl_comm_alloc(const struct mdl_config *cfg, int rank, int nranks, struct mdl_comm **out)
{
    struct mdl_comm *c = calloc(1, sizeof(*c));
    size_t n = (size_t)nranks;

    if (!c) return mdl_error(medleySystemError, "out of memory for a communicator");
    c->cfg = *cfg;
    c->rank = rank;
    c->nranks = nranks;
    c->blocking = true;
    c->fault_origin = -1;
    pthread_mutex_init(&c->fault_lock, NULL);
    mdl_list_init(&c->making);
    mdl_list_init(&c->making_link);
    mdl_list_init(&c->broken);
    mdl_list_init(&c->queue);
    mdl_list_init(&c->active);
    mdl_list_init(&c->windows);
    mdl_program_cache_init(&c->cache, cfg->plan_cache);
    c->via = malloc(n);
    c->facts = calloc(n, sizeof(*c->facts));
    c->p2p_seq = calloc(2 * n, sizeof(*c->p2p_seq));
    c->p2p_posted = calloc(2 * n, sizeof(*c->p2p_posted));
    c->peers = calloc(n, sizeof(*c->peers));
    c->gone = calloc(n, sizeof(*c->gone));
    if (!c->via || !c->facts || !c->p2p_seq || !c->p2p_posted || !c->peers || !c->gone) {
        medleyResult_t res = mdl_system_error(ENOMEM, "rank %d cannot set up a communicator of %d ranks", rank, nranks);
        mdl_comm_free(c);
        return res;
    }
    memset(c->via, MDL_NO_TRANSPORT, n);
    *out = c;
    return medleySuccess;
}

medleyResult_t mdl_comm_usable(struct mdl_comm *c)
{
    medleyResult_t res = mdl_bells_hold();

    c->holds_bells = res == medleySuccess;
    return res;
}

void mdl_comm_free(struct mdl_comm *c)
{
    if (!c) return;
    if (c->use_board && !mdl_comm_failed(c))
        atomic_store_explicit(mdl_board_left(&c->board, c->board.me), 1, memory_order_relaxed);
    mdl_direct_close(c); /* while the boards are mapped */
    mdl_fault_detach(c);
    mdl_transports_close(c); /* no request is touched after it */
    mdl_audit_stop(c);
    if (c->ctl) mdl_ctl_close(c->ctl); /* no callback after it */
    mdl_job_free(c);
    mdl_queue_collect();
    mdl_native_close(c); /* it may hold up what the stager waits for */
    mdl_island_close(c);
    mdl_stager_close(c->stager);
    if (c->holds_workers) mdl_workers_release();
    mdl_run_free_all(c);
    while (c->all_messages) {
        struct mdl_message_slot *s = c->all_messages;
        c->all_messages = s->all;
        free(s->request);
        free(s);
    }
    mdl_program_cache_fini(&c->cache);
    if (c->board.own) c->board.own->orphaned = mdl_comm_failed(c);
    mdl_board_destroy(&c->board);
    mdl_team_free(c->team);
    if (c->holds_bells) mdl_bells_release();
    pthread_mutex_destroy(&c->fault_lock);
    free(c->via);
    free(c->facts);
    free(c->p2p_seq);
    free(c->p2p_posted);
    free(c->peers);
    free(c->gone);
    free(c->calls);
    free(c->mapped);
    free(c->stage);
    free(c->redops);
    free(c->shrunk);
    free(c);
}

/* ---- stages ---- */

/* What each rank puts into the first exchange: facts, then the addresses of its transports. */
static size_t blob_bytes(const struct mdl_comm *c)
{
    return MDL_FACTS_WIRE_BYTES + (size_t)c->ntransports * (2 + MDL_ADDRESS_BYTES);
}

static medleyResult_t write_blob(struct mdl_comm *c, uint8_t *blob)
{
    struct mdl_writer w = {.p = blob, .cap = MDL_FACTS_WIRE_BYTES};

    mdl_facts_write(&w, &c->facts[c->rank]);
    for (int t = 0; t < c->ntransports; t++) {
        uint8_t *at = blob + MDL_FACTS_WIRE_BYTES + (size_t)t * (2 + MDL_ADDRESS_BYTES);
        size_t len = MDL_ADDRESS_BYTES;

        if (!c->transport[t].ctx) continue; /* length 0: we do not have it */
        MDL_TRY(c->transport[t].ops->address(c->transport[t].ctx, at + 2, &len));
        mdl_put_u16(at, (uint16_t)len);
    }
    return medleySuccess;
}

static medleyResult_t check_agreed(const struct mdl_comm *c)
{
    for (int r = 1; r < c->nranks; r++) {
        if (strcmp(c->facts[r].agreed, c->facts[0].agreed) != 0)
            return mdl_error(medleyInvalidUsage,
                             "ranks have different settings: rank 0 (host %s) has %s; rank %d (host %s) has %s; give "
                             "all ranks the same",
                             c->facts[0].host, c->facts[0].agreed, r, c->facts[r].host, c->facts[r].agreed);
    }
    return medleySuccess;
}

static medleyResult_t read_blobs(struct mdl_comm *c, const uint8_t *all)
{
    for (int r = 0; r < c->nranks; r++) {
        struct mdl_reader rd = {.p = all + (size_t)r * blob_bytes(c), .left = MDL_FACTS_WIRE_BYTES};
        MDL_TRY(mdl_facts_read(&rd, &c->facts[r]));
    }
    return check_agreed(c);
}

static medleyResult_t connect_transport(struct mdl_comm *c, int t, const uint8_t *all, uint64_t deadline_ns)
{
    struct mdl_transport_use *use = &c->transport[t];
    struct mdl_peer *peers = calloc((size_t)c->nranks, sizeof(*peers));
    medleyResult_t res;

    use->reach = calloc((size_t)c->nranks, sizeof(*use->reach));
    if (!peers || !use->reach) {
        free(peers);
        return mdl_error(medleySystemError, "out of memory for %d peers", c->nranks);
    }
    for (int r = 0; r < c->nranks; r++) {
        const uint8_t *at =
            all + (size_t)r * blob_bytes(c) + MDL_FACTS_WIRE_BYTES + (size_t)t * (2 + MDL_ADDRESS_BYTES);
        uint16_t len = mdl_get_u16(at);
        peers[r] = (struct mdl_peer){
            .rank = r,
            .address = len && len <= MDL_ADDRESS_BYTES ? at + 2 : NULL,
            .address_len = len,
            .segment = c->facts[r].board_segment,
            .segment_place = c->facts[r].board_place,
            .segment_len = c->facts[r].board_bytes,
        };
    }
    res = use->ctx ? use->ops->connect_all(use->ctx, peers, deadline_ns, use->reach) : medleySuccess;
    use->overdue = mdl_now_ns() >= deadline_ns;
    free(peers);
    return res;
}

/* A rank that does not answer may use up this much; what follows needs time to find out who it is. */
static uint64_t halfway(uint64_t deadline_ns)
{
    uint64_t now = mdl_now_ns();

    return now < deadline_ns ? now + (deadline_ns - now) / 2 : deadline_ns;
}

/* Every rank's reach over every transport: row[r][t][peer], one byte each. */
static medleyResult_t exchange_reach(struct mdl_comm *c, uint64_t deadline_ns, uint8_t **rows)
{
    size_t n = c->nranks > 0 ? (size_t)c->nranks : 1, row = MDL_MAX_TRANSPORTS * n;
    uint8_t *mine = calloc(row, 1), *all = calloc(row, n);
    medleyResult_t res = medleySystemError;

    if (!mine || !all) {
        mdl_error(medleySystemError, "out of memory for %d ranks", c->nranks);
        goto free_rows;
    }
    for (int t = 0; t < c->ntransports; t++) {
        for (int r = 0; r < c->nranks; r++)
            mine[(size_t)t * (size_t)c->nranks + (size_t)r] = (uint8_t)c->transport[t].reach[r];
    }
    res = mdl_ctl_allgather(c->ctl, mine, row, all, deadline_ns, "who reaches whom");
    if (res != medleySuccess) goto free_rows;
    free(mine);
    *rows = all;
    return medleySuccess;
free_rows:
    free(mine);
    free(all);
    return res;
}

static uint8_t reach_of(const struct mdl_comm *c, const uint8_t *rows, int t, int from, int to)
{
    size_t n = (size_t)c->nranks;

    return rows[(size_t)from * MDL_MAX_TRANSPORTS * n + (size_t)t * n + (size_t)to];
}

/* A peer that did not answer is late or stopped, and the same settings may work next time; one that refused is not. */
static medleyResult_t no_transport(const struct mdl_comm *c, const uint8_t *rows, int peer)
{
    bool silent = false;

    for (int t = 0; t < c->ntransports; t++)
        silent |= c->transport[t].overdue && !(reach_of(c, rows, t, c->rank, peer) & MDL_REACH_SEND);
    return mdl_error(silent ? medleyTimeout : medleySystemError,
                     "rank %d (host %s) has no transport to rank %d (host %s): MEDLEY_TRANSPORT is %s, and of these none "
                     "reaches it%s",
                     c->rank, c->facts[c->rank].host, peer, c->facts[peer].host, c->cfg.transport.s,
                     silent ? "; it did not answer in time" : "");
}

/* The first transport in order of preference that both sides can use; keeps in `reach` what both sides see. */
static medleyResult_t choose_transports(struct mdl_comm *c, const uint8_t *rows)
{
    for (int r = 0; r < c->nranks; r++) {
        for (int t = 0; t < c->ntransports; t++) {
            uint8_t both = reach_of(c, rows, t, c->rank, r) & reach_of(c, rows, t, r, c->rank);
            c->transport[t].reach[r] = both;
            if (c->via[r] != MDL_NO_TRANSPORT || !(both & MDL_REACH_SEND)) continue;
            c->via[r] = (uint8_t)t;
            c->transport[t].used = true;
        }
        if (c->via[r] == MDL_NO_TRANSPORT) return no_transport(c, rows, r);
    }
    return medleySuccess;
}

/* The processors that rank r and those that it reaches in its host may use together. A launcher that binds each rank to
 * a core of its own leaves each one processor, and yet nobody is in anybody's way. */
static uint32_t shared_cores(const struct mdl_comm *c, int r, const uint8_t *near)
{
    uint32_t cores = 0;

    for (int w = 0; w < MDL_FACTS_CPU_WORDS; w++) {
        uint64_t any = c->facts[r].cpus[w];
        for (int p = 0; p < c->nranks; p++) {
            if (near[p] & MDL_NEAR_SEND) any |= c->facts[p].cpus[w];
        }
        cores += (uint32_t)__builtin_popcountll(any);
    }
    return cores > c->facts[r].cores ? cores : c->facts[r].cores;
}

static bool has_device(const struct mdl_comm *c, int r) { return strcmp(c->facts[r].device, "host") != 0; }

static medleyResult_t make_team(struct mdl_comm *c, const uint8_t *rows)
{
    size_t n = c->nranks > 0 ? (size_t)c->nranks : 1;
    struct mdl_team_facts *tf = calloc(n, sizeof(*tf));
    uint8_t *near = calloc(n, n);
    medleyResult_t res = medleySystemError;

    if (!tf || !near) {
        mdl_error(medleySystemError, "out of memory for %d ranks", c->nranks);
        goto free_facts;
    }
    for (int r = 0; r < c->nranks; r++) {
        uint8_t *row = near + (size_t)r * n;
        tf[r] = (struct mdl_team_facts){.net_mbps = c->facts[r].net_mbps, .rails = c->facts[r].rails, .near = row};
        for (int t = 0; t < c->ntransports; t++) {
            if (!(c->transport[t].ops->caps & MDL_CAP_SAME_HOST)) continue;
            for (int p = 0; p < c->nranks; p++)
                row[p] |= reach_of(c, rows, t, r, p) & (MDL_REACH_SEND | MDL_REACH_MAP | MDL_REACH_GET);
            /* a board that cannot be shared has segment 0 */
            for (int p = 0; p < c->nranks; p++)
                if (!c->facts[r].board_segment || !c->facts[p].board_segment) row[p] &= (uint8_t)~MDL_REACH_MAP;
            /* what is on a device cannot be read through its address */
            for (int p = 0; p < c->nranks; p++)
                if (has_device(c, r) || has_device(c, p)) row[p] &= (uint8_t)~MDL_REACH_GET;
        }
        tf[r].cores = shared_cores(c, r, row);
    }
    res = mdl_team_make(c->nranks, tf, &c->team);
free_facts:
    free(tf);
    free(near);
    return res;
}

static medleyResult_t map_boards(struct mdl_comm *c)
{
    int h = c->team->host[c->rank], n = c->team->host_size[h];

    MDL_TRY(mdl_board_attach(&c->board, n, c->team->local[c->rank]));
    c->calls = calloc((size_t)n, sizeof(*c->calls));
    c->mapped = calloc((size_t)n, sizeof(*c->mapped));
    if (!c->calls || !c->mapped) return mdl_error(medleySystemError, "out of memory for %d ranks of a host", n);
    for (int t = 0; t < c->ntransports && !c->map_transport; t++) {
        if (c->transport[t].ops->caps & MDL_CAP_MAP) c->map_transport = &c->transport[t];
    }
    c->use_board = c->map_transport && c->team->remote_scratch && n > 1;
    for (int i = 0; c->use_board && i < n; i++) {
        int r = c->team->members[h][i];
        size_t len = 0;
        if (r == c->rank) continue;
        MDL_TRY(
            c->map_transport->ops->map(c->map_transport->ctx, r, c->facts[r].board_segment, &c->board.base[i], &len));
        if (len < c->facts[r].board_bytes || c->facts[r].board_bytes != c->facts[c->rank].board_bytes)
            return mdl_error(medleyRemoteError, "rank %d (host %s) handed over a board of %zu bytes instead of %llu", r,
                             c->facts[r].host, len, (unsigned long long)c->facts[c->rank].board_bytes);
    }
    mdl_quick_init(c);
    atomic_store_explicit(&c->boards_mapped, c->use_board, memory_order_release); /* pairs with has_left */
    return medleySuccess;
}

/* An error in one rank's stage must not leave the others waiting: all exchange how it went. */
static medleyResult_t agree(struct mdl_comm *c, medleyResult_t mine, uint64_t deadline_ns, const char *what)
{
    uint8_t status = mine == medleySuccess ? STAGE_OK : (uint8_t)mine;
    uint8_t *all = calloc((size_t)c->nranks, 1);
    medleyResult_t res;

    if (mine != medleySuccess) mdl_comm_fail_here(c, mine);
    if (!all) return mdl_error(medleySystemError, "out of memory for %d ranks", c->nranks);
    res = mine != medleySuccess ? mine : mdl_ctl_allgather(c->ctl, &status, 1, all, deadline_ns, what);
    free(all);
    return res;
}

/* The error of one rank is what the others are told. */
static medleyResult_t make_board(struct mdl_comm *c)
{
    char why[MDL_ERROR_TEXT_BYTES - 80];
    medleyResult_t res = mdl_board_create(&c->board, c->nranks, c->cfg.memory_budget);

    if (res == medleySuccess) return res;
    snprintf(why, sizeof(why), "%s", mdl_error_text());
    return mdl_error(res, "rank %d (host %s) has no memory for its board: %s", c->rank, c->facts[c->rank].host, why);
}

/* The error of one rank is what the others are told. */
static medleyResult_t open_device(struct mdl_comm *c)
{
    struct mdl_dev dev;

    MDL_TRY(mdl_dev_find(&c->cfg, c->cfg.device.s, &dev));
    return dev.ops ? mdl_stager_open(&dev, &c->cfg, c->nranks, &c->stager) : medleySuccess;
}

static void set_limits(struct mdl_comm *c)
{
    bool crowded = mdl_facts_crowded(c->facts, c->nranks, c->rank), devices = false;

    for (int r = 0; r < c->nranks; r++) devices |= has_device(c, r);
    c->limits = (struct mdl_choose_limits){
        .window_bytes = c->cfg.window,
        .scratch_bytes = c->board.scratch_bytes,
        .max_depth = MDL_MAX_DEPTH,
        .max_channels = MDL_P2P_CHANNEL,
        .oneshot_bytes = c->cfg.oneshot,
        .blocks = devices,
    };
    mdl_far_init(&c->far, c->cfg.far_ns);
    c->stream_bytes = c->cfg.stream ? c->cfg.stream : mdl_cache_bytes();
    c->spin_ns = 1000 * (uint64_t)(c->cfg.spin >= 0 ? c->cfg.spin : crowded ? 0 : SPIN_US);
    c->yield_ns = 1000 * (uint64_t)(c->cfg.yield >= 0 ? c->cfg.yield : crowded ? CROWDED_YIELD_US : YIELD_US);
}

static void log_result(const struct mdl_comm *c)
{
    for (int t = 0; t < c->ntransports; t++) {
        int n = 0;
        for (int r = 0; r < c->nranks; r++) n += c->via[r] == t;
        if (n) MDL_INFO(MDL_INIT, "rank %d: %s to %d of %d ranks", c->rank, c->transport[t].ops->name, n, c->nranks);
    }
    MDL_INFO(MDL_INIT, "rank %d of %d is ready: %d hosts, %s", c->rank, c->nranks, c->team->nhosts,
             !c->use_board         ? "no shared board"
             : c->team->remote_get ? "boards mapped, single copy allowed"
                                   : "boards mapped, no single copy");
}

/* On the reactor's thread, so that it takes one visit there and not one for each. */
static void attach_inside(void *comm)
{
    mdl_fault_attach(comm);
    mdl_diag_attach(comm);
    mdl_job_attach(comm);
}

medleyResult_t mdl_comm_connect(struct mdl_comm *c, uint64_t deadline_ns)
{
    size_t bytes;
    uint8_t *mine = NULL, *all = NULL, *rows = NULL;
    medleyResult_t res;

    mdl_ticks_init();
    mdl_reactor_call(mdl_door_reactor(mdl_ctl_door(c->ctl)), attach_inside, c);
    mdl_facts_own(c, &c->facts[c->rank]);
    MDL_INFO(MDL_INIT, "rank %d: opening transports %s", c->rank, c->cfg.transport.s);
    res = mdl_workers_hold(c->cfg.threads, c->cfg.cpu_set.s);
    c->holds_workers = res == medleySuccess;
    if (res == medleySuccess) res = mdl_transports_open(c);
    if (res == medleySuccess) res = make_board(c);
    if (res == medleySuccess) res = open_device(c);
    bytes = blob_bytes(c);
    mine = calloc(bytes, 1);
    all = calloc(bytes, (size_t)c->nranks);
    if (res == medleySuccess && (!mine || !all))
        res = mdl_error(medleySystemError, "out of memory for %d ranks", c->nranks);
    if (res == medleySuccess) {
        c->facts[c->rank].board_segment = c->board.own->fd >= 0 || c->board.own->arena ? c->board.own->id : 0;
        c->facts[c->rank].board_place = c->board.own->piece.place;
        c->facts[c->rank].board_bytes = c->board.own->len;
        res = write_blob(c, mine);
    }
    if (res != medleySuccess) {
        res = agree(c, res, deadline_ns, "opened transports");
        goto free_blobs;
    }
    res = mdl_ctl_allgather(c->ctl, mine, bytes, all, deadline_ns, "addresses and facts");
    if (res == medleySuccess) res = read_blobs(c, all);
    MDL_INFO(MDL_INIT, "rank %d: connecting", c->rank);
    for (int t = 0; res == medleySuccess && t < c->ntransports; t++)
        res = connect_transport(c, t, all, halfway(deadline_ns));
    if (res == medleySuccess) res = exchange_reach(c, deadline_ns, &rows);
    if (res == medleySuccess) res = choose_transports(c, rows);
    if (res == medleySuccess) res = make_team(c, rows);
    if (res == medleySuccess) res = mdl_transports_check_required(c);
    if (res == medleySuccess) res = map_boards(c);
    res = agree(c, res, deadline_ns, "all ranks are connected");
    if (res == medleySuccess) {
        mdl_transports_settle(c);
        mdl_segment_withdraw(c->board.own);
        set_limits(c);
        res = mdl_native_open(c, deadline_ns);
    }
    if (res == medleySuccess && !c->native) res = mdl_direct_open(c, deadline_ns);
    if (res == medleySuccess) res = mdl_island_open(c, deadline_ns);
    if (res == medleySuccess) {
        mdl_audit_start(c);
        log_result(c);
    }
free_blobs:
    free(mine);
    free(all);
    free(rows);
    return res == medleySuccess || !mdl_comm_failed(c) ? res : mdl_comm_fault(c);
}
