/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory: messages, mappings and single copies between the ranks of a host. shm.h says which file does what,
 * shm_ring.h what the ranks share. This file opens and closes a context and lets its thread sleep.
 *
 * Sleeping. arm puts the thread's bell into the own front page, fences, and looks at everything once more; whoever
 * stores something that this rank may wait for fences, looks at that word, clears it and rings. One of the two sees the
 * other, so no wake-up is lost; a wake-up too many is harmless.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { INLINE_MOST = 16384 }; /* larger messages are quicker through the bulk ring or by single copy */

static medleyResult_t probe(const struct mdl_config *config, char *why, size_t why_bytes)
{
    static atomic_bool worked; /* once is enough. Relaxed: it says nothing but itself */
    struct mdl_segment *segment;
    if (atomic_load_explicit(&worked, memory_order_relaxed)) return medleySuccess;
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
        snprintf(why, why_bytes, "no eventfd: %s", strerror(errno));
        return medleySystemError;
    }
    close(fd);
    medleyResult_t result = mdl_segment_create(4096, true, false, &segment);
    if (result != medleySuccess) {
        snprintf(why, why_bytes, "%s", mdl_error_text());
        return result;
    }
    bool shareable = segment->fd >= 0;
    mdl_segment_destroy(segment);
    atomic_store_explicit(&worked, shareable, memory_order_relaxed);
    if (shareable) return medleySuccess;
    snprintf(why, why_bytes, "no memory that can be shared: memfd_create is refused, and so are /dev/shm and $TMPDIR");
    return medleySystemError;
}

/* FNV-1a: tells MEDLEY_HOST_IDs apart, no more. */
static uint64_t hash_text(const char *text)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (const char *c = text; *c; c++) h = (h ^ (unsigned char)*c) * 0x100000001b3ull;
    return h;
}

static void close_shm(void *ctx)
{
    struct mdl_shm *s = ctx;
    if (s->service) mdl_door_unserve(s->service);
    if (s->home) mdl_shm_home_end(s->home, MDL_SHM_CLOSED);
    mdl_shm_peers_close(s);
    if (s->door) mdl_door_put(s->door);
    if (s->home && s->home->segment && *s->args.abort_word) s->home->segment->orphaned = true;
    if (s->home) mdl_shm_home_put(s->home);
    free(s->peers);
    pthread_cond_destroy(&s->answered);
    pthread_mutex_destroy(&s->lock);
    memset(&s->secret, 0, sizeof(s->secret));
    free(s);
}

static void init_sync(struct mdl_shm *s)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->answered, &attr);
    pthread_condattr_destroy(&attr);
}

static struct mdl_shm *context_new(const struct mdl_transport_open *args)
{
    struct mdl_shm *s = calloc(1, sizeof(*s));
    if (!s) return NULL;
    s->args = *args;
    s->host_id = hash_text(args->config->host_id.s);
    s->bell = -1;
    s->inline_max = args->config->eager < INLINE_MOST ? args->config->eager : INLINE_MOST;
    memcpy(s->secret.key, args->secret, sizeof(s->secret.key));
    mdl_list_init(&s->guests);
    mdl_list_init(&s->tx_active);
    mdl_list_init(&s->rx_active);
    mdl_list_init(&s->pulls);
    mdl_list_init(&s->bulk_out_active);
    mdl_list_init(&s->bulk_in_active);
    s->peers = calloc((size_t)args->nranks, sizeof(*s->peers));
    if (s->peers) {
        init_sync(s);
        return s;
    }
    free(s);
    return NULL;
}

static medleyResult_t open_shm(const struct mdl_transport_open *args, void **ctx)
{
    struct mdl_shm *s = context_new(args);
    if (!s) return mdl_error(medleySystemError, "rank %d: no memory for the shared-memory transport", args->rank);
    medleyResult_t result = mdl_shm_home_open(args->rank, args->nranks, &s->home);
    if (result != medleySuccess) goto close_ctx;
    result = mdl_door_get(args->config, &s->door);
    if (result != medleySuccess) goto close_ctx;
    result = mdl_door_serve(s->door, &s->secret, MDL_PURPOSE_SHM, args->rank, mdl_shm_on_link, s, &s->service);
    if (result != medleySuccess) goto close_ctx;
    *ctx = s;
    return medleySuccess;
close_ctx:
    close_shm(s);
    return result;
}

