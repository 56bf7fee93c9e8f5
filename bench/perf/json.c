/* SPDX-License-Identifier: Apache-2.0 */
/* A string that is no UTF-8 (a host or file name may be any bytes) has its stray bytes replaced, so that every reader
 * takes the file. */
#include "config.h"
#include "bench/perf/json.h"
#include <math.h>
#include <string.h>

static void before_value(struct perf_json *j)
{
    if (!j->after_key && j->some[j->depth]) fputc(',', j->to);
    if (!j->after_key && j->depth == 1) fputc('\n', j->to);
    j->some[j->depth] = true;
    j->after_key = false;
}

void perf_json_open(struct perf_json *j, char bracket)
{
    before_value(j);
    fputc(bracket, j->to);
    if (j->depth + 1 < PERF_JSON_DEPTH) j->depth++;
    j->some[j->depth] = false;
}

void perf_json_close(struct perf_json *j, char bracket)
{
    fputc(bracket, j->to);
    if (j->depth) j->depth--;
    j->after_key = false;
}

/* The length of the UTF-8 character that begins here; 0: it is none. */
static int character_length(const unsigned char *s)
{
    static const struct {
        unsigned char mask, lead;
        unsigned least;
    } kinds[] = {{0x80, 0, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (int more = 0; more < 4; more++) {
        if ((s[0] & kinds[more].mask) != kinds[more].lead) continue;
        unsigned code = s[0] & (unsigned char)~kinds[more].mask;
        for (int i = 1; i <= more; i++) {
            if ((s[i] & 0xc0) != 0x80) return 0;
            code = code << 6 | (s[i] & 0x3f);
        }
        bool surrogate = code >= 0xd800 && code < 0xe000;
        return code < kinds[more].least || code > 0x10ffff || surrogate ? 0 : more + 1;
    }
    return 0;
}

static void write_string(FILE *to, const char *text)
{
    fputc('"', to);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        int len = character_length(s);
        if (*s == '"' || *s == '\\')
            fprintf(to, "\\%c", *s);
        else if (*s < 0x20 || *s == 0x7f)
            fprintf(to, "\\u%04x", *s);
        else if (!len)
            fputs("\\ufffd", to);
        else
            fwrite(s, 1, (size_t)len, to);
        s += len ? len : 1;
    }
    fputc('"', to);
}

void perf_json_key(struct perf_json *j, const char *key)
{
    before_value(j);
    write_string(j->to, key);
    fputc(':', j->to);
    j->after_key = true;
}

void perf_json_text(struct perf_json *j, const char *text)
{
    if (!text) {
        perf_json_null(j);
        return;
    }
    before_value(j);
    write_string(j->to, text);
}

void perf_json_int(struct perf_json *j, int64_t value)
{
    before_value(j);
    fprintf(j->to, "%lld", (long long)value);
}

void perf_json_real(struct perf_json *j, double value)
{
    before_value(j);
    if (isfinite(value))
        fprintf(j->to, "%.6g", value);
    else
        fputs("null", j->to);
}

void perf_json_null(struct perf_json *j)
{
    before_value(j);
    fputs("null", j->to);
}
