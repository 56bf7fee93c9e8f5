/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The all-gather: up the tree each rank adds its block to those of its children, down the tree everybody gets them all.
 *
 * There is one round at a time: a child's part of the next round can come only after this rank has sent the end of the
 * last one down, and before this rank itself takes part. A blob travels in chunks that fit into messages; downwards a
 * chunk is passed on as it comes.
 *
 * Who is missing: while a round is open each rank tells its parent every second (at first more often) which ranks of
 * its subtree have not come, and the top tells everybody. A subtree of which nothing was heard counts as missing.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/ctl.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TICK_FIRST_MS = 50, TICK_MOST_MS = 1000, CHUNK = MDL_CTL_MAX_PAYLOAD - MDL_CHUNK_HEAD };

/* ---- who is missing ---- */

static int child_index(const struct mdl_ctl *ctl, uint32_t src)
{
    if (src <= ctl->rank || mdl_tree_parent(src) != ctl->rank) return -1;
    return (int)(src - mdl_tree_child(ctl->rank, 0));
}

static int nchildren(const struct mdl_ctl *ctl)
{
    int n = 0;
    while (n < MDL_TREE_ARITY && mdl_tree_child(ctl->rank, (uint32_t)n) < ctl->nranks) n++;
    return n;
}

static void missing_below(const struct mdl_ctl *ctl, struct mdl_ranges *set)
{
    const struct mdl_gather *g = &ctl->gather;
    mdl_ranges_clear(set);
    if (!g->call && !g->sent) mdl_ranges_add(set, ctl->rank, ctl->rank);
    for (int i = 0; i < nchildren(ctl); i++) {
        if (g->child[i].complete) continue;
        if (g->child[i].told)
            mdl_ranges_join(set, &g->child[i].missing);
        else
            mdl_tree_subtree(mdl_tree_child(ctl->rank, (uint32_t)i), ctl->nranks, set);
    }
    mdl_ranges_sort(set);
}

static void send_missing(struct mdl_ctl *ctl, uint32_t to, int type, const struct mdl_ranges *set)
{
    uint8_t bytes[1024];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_missing m = {.round = ctl->gather.round, .ranks = *set};
    mdl_missing_write(&w, &m);
    mdl_peer_send(ctl, to, type, 0, bytes, w.len);
}

static void spread_news(struct mdl_ctl *ctl)
{
    for (int i = 0; i < nchildren(ctl); i++)
        if (ctl->gather.child[i].begun || ctl->gather.child[i].complete || ctl->gather.child[i].told)
            send_missing(ctl, mdl_tree_child(ctl->rank, (uint32_t)i), MDL_FRAME_MISSING_DOWN, &ctl->gather.news);
}

/* What this rank knows, in words for a warning or an error. */
static void describe(const struct mdl_ctl *ctl, char *text, size_t bytes)
{
    const struct mdl_gather *g = &ctl->gather;
    struct mdl_ranges below;
    char names[300];
    missing_below(ctl, &below);
    if (!below.count && ctl->rank && !g->has_news) {
        uint32_t up = mdl_tree_parent(ctl->rank);
        snprintf(text, bytes, "nothing was heard from rank %u (%s), through which the others' parts come", up,
                 mdl_ctl_host(ctl, (int)up));
        return;
    }
    const struct mdl_ranges *set = g->has_news ? &g->news : &below;
    mdl_members_name(ctl, set, names, sizeof(names));
    snprintf(text, bytes, "waiting for %llu of %u ranks: %s", (unsigned long long)set->count, ctl->nranks, names);
}

static void warn_if_late(struct mdl_ctl *ctl, uint64_t now)
{
    struct mdl_gather *g = &ctl->gather;
    char text[400];
    if (!g->call || now - g->since_ns < g->warn_ns) return;
    describe(ctl, text, sizeof(text));
    MDL_WARN(MDL_BOOT, "rank %u: '%s' takes long (%.1f s): %s", ctl->rank, g->call->what,
             (double)(now - g->since_ns) / 1e9, text);
    g->warn_ns *= 2;
}

