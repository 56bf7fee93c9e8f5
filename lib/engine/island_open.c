/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a communicator gets its islands: all tell what libraries they have (native.h) and make the same map of that; the
 * first member of each island has the vendor make an id, and all of these travel in one exchange; members call the
 * vendor's init; all tell how that went. An island in which it failed anywhere falls apart, on everybody's map.
 *
 * A member on which the vendor's init fails tells the others of its island, since theirs may wait for it for ever.
 */
#include "config.h"

#include "lib/engine/ask.h"
#include "lib/engine/comm.h"
#include "lib/engine/exchange.h"
#include "lib/engine/facts.h"
#include "lib/engine/island.h"
#include "lib/engine/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_member(const struct mdl_islands *s, int rank) { return mdl_island_size(s, s->island[rank]) > 1; }

/* By what all have known since the first exchange: two ranks that could be an island, and others besides. */
static bool is_candidate(const struct mdl_comm *c)
{
    bool pair = false, mixed = false;

    if (!c->cfg.islands) return false;
    for (int a = 0; a < c->nranks; a++) {
        size_t n = strcspn(c->facts[a].device, ":") + 1;
        for (int b = 0; b < a; b++) {
            bool same = strncmp(c->facts[a].device, c->facts[b].device, n) == 0;
            mixed |= !same;
            pair |= same && strcmp(c->facts[a].device, "host") != 0;
        }
    }
    return pair && mixed;
}

static medleyResult_t make_map(struct mdl_comm *c, const struct mdl_native **ops, struct mdl_native_row *rows,
                               struct mdl_islands **map, uint64_t deadline_ns)
{
    struct mdl_native_row mine = {.wanted = c->cfg.native};

    *ops = NULL;
    if (c->stager) mdl_native_tell(c, ops, &mine);
    MDL_TRY(mdl_native_exchange_rows(c, &mine, rows, deadline_ns));
    return mdl_islands_make(rows, c->facts, c->nranks, map);
}

/* ---- the ids ---- */

static size_t longest_id(const struct mdl_islands *map, const struct mdl_native_row *rows)
{
    size_t most = 0;

    for (int r = 0; r < map->nranks; r++)
        if (is_member(map, r) && rows[r].caps.id_bytes > most) most = rows[r].caps.id_bytes;
    return most;
}

/* A byte that says whether there is one, then the id: of each island's first member. *all: the caller's to free. */
static medleyResult_t share_ids(struct mdl_comm *c, const struct mdl_islands *map, const struct mdl_native *ops,
                                size_t len, uint8_t **all, uint64_t deadline_ns)
{
    uint8_t *mine = calloc(1 + len, 1);
    struct mdl_dev_visit visit;
    medleyResult_t res;

    if (!mine) return mdl_error(medleySystemError, "out of memory for an id");
    if (is_member(map, c->rank) && map->index[c->rank] == 0 &&
        mdl_dev_enter(&c->stager->dev, &visit) == medleySuccess) {
        mine[0] = ops->get_id(ops, mine + 1) == medleySuccess;
        mdl_dev_leave(&c->stager->dev, &visit);
    }
    res = mdl_exchange_bytes(c, mine, 1 + len, deadline_ns, "the vendors' ids", all);
    free(mine);
    return res;
}

/* ---- the vendors' communicators ---- */

static void join_caps(const struct mdl_islands *map, const struct mdl_native_row *rows, int island,
                      struct mdl_native_caps *caps)
{
    int first = map->start[island];

    *caps = rows[map->members[first]].caps;
    for (int m = first + 1; m < map->start[island + 1]; m++) mdl_native_join_caps(caps, &rows[map->members[m]].caps);
}

static struct mdl_native_comm *start(struct mdl_comm *c, const struct mdl_islands *map, const struct mdl_native *ops,
                                     const struct mdl_native_row *rows, const uint8_t *id, uint64_t deadline_ns)
{
    struct mdl_native_comm *n = mdl_native_new(ops, &c->stager->dev);
    int island = map->island[c->rank];

    if (!n) return NULL;
    join_caps(map, rows, island, &n->caps);
    if (mdl_native_start(c, n, id, mdl_island_size(map, island), map->index[c->rank], deadline_ns)) return n;
    mdl_native_drop(n);
    return NULL;
}

static void refused(void *comm, int src, const uint8_t *payload, size_t len)
{
    struct mdl_comm *c = comm;

    (void)src, (void)payload, (void)len;
    atomic_store_explicit(&c->native_refused, true, memory_order_release); /* pairs with wait_for_start */
}

