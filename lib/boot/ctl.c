/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control planes: their life, their inbox and the dispatch of what comes.
 *
 * A message goes from any thread into the inbox; a task on the reactor's thread passes the inbox on to the peers. That
 * keeps the order per destination and lets no caller wait. What is posted before mdl_ctl_close is still passed on.
 */
#include "config.h"
#include "lib/boot/ctl.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/root.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_MS = 20,
    LOOK_MOST_MS = 200,
    FLUSH_MS = 200,
    FLUSH_FAULT_MS = 300,
    FLUSH_WORD_MS = 100,
    FLUSH_LOOK_MS = 2,
    HEARD_MS = 50,
    HEARD_LOOK_US = 200
};

const struct mdl_secret *mdl_ctl_secret(const struct mdl_ctl *ctl) { return &ctl->secret; }
struct mdl_door *mdl_ctl_door(const struct mdl_ctl *ctl) { return ctl->door; }

/* ---- waiting ---- */

static void sleep_ms(struct mdl_ctl *ctl, long ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += ms * (long)MDL_NS_PER_MS;
    t.tv_sec += t.tv_nsec / (long)MDL_NS_PER_S;
    t.tv_nsec %= (long)MDL_NS_PER_S;
    pthread_cond_timedwait(&ctl->changed, &ctl->lock, &t);
}

static bool aborted(const struct mdl_ctl *ctl)
{
    /* Relaxed: the word carries nothing but itself. */
    return ctl->args.abort_word && __atomic_load_n(ctl->args.abort_word, __ATOMIC_RELAXED);
}

/* How long to sleep before the next look: every 20 ms at first, then less often, so that a thousand ranks that wait do
 * not keep a machine busy. */
static long look_ms(uint64_t since_ns, uint64_t now, uint64_t deadline_ns)
{
    uint64_t ms = LOOK_MS + (now - since_ns) / MDL_NS_PER_MS / 16, left = (deadline_ns - now) / MDL_NS_PER_MS + 1;
    if (ms > LOOK_MOST_MS) ms = LOOK_MOST_MS;
    return (long)(ms < left ? ms : left);
}

/* Looks up now and then, because the abort word has no way to wake it. */
enum mdl_ctl_ended mdl_ctl_wait(struct mdl_ctl *ctl, struct mdl_ctl_outcome *o, uint64_t deadline_ns)
{
    enum mdl_ctl_ended ended = MDL_CTL_DONE;
    uint64_t since = mdl_now_ns();
    pthread_mutex_lock(&ctl->lock);
    while (!o->done && ended == MDL_CTL_DONE) {
        uint64_t now = mdl_now_ns();
        if (aborted(ctl))
            ended = MDL_CTL_ABORTED;
        else if (now >= deadline_ns)
            ended = MDL_CTL_LATE;
        else
            sleep_ms(ctl, look_ms(since, now, deadline_ns));
    }
    if (o->done) ended = MDL_CTL_DONE;
    pthread_mutex_unlock(&ctl->lock);
    return ended;
}

/* On the reactor's thread, so the plane is there until it returns: who wakes cannot close it before. */
void mdl_ctl_finish(struct mdl_ctl *ctl, struct mdl_ctl_outcome *o, medleyResult_t result, const char *text)
{
    pthread_mutex_lock(&ctl->lock);
    bool news = !o->done;
    if (news) {
        o->result = result;
        snprintf(o->text, sizeof(o->text), "%s", text ? text : "");
        o->done = true;
    }
    pthread_mutex_unlock(&ctl->lock);
    if (news) pthread_cond_broadcast(&ctl->changed);
}

/* ---- receiving ---- */

static void keep(struct mdl_ctl *ctl, int src, int type, const uint8_t *payload, size_t len)
{
    struct mdl_trouble t = {.code = medleyInternalError, .origin = (int)ctl->rank};
    struct mdl_ctl_message *m = NULL;
    if (ctl->kept_bytes + len + sizeof(*m) <= MDL_CTL_KEPT_BYTES) m = malloc(sizeof(*m) + len);
    if (!m) {
        snprintf(t.text, sizeof(t.text), "rank %u: messages of type %d pile up because nobody takes them", ctl->rank,
                 type);
        mdl_fault_set(ctl, &t);
        return;
    }
    *m = (struct mdl_ctl_message){.rank = src, .type = (uint8_t)type, .len = len};
    if (len) memcpy(m->payload, payload, len);
    mdl_list_append(&ctl->kept, &m->link);
    ctl->kept_bytes += len + sizeof(*m);
}

