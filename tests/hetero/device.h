/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of one device share, which are programs by themselves: the device, and checks that end the program. The
 * tests of ranks with devices have tests/coll/check.h.
 */
#ifndef TESTS_HETERO_DEVICE_H_
#define TESTS_HETERO_DEVICE_H_

#include "lib/dev/dev.h"

#include <stdio.h>
#include <stdlib.h>

static struct mdl_dev dev;
static const struct mdl_device *d;

static inline void fail(int line, const char *what)
{
    fprintf(stderr, "FAIL line %d: %s: %s\n", line, what, mdl_error_text());
    exit(1);
}
#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x)) fail(__LINE__, #x);                                                                                  \
    } while (0)
#define WORKS(x) REQUIRE((x) == medleySuccess)

/* Sets dev and d, and enters the device; without it the program is over, with exit status 77. */
static inline void find_device(const char *name)
{
    struct mdl_config cfg;

    WORKS(mdl_config_load(&cfg));
    if (mdl_dev_find(&cfg, name, &dev) != medleySuccess || !dev.ops) {
        printf("SKIP: %s\n", mdl_error_text());
        exit(77);
    }
    d = dev.ops;
    WORKS(d->enter(d, dev.ordinal));
}

/* A word that a stream waits for, or writes. */
static inline uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

#endif
