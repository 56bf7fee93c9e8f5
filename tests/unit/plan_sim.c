/* SPDX-License-Identifier: Apache-2.0 */
/* An executor for tests, small and slow: at every step it lists all that could happen next and takes one at random. */
#include "config.h"
#include "tests/unit/plan_sim.h"
#include <stdio.h>

enum flag { HELD = 1, ROUNDED = 2, FINAL = 4, FACTOR = 8, BAD = 16 };

struct cell {
    uint64_t tree; /* differs for any other expression */
    uint64_t sum;  /* of the inputs in it */
    unsigned flags;
};

enum state { IDLE, STARTED, SENT, DONE };

struct sim {
    const struct call *call;
    int n;
    uint32_t parts, in_slots, out_slots;
    bool rounds, whole, in_place[CALL_RANKS];
    uint64_t seed;
    struct cell *in[CALL_RANKS], *out[CALL_RANKS], *scratch[CALL_RANKS];
    struct cell *result[CALL_RANKS];
    enum state *state[CALL_RANKS];
    struct cell **data[CALL_RANKS]; /* what an instruction has read or a message carries */
    bool *eager[CALL_RANKS];
    bool begun[CALL_RANKS], left[CALL_RANKS];
    char *why;
    size_t why_bytes;
    bool wrong;
};

uint64_t sim_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t state = a * 0xc2b2ae3d27d4eb4full + b;
    return sim_random(&state);
}

static void wrong(struct sim *s, const char *what, int rank)
{
    if (!s->wrong) snprintf(s->why, s->why_bytes, "%s (rank %d)", what, rank);
    s->wrong = true;
}

/* ---- memory ---- */

static struct cell leaf(uint32_t rank, uint32_t slot, uint32_t part)
{
    uint64_t id = mix(mix(rank + 1, slot + 1), part + 1);
    return (struct cell){id, id, HELD};
}

static struct cell junk(struct sim *s) { return (struct cell){sim_random(&s->seed), sim_random(&s->seed), 0}; }

static struct cell *cell_at(struct sim *s, const struct mdl_ref *ref, uint32_t slot, uint32_t part)
{
    if (ref->buf == MDL_IN) return &s->in[ref->rank][slot * s->parts + part];
    if (ref->buf == MDL_SCRATCH) return &s->scratch[ref->rank][(slot * 2 + (ref->acc && s->rounds)) * s->parts + part];
    uint32_t in = s->in_place[ref->rank] ? mdl_collective_alias(&s->call->coll, (int)ref->rank, slot) : MDL_NO_SLOT;
    if (in != MDL_NO_SLOT) return &s->in[ref->rank][in * s->parts + part];
    return &s->out[ref->rank][slot * s->parts + part];
}

static uint32_t ref_cells(const struct mdl_ref *ref) { return ref->slots * (ref->hi - ref->lo); }

static struct cell *nth_cell(struct sim *s, const struct mdl_ref *ref, uint32_t k)
{
    uint32_t width = ref->hi - ref->lo;
    return cell_at(s, ref, ref->slot + k / width, ref->lo + k % width);
}

/* Elements and partials of a slot share bytes: writing one ruins the other. */
static void write_cells(struct sim *s, const struct mdl_ref *ref, const struct cell *data)
{
    for (uint32_t k = 0; k < ref_cells(ref); k++) *nth_cell(s, ref, k) = data[k];
    struct mdl_ref other = *ref;
    other.acc = !ref->acc;
    for (uint32_t q = 0; ref->buf == MDL_SCRATCH && s->rounds && q < ref->slots; q++)
        for (uint32_t p = 0; p < s->parts; p++) *cell_at(s, &other, ref->slot + q, p) = junk(s);
}

static void scribble(struct sim *s, struct cell *cells, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) cells[k] = junk(s);
}

static uint32_t scratch_cells(const struct sim *s, int r) { return s->call->plans[r]->scratch_slots * 2 * s->parts; }

/* ---- arithmetic ---- */

static struct cell join(const struct sim *s, struct cell a, struct cell b)
{
    unsigned flags = (a.flags & b.flags & HELD) | ((a.flags | b.flags) & (BAD | FACTOR));
    if ((a.flags | b.flags) & (FINAL | ROUNDED)) flags |= BAD;
    if (!(a.flags & b.flags & FACTOR) && s->call->coll.premul) flags |= BAD;
    return (struct cell){mix(a.tree, b.tree), a.sum + b.sum, flags};
}

