/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The asker's side of the handover between two processes of a host, on the authenticated channel that it dialled: HELLO
 * yields the other's ring segment and bells, SEGMENT the descriptor of one of its shareable segments, RING nothing.
 *
 * The monitor's thread owns the channel: it sends the question and stores the answer, for which the context's thread
 * waits. An answer to a question that was given up meanwhile is dropped.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 20 };

/* ---- monitor's thread ---- */

static void close_fds(const int *fds, int n)
{
    for (int i = 0; i < n; i++)
        if (fds[i] >= 0) close(fds[i]);
}

static void store(struct mdl_shm_peer *p, const struct mdl_shm_reply *r, const int *fds, int nfds)
{
    pthread_mutex_lock(&p->ctx->lock);
    bool wanted = r->seq == p->answer.seq && !p->answer.there;
    int kept = !wanted ? 0 : nfds < MDL_SHM_REPLY_FDS ? nfds : MDL_SHM_REPLY_FDS;
    if (wanted) {
        p->answer.reply = *r;
        p->answer.there = true;
        for (int i = 0; i < MDL_SHM_REPLY_FDS; i++) p->answer.fds[i] = i < kept ? fds[i] : -1;
        mdl_shm_tell_answered(p->ctx);
    }
    pthread_mutex_unlock(&p->ctx->lock);
    close_fds(fds + kept, nfds - kept);
}

static void on_end(void *ctx, int err, const char *why)
{
    struct mdl_shm_peer *p = ctx;
    mdl_shm_link_end(p);
    mdl_shm_peer_ended(p);
}

static void on_data(void *ctx, const uint8_t *bytes, size_t len, int *fds, int nfds)
{
    struct mdl_shm_peer *p = ctx;
    struct mdl_shm_reply r;
    if (len == MDL_SHM_REPLY_BYTES && mdl_shm_reply_read(bytes, &r)) {
        store(p, &r, fds, nfds);
        return;
    }
    close_fds(fds, nfds);
    MDL_WARN(MDL_SHM, "rank %d: rank %d (pid %u) answered in a way that is not understood", p->ctx->args.rank, p->rank,
             p->told_pid);
    on_end(p, 0, "");
}

static void want_link(struct mdl_shm_peer *p);

static void send_query(struct mdl_shm_peer *p, const struct mdl_shm_query *q)
{
    if (p->quiet) {
        p->stash = *q;
        p->has_stash = true;
        want_link(p);
        return;
    }
    uint8_t bytes[MDL_SHM_QUERY_BYTES];
    mdl_shm_query_write(q, bytes);
    if (p->channel)
        mdl_channel_send(p->channel, &(struct mdl_channel_message){.head = bytes, .head_len = sizeof(bytes)});
}

static const struct mdl_channel_use use = {on_data, on_end};

/* The channel that was wanted is there: what waited for it is sent. */
static void take_link(struct mdl_shm_peer *p, struct mdl_channel *channel)
{
    struct mdl_channel *quiet = p->channel;
    p->channel = channel;
    p->quiet = false;
    mdl_channel_use(channel, &use, p);
    mdl_channel_close(quiet);
    if (p->has_stash) send_query(p, &p->stash);
    p->has_stash = false;
    mdl_shm_ring_there(p);
}

/* No more questions; the quiet channel still tells the end. */
static void refuse_questions(struct mdl_shm_peer *p)
{
    pthread_mutex_lock(&p->ctx->lock);
    p->answer.ended = true;
    mdl_shm_tell_answered(p->ctx);
    pthread_mutex_unlock(&p->ctx->lock);
}

static void on_linked(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    struct mdl_shm_peer *p = ctx;
    mdl_dial_cancel(p->dial);
    p->dial = NULL;
    if (result == medleySuccess && link->channel) {
        take_link(p, link->channel);
        return;
    }
    if (result == medleySuccess) mdl_link_close(link);
    MDL_INFO(MDL_SHM, "rank %d: no question to rank %d (pid %u) is possible: %s", p->ctx->args.rank, p->rank,
             p->told_pid, result == medleySuccess ? "it shares no connection" : why);
    refuse_questions(p);
}

static void want_link(struct mdl_shm_peer *p)
{
    struct mdl_shm *s = p->ctx;
    struct mdl_dial_args args = {
        .door = s->door,
        .secret = &s->secret,
        .purpose = MDL_PURPOSE_SHM,
        .rank = s->args.rank,
        .expect_rank = p->rank,
        .addrs = &p->yard->door,
        .naddrs = 1,
        .deadline_ns = mdl_now_ns() + (uint64_t)s->args.config->dead_after * MDL_NS_PER_MS,
        .share = true,
    };
    if (!p->dial && mdl_dial_start(&args, on_linked, p, &p->dial) != medleySuccess) refuse_questions(p);
}

bool mdl_shm_link_quiet(struct mdl_shm_peer *p)
{
    p->connection = p->yard->connection;
    p->channel = mdl_channel_quiet(p->ctx->door, &p->yard->door, p->connection, &use, p);
    p->quiet = p->channel != NULL;
    if (p->quiet) p->pid = mdl_channel_pid(p->channel);
    return p->quiet;
}

