/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP transport: messages between ranks over several sockets per peer, on any interfaces, that survive the loss of
 * all sockets but one, and of that one too if it can be made anew. tcp_context.h says how it is built; this file holds
 * the operations of the contract.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "transports/tcp_context.h"
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

static medleyResult_t tcp_probe(const struct mdl_config *config, char *why, size_t why_bytes)
{
    medleyResult_t rc = mdl_addr_interfaces_check(config);
    if (rc != medleySuccess && why_bytes) snprintf(why, why_bytes, "%s", mdl_error_text());
    return rc;
}

/* ---- open and close ---- */

static medleyResult_t open_fds(struct mdl_tcp *t)
{
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event wake = {.events = EPOLLIN, .data.ptr = &t->wake_fd};
    struct epoll_event timer = {.events = EPOLLIN, .data.ptr = &t->timer_fd};
    if (t->epoll_fd < 0 || t->wake_fd < 0 || t->timer_fd < 0 ||
        epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->wake_fd, &wake) < 0 ||
        epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->timer_fd, &timer) < 0)
        return mdl_system_error(errno, "rank %d: descriptors of the TCP transport", t->rank);
    return medleySuccess;
}

static struct mdl_tcp *context_new(const struct mdl_transport_open *args)
{
    struct mdl_tcp *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->rank = args->rank;
    t->nranks = args->nranks;
    t->cfg = args->config;
    t->abort_word = args->abort_word;
    t->peer_lost = args->peer_lost;
    t->engine = args->engine;
    snprintf(t->name, sizeof t->name, "%s", args->name ? args->name : "");
    memcpy(t->secret.key, args->secret, sizeof t->secret.key);
    t->epoll_fd = t->wake_fd = t->timer_fd = -1;
    t->next_tick_ns = t->timer_ns = UINT64_MAX;
    struct mdl_list *lists[] = {&t->active, &t->dirty, &t->dead_lanes, &t->handoff};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) mdl_list_init(lists[i]);
    mdl_tcp_pool_init(&t->pool, args->config->eager);
    pthread_mutex_init(&t->lock, NULL);
    pthread_mutex_init(&t->handoff_lock, NULL);
    t->peers = calloc((size_t)args->nranks, sizeof(struct mdl_tcp_peer *));
    t->addresses = calloc((size_t)args->nranks, sizeof(uint8_t *));
    t->scratch = malloc(MDL_TCP_SCRATCH_BYTES);
    return t;
}

static void close_fd(int fd)
{
    if (fd >= 0) close(fd);
}

static void tcp_close(void *ctx)
{
    struct mdl_tcp *t = ctx;
    if (!t) return;
    if (t->service) mdl_door_unserve(t->service);
    /* After an abort nothing needs to arrive. Without memory the sockets are closed at once. */
    if (!atomic_load_explicit(&t->aborted, memory_order_relaxed))
        t->leaving = malloc(((size_t)t->nlanes + 1) * sizeof *t->leaving);
    mdl_list_each (it, &t->active) mdl_tcp_peer_free(mdl_container_of(it, struct mdl_tcp_peer, link));
    mdl_tcp_drop_handoff(t);
    mdl_tcp_lanes_bury(t);
    if (t->nleaving) mdl_tcp_linger(t->cfg, t->leaving, t->nleaving);
    free(t->leaving);
    if (t->door) mdl_door_put(t->door);
    close_fd(t->epoll_fd);
    close_fd(t->wake_fd);
    close_fd(t->timer_fd);
    for (int r = 0; t->addresses && r < t->nranks; r++) free(t->addresses[r]);
    free(t->addresses);
    free(t->peers);
    free(t->scratch);
    mdl_tcp_pool_fini(&t->pool);
    pthread_mutex_destroy(&t->handoff_lock);
    pthread_mutex_destroy(&t->lock);
    explicit_bzero(t, sizeof *t); /* it held the secret */
    free(t);
}

static medleyResult_t open_net(struct mdl_tcp *t)
{
    if (!t->peers || !t->addresses || !t->scratch)
        return mdl_error(medleySystemError, "no memory for the TCP transport");
    MDL_TRY(open_fds(t));
    MDL_TRY(mdl_door_get(t->cfg, &t->door));
    t->nlocals = mdl_door_addresses(t->door, t->locals);
    if (t->nlocals == 0)
        return mdl_error(medleySystemError, "rank %d: no network interface for TCP; see MEDLEY_SOCKET_IFNAME", t->rank);
    return mdl_door_serve(t->door, &t->secret, MDL_PURPOSE_TCP, t->rank, mdl_tcp_on_link, t, &t->service);
}

