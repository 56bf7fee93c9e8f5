/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The id through PMIx, which Open MPI, PRRTE and Slurm serve. The library is loaded at run time, so that the program
 * runs where there is none, and its session is closed before Medley's ranks meet. Nothing of pmix.h that would need the
 * library to link is used: only types, numbers and the names of functions.
 */
#include "config.h"
#include "bench/perf/place.h"

#ifdef HAVE_PMIX
#include <dlfcn.h>
#include <pmix.h>
#include <stdlib.h>
#include <string.h>

static const char id_key[] = "medley-perf-id";
enum { WAIT_S = 120 };

struct library {
    void *handle;
    __typeof__(&PMIx_Init) init;
    __typeof__(&PMIx_Finalize) finalize;
    __typeof__(&PMIx_Put) put;
    __typeof__(&PMIx_Get) get;
    __typeof__(&PMIx_Commit) commit;
    __typeof__(&PMIx_Fence) fence;
    __typeof__(&PMIx_Error_string) error_string;
    pmix_proc_t me;
    bool open;
};
/* Main thread only. A session cannot be opened a second time, so the place leaves it open for the id. */
static struct library session;

static bool load(struct library *l)
{
    if (l->handle) return l->error_string != NULL;
    l->handle = dlopen("libpmix.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!l->handle) return false;
    *(void **)&l->init = dlsym(l->handle, "PMIx_Init");
    *(void **)&l->finalize = dlsym(l->handle, "PMIx_Finalize");
    *(void **)&l->put = dlsym(l->handle, "PMIx_Put");
    *(void **)&l->get = dlsym(l->handle, "PMIx_Get");
    *(void **)&l->commit = dlsym(l->handle, "PMIx_Commit");
    *(void **)&l->fence = dlsym(l->handle, "PMIx_Fence");
    *(void **)&l->error_string = dlsym(l->handle, "PMIx_Error_string");
    return l->init && l->finalize && l->put && l->get && l->commit && l->fence && l->error_string;
}

bool perf_pmix_usable(void) { return load(&session); }

static medleyResult_t failed(const struct library *l, const char *what, pmix_status_t status)
{
    return mdl_error(medleyRemoteError, "PMIx: %s: %s", what, l->error_string(status));
}

static medleyResult_t open_library(struct library *l)
{
    if (!load(l)) return mdl_error(medleySystemError, "PMIx: libpmix.so.2 cannot be loaded, or is no PMIx");
    if (l->open) return medleySuccess;
    pmix_status_t status = l->init(&l->me, NULL, 0);
    if (status != PMIX_SUCCESS) return failed(l, "the launcher cannot be reached", status);
    l->open = true;
    return medleySuccess;
}

static medleyResult_t close_library(struct library *l, medleyResult_t result)
{
    pmix_status_t status = l->finalize(NULL, 0);
    l->open = false;
    if (result == medleySuccess && status != PMIX_SUCCESS) return failed(l, "the session cannot be closed", status);
    return result;
}

/* An option that is a whole number or a truth. */
static pmix_info_t option(const char *key, bool is_time, uint32_t value)
{
    pmix_info_t info;
    memset(&info, 0, sizeof(info));
    memcpy(info.key, key, strlen(key) + 1);
    info.value.type = is_time ? PMIX_INT : PMIX_BOOL;
    if (is_time)
        info.value.data.integer = (int)value;
    else
        info.value.data.flag = value != 0;
    return info;
}

static medleyResult_t put_id(const struct library *l, const medleyUniqueId *id)
{
    char text[PERF_ID_TEXT_BYTES];
    pmix_value_t value;
    perf_id_to_text(id, text);
    memset(&value, 0, sizeof(value));
    value.type = PMIX_STRING;
    value.data.string = text;
    pmix_status_t status = l->put(PMIX_GLOBAL, id_key, &value);
    return status == PMIX_SUCCESS ? medleySuccess : failed(l, "the id cannot be put", status);
}

static medleyResult_t meet(const struct library *l)
{
    pmix_info_t options[] = {option(PMIX_COLLECT_DATA, false, 1), option(PMIX_TIMEOUT, true, WAIT_S)};
    pmix_status_t status = l->commit();
    if (status == PMIX_SUCCESS) status = l->fence(NULL, 0, options, 2);
    return status == PMIX_SUCCESS ? medleySuccess : failed(l, "the processes did not meet", status);
}

static medleyResult_t get_id(const struct library *l, medleyUniqueId *id)
{
    pmix_proc_t first = l->me;
    pmix_info_t options[] = {option(PMIX_TIMEOUT, true, WAIT_S)};
    pmix_value_t *value = NULL;
    first.rank = 0;
    pmix_status_t status = l->get(&first, id_key, options, 1, &value);
    if (status != PMIX_SUCCESS) return failed(l, "the id cannot be got", status);
    bool good = value->type == PMIX_STRING && value->data.string && perf_id_from_text(value->data.string, id);
    if (value->type == PMIX_STRING) free(value->data.string);
    free(value);
    return good ? medleySuccess : mdl_error(medleyRemoteError, "PMIx: what process 0 put is no id");
}

static medleyResult_t job_size(const struct library *l, int *size)
{
    pmix_proc_t job = l->me;
    pmix_value_t *value = NULL;
    job.rank = PMIX_RANK_WILDCARD;
    pmix_status_t status = l->get(&job, PMIX_JOB_SIZE, NULL, 0, &value);
    if (status != PMIX_SUCCESS) return failed(l, "the size of the job is not known", status);
    bool good = value->type == PMIX_UINT32 && value->data.uint32 >= 1 && value->data.uint32 <= 1 << 24;
    if (good) *size = (int)value->data.uint32;
    free(value);
    return good ? medleySuccess : mdl_error(medleyRemoteError, "PMIx: the size of the job makes no sense");
}

static medleyResult_t share(const struct library *l, int proc, int nprocs, medleyUniqueId *id)
{
    int size;
    MDL_TRY(job_size(l, &size));
    if (l->me.rank != (pmix_rank_t)proc || size != nprocs)
        return mdl_error(medleyInvalidUsage, "the launcher's variables say process %d of %d, its PMIx says %u of %d",
                         proc, nprocs, (unsigned)l->me.rank, size);
    if (proc == 0) MDL_TRY(put_id(l, id));
    MDL_TRY(meet(l));
    return proc ? get_id(l, id) : medleySuccess;
}

medleyResult_t perf_pmix_share(int proc, int nprocs, medleyUniqueId *id)
{
    MDL_TRY(open_library(&session));
    return close_library(&session, share(&session, proc, nprocs, id));
}

medleyResult_t perf_pmix_place(int *proc, int *nprocs)
{
    MDL_TRY(open_library(&session));
    *proc = (int)session.me.rank;
    return job_size(&session, nprocs);
}

#else

bool perf_pmix_usable(void) { return false; }

medleyResult_t perf_pmix_share(int proc, int nprocs, medleyUniqueId *id)
{
    (void)proc, (void)nprocs, (void)id;
    return mdl_error(medleyInvalidUsage, "this medley-perf was built without PMIx: set MEDLEY_COMM_ID");
}

medleyResult_t perf_pmix_place(int *proc, int *nprocs)
{
    (void)proc, (void)nprocs;
    return mdl_error(medleyInvalidUsage, "this medley-perf was built without PMIx: set MEDLEY_COMM_ID");
}
#endif
