/* SPDX-License-Identifier: Apache-2.0 */
/* The table. Widths and words are nccl-tests', whose output scripts parse. */
#include "config.h"
#include "bench/perf/report.h"
#include "bench/perf/sizes.h"
#include "lib/reduce/reduce.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void perf_report_open(struct perf_report *r, const struct perf_options *o, FILE *json)
{
    *r = (struct perf_report){.o = o, .json = json, .keep = json != NULL, .terminal = isatty(STDERR_FILENO)};
}

void perf_report_close(struct perf_report *r)
{
    free(r->lines);
    r->lines = NULL;
}

/* ---- progress ---- */

static void clear_progress(const struct perf_report *r)
{
    if (r->terminal) fprintf(stderr, "\r\033[K");
}

void perf_report_progress(struct perf_report *r, const struct perf_line *line, const char *what)
{
    char size[32];
    if (!r || !r->terminal) return;
    perf_size_format((double)line->bytes, size, sizeof(size));
    fprintf(stderr, "\r\033[K%s %s: size %d of %d, %s", line->collective, size, r->step + 1, r->steps, what);
    fflush(stderr);
}

/* ---- head ---- */

void perf_report_note(struct perf_report *r, const char *fmt, ...)
{
    va_list ap;
    if (!r) return;
    clear_progress(r);
    va_start(ap, fmt);
    fputs("# ", stdout);
    vprintf(fmt, ap);
    putchar('\n');
    fflush(stdout);
    va_end(ap);
}

static void print_settings(const struct perf_options *o, size_t max_bytes)
{
    bool factor = o->factor > 1;
    printf("# nThread %d nGpus %d minBytes %zu maxBytes %zu step: %zu(%s) warmup iters: %d iters: %d agg iters: %d "
           "validation: %d unalign: %d\n",
           o->threads, o->per_thread, o->min_bytes, max_bytes, factor ? (size_t)o->factor : o->step_bytes,
           factor ? "factor" : "bytes", o->warmup, o->iters, o->agg, o->check, o->unalign);
    if (o->blocking == 1) printf("# Blocking: wait and barrier after each operation (-z 1)\n");
    if (o->blocking == 2) printf("# Blocking: wait after each operation (-z 2)\n");
    if (o->blocking == 3) printf("# Blocking: wait and barrier after each iteration, barrier not timed (-z 3)\n");
    if (!o->null_stream) printf("# Streams: one of each rank (-y 0)\n");
    if (o->reg) printf("# Buffers: registered %s\n", o->reg == 2 ? "as windows (-R 2)" : "(-R 1)");
    if (o->mem == PERF_ALLOC) printf("# Buffers: from medleyMemAlloc\n");
}

void perf_report_devices(struct perf_report *r, struct perf_thread *t, bool lowered)
{
    if (!r) return;
    const struct perf_world *w = t->world;
    printf("# medley-perf %d.%d.%d, %d ranks in %d processes%s%s\n", MEDLEY_MAJOR, MEDLEY_MINOR, MEDLEY_PATCH,
           w->nranks, w->place.nprocs, w->place.launcher[0] ? " started by " : "", w->place.launcher);
    print_settings(r->o, t->max_bytes);
    if (lowered) printf("#\n# Reducing maxBytes to %zu due to memory limitation\n", t->max_bytes);
    if (r->o->corrupt >= 0) printf("# MEDLEY_PERF_CORRUPT: the results of rank %d are spoiled\n", r->o->corrupt);
    printf("#\n# Using devices\n");
    for (int k = 0; k < w->nranks; k++) {
        medleyRankInfo_t info = {.size = sizeof(info)};
        if (medleyCommGetInfo(t->ranks[0].comm, k, &info) != medleySuccess) continue;
        printf("#  Rank %2d Group %2d Pid %6d on %10s device %2d [%s] %s, by %s\n", k, 0, info.pid, info.host,
               info.local_rank, info.device, info.arch, info.transport);
    }
    fflush(stdout);
}

