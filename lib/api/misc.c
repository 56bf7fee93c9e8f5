/* SPDX-License-Identifier: Apache-2.0 */
/* Version, errors, log, memory, streams: the thin part of the API. */
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

    if (!comm || mdl_handle_enter(comm, &c) != medleySuccess) { /* a copy: the next error replaces the original */
        snprintf(text, sizeof(text), "%s", mdl_error_text());
        return text;
    }
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
