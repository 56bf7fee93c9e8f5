/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is here: every rank dials the abstract Unix name of every rank whose MEDLEY_HOST_ID equals its own. A name of
 * another host or network namespace is refused at once, which is the only test of "same host" that counts; a rank in
 * this process is found by its nonce without dialling. Over its own socket each side gets the other's ring segment and
 * eventfd from the other's monitor, so neither waits for what the other's application does, and a refusal seen by one
 * side only costs nothing: the engine uses a pair as both sides see it.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH = 64, WAIT_MS = 20 };

/* One rank that may be in this host. */
struct attempt {
    struct batch *batch;
    struct mdl_shm_address address;
    int rank;
    bool dialled, linked; /* linked, link: under batch->lock until the dial is cancelled */
    struct mdl_dial *dial;
    struct mdl_link link;
    struct mdl_shm_peer *peer;
};

struct batch {
    struct mdl_shm *ctx;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n, running;
    struct attempt attempts[BATCH];
};

static medleyResult_t no_memory(struct mdl_shm *s)
{
    return mdl_error(medleySystemError, "rank %d: no memory for a shared-memory peer", s->args.rank);
}

/* ---- handover ---- */

static bool map_peer(struct mdl_shm_peer *p, const struct mdl_shm_reply *r, int fd)
{
    struct mdl_shm_layout *l = &p->out_layout;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct stat st;
    *l = (struct mdl_shm_layout){.ring_bytes = r->ring_bytes, .bulk_slots = r->bulk_slots, .bulk_bytes = r->bulk_bytes};
    if (r->nonce != p->nonce || !mdl_shm_layout_fill(l, page) || r->region < page || r->region % page != 0)
        return false;
    if (r->len < l->region_bytes || r->region > r->len - l->region_bytes) return false;
    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size < r->len) return false;
    void *front = mmap(NULL, l->front_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (front == MAP_FAILED) return false;
    p->front = front;
    void *out = mmap(NULL, l->region_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)r->region);
    if (out == MAP_FAILED) return false;
    p->out = out;
    return atomic_load_explicit(&p->front->nonce, memory_order_acquire) == p->nonce;
}

static const char *status_text(int status)
{
    switch (status) {
    case MDL_SHM_NO_ROOM: return "it has no room for another peer";
    case MDL_SHM_NO_SEGMENT: return "it has no memory that can be shared";
    default: return "it refused";
    }
}

static void not_reached(struct attempt *a, const char *why)
{
    struct mdl_shm *s = a->batch->ctx;
    /* Most of many ranks are on other hosts: one reason shows where to look. */
    medleyLogLevel_t level = mdl_shm_note(s, MDL_SHM_NOTE_APART) ? medleyLogInfo : medleyLogTrace;
    MDL_LOG(level, MDL_SHM, "rank %d: no shared memory with rank %d (pid %u): %s", s->args.rank, a->rank,
            a->address.pid, why);
}

static void hear_hello(struct attempt *a, uint64_t deadline_ns)
{
    struct mdl_shm_peer *p = a->peer;
    struct mdl_shm_reply r;
    int fds[MDL_SHM_REPLY_FDS];
    bool good = false;
    a->peer = NULL;
    if (mdl_shm_hear(p, p->asked, deadline_ns, &r, fds) != medleySuccess) goto free_peer; /* reported */
    p->event_fd = fds[1];
    good = r.status == MDL_SHM_OK && fds[0] >= 0 && fds[1] >= 0;
    if (!good) not_reached(a, status_text(r.status));
    if (good && !(good = map_peer(p, &r, fds[0])))
        not_reached(a, "its ring segment cannot be mapped or is not as it was told");
    if (fds[0] >= 0) close(fds[0]);
    if (good && !(good = mdl_shm_peer_publish(p))) not_reached(a, "this rank has no room for another peer");
free_peer:
    if (!good) {
        mdl_shm_peer_free(p);
        return;
    }
    mdl_shm_peer_open_pidfd(p);
    a->peer = p;
}

static void say_hello(struct attempt *a)
{
    if (!a->linked) return;
    struct mdl_shm_peer *p = mdl_shm_peer_new(a->batch->ctx, a->rank, &a->address);
    if (!p) {
        close(a->link.fd);
        no_memory(a->batch->ctx);
        return;
    }
    p->link_fd = a->link.fd;
    p->pid = mdl_shm_socket_pid(p->link_fd);
    struct mdl_shm_query q = {.type = MDL_SHM_ASK_HELLO, .seq = ++p->asked};
    if (mdl_shm_ask(p, &q) == medleySuccess)
        a->peer = p;
    else
        mdl_shm_peer_free(p);
}

/* ---- dialling ---- */

