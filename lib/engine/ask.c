/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of questions and answers; docs/wire.md lists them. */
#include "config.h"

#include "lib/engine/ask.h"

enum { KIND_COLLECTIVE, KIND_MESSAGE, KIND_JOB };

static uint8_t kind(const struct mdl_call *c)
{
    return mdl_call_is_job(c) ? KIND_JOB : mdl_call_is_message(c) ? KIND_MESSAGE : KIND_COLLECTIVE;
}

void mdl_question_write(const struct mdl_question *q, uint8_t bytes[MDL_QUESTION_BYTES])
{
    struct mdl_writer w = {.p = bytes, .cap = MDL_QUESTION_BYTES};

    mdl_write_u8(&w, kind(&q->call));
    mdl_write_u8(&w, q->hops);
    mdl_write_u16(&w, 0);
    mdl_write_u32(&w, (uint32_t)q->subject);
    mdl_write_u32(&w, q->wait);
    mdl_write_u32(&w, q->jobs);
    mdl_write_u64(&w, q->seq);
    mdl_write_u64(&w, q->drops);
    mdl_write_u64(&w, q->coll_seq);
    mdl_write_u64(&w, q->sends);
    mdl_write_u64(&w, q->recvs);
    mdl_call_write(&w, &q->call);
}

static bool call_is_good(const struct mdl_call *c, int nranks)
{
    if (c->coll >= MDL_NUM_CALLS || c->dtype >= medleyNumTypes) return false;
    return !mdl_call_is_message(c) || (c->root >= 0 && c->root < nranks);
}

bool mdl_question_read(const uint8_t *bytes, size_t len, int nranks, struct mdl_question *q)
{
    struct mdl_reader r = {.p = bytes, .left = len};
    uint8_t of = mdl_read_u8(&r);
    uint32_t subject;

    q->hops = mdl_read_u8(&r);
    (void)mdl_read_u16(&r);
    subject = mdl_read_u32(&r);
    q->subject = (int)subject;
    q->wait = mdl_read_u32(&r);
    q->jobs = mdl_read_u32(&r);
    q->seq = mdl_read_u64(&r);
    q->drops = mdl_read_u64(&r);
    q->coll_seq = mdl_read_u64(&r);
    q->sends = mdl_read_u64(&r);
    q->recvs = mdl_read_u64(&r);
    mdl_call_read(&r, &q->call);
    return !r.bad && r.left == 0 && subject < (uint32_t)nranks && call_is_good(&q->call, nranks) &&
           of == kind(&q->call);
}

void mdl_answer_write(const struct mdl_answer *a, uint8_t bytes[MDL_ANSWER_BYTES])
{
    struct mdl_writer w = {.p = bytes, .cap = MDL_ANSWER_BYTES};

    mdl_write_u8(&w, a->state);
    mdl_write_u8(&w, a->hops);
    mdl_write_u16(&w, 0);
    mdl_write_u32(&w, (uint32_t)a->rank);
    mdl_write_u32(&w, a->wait);
    mdl_write_u32(&w, 0);
    mdl_write_u64(&w, a->seq);
    mdl_call_write(&w, &a->call);
}

bool mdl_answer_read(const uint8_t *bytes, size_t len, int nranks, struct mdl_answer *a)
{
    struct mdl_reader r = {.p = bytes, .left = len};
    uint32_t rank;

    a->state = mdl_read_u8(&r);
    a->hops = mdl_read_u8(&r);
    (void)mdl_read_u16(&r);
    rank = mdl_read_u32(&r);
    a->rank = (int)rank;
    a->wait = mdl_read_u32(&r);
    (void)mdl_read_u32(&r);
    a->seq = mdl_read_u64(&r);
    mdl_call_read(&r, &a->call);
    return !r.bad && r.left == 0 && rank < (uint32_t)nranks && a->state >= MDL_ANSWER_LATE &&
           a->state <= MDL_ANSWER_HELD && call_is_good(&a->call, nranks);
}
