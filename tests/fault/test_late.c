/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks that are stopped or late. Silence beyond MEDLEY_DEAD_AFTER is death, shorter silence is nothing; a rank that
 * has not made its call is warned about by name and waited for; MEDLEY_TIMEOUT ends the wait, with its name too.
 */
#include "config.h"

#include "tests/coll/ranks.h"
#include "tests/fault/scene.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_RANKS = 8, WATCHDOG_S = 60 };

struct plot {
    int n;
    const char *algo; /* NULL: any */
    bool messages;    /* a chain of messages instead of a collective */
};

struct stage {
    const struct plot *plot;
    int victim;
    volatile int working, warned, released;
    volatile int failed; /* ranks that have their error */
    volatile double stopped_at, error_at[MAX_RANKS];
};
static struct stage *stage;

/* ---- work ---- */

static medleyResult_t work(medleyComm_t comm, int rank, int n, int *in, int *out, size_t count)
{
    medleyResult_t res = medleySuccess;

    if (!stage->plot->messages) return medleyAllReduce(in, out, count, medleyInt32, medleySum, comm, NULL);
    if (rank > 0) res = medleyRecv(out, count, medleyInt32, rank - 1, comm, NULL);
    if (res == medleySuccess && rank < n - 1) res = medleySend(in, count, medleyInt32, rank + 1, comm, NULL);
    return res == medleySuccess ? medleyBarrier(comm, NULL) : res;
}

static int check_named(int rank, medleyComm_t comm)
{
    char name[32];

    snprintf(name, sizeof(name), "rank %d (host ", stage->victim);
    CHECK(strstr(medleyGetLastError(comm), name) != NULL);
    return 0;
}

static void wait_for(const volatile int *word, int value)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) < value) scene_sleep_ms(1);
}

/* ---- stopped for long: dead ---- */

static int stopped_rank(struct ranks_world *w, int rank, void *arg)
{
    int in[1000] = {1}, out[1000];
    medleyComm_t comm = NULL;
    medleyResult_t res = medleySuccess;

    OK(ranks_comm(w, rank, NULL, &comm));
    __atomic_add_fetch(&stage->working, 1, __ATOMIC_ACQ_REL);
    while (res == medleySuccess) res = work(comm, rank, w->nranks, in, out, 1000);
    stage->error_at[rank] = scene_now();
    CHECK(res == medleyRemoteError);
    if (rank != stage->victim && check_named(rank, comm)) return 1;
    CHECK(medleyGetLastError(comm)[0] != 0);
    OK(medleyCommAbort(comm));
    __atomic_add_fetch(&stage->failed, 1, __ATOMIC_ACQ_REL);
    return 0;
}

static int stop_scene(const struct scene *s, unsigned seed)
{
    const struct plot *plot = s->arg;
    unsigned random = seed * 2654435761u;
    double slack = scene_slack(), dead_after = 0.4 * slack, until = scene_now() + WATCHDOG_S / 2;
    char text[32];
    struct ranks_play *p;
    int wrong;

    memset(stage, 0, sizeof(*stage));
    stage->plot = plot;
    stage->victim = (int)(scene_random(&random) % (unsigned)plot->n);
    snprintf(text, sizeof(text), "%d", (int)(dead_after * 1000));
    setenv("MEDLEY_DEAD_AFTER", text, 1);
    setenv("MEDLEY_HEARTBEAT", "50ms", 1);
    p = ranks_start(plot->n, stopped_rank, NULL);
    wait_for(&stage->working, plot->n);
    scene_sleep_ms((double)(scene_random(&random) % 1000) / 100);
    kill(ranks_pid(p, stage->victim), SIGSTOP);
    stage->stopped_at = scene_now();
    while (stage->failed < plot->n - 1 && scene_now() < until) scene_sleep_ms(1);
    kill(ranks_pid(p, stage->victim), SIGCONT); /* it learns of its death */
    wrong = ranks_finish(p, WATCHDOG_S / 2, NULL);
    for (int r = 0; r < plot->n; r++) {
        double took = stage->error_at[r] - stage->stopped_at;
        if (r == stage->victim || took < 2 * dead_after + 1 * slack) continue;
        fprintf(stderr, "rank %d took %.2f s; dead_after is %.2f s\n", r, took, dead_after);
        wrong = 1;
    }
    unsetenv("MEDLEY_DEAD_AFTER");
    unsetenv("MEDLEY_HEARTBEAT");
    return wrong;
}

/* ---- stopped for a moment: nothing ---- */

static int paused_rank(struct ranks_world *w, int rank, void *arg)
{
    int in[1000], out[1000];
    medleyComm_t comm = NULL;

    OK(ranks_comm(w, rank, NULL, &comm));
    for (int i = 0; i < 1000; i++) in[i] = i + rank;
    __atomic_add_fetch(&stage->working, 1, __ATOMIC_ACQ_REL);
    for (int all = 1; all;) { /* until all agree that it is over */
        int go_on = !stage->released;
        OK(medleyAllReduce(in, out, 1000, medleyInt32, medleySum, comm, NULL));
        for (int i = 0; i < 1000; i++) CHECK(out[i] == w->nranks * i + w->nranks * (w->nranks - 1) / 2);
        OK(medleyAllReduce(&go_on, &all, 1, medleyInt32, medleyMax, comm, NULL));
    }
    OK(medleyCommDestroy(comm));
    return 0;
}

