/* SPDX-License-Identifier: Apache-2.0 */
/* See scene.h. */
#include "config.h"

#include "tests/fault/scene.h"
#include "tests/coll/slack.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

void scene_complain(int rank, const char *where, int line, const char *what, medleyComm_t comm)
{
    char own[512];

    snprintf(own, sizeof(own), "%s", medleyGetLastError(NULL)); /* the thread's, before the next call replaces it */
    fprintf(stderr, "rank %d: %s:%d: %s\n  error of the communicator: %s\n  of the thread: %s\n", rank, where, line,
            what, comm ? medleyGetLastError(comm) : "(none)", own);
}

double scene_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void scene_sleep_ms(double ms)
{
    struct timespec ts = {.tv_sec = (time_t)(ms / 1e3), .tv_nsec = (long)(ms * 1e6) % 1000000000};

    nanosleep(&ts, NULL);
}

double scene_slack(void) { return slack_now(); }

bool scene_long(void)
{
    const char *text = getenv("MDL_LONG");

    return text && *text && strcmp(text, "0") != 0;
}

bool scene_sanitized(void) { return SLACK_SANITIZED > 1; }

int scene_rounds(int n)
{
    const char *text = getenv("MDL_CHECK_SHORT");

    if (scene_long()) return n * 10;
    if (text && *text) n /= 10;
    n = (int)(n / SLACK_SANITIZED);
    return n > 0 ? n : 1;
}

void *scene_shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) abort();
    return p;
}

unsigned scene_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static int run_rounds(const struct scene *s, unsigned seed, int rounds)
{
    double start = scene_now();

    for (int i = 0; i < rounds; i++) {
        if (s->run(s, seed + (unsigned)i) == 0) continue;
        printf("FAIL %s with seed %u (again: %s -s %u -r 1)\n", s->name, seed + (unsigned)i, s->name,
               seed + (unsigned)i);
        return 1;
    }
    printf("ok %s, %d round%s, %.1f s\n", s->name, rounds, rounds == 1 ? "" : "s", scene_now() - start);
    fflush(stdout);
    return 0;
}

static bool chosen(const char *name, int argc, char **argv)
{
    if (optind == argc) return true;
    for (int a = optind; a < argc; a++) {
        if (strcmp(argv[a], name) == 0) return true;
    }
    return false;
}

int scene_main(int argc, char **argv, const struct scene *scenes, int n)
{
    unsigned seed = 1;
    int rounds = 0, failed = 0, ran = 0, opt;

    while ((opt = getopt(argc, argv, "s:r:")) != -1) {
        if (opt == 's')
            seed = (unsigned)strtoul(optarg, NULL, 0);
        else if (opt == 'r')
            rounds = atoi(optarg);
        else
            return 2;
    }
    printf("time factor %.1f\n", scene_slack());
    for (int i = 0; i < n; i++) {
        if (!chosen(scenes[i].name, argc, argv)) continue;
        ran++;
        failed += run_rounds(&scenes[i], seed, rounds ? rounds : scenes[i].rounds * (scene_long() ? 10 : 1));
    }
    if (!ran) printf("no scene of that name\n");
    return failed || !ran;
}
