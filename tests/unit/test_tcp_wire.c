/* SPDX-License-Identifier: Apache-2.0 */
/* The frame header of the TCP transport: its bytes, and what is refused. */
#include "config.h"
#include "tests/unit/unit.h"
#include "transports/tcp_wire.h"

static struct mdl_tcp_header sample(uint8_t type)
{
    return (struct mdl_tcp_header){.type = type,
                                   .channel = 5,
                                   .length = 0,
                                   .src = 0x01020304,
                                   .dst = 0x0a0b0c0d,
                                   .taken = 0x11121314,
                                   .seq = 0x2122232425262728,
                                   .ack = 0x3132333435363738,
                                   .number = 0x4142434445464748,
                                   .tag = 0x5152535455565758,
                                   .total = 0x6162636465666768};
}

START_TEST(test_golden)
{
    static const uint8_t golden[MDL_TCP_HEADER_BYTES] = {
        0x4d, 0x44, 0x54, 0x50, 0x01, 0x03, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x03, 0x02, 0x01,
        0x0d, 0x0c, 0x0b, 0x0a, 0x14, 0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
        0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,
        0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, 0x68, 0x67, 0x66, 0x65, 0x64, 0x63, 0x62, 0x61,
    };
    uint8_t bytes[MDL_TCP_HEADER_BYTES];
    struct mdl_tcp_header h = sample(MDL_TCP_CREDIT), back;
    mdl_tcp_header_write(&h, bytes);
    ck_assert_mem_eq(bytes, golden, sizeof golden);
    ck_assert_ptr_null(mdl_tcp_header_read(golden, h.src, h.dst, &back));
    ck_assert_uint_eq(back.type, h.type);
    ck_assert_uint_eq(back.channel, h.channel);
    ck_assert_uint_eq(back.taken, h.taken);
    ck_assert_uint_eq(back.seq, h.seq);
    ck_assert_uint_eq(back.ack, h.ack);
    ck_assert_uint_eq(back.number, h.number);
    ck_assert_uint_eq(back.tag, h.tag);
    ck_assert_uint_eq(back.total, h.total);
}
END_TEST

/* The numbers of the types are wire format. */
START_TEST(test_types)
{
    ck_assert_int_eq(MDL_TCP_EAGER, 1);
    ck_assert_int_eq(MDL_TCP_ANNOUNCE, 2);
    ck_assert_int_eq(MDL_TCP_CREDIT, 3);
    ck_assert_int_eq(MDL_TCP_CHUNK, 4);
    ck_assert_int_eq(MDL_TCP_REFUSE_SEND, 5);
    ck_assert_int_eq(MDL_TCP_REFUSE_RECV, 6);
    ck_assert_int_eq(MDL_TCP_ACK, 7);
    ck_assert_int_eq(MDL_TCP_PROBE, 8);
    ck_assert_int_eq(MDL_TCP_BYE, 9);
}
END_TEST

static void refused(const struct mdl_tcp_header *h, const char *why)
{
    uint8_t bytes[MDL_TCP_HEADER_BYTES];
    struct mdl_tcp_header back;
    mdl_tcp_header_write(h, bytes);
    const char *got = mdl_tcp_header_read(bytes, 0x01020304, 0x0a0b0c0d, &back);
    ck_assert_msg(got && strcmp(got, why) == 0, "got %s, want %s", got ? got : "(accepted)", why);
}

START_TEST(test_refused_fields)
{
    struct mdl_tcp_header h = sample(MDL_TCP_CREDIT);
    h.src++;
    refused(&h, "source rank");
    h = sample(MDL_TCP_CREDIT);
    h.dst++;
    refused(&h, "destination rank");
    h = sample(MDL_TCP_CREDIT);
    h.channel = MDL_MAX_CHANNELS;
    refused(&h, "channel");
    h = sample(0);
    refused(&h, "type");
    h = sample(MDL_TCP_TYPES);
    refused(&h, "type");
    h = sample(MDL_TCP_CREDIT);
    h.seq = 0;
    refused(&h, "sequence");
    h = sample(MDL_TCP_ACK);
    refused(&h, "sequence");
    h = sample(MDL_TCP_CREDIT);
    h.ack = 0;
    refused(&h, "acknowledgement");
    h = sample(MDL_TCP_CREDIT);
    h.length = 1;
    refused(&h, "payload where none belongs");
}
END_TEST

START_TEST(test_refused_lengths)
{
    struct mdl_tcp_header h = sample(MDL_TCP_EAGER);
    h.length = 8;
    refused(&h, "length of an eager message");
    h.length = MDL_TCP_MAX_EAGER + 1;
    h.total = h.length;
    refused(&h, "length of an eager message");
    h = sample(MDL_TCP_CHUNK);
    h.tag = 0;
    refused(&h, "length of a chunk");
    h.length = 0xffffffff;
    refused(&h, "length of a chunk");
    h.length = 100;
    h.total = 199;
    h.tag = 100;
    refused(&h, "chunk outside its message");
    h.tag = UINT64_MAX - 50; /* offset + length wraps */
    refused(&h, "chunk outside its message");
    h = sample(MDL_TCP_BYE);
    h.seq = 0;
    h.length = MDL_TCP_ACK_BYTES - 1;
    refused(&h, "length of an acknowledgement");
}
END_TEST

/* Any single wrong byte of magic and version is refused; random bytes never are more than refused. */
START_TEST(test_garbage)
{
    struct mdl_tcp_header h = sample(MDL_TCP_CREDIT), back;
    uint8_t bytes[MDL_TCP_HEADER_BYTES];
    for (int i = 0; i < 5; i++) {
        mdl_tcp_header_write(&h, bytes);
        bytes[i] ^= 0x40;
        ck_assert_str_eq(mdl_tcp_header_read(bytes, h.src, h.dst, &back), i < 4 ? "magic" : "version");
    }
    uint64_t x = 88172645463325252ull;
    for (int n = 0; n < 100000; n++) {
        mdl_tcp_header_write(&h, bytes);
        for (int i = 5; i < MDL_TCP_HEADER_BYTES; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            if (x % 4 == 0) bytes[i] = (uint8_t)(x >> 32);
        }
        if (mdl_tcp_header_read(bytes, h.src, h.dst, &back)) continue;
        ck_assert_uint_lt(back.channel, MDL_MAX_CHANNELS);
        ck_assert_uint_le(back.length, MDL_TCP_MAX_CHUNK);
    }
}
END_TEST

UNIT_MAIN("tcp wire", test_golden, test_types, test_refused_fields, test_refused_lengths, test_garbage)
