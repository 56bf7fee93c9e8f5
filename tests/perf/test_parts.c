/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of medley-perf that need no ranks: sizes, the table of collectives, the tournament, JSON, the id as text.
 */
#include "config.h"
#include "bench/perf/colls.h"
#include "bench/perf/json.h"
#include "bench/perf/matrix.h"
#include "bench/perf/place.h"
#include "bench/perf/sizes.h"
#include "lib/reduce/reduce.h"
#include "tests/unit/unit.h"

/* ---- sizes ---- */

START_TEST(sizes_are_read_whole)
{
    static const struct {
        const char *text;
        size_t size;
    } good[] = {{"0", 0},     {"8", 8}, {"64K", 65536}, {"64k", 65536}, {"1.5M", 1572864}, {"2G", 2147483648u},
                {"1e3", 1000}};
    static const char *const bad[] = {"",   "K",   "-1",  " 8",  "8 K", "8KB",
                                      "8T", "0x8", "nan", "inf", "8K8", "99999999999G"};
    size_t size = 77;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ck_assert_msg(perf_size_parse(good[i].text, &size), "%s", good[i].text);
        ck_assert_uint_eq(size, good[i].size);
    }
    size = 77;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(!perf_size_parse(bad[i], &size), "'%s' was taken", bad[i]);
        ck_assert_uint_eq(size, 77);
    }
}
END_TEST

static int count_steps(size_t min, size_t max, size_t step, int factor, size_t *last)
{
    struct perf_options o = {.min_bytes = min, .max_bytes = max, .step_bytes = step, .factor = factor};
    int n = 1;
    *last = min;
    while (perf_size_next(&o, *last, last)) n++;
    ck_assert_int_eq(perf_size_steps(&o), n);
    return n;
}

START_TEST(sweeps_end)
{
    size_t last;
    ck_assert_int_eq(count_steps(8, 128, 0, 2, &last), 5);
    ck_assert_uint_eq(last, 128);
    ck_assert_int_eq(count_steps(8, 127, 0, 2, &last), 4);
    ck_assert_uint_eq(last, 64);
    ck_assert_int_eq(count_steps(0, 10, 5, 1, &last), 3);
    ck_assert_int_eq(count_steps(7, 7, 1, 1, &last), 1);
    ck_assert_int_eq(count_steps(8, 7, 1, 1, &last), 1);
    count_steps(1, SIZE_MAX / 2 - 1, 0, 1 << 20, &last); /* no overflow */
    ck_assert_uint_eq(last, (size_t)1 << 60);
}
END_TEST

START_TEST(sizes_for_people)
{
    char text[32];
    perf_size_format(8, text, sizeof(text));
    ck_assert_str_eq(text, "8 B");
    perf_size_format(65536, text, sizeof(text));
    ck_assert_str_eq(text, "64 KiB");
    perf_size_format(1.5 * 1024 * 1024, text, sizeof(text));
    ck_assert_str_eq(text, "1.5 MiB");
}
END_TEST

/* ---- collectives ---- */

static struct perf_shape shape_of(const char *name, int nranks, size_t bytes, medleyDataType_t dtype)
{
    struct perf_shape s;
    ck_assert(perf_shape_make(perf_coll_find(name), dtype, medleySum, 0, nranks, bytes, &s));
    return s;
}

