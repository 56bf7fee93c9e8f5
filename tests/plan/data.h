/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers of the simulated ranks, their contents, and what must come out. */
#ifndef MDL_TESTS_PLAN_DATA_H_
#define MDL_TESTS_PLAN_DATA_H_

#include "tests/plan/sim.h"

struct buffer {
    uint8_t *slots;      /* element 0 */
    size_t bytes;        /* to the end of the last slot */
    const size_t *count; /* [slots] elements; NULL: the rank has no such buffer */
    const size_t *first; /* [slots] element at which the slot starts */
};

struct rank_data {
    struct buffer in, out;
    uint8_t *memory; /* holds both, and guards */
    size_t bytes;
    uint8_t *initial, *result; /* of memory: before the call, and when the rank left */
    size_t *tables;
    uint8_t premul[8];
    bool in_place;
};

struct data {
    const struct sim *s;
    size_t size, acc_size;
    uint32_t in_slots, out_slots;
    struct rank_data *ranks;
};

enum { DATA_POISON = 0xa5 };

struct data *data_new(const struct sim *s);
void data_free(struct data *d);

/* An element of IN or OUT; NULL if the rank has no such buffer. */
uint8_t *data_at(const struct data *d, int rank, enum mdl_buffer buf, uint32_t slot, size_t element);

/* The rank has left: keeps its results and destroys everything that is the user's again. */
void data_leave(struct data *d, int rank);

/* Compares every rank's results with the reference, and checks that nothing was touched after a rank left. */
bool data_check(const struct data *d, char *why, size_t why_bytes);

#endif