static void on_tick(struct mdl_timer *timer)
{
    struct mdl_ctl *ctl = mdl_container_of(timer, struct mdl_ctl, gather.tick);
    struct mdl_gather *g = &ctl->gather;
    struct mdl_ranges set;
    uint64_t now = mdl_now_ns();
    missing_below(ctl, &set);
    if (ctl->rank == 0) {
        g->news = set;
        g->has_news = true;
        spread_news(ctl);
    } else if (set.count && (ctl->entries[mdl_tree_parent(ctl->rank)])) {
        send_missing(ctl, mdl_tree_parent(ctl->rank), MDL_FRAME_MISSING_UP, &set);
    }
    warn_if_late(ctl, now);
    g->tick_ms = g->tick_ms * 2 < TICK_MOST_MS ? g->tick_ms * 2 : TICK_MOST_MS;
    mdl_reactor_timer(ctl->reactor, &g->tick, now + g->tick_ms * MDL_NS_PER_MS);
}

static void start_tick(struct mdl_ctl *ctl)
{
    struct mdl_gather *g = &ctl->gather;
    if (g->tick.set || g->broken || ctl->closing) return;
    g->tick.fn = on_tick;
    g->tick_ms = TICK_FIRST_MS;
    mdl_reactor_timer(ctl->reactor, &g->tick, mdl_now_ns() + g->tick_ms * MDL_NS_PER_MS);
}

/* ---- the end of a round ---- */

static void clear_round(struct mdl_ctl *ctl)
{
    struct mdl_gather *g = &ctl->gather;
    for (int i = 0; i < MDL_TREE_ARITY; i++) {
        free(g->child[i].blob);
        g->child[i] = (struct mdl_gather_child){0};
    }
    free(g->down.blob);
    g->down = (struct mdl_gather_child){0};
    g->sent = g->has_news = false;
    mdl_reactor_timer_cancel(ctl->reactor, &g->tick);
}

static void conclude(struct mdl_ctl *ctl, medleyResult_t result, const char *text)
{
    struct mdl_gather *g = &ctl->gather;
    struct mdl_ctl_outcome *o = g->outcome;
    g->call = NULL;
    g->outcome = NULL;
    if (o) mdl_ctl_finish(ctl, o, result, text);
}

void mdl_gather_fail(struct mdl_ctl *ctl, medleyResult_t code, const char *text)
{
    ctl->gather.broken = true;
    mdl_reactor_timer_cancel(ctl->reactor, &ctl->gather.tick);
    conclude(ctl, code, text);
}

void mdl_gather_fini(struct mdl_ctl *ctl)
{
    mdl_gather_fail(ctl, medleyRemoteError, "the communicator was closed");
    clear_round(ctl);
}

static void fail_here(struct mdl_ctl *ctl, const char *text)
{
    char full[MDL_ERROR_TEXT_BYTES];
    snprintf(full, sizeof(full), "rank %u: all-gather: %s", ctl->rank, text);
    MDL_WARN(MDL_BOOT, "%s", full);
    mdl_gather_fail(ctl, medleyInternalError, full);
}

/* A peer is gone: a round that still needs it cannot end. Who was missing until then may be why it is gone: the rank
 * whose deadline comes first gives up, and leaves, a moment before the others. */
void mdl_gather_gone(struct mdl_ctl *ctl, const struct mdl_ctl_peer *p, const char *why)
{
    const struct mdl_gather *g = &ctl->gather;
    char text[MDL_ERROR_TEXT_BYTES], before[400];
    int child = child_index(ctl, (uint32_t)p->rank);
    bool up = ctl->rank && mdl_tree_parent(ctl->rank) == (uint32_t)p->rank;
    if (!g->call || g->broken || !(up || (child >= 0 && !g->child[child].complete))) return;
    describe(ctl, before, sizeof(before));
    snprintf(text, sizeof(text), "rank %u: '%s' cannot go on without rank %d (%s): %s; before that: %s", ctl->rank,
             g->call->what, p->rank, mdl_ctl_host(ctl, p->rank), why, before);
    MDL_WARN(MDL_BOOT, "%s", text);
    mdl_gather_fail(ctl, medleyRemoteError, text);
}