static struct cell tree(const struct sim *s, const struct cell *v, uint32_t n)
{
    uint32_t left = 1;
    if (n == 1) return v[0];
    while (left * 2 < n) left *= 2;
    return join(s, tree(s, v, left), tree(s, v + left, n - left));
}

static struct cell fold(const struct sim *s, const struct mdl_inst *in, const struct cell *v)
{
    struct cell x = v[0];
    for (uint32_t k = 1; k < in->nsrc && !(in->flags & MDL_INST_TREE); k++) x = join(s, x, v[k]);
    if (in->flags & MDL_INST_TREE) x = tree(s, v, in->nsrc);
    if (in->flags & MDL_INST_PREMUL) {
        if (x.flags & (FACTOR | FINAL | ROUNDED)) x.flags |= BAD;
        x.flags |= FACTOR;
        x.tree = mix(x.tree, 3);
    }
    if (in->flags & MDL_INST_FINAL) {
        if (x.flags & (FINAL | ROUNDED)) x.flags |= BAD;
        x.flags |= FINAL;
        x.tree = mix(x.tree, 1);
    }
    bool plain = in->nsrc == 1 && !in->flags;
    if (!in->dst.acc && s->rounds && !plain && !(x.flags & ROUNDED)) {
        x.flags |= ROUNDED;
        x.tree = mix(x.tree, 2);
    }
    return x;
}

/* ---- events ---- */

static const struct mdl_inst *inst_of(const struct sim *s, int r, uint32_t i) { return &s->call->plans[r]->insts[i]; }

static bool same_lane(const struct mdl_inst *a, const struct mdl_inst *b)
{
    return a->op == b->op && a->peer == b->peer && a->channel == b->channel;
}

static bool has_lane(const struct mdl_inst *in) { return in->op != MDL_OP_COPY && in->op != MDL_OP_REDUCE; }

static bool can_start(const struct sim *s, int r, uint32_t i)
{
    const struct mdl_inst *in = inst_of(s, r, i);
    if (!s->begun[r] || s->state[r][i] != IDLE) return false;
    for (uint32_t k = 0; k < in->ndep; k++)
        if (s->state[r][s->call->plans[r]->deps[in->dep + k]] != DONE) return false;
    for (uint32_t k = 0; k < i && has_lane(in); k++)
        if (same_lane(inst_of(s, r, k), in) && s->state[r][k] == IDLE) return false;
    return true;
}

/* The peer's instruction that meets this one. */
static uint32_t partner(const struct sim *s, int r, uint32_t i)
{
    static const unsigned other[] = {[MDL_OP_SEND] = MDL_OP_RECV,
                                     [MDL_OP_RECV] = MDL_OP_SEND,
                                     [MDL_OP_SIGNAL] = MDL_OP_WAIT,
                                     [MDL_OP_WAIT] = MDL_OP_SIGNAL};
    const struct mdl_inst *in = inst_of(s, r, i);
    const struct mdl_plan *peer = s->call->plans[in->peer];
    struct mdl_inst want = {.op = (uint8_t)other[in->op], .peer = (uint32_t)r, .channel = in->channel};
    uint32_t nth = 0;
    for (uint32_t k = 0; k < i; k++) nth += same_lane(inst_of(s, r, k), in);
    for (uint32_t k = 0; k < peer->ninsts; k++)
        if (same_lane(&peer->insts[k], &want) && nth-- == 0) return k;
    return UINT32_MAX;
}

static bool can_step(const struct sim *s, int r, uint32_t i)
{
    const struct mdl_inst *in = inst_of(s, r, i);
    if (s->state[r][i] != STARTED && s->state[r][i] != SENT) return false;
    if (!has_lane(in)) return true;
    uint32_t k = partner(s, r, i);
    if (in->op == MDL_OP_SEND) return s->eager[r][i] || (k != UINT32_MAX && s->state[in->peer][k] != IDLE);
    if (k == UINT32_MAX) return false;
    return in->op == MDL_OP_RECV ? s->data[in->peer][k] != NULL : s->state[in->peer][k] == DONE;
}

static struct cell *read_sources(struct sim *s, int r, uint32_t i)
{
    const struct mdl_inst *in = inst_of(s, r, i);
    const struct mdl_ref *src = s->call->plans[r]->refs + in->src;
    uint32_t cells = ref_cells(src);
    struct cell *data = calloc(cells, sizeof(*data)), *v = calloc(in->nsrc, sizeof(*v));
    for (uint32_t c = 0; c < cells; c++) {
        for (uint32_t k = 0; k < in->nsrc; k++) v[k] = *nth_cell(s, &src[k], c);
        data[c] = in->op == MDL_OP_SEND ? v[0] : fold(s, in, v);
    }
    free(v);
    return data;
}