/* Counts, bandwidths and factors as nccl-tests has them, for 1000000 bytes of float on 4 ranks in 1 ms. */
START_TEST(formulas_are_those_of_nccl_tests)
{
    static const struct {
        const char *name;
        size_t count, send, recv;
        double bytes, factor;
    } rows[] = {
        {"all_reduce", 250000, 250000, 250000, 1e6, 1.5},    {"all_gather", 62500, 62500, 250000, 1e6, .75},
        {"reduce_scatter", 62500, 250000, 62500, 1e6, .75},  {"broadcast", 250000, 250000, 250000, 1e6, 1},
        {"reduce", 250000, 250000, 250000, 1e6, 1},          {"alltoall", 62500, 250000, 250000, 1e6, .75},
        {"alltoallv", 62500, 249996, 249996, 999984, .75},   {"gather", 62500, 62500, 250000, 1e6, .75},
        {"scatter", 62500, 250000, 62500, 1e6, .75},         {"sendrecv", 250000, 250000, 250000, 1e6, 1},
        {"hypercube", 62500, 62500, 250000, 750000, 1},      {"barrier", 0, 0, 0, 0, 1},
        {"all_gatherv", 62500, 125000, 249996, 999984, .75}, {"reduce_scatterv", 62500, 249996, 125000, 999984, .75},
    };
    size_t n = sizeof(rows) / sizeof(rows[0]);
    for (size_t i = 0; i < n; i++) {
        struct perf_shape s = shape_of(rows[i].name, 4, 1000000, medleyFloat);
        ck_assert_msg(s.count == rows[i].count && s.send == rows[i].send && s.recv == rows[i].recv, "%s: %zu %zu %zu",
                      rows[i].name, s.count, s.send, s.recv);
        ck_assert_msg(s.coll->bytes(&s) == rows[i].bytes, "%s: %g bytes", rows[i].name, s.coll->bytes(&s));
        ck_assert_double_eq(s.coll->factor(4), rows[i].factor);
    }
    for (size_t i = 0; perf_colls[i].name; i++) ck_assert_str_eq(perf_colls[i].name, rows[i].name);
    ck_assert_ptr_null(perf_colls[n].name);
}
END_TEST

/* A part is cut to 16 bytes, as in nccl-tests: 8 bytes on 4 ranks are nothing. */
START_TEST(parts_are_whole_16_bytes)
{
    ck_assert_uint_eq(shape_of("all_gather", 4, 8, medleyFloat).count, 0);
    ck_assert_uint_eq(shape_of("all_gather", 4, 127, medleyFloat).count, 4);
    ck_assert_uint_eq(shape_of("all_gather", 3, 1000, medleyInt8).count, 320);
    ck_assert_uint_eq(shape_of("reduce_scatter", 3, 1000, medleyDouble).count, 40);
    ck_assert_uint_eq(shape_of("all_reduce", 3, 1001, medleyDouble).count, 125);
}
END_TEST

/* On every rank, what is expected covers the receive buffer's elements at most once and lies inside of it and of what
 * the source sends. */
static void check_expectation(const struct perf_shape *s)
{
    struct perf_segment segments[16];
    char taken[4096];
    for (int rank = 0; rank < s->nranks; rank++) {
        int n = s->coll->expect(s, rank, segments), twice = 0;
        memset(taken, 0, sizeof(taken));
        ck_assert_int_le(n, s->nranks);
        for (int i = 0; i < n; i++) {
            ck_assert_uint_le(segments[i].at + segments[i].count, s->recv);
            ck_assert_uint_le(segments[i].from + segments[i].count, s->send);
            for (size_t k = 0; k < segments[i].count; k++) twice += taken[segments[i].at + k]++;
        }
        ck_assert_int_eq(twice, 0);
        if (!s->send_slot && !s->recv_slot) continue;
        size_t slot = s->coll->tables ? 0 : s->count; /* uneven slots have their own lengths */
        ck_assert_uint_le(perf_shape_slot(s, rank) + slot, perf_shape_extent(s));
    }
}

START_TEST(expectations_fit_the_buffers)
{
    struct perf_shape s;
    for (const struct perf_coll *c = perf_colls; c->name; c++)
        for (int n = 1; n <= 9; n++)
            for (size_t bytes = 0; bytes <= 1024; bytes += 77)
                if (perf_shape_make(c, medleyInt8, medleySum, n - 1, n, bytes, &s)) check_expectation(&s);
}
END_TEST

