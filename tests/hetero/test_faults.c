/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes wrong in a communicator of several vendors' devices and hosts: test_faults [-s seed] [-r rounds]
 * [scene...]. A rank is killed, a device fails or hangs in the middle of a call, ranks call for different things, a
 * host is cut off. Always: every other rank gets an error that names who is to blame, within a bound; its stream is
 * released; its device goes on working; and where a rank died, the others shrink the communicator and compute on.
 *
 * MDL_TEST_VENDORS="cuda hip ..." are those that must be here; each is the victim in turn. MDL_TEST_CUT="b rail0" says
 * whose interface the scene `cut` takes down, where hosts.sh has made hosts for it.
 */
#include "config.h"

#include "lib/dev/dev.h"
#include "tests/coll/home.h"
#include "tests/coll/ranks.h"
#include "tests/fault/scene.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RANKS = 8, WATCHDOG_S = 60, COUNT = 60000, MAX_SCENES = 128 };
enum fault { KILLED, FAILING, HANGING, NEVER_READY, MISMATCH, CUT };

struct plot {
    enum fault fault;
    char vendor[16]; /* the victim's, or "" */
    const char *devices;
    int n;
};

/* In shared memory. */
struct stage {
    const struct plot *plot;
    unsigned seed;
    int victim;
    volatile int working;
    volatile double struck_at, error_at[MAX_RANKS];
};
static struct stage *stage;

struct place {
    int rank, n;
    medleyComm_t comm;
    bool device;
    float *in, *out, *host; /* host: a copy for device ranks */
};

/* ---- what ranks do ---- */

static void fill(const struct place *p, float value)
{
    for (size_t i = 0; i < COUNT; i++) p->host[i] = value;
    if (p->device) home_store(p->in, p->host, COUNT * sizeof(float));
}

static bool holds(const struct place *p, float value)
{
    const float *at = p->device ? p->host : p->out;

    if (p->device) home_copy_out(p->host, p->out, COUNT * sizeof(float));
    for (size_t i = 0; i < COUNT; i++)
        if (at[i] != value) return false;
    return true;
}

static bool is_stuck(const struct place *p)
{
    return (stage->plot->fault == HANGING || stage->plot->fault == NEVER_READY) && p->rank == stage->victim;
}

/* Of a stream that never comes to an end: many calls in advance, until the communicator has an error. */
static medleyResult_t pour(const struct place *p)
{
    medleyResult_t async = medleySuccess;
    double until = scene_now() + WATCHDOG_S / 2;

    for (int i = 0; i < 200 && async == medleySuccess; i++) {
        medleyResult_t res = medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream());
        if (medleyCommGetAsyncError(p->comm, &async) != medleySuccess) return medleyInternalError;
        if (res != medleySuccess) return res;
    }
    while (async == medleySuccess && scene_now() < until) {
        if (medleyCommGetAsyncError(p->comm, &async) != medleySuccess) return medleyInternalError;
        scene_sleep_ms(1);
    }
    return async;
}

/* One call and what came of it. A device's rank learns of errors when its stream is through. */
static medleyResult_t allreduce(const struct place *p, medleyComm_t comm, size_t count, medleyDataType_t type)
{
    medleyResult_t async = medleySuccess;
    medleyResult_t res = medleyAllReduce(p->in, p->out, count, type, medleySum, comm, p->device ? home_stream() : NULL);
    double until = scene_now() + scene_slack();

    if (p->device && res == medleySuccess) res = home_sync();
    if (medleyCommGetAsyncError(comm, &async) != medleySuccess) return medleyInternalError;
    if (res == medleySuccess || async != medleySuccess) return async;
    /* What fails behind a call's last block is the next call's error. */
    (void)medleyAllReduce(p->in, p->out, count, type, medleySum, comm, p->device ? home_stream() : NULL);
    while (async == medleySuccess && scene_now() < until)
        if (medleyCommGetAsyncError(comm, &async) != medleySuccess) return medleyInternalError;
    return async != medleySuccess ? async : res;
}

/* The stream is released, and the device works. */
static int check_device(const struct place *p)
{
    int rank = p->rank;
    medleyComm_t comm = p->comm;

    if (!p->device) return 0;
    OK(home_sync());
    for (size_t i = 0; i < COUNT; i++) p->host[i] = (float)i;
    home_store(p->out, p->host, COUNT * sizeof(float));
    memset(p->host, 0, COUNT * sizeof(float));
    home_copy_out(p->host, p->out, COUNT * sizeof(float));
    for (size_t i = 0; i < COUNT; i++) CHECK(p->host[i] == (float)i);
    return 0;
}

