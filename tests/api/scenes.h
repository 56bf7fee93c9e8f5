/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of scenes of a program of this folder, and what the scenes share. A scene is a function that every rank
 * runs, on a communicator that is made for it; `test_x [-t] [-n ranks] [name...]` runs those named (patterns as of a
 * shell), or all, with ranks as processes or (-t) as threads.
 */
#ifndef TESTS_API_SCENES_H_
#define TESTS_API_SCENES_H_

#include "tests/coll/ranks.h"
#include "tests/fault/scene.h"

enum {
    BARE = 1,       /* comm is NULL: the scene makes its own */
    FATAL = 2,      /* the communicator has failed at the end, on all ranks: it is aborted */
    GONE = 4,       /* the scene has destroyed or aborted it */
    ALONE = 8,      /* one rank, whatever -n says */
    PROCESSES = 16, /* not with ranks as threads: it changes what a process has once */
    BY_NAME = 32    /* only if it is named */
};

struct api_scene {
    const char *name;
    int (*run)(struct ranks_world *w, int rank, medleyComm_t comm);
    int flags;
    const void *arg; /* for the scene */
};

extern const struct api_scene *api_current; /* the one that is run */

/* What main returns. */
int api_main(int argc, char **argv, const struct api_scene *scenes, int n);

/* Is `part` in the words of the communicator's (NULL: this thread's) last error? If not, prints them. */
bool api_says(medleyComm_t comm, const char *part);

/* CHECK that a call returns `code` with `part` among its words. */
#define FAILS(call, code, part)                                                                                        \
    do {                                                                                                               \
        CHECK((call) == (code));                                                                                       \
        CHECK(api_says(NULL, part));                                                                                   \
    } while (0)

/* Polls the communicator's state, for at most `seconds` (stretched by the load), until it is not `now` any more. */
medleyResult_t api_state_after(medleyComm_t comm, medleyResult_t now, double seconds);

/* A sum of ones over the communicator equals its number of ranks: does it work? Returns 0 or 1, complains as CHECK. */
int api_works(int rank, medleyComm_t comm);

/* Rank `slot` modulo their number makes an id that all get, outside Medley; `slot` 0 .. 7, each used once in a scene.
 */
medleyResult_t api_share_id(struct ranks_world *w, int rank, int slot, medleyUniqueId *id);

#endif
