/* SPDX-License-Identifier: Apache-2.0 */
/* From an algorithm's name to one rank's plan. */
#include "config.h"
#include "lib/algo/common.h"
#include <string.h>

medleyResult_t mdl_algo_plan(const struct mdl_algo *algo, const struct mdl_team *team, const struct mdl_collective *c,
                             int rank, struct mdl_plan **plan)
{
    uint32_t parts = algo->parts && team->nranks > 1 ? algo->parts(team, c) : 1;
    struct mdl_builder *b = mdl_builder_new(team, c, rank, parts);
    if (b) algo->build(team, c, rank, b);
    return mdl_builder_finish(b, algo->name, plan);
}

const struct mdl_algo *mdl_algo_find(const char *name)
{
    for (const struct mdl_algo *const *a = mdl_algos; *a; a++)
        if (strcmp((*a)->name, name) == 0) return *a;
    return NULL;
}