static bool names(const char *text, int of)
{
    char name[32];
    const char *at;

    snprintf(name, sizeof(name), "rank %d", of);
    at = strstr(text, name);
    return at && !strchr("0123456789", at[strlen(name)] ? at[strlen(name)] : ' ');
}

/* The survivors without the victim. */
static int go_on(struct place *p)
{
    int rank = p->rank, count = 0;
    medleyComm_t comm = p->comm, rest = NULL;
    float sum = 0;

    OK(medleyCommShrink(comm, &stage->victim, 1, &rest, NULL, MEDLEY_SHRINK_ABORT));
    OK(medleyCommCount(rest, &count));
    CHECK(count == p->n - 1);
    for (int r = 0; r < p->n; r++) sum += r == stage->victim ? 0 : (float)r + 1;
    for (int round = 0; round < 2; round++) {
        fill(p, (float)rank + 1);
        OK(allreduce(p, rest, COUNT, medleyFloat));
        CHECK(holds(p, sum));
    }
    OK(medleyCommDestroy(rest));
    return 0;
}

/* ---- the faults, as a rank sees them ---- */

static int end_abruptly(struct place *p)
{
    int rank = p->rank;
    medleyComm_t comm = p->comm;
    double start = scene_now();

    OK(medleyCommAbort(comm));
    comm = NULL;
    CHECK(scene_now() - start < (is_stuck(p) ? 2 : 0) + 1 * scene_slack());
    return 0;
}

static int after_a_death(struct place *p, medleyResult_t res)
{
    int rank = p->rank;
    medleyComm_t comm = p->comm;

    CHECK(res == medleyRemoteError);
    CHECK(names(medleyGetLastError(comm), stage->victim));
    if (check_device(p) || go_on(p)) return 1;
    return end_abruptly(p);
}

/* Nobody is dead; the others say who has failed, and that one what its device said. */
static int after_a_failure(struct place *p, medleyResult_t res)
{
    int rank = p->rank;
    medleyComm_t comm = p->comm;

    if (rank == stage->victim) {
        CHECK(res == medleyUnhandledDeviceError);
        CHECK(strstr(medleyGetLastError(comm), "failed") != NULL);
        if (end_abruptly(p)) return 1;
        fflush(NULL);
        _exit(0); /* its device can do nothing any more, not even free memory */
    }
    CHECK(res == medleyUnhandledDeviceError || res == medleyRemoteError);
    CHECK(names(medleyGetLastError(comm), stage->victim));
    if (check_device(p)) return 1;
    return end_abruptly(p);
}

/* A device that does not come on: the others' deadline ends it, and they name whom they waited for. */
static int after_a_hang(struct place *p, medleyResult_t res)
{
    int rank = p->rank;
    medleyComm_t comm = p->comm;

    CHECK(res == medleyTimeout || res == medleyRemoteError);
    if (rank != stage->victim) CHECK(names(medleyGetLastError(comm), stage->victim));
    if (rank == stage->victim) {
        if (end_abruptly(p)) return 1;
        fflush(NULL);
        _exit(0);
    }
    if (check_device(p)) return 1;
    return end_abruptly(p);
}

static int after_a_cut(struct place *p, medleyResult_t res)
{
    const char *hosts = getenv("MDL_TEST_NETNS"), *text = medleyGetLastError(p->comm);
    int rank = p->rank;
    medleyComm_t comm = p->comm;
    bool named = false;

    CHECK(res == medleyRemoteError || res == medleyTimeout);
    for (int r = 0; hosts && r < p->n; r++) named |= hosts[2 * r] != hosts[2 * rank] && names(text, r);
    CHECK(named);
    if (check_device(p)) return 1;
    return end_abruptly(p);
}

/* Each round another thing differs, on another rank; every rank hears of it, and the words name both sides. */
static int mismatched(struct place *p)
{
    int rank = p->rank, odd = (int)(stage->seed % (unsigned)p->n);
    medleyComm_t comm = p->comm;
    bool types = stage->seed % 2, mine = rank == odd;
    size_t count = stage->seed % 3 ? COUNT : 40;
    const char *text;
    medleyResult_t res =
        allreduce(p, comm, mine && !types ? count / 2 : count, mine && types ? medleyInt32 : medleyFloat);

    for (double until = scene_now() + 5 * scene_slack(); res == medleySuccess && scene_now() < until;) {
        OK(medleyCommGetAsyncError(comm, &res));
        scene_sleep_ms(1);
    }
    CHECK(res == medleyInvalidUsage || res == medleyInvalidArgument || res == medleyRemoteError);
    text = medleyGetLastError(comm);
    CHECK(names(text, odd));
    CHECK(names(text, (odd + 1) % p->n) || names(text, (odd + 2) % p->n));
    CHECK(strstr(text, types ? "int32" : count == 40 ? "20" : "30000") != NULL);
    if (check_device(p)) return 1;
    return end_abruptly(p);
}

