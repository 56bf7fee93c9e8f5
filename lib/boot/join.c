/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joining: a rank's side of the rendezvous, then the first all-gather.
 *
 * The rank dials the root again and again until it is told READY or refused, or the deadline passes; a connection that
 * breaks costs nothing, because the root knows the rank by its nonce. If nobody listens any more at a root that must
 * have been there (the id was made before it was handed out) the rank gives up early. After READY the rank knows its
 * tree neighbours; the all-gather brings everybody's addresses.
 *
 * With MEDLEY_COMM_ID a rank may join one communicator at a time: that makes the order of several the same everywhere.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/ctl.h"
#include "lib/boot/root.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    RETRY_MS = 250,
    DIAL_MS = 2000,
    LAST_WORD_MS = 20,
    BIND_FIRST_MS = 100,
    ADDRS_BYTES = MDL_ID_ADDRS * MDL_ADDR_TEXT_BYTES
};

struct join {
    struct mdl_list link; /* active_joins */
    struct mdl_ctl *ctl;
    struct mdl_id id; /* the one to use */
    uint32_t nids, index;
    uint8_t nonce[MDL_NONCE_BYTES];
    char addrs[ADDRS_BYTES];
    struct mdl_ctl_outcome outcome;

    /* The reactor's. */
    struct mdl_dial *dial;
    struct mdl_wire *wire;
    struct mdl_timer again, warn;
    uint64_t since_ns, warn_ns, refused_ns;
    bool reached, waiting, settled;
    struct mdl_wait wait;           /* the root's last word */
    char why[MDL_ERROR_TEXT_BYTES]; /* of the last failure to reach it */
    uint64_t comm_nonce;
};

/* ---- what goes on, in words ---- */

static void describe(const struct join *j, char *text, size_t bytes)
{
    char names[150];
    const struct mdl_ctl *ctl = j->ctl;
    if (!j->reached) {
        snprintf(text, bytes, "the root at %.120s was never reached%s%.250s", j->addrs, j->why[0] ? ": " : "", j->why);
    } else if (!j->waiting) {
        snprintf(text, bytes, "the root at %.120s has not said who is missing%s%.200s", j->addrs,
                 j->why[0] ? "; last: " : "", j->why);
    } else {
        mdl_ranges_format(&j->wait.missing, names, sizeof(names));
        snprintf(text, bytes, "%llu of %u ranks are missing: %s (the root at %.80s was reached%s%.80s)",
                 (unsigned long long)j->wait.missing.count, ctl->nranks, names, j->addrs, j->wait.note[0] ? "; " : "",
                 j->wait.note);
    }
}

static void on_warn(struct mdl_timer *timer)
{
    struct join *j = mdl_container_of(timer, struct join, warn);
    char text[MDL_ERROR_TEXT_BYTES];
    uint64_t now = mdl_now_ns();
    describe(j, text, sizeof(text));
    MDL_WARN(MDL_BOOT, "rank %u of %u still waits for the others (%.1f s): %s", j->ctl->rank, j->ctl->nranks,
             (double)(now - j->since_ns) / 1e9, text);
    j->warn_ns *= 2;
    mdl_reactor_timer(j->ctl->reactor, timer, now + j->warn_ns);
}

/* ---- the conversation ---- */

/* Tells the calls of one process from those of others; a forked child has its own. */
static void process_nonce(uint8_t out[MDL_NONCE_BYTES])
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint8_t nonce[MDL_NONCE_BYTES];
    static pid_t owner;
    pthread_mutex_lock(&lock);
    if (owner != getpid()) randombytes_buf(nonce, sizeof(nonce));
    owner = getpid();
    memcpy(out, nonce, sizeof(nonce));
    pthread_mutex_unlock(&lock);
}

static void settle(struct join *j, medleyResult_t result, const char *text)
{
    if (j->settled) return;
    j->settled = true;
    mdl_reactor_timer_cancel(j->ctl->reactor, &j->again);
    mdl_reactor_timer_cancel(j->ctl->reactor, &j->warn);
    mdl_ctl_finish(j->ctl, &j->outcome, result, text);
}

static void dial_later(struct join *j, uint32_t ms)
{
    if (!j->settled) mdl_reactor_timer(j->ctl->reactor, &j->again, mdl_now_ns() + (uint64_t)ms * MDL_NS_PER_MS);
}

static void hang_up(struct join *j)
{
    mdl_wire_close(j->wire);
    j->wire = NULL;
}

