/* SPDX-License-Identifier: Apache-2.0 */
/* Creation of communicators. Whatever is wrong with the arguments is found before anything is made; what fails later
 * frees all. */
#include "config.h"

#include "lib/api/create.h"
#include "lib/base/thread.h"
#include "lib/engine/transports.h"

#include <stdlib.h>
#include <string.h>

void mdl_comm_dispose(medleyComm_t handle)
{
    struct mdl_comm *c = handle->impl;

    mdl_handle_close(handle);
    mdl_windows_free(c);
    mdl_comm_free(c);
    mdl_handle_recycle(handle);
}

/* ---- the work, on whatever thread ---- */

static struct mdl_boot_args boot_args(struct mdl_create *cr)
{
    struct mdl_comm *c = cr->comm;

    return (struct mdl_boot_args){
        .config = &c->cfg,
        .ids = cr->ids,
        .nids = cr->nids,
        .rank = c->rank,
        .nranks = c->nranks,
        .abort_word = (const volatile uint32_t *)&c->abort_word,
        .on_fault = mdl_comm_on_fault,
        .ctx = c,
    };
}

static medleyResult_t connect_comm(struct mdl_create *cr)
{
    struct mdl_comm *c = cr->comm;
    uint64_t deadline = mdl_now_ns() + (uint64_t)c->cfg.init_timeout * MDL_NS_PER_MS;
    struct mdl_boot_args args = boot_args(cr);
    struct mdl_ctl *ctl;
    medleyResult_t res;

    mdl_log_set_rank(c->rank);
    MDL_INFO(MDL_INIT, "rank %d of %d: bootstrap", c->rank, c->nranks);
    if (cr->parent) {
        mdl_comm_adopt(cr->parent, c);
        res = mdl_ctl_derive(cr->parent->ctl, &args, cr->ranks, cr->serial, &ctl);
    } else {
        res = mdl_boot_join(&args, &ctl);
    }
    if (res == medleySuccess) __atomic_store_n(&c->ctl, ctl, __ATOMIC_RELEASE); /* pairs with mdl_comm_fail */
    if (res == medleySuccess) res = mdl_comm_connect(c, deadline);
    if (cr->parent) mdl_comm_let_go(cr->parent, c);
    if (res != medleySuccess && mdl_comm_failed(c)) res = mdl_comm_fault(c);
    mdl_log_set_rank(-1);
    return res;
}

medleyResult_t mdl_create_run(struct mdl_create *cr)
{
    medleyResult_t res = connect_comm(cr);

    if (res == medleySuccess) {
        if (!cr->background) {
            *cr->out = cr->handle;
            cr->handle = NULL;
        }
        return medleySuccess;
    }
    if (cr->background) {
        mdl_comm_fail_here(cr->comm, res); /* the user learns it from GetAsyncError, and destroys or aborts it */
        return res;
    }
    mdl_comm_dispose(cr->handle);
    cr->handle = NULL;
    *cr->out = NULL;
    return res;
}

static medleyResult_t job_run(struct mdl_job *job)
{
    return mdl_create_run(mdl_container_of(job, struct mdl_create, job));
}

static void create_free(struct mdl_job *job)
{
    struct mdl_create *cr = mdl_container_of(job, struct mdl_create, job);

    if (cr->handle && !cr->background) mdl_comm_dispose(cr->handle); /* it never ran: its group had failed before */
    free(cr->ids);
    free(cr->ranks);
    free(cr);
}

static void *background_main(void *arg)
{
    struct mdl_create *cr = arg;
    medleyComm_t handle = cr->handle;

    if (mdl_create_run(cr) != medleySuccess) MDL_INFO(MDL_INIT, "a communicator could not be made in the background");
    create_free(&cr->job);
    atomic_store_explicit(&handle->init, MDL_INIT_DONE, memory_order_release); /* pairs with enter_ready and
                                                                                  GetAsyncError */
    return NULL;
}

static medleyResult_t start_background(struct mdl_create *cr)
{
    medleyComm_t handle = cr->handle;
    int err;

    cr->background = true;
    handle->has_thread = true;
    atomic_store_explicit(&handle->init, MDL_INIT_RUNNING, memory_order_relaxed);
    *cr->out = handle;
    err = mdl_thread_start(background_main, cr, &handle->init_thread);
    if (!err) return medleyInProgress;
    *cr->out = NULL;
    handle->has_thread = false;
    mdl_comm_dispose(handle);
    create_free(&cr->job);
    return mdl_system_error(err, "cannot start a thread to create a communicator");
}

/* ---- from ids ---- */

