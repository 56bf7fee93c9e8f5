/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans: a collective as data. Pure: no I/O, no threads, no clock.
 *
 * A plan says what one rank does in one WINDOW of a collective. A large operation is cut into windows of W elements per
 * slot; window k runs the same instructions on elements [k*W, k*W + W) of each slot, on channel base + k mod depth,
 * with its own copy of the scratch. So windows never touch the same memory or channel, up to `depth` of them are in
 * flight, and a plan is small whatever the size.
 *
 * Buffers and slots. A buffer is an array of slots: IN and OUT have 1 or n slots (n for the n-fold side of all-gather,
 * all-to-all...), SCRATCH has `scratch_slots`. Each slot holds `count` elements (in V collectives slot i has its own
 * count and displacement from a run-time table). In a window a slot is w = min(W, count - k*W) elements, cut into
 * `parts` nearly equal parts: part p is elements [p*w/parts, (p+1)*w/parts), rounded to whole elements by
 * mdl_plan_part. A reference names slots and, if it names one slot, a range of its parts. Several slots are contiguous
 * only when one window covers all (flag MDL_PLAN_WHOLE demands it, and all ranks' plans of a call have it or none).
 * SCRATCH slot s begins at s * W * E bytes, E being the size of a partial in collectives that reduce and of an element
 * in the others; so several SCRATCH slots are contiguous under the same condition, in collectives that reduce only with
 * `acc`.
 *
 * Partials. A reference with `acc` holds elements of the acc type (fp32 for 8- and 16-bit floats); only SCRATCH can.
 * SEND and RECV move the bytes of their reference, so both sides agree on acc.
 *
 * Ranks of one host read (and write) each other's IN, OUT and SCRATCH by reference: legal only between ranks of one
 * team host and only if the team and the facts of the call say so: SCRATCH: remote_scratch; reading IN: in_mapped or
 * remote_get; reading OUT: out_mapped or remote_get; writing OUT: out_mapped; nobody writes another rank's IN. COPY may
 * have a remote source or destination, REDUCE remote sources; SEND, RECV and the destination of REDUCE are local. Such
 * accesses are ordered by SIGNAL and WAIT, which too are only between ranks of one host. Everything else moves by SEND
 * and RECV.
 *
 * When a remote access may begin, and must have ended. Before a plan with remote IN or OUT references starts, its ranks
 * have seen each other's published lines (the engine does that), so the first access to IN and OUT needs no WAIT on
 * "the peer has called". A rank may leave (its call returns, its buffers are the user's again) only when nobody will
 * touch its buffers: every remote access to rank r's IN or OUT happens before r's end, which is the completion of all
 * of r's instructions; that is, before some WAIT or RECV of r. SCRATCH is used again by later windows, `depth` windows
 * on, so that it has the same rule, and one more: every remote access to rank r's SCRATCH happens after r has started
 * (after some SIGNAL or SEND of r). A plan with MDL_PLAN_WHOLE has one window, and the engine uses no SCRATCH of a host
 * again before all ranks of the host have entered their next operation: there SCRATCH needs neither.
 *
 * In place. IN and OUT may be the same memory (mdl_collective_alias), on some ranks and not on others, and a plan does
 * not know (unless facts.apart says that none is): it must be right for every mix. So what is still to be read of IN
 * must not be overwritten through OUT, here or from a peer. A COPY without flags whose source and destination are the
 * same memory because the rank calls in place touches nothing: plans have it always, executors skip it.
 *
 * Dependencies. An instruction starts when all instructions in its dep list are done; deps point backwards only. Lanes
 * are ordered without deps: of the SENDs of one rank to one (peer, channel) a later one is posted only when the earlier
 * ones have been posted (not: are done); the same holds for its RECVs, its SIGNALs and its WAITs to one (peer,
 * channel), each kind a lane of its own. The k-th SIGNAL of a lane meets the peer's k-th WAIT. Executors do this and
 * the verifier relies on it; a SEND may be done before its RECV is posted (eager), or only after (rendezvous): plans
 * are right with both. From posting until done the memory of a SEND is not written and the memory of a RECV not touched
 * by anybody else, even if its data cannot have come yet.
 */
#ifndef MDL_PLAN_PLAN_H_
#define MDL_PLAN_PLAN_H_

#include "lib/base/status.h"
#include "lib/plan/shape.h"
#include "lib/reduce/reduce.h"
#include "lib/topo/team.h"
#include <stdio.h>

struct mdl_ref {
    uint32_t rank;   /* whose buffer */
    uint8_t buf;     /* enum mdl_buffer */
    uint8_t acc;     /* elements are partials */
    uint16_t slots;  /* how many, >= 1 */
    uint32_t slot;   /* the first */
    uint32_t lo, hi; /* parts [lo, hi) if slots == 1; else 0, parts */
    uint32_t shape;  /* V collectives: the rank whose count (recvcounts[shape]) is the length of this slot. AlltoAllV:
                        the slot's peer. The reference makers set it: n-fold IN and OUT: the slot; one-slot IN and OUT:
                        the rank; SCRATCH: the slot, and mdl_ref_shaped changes it. Uniform collectives ignore it. */
};

enum mdl_opcode {
    MDL_OP_SEND,   /* src -> peer */
    MDL_OP_RECV,   /* peer -> dst */
    MDL_OP_COPY,   /* dst = src[0], either may be remote (a GET or a PUT); equal size. IN to the OUT that is the same
                      memory (in place): moves nothing, touches nothing */
    MDL_OP_REDUCE, /* dst = fold of src[0..nsrc) in this order (MDL_PLAN_TREE: canonical tree); remote sources allowed,
                      dst local; converts acc */
    MDL_OP_SIGNAL, /* raise peer's counter for us by one */
    MDL_OP_WAIT,   /* until peer has raised our counter for it once more */
    MDL_OP_NATIVE, /* a vendor's collective on an island (later) */
};

enum mdl_inst_flags {
    MDL_INST_FINAL = 1,  /* REDUCE: its result is the final value (AVG divides here). COPY: the same for a reduction of
                            one rank */
    MDL_INST_PREMUL = 2, /* COPY IN -> SCRATCH acc: multiply by this rank's PreMulSum scalar */
    MDL_INST_TREE = 4,   /* REDUCE: sources are all of a canonical subtree, evaluate as tree */
};

struct mdl_inst {
    uint8_t op;       /* enum mdl_opcode */
    uint8_t flags;    /* enum mdl_inst_flags */
    uint16_t channel; /* relative to the window's base channel; 0 .. plan->channels-1 */
    uint32_t peer;
    struct mdl_ref dst;
    uint32_t src, nsrc; /* refs[src .. src + nsrc) */
    uint32_t dep, ndep; /* deps[dep .. dep + ndep): indices of instructions */
};

enum mdl_plan_flags {
    MDL_PLAN_WHOLE = 1,      /* only right if one window covers all slots */
    MDL_PLAN_REMOTE_IN = 2,  /* has references to other ranks' IN */
    MDL_PLAN_REMOTE_OUT = 4, /* ... OUT */
    MDL_PLAN_REMOTE_SCRATCH = 8,
};

struct mdl_plan {
    const char *algo;
    uint32_t flags, parts, channels;
    uint32_t scratch_slots; /* each of W elements of the acc type */
    uint32_t in_slots, out_slots;
    struct mdl_inst *insts;
    uint32_t ninsts;
    struct mdl_ref *refs;
    uint32_t nrefs;
    uint32_t *deps;
    uint32_t ndeps;
};

/* First element of part p (p = parts: the end) of a slot of w elements. */
static inline size_t mdl_plan_part(size_t w, uint32_t parts, uint32_t p)
{
    return w / parts * p + (w % parts < p ? w % parts : p);
}

/* ---- the team and the call: everything that a plan may depend on ---- */

/* Facts that all ranks of the call know: from the published lines within a host, or by the call's arguments. */
struct mdl_facts {
    bool in_place;   /* of the calling host's ranks: all in place */
    bool apart;      /* ... none in place, and no IN overlaps its OUT; false is always safe */
    bool in_mapped;  /* every rank of this host has its IN in a mapped segment */
    bool out_mapped; /* ... OUT */
};

struct mdl_collective {
    medleyColl_t coll;
    medleyDataType_t dtype;
    medleyRedOp_t op; /* Sum..Avg; PreMulSum appears as Sum with premul */
    bool premul;
    bool deterministic;
    int root;     /* -1 if it has none */
    size_t count; /* elements per slot; V collectives: 0, and choices must not look at it */
    struct mdl_facts facts;
};

/* Slots of the buffers of a collective: IN 1 or n, OUT 1 or n. Barrier: 0 and 0. */
void mdl_collective_slots(const struct mdl_collective *c, int nranks, uint32_t *in, uint32_t *out);

/* Does `rank` have this user buffer? (IN or OUT; of rooted collectives one side exists at the root only.) */
bool mdl_collective_has(const struct mdl_collective *c, int rank, enum mdl_buffer buf);

/* The IN slot that is the same memory as OUT slot `out_slot` of `rank` when that rank calls in place, or MDL_NO_SLOT.
 */
enum { MDL_NO_SLOT = UINT32_MAX };
uint32_t mdl_collective_alias(const struct mdl_collective *c, int rank, uint32_t out_slot);

bool mdl_collective_is_v(const struct mdl_collective *c);    /* slots have lengths of their own */
bool mdl_collective_reduces(const struct mdl_collective *c); /* it applies an operation */
bool mdl_dtype_rounds(medleyDataType_t dtype);               /* are its partials wider than its elements? */

/* ---- builder ---- */

struct mdl_builder;
struct mdl_builder *mdl_builder_new(const struct mdl_team *team, const struct mdl_collective *c, int rank,
                                    uint32_t parts);
uint32_t mdl_builder_scratch(struct mdl_builder *b, uint32_t slots); /* reserves slots, returns the first */

/* Sets MDL_PLAN_WHOLE. The builder sets it by itself where a reference names several slots; an algorithm where only
 * some ranks have such references calls this on all of them, because all plans of a call must agree. */
void mdl_builder_whole(struct mdl_builder *b);
enum { MDL_NO_DEP = UINT32_MAX };

/* Each adds an instruction and returns its index. Dependencies: by default the builder derives them from the references
 * (read after write, write after read, write after write on this rank's own memory, and every instruction that touches
 * remote memory after the WAITs before it, every SIGNAL after all earlier accesses that it publishes or releases), so
 * algorithms read like sequential programs and still overlap where they may. */
uint32_t mdl_build_send(struct mdl_builder *b, int peer, uint32_t channel, struct mdl_ref src);
uint32_t mdl_build_recv(struct mdl_builder *b, int peer, uint32_t channel, struct mdl_ref dst);
uint32_t mdl_build_copy(struct mdl_builder *b, struct mdl_ref dst, struct mdl_ref src, uint32_t flags);
uint32_t mdl_build_reduce(struct mdl_builder *b, struct mdl_ref dst, const struct mdl_ref *srcs, uint32_t nsrc,
                          uint32_t flags);
uint32_t mdl_build_signal(struct mdl_builder *b, int peer, uint32_t channel);
uint32_t mdl_build_wait(struct mdl_builder *b, int peer, uint32_t channel);

/* For algorithms with many peers: the next instruction is ordered against what other ranks do by `inst` only (an index
 * that an earlier call returned; several calls: by all of these), not by every WAIT and every access before it. Its
 * references count as ever. Shorter lists, more overlap; the verifier tells whether it was right. */
void mdl_build_after(struct mdl_builder *b, uint32_t inst);

/* References: one slot's parts [lo, hi); a whole slot; several slots. */
struct mdl_ref mdl_ref_parts(int rank, enum mdl_buffer buf, bool acc, uint32_t slot, uint32_t lo, uint32_t hi);
struct mdl_ref mdl_ref_slots(const struct mdl_builder *b, int rank, enum mdl_buffer buf, bool acc, uint32_t slot,
                             uint32_t slots);

/* The same reference with another shape: for SCRATCH in V collectives. Both sides of a SEND and RECV, and all
 * references of a COPY or REDUCE, must have the same shape (the verifier checks). References to another rank's OUT are
 * illegal in V collectives, and so are references to another rank's IN in AlltoAllV: displacements are known to their
 * owner only. */
static inline struct mdl_ref mdl_ref_shaped(struct mdl_ref r, uint32_t shape)
{
    r.shape = shape;
    return r;
}

/* Ends building (frees b). Fails with medleyInternalError if memory ran out or a rule was broken on the way. */
medleyResult_t mdl_builder_finish(struct mdl_builder *b, const char *algo, struct mdl_plan **plan) MDL_MUST_USE;
void mdl_plan_free(struct mdl_plan *plan);
size_t mdl_plan_bytes(const struct mdl_plan *plan); /* memory that it takes */

/* ---- algorithms ---- */

struct mdl_algo {
    const char *name;
    uint32_t colls; /* bit per medleyColl_t */
    /* Is it right for this call on this team? (deterministic, premul, team shape, root, facts.) Says nothing about
     * speed. */
    bool (*fits)(const struct mdl_team *team, const struct mdl_collective *c);
    /* Emits one rank's part into b. */
    void (*build)(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b);
    /* Parts per slot that it wants; NULL: 1. */
    uint32_t (*parts)(const struct mdl_team *team, const struct mdl_collective *c);
};
extern const struct mdl_algo *const mdl_algos[]; /* NULL-terminated; made from the list file lib/algo/algo.am */

medleyResult_t mdl_algo_plan(const struct mdl_algo *algo, const struct mdl_team *team, const struct mdl_collective *c,
                             int rank, struct mdl_plan **plan) MDL_MUST_USE;
const struct mdl_algo *mdl_algo_find(const char *name);

/* Picks by predicted time among those that fit and that `spec` (MEDLEY_ALGO: "ring",
 * "allreduce:ring,broadcast:^binomial", names comma-separated) admits. Pure function of its arguments. W: the window
 * that will be used (elements per slot), chosen too: MDL_PLAN_WHOLE needs one window; scratch must fit the budget. A
 * spec that leaves nothing: falls back to all that fit and sets *overridden = false. Unknown names in spec are
 * medleyInvalidArgument (checked by mdl_algo_spec_check at init). */
struct mdl_choice {
    const struct mdl_algo *algo;
    size_t window;
    uint32_t depth;
    uint64_t predicted_ns;
    bool overridden;
};
struct mdl_choose_limits {
    size_t window_bytes;
    size_t scratch_bytes;
    uint32_t max_depth, max_channels;
    size_t oneshot_bytes;
    bool blocks; /* some rank's buffers pass through rings of blocks: windows tile them, see mdl_choose_block */
};

/* Of an n-fold buffer a window has at least this many bytes of every slot, if it has so many at all. */
enum { MDL_CHOOSE_LEAST_SLOT = 16384 };

/* Elements of `size` bytes in a block of a buffer of `slots` slots: a power of two, and the largest window there is. */
size_t mdl_choose_block(const struct mdl_choose_limits *limits, uint32_t slots, size_t size);

medleyResult_t mdl_algo_choose(const struct mdl_team *team, const struct mdl_collective *c, const char *spec,
                               const struct mdl_choose_limits *limits, struct mdl_choice *choice) MDL_MUST_USE;
medleyResult_t mdl_algo_spec_check(const char *spec) MDL_MUST_USE;

/* ---- verifier, cost, dump ---- */

/* Takes all ranks' plans of one call and proves:
 * - every SEND has its RECV (size, acc) and every SIGNAL its WAIT, FIFO per pair and channel; no deadlock, even if
 * every SEND is a rendezvous;
 * - no access outside a buffer; remote references only within a host and as team and facts allow; all plans agree on
 *   parts and MDL_PLAN_WHOLE;
 * - no race, even if every SEND is eager; nobody leaves while a peer still uses its buffers, and nobody's SCRATCH is
 *   touched before its window has begun (see above); nobody leaves a barrier before all have entered;
 * - nothing is read that was not written. Each output element has the right expression: of a reduction every input
 *   exactly once, partials not rounded in between (dst not acc, in types that round), MDL_INST_FINAL exactly once, an
 *   AllReduce the same on all ranks, operands in the same order, and the canonical tree if deterministic; of the others
 *   the right slot of the right rank.
 * The values are proved for nobody in place, for everybody, and (unless only the root could be) for two mixes; with
 * facts.apart for nobody in place only. All answers are exact for any number of ranks: there is no cheaper mode. `why`
 * gets the first violation, and the result is medleyInternalError; a collective that has no plans is
 * medleyInvalidArgument. Nothing is logged unless memory runs out. */
medleyResult_t mdl_plan_verify(const struct mdl_team *team, const struct mdl_collective *c,
                               struct mdl_plan *const *plans, char *why, size_t why_bytes) MDL_MUST_USE;

/* Predicted time of the whole operation in integer nanoseconds (no floating point, so that every machine gets the
 * same). */
uint64_t mdl_plan_cost(const struct mdl_team *team, const struct mdl_collective *c, const struct mdl_algo *algo,
                       size_t window, uint32_t depth);

void mdl_plan_dump_text(const struct mdl_plan *plan, FILE *out);
void mdl_plan_dump_dot(const struct mdl_plan *plan, int rank, FILE *out);

#endif
