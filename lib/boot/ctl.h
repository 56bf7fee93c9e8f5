/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside a control plane. All of it belongs to the reactor's thread, but for what is under `lock`: the inbox, which any
 * thread fills, and the outcome that a calling thread waits for.
 */
#ifndef MDL_BOOT_CTL_H_
#define MDL_BOOT_CTL_H_

#include "lib/boot/boot.h"
#include "lib/boot/messages.h"
#include "lib/boot/tree.h"
#include "lib/boot/wire.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    MDL_CTL_TYPES = 256 - MDL_CTL_USER,
    MDL_CTL_KEPT_BYTES = 4 << 20,    /* messages whose type nobody handles yet */
    MDL_CTL_QUEUED_BYTES = 64 << 20, /* messages that have not left yet */
    MDL_CTL_OLD_WIRES = 8,
    MDL_CTL_WIRES = MDL_CTL_OLD_WIRES + 3,
};

/* A message on its way: in the inbox, in the queue of a peer without a link, or kept for a handler. */
struct mdl_ctl_message {
    struct mdl_list link;
    int rank; /* to, or from */
    uint8_t type;
    uint16_t flags;
    bool charged; /* counts in ctl->queued_bytes */
    size_t len;
    uint8_t payload[];
};

/* Another rank, from the first time that this one has to do with it. */
struct mdl_ctl_peer {
    struct mdl_list link; /* ctl->known */
    struct mdl_ctl *ctl;
    int rank;
    struct mdl_wire *out;    /* all that is sent goes over this one, so that order is kept */
    struct mdl_wire *in;     /* only received from: both sides had opened one at a time */
    struct mdl_wire *dialed; /* not greeted yet */
    struct mdl_wire *fresh;  /* accepted beside others: becomes `in`, or with RESUME all that there is */
    struct mdl_wire *old[MDL_CTL_OLD_WIRES]; /* replaced: what comes over them counts no more */
    struct mdl_dial *dial;
    uint64_t dialed_ns;
    bool dial_resumes;          /* `dial` and `dialed` are for RESUME */
    bool linked;                /* has had a link: the next one resumes */
    bool resuming;              /* nothing is sent over `out` before the answer to RESUME */
    uint64_t sent, taken, told; /* messages of each direction, over all links; and what it was told of `taken` */
    struct mdl_list kept;       /* sent, from number kept_from on: may have to be sent again */
    uint64_t kept_from;
    struct mdl_timer retry;
    int tries, calls;
    struct mdl_list queue;
    uint64_t heard_ns; /* last sign of life; 0: none yet */
    struct mdl_watch pid_watch;
    pid_t pid;
    bool neighbour, watched, lost;
    bool leaving;              /* GOODBYE came, but not all of the messages before it: */
    uint64_t leaves_after;     /* so many in all */
    bool missed;               /* somebody wants it meanwhile */
    bool said_goodbye, goodbye_told;
    bool fault_sent, fault_seen, fault_detoured;
};

/* What a calling thread waits for. */
struct mdl_ctl_outcome {
    bool done; /* under ctl->lock, with the rest */
    medleyResult_t result;
    char text[MDL_ERROR_TEXT_BYTES];
};

struct mdl_gather_child {
    uint8_t *blob;
    size_t len, total, room;
    bool begun, complete, told;
    struct mdl_ranges missing;
};
/* The one round of the all-gather that is under way: nobody can be further ahead, because it lacks our part. */
struct mdl_gather {
    uint64_t round;
    const struct mdl_gather_call *call; /* this rank takes part; NULL: not yet */
    struct mdl_ctl_outcome *outcome;
    bool sent, broken;
    struct mdl_gather_child child[MDL_TREE_ARITY];
    struct mdl_gather_child down;
    struct mdl_ranges news; /* who is missing, from the top */
    bool has_news;
    struct mdl_timer tick;
    uint64_t since_ns, warn_ns, tick_ms;
};
struct mdl_gather_call {
    const void *mine;
    size_t len;
    const char *what;
    medleyResult_t (*deliver)(void *ctx, const uint8_t *blob, size_t len);
    void *ctx;
};

