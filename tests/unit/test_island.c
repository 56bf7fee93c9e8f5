/* SPDX-License-Identifier: Apache-2.0 */
/* Who is in which island and who owns which slice: examples, and what must hold of any placement. */
#include "config.h"

#include "lib/engine/island.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

enum { MOST = 24 };

static struct mdl_native_row rows[MOST];
static struct mdl_rank_facts facts[MOST];
static struct mdl_islands *map;

/* "cuda:0" on machine 1, "2/cuda:0" on machine 2, "host". */
static void place(int r, const char *where)
{
    const char *slash = strchr(where, '/'), *device = slash ? slash + 1 : where;
    int vendor = (int)strcspn(device, ":");

    facts[r] = (struct mdl_rank_facts){.machine = slash ? (uint64_t)(where[0] - '0') : 1, .pid = 100u + (uint32_t)r};
    snprintf(facts[r].device, sizeof(facts[r].device), "%s", device);
    rows[r] = (struct mdl_native_row){.wanted = true};
    if (strcmp(device, "host") == 0) return;
    rows[r].bound = true;
    rows[r].caps = (struct mdl_native_caps){.colls = 0x3f, .ways = MDL_NATIVE_GROUPS, .id_bytes = 128, .version = 2};
    snprintf(rows[r].name, sizeof(rows[r].name), "%.*sccl", vendor, device);
}

static int place_all(const char *list)
{
    char text[512], *save, *word;
    int n = 0;

    snprintf(text, sizeof(text), "%s", list);
    for (word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) place(n++, word);
    return n;
}

/* "0,1;2;3,4" */
static void check_map(int n, const char *want)
{
    char got[512] = "";
    size_t at = 0;

    ck_assert_int_eq(mdl_islands_make(rows, facts, n, &map), medleySuccess);
    for (int i = 0; i < map->n; i++)
        for (int m = map->start[i]; m < map->start[i + 1]; m++)
            at += (size_t)snprintf(got + at, sizeof(got) - at, "%s%d",
                                   m > map->start[i] ? ","
                                   : i               ? ";"
                                                     : "",
                                   map->members[m]);
    ck_assert_str_eq(got, want);
    mdl_islands_free(map);
}

START_TEST(examples)
{
    check_map(place_all("cuda:0,cuda:1,hip:0,hip:1,host,cuda:2"), "0,1,5;2,3;4");
    check_map(place_all("host,host,cuda:0"), "0;1;2");
    check_map(place_all("cuda:0,2/cuda:0,cuda:1,2/cuda:1"), "0,2;1,3");
    check_map(place_all("cuda:0,cuda:0,cuda:1"), "0,2;1"); /* two on one device */
    check_map(place_all("cuda:0,cuda:0"), "0;1");
    check_map(place_all("iluvatar:0,cuda:1,cuda:0,iluvatar:1"), "0,3;1,2");
}
END_TEST

static enum mdl_island_why why_of(int n, int r)
{
    enum mdl_island_why why;

    ck_assert_int_eq(mdl_islands_make(rows, facts, n, &map), medleySuccess);
    why = (enum mdl_island_why)map->why[r];
    ck_assert((why == MDL_ISLAND_MEMBER) == (mdl_island_size(map, map->island[r]) > 1));
    mdl_islands_free(map);
    return why;
}

START_TEST(reasons)
{
    int n = place_all("cuda:0,cuda:1,cuda:2,host,hip:0,cuda:1");

    ck_assert_int_eq(why_of(n, 1), MDL_ISLAND_MEMBER);
    ck_assert_int_eq(why_of(n, 3), MDL_ISLAND_HOST);
    ck_assert_int_eq(why_of(n, 4), MDL_ISLAND_NOBODY);
    ck_assert_int_eq(why_of(n, 5), MDL_ISLAND_SHARED);
    rows[1].bound = false;
    ck_assert_int_eq(why_of(n, 1), MDL_ISLAND_UNBOUND);
    ck_assert_int_eq(why_of(n, 5), MDL_ISLAND_MEMBER); /* the device is free for it */
    rows[0].wanted = false;
    ck_assert_int_eq(why_of(n, 0), MDL_ISLAND_OFF);
    rows[2].caps.colls = 1u << medleyCollBroadcast;
    ck_assert_int_eq(why_of(n, 2), MDL_ISLAND_LACKS);
    n = place_all("cuda:0,cuda:1,cuda:2");
    rows[1].caps.version = 3;
    ck_assert_int_eq(why_of(n, 1), MDL_ISLAND_NOBODY);
    ck_assert_int_eq(why_of(n, 2), MDL_ISLAND_MEMBER);
    rows[2].caps.ways |= MDL_NATIVE_ONE_RANK;
    facts[2].pid = facts[0].pid;
    ck_assert_int_eq(why_of(n, 2), MDL_ISLAND_SHARED);
    for (int w = MDL_ISLAND_MEMBER; w <= MDL_ISLAND_FAILED; w++)
        ck_assert(mdl_island_why_text((enum mdl_island_why)w)[0]);
}
END_TEST

START_TEST(dissolving)
{
    int n = place_all("cuda:0,hip:0,cuda:1,hip:1,host");
    const uint8_t ok[] = {1, 1, 1, 0, 1}, none[] = {0, 0, 0, 0, 1};

    ck_assert_int_eq(mdl_islands_make(rows, facts, n, &map), medleySuccess);
    ck_assert_int_eq(map->nslices, 2);
    mdl_islands_dissolve(map, ok);
    ck_assert_int_eq(map->n, 4);
    ck_assert_int_eq(map->nslices, 2);
    ck_assert_int_eq(map->island[0], map->island[2]);
    ck_assert_int_ne(map->island[1], map->island[3]);
    ck_assert_int_eq(map->why[1], MDL_ISLAND_FAILED);
    ck_assert_int_eq(map->why[4], MDL_ISLAND_HOST);
    mdl_islands_dissolve(map, none);
    ck_assert_int_eq(map->n, 5);
    ck_assert_int_eq(map->nslices, 0);
    mdl_islands_free(map);
}
END_TEST