/* ---- a rank ---- */

static int play(struct place *p)
{
    static int (*const after[])(struct place *, medleyResult_t) = {[KILLED] = after_a_death,
                                                                   [FAILING] = after_a_failure,
                                                                   [HANGING] = after_a_hang,
                                                                   [NEVER_READY] = after_a_hang,
                                                                   [CUT] = after_a_cut};
    medleyResult_t res = medleySuccess;

    fill(p, (float)p->rank + 1);
    if (stage->plot->fault == MISMATCH) return mismatched(p);
    if (is_stuck(p)) res = pour(p);
    for (int step = 0; res == medleySuccess; step++) {
        bool small = step % 3 == 0 && stage->plot->fault != HANGING && stage->plot->fault != NEVER_READY;
        res = allreduce(p, p->comm, small ? 1 + (size_t)step % 100 : COUNT, medleyFloat);
        if (step == 1) __atomic_add_fetch(&stage->working, 1, __ATOMIC_ACQ_REL);
    }
    stage->error_at[p->rank] = scene_now();
    return after[stage->plot->fault](p, res);
}

/* The victim's runtime fails by itself: at an operation that a draw decides, while its calls are under way. */
static void set_faults(int rank)
{
    static const char *const kinds[] = {[FAILING] = "async", [HANGING] = "hang", [NEVER_READY] = "nowait,nortc,notready"};
    const struct plot *plot = stage->plot;
    unsigned random = stage->seed * 2654435761u;
    char text[96];

    setenv("MEDLEY_INIT_TIMEOUT", "20s", 1);
    if (plot->fault != FAILING && plot->fault != HANGING && plot->fault != NEVER_READY) return;
    if (plot->fault != FAILING) setenv("MEDLEY_TIMEOUT", scene_slack() > 2 ? "4s" : "2s", 1);
    if (rank != stage->victim) return;
    snprintf(text, sizeof(text), "%s@%u", kinds[plot->fault], 40 + scene_random(&random) % 60);
    setenv("EMUL_FAULT", text, 1);
    setenv("EMUL_STUCK_S", "0", 1);
}

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    struct place p = {.rank = rank, .n = w->nranks};
    medleyComm_t comm = NULL;

    (void)arg;
    set_faults(rank);
    config.device = home_name(rank);
    OK(home_enter(config.device, true));
    p.device = home_is_device();
    p.host = calloc(COUNT, sizeof(float));
    p.in = p.device ? home_take(COUNT * sizeof(float)) : p.host;
    p.out = p.device ? home_take(COUNT * sizeof(float)) : calloc(COUNT, sizeof(float));
    if (!p.host || !p.out) return 1;
    OK(ranks_comm(w, rank, &config, &comm));
    p.comm = comm;
    if (play(&p)) return 1;
    if (p.device) {
        home_free(p.in);
        home_free(p.out);
        home_leave();
    } else
        free(p.out);
    free(p.host);
    return 0;
}

/* ---- the parent ---- */

static void cut(bool down)
{
    char host[16], interface[16], command[128];

    if (sscanf(getenv("MDL_TEST_CUT"), "%15s %15s", host, interface) != 2) exit(2);
    snprintf(command, sizeof(command), "ip -n %s link set %s %s", host, interface, down ? "down" : "up");
    if (system(command) != 0) exit(2);
}

static void strike(const struct plot *plot, const struct ranks_play *play)
{
    unsigned random = stage->seed;
    double until = scene_now() + WATCHDOG_S / 2;

    if (plot->fault != KILLED && plot->fault != CUT) return;
    while (__atomic_load_n(&stage->working, __ATOMIC_ACQUIRE) < plot->n && scene_now() < until) scene_sleep_ms(0.5);
    scene_sleep_ms((double)(scene_random(&random) % 1000) / 100); /* not a synchronisation: a random moment */
    stage->struck_at = scene_now();
    if (plot->fault == CUT) cut(true);
    if (plot->fault == KILLED) kill(ranks_pid(play, stage->victim), SIGKILL);
}