static void deliver(struct mdl_ctl *ctl, int src, int type, const uint8_t *payload, size_t len)
{
    mdl_ctl_handler fn = ctl->handlers[type - MDL_CTL_USER].fn;
    if (fn)
        fn(ctl->handlers[type - MDL_CTL_USER].ctx, src, payload, len);
    else
        keep(ctl, src, type, payload, len);
}

void mdl_ctl_dispatch(struct mdl_ctl *ctl, int src, const struct mdl_frame *frame, const uint8_t *payload)
{
    struct mdl_ctl_peer *p = mdl_peer_look(ctl, (uint32_t)src);
    switch (frame->type) {
    case MDL_FRAME_BEAT:
        if (frame->length >= 8) mdl_resume_acked(p, mdl_get_u64(payload));
        if (frame->flags & MDL_FRAME_ANSWER) mdl_peer_beat(p, 0);
        break;
    case MDL_FRAME_GOODBYE: mdl_peer_goodbye(p, frame->length >= 8 ? mdl_get_u64(payload) : 0); break;
    case MDL_FRAME_GATHER_UP:
    case MDL_FRAME_GATHER_DOWN:
    case MDL_FRAME_MISSING_UP:
    case MDL_FRAME_MISSING_DOWN: mdl_gather_frame(ctl, (uint32_t)src, frame, payload); break;
    case MDL_FRAME_CALL: mdl_call_frame(ctl, (uint32_t)src, payload, frame->length); break;
    case MDL_FRAME_FAULT:
    case MDL_FRAME_FAULT_SEEN: mdl_fault_frame(ctl, (uint32_t)src, frame, payload); break;
    default:
        if (frame->type >= MDL_CTL_USER) deliver(ctl, src, frame->type, payload, frame->length);
    }
}

struct handle_call {
    struct mdl_ctl *ctl;
    int type;
    mdl_ctl_handler fn;
    void *ctx;
};

static void handle_inside(void *arg)
{
    struct handle_call *c = arg;
    struct mdl_ctl *ctl = c->ctl;
    ctl->handlers[c->type - MDL_CTL_USER].fn = c->fn;
    ctl->handlers[c->type - MDL_CTL_USER].ctx = c->ctx;
    mdl_list_each (it, &ctl->kept) {
        struct mdl_ctl_message *m = mdl_container_of(it, struct mdl_ctl_message, link);
        if (m->type != c->type || !c->fn) continue;
        mdl_list_remove(it);
        ctl->kept_bytes -= m->len + sizeof(*m);
        c->fn(c->ctx, m->rank, m->payload, m->len);
        free(m);
    }
}

void mdl_ctl_handle(struct mdl_ctl *ctl, int type, mdl_ctl_handler fn, void *ctx)
{
    struct handle_call c = {ctl, type, fn, ctx};
    if (type >= MDL_CTL_USER && type < MDL_CTL_USER + MDL_CTL_TYPES)
        mdl_reactor_call(ctl->reactor, handle_inside, &c);
    else
        mdl_error(medleyInternalError, "%d is not a type of messages for handlers", type);
}

struct lost_call {
    struct mdl_ctl *ctl;
    void (*fn)(void *ctx, int rank, bool said_goodbye, const char *why);
    void *ctx;
};

static void on_lost_inside(void *arg)
{
    struct lost_call *c = arg;
    c->ctl->on_lost = c->fn;
    c->ctl->on_lost_ctx = c->ctx;
}

void mdl_ctl_on_lost(struct mdl_ctl *ctl, void (*fn)(void *ctx, int rank, bool said_goodbye, const char *why),
                     void *ctx)
{
    struct lost_call c = {ctl, fn, ctx};
    mdl_reactor_call(ctl->reactor, on_lost_inside, &c);
}

/* ---- sending ---- */

static struct mdl_ctl_message *take_first(struct mdl_ctl *ctl)
{
    struct mdl_ctl_message *m = NULL;
    pthread_mutex_lock(&ctl->lock);
    if (!mdl_list_empty(&ctl->inbox)) {
        m = mdl_container_of(ctl->inbox.next, struct mdl_ctl_message, link);
        mdl_list_remove(&m->link);
    }
    pthread_mutex_unlock(&ctl->lock);
    return m;
}

