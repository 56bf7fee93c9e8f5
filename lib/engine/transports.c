/* SPDX-License-Identifier: Apache-2.0 */
/* Opens, closes and checks transports; default operations for what one of them lacks. */
#include "config.h"

#include "lib/engine/transports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- defaults ---- */

static medleyResult_t lacks(const char *what)
{
    return mdl_error(medleyInvalidUsage, "this transport does not support %s", what);
}

static medleyResult_t no_reg(void *ctx, const struct mdl_mem *mem, void **reg, uint8_t *key, size_t *key_len)
{
    *reg = NULL;
    *key_len = 0;
    return medleySuccess; /* nothing to register: send and recv take any memory */
}
static void no_dereg(void *ctx, void *reg) {}
static medleyResult_t no_map(void *ctx, int peer, uint64_t segment, void **addr, size_t *len)
{
    return lacks("mapping");
}
static void no_unmap(void *ctx, int peer, uint64_t segment) {}
static medleyResult_t no_get(void *ctx, int peer, uint64_t remote, void *local, size_t len)
{
    return lacks("single copy");
}
static medleyResult_t no_put(void *ctx, int peer, const struct mdl_message *msg, const uint8_t *key, size_t key_len,
                             uint64_t offset, uint32_t signal, struct mdl_request *req)
{
    return lacks("put");
}
static medleyResult_t no_flush(void *ctx, int peer, struct mdl_request *req) { return lacks("flush"); }
static void no_notify(void *ctx, int peer) {}
static medleyResult_t no_progress(void *ctx, int *events) { return medleySuccess; }
static medleyResult_t no_arm(void *ctx, int *fd)
{
    *fd = -1;
    return medleySuccess;
}
static void no_disarm(void *ctx) {}
static void no_abort(void *ctx) {}
static void no_settle(void *ctx) {}
static void no_link(void *ctx, int peer, struct mdl_link_info *info) { memset(info, 0, sizeof(*info)); }
static medleyResult_t no_probe(const struct mdl_config *config, char *why, size_t why_bytes) { return medleySuccess; }

const struct mdl_transport *mdl_transport_complete(const struct mdl_transport *t, struct mdl_transport *room)
{
    *room = *t;
#define DEFAULT(op)                                                                                                    \
    if (!room->op) room->op = no_##op
    DEFAULT(probe);
    DEFAULT(reg);
    DEFAULT(dereg);
    DEFAULT(map);
    DEFAULT(unmap);
    DEFAULT(get);
    DEFAULT(put);
    DEFAULT(flush);
    DEFAULT(notify);
    DEFAULT(progress);
    DEFAULT(arm);
    DEFAULT(disarm);
    DEFAULT(abort);
    DEFAULT(link);
    DEFAULT(settle);
#undef DEFAULT
    return room;
}

/* ---- names ---- */

bool mdl_transport_listed(const char *list, const char *name)
{
    size_t len = strlen(name);

    while (*list) {
        size_t n = strcspn(list, ", ");
        if (n == len && strncmp(list, name, n) == 0) return true;
        list += n;
        list += strspn(list, ", ");
    }
    return false;
}

static medleyResult_t check_list(const char *var, const char *list, const char *extra)
{
    char word[32];

    while (*(list += strspn(list, ", "))) {
        size_t n = strcspn(list, ", ");
        bool known = false;

        snprintf(word, sizeof(word), "%.*s", (int)n, list);
        for (int t = 0; mdl_transports[t]; t++) known |= strcmp(mdl_transports[t]->name, word) == 0;
        if (!known && !mdl_transport_listed(extra, word))
            return mdl_error(medleyInvalidArgument,
                             "%s names \"%s\", which is not known here; there are self, shm, tcp%s%s", var, word,
                             extra[0] ? "," : "", extra);
        list += n;
    }
    return medleySuccess;
}

medleyResult_t mdl_transports_check_names(const struct mdl_config *cfg)
{
    MDL_TRY(check_list("MEDLEY_TRANSPORT", cfg->transport.s, ""));
    return check_list("MEDLEY_REQUIRE", cfg->require.s, "map,cma");
}

/* ---- open and close ---- */

static void peer_lost(void *engine, int rank, medleyResult_t code, const char *why)
{
    struct mdl_comm *c = engine;
    struct mdl_diary_note note;
    char text[MDL_ERROR_TEXT_BYTES], call[MDL_CALL_TEXT_BYTES] = "no operation";

    if (code == medleyInvalidUsage) { /* it has left: whoever still needs it finds out (op.c, drive.c) */
        atomic_store_explicit(&c->gone[rank], 1, memory_order_relaxed);
        return;
    }
    if (mdl_diary_newest(&c->diary, &note)) mdl_call_text(&note.call, call);
    snprintf(text, sizeof(text), "rank %d (host %s) is lost: %s; rank %d was %s %s", rank, mdl_ctl_host(c->ctl, rank),
             why, c->rank, note.state == MDL_DIARY_DONE ? "after" : "in", call);
    mdl_comm_fail(c, code, rank, text, true);
}

