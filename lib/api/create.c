/* SPDX-License-Identifier: Apache-2.0 */
/* Creation of communicators. Whatever is wrong with the arguments is found before anything is made; what fails later
 * frees all. */
#include "config.h"

#include "lib/api/create.h"
#include "lib/base/thread.h"
#include "lib/dev/dev.h"
#include "lib/engine/job.h"
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
    res = mdl_comm_usable(c);
    if (cr->parent) {
        c->child_serial = cr->serial;
        mdl_comm_adopt(cr->parent, c);
    }
    if (res == medleySuccess)
        res = cr->parent ? mdl_ctl_derive(cr->parent->ctl, &args, cr->ranks, cr->serial, &ctl)
                         : mdl_boot_join(&args, &ctl);
    if (cr->parent) mdl_job_end(cr->parent);                                    /* all members have made the call */
    if (res == medleySuccess) __atomic_store_n(&c->ctl, ctl, __ATOMIC_RELEASE); /* pairs with mdl_comm_fail */
    if (res == medleySuccess) res = mdl_comm_connect(c, deadline);
    if (cr->parent) mdl_comm_let_go(cr->parent, c);
    if (res != medleySuccess && mdl_comm_failed(c)) res = mdl_comm_fault(c);
    if (res != medleySuccess && cr->parent) {
        mdl_comm_fail_here(c, res);
        mdl_job_child_failed(cr->parent, c);
    }
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

void mdl_create_free(struct mdl_job *job)
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
    mdl_create_free(&cr->job);
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
    mdl_create_free(&cr->job);
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

medleyResult_t mdl_create_make(struct mdl_create *cr, int rank, int nranks)
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
    cr->job.free = mdl_create_free;
    cr->out = comm;
    cr->nids = nid;
    cr->blocking = true;
    cr->ids = malloc((size_t)nid * sizeof(*ids));
    if (cr->ids) memcpy(cr->ids, ids, (size_t)nid * sizeof(*ids));
    res = cr->ids ? mdl_config_merge(config, NULL, &cr->cfg, &cr->blocking)
                  : mdl_error(medleySystemError, "out of memory for %d ids", nid);
    if (res == medleySuccess) res = mdl_create_make(cr, rank, nranks);
    if (res != medleySuccess) {
        mdl_create_free(&cr->job);
        return res;
    }
    return cr->blocking ? mdl_group_job(&cr->job) : start_background(cr);
}

medleyResult_t medleyCommInitRank(medleyComm_t *comm, int nranks, medleyUniqueId id, int rank)
{
    return mdl_group_result(init_rank(comm, nranks, rank, 1, &id, NULL));
}

medleyResult_t medleyCommInitRankConfig(medleyComm_t *comm, int nranks, medleyUniqueId id, int rank,
                                        medleyConfig_t *config)
{
    return mdl_group_result(init_rank(comm, nranks, rank, 1, &id, config));
}

medleyResult_t medleyCommInitRankScalable(medleyComm_t *comm, int nranks, int rank, int nid, medleyUniqueId *ids,
                                          medleyConfig_t *config)
{
    return mdl_group_result(init_rank(comm, nranks, rank, nid, ids, config));
}

/* ---- all ranks of one process ---- */

/* The devices are of the vendor that the environment names: rank i is on number list[i], or i. */
static medleyResult_t check_devlist(const struct mdl_dev *dev, int ndev, const int *list)
{
    int there = 0;

    MDL_TRY(dev->ops->count(dev->ops, &there));
    if (!list && ndev > there)
        return mdl_error(medleyInvalidArgument,
                         "medleyCommInitAll: %d ranks, and there are %d devices of %s here; a devlist may name one for "
                         "several ranks",
                         ndev, there, dev->ops->title);
    for (int r = 0; list && r < ndev; r++) {
        if (list[r] < 0 || list[r] >= there)
            return mdl_error(medleyInvalidArgument,
                             "medleyCommInitAll: devlist[%d] is %d: there are %d devices of %s here, numbered from 0", r,
                             list[r], there, dev->ops->title);
    }
    return medleySuccess;
}

static medleyResult_t find_devices(int ndev, const int *list, struct mdl_dev *dev)
{
    struct mdl_config cfg;

    MDL_TRY(mdl_process_check());
    MDL_TRY(mdl_config_load(&cfg));
    MDL_TRY(mdl_dev_find(&cfg, cfg.device.s, dev));
    return dev->ops ? check_devlist(dev, ndev, list) : medleySuccess; /* hosts have no ordinals */
}

static medleyResult_t init_one(medleyComm_t *comm, int n, const medleyUniqueId *id, int rank, struct mdl_dev dev)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    char name[MEDLEY_NAME_BYTES];

    if (!dev.ops) return medleyCommInitRank(comm, n, *id, rank);
    mdl_dev_name(&dev, name, sizeof(name));
    config.device = name;
    return medleyCommInitRankConfig(comm, n, *id, rank, &config);
}

static medleyResult_t init_all(medleyComm_t *comms, int ndev, const int *list)
{
    struct mdl_dev dev;
    medleyUniqueId id;
    medleyResult_t res, end;

    if (!comms || ndev < 1)
        return mdl_error(medleyInvalidArgument, "medleyCommInitAll: %d communicators at %p", ndev, (void *)comms);
    MDL_TRY(find_devices(ndev, list, &dev));
    MDL_TRY(medleyGetUniqueId(&id));
    MDL_TRY(medleyGroupStart());
    for (int r = 0; r < ndev; r++) comms[r] = NULL;
    res = medleySuccess;
    for (int r = 0; r < ndev && res == medleySuccess; r++) {
        if (dev.ops) dev.ordinal = list ? list[r] : r;
        res = init_one(&comms[r], ndev, &id, r, dev);
    }
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
    return mdl_group_result(init_all(comms, ndev, devlist));
}

medleyResult_t medleyGetUniqueId(medleyUniqueId *id)
{
    struct mdl_config cfg;

    if (!id) return mdl_error(medleyInvalidArgument, "medleyGetUniqueId: id is NULL");
    MDL_TRY(mdl_process_check());
    MDL_TRY(mdl_config_load(&cfg));
    return mdl_boot_id_create(&cfg, id);
}
