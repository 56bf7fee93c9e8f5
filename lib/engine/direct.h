/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collectives among devices of one vendor in one host, without a detour through the host's memory.
 *
 * Each rank owns a window, a piece of its device's memory that the others have imported (or, in the same process, have
 * the address of). A call passes through the windows piece by piece, in the user's stream: the piece is copied into the
 * own window; when all ranks have come so far, each takes what it needs out of the others' windows, with copies or with
 * a kernel that reduces (lib/dev/kernels.h). An all-reduce does so twice: first every rank reduces its share of the
 * piece in its own window, then all collect the shares. Every element is reduced once, by one rank, in the order of the
 * ranks, so all have the same bits.
 *
 * Between two such steps the ranks meet: the stream writes the number of the step into the word "arrived" and waits for
 * it in the word "ready"; the executing thread of each rank sees the one, signals the others over the boards and writes
 * the other when all have signalled. The first meeting of a call are its lines (lines.h), so that calls that do not
 * match and ranks that have died are found out as with any other call.
 *
 * Windows have two halves, taken in turns. Whoever writes piece p has met all others for piece p - 1, and they came
 * there behind their reading of piece p - 2, which lay where p goes: so no further meeting is needed for the room. For
 * the same reason the calls of a communicator follow each other on the device, whatever streams they are given: an
 * event behind each lets the next one through.
 *
 * A buffer in the host's memory, which only its rank knows of, passes through pinned memory: a step in which the
 * executing thread copies, and which nobody else has. For the same reason again all calls of a communicator share one
 * such piece for IN and one for OUT, which are there while any call needs them.
 *
 * Which calls go this way is decided by what all ranks know: what they told each other at creation, and the call's own
 * signature. All others are staged (stage.h).
 */
#ifndef MDL_ENGINE_DIRECT_H_
#define MDL_ENGINE_DIRECT_H_

#include "lib/dev/kernels.h"
#include "lib/engine/stage.h"

/* ---- windows: direct_window.c. Process-wide, any thread, with any device entered ---- */

/* A piece of device memory, held by its owner and by those ranks of this process that read it. */
struct mdl_window {
    struct mdl_list link;
    struct mdl_dev dev;
    char *base;
    size_t bytes;
    int holders;
    bool kept; /* another process may still have it open: it is not freed, but used again */
};

medleyResult_t mdl_window_take(const struct mdl_dev *dev, size_t bytes, struct mdl_window **w) MDL_MUST_USE;
/* That of another rank of this process; NULL: there is none. */
struct mdl_window *mdl_window_hold(const struct mdl_dev *dev, uint64_t base);
void mdl_window_drop(struct mdl_window *w);
void mdl_window_free_idle(void); /* those that nobody holds and whose devices are calm; with no device paused (load.h) */
uint64_t mdl_window_process(void); /* a random number that this process has alone */
uint32_t mdl_window_pids(void);    /* which number space its process id is of: the kernel's number of it; 0: unknown */

/* ---- what ranks tell each other of them: direct_wire.c ---- */

enum { MDL_DIRECT_WIRE_BYTES = 312 };

struct mdl_direct_offer {
    uint64_t process, base, bytes; /* bytes 0: this rank cannot; base: its address there */
    uint64_t staging;              /* bytes of pinned memory */
    uint32_t types;                /* bit of each datatype that it can reduce */
    int ordinal;
    uint32_t pids;      /* the number space that its process id is of; 0: unknown */
    struct mdl_ipc ipc; /* len 0: it cannot be exported */
};

void mdl_direct_write(struct mdl_writer *w, const struct mdl_direct_offer *o);
void mdl_direct_read(struct mdl_reader *r, struct mdl_direct_offer *o); /* bytes 0 if anything is wrong with it */

/* ---- the communicator's part: direct.c ---- */