/* The plane's own work from other threads travels as messages to oneself. */
static void obey(struct mdl_ctl *ctl, const struct mdl_ctl_message *m)
{
    struct mdl_ctl_peer *p;
    struct mdl_trouble t;
    if (m->type == MDL_FRAME_FAULT && mdl_trouble_read(m->payload, m->len, &t)) {
        mdl_fault_set(ctl, &t);
    } else if (m->type == MDL_FRAME_BEAT && (p = mdl_peer_get(ctl, mdl_get_u32(m->payload)))) {
        p->watched = true;
        mdl_peer_wanted(p);
        if (!mdl_peer_gone(p)) mdl_peer_beat(p, MDL_FRAME_ANSWER);
    } else if (m->type >= MDL_CTL_USER) {
        deliver(ctl, m->rank, m->type, m->payload, m->len);
    }
}

static void empty_inbox(struct mdl_task *task)
{
    struct mdl_ctl *ctl = mdl_container_of(task, struct mdl_ctl, inbox_task);
    struct mdl_ctl_message *m;
    while ((m = take_first(ctl))) {
        if ((uint32_t)m->rank != ctl->rank) {
            mdl_peer_pass(ctl, m);
            continue;
        }
        if (m->charged) atomic_fetch_sub_explicit(&ctl->queued_bytes, m->len, memory_order_relaxed);
        obey(ctl, m);
        free(m);
    }
}

static medleyResult_t post(struct mdl_ctl *ctl, int dst, int type, const void *payload, size_t len, bool charged)
{
    struct mdl_ctl_message *m = ctl->pid == getpid() ? malloc(sizeof(*m) + len) : NULL;
    if (!m) return mdl_system_error(ENOMEM, "rank %u: no memory for a message to rank %d", ctl->rank, dst);
    *m = (struct mdl_ctl_message){.rank = dst, .type = (uint8_t)type, .len = len, .charged = charged};
    if (len) memcpy(m->payload, payload, len);
    if (charged) atomic_fetch_add_explicit(&ctl->queued_bytes, len, memory_order_relaxed);
    pthread_mutex_lock(&ctl->lock);
    mdl_list_append(&ctl->inbox, &m->link);
    pthread_mutex_unlock(&ctl->lock);
    mdl_reactor_post(ctl->reactor, &ctl->inbox_task);
    return medleySuccess;
}

medleyResult_t mdl_ctl_send(struct mdl_ctl *ctl, int dst, int type, const void *payload, size_t len)
{
    if (dst < 0 || (uint32_t)dst >= ctl->nranks || type < MDL_CTL_USER || type >= MDL_CTL_USER + MDL_CTL_TYPES ||
        len > MDL_CTL_MAX_PAYLOAD)
        return mdl_error(medleyInternalError, "rank %u: a message of type %d and %zu bytes to rank %d is not possible",
                         ctl->rank, type, len, dst);
    if (ctl->pid != getpid())
        return mdl_error(medleyInvalidUsage, "Medley cannot be used in a forked child of a process that uses it");
    size_t queued = atomic_load_explicit(&ctl->queued_bytes, memory_order_relaxed);
    if (queued + len > MDL_CTL_QUEUED_BYTES)
        return mdl_error(medleySystemError,
                         "rank %u: %zu bytes of control messages have not been taken by their ranks yet (the last is "
                         "for rank %d): they are stopped or overloaded",
                         ctl->rank, queued, dst);
    return post(ctl, dst, type, payload, len, true);
}

void mdl_ctl_watch_peer(struct mdl_ctl *ctl, int rank)
{
    uint8_t payload[4];
    if (rank < 0 || (uint32_t)rank >= ctl->nranks || (uint32_t)rank == ctl->rank) return;
    mdl_put_u32(payload, (uint32_t)rank);
    post(ctl, (int)ctl->rank, MDL_FRAME_BEAT, payload, sizeof(payload), false);
}

void mdl_ctl_fault(struct mdl_ctl *ctl, medleyResult_t code, int origin, const char *text)
{
    uint8_t payload[16 + MDL_ERROR_TEXT_BYTES];
    struct mdl_writer w = {.p = payload, .cap = sizeof(payload)};
    struct mdl_trouble t = {.code = code, .origin = origin};
    snprintf(t.text, sizeof(t.text), "%s", text);
    mdl_trouble_write(&w, &t);
    post(ctl, (int)ctl->rank, MDL_FRAME_FAULT, payload, w.len, false);
}

/* ---- the end ---- */

struct hearing {
    struct mdl_ctl *ctl;
    bool unheard;
};

static void look_heard(void *arg)
{
    struct hearing *h = arg;
    empty_inbox(&h->ctl->inbox_task);
    h->unheard = mdl_fault_unheard(h->ctl);
}

