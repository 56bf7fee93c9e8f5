/* SPDX-License-Identifier: Apache-2.0 */
/* medleyConfig_t: who may have been compiled against another release, and what each field may hold. */
#include "config.h"

#include "tests/api/scenes.h"

#include <stdlib.h>
#include <string.h>

#define BAD ((medleyComm_t)(uintptr_t)64)

static medleyResult_t make(medleyConfig_t *config, medleyComm_t *c)
{
    medleyUniqueId id;
    medleyResult_t res = medleyGetUniqueId(&id);

    *c = BAD;
    return res == medleySuccess ? medleyCommInitRankConfig(c, 1, id, 0, config) : res;
}

/* Makes a communicator of one rank with it, uses it and destroys it. */
static int accepted(int rank, medleyConfig_t *config)
{
    medleyComm_t comm = NULL;

    OK(make(config, &comm));
    CHECK(api_works(rank, comm) == 0);
    OK(medleyCommDestroy(comm));
    return 0;
}

/* It is an invalid argument, and the words name `field`. */
static int refused(int rank, medleyConfig_t *config, const char *field)
{
    medleyComm_t comm = NULL, c;

    FAILS(make(config, &c), medleyInvalidArgument, field);
    CHECK(c == NULL);
    return 0;
}

/* A caller that was compiled against a release whose structure was longer, and has garbage in what follows it. */
struct newer {
    medleyConfig_t known;
    void *fields[4];
};

static int sizes(struct ranks_world *w, int rank, medleyComm_t comm)
{
    const medleyConfig_t init = MEDLEY_CONFIG_INITIALIZER;
    medleyConfig_t config = init;
    struct newer newer = {.known = MEDLEY_CONFIG_INITIALIZER, .fields = {NULL}};

    (void)w;
    CHECK(accepted(rank, NULL) == 0);
    CHECK(accepted(rank, &config) == 0);
    newer.known.size = sizeof(newer);
    CHECK(accepted(rank, &newer.known) == 0);
    /* Of an older one: what lies behind its end is not looked at. */
    config.size = offsetof(medleyConfig_t, device);
    memset((char *)&config + config.size, 0x5a, sizeof(config) - config.size);
    CHECK(accepted(rank, &config) == 0);
    config.size = offsetof(medleyConfig_t, timeout_ms);
    memset((char *)&config + config.size, 0x5a, sizeof(config) - config.size);
    CHECK(accepted(rank, &config) == 0);
    config = init;
    config.size = offsetof(medleyConfig_t, blocking);
    CHECK(refused(rank, &config, "MEDLEY_CONFIG_INITIALIZER") == 0);
    config.size = 0;
    CHECK(refused(rank, &config, "MEDLEY_CONFIG_INITIALIZER") == 0);
    config = init;
    config.magic++;
    CHECK(refused(rank, &config, "MEDLEY_CONFIG_INITIALIZER") == 0);
    memset(&config, 0, sizeof(config));
    CHECK(refused(rank, &config, "MEDLEY_CONFIG_INITIALIZER") == 0);
    for (int i = 0; i < 16; i++) {
        config = init;
        config.reserved[i] = &config;
        CHECK(refused(rank, &config, "reserved") == 0);
    }
    return 0;
}

static int integers(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const struct {
        const char *name;
        size_t at;
        int good[4], bad[4];
    } fields[] = {
        {"blocking", offsetof(medleyConfig_t, blocking), {1, 1, 1, 1}, {2, -1, INT_MAX, INT_MIN + 1}},
        {"timeout_ms", offsetof(medleyConfig_t, timeout_ms), {0, 1000, 86400000, 1}, {-1, 86400001, INT_MAX, -1000}},
        {"init_timeout_ms",
         offsetof(medleyConfig_t, init_timeout_ms),
         {100000, 86400000, 5000, 9999},
         {0, -1, 86400001, 99}},
        {"deterministic", offsetof(medleyConfig_t, deterministic), {0, 1, 1, 0}, {2, -1, 100, INT_MAX}},
        {"threads", offsetof(medleyConfig_t, threads), {0, 1, 2, 0}, {-1, 257, INT_MAX, -2}},
    };
    medleyConfig_t config;

    (void)w;
    for (size_t f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
        for (int v = 0; v < 4; v++) {
            config = (medleyConfig_t)MEDLEY_CONFIG_INITIALIZER;
            *(int *)(void *)((char *)&config + fields[f].at) = fields[f].good[v];
            CHECK(accepted(rank, &config) == 0);
            *(int *)(void *)((char *)&config + fields[f].at) = fields[f].bad[v];
            CHECK(refused(rank, &config, fields[f].name) == 0);
        }
    }
    config = (medleyConfig_t)MEDLEY_CONFIG_INITIALIZER;
    config.split_share = 1;
    CHECK(accepted(rank, &config) == 0);
    config.memory_budget = 1 << 20;
    CHECK(accepted(rank, &config) == 0);
    config.memory_budget = 4095;
    CHECK(refused(rank, &config, "memory_budget") == 0);
    config.memory_budget = SIZE_MAX;
    CHECK(refused(rank, &config, "memory_budget") == 0);
    (void)comm;
    return 0;
}

