/* SPDX-License-Identifier: Apache-2.0 */
/* Teams, small algorithms written out by hand, and surgery on plans. */
#include "config.h"
#include "tests/unit/plan_support.h"
#include <stdlib.h>
#include <string.h>

/* ---- calls ---- */

void call_init(struct call *call, const char *hosts, medleyColl_t coll, medleyDataType_t dtype, int root)
{
    int n = (int)strlen(hosts), nhosts = 0;
    memset(call, 0, sizeof(*call));
    for (int r = 0; r < n; r++) {
        int h = hosts[r] - 'a';
        call->host[r] = h;
        call->local[r] = call->host_size[h];
        call->member[h][call->host_size[h]++] = r;
        call->members[h] = call->member[h];
        if (h >= nhosts) nhosts = h + 1;
    }
    call->team = (struct mdl_team){.nranks = n,
                                   .nhosts = nhosts,
                                   .host = call->host,
                                   .local = call->local,
                                   .host_size = call->host_size,
                                   .members = call->members,
                                   .remote_scratch = true,
                                   .remote_get = true};
    call->coll = (struct mdl_collective){.coll = coll,
                                         .dtype = dtype,
                                         .op = medleySum,
                                         .root = root,
                                         .count = 1000,
                                         .facts = {.in_mapped = true, .out_mapped = true}};
}

void call_free(struct call *call)
{
    for (int r = 0; r < call->team.nranks; r++) {
        mdl_plan_free(call->plans[r]);
        call->plans[r] = NULL;
    }
}

medleyResult_t call_build_rank(const struct call *call, uint32_t parts, int rank, call_builder builder,
                               struct mdl_plan **plan)
{
    struct mdl_builder *b = mdl_builder_new(&call->team, &call->coll, rank, parts);
    ck_assert_ptr_nonnull(b);
    builder(call, rank, b);
    return mdl_builder_finish(b, "test", plan);
}

void call_build(struct call *call, const char *name, uint32_t parts, call_builder builder)
{
    call->name = name;
    for (int r = 0; r < call->team.nranks; r++) {
        medleyResult_t result = call_build_rank(call, parts, r, builder, &call->plans[r]);
        ck_assert_msg(result == medleySuccess, "%s: %s", name, mdl_error_text());
        call->plans[r]->algo = name;
    }
}

bool call_accepted(struct call *call, char *why, size_t bytes)
{
    return mdl_plan_verify(&call->team, &call->coll, call->plans, why, bytes) == medleySuccess;
}

void call_accept(struct call *call)
{
    char why[512];
    medleyResult_t result = mdl_plan_verify(&call->team, &call->coll, call->plans, why, sizeof(why));
    ck_assert_msg(result == medleySuccess, "refused: %s", why);
    ck_assert_str_eq(why, "");
}

void call_refuse(struct call *call, const char *text)
{
    char why[512];
    medleyResult_t result = mdl_plan_verify(&call->team, &call->coll, call->plans, why, sizeof(why));
    ck_assert_msg(result == medleyInternalError, "accepted, though it should say \"%s\"", text);
    ck_assert_msg(strstr(why, text) != NULL, "\"%s\" is not in: %s", text, why);
}

/* ---- algorithms ---- */

static struct mdl_ref part(int rank, enum mdl_buffer buf, bool acc, uint32_t slot, int p)
{
    return mdl_ref_parts(rank, buf, acc, slot, (uint32_t)p, (uint32_t)p + 1);
}

/* The first addition takes an element from the wire, the later ones a partial; so they have a slot each. */
void build_ring(const struct call *call, int rank, struct mdl_builder *b)
{
    int n = call->team.nranks, next = (rank + 1) % n, prev = (rank + n - 1) % n;
    uint32_t s = mdl_builder_scratch(b, 2);
    for (int k = 0; k < n - 1; k++) {
        int give = (rank - k + n) % n, take = (give + n - 1) % n;
        struct mdl_ref got = part(rank, MDL_SCRATCH, k, k ? s + 1 : s, take);
        mdl_build_send(b, next, 0, k ? part(rank, MDL_SCRATCH, true, s + 1, give) : part(rank, MDL_IN, false, 0, give));
        mdl_build_recv(b, prev, 0, got);
        struct mdl_ref both[] = {got, part(rank, MDL_IN, false, 0, take)};
        bool last = k == n - 2;
        mdl_build_reduce(b, last ? part(rank, MDL_OUT, false, 0, take) : part(rank, MDL_SCRATCH, true, s + 1, take),
                         both, 2, last ? MDL_INST_FINAL : 0);
    }
    for (int k = 0; k < n - 1; k++) {
        int give = (rank + 1 - k + n) % n, take = (give + n - 1) % n;
        mdl_build_send(b, next, 0, part(rank, MDL_OUT, false, 0, give));
        mdl_build_recv(b, prev, 0, part(rank, MDL_OUT, false, 0, take));
    }
}

