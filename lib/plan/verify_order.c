/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens before what.
 *
 * The graph's edges: an instruction is posted after its rank's start, after its dependencies are done and after the one
 * before in its lane was posted; it is done after it was posted; a RECV is done after its SEND was posted, a WAIT after
 * its SIGNAL; a rank ends after all its instructions. For deadlocks a SEND is done only after its RECV was posted. A
 * depth-first walk gives a topological order or a cycle: nothing in a plan is a choice, so a cycle is the only
 * deadlock.
 *
 * Demands are decided exactly, whatever the size: sources are taken in blocks of columns, and one pass over the
 * topological order tells for every node which sources reach it.
 */
#include "config.h"
#include "lib/plan/grow.h"
#include "lib/plan/verify.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_WORDS = 1 << 22, RECENT = 1 << 16 };

/* ---- edges ---- */

/* First pass: count[to]++; second pass: fill. */
struct edges {
    struct mdl_verify *v;
    uint32_t *fill;
};

static void edge(struct edges *e, uint32_t from, uint32_t to, uint32_t mark)
{
    if (e->fill)
        e->v->pred[e->fill[to]++] = from | mark;
    else
        e->v->pred_at[to + 1]++;
}

static void inst_edges(struct edges *e, uint32_t i)
{
    struct mdl_verify *v = e->v;
    const struct mdl_inst *in = mdl_verify_inst(v, i);
    uint32_t rank = v->rank_of[i];
    const uint32_t *deps = v->plans[rank]->deps + in->dep;
    if (!in->ndep) edge(e, mdl_verify_start(v, rank), v->post[i], 0);
    for (uint32_t k = 0; k < in->ndep; k++) edge(e, v->done[v->first[rank] + deps[k]], v->post[i], 0);
    if (v->lane_prev[i] != MDL_NO_DEP) edge(e, v->post[v->lane_prev[i]], v->post[i], 0);
    if (v->post[i] != v->done[i]) edge(e, v->post[i], v->done[i], 0);
    edge(e, v->done[i], mdl_verify_end(v, rank), 0);
    if (in->op == MDL_OP_SEND) edge(e, v->post[v->partner[i]], v->done[i], (uint32_t)MDL_EDGE_RENDEZVOUS);
    if (in->op == MDL_OP_RECV || in->op == MDL_OP_WAIT) edge(e, v->post[v->partner[i]], v->done[i], 0);
}

static void all_edges(struct edges *e)
{
    for (uint32_t i = 0; i < e->v->total; i++) inst_edges(e, i);
    for (uint32_t r = 0; r < e->v->n; r++) edge(e, mdl_verify_start(e->v, r), mdl_verify_end(e->v, r), 0);
}

static bool make_nodes(struct mdl_verify *v)
{
    v->post = malloc(((size_t)v->total + 1) * sizeof(*v->post));
    v->done = malloc(((size_t)v->total + 1) * sizeof(*v->done));
    v->node_inst = malloc((2 * (size_t)v->total + 2 * v->n) * sizeof(*v->node_inst));
    if (!v->post || !v->done || !v->node_inst) return false;
    for (uint32_t i = 0; i < v->total; i++) {
        unsigned op = mdl_verify_inst(v, i)->op;
        v->node_inst[v->nodes] = i;
        v->post[i] = v->done[i] = v->nodes++;
        if (op != MDL_OP_SEND && op != MDL_OP_RECV) continue;
        v->node_inst[v->nodes] = i;
        v->done[i] = v->nodes++;
    }
    for (uint32_t k = 0; k < 2 * v->n; k++) v->node_inst[v->nodes++] = v->total + k / 2;
    return true;
}

static bool make_edges(struct mdl_verify *v)
{
    struct edges e = {v, NULL};
    v->pred_at = calloc((size_t)v->nodes + 1, sizeof(*v->pred_at));
    if (!v->pred_at) return false;
    all_edges(&e);
    for (uint32_t x = 0; x < v->nodes; x++) v->pred_at[x + 1] += v->pred_at[x];
    v->pred = malloc(((size_t)v->pred_at[v->nodes] + 1) * sizeof(*v->pred));
    e.fill = malloc(v->nodes * sizeof(*e.fill));
    if (!v->pred || !e.fill) {
        free(e.fill);
        return false;
    }
    memcpy(e.fill, v->pred_at, v->nodes * sizeof(*e.fill));
    all_edges(&e);
    free(e.fill);
    return true;
}

/* ---- topological order, or a deadlock ---- */

