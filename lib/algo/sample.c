/* SPDX-License-Identifier: Apache-2.0 */
/* The sample of ranks behind a prediction and how its plans hang together; see cost.h. */
#include "config.h"
#include "lib/algo/common.h"
#include "lib/algo/cost.h"
#include <stdlib.h>

enum {
    SMALL_TEAM = 4,      /* up to here all ranks are in the sample */
    MATES = 4,           /* ranks of the first host */
    LONE_MATES = 2,      /* if it is the only one: then all do the same */
    MOST_INSTS = 1 << 12 /* the sample ends where its plans grow beyond */
};

size_t mdl_cost_count(const struct mdl_collective *c)
{
    const size_t nominal_bytes = 65536;
    return mdl_collective_is_v(c) ? nominal_bytes / mdl_dtype_size(c->dtype) : c->count;
}

/* ---- which ranks ---- */

static uint32_t sample_find(const struct mdl_cost *cost, int rank)
{
    uint32_t s = 0;
    while (s < cost->nranks && cost->rank[s] != rank) s++;
    return s;
}

static uint32_t host_add(struct mdl_cost *cost, int rank)
{
    for (uint32_t s = 0; s < cost->nranks; s++)
        if (cost->team->host[cost->rank[s]] == cost->team->host[rank]) return cost->host[s];
    cost->at[cost->hosts].size = (uint32_t)cost->team->host_size[cost->team->host[rank]];
    return cost->hosts++;
}

static bool sample_add(struct mdl_cost *cost, const struct mdl_algo *algo, int rank)
{
    uint32_t s = cost->nranks;
    if (sample_find(cost, rank) < s) return true;
    if (s == MDL_COST_SAMPLE || (s && cost->first[s] > MOST_INSTS)) return true;
    if (mdl_algo_plan(algo, cost->team, &cost->c, rank, &cost->plan[s]) != medleySuccess) return false;
    const struct mdl_plan *p = cost->plan[s];
    cost->host[s] = host_add(cost, rank);
    cost->at[cost->host[s]].sampled++;
    cost->rank[s] = rank;
    cost->first[s + 1] = cost->first[s] + p->ninsts;
    cost->nranks++;
    cost->flags |= p->flags;
    if (p->channels > cost->channels) cost->channels = p->channels;
    if (p->scratch_slots > cost->scratch_slots) cost->scratch_slots = p->scratch_slots;
    return true;
}

/* The peer of the last RECV: in a tree the way that takes longest. Whoever receives more often than a tree needs waits
 * for nobody in particular: -1. */
static int waited_for(const struct mdl_plan *p, int n)
{
    int peer = -1, receives = 0, most = 3;
    for (int size = 1; size < n; size *= 2) most += 2;
    for (uint32_t i = 0; i < p->ninsts; i++)
        if (p->insts[i].op == MDL_OP_RECV) peer = (int)p->insts[i].peer, receives++;
    return receives > most ? -1 : peer;
}

static bool choose_ranks(struct mdl_cost *cost, const struct mdl_algo *algo)
{
    const struct mdl_team *team = cost->team;
    int n = team->nranks, start = cost->c.root > 0 ? cost->c.root : 0, most = team->nhosts > 1 ? MATES : LONE_MATES;
    bool ok = sample_add(cost, algo, start);
    for (int r = 0; r < n && n <= SMALL_TEAM && ok; r++) ok = sample_add(cost, algo, r);
    const int *mates = team->members[team->host[start]];
    for (int i = 0; i < team->host_size[team->host[start]] && i < most && ok; i++)
        ok = sample_add(cost, algo, mates[i]);
    ok = ok && sample_add(cost, algo, (start + n - 1) % n);
    for (uint32_t s = 0; s < cost->nranks && ok; s++) {
        int peer = waited_for(cost->plan[s], n);
        if (peer >= 0) ok = sample_add(cost, algo, peer);
    }
    return ok;
}

/* ---- who ends whom ---- */

