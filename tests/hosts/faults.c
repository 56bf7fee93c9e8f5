/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts that lose a network, all of them, or a rank: faults.sh makes the hosts a, b and c with the networks rail0 and
 * rail1 and runs this.
 *
 * The ranks compute without end. Once all are at work the parent strikes. Where a way is left, they shall go on for
 * longer than a dead rank may stay unnoticed, with right results and over that way; then the parent tells them to stop.
 * Where none is left, every rank shall get an error that names a rank beyond the cut and its host, in time.
 */
#include "config.h"

#include "tests/coll/ranks.h"
#include "tests/fault/scene.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_RANKS = 8, WATCHDOG_S = 60, MAX_STRETCH = 4 };
static double dead_after = 1.2; /* seconds without a sign of life, on an idle machine; main() stretches it */

struct plot {
    const char *hosts; /* a letter per rank */
    size_t count;      /* of the all-reduces; 0: the ranks are idle */
    const char *cut;   /* host and interface: "b rail0"; several: "b rail0 b rail1" */
    bool down;         /* the interface is set down; else its packets are dropped */
    int victim, signal;
    bool survives;
};

/* In shared memory. */
struct stage {
    const struct plot *plot;
    volatile int working;
    volatile int stop;
    volatile int steps[MAX_RANKS];
    volatile double struck_at, error_at[MAX_RANKS];
    volatile unsigned long long retries, sent[MAX_RANKS][2]; /* bytes by rail */
    volatile unsigned long long before[MAX_RANKS][2];
};
static struct stage *stage;

/* ---- what a rank does ---- */

/* Bytes that this host has sent over an interface. */
static unsigned long long sent_bytes(const char *interface)
{
    char line[512], name[32];
    unsigned long long v[9], found = 0;
    FILE *f = fopen("/proc/self/net/dev", "re");

    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, " %31[^:]: %llu %llu %llu %llu %llu %llu %llu %llu %llu", name, &v[0], &v[1], &v[2], &v[3],
                   &v[4], &v[5], &v[6], &v[7], &v[8]) == 10 &&
            strcmp(name, interface) == 0)
            found = v[8];
    }
    if (f) fclose(f);
    return found;
}

/* The first element is the vote to stop. */
static int allreduce(medleyComm_t comm, int rank, int n, int step, int *in, int *out, bool *stop)
{
    size_t count = stage->plot->count;
    int sum = n * (n - 1) / 2 + n * step;

    in[0] = stage->stop;
    for (size_t i = 1; i < count; i++) in[i] = (int)i + rank + step;
    if (medleyAllReduce(in, out, count, medleyInt32, medleySum, comm, NULL) != medleySuccess) return -1;
    for (size_t i = 1; i < count; i++) CHECK(out[i] == (int)i * n + sum);
    *stop = out[0] > 0;
    return 0;
}

static int idle(medleyComm_t comm, bool *stop)
{
    medleyResult_t async = medleySuccess;

    scene_sleep_ms(5);
    *stop = stage->stop;
    return medleyCommGetAsyncError(comm, &async) != medleySuccess || async != medleySuccess ? -1 : 0;
}

/* Is a rank named, with its host, that is dead or beyond the cut? One that was stopped finds the others gone. */
static int check_words(int rank, medleyComm_t comm)
{
    const struct plot *p = stage->plot;
    const char *text = medleyGetLastError(comm);
    char name[64];
    bool named = false;
    medleyResult_t async;

    for (int r = 0; p->hosts[r]; r++) {
        bool beyond = p->victim >= 0 ? r == p->victim || rank == p->victim : p->hosts[r] != p->hosts[rank];
        snprintf(name, sizeof(name), "rank %d (host %c)", r, p->hosts[r]);
        named |= beyond && strstr(text, name) != NULL;
    }
    CHECK(named);
    OK(medleyCommGetAsyncError(comm, &async));
    CHECK(async == medleyRemoteError || async == medleyTimeout);
    return 0;
}

static void note_sent(int rank)
{
    if (!stage->plot->count) return;
    stage->sent[rank][0] = sent_bytes("rail0") - stage->before[rank][0];
    stage->sent[rank][1] = sent_bytes("rail1") - stage->before[rank][1];
}

