/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation in flight: a collective or one side of a point-to-point message, as a state machine that never blocks.
 *
 *   collective: ROOM (in the ring of lines) -> LINES (wait for those of the host's ranks, compare signatures) ->
 *               RUN (windows of the program) -> FINISHED
 *   p2p:        LINES (to be posted) -> RUN (one transport request) -> FINISHED
 *   DOUBT: an error that lies with another rank (a message with another signature came, or the rank is gone); waits
 *   briefly for the explanation, which comes as a fault
 */
#ifndef MDL_ENGINE_OP_H_
#define MDL_ENGINE_OP_H_

#include "lib/engine/comm.h"
#include "lib/plan/shape.h"
#include "lib/reduce/reduce.h"

#include <string.h>

enum { MDL_MAX_DEPTH = 8 };
enum mdl_op_state {
    MDL_STATE_NEW,
    MDL_STATE_ROOM,
    MDL_STATE_LINES,
    MDL_STATE_RUN,
    MDL_STATE_DOUBT,
    MDL_STATE_FINISHED
};

/* A point-to-point request. Kept by the communicator and reused; one that a fault left active stays until the
 * transports are closed. */
struct mdl_message_slot {
    struct mdl_message_slot *next, *all;
    struct mdl_request *request;
};

struct mdl_island_call;

struct mdl_op {
    struct mdl_list link; /* in its batch */
    struct mdl_comm *comm;
    struct mdl_call call;
    enum mdl_op_state state;
    medleyResult_t result;
    uint64_t seq, tag, diary;
    uint64_t issued_ticks; /* 0: not yet, or its time is not taken */

    const void *in;
    void *out;
    size_t elem, count;
    size_t *tables;                /* V: [4n] send counts, send displs, receive counts, receive displs; owned */
    bool sampled; /* its time stands for that of others */
    bool premul, puts;             /* puts: has a payload in its line */
    const struct mdl_rooms *rooms; /* where payloads of the call lie; NULL: it has a plan */
    bool stream;                   /* results are written past the caches */
    uint64_t scalar;               /* one value of dtype */
    const void *scalar_at;         /* where to read it when the operation starts, or NULL: it is there already */

    int lines_first, lines_end; /* of these local ranks the lines are waited for */
    int lines_seen;             /* ROOM, LINES: the next one whose line is looked at */
    struct mdl_program *program;
    size_t window, nwindows, next_window, windows_left;
    union {
        struct mdl_run *runs[MDL_MAX_DEPTH]; /* window k is in slot k mod depth; its scratch and channels are that slot's */
        struct mdl_message_slot *messages[MDL_MAX_DEPTH]; /* p2p: the same of its pieces */
    };
    int suspect;                         /* DOUBT: the other rank; -1: an error is nobody else's */
    medleyResult_t doubt;                /* DOUBT: the error */
    uint64_t give_up_ns;                 /* DOUBT: until when */
    struct mdl_stage *stage;             /* device buffers, see stage.h; NULL: there are none */
    struct mdl_pass *native;             /* it passes through to the vendor, see native.h */
    struct mdl_island_call *island;      /* it goes through islands, see island.h */
};

/* Sets up call, tag-independent fields and state. The arguments have been validated. Cleared by the library's memset:
 * the compiler's own way for a constant size takes longer than all the rest. */
static inline void mdl_op_init(struct mdl_op *op, struct mdl_comm *c, medleyColl_t coll, const void *in, void *out,
                               size_t count, medleyDataType_t dtype, medleyRedOp_t rop, int root)
{
    size_t n = sizeof(*op);

    __asm__("" : "+r"(n));
    memset(op, 0, n);
    op->comm = c;
    op->in = in;
    op->out = out;
    op->count = count;
    op->elem = mdl_dtype_size(dtype);
    op->suspect = -1;
    mdl_list_init(&op->link);
    op->call.coll = (uint8_t)coll;
    op->call.dtype = (uint8_t)dtype;
    op->call.op = (uint8_t)rop;
    op->call.root = root;
    op->call.count = count;
}
medleyResult_t mdl_op_step(struct mdl_op *op, int *events); /* InProgress, or its result: then FINISHED and cleaned up
                                                             */
/* All of a small call, if it goes the quick way and the others come before a short wait is over. False: it goes on in
 * mdl_op_step. */
bool mdl_op_run_quick(struct mdl_op *op);
void mdl_op_fini(struct mdl_op *op); /* drops it in any state (after a fault) */

static inline const struct mdl_shape *mdl_op_shape(const struct mdl_op *op) { return &mdl_shapes[op->call.coll]; }
static inline bool mdl_op_is_message(const struct mdl_op *op) { return mdl_op_shape(op)->message; }
size_t mdl_op_longest_slot(const struct mdl_op *op); /* elements; of V collectives as far as this rank knows */

/* The peers that it waits for, at most `cap`; returns how many. outstanding: bytes posted and not moved. */
int mdl_op_blame(const struct mdl_op *op, int *peers, int cap, uint64_t *outstanding);

#endif
