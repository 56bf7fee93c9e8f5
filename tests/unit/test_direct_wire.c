/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks tell each other of their devices' windows: golden bytes, and what a reader refuses. */
#include "config.h"

#include "lib/engine/direct.h"
#include "tests/unit/unit.h"

static const uint8_t head[] = {
    8,    7,    6,   5,   4, 3,    2, 1, /* process */
    0,    0,    0,   0,   0, 0x7f, 0, 0, /* base */
    0,    0,    0,   2,   0, 0,    0, 0, /* bytes */
    0,    0,    0,   1,   0, 0,    0, 0, /* staging */
    0xff, 0x0f, 0,   0,   3, 0,    0, 0, /* types, ordinal */
    0x40, 0,    0,   0,   0, 0,    0, 0, /* offset in the handle's memory */
    4,    0,    0,   0,   6, 5,    0, 0xf0, /* bytes of the handle, space of process ids */
    'h',  'a',  'n', 'd',
};

static struct mdl_direct_offer sample(void)
{
    return (struct mdl_direct_offer){
        .process = 0x0102030405060708,
        .base = 0x7f0000000000,
        .bytes = 1 << 25,
        .staging = 1 << 24,
        .types = 0xfff,
        .ordinal = 3,
        .pids = 0xf0000506,
        .ipc = {.bytes = "hand", .len = 4, .offset = 64, .fd = -1},
    };
}

START_TEST(golden_bytes)
{
    const struct mdl_direct_offer o = sample();
    uint8_t bytes[MDL_DIRECT_WIRE_BYTES], golden[MDL_DIRECT_WIRE_BYTES] = {0};
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_reader r = {.p = bytes, .left = sizeof(bytes)};
    struct mdl_direct_offer back;

    memcpy(golden, head, sizeof(head));
    mdl_direct_write(&w, &o);
    ck_assert(!w.bad);
    ck_assert_uint_eq(w.len, sizeof(bytes));
    ck_assert_mem_eq(bytes, golden, sizeof(bytes));
    mdl_direct_read(&r, &back);
    w.len = 0;
    mdl_direct_write(&w, &back);
    ck_assert_mem_eq(bytes, golden, sizeof(bytes));
    ck_assert_int_eq(back.ipc.fd, -1);
}
END_TEST

/* As if that rank had nothing to offer. */
START_TEST(bad_bytes_offer_nothing)
{
    const struct mdl_direct_offer o = sample();
    uint8_t bytes[MDL_DIRECT_WIRE_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_reader brief = {.p = bytes, .left = sizeof(bytes) - 1}, r = {.p = bytes, .left = sizeof(bytes)};
    struct mdl_direct_offer back;

    mdl_direct_write(&w, &o);
    mdl_direct_read(&brief, &back);
    ck_assert_uint_eq(back.bytes, 0);
    mdl_put_u32(bytes + 48, MDL_IPC_BYTES + 1);
    mdl_direct_read(&r, &back);
    ck_assert_uint_eq(back.bytes, 0);
}
END_TEST

UNIT_MAIN("direct_wire", golden_bytes, bad_bytes_offer_nothing)