static void signal_all(struct mdl_builder *b, int n, int rank)
{
    for (int k = 1; k < n; k++) mdl_build_signal(b, (rank + k) % n, 0);
    for (int k = 1; k < n; k++) mdl_build_wait(b, (rank + k) % n, 0);
}

static void reduce_own_part(struct mdl_builder *b, int n, int rank)
{
    struct mdl_ref src[CALL_RANKS];
    for (int q = 0; q < n; q++) src[q] = part(q, MDL_IN, false, 0, rank);
    mdl_build_reduce(b, part(rank, MDL_OUT, false, 0, rank), src, (uint32_t)n, MDL_INST_FINAL | MDL_INST_TREE);
}

void build_direct(const struct call *call, int rank, struct mdl_builder *b)
{
    int n = call->team.nranks;
    reduce_own_part(b, n, rank);
    signal_all(b, n, rank);
    for (int k = 1; k < n; k++) {
        int q = (rank + k) % n;
        mdl_build_copy(b, part(rank, MDL_OUT, false, 0, q), part(q, MDL_OUT, false, 0, q), 0);
    }
    signal_all(b, n, rank);
}

void build_put(const struct call *call, int rank, struct mdl_builder *b)
{
    int n = call->team.nranks;
    reduce_own_part(b, n, rank);
    for (int k = 1; k < n; k++) {
        int q = (rank + k) % n;
        mdl_build_copy(b, part(q, MDL_OUT, false, 0, rank), part(rank, MDL_OUT, false, 0, rank), 0);
    }
    signal_all(b, n, rank);
}

void build_bcast(const struct call *call, int rank, struct mdl_builder *b)
{
    const struct mdl_team *t = &call->team;
    int root = call->coll.root, host = t->host[rank], n = t->nhosts;
    int leader = host == t->host[root] ? root : t->members[host][0];
    if (rank != leader) {
        mdl_build_wait(b, leader, 0);
        mdl_build_copy(b, mdl_ref_slots(b, rank, MDL_OUT, false, 0, 1), mdl_ref_slots(b, leader, MDL_OUT, false, 0, 1),
                       0);
        mdl_build_signal(b, leader, 0);
        return;
    }
    for (int h = 0; h < n && rank == root; h++)
        if (h != host) mdl_build_send(b, t->members[h][0], 0, mdl_ref_slots(b, root, MDL_IN, false, 0, 1));
    if (rank == root)
        mdl_build_copy(b, mdl_ref_slots(b, root, MDL_OUT, false, 0, 1), mdl_ref_slots(b, root, MDL_IN, false, 0, 1), 0);
    else
        mdl_build_recv(b, root, 0, mdl_ref_slots(b, rank, MDL_OUT, false, 0, 1));
    for (int k = 0; k < t->host_size[host]; k++)
        if (t->members[host][k] != rank) mdl_build_signal(b, t->members[host][k], 0);
    for (int k = 0; k < t->host_size[host]; k++)
        if (t->members[host][k] != rank) mdl_build_wait(b, t->members[host][k], 0);
}

void build_oneshot(const struct call *call, int rank, struct mdl_builder *b)
{
    int n = call->team.nranks;
    uint32_t s = mdl_builder_scratch(b, (uint32_t)n);
    struct mdl_ref src[CALL_RANKS];
    mdl_builder_whole(b);
    for (int q = 0; q < n; q++) {
        src[q] = mdl_ref_slots(b, rank, MDL_SCRATCH, false, s + (uint32_t)q, 1);
        mdl_build_copy(b, mdl_ref_slots(b, q, MDL_SCRATCH, false, s + (uint32_t)rank, 1),
                       mdl_ref_slots(b, rank, MDL_IN, false, 0, 1), 0);
    }
    signal_all(b, n, rank);
    mdl_build_reduce(b, mdl_ref_slots(b, rank, MDL_OUT, false, 0, 1), src, (uint32_t)n, MDL_INST_FINAL);
}

