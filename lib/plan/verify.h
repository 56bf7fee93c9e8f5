/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the verifier. mdl_plan_verify (verify.c) runs these steps over all ranks' plans, and the first violation ends
 * it:
 *
 *   verify.c        each plan by itself: header, rules of instructions, dependencies backwards
 *   verify_match.c  the k-th SEND of a lane meets the k-th RECV, the k-th SIGNAL the k-th WAIT
 *   verify_local.c  what each rank orders by itself: it settles most demands at once
 *   verify_order.c  a graph of what happens before what; a cycle is a deadlock
 *   verify_run.c    runs the plans on symbolic memory, once per mix of in-place ranks, and notes which pairs of
 * accesses must be ordered verify_value.c  the symbolic values and what the collective demands of them verify_order.c
 * are the noted pairs ordered? Races, releases and barriers are decided here
 *
 * Instructions are numbered through all ranks. The graph has one node per instruction; SEND and RECV have two, posted
 * and done, because what comes later in their lane waits for the former only. Each rank has a node for its start and
 * one for its end. Edges of the rendezvous (a SEND may be done only after its RECV was posted) count for deadlocks but
 * order nothing, because an eager SEND does not wait.
 */
#ifndef MDL_PLAN_VERIFY_H_
#define MDL_PLAN_VERIFY_H_

#include "lib/plan/plan.h"
#include "lib/plan/text.h"

enum mdl_demand_kind {
    MDL_DEMAND_RACE,    /* two accesses to one place, at least one of them a write */
    MDL_DEMAND_RELEASE, /* an access to another rank's memory before that rank's end */
    MDL_DEMAND_START,   /* an access to another rank's SCRATCH after that rank's start */
};

/* "Node `from` must happen before node `to`", with what to say if it does not. */
struct mdl_demand {
    uint32_t from, to;
    uint32_t a, b; /* instructions; b: the owner's rank unless a RACE */
    uint32_t rank, slot, part;
    uint8_t kind, buf, mode;
};

struct mdl_values;

struct mdl_verify {
    const struct mdl_team *team;
    const struct mdl_collective *coll;
    struct mdl_plan *const *plans;
    uint32_t n, parts;
    bool whole, rounds;
    char *why;
    size_t why_bytes;

    uint32_t total, *first; /* instructions of all ranks; first[rank], first[n] = total */
    uint32_t *rank_of;      /* [total] */
    uint32_t *partner;      /* [total] of SEND, RECV, SIGNAL, WAIT */
    uint32_t *lane_prev;    /* [total] the one before in its lane, or MDL_NO_DEP */

    uint32_t nodes, *post, *done; /* post[inst], done[inst] */
    uint32_t *node_inst;          /* [nodes] its instruction; ranks' starts and ends: total + rank */
    uint32_t *pred_at, *pred;     /* predecessors of a node: pred[pred_at[node] .. pred_at[node + 1]) */
    uint32_t *order;              /* nodes, topologically */

    uint64_t **local; /* [n] of rank: bit matrix, row inst has who is done before it is posted by the rank's own order;
                         NULL: too large */

    struct mdl_demand *demands;
    uint32_t ndemands, demands_cap;
    uint64_t *recent; /* pairs noted lately: most demands come many times */

    struct mdl_values *values;
};

enum { MDL_EDGE_RENDEZVOUS = INT32_MIN }; /* bit in pred */

/* Writes `why` and returns medleyInternalError, for violations. `inst` numbered through, or MDL_NO_DEP. */
medleyResult_t mdl_verify_fail(struct mdl_verify *v, uint32_t inst, const char *fmt, ...) MDL_PRINTF(3, 4);
medleyResult_t mdl_verify_memory(struct mdl_verify *v);

