/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pass-through: calls of a communicator whose ranks all have devices of one vendor, one each, become calls of the vendor's
 * collective library on the user's stream.
 *
 * What all ranks must decide alike is decided from what they all know: that there is a native communicator from facts
 * that are exchanged when it is made, and whether a call goes there from its signature alone (mdl_native_takes). Where a
 * rank's buffers are is known to that rank only, so it does not count: a buffer of the host passes through memory of the
 * device, by a copy before the vendor's call or after it, and so does the input of a call in place that the vendor does
 * not have in place.
 *
 * The vendor's call is appended to the stream when the user makes the call, between two events. The operation itself goes
 * the way of all operations: it is numbered, publishes its line, is compared with those of the host's other ranks, stands
 * in the diary, and waits for the second event. So a mismatch, a late rank and a deadline are found as ever, although the
 * vendor's library knows none of them. It is queued before anything is appended (launch.h), since appending may wait: for
 * the copy to an OUT in ordinary memory of the host the vendors wait in the call. `put` says which of the events are on the
 * stream yet. When the communicator fails, for whatever reason, the vendor's is aborted on a thread of its own, which
 * releases the stream.
 *
 * The vendor's calls that may not come back (init, destroy, abort) are made on threads that can be left behind.
 */
#ifndef MDL_ENGINE_NATIVE_H_
#define MDL_ENGINE_NATIVE_H_

#include "lib/dev/dev.h"
#include "lib/engine/aside.h"
#include "lib/engine/drive.h"

/* What a rank tells of its collective library. */
enum { MDL_NATIVE_ROW_BYTES = 88 };
struct mdl_native_row {
    bool wanted, bound; /* MEDLEY_NATIVE; there is a library */
    struct mdl_native_caps caps;
    char name[16], pci[32]; /* of the library; of the device, "" if the vendor does not tell */
};

/* Memory of the device that stands for a buffer of the host. */
struct mdl_native_room {
    struct mdl_list link;
    char *at;
    size_t bytes;
};

/* MDL_IN, MDL_OUT, an OUT of ranks that have none, which the vendor wants all the same, and a factor of the host that is
 * read when the stream has come to the call. */
enum { MDL_NATIVE_SPARE = 2, MDL_NATIVE_FACTOR, MDL_NATIVE_ROOMS };

/* What was appended to the stream so far. */
enum mdl_pass_put { MDL_PASS_NOTHING, MDL_PASS_BEGIN, MDL_PASS_END };

/* An operation's part. */
struct mdl_pass {
    struct mdl_list link; /* while nobody has it */
    struct mdl_native_comm *owner; /* held: a group may end after its communicator was aborted */
    mdl_dev_stream stream; /* the user's, or the communicator's own beside it */
    bool beside;           /* the user's is the default one, which the vendor does not take */
    mdl_dev_event begin, end; /* before and behind the vendor's call */
    uint64_t order;           /* of issue, among the calls of a group */
    _Atomic int put;          /* enum mdl_pass_put: which of the events mean this call */
    bool begun;
    const void *factor_at; /* where the user has a factor that is not read yet; NULL: it is op->scalar */
    struct mdl_native_room *room[MDL_NATIVE_ROOMS]; /* the buffer is here; NULL: where the user has it */
    bool from_host[MDL_NATIVE_ROOMS];               /* of a room: the user's is the host's */
};

struct mdl_native_comm {
    _Atomic int holders; /* the communicator, and operations */
    const struct mdl_native *ops;
    struct mdl_dev dev;
    struct mdl_native_caps caps; /* of all ranks */
    void *comm;
    uint64_t key, ncalls; /* key: the same on all its ranks; ncalls: collectives that were issued, for launch.c */
    mdl_dev_stream own; /* for calls on the default stream, if the vendor does not take it; else NULL */
    pthread_mutex_t lock;  /* of the vendor's communicator: calls on it, and its end */
    _Atomic bool ending;   /* no more calls on it */
    struct mdl_aside *end; /* who ends it, once ending is set */
    bool aborts, ended;    /* ended: the vendor's is gone, and with it what was on the streams */
    pthread_mutex_t pool;  /* of the following */
    struct mdl_list passes, rooms, limbo, limbo_rooms; /* free ones; those whose end was not seen */
};

static inline bool mdl_native_is_over(struct mdl_native_comm *n)
{
    return atomic_load_explicit(&n->ending, memory_order_acquire); /* pairs with begin_end */
}

