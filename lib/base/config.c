/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration table and its parser. config.def is expanded into one row per variable; a row knows where its field
 * lies in struct mdl_config, so that one function per kind of value reads and one writes all fields of that kind.
 *
 * An empty value means the default, for every kind. A value is checked in full before the field is written.
 */
#include <config.h> /* not "config.h": this folder has one of that name */
#include "lib/base/config.h"
#include "lib/base/log.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

extern char **environ;

enum kind { BOOL, INT, TIME, SIZE, TEXT };
static const char *const kind_names[] = {"BOOL", "INT", "TIME", "SIZE", "TEXT"};

struct row {
    enum kind kind;
    size_t offset;
    const char *env, *def;
    int64_t min, max;
    const char *help;
};
static const struct row rows[] = {
#define MDL_CONFIG(kind, field, env, def, min, max, help)                                                              \
    {kind, offsetof(struct mdl_config, field), env, def, min, max, help},
#include "lib/base/config.def"
#undef MDL_CONFIG
};
enum { NUM_ROWS = sizeof(rows) / sizeof(rows[0]) };

/* Values of such a row appear in no log, no error and no table. */
static bool is_secret(const struct row *row) { return row->offset == offsetof(struct mdl_config, comm_key); }

static const struct row *find_row(const char *env, size_t len)
{
    for (size_t i = 0; i < NUM_ROWS; i++)
        if (strlen(rows[i].env) == len && memcmp(rows[i].env, env, len) == 0) return &rows[i];
    return NULL;
}

/* ---- units ---- */

/* A suffix of a number and what it multiplies by; the first with a factor that divides a value prints it. */
struct unit {
    const char *suffix;
    int64_t factor;
};
static const struct unit time_units[] = {{"s", 1000}, {"ms", 1}, {"min", 60000}, {"", 1}, {NULL, 0}};
static const struct unit size_units[] = {{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(enum kind kind)
{
    return kind == TIME ? time_units : kind == SIZE ? size_units : no_units;
}

/* Whole decimal number, then one of the units; case does not matter. */
static bool parse_number(const char *text, const struct unit *units, int64_t *value)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || !isdigit((unsigned char)end[-1])) return false;
    while (*end == ' ') end++;
    for (; units->suffix; units++) {
        if (strcasecmp(end, units->suffix) != 0) continue;
        int64_t product;
        if (__builtin_mul_overflow((int64_t)n, units->factor, &product)) return false;
        *value = product;
        return true;
    }
    return false;
}

static void format_number(int64_t value, const struct unit *units, char *text, size_t bytes)
{
    while (units->factor > 1 && (value == 0 || value % units->factor)) units++;
    snprintf(text, bytes, "%" PRId64 "%s", value / units->factor, units->suffix);
}

static bool parse_bool(const char *text, bool *value)
{
    static const char *const words[][2] = {{"0", "1"}, {"false", "true"}, {"no", "yes"}, {"off", "on"}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        for (int v = 0; v < 2; v++) {
            if (strcasecmp(text, words[i][v]) != 0) continue;
            *value = v;
            return true;
        }
    }
    return false;
}

/* ---- one value ---- */

/* Says what a value of this row may be. */
static void describe_allowed(const struct row *row, char *text, size_t bytes)
{
    const struct unit *units = units_of(row->kind);
    char min[32], max[32];
    format_number(row->min, units, min, sizeof(min));
    format_number(row->max, units, max, sizeof(max));
    switch (row->kind) {
    case BOOL: snprintf(text, bytes, "0 or 1 (or no, yes, off, on, false, true)"); break;
    case INT: snprintf(text, bytes, "a whole number from %s to %s", min, max); break;
    case TIME: snprintf(text, bytes, "a time from %s to %s, in ms, s or min (without a unit: ms)", min, max); break;
    case SIZE: snprintf(text, bytes, "a size from %s to %s, in bytes or with K, M or G", min, max); break;
    case TEXT:
        snprintf(text, bytes, "a text of at most %d bytes", row->max ? (int)row->max : MDL_CONFIG_TEXT_BYTES - 1);
        break;
    }
}

static medleyResult_t refuse(const struct row *row, const char *text)
{
    char allowed[128];
    describe_allowed(row, allowed, sizeof(allowed));
    if (is_secret(row)) return mdl_error(medleyInvalidArgument, "%s: the value must be %s", row->env, allowed);
    return mdl_error(medleyInvalidArgument, "%s: '%.80s' must be %s", row->env, text, allowed);
}

/* Writes the field; false: `text` is no such value, or out of range. */
static bool set_field(const struct row *row, const char *text, void *field)
{
    int64_t number = 0;
    if (row->kind == BOOL) return parse_bool(text, field);
    if (row->kind == TEXT) {
        size_t len = strlen(text);
        if (len >= MDL_CONFIG_TEXT_BYTES || (row->max && len > (size_t)row->max)) return false;
        memset(field, 0, sizeof(mdl_config_TEXT));
        memcpy(((mdl_config_TEXT *)field)->s, text, len);
        return true;
    }
    if (!parse_number(text, units_of(row->kind), &number) || number < row->min || number > row->max) return false;
    if (row->kind == INT)
        *(mdl_config_INT *)field = (int)number;
    else if (row->kind == TIME)
        *(mdl_config_TIME *)field = number;
    else
        *(mdl_config_SIZE *)field = (uint64_t)number;
    return true;
}

