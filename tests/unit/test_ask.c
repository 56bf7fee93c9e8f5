/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of questions and answers about operations that do not move, and what is refused. */
#include "config.h"

#include "lib/engine/ask.h"
#include "tests/unit/unit.h"

static const struct mdl_call allreduce = {
    .coll = medleyCollAllReduce, .dtype = medleyFloat32, .op = medleyMax, .root = -1, .count = 0x0102030405060708u};
static const struct mdl_call from_three = {.coll = medleyCollRecv, .dtype = medleyInt8, .root = 3, .count = 5};

START_TEST(question_golden_bytes)
{
    static const uint8_t golden[] = {
        0,    2,    0,    0,    4,    0,    0,    0,                             /* collective, hops, subject */
        0x0d, 0x0c, 0x0b, 0x0a, 11,   0,    0,    0,                             /* wait, jobs */
        7,    0,    0,    0,    0,    0,    0,    0,                             /* seq */
        1,    0,    0,    0,    0,    0,    0,    0,    8,  0, 0, 0, 0, 0, 0, 0, /* drops, coll_seq */
        9,    0,    0,    0,    0,    0,    0,    0,    10, 0, 0, 0, 0, 0, 0, 0, /* sends, recvs */
        0,    7,    2,    0,    0xff, 0xff, 0xff, 0xff,                          /* the call */
        8,    7,    6,    5,    4,    3,    2,    1,    0,  0, 0, 0, 0, 0, 0, 0,
    };
    struct mdl_question q = {2, 4, 0x0a0b0c0d, 11, 7, 1, 8, 9, 10, allreduce}, back;
    uint8_t bytes[MDL_QUESTION_BYTES];

    mdl_question_write(&q, bytes);
    ck_assert_uint_eq(sizeof(golden), sizeof(bytes));
    ck_assert_mem_eq(bytes, golden, sizeof(golden));
    ck_assert(mdl_question_read(bytes, sizeof(bytes), 5, &back));
    ck_assert(back.hops == 2 && back.subject == 4 && back.wait == 0x0a0b0c0d && back.seq == 7 && back.drops == 1);
    ck_assert(back.jobs == 11);
    ck_assert(back.coll_seq == 8 && back.sends == 9 && back.recvs == 10 && mdl_call_same(&back.call, &allreduce));
}
END_TEST

START_TEST(jobs_are_told_apart)
{
    struct mdl_question q = {.subject = 1, .call = {.coll = MDL_CALL_SPLIT, .root = 3, .count = 0xfffffffeu}}, back;
    uint8_t bytes[MDL_QUESTION_BYTES];
    char text[MDL_CALL_TEXT_BYTES];

    mdl_question_write(&q, bytes);
    ck_assert_uint_eq(bytes[0], 2);
    ck_assert_uint_eq(bytes[56], 14);
    ck_assert(mdl_question_read(bytes, sizeof(bytes), 2, &back));
    mdl_call_text(&back.call, text);
    ck_assert_str_eq(text, "Split(color 3, key -2)");
    bytes[0] = 0;
    ck_assert(!mdl_question_read(bytes, sizeof(bytes), 2, &back));
    mdl_call_text(&(struct mdl_call){.coll = MDL_CALL_SPLIT, .root = -1}, text);
    ck_assert_str_eq(text, "Split(no color)");
    mdl_call_text(&(struct mdl_call){.coll = MDL_CALL_SHRINK, .dtype = 1, .count = 1ull << 32 | 2, .table = 5}, text);
    ck_assert_str_eq(text, "Shrink(to 2 ranks, without 0, 2)");
    mdl_call_text(&(struct mdl_call){.coll = MDL_CALL_SHRINK, .count = 99, .table = 0xabcdu}, text);
    ck_assert_str_eq(text, "Shrink(to 99 ranks #0000abcd)");
    mdl_call_text(&(struct mdl_call){.coll = MDL_CALL_SHRINK, .dtype = 1, .count = 1, .table = ~1ull}, text);
    ck_assert_uint_lt(strlen(text), sizeof(text));
    mdl_call_text(&(struct mdl_call){.coll = MDL_CALL_WINDOW, .root = -1, .count = 4096}, text);
    ck_assert_str_eq(text, "WindowRegister(4096 bytes)");
}
END_TEST