struct mdl_ctl {
    /* Constant. */
    struct mdl_boot_args args;
    struct mdl_config cfg;
    pid_t pid;
    uint32_t rank, nranks;
    struct mdl_secret secret, base; /* of the communicator; from which the control services' are derived */
    uint64_t service_number;
    uint64_t init_deadline_ns;
    struct mdl_door *door;
    struct mdl_reactor *reactor;
    struct mdl_root **roots; /* holds on the roots of this process */
    int nroots;

    pthread_mutex_t lock; /* inbox, outcomes */
    pthread_cond_t changed;
    struct mdl_list inbox;
    atomic_size_t queued_bytes;

    /* The reactor's. */
    struct mdl_service *service;
    struct mdl_task inbox_task;
    struct mdl_ctl_peer **peers;
    struct mdl_list known;
    uint8_t *members;  /* all ranks' entries */
    uint8_t **entries; /* into it, or NULL */
    uint32_t *entry_len;
    bool complete; /* all entries are there */
    bool patient;  /* a peer that does not serve us yet will: derived planes */
    bool joining, closing;
    struct mdl_timer beat;
    uint64_t beat_due_ns;
    struct mdl_gather gather;
    struct {
        bool set;
        struct mdl_trouble trouble;
        struct mdl_timer retry;
    } fault;
    struct {
        mdl_ctl_handler fn;
        void *ctx;
    } handlers[MDL_CTL_TYPES];
    struct mdl_list kept;
    size_t kept_bytes;
    void (*on_lost)(void *ctx, int rank, bool said_goodbye, const char *why);
    void *on_lost_ctx;
};

/* ctl.c. `secrets`: base and service_number; the communicator's secret comes later. */
medleyResult_t mdl_ctl_create(const struct mdl_boot_args *args, const struct mdl_config *door_config,
                              const struct mdl_secret *base, uint64_t service_number,
                              struct mdl_ctl **ctl) MDL_MUST_USE;
void mdl_ctl_begin(struct mdl_ctl *ctl); /* heartbeats start */
void mdl_ctl_dispatch(struct mdl_ctl *ctl, int src, const struct mdl_frame *frame, const uint8_t *payload);
void mdl_ctl_finish(struct mdl_ctl *ctl, struct mdl_ctl_outcome *o, medleyResult_t result, const char *text);

/* Waits for the outcome. Timeout and RemoteError (aborted) leave it undone: the caller withdraws what it waits for. */
enum mdl_ctl_ended { MDL_CTL_DONE, MDL_CTL_LATE, MDL_CTL_ABORTED };
enum mdl_ctl_ended mdl_ctl_wait(struct mdl_ctl *ctl, struct mdl_ctl_outcome *o, uint64_t deadline_ns);

/* members.c */
void mdl_members_self(struct mdl_ctl *ctl, struct mdl_member *m);
medleyResult_t mdl_members_add(struct mdl_ctl *ctl, const struct mdl_member *m) MDL_MUST_USE;
medleyResult_t mdl_members_install(struct mdl_ctl *ctl, const uint8_t *blob, size_t len) MDL_MUST_USE;
medleyResult_t mdl_members_copy(struct mdl_ctl *ctl, const struct mdl_ctl *from, const int *ranks) MDL_MUST_USE;
bool mdl_members_get(const struct mdl_ctl *ctl, uint32_t rank, struct mdl_member *m);
void mdl_members_free(struct mdl_ctl *ctl);
void mdl_members_name(const struct mdl_ctl *ctl, const struct mdl_ranges *set, char *text, size_t bytes);
uint64_t mdl_members_warn_ns(const struct mdl_config *cfg); /* after it a stage that has not ended warns */

/* peer.c */
struct mdl_ctl_peer *mdl_peer_get(struct mdl_ctl *ctl, uint32_t rank); /* makes it; NULL without memory */
struct mdl_ctl_peer *mdl_peer_look(const struct mdl_ctl *ctl, uint32_t rank);
void mdl_peer_send(struct mdl_ctl *ctl, uint32_t rank, int type, int flags, const void *payload, size_t len);
void mdl_peer_pass(struct mdl_ctl *ctl, struct mdl_ctl_message *m); /* takes it over */
void mdl_peer_accept(void *ctl, const struct mdl_link *link);
void mdl_peer_lost(struct mdl_ctl_peer *p, const char *why);
void mdl_peer_goodbye(struct mdl_ctl_peer *p, uint64_t sent); /* after so many messages */
void mdl_peer_wanted(struct mdl_ctl_peer *p); /* tells that it has left, once */
void mdl_peer_destroy(struct mdl_ctl_peer *p);
bool mdl_peer_is_wanted(const struct mdl_ctl_peer *p);                                  /* its silence matters */
int mdl_peer_wires(const struct mdl_ctl_peer *p, struct mdl_wire *list[MDL_CTL_WIRES]); /* those that may be in use
                                                                                           there */