/* ---- any placement ---- */

static unsigned next(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static int draw(unsigned *s)
{
    static const char *const vendors[] = {"host", "cuda", "hip", "acl"};
    int n = 1 + (int)(next(s) % MOST);

    for (int r = 0; r < n; r++) {
        const char *vendor = vendors[next(s) % 4];
        char text[64];
        snprintf(text, sizeof(text), "%u/%s:%u", 1 + next(s) % 2, vendor, next(s) % 12);
        if (strcmp(vendor, "host") == 0) snprintf(text, sizeof(text), "host");
        place(r, text);
        if (next(s) % 10 == 0) rows[r].wanted = false;
        if (next(s) % 10 == 0) rows[r].bound = false;
    }
    return n;
}

/* Everybody is somewhere, once; numbers go up with the lowest ranks; members go together. */
static void check_partition(int n)
{
    int seen[MOST] = {0}, lowest = -1;

    ck_assert_int_eq(map->start[0], 0);
    ck_assert_int_eq(map->start[map->n], n);
    for (int i = 0; i < map->n; i++) {
        int first = map->members[map->start[i]];
        ck_assert_int_ge(mdl_island_size(map, i), 1);
        ck_assert_int_gt(first, lowest);
        lowest = first;
        for (int m = map->start[i]; m < map->start[i + 1]; m++) {
            int r = map->members[m];
            seen[r]++;
            ck_assert_int_eq(map->island[r], i);
            ck_assert_int_eq(map->index[r], m - map->start[i]);
            if (mdl_island_size(map, i) == 1) continue;
            ck_assert(rows[r].bound && rows[r].wanted && facts[r].machine == facts[first].machine);
            ck_assert_str_eq(rows[r].name, rows[first].name);
            for (int o = map->start[i]; o < m; o++) ck_assert_str_ne(facts[r].device, facts[map->members[o]].device);
        }
    }
    for (int r = 0; r < n; r++) ck_assert_int_eq(seen[r], 1);
}

/* Nobody is alone who fits to an island: but for a device that is taken. */
static void check_nobody_left(int n)
{
    for (int a = 0; a < n; a++)
        for (int b = 0; b < a; b++)
            if (map->why[a] == MDL_ISLAND_NOBODY && map->why[b] == MDL_ISLAND_NOBODY)
                ck_assert(strcmp(rows[a].name, rows[b].name) != 0 || facts[a].machine != facts[b].machine);
}

/* Each slice has one owner in each island; those of a rank lie side by side; all elements are in one slice. */
static void check_slices(int n, size_t count, size_t block)
{
    int owned = 0, most = 0;

    for (int r = 0; r < n; r++) {
        int from, to;
        mdl_island_owned(map, r, &from, &to);
        for (int s = 0; s < map->nslices; s++)
            ck_assert((mdl_island_owner(map, map->island[r], s) == r) == (s >= from && s < to));
        owned += to - from;
    }
    ck_assert_int_eq(owned, map->n * map->nslices);
    for (int i = 0; i < map->n; i++)
        if (mdl_island_size(map, i) > most) most = mdl_island_size(map, i);
    ck_assert_int_eq(map->nslices, most < 2 ? 0 : most < MDL_ISLAND_SLICES_MOST ? most : MDL_ISLAND_SLICES_MOST);
    if (!map->nslices) return;
    ck_assert_uint_eq(mdl_island_at(map->nslices, count, block, 0), 0);
    ck_assert_uint_eq(mdl_island_at(map->nslices, count, block, map->nslices), count);
    for (int s = 0; s < map->nslices; s++) {
        size_t at = mdl_island_at(map->nslices, count, block, s),
               end = mdl_island_at(map->nslices, count, block, s + 1);
        ck_assert_uint_le(at, end);
        ck_assert(at % block == 0 || at == count);
        ck_assert_uint_le(end - at, (count / block / (size_t)map->nslices + 1) * block);
    }
}

/* A row is its rank's in its own island; in others each member has as many as any other, but for one. */
static void check_rows(int n)
{
    for (int i = 0; i < map->n; i++) {
        int owned[MOST] = {0}, size = mdl_island_size(map, i), foreign = (n - size) / size;
        for (int row = 0; row < n; row++) {
            int owner = mdl_island_row_owner(map, i, row);
            ck_assert_int_eq(map->island[owner], i);
            if (map->island[row] == i) ck_assert_int_eq(owner, row);
            owned[owner] += owner != row;
        }
        for (int m = map->start[i]; m < map->start[i + 1]; m++) {
            ck_assert_int_ge(owned[map->members[m]], foreign);
            ck_assert_int_le(owned[map->members[m]], foreign + ((n - size) % size != 0));
        }
    }
}

START_TEST(properties)
{
    unsigned s = 7;

    for (int i = 0; i < 3000; i++) {
        int n = draw(&s);
        ck_assert_int_eq(mdl_islands_make(rows, facts, n, &map), medleySuccess);
        check_partition(n);
        check_rows(n);
        check_nobody_left(n);
        check_slices(n, 1 + next(&s) % 5000, (size_t)1 << next(&s) % 10);
        mdl_islands_free(map);
    }
}
END_TEST

UNIT_MAIN("island", examples, reasons, dissolving, properties)