static void start(struct sim *s, int r, uint32_t i)
{
    const struct mdl_inst *in = inst_of(s, r, i);
    s->state[r][i] = in->op == MDL_OP_SIGNAL ? DONE : STARTED;
    if (!has_lane(in)) s->data[r][i] = read_sources(s, r, i);
}

static void step(struct sim *s, int r, uint32_t i)
{
    const struct mdl_inst *in = inst_of(s, r, i);
    if (in->op == MDL_OP_SEND && s->state[r][i] == STARTED) {
        s->data[r][i] = read_sources(s, r, i);
        s->state[r][i] = SENT;
        return;
    }
    if (in->op == MDL_OP_RECV) write_cells(s, &in->dst, s->data[in->peer][partner(s, r, i)]);
    if (!has_lane(in)) write_cells(s, &in->dst, s->data[r][i]);
    s->state[r][i] = DONE;
}

static void begin(struct sim *s, int r)
{
    if (!s->whole) scribble(s, s->scratch[r], scratch_cells(s, r));
    s->begun[r] = true;
}

static bool can_leave(const struct sim *s, int r)
{
    if (!s->begun[r] || s->left[r]) return false;
    for (uint32_t i = 0; i < s->call->plans[r]->ninsts; i++)
        if (s->state[r][i] != DONE) return false;
    return true;
}

static void leave(struct sim *s, int r)
{
    struct mdl_ref ref = {.rank = (uint32_t)r, .buf = MDL_OUT, .slots = 1, .hi = s->parts};
    for (ref.slot = 0; ref.slot < s->out_slots; ref.slot++)
        for (uint32_t p = 0; p < s->parts; p++) s->result[r][ref.slot * s->parts + p] = *cell_at(s, &ref, ref.slot, p);
    scribble(s, s->in[r], s->in_slots * s->parts);
    scribble(s, s->out[r], s->out_slots * s->parts);
    if (!s->whole) scribble(s, s->scratch[r], scratch_cells(s, r));
    s->left[r] = true;
    for (int q = 0; q < s->n && s->call->coll.coll == medleyCollBarrier; q++)
        if (!s->begun[q]) wrong(s, "left the barrier early", r);
}

/* ---- the scheduler ---- */

struct event {
    int kind, rank; /* 0: begin, 1: start, 2: step, 3: leave */
    uint32_t inst;
};

/* Reservoir sampling over all that can happen; sluggish ranks and instructions are passed over most of the time. */
static bool pick(struct sim *s, uint64_t sluggish, struct event *e)
{
    uint64_t seen = 0;
    for (int r = 0; r < s->n; r++) {
        uint32_t ninsts = s->call->plans[r]->ninsts;
        for (uint32_t i = 0; i < ninsts + 2; i++) {
            struct event x = {0, r, i};
            if (i < ninsts && can_start(s, r, i))
                x.kind = 1;
            else if (i < ninsts && can_step(s, r, i))
                x.kind = 2;
            else if (i == ninsts && can_leave(s, r))
                x.kind = 3;
            else if (i < ninsts + 1 || s->begun[r])
                continue;
            uint64_t weight = mix(sluggish, (uint64_t)r << 32 | i | (uint64_t)x.kind << 60) % 4 ? 64 : 1;
            seen += weight;
            if (sim_random(&s->seed) % seen < weight) *e = x;
        }
    }
    return seen > 0;
}

static void happen(struct sim *s, const struct event *e)
{
    switch (e->kind) {
    case 0: begin(s, e->rank); break;
    case 1: start(s, e->rank, e->inst); break;
    case 2: step(s, e->rank, e->inst); break;
    default: leave(s, e->rank);
    }
}

/* ---- results ---- */

static void check_reduced(struct sim *s, int r, uint32_t p)
{
    bool all = s->call->coll.coll == medleyCollAllReduce || s->call->coll.coll == medleyCollReduce;
    uint32_t slot = all ? 0 : (uint32_t)r;
    const struct cell *x = &s->result[r][p], *first = &s->result[0][p];
    uint64_t sum = 0;
    for (int q = 0; q < s->n; q++) sum += leaf((uint32_t)q, slot, p).sum;
    if (x->sum != sum || !(x->flags & HELD)) wrong(s, "wrong sum", r);
    if (x->flags & BAD || !(x->flags & FINAL)) wrong(s, "not final once, or rounded on the way", r);
    if (s->call->coll.coll == medleyCollAllReduce && x->tree != first->tree) wrong(s, "another order", r);
}