/* What one rank sends another is what that one receives from it. */
START_TEST(tables_of_alltoallv_match)
{
    size_t counts[7][14];
    struct perf_shape s = shape_of("alltoallv", 7, 100000, medleyHalf);
    for (int r = 0; r < 7; r++) s.coll->tables(&s, r, counts[r]);
    for (int a = 0; a < 7; a++) {
        ck_assert_uint_eq(counts[a][a], 0);
        for (int b = 0; b < 7; b++) ck_assert_uint_eq(counts[a][b], counts[b][7 + a]);
    }
}
END_TEST

/* ---- the tournament ---- */

START_TEST(every_two_meet_once)
{
    for (int n = 2; n <= 33; n++) {
        int met[33][33] = {{0}};
        for (int round = 0; round < perf_matrix_rounds(n); round++)
            for (int a = 0; a < n; a++) {
                int b = perf_matrix_partner(n, round, a);
                if (b < 0) continue;
                ck_assert_int_lt(b, n);
                ck_assert_int_ne(a, b);
                ck_assert_int_eq(perf_matrix_partner(n, round, b), a);
                met[a][b]++;
            }
        for (int a = 0; a < n; a++)
            for (int b = 0; b < n; b++) ck_assert_msg(met[a][b] == (a != b), "%d ranks: %d and %d", n, a, b);
    }
}
END_TEST

/* ---- JSON ---- */

START_TEST(json_is_escaped)
{
    char *text = NULL;
    size_t len = 0;
    struct perf_json j = {.to = open_memstream(&text, &len)};
    perf_json_open(&j, '{');
    perf_json_key(&j, "a\"b\\");
    perf_json_open(&j, '[');
    perf_json_int(&j, -5);
    perf_json_real(&j, 0.5);
    perf_json_real(&j, (double)1e308 * 10);
    perf_json_null(&j);
    perf_json_text(&j, "tab\t new\n quote\" \x01 \x7f");
    perf_json_text(&j, "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"); /* UTF-8 stays */
    perf_json_text(&j, "\xff \xc3 \xc0\x80 \xed\xa0\x80 \xe2\x82");
    perf_json_text(&j, NULL);
    perf_json_close(&j, ']');
    perf_json_key(&j, "empty");
    perf_json_open(&j, '{');
    perf_json_close(&j, '}');
    perf_json_close(&j, '}');
    fclose(j.to);
    ck_assert_str_eq(text, "{\n\"a\\\"b\\\\\":[-5,0.5,null,null,\"tab\\u0009 new\\u000a quote\\\" \\u0001 \\u007f\","
                           "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\","
                           "\"\\ufffd \\ufffd \\ufffd\\ufffd \\ufffd\\ufffd\\ufffd \\ufffd\\ufffd\",null],\n"
                           "\"empty\":{}}");
    free(text);
}
END_TEST

/* ---- the id ---- */

START_TEST(ids_travel_as_text)
{
    medleyUniqueId id, back;
    char text[PERF_ID_TEXT_BYTES + 1];
    for (int i = 0; i < MEDLEY_UNIQUE_ID_BYTES; i++) id.internal[i] = (char)(i * 37 + 11);
    perf_id_to_text(&id, text);
    ck_assert_uint_eq(strlen(text), 2 * MEDLEY_UNIQUE_ID_BYTES);
    ck_assert(perf_id_from_text(text, &back));
    ck_assert_mem_eq(&id, &back, sizeof(id));
    text[17] = 'g';
    ck_assert(!perf_id_from_text(text, &back));
    text[17] = 0;
    ck_assert(!perf_id_from_text(text, &back));
    memset(text, '0', sizeof(text));
    text[sizeof(text) - 1] = 0;
    ck_assert(!perf_id_from_text(text, &back));
}
END_TEST

UNIT_MAIN("perf_parts", sizes_are_read_whole, sweeps_end, sizes_for_people, formulas_are_those_of_nccl_tests,
          parts_are_whole_16_bytes, expectations_fit_the_buffers, tables_of_alltoallv_match, every_two_meet_once,
          json_is_escaped, ids_travel_as_text)
