/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the algorithms share: names for references, the input of a reduction, n-ary folds of any width, signals to a
 * whole host, and the order in which ranks are chained.
 *
 * An algorithm's build function makes a struct mdl_emit with mdl_emit_begin and then writes one rank's part of the plan
 * as a sequential program. It never asks whether the call is in place: it copies IN to OUT where the data has to get
 * there (the executor skips a copy onto itself), and the builder keeps accesses to IN and OUT in order.
 *
 * The LEAF is this rank's input of a reduction. It is IN, unless PreMulSum multiplies it: then it is the product, in
 * SCRATCH as partials, and from there on it is treated like any partial.
 */
#ifndef MDL_ALGO_COMMON_H_
#define MDL_ALGO_COMMON_H_

#include "lib/plan/plan.h"

#define MDL_COLL(name) (1u << medleyColl##name)

struct mdl_emit {
    const struct mdl_team *team;
    const struct mdl_collective *c;
    struct mdl_builder *b;
    int rank, n;
    uint32_t parts, in_slots, out_slots;
    uint32_t leaf; /* PreMulSum: the first SCRATCH slot of the products */
};

/* Starts this rank's part. False: nothing is left to do, because there is one rank only and its copy is written. */
bool mdl_emit_begin(struct mdl_emit *e, const struct mdl_team *team, const struct mdl_collective *c, int rank,
                    struct mdl_builder *b, uint32_t parts);

/* ---- references to whole slots; mdl_cut takes parts of them ---- */

struct mdl_ref mdl_in(const struct mdl_emit *e, int rank, uint32_t slot);
struct mdl_ref mdl_out(const struct mdl_emit *e, int rank, uint32_t slot);
/* SCRATCH of `rank`, shaped like `like` (V collectives: the rank whose count it has). */
struct mdl_ref mdl_scratch(const struct mdl_emit *e, int rank, bool acc, uint32_t slot, uint32_t like);

/* Every rank's plan has the same number of SCRATCH slots (barriers apart, where they are empty), so that every rank
 * finds the same windows within its budget: reserves what this rank does not need of `slots` since the count was
 * `from`. */
uint32_t mdl_scratch_used(const struct mdl_emit *e);
void mdl_scratch_fill(struct mdl_emit *e, uint32_t from, uint32_t slots);

static inline struct mdl_ref mdl_cut(struct mdl_ref r, uint32_t lo, uint32_t hi)
{
    r.lo = lo;
    r.hi = hi;
    return r;
}

/* ---- reductions ---- */

/* Is the leaf a partial? Every rank has the same answer. */
static inline bool mdl_leaf_acc(const struct mdl_emit *e) { return e->c->premul; }

/* Writes the products of PreMulSum, once, before the first use of the leaf. */
void mdl_leaf_prepare(struct mdl_emit *e);
struct mdl_ref mdl_leaf(const struct mdl_emit *e, uint32_t slot);

/* MDL_INST_TREE if the call is deterministic: for folds over a canonical subtree. */
static inline uint32_t mdl_tree(const struct mdl_emit *e) { return e->c->deterministic ? MDL_INST_TREE : 0; }

/* Source number i of a fold. */
typedef struct mdl_ref (*mdl_source)(const struct mdl_emit *e, uint32_t i, const void *arg);

/* dst = fold of n sources, any number: above MDL_REDUCE_MAX_SRC in steps through partials, without changing the
 * expression. */
void mdl_fold(struct mdl_emit *e, struct mdl_ref dst, uint32_t n, mdl_source source, const void *arg, uint32_t flags);
/* How many slots of SCRATCH that takes. */
uint32_t mdl_fold_slots(uint32_t n, uint32_t flags);
/* dst = a op b. */
void mdl_fold2(struct mdl_emit *e, struct mdl_ref dst, struct mdl_ref a, struct mdl_ref b, uint32_t flags);

/* ---- signals within this rank's host ---- */

/* The i-th rank of this rank's host after it, cyclically; i from 1 to mdl_host_peers. Everyone starts elsewhere, so
 * nobody is visited by all at once. */
int mdl_host_peer(const struct mdl_emit *e, int i);
int mdl_host_peers(const struct mdl_emit *e);

/* In two halves: "what I did before is done", said to all ranks of the host, and "so it is for q", or for all of them.
 * On a small host the first is a signal to everyone and the second a wait for q, so that work on q's data starts early.
 * On a large one the first half is a barrier of log2 steps, and the second is nothing. */
void mdl_host_say(struct mdl_emit *e);
uint32_t mdl_host_hear(struct mdl_emit *e, int q);
void mdl_host_hear_all(struct mdl_emit *e);
/* The next instruction follows only this, what mdl_host_hear returned, of all that other ranks do. */
void mdl_host_after(struct mdl_emit *e, uint32_t heard);
/* Both halves. */
void mdl_host_sync(struct mdl_emit *e);
bool mdl_host_is_small(const struct mdl_emit *e);

/* The same between `root` and the others: to it (on a small host the root still has to hear), and from it. */
void mdl_host_to_root(struct mdl_emit *e, int root);
void mdl_host_from_root(struct mdl_emit *e, int root);

/* A message without content, to and from any rank, for barriers: a signal where there is shared memory, else an empty
 * slot of SCRATCH. It is said after the `nheard` that mdl_hear returned. */
void mdl_tell(struct mdl_emit *e, int to, const uint32_t *heard, uint32_t nheard);
uint32_t mdl_hear(struct mdl_emit *e, int from);

/* ---- order ---- */

/* Rings and trees chain ranks host by host, so that few links cross hosts whatever the placement. Deterministic calls
 * keep rank order, which their expression needs. */
int mdl_order_position(const struct mdl_emit *e, int rank);
int mdl_order_rank(const struct mdl_emit *e, int position);

/* Ranks in a line that work together: all of them, or one of each host. `partial`: is what this position puts in a
 * partial already? */
struct mdl_line {
    int n, at; /* members; this rank's position */
    int (*rank)(const struct mdl_emit *e, int position, const void *arg);
    bool (*partial)(const struct mdl_emit *e, int position, const void *arg);
    const void *arg;
};

/* All ranks in order; what they put in is their leaf. */
struct mdl_line mdl_line_all(const struct mdl_emit *e);

/* Do the ranks of every host have consecutive numbers? */
bool mdl_team_contiguous(const struct mdl_team *team);
int mdl_team_largest_host(const struct mdl_team *team);
int mdl_power_below(int n); /* the largest power of two that is not above n */

#endif