/* Tells all how it went. */
static medleyResult_t have_all(struct mdl_comm *c, struct mdl_islands *map, bool mine, uint64_t deadline_ns)
{
    uint8_t own = mine, *all;
    int i = map->island[c->rank];

    for (int m = map->start[i]; !mine && m < map->start[i + 1]; m++)
        if (map->members[m] != c->rank) (void)mdl_ctl_send(c->ctl, map->members[m], MDL_MSG_NATIVE, NULL, 0);
    MDL_TRY(mdl_exchange_bytes(c, &own, 1, deadline_ns, "the vendors' communicators", &all));
    mdl_islands_dissolve(map, all);
    free(all);
    return medleySuccess;
}

static medleyResult_t make_natives(struct mdl_comm *c, struct mdl_islands *map, const struct mdl_native *ops,
                                   const struct mdl_native_row *rows, uint64_t deadline_ns)
{
    bool member = is_member(map, c->rank);
    size_t len = longest_id(map, rows);
    struct mdl_native_comm *n = NULL;
    uint8_t *ids = NULL;
    const uint8_t *id;
    medleyResult_t res;

    mdl_ctl_handle(c->ctl, MDL_MSG_NATIVE, refused, c);
    MDL_TRY(share_ids(c, map, ops, len, &ids, deadline_ns));
    id = ids + (size_t)map->members[map->start[map->island[c->rank]]] * (1 + len);
    if (member && id[0]) n = start(c, map, ops, rows, id + 1, deadline_ns);
    free(ids);
    res = have_all(c, map, n || !member, deadline_ns);
    if (!n) return res;
    if (res != medleySuccess || !is_member(map, c->rank)) {
        mdl_native_end(n, c->rank, true);
        return res;
    }
    __atomic_store_n(&c->native, n, __ATOMIC_RELEASE); /* pairs with mdl_native_abort */
    if (mdl_comm_failed(c)) mdl_native_abort(c);
    return medleySuccess;
}

/* ---- the owners of parts ---- */

/* What the whole team is, of some of its ranks. An island may be in several hosts, as containers are. */
medleyResult_t mdl_island_team(struct mdl_comm *c, struct mdl_team **team)
{
    const struct mdl_team *whole = c->team;
    const int *ranks = c->islands->ranks;
    int n = c->islands->map->n;
    struct mdl_team_facts *facts = calloc((size_t)n, sizeof(*facts));
    uint8_t *near = calloc((size_t)n, (size_t)n);
    uint8_t bits = MDL_NEAR_SEND | (whole->remote_scratch ? MDL_NEAR_MAP : 0);
    medleyResult_t res = medleySystemError;

    if (!facts || !near) {
        mdl_error(res, "out of memory for %d ranks", n);
        goto free_facts;
    }
    for (int a = 0; a < n; a++) {
        uint8_t *row = near + (size_t)a * (size_t)n;
        for (int b = 0; b < n; b++) row[b] = whole->host[ranks[a]] == whole->host[ranks[b]] ? bits : 0;
        facts[a] = (struct mdl_team_facts){.cores = whole->cores, .rails = whole->rails, .near = row};
    }
    res = mdl_team_make(n, facts, team);
    if (res == medleySuccess) (*team)->net_beta = whole->net_beta;
free_facts:
    free(facts);
    free(near);
    return res;
}

static medleyResult_t make_plans(const struct mdl_comm *c, const struct mdl_native_row *rows,
                                 struct mdl_island_comm *ic)
{
    size_t nranks = (size_t)c->nranks, budget = c->cfg.plan_cache;

    for (int s = 0; s < MDL_ISLAND_SLICES_MOST; s++)
        mdl_program_cache_init(&ic->slices[s].cache, budget / MDL_ISLAND_SLICES_MOST);
    if (nranks <= MDL_ISLAND_ROWS_MOST) ic->rows = calloc(nranks, sizeof(*ic->rows));
    for (size_t r = 0; ic->rows && r < nranks; r++) mdl_program_cache_init(&ic->rows[r].cache, budget / nranks);
    ic->ranks = calloc((size_t)ic->map->n, sizeof(int));
    ic->libraries = calloc(nranks, sizeof(*ic->libraries));
    for (size_t r = 0; ic->libraries && r < nranks; r++) memcpy(ic->libraries[r], rows[r].name, sizeof(rows[r].name));
    if (ic->ranks && ic->libraries && (ic->rows || nranks > MDL_ISLAND_ROWS_MOST)) return medleySuccess;
    return mdl_error(medleySystemError, "out of memory for %d islands", ic->map->n);
}

