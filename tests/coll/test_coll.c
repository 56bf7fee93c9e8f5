/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Randomised collectives against the reference: test_coll [-n ranks] [-c cases] [-s seed] [-t: threads] [-m max count]
 * [-a: asynchronous streams] [-l: look at the links] [-p: cases that cover all pairs instead, see cover.h] [-q k/n: of
 * these the k-th of n parts] [-v] Every
 * type, operation, size class, root, in place or not, mapped or ordinary buffers is drawn; the first draws walk through
 * all collectives x types. The environment (MEDLEY_TRANSPORT, MEDLEY_ALGO, MEDLEY_CMA ...) chooses the path. AllReduce
 * results must be bit-identical on all ranks. With -l ranks of one host must be linked by shared memory and those of
 * different hosts by TCP.
 */
#include "config.h"

#include "tests/coll/cover.h"
#include "tests/coll/home.h"
#include "tests/coll/ranks.h"
#include "tests/coll/reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
    int ranks, cases, seconds, part, parts;
    unsigned seed;
    bool threads, async, links, pairs, verbose;
    size_t max;
};

static unsigned next(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static size_t draw_count(unsigned *s, size_t max)
{
    static const size_t special[] = {0, 1, 2, 3, 7, 8, 63, 64, 65, 1000, 1024, 4097, 65536, 262147, 1048577};
    size_t n = next(s) % 3 ? special[next(s) % (sizeof(special) / sizeof(special[0]))] : next(s) % 20000;

    return n > max ? n % (max + 1) : n;
}

static bool reduces(medleyColl_t k)
{
    return k == medleyCollAllReduce || k == medleyCollReduce || k == medleyCollReduceScatter ||
           k == medleyCollReduceScatterV;
}

static struct coll_case draw(unsigned i, unsigned *s, int n, size_t max)
{
    struct coll_case c = {.seed = next(s)};

    c.coll = (medleyColl_t)(i % (medleyCollAlltoAllV + 1));
    c.dtype = (medleyDataType_t)((i / (medleyCollAlltoAllV + 1) + next(s) % 2) % medleyNumTypes);
    c.op = reduces(c.coll) ? (medleyRedOp_t)(next(s) % 6) : medleySum;
    c.count = draw_count(s, max);
    c.root = (int)(next(s) % (unsigned)n);
    c.in_place = next(s) % 2;
    c.mem_alloc = next(s) % 3 == 0;
    /* products of many 2s leave the small types; 8-bit floats hold only small integers */
    if (c.op == medleyProd && n > 3) c.op = medleyMax;
    return c;
}

/* The transport of each link that was used, by the names of the hosts. */
static int wrong_links(medleyComm_t comm, int rank, int n)
{
    medleyPeerStats_t *peers = calloc((size_t)n, sizeof(*peers));
    medleyCommStats_t stats = {.size = sizeof(stats), .npeers = n, .peers = peers};
    medleyRankInfo_t self = {.size = sizeof(self)}, info = {.size = sizeof(info)};
    int wrong = !peers || medleyCommGetStats(comm, &stats) || medleyCommGetInfo(comm, rank, &self);

    for (int r = 0; r < n && !wrong; r++) {
        if (medleyCommGetInfo(comm, r, &info)) return 1;
        const char *wanted = r == rank ? "self" : strcmp(info.host, self.host) == 0 ? "shm" : "tcp";
        if (strcmp(info.transport, wanted) == 0 && (!peers[r].transport[0] || !strcmp(peers[r].transport, wanted)))
            continue;
        fprintf(stderr, "rank %d (%s) reaches rank %d (%s) by %s, not by %s\n", rank, self.host, r, info.host,
                info.transport, wanted);
        wrong = 1;
    }
    free(peers);
    return wrong;
}

static struct coll_case *draw_all(const struct options *o, int n, int *cases)
{
    struct coll_case *list = NULL;
    unsigned s = o->seed;

    *cases = o->pairs ? cover_pairs(o->seed, n, o->max, &list) : o->cases;
    if (o->pairs) {
        int kept = 0;
        for (int i = o->part - 1; i < *cases; i += o->parts) list[kept++] = list[i];
        *cases = kept;
        return list;
    }
    list = malloc((size_t)*cases * sizeof(*list) + 1);
    for (int i = 0; list && i < *cases; i++) list[i] = draw((unsigned)i, &s, n, o->max);
    if (!list) abort();
    return list;
}

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    const struct options *o = arg;
    int cases;
    struct coll_case *list = draw_all(o, w->nranks, &cases);
    medleyComm_t comm;
    medleyCommStats_t stats = {.size = sizeof(stats)};
    void *stream = NULL;
    int wrong = 0;

    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    config.device = home_name(rank);
    /* Some on the vendor's default stream; of one process a single one, as two ranks on a stream wait for each other. */
    if (home_enter(config.device, o->threads ? rank != 2 : rank % 3 != 2) != medleySuccess) {
        fprintf(stderr, "rank %d: no device %s: %s\n", rank, config.device, medleyGetLastError(NULL));
        return 1;
    }
    if (ranks_comm(w, rank, &config, &comm) != medleySuccess) {
        fprintf(stderr, "rank %d: cannot make the communicator: %s\n", rank, medleyGetLastError(NULL));
        return 1;
    }
    ranks_meet(w, 0); /* from here on no rank allocates on its device */
    if (o->async && medleyStreamCreate(&stream) != medleySuccess) return 1;
    for (int i = 0; i < cases && !wrong; i++) {
        struct coll_case c = list[i];
        unsigned long long hash = 0;
        char text[256];

        if (o->verbose && rank == 0) {
            coll_case_text(&c, text, sizeof(text));
            fprintf(stderr, "%d: %s\n", i, text);
        }
        wrong = coll_case_run(&c, comm, rank, w->nranks, stream, &hash);
    }
    if (o->links && !wrong) wrong = wrong_links(comm, rank, w->nranks);
    if (medleyCommGetStats(comm, &stats) != medleySuccess) wrong = 1;
    if (rank == 0 && !wrong)
        printf("%d cases on %d ranks right; plans built %llu, reused %llu\n", cases, w->nranks,
               (unsigned long long)stats.plans_built, (unsigned long long)stats.plans_reused);
    if (stream && medleyStreamDestroy(stream) != medleySuccess) wrong = 1;
    if (wrong ? medleyCommAbort(comm) : medleyCommDestroy(comm)) wrong = 1;
    home_leave();
    free(list);
    return wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o = {.ranks = 4, .cases = 300, .seconds = 100, .part = 1, .parts = 1, .seed = 1, .max = 100000};
    int opt, failed;

    while ((opt = getopt(argc, argv, "n:c:s:m:d:q:talpv")) != -1) {
        switch (opt) {
        case 'n': o.ranks = atoi(optarg); break;
        case 'c': o.cases = atoi(optarg); break;
        case 's': o.seed = (unsigned)atoi(optarg); break;
        case 'm': o.max = strtoull(optarg, NULL, 0); break;
        case 'd': o.seconds = atoi(optarg); break;
        case 't': o.threads = true; break;
        case 'a': o.async = true; break;
        case 'l': o.links = true; break;
        case 'p': o.pairs = true; break;
        case 'q':
            if (sscanf(optarg, "%d/%d", &o.part, &o.parts) != 2 || o.part < 1 || o.part > o.parts) return 2;
            break;
        case 'v': o.verbose = true; break;
        default: return 2;
        }
    }
    printf("seed %u, %d ranks as %s\n", o.seed, o.ranks, o.threads ? "threads" : "processes");
    failed = ranks_run(o.ranks, o.threads, rank_main, &o, o.seconds, NULL);
    if (failed) fprintf(stderr, "%d of %d ranks failed (seed %u)\n", failed, o.ranks, o.seed);
    return failed ? 1 : 0;
}