/* SENDs or SIGNALs of one lane whose ends are still to be found, in order. */
struct open_lane {
    uint64_t key;
    uint32_t head, tail;
};

struct matcher {
    struct open_lane *lanes;
    uint32_t mask;
    uint32_t *next; /* [instruction] the next one in its lane */
};

static uint64_t lane_key(uint32_t from, uint32_t to, const struct mdl_inst *in)
{
    uint64_t signal = in->op == MDL_OP_SIGNAL || in->op == MDL_OP_WAIT;
    return (((uint64_t)from << 24 | to) << 14 | (uint64_t)in->channel << 1 | signal) + 1;
}

static struct open_lane *lane_find(struct matcher *m, uint64_t key)
{
    uint32_t i = (uint32_t)(key * 0x9e3779b97f4a7c15u >> 32) & m->mask;
    while (m->lanes[i].key && m->lanes[i].key != key) i = (i + 1) & m->mask;
    return &m->lanes[i];
}

static void open_send(struct mdl_cost *cost, struct matcher *m, uint32_t s, uint32_t i)
{
    const struct mdl_inst *in = &cost->plan[s]->insts[i - cost->first[s]];
    uint64_t key = lane_key((uint32_t)cost->rank[s], in->peer, in);
    struct open_lane *lane = lane_find(m, key);
    if (lane->key && lane->head != MDL_COST_NONE)
        m->next[lane->tail] = i;
    else
        lane->head = i;
    lane->key = key;
    lane->tail = i;
}

static void close_recv(struct mdl_cost *cost, struct matcher *m, uint32_t s, uint32_t i)
{
    const struct mdl_inst *in = &cost->plan[s]->insts[i - cost->first[s]];
    struct open_lane *lane = lane_find(m, lane_key(in->peer, (uint32_t)cost->rank[s], in));
    if (!lane->key || lane->head == MDL_COST_NONE) return;
    cost->feeds[lane->head] = i;
    cost->fed[i] = true;
    lane->head = m->next[lane->head];
}

static bool sends(const struct mdl_inst *in) { return in->op == MDL_OP_SEND || in->op == MDL_OP_SIGNAL; }
static bool receives(const struct mdl_inst *in) { return in->op == MDL_OP_RECV || in->op == MDL_OP_WAIT; }

/* The j-th RECV from outside the sample stands for this rank's own j-th SEND, and so for WAIT and SIGNAL. */
static void mirror_plan(struct mdl_cost *cost, uint32_t s, uint8_t send, uint8_t recv)
{
    const struct mdl_plan *p = cost->plan[s];
    uint32_t from = 0;
    for (uint32_t i = 0; i < p->ninsts; i++) {
        if (p->insts[i].op != recv) continue;
        while (from < p->ninsts && p->insts[from].op != send) from++;
        if (from == p->ninsts) return;
        uint32_t at = cost->first[s] + i;
        if (!cost->fed[at]) {
            cost->mirror[cost->first[s] + from] = at;
            cost->fed[at] = true;
        }
        from++;
    }
}

static bool match_plans(struct mdl_cost *cost)
{
    uint32_t total = cost->first[cost->nranks], size = 64;
    while (size < total * 2) size *= 2;
    struct matcher m = {calloc(size, sizeof(*m.lanes)), size - 1, malloc((total + 1) * sizeof(uint32_t))};
    bool ok = m.lanes && m.next;
    for (uint32_t i = 0; ok && i < total; i++) m.next[i] = cost->feeds[i] = cost->mirror[i] = MDL_COST_NONE;
    for (uint32_t s = 0; ok && s < cost->nranks; s++)
        for (uint32_t i = cost->first[s]; i < cost->first[s + 1]; i++)
            if (sends(&cost->plan[s]->insts[i - cost->first[s]])) open_send(cost, &m, s, i);
    for (uint32_t s = 0; ok && s < cost->nranks; s++) {
        for (uint32_t i = cost->first[s]; i < cost->first[s + 1]; i++)
            if (receives(&cost->plan[s]->insts[i - cost->first[s]])) close_recv(cost, &m, s, i);
        mirror_plan(cost, s, MDL_OP_SEND, MDL_OP_RECV);
        mirror_plan(cost, s, MDL_OP_SIGNAL, MDL_OP_WAIT);
    }
    free(m.lanes);
    free(m.next);
    return ok;
}