static medleyResult_t tcp_open(const struct mdl_transport_open *args, void **ctx)
{
    if (args->size < sizeof *args || !args->config || args->nranks < 1 || args->rank < 0 || args->rank >= args->nranks)
        return mdl_error(medleyInvalidArgument, "TCP transport: rank %d of %d, or an argument block of %u bytes",
                         args->rank, args->nranks, args->size);
    struct mdl_tcp *t = context_new(args);
    if (!t) return mdl_error(medleySystemError, "no memory for the TCP transport");
    medleyResult_t rc = open_net(t);
    if (rc == medleySuccess)
        *ctx = t;
    else
        tcp_close(t);
    return rc;
}

/* ---- addresses: version u8, count u8, 0 u16, eager u32, then the addresses ---- */

static medleyResult_t tcp_address(void *ctx, uint8_t *address, size_t *len)
{
    const struct mdl_tcp *t = ctx;
    struct mdl_writer w = {.p = address, .cap = *len};
    mdl_write_u8(&w, MDL_TCP_ADDRESS_VERSION);
    mdl_write_u8(&w, (uint8_t)t->nlocals);
    mdl_write_u16(&w, 0);
    mdl_write_u32(&w, (uint32_t)t->cfg->eager);
    for (int i = 0; i < t->nlocals; i++) mdl_addr_write(&w, &t->locals[i]);
    if (w.bad) return mdl_error(medleyInvalidArgument, "TCP transport: %zu bytes are too few for its address", *len);
    *len = w.len;
    return medleySuccess;
}

/* Is it an address that some connection can be tried with? */
static bool usable(const struct mdl_tcp *t, const struct mdl_peer *peer)
{
    struct mdl_reader r = {.p = peer->address, .left = peer->address_len};
    struct mdl_addr a;
    bool any = false;
    if (!peer->address || mdl_read_u8(&r) != MDL_TCP_ADDRESS_VERSION) return false;
    unsigned count = mdl_read_u8(&r);
    (void)mdl_read_u16(&r);
    if (mdl_read_u32(&r) > MDL_TCP_MAX_EAGER || count > MDL_MAX_ADDRS) return false;
    for (unsigned i = 0; i < count; i++) {
        if (mdl_addr_read(&r, &a) != medleySuccess) return false;
        for (int k = 0; k < t->nlocals; k++) any = any || a.sa.ss_family == t->locals[k].sa.ss_family;
    }
    return any && !r.bad && r.left == 0;
}

static medleyResult_t tcp_connect_all(void *ctx, const struct mdl_peer *peers, uint64_t deadline_ns, uint32_t *reach)
{
    struct mdl_tcp *t = ctx;
    if (t->connected) return mdl_error(medleyInvalidUsage, "TCP transport: connect_all was called before");
    for (int r = 0; r < t->nranks; r++) {
        if (r == t->rank || !usable(t, &peers[r])) continue;
        t->addresses[r] = malloc(2 + peers[r].address_len);
        if (!t->addresses[r]) return mdl_error(medleySystemError, "no memory for the address of rank %d", r);
        mdl_put_u16(t->addresses[r], (uint16_t)peers[r].address_len);
        memcpy(t->addresses[r] + 2, peers[r].address, peers[r].address_len);
    }
    for (int r = 0; r < t->nranks; r++) reach[r] = t->addresses[r] ? MDL_REACH_SEND : 0;
    t->connected = true;
    return medleySuccess;
}

/* ---- messages ---- */

static medleyResult_t check(const struct mdl_tcp *t, int peer, const struct mdl_message *m)
{
    if (peer < 0 || peer >= t->nranks || peer == t->rank)
        return mdl_error(medleyInvalidArgument, "rank %d: no message to or from rank %d of %d over TCP", t->rank, peer,
                         t->nranks);
    if (m->channel >= MDL_MAX_CHANNELS)
        return mdl_error(medleyInvalidArgument, "rank %d: channel %u is not below %d", t->rank, m->channel,
                         MDL_MAX_CHANNELS);
    if (!m->ptr && m->len)
        return mdl_error(medleyInvalidArgument, "rank %d: a message of %zu bytes at NULL", t->rank, m->len);
    return medleySuccess;
}

static medleyResult_t gone(const struct mdl_tcp_peer *p)
{
    return mdl_error(medleyRemoteError, "rank %d: rank %d %s", p->t->rank, p->rank,
                     p->lost ? "was lost before" : "has left the communicator");
}

static medleyResult_t start_send(struct mdl_tcp *t, int peer, const struct mdl_message *m, struct mdl_tcp_request *req)
{
    MDL_TRY(check(t, peer, m));
    struct mdl_tcp_peer *p = mdl_tcp_peer_get(t, peer);
    if (!p) return medleyInvalidUsage;
    if (p->lost || p->left || p->flow.bye_next) return gone(p);
    MDL_TRY(mdl_tcp_flow_send(&p->flow, m, req));
    if (!p->nlanes) {
        mdl_tcp_peer_need(p);
        return medleySuccess;
    }
    if (!mdl_tcp_flow_has_small(&p->flow) && !mdl_tcp_flow_has_chunk(&p->flow)) {
        t->idle_turns = 0; /* its announcement leaves some turns from now, if no CREDIT comes until then */
        return medleySuccess;
    }
    t->now = mdl_now_ns();
    mdl_tcp_peer_touch(p);
    return mdl_tcp_peer_flush(p, false);
}

