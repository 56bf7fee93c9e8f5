/* SPDX-License-Identifier: Apache-2.0 */
/* What a failed dial says: whom it wanted, what to look at, and for each address why it failed. Addresses that failed
 * alike share the reason. */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/net/dial_part.h"
#include <stdarg.h>
#include <stdio.h>

struct text {
    char *p;
    size_t len, cap;
};

static void append(struct text *t, const char *fmt, ...) MDL_PRINTF(2, 3);
static void append(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->p + t->len, t->cap - t->len, fmt, args);
    va_end(args);
    t->len = t->len + (size_t)n < t->cap ? t->len + (size_t)n : t->cap - 1;
}

static void append_peer(struct text *t, const struct mdl_dial *d)
{
    if (d->expect_rank >= 0)
        append(t, "rank %d", d->expect_rank);
    else
        append(t, "the peer");
}

static const char *why_of(const struct mdl_attempt *a)
{
    if (a->why[0]) return a->why;
    return a->state == MDL_ATTEMPT_NOT_TRIED ? "not tried" : "no answer";
}

/* Has an address before `i` failed for the same reason? */
static bool same_as_before(const struct mdl_dial *d, int i)
{
    for (int j = 0; j < i; j++)
        if (!strcmp(why_of(&d->attempts[j]), why_of(&d->attempts[i]))) return true;
    return false;
}

/* " address, address: reason" for the addresses that failed as number `i` did. */
static void append_failure(struct text *t, const struct mdl_dial *d, int i)
{
    char addr[MDL_ADDR_TEXT_BYTES];
    for (int j = i; j < d->naddrs; j++) {
        if (strcmp(why_of(&d->attempts[j]), why_of(&d->attempts[i]))) continue;
        mdl_addr_format(&d->attempts[j].addr, addr);
        append(t, "%s %s", j > i ? "," : "", addr);
    }
    append(t, ": %s", why_of(&d->attempts[i]));
}

/* The advice comes first: a long list of addresses may be cut. */
void mdl_dial_explain(const struct mdl_dial *d, bool late, char why[MDL_DIAL_WHY_BYTES])
{
    struct text t = {why, 0, MDL_DIAL_WHY_BYTES};
    append(&t, "cannot connect to ");
    append_peer(&t, d);
    if (late) append(&t, " within %.1f s", (double)(mdl_now_ns() - d->since_ns) / 1e9);
    if (d->code == medleyRemoteError)
        append(&t, " (does it run, is a firewall between, does MEDLEY_SOCKET_IFNAME pick the right interfaces?)");
    for (int i = 0; i < d->naddrs; i++) {
        if (same_as_before(d, i)) continue;
        append(&t, "%s", i ? ";" : ":");
        append_failure(&t, d, i);
    }
}