static void send_join(struct join *j)
{
    struct mdl_frame frame = {.type = MDL_FRAME_JOIN, .src = j->ctl->rank, .dst = MDL_FRAME_ROOT};
    uint8_t bytes[64 + MDL_MEMBER_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_join *join = calloc(1, sizeof(*join));
    if (!join) {
        settle(j, mdl_system_error(ENOMEM, "rank %u cannot join", j->ctl->rank), mdl_error_text());
        return;
    }
    join->nranks = j->ctl->nranks;
    join->rank = j->ctl->rank;
    join->nids = j->nids;
    join->index = j->index;
    memcpy(join->nonce, j->nonce, sizeof(join->nonce));
    process_nonce(join->process);
    mdl_members_self(j->ctl, &join->member);
    mdl_join_write(&w, join);
    free(join);
    mdl_wire_send(j->wire, &frame, bytes, w.len, NULL);
}

static void take_ready(struct join *j, const uint8_t *payload, size_t len)
{
    struct mdl_ctl *ctl = j->ctl;
    struct mdl_frame got = {.type = MDL_FRAME_GOT, .src = ctl->rank, .dst = MDL_FRAME_ROOT};
    struct mdl_ready *ready = calloc(1, sizeof(*ready));
    uint32_t expected[1 + MDL_TREE_ARITY];
    int n = mdl_tree_neighbours(ctl->rank, ctl->nranks, expected);
    medleyResult_t result = medleySuccess;
    if (!ready || !mdl_ready_read(payload, len, ready) || ready->count != n)
        result = mdl_error(medleyInternalError, "rank %u: the root's answer is broken", ctl->rank);
    for (int i = 0; i < n && result == medleySuccess; i++) result = mdl_members_add(ctl, &ready->members[i]);
    if (result == medleySuccess) {
        j->comm_nonce = ready->nonce;
        mdl_wire_send(j->wire, &got, NULL, 0, NULL);
        mdl_wire_finish(j->wire);
        mdl_beat_start(ctl);
    }
    free(ready);
    settle(j, result, mdl_error_text());
}

static void take_wait(struct join *j, const uint8_t *payload, size_t len)
{
    char names[200];
    struct mdl_wait wait;
    if (!mdl_wait_read(payload, len, &wait)) return;
    if (!j->waiting || wait.missing.count != j->wait.missing.count) {
        mdl_ranges_format(&wait.missing, names, sizeof(names));
        MDL_INFO(MDL_BOOT, "rank %u waits for %llu of %u ranks: %s", j->ctl->rank,
                 (unsigned long long)wait.missing.count, j->ctl->nranks, names);
    }
    j->wait = wait;
    j->waiting = true;
    if (!wait.again_ms) return;
    hang_up(j);
    dial_later(j, wait.again_ms < 60000 ? wait.again_ms : 60000);
}

static void on_frame(struct mdl_wire *w, const struct mdl_frame *frame, const uint8_t *payload)
{
    struct join *j = mdl_wire_ctx(w);
    struct mdl_trouble t;
    if (j->settled) return;
    if (frame->type == MDL_FRAME_WAIT)
        take_wait(j, payload, frame->length);
    else if (frame->type == MDL_FRAME_READY)
        take_ready(j, payload, frame->length);
    else if (frame->type == MDL_FRAME_REFUSE && mdl_trouble_read(payload, frame->length, &t))
        settle(j, t.code, t.text);
}

static void on_end(struct mdl_wire *w, enum mdl_wire_end how, const char *why)
{
    struct join *j = mdl_wire_ctx(w);
    snprintf(j->why, sizeof(j->why), "%s", why);
    hang_up(j);
    if (!j->settled) MDL_INFO(MDL_BOOT, "rank %u lost the root and dials it again: %s", j->ctl->rank, j->why);
    dial_later(j, RETRY_MS);
}

/* The root of a fixed id may not be there yet; that of any other must be. */
static void take_failure(struct join *j, medleyResult_t result, const char *why)
{
    char text[MDL_ERROR_TEXT_BYTES];
    uint64_t now = mdl_now_ns(), patience = mdl_members_warn_ns(&j->ctl->cfg);
    snprintf(j->why, sizeof(j->why), "%s", why);
    if (result != medleyRemoteError) j->refused_ns = 0;
    if (result == medleyRemoteError && !j->refused_ns) j->refused_ns = now;
    bool in_vain = result == medleyRemoteError && !(j->id.flags & MDL_ID_FIXED) && now - j->refused_ns >= patience;
    if (!in_vain && (result == medleyRemoteError || result == medleyTimeout)) {
        dial_later(j, RETRY_MS);
        return;
    }
    snprintf(text, sizeof(text), "rank %u cannot join%s: %.380s", j->ctl->rank,
             in_vain ? " (has the process that made the unique id ended, or was the id used before?)" : "", j->why);
    settle(j, result, text);
}

static void on_dialed(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    static const struct mdl_wire_use use = {on_frame, on_end};
    struct join *j = ctx;
    struct mdl_wire_args args = {.reactor = j->ctl->reactor, .use = &use, .ctx = j, .any_address = true};
    char text[MDL_ADDR_TEXT_BYTES];
    mdl_dial_cancel(j->dial);
    j->dial = NULL;
    if (result == medleySuccess) {
        result = mdl_wire_open(&args, link, &j->wire);
        why = mdl_error_text();
    }
    if (result != medleySuccess) {
        take_failure(j, result, why);
        return;
    }
    mdl_addr_format(&link->remote, text);
    if (!j->reached) MDL_INFO(MDL_BOOT, "rank %u has reached the root at %s", j->ctl->rank, text);
    j->reached = true;
    j->refused_ns = 0;
    j->why[0] = 0;
    send_join(j);
}

static void dial_root(struct mdl_timer *timer)
{
    struct join *j = mdl_container_of(timer, struct join, again);
    /* In short tries, so that there is a reason to tell; the last one ends before the whole does. */
    uint64_t now = mdl_now_ns(), until = now + DIAL_MS * MDL_NS_PER_MS;
    uint64_t last = j->ctl->init_deadline_ns - LAST_WORD_MS * MDL_NS_PER_MS;
    struct mdl_dial_args args = {
        .door = j->ctl->door,
        .secret = &j->id.secret,
        .purpose = MDL_PURPOSE_RENDEZVOUS,
        .rank = (int)j->ctl->rank,
        .expect_rank = -1,
        .addrs = j->id.addrs,
        .naddrs = j->id.naddrs,
        .deadline_ns = until < last || now >= last ? until : last,
        .retry_refused = j->id.flags & MDL_ID_FIXED,
        .share = true,
    };
    if (mdl_dial_start(&args, on_dialed, j, &j->dial) != medleySuccess) settle(j, medleySystemError, mdl_error_text());
}

static void begin(void *arg)
{
    struct join *j = arg;
    j->since_ns = mdl_now_ns();
    j->warn_ns = mdl_members_warn_ns(&j->ctl->cfg);
    j->again.fn = dial_root;
    j->warn.fn = on_warn;
    mdl_reactor_timer(j->ctl->reactor, &j->warn, j->since_ns + j->warn_ns);
    dial_root(&j->again);
}

static void stop(void *arg)
{
    struct join *j = arg;
    settle(j, medleyTimeout, "");
    mdl_dial_cancel(j->dial);
    j->dial = NULL;
    hang_up(j);
}

/* Meets the other ranks. */
static medleyResult_t meet(struct join *j)
{
    struct mdl_ctl *ctl = j->ctl;
    char text[MDL_ERROR_TEXT_BYTES];
    mdl_reactor_call(ctl->reactor, begin, j);
    enum mdl_ctl_ended ended = mdl_ctl_wait(ctl, &j->outcome, ctl->init_deadline_ns);
    mdl_reactor_call(ctl->reactor, stop, j);
    if (ended == MDL_CTL_ABORTED) return mdl_error(medleyRemoteError, "rank %u: joining was aborted", ctl->rank);
    if (ended == MDL_CTL_DONE && j->outcome.result != medleySuccess)
        return mdl_error(j->outcome.result, "%s", j->outcome.text);
    if (j->outcome.result == medleySuccess) return medleySuccess;
    describe(j, text, sizeof(text));
    return mdl_error(medleyTimeout, "rank %u of %u: %s: gave up after %.1f s (MEDLEY_INIT_TIMEOUT)", ctl->rank,
                     ctl->nranks, text, (double)ctl->cfg.init_timeout / 1000);
}

/* ---- the first all-gather ---- */

static medleyResult_t install(void *ctx, const uint8_t *blob, size_t len)
{
    return mdl_members_install(ctx, blob, len);
}

static medleyResult_t learn_members(struct mdl_ctl *ctl)
{
    uint8_t bytes[MDL_MEMBER_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_member *self = calloc(1, sizeof(*self));
    if (!self) return mdl_system_error(ENOMEM, "rank %u cannot join", ctl->rank);
    mdl_members_self(ctl, self);
    mdl_member_write(&w, self);
    free(self);
    struct mdl_gather_call call = {bytes, w.len, "exchange of addresses", install, ctl};
    return mdl_gather_run(ctl, &call, ctl->init_deadline_ns);
}

/* ---- one join at a time with MEDLEY_COMM_ID ---- */

static pthread_mutex_t active_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mdl_list active_joins = {&active_joins, &active_joins};

static medleyResult_t enter(struct join *j)
{
    bool busy = false;
    if (!(j->id.flags & MDL_ID_FIXED)) return medleySuccess;
    pthread_mutex_lock(&active_lock);
    mdl_list_each (it, &active_joins) {
        const struct join *other = mdl_container_of(it, struct join, link);
        busy |= other->ctl->pid == getpid() && other->ctl->rank == j->ctl->rank &&
                !sodium_memcmp(&other->id.secret, &j->id.secret, sizeof(j->id.secret));
    }
    if (!busy) mdl_list_append(&active_joins, &j->link);
    pthread_mutex_unlock(&active_lock);
    if (!busy) return medleySuccess;
    return mdl_error(
        medleyInvalidUsage,
        "rank %u of this process is joining another communicator through the same MEDLEY_COMM_ID right now: "
        "create them one after the other, or unset it and hand out ids from medleyGetUniqueId",
        j->ctl->rank);
}

static void leave(struct join *j)
{
    pthread_mutex_lock(&active_lock);
    if (j->link.next) mdl_list_remove(&j->link);
    pthread_mutex_unlock(&active_lock);
}

/* ---- roots of this process ---- */

/* The door of MEDLEY_COMM_ID's port; a former owner may need a moment to let go of it. */
static medleyResult_t open_fixed_door(const struct join *j, struct mdl_door **door)
{
    uint64_t until = mdl_now_ns() + mdl_members_warn_ns(&j->ctl->cfg);
    long ms = BIND_FIRST_MS;
    for (;;) {
        medleyResult_t result = mdl_id_door(&j->ctl->cfg, &j->id, door);
        if (result == medleySuccess) return result;
        if (result != medleySystemError || mdl_now_ns() >= until) {
            char why[MDL_ERROR_TEXT_BYTES];
            snprintf(why, sizeof(why), "%s", mdl_error_text());
            return mdl_error(result, "rank 0 cannot wait for the others at %s (MEDLEY_COMM_ID): %s", j->addrs, why);
        }
        MDL_INFO(MDL_BOOT, "rank 0 tries again to listen at %s", j->addrs);
        nanosleep(&(struct timespec){ms / 1000, ms % 1000 * (long)MDL_NS_PER_MS}, NULL);
        ms *= 2;
    }
}

static medleyResult_t host_fixed(const struct join *j, struct mdl_root **root)
{
    struct mdl_door *door;
    if (!(j->id.flags & MDL_ID_FIXED) || j->ctl->rank != 0) return medleySuccess;
    MDL_TRY(open_fixed_door(j, &door));
    return mdl_root_open(&j->ctl->cfg, &j->id, door, root);
}

/* Holds the roots that this process has of the ids, and joins them together. */
static medleyResult_t hold_roots(struct mdl_ctl *ctl, const struct mdl_boot_args *args)
{
    struct mdl_id first, id;
    medleyResult_t result = medleySuccess;
    ctl->roots = calloc((size_t)args->nids, sizeof(*ctl->roots));
    if (!ctl->roots) return mdl_system_error(ENOMEM, "rank %u cannot join", ctl->rank);
    for (int i = 0; i < args->nids && result == medleySuccess; i++) {
        result = mdl_id_read(&args->ids[i], i ? &id : &first);
        if (result != medleySuccess || (first.flags & MDL_ID_FIXED)) continue;
        struct mdl_root *root = mdl_root_find(i ? &id.secret : &first.secret);
        if (!root) continue;
        ctl->roots[ctl->nroots++] = root;
        if (i) mdl_root_attach(root, &first);
    }
    sodium_memzero(&first, sizeof(first));
    sodium_memzero(&id, sizeof(id));
    return result;
}

/* ---- the call ---- */

static medleyResult_t check_args(const struct mdl_boot_args *args)
{
    if (args->nranks < 1 || args->nranks > MDL_MAX_RANKS)
        return mdl_error(medleyInvalidArgument, "nranks is %d: 1 to %d are possible", args->nranks, MDL_MAX_RANKS);
    if (args->rank < 0 || args->rank >= args->nranks)
        return mdl_error(medleyInvalidArgument, "rank is %d: with nranks %d it must be 0 to %d", args->rank,
                         args->nranks, args->nranks - 1);
    if (!args->ids || args->nids < 1 || args->nids > args->nranks)
        return mdl_error(medleyInvalidArgument, "%d unique ids were given for %d ranks: 1 to %d are possible",
                         args->nids, args->nranks, args->nranks);
    return medleySuccess;
}

/* The id that this rank uses, and the first, from which the communicator's secrets come. */
static medleyResult_t read_ids(const struct mdl_boot_args *args, struct join *j, struct mdl_id *first)
{
    MDL_TRY(check_args(args));
    j->nids = (uint32_t)args->nids;
    j->index = (uint32_t)((uint64_t)args->rank * j->nids / (uint32_t)args->nranks);
    MDL_TRY(mdl_id_read(&args->ids[0], first));
    MDL_TRY(mdl_id_read(&args->ids[j->index], &j->id));
    if (j->nids > 1 && (first->flags | j->id.flags) & MDL_ID_FIXED)
        return mdl_error(medleyInvalidArgument, "an id from MEDLEY_COMM_ID cannot be one of several");
    mdl_id_addresses(&j->id, j->addrs, sizeof(j->addrs));
    return medleySuccess;
}

static void joined_inside(void *arg) { ((struct mdl_ctl *)arg)->joining = false; }
static void silence_inside(void *arg) { ((struct mdl_ctl *)arg)->args.on_fault = NULL; }

static medleyResult_t come_together(struct join *j, const struct mdl_id *first)
{
    struct mdl_ctl *ctl = j->ctl;
    struct mdl_root *own_root = NULL;
    MDL_INFO(MDL_BOOT, "rank %u of %u joins at %s", ctl->rank, ctl->nranks, j->addrs);
    medleyResult_t result = host_fixed(j, &own_root);
    if (result == medleySuccess) result = meet(j);
    if (result == medleySuccess) {
        MDL_INFO(MDL_BOOT, "rank %u: all %u ranks are there; exchanging addresses", ctl->rank, ctl->nranks);
        mdl_secret_derive(&first->secret, "communicator", j->comm_nonce, &ctl->secret);
        result = learn_members(ctl);
    }
    mdl_root_release(own_root);
    return result;
}

/* Tells those who are there already why this rank gives up. */
static void give_up(struct mdl_ctl *ctl, medleyResult_t code)
{
    char text[MDL_ERROR_TEXT_BYTES], why[MDL_ERROR_TEXT_BYTES];
    snprintf(why, sizeof(why), "%s", mdl_error_text());
    snprintf(text, sizeof(text), "rank %u gave up joining: %.470s", ctl->rank, why);
    mdl_reactor_call(ctl->reactor, silence_inside, ctl);
    mdl_ctl_fault(ctl, code, (int)ctl->rank, text);
    mdl_ctl_close(ctl);
    (void)mdl_error_set(code, why);
}

static medleyResult_t join_with(const struct mdl_boot_args *args, struct join *j, const struct mdl_id *first,
                                struct mdl_ctl **out)
{
    uint64_t service;
    randombytes_buf(&service, sizeof(service));
    randombytes_buf(j->nonce, sizeof(j->nonce));
    uint64_t since = mdl_now_ns();
    MDL_TRY(mdl_ctl_create(args, args->config, &first->secret, service, &j->ctl));
    medleyResult_t result = hold_roots(j->ctl, args);
    if (result == medleySuccess) result = enter(j);
    if (result == medleySuccess) result = come_together(j, first);
    leave(j);
    if (result != medleySuccess) {
        give_up(j->ctl, result);
        return result;
    }
    mdl_reactor_call(j->ctl->reactor, joined_inside, j->ctl);
    for (int i = 0; i < j->ctl->nroots; i++) mdl_root_settle(j->ctl->roots[i]);
    MDL_INFO(MDL_BOOT, "rank %u of %u has joined after %.1f ms", j->ctl->rank, j->ctl->nranks,
             (double)(mdl_now_ns() - since) / 1e6);
    *out = j->ctl;
    return medleySuccess;
}

medleyResult_t mdl_boot_join(const struct mdl_boot_args *args, struct mdl_ctl **ctl)
{
    struct mdl_id first;
    struct join *j = calloc(1, sizeof(*j));
    if (!j) return mdl_system_error(ENOMEM, "rank %d cannot join", args->rank);
    medleyResult_t result = read_ids(args, j, &first);
    if (result == medleySuccess) result = join_with(args, j, &first, ctl);
    sodium_memzero(&first, sizeof(first));
    sodium_memzero(j, sizeof(*j));
    free(j);
    return result;
}