static medleyResult_t check_ranks(const medleyComm_t *comm, int nranks, int rank, int nid, const medleyUniqueId *ids)
{
    if (!comm) return mdl_error(medleyInvalidArgument, "medleyCommInitRank: comm is NULL");
    if (nranks < 1)
        return mdl_error(medleyInvalidArgument, "medleyCommInitRank: %d ranks; there must be at least 1", nranks);
    if (rank < 0 || rank >= nranks)
        return mdl_error(medleyInvalidArgument, "medleyCommInitRank: rank %d is not in 0..%d", rank, nranks - 1);
    if (nid < 1 || nid > nranks || !ids)
        return mdl_error(medleyInvalidArgument, "medleyCommInitRankScalable: %d ids for %d ranks; give 1 to %d", nid,
                         nranks, nranks);
    for (int i = 0; i < nid; i++) MDL_TRY(mdl_boot_id_check(&ids[i]));
    return medleySuccess;
}

static medleyResult_t make(struct mdl_create *cr, int rank, int nranks)
{
    medleyResult_t res;

    res = mdl_comm_alloc(&cr->cfg, rank, nranks, &cr->comm);
    if (res != medleySuccess) return res;
    cr->comm->blocking = cr->blocking;
    res = mdl_handle_new(cr->comm, &cr->handle);
    if (res != medleySuccess) mdl_comm_free(cr->comm);
    return res;
}

static medleyResult_t init_rank(medleyComm_t *comm, int nranks, int rank, int nid, const medleyUniqueId *ids,
                                const medleyConfig_t *config)
{
    struct mdl_create *cr;
    medleyResult_t res;

    if (comm) *comm = NULL;
    MDL_TRY(mdl_process_check());
    MDL_TRY(check_ranks(comm, nranks, rank, nid, ids));
    cr = calloc(1, sizeof(*cr));
    if (!cr) return mdl_error(medleySystemError, "out of memory for a communicator");
    mdl_list_init(&cr->job.link);
    cr->job.run = job_run;
    cr->job.free = create_free;
    cr->out = comm;
    cr->nids = nid;
    cr->blocking = true;
    cr->ids = malloc((size_t)nid * sizeof(*ids));
    if (cr->ids) memcpy(cr->ids, ids, (size_t)nid * sizeof(*ids));
    res = cr->ids ? mdl_config_merge(config, NULL, &cr->cfg, &cr->blocking)
                  : mdl_error(medleySystemError, "out of memory for %d ids", nid);
    if (res == medleySuccess) res = make(cr, rank, nranks);
    if (res != medleySuccess) {
        create_free(&cr->job);
        return res;
    }
    return cr->blocking ? mdl_group_job(&cr->job) : start_background(cr);
}

static medleyResult_t in_group(medleyResult_t res)
{
    if (res != medleySuccess) mdl_group_error(res);
    return res;
}

medleyResult_t medleyCommInitRank(medleyComm_t *comm, int nranks, medleyUniqueId id, int rank)
{
    return in_group(init_rank(comm, nranks, rank, 1, &id, NULL));
}

medleyResult_t medleyCommInitRankConfig(medleyComm_t *comm, int nranks, medleyUniqueId id, int rank,
                                        medleyConfig_t *config)
{
    return in_group(init_rank(comm, nranks, rank, 1, &id, config));
}

medleyResult_t medleyCommInitRankScalable(medleyComm_t *comm, int nranks, int rank, int nid, medleyUniqueId *ids,
                                          medleyConfig_t *config)
{
    return in_group(init_rank(comm, nranks, rank, nid, ids, config));
}

static medleyResult_t init_all(medleyComm_t *comms, int ndev)
{
    medleyUniqueId id;
    medleyResult_t res, end;

    if (!comms || ndev < 1)
        return mdl_error(medleyInvalidArgument, "medleyCommInitAll: %d communicators at %p", ndev, (void *)comms);
    MDL_TRY(medleyGetUniqueId(&id));
    MDL_TRY(medleyGroupStart());
    for (int r = 0; r < ndev; r++) comms[r] = NULL;
    res = medleySuccess;
    for (int r = 0; r < ndev && res == medleySuccess; r++) res = medleyCommInitRank(&comms[r], ndev, id, r);
    end = medleyGroupEnd();
    if (end == medleySuccess) return res;
    mdl_boot_id_discard(&id); /* nobody else has it */
    for (int r = 0; r < ndev; r++) {
        if (comms[r]) (void)medleyCommAbort(comms[r]);
        comms[r] = NULL;
    }
    return end;
}

medleyResult_t medleyCommInitAll(medleyComm_t *comms, int ndev, const int *devlist)
{
    (void)devlist; /* hosts have no ordinals */
    return in_group(init_all(comms, ndev));
}

medleyResult_t medleyGetUniqueId(medleyUniqueId *id)
{
    struct mdl_config cfg;

    if (!id) return mdl_error(medleyInvalidArgument, "medleyGetUniqueId: id is NULL");
    MDL_TRY(mdl_process_check());
    MDL_TRY(mdl_config_load(&cfg));
    return mdl_boot_id_create(&cfg, id);
}

