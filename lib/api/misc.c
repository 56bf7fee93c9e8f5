/* SPDX-License-Identifier: Apache-2.0 */
/* Version, errors, log, memory, operations, streams: the thin part of the API. */
#include "config.h"

#include "lib/api/handle.h"
#include "lib/engine/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

medleyResult_t medleyGetVersion(int *version)
{
    if (!version) return mdl_error(medleyInvalidArgument, "medleyGetVersion: version is NULL");
    *version = MEDLEY_VERSION_CODE;
    return medleySuccess;
}

const char *medleyGetErrorString(medleyResult_t result)
{
    static const char *const text[medleyNumResults] = {
        "no error",
        "unhandled device error",
        "system error: a call to the operating system failed",
        "internal error: please report it",
        "invalid argument",
        "invalid usage",
        "remote error: another rank failed or cannot be reached",
        "in progress",
        "timeout",
    };

    return (unsigned)result < medleyNumResults ? text[result] : "unknown result";
}

const char *medleyGetLastError(medleyComm_t comm)
{
    static _Thread_local char text[MDL_ERROR_TEXT_BYTES];
    struct mdl_comm *c;

    if (!comm) return mdl_error_text();
    if (mdl_handle_enter(comm, &c) != medleySuccess) return mdl_error_text();
    pthread_mutex_lock(&c->fault_lock);
    snprintf(text, sizeof(text), "%s", c->fault_code != medleySuccess ? c->fault_text : c->last_text);
    pthread_mutex_unlock(&c->fault_lock);
    mdl_handle_leave(comm);
    return text;
}

medleyResult_t medleySetLogCallback(medleyLogCallback_t callback, medleyLogLevel_t level, void *user)
{
    if ((int)level < medleyLogNone || level > medleyLogTrace)
        return mdl_error(medleyInvalidArgument, "medleySetLogCallback: %d is not a level", (int)level);
    return mdl_log_set_callback(callback, level, user);
}

/* ---- memory ---- */

medleyResult_t medleyMemAlloc(void **ptr, size_t size)
{
    struct mdl_config cfg;

    if (!ptr) return mdl_error(medleyInvalidArgument, "medleyMemAlloc: ptr is NULL");
    MDL_TRY(mdl_process_check());
    MDL_TRY(mdl_config_load(&cfg));
    return mdl_mem_alloc(&cfg, size, ptr);
}

medleyResult_t medleyMemFree(void *ptr)
{
    MDL_TRY(mdl_process_check());
    return ptr ? mdl_mem_free(ptr) : medleySuccess;
}

/* ---- operations ---- */

static medleyResult_t find_redop_slot(struct mdl_comm *c, int *slot)
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
    *slot = n;
    return medleySuccess;
}

static medleyResult_t create_premul(struct mdl_comm *c, medleyRedOp_t *op, void *scalar, medleyDataType_t dtype,
                                    medleyScalarResidence_t residence)
{
    struct mdl_redop r = {.used = true, .dtype = dtype, .residence = residence, .pointer = scalar};
    int slot = 0;

    if (!op || !scalar) return mdl_error(medleyInvalidArgument, "medleyRedOpCreatePreMulSum: op or scalar is NULL");
    if ((int)dtype < 0 || dtype >= medleyNumTypes)
        return mdl_error(medleyInvalidArgument, "medleyRedOpCreatePreMulSum: %d is not a datatype", (int)dtype);
    if (residence != medleyScalarDevice && residence != medleyScalarHostImmediate)
        return mdl_error(medleyInvalidArgument, "medleyRedOpCreatePreMulSum: %d is not a residence", (int)residence);
    if (residence == medleyScalarHostImmediate) memcpy(&r.value, scalar, mdl_dtype_size(dtype));
    MDL_TRY(find_redop_slot(c, &slot));
    c->redops[slot] = r;
    *op = (medleyRedOp_t)(medleyNumOps + slot);
    return medleySuccess;
}

medleyResult_t medleyRedOpCreatePreMulSum(medleyRedOp_t *op, void *scalar, medleyDataType_t datatype,
                                          medleyScalarResidence_t residence, medleyComm_t comm)
{
    struct mdl_comm *c;

    MDL_TRY(mdl_handle_enter_ready(comm, &c));
    return mdl_handle_return(comm, create_premul(c, op, scalar, datatype, residence));
}

medleyResult_t medleyRedOpDestroy(medleyRedOp_t op, medleyComm_t comm)
{
    struct mdl_comm *c;
    int slot = (int)op - medleyNumOps;

    MDL_TRY(mdl_handle_enter(comm, &c));
    if (slot < 0 || slot >= c->nredops || !c->redops[slot].used)
        return mdl_handle_return(comm, mdl_error(medleyInvalidArgument,
                                                 "medleyRedOpDestroy: operation %d does not exist on this communicator",
                                                 (int)op));
    c->redops[slot].used = false;
    return mdl_handle_return(comm, medleySuccess);
}

/* ---- streams and events ---- */

#define NOT_NULL(p)                                                                                                    \
    if (!(p)) return mdl_error(medleyInvalidArgument, "%s: " #p " is NULL", __func__)

medleyResult_t medleyStreamCreate(void **stream)
{
    NOT_NULL(stream);
    MDL_TRY(mdl_process_check());
    return mdl_stream_create(stream);
}

medleyResult_t medleyStreamDestroy(void *stream)
{
    MDL_TRY(mdl_process_check());
    return mdl_stream_destroy(stream);
}

medleyResult_t medleyStreamSynchronize(void *stream)
{
    MDL_TRY(mdl_process_check());
    return mdl_stream_synchronize(stream);
}

medleyResult_t medleyStreamQuery(void *stream)
{
    MDL_TRY(mdl_process_check());
    return mdl_stream_query(stream);
}

medleyResult_t medleyStreamWaitEvent(void *stream, void *event)
{
    MDL_TRY(mdl_process_check());
    return mdl_stream_wait_event(stream, event);
}

medleyResult_t medleyEventCreate(void **event)
{
    NOT_NULL(event);
    MDL_TRY(mdl_process_check());
    return mdl_event_create(event);
}

medleyResult_t medleyEventDestroy(void *event)
{
    MDL_TRY(mdl_process_check());
    return mdl_event_destroy(event);
}

medleyResult_t medleyEventRecord(void *event, void *stream)
{
    MDL_TRY(mdl_process_check());
    return mdl_event_record(event, stream);
}

medleyResult_t medleyEventQuery(void *event)
{
    MDL_TRY(mdl_process_check());
    return mdl_event_query(event);
}

medleyResult_t medleyEventSynchronize(void *event, int timeout_ms)
{
    MDL_TRY(mdl_process_check());
    return mdl_event_synchronize(event, timeout_ms);
}