static int texts(struct ranks_world *w, int rank, medleyComm_t comm)
{
    char longest[MEDLEY_NAME_BYTES + 1], huge[300];
    medleyConfig_t config;

    (void)w;
    memset(longest, 'n', sizeof(longest));
    memset(huge, 'x', sizeof(huge));
    longest[63] = longest[64] = huge[299] = 0;
#define WITH(field, value) (config = (medleyConfig_t)MEDLEY_CONFIG_INITIALIZER, config.field = (value), &config)
    CHECK(accepted(rank, WITH(device, "host")) == 0);
    CHECK(refused(rank, WITH(device, "cuda:0"), "device") == 0);
    CHECK(refused(rank, WITH(device, huge), "device") == 0);
    CHECK(accepted(rank, WITH(transports, "tcp, shm")) == 0);
    CHECK(refused(rank, WITH(transports, "shm,carrier_pigeon"), "carrier_pigeon") == 0);
    CHECK(refused(rank, WITH(transports, huge), "transports") == 0);
    CHECK(accepted(rank, WITH(cpu_set, "0")) == 0);
    CHECK(refused(rank, WITH(cpu_set, "0-"), "CPU_SET") == 0);
    CHECK(refused(rank, WITH(cpu_set, "all"), "CPU_SET") == 0);
    CHECK(refused(rank, WITH(cpu_set, "0,1023"), "may not use processor 1023") == 0);
    CHECK(refused(rank, WITH(cpu_set, "3-1"), "CPU_SET") == 0);
    CHECK(refused(rank, WITH(net_ifname, huge), "net_ifname") == 0);
    CHECK(accepted(rank, WITH(comm_name, longest)) == 0);
    longest[63] = 'n';
    CHECK(refused(rank, WITH(comm_name, longest), "comm_name") == 0);
    CHECK(accepted(rank, WITH(comm_name, "")) == 0);
#undef WITH
    (void)comm;
    return 0;
}

/* The strings need to live until the call returns, and the error of a communicator has its name. */
static int short_lived(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    char name[] = "ephemeral", transports[] = "shm,tcp", device[] = "host";
    medleyUniqueId id;

    config.comm_name = name;
    config.transports = transports;
    config.device = device;
    config.blocking = 0;
    OK(api_share_id(w, rank, 0, &id));
    CHECK(medleyCommInitRankConfig(&comm, w->nranks, id, rank, &config) == medleyInProgress);
    memset(name, 'z', sizeof(name));
    memset(transports, 'z', sizeof(transports));
    memset(device, 'z', sizeof(device));
    memset(&config, 0x5a, sizeof(config));
    CHECK(api_state_after(comm, medleyInProgress, 20) == medleySuccess);
    OK(medleyCommDestroy(comm));
    return 0;
}

/* A field wins over the environment; what stays undefined comes from there. */
static int over_environment(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyRankInfo_t info = {.size = sizeof(info)};
    medleyUniqueId id;

    OK(api_share_id(w, rank, 0, &id));
    setenv("MEDLEY_TRANSPORT", "tcp", 1);
    OK(medleyCommInitRankConfig(&comm, w->nranks, id, rank, &config));
    OK(medleyCommGetInfo(comm, (rank + 1) % w->nranks, &info));
    CHECK(strcmp(info.transport, "tcp") == 0);
    OK(medleyCommDestroy(comm));
    OK(api_share_id(w, rank, 1, &id));
    config.transports = "shm";
    OK(medleyCommInitRankConfig(&comm, w->nranks, id, rank, &config));
    OK(medleyCommGetInfo(comm, (rank + 1) % w->nranks, &info));
    CHECK(strcmp(info.transport, "shm") == 0);
    OK(medleyCommDestroy(comm));
    OK(api_share_id(w, rank, 2, &id));
    setenv("MEDLEY_THREADS", "many", 1);
    FAILS(medleyCommInitRankConfig(&comm, w->nranks, id, rank, &config), medleyInvalidArgument, "MEDLEY_THREADS");
    CHECK(comm == NULL);
    FAILS(medleyGetUniqueId(&id), medleyInvalidArgument, "MEDLEY_THREADS");
    return 0;
}

/* No transport reaches the others: an error on all that says so, and nothing waits for the deadline. */
static int unreachable(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyUniqueId id;
    medleyComm_t c = BAD;
    double start = scene_now();

    config.transports = "self";
    OK(api_share_id(w, rank, 0, &id));
    CHECK(medleyCommInitRankConfig(&c, w->nranks, id, rank, &config) != medleySuccess);
    CHECK(c == NULL && api_says(NULL, "self"));
    CHECK(scene_now() - start < 5 * scene_slack());
    return 0;
}

/* What all ranks must agree on, and one does not. */
static int disagreement(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyUniqueId id;
    medleyComm_t c = BAD;

    config.deterministic = rank == 1;
    OK(api_share_id(w, rank, 0, &id));
    CHECK(medleyCommInitRankConfig(&c, w->nranks, id, rank, &config) == medleyInvalidUsage);
    CHECK(c == NULL && api_says(NULL, "MEDLEY_DETERMINISTIC"));
    return 0;
}

static const struct api_scene scenes[] = {
    {"sizes", sizes, BARE | ALONE, NULL},
    {"integers", integers, BARE | ALONE, NULL},
    {"texts", texts, BARE | ALONE, NULL},
    {"short_lived", short_lived, BARE, NULL},
    {"over_environment", over_environment, BARE | PROCESSES, NULL},
    {"unreachable", unreachable, BARE, NULL},
    {"disagreement", disagreement, BARE, NULL},
};

int main(int argc, char **argv) { return api_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0])); }