/* Makes the native communicator if there is to be one; collective. An error is one of the communicator. */
medleyResult_t mdl_native_open(struct mdl_comm *c, uint64_t deadline_ns) MDL_MUST_USE;
void mdl_native_abort(struct mdl_comm *c); /* [any thread] at the first fault; returns at once */
void mdl_native_close(struct mdl_comm *c); /* waits shortly for the vendor */

/* Does the call go to the vendor? The same on all ranks. */
bool mdl_native_takes(const struct mdl_op *op);
/* For an operation that was just set up, with the device entered. Sets op->native. */
medleyResult_t mdl_native_make(struct mdl_op *op, mdl_dev_stream stream) MDL_MUST_USE;
/* Appends the vendor's calls of n operations, as one group of the vendor's where it has groups: messages, and of each
 * communicator one collective at most. `room` has space for n. An error has failed the communicator. */
medleyResult_t mdl_native_launch(struct mdl_op *const *ops, size_t n, struct mdl_op **room) MDL_MUST_USE;

/* For the executing thread. */
medleyResult_t mdl_native_step(struct mdl_op *op, int *events); /* InProgress, or how it ended */
void mdl_native_look_for_error(struct mdl_op *op);             /* now and then */
void mdl_native_look_for_begin(struct mdl_op *op);             /* before it runs: has its stream come to it? */
void mdl_native_let_go(struct mdl_op *op);
/* Has its stream not come to it yet? */
static inline bool mdl_native_waits(const struct mdl_op *op) { return op->native && !op->native->begun; }
int mdl_native_blame(const struct mdl_op *op, int *peers, int cap);

/* native_open.c, for its tests: what all ranks have, and why there is no native communicator ("": there is to be one).
 * True: that is something to be told of, since somebody may want to change it. */
void mdl_native_row_write(struct mdl_writer *w, const struct mdl_native_row *row);
medleyResult_t mdl_native_row_read(struct mdl_reader *r, struct mdl_native_row *row) MDL_MUST_USE;
bool mdl_native_decide(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int n,
                       struct mdl_native_caps *caps, char *why, size_t why_bytes);


/* native_open.c, for islands (island.h), whose members are some of the ranks. */
void mdl_native_tell(const struct mdl_comm *c, const struct mdl_native **ops, struct mdl_native_row *row);
medleyResult_t mdl_native_exchange_rows(struct mdl_comm *c, const struct mdl_native_row *mine,
                                        struct mdl_native_row *rows, uint64_t deadline_ns) MDL_MUST_USE;
/* May two ranks, since they share a device or a process, not be in one native communicator? */
bool mdl_native_is_taken(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int a, int b);
void mdl_native_join_caps(struct mdl_native_caps *caps, const struct mdl_native_caps *other); /* what both have */
/* The vendor's init, as one of `nranks`; n->caps are set. False: it failed, or c->native_refused is set. */
bool mdl_native_start(struct mdl_comm *c, struct mdl_native_comm *n, const uint8_t *id, int nranks, int rank,
                      uint64_t deadline_ns);

/* native_turn.c: waits until all ranks may make the communicator of this key; collective, after an exchange. *got is
 * false where that has taken too long (until_ns), on all ranks alike. Whoever has got it ends it; left_behind: the
 * vendor's init goes on. */
medleyResult_t mdl_native_turn_begin(struct mdl_comm *c, uint64_t key, uint64_t until_ns, uint64_t deadline_ns,
                                     bool *got) MDL_MUST_USE;
void mdl_native_turn_end(bool left_behind);

/* native_call.c, for islands */
char *mdl_native_address(const struct mdl_op *op, int side); /* where the vendor finds IN or OUT; NULL: there is none */

/* native.c, for native_open.c and islands */
struct mdl_native_comm *mdl_native_new(const struct mdl_native *ops, const struct mdl_dev *dev);
void mdl_native_drop(void *native_comm); /* the last holder frees it */
/* Of passes that streams may still use, those that are through are freed; true: none is left. With the device entered. */
bool mdl_native_reap_passes(const struct mdl_device *d, struct mdl_list *passes);
void mdl_native_free_rooms(const struct mdl_device *d, struct mdl_list *rooms); /* nothing uses them */
/* Ends the vendor's, waits shortly, frees. False: it may not be gone, and streams may still be in its calls. */
bool mdl_native_end(struct mdl_native_comm *n, int rank, bool aborts);

#endif
