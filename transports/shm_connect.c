/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is here: every rank dials the abstract Unix name of every rank whose MEDLEY_HOST_ID equals its own. A name of
 * another host or network namespace is refused at once, which is the only test of "same host" that counts; a rank in
 * this process is found by its nonce without dialling. Over its own channel each side gets the other's ring segment and
 * bells from the other's monitor, so neither waits for what the other's application does, and a refusal seen by one
 * side only costs nothing: the engine uses a pair as both sides see it.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH = 64 };

/* One rank that may be in this host. */
struct attempt {
    struct batch *batch;
    struct mdl_shm_address address;
    int rank;
    uint64_t segment; /* that will be mapped first, or 0 */
    uint64_t place, segment_len; /* where that is in the arena */
    struct mdl_shm_yard *yard; /* the arena is known: nothing is asked */
    bool dialled, failed; /* failed, peer: under ctx->lock until the dial is cancelled */
    struct mdl_dial *dial;
    struct mdl_shm_peer *peer;
};

struct batch {
    struct mdl_shm *ctx;
    int n;
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

/* The same from the places that its address tells. */
static bool map_pieces(struct attempt *a, int fd)
{
    struct mdl_shm_peer *p = a->peer;
    struct mdl_shm *s = p->ctx;
    struct mdl_shm_layout *l = &p->out_layout;
    const struct mdl_shm_address *at = &a->address;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    *l = (struct mdl_shm_layout){
        .ring_bytes = at->ring_bytes, .bulk_slots = at->bulk_slots, .bulk_bytes = at->bulk_bytes};
    if (!mdl_shm_layout_fill(l, page)) return false;
    size_t len = l->front_bytes + (size_t)(s->args.nranks - 1) * l->region_bytes;
    if (!mdl_arena_join(fd, at->rings, len, l->front_bytes, &p->front_view)) return false;
    p->front = p->front_view.base;
    if (atomic_load_explicit(&p->front->nonce, memory_order_acquire) != p->nonce) return false;
    uint64_t region = (uint64_t)mdl_shm_region_index(a->rank, s->args.rank) * l->region_bytes;
    void *out = mmap(NULL, l->region_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                     (off_t)(at->rings + page + l->front_bytes + region));
    if (out == MAP_FAILED) return false;
    p->out = out;
    return !a->segment || !a->place || mdl_shm_map_piece(p, fd, a->segment, a->place, a->segment_len);
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

/* Of a peer that is not published. */
static void drop_peer(struct attempt *a)
{
    if (a->peer) {
        mdl_shm_link_end(a->peer);
        mdl_shm_peer_free(a->peer);
    }
    a->peer = NULL;
}

static void close_bells(const int *fds)
{
    for (int i = 1; i < MDL_SHM_REPLY_FDS; i++)
        if (fds[i] >= 0) close(fds[i]);
}

/* The arena came with the first answer of its process. Takes fd over. */
static bool enter_yard(struct attempt *a, uint64_t arena, int fd)
{
    struct mdl_shm_peer *p = a->peer;
    if (arena != a->address.arena) {
        close(fd);
        return false;
    }
    p->yard = mdl_shm_yard_add(p->connection, &a->address.door, arena, fd, p->bells);
    return p->yard && map_pieces(a, p->yard->fd);
}

/* A peer whose process's arena and bells are known from another communicator. */
static bool enter_known(struct attempt *a)
{
    struct mdl_shm_peer *p = a->peer;
    p->bells = p->yard->bells;
    mdl_shm_bells_hold(p->bells);
    bool good = map_pieces(a, p->yard->fd);
    if (!good) not_reached(a, "its ring segment cannot be mapped or is not as it was told");
    if (good && !(good = mdl_shm_peer_publish(p))) not_reached(a, "this rank has no room for another peer");
    return good;
}

static bool take_hello(struct attempt *a)
{
    struct mdl_shm_peer *p = a->peer;
    struct mdl_shm_reply r;
    int fds[MDL_SHM_REPLY_FDS];
    if (mdl_shm_hear(p, 0, &r, fds) != medleySuccess) return false; /* reported */
    bool good = r.status == MDL_SHM_OK && r.nfds >= 1 + MDL_BELLS_SHARED;
    int extra = good ? fds[1 + MDL_BELLS_SHARED] : -1;
    if (good)
        p->bells = mdl_shm_bells_get(p->connection, r.bells, fds + 1);
    else
        close_bells(fds);
    if (!good) not_reached(a, status_text(r.status));
    if (good && !(good = p->bells != NULL)) no_memory(a->batch->ctx);
    if (good && a->address.arena) {
        good = enter_yard(a, r.region, fds[0]);
        fds[0] = -1;
    } else if (good) {
        good = map_peer(p, &r, fds[0]);
    }
    if (r.status == MDL_SHM_OK && p->bells && !good)
        not_reached(a, "its ring segment cannot be mapped or is not as it was told");
    if (fds[0] >= 0) close(fds[0]);
    if (good && extra >= 0 && mdl_shm_map_keep(p, a->segment, extra, r.segment_len) != medleySuccess) good = false;
    if (extra >= 0) close(extra);
    if (good && !(good = mdl_shm_peer_publish(p))) not_reached(a, "this rank has no room for another peer");
    return good;
}

/* Monitor's thread: a link is there. */
static struct mdl_shm_peer *say_hello(struct attempt *a, const struct mdl_link *link)
{
    struct mdl_shm_peer *p = link->channel ? mdl_shm_peer_new(a->batch->ctx, a->rank, &a->address) : NULL;
    if (!p) {
        mdl_link_close(link);
        no_memory(a->batch->ctx);
        return NULL;
    }
    p->pid = mdl_channel_pid(link->channel);
    struct mdl_shm_query q = {
        .type = MDL_SHM_ASK_HELLO, .seq = ++p->asked, .segment = a->place ? 0 : a->segment};
    mdl_shm_link_begin(p, link->channel, &q);
    return p;
}

/* ---- dialling ---- */

static void dial_done(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    struct attempt *a = ctx;
    struct mdl_shm *s = a->batch->ctx;
    struct mdl_shm_peer *p = NULL;
    if (result == medleySuccess)
        p = say_hello(a, link);
    else
        not_reached(a, why);
    pthread_mutex_lock(&s->lock);
    a->peer = p;
    a->failed = !p;
    mdl_shm_tell_answered(s);
    pthread_mutex_unlock(&s->lock);
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
        .share = true,
    };
    a->dialled = mdl_dial_start(&args, dial_done, a, &a->dial) == medleySuccess;
}

/* Under the lock. */
static bool is_settled(const struct attempt *a)
{
    return !a->dialled || a->failed || (a->peer && (a->peer->answer.there || a->peer->answer.ended));
}

static bool all_settled(const struct batch *b)
{
    for (int i = 0; i < b->n; i++)
        if (!is_settled(&b->attempts[i])) return false;
    return true;
}

static void await_answers(struct batch *b, uint64_t deadline_ns)
{
    struct mdl_shm *s = b->ctx;
    pthread_mutex_lock(&s->lock);
    s->awaited = b;
    while (!all_settled(b) && !mdl_shm_told_to_stop(s) && mdl_now_ns() < deadline_ns) mdl_shm_wait_answers(s);
    s->awaited = NULL;
    pthread_mutex_unlock(&s->lock);
}

/* Who waits for many answers is woken by the last one. */
void mdl_shm_tell_answered(struct mdl_shm *s)
{
    if (!s->awaited || all_settled(s->awaited)) pthread_cond_broadcast(&s->answered);
}

static void cancel_dials(void *arg)
{
    struct batch *b = arg;
    for (int i = 0; i < b->n; i++)
        if (b->attempts[i].dialled) mdl_dial_cancel(b->attempts[i].dial);
}

/* Those that are not published go; the others are watched. */
static void settle_peers(void *arg)
{
    struct batch *b = arg;
    for (int i = 0; i < b->n; i++) {
        struct attempt *a = &b->attempts[i];
        if (a->failed)
            drop_peer(a);
        else if (a->peer)
            mdl_shm_peer_watch(a->peer);
    }
}

/* Monitor's thread. A process that is not connected any more, or has not been yet, is dialled. */
static void watch_known(void *arg)
{
    struct batch *b = arg;
    for (int i = 0; i < b->n; i++) {
        struct attempt *a = &b->attempts[i];
        if (!a->peer || mdl_shm_link_quiet(a->peer)) continue;
        mdl_shm_peer_free(a->peer);
        a->peer = NULL;
        a->yard = NULL;
    }
}

/* Those whose process's arena is known; false: there are none. */
static bool look_up_known(struct batch *b)
{
    bool any = false;
    for (int i = 0; i < b->n; i++) {
        struct attempt *a = &b->attempts[i];
        if (a->address.arena) a->yard = mdl_shm_yard_find(&a->address.door, a->address.arena);
        if (!a->yard) continue;
        a->peer = mdl_shm_peer_new(b->ctx, a->rank, &a->address);
        if (!a->peer) {
            mdl_shm_yard_put(a->yard);
            a->yard = NULL;
            continue;
        }
        a->peer->yard = a->yard;
        any = true;
    }
    return any;
}

static void run_batch(struct batch *b, uint64_t deadline_ns)
{
    struct mdl_reactor *r = mdl_door_reactor(b->ctx->door);
    bool dialled = false;
    if (look_up_known(b)) mdl_reactor_call(r, watch_known, b);
    for (int i = 0; i < b->n; i++) {
        if (b->attempts[i].yard) continue;
        dial(&b->attempts[i], deadline_ns);
        dialled = true;
    }
    for (int i = 0; i < b->n; i++)
        if (b->attempts[i].yard) b->attempts[i].failed = !enter_known(&b->attempts[i]);
    if (dialled) {
        await_answers(b, deadline_ns);
        mdl_reactor_call(r, cancel_dials, b);
    }
    for (int i = 0; i < b->n; i++)
        if (b->attempts[i].peer && !b->attempts[i].yard) b->attempts[i].failed = !take_hello(&b->attempts[i]);
    mdl_reactor_call(r, settle_peers, b);
    b->n = 0;
}

/* ---- connect_all ---- */

/* A rank of this process. */
static medleyResult_t connect_here(struct mdl_shm *s, const struct mdl_peer *peer, const struct mdl_shm_address *a,
                                   struct mdl_shm_home *home)
{
    int rank = peer->rank;
    struct mdl_shm_peer *p = mdl_shm_peer_new(s, rank, a);
    if (!p) {
        mdl_shm_home_put(home);
        return no_memory(s);
    }
    p->home = home;
    p->same_process = true;
    p->pid = getpid();
    p->front = home->front;
    p->out_layout = home->layout;
    uint64_t region = mdl_shm_home_region(home, s->args.rank);
    p->out = (char *)home->base + region;
    bool good = region != 0;
    if (good && peer->segment && peer->segment_place)
        good = mdl_shm_map_piece(p, mdl_arena_fd(a->arena), peer->segment, peer->segment_place, peer->segment_len);
    if (!good || !mdl_shm_peer_publish(p)) mdl_shm_peer_free(p);
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
    if (here) return connect_here(s, peer, &a, here);
    if (a.door.len == 0 || !s->door) return medleySuccess;
    b->attempts[b->n++] = (struct attempt){.batch = b,
                                           .rank = rank,
                                           .address = a,
                                           .segment = peer->segment,
                                           .place = a.arena ? peer->segment_place : 0,
                                           .segment_len = peer->segment_len};
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
    struct batch *b = calloc(1, sizeof(*b));
    if (!b) return no_memory(s);
    b->ctx = s;
    medleyResult_t result = medleySuccess;
    for (int r = 0; r < s->args.nranks && result == medleySuccess && !mdl_shm_told_to_stop(s); r++)
        result = consider(s, b, r, &peers[r], deadline_ns);
    if (b->n > 0) run_batch(b, deadline_ns);
    free(b);
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
