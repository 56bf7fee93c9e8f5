/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one rank orders by itself, as a bit matrix per rank: dependencies and lanes, closed transitively. Most accesses
 * to one place are of one rank and ordered so, and a look here saves the global graph a demand. What is not found here
 * may still be ordered through other ranks.
 */
#include "config.h"
#include "lib/plan/verify.h"
#include <stdlib.h>

enum { LARGEST = 16384 }; /* instructions of a rank: its matrix then takes 32 MiB */

static void merge(uint64_t *to, const uint64_t *from, uint32_t words)
{
    for (uint32_t w = 0; w < words; w++) to[w] |= from[w];
}

static uint64_t *rank_matrix(const struct mdl_verify *v, uint32_t rank)
{
    const struct mdl_plan *p = v->plans[rank];
    uint32_t words = (p->ninsts + 63) / 64, first = v->first[rank];
    uint64_t *m = calloc((size_t)p->ninsts * words + 1, sizeof(*m));
    for (uint32_t i = 0; m && i < p->ninsts; i++) {
        uint64_t *row = m + (size_t)i * words;
        for (uint32_t k = 0; k < p->insts[i].ndep; k++) {
            uint32_t dep = p->deps[p->insts[i].dep + k];
            merge(row, m + (size_t)dep * words, words);
            row[dep / 64] |= 1ull << (dep % 64);
        }
        uint32_t before = v->lane_prev[first + i];
        if (before != MDL_NO_DEP) merge(row, m + (size_t)(before - first) * words, words);
    }
    return m;
}

medleyResult_t mdl_verify_local(struct mdl_verify *v)
{
    v->local = calloc(v->n, sizeof(*v->local));
    if (!v->local) return mdl_verify_memory(v);
    for (uint32_t r = 0; r < v->n; r++) {
        if (v->plans[r]->ninsts > LARGEST) continue;
        v->local[r] = rank_matrix(v, r);
        if (!v->local[r]) return mdl_verify_memory(v);
    }
    return medleySuccess;
}

void mdl_verify_local_free(struct mdl_verify *v)
{
    for (uint32_t r = 0; v->local && r < v->n; r++) free(v->local[r]);
    free(v->local);
}
