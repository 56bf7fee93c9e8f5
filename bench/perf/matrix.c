/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rounds of a round-robin tournament: in each, all ranks measure with one partner at the same time, so that no pair
 * shares a rank with another and a thousand ranks need a thousand rounds. First the lower rank of each pair starts,
 * then the higher one. The starter measures: half of a round trip of small messages; and a train of large ones that its
 * partner acknowledges at the end.
 */
#include "config.h"
#include "bench/perf/matrix.h"
#include "bench/perf/buffers.h"
#include "bench/perf/report.h"
#include "bench/perf/report_json.h"
#include "bench/perf/watch.h"
#include "lib/base/clock.h"
#include <stdlib.h>
#include <string.h>

/* ---- the tournament ---- */

/* An even number of players; the last one stands still, or is the bye. */
static int players(int n) { return n + (n & 1); }

int perf_matrix_rounds(int n) { return players(n) - 1; }

int perf_matrix_partner(int n, int round, int rank)
{
    int last = players(n) - 1, partner;
    if (rank == last) {
        /* The one that would meet itself: 2 * partner = round. */
        partner = round % 2 ? (round + last) / 2 : round / 2;
    } else {
        partner = ((round - rank) % last + last) % last;
        if (partner == rank) partner = last;
    }
    return partner < n ? partner : -1;
}

/* ---- one pair ---- */

static medleyResult_t send_bytes(const struct perf_rank *r, size_t n, int peer, void *stream)
{
    return medleySend(r->send.at, n, medleyUint8, peer, r->comm, stream);
}

static medleyResult_t recv_bytes(const struct perf_rank *r, size_t n, int peer, void *stream)
{
    return medleyRecv(r->recv.at, n, medleyUint8, peer, r->comm, stream);
}

static medleyResult_t ping(const struct perf_rank *r, int peer, bool starter, size_t bytes, int times)
{
    for (int i = 0; i < times; i++) {
        if (starter) MDL_TRY(send_bytes(r, bytes, peer, NULL));
        MDL_TRY(recv_bytes(r, bytes, peer, NULL));
        if (!starter) MDL_TRY(send_bytes(r, bytes, peer, NULL));
    }
    return medleySuccess;
}

static medleyResult_t train(const struct perf_rank *r, int peer, bool starter, size_t bytes, int times)
{
    for (int i = 0; i < times; i++)
        MDL_TRY(starter ? send_bytes(r, bytes, peer, NULL) : recv_bytes(r, bytes, peer, NULL));
    return starter ? recv_bytes(r, 1, peer, NULL) : send_bytes(r, 1, peer, NULL);
}

static medleyResult_t measure(const struct perf_options *o, size_t max_bytes, const struct perf_rank *r, int peer,
                              bool starter, struct perf_matrix_cell *cell)
{
    MDL_TRY(ping(r, peer, starter, o->min_bytes, o->warmup));
    uint64_t start = mdl_now_ns();
    MDL_TRY(ping(r, peer, starter, o->min_bytes, o->iters));
    double ping_ns = (double)(mdl_now_ns() - start);
    MDL_TRY(train(r, peer, starter, max_bytes, o->warmup));
    start = mdl_now_ns();
    MDL_TRY(train(r, peer, starter, max_bytes, o->iters));
    double train_ns = (double)(mdl_now_ns() - start);
    if (!starter) return medleySuccess;
    cell->latency_us = ping_ns / o->iters / 2 / 1e3;
    cell->gbps = train_ns > 0 ? (double)max_bytes * o->iters / train_ns : 0;
    return medleySuccess;
}

/* ---- all pairs ---- */

static medleyResult_t run_rounds(struct perf_thread *t, struct perf_matrix_cell *row)
{
    struct perf_rank *r = &t->ranks[0];
    int n = t->world->nranks;
    for (int round = 0; round < perf_matrix_rounds(n); round++) {
        int peer = perf_matrix_partner(n, round, r->rank);
        perf_watch_kick(t->world->watch, "matrix");
        if (t->report && t->report->terminal)
            fprintf(stderr, "\r\033[Kmatrix: round %d of %d", round + 1, perf_matrix_rounds(n));
        for (int higher = 0; higher < 2; higher++) {
            MDL_TRY(perf_all_wait(t));
            if (peer < 0) continue;
            MDL_TRY(measure(t->world->o, t->max_bytes, r, peer, (r->rank > peer) == higher, &row[peer]));
        }
    }
    return medleySuccess;
}

/* ---- the table ---- */

static void print_table(const struct perf_matrix_cell *cells, int n, bool latency)
{
    printf("# %6s", "from");
    for (int b = 0; b < n; b++) printf("  to %-4d", b);
    putchar('\n');
    for (int a = 0; a < n; a++) {
        printf("  %6d", a);
        for (int b = 0; b < n; b++) {
            const struct perf_matrix_cell *c = &cells[(size_t)a * (size_t)n + (size_t)b];
            if (a == b)
                printf("  %7s", "-");
            else
                printf("  %7.*f", latency ? 2 : 3, latency ? c->latency_us : c->gbps);
        }
        putchar('\n');
    }
}

