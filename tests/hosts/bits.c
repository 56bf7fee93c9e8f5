/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Are the bits of an all-reduce the same on every rank, whatever its processor? bits [-n ranks] [-c cases] [-s seed]
 * [-a arch,arch...]. Each rank reduces random bit patterns, in which every kind of number occurs: NaNs with any
 * payload, infinities, denormals, zeros of both signs, and sums that round. All ranks compare a hash of what they got.
 * With -a the ranks must have these architectures, as medleyCommGetInfo tells them. At last a hash of everything is
 * printed: with MEDLEY_DETERMINISTIC=1 it must not depend on algorithms, transports and devices (MDL_TEST_DEVICES, see
 * home.h) either.
 */
#include "config.h"

#include "tests/coll/home.h"
#include "tests/coll/ranks.h"
#include "tests/fault/scene.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_RANKS = 16, MAX_COUNT = 5000 };

struct options {
    int ranks, cases, seconds;
    unsigned seed;
    const char *archs;
};

static const size_t type_size[medleyNumTypes] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};

static uint64_t hash_bytes(uint64_t h, const void *p, size_t len)
{
    for (const uint8_t *b = p; len--; b++) h = (h ^ *b) * 0x100000001b3u;
    return h;
}

/* The exponent and sign of a number in little-endian bytes are in its last ones: some of them are made extreme. */
static void fill(uint8_t *p, size_t bytes, size_t size, unsigned *random)
{
    for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)scene_random(random);
    for (size_t i = 0; i + size <= bytes; i += size) {
        unsigned kind = scene_random(random) % 16, sign = scene_random(random) & 0x80;
        if (kind == 0) memset(p + i, 0, size);                     /* zero */
        if (kind == 1 && size > 1) memset(p + i + 1, 0, size - 1); /* denormal */
        if (kind < 2) p[i + size - 1] = (uint8_t)sign;
        if (kind == 2) memset(p + i, 0xff, size);                           /* NaN, or the largest integer */
        if (kind > 8 && size > 1) p[i + size - 1] = (uint8_t)(0x3f | sign); /* near each other, so that sums round */
    }
}

static int check_archs(medleyComm_t comm, int rank, int n, const char *archs)
{
    for (int r = 0; r < n; r++) {
        medleyRankInfo_t info = {.size = sizeof(info)};
        size_t len = strcspn(archs, ",");
        OK(medleyCommGetInfo(comm, r, &info));
        if (len != strlen(info.arch) || memcmp(archs, info.arch, len) != 0)
            fprintf(stderr, "rank %d says that rank %d is %s, not %.*s\n", rank, r, info.arch, (int)len, archs);
        CHECK(len == strlen(info.arch) && memcmp(archs, info.arch, len) == 0);
        archs += len + (archs[len] == ',');
    }
    return 0;
}

/* All-reduces host memory, or the same in the rank's device. */
static int reduce(medleyComm_t comm, int rank, const uint8_t *in, uint8_t *out, size_t count, medleyDataType_t type,
                  medleyRedOp_t op)
{
    size_t bytes = count * type_size[type];
    void *from, *to;

    if (!home_is_device()) {
        OK(medleyAllReduce(in, out, count, type, op, comm, NULL));
        return 0;
    }
    from = home_copy_in(in, bytes);
    to = home_take(bytes);
    OK(medleyAllReduce(from, to, count, type, op, comm, home_stream()));
    OK(home_sync());
    home_copy_out(out, to, bytes);
    home_free(from);
    home_free(to);
    return 0;
}

static int one_case(medleyComm_t comm, int rank, int n, unsigned *shared, uint8_t *in, uint8_t *out, uint64_t *all)
{
    medleyDataType_t type = (medleyDataType_t)(scene_random(shared) % medleyNumTypes);
    medleyRedOp_t op = (medleyRedOp_t)(scene_random(shared) % medleyNumOps);
    size_t count = 1 + scene_random(shared) % (scene_random(shared) % 3 ? 300 : MAX_COUNT);
    unsigned own = scene_random(shared) * MAX_RANKS + (unsigned)rank;
    uint64_t mine, hashes[MAX_RANKS];

    fill(in, count * type_size[type], type_size[type], &own);
    if (reduce(comm, rank, in, out, count, type, op)) return 1;
    mine = hash_bytes(0xcbf29ce484222325u, out, count * type_size[type]);
    OK(medleyAllGather(&mine, hashes, 1, medleyUint64, comm, home_stream()));
    if (home_is_device()) OK(home_sync());
    for (int r = 0; r < n; r++) {
        if (hashes[r] == mine) continue;
        fprintf(stderr, "rank %d and rank %d have other bits: %zu elements of type %d, operation %d\n", rank, r, count,
                type, op);
        return 1;
    }
    *all = hash_bytes(*all, &mine, sizeof(mine));
    return 0;
}

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    const struct options *o = arg;
    unsigned shared = o->seed;
    uint8_t *in = malloc(MAX_COUNT * 8), *out = malloc(MAX_COUNT * 8);
    uint64_t all = 0;
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t comm = NULL;
    int wrong = 0;

    if (!in || !out) return 1;
    config.device = home_name(rank);
    OK(home_enter(config.device, rank % 2));
    OK(ranks_comm(w, rank, &config, &comm));
    ranks_meet(w, 0);
    if (o->archs && check_archs(comm, rank, w->nranks, o->archs)) return 1;
    for (int i = 0; i < o->cases && !wrong; i++) wrong = one_case(comm, rank, w->nranks, &shared, in, out, &all);
    if (rank == 0 && !wrong) printf("%d cases, hash %016llx\n", o->cases, (unsigned long long)all);
    OK(medleyCommDestroy(comm));
    if (!wrong) home_leave();
    free(in);
    free(out);
    return wrong;
}

int main(int argc, char **argv)
{
    struct options o = {.ranks = 4, .cases = 200, .seconds = 60, .seed = 1};
    int opt;

    while ((opt = getopt(argc, argv, "n:c:s:a:d:")) != -1) {
        switch (opt) {
        case 'n': o.ranks = atoi(optarg); break;
        case 'c': o.cases = atoi(optarg); break;
        case 's': o.seed = (unsigned)atoi(optarg); break;
        case 'a': o.archs = optarg; break;
        case 'd': o.seconds = atoi(optarg); break;
        default: return 2;
        }
    }
    return ranks_run(o.ranks, false, rank_main, &o, o.seconds, NULL) ? 1 : 0;
}
