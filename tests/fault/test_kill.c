/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rank is killed with SIGKILL while a communicator is at work: every survivor gets an error that names the dead rank
 * and its host, within a second; then the survivors shrink the communicator and compute on, or abort it.
 *
 * The parent kills at a random moment once all ranks are at work; the ranks write down when they saw the error.
 * MEDLEY_TRANSPORT chooses the transport.
 */
#include "config.h"

#include "tests/coll/ranks.h"
#include "tests/fault/scene.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RANKS = 16, MAX_VICTIMS = 3, WATCHDOG_S = 60 };

struct buffers {
    int *in, *out;
    size_t count;
};

/* One operation on one rank; called again and again until it fails. */
typedef medleyResult_t (*work_fn)(medleyComm_t comm, int rank, int n, unsigned step, const struct buffers *b);

struct plot {
    int n;
    work_fn work;
    size_t count;
    const char *env, *value; /* set for the ranks; NULL: nothing */
    int victim;              /* -1: any */
    int victims;
    const char *operation; /* that the error must name; NULL: any or none */
};

/* In shared memory. */
struct stage {
    const struct plot *plot;
    unsigned seed;
    int victims[MAX_VICTIMS];
    volatile int working; /* ranks that have begun */
    volatile double killed_at;
    volatile double error_at[MAX_RANKS];
    volatile double healed_at[MAX_RANKS];
};
static struct stage *stage;

static bool is_victim(int rank)
{
    for (int i = 0; i < stage->plot->victims; i++) {
        if (stage->victims[i] == rank) return true;
    }
    return false;
}

/* ---- work ---- */

static medleyResult_t allreduce(medleyComm_t comm, int rank, int n, unsigned step, const struct buffers *b)
{
    return medleyAllReduce(b->in, b->out, b->count, medleyInt32, medleySum, comm, NULL);
}

static medleyResult_t broadcast(medleyComm_t comm, int rank, int n, unsigned step, const struct buffers *b)
{
    return medleyBroadcast(b->in, b->out, b->count, medleyInt32, 0, comm, NULL);
}

static medleyResult_t reduce(medleyComm_t comm, int rank, int n, unsigned step, const struct buffers *b)
{
    return medleyReduce(b->in, b->out, b->count, medleyInt32, medleySum, 0, comm, NULL);
}

static medleyResult_t alltoall(medleyComm_t comm, int rank, int n, unsigned step, const struct buffers *b)
{
    return medleyAlltoAll(b->in, b->out, b->count / (size_t)n, medleyInt32, comm, NULL);
}

static medleyResult_t ring(medleyComm_t comm, int rank, int n, unsigned step, const struct buffers *b)
{
    medleyResult_t res = medleyGroupStart(), end;

    if (res == medleySuccess) res = medleySend(b->in, b->count, medleyInt32, (rank + 1) % n, comm, NULL);
    if (res == medleySuccess) res = medleyRecv(b->out, b->count, medleyInt32, (rank + n - 1) % n, comm, NULL);
    end = medleyGroupEnd();
    return res == medleySuccess ? end : res;
}

static medleyResult_t mixed(medleyComm_t comm, int rank, int n, unsigned step, const struct buffers *b)
{
    static const work_fn all[] = {allreduce, broadcast, ring, reduce, alltoall};
    struct buffers part = *b;

    if (step % 3) part.count = step % 7 * (size_t)n;
    return all[step % (sizeof(all) / sizeof(all[0]))](comm, rank, n, step, &part);
}

static medleyResult_t on_stream(medleyComm_t comm, int rank, int n, unsigned step, const struct buffers *b)
{
    void *s;
    medleyResult_t res = medleyStreamCreate(&s), end;

    if (res != medleySuccess) return res;
    for (int i = 0; i < 3 && res == medleySuccess; i++)
        res = medleyAllReduce(b->in, b->out, b->count, medleyInt32, medleySum, comm, s);
    end = medleyStreamSynchronize(s);
    (void)medleyStreamDestroy(s);
    return res == medleySuccess ? end : res;
}

