/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers of the simulated ranks; see data.h. A rank's IN and OUT lie in one allocation with guards around them; the
 * whole of it is compared in the end, so that a stray write anywhere is seen. */
#include "config.h"
#include "tests/plan/data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, FILL = 0x5c };

uint64_t sim_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

bool sim_can_be_in_place(const struct mdl_collective *c, int rank)
{
    bool rooted = c->coll == medleyCollReduce || c->coll == medleyCollBroadcast || c->coll == medleyCollGather ||
                  c->coll == medleyCollScatter;
    return c->coll != medleyCollAlltoAllV && c->coll != medleyCollBarrier && (!rooted || rank == c->root);
}

static void *must(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- shape ---- */

static size_t slot_count(const struct data *d, int rank, bool in, uint32_t slot)
{
    const struct sim *s = d->s;
    size_t n = (size_t)s->team->nranks;
    if (!mdl_collective_is_v(&s->c)) return s->c.count;
    if (s->c.coll == medleyCollAlltoAllV)
        return in ? s->counts[(size_t)rank * n + slot] : s->counts[slot * n + (size_t)rank];
    return s->counts[(in ? d->in_slots : d->out_slots) == 1 ? (uint32_t)rank : slot];
}

/* Uniform collectives: packed. V: with gaps and from some other slot on, where the collective lets ranks differ. */
static void place_slots(const struct data *d, int rank, bool in, uint32_t slots, size_t *count, size_t *first,
                        size_t *end)
{
    bool v = mdl_collective_is_v(&d->s->c) && slots > 1;
    uint32_t turn = v && d->s->c.coll != medleyCollReduceScatterV ? (uint32_t)rank : 0;
    size_t at = 0;
    for (uint32_t i = 0; i < slots; i++) {
        uint32_t slot = (i + turn) % slots;
        count[slot] = slot_count(d, rank, in, slot);
        first[slot] = at;
        at += count[slot] + (v ? 1 + i % 2 : 0);
    }
    *end = at * d->size;
}

static size_t *shape_buffer(const struct data *d, int rank, bool in, size_t *tables, struct buffer *b)
{
    uint32_t slots = in ? d->in_slots : d->out_slots;
    if (!mdl_collective_has(&d->s->c, rank, in ? MDL_IN : MDL_OUT)) return tables;
    b->count = tables;
    b->first = tables + slots;
    place_slots(d, rank, in, slots, tables, tables + slots, &b->bytes);
    return tables + 2 * slots;
}

/* Where the smaller of the two buffers starts in the larger one when they are one memory. */
static void alias(const struct data *d, int rank, struct rank_data *r)
{
    for (uint32_t s = 0; s < d->out_slots; s++) {
        uint32_t in = mdl_collective_alias(&d->s->c, rank, s);
        if (in == MDL_NO_SLOT) continue;
        ptrdiff_t delta = (ptrdiff_t)(r->out.first[s] * d->size) - (ptrdiff_t)(r->in.first[in] * d->size);
        if (r->out.bytes >= r->in.bytes)
            r->in.slots = r->out.slots + delta;
        else
            r->out.slots = r->in.slots - delta;
        return;
    }
}

static void layout(struct data *d, int rank)
{
    struct rank_data *r = &d->ranks[rank];
    r->in_place = d->s->in_place && d->s->in_place[rank] && sim_can_be_in_place(&d->s->c, rank);
    r->tables = must(calloc(2 * (size_t)(d->in_slots + d->out_slots) + 1, sizeof(size_t)));
    shape_buffer(d, rank, false, shape_buffer(d, rank, true, r->tables, &r->in), &r->out);
    size_t in_room = (r->in.bytes + GUARD - 1) / GUARD * GUARD;
    r->bytes = (3 * GUARD + in_room + r->out.bytes + GUARD - 1) / GUARD * GUARD;
    r->memory = must(aligned_alloc(GUARD, r->bytes));
    r->initial = must(malloc(r->bytes));
    r->result = must(malloc(r->bytes));
    memset(r->memory, FILL, r->bytes);
    r->in.slots = r->memory + GUARD;
    r->out.slots = r->in.slots + in_room + GUARD;
    if (r->in_place) alias(d, rank, r);
}

uint8_t *data_at(const struct data *d, int rank, enum mdl_buffer buf, uint32_t slot, size_t element)
{
    const struct buffer *b = buf == MDL_IN ? &d->ranks[rank].in : &d->ranks[rank].out;
    return b->count ? b->slots + (b->first[slot] + element) * d->size : NULL;
}

/* ---- contents ---- */

static void set_element(medleyDataType_t dtype, uint8_t *at, int value)
{
    float f = (float)value;
    double g = value;
    int64_t i = value;
    switch (dtype) {
    case medleyFloat16:
    case medleyBfloat16:
    case medleyFloat8e4m3:
    case medleyFloat8e5m2: mdl_from_float(dtype, f, at); break;
    case medleyFloat32: memcpy(at, &f, sizeof(f)); break;
    case medleyFloat64: memcpy(at, &g, sizeof(g)); break;
    default: /* the low bytes are the number on a little-endian machine only, but any bits are a number */
        memcpy(at, &i, mdl_dtype_size(dtype));
        break;
    }
}

/* Rough floats have all bits of their mantissa and exponents that differ. */
static void set_rough(medleyDataType_t dtype, uint8_t *at, uint64_t bits)
{
    float f = (float)(bits >> 40) / (float)(1 << ((bits & 15) + 8)) * (bits & 16 ? -1.0f : 1.0f);
    double g = (double)f * 1.000000007;
    if (dtype == medleyFloat32)
        memcpy(at, &f, sizeof(f));
    else if (dtype == medleyFloat64)
        memcpy(at, &g, sizeof(g));
    else if (mdl_dtype_rounds(dtype))
        mdl_from_float(dtype, f / 65536.0f, at);
    else
        memcpy(at, &bits, mdl_dtype_size(dtype));
}

static void fill(struct data *d, int rank)
{
    const struct sim *s = d->s;
    uint64_t state = s->seed * 1000003 + (uint64_t)rank;
    struct rank_data *r = &d->ranks[rank];
    set_element(s->c.dtype, r->premul, 1 + rank % 3);
    if (s->rough) set_rough(s->c.dtype, r->premul, sim_random(&state));
    for (uint32_t slot = 0; r->in.count && slot < d->in_slots; slot++)
        for (size_t i = 0; i < r->in.count[slot]; i++) {
            uint64_t bits = sim_random(&state);
            uint8_t *at = data_at(d, rank, MDL_IN, slot, i);
            s->rough ? set_rough(s->c.dtype, at, bits) : set_element(s->c.dtype, at, (int)(bits % 3));
        }
    memcpy(r->initial, r->memory, r->bytes);
}

struct data *data_new(const struct sim *s)
{
    struct data *d = must(calloc(1, sizeof(*d)));
    d->s = s;
    d->size = mdl_dtype_size(s->c.dtype);
    d->acc_size = mdl_dtype_acc_size(s->c.dtype);
    mdl_collective_slots(&s->c, s->team->nranks, &d->in_slots, &d->out_slots);
    d->ranks = must(calloc((size_t)s->team->nranks, sizeof(*d->ranks)));
    for (int r = 0; r < s->team->nranks; r++) {
        layout(d, r);
        fill(d, r);
    }
    return d;
}

void data_free(struct data *d)
{
    for (int r = 0; r < d->s->team->nranks; r++) {
        free(d->ranks[r].memory);
        free(d->ranks[r].initial);
        free(d->ranks[r].result);
        free(d->ranks[r].tables);
    }
    free(d->ranks);
    free(d);
}

void data_leave(struct data *d, int rank)
{
    struct rank_data *r = &d->ranks[rank];
    memcpy(r->result, r->memory, r->bytes);
    memset(r->memory, DATA_POISON, r->bytes);
}

/* ---- reference ---- */

static const uint8_t *initial_at(const struct data *d, int rank, uint32_t slot)
{
    const struct rank_data *r = &d->ranks[rank];
    return r->initial + (data_at(d, rank, MDL_IN, slot, 0) - r->memory);
}

static struct mdl_reduce folding(const struct data *d)
{
    medleyRedOp_t op = d->s->c.op == medleyAvg ? medleySum : d->s->c.op;
    return (struct mdl_reduce){.dtype = d->s->c.dtype, .op = op, .dst_acc = true, .divisor = 1};
}

/* acc = the canonical tree over ranks [lo, hi) of their slot. */
static void fold_tree(const struct data *d, int lo, int hi, uint32_t slot, size_t count, uint8_t *acc)
{
    struct mdl_reduce r = folding(d);
    if (hi - lo == 1) {
        const void *src = initial_at(d, lo, slot);
        if (d->s->c.premul)
            mdl_premul(d->s->c.dtype, acc, src, d->ranks[lo].premul, count);
        else
            mdl_reduce(&r, acc, &src, 0, 1, count);
        return;
    }
    int left = 1;
    while (left * 2 < hi - lo) left *= 2;
    uint8_t *other = must(malloc(count * d->acc_size + 1));
    fold_tree(d, lo, lo + left, slot, count, acc);
    fold_tree(d, lo + left, hi, slot, count, other);
    const void *srcs[2] = {acc, other};
    mdl_reduce(&r, acc, srcs, 3, 2, count);
    free(other);
}

static void expect_fold(const struct data *d, uint32_t slot, size_t count, uint8_t *dst)
{
    uint8_t *acc = must(malloc(count * d->acc_size + 1));
    fold_tree(d, 0, d->s->team->nranks, slot, count, acc);
    struct mdl_reduce r = folding(d);
    r.dst_acc = false;
    r.finalize = d->s->c.op == medleyAvg ? MDL_FINAL_AVG : MDL_FINAL_NONE;
    r.divisor = (uint32_t)d->s->team->nranks;
    const void *src = acc;
    mdl_reduce(&r, dst, &src, 1, 1, count);
    free(acc);
}

/* The rank and slot of IN that OUT slot `slot` of `rank` is a copy of. */
static void origin(const struct data *d, int rank, uint32_t slot, int *from, uint32_t *from_slot)
{
    switch (d->s->c.coll) {
    case medleyCollBroadcast: *from = d->s->c.root, *from_slot = 0; break;
    case medleyCollScatter: *from = d->s->c.root, *from_slot = (uint32_t)rank; break;
    case medleyCollAlltoAll:
    case medleyCollAlltoAllV: *from = (int)slot, *from_slot = (uint32_t)rank; break;
    default: *from = (int)slot, *from_slot = 0; break;
    }
}

static void expect_slot(const struct data *d, int rank, uint32_t slot, uint8_t *dst)
{
    size_t count = d->ranks[rank].out.count[slot];
    if (count && mdl_collective_reduces(&d->s->c)) {
        expect_fold(d, d->in_slots == 1 ? 0 : (uint32_t)rank, count, dst);
    } else if (count) {
        int from;
        uint32_t from_slot;
        origin(d, rank, slot, &from, &from_slot);
        memcpy(dst, initial_at(d, from, from_slot), count * d->size);
    }
}

/* The whole allocation as it shall be when the rank leaves. */
static uint8_t *expect_memory(const struct data *d, int rank)
{
    const struct rank_data *r = &d->ranks[rank];
    uint8_t *want = must(malloc(r->bytes));
    memcpy(want, r->initial, r->bytes);
    for (uint32_t s = 0; r->out.count && s < d->out_slots; s++)
        expect_slot(d, rank, s, want + (data_at(d, rank, MDL_OUT, s, 0) - r->memory));
    return want;
}

static bool differs(const struct data *d, int rank, const uint8_t *want, char *why, size_t why_bytes)
{
    const struct rank_data *r = &d->ranks[rank];
    size_t i = 0;
    while (i < r->bytes && r->result[i] == want[i]) i++;
    if (i == r->bytes) return false;
    ptrdiff_t at = r->memory + i - r->out.slots;
    snprintf(why, why_bytes, "rank %d: byte %td of OUT (%zu bytes, element %td) is %02x, not %02x%s", rank, at,
             r->out.bytes, at / (ptrdiff_t)d->size, r->result[i], want[i], r->in_place ? ", in place" : "");
    return true;
}

static bool left_alone(const struct data *d, int rank, char *why, size_t why_bytes)
{
    const struct rank_data *r = &d->ranks[rank];
    for (size_t i = 0; i < r->bytes; i++) {
        if (r->memory[i] == DATA_POISON) continue;
        snprintf(why, why_bytes, "rank %d: memory was written after it had left (byte %zu)", rank, i);
        return false;
    }
    return true;
}

/* Rough sums depend on the order, which is the algorithm's; but all ranks must have the same. */
static bool same_as_first(const struct data *d, int rank, char *why, size_t why_bytes)
{
    const struct buffer *a = &d->ranks[0].out, *b = &d->ranks[rank].out;
    const uint8_t *x = d->ranks[0].result + (a->slots - d->ranks[0].memory);
    const uint8_t *y = d->ranks[rank].result + (b->slots - d->ranks[rank].memory);
    if (memcmp(x, y, a->bytes) == 0) return true;
    snprintf(why, why_bytes, "ranks 0 and %d have different results", rank);
    return false;
}

bool data_check(const struct data *d, char *why, size_t why_bytes)
{
    bool any_order = d->s->rough && !d->s->c.deterministic && mdl_collective_reduces(&d->s->c);
    for (int r = 0; r < d->s->team->nranks; r++) {
        if (!left_alone(d, r, why, why_bytes)) return false;
        if (any_order) {
            if (d->s->c.coll == medleyCollAllReduce && !same_as_first(d, r, why, why_bytes)) return false;
            continue;
        }
        uint8_t *want = expect_memory(d, r);
        bool wrong = differs(d, r, want, why, why_bytes);
        free(want);
        if (wrong) return false;
    }
    return true;
}
