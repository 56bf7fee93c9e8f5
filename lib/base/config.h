/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: one table (config.def) yields the structure, its defaults, the parser, `medley-info --env` and the man
 * page.
 *
 * A communicator reads the environment once, at its creation, into its own struct mdl_config, then lets medleyConfig_t
 * override it. Code is handed the structure and never calls getenv. Unknown MEDLEY_* variables are warned about once
 * per process, with the nearest known name.
 */
#ifndef MDL_BASE_CONFIG_H_
#define MDL_BASE_CONFIG_H_

#include "lib/base/status.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { MDL_CONFIG_TEXT_BYTES = 256 };

/* The kinds of value and the C types that hold them. TIME: milliseconds, given with ms, s or min (bare: ms). SIZE:
 * bytes, given with K, M, G. */
typedef bool mdl_config_BOOL;
typedef int mdl_config_INT;
typedef int64_t mdl_config_TIME;
typedef uint64_t mdl_config_SIZE;
typedef struct {
    char s[MDL_CONFIG_TEXT_BYTES];
} mdl_config_TEXT;

struct mdl_config {
#define MDL_CONFIG(kind, field, env, def, min, max, help) mdl_config_##kind field;
#include "lib/base/config.def"
#undef MDL_CONFIG
};

/* Fills `cfg` from the defaults and the environment; a malformed or out-of-range value is medleyInvalidArgument and
 * names the variable, its text and what is allowed. */
medleyResult_t mdl_config_load(struct mdl_config *cfg) MDL_MUST_USE;

/* Sets one field by its variable's name, by the same rules (for medleyConfig_t, tools and tests). */
medleyResult_t mdl_config_set(struct mdl_config *cfg, const char *env, const char *text) MDL_MUST_USE;

/* One row of the table, for tools; index from 0, returns false past the end. `secret` values are never printed. */
struct mdl_config_row {
    const char *env, *kind, *def, *help;
    bool secret;
};
bool mdl_config_row(size_t index, struct mdl_config_row *row);

/* The value of row `index` in `cfg` as text that mdl_config_set reads back ("(set)" for a secret). */
void mdl_config_format(const struct mdl_config *cfg, size_t index, char *text, size_t bytes);

#endif