/* ---- chunks ---- */

static void send_blob(struct mdl_ctl *ctl, uint32_t to, int type, const uint8_t *blob, size_t len)
{
    uint8_t *bytes = malloc(MDL_CTL_MAX_PAYLOAD);
    struct mdl_chunk chunk = {.round = ctl->gather.round, .total = len};
    if (!bytes) {
        fail_here(ctl, "no memory");
        return;
    }
    do {
        struct mdl_writer w = {.p = bytes, .cap = MDL_CTL_MAX_PAYLOAD};
        chunk.bytes = blob + chunk.offset;
        chunk.len = len - chunk.offset < CHUNK ? len - chunk.offset : CHUNK;
        mdl_chunk_write(&w, &chunk);
        mdl_peer_send(ctl, to, type, 0, bytes, w.len);
        chunk.offset += chunk.len;
    } while (chunk.offset < len);
    free(bytes);
}

static bool grow(struct mdl_gather_child *c, size_t need)
{
    if (need <= c->room) return true;
    size_t room = c->room * 2 > need ? c->room * 2 : need;
    uint8_t *bigger = realloc(c->blob, room);
    if (!bigger) return false;
    c->blob = bigger;
    c->room = room;
    return true;
}

/* Chunks of one blob come in order; memory grows with what came, not with what was announced. */
static bool add_chunk(struct mdl_ctl *ctl, struct mdl_gather_child *c, const struct mdl_chunk *chunk)
{
    if (c->complete || chunk->offset != c->len || (c->begun && chunk->total != c->total)) {
        fail_here(ctl, "a part came twice or out of order");
        return false;
    }
    if (!grow(c, c->len + chunk->len)) {
        fail_here(ctl, "no memory");
        return false;
    }
    if (chunk->len) memcpy(c->blob + c->len, chunk->bytes, chunk->len);
    c->begun = true;
    c->total = chunk->total;
    c->len += chunk->len;
    c->complete = c->len == c->total;
    return true;
}

/* ---- up and down ---- */

static void finish_round(struct mdl_ctl *ctl, const uint8_t *blob, size_t len)
{
    struct mdl_gather *g = &ctl->gather;
    medleyResult_t result = g->call->deliver(g->call->ctx, blob, len);
    if (result != medleySuccess) g->broken = true;
    conclude(ctl, result, mdl_error_text());
    clear_round(ctl);
    g->round++;
}

/* The own block and the children's blobs as one; NULL without memory. */
static uint8_t *assemble(const struct mdl_ctl *ctl, size_t *len)
{
    const struct mdl_gather *g = &ctl->gather;
    struct mdl_writer w = {.cap = 8 + g->call->len};
    for (int i = 0; i < nchildren(ctl); i++) w.cap += g->child[i].len;
    w.p = malloc(w.cap);
    if (!w.p) return NULL;
    mdl_write_u32(&w, ctl->rank);
    mdl_write_u32(&w, (uint32_t)g->call->len);
    mdl_write_bytes(&w, g->call->mine, g->call->len);
    for (int i = 0; i < nchildren(ctl); i++) mdl_write_bytes(&w, g->child[i].blob, g->child[i].len);
    *len = w.len;
    return w.p;
}

static void advance(struct mdl_ctl *ctl)
{
    struct mdl_gather *g = &ctl->gather;
    size_t len;
    if (g->broken || g->sent || !g->call) return;
    for (int i = 0; i < nchildren(ctl); i++)
        if (!g->child[i].complete) return;
    uint8_t *blob = assemble(ctl, &len);
    if (!blob || len > MDL_GATHER_MAX) {
        fail_here(ctl, blob ? "more than 1 GiB" : "no memory");
    } else if (ctl->rank) {
        g->sent = true;
        send_blob(ctl, mdl_tree_parent(ctl->rank), MDL_FRAME_GATHER_UP, blob, len);
    } else {
        for (int i = 0; i < nchildren(ctl); i++)
            send_blob(ctl, mdl_tree_child(0, (uint32_t)i), MDL_FRAME_GATHER_DOWN, blob, len);
        finish_round(ctl, blob, len);
    }
    free(blob);
}