static inline const struct mdl_inst *mdl_verify_inst(const struct mdl_verify *v, uint32_t inst)
{
    uint32_t r = v->rank_of[inst];
    return &v->plans[r]->insts[inst - v->first[r]];
}
static inline const struct mdl_ref *mdl_verify_srcs(const struct mdl_verify *v, uint32_t inst)
{
    return v->plans[v->rank_of[inst]]->refs + mdl_verify_inst(v, inst)->src;
}
/* Is `a` done before `b` is posted, both of one rank, by that rank's own order? False may mean: not known. */
static inline bool mdl_verify_before(const struct mdl_verify *v, uint32_t a, uint32_t b)
{
    uint32_t r = v->rank_of[b], words = (v->plans[r]->ninsts + 63) / 64;
    if (v->rank_of[a] != r || !v->local[r]) return false;
    a -= v->first[r];
    return v->local[r][(size_t)(b - v->first[r]) * words + a / 64] >> (a % 64) & 1;
}
static inline uint32_t mdl_verify_start(const struct mdl_verify *v, uint32_t rank)
{
    return v->nodes - 2 * v->n + 2 * rank;
}
static inline uint32_t mdl_verify_end(const struct mdl_verify *v, uint32_t rank)
{
    return mdl_verify_start(v, rank) + 1;
}

medleyResult_t mdl_verify_match(struct mdl_verify *v) MDL_MUST_USE;
medleyResult_t mdl_verify_local(struct mdl_verify *v) MDL_MUST_USE;
void mdl_verify_local_free(struct mdl_verify *v);
medleyResult_t mdl_verify_graph(struct mdl_verify *v) MDL_MUST_USE;
medleyResult_t mdl_verify_demand(struct mdl_verify *v, const struct mdl_demand *d) MDL_MUST_USE;
medleyResult_t mdl_verify_demands(struct mdl_verify *v) MDL_MUST_USE;
medleyResult_t mdl_verify_barrier(struct mdl_verify *v) MDL_MUST_USE;

/* Runs all plans with in_place[rank] telling whose IN and OUT are one memory, and compares the outputs. */
medleyResult_t mdl_verify_run(struct mdl_verify *v, uint8_t mode, const bool *in_place) MDL_MUST_USE;
const char *mdl_verify_mode_name(uint8_t mode);

/* ---- values ---- */

/* Values are numbers of hash-consed expressions: equal expressions have equal numbers. A fold is a chain of binary
 * nodes, so ((a + b) + c) is the same whether one instruction made it or two, unless a rounding stands in between. */
enum { MDL_VALUE_NONE = 0 }; /* uninitialised */

enum mdl_value_error {
    MDL_VALUE_OK,
    MDL_VALUE_MEMORY,
    MDL_VALUE_ROUNDED, /* an operand was rounded to the datatype before */
    MDL_VALUE_FINAL,   /* an operand is final already */
    MDL_VALUE_PREMUL,  /* multiplied twice, or only some operands are */
};

medleyResult_t mdl_values_new(struct mdl_verify *v) MDL_MUST_USE;
void mdl_values_free(struct mdl_values *values);
uint32_t mdl_value_leaf(struct mdl_values *values, uint32_t rank, uint32_t slot);
enum mdl_value_error mdl_value_premul(struct mdl_values *values, uint32_t value, uint32_t *result);

/* Left fold or canonical tree of v[0..n). */
enum mdl_value_error mdl_value_fold(struct mdl_values *values, const uint32_t *v, uint32_t n, bool tree,
                                    uint32_t *result);
enum mdl_value_error mdl_value_final(struct mdl_values *values, uint32_t value, uint32_t *result);

/* What is left of it in an element of the datatype. */
enum mdl_value_error mdl_value_round(struct mdl_values *values, uint32_t value, uint32_t *result);

/* Whose count its length is, in V collectives with one count per rank. */
uint32_t mdl_value_shape(const struct mdl_values *values, uint32_t value);

/* Is `value` what OUT slot `slot` of `rank` must hold? If not, says why not. */
bool mdl_value_expected(struct mdl_values *values, uint32_t rank, uint32_t slot, uint32_t value, char *text,
                        size_t bytes);

/* "((r0 + r1) + r2)", cut to fit. */
void mdl_value_format(const struct mdl_values *values, uint32_t value, char *text, size_t bytes);

#endif
