/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a native communicator comes to be: every rank tells what it has, all decide the same from that, rank 0 has the
 * vendor make an id, which travels over the control plane, and all call the vendor's init. It counts when all have told
 * that it went well; else nobody has one, and the communicator works without.
 *
 * A rank on which the vendor's init fails tells rank 0, and that all others, since theirs may wait for it for ever.
 */
#include "config.h"

#include "lib/engine/ask.h"
#include "lib/engine/comm.h"
#include "lib/engine/exchange.h"
#include "lib/engine/facts.h"
#include "lib/engine/native.h"
#include "lib/engine/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WANTED = 1, BOUND = 2, WAIT_MS = 20 };

/* ---- what a rank tells ---- */

void mdl_native_row_write(struct mdl_writer *w, const struct mdl_native_row *row)
{
    mdl_write_u32(w, (row->wanted ? WANTED : 0) | (row->bound ? BOUND : 0));
    mdl_write_u32(w, row->caps.colls);
    mdl_write_u32(w, row->caps.ways);
    mdl_write_u32(w, row->caps.id_bytes);
    mdl_write_u32(w, row->caps.version);
    for (int i = 0; i < medleyNumOps; i++) mdl_write_u32(w, row->caps.reduces[i]);
    mdl_write_bytes(w, row->name, sizeof(row->name));
    mdl_write_bytes(w, row->pci, sizeof(row->pci));
}

medleyResult_t mdl_native_row_read(struct mdl_reader *r, struct mdl_native_row *row)
{
    uint32_t state = mdl_read_u32(r);

    *row = (struct mdl_native_row){.wanted = (state & WANTED) != 0, .bound = (state & BOUND) != 0};
    row->caps.colls = mdl_read_u32(r);
    row->caps.ways = mdl_read_u32(r);
    row->caps.id_bytes = mdl_read_u32(r);
    row->caps.version = mdl_read_u32(r);
    for (int i = 0; i < medleyNumOps; i++) row->caps.reduces[i] = mdl_read_u32(r);
    mdl_read_bytes(r, row->name, sizeof(row->name));
    mdl_read_bytes(r, row->pci, sizeof(row->pci));
    row->name[sizeof(row->name) - 1] = row->pci[sizeof(row->pci) - 1] = 0;
    if (r->bad || row->caps.id_bytes > MDL_NATIVE_ID_BYTES)
        return mdl_error(medleyRemoteError, "a rank's description of its collective library is damaged");
    return medleySuccess;
}

void mdl_native_tell(const struct mdl_comm *c, const struct mdl_native **ops, struct mdl_native_row *row)
{
    const struct mdl_dev *dev = &c->stager->dev;
    const uint32_t needed = MDL_DEV_EVENTS | MDL_DEV_POINTERS;
    struct mdl_device_info info = {0};
    char text[768] = "";

    *row = (struct mdl_native_row){.wanted = c->cfg.native};
    *ops = row->wanted && (dev->caps & needed) == needed ? mdl_dev_native(&c->cfg, dev->ops, text, sizeof(text)) : NULL;
    MDL_INFO(MDL_INIT, "rank %d: collectives of %s: %s", c->rank, dev->ops->vendor, text[0] ? text : "not asked for");
    if (!*ops) return;
    row->bound = true;
    row->caps = *(*ops)->caps(*ops);
    snprintf(row->name, sizeof(row->name), "%s", (*ops)->name);
    if (dev->ops->info(dev->ops, dev->ordinal, &info) == medleySuccess)
        snprintf(row->pci, sizeof(row->pci), "%.31s", info.pci);
}

/* ---- what all decide ---- */

/* Where the vendor does not tell PCI numbers, its own stand for them. */
static bool share_device(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int a, int b)
{
    if (!mdl_facts_share_machine(&facts[a], &facts[b])) return false;
    if (rows[a].pci[0] && rows[b].pci[0]) return strcmp(rows[a].pci, rows[b].pci) == 0;
    return strcmp(facts[a].device, facts[b].device) == 0;
}

/* Of a vendor of which a process can have one rank only. */
static bool share_process(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int a, int b)
{
    if (!((rows[a].caps.ways | rows[b].caps.ways) & MDL_NATIVE_ONE_RANK)) return false;
    return mdl_facts_share_machine(&facts[a], &facts[b]) && facts[a].pid == facts[b].pid;
}

