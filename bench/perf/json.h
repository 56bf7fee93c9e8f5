/* SPDX-License-Identifier: Apache-2.0 */
/* Writes JSON: commas by itself, every string escaped, numbers that are none as null. */
#ifndef PERF_JSON_H_
#define PERF_JSON_H_

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { PERF_JSON_DEPTH = 16 };
struct perf_json {
    FILE *to;
    int depth;
    bool some[PERF_JSON_DEPTH]; /* the open object or list has an entry */
    bool after_key;
};

void perf_json_open(struct perf_json *j, char bracket); /* '{' or '[' */
void perf_json_close(struct perf_json *j, char bracket);
void perf_json_key(struct perf_json *j, const char *key);
void perf_json_text(struct perf_json *j, const char *text); /* NULL: null */
void perf_json_int(struct perf_json *j, int64_t value);
void perf_json_real(struct perf_json *j, double value); /* not finite: null */
void perf_json_null(struct perf_json *j);

#endif
