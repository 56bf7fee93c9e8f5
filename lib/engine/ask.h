/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ranks ask each other about an operation that does not move, and what they answer: the bytes of it.
 *
 * A question is asked on behalf of its subject: the rank that made the call. That is the asking rank itself, or one
 * that it waits for and that waits on: so a chain of ranks that wait for each other is followed to its end.
 */
#ifndef MDL_ENGINE_ASK_H_
#define MDL_ENGINE_ASK_H_

#include "lib/boot/boot.h"
#include "lib/engine/call.h"

enum { MDL_QUESTION_BYTES = 16 + 5 * 8 + MDL_CALL_WIRE_BYTES, MDL_ANSWER_BYTES = 24 + MDL_CALL_WIRE_BYTES };
enum { MDL_ASK_HOPS = 16 };
enum { MDL_MSG_ASK = MDL_CTL_USER, MDL_MSG_ANSWER, MDL_MSG_AUDIT, MDL_MSG_CHILD, MDL_MSG_NATIVE }; /* types of control messages */

struct mdl_question {
    uint8_t hops;  /* questions before it in the chain */
    int subject;   /* whose call */
    uint32_t wait; /* of the asking rank: comes back in the answer */
    uint32_t jobs; /* of the subject if it asks itself: number of its newest split or window */
    uint64_t seq;  /* number of the call: among the collectives, the messages of this pair and direction, or the splits
                      and windows; 0: a shrink */
    uint64_t drops, coll_seq, sends, recvs; /* of the subject if it asks itself: how far it is */
    struct mdl_call call;
};

enum mdl_answer_state {
    MDL_ANSWER_LATE = 1, /* `rank` has not made the call */
    MDL_ANSWER_WAITS,    /* the answering rank is in a call, told with its number, in which it waits for `rank` */
    MDL_ANSWER_BUSY,     /* it has made the call, and waits for nobody */
    MDL_ANSWER_HELD,     /* `rank` has made calls, but their streams have not come to them, or not on in them */
};

struct mdl_answer {
    uint8_t state, hops; /* hops: of the question */
    int rank;
    uint32_t wait;
    uint64_t seq;
    struct mdl_call call;
};

void mdl_question_write(const struct mdl_question *q, uint8_t bytes[MDL_QUESTION_BYTES]);
void mdl_answer_write(const struct mdl_answer *a, uint8_t bytes[MDL_ANSWER_BYTES]);

/* False: it is none. Ranks are checked against `nranks`. */
bool mdl_question_read(const uint8_t *bytes, size_t len, int nranks, struct mdl_question *q);
bool mdl_answer_read(const uint8_t *bytes, size_t len, int nranks, struct mdl_answer *a);

#endif