void mdl_shm_link_begin(struct mdl_shm_peer *p, struct mdl_channel *channel, const struct mdl_shm_query *first)
{
    p->channel = channel;
    p->connection = mdl_channel_connection(channel);
    p->answer.seq = first->seq; /* nobody waits yet */
    mdl_channel_use(channel, &use, p);
    send_query(p, first);
}

void mdl_shm_link_ring(struct mdl_shm_peer *p, uint32_t bell)
{
    if (p->quiet) { /* later */
        atomic_fetch_or_explicit(&p->rings[bell / 64], 1ull << bell % 64, memory_order_relaxed);
        want_link(p);
        return;
    }
    send_query(p, &(struct mdl_shm_query){.type = MDL_SHM_ASK_RING, .segment = bell});
}

void mdl_shm_link_end(struct mdl_shm_peer *p)
{
    mdl_reactor_unpost(mdl_door_reactor(p->ctx->door), &p->ring_task);
    mdl_dial_cancel(p->dial);
    p->dial = NULL;
    mdl_channel_close(p->channel);
    p->channel = NULL;
    p->quiet = p->has_stash = false;
    pthread_mutex_lock(&p->ctx->lock);
    p->answer.ended = true;
    mdl_shm_tell_answered(p->ctx);
    pthread_mutex_unlock(&p->ctx->lock);
}

/* ---- context's thread ---- */

static void forget_answer(struct mdl_shm_peer *p)
{
    if (p->answer.there) close_fds(p->answer.fds, MDL_SHM_REPLY_FDS);
    p->answer.there = false;
}

struct asking {
    struct mdl_shm_peer *p;
    const struct mdl_shm_query *q;
};

static void ask_inside(void *arg)
{
    struct asking *a = arg;
    send_query(a->p, a->q);
}

medleyResult_t mdl_shm_ask(struct mdl_shm_peer *p, const struct mdl_shm_query *q)
{
    struct mdl_shm *s = p->ctx;
    struct asking a = {p, q};
    pthread_mutex_lock(&s->lock);
    forget_answer(p);
    p->answer.seq = q->seq;
    bool ended = p->answer.ended;
    pthread_mutex_unlock(&s->lock);
    if (ended)
        return mdl_error(medleyRemoteError, "rank %d: rank %d (pid %u) was asked for shared memory, and is gone",
                         s->args.rank, p->rank, p->told_pid);
    mdl_reactor_call(mdl_door_reactor(s->door), ask_inside, &a);
    return medleySuccess;
}

/* Short, so that an abort is seen. */
void mdl_shm_wait_answers(struct mdl_shm *s)
{
    uint64_t until = mdl_now_ns() + LOOK_MS * MDL_NS_PER_MS;
    struct timespec ts = {.tv_sec = (time_t)(until / MDL_NS_PER_S), .tv_nsec = (long)(until % MDL_NS_PER_S)};
    pthread_cond_timedwait(&s->answered, &s->lock, &ts);
}

/* Under the lock. */
static medleyResult_t await_answer(struct mdl_shm_peer *p, uint64_t deadline_ns)
{
    struct mdl_shm *s = p->ctx;
    while (!p->answer.there) {
        if (p->answer.ended)
            return mdl_error(medleyRemoteError, "rank %d: rank %d (pid %u) ended the shared-memory link", s->args.rank,
                             p->rank, p->told_pid);
        if (mdl_shm_told_to_stop(s)) return mdl_guard_refuse();
        if (mdl_now_ns() >= deadline_ns)
            return mdl_error(medleyTimeout,
                             "rank %d: rank %d (pid %u) did not answer a question about shared memory in time; is it "
                             "stopped?",
                             s->args.rank, p->rank, p->told_pid);
        mdl_shm_wait_answers(s);
    }
    return medleySuccess;
}

static medleyResult_t check_fds(struct mdl_shm_peer *p, const struct mdl_shm_reply *r, int *fds)
{
    uint32_t got = 0;
    while (got < MDL_SHM_REPLY_FDS && fds[got] >= 0) got++;
    if (r->nfds == got) return medleySuccess;
    close_fds(fds, MDL_SHM_REPLY_FDS);
    return mdl_error(medleySystemError,
                     "rank %d: a bad answer of rank %d (pid %u) about shared memory: %u descriptors of %u came (is the "
                     "limit of open files reached? raise `ulimit -n`)",
                     p->ctx->args.rank, p->rank, p->told_pid, got, r->nfds);
}

medleyResult_t mdl_shm_hear(struct mdl_shm_peer *p, uint64_t deadline_ns, struct mdl_shm_reply *r, int *fds)
{
    struct mdl_shm *s = p->ctx;
    pthread_mutex_lock(&s->lock);
    medleyResult_t result = await_answer(p, deadline_ns);
    if (result == medleySuccess) {
        *r = p->answer.reply;
        memcpy(fds, p->answer.fds, sizeof(p->answer.fds));
        p->answer.there = false;
        p->answer.seq = 0;
    }
    pthread_mutex_unlock(&s->lock);
    return result == medleySuccess ? check_fds(p, r, fds) : result;
}