static void on_up(struct mdl_ctl *ctl, int child, const struct mdl_chunk *chunk)
{
    if (!add_chunk(ctl, &ctl->gather.child[child], chunk)) return;
    start_tick(ctl);
    if (ctl->gather.child[child].complete) advance(ctl);
}

static void on_down(struct mdl_ctl *ctl, const struct mdl_chunk *chunk, const uint8_t *payload, size_t len)
{
    struct mdl_gather *g = &ctl->gather;
    if (!g->sent || !g->call) {
        fail_here(ctl, "the result came before all parts were sent");
        return;
    }
    for (int i = 0; i < nchildren(ctl); i++)
        mdl_peer_send(ctl, mdl_tree_child(ctl->rank, (uint32_t)i), MDL_FRAME_GATHER_DOWN, 0, payload, len);
    if (add_chunk(ctl, &g->down, chunk) && g->down.complete) finish_round(ctl, g->down.blob, g->down.len);
}

static void on_missing(struct mdl_ctl *ctl, int child, bool from_parent, const struct mdl_missing *m)
{
    struct mdl_gather *g = &ctl->gather;
    if (m->round != g->round) return; /* overtaken by the end of its round */
    start_tick(ctl);
    if (child >= 0) {
        g->child[child].missing = m->ranks;
        g->child[child].told = true;
    } else if (from_parent) {
        g->news = m->ranks;
        g->has_news = true;
        spread_news(ctl);
    }
}

void mdl_gather_frame(struct mdl_ctl *ctl, uint32_t src, const struct mdl_frame *frame, const uint8_t *payload)
{
    int child = child_index(ctl, src);
    bool from_parent = ctl->rank && mdl_tree_parent(ctl->rank) == src;
    struct mdl_chunk chunk;
    struct mdl_missing missing;
    if (ctl->gather.broken) return;
    if (frame->type == MDL_FRAME_MISSING_UP || frame->type == MDL_FRAME_MISSING_DOWN) {
        if (mdl_missing_read(payload, frame->length, &missing))
            on_missing(ctl, frame->type == MDL_FRAME_MISSING_UP ? child : -1, from_parent, &missing);
    } else if (!mdl_chunk_read(payload, frame->length, &chunk) || chunk.round != ctl->gather.round) {
        fail_here(ctl, "a broken part, or one of another round");
    } else if (frame->type == MDL_FRAME_GATHER_UP && child >= 0) {
        on_up(ctl, child, &chunk);
    } else if (frame->type == MDL_FRAME_GATHER_DOWN && from_parent) {
        on_down(ctl, &chunk, payload, frame->length);
    } else {
        fail_here(ctl, "a part from a rank that is no neighbour");
    }
}

/* ---- the call ---- */

struct gather_start {
    struct mdl_ctl *ctl;
    const struct mdl_gather_call *call;
    struct mdl_ctl_outcome *outcome;
    bool withdrawn; /* by its caller, before it had an outcome */
};

/* A neighbour that this round needs and that is gone already. */
static void check_neighbours(struct mdl_ctl *ctl)
{
    uint32_t list[1 + MDL_TREE_ARITY];
    int n = mdl_tree_neighbours(ctl->rank, ctl->nranks, list);
    for (int i = 0; i < n; i++) {
        const struct mdl_ctl_peer *p = mdl_peer_look(ctl, list[i]);
        if (mdl_peer_gone(p)) mdl_gather_gone(ctl, p, p->lost ? "it is lost" : "it has left");
    }
}

