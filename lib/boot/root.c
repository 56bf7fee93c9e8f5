/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roots.
 *
 * The list of roots has a lock, because ids are made and joined on any thread; everything inside a root belongs to the
 * reactor's thread. The lock is never held across a call to that thread. A root cannot close itself there (the last
 * reference to the reactor may be its own), so it only says that it is `over`, and the next call from outside closes
 * it.
 *
 * Which session a JOIN belongs to: the one that knows its nonce (the rank comes back), else the one that is open. With
 * MEDLEY_COMM_ID a root may so see one communicator after the other, but never two at a time: a rank that joins twice
 * at once is refused where it does so (join.c).
 */
#include "config.h"
#include "lib/boot/root.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/session.h"
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct mdl_root {
    struct mdl_list link; /* under roots_lock, with holds */
    int holds;
    atomic_bool over; /* set on the reactor's thread, read by whoever may close it */
    pid_t pid;
    struct mdl_config cfg;
    struct mdl_id id, first;
    bool lasting, attached, used;
    struct mdl_door *door;
    struct mdl_reactor *reactor;
    struct mdl_service *service;
    struct mdl_timer tick, expiry;
    struct mdl_session *open; /* the one that is coming together, or has failed */
    struct mdl_list sessions; /* the complete ones, until all have been answered */
    struct mdl_list visitors;
    int held;
    uint64_t tick_ms;
};

static pthread_mutex_t roots_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mdl_list roots = {&roots, &roots};

const struct mdl_config *mdl_root_config(const struct mdl_root *root) { return &root->cfg; }
struct mdl_reactor *mdl_root_reactor(const struct mdl_root *root) { return root->reactor; }
struct mdl_door *mdl_root_door(const struct mdl_root *root) { return root->door; }
int mdl_root_held(const struct mdl_root *root) { return root->held; }
struct mdl_list *mdl_root_visitors(struct mdl_root *root) { return &root->visitors; }

static void set_over(struct mdl_root *root)
{
    /* Release: pairs with the acquire in `closable`; what led to the end is visible to the closer. */
    atomic_store_explicit(&root->over, true, memory_order_release);
}

/* ---- visitors ---- */

void mdl_visitor_send(struct mdl_visitor *v, int type, uint32_t rank, const void *payload, size_t len)
{
    struct mdl_frame frame = {.type = (uint8_t)type, .src = MDL_FRAME_ROOT, .dst = rank};
    mdl_wire_send(v->wire, &frame, payload, len, NULL);
}

static void drop_visitor(struct mdl_visitor *v)
{
    struct mdl_root *root = v->root;
    mdl_list_remove(&v->link);
    root->held--;
    if (v->session) mdl_session_gone(v->session, v);
    mdl_wire_close(v->wire);
    free(v);
}

