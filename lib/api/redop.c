/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations that users make. Their numbers are given out once in a process, so that an operation that was destroyed,
 * or that belongs to another communicator, is an error and never another operation. A communicator has few of them:
 * they are searched one by one.
 */
#include "config.h"

#include "lib/api/redop.h"

#include "lib/api/handle.h"

#include <stdlib.h>
#include <string.h>

struct mdl_redop *mdl_redop_find(const struct mdl_comm *c, medleyRedOp_t op)
{
    for (int i = 0; i < c->nredops; i++) {
        if (c->redops[i].used && c->redops[i].number == (int)op) return &c->redops[i];
    }
    return NULL;
}

static int next_number(const struct mdl_comm *c)
{
    static atomic_uint given;
    int number;

    do { /* after 2^31 of them it starts again, and may meet one that still lives */
        number = medleyNumOps + (int)(atomic_fetch_add_explicit(&given, 1, memory_order_relaxed) %
                                      (unsigned)(medleyMaxRedOp - medleyNumOps));
    } while (mdl_redop_find(c, (medleyRedOp_t)number));
    return number;
}

static medleyResult_t find_room(struct mdl_comm *c, struct mdl_redop **room)
{
    struct mdl_redop *more;
    int n = 0;

    while (n < c->nredops && c->redops[n].used) n++;
    if (n == c->nredops) {
        more = realloc(c->redops, (size_t)(n + 1) * sizeof(*more));
        if (!more) return mdl_error(medleySystemError, "out of memory for an operation");
        more[n].used = false;
        c->redops = more;
        c->nredops = n + 1;
    }
    *room = &c->redops[n];
    return medleySuccess;
}

static medleyResult_t create(struct mdl_comm *c, medleyRedOp_t *op, void *scalar, medleyDataType_t dtype,
                             medleyScalarResidence_t residence)
{
    struct mdl_redop made = {.used = true, .dtype = dtype, .residence = residence, .pointer = scalar};
    struct mdl_redop *room = NULL;

    if (!op) return mdl_error(medleyInvalidArgument, "medleyRedOpCreatePreMulSum: op is NULL");
    if (!scalar) return mdl_error(medleyInvalidArgument, "medleyRedOpCreatePreMulSum: scalar is NULL");
    if ((int)dtype < 0 || dtype >= medleyNumTypes)
        return mdl_error(medleyInvalidArgument, "medleyRedOpCreatePreMulSum: %d is not a datatype", (int)dtype);
    if (residence != medleyScalarDevice && residence != medleyScalarHostImmediate)
        return mdl_error(medleyInvalidArgument, "medleyRedOpCreatePreMulSum: %d is not a residence", (int)residence);
    if (residence == medleyScalarHostImmediate) memcpy(&made.value, scalar, mdl_dtype_size(dtype));
    made.number = next_number(c);
    MDL_TRY(find_room(c, &room));
    *room = made;
    *op = (medleyRedOp_t)made.number;
    return medleySuccess;
}

medleyResult_t medleyRedOpCreatePreMulSum(medleyRedOp_t *op, void *scalar, medleyDataType_t datatype,
                                          medleyScalarResidence_t residence, medleyComm_t comm)
{
    struct mdl_comm *c;

    MDL_TRY(mdl_handle_enter_ready(comm, &c));
    return mdl_handle_return(comm, create(c, op, scalar, datatype, residence));
}

medleyResult_t medleyRedOpDestroy(medleyRedOp_t op, medleyComm_t comm)
{
    struct mdl_redop *found;
    struct mdl_comm *c;

    MDL_TRY(mdl_handle_enter(comm, &c));
    found = mdl_redop_find(c, op);
    if (!found)
        return mdl_handle_return(comm, mdl_error(medleyInvalidArgument,
                                                 "medleyRedOpDestroy: operation %d does not exist on this communicator",
                                                 (int)op));
    found->used = false;
    return mdl_handle_return(comm, medleySuccess);
}