struct walk {
    uint32_t *stack, *next; /* next[node]: the predecessor to look at; UINT32_MAX: finished */
    uint32_t depth, norder;
};

static medleyResult_t deadlock(struct mdl_verify *v, const struct walk *w, uint32_t again)
{
    char text[300];
    size_t len = 0;
    uint32_t last = MDL_NO_DEP, first = w->depth;
    while (first && w->stack[first - 1] != again) first--;
    for (uint32_t k = first ? first - 1 : 0; k < w->depth && len < sizeof(text) - 64; k++) {
        uint32_t i = v->node_inst[w->stack[k]];
        if (i >= v->total || i == last) continue;
        last = i;
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u.%u %s", len ? " <- " : "", v->rank_of[i],
                                i - v->first[v->rank_of[i]], mdl_opcode_name(mdl_verify_inst(v, i)->op));
    }
    return mdl_verify_fail(v, MDL_NO_DEP, "deadlock, each waits for the next (rank.instruction): %s", text);
}

static medleyResult_t visit(struct mdl_verify *v, struct walk *w, uint32_t root)
{
    enum { ENTERED = 0x40000000 };
    if (w->next[root] == UINT32_MAX) return medleySuccess;
    w->depth = 0;
    w->stack[w->depth++] = root;
    w->next[root] = ENTERED;
    while (w->depth) {
        uint32_t x = w->stack[w->depth - 1], k = w->next[x] & ~(uint32_t)ENTERED;
        if (v->pred_at[x] + k == v->pred_at[x + 1]) {
            w->next[x] = UINT32_MAX;
            v->order[w->norder++] = x;
            w->depth--;
            continue;
        }
        w->next[x]++;
        uint32_t p = v->pred[v->pred_at[x] + k] & ~(uint32_t)MDL_EDGE_RENDEZVOUS;
        if (w->next[p] == UINT32_MAX) continue;
        if (w->next[p] & ENTERED) return deadlock(v, w, p);
        w->next[p] = ENTERED;
        w->stack[w->depth++] = p;
    }
    return medleySuccess;
}

static medleyResult_t sort_nodes(struct mdl_verify *v)
{
    struct walk w = {.stack = malloc(v->nodes * sizeof(*w.stack)), .next = calloc(v->nodes, sizeof(*w.next))};
    v->order = malloc(v->nodes * sizeof(*v->order));
    medleyResult_t result = w.stack && w.next && v->order ? medleySuccess : mdl_verify_memory(v);
    for (uint32_t x = 0; x < v->nodes && result == medleySuccess; x++) result = visit(v, &w, x);
    free(w.stack);
    free(w.next);
    return result;
}

medleyResult_t mdl_verify_graph(struct mdl_verify *v)
{
    if (!make_nodes(v) || !make_edges(v)) return mdl_verify_memory(v);
    return sort_nodes(v);
}

/* ---- who reaches whom ---- */

/* Sets in bits[node] which of the sources (column[source] - first, within `words` words) happen before or are it. */
static void propagate(const struct mdl_verify *v, const uint32_t *column, uint32_t first, uint32_t words,
                      uint64_t *bits)
{
    for (uint32_t k = 0; k < v->nodes; k++) {
        uint32_t x = v->order[k];
        uint64_t *to = bits + (size_t)x * words;
        memset(to, 0, words * sizeof(*to));
        for (uint32_t e = v->pred_at[x]; e < v->pred_at[x + 1]; e++) {
            if (v->pred[e] & (uint32_t)MDL_EDGE_RENDEZVOUS) continue;
            const uint64_t *from = bits + (size_t)v->pred[e] * words;
            for (uint32_t w = 0; w < words; w++) to[w] |= from[w];
        }
        uint32_t c = column[x] - first;
        if (column[x] >= first && c < words * 64) to[c / 64] |= 1ull << (c % 64);
    }
}

static bool reached(const uint64_t *bits, uint32_t words, uint32_t node, uint32_t column)
{
    return bits[(size_t)node * words + column / 64] >> (column % 64) & 1;
}

static uint32_t block_words(const struct mdl_verify *v, uint32_t sources)
{
    uint32_t need = (sources + 63) / 64, room = BLOCK_WORDS / v->nodes;
    if (room < 4) room = 4;
    return need < room ? need : room;
}

/* ---- demands ---- */