static int pause_scene(const struct scene *s, unsigned seed)
{
    const struct plot *plot = s->arg;
    unsigned random = seed * 2654435761u;
    struct ranks_play *p;

    memset(stage, 0, sizeof(*stage));
    stage->plot = plot;
    stage->victim = (int)(scene_random(&random) % (unsigned)plot->n);
    setenv("MEDLEY_DEAD_AFTER", "20s", 1);
    setenv("MEDLEY_HEARTBEAT", "20ms", 1);
    p = ranks_start(plot->n, paused_rank, NULL);
    wait_for(&stage->working, plot->n);
    for (int i = 0; i < 3; i++) {
        kill(ranks_pid(p, stage->victim), SIGSTOP);
        scene_sleep_ms(120); /* many heartbeats, and long enough for the ranks to ask each other */
        kill(ranks_pid(p, stage->victim), SIGCONT);
        scene_sleep_ms(20);
    }
    stage->released = 1;
    unsetenv("MEDLEY_DEAD_AFTER");
    unsetenv("MEDLEY_HEARTBEAT");
    return ranks_finish(p, WATCHDOG_S / 2, NULL);
}

/* ---- late ---- */

static void on_log(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    char name[32];
    int *told = user;

    snprintf(name, sizeof(name), "rank %d (host ", stage->victim);
    if (level != medleyLogWarn || !strstr(message, "still waiting") || !strstr(message, name) || *told) return;
    *told = 1;
    __atomic_add_fetch(&stage->warned, 1, __ATOMIC_ACQ_REL);
}

/* The victim comes when all the others have been warned about it. */
static int late_rank(struct ranks_world *w, int rank, void *arg)
{
    int in[1000], out[1000], told = 0, n = w->nranks;
    medleyComm_t comm = NULL;

    OK(medleySetLogCallback(on_log, medleyLogWarn, &told));
    OK(ranks_comm(w, rank, NULL, &comm));
    for (int i = 0; i < 1000; i++) in[i] = i + rank;
    OK(work(comm, rank, n, in, out, 1000));
    if (rank == stage->victim) wait_for(&stage->warned, stage->plot->messages ? n - 1 - rank : n - 1);
    OK(work(comm, rank, n, in, out, 1000));
    for (int i = 0; i < 1000 && !stage->plot->messages; i++) CHECK(out[i] == n * i + n * (n - 1) / 2);
    for (int i = 0; i < 1000 && stage->plot->messages && rank > 0; i++) CHECK(out[i] == i + rank - 1);
    OK(medleyCommDestroy(comm));
    OK(medleySetLogCallback(NULL, medleyLogWarn, NULL));
    return 0;
}

static int late_scene(const struct scene *s, unsigned seed)
{
    const struct plot *plot = s->arg;
    int wrong;

    memset(stage, 0, sizeof(*stage));
    stage->plot = plot;
    stage->victim = (int)(seed % (unsigned)(plot->messages ? plot->n - 1 : plot->n));
    setenv("MEDLEY_WARN_AFTER", "300ms", 1);
    setenv("MEDLEY_STALL", "20ms", 1);
    if (plot->algo) setenv("MEDLEY_ALGO", plot->algo, 1);
    wrong = ranks_finish(ranks_start(plot->n, late_rank, NULL), WATCHDOG_S / 2, NULL);
    unsetenv("MEDLEY_WARN_AFTER");
    unsetenv("MEDLEY_STALL");
    unsetenv("MEDLEY_ALGO");
    return wrong;
}

/* ---- never ---- */

static int absent_rank(struct ranks_world *w, int rank, void *arg)
{
    int in[1000] = {1}, out[1000];
    medleyComm_t comm = NULL;
    medleyResult_t res, async = medleySuccess;

    OK(ranks_comm(w, rank, NULL, &comm));
    OK(work(comm, rank, w->nranks, in, out, 1000));
    if (rank == stage->victim) { /* it learns of it without a call, and with the next one */
        double until = scene_now() + WATCHDOG_S / 4;
        while (async == medleySuccess && scene_now() < until) OK(medleyCommGetAsyncError(comm, &async));
        CHECK(async == medleyTimeout);
    }
    res = work(comm, rank, w->nranks, in, out, 1000);
    stage->error_at[rank] = scene_now();
    CHECK(res == medleyTimeout);
    if (check_named(rank, comm)) return 1;
    OK(medleyCommDestroy(comm));
    return 0;
}