/* Cuts the blanks at both ends off `text`; false if it does not fit. */
static bool trim(const char *text, char *out, size_t bytes)
{
    while (isspace((unsigned char)*text)) text++;
    size_t len = strlen(text);
    while (len && isspace((unsigned char)text[len - 1])) len--;
    if (len >= bytes) return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

static medleyResult_t set_row(struct mdl_config *cfg, const struct row *row, const char *text)
{
    char value[MDL_CONFIG_TEXT_BYTES];
    if (!trim(text, value, sizeof(value))) return refuse(row, text);
    const char *from = value[0] ? value : row->def;
    return set_field(row, from, (char *)cfg + row->offset) ? medleySuccess : refuse(row, text);
}

medleyResult_t mdl_config_set(struct mdl_config *cfg, const char *env, const char *text)
{
    const struct row *row = find_row(env, strlen(env));
    if (!row) return mdl_error(medleyInvalidArgument, "%s: there is no such variable (see medley-info --env)", env);
    return set_row(cfg, row, text);
}

/* ---- the environment ---- */

/* Edit distance, case ignored; names longer than a row of the matrix count as far away. */
static int distance(const char *a, size_t a_len, const char *b)
{
    enum { WIDTH = 64 };
    size_t b_len = strlen(b);
    if (b_len >= WIDTH) return INT_MAX;
    int line[WIDTH];
    for (size_t j = 0; j <= b_len; j++) line[j] = (int)j;
    for (size_t i = 1; i <= a_len; i++) {
        int diagonal = line[0];
        line[0] = (int)i;
        for (size_t j = 1; j <= b_len; j++) {
            int best = diagonal + (toupper((unsigned char)a[i - 1]) != toupper((unsigned char)b[j - 1]));
            if (line[j] + 1 < best) best = line[j] + 1;
            if (line[j - 1] + 1 < best) best = line[j - 1] + 1;
            diagonal = line[j];
            line[j] = best;
        }
    }
    return line[b_len];
}

static const struct row *nearest_row(const char *env, size_t len)
{
    const struct row *nearest = NULL;
    int best = INT_MAX;
    for (size_t i = 0; i < NUM_ROWS && len < 64; i++) {
        int d = distance(env, len, rows[i].env);
        if (d >= best) continue;
        best = d;
        nearest = &rows[i];
    }
    /* Farther than this it is another word, not a slip. */
    return best <= 4 ? nearest : NULL;
}

/* A mistyped variable would otherwise be ignored in silence. Its value is not printed: it may be a mistyped secret.
 * MEDLEY_PERF_* are medley-perf's own. */
static void warn_unknown(void)
{
    for (char **entry = environ; entry && *entry; entry++) {
        size_t len = strcspn(*entry, "=");
        if (strncmp(*entry, "MEDLEY_", 7) != 0 || strncmp(*entry, "MEDLEY_PERF_", 12) == 0) continue;
        if (find_row(*entry, len)) continue;
        const struct row *nearest = nearest_row(*entry, len);
        int shown = len < 80 ? (int)len : 80;
        if (nearest)
            MDL_WARN(MDL_ENV, "%.*s is not known and was ignored: did you mean %s?", shown, *entry, nearest->env);
        else
            MDL_WARN(MDL_ENV, "%.*s is not known and was ignored (see medley-info --env)", shown, *entry);
    }
}

medleyResult_t mdl_config_load(struct mdl_config *cfg)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set_explicit(&warned, memory_order_relaxed)) warn_unknown();

    struct mdl_config loaded;
    memset(&loaded, 0, sizeof(loaded));
    for (size_t i = 0; i < NUM_ROWS; i++) {
        const char *text = getenv(rows[i].env);
        MDL_TRY(set_row(&loaded, &rows[i], text ? text : ""));
    }
    *cfg = loaded;
    return medleySuccess;
}

/* ---- for tools ---- */

bool mdl_config_row(size_t index, struct mdl_config_row *row)
{
    if (index >= NUM_ROWS) return false;
    const struct row *r = &rows[index];
    *row = (struct mdl_config_row){r->env, kind_names[r->kind], r->def, r->help, is_secret(r)};
    return true;
}

void mdl_config_format(const struct mdl_config *cfg, size_t index, char *text, size_t bytes)
{
    if (bytes) text[0] = '\0';
    if (index >= NUM_ROWS) return;
    const struct row *row = &rows[index];
    const void *field = (const char *)cfg + row->offset;
    switch (row->kind) {
    case BOOL: snprintf(text, bytes, "%d", *(const mdl_config_BOOL *)field); break;
    case INT: snprintf(text, bytes, "%d", *(const mdl_config_INT *)field); break;
    case TIME: format_number(*(const mdl_config_TIME *)field, time_units, text, bytes); break;
    case SIZE: format_number((int64_t) * (const mdl_config_SIZE *)field, size_units, text, bytes); break;
    case TEXT: {
        const char *s = ((const mdl_config_TEXT *)field)->s;
        snprintf(text, bytes, "%s", is_secret(row) && *s ? "(set)" : s);
        break;
    }
    }
}
