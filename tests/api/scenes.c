/* SPDX-License-Identifier: Apache-2.0 */
/* See scenes.h. Ids that ranks share lie in memory that is mapped before the ranks start. */
#include "config.h"

#include "tests/api/scenes.h"

#include <fnmatch.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IDS = 8, SECONDS = 20 };

static struct shared {
    medleyUniqueId id[IDS];
    int state[IDS]; /* 0: not yet, 1: there, 2: it failed */
} * shared;

const struct api_scene *api_current;

bool api_says(medleyComm_t comm, const char *part)
{
    const char *text = medleyGetLastError(comm);

    if (strstr(text, part)) return true;
    fprintf(stderr, "\"%s\" is not in: %s\n", part, text);
    return false;
}

medleyResult_t api_state_after(medleyComm_t comm, medleyResult_t now, double seconds)
{
    double end = scene_now() + seconds * scene_slack();
    medleyResult_t state = now;

    while (state == now && scene_now() < end) {
        if (medleyCommGetAsyncError(comm, &state) != medleySuccess) return medleyInternalError;
        if (state == now) scene_sleep_ms(1);
    }
    return state;
}

int api_works(int rank, medleyComm_t comm)
{
    int one = 1, sum = 0, count = 0;

    OK(medleyCommCount(comm, &count));
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL));
    CHECK(sum == count);
    return 0;
}

medleyResult_t api_share_id(struct ranks_world *w, int rank, int slot, medleyUniqueId *id)
{
    int *state = &shared->state[slot];

    if (rank == slot % w->nranks) {
        medleyResult_t res = medleyGetUniqueId(&shared->id[slot]);
        __atomic_store_n(state, res == medleySuccess ? 1 : 2, __ATOMIC_RELEASE);
    }
    while (!__atomic_load_n(state, __ATOMIC_ACQUIRE)) sched_yield();
    *id = shared->id[slot];
    return *state == 1 ? medleySuccess : medleySystemError;
}

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    const struct api_scene *s = arg;
    medleyComm_t comm = NULL;
    int res;

    if (!(s->flags & BARE)) {
        OK(ranks_comm(w, rank, NULL, &comm));
        ranks_meet(w, 0); /* a fault of one shall not find another still in initialisation */
    }
    res = s->run(w, rank, comm);
    if (s->flags & (BARE | GONE)) return res;
    if (res || s->flags & FATAL)
        OK(medleyCommAbort(comm));
    else
        OK(medleyCommDestroy(comm));
    return res;
}

static int run_scene(const struct api_scene *s, int n, bool threads)
{
    double start = scene_now();
    int failed;

    if (threads && s->flags & PROCESSES) return 0;
    if (s->flags & ALONE) n = 1;
    memset(shared, 0, sizeof(*shared));
    api_current = s;
    failed = ranks_run(n, threads, rank_main, (void *)(uintptr_t)s, (int)(SECONDS * scene_slack()), NULL);
    printf("%s %s (%d ranks as %s), %.1f s\n", failed ? "FAIL" : "ok", s->name, n, threads ? "threads" : "processes",
           scene_now() - start);
    fflush(stdout);
    return failed != 0;
}

int api_main(int argc, char **argv, const struct api_scene *scenes, int n)
{
    int nranks = 4, opt, failed = 0, ran = 0;
    bool threads = false;

    while ((opt = getopt(argc, argv, "n:t")) != -1) {
        if (opt == 'n')
            nranks = atoi(optarg);
        else if (opt == 't')
            threads = true;
        else
            return 2;
    }
    shared = scene_shared(sizeof(*shared));
    for (int s = 0; s < n; s++) {
        bool chosen = optind == argc && !(scenes[s].flags & BY_NAME);
        for (int a = optind; a < argc; a++) chosen |= fnmatch(argv[a], scenes[s].name, 0) == 0;
        if (!chosen) continue;
        ran++;
        failed += run_scene(&scenes[s], nranks, threads);
    }
    if (!ran) printf("no scene of that name\n");
    return failed || !ran;
}