static int survived(int rank, medleyComm_t comm, int n)
{
    medleyPeerStats_t peers[MAX_RANKS];
    medleyCommStats_t stats = {.size = sizeof(stats), .npeers = MAX_RANKS, .peers = peers};
    medleyResult_t async;

    OK(medleyCommGetAsyncError(comm, &async));
    CHECK(async == medleySuccess);
    OK(medleyCommGetStats(comm, &stats));
    for (int r = 0; r < n; r++) __atomic_add_fetch(&stage->retries, peers[r].retries, __ATOMIC_RELAXED);
    note_sent(rank);
    return 0;
}

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    const struct plot *p = arg;
    int n = w->nranks, failed = 0;
    int *in = calloc(p->count + 1, sizeof(int)), *out = calloc(p->count + 1, sizeof(int));
    medleyComm_t comm = NULL;
    bool stop = false;

    if (!in || !out) return 1;
    OK(ranks_comm(w, rank, NULL, &comm));
    stage->before[rank][0] = sent_bytes("rail0");
    stage->before[rank][1] = sent_bytes("rail1");
    for (int step = 0; !stop && !failed; step++) {
        note_sent(rank);
        failed = p->count ? allreduce(comm, rank, n, step, in, out, &stop) : idle(comm, &stop);
        if (failed > 0) return 1;
        stage->steps[rank] = step;
        if (step == 2) __atomic_add_fetch(&stage->working, 1, __ATOMIC_ACQ_REL);
    }
    stage->error_at[rank] = scene_now();
    CHECK(p->survives == !failed);
    if (failed ? check_words(rank, comm) : survived(rank, comm, n)) return 1;
    if (failed)
        OK(medleyCommAbort(comm));
    else
        OK(medleyCommDestroy(comm));
    free(in);
    free(out);
    return 0;
}

/* ---- the parent ---- */

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
    char command[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(command, sizeof(command), format, ap);
    va_end(ap);
    if (system(command) != 0) {
        fprintf(stderr, "cannot run: %s\n", command);
        exit(1);
    }
}

/* For each "host interface" of the plot. */
static void each_cut(const struct plot *p, void (*fn)(const struct plot *p, const char *host, const char *interface))
{
    char host[16], interface[16];
    int used = 0;

    for (const char *at = p->cut; at && sscanf(at, "%15s %15s%n", host, interface, &used) == 2; at += used)
        fn(p, host, interface);
}

static void cut(const struct plot *p, const char *host, const char *interface)
{
    if (p->down)
        run("ip -n %s link set %s down", host, interface);
    else
        run("ip netns exec %s nft 'add rule inet cut in iifname %s drop; add rule inet cut out oifname %s drop'", host,
            interface, interface);
}

static void put_up(const struct plot *p, const char *host, const char *interface)
{
    int number = interface[4] - '0', k = host[0] - 'a' + 1;

    if (!p->down) return;
    run("ip -n %s link set %s up", host, interface);
    run("ip -n %s addr replace 10.77.%d.%d/24 dev %s", host, number, k, interface);
    run("for i in $(seq 100); do ip -n %s -o link show dev %s | grep -q 'state UP' && exit 0; sleep 0.05; done; exit 1",
        host, interface);
}

static void prepare(void)
{
    for (const char *h = "abc"; *h; h++)
        run("ip netns exec %c nft 'add table inet cut; flush table inet cut;"
            " add chain inet cut in { type filter hook input priority 0; };"
            " add chain inet cut out { type filter hook output priority 0; }'",
            *h);
}

static void set_hosts(const char *hosts)
{
    char list[2 * MAX_RANKS + 1] = "";

    for (int i = 0; hosts[i]; i++) snprintf(list + strlen(list), 3, "%s%c", i ? "," : "", hosts[i]);
    setenv("MDL_TEST_NETNS", list, 1);
}

/* All ranks at work, or the time is over. */
static void wait_working(int n)
{
    double until = scene_now() + WATCHDOG_S / 2;

    while (__atomic_load_n(&stage->working, __ATOMIC_ACQUIRE) < n && scene_now() < until) scene_sleep_ms(1);
}

static void strike(const struct plot *p, struct ranks_play *play, unsigned seed)
{
    scene_sleep_ms((double)(scene_random(&seed) % 3000) / 100); /* not a synchronisation: a random moment */
    stage->struck_at = scene_now();
    each_cut(p, cut);
    if (p->victim >= 0) kill(ranks_pid(play, p->victim), p->signal);
}

/* Do both networks carry their share? */
static bool balanced(int n)
{
    unsigned long long rail[2] = {0, 0};

    for (int r = 0; r < n; r++)
        for (int i = 0; i < 2; i++) rail[i] += stage->sent[r][i];
    return rail[0] >= (rail[0] + rail[1]) / 10 && rail[1] >= (rail[0] + rail[1]) / 10;
}

/* Lets them work for longer than it takes to find a silent rank dead, and for as long as the share of a network may
 * take to come that was connected late. */
static void let_work(const struct plot *p, int n)
{
    double since = scene_now();
    bool waits = p->count && !p->cut;

    while (stage->error_at[0] == 0) {
        double past = scene_now() - since;
        if (past > 1.5 * dead_after && (!waits || balanced(n) || past > WATCHDOG_S / 2)) break;
        scene_sleep_ms(5);
    }
    stage->stop = 1;
}

/* Every rank has its error within the time after which a silent rank is dead, an interval of the heartbeats (a quarter
 * of it) and a second to spread it. */