static void print_columns(const struct perf_options *o)
{
    const char *iters[3][5] = {
        {"", "", "", "", ""}, {"i_min", "i_max", "i_p99", "i_cv%", ""}, {"(us)", "(us)", "(us)", "(%)", ""}};
    const char *names[3][9] = {
        {"", "", "", "", "", "", "", "", ""},
        {"size", "count", "type", "redop", "root", o->cputime ? "cputime" : "time", "algbw", "busbw", "#wrong"},
        {"(B)", "(elements)", "", "", "", "(us)", "(GB/s)", "(GB/s)", ""}};
    printf("#\n# %10s  %12s  %8s  %6s  %6s", "", "", "", "", "");
    printf("  %-*s  %s\n", o->per_iter ? 67 : 31, "         out-of-place", "         in-place");
    for (int line = 1; line < 3; line++) {
        const char **n = names[line], **it = iters[line];
        printf("# %10s  %12s  %8s  %6s  %6s", n[0], n[1], n[2], n[3], n[4]);
        for (int half = 0; half < 2; half++) {
            printf("  %7s  %6s  %6s  %6s", n[5], n[6], n[7], n[8]);
            if (o->per_iter) printf("  %7s  %7s  %7s  %7s", it[0], it[1], it[2], it[3]);
        }
        printf("%s%s\n", o->timestamps ? "            " : "", o->timestamps && line == 1 ? "timestamp" : "");
    }
}

void perf_report_start(struct perf_report *r, const struct perf_coll *coll)
{
    if (!r) return;
    clear_progress(r);
    r->step = 0;
    printf("#\n# Collective test starting: %s\n", coll->name);
    print_columns(r->o);
    fflush(stdout);
}

/* ---- lines ---- */

/* As many decimals as fit. */
static void print_number(double value, int width)
{
    char text[64];
    for (int decimals = 2; decimals >= 0; decimals--)
        if (snprintf(text, sizeof(text), "%*.*f", width, decimals, value) <= width) {
            printf("  %s", text);
            return;
        }
    printf("  %*.*e", width, width >= 7 ? 1 : 0, value);
}

static void print_half(const struct perf_options *o, const struct perf_figures *f)
{
    if (!f->measured) {
        printf("  %7s  %6s  %6s  %6s", "N/A", "N/A", "N/A", "N/A");
        if (o->per_iter) printf("  %7s  %7s  %7s  %7s", "N/A", "N/A", "N/A", "N/A");
        return;
    }
    print_number(o->cputime ? f->issue_us : f->time_us, 7);
    print_number(f->algbw, 6);
    print_number(f->busbw, 6);
    if (f->checked)
        printf("  %6g", (double)f->wrong);
    else
        printf("  %6s", "N/A");
    if (!o->per_iter) return;
    print_number(f->min_us, 7);
    print_number(f->max_us, 7);
    print_number(f->p99_us, 7);
    print_number(f->variation, 7);
}

static void print_timestamp(void)
{
    char text[64] = "";
    time_t now = time(NULL);
    struct tm local;
    if (localtime_r(&now, &local)) strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local);
    printf("%21s", text);
}

static void keep_line(struct perf_report *r, const struct perf_line *line)
{
    if (!r->keep) return;
    if (r->nlines == r->room) {
        size_t room = r->room ? 2 * r->room : 64;
        struct perf_line *more = realloc(r->lines, room * sizeof(*more));
        if (!more) return; /* the file then lacks this line; the table has it */
        r->lines = more;
        r->room = room;
    }
    r->lines[r->nlines++] = *line;
}

void perf_report_line(struct perf_report *r, const struct perf_line *line)
{
    if (!r) return;
    clear_progress(r);
    printf("%12zu  %12zu  %8s  %6s  %6d", line->bytes, line->count, mdl_dtype_name(line->dtype),
           line->op >= 0 ? perf_op_name(line->op) : "none", line->root);
    print_half(r->o, &line->out_of_place);
    print_half(r->o, &line->in_place);
    if (r->o->timestamps) print_timestamp();
    putchar('\n');
    fflush(stdout);
    keep_line(r, line);
    r->step++;
}

/* ---- foot ---- */

void perf_report_end(struct perf_report *r, const struct perf_coll *coll, int bad, double busbw)
{
    if (!r) return;
    clear_progress(r);
    double gate = r->o->min_bw;
    printf("# %-20s : %d %s\n", "Out of bounds values", bad, bad ? "FAILED" : "OK");
    printf("# %-20s : %g %s\n", "Avg bus bandwidth", busbw, gate < 0 ? "" : busbw < 0.9 * gate ? "FAILED" : "OK");
    printf("#\n# Collective test concluded: %s\n", coll->name);
    fflush(stdout);
}

void perf_report_memory(struct perf_report *r, const double bytes[3])
{
    char text[4][32];
    if (!r) return;
    for (int i = 0; i < 3; i++) perf_size_format(bytes[i], text[i], sizeof(text[i]));
    perf_size_format(bytes[0] + bytes[1] + bytes[2], text[3], sizeof(text[3]));
    printf("# %-20s : Initialization %s | User-Allocated %s | Collective %s | Total %s\n", "Memory usage", text[0],
           text[1], text[2], text[3]);
    fflush(stdout);
}
