/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of the command line. getopt_long finds the flags; each value is then read by its row's kind, and whatever
 * is wrong ends in one line that names the flag, what was given and what is allowed.
 */
#include "config.h"
#include "bench/perf/options.h"
#include "bench/perf/colls.h"
#include "bench/perf/sizes.h"
#include "lib/base/status.h"
#include "lib/reduce/reduce.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind { INT, SIZE, OP, TYPE, ROOT, MEM, TEXT, FLAG, REFUSED, HEAD };

static const struct row {
    int letter; /* 0: only a long name */
    enum kind kind;
    const char *name, *value, *def, *help;
    size_t offset;
    long min, max;
} rows[] = {
#define PERF_HEAD(text) {0, HEAD, text, NULL, NULL, NULL, 0, 0, 0},
#define PERF_FLAG(letter, name, kind, field, value, def, min, max, help)                                               \
    {letter, kind, name, value, def, help, offsetof(struct perf_options, field), min, max},
#define PERF_REFUSED(letter, name, why) {letter, REFUSED, name, "N", NULL, why, 0, 0, 0},
#include "bench/perf/options.def"
#undef PERF_HEAD
#undef PERF_FLAG
#undef PERF_REFUSED
};
enum { NUM_ROWS = sizeof(rows) / sizeof(rows[0]), LONG_ONLY = 256 };

static int refuse(const char *fmt, ...) MDL_PRINTF(1, 2);
static int refuse(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("medley-perf: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs(" (medley-perf --help lists the flags)\n", stderr);
    va_end(ap);
    return PERF_USAGE;
}

/* ---- names of operations and types ---- */

static const char *const op_names[PERF_NUM_OPS] = {"sum", "prod", "max", "min", "avg", "mulsum"};

const char *perf_op_name(int op) { return op_names[op]; }

static bool parse_op(const char *text, int *op)
{
    for (int i = 0; i < PERF_NUM_OPS; i++) {
        if (strcmp(text, op_names[i])) continue;
        *op = i;
        return true;
    }
    return false;
}

static bool parse_type(const char *text, int *dtype)
{
    static const struct {
        const char *name;
        medleyDataType_t dtype;
    } others[] = {{"char", medleyChar},          {"int", medleyInt},
                  {"float16", medleyHalf},       {"fp16", medleyHalf},
                  {"float32", medleyFloat},      {"fp32", medleyFloat},
                  {"float64", medleyDouble},     {"fp64", medleyDouble},
                  {"bf16", medleyBfloat16},      {"e4m3", medleyFloat8e4m3},
                  {"fp8e4m3", medleyFloat8e4m3}, {"e5m2", medleyFloat8e5m2},
                  {"fp8e5m2", medleyFloat8e5m2}};
    for (int i = 0; i < medleyNumTypes; i++) {
        if (strcmp(text, mdl_dtype_name((medleyDataType_t)i))) continue;
        *dtype = i;
        return true;
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(text, others[i].name)) continue;
        *dtype = (int)others[i].dtype;
        return true;
    }
    return false;
}

/* ---- one value ---- */

static bool parse_int(const char *text, long min, long max, int *value)
{
    char *rest;
    errno = 0;
    long n = strtol(text, &rest, 0);
    if (rest == text || *rest || errno || n < min || n > max) return false;
    *value = (int)n;
    return true;
}

static bool parse_mem(const char *text, int *mem)
{
    *mem = strcmp(text, "alloc") ? PERF_MALLOC : PERF_ALLOC;
    return !strcmp(text, "alloc") || !strcmp(text, "malloc");
}

static bool is_all(const char *text) { return !strcmp(text, "all") || !strcmp(text, "-1"); }

static bool set_value(const struct row *row, const char *text, void *field)
{
    bool may_be_all = row->kind == OP || row->kind == TYPE || row->kind == ROOT;
    if (may_be_all && is_all(text)) {
        *(int *)field = PERF_ALL;
        return true;
    }
    switch (row->kind) {
    case INT: return parse_int(text, row->min, row->max, field);
    case SIZE: return perf_size_parse(text, field);
    case OP: return parse_op(text, field);
    case TYPE: return parse_type(text, field);
    case ROOT: return parse_int(text, 0, INT_MAX, field);
    case MEM: return parse_mem(text, field);
    case TEXT: *(const char **)field = text; return *text != 0;
    default: *(bool *)field = true; return true;
    }
}

