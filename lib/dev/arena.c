/* SPDX-License-Identifier: Apache-2.0 */
/* First fit over a sorted list of holes. There is always room for one hole more than there are pieces, so that giving
 * back cannot fail. */
#include "config.h"

#include "lib/dev/arena.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256, FIRST_HOLES = 16 };

static size_t rounded(size_t len) { return (len + ALIGN - 1) / ALIGN * ALIGN; }

bool mdl_arena_init(struct mdl_arena *a, void *base, size_t len)
{
    *a = (struct mdl_arena){.base = base, .len = len, .holes = calloc(FIRST_HOLES, sizeof(*a->holes)), .cap = FIRST_HOLES};
    if (!a->holes) return false;
    a->holes[0] = (struct mdl_hole){.len = len};
    a->n = len ? 1 : 0;
    return true;
}

void mdl_arena_fini(struct mdl_arena *a)
{
    free(a->holes);
    *a = (struct mdl_arena){0};
}

/* There can be a hole beside each piece, and one more. */
static bool make_room(struct mdl_arena *a)
{
    struct mdl_hole *more;

    if (a->pieces + 3 < a->cap) return true;
    more = realloc(a->holes, 2 * (size_t)a->cap * sizeof(*more));
    if (!more) return false;
    a->holes = more;
    a->cap *= 2;
    return true;
}

static void remove_hole(struct mdl_arena *a, int i)
{
    memmove(&a->holes[i], &a->holes[i + 1], (size_t)(a->n - i - 1) * sizeof(*a->holes));
    a->n--;
}

void *mdl_arena_take(struct mdl_arena *a, size_t len)
{
    len = rounded(len ? len : 1);
    if (!make_room(a)) return NULL;
    for (int i = 0; i < a->n; i++) {
        struct mdl_hole *h = &a->holes[i];
        char *piece = a->base + h->at;
        if (h->len < len) continue;
        h->at += len;
        h->len -= len;
        if (h->len == 0) remove_hole(a, i);
        a->pieces++;
        return piece;
    }
    return NULL;
}

void mdl_arena_give(struct mdl_arena *a, void *piece, size_t len)
{
    size_t at = (size_t)((char *)piece - a->base);
    int i = 0;

    len = rounded(len ? len : 1);
    a->pieces--;
    while (i < a->n && a->holes[i].at < at) i++;
    memmove(&a->holes[i + 1], &a->holes[i], (size_t)(a->n - i) * sizeof(*a->holes));
    a->holes[i] = (struct mdl_hole){.at = at, .len = len};
    a->n++;
    if (i + 1 < a->n && at + len == a->holes[i + 1].at) {
        a->holes[i].len += a->holes[i + 1].len;
        remove_hole(a, i + 1);
    }
    if (i > 0 && a->holes[i - 1].at + a->holes[i - 1].len == at) {
        a->holes[i - 1].len += a->holes[i].len;
        remove_hole(a, i);
    }
}

bool mdl_arena_is_whole(const struct mdl_arena *a) { return a->n == 1 && a->holes[0].len == a->len; }
