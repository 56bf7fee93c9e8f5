/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reduction must give, worked out another way than the library does: integers in 128 bits, floats in a quad
 * type that holds every product exactly and every sum well enough to round once, narrow floats by searching the table
 * of the values that a type has for the nearest one. Elements travel as their bits in a uint64_t.
 */
#ifndef REDUCE_ORACLE_H_
#define REDUCE_ORACLE_H_

#include "lib/reduce/reduce.h"

/* Bits of an element of `dtype`, or with `acc` of its partial type. */
uint64_t oracle_load(const void *p, size_t i, size_t size);
void oracle_store(void *p, size_t i, size_t size, uint64_t bits);

uint64_t oracle_to_acc(medleyDataType_t dtype, uint64_t bits);
uint64_t oracle_from_acc(medleyDataType_t dtype, uint64_t acc); /* NaNs become canonical */
uint64_t oracle_op(medleyDataType_t dtype, medleyRedOp_t op, uint64_t a, uint64_t b);
uint64_t oracle_canonical(medleyDataType_t dtype, uint64_t acc);

/* One element of a whole reduction: `in` are the sources' elements. */
uint64_t oracle_reduce(const struct mdl_reduce *r, const uint64_t *in, uint64_t src_acc, int nsrc);
uint64_t oracle_premul(medleyDataType_t dtype, uint64_t bits, uint64_t scalar);

/* Random bits of `dtype` (or its partial), seeded: specials, neighbours of powers of two, plain numbers. */
uint64_t oracle_random(medleyDataType_t dtype, bool acc, uint64_t *seed);

#endif
