/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Communicators from a parent: split and shrink.
 *
 * A child is made in two steps. The ranks of the parent exchange who belongs to what (a shrink's members know it),
 * which is the parent's: if it fails, the parent has failed. Then the members connect, which is the child's: if that
 * fails on one, all members learn it over the parent, which stays usable.
 *
 * The parent's mode says where this happens: in the calling thread, or behind it (work.c).
 */
#include "config.h"

#include "lib/api/create.h"
#include "lib/api/work.h"
#include "lib/engine/job.h"
#include "lib/engine/queue.h"
#include "lib/engine/transports.h"

#include <stdlib.h>
#include <string.h>

struct split_entry {
    int color, key, rank;
};

static int by_key(const void *a, const void *b)
{
    const struct split_entry *x = a, *y = b;

    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->rank - y->rank;
}

/* Exchanges colors and keys; *ranks are the members of our color in order. */
static medleyResult_t gather_colors(struct mdl_comm *p, int color, int key, int **ranks, int *n, int *me)
{
    const struct mdl_call call = {.coll = MDL_CALL_SPLIT, .root = color, .count = (uint32_t)key};
    uint64_t *all = malloc((size_t)p->nranks * sizeof(*all));
    struct split_entry *list = malloc((size_t)p->nranks * sizeof(*list));
    int *out = malloc((size_t)p->nranks * sizeof(*out)), count = 0;
    medleyResult_t res = all && list && out
                             ? medleySuccess
                             : mdl_error(medleySystemError, "out of memory for a split of %d ranks", p->nranks);

    if (res == medleySuccess)
        res = mdl_job_exchange(p, &call, (uint64_t)(uint32_t)color << 32 | (uint32_t)key, all);
    else
        mdl_comm_fail_here(p, res); /* the others wait for it */
    for (int r = 0; res == medleySuccess && r < p->nranks; r++) {
        if ((int32_t)(all[r] >> 32) != color) continue;
        list[count++] = (struct split_entry){.color = color, .key = (int32_t)(uint32_t)all[r], .rank = r};
    }
    if (res == medleySuccess) {
        qsort(list, (size_t)count, sizeof(*list), by_key);
        for (int i = 0; i < count; i++) {
            out[i] = list[i].rank;
            if (list[i].rank == p->rank) *me = i;
        }
        *ranks = out;
        *n = count;
        out = NULL;
    }
    free(all);
    free(list);
    free(out);
    return res;
}

static medleyResult_t make_child(struct mdl_create *cr)
{
    int n = 0, me = -1;
    medleyResult_t res;

    if (cr->split) {
        MDL_TRY(gather_colors(cr->parent, cr->color, cr->key, &cr->ranks, &n, &me));
        if (cr->color == MEDLEY_SPLIT_NOCOLOR) return medleySuccess;
        cr->serial = cr->serial << 32 | (uint32_t)cr->color;
    } else {
        n = cr->nids;
        for (int i = 0; i < n; i++) me = cr->ranks[i] == cr->parent->rank ? i : me;
        if (!mdl_comm_failed(cr->parent)) mdl_queue_drain(cr->parent);
        mdl_job_begin(cr->parent, &cr->call, cr->ranks, n);
    }
    res = mdl_create_make(cr, me, n);
    if (res != medleySuccess) {
        mdl_comm_fail_here(cr->parent, res); /* no memory: there is no child that could tell it */
        return res;
    }
    res = mdl_create_run(cr);
    if (cr->background) {
        __atomic_store_n(cr->out, cr->handle, __ATOMIC_RELEASE); /* with its error, if it has one */
        cr->handle = NULL;
    }
    return res;
}

/* Runs on a thread when in a group, or behind a non-blocking parent. */
static medleyResult_t child_run(struct mdl_job *job)
{
    struct mdl_create *cr = mdl_container_of(job, struct mdl_create, job);
    medleyResult_t res;

    MDL_TRY(mdl_handle_enter_again(cr->parent_handle, cr->parent_serial, &cr->parent));
    res = make_child(cr);
    mdl_job_end(cr->parent);
    mdl_handle_leave(cr->parent_handle);
    return res;
}

/* Leaves the parent's handle until it runs. */
static medleyResult_t start_child(struct mdl_create *cr)
{
    cr->parent_serial = mdl_handle_serial(cr->parent_handle);
    cr->background = !cr->parent->blocking;
    cr->job.behind = cr->background ? cr->parent_handle : NULL;
    cr->job.behind_serial = cr->parent_serial;
    mdl_handle_leave(cr->parent_handle);
    mdl_list_init(&cr->job.link);
    cr->job.comm = cr->parent;
    cr->job.run = child_run;
    cr->job.free = mdl_create_free;
    return mdl_group_job(&cr->job);
}

static struct mdl_create *new_child(medleyComm_t parent, struct mdl_comm *p, medleyComm_t *newcomm,
                                    const medleyConfig_t *config, medleyResult_t *res)
{
    struct mdl_create *cr = calloc(1, sizeof(*cr));

    if (!cr) {
        *res = mdl_error(medleySystemError, "out of memory for a communicator");
        return NULL;
    }
    cr->out = newcomm;
    cr->parent = p;
    cr->parent_handle = parent;
    cr->blocking = true;
    *res = mdl_config_merge(config, &p->cfg, &cr->cfg, &cr->blocking);
    if (*res == medleySuccess && !config) cr->blocking = p->blocking;
    if (*res == medleySuccess) return cr;
    free(cr);
    return NULL;
}

medleyResult_t medleyCommSplit(medleyComm_t comm, int color, int key, medleyComm_t *newcomm, medleyConfig_t *config)
{
    struct mdl_comm *p;
    struct mdl_create *cr;
    medleyResult_t res;

    if (!newcomm)
        return mdl_group_result(
            mdl_handle_refuse(comm, mdl_error(medleyInvalidArgument, "medleyCommSplit: newcomm is NULL")));
    *newcomm = NULL;
    if (color < 0 && color != MEDLEY_SPLIT_NOCOLOR)
        return mdl_group_result(
            mdl_handle_refuse(comm, mdl_error(medleyInvalidArgument, "medleyCommSplit: color %d is negative", color)));
    res = mdl_handle_enter_ready(comm, &p);
    if (res != medleySuccess) return mdl_group_result(res);
    cr = new_child(comm, p, newcomm, config, &res);
    if (!cr) return mdl_group_result(mdl_handle_return(comm, res));
    cr->split = true;
    cr->color = color;
    cr->key = key;
    cr->serial = ++p->splits;
    return mdl_group_result(start_child(cr));
}

static medleyResult_t check_exclude(const struct mdl_comm *p, const int *exclude, int count)
{
    if (count < 0 || count >= p->nranks || (count && !exclude))
        return mdl_error(medleyInvalidArgument, "medleyCommShrink: %d of %d ranks cannot be excluded", count,
                         p->nranks);
    for (int i = 0; i < count; i++) {
        if (exclude[i] < 0 || exclude[i] >= p->nranks)
            return mdl_error(medleyInvalidArgument, "medleyCommShrink: %d is not a rank of 0..%d", exclude[i],
                             p->nranks - 1);
        if (exclude[i] == p->rank)
            return mdl_error(medleyInvalidArgument, "medleyCommShrink: rank %d excludes itself", p->rank);
        for (int j = 0; j < i; j++) {
            if (exclude[i] == exclude[j])
                return mdl_error(medleyInvalidArgument, "medleyCommShrink: rank %d is listed twice", exclude[i]);
        }
    }
    return medleySuccess;
}

static bool is_excluded(int rank, const int *exclude, int count)
{
    for (int i = 0; i < count; i++) {
        if (exclude[i] == rank) return true;
    }
    return false;
}

/* How often the parent has been shrunk to these members, this time included; NULL: no memory. */
static uint32_t *shrink_count(struct mdl_comm *p, uint64_t members)
{
    struct mdl_shrunk *more;

    for (int i = 0; i < p->nshrunk; i++) {
        if (p->shrunk[i].members != members) continue;
        p->shrunk[i].times++;
        return &p->shrunk[i].times;
    }
    more = realloc(p->shrunk, (size_t)(p->nshrunk + 1) * sizeof(*more));
    if (!more) return NULL;
    p->shrunk = more;
    more[p->nshrunk] = (struct mdl_shrunk){.members = members, .times = 1};
    return &more[p->nshrunk++].times;
}

/* The same on all that stay, whatever they and those left out did before: a hash of the members and, where the parent
 * is healthy, the count of its shrinks to just these. 0: no memory. */
static uint64_t shrink_serial(struct mdl_comm *p, const int *ranks, int n, int flags)
{
    uint64_t h = 0xcbf29ce484222325u;
    const uint32_t *times;

    for (int i = 0; i < n; i++) h = (h ^ (uint64_t)(uint32_t)ranks[i]) * 0x100000001b3u;
    if (!(flags & MEDLEY_SHRINK_ABORT)) {
        times = shrink_count(p, h);
        if (!times) return 0;
        h ^= (uint64_t)*times << 40;
    }
    return h | 1ull << 63; /* apart from splits */
}

static struct mdl_call shrink_call(const struct mdl_comm *p, const struct mdl_create *cr)
{
    struct mdl_call call = {.coll = MDL_CALL_SHRINK, .root = -1, .count = (uint32_t)cr->nids, .table = cr->serial};

    if (p->nranks > 64) return call;
    call.dtype = 1;
    call.count |= cr->serial >> 40 << 32; /* with how often, as far as it matters */
    call.table = p->nranks == 64 ? ~0ull : (1ull << p->nranks) - 1;
    for (int i = 0; i < cr->nids; i++) call.table &= ~(1ull << cr->ranks[i]);
    return call;
}

/* Leaves the parent's handle. */
static medleyResult_t shrink(medleyComm_t comm, struct mdl_comm *p, const int *exclude, int count,
                             medleyComm_t *newcomm, const medleyConfig_t *config, int flags)
{
    struct mdl_create *cr;
    medleyResult_t res;

    cr = new_child(comm, p, newcomm, config, &res);
    if (!cr) return mdl_handle_return(comm, res);
    cr->ranks = malloc((size_t)p->nranks * sizeof(int));
    for (int r = 0; cr->ranks && r < p->nranks; r++) {
        if (!is_excluded(r, exclude, count)) cr->ranks[cr->nids++] = r;
    }
    if (cr->ranks) cr->serial = shrink_serial(p, cr->ranks, cr->nids, flags);
    if (cr->serial) {
        cr->call = shrink_call(p, cr);
        return start_child(cr); /* leaves the parent */
    }
    mdl_create_free(&cr->job);
    return mdl_handle_return(comm, mdl_error(medleySystemError, "out of memory for a shrink of %d ranks", p->nranks));
}

medleyResult_t medleyCommShrink(medleyComm_t comm, const int *exclude, int count, medleyComm_t *newcomm,
                                medleyConfig_t *config, int flags)
{
    bool abort = flags & MEDLEY_SHRINK_ABORT;
    struct mdl_comm *p;
    medleyResult_t res;

    if (newcomm) *newcomm = NULL;
    if (!newcomm || (flags & ~MEDLEY_SHRINK_ABORT))
        return mdl_group_result(mdl_handle_refuse(
            comm, mdl_error(medleyInvalidArgument, "medleyCommShrink: newcomm %p, flags %d", (void *)newcomm, flags)));
    res = abort ? mdl_handle_enter(comm, &p) : mdl_handle_enter_ready(comm, &p);
    if (res != medleySuccess) return mdl_group_result(res);
    if (mdl_work_busy(comm)) return mdl_group_result(mdl_handle_return(comm, mdl_handle_working()));
    res = check_exclude(p, exclude, count);
    if (res != medleySuccess) return mdl_group_result(mdl_handle_return(comm, res));
    if (abort) {
        mdl_comm_fail(p, medleyRemoteError, p->rank, "the communicator was shrunk after a failure; use the new one",
                      false);
        mdl_queue_cancel(p);
        mdl_transports_abort(p);
    }
    return mdl_group_result(shrink(comm, p, exclude, count, newcomm, config, flags));
}

medleyResult_t medleyCommGrow(medleyComm_t comm, int nranks, const medleyUniqueId *id, int rank, medleyComm_t *newcomm,
                              medleyConfig_t *config)
{
    return mdl_error(medleyInvalidUsage,
                     "medleyCommGrow is not supported: make a new communicator with medleyCommInitRank");
}
