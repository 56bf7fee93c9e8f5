/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The diary (flight recorder): the last operations of a rank, written by the executing thread with plain stores,
 * readable from any thread. It answers "what did you call as number s?" for the diagnosis of stalls and mismatches, and
 * says after an error who was behind in what.
 */
#ifndef MDL_ENGINE_DIARY_H_
#define MDL_ENGINE_DIARY_H_

#include "lib/engine/call.h"

enum { MDL_DIARY_ENTRIES = 64, MDL_DIARY_WORDS = 6 };
enum mdl_diary_state { MDL_DIARY_STARTED = 1, MDL_DIARY_DONE = 2 };

/* An entry is valid while its stamp is even and unchanged around the read (a sequence lock with one writer). */
struct mdl_diary_entry {
    _Atomic uint64_t stamp, word[MDL_DIARY_WORDS];
};
struct mdl_diary {
    struct mdl_diary_entry entry[MDL_DIARY_ENTRIES];
    _Atomic uint64_t next;     /* entries ever written */
    _Atomic uint64_t coll_seq; /* of the newest collective */
    _Atomic uint64_t drops;    /* collectives without elements: they take no number (recorded as number 0) */
};

struct mdl_diary_note {
    struct mdl_call call;
    uint64_t seq, tag;
    enum mdl_diary_state state;
};

/* `tag`: of its messages. Returns the entry's number. */
uint64_t mdl_diary_start(struct mdl_diary *d, const struct mdl_call *call, uint64_t seq, uint64_t tag);
void mdl_diary_drop(struct mdl_diary *d);
void mdl_diary_done(struct mdl_diary *d, uint64_t number);
bool mdl_diary_find(const struct mdl_diary *d, uint64_t coll_seq, struct mdl_diary_note *note); /* the collective with
                                                                                                   this number */
bool mdl_diary_find_message(const struct mdl_diary *d, uint8_t coll, int peer, uint64_t seq,
                            struct mdl_diary_note *note);
/* An operation that has started and not ended, newest first from `*from` on (0 at first): advances *from. */
bool mdl_diary_open(const struct mdl_diary *d, uint64_t *from, struct mdl_diary_note *note);
bool mdl_diary_at(const struct mdl_diary *d, uint64_t number, struct mdl_diary_note *note); /* what start returned */
bool mdl_diary_newest(const struct mdl_diary *d, struct mdl_diary_note *note);

#endif
