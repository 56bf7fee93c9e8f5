/* SPDX-License-Identifier: Apache-2.0 */
/* Symbolic values: hash-consed expressions over the ranks' inputs, and what each collective demands of its outputs.
 * Parts need no place in a leaf, because data never changes its part. */
#include "config.h"
#include "lib/plan/grow.h"
#include "lib/plan/verify.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { NONE, LEAF, FACTOR, OP, FINAL, ROUND }; /* FACTOR: a leaf times its rank's scalar */

struct value {
    uint32_t kind, a, b; /* LEAF, FACTOR: rank and slot; OP: operands; FINAL, ROUND: of a */
    uint32_t shape;
    uint32_t proved; /* slot + 1 for which it was found to be the right reduction */
};

struct mdl_values {
    const struct mdl_verify *v;
    struct value *value;
    uint32_t n, cap;
    uint32_t *hash, hash_cap;
    uint32_t canonical_slot, canonical; /* the canonical tree of one slot, 0: not made yet */
    uint8_t *seen;                      /* [ranks] */
};

/* ---- hash-consing ---- */

static uint32_t hash_of(uint32_t kind, uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15ull + kind * 0xc2b2ae3d27d4eb4full;
    return (uint32_t)((h ^ h >> 29) * 0xbf58476d1ce4e5b9ull >> 32);
}

static bool rehash(struct mdl_values *t)
{
    uint32_t cap = t->hash_cap ? t->hash_cap * 2 : 256, *hash = calloc(cap, sizeof(*hash));
    if (!hash) return false;
    for (uint32_t k = 1; k < t->n; k++) {
        uint32_t i = hash_of(t->value[k].kind, t->value[k].a, t->value[k].b) & (cap - 1);
        while (hash[i]) i = (i + 1) & (cap - 1);
        hash[i] = k;
    }
    free(t->hash);
    t->hash = hash;
    t->hash_cap = cap;
    return true;
}

/* The number of an expression, new or known; MDL_VALUE_NONE if memory ran out. */
static uint32_t intern(struct mdl_values *t, uint32_t kind, uint32_t a, uint32_t b, uint32_t shape)
{
    if (t->n * 2 >= t->hash_cap && !rehash(t)) return MDL_VALUE_NONE;
    uint32_t i = hash_of(kind, a, b) & (t->hash_cap - 1);
    for (; t->hash[i]; i = (i + 1) & (t->hash_cap - 1)) {
        const struct value *known = &t->value[t->hash[i]];
        if (known->kind == kind && known->a == a && known->b == b) return t->hash[i];
    }
    if (!mdl_grow(&t->value, &t->cap, (size_t)t->n + 1, sizeof(*t->value))) return MDL_VALUE_NONE;
    t->value[t->n] = (struct value){kind, a, b, shape, 0};
    return t->hash[i] = t->n++;
}

medleyResult_t mdl_values_new(struct mdl_verify *v)
{
    struct mdl_values *t = calloc(1, sizeof(*t));
    if (!t) return mdl_verify_memory(v);
    v->values = t;
    t->v = v;
    t->seen = calloc(v->n, sizeof(*t->seen));
    if (!t->seen || !mdl_grow(&t->value, &t->cap, 1, sizeof(*t->value))) return mdl_verify_memory(v);
    t->value[MDL_VALUE_NONE] = (struct value){.kind = NONE};
    t->n = 1;
    return medleySuccess;
}

void mdl_values_free(struct mdl_values *t)
{
    if (!t) return;
    free(t->value);
    free(t->hash);
    free(t->seen);
    free(t);
}

/* ---- making values ---- */

static enum mdl_value_error made(uint32_t value, uint32_t *result)
{
    *result = value;
    return value == MDL_VALUE_NONE ? MDL_VALUE_MEMORY : MDL_VALUE_OK;
}

uint32_t mdl_value_leaf(struct mdl_values *t, uint32_t rank, uint32_t slot)
{
    return intern(t, LEAF, rank, slot, t->v->coll->coll == medleyCollAllGatherV ? rank : slot);
}

