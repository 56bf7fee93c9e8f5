/* SPDX-License-Identifier: Apache-2.0 */
/* See island.h: who is in which island, and who owns what. Pure: from what all ranks were told. */
#include "config.h"

#include "lib/engine/island.h"
#include "lib/engine/facts.h"

#include <stdlib.h>
#include <string.h>

/* ---- who fits to whom ---- */

static bool is_host(const struct mdl_rank_facts *f) { return strcmp(f->device, "host") == 0; }

static bool same_vendor(const struct mdl_rank_facts *a, const struct mdl_rank_facts *b)
{
    size_t n = strcspn(a->device, ":") + 1;

    return strncmp(a->device, b->device, n) == 0;
}

static bool lacks(const struct mdl_native_row *row)
{
    const uint32_t needed = 1u << medleyCollReduce | 1u << medleyCollBroadcast;

    return (row->caps.colls & needed) != needed;
}

static enum mdl_island_why look_at(const struct mdl_native_row *row, const struct mdl_rank_facts *facts)
{
    if (is_host(facts)) return MDL_ISLAND_HOST;
    if (!row->wanted) return MDL_ISLAND_OFF;
    if (!row->bound) return MDL_ISLAND_UNBOUND;
    return lacks(row) ? MDL_ISLAND_LACKS : MDL_ISLAND_MEMBER;
}

static bool is_of_one_kind(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int a, int b)
{
    return same_vendor(&facts[a], &facts[b]) && mdl_facts_share_machine(&facts[a], &facts[b]) &&
           strcmp(rows[a].name, rows[b].name) == 0 && rows[a].caps.version == rows[b].caps.version &&
           rows[a].caps.id_bytes == rows[b].caps.id_bytes;
}

/* The lowest rank whose island r joins; itself if there is none before it. */
static int find_lead(const struct mdl_islands *s, const struct mdl_native_row *rows, const struct mdl_rank_facts *facts,
                     int r)
{
    for (int q = 0; q < r; q++)
        if (s->why[q] == MDL_ISLAND_MEMBER && s->island[q] == q && is_of_one_kind(rows, facts, q, r)) return q;
    return r;
}

static bool is_taken(const struct mdl_islands *s, const struct mdl_native_row *rows, const struct mdl_rank_facts *facts,
                     int r)
{
    for (int q = 0; q < r; q++)
        if (s->why[q] == MDL_ISLAND_MEMBER && same_vendor(&facts[q], &facts[r]) &&
            mdl_native_is_taken(rows, facts, q, r))
            return true;
    return false;
}

/* ---- the map ---- */

/* island[r] is the lowest rank of r's island; makes the numbers and lists of that. */
static void number(struct mdl_islands *s)
{
    int most = 0, at = 0;

    s->n = 0;
    for (int lead = 0; lead < s->nranks; lead++) {
        if (s->island[lead] != lead) continue;
        s->start[s->n] = at;
        for (int r = lead; r < s->nranks; r++) {
            if (s->island[r] != lead) continue;
            s->index[r] = at - s->start[s->n];
            s->members[at++] = r;
        }
        if (at - s->start[s->n] > most) most = at - s->start[s->n];
        s->n++;
    }
    s->start[s->n] = at;
    for (int i = 0; i < s->n; i++)
        for (int m = s->start[i]; m < s->start[i + 1]; m++) s->island[s->members[m]] = i;
    s->nslices = most < 2 ? 0 : most < MDL_ISLAND_SLICES_MOST ? most : MDL_ISLAND_SLICES_MOST;
}

static bool has_others(const struct mdl_islands *s, int lead)
{
    for (int r = lead + 1; r < s->nranks; r++)
        if (s->island[r] == lead) return true;
    return false;
}

medleyResult_t mdl_islands_make(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int nranks,
                                struct mdl_islands **islands)
{
    struct mdl_islands *s = calloc(1, sizeof(*s));
    size_t n = (size_t)nranks;

