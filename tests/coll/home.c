/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See home.h. What fails here is not what is tested: it ends the program.
 *
 * Memory is had once, at the beginning: the vendors' allocation calls wait for all that the device does, and another
 * rank of this process may hold a stream of it until this rank makes its call.
 */
#include "config.h"

#include "tests/coll/home.h"
#include "lib/dev/arena.h"
#include "lib/dev/dev.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOME_BYTES = 96 << 20, PINNED_BYTES = 32 << 20, GUARD = 64, GUARD_BYTE = 0xa5 };

static _Thread_local struct {
    struct mdl_dev dev;
    struct mdl_arena arena;
    struct piece {
        void *at;
        size_t len;
    } pieces[64];
    void *memory, *pinned;
    bool own;
    int number; /* the rank, from 1 */
    mdl_dev_stream stream;
    char name[64];
} home;

static void need(medleyResult_t res, const char *what)
{
    if (res == medleySuccess) return;
    fprintf(stderr, "%s: %s\n", what, mdl_error_text());
    abort();
}

const char *home_name(int rank)
{
    const char *list = getenv("MDL_TEST_DEVICES"), *at = list;
    int n = 1;

    home.number = rank + 1;
    snprintf(home.name, sizeof(home.name), "host");
    if (!list || !*list) return home.name;
    for (const char *p = list; *p; p++) n += *p == ',';
    for (int i = 0; i < rank % n; i++) at = strchr(at, ',') + 1;
    snprintf(home.name, sizeof(home.name), "%.*s", (int)strcspn(at, ","), at);
    return home.name;
}

int home_rank(void) { return home.number - 1; }

medleyResult_t home_enter(const char *device, bool own_stream)
{
    struct mdl_config cfg;

    home.own = false;
    home.stream = NULL;
    home.dev = (struct mdl_dev){0};
    if (strcmp(device, "host") == 0) return medleySuccess;
    MDL_TRY(mdl_config_load(&cfg));
    MDL_TRY(mdl_dev_find(&cfg, device, &home.dev));
    MDL_TRY(home.dev.ops->enter(home.dev.ops, home.dev.ordinal));
    MDL_TRY(home.dev.ops->alloc(home.dev.ops, HOME_BYTES, &home.memory));
    MDL_TRY(home.dev.ops->alloc_pinned(home.dev.ops, PINNED_BYTES, &home.pinned));
    if (!mdl_arena_init(&home.arena, home.memory, HOME_BYTES)) abort();
    if (!own_stream) return medleySuccess;
    home.own = true;
    return home.dev.ops->stream_create(home.dev.ops, &home.stream);
}

void home_leave(void)
{
    if (home.own) need(home.dev.ops->stream_destroy(home.dev.ops, home.stream), "a stream cannot be destroyed");
    home.own = false;
    if (!home.dev.ops) return;
    need(home.dev.ops->free(home.dev.ops, home.memory), "device memory");
    need(home.dev.ops->free_pinned(home.dev.ops, home.pinned), "pinned memory");
    if (!mdl_arena_is_whole(&home.arena)) abort(); /* the test forgot to free */
    mdl_arena_fini(&home.arena);
    home.dev = (struct mdl_dev){0};
}

bool home_is_device(void) { return home.dev.ops != NULL; }
void *home_stream(void) { return home.stream; }
medleyResult_t home_sync(void) { return home.dev.ops->stream_sync(home.dev.ops, home.stream); }

/* Through pinned memory, as the contract wants it. */
static void move(char *dst, const char *src, size_t bytes, enum mdl_copy_kind kind)
{
    const struct mdl_device *d = home.dev.ops;

    for (size_t at = 0; at < bytes; at += PINNED_BYTES) {
        size_t n = bytes - at < PINNED_BYTES ? bytes - at : PINNED_BYTES;
        if (kind == MDL_COPY_H2D) memcpy(home.pinned, src + at, n);
        need(kind == MDL_COPY_H2D ? d->copy(d, dst + at, home.pinned, n, kind, home.stream)
                                  : d->copy(d, home.pinned, src + at, n, kind, home.stream),
             "a copy");
        need(d->stream_sync(d, home.stream), "the stream");
        if (kind == MDL_COPY_D2H) memcpy(dst + at, home.pinned, n);
    }
}

static struct piece *piece_at(const void *at)
{
    for (size_t i = 0; i < sizeof(home.pieces) / sizeof(home.pieces[0]); i++)
        if (home.pieces[i].at == at) return &home.pieces[i];
    fprintf(stderr, "no such piece of device memory, or too many\n");
    abort();
}

void *home_take(size_t bytes)
{
    struct piece *p = piece_at(NULL);

    p->len = bytes;
    p->at = mdl_arena_take(&home.arena, bytes);
    if (!p->at) abort();
    return p->at;
}

void home_free(void *device)
{
    struct piece *p = piece_at(device);

    mdl_arena_give(&home.arena, p->at, p->len);
    p->at = NULL;
}

void home_store(void *device, const void *host, size_t bytes) { move(device, host, bytes, MDL_COPY_H2D); }
void home_copy_out(void *host, const void *device, size_t bytes) { move(host, device, bytes, MDL_COPY_D2H); }

void *home_copy_in(const void *host, size_t bytes)
{
    void *p = home_take(bytes);

    home_store(p, host, bytes);
    return p;
}

void *home_copy_in_odd(const void *host, size_t bytes, size_t offset)
{
    char guard[GUARD], *p = home_take(GUARD + offset + bytes + GUARD);

    memset(guard, GUARD_BYTE, sizeof(guard));
    home_store(p + offset, guard, GUARD);
    home_store(p + offset + GUARD + bytes, guard, GUARD);
    home_store(p + offset + GUARD, host, bytes);
    return p + offset + GUARD;
}

bool home_free_odd(void *device, size_t bytes, size_t offset)
{
    char around[2 * GUARD], *at = device;
    bool whole = true;

    home_copy_out(around, at - GUARD, GUARD);
    home_copy_out(around + GUARD, at + bytes, GUARD);
    for (size_t i = 0; i < sizeof(around); i++) whole &= (unsigned char)around[i] == GUARD_BYTE;
    home_free(at - GUARD - offset);
    return whole;
}
