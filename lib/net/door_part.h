/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a door. All of it belongs to the reactor's thread; other threads get in through mdl_reactor_call.
 *
 * A guest is an accepted connection that has not proved itself yet. It starts on `strangers`, in order of arrival, and
 * moves to `known` when it shows a tag that is served here. Being in one of the two lists is what counts against the
 * cap.
 */
#ifndef MDL_NET_DOOR_PART_H_
#define MDL_NET_DOOR_PART_H_

#include "lib/net/sock.h"

enum { MDL_SERVICE_BUCKETS = 64 };

struct mdl_listener {
    struct mdl_watch watch;
    struct mdl_door *door;
    struct mdl_addr addr;
};

struct mdl_door {
    struct mdl_list link; /* of the process's doors */
    int refs;             /* under their lock */
    struct mdl_config cfg; /* the fields that make it this door: see same_door */
    struct mdl_reactor *reactor;

    int nlisteners; /* TCP ones, then the Unix one if there is one */
    struct mdl_listener listeners[MDL_MAX_ADDRS + 1];
    bool has_unix;

    struct mdl_timer resume; /* set: accepting is paused */
    bool told_short;         /* the lack of descriptors has been logged */
    uint64_t warned_ns;      /* refused guests are logged at most once a second */

    struct mdl_list trunks; /* trunk.h */
    struct mdl_list strangers, known, shared; /* guests; shared: on trunks, */
    struct mdl_list waiting;                  /* and of these, those whose service is not there yet */
    int nguests;

    struct mdl_list services[MDL_SERVICE_BUCKETS]; /* by the tag's first byte */
};

struct mdl_service {
    struct mdl_list link;
    struct mdl_door *door;
    struct mdl_secret secret;
    uint8_t tag[MDL_NET_TAG_BYTES];
    uint8_t purpose;
    int rank;
    void (*on_link)(void *ctx, const struct mdl_link *link);
    void *ctx;
};

struct mdl_service *mdl_door_find(struct mdl_door *door, const struct mdl_auth_query *query);

/* listen.c */
medleyResult_t mdl_door_open(struct mdl_door *door) MDL_MUST_USE; /* on error mdl_door_shut cleans up */
void mdl_door_shut(struct mdl_door *door);

/* guest.c */
void mdl_guest_admit(struct mdl_listener *at, int fd); /* takes over fd */
bool mdl_guest_make_room(struct mdl_door *door);       /* false: all guests are young and known; ask again soon */
void mdl_guest_served(struct mdl_door *door);          /* there is a new service: for who waits for one */
void mdl_guest_drop_all(struct mdl_door *door, const struct mdl_service *service); /* NULL: everybody */

#endif
