/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asynchronous work: batches queued on communicators and streams, and the one progress thread of the process that runs
 * them.
 *
 * A batch may start when it is first in its communicator's queue and its items are first in all of its streams. The
 * thread lives while there is a stream or work. Everything here is guarded by one lock, which synchronous calls never
 * take.
 */
#ifndef MDL_ENGINE_QUEUE_H_
#define MDL_ENGINE_QUEUE_H_

#include "lib/engine/drive.h"

struct mdl_stream;
struct mdl_event;

/* One place in a stream. */
enum mdl_item_kind { MDL_ITEM_BATCH, MDL_ITEM_RECORD, MDL_ITEM_WAIT };
struct mdl_item {
    struct mdl_list link;     /* in the stream */
    struct mdl_item *sibling; /* the same batch's place in its next stream */
    struct mdl_stream *stream;
    enum mdl_item_kind kind;
    struct mdl_batch *batch;
    struct mdl_event *event;
    uint64_t generation;
};

void mdl_queue_lock(void);
void mdl_queue_unlock(void);
medleyResult_t mdl_queue_wait(uint64_t deadline_ns); /* with the lock: until something finishes, or the deadline (0:
                                                        none) -> medleyTimeout */
void mdl_queue_changed(void);                        /* with the lock: wakes the waiting calls */
void mdl_queue_poke(void);                           /* with the lock: makes the progress thread look again */
medleyResult_t mdl_queue_hold(void) MDL_MUST_USE;    /* keeps the thread (starts it if needed); without the lock */
void mdl_queue_release(void); /* the last release ends the thread, once it has no work; without the lock */

/* Queues a batch on its communicator and `n` streams (may be 0). Takes it over, also on failure. One with `issuing` set
 * is executed, but neither it nor its operations go before mdl_queue_issued. */
medleyResult_t mdl_queue_submit(struct mdl_batch *b, void *const *streams, int n) MDL_MUST_USE;
void mdl_queue_issued(struct mdl_batch *b);
bool mdl_queue_busy(const struct mdl_comm *c); /* [any thread] has it queued work? */
void mdl_queue_drain(struct mdl_comm *c);      /* waits until it has none */
void mdl_queue_collect(void);                  /* ends the thread if nothing needs it any more; without the lock */
void mdl_queue_cancel(struct mdl_comm *c);     /* the communicator has failed: drops what has not started, waits for the
                                                  rest, which is bounded */

/* stream.c, with the lock */
bool mdl_stream_valid(void *stream);
bool mdl_stream_is_head(const struct mdl_item *item);
medleyResult_t mdl_stream_append(void *stream, struct mdl_item *item); /* takes it over */
void mdl_stream_drop(struct mdl_item *item, medleyResult_t result);    /* removes and frees it, records an error */
bool mdl_streams_settle(void); /* does what needs no batch: records, waits; true if anything moved */

#endif
