/* SPDX-License-Identifier: Apache-2.0 */
/* A call's signature: how it is compared, hashed to a tag, put on the wire and into words. */
#ifndef MDL_ENGINE_CALL_H_
#define MDL_ENGINE_CALL_H_

#include "lib/base/bytes.h"
#include "lib/engine/board.h"

enum { MDL_CALL_WIRE_BYTES = 24, MDL_CALL_TEXT_BYTES = 160 };

/* Collective calls that the control plane does (job.h) have signatures too, beyond medleyColl_t:
 *   split   root: the color, count: the key
 *   shrink  count: how many stay, and from bit 32 on what tells it from other shrinks to just these; table: who is left
 *           out, as bits (dtype 1) or, of more than 64 ranks, a hash of who stays
 *   window  count: its bytes */
enum { MDL_CALL_SPLIT = medleyNumColls, MDL_CALL_SHRINK, MDL_CALL_WINDOW, MDL_NUM_CALLS };
static inline bool mdl_call_is_job(const struct mdl_call *c) { return c->coll >= MDL_CALL_SPLIT; }
/* Is it a send or a receive? What is neither this nor a job is a collective. As mdl_shapes says, but faster: each small
 * call asks. */
static inline bool mdl_call_is_message(const struct mdl_call *c)
{
    return c->coll == medleyCollSend || c->coll == medleyCollRecv;
}

bool mdl_call_same(const struct mdl_call *a, const struct mdl_call *b); /* do they match as one collective? */
/* What goes with the messages of a call, so that another call's are refused: never 0. `before`: the tag of the
 * collective before, so that a difference shows in all that follows; 0 for point-to-point messages. */
uint64_t mdl_call_tag(const struct mdl_call *c, uint64_t seq, uint64_t before);
/* The same for small collectives inside a host: cheap. Two calls that differ in one word only always differ in it. */
static inline uint64_t mdl_call_chain(const struct mdl_call *c, uint64_t before)
{
    uint64_t kind = (uint64_t)c->coll | (uint64_t)c->dtype << 8 | (uint64_t)c->op << 16 |
                    (uint64_t)(c->flags & MDL_LINE_PREMUL) << 24 | (uint64_t)(uint32_t)c->root << 32;
    uint64_t h = (before ^ kind) * 0x9e3779b97f4a7c15u;

    h = ((h ^ (h >> 32)) + c->count) * 0xbf58476d1ce4e5b9u;
    return h ^ (h >> 29);
}
void mdl_call_write(struct mdl_writer *w, const struct mdl_call *c); /* signature only, without buffers */
void mdl_call_read(struct mdl_reader *r, struct mdl_call *c);
void mdl_call_text(const struct mdl_call *c, char text[MDL_CALL_TEXT_BYTES]); /* "AllReduce(1024 x float, sum)" */

/* Hash of a count table, equal on machines of either endianness. */
uint64_t mdl_call_hash_table(const size_t *counts, int n);

#endif
