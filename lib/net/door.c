/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doors and services: the public side of door.h.
 *
 * Everything in a door is touched only on the reactor's thread: callers of other threads send their work there and
 * wait. The list of doors and their references have a lock, so that a further reference, which every communicator takes
 * several of, costs no visit there. A door lives as long as its references, each of which also holds the reactor.
 */
#include "config.h"
#include "lib/base/log.h"
#include "lib/net/trunk.h"
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t doors_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mdl_list doors = {&doors, &doors}; /* under it, with the doors' refs; added to by the reactor's thread */

/* The result of work on the reactor's thread, where the error's words would stay behind. */
struct answer {
    medleyResult_t result;
    char text[MDL_ERROR_TEXT_BYTES];
};

static void keep(struct answer *a, medleyResult_t result)
{
    a->result = result;
    if (result != medleySuccess) snprintf(a->text, sizeof(a->text), "%s", mdl_error_text());
}

static medleyResult_t give(const struct answer *a)
{
    return a->result == medleySuccess ? medleySuccess : mdl_error_set(a->result, a->text);
}

#define FORKED                                                                                                         \
    {                                                                                                                  \
        medleyInvalidUsage, "Medley cannot be used in a forked child of a process that uses it"                        \
    }

/* ---- doors ---- */

static bool same_door(const struct mdl_config *a, const struct mdl_config *b)
{
    return !strcmp(a->socket_ifname.s, b->socket_ifname.s) && !strcmp(a->socket_family.s, b->socket_family.s) &&
           !strcmp(a->port_range.s, b->port_range.s) && a->auth_timeout == b->auth_timeout &&
           a->auth_pending == b->auth_pending;
}

static void destroy(struct mdl_door *door)
{
    mdl_guest_drop_all(door, NULL);
    mdl_trunks_close(door);
    mdl_door_shut(door);
    free(door);
}

static medleyResult_t create(const struct mdl_config *cfg, struct mdl_reactor *reactor, struct mdl_door **out)
{
    struct mdl_door *door = calloc(1, sizeof(*door));
    if (!door) return mdl_system_error(ENOMEM, "cannot listen");
    door->cfg = *cfg;
    /* The door outlives the communicator whose configuration this is: secrets have no business here. */
    sodium_memzero(&door->cfg.comm_key, sizeof(door->cfg.comm_key));
    door->reactor = reactor;
    mdl_list_init(&door->trunks);
    mdl_list_init(&door->strangers);
    mdl_list_init(&door->known);
    mdl_list_init(&door->shared);
    mdl_list_init(&door->waiting);
    for (int i = 0; i < MDL_SERVICE_BUCKETS; i++) mdl_list_init(&door->services[i]);
    medleyResult_t result = mdl_door_open(door);
    if (result == medleySuccess)
        *out = door;
    else
        destroy(door);
    return result;
}

struct door_call {
    const struct mdl_config *cfg;
    struct mdl_reactor *reactor;
    struct mdl_door *door;
    struct answer answer;
};

/* One more reference to the door of this configuration, or NULL. */
static struct mdl_door *hold_existing(const struct mdl_config *cfg)
{
    struct mdl_door *found = NULL;
    pthread_mutex_lock(&doors_lock);
    mdl_list_each (it, &doors) {
        struct mdl_door *door = mdl_container_of(it, struct mdl_door, link);
        if (same_door(&door->cfg, cfg)) found = door;
    }
    if (found) found->refs++;
    pthread_mutex_unlock(&doors_lock);
    return found;
}

/* Here nobody else makes one: what is not there now is made. */
static void get_inside(void *arg)
{
    struct door_call *c = arg;
    medleyResult_t result = medleySuccess;
    c->door = hold_existing(c->cfg);
    if (!c->door) {
        result = create(c->cfg, c->reactor, &c->door);
        if (result == medleySuccess) {
            c->door->refs = 1;
            pthread_mutex_lock(&doors_lock);
            mdl_list_append(&doors, &c->door->link);
            pthread_mutex_unlock(&doors_lock);
        }
    }
    keep(&c->answer, result);
}

medleyResult_t mdl_door_get(const struct mdl_config *cfg, struct mdl_door **door)
{
    struct door_call c = {.cfg = cfg, .answer = FORKED};
    if (sodium_init() < 0) return mdl_error(medleySystemError, "libsodium cannot be initialised");
    MDL_TRY(mdl_reactor_get(cfg->cpu_set.s, &c.reactor));
    c.door = mdl_reactor_alive(c.reactor) ? hold_existing(cfg) : NULL;
    if (c.door)
        c.answer.result = medleySuccess;
    else
        mdl_reactor_call(c.reactor, get_inside, &c);
    if (c.answer.result == medleySuccess)
        *door = c.door;
    else
        mdl_reactor_put(c.reactor);
    return give(&c.answer);
}