/* Every round passes on what all rounds before have brought. */
void build_barrier(const struct call *call, int rank, struct mdl_builder *b)
{
    int n = call->team.nranks;
    uint32_t s = mdl_builder_scratch(b, 8), brought[8], rounds = 0;
    for (int k = 1; k < n; k *= 2, rounds++) {
        for (uint32_t before = 0; before < rounds; before++) mdl_build_after(b, brought[before]);
        mdl_build_send(b, (rank + k) % n, 0, mdl_ref_slots(b, rank, MDL_SCRATCH, false, s, 1));
        brought[rounds] =
            mdl_build_recv(b, (rank + n - k) % n, 0, mdl_ref_slots(b, rank, MDL_SCRATCH, false, s + 1 + rounds, 1));
    }
}

void build_exchange(const struct call *call, int rank, struct mdl_builder *b)
{
    int n = call->team.nranks;
    bool v = call->coll.coll == medleyCollAlltoAllV;
    uint32_t me = (uint32_t)rank, s = v ? 0 : mdl_builder_scratch(b, (uint32_t)n);
    mdl_build_copy(b, mdl_ref_slots(b, rank, MDL_OUT, false, me, 1), mdl_ref_slots(b, rank, MDL_IN, false, me, 1), 0);
    for (int k = 1; k < n; k++) {
        uint32_t to = (uint32_t)((rank + k) % n), from = (uint32_t)((rank + n - k) % n);
        mdl_build_send(b, (int)to, 0, mdl_ref_slots(b, rank, MDL_IN, false, to, 1));
        mdl_build_recv(b, (int)from, 0,
                       v ? mdl_ref_slots(b, rank, MDL_OUT, false, from, 1)
                         : mdl_ref_slots(b, rank, MDL_SCRATCH, false, s + from, 1));
    }
    for (uint32_t q = 0; q < (uint32_t)n && !v; q++)
        if (q != me)
            mdl_build_copy(b, mdl_ref_slots(b, rank, MDL_OUT, false, q, 1),
                           mdl_ref_slots(b, rank, MDL_SCRATCH, false, s + q, 1), 0);
}

void build_gather_all(const struct call *call, int rank, struct mdl_builder *b)
{
    int n = call->team.nranks, next = (rank + 1) % n, prev = (rank + n - 1) % n;
    mdl_build_copy(b, mdl_ref_slots(b, rank, MDL_OUT, false, (uint32_t)rank, 1),
                   mdl_ref_slots(b, rank, MDL_IN, false, 0, 1), 0);
    for (int k = 0; k < n - 1; k++) {
        uint32_t give = (uint32_t)((rank - k + n) % n), take = (uint32_t)((rank - k - 1 + n) % n);
        mdl_build_send(b, next, 0, mdl_ref_slots(b, rank, MDL_OUT, false, give, 1));
        mdl_build_recv(b, prev, 0, mdl_ref_slots(b, rank, MDL_OUT, false, take, 1));
    }
}

const struct setting call_settings[CALL_SETTINGS] = {
    {"ring", "abc", medleyCollAllReduce, -1, 3, build_ring},
    {"direct", "aaa", medleyCollAllReduce, -1, 3, build_direct},
    {"put", "aaa", medleyCollAllReduce, -1, 3, build_put},
    {"oneshot", "aaa", medleyCollAllReduce, -1, 2, build_oneshot},
    {"bcast", "aabba", medleyCollBroadcast, 1, 2, build_bcast},
    {"barrier", "abcde", medleyCollBarrier, -1, 1, build_barrier},
    {"exchange", "aab", medleyCollAlltoAll, -1, 2, build_exchange},
    {"gather", "abba", medleyCollAllGather, -1, 2, build_gather_all},
};

void call_setup(struct call *call, const struct setting *s)
{
    call_init(call, s->hosts, s->coll, medleyFloat16, s->root);
    call_build(call, s->name, s->parts, s->build);
}

/* ---- editing ---- */

struct mdl_plan *plan_copy(const struct mdl_plan *old)
{
    size_t insts = (old->ninsts + EDIT_ROOM) * sizeof(*old->insts),
           refs = (old->nrefs + EDIT_ROOM) * sizeof(*old->refs),
           deps = ((size_t)old->ninsts * old->ninsts + EDIT_ROOM) * sizeof(*old->deps);
    struct mdl_plan *p = calloc(1, sizeof(*p) + insts + refs + deps);
    ck_assert_ptr_nonnull(p);
    *p = *old;
    p->insts = (struct mdl_inst *)(p + 1);
    p->refs = (struct mdl_ref *)((char *)p->insts + insts);
    p->deps = (uint32_t *)((char *)p->refs + refs);
    if (old->ninsts) memcpy(p->insts, old->insts, old->ninsts * sizeof(*p->insts));
    if (old->nrefs) memcpy(p->refs, old->refs, old->nrefs * sizeof(*p->refs));
    if (old->ndeps) memcpy(p->deps, old->deps, old->ndeps * sizeof(*p->deps));
    return p;
}