void mdl_peer_beat(struct mdl_ctl_peer *p, int flags);
void mdl_peer_flush(struct mdl_ctl_peer *p);      /* sends what is queued */
void mdl_peer_redial(struct mdl_ctl_peer *p);     /* also while there is a link */
bool mdl_peer_gone(const struct mdl_ctl_peer *p); /* lost or left */

/* resume.c */
bool mdl_resume_can(const struct mdl_wire *w); /* NULL: no link now */
void mdl_resume_sent(struct mdl_ctl_peer *p, int type, int flags, const void *payload, size_t len);
void mdl_resume_taken(struct mdl_ctl_peer *p, int type);
void mdl_resume_acked(struct mdl_ctl_peer *p, uint64_t count);
void mdl_resume_retire(struct mdl_ctl_peer *p, struct mdl_wire *w); /* NULL: nothing */
bool mdl_resume_is_old(const struct mdl_ctl_peer *p, const struct mdl_wire *w);
void mdl_resume_end_old(struct mdl_ctl_peer *p, struct mdl_wire *w);
void mdl_resume_start(struct mdl_ctl_peer *p, struct mdl_wire *w); /* the new link is greeted */
void mdl_resume_frame(struct mdl_ctl_peer *p, struct mdl_wire *w, const uint8_t *payload, size_t len);
void mdl_resume_watch(struct mdl_ctl_peer *p, uint64_t now);
/* Has `w` ended for the network's sake? Then the peer is looked for anew, and the wire is closed. */
bool mdl_resume_cut(struct mdl_ctl_peer *p, struct mdl_wire *w, enum mdl_wire_end how);
void mdl_resume_fini(struct mdl_ctl_peer *p);

/* call.c */
uint64_t mdl_call_patience_ns(const struct mdl_ctl *ctl);    /* with a dial, before the other side is called */
void mdl_call_back(struct mdl_ctl_peer *p, const char *why); /* it could not be dialed */
void mdl_call_frame(struct mdl_ctl *ctl, uint32_t src, const uint8_t *payload, size_t len);

/* beat.c */
void mdl_beat_start(struct mdl_ctl *ctl);
void mdl_beat_stop(struct mdl_ctl *ctl);
void mdl_beat_watch_process(struct mdl_ctl_peer *p, int fd); /* the process at the other end of a Unix socket */
void mdl_beat_unwatch_process(struct mdl_ctl_peer *p);

/* gather.c */
medleyResult_t mdl_gather_run(struct mdl_ctl *ctl, const struct mdl_gather_call *call,
                              uint64_t deadline_ns) MDL_MUST_USE;
void mdl_gather_frame(struct mdl_ctl *ctl, uint32_t src, const struct mdl_frame *frame, const uint8_t *payload);
void mdl_gather_gone(struct mdl_ctl *ctl, const struct mdl_ctl_peer *p, const char *why);
void mdl_gather_fail(struct mdl_ctl *ctl, medleyResult_t code, const char *text);
void mdl_gather_fini(struct mdl_ctl *ctl);

/* fault.c */
void mdl_fault_set(struct mdl_ctl *ctl, const struct mdl_trouble *t);
void mdl_fault_frame(struct mdl_ctl *ctl, uint32_t src, const struct mdl_frame *frame, const uint8_t *payload);
void mdl_fault_linked(struct mdl_ctl_peer *p); /* a new link: does the peer know? */
void mdl_fault_gone(struct mdl_ctl_peer *p);
bool mdl_fault_unheard(const struct mdl_ctl *ctl); /* told to a rank that has not said so yet, nor left */
void mdl_fault_leave(struct mdl_ctl *ctl); /* this rank leaves: the last chance to tell */
void mdl_fault_fini(struct mdl_ctl *ctl);

#endif