bool mdl_native_is_taken(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int a, int b)
{
    return share_device(rows, facts, a, b) || share_process(rows, facts, a, b);
}

static bool find_obstacle(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int n, char *why,
                          size_t bytes)
{
    bool any = false;

    for (int r = 0; r < n; r++) any |= rows[r].bound;
    for (int r = 0; r < n; r++) {
        const struct mdl_native_row *row = &rows[r];
        if (!row->wanted) {
            snprintf(why, bytes, "MEDLEY_NATIVE is 0 on rank %d", r);
            return false;
        }
        if (!row->bound) {
            snprintf(why, bytes, "rank %d (host %s) has no library for %s", r, facts[r].host, facts[r].device);
            return any;
        }
        if (strcmp(row->name, rows[0].name) != 0 || row->caps.version != rows[0].caps.version ||
            row->caps.id_bytes != rows[0].caps.id_bytes) {
            snprintf(why, bytes, "rank 0 (host %s) has %s version %u, rank %d (host %s) has %s version %u", facts[0].host,
                     rows[0].name, rows[0].caps.version, r, facts[r].host, row->name, row->caps.version);
            return true;
        }
        for (int other = 0; other < r; other++) {
            bool device = share_device(rows, facts, other, r), process = share_process(rows, facts, other, r);
            if (!device && !process) continue;
            snprintf(why, bytes, "ranks %d and %d (host %s) are %s", other, r, facts[r].host,
                     device ? "on one device" : "in one process, which the library does not allow");
            return !device;
        }
    }
    return false;
}

void mdl_native_join_caps(struct mdl_native_caps *caps, const struct mdl_native_caps *other)
{
    const uint32_t abilities = MDL_NATIVE_GROUPS | MDL_NATIVE_ABORT | MDL_NATIVE_FACTORS; /* all other ways are limits */

    caps->colls &= other->colls;
    caps->ways = ((caps->ways & other->ways) & abilities) | ((caps->ways | other->ways) & ~abilities);
    for (int op = 0; op < medleyNumOps; op++) caps->reduces[op] &= other->reduces[op];
}

bool mdl_native_decide(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int n,
                       struct mdl_native_caps *caps, char *why, size_t why_bytes)
{
    bool loud;

    why[0] = 0;
    loud = find_obstacle(rows, facts, n, why, why_bytes);
    *caps = rows[0].caps;
    for (int r = 1; r < n; r++) mdl_native_join_caps(caps, &rows[r].caps);
    return loud;
}

medleyResult_t mdl_native_exchange_rows(struct mdl_comm *c, const struct mdl_native_row *mine,
                                        struct mdl_native_row *rows, uint64_t deadline_ns)
{
    uint8_t bytes[MDL_NATIVE_ROW_BYTES] = {0}, *all;
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    medleyResult_t res = medleySuccess;

    mdl_native_row_write(&w, mine);
    MDL_TRY(mdl_exchange_bytes(c, bytes, sizeof(bytes), deadline_ns, "collective libraries", &all));
    for (int r = 0; res == medleySuccess && r < c->nranks; r++) {
        struct mdl_reader rd = {.p = all + (size_t)r * sizeof(bytes), .left = sizeof(bytes)};
        res = mdl_native_row_read(&rd, &rows[r]);
    }
    free(all);
    return res;
}

static medleyResult_t agree_on(struct mdl_comm *c, const struct mdl_native_row *mine, struct mdl_native_caps *caps,
                               bool *go, uint64_t deadline_ns)
{
    struct mdl_native_row *rows = calloc((size_t)c->nranks, sizeof(*rows));
    char why[256];
    medleyResult_t res;

    if (!rows) return mdl_error(medleySystemError, "out of memory for %d ranks", c->nranks);
    res = mdl_native_exchange_rows(c, mine, rows, deadline_ns);
    if (res == medleySuccess) {
        bool loud = mdl_native_decide(rows, c->facts, c->nranks, caps, why, sizeof(why));
        *go = !why[0];
        if (loud && c->rank == 0)
            MDL_WARN(MDL_INIT, "calls do not pass through to the vendor's library: %s", why);
        else if (!*go)
            MDL_INFO(MDL_INIT, "rank %d: calls do not pass through to the vendor's library: %s", c->rank, why);
    }
    free(rows);
    return res;
}

/* ---- the id ---- */

