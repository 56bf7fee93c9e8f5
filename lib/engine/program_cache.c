/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache of programs, least recently used first out. The key holds only what all ranks of the host agree on, with
 * the count replaced by the largest of its size class (powers of two in bytes per slot), so that what is cached, and
 * when it was built, never changes a choice.
 */
#include "config.h"

#include "lib/algo/spec.h"
#include "lib/base/log.h"
#include "lib/engine/choices.h"
#include "lib/engine/program.h"
#include "lib/plan/text.h"

#include <stdlib.h>
#include <string.h>

void mdl_program_cache_init(struct mdl_program_cache *cache, size_t budget)
{
    *cache = (struct mdl_program_cache){.budget = budget};
    mdl_list_init(&cache->lru);
    mdl_choices_hold();
}

void mdl_program_cache_fini(struct mdl_program_cache *cache)
{
    mdl_list_each (it, &cache->lru) {
        mdl_list_remove(it);
        mdl_program_free(mdl_container_of(it, struct mdl_program, lru));
    }
    mdl_choices_release();
}

/* The largest count of the size class that `count` is in. */
static size_t class_count(size_t count, size_t elem)
{
    size_t c = 1;

    if (count > SIZE_MAX / 4 / elem) return SIZE_MAX / 4 / elem;
    while (c * elem < 64) c *= 2;
    while (c < count) c *= 2;
    return c;
}

static bool same_key(const struct mdl_collective *a, const struct mdl_collective *b)
{
    return a->coll == b->coll && a->dtype == b->dtype && a->op == b->op && a->premul == b->premul &&
           a->deterministic == b->deterministic && a->root == b->root && a->count == b->count &&
           a->facts.in_place == b->facts.in_place && a->facts.apart == b->facts.apart &&
           a->facts.in_mapped == b->facts.in_mapped &&
           a->facts.out_mapped == b->facts.out_mapped;
}

static medleyResult_t verify_all(const struct mdl_program_args *args, const struct mdl_collective *c,
                                 const struct mdl_algo *algo)
{
    int n = args->team->nranks;
    struct mdl_plan **plans = calloc((size_t)n, sizeof(*plans));
    medleyResult_t res = plans ? medleySuccess : mdl_error(medleySystemError, "out of memory for %d plans", n);
    char why[256];

    for (int r = 0; res == medleySuccess && r < n; r++) res = mdl_algo_plan(algo, args->team, c, r, &plans[r]);
    if (res == medleySuccess && mdl_plan_verify(args->team, c, plans, why, sizeof(why)) != medleySuccess)
        res = mdl_error(medleyInternalError, "plan %s for %d ranks is wrong: %s; please report it", algo->name, n, why);
    for (int r = 0; plans && r < n; r++) {
        if (plans[r]) mdl_plan_free(plans[r]);
    }
    free(plans);
    return res;
}

/* The choice keeps within the budget; writing behind the scratch would be worse than an error. */
static medleyResult_t check_scratch(const struct mdl_program_args *args, const struct mdl_collective *c,
                                    const struct mdl_choice *choice, const struct mdl_plan *plan)
{
    size_t slot = (choice->window * mdl_dtype_acc_size(c->dtype) + 63) / 64 * 64;

    if (slot == 0 || plan->scratch_slots <= args->limits->scratch_bytes / slot / choice->depth) return medleySuccess;
    return mdl_error(medleyInternalError, "bug: plan %s for %d ranks takes %u slots of %zu bytes in %u windows",
                     plan->algo, args->team->nranks, plan->scratch_slots, slot, choice->depth);
}

/* The plan of a team of some of the communicator's ranks: the executor knows all by the communicator's numbers. */
static void rename_ranks(struct mdl_plan *plan, const int *ranks)
{
    for (uint32_t i = 0; ranks && i < plan->ninsts; i++) {
        struct mdl_inst *in = &plan->insts[i];
        in->peer = (uint32_t)ranks[in->peer];
        in->dst.rank = (uint32_t)ranks[in->dst.rank];
    }
    for (uint32_t i = 0; ranks && i < plan->nrefs; i++) plan->refs[i].rank = (uint32_t)ranks[plan->refs[i].rank];
}

static medleyResult_t build(const struct mdl_program_args *args, const struct mdl_collective *c, struct mdl_program **p)
{
    struct mdl_choice choice;
    struct mdl_plan *plan;

    MDL_TRY(mdl_choices_get(args->team, c, args->spec, args->limits, &choice));
    if (args->rank == 0 && !choice.overridden && mdl_spec_speaks(args->spec, c->coll))
        MDL_WARN(MDL_COLL, "MEDLEY_ALGO=%s admits nothing that works for this %s: %s is used instead", args->spec,
                 mdl_coll_name(c->coll), choice.algo->name);
    if (args->verify) MDL_TRY(verify_all(args, c, choice.algo));
    MDL_TRY(mdl_algo_plan(choice.algo, args->team, c, args->rank, &plan));
    medleyResult_t res = check_scratch(args, c, &choice, plan);
    rename_ranks(plan, args->ranks);
    if (res == medleySuccess) return mdl_program_make(plan, &choice, p);
    mdl_plan_free(plan);
    return res;
}

static void trim(struct mdl_program_cache *cache)
{
    while (cache->bytes > cache->budget && cache->lru.next->next != &cache->lru) {
        struct mdl_program *old = mdl_container_of(cache->lru.next, struct mdl_program, lru);
        mdl_list_remove(&old->lru);
        cache->bytes -= old->bytes;
        mdl_program_free(old);
    }
}

medleyResult_t mdl_program_get(struct mdl_program_cache *cache, const struct mdl_program_args *args,
                               const struct mdl_collective *c, struct mdl_program **out)
{
    struct mdl_collective key = *c;
    struct mdl_program *p;

    if (key.count) key.count = class_count(key.count, mdl_dtype_size(c->dtype));
    for (struct mdl_list *it = cache->lru.prev; it != &cache->lru; it = it->prev) {
        p = mdl_container_of(it, struct mdl_program, lru);
        if (!same_key(&p->key.call, &key)) continue;
        mdl_list_remove(&p->lru);
        mdl_list_append(&cache->lru, &p->lru);
        atomic_fetch_add_explicit(&cache->reused, 1, memory_order_relaxed);
        *out = p;
        return medleySuccess;
    }
    MDL_TRY(build(args, &key, &p));
    p->key.call = key;
    mdl_list_append(&cache->lru, &p->lru);
    cache->bytes += p->bytes;
    atomic_fetch_add_explicit(&cache->built, 1, memory_order_relaxed);
    trim(cache);
    *out = p;
    return medleySuccess;
}
