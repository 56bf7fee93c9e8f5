/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words and host functions for vendors whose streams have neither.
 *
 * What streams can do everywhere is to pass a mark that the host can look at, and to stop at a gate that the host
 * opens. A thread of the adapter follows each stream, step by step in the stream's order: it waits until the mark is
 * passed, stores the word, or waits for it, or calls the function, and opens the gate. Naps grow with the time that
 * nothing has happened, so that a stream which is held for long costs nothing; without steps the thread sleeps.
 *
 * Of a stream that has failed words are marked with MDL_WORD_FAILED, functions are not called, and gates are opened at
 * once. A stream without steps is forgotten, and so is its failure.
 */
#ifndef MDL_DEVICES_FOLLOW_H_
#define MDL_DEVICES_FOLLOW_H_

#include "lib/base/list.h"
#include <medley/plugin.h>
#include <pthread.h>
#include <sys/types.h>

/* The vendor's side; called by the following thread, without a lock. */
struct mdl_follow_ops {
    /* InProgress: not yet. Any error: the stream has failed, which has been reported. */
    medleyResult_t (*passed)(void *mark);
    void (*open)(void *gate);
    void (*drop)(void *thing);  /* a mark, a gate or a receipt that is not used any more */
    void (*hold)(void *stream); /* keeps the stream's handle valid; called by any thread. May be NULL, as let_go */
    void (*let_go)(void *stream);
};

enum mdl_step_kind {
    MDL_STEP_WRITE, /* mark, then the word */
    MDL_STEP_WAIT,  /* the word, then the gate */
    MDL_STEP_CALL,  /* mark, function, gate */
    MDL_STEP_JOIN,  /* a mark of another stream, then the gate */
};

/* NULL: the step does not have one. receipt: a mark behind the gate, for gates that may be dropped only then. */
struct mdl_step {
    struct mdl_list link;
    enum mdl_step_kind kind;
    void *mark, *gate, *receipt;
    uint64_t *word, value;
    void (*fn)(void *arg);
    void *arg;
    bool marked, worked; /* what of it is done */
};

struct mdl_follow {
    const struct mdl_follow_ops *ops;
    pthread_mutex_t lock; /* never held in a call of the vendor */
    pthread_cond_t work, done;
    struct mdl_list lanes;
    uint64_t moved_ns; /* when something happened last */
    pthread_t thread;
    pid_t pid; /* 0: there is no thread yet */
    bool stop;
};
#define MDL_FOLLOW_INITIALIZER(ops_)                                                                                   \
    {                                                                                                                  \
        .ops = ops_, .lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER                               \
    }

/* A stream with its steps. Between enter and leave no other thread appends to it, so that steps have the stream's
 * order. */
struct mdl_lane;
medleyResult_t mdl_follow_enter(struct mdl_follow *f, void *stream, struct mdl_lane **lane);
/* step: what was appended to the stream, NULL: nothing was. It is copied. Cannot fail: enter has seen to the room. */
void mdl_follow_leave(struct mdl_follow *f, struct mdl_lane *lane, const struct mdl_step *step);

/* Waits until all steps that `stream` has now are done; the stream itself must be through or will be without us. */
void mdl_follow_sync(struct mdl_follow *f, void *stream);

/* Ends the thread: registered with atexit by the adapter, so that it calls no vendor that is being unloaded. */
void mdl_follow_stop(struct mdl_follow *f);

#endif
