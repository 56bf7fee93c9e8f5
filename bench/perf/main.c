/* SPDX-License-Identifier: Apache-2.0 */
/*
 * medley-perf: how fast collectives are, and whether they are right. A drop-in for nccl-tests on host memory: its
 * flags, its columns, its formulas, its exit status.
 *
 * The processes come from a launcher, or from --local; the ranks are their threads. Every process ends with the same
 * status unless one fails, and then that one says why.
 */
#include "config.h"
#include "bench/perf/local.h"
#include "bench/perf/memory.h"
#include "bench/perf/report.h"
#include "bench/perf/run.h"
#include "bench/perf/world.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *thread_main(void *arg)
{
    perf_run(arg);
    return NULL;
}

/* Failure outweighs usage, and that wrong data. */
static int run_threads(struct perf_world *w)
{
    int started = 1, status = PERF_OK;
    for (; started < w->o->threads; started++) {
        int err = pthread_create(&w->threads[started].id, NULL, thread_main, &w->threads[started]);
        if (!err) continue;
        fprintf(stderr, "medley-perf: thread %d cannot be started: %s\n", started, strerror(err));
        return PERF_FAILED; /* the ranks of the others would wait for it: the process ends */
    }
    perf_run(&w->threads[0]);
    for (int i = 1; i < started; i++) pthread_join(w->threads[i].id, NULL);
    for (int i = 0; i < started; i++)
        if (w->threads[i].status > status) status = w->threads[i].status;
    return status;
}

static int run_world(struct perf_world *w, FILE *json)
{
    struct perf_report report;
    medleyResult_t result = perf_world_open(w);
    perf_report_open(&report, w->o, json);
    int status = PERF_FAILED;
    if (result == medleySuccess) {
        if (w->place.proc == 0) w->threads[0].report = &report;
        status = run_threads(w);
    }
    perf_report_close(&report);
    perf_world_close(w);
    return status;
}

/* Opened before anything is measured, so that a bad name costs no run. */
static FILE *open_json(const struct perf_world *w, bool *failed)
{
    const char *path = w->o->json;
    FILE *f = NULL;
    *failed = false;
    if (w->place.proc || !path[0]) return NULL;
    f = fopen(path, "we");
    *failed = !f;
    if (!f) fprintf(stderr, "medley-perf: -J, --output_file %s: %s\n", path, strerror(errno));
    return f;
}

static int close_json(const struct perf_world *w, FILE *f, int status)
{
    if (!f) return status;
    bool empty = ftell(f) <= 0;
    if (fclose(f) && !empty) {
        fprintf(stderr, "medley-perf: -J, --output_file %s: %s\n", w->o->json, strerror(errno));
        status = PERF_FAILED;
    }
    if (empty) unlink(w->o->json);
    return status;
}

static int run_process(const struct perf_options *o)
{
    struct perf_world w = {.o = o, .memory_start = perf_memory_now()};
    bool failed;
    if (perf_place_find(&w.place) != medleySuccess) {
        fprintf(stderr, "medley-perf: %s\n", medleyGetLastError(NULL));
        return PERF_FAILED;
    }
    FILE *json = open_json(&w, &failed);
    if (failed) return PERF_USAGE;
    return close_json(&w, json, run_world(&w, json));
}

/* Once, before there are ranks that would all say it. */
static int check_devices(const struct perf_options *o)
{
    long long nranks = (long long)o->local * o->threads * o->per_thread;
    if (perf_home_check(o->device, o->local > 0, nranks < INT_MAX ? (int)nranks : INT_MAX) == medleySuccess) return PERF_OK;
    fprintf(stderr, "medley-perf: %s: %s\n", o->device[0] ? "--device" : "MEDLEY_DEVICE", medleyGetLastError(NULL));
    return PERF_USAGE;
}

int main(int argc, char **argv)
{
    struct perf_options o;
    int status = perf_options_parse(&o, argc, argv);
    if (status != PERF_OK) return status;
    if (o.help) {
        perf_options_help(stdout);
        return PERF_OK;
    }
    if (o.version) {
        printf("medley-perf %d.%d.%d\n", MEDLEY_MAJOR, MEDLEY_MINOR, MEDLEY_PATCH);
        return PERF_OK;
    }
    if (!perf_local_is_child()) status = o.local ? perf_local_apart(check_devices, &o) : check_devices(&o);
    if (status != PERF_OK) return status;
    if (o.local && !perf_local_is_child()) return perf_local_run(&o, argv);
    status = run_process(&o);
    if (fflush(stdout) && status == PERF_OK) {
        fprintf(stderr, "medley-perf: the table cannot be written: %s\n", strerror(errno));
        status = PERF_FAILED;
    }
    return status;
}
