/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults: the first one wins, poisons the communicator, wakes whoever waits on it and stays readable. What this rank
 * detects spreads to all others over the control plane; what they detect arrives here the same way.
 */
#include "config.h"

#include "lib/engine/job.h"
#include "lib/engine/native.h"
#include "lib/base/fence.h"
#include "lib/net/bell.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void mdl_comm_wake(struct mdl_comm *c)
{
    int bell;

    mdl_fence(); /* between what shall be seen and this look; pairs with the one in arm (drive.c) */
    bell = atomic_exchange_explicit(&c->sleeper, 0, memory_order_acq_rel);
    if (bell) mdl_bell_ring(bell - 1);
}

void mdl_comm_fail(struct mdl_comm *c, medleyResult_t code, int origin, const char *text, bool spread)
{
    struct mdl_ctl *ctl;
    bool first;

    pthread_mutex_lock(&c->fault_lock);
    first = c->fault_code == medleySuccess;
    if (first) {
        c->fault_code = code;
        c->fault_origin = origin;
        snprintf(c->fault_text, sizeof(c->fault_text), "%s", text);
        atomic_store_explicit(&c->abort_word, (uint32_t)code, memory_order_release); /* pairs with mdl_comm_failed */
    }
    pthread_mutex_unlock(&c->fault_lock);
    if (!first) return;
    mdl_native_abort(c);
    if (code == medleyInvalidUsage) mdl_comm_fail_making(c, code, text); /* revoked, or the ranks do not agree */
    MDL_WARN(MDL_FAULT, "rank %d%s%s: %s", c->rank, c->cfg.comm_name.s[0] ? " of " : "", c->cfg.comm_name.s, text);
    mdl_comm_wake(c);
    if (!spread) return;
    ctl = __atomic_load_n(&c->ctl, __ATOMIC_ACQUIRE); /* pairs with its creation, which an abort may race */
    if (ctl) mdl_ctl_fault(ctl, code, origin, text);
}

void mdl_comm_adopt(struct mdl_comm *parent, struct mdl_comm *child)
{
    bool orphan;

    pthread_mutex_lock(&parent->fault_lock);
    orphan = parent->orphans;
    mdl_list_append(&parent->making, &child->making_link);
    pthread_mutex_unlock(&parent->fault_lock);
    mdl_job_child_adopted(parent, child);
    if (orphan) mdl_comm_fail(child, medleyRemoteError, child->rank, "the parent communicator was aborted", false);
}

void mdl_comm_let_go(struct mdl_comm *parent, struct mdl_comm *child)
{
    pthread_mutex_lock(&parent->fault_lock);
    mdl_list_remove(&child->making_link);
    pthread_mutex_unlock(&parent->fault_lock);
}

void mdl_comm_fail_children(struct mdl_comm *parent, const char *text)
{
    pthread_mutex_lock(&parent->fault_lock);
    parent->orphans = true;
    mdl_list_each (it, &parent->making) /* not spread from here: their makers tell the others when they give up */
        mdl_comm_fail(mdl_container_of(it, struct mdl_comm, making_link), medleyRemoteError, parent->rank, text, false);
    pthread_mutex_unlock(&parent->fault_lock);
}

void mdl_comm_fail_making(struct mdl_comm *parent, medleyResult_t code, const char *text)
{
    pthread_mutex_lock(&parent->fault_lock);
    mdl_list_each (it, &parent->making)
        mdl_comm_fail(mdl_container_of(it, struct mdl_comm, making_link), code, parent->rank, text, false);
    pthread_mutex_unlock(&parent->fault_lock);
}

medleyResult_t mdl_comm_fault(struct mdl_comm *c)
{
    medleyResult_t code;

    if (!mdl_comm_failed(c)) return medleySuccess;
    pthread_mutex_lock(&c->fault_lock);
    code = c->fault_code;
    mdl_error_set(code, c->fault_text);
    pthread_mutex_unlock(&c->fault_lock);
    return code;
}

void mdl_comm_fail_here(struct mdl_comm *c, medleyResult_t code)
{
    char text[MDL_ERROR_TEXT_BYTES];

    snprintf(text, sizeof(text), "%s", mdl_error_text());
    mdl_comm_fail(c, code, c->rank, text[0] ? text : medleyGetErrorString(code), true);
}

void mdl_comm_on_fault(void *comm, medleyResult_t code, int origin, const char *text)
{
    struct mdl_comm *c = comm;

    mdl_comm_fail(c, code, origin, text, false);
}

/* What this rank was doing, for the error that names a lost rank. */
static void doing_text(const struct mdl_comm *c, char *text, size_t bytes)
{
    struct mdl_diary_note note;
    char call[MDL_CALL_TEXT_BYTES];

    text[0] = 0;
    if (!mdl_diary_newest(&c->diary, &note)) return;
    mdl_call_text(&note.call, call);
    snprintf(text, bytes, "; rank %d was %s %s #%llu", c->rank, note.state == MDL_DIARY_DONE ? "after" : "in", call,
             (unsigned long long)note.seq);
}

/* A rank with which this one had no control link says its goodbye by the board alone. */
static bool has_left(const struct mdl_comm *c, int rank)
{
    const struct mdl_team *t;

    if (atomic_load_explicit(&c->gone[rank], memory_order_relaxed)) return true;
    if (!atomic_load_explicit(&c->boards_mapped, memory_order_acquire)) return false; /* pairs with map_boards */
    t = c->team;
    return t->host[rank] == t->host[c->rank] &&
           atomic_load_explicit(mdl_board_left(&c->board, t->local[rank]), memory_order_relaxed);
}

/* A rank that has said goodbye, on the control plane or to a transport, is no fault yet: it may have done all that it
 * owed us. Whoever still waits for it finds out (drive.c). */
static void lost(void *comm, int rank, bool said_goodbye, const char *why)
{
    struct mdl_comm *c = comm;
    char text[MDL_ERROR_TEXT_BYTES], doing[MDL_CALL_TEXT_BYTES + 64];

    if (said_goodbye || has_left(c, rank)) {
        atomic_store_explicit(&c->gone[rank], 1, memory_order_relaxed);
        return;
    }
    doing_text(c, doing, sizeof(doing));
    snprintf(text, sizeof(text), "rank %d (host %s) is lost: %s%s", rank, mdl_ctl_host(c->ctl, rank), why, doing);
    mdl_comm_fail(c, medleyRemoteError, rank, text, true);
}

void mdl_fault_attach(struct mdl_comm *c) { mdl_ctl_on_lost(c->ctl, lost, c); }

static void ignore(void *ctx, int rank, bool said_goodbye, const char *why) {}

/* The transports, and with them the boards, are about to go. */
void mdl_fault_detach(struct mdl_comm *c)
{
    if (c->ctl) mdl_ctl_on_lost(c->ctl, ignore, NULL);
}