static medleyResult_t idle(medleyComm_t comm, int rank, int n, unsigned step, const struct buffers *b)
{
    medleyResult_t async = medleySuccess, res = medleyCommGetAsyncError(comm, &async);

    scene_sleep_ms(1);
    return res == medleySuccess ? async : res;
}

/* ---- a rank ---- */

static int check_words(int rank, medleyComm_t comm, medleyResult_t res)
{
    const char *text = medleyGetLastError(comm);
    char host[64], name[128];
    bool named = false;
    medleyResult_t async;

    if (gethostname(host, sizeof(host)) < 0) return 1;
    CHECK(res == medleyRemoteError);
    for (int i = 0; i < stage->plot->victims; i++) {
        snprintf(name, sizeof(name), "rank %d (host %s)", stage->victims[i], host);
        named |= strstr(text, name) != NULL;
    }
    CHECK(named);
    if (stage->plot->operation) CHECK(strstr(text, stage->plot->operation) != NULL);
    OK(medleyCommGetAsyncError(comm, &async));
    CHECK(async == res);
    return 0;
}

static int heal(int rank, medleyComm_t comm, const struct buffers *b)
{
    medleyComm_t rest = NULL;
    int n = stage->plot->n - stage->plot->victims, count = 0;

    OK(medleyCommShrink(comm, stage->victims, stage->plot->victims, &rest, NULL, MEDLEY_SHRINK_ABORT));
    OK(medleyCommCount(rest, &count));
    CHECK(count == n);
    for (int round = 0; round < 3; round++) {
        size_t len = round == 1 ? b->count : 5;
        for (size_t i = 0; i < len; i++) b->in[i] = (int)i + round;
        OK(medleyAllReduce(b->in, b->out, len, medleyInt32, medleySum, rest, NULL));
        for (size_t i = 0; i < len; i++) CHECK(b->out[i] == ((int)i + round) * n);
    }
    OK(medleyCommDestroy(rest));
    return 0;
}

static int play(int rank, medleyComm_t comm, int n, const struct buffers *b)
{
    medleyResult_t res = medleySuccess;
    double start;

    __atomic_add_fetch(&stage->working, 1, __ATOMIC_ACQ_REL);
    for (unsigned step = 0; res == medleySuccess; step++) res = stage->plot->work(comm, rank, n, step, b);
    stage->error_at[rank] = scene_now();
    if (check_words(rank, comm, res)) return 1;
    if (stage->seed % 4 && heal(rank, comm, b)) return 1;
    stage->healed_at[rank] = scene_now();
    start = scene_now();
    if (stage->seed % 2)
        OK(medleyCommAbort(comm));
    else
        OK(medleyCommDestroy(comm));
    comm = NULL;
    CHECK(scene_now() - start < 1 * scene_slack());
    return 0;
}

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    const struct plot *plot = arg;
    struct buffers b = {.count = plot->count};
    medleyComm_t comm = NULL;

    if (plot->env) setenv(plot->env, plot->value, 1);
    setenv("MEDLEY_INIT_TIMEOUT", "20s", 1); /* of the shrink, if a survivor does not come to it */
    b.in = calloc(plot->count, sizeof(int));
    b.out = calloc(plot->count, sizeof(int));
    if (!b.in || !b.out) return 1;
    OK(ranks_comm(w, rank, NULL, &comm));
    if (play(rank, comm, w->nranks, &b)) return 1;
    free(b.in);
    free(b.out);
    return 0;
}

/* ---- the parent ---- */

static void choose_victims(const struct plot *plot, unsigned *random)
{
    for (int i = 0; i < plot->victims; i++) stage->victims[i] = -1;
    for (int i = 0; i < plot->victims; i++) {
        int v;
        do v = plot->victim >= 0 && i == 0 ? plot->victim : (int)(scene_random(random) % (unsigned)plot->n);
        while (is_victim(v));
        stage->victims[i] = v;
    }
}