/* ---- from a parent ---- */

medleyResult_t mdl_comm_exchange(struct mdl_comm *c, const uint8_t *mine, size_t len, uint8_t *all, const char *what)
{
    uint64_t deadline = mdl_now_ns() + (uint64_t)c->cfg.init_timeout * MDL_NS_PER_MS;
    medleyResult_t res = mdl_ctl_allgather(c->ctl, mine, len, all, deadline, what);

    if (res == medleySuccess) return res;
    mdl_comm_fail_here(c, res);
    return mdl_comm_fault(c);
}

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
    uint8_t mine[8], *all = malloc(8 * (size_t)p->nranks);
    struct split_entry *list = malloc((size_t)p->nranks * sizeof(*list));
    int *out = malloc((size_t)p->nranks * sizeof(*out)), count = 0;
    medleyResult_t res = all && list && out
                             ? medleySuccess
                             : mdl_error(medleySystemError, "out of memory for a split of %d ranks", p->nranks);

    mdl_put_u32(mine, (uint32_t)color);
    mdl_put_u32(mine + 4, (uint32_t)key);
    if (res == medleySuccess) res = mdl_comm_exchange(p, mine, sizeof(mine), all, "colors of a split");
    for (int r = 0; res == medleySuccess && r < p->nranks; r++) {
        if ((int32_t)mdl_get_u32(all + 8 * r) != color) continue;
        list[count++] = (struct split_entry){.color = color, .key = (int32_t)mdl_get_u32(all + 8 * r + 4), .rank = r};
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
    }
    res = make(cr, me, n);
    if (res != medleySuccess) return res;
    return mdl_create_run(cr);
}

/* Runs on a thread when in a group. */
static medleyResult_t child_run(struct mdl_job *job)
{
    struct mdl_create *cr = mdl_container_of(job, struct mdl_create, job);
    medleyResult_t res;

    MDL_TRY(mdl_handle_enter_again(cr->parent_handle, cr->parent_serial, &cr->parent));
    res = make_child(cr);
    mdl_handle_leave(cr->parent_handle);
    return res;
}

/* Leaves the parent's handle until it runs. */
static medleyResult_t start_child(struct mdl_create *cr)
{
    cr->parent_serial = mdl_handle_serial(cr->parent_handle);
    mdl_handle_leave(cr->parent_handle);
    mdl_list_init(&cr->job.link);
    cr->job.comm = cr->parent;
    cr->job.run = child_run;
    cr->job.free = create_free;
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
    cr->blocking = true; /* the parent's exchange needs the caller; the child's mode is set below */
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
        return in_group(mdl_handle_refuse(comm, mdl_error(medleyInvalidArgument, "medleyCommSplit: newcomm is NULL")));
    *newcomm = NULL;
    if (color < 0 && color != MEDLEY_SPLIT_NOCOLOR)
        return in_group(
            mdl_handle_refuse(comm, mdl_error(medleyInvalidArgument, "medleyCommSplit: color %d is negative", color)));
    res = mdl_handle_enter_ready(comm, &p);
    if (res != medleySuccess) return in_group(res);
    cr = new_child(comm, p, newcomm, config, &res);
    if (!cr) return in_group(mdl_handle_return(comm, res));
    cr->split = true;
    cr->color = color;
    cr->key = key;
    cr->serial = ++p->splits;
    return in_group(start_child(cr));
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
    if (cr->serial) return start_child(cr); /* leaves the parent */
    create_free(&cr->job);
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
        return in_group(mdl_handle_refuse(
            comm, mdl_error(medleyInvalidArgument, "medleyCommShrink: newcomm %p, flags %d", (void *)newcomm, flags)));
    res = abort ? mdl_handle_enter(comm, &p) : mdl_handle_enter_ready(comm, &p);
    if (res != medleySuccess) return in_group(res);
    res = check_exclude(p, exclude, count);
    if (res != medleySuccess) return in_group(mdl_handle_return(comm, res));
    if (abort) {
        mdl_comm_fail(p, medleyRemoteError, p->rank, "the communicator was shrunk after a failure; use the new one",
                      false);
        mdl_queue_cancel(p);
        mdl_transports_abort(p);
    } else {
        mdl_queue_drain(p);
    }
    return in_group(shrink(comm, p, exclude, count, newcomm, config, flags));
}

medleyResult_t medleyCommGrow(medleyComm_t comm, int nranks, const medleyUniqueId *id, int rank, medleyComm_t *newcomm,
                              medleyConfig_t *config)
{
    return mdl_error(medleyInvalidUsage,
                     "medleyCommGrow is not supported: make a new communicator with medleyCommInitRank");
}