static void check_moved(struct sim *s, int r, uint32_t slot, uint32_t p)
{
    uint32_t root = (uint32_t)s->call->coll.root, me = (uint32_t)r;
    struct cell want = leaf(slot, 0, p);
    if (s->call->coll.coll == medleyCollBroadcast) want = leaf(root, 0, p);
    if (s->call->coll.coll == medleyCollScatter) want = leaf(root, me, p);
    if (s->in_slots > 1 && s->out_slots > 1) want = leaf(slot, me, p);
    if (s->result[r][slot * s->parts + p].tree != want.tree) wrong(s, "wrong data", r);
}

static void check_results(struct sim *s)
{
    for (int r = 0; r < s->n; r++) {
        if (!s->left[r]) wrong(s, "hangs", r);
        if (!mdl_collective_has(&s->call->coll, r, MDL_OUT)) continue;
        for (uint32_t slot = 0; slot < s->out_slots && !s->wrong; slot++)
            for (uint32_t p = 0; p < s->parts; p++) {
                if (mdl_collective_reduces(&s->call->coll))
                    check_reduced(s, r, p);
                else
                    check_moved(s, r, slot, p);
            }
    }
}

/* ---- a run ---- */

static void sim_init(struct sim *s)
{
    uint64_t mode = sim_random(&s->seed) % 4;
    mdl_collective_slots(&s->call->coll, s->n, &s->in_slots, &s->out_slots);
    for (int r = 0; r < s->n; r++) {
        const struct mdl_plan *p = s->call->plans[r];
        s->in_place[r] = !s->call->coll.facts.apart && (mode == 1 || (mode > 1 && sim_random(&s->seed) % 2));
        s->in[r] = calloc(s->in_slots * s->parts + 1, sizeof(struct cell));
        s->out[r] = calloc(s->out_slots * s->parts + 1, sizeof(struct cell));
        s->result[r] = calloc(s->out_slots * s->parts + 1, sizeof(struct cell));
        s->scratch[r] = calloc(scratch_cells(s, r) + 1, sizeof(struct cell));
        s->state[r] = calloc(p->ninsts + 1, sizeof(enum state));
        s->data[r] = calloc(p->ninsts + 1, sizeof(struct cell *));
        s->eager[r] = calloc(p->ninsts + 1, sizeof(bool));
        for (uint32_t i = 0; i < p->ninsts; i++) s->eager[r][i] = sim_random(&s->seed) % 2;
        scribble(s, s->out[r], s->out_slots * s->parts);
        for (uint32_t slot = 0; slot < s->in_slots; slot++)
            for (uint32_t part = 0; part < s->parts; part++)
                s->in[r][slot * s->parts + part] =
                    mdl_collective_has(&s->call->coll, r, MDL_IN) ? leaf((uint32_t)r, slot, part) : junk(s);
    }
}

static void sim_fini(struct sim *s)
{
    for (int r = 0; r < s->n; r++) {
        for (uint32_t i = 0; i < s->call->plans[r]->ninsts; i++) free(s->data[r][i]);
        free(s->in[r]);
        free(s->out[r]);
        free(s->result[r]);
        free(s->scratch[r]);
        free(s->state[r]);
        free(s->data[r]);
        free(s->eager[r]);
    }
}

bool sim_run(const struct call *call, uint64_t seed, char *why, size_t why_bytes)
{
    struct sim s = {.call = call,
                    .n = call->team.nranks,
                    .parts = call->plans[0]->parts,
                    .rounds = mdl_collective_reduces(&call->coll) && mdl_dtype_rounds(call->coll.dtype),
                    .whole = call->plans[0]->flags & MDL_PLAN_WHOLE,
                    .seed = seed,
                    .why = why,
                    .why_bytes = why_bytes};
    struct event e = {0};
    sim_init(&s);
    uint64_t sluggish = sim_random(&s.seed);
    while (!s.wrong && pick(&s, sluggish, &e)) happen(&s, &e);
    if (!s.wrong) check_results(&s);
    sim_fini(&s);
    return !s.wrong;
}