static void start_inside(void *arg)
{
    struct gather_start *s = arg;
    struct mdl_gather *g = &s->ctl->gather;
    if (s->ctl->fault.set)
        mdl_ctl_finish(s->ctl, s->outcome, s->ctl->fault.trouble.code, s->ctl->fault.trouble.text);
    else if (g->broken)
        mdl_ctl_finish(s->ctl, s->outcome, medleyInvalidUsage, "an earlier exchange of this communicator has failed");
    else if (g->call)
        mdl_ctl_finish(s->ctl, s->outcome, medleyInternalError, "two threads exchange at once on one communicator");
    if (s->outcome->done) return;
    g->call = s->call;
    g->outcome = s->outcome;
    g->since_ns = mdl_now_ns();
    g->warn_ns = mdl_members_warn_ns(&s->ctl->cfg);
    start_tick(s->ctl);
    check_neighbours(s->ctl);
    advance(s->ctl);
}

static void withdraw_inside(void *arg)
{
    struct gather_start *s = arg;
    char text[MDL_ERROR_TEXT_BYTES - 80];
    struct mdl_ctl *ctl = s->ctl;
    if (ctl->gather.outcome != s->outcome) return;
    s->withdrawn = true;
    describe(ctl, text, sizeof(text));
    mdl_gather_fail(ctl, medleyTimeout, text);
}

medleyResult_t mdl_gather_run(struct mdl_ctl *ctl, const struct mdl_gather_call *call, uint64_t deadline_ns)
{
    struct mdl_ctl_outcome outcome = {0};
    struct gather_start s = {.ctl = ctl, .call = call, .outcome = &outcome};
    uint64_t since = mdl_now_ns();
    if (ctl->pid != getpid())
        return mdl_error(medleyInvalidUsage, "Medley cannot be used in a forked child of a process that uses it");
    mdl_reactor_call(ctl->reactor, start_inside, &s);
    enum mdl_ctl_ended ended = mdl_ctl_wait(ctl, &outcome, deadline_ns);
    if (ended != MDL_CTL_DONE) mdl_reactor_call(ctl->reactor, withdraw_inside, &s);
    /* A fault may have set the abort word too: its words are the better ones. */
    if (!s.withdrawn) return outcome.result ? mdl_error_set(outcome.result, outcome.text) : medleySuccess;
    if (ended == MDL_CTL_ABORTED)
        return mdl_error(medleyRemoteError, "rank %u: '%s' was aborted", ctl->rank, call->what);
    return mdl_error(medleyTimeout, "rank %u: '%s' did not end within %.1f s: %s", ctl->rank, call->what,
                     (double)(mdl_now_ns() - since) / 1e9, outcome.text);
}

/* ---- the public one: equal lengths ---- */

struct fixed {
    const struct mdl_ctl *ctl;
    uint8_t *all;
    size_t len;
};

static medleyResult_t deliver_fixed(void *ctx, const uint8_t *blob, size_t len)
{
    const struct fixed *f = ctx;
    struct mdl_reader r = {.p = blob, .left = len};
    const uint8_t *bytes;
    uint32_t rank, n, count = 0;
    while (mdl_block_read(&r, &rank, &bytes, &n)) {
        if (rank >= f->ctl->nranks) break;
        if (n != f->len)
            return mdl_error(medleyInternalError, "rank %u gave %u bytes to an exchange in which rank %u gives %zu",
                             rank, n, f->ctl->rank, f->len);
        if (n) memcpy(f->all + (size_t)rank * n, bytes, n);
        count++;
    }
    if (r.left || r.bad || count != f->ctl->nranks)
        return mdl_error(medleyInternalError, "rank %u got a broken result of an exchange", f->ctl->rank);
    return medleySuccess;
}

medleyResult_t mdl_ctl_allgather(struct mdl_ctl *ctl, const void *mine, size_t len, void *all, uint64_t deadline_ns,
                                 const char *what)
{
    struct fixed fixed = {ctl, all, len};
    struct mdl_gather_call call = {mine, len, what, deliver_fixed, &fixed};
    if (len > MDL_GATHER_MAX / ctl->nranks)
        return mdl_error(medleyInternalError, "'%s' exchanges %zu bytes per rank: too much", what, len);
    return mdl_gather_run(ctl, &call, deadline_ns);
}