struct mdl_direct_peer {
    char *window;
    void *import;            /* NULL: of this process, or the own one */
    struct mdl_window *held; /* of this process */
    bool elsewhere;          /* in another process */
    bool named;              /* whose number means the same process here */
    bool reads;              /* the own device's kernels may read it; copies always may */
};

struct mdl_direct {
    struct mdl_dev dev;
    struct mdl_hold *hold; /* the stager's */
    bool placed;           /* has a place there for the stream of its calls, of which one at a time waits */
    struct mdl_window *own;
    struct mdl_direct_peer *peers; /* [nranks] */
    size_t half;                   /* bytes of half a window */
    size_t most;                   /* bytes of a piece's slots: half a window at most */
    const struct mdl_dev_kernels *kernels;
    uint32_t types;            /* that all ranks can reduce */
    bool copies;                   /* some rank's kernels may not read all windows */
    char *scratch, *carry;     /* for what kernels may not read; for partials. NULL: not needed */
    uint64_t *arrived, *ready; /* the words, which count on from call to call */
    mdl_dev_event event;       /* behind the newest call */
    bool used;
    uint64_t steps, pieces; /* given to calls so far */
    int nranks;
    struct {
        char *at; /* pinned, d->most bytes */
        int users;
    } bounce[2]; /* MDL_IN, MDL_OUT: of the threads that issue calls */
};

/* Finds out, with all ranks, whether their devices can; sets c->direct if so. An error is one of the exchange. */
medleyResult_t mdl_direct_open(struct mdl_comm *c, uint64_t deadline_ns) MDL_MUST_USE;
/* While the boards are mapped; waits shortly for the others. What there is to free goes to the stager. */
void mdl_direct_close(struct mdl_comm *c);
void mdl_direct_free(struct mdl_direct *d); /* with the device entered, and calm (stage.h); NULL: nothing */

/* ---- a call's part: direct_call.c ---- */

#define MDL_DIRECT_NAME "device-direct" /* in statistics; "direct" is a plan's name */

struct mdl_direct_call {
    uint64_t base, total, done; /* number of the step before the first; steps; those that are over */
    uint64_t first_piece;
    size_t piece, npieces;        /* elements of each slot in a piece */
    uint32_t per_piece;           /* steps of a piece */
    uint32_t in_slots, out_slots; /* that this rank has; 0: no such buffer */
    bool host_in, host_out, twice;
    bool signalled;  /* the others have been told of the meeting in hand */
    int met;         /* local ranks that have told us */
    char *bounce[2]; /* MDL_IN, MDL_OUT: the communicator's; NULL: not needed */
    size_t cost;     /* commands that a piece gives its stream, at most */
    struct mdl_direct *owner;
};

/* Makes s->direct if its call goes this way. */
medleyResult_t mdl_direct_make(struct mdl_stage *s) MDL_MUST_USE;
bool mdl_direct_take_room(struct mdl_stager *st, struct mdl_direct_call *call);
void mdl_direct_drop_room(struct mdl_stager *st, struct mdl_direct_call *call);
/* Gives it its steps and halves of the windows. All ranks must do so for the same calls: no more error but a fault. */
void mdl_direct_number(struct mdl_stage *s);
medleyResult_t mdl_direct_append(struct mdl_stage *s) MDL_MUST_USE; /* its next piece to the stream */
void mdl_direct_end(struct mdl_stage *s);                           /* no more pieces: lets the next call through */
bool mdl_direct_is_through(const struct mdl_direct_call *call);
size_t mdl_direct_waiting(const struct mdl_stage *s); /* as mdl_stage_waiting */

/* For the executing thread. */
bool mdl_direct_is_reached(struct mdl_op *op); /* all is there for the first meeting */
void mdl_direct_start(struct mdl_op *op);      /* which is over: all lines agree */
medleyResult_t mdl_direct_run(struct mdl_op *op, int *events);
int mdl_direct_blame(const struct mdl_op *op, int *peers, int cap);
void mdl_direct_release(struct mdl_direct_call *call);
void mdl_direct_let_go(struct mdl_stage *s);

#endif