static void describe_allowed(const struct row *row, char *text, size_t room)
{
    switch (row->kind) {
    case INT: snprintf(text, room, "a whole number from %ld to %ld", row->min, row->max); break;
    case SIZE: snprintf(text, room, "a size in bytes, or with K, M or G"); break;
    case OP: snprintf(text, room, "sum, prod, min, max, avg, mulsum or all"); break;
    case ROOT: snprintf(text, room, "a rank or all"); break;
    case MEM: snprintf(text, room, "malloc or alloc"); break;
    case TEXT: snprintf(text, room, "a text"); break;
    default: snprintf(text, room, "one of those that --help lists"); break;
    }
}

/* "-b, --minbytes" */
static void name_flag(const struct row *row, char *text, size_t room)
{
    if (row->letter)
        snprintf(text, room, "-%c, --%s", row->letter, row->name);
    else
        snprintf(text, room, "--%s", row->name);
}

static int take_flag(struct perf_options *o, const struct row *row, const char *value)
{
    char flag[64], allowed[128];
    name_flag(row, flag, sizeof(flag));
    /* Scripts spell defaults out: a 0 asks for nothing. */
    if (row->kind == REFUSED && (row->letter == 'G' || row->letter == 'D') && !strcmp(value, "0")) return PERF_OK;
    if (row->kind == REFUSED) return refuse("%s %s is refused: %s", flag, value, row->help);
    if (!set_value(row, value, (char *)o + row->offset)) {
        describe_allowed(row, allowed, sizeof(allowed));
        return refuse("%s: '%s' is not %s", flag, value, allowed);
    }
    if (row->letter == 'b') o->min_given = true;
    if (row->letter == 'e') o->max_given = true;
    return PERF_OK;
}

/* ---- the command line ---- */

static void list_flags(char *letters, struct option *longs)
{
    *letters++ = ':'; /* a missing value is told from an unknown flag */
    for (int i = 0; i < NUM_ROWS; i++) {
        if (rows[i].kind == HEAD) continue;
        int has_value = rows[i].kind == FLAG ? no_argument : required_argument;
        *longs++ = (struct option){rows[i].name, has_value, NULL, LONG_ONLY + i};
        if (!rows[i].letter) continue;
        *letters++ = (char)rows[i].letter;
        if (has_value == required_argument) *letters++ = ':';
    }
    *letters = 0;
    *longs = (struct option){0};
}

static const struct row *find_flag(int code)
{
    for (int i = 0; i < NUM_ROWS; i++)
        if (rows[i].kind != HEAD && (code == LONG_ONLY + i || (rows[i].letter && code == rows[i].letter)))
            return &rows[i];
    return NULL;
}

static int refuse_flag(int code, const char *word)
{
    char flag[64];
    const struct row *row = find_flag(optopt);
    if (code == ':' && row) {
        name_flag(row, flag, sizeof(flag));
        return refuse("%s needs a value (%s)", flag, row->value);
    }
    if (row) return refuse("--%s takes no value", row->name);
    if (optopt) return refuse("-%c is no flag", optopt);
    return refuse("%s is no flag, or the beginning of several", word);
}

