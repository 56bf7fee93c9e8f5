/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A buffer is compared with a picture of what it must hold, drawn block by block in three layers: zeros, then (in
 * place) the rank's own input, then what the collective delivers. Filling draws the first two layers into the buffer
 * itself.
 */
#include "config.h"
#include "bench/perf/check.h"
#include "bench/perf/buffers.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 32768 };

medleyResult_t perf_data_open(struct perf_data *d, int nranks)
{
    *d = (struct perf_data){.segments = calloc((size_t)nranks, sizeof(*d->segments))};
    return d->segments ? medleySuccess : mdl_error(medleySystemError, "out of memory to check %d ranks", nranks);
}

void perf_data_close(struct perf_data *d) { free(d->segments); }

static size_t send_at(const struct perf_data *d, int rank)
{
    return d->in_place && d->shape.send_slot ? perf_shape_slot(&d->shape, rank) : 0;
}

static size_t recv_at(const struct perf_data *d, int rank)
{
    return d->in_place && d->shape.recv_slot ? perf_shape_slot(&d->shape, rank) : 0;
}

char *perf_data_send(const struct perf_data *d, const struct perf_rank *r)
{
    char *base = d->in_place ? r->recv.at : r->send.at;
    return base + send_at(d, r->rank) * d->shape.elem;
}

char *perf_data_recv(const struct perf_data *d, const struct perf_rank *r)
{
    return r->recv.at + recv_at(d, r->rank) * d->shape.elem;
}

/* ---- the picture ---- */

/* The elements [lo, lo + n) of a picture. */
struct block {
    size_t lo, n;
    char *to;
};

/* Draws what of elements [at, at + count), which are those from `from` on of rank's input, lies in the block. */
static void draw_segment(const struct perf_data *d, const struct perf_segment *s, const struct block *b)
{
    size_t lo = s->at > b->lo ? s->at : b->lo, end = s->at + s->count;
    if (end > b->lo + b->n) end = b->lo + b->n;
    if (lo >= end) return;
    char *to = b->to + (lo - b->lo) * d->shape.elem;
    if (s->rank == PERF_REDUCED)
        perf_pattern_result(&d->pattern, s->from + lo - s->at, end - lo, to);
    else
        perf_pattern_input(&d->pattern, s->rank, s->from + lo - s->at, end - lo, to);
}

static void draw_before(const struct perf_data *d, int rank, const struct block *b)
{
    struct perf_segment own = {.at = send_at(d, rank), .count = d->shape.send, .rank = rank};
    memset(b->to, 0, b->n * d->shape.elem);
    if (d->in_place) draw_segment(d, &own, b);
}

static void draw_after(const struct perf_data *d, int rank, int nsegments, const struct block *b)
{
    draw_before(d, rank, b);
    for (int i = 0; i < nsegments; i++) {
        struct perf_segment s = d->segments[i];
        s.at += recv_at(d, rank);
        draw_segment(d, &s, b);
    }
}

static size_t picture_elements(const struct perf_data *d)
{
    return perf_shape_extent(&d->shape) + PERF_GUARD / d->shape.elem;
}

/* ---- use ---- */

void perf_data_fill(struct perf_data *d, struct perf_rank *r)
{
    struct block all = {.n = picture_elements(d), .to = r->recv.host_at};
    if (d->shape.coll->flags & PERF_NO_DATA) return;
    draw_before(d, r->rank, &all);
    if (!d->in_place) perf_pattern_input(&d->pattern, r->rank, 0, d->shape.send, r->send.host_at);
}

static size_t check_recv(struct perf_data *d, struct perf_rank *r)
{
    _Alignas(64) char picture[BLOCK_BYTES];
    size_t wrong = 0, total = picture_elements(d), most = BLOCK_BYTES / d->shape.elem;
    int nsegments = d->shape.coll->expect(&d->shape, r->rank, d->segments);
    for (struct block b = {.to = picture}; b.lo < total; b.lo += b.n) {
        b.n = total - b.lo < most ? total - b.lo : most;
        draw_after(d, r->rank, nsegments, &b);
        wrong += perf_pattern_compare(&d->pattern, r->recv.host_at + b.lo * d->shape.elem, picture, b.n);
    }
    return wrong;
}

static size_t check_send(struct perf_data *d, struct perf_rank *r)
{
    _Alignas(64) char picture[BLOCK_BYTES];
    size_t wrong = 0, most = BLOCK_BYTES / d->shape.elem;
    for (size_t lo = 0, n; lo < d->shape.send; lo += n) {
        n = d->shape.send - lo < most ? d->shape.send - lo : most;
        perf_pattern_input(&d->pattern, r->rank, lo, n, picture);
        wrong += perf_pattern_compare(&d->pattern, r->send.host_at + lo * d->shape.elem, picture, n);
    }
    return wrong;
}

size_t perf_data_check(struct perf_data *d, struct perf_rank *r)
{
    if (d->shape.coll->flags & PERF_NO_DATA) return 0;
    return check_recv(d, r) + (d->in_place ? 0 : check_send(d, r));
}

void perf_data_corrupt(struct perf_data *d, struct perf_rank *r)
{
    size_t n = perf_shape_extent(&d->shape);
    if (n) r->recv.host_at[n / 2 * d->shape.elem] ^= 0x40;
}