/* Gives a reference back, but not the last one: false. */
static bool drop_one_of_several(struct mdl_door *door)
{
    pthread_mutex_lock(&doors_lock);
    bool several = door->refs > 1;
    if (several) door->refs--;
    pthread_mutex_unlock(&doors_lock);
    return several;
}

/* Where doors are made too, so that a new one does not meet the old one's ports in use. */
static void put_inside(void *arg)
{
    struct mdl_door *door = arg;
    pthread_mutex_lock(&doors_lock);
    bool last = --door->refs == 0; /* else somebody has found it meanwhile */
    if (last) mdl_list_remove(&door->link);
    pthread_mutex_unlock(&doors_lock);
    if (last) destroy(door);
}

void mdl_door_put(struct mdl_door *door)
{
    if (!door) return;
    struct mdl_reactor *reactor = door->reactor;
    if (!mdl_reactor_alive(reactor)) return; /* a forked child: it is the parent's */
    if (!drop_one_of_several(door)) mdl_reactor_call(reactor, put_inside, door);
    mdl_reactor_put(reactor);
}

void mdl_link_close(const struct mdl_link *link)
{
    if (link->fd >= 0) close(link->fd);
    mdl_channel_close(link->channel);
}

struct mdl_reactor *mdl_door_reactor(struct mdl_door *door) { return door->reactor; }

int mdl_door_addresses(const struct mdl_door *door, struct mdl_addr list[MDL_MAX_ADDRS])
{
    int n = door->nlisteners - door->has_unix;
    for (int i = 0; i < n; i++) list[i] = door->listeners[i].addr;
    return n;
}

const struct mdl_addr *mdl_door_unix(const struct mdl_door *door)
{
    return door->has_unix ? &door->listeners[door->nlisteners - 1].addr : NULL;
}

/* ---- services ---- */

static struct mdl_list *bucket(struct mdl_door *door, const uint8_t *tag)
{
    return &door->services[tag[0] % MDL_SERVICE_BUCKETS];
}

struct mdl_service *mdl_door_find(struct mdl_door *door, const struct mdl_auth_query *query)
{
    mdl_list_each (it, bucket(door, query->tag)) {
        struct mdl_service *s = mdl_container_of(it, struct mdl_service, link);
        if (!memcmp(s->tag, query->tag, sizeof(s->tag)) && s->purpose == query->purpose &&
            (query->to_rank < 0 || query->to_rank == s->rank) && !(query->share && s->purpose == MDL_PURPOSE_TCP))
            return s;
    }
    return NULL;
}

struct service_call {
    struct mdl_service *service;
    struct answer answer;
};

static void serve_inside(void *arg)
{
    struct service_call *c = arg;
    struct mdl_service *s = c->service;
    struct mdl_auth_query query = {.purpose = s->purpose, .to_rank = s->rank};
    memcpy(query.tag, s->tag, sizeof(query.tag));
    if (mdl_door_find(s->door, &query)) {
        keep(&c->answer,
             mdl_error(medleyInvalidUsage, "rank %d of this communicator exists twice in this process (purpose %d)",
                       s->rank, s->purpose));
        return;
    }
    mdl_list_append(bucket(s->door, s->tag), &s->link);
    keep(&c->answer, medleySuccess);
    mdl_guest_served(s->door);
}

static void free_service(struct mdl_service *s)
{
    sodium_memzero(&s->secret, sizeof(s->secret));
    free(s);
}

medleyResult_t mdl_door_serve(struct mdl_door *door, const struct mdl_secret *secret, enum mdl_purpose purpose,
                              int rank, void (*on_link)(void *ctx, const struct mdl_link *link), void *ctx,
                              struct mdl_service **service)
{
    struct mdl_service *s = calloc(1, sizeof(*s));
    if (!s) return mdl_system_error(ENOMEM, "cannot serve connections");
    *s = (struct mdl_service){.door = door, .secret = *secret, .purpose = (uint8_t)purpose, .rank = rank};
    s->on_link = on_link;
    s->ctx = ctx;
    mdl_secret_tag(secret, s->tag);
    struct service_call c = {.service = s, .answer = FORKED};
    mdl_reactor_call(door->reactor, serve_inside, &c);
    if (c.answer.result == medleySuccess)
        *service = s;
    else
        free_service(s);
    return give(&c.answer);
}

static void unserve_inside(void *arg)
{
    struct mdl_service *s = arg;
    mdl_list_remove(&s->link);
    mdl_guest_drop_all(s->door, s);
    free_service(s);
}

void mdl_door_unserve(struct mdl_service *service)
{
    if (service) mdl_reactor_call(service->door->reactor, unserve_inside, service);
}