struct mdl_plan *edit_plan(struct call *call, int rank)
{
    struct mdl_plan *p = plan_copy(call->plans[rank]);
    mdl_plan_free(call->plans[rank]);
    return call->plans[rank] = p;
}

static void dep_add(uint32_t *deps, uint32_t *n, uint32_t dep)
{
    for (uint32_t k = 0; k < *n; k++)
        if (deps[k] == dep) return;
    deps[(*n)++] = dep;
}

void edit_drop(struct mdl_plan *p, uint32_t inst)
{
    uint32_t *deps = malloc(((size_t)p->ninsts * p->ninsts + 1) * sizeof(*deps)), n = 0;
    ck_assert_ptr_nonnull(deps);
    struct mdl_inst gone = p->insts[inst];
    for (uint32_t i = 0; i < p->ninsts; i++) {
        struct mdl_inst *in = &p->insts[i];
        uint32_t start = n, count = 0;
        if (i == inst) continue;
        for (uint32_t k = 0; k < in->ndep; k++) {
            uint32_t dep = p->deps[in->dep + k];
            if (dep != inst) dep_add(deps + start, &count, dep > inst ? dep - 1 : dep);
            for (uint32_t m = 0; dep == inst && m < gone.ndep; m++)
                dep_add(deps + start, &count, p->deps[gone.dep + m]);
        }
        in->dep = start;
        in->ndep = count;
        n += count;
    }
    memmove(p->insts + inst, p->insts + inst + 1, (p->ninsts - inst - 1) * sizeof(*p->insts));
    p->ninsts--;
    memcpy(p->deps, deps, n * sizeof(*deps));
    p->ndeps = n;
    free(deps);
}

bool edit_swap(struct mdl_plan *p, uint32_t inst)
{
    struct mdl_inst a = p->insts[inst], b = p->insts[inst + 1];
    for (uint32_t k = 0; k < b.ndep; k++)
        if (p->deps[b.dep + k] == inst) return false;
    for (uint32_t i = inst + 2; i < p->ninsts; i++)
        for (uint32_t k = 0; k < p->insts[i].ndep; k++) {
            uint32_t *dep = &p->deps[p->insts[i].dep + k];
            if (*dep == inst || *dep == inst + 1) *dep = 2 * inst + 1 - *dep;
        }
    p->insts[inst] = b;
    p->insts[inst + 1] = a;
    return true;
}

void edit_drop_dep(struct mdl_plan *p, uint32_t inst, uint32_t k)
{
    struct mdl_inst *in = &p->insts[inst];
    uint32_t *deps = p->deps + in->dep;
    deps[k] = deps[in->ndep - 1];
    in->ndep--;
}

void edit_drop_source(struct mdl_plan *p, uint32_t inst, uint32_t k)
{
    struct mdl_inst *in = &p->insts[inst];
    struct mdl_ref *src = p->refs + in->src;
    memmove(src + k, src + k + 1, (in->nsrc - k - 1) * sizeof(*src));
    in->nsrc--;
}

void edit_add_source(struct mdl_plan *p, uint32_t inst, struct mdl_ref ref)
{
    struct mdl_inst *in = &p->insts[inst];
    struct mdl_ref *src = p->refs + in->src;
    memmove(src + in->nsrc + 1, src + in->nsrc, (p->nrefs - in->src - in->nsrc) * sizeof(*src));
    for (uint32_t i = 0; i < p->ninsts; i++)
        if (p->insts[i].src > in->src) p->insts[i].src++;
    src[in->nsrc++] = ref;
    p->nrefs++;
}

struct mdl_ref *edit_ref(struct mdl_plan *p, uint32_t inst, uint32_t k)
{
    struct mdl_inst *in = &p->insts[inst];
    bool writes = in->op == MDL_OP_RECV || in->op == MDL_OP_COPY || in->op == MDL_OP_REDUCE;
    if (k < in->nsrc) return &p->refs[in->src + k];
    return k == in->nsrc && writes ? &in->dst : NULL;
}

uint32_t find_op(const struct mdl_plan *p, unsigned op, uint32_t nth)
{
    for (uint32_t i = 0; i < p->ninsts; i++)
        if (p->insts[i].op == op && nth-- == 0) return i;
    ck_abort_msg("no such instruction");
    return 0;
}