uint32_t mdl_value_shape(const struct mdl_values *t, uint32_t value) { return t->value[value].shape; }

enum mdl_value_error mdl_value_premul(struct mdl_values *t, uint32_t value, uint32_t *result)
{
    struct value x = t->value[value];
    if (x.kind != LEAF) return MDL_VALUE_PREMUL;
    return made(intern(t, FACTOR, x.a, x.b, x.shape), result);
}

static enum mdl_value_error operand(const struct mdl_values *t, uint32_t value)
{
    uint32_t kind = t->value[value].kind;
    if (kind == ROUND) return MDL_VALUE_ROUNDED;
    if (kind == FINAL) return MDL_VALUE_FINAL;
    return kind == (t->v->coll->premul ? LEAF : FACTOR) ? MDL_VALUE_PREMUL : MDL_VALUE_OK;
}

static uint32_t join(struct mdl_values *t, uint32_t a, uint32_t b)
{
    return a == MDL_VALUE_NONE || b == MDL_VALUE_NONE ? MDL_VALUE_NONE : intern(t, OP, a, b, t->value[a].shape);
}

/* The left part of a canonical tree over n things: the largest power of two smaller than n. */
static uint32_t tree_left(uint32_t n)
{
    uint32_t left = 1;
    while (left * 2 < n) left *= 2;
    return left;
}

static uint32_t tree(struct mdl_values *t, const uint32_t *v, uint32_t n)
{
    if (n == 1) return v[0];
    uint32_t left = tree_left(n), a = tree(t, v, left);
    return join(t, a, tree(t, v + left, n - left));
}

enum mdl_value_error mdl_value_fold(struct mdl_values *t, const uint32_t *v, uint32_t n, bool as_tree, uint32_t *result)
{
    for (uint32_t k = 0; k < n && n > 1; k++) {
        enum mdl_value_error error = operand(t, v[k]);
        if (error) return error;
    }
    if (as_tree) return made(tree(t, v, n), result);
    uint32_t sum = v[0];
    for (uint32_t k = 1; k < n; k++) sum = join(t, sum, v[k]);
    return made(sum, result);
}

enum mdl_value_error mdl_value_final(struct mdl_values *t, uint32_t value, uint32_t *result)
{
    enum mdl_value_error error = operand(t, value);
    return error ? error : made(intern(t, FINAL, value, 0, t->value[value].shape), result);
}

enum mdl_value_error mdl_value_round(struct mdl_values *t, uint32_t value, uint32_t *result)
{
    uint32_t kind = t->value[value].kind;
    if (!t->v->rounds || kind == LEAF || kind == ROUND) return made(value, result);
    return made(intern(t, ROUND, value, 0, t->value[value].shape), result);
}

/* ---- text ---- */

static size_t format(const struct mdl_values *t, uint32_t value, char *text, size_t bytes, size_t len)
{
    if (len + 24 > bytes) return bytes; /* no more room */
    const struct value *x = &t->value[value];
    const char *const head[] = {"nothing", "", "scalar*", "(", "final(", "round("};
    len += (size_t)snprintf(text + len, bytes - len, "%s", head[x->kind]);
    if (x->kind == NONE) return len;
    if (x->kind <= FACTOR) {
        len += (size_t)snprintf(text + len, bytes - len, x->b ? "r%u[%u]" : "r%u", x->a, x->b);
        return len;
    }
    len = format(t, x->a, text, bytes, len);
    if (x->kind == OP && len + 24 < bytes) {
        len += (size_t)snprintf(text + len, bytes - len, " + ");
        len = format(t, x->b, text, bytes, len);
    }
    return len + 24 > bytes ? bytes : len + (size_t)snprintf(text + len, bytes - len, ")");
}

void mdl_value_format(const struct mdl_values *t, uint32_t value, char *text, size_t bytes)
{
    text[0] = 0;
    if (format(t, value, text, bytes, 0) >= bytes) memcpy(text + strlen(text) - (strlen(text) > 3 ? 3 : 0), "...", 4);
}