/* Neighbours that run say at once that they know of the fault. Those that do not will be gone around, which takes new
 * links. */
static void wait_heard(struct mdl_ctl *ctl)
{
    struct hearing h = {.ctl = ctl};
    uint64_t until = mdl_now_ns() + HEARD_MS * MDL_NS_PER_MS;
    do {
        mdl_reactor_call(ctl->reactor, look_heard, &h);
        if (h.unheard) nanosleep(&(struct timespec){.tv_nsec = HEARD_LOOK_US * 1000}, NULL);
    } while (h.unheard && mdl_now_ns() < until);
}

static void say_goodbye(void *arg)
{
    struct mdl_ctl *ctl = arg;
    struct mdl_frame goodbye = {.type = MDL_FRAME_GOODBYE};
    empty_inbox(&ctl->inbox_task);
    mdl_fault_leave(ctl);
    ctl->closing = true;
    ctl->on_lost = NULL;
    ctl->args.on_fault = NULL;
    memset(ctl->handlers, 0, sizeof(ctl->handlers));
    mdl_beat_stop(ctl);
    mdl_list_each (it, &ctl->known) {
        struct mdl_ctl_peer *p = mdl_container_of(it, struct mdl_ctl_peer, link);
        struct mdl_wire *wires[MDL_CTL_WIRES]; /* the end of any of them, without it, may look like a death */
        uint8_t sent[8];
        mdl_put_u64(sent, p->sent);
        for (int i = mdl_peer_wires(p, wires); i-- > 0;) mdl_wire_send(wires[i], &goodbye, sent, sizeof(sent), NULL);
    }
}

struct flush_look {
    struct mdl_ctl *ctl;
    bool idle, owes_fault, owes_word;
};

static void look_flushed(void *arg)
{
    struct flush_look *look = arg;
    look->idle = true;
    look->owes_fault = look->owes_word = false;
    mdl_list_each (it, &look->ctl->known) {
        struct mdl_ctl_peer *p = mdl_container_of(it, struct mdl_ctl_peer, link);
        if ((p->out && !mdl_wire_idle(p->out)) || (p->in && !mdl_wire_idle(p->in))) look->idle = false;
        /* Who has refused a link once is most likely gone; and others than neighbours hear of it from theirs too. */
        bool owes = look->ctl->fault.set && !mdl_peer_gone(p) && !p->tries && !mdl_list_empty(&p->queue);
        if (owes) *(p->neighbour ? &look->owes_fault : &look->owes_word) = true;
    }
}

/* Only a peer that does not read, with a full socket, makes this last; and one that this rank is still connecting to
 * when it fails: else that one would only find a closed door, and blame this rank for what befell another. */
static void wait_flushed(struct mdl_ctl *ctl)
{
    struct flush_look look = {.ctl = ctl};
    uint64_t now = mdl_now_ns(), word = now + FLUSH_WORD_MS * MDL_NS_PER_MS, until = now + FLUSH_MS * MDL_NS_PER_MS,
             last = now + FLUSH_FAULT_MS * MDL_NS_PER_MS;
    for (;;) {
        mdl_reactor_call(ctl->reactor, look_flushed, &look);
        now = mdl_now_ns();
        bool owes = look.owes_fault || (look.owes_word && now < word);
        if ((look.idle && !owes) || now >= (look.owes_fault ? last : until)) return;
        nanosleep(&(struct timespec){.tv_nsec = FLUSH_LOOK_MS * MDL_NS_PER_MS}, NULL);
    }
}

static void close_inside(void *arg)
{
    struct mdl_ctl *ctl = arg;
    mdl_beat_stop(ctl);
    mdl_gather_fini(ctl);
    mdl_fault_fini(ctl);
    mdl_list_each (it, &ctl->known) {
        struct mdl_ctl_peer *p = mdl_container_of(it, struct mdl_ctl_peer, link);
        struct mdl_wire *wires[MDL_CTL_WIRES];
        for (int i = mdl_peer_wires(p, wires); i-- > 0;) mdl_wire_finish(wires[i]);
        mdl_peer_destroy(p);
    }
    mdl_reactor_unpost(ctl->reactor, &ctl->inbox_task);
}

static void free_messages(struct mdl_list *list)
{
    mdl_list_each (it, list) free(mdl_container_of(it, struct mdl_ctl_message, link));
    mdl_list_init(list);
}

