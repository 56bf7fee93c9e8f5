/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shapes of calls: which buffers a collective or a message has, in how many slots, on which ranks, and what becomes
 * of them. This table is the only place that knows it; whoever moves a call's data asks it: arguments are checked
 * by it, plans are built and verified by it, and the ways around plans (quick, direct, native) follow it.
 *
 * A slot holds the `count` elements of a call; slots of V collectives have lengths and places of their own. A buffer
 * has one slot, or one for each rank. What a rank sends to rank r is IN's slot r, or its only one; what it gets of rank
 * r goes to OUT's slot r, or to its only one. Data goes from each rank that has IN to each that has OUT.
 */
#ifndef MDL_PLAN_SHAPE_H_
#define MDL_PLAN_SHAPE_H_

#include <medley.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mdl_buffer { MDL_IN, MDL_OUT, MDL_SCRATCH };

/* Slots of a buffer: none, one, one for each rank. */
enum mdl_slots { MDL_SLOTS_NONE, MDL_SLOTS_ONE, MDL_SLOTS_ALL };

struct mdl_shape {
    uint8_t slots[2][2]; /* [is the rank the root?][MDL_IN, MDL_OUT]: enum mdl_slots; alike where there is no root */
    bool rooted;         /* there is a root, or a peer */
    bool reduces;        /* it applies an operation */
    bool v;              /* slots have lengths of their own */
    bool message;        /* it is between two ranks: its `root` is the peer */
};

extern const struct mdl_shape mdl_shapes[medleyNumColls];

/* Does a rank, which is the root or is not, have this buffer? */
static inline bool mdl_shape_has(const struct mdl_shape *s, enum mdl_buffer buf, bool is_root)
{
    return s->slots[is_root][buf] != MDL_SLOTS_NONE;
}

/* Does only the root have it? */
static inline bool mdl_shape_is_roots(const struct mdl_shape *s, enum mdl_buffer buf)
{
    return s->slots[false][buf] != s->slots[true][buf];
}

/* Is there one slot for each rank, where it is? */
static inline bool mdl_shape_is_split(const struct mdl_shape *s, enum mdl_buffer buf)
{
    return s->slots[true][buf] == MDL_SLOTS_ALL;
}

/* How many slots a rank has, 0 if it has no such buffer. */
static inline size_t mdl_shape_own_slots(const struct mdl_shape *s, enum mdl_buffer buf, int nranks, bool is_root)
{
    size_t slots = s->slots[is_root][buf];

    return slots == MDL_SLOTS_ALL ? (size_t)nranks : slots;
}

/* The same where the buffer is. */
static inline size_t mdl_shape_slots(const struct mdl_shape *s, enum mdl_buffer buf, int nranks)
{
    return mdl_shape_own_slots(s, buf, nranks, true);
}

#endif
