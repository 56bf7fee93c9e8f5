/* SPDX-License-Identifier: Apache-2.0 */
/* What the fault tests share: checks, time that allows for a busy machine, repeatable chance, and the table of scenes
 * that a program runs. */
#ifndef TESTS_FAULT_SCENE_H_
#define TESTS_FAULT_SCENE_H_

#include <medley.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* In a function that returns 0 or 1 and has `rank` and `comm` in scope. */
#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            scene_complain(rank, __func__, __LINE__, #cond, comm);                                                     \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)
#define OK(call) CHECK((call) == medleySuccess)

void scene_complain(int rank, const char *where, int line, const char *what, medleyComm_t comm);

double scene_now(void); /* seconds, monotonic */
void scene_sleep_ms(double ms);

/* How much longer than on an idle machine things may take: MDL_TIME_FACTOR, or from the load and the sanitizer in use;
 * at least 1. What a test promises is promised at 1. */
double scene_slack(void);
bool scene_long(void); /* MDL_LONG=1: more of everything */
bool scene_sanitized(void);

/* `n` rounds, or fewer with MDL_CHECK_SHORT or a sanitizer, or ten times as many with MDL_LONG. */
int scene_rounds(int n);

void *scene_shared(size_t bytes); /* zeroed memory that forked children share; never freed */

unsigned scene_random(unsigned *state);

/* A scene is run once for each of `rounds` seeds. Returns 0 if it passed. */
struct scene {
    const char *name;
    int (*run)(const struct scene *s, unsigned seed);
    int rounds;
    const void *arg;
};

/* Runs the scenes named in argv, or all: `[-s seed] [-r rounds] [name...]`. What main returns. */
int scene_main(int argc, char **argv, const struct scene *scenes, int n);

#endif