static int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value that is to be small: microseconds, or seconds per GB. */
static double cost_of(const struct perf_matrix_cell *c, bool latency)
{
    return latency ? c->latency_us : c->gbps > 0 ? 1 / c->gbps : 1e9;
}

/* The median over the pairs that use `transport`. `room` has space for all pairs. */
static double median_of(const struct perf_links *l, const struct perf_matrix_cell *cells, const char *transport,
                        bool latency, double *room)
{
    int count = 0, n = l->nranks;
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++)
            if (a != b && !strcmp(perf_links_get(l, a, b)->transport, transport))
                room[count++] = cost_of(&cells[(size_t)a * (size_t)n + (size_t)b], latency);
    qsort(room, (size_t)count, sizeof(*room), compare_numbers);
    return count % 2 ? room[count / 2] : (room[count / 2 - 1] + room[count / 2]) / 2;
}

static void print_outlier(const struct perf_links *l, int a, int b, const struct perf_matrix_cell *c, bool latency,
                          double times)
{
    const struct perf_link *link = perf_links_get(l, a, b);
    printf("# slow: rank %d (%s) to rank %d (%s) by %s%s%s: %.2f %s, %.1f times %s than the median of %s\n", a,
           l->who[a].host, b, l->who[b].host, link->transport, link->interface[0] ? " over " : "", link->interface,
           latency ? c->latency_us : c->gbps, latency ? "us" : "GB/s", times, latency ? "longer" : "slower",
           link->transport);
}

static int print_outliers(const struct perf_links *l, const struct perf_matrix_cell *cells, bool latency, double *room)
{
    int found = 0, n = l->nranks;
    const char *last = NULL; /* neighbours in the table mostly have one transport */
    double median = 0;
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++) {
            const struct perf_matrix_cell *c = &cells[(size_t)a * (size_t)n + (size_t)b];
            const char *transport = perf_links_get(l, a, b)->transport;
            if (a == b) continue;
            if (!last || strcmp(last, transport)) median = median_of(l, cells, transport, latency, room);
            last = transport;
            if (cost_of(c, latency) <= 2 * median) continue;
            print_outlier(l, a, b, c, latency, cost_of(c, latency) / median);
            found++;
        }
    return found;
}

static medleyResult_t print_all(const struct perf_options *o, size_t max_bytes, const struct perf_links *l,
                                const struct perf_matrix_cell *cells)
{
    double *room = calloc((size_t)l->nranks * (size_t)l->nranks, sizeof(*room));
    if (!room) return mdl_error(medleySystemError, "out of memory for the matrix");
    printf("#\n# Latency in us: half of a round trip of %zu bytes\n", o->min_bytes);
    print_table(cells, l->nranks, true);
    printf("#\n# Bandwidth in GB/s: messages of %zu bytes\n", max_bytes);
    print_table(cells, l->nranks, false);
    printf("#\n");
    int found = print_outliers(l, cells, true, room) + print_outliers(l, cells, false, room);
    printf("# %-20s : %d\n", "Outliers", found);
    fflush(stdout);
    free(room);
    return medleySuccess;
}

static medleyResult_t gather_and_print(struct perf_thread *t, struct perf_matrix_cell *row,
                                       struct perf_matrix_cell *cells)
{
    struct perf_links l;
    MDL_TRY(perf_all_gather(t, row, (size_t)t->world->nranks * sizeof(*row), cells));
    MDL_TRY(perf_links_gather(t, &l));
    medleyResult_t result = medleySuccess;
    if (t->report && t->report->terminal) fprintf(stderr, "\r\033[K");
    if (t->report) result = print_all(t->world->o, t->max_bytes, &l, cells);
    if (result == medleySuccess) result = perf_report_json_matrix(t, &l, cells);
    perf_links_free(&l);
    return result;
}

medleyResult_t perf_matrix(struct perf_thread *t)
{
    size_t n = (size_t)t->world->nranks;
    struct perf_matrix_cell *row = calloc(n, sizeof(*row)), *cells = calloc(n * n, sizeof(*cells));
    medleyResult_t result = row && cells ? medleySuccess : mdl_error(medleySystemError, "out of memory for the matrix");
    perf_buffers_align(t, 1);
    memset(t->ranks[0].send.base, 1, t->ranks[0].send.bytes);
    memset(t->ranks[0].recv.base, 0, t->ranks[0].recv.bytes);
    if (result == medleySuccess) result = run_rounds(t, row);
    if (result == medleySuccess) result = gather_and_print(t, row, cells);
    free(row);
    free(cells);
    return result;
}
