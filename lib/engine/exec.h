/* SPDX-License-Identifier: Apache-2.0 */
/* The executor: runs one window of a program for an operation. Single-threaded, never blocks; see program.h for when an
 * instruction may start. */
#ifndef MDL_ENGINE_EXEC_H_
#define MDL_ENGINE_EXEC_H_

#include "lib/engine/op.h"

enum { MDL_LOOKS = 16 }; /* for what is awaited, before the driver has its turn; see MEDLEY_SPIN */

struct mdl_run {
    struct mdl_run *next;
    struct mdl_op *op;
    const struct mdl_program *prog;
    const struct mdl_run_part *part; /* NULL: all of the call */
    size_t index, start, end; /* window number; first element of each slot; where slots are taken to end */
    uint32_t base_channel;
    size_t scratch, slot_bytes; /* offset of this window's scratch in the board's (or private) scratch */
    uint32_t left;              /* instructions not done */
    uint32_t capacity, req_capacity;
    uint16_t *need;  /* [ninsts] what each still waits for */
    uint32_t *ready; /* ring of instructions that may start: messages and signals */
    uint32_t ready_head, ready_tail;
    uint32_t *work; /* ring of copies and reductions that may start */
    uint32_t work_head, work_tail;
    uint32_t *flight; /* posted messages and open WAITs */
    uint32_t nflight;
    char *requests;
};

/* A part of a call that has a plan of its own, of one slot each for IN and OUT: where they are, with which channels and
 * scratch. Lives as long as its runs. */
struct mdl_run_part {
    const struct mdl_program *program;
    size_t count; /* elements */
    char *in, *out; /* where a buffer that is not staged has them */
    size_t staged;  /* the first one's number in the stage */
    uint32_t channel;
    size_t scratch;
};
medleyResult_t mdl_run_start(struct mdl_op *op, size_t index, struct mdl_run **run) MDL_MUST_USE;
medleyResult_t mdl_run_start_part(struct mdl_op *op, const struct mdl_run_part *part, size_t index,
                                  struct mdl_run **run) MDL_MUST_USE;
/* Success: the window is done. InvalidUsage with op->suspect set: a message of another call came. */
/* *idle: copies and reductions are allowed; cleared when one was done. */
medleyResult_t mdl_run_step(struct mdl_run *run, int *events, bool *idle) MDL_MUST_USE;
void mdl_run_stop(struct mdl_run *run); /* back to the communicator's pool */
/* Adds those that are not yet among peers[0..n); returns how many there are then. */
int mdl_run_blame(const struct mdl_run *run, int *peers, int n, int cap, uint64_t *outstanding);
void mdl_run_free_all(struct mdl_comm *c);

/* memory.c: what a reference means for this operation and window. */
struct mdl_place {
    void *ptr;       /* NULL: only by get */
    uint64_t remote; /* address in the peer, when ptr is NULL */
    size_t count;    /* elements */
    size_t bytes;
    int rank;
};
medleyResult_t mdl_place_resolve(const struct mdl_run *run, const struct mdl_ref *ref,
                                 struct mdl_place *place) MDL_MUST_USE;
medleyResult_t mdl_place_copy(struct mdl_run *run, const struct mdl_inst *in) MDL_MUST_USE;
/* REDUCE number i, and the copies that are chained to it. */
medleyResult_t mdl_place_reduce(struct mdl_run *run, uint32_t i) MDL_MUST_USE;
/* Elements of a slot; shape: of a reference to it (plan.h). own: of this rank's IN or OUT. */
size_t mdl_op_slot_count(const struct mdl_op *op, enum mdl_buffer buf, uint32_t slot, uint32_t shape);
size_t mdl_op_own_count(const struct mdl_op *op, enum mdl_buffer buf, uint32_t slot);
/* First element of a slot in IN or OUT. */
size_t mdl_op_slot_offset(const struct mdl_op *op, enum mdl_buffer buf, uint32_t slot);

#endif