static void refuse_visitor(struct mdl_visitor *v, uint32_t rank, const char *text)
{
    uint8_t bytes[16 + MDL_ERROR_TEXT_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_trouble t = {.code = medleyInvalidUsage, .origin = -1};
    snprintf(t.text, sizeof(t.text), "%s", text);
    mdl_trouble_write(&w, &t);
    mdl_visitor_send(v, MDL_FRAME_REFUSE, rank, bytes, w.len);
    v->dismissed = true;
}

/* ---- sessions ---- */

static struct mdl_session *session_of(struct mdl_root *root, const struct mdl_join *join)
{
    mdl_list_each (it, &root->sessions) {
        struct mdl_session *s = mdl_container_of(it, struct mdl_session, link);
        if (mdl_session_knows(s, join)) return s;
    }
    return root->open;
}

static void start_relay(struct mdl_root *root)
{
    struct mdl_session *s = root->open;
    if (!s || !s->index || s->relay || !root->attached) return;
    if (mdl_relay_create(s, &root->first, &s->relay) != medleySuccess)
        mdl_session_fail(s, medleySystemError, mdl_error_text());
}

static void on_join(struct mdl_visitor *v, const struct mdl_join *join, bool forwarded)
{
    struct mdl_root *root = v->root;
    struct mdl_session *s = session_of(root, join);
    if (!s && root->used && !root->lasting) {
        refuse_visitor(v, join->rank,
                       "the unique id has been used for a communicator already, or has expired: make a new "
                       "one with medleyGetUniqueId for each");
        return;
    }
    if (!s && mdl_session_create(root, join, forwarded, &root->open) != medleySuccess) {
        refuse_visitor(v, join->rank, mdl_error_text());
        return;
    }
    if (!s) s = root->open;
    v->session = s;
    v->rank = forwarded ? MDL_FRAME_ROOT : join->rank;
    mdl_session_join(s, v, join);
    start_relay(root);
}

void mdl_root_completed(struct mdl_root *root, struct mdl_session *s)
{
    if (root->open == s) root->open = NULL;
    root->used = true;
    mdl_list_append(&root->sessions, &s->link);
}

void mdl_root_answered(struct mdl_root *root, struct mdl_session *s)
{
    mdl_list_each (it, &root->visitors) {
        struct mdl_visitor *v = mdl_container_of(it, struct mdl_visitor, link);
        if (v->session == s) v->session = NULL;
    }
    mdl_list_remove(&s->link);
    mdl_session_destroy(s);
    set_over(root);
}

/* ---- frames ---- */

static void on_frame(struct mdl_wire *w, const struct mdl_frame *frame, const uint8_t *payload)
{
    struct mdl_visitor *v = mdl_wire_ctx(w);
    struct mdl_join *join;
    struct mdl_trouble trouble;
    if (frame->type == MDL_FRAME_REFUSE && v->session && v->rank == MDL_FRAME_ROOT &&
        mdl_trouble_read(payload, frame->length, &trouble)) {
        mdl_session_fail(v->session, trouble.code, trouble.text);
    } else if (frame->type == MDL_FRAME_GOT && v->session) {
        mdl_session_got(v->session, frame->src);
    } else if (frame->type == MDL_FRAME_LEAVE && v->session && frame->length == MDL_NONCE_BYTES) {
        mdl_session_leave(v->session, frame->src, payload);
    } else if (frame->type == MDL_FRAME_JOIN && (join = malloc(sizeof(*join)))) {
        if (mdl_join_read(payload, frame->length, join)) {
            on_join(v, join, frame->flags & MDL_FRAME_FORWARDED);
        } else {
            MDL_WARN(MDL_BOOT, "the root closed a connection that sent a broken request to join");
            drop_visitor(v);
        }
        free(join);
    }
}

static void on_end(struct mdl_wire *w, enum mdl_wire_end how, const char *why)
{
    if (how == MDL_WIRE_NONSENSE) MDL_WARN(MDL_BOOT, "the root closed a rank's connection: %s", why);
    drop_visitor(mdl_wire_ctx(w));
}

static void on_link(void *ctx, const struct mdl_link *link)
{
    static const struct mdl_wire_use use = {on_frame, on_end};
    struct mdl_root *root = ctx;
    struct mdl_wire_args args = {.reactor = root->reactor, .use = &use, .any_address = true};
    struct mdl_visitor *v = calloc(1, sizeof(*v));
    if (!v) {
        mdl_link_close(link);
        return;
    }
    v->root = root;
    v->since_ns = mdl_now_ns();
    args.ctx = v;
    if (mdl_wire_open(&args, link, &v->wire) != medleySuccess) {
        free(v);
        return;
    }
    mdl_list_append(&root->visitors, &v->link);
    root->held++;
    if (root->tick.set) return;
    root->tick_ms = MDL_ROOT_TICK_FIRST_MS;
    mdl_reactor_timer(root->reactor, &root->tick, v->since_ns + root->tick_ms * MDL_NS_PER_MS);
}

/* ---- time ---- */

static void sweep_visitors(struct mdl_root *root, uint64_t now)
{
    uint64_t patience = (uint64_t)root->cfg.auth_timeout * MDL_NS_PER_MS;
    mdl_list_each (it, &root->visitors) {
        struct mdl_visitor *v = mdl_container_of(it, struct mdl_visitor, link);
        if ((v->dismissed || !v->session) && now - v->since_ns > patience) drop_visitor(v);
    }
}

static void on_tick(struct mdl_timer *timer)
{
    struct mdl_root *root = mdl_container_of(timer, struct mdl_root, tick);
    uint64_t now = mdl_now_ns();
    sweep_visitors(root, now);
    if (root->open) mdl_session_tick(root->open, now);
    root->tick_ms = root->tick_ms * 2 < MDL_ROOT_TICK_MS ? root->tick_ms * 2 : MDL_ROOT_TICK_MS;
    if (root->open || !mdl_list_empty(&root->visitors))
        mdl_reactor_timer(root->reactor, &root->tick, now + root->tick_ms * MDL_NS_PER_MS);
}

static void on_expiry(struct mdl_timer *timer)
{
    struct mdl_root *root = mdl_container_of(timer, struct mdl_root, expiry);
    root->used = true;
    if (root->open) mdl_session_fail(root->open, medleyTimeout, "the unique id has expired: it was made too long ago");
    set_over(root);
}

/* ---- life ---- */

static void close_inside(void *arg)
{
    struct mdl_root *root = arg;
    mdl_reactor_timer_cancel(root->reactor, &root->tick);
    mdl_reactor_timer_cancel(root->reactor, &root->expiry);
    mdl_list_each (it, &root->visitors) {
        struct mdl_visitor *v = mdl_container_of(it, struct mdl_visitor, link);
        v->session = NULL;
        drop_visitor(v);
    }
    mdl_session_destroy(root->open);
    mdl_list_each (it, &root->sessions) {
        mdl_list_remove(it);
        mdl_session_destroy(mdl_container_of(it, struct mdl_session, link));
    }
}

static void close_root(struct mdl_root *root)
{
    mdl_door_unserve(root->service);
    mdl_reactor_call(root->reactor, close_inside, root);
    mdl_door_put(root->door);
    sodium_memzero(root, sizeof(*root));
    free(root);
}

static void start_inside(void *arg)
{
    struct mdl_root *root = arg;
    uint64_t life = 2 * (uint64_t)root->cfg.init_timeout * MDL_NS_PER_MS;
    if (!root->lasting) mdl_reactor_timer(root->reactor, &root->expiry, mdl_now_ns() + life);
}

static medleyResult_t create(const struct mdl_config *cfg, const struct mdl_id *id, struct mdl_door *door,
                             struct mdl_root **out)
{
    struct mdl_root *root = calloc(1, sizeof(*root));
    if (!root) return mdl_system_error(ENOMEM, "no memory for a unique id");
    root->pid = getpid();
    root->cfg = *cfg;
    sodium_memzero(&root->cfg.comm_key, sizeof(root->cfg.comm_key));
    root->id = *id;
    root->lasting = id->flags & MDL_ID_FIXED;
    root->door = door;
    root->reactor = mdl_door_reactor(door);
    root->tick.fn = on_tick;
    root->expiry.fn = on_expiry;
    mdl_list_init(&root->sessions);
    mdl_list_init(&root->visitors);
    medleyResult_t result = mdl_door_serve(door, &id->secret, MDL_PURPOSE_RENDEZVOUS, 0, on_link, root, &root->service);
    if (result != medleySuccess) {
        sodium_memzero(root, sizeof(*root));
        free(root);
        return result;
    }
    mdl_reactor_call(root->reactor, start_inside, root);
    *out = root;
    return medleySuccess;
}

static struct mdl_root *find_locked(const struct mdl_secret *secret)
{
    mdl_list_each (it, &roots) {
        struct mdl_root *root = mdl_container_of(it, struct mdl_root, link);
        if (root->pid == getpid() && !sodium_memcmp(&root->id.secret, secret, sizeof(*secret))) return root;
    }
    return NULL;
}

struct mdl_root *mdl_root_find(const struct mdl_secret *secret)
{
    pthread_mutex_lock(&roots_lock);
    struct mdl_root *root = find_locked(secret);
    if (root) root->holds++;
    pthread_mutex_unlock(&roots_lock);
    return root;
}

medleyResult_t mdl_root_open(const struct mdl_config *cfg, const struct mdl_id *id, struct mdl_door *door,
                             struct mdl_root **out)
{
    struct mdl_root *root = NULL;
    medleyResult_t result = create(cfg, id, door, &root);
    if (result != medleySuccess) {
        mdl_door_put(door);
        return result;
    }
    pthread_mutex_lock(&roots_lock);
    mdl_list_append(&roots, &root->link);
    root->holds = out ? 1 : 0;
    pthread_mutex_unlock(&roots_lock);
    if (out) *out = root;
    return medleySuccess;
}

/* Under the lock. */
static bool closable(const struct mdl_root *root)
{
    /* Acquire: pairs with set_over. */
    return root->holds == 0 && root->pid == getpid() &&
           (root->lasting || atomic_load_explicit(&root->over, memory_order_acquire));
}

void mdl_root_release(struct mdl_root *root)
{
    if (!root || root->pid != getpid()) return;
    pthread_mutex_lock(&roots_lock);
    root->holds--;
    bool last = closable(root);
    if (last) mdl_list_remove(&root->link);
    pthread_mutex_unlock(&roots_lock);
    if (last) close_root(root);
}

void mdl_root_reap(void)
{
    struct mdl_list over;
    mdl_list_init(&over);
    pthread_mutex_lock(&roots_lock);
    mdl_list_each (it, &roots) {
        struct mdl_root *root = mdl_container_of(it, struct mdl_root, link);
        if (!closable(root) || root->lasting) continue;
        mdl_list_remove(it);
        mdl_list_append(&over, it);
    }
    pthread_mutex_unlock(&roots_lock);
    mdl_list_each (it, &over) {
        mdl_list_remove(it);
        close_root(mdl_container_of(it, struct mdl_root, link));
    }
}

void mdl_root_settle(struct mdl_root *root) { set_over(root); }

struct attach_call {
    struct mdl_root *root;
    const struct mdl_id *first;
};

static void attach_inside(void *arg)
{
    struct attach_call *c = arg;
    c->root->first = *c->first;
    c->root->attached = true;
    start_relay(c->root);
}

void mdl_root_attach(struct mdl_root *root, const struct mdl_id *first)
{
    struct attach_call c = {root, first};
    mdl_reactor_call(root->reactor, attach_inside, &c);
}
