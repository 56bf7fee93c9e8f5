/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device buffers of an operation: they pass through pinned memory of the host, block by block, inside the user's stream.
 *
 * A block is the same range of elements of every slot of a buffer. Room is a ring of a few blocks for IN and for OUT, so
 * that copies of later blocks overlap with the network and the reduction of earlier ones. What the stream gets, all at
 * once when the call is issued:
 *
 *     copy in block 0 .. ring-1, each followed by "arrived" = its number + 1;
 *     for each block b: wait until "ready" > b; copy out b; copy in b + ring, "arrived" = b + ring + 1;
 *     "arrived" = number of blocks + 1
 *
 * So the stream itself keeps the order: what comes after the call sees its result, and a block's room is taken again only
 * when it is free. The executing thread looks at the one word, and writes the other; it never calls the vendor. Where a
 * stream cannot be held (lib/dev/hold.h), or a group needs more words than there are, the calling thread stays in the call and
 * appends what comes next to the stream itself (`attended`), told by events how far the stream is, or, without events, by
 * waiting for the stream. The two words are then ordinary memory, and it is the calling thread that writes the one and
 * reads the other: the executing thread sees no difference.
 *
 * In which order the calls of a group are appended, and that they are queued before, is launch.h's matter. An operation
 * and its stage live until the calling thread has appended all of it, whatever became of it meanwhile.
 *
 * The stage of an island's call has pieces instead of slots, one behind the other, each beginning with a block; and one
 * ring for IN and OUT, where results take the place of what they are made of.
 *
 * Windows of plans tile blocks (mdl_choose_limits.blocks), so that no reference crosses the end of a ring.
 */
#ifndef MDL_ENGINE_STAGE_H_
#define MDL_ENGINE_STAGE_H_

#include "lib/dev/arena.h"
#include "lib/dev/dev.h"
#include "lib/dev/hold.h"
#include "lib/engine/drive.h"
#include "lib/engine/load.h"

struct mdl_direct_call;

enum { MDL_STAGE_RING = 4, MDL_STAGES_MOST = 128, MDL_STAGE_P2P_BYTES = 131072, MDL_STAGE_WORD_SPACE = 64 };

struct mdl_stage_side {
    bool staged; /* the user's buffer is the device's */
    uint32_t slots;
    char *user, *base; /* the user's buffer; the ring */
    size_t bytes;      /* of the ring */
};

/* For islands: elements that are copied in from `in` and out to `out`; NULL: they are not. */
struct mdl_stage_piece {
    const char *in;
    char *out;
    size_t count;
    size_t block; /* its first, told by mdl_stage_add_pieces */
};

struct mdl_stage {
    struct mdl_list link; /* in the stager's list, from launch on */
    struct mdl_op *op;    /* until it lets go */
    struct mdl_stager *stager;
    mdl_dev_stream stream;
    struct mdl_stage_side side[2];   /* MDL_IN, MDL_OUT */
    const struct mdl_stage_piece *pieces; /* the call's, which outlives it; NULL: it has slots */
    size_t npieces;
    size_t elem, block, stride;      /* elements of a block; from slot to slot in the ring */
    size_t nblocks, ring;
    size_t cost[2]; /* commands of a block */
    uint64_t order; /* of issue, among the calls of a group */
    bool attended;
    bool listed; /* in the stager's list: it has words */
    bool roomy;  /* it has rings and what else it needs of pinned memory */
    bool unreached; /* counted in its communicator */
    bool placed; /* its stream has a place among those that are held (mdl_hold_take) */
    /* the issuing thread's */
    bool launched, over;    /* some of it was appended to the stream; nothing more will be */
    size_t put_in, put_out; /* blocks appended so far; direct: put_out pieces */
    size_t told;            /* attended: blocks known to have arrived */
    size_t seen;            /* the executing thread's: the same */
    int pair;               /* of words, -1: none yet */
    uint64_t own[2];        /* attended: in their place */
    uint64_t *arrived, *ready;
    mdl_dev_event event[MDL_STAGE_RING], last;
    struct mdl_direct_call *direct; /* the call does not pass through the host (direct.h): none of the room above */
    char *scalar; /* pinned copy of a scalar of the device, NULL: none */
    const void *scalar_user;
    _Atomic bool let_go; /* by the operation: the room goes when the stream is through */
};

/* The stage of an operation, by its link in a batch; NULL: it has none. */
static inline struct mdl_stage *mdl_stage_of(struct mdl_list *link)
{
    return mdl_container_of(link, struct mdl_op, link)->stage;
}

/* A communicator's device, with what its stages are made of. Used by the threads that issue calls, one at a time. */
struct mdl_stager {
    struct mdl_dev dev;
    struct mdl_hold hold;
    struct mdl_arena arena;
    void *pinned;
    mdl_dev_stream idle; /* an own one: whether the device has failed is asked of it, since the user may have destroyed
                            the stream of a call that goes on; NULL: the vendor cannot be asked */
    uint64_t *arrived, *ready[MDL_STAGES_MOST]; /* pair i: arrived[8 * i], *ready[i] */
    bool pair_taken[MDL_STAGES_MOST];
    struct mdl_list more;   /* arenas of messages that went beyond the budget */
    struct mdl_list stages; /* reserved and not through */
    _Atomic bool failed;    /* a call of the device has: its streams need not come to their ends */
    struct mdl_list passes, rooms; /* native.h: of the vendor's communicator, which has ended: what streams may still use,
                                      and what is freed when they do not */
    struct mdl_direct *direct; /* the communicator's, once it has ended: freed with this; NULL: it had none, or is freed */
    struct mdl_load *load;  /* the device's */
    uint64_t settled_ns;    /* until when its end waits for all that; 0: it has not begun */
    bool kept;              /* a stream may never come to its end: nothing is freed, since that would wait for it */
    struct mdl_list link;   /* among those that their communicators left behind */
};

