/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The document, schema 1. Of the environment only MEDLEY_* variables that differ from their defaults appear, and never
 * one that holds a key. With "all", each result also names its collective; with --matrix, each link also has what was
 * measured.
 */
#include "config.h"
#include "bench/perf/report_json.h"
#include "bench/perf/json.h"
#include "bench/perf/report.h"
#include "lib/base/config.h"
#include "lib/reduce/reduce.h"
#include <errno.h>
#include <string.h>

static void text_entry(struct perf_json *j, const char *key, const char *text)
{
    perf_json_key(j, key);
    perf_json_text(j, text);
}

static void int_entry(struct perf_json *j, const char *key, int64_t value)
{
    perf_json_key(j, key);
    perf_json_int(j, value);
}

static void real_entry(struct perf_json *j, const char *key, double value)
{
    perf_json_key(j, key);
    perf_json_real(j, value);
}

/* ---- who, over what ---- */

static void write_ranks(struct perf_json *j, const struct perf_links *l)
{
    perf_json_key(j, "ranks");
    perf_json_open(j, '[');
    for (int r = 0; r < l->nranks; r++) {
        perf_json_open(j, '{');
        int_entry(j, "rank", r);
        text_entry(j, "host", l->who[r].host);
        text_entry(j, "arch", l->who[r].arch);
        text_entry(j, "vendor", l->who[r].vendor);
        text_entry(j, "device", l->who[r].device);
        text_entry(j, "driver", l->who[r].driver);
        text_entry(j, "library", l->who[r].library);
        perf_json_close(j, '}');
    }
    perf_json_close(j, ']');
}

static void write_link(struct perf_json *j, const struct perf_links *l, const struct perf_matrix_cell *cells, int a,
                       int b)
{
    const struct perf_link *link = perf_links_get(l, a, b);
    perf_json_open(j, '{');
    int_entry(j, "a", a);
    int_entry(j, "b", b);
    text_entry(j, "transport", link->transport);
    text_entry(j, "interface", link->interface);
    if (cells) {
        real_entry(j, "latency_us", cells[(size_t)a * (size_t)l->nranks + (size_t)b].latency_us);
        real_entry(j, "bandwidth_gbps", cells[(size_t)a * (size_t)l->nranks + (size_t)b].gbps);
    }
    perf_json_close(j, '}');
}

/* A pair once, by its lower rank; measured pairs in both directions. */
static void write_links(struct perf_json *j, const struct perf_links *l, const struct perf_matrix_cell *cells)
{
    perf_json_key(j, "links");
    perf_json_open(j, '[');
    for (int a = 0; a < l->nranks; a++)
        for (int b = cells ? 0 : a + 1; b < l->nranks; b++)
            if (b != a) write_link(j, l, cells, a, b);
    perf_json_close(j, ']');
}

/* ---- settings ---- */

static void write_environment(struct perf_json *j)
{
    struct mdl_config here, defaults;
    struct mdl_config_row row;
    char value[MDL_CONFIG_TEXT_BYTES], usual[MDL_CONFIG_TEXT_BYTES];
    perf_json_key(j, "environment");
    perf_json_open(j, '{');
    bool good = mdl_config_load(&here) == medleySuccess;
    memset(&defaults, 0, sizeof(defaults));
    for (size_t i = 0; good && mdl_config_row(i, &row); i++) {
        if (row.secret || mdl_config_set(&defaults, row.env, "") != medleySuccess) continue;
        mdl_config_format(&here, i, value, sizeof(value));
        mdl_config_format(&defaults, i, usual, sizeof(usual));
        if (strcmp(value, usual)) text_entry(j, row.env, value);
    }
    perf_json_close(j, '}');
}

/* ---- results ---- */

static void write_figures(struct perf_json *j, const char *key, const struct perf_figures *f)
{
    perf_json_key(j, key);
    if (!f->measured) {
        perf_json_null(j);
        return;
    }
    perf_json_open(j, '{');
    real_entry(j, "time_us", f->time_us);
    perf_json_key(j, "min_us");
    f->has_iters ? perf_json_real(j, f->min_us) : perf_json_null(j);
    perf_json_key(j, "p99_us");
    f->has_iters ? perf_json_real(j, f->p99_us) : perf_json_null(j);
    real_entry(j, "algbw_gbps", f->algbw);
    real_entry(j, "busbw_gbps", f->busbw);
    perf_json_key(j, "wrong");
    f->checked ? perf_json_int(j, f->wrong) : perf_json_null(j);
    perf_json_close(j, '}');
}

static void write_line(struct perf_json *j, const struct perf_line *line, bool named)
{
    perf_json_open(j, '{');
    if (named) text_entry(j, "collective", line->collective);
    int_entry(j, "size_bytes", (int64_t)line->bytes);
    int_entry(j, "count", (int64_t)line->count);
    text_entry(j, "type", mdl_dtype_name(line->dtype));
    text_entry(j, "redop", line->op >= 0 ? perf_op_name(line->op) : "none");
    int_entry(j, "root", line->root);
    text_entry(j, "algorithm", line->algorithm[0] ? line->algorithm : NULL);
    perf_json_key(j, "predicted_us");
    line->predicted_us >= 0 ? perf_json_real(j, line->predicted_us) : perf_json_null(j);
    write_figures(j, "out_of_place", &line->out_of_place);
    write_figures(j, "in_place", &line->in_place);
    perf_json_close(j, '}');
}

static void write_results(struct perf_json *j, const struct perf_report *r)
{
    perf_json_key(j, "results");
    perf_json_open(j, '[');
    for (size_t i = 0; i < r->nlines; i++) write_line(j, &r->lines[i], !r->o->coll);
    perf_json_close(j, ']');
}

/* ---- the document ---- */

static medleyResult_t write_document(const struct perf_report *r, const char *collective, const struct perf_links *l,
                                     const struct perf_matrix_cell *cells, double busbw)
{
    struct perf_json j = {.to = r->json};
    char version[32];
    snprintf(version, sizeof(version), "%d.%d.%d", MEDLEY_MAJOR, MEDLEY_MINOR, MEDLEY_PATCH);
    perf_json_open(&j, '{');
    int_entry(&j, "schema", 1);
    text_entry(&j, "version", version);
    text_entry(&j, "collective", collective);
    int_entry(&j, "nranks", l->nranks);
    write_ranks(&j, l);
    write_links(&j, l, cells);
    write_environment(&j);
    write_results(&j, r);
    real_entry(&j, "average_busbw_gbps", busbw);
    perf_json_close(&j, '}');
    fputc('\n', r->json);
    if (fflush(r->json) || ferror(r->json)) return mdl_system_error(errno, "-J, --output_file %s", r->o->json);
    return medleySuccess;
}

medleyResult_t perf_report_json(struct perf_thread *t, double busbw)
{
    struct perf_links l;
    const struct perf_coll *coll = t->world->o->coll;
    MDL_TRY(perf_links_gather(t, &l));
    medleyResult_t result = medleySuccess;
    if (t->report) result = write_document(t->report, coll ? coll->name : "all", &l, NULL, busbw);
    perf_links_free(&l);
    return result;
}

medleyResult_t perf_report_json_matrix(struct perf_thread *t, const struct perf_links *l,
                                       const struct perf_matrix_cell *cells)
{
    return t->report && t->report->json ? write_document(t->report, "matrix", l, cells, 0) : medleySuccess;
}
