/* SPDX-License-Identifier: Apache-2.0 */
/* See exchange.h: an all-gather over the control plane, and the memory that it needs. */
#include "config.h"

#include "lib/engine/exchange.h"

#include <stdlib.h>
#include <string.h>

static size_t vendor_length(const char *device) { return strcspn(device, ":"); }

bool mdl_exchange_same_vendor(const struct mdl_comm *c)
{
    const char *first = c->facts[0].device;
    size_t n = vendor_length(first);

    if (c->nranks < 2 || strcmp(first, "host") == 0) return false;
    for (int r = 1; r < c->nranks; r++) {
        const char *device = c->facts[r].device;
        if (vendor_length(device) != n || strncmp(device, first, n) != 0) return false;
    }
    return true;
}

medleyResult_t mdl_exchange_bytes(struct mdl_comm *c, const void *mine, size_t len, uint64_t deadline_ns,
                                  const char *what, uint8_t **all)
{
    uint8_t *room = calloc((size_t)c->nranks, len);
    medleyResult_t res;

    *all = NULL;
    if (!room) return mdl_error(medleySystemError, "out of memory for %zu bytes of each of %d ranks", len, c->nranks);
    res = mdl_ctl_allgather(c->ctl, mine, len, room, deadline_ns, what);
    if (res == medleySuccess)
        *all = room;
    else
        free(room);
    return res;
}

medleyResult_t mdl_exchange_vote(struct mdl_comm *c, bool mine, uint64_t deadline_ns, const char *what, bool *yes)
{
    uint8_t own = mine, *all;

    *yes = false;
    MDL_TRY(mdl_exchange_bytes(c, &own, 1, deadline_ns, what, &all));
    *yes = true;
    for (int r = 0; r < c->nranks; r++) *yes &= all[r] == 1;
    free(all);
    return medleySuccess;
}