static medleyResult_t tcp_send(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req)
{
    struct mdl_tcp *t = ctx;
    if (!mdl_tcp_enter(t)) return mdl_error_set(medleyInvalidUsage, "the communicator was aborted");
    medleyResult_t rc = start_send(t, peer, msg, (struct mdl_tcp_request *)req);
    mdl_tcp_leave(t);
    return rc;
}

/* Its CREDIT leaves with the next send or progress. */
static medleyResult_t start_recv(struct mdl_tcp *t, int peer, const struct mdl_message *m, struct mdl_tcp_request *req)
{
    MDL_TRY(check(t, peer, m));
    struct mdl_tcp_peer *p = mdl_tcp_peer_get(t, peer);
    if (!p) return medleyInvalidUsage;
    MDL_TRY(mdl_tcp_flow_recv(&p->flow, m, req));
    if (req->base.state != MDL_REQ_ACTIVE) {
        mdl_tcp_peer_touch(p); /* an acknowledgement or a refusal */
    } else if (p->lost || p->left) {
        mdl_tcp_flow_fail(&p->flow, gone(p));
    } else if (!p->nlanes) {
        mdl_tcp_peer_need(p);
    } else if (mdl_tcp_flow_has_small(&p->flow)) {
        mdl_tcp_peer_touch(p);
    }
    return medleySuccess;
}

static medleyResult_t tcp_recv(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req)
{
    struct mdl_tcp *t = ctx;
    if (!mdl_tcp_enter(t)) return mdl_error_set(medleyInvalidUsage, "the communicator was aborted");
    medleyResult_t rc = start_recv(t, peer, msg, (struct mdl_tcp_request *)req);
    mdl_tcp_leave(t);
    return rc;
}

/* ---- information ---- */

static bool has_interface(const struct mdl_link_info *info, const char *name)
{
    size_t len = strlen(name), n;
    for (const char *at = info->interface; *at; at += n + (at[n] == ',')) {
        n = strcspn(at, ",");
        if (n == len && !memcmp(at, name, n)) return true; /* rail1 is not rail10 */
    }
    return false;
}

static void add_interface(struct mdl_link_info *info, const char *name)
{
    size_t len = strlen(info->interface), more = strlen(name);
    if (!more || has_interface(info, name) || len + more + 2 > sizeof info->interface) return;
    snprintf(info->interface + len, sizeof info->interface - len, "%s%s", len ? "," : "", name);
}

static void describe(const struct mdl_tcp_peer *p, struct mdl_link_info *info)
{
    char text[MDL_ADDR_TEXT_BYTES];
    const struct mdl_tcp_lane *first = NULL;
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++) {
        if (!p->lanes[i]) continue;
        if (!first) first = p->lanes[i];
        add_interface(info, p->lanes[i]->local.ifname);
    }
    if (!first) {
        snprintf(info->detail, sizeof info->detail, "%s", p->lost ? "lost" : "not connected");
        return;
    }
    mdl_addr_format(&first->remote, text);
    snprintf(info->detail, sizeof info->detail, "%d socket%s, %s%s", p->nlanes, p->nlanes > 1 ? "s" : "", text,
             p->nlanes > 1 ? ", ..." : "");
}

static void tcp_link(void *ctx, int peer, struct mdl_link_info *info)
{
    struct mdl_tcp *t = ctx;
    *info = (struct mdl_link_info){0};
    if (peer < 0 || peer >= t->nranks) return;
    pthread_mutex_lock(&t->lock);
    struct mdl_tcp_peer *p = t->peers[peer];
    if (p) {
        describe(p, info);
        info->sent_bytes = atomic_load_explicit(&p->sent_bytes, memory_order_relaxed);
        info->recv_bytes = atomic_load_explicit(&p->recv_bytes, memory_order_relaxed);
        info->retries = atomic_load_explicit(&p->retries, memory_order_relaxed) +
                        atomic_load_explicit(&p->redials, memory_order_relaxed);
    }
    pthread_mutex_unlock(&t->lock);
}

const struct mdl_transport mdl_transport_tcp = {
    .abi = MDL_PLUGIN_ABI,
    .size = sizeof(struct mdl_transport),
    .name = "tcp",
    .caps = 0,
    .request_size = sizeof(struct mdl_tcp_request),
    .probe = tcp_probe,
    .open = tcp_open,
    .close = tcp_close,
    .address = tcp_address,
    .connect_all = tcp_connect_all,
    .send = tcp_send,
    .recv = tcp_recv,
    .progress = mdl_tcp_progress,
    .arm = mdl_tcp_arm,
    .disarm = mdl_tcp_disarm,
    .abort = mdl_tcp_abort,
    .link = tcp_link,
};