static void destroy(struct mdl_ctl *ctl)
{
    for (int i = 0; i < ctl->nroots; i++) mdl_root_release(ctl->roots[i]);
    free(ctl->roots);
    mdl_root_reap(); /* of ids that expired unused */
    mdl_door_put(ctl->door);
    free_messages(&ctl->inbox);
    free_messages(&ctl->kept);
    mdl_members_free(ctl);
    free(ctl->peers);
    pthread_cond_destroy(&ctl->changed);
    pthread_mutex_destroy(&ctl->lock);
    sodium_memzero(ctl, sizeof(*ctl));
    free(ctl);
}

void mdl_ctl_close(struct mdl_ctl *ctl)
{
    /* In a forked child everything here belongs to the parent. */
    if (!ctl || ctl->pid != getpid()) return;
    wait_heard(ctl);
    mdl_reactor_call(ctl->reactor, say_goodbye, ctl);
    wait_flushed(ctl);
    mdl_door_unserve(ctl->service);
    mdl_reactor_call(ctl->reactor, close_inside, ctl);
    destroy(ctl);
}

/* ---- the beginning ---- */

static void init_sync(struct mdl_ctl *ctl)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&ctl->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ctl->changed, &attr);
    pthread_condattr_destroy(&attr);
}

static medleyResult_t alloc_tables(struct mdl_ctl *ctl)
{
    ctl->peers = calloc(ctl->nranks, sizeof(*ctl->peers));
    ctl->entries = calloc(ctl->nranks, sizeof(*ctl->entries));
    ctl->entry_len = calloc(ctl->nranks, sizeof(*ctl->entry_len));
    if (ctl->peers && ctl->entries && ctl->entry_len) return medleySuccess;
    return mdl_system_error(ENOMEM, "no memory for a communicator of %u ranks", ctl->nranks);
}

static medleyResult_t serve(struct mdl_ctl *ctl)
{
    struct mdl_secret secret;
    mdl_secret_derive(&ctl->base, "control", ctl->service_number, &secret);
    medleyResult_t result =
        mdl_door_serve(ctl->door, &secret, MDL_PURPOSE_CONTROL, (int)ctl->rank, mdl_peer_accept, ctl, &ctl->service);
    sodium_memzero(&secret, sizeof(secret));
    return result;
}

static struct mdl_ctl *alloc_ctl(const struct mdl_boot_args *args)
{
    struct mdl_ctl *ctl = calloc(1, sizeof(*ctl));
    if (!ctl) return NULL;
    ctl->args = *args;
    ctl->args.ids = NULL;
    ctl->cfg = *args->config;
    sodium_memzero(&ctl->cfg.comm_key, sizeof(ctl->cfg.comm_key));
    ctl->pid = getpid();
    ctl->rank = (uint32_t)args->rank;
    ctl->nranks = (uint32_t)args->nranks;
    ctl->inbox_task.fn = empty_inbox;
    mdl_list_init(&ctl->inbox);
    mdl_list_init(&ctl->known);
    mdl_list_init(&ctl->kept);
    init_sync(ctl);
    return ctl;
}

medleyResult_t mdl_ctl_create(const struct mdl_boot_args *args, const struct mdl_config *door_config,
                              const struct mdl_secret *base, uint64_t service_number, struct mdl_ctl **out)
{
    struct mdl_ctl *ctl = alloc_ctl(args);
    if (!ctl) return mdl_system_error(ENOMEM, "no memory for a communicator");
    /* So that a plane derived from this one gets the same door. */
    ctl->cfg.socket_ifname = door_config->socket_ifname;
    ctl->cfg.socket_family = door_config->socket_family;
    ctl->cfg.port_range = door_config->port_range;
    ctl->cfg.auth_timeout = door_config->auth_timeout;
    ctl->cfg.auth_pending = door_config->auth_pending;
    ctl->cfg.host_id = door_config->host_id;
    ctl->base = *base;
    ctl->service_number = service_number;
    ctl->joining = true;
    ctl->init_deadline_ns = mdl_now_ns() + (uint64_t)ctl->cfg.init_timeout * MDL_NS_PER_MS;
    struct mdl_config door = *door_config;
    door.cpu_set = args->config->cpu_set; /* not the door's: the monitor's */
    medleyResult_t result = alloc_tables(ctl);
    if (result == medleySuccess) result = mdl_door_get(&door, &ctl->door);
    sodium_memzero(&door, sizeof(door));
    if (result != medleySuccess) goto destroy;
    ctl->reactor = mdl_door_reactor(ctl->door);
    result = serve(ctl);
    if (result != medleySuccess) goto destroy;
    *out = ctl;
    return medleySuccess;

destroy:
    destroy(ctl);
    return result;
}
