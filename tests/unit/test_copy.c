/* SPDX-License-Identifier: Apache-2.0 */
/* mdl_copy is memcpy, for every distance of the buffers and every length around the places where it changes its way. */
#include "config.h"
#include "lib/base/copy.h"
#include "tests/unit/unit.h"

enum { ROOM = 3 * 4096 };

static void check_copy(size_t to, size_t from, size_t len)
{
    static unsigned char src[ROOM], dst[ROOM], expect[ROOM];
    for (size_t i = 0; i < ROOM; i++) src[i] = (unsigned char)(i * 7 + i / 256);
    memset(dst, 0xaa, ROOM);
    memset(expect, 0xaa, ROOM);
    memcpy(expect + to, src + from, len);
    mdl_copy(dst + to, src + from, len);
    ck_assert_msg(memcmp(dst, expect, ROOM) == 0, "%zu bytes from %zu to %zu", len, from, to);
    memset(dst, 0xaa, ROOM);
    mdl_copy_stream(dst + to, src + from, len);
    ck_assert_msg(memcmp(dst, expect, ROOM) == 0, "%zu bytes past the caches from %zu to %zu", len, from, to);
}

START_TEST(copies_at_every_distance)
{
    static const size_t lens[] = {0, 1, 63, 2047, 2048, 2049, 2111, 2112, 2113, 4096, 5000};
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
        for (size_t distance = 0; distance < 140; distance += distance < 8 ? 1 : 5) {
            check_copy(distance, 0, lens[i]);
            check_copy(0, distance, lens[i]);
            check_copy(4096 + distance, 17, lens[i]);
        }
}
END_TEST

START_TEST(takes_null_for_nothing)
{
    mdl_copy(NULL, NULL, 0);
    mdl_copy_stream(NULL, NULL, 0);
}
END_TEST

/* Whatever the processor is: equal places in a page are never slow, nor are short copies. */
START_TEST(slow_is_only_a_little_behind)
{
    static const char page[2 * 4096];
    ck_assert(!mdl_copy_is_slow(page, page + 4096, 4096));
    ck_assert(!mdl_copy_is_slow(page + 4096 + 16, page, 100));
    ck_assert(!mdl_copy_is_slow(page + 4096 + 64, page, 4096));
    ck_assert(mdl_copy_is_slow(page + 4096 + 16, page, 4096) == mdl_copy_is_slow(page + 63, page, 4096));
}
END_TEST

UNIT_MAIN("copy", copies_at_every_distance, takes_null_for_nothing, slow_is_only_a_little_behind)