/* From the strike on, or from the first who knew. */
static int judge(const struct plot *plot, const int *status)
{
    double first = stage->struck_at, limit = (plot->fault == CUT ? 2.5 : 1) * scene_slack();
    bool dead = plot->fault == KILLED;
    int wrong = 0;

    for (int r = 0; r < plot->n && first == 0; r++)
        if (stage->error_at[r] > 0 && (first == 0 || stage->error_at[r] < first)) first = stage->error_at[r];
    for (int r = 0; r < plot->n; r++) {
        double took = stage->error_at[r] - first;
        if (status[r] != (dead && r == stage->victim ? -SIGKILL : 0)) {
            fprintf(stderr, "rank %d ended with %d\n", r, status[r]);
            wrong = 1;
        } else if (plot->fault != MISMATCH && plot->fault != HANGING && plot->fault != NEVER_READY && took > limit) {
            fprintf(stderr, "rank %d learnt of it after %.2f s, allowed are %.2f s\n", r, took, limit);
            wrong = 1;
        }
    }
    return wrong;
}

/* The victim is the vendor's rank or, if a rank is killed, also a host's or another vendor's. */
static int fault_scene(const struct scene *s, unsigned seed)
{
    const struct plot *plot = s->arg;
    int status[MAX_RANKS];
    struct ranks_play *play;
    char devices[128];

    memset(stage, 0, sizeof(*stage));
    stage->plot = plot;
    stage->seed = seed;
    stage->victim = plot->fault == KILLED ? (int)((seed + 3) % 4) : 0;
    snprintf(devices, sizeof(devices), plot->devices, plot->vendor, plot->vendor);
    setenv("MDL_TEST_DEVICES", devices, 1);
    play = ranks_start(plot->n, rank_main, NULL);
    strike(plot, play);
    (void)ranks_finish(play, WATCHDOG_S, status);
    if (plot->fault == CUT) cut(false);
    if (judge(plot, status)) {
        fprintf(stderr, "devices %s, the victim is rank %d\n", devices, stage->victim);
        return 1;
    }
    return 0;
}

static struct plot plots[MAX_SCENES];
static struct scene scenes[MAX_SCENES];
static char scene_names[MAX_SCENES][32];
static int nscenes;

static void add(const char *what, enum fault fault, const char *vendor, const char *devices, int n, int rounds)
{
    struct plot *p = &plots[nscenes];

    if (nscenes == MAX_SCENES) abort();
    *p = (struct plot){.fault = fault, .devices = devices, .n = n};
    snprintf(p->vendor, sizeof(p->vendor), "%s", vendor);
    snprintf(scene_names[nscenes], sizeof(scene_names[0]), "%s%s%s", what, vendor[0] ? "/" : "", vendor);
    scenes[nscenes] = (struct scene){scene_names[nscenes], fault_scene, rounds, p};
    nscenes++;
}

static void add_vendor(const char *vendor)
{
    const char *among = strcmp(vendor, "cuda") == 0 ? "%s:0,host,hip:0,%s:0" : "%s:0,host,cuda:0,%s:0";

    add("killed", KILLED, vendor, among, 4, 2);
    add("failing", FAILING, vendor, among, 4, 1);
    add("hanging", HANGING, vendor, among, 4, 1);
}

int main(int argc, char **argv)
{
    char list[256], *rest = list, *vendor;

    stage = scene_shared(sizeof(*stage));
    snprintf(list, sizeof(list), "%s", getenv("MDL_TEST_VENDORS") ? getenv("MDL_TEST_VENDORS") : "");
    if (getenv("MDL_TEST_CUT")) {
        setenv("MEDLEY_DEAD_AFTER", "1200ms", 1);
        add("cut", CUT, "", "cuda:0,hip:0,host,cuda:0", 4, 2);
        return scene_main(argc, argv, scenes, nscenes);
    }
    while ((vendor = strsep(&rest, " ")))
        if (*vendor) add_vendor(vendor);
    if (!nscenes) {
        printf("skipped: MDL_TEST_VENDORS names no vendors\n");
        return 77;
    }
    add("never_ready", NEVER_READY, "cuda", "%s:0,host,hip:0", 3, 2);
    add("mismatch", MISMATCH, "", "cuda:0,host,hip:0", 3, 6);
    return scene_main(argc, argv, scenes, nscenes);
}
