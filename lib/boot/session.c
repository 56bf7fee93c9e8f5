/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: who takes which seat, what is refused, and what a rank is told.
 *
 * A rank that finds its seat taken by another is a mistake of the launcher, and so is another number of ranks: the
 * whole session then fails, so that every rank that came says the same. Two cases are not mistakes: the same call comes
 * back (same nonce), and a process whose former connection is gone tries again.
 */
#include "config.h"
#include "lib/boot/session.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/tree.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    AGAIN_MS = 500,        /* a rank beyond those held comes back after so long, */
    AGAIN_STEP_MS = 250,   /* and so much longer per MDL_ROOT_HELD others that do the same; */
    AGAIN_GRACE_MS = 5000, /* so much later it counts as gone */
    READY_BYTES = 16 + (1 + MDL_TREE_ARITY) * MDL_MEMBER_BYTES,
};

/* ---- life ---- */

medleyResult_t mdl_session_create(struct mdl_root *root, const struct mdl_join *join, bool forwarded,
                                  struct mdl_session **session)
{
    if (join->nranks < 1 || join->nranks > MDL_MAX_RANKS)
        return mdl_error(medleyInvalidArgument, "a communicator of %u ranks is not possible", join->nranks);
    struct mdl_session *s = calloc(1, sizeof(*s));
    struct mdl_seat *seats = s ? calloc(join->nranks, sizeof(*seats)) : NULL;
    if (!seats) {
        free(s);
        return mdl_system_error(ENOMEM, "the root has no memory for %u ranks", join->nranks);
    }
    *s = (struct mdl_session){.root = root, .seats = seats};
    s->nranks = join->nranks;
    s->nids = join->nids;
    s->index = forwarded ? 0 : join->index;
    mdl_list_init(&s->link);
    *session = s;
    return medleySuccess;
}

static void clear_seat(struct mdl_seat *seat)
{
    free(seat->member);
    free(seat->ready);
    *seat = (struct mdl_seat){0};
}

void mdl_session_destroy(struct mdl_session *s)
{
    if (!s) return;
    mdl_relay_destroy(s->relay);
    for (uint32_t r = 0; r < s->nranks; r++) clear_seat(&s->seats[r]);
    free(s->seats);
    free(s);
}

/* ---- telling ---- */

/* The ranks that this root answers for: with several roots its share. */
static bool own_rank(const struct mdl_session *s, uint32_t r)
{
    return s->index == 0 || (uint64_t)r * s->nids / s->nranks == s->index;
}

void mdl_session_missing(const struct mdl_session *s, struct mdl_ranges *missing)
{
    mdl_ranges_clear(missing);
    for (uint32_t r = 0; r < s->nranks; r++)
        if (s->seats[r].state == MDL_SEAT_EMPTY && own_rank(s, r)) mdl_ranges_add(missing, r, r);
}

static void fill_wait(const struct mdl_session *s, struct mdl_wait *wait)
{
    const struct mdl_wait *news = s->relay ? mdl_relay_news(s->relay) : NULL;
    memset(wait, 0, sizeof(*wait));
    mdl_session_missing(s, &wait->missing);
    if (news && news->missing.count)
        *wait = *news;
    else if (news)
        memcpy(wait->note, news->note, sizeof(wait->note));
    else if (s->index)
        snprintf(wait->note, sizeof(wait->note), "the process that made id %u has not joined yet", s->index);
    wait->again_ms = 0;
}