medleyResult_t mdl_stager_open(const struct mdl_dev *dev, const struct mdl_config *cfg, int nranks, struct mdl_stager **s)
    MDL_MUST_USE;
bool mdl_stager_settle(struct mdl_stager *s); /* waits shortly; true: its streams are through with all calls */
/* True: no communicator has a call that may hold the device up, nor begins one before mdl_load_resume. Waits for that a
 * moment, or as long as settle may. Only then is anything freed. */
bool mdl_stager_calm(struct mdl_stager *s, bool patient) MDL_MUST_USE;
void mdl_stager_close(struct mdl_stager *s); /* settles; what is still used stays until a later end of a communicator */

/* For an operation of a communicator with a device that was just set up: finds out where its buffers are. Sets
 * op->stage, or, if the call passes through to the vendor, op->native. InvalidUsage: the stream is being captured; InvalidArgument: a buffer of another device. */
medleyResult_t mdl_stage_make(struct mdl_op *op, mdl_dev_stream stream) MDL_MUST_USE;

/* Fails the communicator, whose device is at fault, with whose device it was: every rank gets these words. Returns res. */
medleyResult_t mdl_stager_fail(struct mdl_comm *c, medleyResult_t res);

/* For islands, sets op->stage: a stage between the host and these pieces, which live as long as the operation. in, out:
 * some address in the buffer that they are of, if there is one. */
medleyResult_t mdl_stage_add_pieces(struct mdl_op *op, mdl_dev_stream stream, const void *in, const void *out,
                                    struct mdl_stage_piece *pieces, size_t npieces) MDL_MUST_USE;

medleyResult_t mdl_stage_find_out(struct mdl_op *op, const void *p, bool *of_device) MDL_MUST_USE;

/* Room (stage_room.c), for the issuing thread (launch.h), with the device entered.
 *
 * All calls of a batch get words, messages get rings, as long ones as there is room for all; what does not fit even so
 * is allocated. Collectives that do not fit get their rings when earlier ones of the communicator, which come first on
 * every rank, are through: the caller waits for that. One that has none makes those behind it wait, so a call alone
 * always has enough. */
medleyResult_t mdl_stage_reserve(struct mdl_batch *b) MDL_MUST_USE;
medleyResult_t mdl_stage_take_room(struct mdl_stage *s) MDL_MUST_USE; /* InProgress: there is none as yet */
void mdl_stage_drop_room(struct mdl_stage *s);                        /* but for the words */
void *mdl_stager_take(struct mdl_stager *s, size_t bytes);            /* pinned memory; NULL: there is none */
void mdl_stager_give(struct mdl_stager *s, void *at, size_t bytes);
void mdl_stager_shrink(struct mdl_stager *s); /* frees what went beyond the budget */
bool mdl_stager_reap(struct mdl_stager *s);   /* takes back what is through; true: none is left */
void mdl_stager_nap(void);

/* A wait for earlier calls to come to their ends. Streams may be long in coming to them: so it tells of itself after
 * MEDLEY_STALL, and is Timeout only after MEDLEY_TIMEOUT, times `patience`. */
struct mdl_stage_wait {
    uint64_t begun_ns;
    bool told;
};
medleyResult_t mdl_stage_wait_check(const struct mdl_comm *c, struct mdl_stage_wait *w, unsigned patience) MDL_MUST_USE;

/* For the issuing thread; append and close with the device entered. */
medleyResult_t mdl_stage_append(struct mdl_stage *s, bool *moved) MDL_MUST_USE; /* the next part, until s->over */
size_t mdl_stage_cost(const struct mdl_stage *s);    /* commands that the stream gets by that */
size_t mdl_stage_waiting(const struct mdl_stage *s); /* commands that the stream has and has not come to, about */
void mdl_stage_close(struct mdl_stage *s); /* nothing more is appended, since the communicator has failed */

/* From when it is queued until its stream comes to it, or it fails, it is counted in mdl_comm.unreached. */
void mdl_stage_queued(struct mdl_stage *s);
void mdl_stage_reached(struct mdl_stage *s);

/* For the executing thread. */
void mdl_stage_release(struct mdl_stage *s); /* the operation has failed: what its stream waits for does not come */
bool mdl_stage_has(struct mdl_stage *s, size_t block); /* has it arrived, with the room of its results free? */
void mdl_stage_done(struct mdl_stage *s, size_t blocks); /* so many blocks have been worked on */
/* Has the device failed? Then nothing arrives any more, and the communicator fails. For now and then. */
void mdl_stage_look_for_error(struct mdl_stage *s);
void mdl_stage_let_go(struct mdl_stage *s);            /* the operation has ended, one way or the other */

/* Where element `first` of a slot is in its block's place. */
static inline char *mdl_stage_at(const struct mdl_stage *s, int side, uint32_t slot, size_t first)
{
    const struct mdl_stage_side *b = &s->side[side];
    size_t block = first / s->block;

    return b->base + (((block % s->ring) * b->slots + slot) * s->stride + first % s->block) * s->elem;
}

#endif