/* A byte that says whether there is one, then the id. */
static medleyResult_t share_id(struct mdl_comm *c, const struct mdl_native *ops, size_t len, uint8_t *id, bool *go,
                               uint64_t deadline_ns)
{
    uint8_t *mine = calloc(1 + len, 1), *all = NULL;
    struct mdl_dev_visit visit;
    medleyResult_t res;

    if (!mine) return mdl_error(medleySystemError, "out of memory for an id");
    if (c->rank == 0 && mdl_dev_enter(&c->stager->dev, &visit) == medleySuccess) {
        mine[0] = ops->get_id(ops, mine + 1) == medleySuccess;
        mdl_dev_leave(&c->stager->dev, &visit);
    }
    res = mdl_exchange_bytes(c, mine, 1 + len, deadline_ns, "the vendor's id", &all);
    *go = res == medleySuccess && all[0];
    if (*go) memcpy(id, all + 1, len);
    free(mine);
    free(all);
    return res;
}

/* ---- the vendor's init ---- */

struct start {
    const struct mdl_native *ops;
    struct mdl_dev dev;
    int nranks, rank;
    void *comm;
    medleyResult_t res;
    char text[MDL_ERROR_TEXT_BYTES];
    uint8_t id[MDL_NATIVE_ID_BYTES];
};

static void start_main(void *arg)
{
    struct start *s = arg;

    s->res = s->dev.ops->enter(s->dev.ops, s->dev.ordinal);
    if (s->res == medleySuccess)
        s->res = s->ops->init(s->ops, s->id, s->nranks, s->rank, s->dev.ordinal, &s->comm);
    if (s->res != medleySuccess) snprintf(s->text, sizeof(s->text), "%s", mdl_error_text());
}

/* It came after all, when nobody waited for it any more. On its own thread, with the device entered. */
static void drop_start(void *arg)
{
    struct start *s = arg;
    bool aborts = (s->ops->caps(s->ops)->ways & MDL_NATIVE_ABORT) != 0;

    if (s->res == medleySuccess) (void)(aborts ? s->ops->abort : s->ops->destroy)(s->ops, s->comm);
    free(s);
}

static void refused(void *comm, int src, const uint8_t *payload, size_t len)
{
    struct mdl_comm *c = comm;

    if (atomic_exchange_explicit(&c->native_refused, true, memory_order_acq_rel)) return; /* pairs with wait_for_start */
    for (int r = 1; c->rank == 0 && r < c->nranks; r++) (void)mdl_ctl_send(c->ctl, r, MDL_MSG_NATIVE, NULL, 0);
}

static bool wait_for_start(struct mdl_comm *c, struct mdl_aside *aside, uint64_t deadline_ns)
{
    bool done = false;

    while (!done && mdl_now_ns() < deadline_ns && !mdl_comm_failed(c) &&
           !atomic_load_explicit(&c->native_refused, memory_order_acquire)) /* pairs with refused */
        done = mdl_aside_wait(aside, mdl_now_ns() + WAIT_MS * MDL_NS_PER_MS);
    return done;
}

/* True: *comm is the vendor's. What failed is in the log. *stuck: it was left behind. */
static bool start(struct mdl_comm *c, struct start *s, uint64_t deadline_ns, void **comm, bool *stuck)
{
    struct mdl_aside *aside = mdl_aside_start(start_main, s);
    bool ok;

    *stuck = false;

    if (!aside) {
        free(s);
        return false;
    }
    if (!wait_for_start(c, aside, deadline_ns))
        MDL_WARN(MDL_INIT, "rank %d: %s has not made its communicator: it is left behind", c->rank, s->ops->name);
    *stuck = !mdl_aside_end(aside, drop_start);
    if (*stuck) return false;
    ok = s->res == medleySuccess;
    *comm = s->comm;
    if (!ok) MDL_WARN(MDL_INIT, "rank %d: %s", c->rank, s->text);
    free(s);
    return ok;
}

/* What a late rank uses up must leave time for the last exchange. */
static uint64_t most_of(uint64_t deadline_ns)
{
    uint64_t now = mdl_now_ns();

    return now < deadline_ns ? now + (deadline_ns - now) / 4 * 3 : deadline_ns;
}

/* By which ranks of one thread find each other; ids are the vendor's random numbers, mostly. */
static uint64_t key_of(const uint8_t *id, size_t len)
{
    uint64_t key = 14695981039346656037u;

    for (size_t i = 0; i < len; i++) key = (key ^ id[i]) * 1099511628211u;
    return key;
}