static void tell_wait(struct mdl_visitor *v, uint32_t rank, const struct mdl_wait *wait)
{
    uint8_t bytes[1024 + MDL_ERROR_TEXT_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    mdl_wait_write(&w, wait);
    mdl_visitor_send(v, MDL_FRAME_WAIT, rank, bytes, w.len);
}

static void tell_trouble(const struct mdl_session *s, struct mdl_visitor *v, uint32_t rank)
{
    uint8_t bytes[16 + MDL_ERROR_TEXT_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    mdl_trouble_write(&w, &s->trouble);
    mdl_visitor_send(v, MDL_FRAME_REFUSE, rank, bytes, w.len);
    v->dismissed = true;
    v->since_ns = mdl_now_ns();
}

static void add_member(struct mdl_writer *w, const struct mdl_session *s, uint32_t rank, uint8_t *count)
{
    if (rank >= s->nranks) return;
    mdl_write_bytes(w, s->seats[rank].member, s->seats[rank].member_len);
    (*count)++;
}

static void tell_ready(const struct mdl_session *s, struct mdl_visitor *v, uint32_t rank)
{
    const struct mdl_seat *seat = &s->seats[rank];
    uint8_t bytes[READY_BYTES], count = 0;
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    if (s->index) {
        if (seat->ready) mdl_visitor_send(v, MDL_FRAME_READY, rank, seat->ready, seat->ready_len);
        return;
    }
    mdl_write_u64(&w, s->nonce);
    mdl_write_u8(&w, 0);
    if (rank) add_member(&w, s, mdl_tree_parent(rank), &count);
    for (uint32_t i = 0; i < MDL_TREE_ARITY; i++) add_member(&w, s, mdl_tree_child(rank, i), &count);
    bytes[8] = count;
    mdl_visitor_send(v, MDL_FRAME_READY, rank, bytes, w.len);
}

/* ---- the end of waiting ---- */

void mdl_session_fail(struct mdl_session *s, medleyResult_t code, const char *text)
{
    if (s->state != MDL_SESSION_OPEN) return;
    s->state = MDL_SESSION_FAILED;
    s->trouble = (struct mdl_trouble){.code = code, .origin = -1};
    snprintf(s->trouble.text, sizeof(s->trouble.text), "%s", text);
    MDL_WARN(MDL_BOOT, "the ranks cannot come together: %s", s->trouble.text);
    if (s->relay) mdl_relay_refuse(s->relay, &s->trouble);
    mdl_list_each (it, mdl_root_visitors(s->root)) {
        struct mdl_visitor *v = mdl_container_of(it, struct mdl_visitor, link);
        if (v->session == s) tell_trouble(s, v, v->rank);
    }
}

static void complete(struct mdl_session *s)
{
    if (s->index || s->taken < s->nranks) return;
    s->state = MDL_SESSION_COMPLETE;
    randombytes_buf(&s->nonce, sizeof(s->nonce));
    MDL_INFO(MDL_BOOT, "the root has all %u ranks", s->nranks);
    mdl_root_completed(s->root, s);
    for (uint32_t r = 0; r < s->nranks; r++)
        if (s->seats[r].state == MDL_SEAT_HELD) tell_ready(s, s->seats[r].visitor, r);
}

/* The root of id 0 has answered for one of this root's ranks. */
void mdl_session_ready(struct mdl_session *s, uint32_t rank, const uint8_t *ready, size_t len)
{
    if (s->state == MDL_SESSION_FAILED || rank >= s->nranks || s->seats[rank].state == MDL_SEAT_EMPTY) return;
    struct mdl_seat *seat = &s->seats[rank];
    uint8_t *copy = malloc(len);
    if (!copy) {
        mdl_session_fail(s, mdl_system_error(ENOMEM, "the root has no memory"), mdl_error_text());
        return;
    }
    memcpy(copy, ready, len);
    free(seat->ready);
    seat->ready = copy;
    seat->ready_len = len;
    if (s->state == MDL_SESSION_OPEN) {
        s->state = MDL_SESSION_COMPLETE;
        mdl_root_completed(s->root, s);
    }
    if (seat->state == MDL_SEAT_HELD) tell_ready(s, seat->visitor, rank);
}

void mdl_session_got(struct mdl_session *s, uint32_t rank)
{
    if (s->state != MDL_SESSION_COMPLETE || rank >= s->nranks || s->seats[rank].state == MDL_SEAT_GOT) return;
    s->seats[rank].state = MDL_SEAT_GOT;
    s->seats[rank].visitor = NULL;
    s->got++;
    if (s->relay) mdl_relay_got(s->relay, rank);
    if (s->got == s->taken) mdl_root_answered(s->root, s);
}

/* ---- seats ---- */

static void empty_seat(struct mdl_session *s, uint32_t rank)
{
    if (s->relay) mdl_relay_leave(s->relay, rank, s->seats[rank].nonce);
    clear_seat(&s->seats[rank]);
    s->taken--;
}

void mdl_session_leave(struct mdl_session *s, uint32_t rank, const uint8_t *nonce)
{
    if (rank >= s->nranks || s->seats[rank].state == MDL_SEAT_EMPTY || s->seats[rank].state == MDL_SEAT_GOT) return;
    struct mdl_seat *seat = &s->seats[rank];
    if (nonce && memcmp(seat->nonce, nonce, sizeof(seat->nonce))) return;
    if (s->state == MDL_SESSION_OPEN) {
        MDL_INFO(MDL_BOOT, "rank %u hung up while it waited for the others", rank);
        empty_seat(s, rank);
    } else {
        /* It may still come back for its answer. */
        seat->state = MDL_SEAT_AWAY;
        seat->visitor = NULL;
    }
}

void mdl_session_gone(struct mdl_session *s, const struct mdl_visitor *v)
{
    if (v->rank != MDL_FRAME_ROOT) {
        if (v->rank < s->nranks && s->seats[v->rank].visitor == v) mdl_session_leave(s, v->rank, NULL);
        return;
    }
    for (uint32_t r = 0; r < s->nranks; r++)
        if (s->seats[r].visitor == v) mdl_session_leave(s, r, NULL);
}

bool mdl_session_knows(const struct mdl_session *s, const struct mdl_join *join)
{
    return join->rank < s->nranks && s->seats[join->rank].state != MDL_SEAT_EMPTY &&
           !memcmp(s->seats[join->rank].nonce, join->nonce, sizeof(join->nonce));
}

static void name_seat(const struct mdl_session *s, uint32_t rank, char *text, size_t bytes)
{
    struct mdl_reader r = {.p = s->seats[rank].member, .left = s->seats[rank].member_len};
    struct mdl_member *m = malloc(sizeof(*m));
    snprintf(text, bytes, "rank %u", rank);
    if (m && mdl_member_read(&r, m)) snprintf(text, bytes, "rank %u (%s, pid %u)", rank, m->host, m->pid);
    free(m);
}

/* Any rank that is there, to say whom a newcomer contradicts. */
static void name_other(const struct mdl_session *s, char *text, size_t bytes)
{
    snprintf(text, bytes, "another rank");
    for (uint32_t r = 0; r < s->nranks; r++)
        if (s->seats[r].state != MDL_SEAT_EMPTY) {
            name_seat(s, r, text, bytes);
            return;
        }
}

/* What is wrong with the request itself; false: nothing. */
static bool contradicts(const struct mdl_session *s, const struct mdl_join *join, bool forwarded, char *text,
                        size_t bytes)
{
    const struct mdl_member *m = &join->member;
    char other[160];
    name_other(s, other, sizeof(other));
    if (join->nranks != s->nranks)
        snprintf(text, bytes, "rank %u (%s, pid %u) was started with nranks %u, but %s with nranks %u", join->rank,
                 m->host, m->pid, join->nranks, other, s->nranks);
    else if (join->rank >= join->nranks || m->rank != join->rank)
        snprintf(text, bytes, "rank %u (%s, pid %u) is out of range: the communicator has %u ranks", join->rank,
                 m->host, m->pid, join->nranks);
    else if (join->nids != s->nids || (join->index != s->index && !(forwarded && s->index == 0)) ||
             join->index >= join->nids || (uint64_t)join->rank * join->nids / join->nranks != join->index)
        snprintf(text, bytes, "rank %u (%s, pid %u) was given %u ids and uses number %u, but %s was given %u",
                 join->rank, m->host, m->pid, join->nids, join->index, other, s->nids);
    else
        return false;
    return true;
}

/* Is the seat somebody else's? What the holder has sent, or its end, is looked at first. */
static bool occupied(struct mdl_session *s, const struct mdl_join *join)
{
    struct mdl_seat *seat = &s->seats[join->rank];
    if (seat->state == MDL_SEAT_HELD && memcmp(seat->nonce, join->nonce, sizeof(seat->nonce)))
        mdl_wire_read_now(seat->visitor->wire);
    if (seat->state == MDL_SEAT_EMPTY || !memcmp(seat->nonce, join->nonce, sizeof(seat->nonce))) return false;
    return seat->state != MDL_SEAT_AWAY || memcmp(seat->process, join->process, sizeof(seat->process));
}

static bool take_seat(struct mdl_session *s, const struct mdl_join *join)
{
    struct mdl_seat *seat = &s->seats[join->rank];
    uint8_t bytes[MDL_MEMBER_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    mdl_member_write(&w, &join->member);
    uint8_t *copy = w.bad ? NULL : malloc(w.len);
    if (!copy) return false;
    memcpy(copy, bytes, w.len);
    if (seat->state == MDL_SEAT_EMPTY) s->taken++;
    free(seat->member);
    seat->member = copy;
    seat->member_len = w.len;
    memcpy(seat->nonce, join->nonce, sizeof(seat->nonce));
    memcpy(seat->process, join->process, sizeof(seat->process));
    return true;
}

/* Beyond those held a rank has to hang up and come back: its seat stays. */
static void send_away(struct mdl_session *s, struct mdl_visitor *v, uint32_t rank)
{
    struct mdl_wait wait;
    uint32_t away = s->taken / MDL_ROOT_HELD;
    fill_wait(s, &wait);
    wait.again_ms = AGAIN_MS + away * AGAIN_STEP_MS + rank % 64 * 4; /* spread, so that they do not come at once */
    s->seats[rank].state = MDL_SEAT_AWAY;
    s->seats[rank].visitor = NULL;
    s->seats[rank].until_ns = mdl_now_ns() + (2 * (uint64_t)wait.again_ms + AGAIN_GRACE_MS) * MDL_NS_PER_MS;
    tell_wait(v, rank, &wait);
    v->dismissed = true;
    v->session = NULL;
}

static void seat_visitor(struct mdl_session *s, struct mdl_visitor *v, const struct mdl_join *join)
{
    struct mdl_seat *seat = &s->seats[join->rank];
    bool news = seat->state == MDL_SEAT_EMPTY;
    if (!take_seat(s, join)) {
        mdl_session_fail(s, medleySystemError, "the root has no memory for a rank");
        return;
    }
    if (news)
        MDL_INFO(MDL_BOOT, "the root sees rank %u (%s, pid %u): %u of %u", join->rank, join->member.host,
                 join->member.pid, s->taken, s->nranks);
    seat->state = MDL_SEAT_HELD;
    seat->visitor = v;
    if (s->relay) mdl_relay_join(s->relay, join->rank);
    complete(s);
    if (s->state == MDL_SESSION_OPEN && v->rank != MDL_FRAME_ROOT && mdl_root_held(s->root) > MDL_ROOT_HELD)
        send_away(s, v, join->rank);
}

/* A rank comes back for its answer (root.c found the session by its nonce). */
static void answer_again(struct mdl_session *s, struct mdl_visitor *v, uint32_t rank)
{
    struct mdl_seat *seat = &s->seats[rank];
    if (seat->state == MDL_SEAT_GOT) s->got--;
    seat->state = MDL_SEAT_HELD;
    seat->visitor = v;
    tell_ready(s, v, rank);
}

void mdl_session_join(struct mdl_session *s, struct mdl_visitor *v, const struct mdl_join *join)
{
    char text[MDL_ERROR_TEXT_BYTES], held[160];
    if (s->state == MDL_SESSION_OPEN && contradicts(s, join, v->rank == MDL_FRAME_ROOT, text, sizeof(text)))
        mdl_session_fail(s, medleyInvalidUsage, text);
    if (s->state == MDL_SESSION_FAILED) {
        if (!v->dismissed) tell_trouble(s, v, v->rank);
        return;
    }
    if (s->state == MDL_SESSION_COMPLETE) {
        answer_again(s, v, join->rank);
        return;
    }
    if (!occupied(s, join)) {
        if (s->state == MDL_SESSION_OPEN) seat_visitor(s, v, join);
        return;
    }
    name_seat(s, join->rank, held, sizeof(held));
    snprintf(text, sizeof(text), "two processes say that they are rank %u: %s and %s, pid %u", join->rank, held,
             join->member.host, join->member.pid);
    mdl_session_fail(s, medleyInvalidUsage, text);
}

/* ---- time ---- */

void mdl_session_tick(struct mdl_session *s, uint64_t now)
{
    struct mdl_wait wait;
    if (s->state != MDL_SESSION_OPEN) return;
    for (uint32_t r = 0; r < s->nranks; r++)
        if (s->seats[r].state == MDL_SEAT_AWAY && now > s->seats[r].until_ns) empty_seat(s, r);
    fill_wait(s, &wait);
    mdl_list_each (it, mdl_root_visitors(s->root)) {
        struct mdl_visitor *v = mdl_container_of(it, struct mdl_visitor, link);
        if (v->session == s && !v->dismissed && mdl_wire_idle(v->wire)) tell_wait(v, v->rank, &wait);
    }
}
