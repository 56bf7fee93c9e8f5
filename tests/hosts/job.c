/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job of ranks on the hosts of MDL_TEST_NETNS, whose links are looked at: job [-n ranks] [-i interfaces] [-d seconds]
 * [-e text] [-l seconds]. Ranks on one host must be linked by shared memory, all others by TCP, over exactly these
 * interfaces (comma-separated, sorted) if -i is given. With -e no communicator may come about, and every rank's error
 * has the text, or one of several with | between them. With -l the last rank is late. All of it within -d seconds (on
 * an idle machine).
 */
#include "config.h"

#include "tests/coll/ranks.h"
#include "tests/fault/scene.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COUNT = 1 << 18, MAX_RANKS = 16 };

struct job {
    int ranks;
    double seconds, late;
    const char *interfaces, *error;
};

static int compute(medleyComm_t comm, int rank, int n, size_t count, int *in, int *out)
{
    for (size_t i = 0; i < count; i++) in[i] = (int)i + rank;
    OK(medleyAllReduce(in, out, count, medleyInt32, medleySum, comm, NULL));
    for (size_t i = 0; i < count; i++) CHECK(out[i] == (int)i * n + n * (n - 1) / 2);
    count = count / (size_t)n * (size_t)n;
    for (size_t i = 0; i < count; i++) in[i] = rank * COUNT + (int)(i / (count / (size_t)n));
    OK(medleyAlltoAll(in, out, count / (size_t)n, medleyInt32, comm, NULL));
    for (size_t i = 0; i < count; i++) CHECK(out[i] == (int)(i / (count / (size_t)n)) * COUNT + rank);
    return 0;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The words of a comma-separated list in order. */
static void sort_list(char *list)
{
    char copy[MEDLEY_NAME_BYTES], *words[MEDLEY_NAME_BYTES], *save;
    size_t n = 0;

    snprintf(copy, sizeof(copy), "%s", list);
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) words[n++] = w;
    qsort(words, n, sizeof(*words), by_name);
    list[0] = 0;
    for (size_t i = 0; i < n; i++) {
        strcat(list, i ? "," : "");
        strcat(list, words[i]);
    }
}

/* Does every link have the interfaces it shall have? */
static bool links_are(medleyComm_t comm, const medleyRankInfo_t *self, int n, const char *interfaces)
{
    for (int r = 0; r < n; r++) {
        medleyRankInfo_t info = {.size = sizeof(info)};
        if (medleyCommGetInfo(comm, r, &info) != medleySuccess) return false;
        sort_list(info.interface);
        if (strcmp(info.host, self->host) != 0 && strcmp(info.interface, interfaces) != 0) return false;
    }
    return true;
}

static void show_links(medleyComm_t comm, int rank, int n)
{
    for (int r = 0; r < n; r++) {
        medleyRankInfo_t info = {.size = sizeof(info)};
        if (medleyCommGetInfo(comm, r, &info) != medleySuccess) return;
        fprintf(stderr, "rank %d to rank %d (%s): %s over \"%s\"\n", rank, r, info.host, info.transport,
                info.interface);
    }
}

static int check_links(medleyComm_t comm, int rank, int n)
{
    medleyRankInfo_t self = {.size = sizeof(self)};
    medleyPeerStats_t peers[MAX_RANKS];
    medleyCommStats_t stats = {.size = sizeof(stats), .npeers = MAX_RANKS, .peers = peers};

    OK(medleyCommGetInfo(comm, rank, &self));
    OK(medleyCommGetStats(comm, &stats));
    CHECK(stats.npeers == n);
    for (int r = 0; r < n; r++) {
        medleyRankInfo_t info = {.size = sizeof(info)};
        OK(medleyCommGetInfo(comm, r, &info));
        const char *wanted = r == rank ? "self" : strcmp(info.host, self.host) == 0 ? "shm" : "tcp";
        CHECK(strcmp(info.transport, wanted) == 0);
        CHECK(strcmp(peers[r].transport, wanted) == 0);
        CHECK(r == rank || strcmp(wanted, "tcp") != 0 || (peers[r].sent_bytes > 0 && peers[r].recv_bytes > 0));
    }
    return 0;
}

/* Interfaces that do not lead anywhere take a while to be given up, those that do to be joined. */
static int wait_links(medleyComm_t comm, int rank, int n, const struct job *job, int *in, int *out)
{
    medleyRankInfo_t self = {.size = sizeof(self)};
    double until = scene_now() + job->seconds * scene_slack();
    int go_on[2] = {0, 1}, *ready = &go_on[0], *in_time = &go_on[1];

    OK(medleyCommGetInfo(comm, rank, &self));
    while (!*ready && *in_time) {
        int mine[2] = {links_are(comm, &self, n, job->interfaces), rank > 0 || scene_now() < until};
        OK(medleyAllReduce(mine, go_on, 2, medleyInt32, medleyMin, comm, NULL));
        if (!*ready && compute(comm, rank, n, 1000, in, out)) return 1;
    }
    if (!*ready) show_links(comm, rank, n);
    CHECK(*ready);
    return 0;
}

static bool has_one_of(const char *text, const char *words)
{
    char copy[256], *save;

    snprintf(copy, sizeof(copy), "%s", words);
    for (char *w = strtok_r(copy, "|", &save); w; w = strtok_r(NULL, "|", &save))
        if (strstr(text, w)) return true;
    return false;
}

static int refused(struct ranks_world *w, int rank, const struct job *job)
{
    medleyComm_t comm = NULL;
    medleyResult_t res = ranks_comm(w, rank, NULL, &comm);

    CHECK(res != medleySuccess);
    if (rank && w->id_ready == 2) return 0; /* this rank was not even asked */
    printf("rank %d: %s\n", rank, medleyGetLastError(NULL));
    CHECK(has_one_of(medleyGetLastError(NULL), job->error));
    return 0;
}

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    const struct job *job = arg;
    int n = w->nranks, *in = calloc(COUNT, sizeof(int)), *out = calloc(COUNT, sizeof(int));
    double start = scene_now();
    medleyComm_t comm = NULL;

    if (!in || !out) return 1;
    if (job->error) {
        if (refused(w, rank, job)) return 1;
    } else {
        OK(ranks_comm(w, rank, NULL, &comm));
        if (rank == n - 1) scene_sleep_ms(job->late * 1e3);
        if (compute(comm, rank, n, COUNT, in, out) || check_links(comm, rank, n)) return 1;
        if (job->interfaces && wait_links(comm, rank, n, job, in, out)) return 1;
        OK(medleyCommDestroy(comm));
        comm = NULL;
    }
    if (rank == 0) printf("%.2f s\n", scene_now() - start);
    CHECK(scene_now() - start < job->seconds * scene_slack());
    free(in);
    free(out);
    return 0;
}

int main(int argc, char **argv)
{
    struct job job = {.ranks = 2, .seconds = 5};
    int opt, failed;

    while ((opt = getopt(argc, argv, "n:i:d:e:l:")) != -1) {
        switch (opt) {
        case 'n': job.ranks = atoi(optarg); break;
        case 'i': job.interfaces = optarg; break;
        case 'd': job.seconds = strtod(optarg, NULL); break;
        case 'l': job.late = strtod(optarg, NULL); break;
        case 'e': job.error = optarg; break;
        default: return 2;
        }
    }
    failed = ranks_run(job.ranks, false, rank_main, &job, (int)(3 * job.seconds * scene_slack()) + 10, NULL);
    return failed ? 1 : 0;
}
