/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes: the wire's byte order, and that neither end ever goes past its buffer. */
#include "config.h"
#include "lib/base/bytes.h"
#include "tests/unit/unit.h"

START_TEST(little_endian_golden_bytes)
{
    static const uint8_t golden[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f, 0x0e,
                                     0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08, 'a',  'b',  'c'};
    uint8_t buffer[sizeof(golden)];
    struct mdl_writer w = {.p = buffer, .cap = sizeof(buffer)};
    mdl_write_u8(&w, 0x01);
    mdl_write_u16(&w, 0x0203);
    mdl_write_u32(&w, 0x04050607);
    mdl_write_u64(&w, 0x08090a0b0c0d0e0full);
    mdl_write_bytes(&w, "abc", 3);
    ck_assert(!w.bad);
    ck_assert_uint_eq(w.len, sizeof(golden));
    ck_assert_mem_eq(buffer, golden, sizeof(golden));
}
END_TEST

START_TEST(reads_what_was_written)
{
    uint8_t buffer[64], tail[4];
    struct mdl_writer w = {.p = buffer, .cap = sizeof(buffer)};
    mdl_write_u8(&w, 0xff);
    mdl_write_u16(&w, 0xfffe);
    mdl_write_u32(&w, 0xfffffffdu);
    mdl_write_u64(&w, 0xfffffffffffffffcull);
    mdl_write_bytes(&w, "tail", 4);

    struct mdl_reader r = {.p = buffer, .left = w.len};
    ck_assert_uint_eq(mdl_read_u8(&r), 0xff);
    ck_assert_uint_eq(mdl_read_u16(&r), 0xfffe);
    ck_assert_uint_eq(mdl_read_u32(&r), 0xfffffffdu);
    ck_assert_uint_eq(mdl_read_u64(&r), 0xfffffffffffffffcull);
    mdl_read_bytes(&r, tail, sizeof(tail));
    ck_assert_mem_eq(tail, "tail", 4);
    ck_assert(!r.bad);
    ck_assert_uint_eq(r.left, 0);
}
END_TEST

START_TEST(full_writer_turns_bad_and_stays_so)
{
    uint8_t buffer[8] = {0};
    struct mdl_writer w = {.p = buffer, .cap = 5};
    mdl_write_u32(&w, 0x11111111);
    mdl_write_u16(&w, 0x2222);
    ck_assert(w.bad);
    mdl_write_u8(&w, 0x33); /* would fit: a later field must not fill the gap */
    ck_assert_uint_eq(w.len, 4);
    ck_assert_uint_eq(buffer[4], 0);
    ck_assert_uint_eq(buffer[5], 0);
}
END_TEST

START_TEST(short_reader_turns_bad_and_yields_zeros)
{
    static const uint8_t buffer[] = {0xaa, 0xbb, 0xcc};
    uint8_t out[2] = {1, 1};
    struct mdl_reader r = {.p = buffer, .left = sizeof(buffer)};
    ck_assert_uint_eq(mdl_read_u16(&r), 0xbbaa);
    ck_assert_uint_eq(mdl_read_u32(&r), 0);
    ck_assert(r.bad);
    ck_assert_uint_eq(mdl_read_u8(&r), 0);
    mdl_read_bytes(&r, out, sizeof(out));
    ck_assert_uint_eq(out[0] | out[1], 0);
    ck_assert_uint_eq(r.left, 1);
}
END_TEST

START_TEST(huge_lengths_do_not_wrap)
{
    uint8_t buffer[4] = {0};
    struct mdl_reader r = {.p = buffer, .left = sizeof(buffer)};
    ck_assert_ptr_null(mdl_read_room(&r, SIZE_MAX));
    struct mdl_writer w = {.p = buffer, .cap = sizeof(buffer)};
    mdl_write_u8(&w, 1);
    ck_assert_ptr_null(mdl_write_room(&w, SIZE_MAX));
}
END_TEST

START_TEST(empty_pieces_are_fine)
{
    uint8_t buffer[1];
    struct mdl_writer w = {.p = buffer, .cap = 0};
    mdl_write_bytes(&w, NULL, 0);
    ck_assert(!w.bad);
    struct mdl_reader r = {.p = buffer, .left = 0};
    mdl_read_bytes(&r, buffer, 0);
    ck_assert(!r.bad);
}
END_TEST

UNIT_MAIN("bytes", little_endian_golden_bytes, reads_what_was_written, full_writer_turns_bad_and_stays_so,
          short_reader_turns_bad_and_yields_zeros, huge_lengths_do_not_wrap, empty_pieces_are_fine)
