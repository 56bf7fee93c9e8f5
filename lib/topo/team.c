/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds the team from gathered facts. Hosts are cliques: a rank joins the first host whose members it reaches, all of
 * them and both ways; containers can make reach intransitive, and then a smaller host is right while a larger one is
 * not.
 */
#include "config.h"

#include "lib/topo/team.h"

#include <stdlib.h>

/* Costs of paths, which are not measured when the library starts: those of current servers while pieces stay in the
 * caches. They only have to rank algorithms. Fitted to bench/variants on two cores of an AMD EPYC, 64 KiB to 4 MiB. */
enum {
    LOCAL_ALPHA_NS = 400,
    LOCAL_BETA_PS = 130,
    GET_BETA_PS = 130,
    CROWDED_GET = 3, /* times that where ranks share processors, as measured: three and four ranks on two cores */
    COPY_BETA_PS = 40,
    REDUCE_BETA_PS = 40,
    NET_ALPHA_NS = 12000,
    NET_MBPS_UNKNOWN = 10000,
};

struct team_box {
    struct mdl_team team;
    int *host, *local, *host_size;
    int **members;
};

static bool near_both(const struct mdl_team_facts *facts, int a, int b, uint8_t bit)
{
    return a == b || ((facts[a].near[b] & bit) && (facts[b].near[a] & bit));
}

static bool fits_host(const struct team_box *box, const struct mdl_team_facts *facts, int host, int rank)
{
    for (int i = 0; i < box->host_size[host]; i++) {
        if (!near_both(facts, rank, box->members[host][i], MDL_NEAR_SEND)) return false;
    }
    return true;
}

static medleyResult_t place_ranks(struct team_box *box, const struct mdl_team_facts *facts)
{
    int n = box->team.nranks;

    for (int r = 0; r < n; r++) {
        int h = 0;
        while (h < box->team.nhosts && !fits_host(box, facts, h, r)) h++;
        if (h == box->team.nhosts) {
            box->members[h] = calloc((size_t)n, sizeof(int));
            if (!box->members[h]) return mdl_error(medleySystemError, "out of memory for a team of %d ranks", n);
            box->team.nhosts++;
        }
        box->host[r] = h;
        box->local[r] = box->host_size[h];
        box->members[h][box->host_size[h]++] = r;
    }
    return medleySuccess;
}

/* Do all pairs of every host have `bit`? */
static bool all_near(const struct team_box *box, const struct mdl_team_facts *facts, uint8_t bit)
{
    for (int h = 0; h < box->team.nhosts; h++) {
        for (int i = 0; i < box->host_size[h]; i++) {
            for (int j = 0; j < i; j++) {
                if (!near_both(facts, box->members[h][i], box->members[h][j], bit)) return false;
            }
        }
    }
    return true;
}

static bool is_crowded(const struct mdl_team *t)
{
    for (int h = 0; h < t->nhosts; h++)
        if (t->host_size[h] > (int)t->cores) return true;
    return false;
}

static void set_speeds(struct mdl_team *t, const struct mdl_team_facts *facts)
{
    uint32_t mbps = UINT32_MAX;

    t->cores = facts[0].cores;
    t->rails = facts[0].rails;
    for (int r = 0; r < t->nranks; r++) {
        uint32_t m = facts[r].net_mbps ? facts[r].net_mbps : NET_MBPS_UNKNOWN;
        if (m < mbps) mbps = m;
        if (facts[r].cores < t->cores) t->cores = facts[r].cores;
        if (facts[r].rails < t->rails) t->rails = facts[r].rails;
    }
    if (t->cores == 0) t->cores = 1;
    if (t->rails == 0) t->rails = 1;
    t->local_alpha = LOCAL_ALPHA_NS;
    t->local_beta = LOCAL_BETA_PS;
    t->get_beta = GET_BETA_PS * (is_crowded(t) ? CROWDED_GET : 1);
    t->copy_beta = COPY_BETA_PS;
    t->reduce_beta = REDUCE_BETA_PS;
    t->net_alpha = NET_ALPHA_NS;
    t->net_beta = 8000000u / mbps; /* picoseconds per byte */
}

medleyResult_t mdl_team_make(int nranks, const struct mdl_team_facts *facts, struct mdl_team **team)
{
    struct team_box *box = calloc(1, sizeof(*box));
    size_t n = (size_t)nranks;
    medleyResult_t res;

    if (!box) return mdl_error(medleySystemError, "out of memory for a team of %d ranks", nranks);
    box->team.nranks = nranks;
    box->host = calloc(n, sizeof(int));
    box->local = calloc(n, sizeof(int));
    box->host_size = calloc(n, sizeof(int));
    box->members = calloc(n, sizeof(int *));
    if (!box->host || !box->local || !box->host_size || !box->members) {
        res = mdl_error(medleySystemError, "out of memory for a team of %d ranks", nranks);
        goto free_box;
    }
    res = place_ranks(box, facts);
    if (res != medleySuccess) goto free_box;
    box->team.host = box->host;
    box->team.local = box->local;
    box->team.host_size = box->host_size;
    box->team.members = (const int *const *)box->members;
    box->team.remote_scratch = all_near(box, facts, MDL_NEAR_MAP);
    box->team.remote_get = box->team.remote_scratch && all_near(box, facts, MDL_NEAR_GET);
    set_speeds(&box->team, facts);
    *team = &box->team;
    return medleySuccess;
free_box:
    mdl_team_free(&box->team);
    return res;
}

void mdl_team_free(struct mdl_team *team)
{
    struct team_box *box = (struct team_box *)team;

    if (!box) return;
    for (int h = 0; box->members && h < box->team.nhosts; h++) free(box->members[h]);
    free(box->members);
    free(box->host_size);
    free(box->local);
    free(box->host);
    free(box);
}
