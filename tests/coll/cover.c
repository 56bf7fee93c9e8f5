/* SPDX-License-Identifier: Apache-2.0 */
/* See cover.h. Greedy: of some random candidates, the one that covers most new pairs is next. */
#include "config.h"

#include "tests/coll/cover.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { COLL, TYPE, OP, SIZE, ROOT, PLACE, MAPPED, FACTORS };
enum { CANDIDATES = 40, MOST_LEVELS = 16, MOST_CASES = 2000 };

static const size_t sizes[] = {0, 1, 3, 7, 64, 65, 1000, 4097, 20000, 65536, 262147};
static const int levels[FACTORS] = {
    medleyCollAlltoAllV + 1, medleyNumTypes, 6 /* PreMulSum is the last */, sizeof(sizes) / sizeof(sizes[0]), 3, 2, 2};

struct cover {
    bool seen[FACTORS][FACTORS][MOST_LEVELS][MOST_LEVELS];
    int left;
    unsigned state;
};

static unsigned next(struct cover *c, int below)
{
    c->state = c->state * 1664525u + 1013904223u;
    return (c->state >> 8) % (unsigned)below;
}

static bool reduces(int coll)
{
    return coll == medleyCollAllReduce || coll == medleyCollReduce || coll == medleyCollReduceScatter ||
           coll == medleyCollReduceScatterV;
}

/* Does this pair mean anything in this case? An operation does only where something is reduced. */
static bool counts(const int *v, int a, int b) { return (a != OP && b != OP) || reduces(v[COLL]); }

static int gain(struct cover *c, const int *v, bool take)
{
    int n = 0;

    for (int a = 0; a < FACTORS; a++) {
        for (int b = a + 1; b < FACTORS; b++) {
            if (!counts(v, a, b) || c->seen[a][b][v[a]][v[b]]) continue;
            n++;
            if (take) c->seen[a][b][v[a]][v[b]] = true;
        }
    }
    return n;
}

static int count_pairs(void)
{
    int n = 0;

    for (int a = 0; a < FACTORS; a++) {
        for (int b = a + 1; b < FACTORS; b++) n += levels[a] * levels[b];
    }
    for (int coll = 0; coll < levels[COLL]; coll++) n -= reduces(coll) ? 0 : levels[OP];
    return n;
}

static struct coll_case make(struct cover *c, const int *v, int n, size_t max)
{
    size_t count = sizes[v[SIZE]];

    return (struct coll_case){
        .coll = (medleyColl_t)v[COLL],
        .dtype = (medleyDataType_t)v[TYPE],
        .op = reduces(v[COLL]) ? (medleyRedOp_t)v[OP] : medleySum,
        .count = count > max ? max - v[SIZE] : count,
        .root = v[ROOT] == 0   ? 0
                : v[ROOT] == 1 ? n / 2
                               : n - 1,
        .in_place = v[PLACE],
        .mem_alloc = v[MAPPED],
        .seed = next(c, 1 << 20),
    };
}

int cover_pairs(unsigned seed, int n, size_t max, struct coll_case **cases)
{
    struct cover *c = calloc(1, sizeof(*c));
    struct coll_case *list = malloc(MOST_CASES * sizeof(*list));
    int ncases = 0;

    if (!c || !list) abort();
    c->state = seed;
    c->left = count_pairs();
    while (c->left && ncases < MOST_CASES) {
        int best[FACTORS] = {0}, most = 0;
        for (int k = 0; k < CANDIDATES; k++) {
            int v[FACTORS], g;
            for (int f = 0; f < FACTORS; f++) v[f] = (int)next(c, levels[f]);
            g = gain(c, v, false);
            if (g <= most) continue;
            most = g;
            memcpy(best, v, sizeof(best));
        }
        if (!most) continue;
        c->left -= gain(c, best, true);
        list[ncases++] = make(c, best, n, max);
    }
    if (c->left) abort();
    free(c);
    *cases = list;
    return ncases;
}