static int take_flags(struct perf_options *o, int argc, char **argv)
{
    char letters[2 * NUM_ROWS + 2];
    struct option longs[NUM_ROWS + 1];
    int code, status = PERF_OK;
    list_flags(letters, longs);
    opterr = 0;
    optind = 1;
    while (status == PERF_OK && (code = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        const struct row *row = find_flag(code);
        status = row ? take_flag(o, row, optarg ? optarg : "") : refuse_flag(code, argv[optind - 1]);
    }
    return status;
}

/* A link all_reduce_perf to medley-perf is nccl-tests' program of that name. */
static const struct perf_coll *coll_of_program(const char *path)
{
    char name[64];
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t len = strlen(base);
    if (len <= 5 || len >= sizeof(name) || strcmp(base + len - 5, "_perf")) return NULL;
    snprintf(name, sizeof(name), "%.*s", (int)(len - 5), base);
    return perf_coll_find(name);
}

static int take_collective(struct perf_options *o, int argc, char **argv)
{
    const char *name = optind < argc ? argv[optind] : NULL;
    o->coll = coll_of_program(argv[0]);
    if (optind + 1 < argc) return refuse("'%s' was not expected after '%s'", argv[optind + 1], name);
    if (o->help || o->version || (!name && (o->matrix || o->coll))) return PERF_OK;
    if (!name) return refuse("which collective? Give its name, or all");
    o->coll = perf_coll_find(name);
    if (o->coll || !strcmp(name, "all")) return PERF_OK;
    return refuse("'%s' is no collective", name);
}

/* ---- what must fit together ---- */

static int check_sizes(struct perf_options *o)
{
    if (o->matrix && !o->min_given) o->min_bytes = 8;
    if (o->matrix && !o->max_given) o->max_bytes = 4 << 20;
    if (o->min_bytes > o->max_bytes)
        return refuse("-b, --minbytes %zu is more than -e, --maxbytes %zu", o->min_bytes, o->max_bytes);
    if (o->min_bytes == o->max_bytes || o->matrix) return PERF_OK;
    if (o->factor > 1 && !o->min_bytes) return refuse("-b, --minbytes 0 does not grow by -f, --stepfactor");
    if (o->factor == 1 && !o->step_bytes) return refuse("-i, --stepbytes 0 leads nowhere");
    return PERF_OK;
}

static int check_together(struct perf_options *o)
{
    if (o->skip && !o->per_iter) return refuse("-K, --per_iter_skip needs -I 1");
    if (o->skip >= o->iters) return refuse("-K, --per_iter_skip %d leaves none of %d iterations", o->skip, o->iters);
    if (o->per_iter && !o->null_stream && !o->blocking)
        return refuse("-I, --per_iter_timing on a stream (-y 0) needs -z 1, 2 or 3: host events carry no time");
    if (o->json[0] && !o->cycles) return refuse("-J, --output_file writes at the end, which -N 0 never reaches");
    if (o->device[0] && (o->mem == PERF_ALLOC || o->reg))
        return refuse("--mem alloc and -R are for memory of the host, which --device does not use");
    if (o->matrix && o->device[0]) return refuse("--matrix is for hosts: it times calls that wait");
    if (o->matrix && o->per_thread > 1)
        return refuse("--matrix needs -g 1: a thread with several ranks cannot wait for each of them");
    if (o->matrix && o->coll) return refuse("--matrix is no collective's: leave '%s' out", o->coll->name);
    if (o->agg > 1 && o->coll && o->coll->steps)
        return refuse("-m, --agg_iters: the steps of %s need each other and cannot be in one group", o->coll->name);
    if (o->reg == 2) o->mem = PERF_ALLOC;
    return check_sizes(o);
}

/* ---- the environment ---- */

static int take_min_bw(struct perf_options *o)
{
    const char *name = getenv("MEDLEY_PERF_MIN_BW") ? "MEDLEY_PERF_MIN_BW" : "NCCL_TESTS_MIN_BW";
    const char *text = getenv(name);
    char *rest;
    o->min_bw = -1;
    if (!text || !*text) return PERF_OK;
    o->min_bw = strtod(text, &rest);
    if (rest == text || *rest || !isfinite(o->min_bw) || o->min_bw < 0)
        return refuse("%s='%s' is not a bandwidth in GB/s", name, text);
    return PERF_OK;
}

/* RANK or RANK:SIZE */
static int take_corrupt(struct perf_options *o)
{
    const char *text = getenv("MEDLEY_PERF_CORRUPT");
    char *rest;
    o->corrupt = -1;
    if (!text || !*text) return PERF_OK;
    long rank = strtol(text, &rest, 10);
    bool good = rest != text && rank >= 0 && rank <= INT_MAX && (!*rest || *rest == ':');
    if (good && *rest) good = perf_size_parse(rest + 1, &o->corrupt_size);
    if (!good) return refuse("MEDLEY_PERF_CORRUPT='%s' is not RANK or RANK:SIZE", text);
    o->corrupt = (int)rank;
    return PERF_OK;
}

/* The library leaves MEDLEY_PERF_* to this program. */
static void warn_unknown(void)
{
    static const char *const known[] = {"MEDLEY_PERF_MIN_BW=", "MEDLEY_PERF_CORRUPT=", "MEDLEY_PERF_LOCAL="};
    for (char **entry = environ; *entry; entry++) {
        bool good = strncmp(*entry, "MEDLEY_PERF_", 12) != 0;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            good |= !strncmp(*entry, known[i], strlen(known[i]));
        if (!good)
            fprintf(stderr, "medley-perf: %.*s is not known and was ignored\n", (int)strcspn(*entry, "="), *entry);
    }
}

int perf_options_parse(struct perf_options *o, int argc, char **argv)
{
    *o = (struct perf_options){.json = "", .device = "", .corrupt = -1};
    for (int i = 0; i < NUM_ROWS; i++)
        if (rows[i].def && rows[i].def[0] &&
            !set_value(&(struct row){.kind = rows[i].kind, .max = LONG_MAX}, rows[i].def, (char *)o + rows[i].offset))
            return refuse("--%s: its default is broken", rows[i].name);
    int status = take_flags(o, argc, argv);
    if (status == PERF_OK) status = take_collective(o, argc, argv);
    if (status != PERF_OK || o->help || o->version) return status;
    status = check_together(o);
    warn_unknown();
    if (status == PERF_OK) status = take_min_bw(o);
    if (status == PERF_OK) status = take_corrupt(o);
    return status;
}

/* ---- help ---- */

/* Prints `text` in lines of at most 110 columns; `indent` columns are taken already. */
static void print_wrapped(FILE *to, const char *text, int indent)
{
    for (int column = indent; *text; text += strspn(text, " ")) {
        int word = (int)strcspn(text, " ");
        if (column > indent && column + 1 + word > 110)
            column = fprintf(to, "\n%*s", indent, "") - 1;
        else if (column > indent)
            column += fprintf(to, " ");
        column += fprintf(to, "%.*s", word, text);
        text += word;
    }
    fputc('\n', to);
}

static void print_row(FILE *to, const struct row *row)
{
    char left[64], help[256];
    if (row->kind == HEAD) {
        fprintf(to, "\n%s:\n", row->name);
        return;
    }
    if (row->letter)
        snprintf(left, sizeof(left), "-%c, --%s %s", row->letter, row->name, row->value);
    else
        snprintf(left, sizeof(left), "    --%s %s", row->name, row->value);
    bool has_default = row->def && row->def[0] && strcmp(row->name, "local");
    snprintf(help, sizeof(help), "%s%s%s%s", row->help, has_default ? " (" : "", has_default ? row->def : "",
             has_default ? ")" : "");
    fprintf(to, "  %-34s", left);
    print_wrapped(to, help, 36);
}

static void print_refused(FILE *to)
{
    char text[64];
    fprintf(to, "\nrefused, because they mean nothing on hosts:\n");
    for (int i = 0; i < NUM_ROWS; i++) {
        if (rows[i].kind != REFUSED) continue;
        name_flag(&rows[i], text, sizeof(text));
        fprintf(to, "  %-34s%s\n", text, rows[i].help);
    }
}

void perf_options_help(FILE *to)
{
    char names[512] = "";
    for (const struct perf_coll *c = perf_colls; c->name; c++)
        snprintf(names + strlen(names), sizeof(names) - strlen(names), " %s", c->name);
    fprintf(to, "usage: medley-perf COLLECTIVE [flags]\n       medley-perf --matrix [flags]\n\n"
                "Measures a collective with nccl-tests' flags, columns and formulas. COLLECTIVE is all, or one of\n  ");
    print_wrapped(to, names + 1, 2);
    fprintf(to, "\nRanks: --local N processes here, or those of mpirun, srun or torchrun, times -t, times -g.\n"
                "Exit status: 0 right; 1 wrong data, or below 0.9 x MEDLEY_PERF_MIN_BW (GB/s); 2 usage; 3 failed.\n");
    for (int i = 0; i < NUM_ROWS; i++)
        if (rows[i].kind != REFUSED) print_row(to, &rows[i]);
    print_refused(to);
}
