/* SPDX-License-Identifier: Apache-2.0 */
/* Host streams and events. A stream is a list of items; batches are run by the progress thread, records and waits
 * settle by themselves. */
#ifndef MDL_ENGINE_STREAM_H_
#define MDL_ENGINE_STREAM_H_

#include "lib/engine/queue.h"

medleyResult_t mdl_stream_create(void **stream) MDL_MUST_USE;
medleyResult_t mdl_stream_destroy(void *stream) MDL_MUST_USE;
medleyResult_t mdl_stream_synchronize(void *stream) MDL_MUST_USE;
medleyResult_t mdl_stream_query(void *stream) MDL_MUST_USE;
medleyResult_t mdl_stream_wait_event(void *stream, void *event) MDL_MUST_USE;
medleyResult_t mdl_event_create(void **event) MDL_MUST_USE;
medleyResult_t mdl_event_destroy(void *event) MDL_MUST_USE;
medleyResult_t mdl_event_record(void *event, void *stream) MDL_MUST_USE;
medleyResult_t mdl_event_query(void *event) MDL_MUST_USE;
medleyResult_t mdl_event_synchronize(void *event, int timeout_ms) MDL_MUST_USE;
bool mdl_stream_known(void *stream); /* takes the lock */

#endif