medleyResult_t mdl_verify_demand(struct mdl_verify *v, const struct mdl_demand *d)
{
    uint64_t pair = (uint64_t)d->from << 32 | d->to;
    if (!v->recent && !(v->recent = calloc(RECENT, sizeof(*v->recent)))) return mdl_verify_memory(v);
    uint64_t *slot = &v->recent[(pair * 0x9e3779b97f4a7c15ull >> 32) % RECENT];
    if (*slot == pair + 1) return medleySuccess;
    *slot = pair + 1;
    if (!mdl_grow(&v->demands, &v->demands_cap, (size_t)v->ndemands + 1, sizeof(*v->demands)))
        return mdl_verify_memory(v);
    v->demands[v->ndemands++] = *d;
    return medleySuccess;
}

static medleyResult_t refuse(struct mdl_verify *v, const struct mdl_demand *d)
{
    static const char *const names[] = {"IN", "OUT", "SCRATCH"};
    char place[64];
    snprintf(place, sizeof(place), "r%u.%s[%u] part %u", d->rank, names[d->buf], d->slot, d->part);
    if (d->kind == MDL_DEMAND_RELEASE)
        return mdl_verify_fail(
            v, d->a, "touches %s, and rank %u may have left before: no WAIT or RECV of it comes after", place, d->rank);
    if (d->kind == MDL_DEMAND_START)
        return mdl_verify_fail(v, d->a,
                               "touches %s, and rank %u may not have started: no SIGNAL or SEND of it came before",
                               place, d->rank);
    uint32_t rank = v->rank_of[d->b];
    return mdl_verify_fail(v, d->a, "races with rank %u instruction %u (%s) on %s (%s)", rank, d->b - v->first[rank],
                           mdl_opcode_name(mdl_verify_inst(v, d->b)->op), place, mdl_verify_mode_name(d->mode));
}

/* Numbers the sources; column[node] == UINT32_MAX: none. */
static uint32_t number_sources(const struct mdl_verify *v, uint32_t *column)
{
    uint32_t sources = 0;
    for (uint32_t x = 0; x < v->nodes; x++) column[x] = UINT32_MAX;
    for (uint32_t k = 0; k < v->ndemands; k++)
        if (column[v->demands[k].from] == UINT32_MAX) column[v->demands[k].from] = sources++;
    return sources;
}

medleyResult_t mdl_verify_demands(struct mdl_verify *v)
{
    uint32_t *column = malloc(v->nodes * sizeof(*column));
    if (!column) return mdl_verify_memory(v);
    uint32_t sources = number_sources(v, column), words = block_words(v, sources);
    uint64_t *bits = malloc((size_t)v->nodes * words * sizeof(*bits) + 1);
    medleyResult_t result = bits ? medleySuccess : mdl_verify_memory(v);
    for (uint32_t first = 0; first < sources && result == medleySuccess; first += words * 64) {
        propagate(v, column, first, words, bits);
        for (uint32_t k = 0; k < v->ndemands && result == medleySuccess; k++) {
            const struct mdl_demand *d = &v->demands[k];
            uint32_t c = column[d->from] - first;
            if (column[d->from] < first || c >= words * 64 || reached(bits, words, d->to, c)) continue;
            result = refuse(v, d);
        }
    }
    free(bits);
    free(column);
    return result;
}

static medleyResult_t check_ends(struct mdl_verify *v, const uint64_t *bits, uint32_t words, uint32_t first)
{
    for (uint32_t r = 0; r < v->n; r++)
        for (uint32_t q = first; q < v->n && q - first < words * 64; q++)
            if (!reached(bits, words, mdl_verify_end(v, r), q - first))
                return mdl_verify_fail(v, MDL_NO_DEP, "rank %u may leave the barrier before rank %u has entered it", r,
                                       q);
    return medleySuccess;
}

medleyResult_t mdl_verify_barrier(struct mdl_verify *v)
{
    uint32_t *column = malloc(v->nodes * sizeof(*column)), words = block_words(v, v->n);
    uint64_t *bits = malloc((size_t)v->nodes * words * sizeof(*bits));
    medleyResult_t result = column && bits ? medleySuccess : mdl_verify_memory(v);
    if (result == medleySuccess) {
        for (uint32_t x = 0; x < v->nodes; x++) column[x] = UINT32_MAX;
        for (uint32_t r = 0; r < v->n; r++) column[mdl_verify_start(v, r)] = r;
    }
    for (uint32_t first = 0; first < v->n && result == medleySuccess; first += words * 64) {
        propagate(v, column, first, words, bits);
        result = check_ends(v, bits, words, first);
    }
    free(bits);
    free(column);
    return result;
}