static void link_users(struct mdl_cost *cost)
{
    uint32_t total = cost->first[cost->nranks];
    for (uint32_t s = 0; s < cost->nranks; s++)
        for (uint32_t d = 0; d < cost->plan[s]->ndeps; d++) cost->user[cost->first[s] + cost->plan[s]->deps[d] + 1]++;
    for (uint32_t i = 0; i < total; i++) cost->user[i + 1] += cost->user[i];
    for (uint32_t s = cost->nranks; s--;) {
        const struct mdl_plan *p = cost->plan[s];
        for (uint32_t i = p->ninsts; i--;)
            for (uint32_t k = 0; k < p->insts[i].ndep; k++)
                cost->users[--cost->user[cost->first[s] + p->deps[p->insts[i].dep + k] + 1]] = cost->first[s] + i;
    }
    /* every end has moved down to its beginning, one place too far up */
    uint32_t all = 0;
    for (uint32_t s = 0; s < cost->nranks; s++) all += cost->plan[s]->ndeps;
    for (uint32_t i = 0; i < total; i++) cost->user[i] = cost->user[i + 1];
    cost->user[total] = all;
}

static bool talks_across(const struct mdl_cost *cost, uint32_t s)
{
    const int *host = cost->team->host;
    for (uint32_t i = 0; i < cost->plan[s]->ninsts; i++) {
        const struct mdl_inst *in = &cost->plan[s]->insts[i];
        bool message = in->op == MDL_OP_SEND || in->op == MDL_OP_RECV;
        if (message && host[in->peer] != host[cost->rank[s]]) return true;
    }
    return false;
}

/* The first host stands for all: the others may be in the sample just because they talk to it. */
static bool all_talk_across(const struct mdl_cost *cost)
{
    for (uint32_t s = 0; s < cost->nranks; s++)
        if (cost->host[s] == 0 && !talks_across(cost, s)) return false;
    return true;
}

static bool link_plans(struct mdl_cost *cost)
{
    size_t total = cost->first[cost->nranks] + 1u, deps = 1;
    for (uint32_t s = 0; s < cost->nranks; s++) deps += cost->plan[s]->ndeps;
    cost->users = malloc(deps * sizeof(*cost->users));
    cost->user = calloc(total + 1, sizeof(*cost->user));
    cost->feeds = malloc(total * sizeof(*cost->feeds));
    cost->mirror = malloc(total * sizeof(*cost->mirror));
    cost->fed = calloc(total, sizeof(*cost->fed));
    if (!cost->users || !cost->user || !cost->feeds || !cost->mirror || !cost->fed) return false;
    cost->user[0] = 0;
    link_users(cost);
    cost->alike = all_talk_across(cost);
    return match_plans(cost);
}

struct mdl_cost *mdl_cost_new(const struct mdl_team *team, const struct mdl_collective *c, const struct mdl_algo *algo)
{
    struct mdl_cost *cost = calloc(1, sizeof(*cost));
    if (!cost) return NULL;
    cost->team = team;
    cost->c = *c;
    cost->c.count = mdl_cost_count(c);
    if (choose_ranks(cost, algo) && link_plans(cost)) return cost;
    mdl_cost_free(cost);
    return NULL;
}

void mdl_cost_free(struct mdl_cost *cost)
{
    if (!cost) return;
    for (uint32_t s = 0; s < cost->nranks; s++) mdl_plan_free(cost->plan[s]);
    free(cost->users);
    free(cost->user);
    free(cost->feeds);
    free(cost->mirror);
    free(cost->fed);
    free(cost);
}
