/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of a communicator of the emulated collectives: sums with a factor of each rank. Their numbers tell whose
 * they are, so that one of another communicator, or one that was destroyed, is seen.
 */
#include "config.h"
#include "tests/emul/ccl_state.h"
#include <stdlib.h>
#include <string.h>

static int first_number(const struct emul_comm *comm)
{
    return EMUL_MADE + (int)((uintptr_t)comm >> 4 & 0x3ffff) * CCL_FACTORS;
}

const struct ccl_factor *ccl_factor_of(struct emul_comm *comm, int op)
{
    int first = first_number(comm);
    return comm->factors && op >= first && op < first + CCL_FACTORS ? &comm->factors[op - first] : NULL;
}

unsigned ccl_factors_left(struct emul_comm *comm)
{
    unsigned left = 0;
    for (int i = 0; comm->factors && i < CCL_FACTORS; i++) left += comm->factors[i].used;
    return left;
}

int emul_ccl_op_make(struct emul_comm *comm, int *op, const void *factor, int type, bool of_device)
{
    if (!ccl_known(comm) || !op || !factor || type < 0 || type >= EMUL_TYPES) return EMUL_CCL_ARGUMENT;
    if (!comm->factors && !(comm->factors = calloc(CCL_FACTORS, sizeof(*comm->factors)))) return EMUL_CCL_SYSTEM;
    if (of_device && !emul_alias(comm->vendor, factor, emul_type_size(type)))
        return emul_misuse(EMUL_INVALID, "the factor at %p is not the device's", factor), EMUL_CCL_ARGUMENT;
    struct ccl_factor *made = &comm->factors[comm->nfactors % CCL_FACTORS];
    if (made->used) return EMUL_CCL_INTERNAL;
    *made = (struct ccl_factor){.used = true, .type = type, .at = of_device ? factor : NULL};
    if (!of_device) memcpy(&made->value, factor, emul_type_size(type));
    *op = first_number(comm) + (int)(comm->nfactors++ % CCL_FACTORS);
    return EMUL_CCL_OK;
}

int emul_ccl_op_drop(struct emul_comm *comm, int op)
{
    struct ccl_factor *made = ccl_known(comm) ? (struct ccl_factor *)(uintptr_t)ccl_factor_of(comm, op) : NULL;
    if (!made || !made->used)
        return emul_misuse(EMUL_INVALID, "%d is no operation of the communicator", op), EMUL_CCL_ARGUMENT;
    made->used = false; /* its number and its value stay: calls that have it may not have run */
    return EMUL_CCL_OK;
}

bool emul_ccl_op_known(struct emul_comm *comm, int op, int type)
{
    const struct ccl_factor *made = ccl_factor_of(comm, op);
    return made && made->used && made->type == type;
}
