/* SPDX-License-Identifier: Apache-2.0 */
/* The cells behind the builder's automatic dependencies, and the transitive reduction of dependency lists. Linear in
 * what is touched: rows are found by hashing, readers are chained from a pool. */
#include "config.h"
#include "lib/plan/depend.h"
#include "lib/plan/grow.h"
#include <string.h>

enum { REDUCE_BUDGET = 512 }; /* instructions that one reduction may look at */

struct mdl_depend_row {
    uint64_t key;
    uint32_t cell;   /* its first cell: `parts` of the element view, then `parts` of the partial view */
    bool touched[2]; /* each view */
};

struct mdl_depend_cell {
    uint32_t writer;  /* MDL_NO_DEP: none yet */
    uint32_t readers; /* since the last write */
};

struct mdl_depend_reader {
    uint32_t inst, next;
};

void mdl_depend_init(struct mdl_depend *d, uint32_t parts, bool wide)
{
    memset(d, 0, sizeof(*d));
    d->parts = parts;
    d->wide = wide;
    d->nreaders = 1;
}

void mdl_depend_fini(struct mdl_depend *d)
{
    free(d->hash);
    free(d->rows);
    free(d->cells);
    free(d->readers);
    free(d->mark);
    free(d->stack);
}

void mdl_depend_start(struct mdl_depend *d, uint32_t inst, struct mdl_depend_list *list)
{
    uint32_t old = d->mark_cap;
    if (!mdl_grow(&d->mark, &d->mark_cap, (size_t)inst + 1, sizeof(*d->mark))) {
        d->failed = true;
        return;
    }
    memset(d->mark + old, 0, (d->mark_cap - old) * sizeof(*d->mark));
    d->stamp++;
    list->n = 0;
}

void mdl_depend_add(struct mdl_depend *d, uint32_t dep, struct mdl_depend_list *list)
{
    if (d->failed || dep == MDL_NO_DEP || d->mark[dep] == d->stamp) return;
    if (!mdl_grow(&list->v, &list->cap, (size_t)list->n + 1, sizeof(*list->v))) {
        d->failed = true;
        return;
    }
    d->mark[dep] = d->stamp;
    list->v[list->n++] = dep;
}

void mdl_depend_remove(struct mdl_depend *d, uint32_t k, struct mdl_depend_list *list)
{
    d->mark[list->v[k]] = 0;
    list->v[k] = list->v[--list->n];
}

/* ---- rows ---- */

static uint32_t hash_of(uint64_t key) { return (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 32); }

static bool rehash(struct mdl_depend *d)
{
    uint32_t cap = d->hash_cap ? d->hash_cap * 2 : 64;
    uint32_t *hash = calloc(cap, sizeof(*hash));
    if (!hash) return false;
    for (uint32_t r = 0; r < d->nrows; r++) {
        uint32_t i = hash_of(d->rows[r].key) & (cap - 1);
        while (hash[i]) i = (i + 1) & (cap - 1);
        hash[i] = r + 1;
    }
    free(d->hash);
    d->hash = hash;
    d->hash_cap = cap;
    return true;
}

static struct mdl_depend_row *row_add(struct mdl_depend *d, uint64_t key)
{
    uint32_t cells = d->parts * (d->wide ? 2 : 1);
    if ((d->nrows + 1) * 2 > d->hash_cap && !rehash(d)) return NULL;
    if (!mdl_grow(&d->rows, &d->rows_cap, (size_t)d->nrows + 1, sizeof(*d->rows))) return NULL;
    if (!mdl_grow(&d->cells, &d->cells_cap, (size_t)d->ncells + cells, sizeof(*d->cells))) return NULL;
    struct mdl_depend_row *row = &d->rows[d->nrows];
    *row = (struct mdl_depend_row){.key = key, .cell = d->ncells};
    for (uint32_t c = 0; c < cells; c++) d->cells[d->ncells + c] = (struct mdl_depend_cell){MDL_NO_DEP, 0};
    d->ncells += cells;
    uint32_t i = hash_of(key) & (d->hash_cap - 1);
    while (d->hash[i]) i = (i + 1) & (d->hash_cap - 1);
    d->hash[i] = ++d->nrows;
    return row;
}

static uint64_t key_of(const struct mdl_ref *ref, uint32_t slot)
{
    return (uint64_t)ref->rank << 34 | (uint64_t)ref->buf << 32 | slot;
}

static struct mdl_depend_row *row_find(const struct mdl_depend *d, uint64_t key)
{
    uint32_t i = hash_of(key) & (d->hash_cap - 1);
    while (d->hash_cap && d->hash[i]) {
        struct mdl_depend_row *row = &d->rows[d->hash[i] - 1];
        if (row->key == key) return row;
        i = (i + 1) & (d->hash_cap - 1);
    }
    return NULL;
}

static struct mdl_depend_row *row_of(struct mdl_depend *d, uint64_t key)
{
    struct mdl_depend_row *row = row_find(d, key);
    if (!row) row = row_add(d, key);
    if (!row) d->failed = true;
    return row;
}