static int judge(const struct plot *plot, const int *status)
{
    double limit = 1.0 * scene_slack();
    int wrong = 0;

    for (int r = 0; r < plot->n; r++) {
        double took = stage->error_at[r] - stage->killed_at;
        if (is_victim(r)) continue;
        if (status[r] != 0) {
            fprintf(stderr, "rank %d ended with %d\n", r, status[r]);
            wrong = 1;
        } else if (took > limit) {
            fprintf(stderr, "rank %d learnt of it after %.2f s, allowed are %.2f s\n", r, took, limit);
            wrong = 1;
        }
    }
    return wrong;
}

static int kill_scene(const struct scene *s, unsigned seed)
{
    const struct plot *plot = s->arg;
    unsigned random = seed * 2654435761u;
    double until = scene_now() + WATCHDOG_S;
    int status[MAX_RANKS];
    struct ranks_play *p;

    memset(stage, 0, sizeof(*stage));
    stage->plot = plot;
    stage->seed = seed;
    choose_victims(plot, &random);
    p = ranks_start(plot->n, rank_main, (void *)(uintptr_t)plot);
    while (__atomic_load_n(&stage->working, __ATOMIC_ACQUIRE) < plot->n && scene_now() < until) scene_sleep_ms(0.5);
    scene_sleep_ms((double)(scene_random(&random) % 2000) / 100); /* not a synchronisation: a random moment */
    stage->killed_at = scene_now();
    for (int i = 0; i < plot->victims; i++) kill(ranks_pid(p, stage->victims[i]), SIGKILL);
    ranks_finish(p, WATCHDOG_S, status);
    if (waitpid(-1, NULL, WNOHANG) != -1) {
        fprintf(stderr, "a process was left over\n");
        return 1;
    }
    return judge(plot, status);
}

static const struct plot small = {4, allreduce, 2, NULL, NULL, -1, 1, "AllReduce"},
                         large = {4, allreduce, 1 << 20, NULL, NULL, -1, 1, "AllReduce"},
                         root = {4, broadcast, 100000, NULL, NULL, 0, 1, "Broadcast"},
                         collector = {4, reduce, 100000, NULL, NULL, 0, 1, "Reduce"},
                         leaf = {7, allreduce, 3000, "MEDLEY_ALGO", "binomial", 6, 1, "AllReduce"},
                         inner = {7, allreduce, 3000, "MEDLEY_ALGO", "binomial", 1, 1, "AllReduce"},
                         double_tree = {7, allreduce, 50000, "MEDLEY_ALGO", "dbtree", 2, 1, "AllReduce"},
                         messages = {4, ring, 200000, NULL, NULL, -1, 1, NULL},
                         everything = {4, mixed, 50000, NULL, NULL, -1, 1, NULL},
                         streams = {3, on_stream, 20000, NULL, NULL, -1, 1, NULL},
                         nothing = {6, idle, 100, NULL, NULL, -1, 1, NULL},
                         two = {6, mixed, 20000, NULL, NULL, 1, 2, NULL},
                         pair = {2, allreduce, 100, NULL, NULL, -1, 1, "AllReduce"};

int main(int argc, char **argv)
{
    static const struct scene scenes[] = {
        {"small", kill_scene, 6, &small},
        {"large", kill_scene, 5, &large},
        {"root", kill_scene, 2, &root},
        {"collector", kill_scene, 2, &collector},
        {"leaf", kill_scene, 2, &leaf},
        {"inner", kill_scene, 3, &inner},
        {"double_tree", kill_scene, 2, &double_tree},
        {"messages", kill_scene, 4, &messages},
        {"everything", kill_scene, 6, &everything},
        {"streams", kill_scene, 4, &streams},
        {"idle", kill_scene, 4, &nothing},
        {"two", kill_scene, 4, &two},
        {"pair", kill_scene, 3, &pair},
    };

    stage = scene_shared(sizeof(*stage));
    return scene_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