/* False is as if the vendor's communicator could not be made. */
static bool has_stream(struct mdl_native_comm *n, const struct mdl_native_caps *caps)
{
    const struct mdl_device *d = n->dev.ops;
    struct mdl_dev_visit visit;
    bool made;

    if (!(caps->ways & MDL_NATIVE_STREAM)) return true;
    if (mdl_dev_enter(&n->dev, &visit) != medleySuccess) return false;
    made = d->stream_create(d, &n->own) == medleySuccess;
    mdl_dev_leave(&n->dev, &visit);
    return made;
}

bool mdl_native_start(struct mdl_comm *c, struct mdl_native_comm *n, const uint8_t *id, int nranks, int rank,
                      uint64_t deadline_ns)
{
    struct start *s = calloc(1, sizeof(*s));
    bool stuck;

    if (!s || !has_stream(n, &n->caps)) {
        free(s);
        return false;
    }
    *s = (struct start){.ops = n->ops, .dev = n->dev, .nranks = nranks, .rank = rank};
    memcpy(s->id, id, n->caps.id_bytes);
    n->key = key_of(id, n->caps.id_bytes);
    return start(c, s, most_of(deadline_ns), &n->comm, &stuck);
}

static medleyResult_t make(struct mdl_comm *c, const struct mdl_native *ops, const struct mdl_native_caps *caps,
                           uint64_t deadline_ns)
{
    struct mdl_native_comm *n = mdl_native_new(ops, &c->stager->dev);
    struct start *s = calloc(1, sizeof(*s));
    bool ordered = (caps->ways & MDL_NATIVE_ORDERED) != 0, go = false, mine = false, stuck = false;
    medleyResult_t res;

    if (!n || !s) {
        res = mdl_error(medleySystemError, "out of memory for a communicator of %s", ops->name);
        goto free_both;
    }
    *s = (struct start){.ops = ops, .dev = c->stager->dev, .nranks = c->nranks, .rank = c->rank};
    mdl_ctl_handle(c->ctl, MDL_MSG_NATIVE, refused, c);
    res = share_id(c, ops, caps->id_bytes, s->id, &go, deadline_ns);
    if (res != medleySuccess || !go) goto free_both;
    n->key = key_of(s->id, caps->id_bytes);
    if (ordered) res = mdl_native_turn_begin(c, n->key, most_of(deadline_ns), deadline_ns, &go);
    if (res != medleySuccess || !go) goto free_both;
    if (has_stream(n, caps)) {
        mine = start(c, s, most_of(deadline_ns), &n->comm, &stuck);
        s = NULL;
    }
    if (ordered) mdl_native_turn_end(stuck);
    if (!mine) (void)mdl_ctl_send(c->ctl, 0, MDL_MSG_NATIVE, NULL, 0);
    res = mdl_exchange_vote(c, mine, deadline_ns, "the vendor's communicator", &go);
    if (go) {
        n->caps = *caps;
        __atomic_store_n(&c->native, n, __ATOMIC_RELEASE); /* pairs with mdl_native_abort */
        if (mdl_comm_failed(c)) mdl_native_abort(c);
    } else if (mine) {
        (void)mdl_native_end(n, c->rank, true);
    }
    if (mine) n = NULL;
    if (!go && res == medleySuccess)
        MDL_WARN(MDL_INIT, "rank %d: calls do not pass through to %s, which could not make its communicator", c->rank,
                 ops->name);
free_both:
    free(s);
    if (n) mdl_native_drop(n);
    return res;
}

medleyResult_t mdl_native_open(struct mdl_comm *c, uint64_t deadline_ns)
{
    const struct mdl_native *ops;
    struct mdl_native_caps caps;
    struct mdl_native_row row;
    bool go = false;

    if (c->cfg.deterministic || !mdl_exchange_same_vendor(c)) return medleySuccess;
    mdl_native_tell(c, &ops, &row);
    MDL_TRY(agree_on(c, &row, &caps, &go, deadline_ns));
    if (!go) return medleySuccess;
    MDL_TRY(make(c, ops, &caps, deadline_ns));
    if (!c->native) return medleySuccess;
    c->quick = 0; /* payloads of the device are not for lines */
    MDL_INFO(MDL_INIT, "rank %d: calls pass through to %s version %u", c->rank, ops->name, caps.version);
    return medleySuccess;
}