static medleyResult_t open_one(struct mdl_comm *c, const struct mdl_transport *t, bool allowed)
{
    struct mdl_transport_use *use = &c->transport[c->ntransports];
    struct mdl_transport *room = calloc(1, sizeof(*room));
    struct mdl_transport_open args = {
        .size = sizeof(args),
        .rank = c->rank,
        .nranks = c->nranks,
        .config = &c->cfg,
        .name = c->cfg.comm_name.s,
        .abort_word = (const volatile uint32_t *)&c->abort_word,
        .segment_fd = mdl_segment_dup_fd,
        .peer_lost = peer_lost,
        .engine = c,
    };
    char why[160] = "";

    if (!room) return mdl_error(medleySystemError, "out of memory for transport %s", t->name);
    use->ops = mdl_transport_complete(t, room);
    c->ntransports++;
    if (!allowed) return medleySuccess; /* the slot stays, so that slots mean the same on all ranks */
    memcpy(args.secret, mdl_ctl_secret(c->ctl)->key, sizeof(args.secret));
    if (use->ops->request_size > c->request_bytes) c->request_bytes = (use->ops->request_size + 63) / 64 * 64;
    if (use->ops->probe(&c->cfg, why, sizeof(why)) != medleySuccess) {
        MDL_WARN(MDL_INIT, "rank %d: transport %s does not work here: %s", c->rank, t->name, why);
        atomic_fetch_add_explicit(&c->fallbacks, 1, memory_order_relaxed);
        return medleySuccess;
    }
    return use->ops->open(&args, &use->ctx);
}

medleyResult_t mdl_transports_open(struct mdl_comm *c)
{
    for (int t = 0; mdl_transports[t]; t++) {
        const char *name = mdl_transports[t]->name;
        bool allowed = strcmp(name, "self") == 0 || mdl_transport_listed(c->cfg.transport.s, name);

        if (c->nranks == 1 && strcmp(name, "self") != 0) continue;
        if (c->ntransports == MDL_MAX_TRANSPORTS)
            return mdl_error(medleyInvalidUsage, "more than %d transports", MDL_MAX_TRANSPORTS);
        MDL_TRY(open_one(c, mdl_transports[t], allowed));
    }
    return medleySuccess;
}

void mdl_transports_abort(struct mdl_comm *c)
{
    for (int t = 0; t < c->ntransports; t++) {
        if (c->transport[t].ctx) c->transport[t].ops->abort(c->transport[t].ctx);
    }
}

void mdl_transports_settle(struct mdl_comm *c)
{
    for (int t = 0; t < c->ntransports; t++) {
        struct mdl_transport_use *use = &c->transport[t];
        if (!use->ctx) continue;
        if (use->used || use == c->map_transport) {
            use->ops->settle(use->ctx);
        } else {
            use->ops->close(use->ctx);
            use->ctx = NULL;
        }
    }
}

void mdl_transports_close(struct mdl_comm *c)
{
    for (int t = 0; t < c->ntransports; t++) {
        if (c->transport[t].ctx) c->transport[t].ops->close(c->transport[t].ctx);
        free((void *)(uintptr_t)c->transport[t].ops);
        free(c->transport[t].reach);
    }
    c->ntransports = 0;
}

/* ---- MEDLEY_REQUIRE ---- */

static medleyResult_t refuse(const struct mdl_comm *c, const char *what, int r, const char *why)
{
    return mdl_error(medleyInvalidUsage, "MEDLEY_REQUIRE demands %s, but rank %d (host %s) and rank %d (host %s) %s",
                     what, c->rank, c->facts[c->rank].host, r, c->facts[r].host, why);
}

medleyResult_t mdl_transports_check_required(struct mdl_comm *c)
{
    const char *need = c->cfg.require.s;

    for (int r = 0; r < c->nranks; r++) {
        const struct mdl_transport_use *use = &c->transport[c->via[r]];
        bool local = strcmp(c->facts[r].host, c->facts[c->rank].host) == 0;
        const char *via = use->ops->name;

        if (r == c->rank) continue;
        if (mdl_transport_listed(need, "shm") && local && strcmp(via, "shm") != 0)
            return refuse(c, "shm", r, "of the same host name cannot hand each other memory");
        if (mdl_transport_listed(need, "tcp") && strcmp(via, "tcp") != 0)
            return refuse(c, "tcp", r, "use another transport");
        if (strcmp(via, "shm") != 0 && !local) continue;
        if (mdl_transport_listed(need, "cma") && !(use->reach[r] & MDL_REACH_GET))
            return refuse(c, "cma", r, "may not read each other's memory (process_vm_readv is denied or MEDLEY_CMA=0)");
        if (mdl_transport_listed(need, "map") &&
            (!(use->reach[r] & MDL_REACH_MAP) || !c->facts[r].board_segment || !c->facts[c->rank].board_segment))
            return refuse(c, "map", r, "cannot map each other's memory");
    }
    return medleySuccess;
}