static int judge_times(int n)
{
    double limit = 1.25 * dead_after + scene_slack();
    int wrong = 0;

    for (int r = 0; r < n; r++) {
        double took = stage->error_at[r] - stage->struck_at;
        if (r == stage->plot->victim || took <= limit) continue;
        fprintf(stderr, "rank %d learnt of it after %.2f s, allowed are %.2f s\n", r, took, limit);
        wrong = 1;
    }
    return wrong;
}

static int judge_traffic(int n)
{
    const struct plot *p = stage->plot;
    unsigned long long rail[2] = {0, 0};
    int wrong = 0;

    if (!p->count) return 0;
    for (int r = 0; r < n; r++) {
        rail[0] += stage->sent[r][0];
        rail[1] += stage->sent[r][1];
    }
    printf("  %llu MB over rail0, %llu MB over rail1, %llu retries, %d steps\n", rail[0] / 1000000, rail[1] / 1000000,
           stage->retries, stage->steps[0]);
    /* Uncut, both carry their share; cut, there were pieces to be sent again. */
    if (!p->cut && !balanced(n)) wrong = 1;
    if (p->cut && stage->retries == 0) wrong = 1;
    if (wrong) fprintf(stderr, "the networks were not used as they should\n");
    return wrong;
}

static int hosts_scene(const struct scene *s, unsigned seed)
{
    const struct plot *p = s->arg;
    int status[MAX_RANKS], n = (int)strlen(p->hosts), failed = 0;
    struct ranks_play *play;

    memset(stage, 0, sizeof(*stage));
    stage->plot = p;
    prepare();
    set_hosts(p->hosts);
    play = ranks_start(n, rank_main, (void *)(uintptr_t)p);
    wait_working(n);
    strike(p, play, seed);
    if (p->survives) let_work(p, n);
    if (p->signal == SIGSTOP) {
        double until = stage->struck_at + WATCHDOG_S / 4;
        while (stage->error_at[p->victim ? 0 : 1] == 0 && scene_now() < until) scene_sleep_ms(5);
        scene_sleep_ms(100);
        kill(ranks_pid(play, p->victim), SIGCONT);
    }
    ranks_finish(play, WATCHDOG_S, status);
    each_cut(p, put_up);
    for (int r = 0; r < n; r++) {
        bool dead = r == p->victim && p->signal == SIGKILL;
        if (status[r] == (dead ? -SIGKILL : 0)) continue;
        fprintf(stderr, "rank %d ended with %d\n", r, status[r]);
        failed = 1;
    }
    if (failed) return 1;
    return p->survives ? judge_traffic(n) : judge_times(n);
}

#define LARGE (1 << 20)
static const struct plot both = {"ab", LARGE, NULL, false, -1, 0, true},
                         cut_first = {"abab", LARGE, "b rail0", false, -1, 0, true},
                         cut_root = {"abc", LARGE, "a rail0", false, -1, 0, true},
                         first_down = {"ab", LARGE, "b rail0", true, -1, 0, true},
                         idle_cut = {"aabb", 0, "b rail0", false, -1, 0, true},
                         cut_all = {"aabb", LARGE, "b rail0 b rail1", false, -1, 0, false},
                         all_down = {"abab", LARGE, "b rail0 b rail1", true, -1, 0, false},
                         idle_off = {"abc", 0, "a rail0 a rail1", false, -1, 0, false},
                         killed = {"aabbc", LARGE, NULL, false, 3, SIGKILL, false},
                         idle_killed = {"abc", 0, NULL, false, 1, SIGKILL, false},
                         stopped = {"aabb", LARGE, NULL, false, 2, SIGSTOP, false},
                         idle_stopped = {"abc", 0, NULL, false, 0, SIGSTOP, false};

int main(int argc, char **argv)
{
    static const struct scene scenes[] = {
        {"two_rails", hosts_scene, 1, &both},    {"cut_first", hosts_scene, 1, &cut_first},
        {"cut_root", hosts_scene, 1, &cut_root}, {"first_down", hosts_scene, 1, &first_down},
        {"idle_cut", hosts_scene, 1, &idle_cut}, {"cut_all", hosts_scene, 1, &cut_all},
        {"all_down", hosts_scene, 1, &all_down}, {"idle_off", hosts_scene, 1, &idle_off},
        {"killed", hosts_scene, 1, &killed},     {"idle_killed", hosts_scene, 1, &idle_killed},
        {"stopped", hosts_scene, 1, &stopped},   {"idle_stopped", hosts_scene, 1, &idle_stopped},
    };
    char text[32];

    stage = scene_shared(sizeof(*stage));
    dead_after *= scene_slack() < MAX_STRETCH ? scene_slack() : MAX_STRETCH;
    snprintf(text, sizeof(text), "%dms", (int)(dead_after * 1000));
    setenv("MEDLEY_DEAD_AFTER", text, 1);
    return scene_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
