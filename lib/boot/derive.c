/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Derived planes: for some ranks of a plane, without a rendezvous.
 *
 * The secret follows from the parent's, the serial and the members; the addresses are the parent's. The control
 * services depend on the serial and the parent's rank only, so that members with different lists meet and the first
 * exchange can say so. A member that has not called yet does not serve the new plane, so the others dial until it does.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/ctl.h"
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

enum { DIGEST_BYTES = 16 };

static medleyResult_t check(const struct mdl_ctl *parent, const struct mdl_boot_args *args, const int *ranks)
{
    if (args->nranks < 1 || args->rank < 0 || args->rank >= args->nranks || (uint32_t)args->nranks > parent->nranks)
        return mdl_error(medleyInternalError, "a part of %d ranks with own rank %d cannot be taken from %u",
                         args->nranks, args->rank, parent->nranks);
    uint8_t *seen = calloc(parent->nranks, 1);
    if (!seen) return mdl_system_error(ENOMEM, "no memory for a communicator");
    bool good = (uint32_t)ranks[args->rank] == parent->rank && parent->complete;
    for (int i = 0; i < args->nranks && good; i++) {
        good = ranks[i] >= 0 && (uint32_t)ranks[i] < parent->nranks && !seen[ranks[i]];
        if (good) seen[ranks[i]] = 1;
    }
    free(seen);
    return good ? medleySuccess
                : mdl_error(medleyInternalError, "the list of ranks of a derived communicator is not one");
}

static void digest(const int *ranks, int nranks, uint64_t serial, uint8_t out[DIGEST_BYTES])
{
    crypto_generichash_state state;
    uint8_t bytes[8];
    crypto_generichash_init(&state, NULL, 0, DIGEST_BYTES);
    mdl_put_u64(bytes, serial);
    crypto_generichash_update(&state, bytes, 8);
    for (int i = 0; i < nranks; i++) {
        mdl_put_u32(bytes, (uint32_t)ranks[i]);
        crypto_generichash_update(&state, bytes, 4);
    }
    crypto_generichash_final(&state, out, DIGEST_BYTES);
}

static void begin(void *arg) { mdl_beat_start(arg); }
static void end_of_start(void *arg)
{
    struct mdl_ctl *ctl = arg;
    ctl->joining = ctl->patient = false;
}

/* Comes back when all members have called with the same list. */
static medleyResult_t agree(struct mdl_ctl *ctl, const int *ranks, uint64_t serial)
{
    uint8_t mine[DIGEST_BYTES];
    medleyResult_t result = medleySuccess;
    uint8_t *all = malloc((size_t)ctl->nranks * DIGEST_BYTES);
    if (!all) return mdl_system_error(ENOMEM, "no memory for a communicator");
    digest(ranks, (int)ctl->nranks, serial, mine);
    mdl_reactor_call(ctl->reactor, begin, ctl);
    result = mdl_ctl_allgather(ctl, mine, sizeof(mine), all, ctl->init_deadline_ns, "derived communicator");
    for (uint32_t r = 0; r < ctl->nranks && result == medleySuccess; r++)
        if (memcmp(all + (size_t)r * DIGEST_BYTES, mine, DIGEST_BYTES))
            result = mdl_error(medleyInvalidUsage, "rank %u and rank %u disagree about who is in the new communicator",
                               ctl->rank, r);
    free(all);
    return result;
}

medleyResult_t mdl_ctl_derive(struct mdl_ctl *parent, const struct mdl_boot_args *args, const int *ranks,
                              uint64_t serial, struct mdl_ctl **out)
{
    struct mdl_secret secret;
    struct mdl_ctl *ctl;
    uint8_t members[DIGEST_BYTES];
    MDL_TRY(check(parent, args, ranks));
    mdl_secret_derive(&parent->secret, "derive", serial, &secret);
    medleyResult_t result = mdl_ctl_create(args, &parent->cfg, &secret, parent->rank, &ctl);
    if (result == medleySuccess) {
        digest(ranks, args->nranks, serial, members);
        mdl_secret_derive(&secret, "members", mdl_get_u64(members), &ctl->secret);
        ctl->patient = true;
        result = mdl_members_copy(ctl, parent, ranks);
        if (result == medleySuccess) result = agree(ctl, ranks, serial);
        mdl_reactor_call(ctl->reactor, end_of_start, ctl);
        if (result == medleySuccess)
            *out = ctl;
        else
            mdl_ctl_close(ctl);
    }
    sodium_memzero(&secret, sizeof(secret));
    return result;
}
