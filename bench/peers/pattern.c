/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data that is sent, and what must come of it.
 *
 * Element i of rank r's buffer is a small integer that depends on r and on i modulo a prime, so that pieces that were
 * swapped, shifted or left out are seen; sums of them are exact in every type. A whole period is kept encoded: large
 * buffers are filled and compared by copying and comparing blocks.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

enum { PERIOD = 8191, WIDEST = 8, EVERYONE = -1 };

static const struct {
    size_t size;
    int exponent_bits, mantissa_bits; /* floats of less than 32 bits */
    int values;                       /* elements are 0 .. values - 1: the sum over 8 ranks is exact */
} types[TYPES] = {
    [F32] = {4, 0, 0, 13}, [F64] = {8, 0, 0, 13}, [I8] = {1, 0, 0, 13},    [I32] = {4, 0, 0, 13},
    [F16] = {2, 5, 10, 2}, [BF16] = {2, 8, 7, 2}, [F8E4M3] = {1, 4, 3, 2}, [F8E5M2] = {1, 5, 2, 2},
};

size_t type_size(enum type type) { return types[type].size; }

static int element(int rank, size_t i, int values)
{
    return (int)((((uint32_t)i * 2654435761u >> 15) + 3u * (uint32_t)rank) % (uint32_t)values);
}

/* A positive integer as a float with few bits: 1.mantissa x 2^exponent. */
static uint32_t narrow(int value, int exponent_bits, int mantissa_bits)
{
    int exponent = 0;

    if (value == 0) return 0;
    while (value >> (exponent + 1)) exponent++;
    uint32_t rest = (uint32_t)value - (1u << exponent), bias = (1u << (exponent_bits - 1)) - 1;
    uint32_t mantissa = exponent <= mantissa_bits ? rest << (mantissa_bits - exponent) : rest;
    return ((uint32_t)exponent + bias) << mantissa_bits | mantissa;
}

static void encode(enum type type, int value, unsigned char *out)
{
    float f = (float)value;
    double d = value;
    int32_t n = value;
    int8_t byte = (int8_t)value;
    uint32_t few = narrow(value, types[type].exponent_bits ? types[type].exponent_bits : 8, types[type].mantissa_bits);
    uint16_t half = (uint16_t)few;
    uint8_t quarter = (uint8_t)few;
    const void *from[TYPES] = {&f, &d, &byte, &n, &half, &half, &quarter, &quarter};
    memcpy(out, from[type], types[type].size);
}

/* One period of rank's elements, or of the sum of all ranks' (EVERYONE). */
static void make_period(const struct world *world, enum type type, int rank, unsigned char *out)
{
    for (size_t i = 0; i < PERIOD; i++) {
        int value = 0;
        for (int r = 0; r < world->nranks; r++) {
            if (rank == EVERYONE || rank == r) value += element(r, i, types[type].values);
        }
        encode(type, value, out + i * types[type].size);
    }
}

static bool is_parted(enum collective c) { return c != ALLREDUCE && c != BROADCAST && c != REDUCE; }

size_t send_elements(const struct world *world, const struct job *job)
{
    bool root = world->rank == ROOT;

    switch (job->collective) {
    case ALLREDUCE:
    case REDUCE:
    case ALLGATHER:
    case GATHER: return job->count;
    case BROADCAST: return 0;
    case SCATTER: return root ? job->count * (size_t)world->nranks : 0;
    default: return job->count * (size_t)world->nranks;
    }
}

size_t recv_elements(const struct world *world, const struct job *job)
{
    bool root = world->rank == ROOT;

    switch (job->collective) {
    case ALLREDUCE:
    case BROADCAST:
    case SCATTER:
    case REDUCESCATTER: return job->count;
    case REDUCE: return root ? job->count : 0;
    case GATHER: return root ? job->count * (size_t)world->nranks : 0;
    default: return job->count * (size_t)world->nranks;
    }
}

void pattern_fill(const struct world *world, const struct job *job)
{
    static unsigned char period[PERIOD * WIDEST];
    bool in_place = job->collective == BROADCAST;
    size_t size = types[job->type].size, n = send_elements(world, job);
    unsigned char *out = job->send;

    memset(job->recv, 0x55, recv_elements(world, job) * size);
    if (in_place && world->rank == ROOT) n = job->count;
    make_period(world, job->type, world->rank, period);
    for (size_t i = 0; i < n; i += PERIOD) memcpy(out + i * size, period, (n - i < PERIOD ? n - i : PERIOD) * size);
}

static size_t first_difference(const unsigned char *a, const unsigned char *b)
{
    size_t i = 0;

    while (a[i] == b[i]) i++;
    return i;
}

/* Are the `count` elements at `at` those from `from` on of what `period` repeats? */
static bool check_part(const unsigned char *at, const unsigned char *period, size_t from, size_t count, size_t size,
                       size_t place)
{
    for (size_t i = 0, n; i < count; i += n) {
        size_t start = (from + i) % PERIOD;
        n = PERIOD - start < count - i ? PERIOD - start : count - i;
        if (memcmp(at + i * size, period + start * size, n * size) == 0) continue;
        size_t where = first_difference(at + i * size, period + start * size) / size;
        const unsigned char *got = at + (i + where) * size, *want = period + (start + where) * size;
        complain("wrong from element %zu on: its first bytes are %02x%02x, not %02x%02x", place + i + where,
                 got[size - 1], size > 1 ? got[size - 2] : 0, want[size - 1], size > 1 ? want[size - 2] : 0);
        return false;
    }
    return true;
}

bool pattern_check(const struct world *world, const struct job *job)
{
    static unsigned char period[PERIOD * WIDEST];
    size_t n = job->count, size = types[job->type].size,
           mine = is_parted(job->collective) ? n * (size_t)world->rank : 0;
    bool whole = job->collective == ALLGATHER || job->collective == GATHER || job->collective == ALLTOALL;
    bool reduces = job->collective == ALLREDUCE || job->collective == REDUCE || job->collective == REDUCESCATTER;
    const unsigned char *at = job->recv;

    if (recv_elements(world, job) == 0) return true;
    if (!whole) {
        make_period(world, job->type, reduces ? EVERYONE : ROOT, period);
        return check_part(at, period, mine, n, size, 0);
    }
    for (int r = 0; r < world->nranks; r++) {
        make_period(world, job->type, r, period);
        if (!check_part(at + (size_t)r * n * size, period, job->collective == ALLTOALL ? mine : 0, n, size,
                        (size_t)r * n))
            return false;
    }
    return true;
}