START_TEST(messages_are_told_apart)
{
    for (unsigned coll = 0; coll < 256; coll++) { /* jobs, and what no call is, among them */
        const struct mdl_call c = {.coll = (uint8_t)coll};
        ck_assert_int_eq(mdl_call_is_message(&c), coll < medleyNumColls && mdl_shapes[coll].message);
    }
}
END_TEST

START_TEST(answer_golden_bytes)
{
    static const uint8_t golden[] = {
        2,    1,    0,    0,    3, 0, 0, 0, /* state, hops, rank */
        0x0d, 0x0c, 0x0b, 0x0a, 0, 0, 0, 0, /* wait */
        7,    0,    0,    0,    0, 0, 0, 0, /* seq */
        13,   0,    0,    0,    3, 0, 0, 0, /* the call */
        5,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    };
    struct mdl_answer a = {MDL_ANSWER_WAITS, 1, 3, 0x0a0b0c0d, 7, from_three}, back;
    uint8_t bytes[MDL_ANSWER_BYTES];

    mdl_answer_write(&a, bytes);
    ck_assert_uint_eq(sizeof(golden), sizeof(bytes));
    ck_assert_mem_eq(bytes, golden, sizeof(golden));
    ck_assert(mdl_answer_read(bytes, sizeof(bytes), 4, &back));
    ck_assert(back.state == MDL_ANSWER_WAITS && back.hops == 1 && back.rank == 3 && back.wait == 0x0a0b0c0d);
    ck_assert(back.seq == 7 && mdl_call_same(&back.call, &from_three));
}
END_TEST

START_TEST(nonsense_is_refused)
{
    struct mdl_question q = {.subject = 1, .call = from_three};
    struct mdl_answer a = {.state = MDL_ANSWER_LATE, .rank = 1, .call = from_three};
    uint8_t ask[MDL_QUESTION_BYTES + 1] = {0}, tell[MDL_ANSWER_BYTES + 1] = {0};

    mdl_question_write(&q, ask);
    mdl_answer_write(&a, tell);
    ck_assert(mdl_question_read(ask, MDL_QUESTION_BYTES, 4, &q) && mdl_answer_read(tell, MDL_ANSWER_BYTES, 4, &a));
    for (size_t n = 0; n <= MDL_QUESTION_BYTES + 1; n++) {
        if (n != MDL_QUESTION_BYTES) ck_assert(!mdl_question_read(ask, n, 4, &q));
        if (n != MDL_ANSWER_BYTES && n <= sizeof(tell)) ck_assert(!mdl_answer_read(tell, n, 4, &a));
    }
    ck_assert(!mdl_question_read(ask, MDL_QUESTION_BYTES, 3, &q)); /* the message's peer is no rank */
    ck_assert(!mdl_answer_read(tell, MDL_ANSWER_BYTES, 3, &a));
    ask[0] ^= 1; /* a message or not: must agree with the call */
    ck_assert(!mdl_question_read(ask, MDL_QUESTION_BYTES, 4, &q));
    tell[0] = 9;
    ck_assert(!mdl_answer_read(tell, MDL_ANSWER_BYTES, 4, &a));
    mdl_question_write(&(struct mdl_question){.subject = 4, .call = allreduce}, ask);
    ck_assert(!mdl_question_read(ask, MDL_QUESTION_BYTES, 4, &q));
    ask[4] = 0;
    ask[56] = MDL_NUM_CALLS;
    ck_assert(!mdl_question_read(ask, MDL_QUESTION_BYTES, 4, &q));
}
END_TEST

UNIT_MAIN("ask", question_golden_bytes, jobs_are_told_apart, messages_are_told_apart, answer_golden_bytes,
          nonsense_is_refused)