/* ---- cells ---- */

static void reader_add(struct mdl_depend *d, struct mdl_depend_cell *cell, uint32_t inst)
{
    if (cell->readers && d->readers[cell->readers].inst == inst) return;
    uint32_t r = d->free_reader;
    if (r) {
        d->free_reader = d->readers[r].next;
    } else {
        if (!mdl_grow(&d->readers, &d->readers_cap, (size_t)d->nreaders + 1, sizeof(*d->readers))) {
            d->failed = true;
            return;
        }
        r = d->nreaders++;
    }
    d->readers[r] = (struct mdl_depend_reader){inst, cell->readers};
    cell->readers = r;
}

static void readers_free(struct mdl_depend *d, struct mdl_depend_cell *cell)
{
    while (cell->readers) {
        uint32_t r = cell->readers;
        cell->readers = d->readers[r].next;
        d->readers[r].next = d->free_reader;
        d->free_reader = r;
    }
}

static void cell_order(struct mdl_depend *d, uint32_t inst, const struct mdl_depend_cell *cell, bool write,
                       struct mdl_depend_list *list)
{
    if (cell->writer != inst) mdl_depend_add(d, cell->writer, list);
    for (uint32_t r = write ? cell->readers : 0; r; r = d->readers[r].next)
        if (d->readers[r].inst != inst) mdl_depend_add(d, d->readers[r].inst, list);
}

static void cell_access(struct mdl_depend *d, uint32_t inst, struct mdl_depend_cell *cell, bool write,
                        struct mdl_depend_list *list)
{
    cell_order(d, inst, cell, write, list);
    if (!write) {
        reader_add(d, cell, inst);
        return;
    }
    readers_free(d, cell);
    cell->writer = inst;
}

static void slot_access(struct mdl_depend *d, uint32_t inst, const struct mdl_ref *ref, uint32_t slot, bool write,
                        struct mdl_depend_list *list)
{
    struct mdl_depend_row *row = row_of(d, key_of(ref, slot));
    if (!row) return;
    bool view = ref->acc && d->wide;
    row->touched[view] = true;
    struct mdl_depend_cell *cells = d->cells + row->cell + (view ? d->parts : 0);
    for (uint32_t p = ref->lo; p < ref->hi; p++) cell_access(d, inst, &cells[p], write, list);
    if (!row->touched[!view]) return;
    cells = d->cells + row->cell + (view ? 0 : d->parts);
    for (uint32_t p = 0; p < d->parts; p++) cell_order(d, inst, &cells[p], write, list);
}

void mdl_depend_access(struct mdl_depend *d, uint32_t inst, const struct mdl_ref *cell, bool write,
                       struct mdl_depend_list *list)
{
    for (uint32_t s = 0; s < cell->slots && !d->failed; s++) slot_access(d, inst, cell, cell->slot + s, write, list);
}

void mdl_depend_follow(struct mdl_depend *d, uint32_t inst, const struct mdl_ref *cell, bool write,
                       struct mdl_depend_list *list)
{
    for (uint32_t s = 0; s < cell->slots; s++) {
        const struct mdl_depend_row *row = row_find(d, key_of(cell, cell->slot + s));
        for (uint32_t p = cell->lo; row && p < cell->hi; p++)
            cell_order(d, inst, &d->cells[row->cell + p], write, list);
    }
}

/* ---- transitive reduction ---- */

static int descending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Marks what instruction `from` depends on, down to `lowest`. */
static void mark_reached(struct mdl_depend *d, const struct mdl_inst *insts, const uint32_t *deps, uint32_t from,
                         uint32_t lowest, uint32_t *budget)
{
    uint32_t n = 1;
    d->stack[0] = from;
    while (n) {
        const struct mdl_inst *at = &insts[d->stack[--n]];
        for (uint32_t k = 0; k < at->ndep && *budget; k++) {
            uint32_t dep = deps[at->dep + k];
            if (dep < lowest || d->mark[dep] == d->stamp) continue;
            d->mark[dep] = d->stamp;
            --*budget;
            d->stack[n++] = dep;
        }
    }
}

void mdl_depend_reduce(struct mdl_depend *d, const struct mdl_inst *insts, const uint32_t *deps,
                       struct mdl_depend_list *list)
{
    if (d->failed || list->n < 2) return;
    uint32_t budget = REDUCE_BUDGET + list->n;
    if (!mdl_grow(&d->stack, &d->stack_cap, (size_t)budget + 1, sizeof(*d->stack))) {
        d->failed = true;
        return;
    }
    qsort(list->v, list->n, sizeof(*list->v), descending);
    uint32_t kept = 0, lowest = list->v[list->n - 1];
    d->stamp++;
    for (uint32_t k = 0; k < list->n; k++) {
        uint32_t dep = list->v[k];
        if (d->mark[dep] == d->stamp) continue;
        list->v[kept++] = dep;
        mark_reached(d, insts, deps, dep, lowest, &budget);
    }
    list->n = kept;
}