/* ---- what must come out ---- */

/* Counts the leaves below; stops at one that is wrong. */
static bool count_leaves(struct mdl_values *t, uint32_t value, uint32_t slot, uint32_t *left, char *text, size_t bytes)
{
    const struct value *x = &t->value[value];
    if (x->kind == OP)
        return count_leaves(t, x->b, slot, left, text, bytes) && count_leaves(t, x->a, slot, left, text, bytes);
    if (x->b != slot)
        snprintf(text, bytes, "has rank %u's slot %u in it instead of slot %u", x->a, x->b, slot);
    else if (t->seen[x->a])
        snprintf(text, bytes, "has rank %u's input in it twice", x->a);
    else {
        t->seen[x->a] = 1;
        --*left;
        return true;
    }
    return false;
}

static bool each_once(struct mdl_values *t, uint32_t value, uint32_t slot, char *text, size_t bytes)
{
    uint32_t left = t->v->n, missing = 0;
    memset(t->seen, 0, t->v->n);
    if (!count_leaves(t, value, slot, &left, text, bytes)) return false;
    while (left && t->seen[missing]) missing++;
    if (left) snprintf(text, bytes, "lacks the input of %u ranks, first rank %u", left, missing);
    return !left;
}

static uint32_t canonical(struct mdl_values *t, uint32_t slot)
{
    if (t->canonical && t->canonical_slot == slot) return t->canonical;
    uint32_t *leaves = malloc(t->v->n * sizeof(*leaves));
    if (!leaves) return MDL_VALUE_NONE;
    for (uint32_t r = 0; r < t->v->n; r++) {
        leaves[r] = mdl_value_leaf(t, r, slot);
        if (t->v->coll->premul) leaves[r] = intern(t, FACTOR, r, slot, slot);
    }
    t->canonical = tree(t, leaves, t->v->n);
    t->canonical_slot = slot;
    free(leaves);
    return t->canonical;
}

static bool reduced(struct mdl_values *t, uint32_t slot, uint32_t value, char *text, size_t bytes)
{
    uint32_t inner = value;
    if (t->value[value].proved == slot + 1) return true;
    if (t->v->rounds && t->value[inner].kind == ROUND) inner = t->value[inner].a;
    if (t->value[inner].kind != FINAL) {
        snprintf(text, bytes, "was not made final");
        return false;
    }
    inner = t->value[inner].a;
    if (!each_once(t, inner, slot, text, bytes)) return false;
    uint32_t want = t->v->coll->deterministic ? canonical(t, slot) : inner;
    if (inner != want) {
        snprintf(text, bytes, want ? "is not the canonical tree" : "cannot be compared: out of memory");
        return false;
    }
    t->value[value].proved = slot + 1;
    return true;
}

bool mdl_value_expected(struct mdl_values *t, uint32_t rank, uint32_t slot, uint32_t value, char *text, size_t bytes)
{
    uint32_t root = (uint32_t)t->v->coll->root, from, in_slot;
    if (value == MDL_VALUE_NONE) {
        snprintf(text, bytes, "is never written");
        return false;
    }
    switch (t->v->coll->coll) {
    case medleyCollAllReduce:
    case medleyCollReduce: return reduced(t, 0, value, text, bytes);
    case medleyCollReduceScatter:
    case medleyCollReduceScatterV: return reduced(t, rank, value, text, bytes);
    case medleyCollBroadcast: from = root, in_slot = 0; break;
    case medleyCollScatter: from = root, in_slot = rank; break;
    case medleyCollAlltoAll:
    case medleyCollAlltoAllV: from = slot, in_slot = rank; break;
    default: from = slot, in_slot = 0; break;
    }
    const struct value *x = &t->value[value];
    if (x->kind == LEAF && x->a == from && x->b == in_slot) return true;
    snprintf(text, bytes, "should be rank %u's IN[%u]", from, in_slot);
    return false;
}