static void free_plans(struct mdl_island_plans *plans, int n)
{
    for (int i = 0; plans && i < n; i++) {
        mdl_program_cache_fini(&plans[i].cache);
        mdl_team_free(plans[i].team);
    }
}

static void set_limits(const struct mdl_comm *c, struct mdl_island_comm *ic)
{
    uint32_t n = (uint32_t)ic->map->nslices;

    ic->limits = c->limits;
    ic->limits.window_bytes = c->limits.window_bytes / n;
    ic->limits.scratch_bytes = c->limits.scratch_bytes / n / 4096 * 4096;
    ic->limits.max_channels = c->limits.max_channels / n;
    ic->limits.oneshot_bytes = 0; /* such plans want scratch that is not used again within a call */
}

static void join_all_caps(struct mdl_island_comm *ic, const struct mdl_native_row *rows)
{
    const struct mdl_islands *map = ic->map;
    bool any = false;

    for (int i = 0; i < map->n; i++) {
        struct mdl_native_caps caps;
        if (mdl_island_size(map, i) < 2) continue;
        join_caps(map, rows, i, &caps);
        if (any)
            mdl_native_join_caps(&ic->caps, &caps);
        else
            ic->caps = caps;
        any = true;
    }
}

/* Takes over map. */
static medleyResult_t make_islands(struct mdl_comm *c, struct mdl_islands *map, const struct mdl_native_row *rows)
{
    struct mdl_island_comm *ic = calloc(1, sizeof(*ic));

    if (!ic) {
        mdl_islands_free(map);
        return mdl_error(medleySystemError, "out of memory for islands");
    }
    ic->map = map;
    join_all_caps(ic, rows);
    set_limits(c, ic);
    c->islands = ic; /* closed with the communicator from here on */
    return make_plans(c, rows, ic);
}

/* ---- open, close ---- */

static void tell_why(const struct mdl_comm *c, const struct mdl_islands *map)
{
    int i = map->island[c->rank], size = mdl_island_size(map, i);

    if (size > 1)
        MDL_INFO(MDL_INIT, "rank %d: one of an island of %d ranks on %.*s devices, by %s; %d islands in all", c->rank,
                 size, (int)strcspn(c->facts[c->rank].device, ":"), c->facts[c->rank].device, c->native->ops->name,
                 map->n);
    else
        MDL_INFO(MDL_INIT, "rank %d: an island of its own: %s", c->rank,
                 mdl_island_why_text((enum mdl_island_why)map->why[c->rank]));
}

int mdl_island_of(const struct mdl_comm *c, int rank, char *text, size_t bytes)
{
    const struct mdl_islands *map = c->islands ? c->islands->map : NULL;

    text[0] = 0;
    if (!map && c->native) snprintf(text, bytes, "%s", c->native->ops->name);
    if (!map) return c->native ? 0 : -1;
    if (mdl_island_size(map, map->island[rank]) > 1) {
        snprintf(text, bytes, "%s", c->islands->libraries[rank]);
        return map->island[rank];
    }
    snprintf(text, bytes, "%s", mdl_island_why_text((enum mdl_island_why)map->why[rank]));
    return -1;
}

medleyResult_t mdl_island_open(struct mdl_comm *c, uint64_t deadline_ns)
{
    struct mdl_native_row *rows;
    struct mdl_islands *map = NULL;
    const struct mdl_native *ops;
    medleyResult_t res;

    if (!is_candidate(c)) return medleySuccess;
    rows = calloc((size_t)c->nranks, sizeof(*rows));
    if (!rows) return mdl_error(medleySystemError, "out of memory for %d ranks", c->nranks);
    res = make_map(c, &ops, rows, &map, deadline_ns);
    if (res == medleySuccess && map->nslices) res = make_natives(c, map, ops, rows, deadline_ns);
    if (res == medleySuccess) tell_why(c, map);
    if (res == medleySuccess && map->nslices) {
        res = make_islands(c, map, rows);
        map = NULL;
    }
    mdl_islands_free(map);
    free(rows);
    return res;
}

void mdl_island_close(struct mdl_comm *c)
{
    struct mdl_island_comm *ic = c->islands;

    c->islands = NULL;
    if (!ic) return;
    free_plans(ic->slices, MDL_ISLAND_SLICES_MOST);
    free_plans(ic->rows, c->nranks);
    free(ic->ranks);
    free(ic->libraries);
    free(ic->rows);
    mdl_islands_free(ic->map);
    free(ic);
}