static int absent_scene(const struct scene *s, unsigned seed)
{
    const struct plot *plot = s->arg;
    double slack = scene_slack();
    char text[32];
    int wrong;

    memset(stage, 0, sizeof(*stage));
    stage->plot = plot;
    stage->victim = (int)(seed % (unsigned)(plot->messages ? plot->n - 1 : plot->n));
    snprintf(text, sizeof(text), "%d", (int)(400 * slack));
    setenv("MEDLEY_TIMEOUT", text, 1);
    setenv("MEDLEY_STALL", "20ms", 1);
    if (plot->algo) setenv("MEDLEY_ALGO", plot->algo, 1);
    wrong = ranks_finish(ranks_start(plot->n, absent_rank, NULL), WATCHDOG_S / 2, NULL);
    for (int r = 1; r < plot->n; r++) { /* all at about the same time */
        if (stage->error_at[r] - stage->error_at[0] < 1 * slack) continue;
        fprintf(stderr, "rank %d had its error %.2f s after rank 0\n", r, stage->error_at[r] - stage->error_at[0]);
        wrong = 1;
    }
    unsetenv("MEDLEY_TIMEOUT");
    unsetenv("MEDLEY_STALL");
    unsetenv("MEDLEY_ALGO");
    return wrong;
}

/* ---- stopped, and the one between does not get to answer ---- */

static int chained_rank(struct ranks_world *w, int rank, void *arg)
{
    int in[1000] = {1}, out[1000], told = 0;
    medleyComm_t comm = NULL;
    medleyResult_t res;

    if (rank == 2) OK(medleySetLogCallback(on_log, medleyLogWarn, &told));
    OK(ranks_comm(w, rank, NULL, &comm));
    OK(work(comm, rank, w->nranks, in, out, 1000));
    __atomic_add_fetch(&stage->working, 1, __ATOMIC_ACQ_REL);
    if (rank == stage->victim) wait_for(&stage->released, 1);
    res = work(comm, rank, w->nranks, in, out, 1000);
    CHECK(rank == 2 ? res == medleyTimeout : res != medleySuccess); /* the others find it gone, perhaps */
    __atomic_add_fetch(&stage->failed, rank == 2, __ATOMIC_ACQ_REL);
    if (rank == 2 && check_named(rank, comm)) return 1;
    OK(medleyCommDestroy(comm));
    return 0;
}

static void await_or(const volatile int *word, double seconds)
{
    double until = scene_now() + seconds;

    while (!__atomic_load_n(word, __ATOMIC_ACQUIRE) && scene_now() < until) scene_sleep_ms(1);
}

/* Rank 2 waits for rank 1, which has told it that it waits for rank 0, which is stopped. It asks again each second:
 * that rank 1 does not answer any more is no reason to hold it to blame. */
static int chain_scene(const struct scene *s, unsigned seed)
{
    double slack = scene_slack() < 4 ? scene_slack() : 4;
    struct ranks_play *p;
    char text[32];
    int wrong;

    memset(stage, 0, sizeof(*stage));
    stage->plot = s->arg;
    snprintf(text, sizeof(text), "%d", (int)(300 * slack));
    setenv("MEDLEY_WARN_AFTER", text, 1);
    snprintf(text, sizeof(text), "%d", (int)(1500 + 500 * slack));
    setenv("MEDLEY_TIMEOUT", text, 1);
    setenv("MEDLEY_STALL", "20ms", 1);
    setenv("MEDLEY_DEAD_AFTER", "60s", 1);
    p = ranks_start(stage->plot->n, chained_rank, NULL);
    wait_for(&stage->working, stage->plot->n);
    kill(ranks_pid(p, 0), SIGSTOP);
    await_or(&stage->warned, WATCHDOG_S / 4);
    kill(ranks_pid(p, 1), SIGSTOP);
    await_or(&stage->failed, WATCHDOG_S / 4);
    for (int r = 0; r < 2; r++) kill(ranks_pid(p, r), SIGCONT);
    stage->released = 1;
    wrong = ranks_finish(p, WATCHDOG_S / 2, NULL);
    unsetenv("MEDLEY_WARN_AFTER");
    unsetenv("MEDLEY_TIMEOUT");
    unsetenv("MEDLEY_STALL");
    unsetenv("MEDLEY_DEAD_AFTER");
    return wrong;
}

int main(int argc, char **argv)
{
    static const struct plot four = {4, NULL, false}, ring = {6, "ring", false}, tree = {7, "binomial", false},
                             chain = {5, NULL, true}, three = {3, NULL, true};
    static const struct scene scenes[] = {
        {"stopped", stop_scene, 3, &four},
        {"stopped_in_a_ring", stop_scene, 2, &ring},
        {"stopped_in_a_chain", stop_scene, 2, &chain},
        {"paused", pause_scene, 2, &four},
        {"late", late_scene, 3, &four},
        {"late_in_a_ring", late_scene, 2, &ring},
        {"late_in_a_tree", late_scene, 2, &tree},
        {"late_in_a_chain", late_scene, 2, &chain},
        {"absent", absent_scene, 2, &four},
        {"absent_in_a_ring", absent_scene, 2, &ring},
        {"absent_in_a_chain", absent_scene, 2, &chain},
        {"stopped_behind_a_silent_one", chain_scene, 1, &three},
    };

    stage = scene_shared(sizeof(*stage));
    return scene_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
