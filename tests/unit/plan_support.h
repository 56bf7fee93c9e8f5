/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of plans: teams, hand-built algorithms that are right, and plans that can be edited. */
#ifndef MDL_TEST_PLAN_SUPPORT_H_
#define MDL_TEST_PLAN_SUPPORT_H_

#include "lib/plan/plan.h"
#include "tests/unit/unit.h"

enum { CALL_RANKS = 64 };

/* A call: the team, the collective and all ranks' plans. */
struct call {
    int host[CALL_RANKS], local[CALL_RANKS], host_size[CALL_RANKS], member[CALL_RANKS][CALL_RANKS];
    const int *members[CALL_RANKS];
    struct mdl_team team;
    struct mdl_collective coll;
    struct mdl_plan *plans[CALL_RANKS];
    const char *name;
};

/* Host of each rank as a letter: "aabb"; hosts must begin in order. Everything may be shared within a host. */
void call_init(struct call *call, const char *hosts, medleyColl_t coll, medleyDataType_t dtype, int root);
void call_free(struct call *call);

/* Builds every rank's plan with `parts` parts. */
typedef void (*call_builder)(const struct call *call, int rank, struct mdl_builder *b);
void call_build(struct call *call, const char *name, uint32_t parts, call_builder builder);

/* The same of one rank, for tests of errors. */
medleyResult_t call_build_rank(const struct call *call, uint32_t parts, int rank, call_builder builder,
                               struct mdl_plan **plan);

bool call_accepted(struct call *call, char *why, size_t bytes);
void call_accept(struct call *call);
/* The verifier refuses, and says something with `text` in it. */
void call_refuse(struct call *call, const char *text);

/* Algorithms by hand. Parts: ring and direct want one per rank. */
void build_ring(const struct call *call, int rank, struct mdl_builder *b);   /* AllReduce over SEND and RECV */
void build_direct(const struct call *call, int rank, struct mdl_builder *b); /* AllReduce on mapped buffers, one host */
void build_put(const struct call *call, int rank, struct mdl_builder *b);    /* the same, by writing into peers */
void build_bcast(const struct call *call, int rank, struct mdl_builder *b);  /* Broadcast: hosts' first ranks, then GET
                                                                              */
void build_oneshot(const struct call *call, int rank, struct mdl_builder *b); /* AllReduce through peers' SCRATCH, WHOLE
                                                                               */
void build_barrier(const struct call *call, int rank, struct mdl_builder *b); /* dissemination by SEND and RECV */
void build_exchange(const struct call *call, int rank, struct mdl_builder *b); /* AlltoAll(V): in place through SCRATCH
                                                                                */
void build_gather_all(const struct call *call, int rank, struct mdl_builder *b); /* AllGather(V) by rings */

/* Small calls of these, for tests that change plans everywhere. All are of half floats. */
struct setting {
    const char *name, *hosts;
    medleyColl_t coll;
    int root;
    uint32_t parts;
    call_builder build;
};
enum { CALL_SETTINGS = 8 };
extern const struct setting call_settings[CALL_SETTINGS];
void call_setup(struct call *call, const struct setting *setting);

/* ---- editing ---- */

/* Replaces rank's plan by one with room to grow, freed like any plan. */
enum { EDIT_ROOM = 16 };
struct mdl_plan *edit_plan(struct call *call, int rank);
struct mdl_plan *plan_copy(const struct mdl_plan *plan);
void edit_drop(struct mdl_plan *p, uint32_t inst); /* what came after it comes after what it came after */
bool edit_swap(struct mdl_plan *p, uint32_t inst); /* with the next; false: one depends on the other */
void edit_drop_dep(struct mdl_plan *p, uint32_t inst, uint32_t k);
void edit_drop_source(struct mdl_plan *p, uint32_t inst, uint32_t k);
void edit_add_source(struct mdl_plan *p, uint32_t inst, struct mdl_ref ref); /* at the end; EDIT_ROOM refs in all */
struct mdl_ref *edit_ref(struct mdl_plan *p, uint32_t inst, uint32_t k); /* a source, then the destination; or NULL */
uint32_t find_op(const struct mdl_plan *p, unsigned op, uint32_t nth);   /* the nth (from 0) of that opcode */

#endif