    if (s) {
        s->nranks = nranks;
        s->island = calloc(n, sizeof(int));
        s->index = calloc(n, sizeof(int));
        s->members = calloc(n, sizeof(int));
        s->start = calloc(n + 1, sizeof(int));
        s->why = calloc(n, 1);
    }
    if (!s || !s->island || !s->index || !s->members || !s->start || !s->why) {
        mdl_islands_free(s);
        return mdl_error(medleySystemError, "out of memory for %d ranks", nranks);
    }
    for (int r = 0; r < nranks; r++) {
        s->why[r] = (uint8_t)look_at(&rows[r], &facts[r]);
        if (s->why[r] == MDL_ISLAND_MEMBER && is_taken(s, rows, facts, r)) s->why[r] = MDL_ISLAND_SHARED;
        s->island[r] = s->why[r] == MDL_ISLAND_MEMBER ? find_lead(s, rows, facts, r) : r;
    }
    for (int r = 0; r < nranks; r++)
        if (s->why[r] == MDL_ISLAND_MEMBER && s->island[r] == r && !has_others(s, r)) s->why[r] = MDL_ISLAND_NOBODY;
    number(s);
    *islands = s;
    return medleySuccess;
}

void mdl_islands_free(struct mdl_islands *s)
{
    if (!s) return;
    free(s->island);
    free(s->index);
    free(s->members);
    free(s->start);
    free(s->why);
    free(s);
}

void mdl_islands_dissolve(struct mdl_islands *s, const uint8_t *ok)
{
    for (int i = 0; i < s->n; i++) {
        bool whole = true;
        for (int m = s->start[i]; m < s->start[i + 1]; m++) whole &= ok[s->members[m]] != 0;
        for (int m = s->start[i]; m < s->start[i + 1]; m++) {
            int r = s->members[m];
            bool stays = whole || s->why[r] != MDL_ISLAND_MEMBER;
            s->island[r] = stays ? s->members[s->start[i]] : r;
            if (!stays) s->why[r] = MDL_ISLAND_FAILED;
        }
    }
    number(s);
}

const char *mdl_island_why_text(enum mdl_island_why why)
{
    switch (why) {
    case MDL_ISLAND_MEMBER: return "in an island";
    case MDL_ISLAND_HOST: return "it has no device";
    case MDL_ISLAND_OFF: return "MEDLEY_NATIVE is 0";
    case MDL_ISLAND_UNBOUND: return "no collective library of its vendor is here";
    case MDL_ISLAND_LACKS: return "the library has no reductions or broadcasts";
    case MDL_ISLAND_SHARED: return "a lower rank is on its device, or in its process, which the library does not allow";
    case MDL_ISLAND_NOBODY: return "nobody else in its host has the same library";
    case MDL_ISLAND_FAILED: return "the library could not make its communicator";
    }
    return "";
}

/* ---- slices ---- */

void mdl_island_owned(const struct mdl_islands *s, int rank, int *first, int *end)
{
    int i = s->island[rank];

    *first = 0;
    while (*first < s->nslices && mdl_island_owner(s, i, *first) != rank) ++*first;
    for (*end = *first; *end < s->nslices && mdl_island_owner(s, i, *end) == rank; ++*end) continue;
    if (*first == *end) *first = *end = 0;
}

size_t mdl_island_at(int nslices, size_t count, size_t block, int slice)
{
    size_t blocks = (count + block - 1) / block, n = (size_t)nslices, per = (blocks + n - 1) / n, s = (size_t)slice;

    return s >= n || s * per >= blocks ? count : s * per * block;
}

/* ---- rows ---- */

int mdl_island_row_owner(const struct mdl_islands *s, int island, int row)
{
    int size = mdl_island_size(s, island), turn = row;

    if (s->island[row] == island) return row;
    for (int m = s->start[island]; m < s->start[island + 1] && s->members[m] < row; m++) turn--;
    return s->members[s->start[island] + turn % size];
}