static medleyResult_t address(void *ctx, uint8_t *bytes, size_t *len)
{
    struct mdl_shm *s = ctx;
    struct mdl_shm_address a = {
        .nonce = s->home->nonce,
        .host_id = s->host_id,
        .probe = (uintptr_t)s->home->probe,
        .pid = (uint32_t)getpid(),
        .uid = (uint32_t)getuid(),
        .page = (uint32_t)sysconf(_SC_PAGESIZE),
        .ring_bytes = s->home->layout.ring_bytes,
        .bulk_slots = s->home->layout.bulk_slots,
        .bulk_bytes = s->home->layout.bulk_bytes,
    };
    if (s->home->segment && s->home->segment->arena) {
        a.arena = s->home->segment->arena;
        a.rings = s->home->segment->piece.place;
    }
    const struct mdl_addr *door = mdl_door_unix(s->door);
    if (door) a.door = *door;
    struct mdl_writer w = {.p = bytes, .cap = *len};
    mdl_shm_address_write(&a, &w);
    if (w.bad) return mdl_error(medleyInvalidArgument, "rank %d: no room for the shared-memory address", s->args.rank);
    *len = w.len;
    return medleySuccess;
}

static void notify(void *ctx, int peer)
{
    struct mdl_shm_peer *p = mdl_shm_peer(ctx, peer);
    if (p) mdl_shm_wake(p);
}

static void disarm(void *ctx)
{
    struct mdl_shm *s = ctx;
    if (s->bell < 0) return;
    atomic_store_explicit(&s->home->front->sleeping, 0, memory_order_relaxed);
    s->bell = -1;
    mdl_bell_give();
}

static medleyResult_t arm(void *ctx, int *fd)
{
    struct mdl_shm *s = ctx;
    if (s->npeers == 0) {
        *fd = -1;
        return medleySuccess;
    }
    s->bell = mdl_bell_take();
    if (s->bell < 0) return medleyInProgress; /* nothing to sleep on */
    atomic_store_explicit(&s->home->front->sleeping, (uint32_t)s->bell + 1, memory_order_relaxed);
    mdl_fence(); /* pairs with mdl_shm_wake */
    if (mdl_guard_is_shut(&s->guard) || mdl_shm_has_work(s)) {
        disarm(ctx);
        return medleyInProgress;
    }
    *fd = mdl_bell_fd(s->bell);
    return medleySuccess;
}

static void abort_shm(void *ctx)
{
    struct mdl_shm *s = ctx;
    mdl_shm_home_end(s->home, MDL_SHM_ABORTED); /* first: what peers read from now on does not count */
    if (!mdl_guard_shut(&s->guard))
        MDL_WARN(MDL_FAULT, "rank %d: a copy through shared memory did not end in %d s", s->args.rank,
                 MDL_GUARD_WAIT_S);
    mdl_shm_wake_home(s->home);
}

/* The monitor answers with it. */
static void close_rings(struct mdl_task *task)
{
    struct mdl_shm *s = mdl_container_of(task, struct mdl_shm, settle_task);
    s->home->fd = -1;
    mdl_segment_withdraw(s->home->segment);
}

/* Everybody has mapped the rings. */
static void settle(void *ctx)
{
    struct mdl_shm *s = ctx;
    if (s->home->fd < 0) return;
    s->settle_task.fn = close_rings;
    mdl_reactor_post(mdl_door_reactor(s->door), &s->settle_task);
}

static const char *path_text(const struct mdl_shm_peer *p)
{
    if (!p->can_get) return "slots";
    return p->same_process ? "memcpy in one process" : "cma";
}

static void link_shm(void *ctx, int peer, struct mdl_link_info *info)
{
    struct mdl_shm_peer *p = mdl_shm_peer(ctx, peer);
    *info = (struct mdl_link_info){0};
    if (!p) return;
    uint32_t maps = atomic_load_explicit(&p->nmaps, memory_order_relaxed);
    if (maps > 0)
        snprintf(info->detail, sizeof(info->detail), "%s, %u mapped", path_text(p), maps);
    else
        snprintf(info->detail, sizeof(info->detail), "%s", path_text(p));
    info->sent_bytes = atomic_load_explicit(&p->sent_bytes, memory_order_relaxed);
    info->recv_bytes = atomic_load_explicit(&p->recv_bytes, memory_order_relaxed);
    info->fallbacks = atomic_load_explicit(&p->fallbacks, memory_order_relaxed);
}

extern const struct mdl_transport mdl_transport_shm;
const struct mdl_transport mdl_transport_shm = {
    .abi = MDL_PLUGIN_ABI,
    .size = sizeof(struct mdl_transport),
    .name = "shm",
    .caps = MDL_CAP_SAME_HOST | MDL_CAP_MAP | MDL_CAP_GET,
    .request_size = sizeof(struct mdl_shm_request),
    .probe = probe,
    .open = open_shm,
    .close = close_shm,
    .address = address,
    .connect_all = mdl_shm_connect_all,
    .send = mdl_shm_send,
    .recv = mdl_shm_recv,
    .map = mdl_shm_map,
    .unmap = mdl_shm_unmap,
    .get = mdl_shm_get,
    .notify = notify,
    .progress = mdl_shm_progress,
    .arm = arm,
    .disarm = disarm,
    .abort = abort_shm,
    .link = link_shm,
    .settle = settle,
};
