/* SPDX-License-Identifier: Apache-2.0 */
/*
 * medley-info: what this build is, what this machine has, what Medley would use, and what it would choose elsewhere. It
 * reads the same tables as the library. The flags are those of options.def.
 */
#include "config.h"
#include "bench/info/info.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { USAGE = 2 };

static const struct row {
    const char *name, *value, *help;
    size_t offset;
    int def, max;
} rows[] = {
#define INFO_FLAG(name, field, value, def, max, help)                                                                  \
    {name, value, help, offsetof(struct info_options, field), def, max},
#include "bench/info/options.def"
#undef INFO_FLAG
};
enum { NUM_ROWS = sizeof(rows) / sizeof(rows[0]) };

static int usage(FILE *to, int status)
{
    fprintf(to, "usage: medley-info [flags]\n\n"
                "Without a flag: version, build, processors, network interfaces, transports, devices,\n"
                "algorithms.\n\n");
    for (int i = 0; i < NUM_ROWS; i++) {
        int width = fprintf(to, "  --%s%s%s", rows[i].name, rows[i].value[0] ? " " : "", rows[i].value);
        fprintf(to, "%*s%s", 26 - width, "", rows[i].help);
        if (rows[i].value[0] && rows[i].max) fprintf(to, " (%d)", rows[i].def);
        fputc('\n', to);
    }
    return status;
}

static int take_number(const struct row *row, const char *text, int *field)
{
    char *rest;
    errno = 0;
    long n = strtol(text, &rest, 10);
    if (rest == text || *rest || errno || n < (row->def > 0) || n > row->max) {
        fprintf(stderr, "medley-info: --%s: '%s' is not a whole number from %d to %d\n", row->name, text, row->def > 0,
                row->max);
        return USAGE;
    }
    *field = (int)n;
    return 0;
}

/* One flag at argv[*at], with its value. */
static int take_flag(struct info_options *o, char **argv, int *at)
{
    const char *word = argv[*at];
    for (int i = 0; i < NUM_ROWS; i++) {
        void *field = (char *)o + rows[i].offset;
        if (strncmp(word, "--", 2) || strcmp(word + 2, rows[i].name)) continue;
        if (!rows[i].value[0]) {
            *(int *)field = 1;
            return 0;
        }
        if (!argv[*at + 1]) {
            fprintf(stderr, "medley-info: %s needs a value (%s)\n", word, rows[i].value);
            return USAGE;
        }
        if (rows[i].max) return take_number(&rows[i], argv[++*at], field);
        *(const char **)field = argv[++*at];
        return 0;
    }
    fprintf(stderr, "medley-info: '%s' is no flag\n\n", word);
    return usage(stderr, USAGE);
}

static int take_flags(struct info_options *o, int argc, char **argv)
{
    for (int i = 0; i < NUM_ROWS; i++)
        if (rows[i].max) *(int *)((char *)o + rows[i].offset) = rows[i].value[0] ? rows[i].def : 0;
    for (int at = 1; at < argc; at++) {
        int status = take_flag(o, argv, &at);
        if (status) return status;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct info_options o = {0};
    struct mdl_config cfg;
    int status = take_flags(&o, argc, argv);
    if (status) return status;
    if (o.help) return usage(stdout, 0);
    if (o.version) {
        printf("medley-info %d.%d.%d\n", MEDLEY_MAJOR, MEDLEY_MINOR, MEDLEY_PATCH);
        return 0;
    }
    if (mdl_config_load(&cfg) != medleySuccess) return 1; /* it has said why */
    if (o.simulate) return info_simulate(&cfg, &o);
    if (o.env)
        info_show_env(&cfg);
    else if (!info_show(&cfg))
        status = 1;
    return fflush(stdout) ? 1 : status;
}
