/* SPDX-License-Identifier: Apache-2.0 */
/* Teams for the plan tests; see teams.h. */
#include "config.h"
#include "tests/plan/teams.h"
#include <stdlib.h>

const char *placement_name(enum placement placement)
{
    static const char *const names[PLACEMENTS] = {"one host", "two hosts", "interleaved", "uneven",
                                                  "eights",   "scattered", "apart"};
    return names[placement];
}

static int host_number(int r, int n, enum placement placement)
{
    switch (placement) {
    case PLACE_ONE: return 0;
    case PLACE_TWO: return r >= (n + 1) / 2;
    case PLACE_INTERLEAVED: return r % 2;
    case PLACE_UNEVEN: {
        int h = 0;
        for (int end = 1; r >= end; end += h + 1) h++;
        return h;
    }
    case PLACE_EIGHTS: return r / 8;
    case PLACE_SCATTERED: return (int)((uint32_t)(r + n) * 2654435761u >> 28) % 3;
    default: return r;
    }
}

static void *must(void *p)
{
    if (!p) abort();
    return p;
}

static void number_hosts(struct team *t, const int *host_of)
{
    for (int r = 0; r < t->t.nranks; r++) {
        int same = 0;
        while (host_of[same] != host_of[r]) same++;
        t->host[r] = same < r ? t->host[same] : t->t.nhosts++;
        t->local[r] = t->size[t->host[r]]++;
    }
    int *next = t->rank_of;
    for (int h = 0; h < t->t.nhosts; h++) {
        t->members[h] = next;
        next += t->size[h];
    }
    for (int r = 0; r < t->t.nranks; r++) t->members[t->host[r]][t->local[r]] = r;
}

struct team *team_from(int nranks, const int *host_of)
{
    size_t n = (size_t)nranks;
    struct team *t = must(calloc(1, sizeof(*t)));
    t->host = must(calloc(n, sizeof(int)));
    t->local = must(calloc(n, sizeof(int)));
    t->size = must(calloc(n, sizeof(int)));
    t->rank_of = must(calloc(n, sizeof(int)));
    t->members = must(calloc(n, sizeof(int *)));
    t->t = (struct mdl_team){.nranks = nranks,
                             .remote_scratch = true,
                             .local_alpha = 300,
                             .local_beta = 120,
                             .net_alpha = 15000,
                             .net_beta = 800,
                             .copy_beta = 100,
                             .reduce_beta = 120,
                             .get_beta = 120,
                             .cores = 8,
                             .rails = 1};
    number_hosts(t, host_of);
    t->t.host = t->host;
    t->t.local = t->local;
    t->t.host_size = t->size;
    t->t.members = (const int *const *)t->members;
    return t;
}

struct team *team_new(int nranks, enum placement placement)
{
    int *host_of = must(calloc((size_t)nranks, sizeof(int)));
    for (int r = 0; r < nranks; r++) host_of[r] = host_number(r, nranks, placement);
    struct team *t = team_from(nranks, host_of);
    free(host_of);
    return t;
}

void team_free(struct team *t)
{
    free(t->host);
    free(t->local);
    free(t->size);
    free(t->rank_of);
    free(t->members);
    free(t);
}
