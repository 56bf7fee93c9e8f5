/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frame of the emulators' own tests. Each case runs in a process of its own, which loads the objects itself: an engine
 * lives as long as its process, reads its settings once, and misuse ends it. A case says which settings it wants and
 * either passes or has to die saying something.
 */
#ifndef MDL_TESTS_EMUL_FRAME_H_
#define MDL_TESTS_EMUL_FRAME_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

struct frame_case {
    const char *name;
    void (*run)(void);
    const char *settings; /* "A=1 B=2", or NULL */
    const char *dies;     /* what stderr must hold while the process dies of a signal; NULL: it passes */
    const char *says;     /* what stderr must hold besides, or NULL */
    int status;           /* of exit */
};

#define PASSES(name_, run_, settings_)                                                                                 \
    {                                                                                                                  \
        .name = name_, .run = run_, .settings = settings_                                                              \
    }
#define DIES(name_, run_, settings_, what)                                                                             \
    {                                                                                                                  \
        .name = name_, .run = run_, .settings = settings_, .dies = what                                                \
    }

/* Runs them all; a prefix for the names. How many failed. */
int frame_run(const char *prefix, const struct frame_case *cases, size_t count);
/* Loads an object under tests/emul (EMUL_DIR) and leaves the process when it cannot. */
void *frame_open(const char *path);
void *frame_find(void *object, const char *name); /* or fails */
void *frame_try(void *object, const char *name);  /* or NULL */
/* Runs `child` in a new process at once; frame_join fails unless it exits with 0. */
int frame_fork(void (*child)(void));
void frame_join(int pid);
void frame_nap(unsigned ms);

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            _Exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)
#define CHECK_IS(value, wanted)                                                                                        \
    do {                                                                                                               \
        long long is_ = (long long)(value), want_ = (long long)(wanted);                                               \
        if (is_ != want_) {                                                                                            \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #value, is_, want_);                  \
            _Exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

#endif