static void dial_done(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    struct attempt *a = ctx;
    struct batch *b = a->batch;
    if (result != medleySuccess) not_reached(a, why);
    pthread_mutex_lock(&b->lock);
    a->linked = result == medleySuccess;
    if (a->linked) a->link = *link;
    b->running--;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static void dial(struct attempt *a, uint64_t deadline_ns)
{
    struct mdl_shm *s = a->batch->ctx;
    struct mdl_dial_args args = {
        .door = s->door,
        .secret = &s->secret,
        .purpose = MDL_PURPOSE_SHM,
        .rank = s->args.rank,
        .expect_rank = a->rank,
        .addrs = &a->address.door,
        .naddrs = 1,
        .deadline_ns = deadline_ns,
    };
    pthread_mutex_lock(&a->batch->lock);
    a->batch->running++;
    pthread_mutex_unlock(&a->batch->lock);
    a->dialled = mdl_dial_start(&args, dial_done, a, &a->dial) == medleySuccess;
    if (a->dialled) return;
    pthread_mutex_lock(&a->batch->lock);
    a->batch->running--;
    pthread_mutex_unlock(&a->batch->lock);
}

/* Until all dials have ended, which each does by its deadline, or an abort. */
static void await_dials(struct batch *b)
{
    pthread_mutex_lock(&b->lock);
    while (b->running > 0 && !mdl_shm_told_to_stop(b->ctx)) {
        uint64_t until = mdl_now_ns() + WAIT_MS * MDL_NS_PER_MS;
        struct timespec ts = {.tv_sec = (time_t)(until / MDL_NS_PER_S), .tv_nsec = (long)(until % MDL_NS_PER_S)};
        pthread_cond_timedwait(&b->changed, &b->lock, &ts);
    }
    pthread_mutex_unlock(&b->lock);
    for (int i = 0; i < b->n; i++)
        if (b->attempts[i].dialled) mdl_dial_cancel(b->attempts[i].dial);
}

static void watch_peers(void *arg)
{
    struct batch *b = arg;
    for (int i = 0; i < b->n; i++)
        if (b->attempts[i].peer) mdl_shm_peer_watch(b->attempts[i].peer);
}

static void run_batch(struct batch *b, uint64_t deadline_ns)
{
    for (int i = 0; i < b->n; i++) dial(&b->attempts[i], deadline_ns);
    await_dials(b);
    for (int i = 0; i < b->n; i++) say_hello(&b->attempts[i]);
    for (int i = 0; i < b->n; i++)
        if (b->attempts[i].peer) hear_hello(&b->attempts[i], deadline_ns);
    mdl_reactor_call(mdl_door_reactor(b->ctx->door), watch_peers, b);
    b->n = 0;
}

static struct batch *batch_new(struct mdl_shm *s)
{
    struct batch *b = calloc(1, sizeof(*b));
    if (!b) return NULL;
    b->ctx = s;
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &attr);
    pthread_condattr_destroy(&attr);
    return b;
}

static void batch_free(struct batch *b)
{
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* ---- connect_all ---- */

/* A rank of this process. */
static medleyResult_t connect_here(struct mdl_shm *s, int rank, const struct mdl_shm_address *a,
                                   struct mdl_shm_home *home)
{
    struct mdl_shm_peer *p = mdl_shm_peer_new(s, rank, a);
    if (!p) {
        mdl_shm_home_put(home);
        return no_memory(s);
    }
    p->home = home;
    p->same_process = true;
    p->pid = getpid();
    p->front = home->front;
    p->event_fd = home->event_fd;
    p->out_layout = home->layout;
    uint64_t region = mdl_shm_home_region(home, s->args.rank);
    p->out = (char *)home->base + region;
    if (region == 0 || !mdl_shm_peer_publish(p)) mdl_shm_peer_free(p);
    return medleySuccess;
}

/* Could that rank be here? */
static bool is_candidate(struct mdl_shm *s, const struct mdl_peer *peer, struct mdl_shm_address *a)
{
    if (!peer->address || peer->address_len == 0) return false;
    if (!mdl_shm_address_read(peer->address, peer->address_len, a)) {
        MDL_WARN(MDL_SHM, "rank %d: the shared-memory address of rank %d is not understood", s->args.rank, peer->rank);
        return false;
    }
    return a->host_id == s->host_id && a->page == (uint32_t)sysconf(_SC_PAGESIZE);
}

static medleyResult_t consider(struct mdl_shm *s, struct batch *b, int rank, const struct mdl_peer *peer,
                               uint64_t deadline_ns)
{
    struct mdl_shm_address a;
    if (rank == s->args.rank || !is_candidate(s, peer, &a)) return medleySuccess;
    struct mdl_shm_home *here = mdl_shm_home_find(a.nonce);
    if (here) return connect_here(s, rank, &a, here);
    if (a.door.len == 0 || !s->door) return medleySuccess;
    b->attempts[b->n++] = (struct attempt){.batch = b, .rank = rank, .address = a};
    if (b->n == BATCH) run_batch(b, deadline_ns);
    return medleySuccess;
}

static uint32_t reach_of(const struct mdl_shm_peer *p)
{
    if (!p) return 0;
    return MDL_REACH_SEND | MDL_REACH_MAP | (p->can_get ? MDL_REACH_GET : 0);
}

medleyResult_t mdl_shm_connect_all(void *ctx, const struct mdl_peer *peers, uint64_t deadline_ns, uint32_t *reach)
{
    struct mdl_shm *s = ctx;
    struct batch *b = batch_new(s);
    if (!b) return no_memory(s);
    medleyResult_t result = medleySuccess;
    for (int r = 0; r < s->args.nranks && result == medleySuccess && !mdl_shm_told_to_stop(s); r++)
        result = consider(s, b, r, &peers[r], deadline_ns);
    if (b->n > 0) run_batch(b, deadline_ns);
    batch_free(b);
    if (result != medleySuccess) return result;
    if (mdl_shm_told_to_stop(s)) return mdl_guard_refuse();
    int direct = 0;
    for (int r = 0; r < s->args.nranks; r++) {
        reach[r] = reach_of(mdl_shm_peer(s, r));
        direct += (reach[r] & MDL_REACH_GET) != 0;
    }
    MDL_INFO(MDL_SHM, "rank %d: %d other ranks in this host, %d of them by single copy", s->args.rank, s->npeers,
             direct);
    return medleySuccess;
}
