/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program: a plan with the tables that the executor needs to run it without searching, and the cache of programs.
 *
 * An instruction waits for its dependencies to be done and, in a lane (SENDs to a peer on a channel, RECVs, SIGNALs,
 * WAITs likewise), for the instruction before it to be posted (WAIT: done). `need[i]` counts both; `next[i]` is the
 * lane's next instruction, succ its dependents.
 *
 * A COPY that takes just what a REDUCE has made, and waits for nothing else that the REDUCE did not wait for, is done
 * along with it, tile by tile, while the result is in the first-level cache. `next` chains the copies to the REDUCE, and
 * `need` counts one more for each, so that nothing but the REDUCE starts them.
 */
#ifndef MDL_ENGINE_PROGRAM_H_
#define MDL_ENGINE_PROGRAM_H_

#include "lib/base/list.h"
#include <stdatomic.h>
#include "lib/plan/plan.h"

enum { MDL_ALONG_MOST = 64 };

struct mdl_program {
    struct mdl_list lru;
    struct mdl_plan *plan;
    struct mdl_choice choice;
    uint16_t *need;       /* [ninsts] */
    uint32_t *next;       /* [ninsts] or MDL_NO_DEP: of the lane; of a REDUCE, the copies done along with it */
    uint32_t *succ_start; /* [ninsts + 1] into succ */
    uint32_t *succ;
    uint32_t *request; /* [ninsts] index among the plan's SENDs and RECVs */
    uint32_t nrequests, max_nsrc;
    size_t bytes;
    struct mdl_program_key {
        struct mdl_collective call; /* count: the size class's largest */
    } key;
};

medleyResult_t mdl_program_make(struct mdl_plan *plan, const struct mdl_choice *choice,
                                struct mdl_program **p) MDL_MUST_USE; /* takes over plan */
void mdl_program_free(struct mdl_program *p);

/* Least recently used goes first when `budget` bytes are exceeded; the newest always stays. */
struct mdl_program_cache {
    struct mdl_list lru;
    size_t bytes, budget;
    _Atomic uint64_t built, reused; /* [any thread] may read */
};
void mdl_program_cache_init(struct mdl_program_cache *cache, size_t budget);
void mdl_program_cache_fini(struct mdl_program_cache *cache);

/* The program of `rank` for call `c`, whose count is replaced by the largest of its size class: same on all ranks. */
struct mdl_program_args {
    const struct mdl_team *team;
    const int *ranks; /* what the team's ranks are called in the program; NULL: as in the team */
    const struct mdl_choose_limits *limits;
    const char *spec;
    int rank;
    bool verify;
};
medleyResult_t mdl_program_get(struct mdl_program_cache *cache, const struct mdl_program_args *args,
                               const struct mdl_collective *c, struct mdl_program **p) MDL_MUST_USE;

#endif
