/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choices of the process. A key is all that mdl_algo_choose looks at, as bytes, so that equal keys mean equal
 * choices whoever asks: a rank alone, or all ranks of a host that are threads of one process.
 */
#include "config.h"

#include "lib/engine/choices.h"
#include "lib/base/list.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, BUCKETS = 64 };

struct entry {
    struct mdl_list lru, bucket;
    struct mdl_choice choice;
    uint64_t hash;
    size_t len;
    uint8_t key[];
};

static struct {
    pthread_mutex_t lock;
    bool ready;
    int holders;
    size_t entries, bytes;
    uint64_t found;
    struct mdl_list lru, buckets[BUCKETS]; /* least recently used first */
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- keys ---- */

struct key {
    uint8_t *bytes;
    size_t len, room;
};

static void put(struct key *k, const void *p, size_t n)
{
    if (k->len + n <= k->room) memcpy(k->bytes + k->len, p, n);
    k->len += n;
}

static void put_number(struct key *k, uint64_t n) { put(k, &n, sizeof(n)); }

static void put_team(struct key *k, const struct mdl_team *t)
{
    const uint64_t numbers[] = {(uint64_t)t->nranks, (uint64_t)t->nhosts, t->remote_scratch, t->remote_get,
                                t->local_alpha,      t->local_beta,       t->net_alpha,      t->net_beta,
                                t->copy_beta,        t->reduce_beta,      t->cores,          t->get_beta,
                                t->rails};

    put(k, numbers, sizeof(numbers));
    if (t->nhosts > 1) put(k, t->host, (size_t)t->nranks * sizeof(*t->host)); /* the rest of who is where follows */
}

static void put_call(struct key *k, const struct mdl_collective *c)
{
    const uint64_t numbers[] = {(uint64_t)c->coll, (uint64_t)c->dtype, (uint64_t)c->op, c->premul, c->deterministic,
                                (uint64_t)(int64_t)c->root, c->count};

    put(k, numbers, sizeof(numbers));
    put_number(k, c->facts.in_place);
    put_number(k, c->facts.apart);
    put_number(k, c->facts.in_mapped);
    put_number(k, c->facts.out_mapped);
}

static void put_limits(struct key *k, const struct mdl_choose_limits *l)
{
    const uint64_t numbers[] = {l->window_bytes, l->scratch_bytes, l->max_depth, l->max_channels, l->oneshot_bytes};

    put(k, numbers, sizeof(numbers));
}

/* FNV-1a over words: spreads entries, no more. */
static uint64_t hash_of(const uint8_t *p, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* The entry for these arguments, not listed yet; NULL without memory. */
static struct entry *make_entry(const struct mdl_team *team, const struct mdl_collective *c, const char *spec,
                                const struct mdl_choose_limits *limits)
{
    size_t room = 40 * sizeof(uint64_t) + (size_t)team->nranks * sizeof(int) + strlen(spec);
    struct entry *e = malloc(sizeof(*e) + room);
    struct key k = {.room = room};

    if (!e) return NULL;
    k.bytes = e->key;
    put_team(&k, team);
    put_call(&k, c);
    put_limits(&k, limits);
    put(&k, spec, strlen(spec));
    e->len = k.len;
    e->hash = hash_of(e->key, e->len);
    return e;
}

/* ---- the list: under the lock ---- */

static void make_ready(void)
{
    if (kept.ready) return;
    kept.ready = true;
    mdl_list_init(&kept.lru);
    for (int i = 0; i < BUCKETS; i++) mdl_list_init(&kept.buckets[i]);
}

static struct entry *find(const struct entry *like)
{
    mdl_list_each (it, &kept.buckets[like->hash % BUCKETS]) {
        struct entry *e = mdl_container_of(it, struct entry, bucket);
        if (e->hash == like->hash && e->len == like->len && !memcmp(e->key, like->key, e->len)) return e;
    }
    return NULL;
}

static void drop(struct entry *e)
{
    mdl_list_remove(&e->lru);
    mdl_list_remove(&e->bucket);
    kept.entries--;
    kept.bytes -= sizeof(*e) + e->len;
    free(e);
}

static void drop_over(size_t most)
{
    while (kept.bytes > most) drop(mdl_container_of(kept.lru.next, struct entry, lru));
}

static bool look_up(const struct entry *like, struct mdl_choice *choice)
{
    struct entry *e;

    pthread_mutex_lock(&kept.lock);
    make_ready();
    e = find(like);
    if (e) {
        *choice = e->choice;
        mdl_list_remove(&e->lru);
        mdl_list_append(&kept.lru, &e->lru);
        kept.found++;
    }
    pthread_mutex_unlock(&kept.lock);
    return e != NULL;
}

/* Takes the entry over. */
static void keep(struct entry *e)
{
    pthread_mutex_lock(&kept.lock);
    if (kept.holders == 0 || find(e)) {
        free(e);
    } else {
        mdl_list_append(&kept.lru, &e->lru);
        mdl_list_append(&kept.buckets[e->hash % BUCKETS], &e->bucket);
        kept.entries++;
        kept.bytes += sizeof(*e) + e->len;
        drop_over(MOST_BYTES);
    }
    pthread_mutex_unlock(&kept.lock);
}

/* ---- the interface ---- */

void mdl_choices_hold(void)
{
    pthread_mutex_lock(&kept.lock);
    make_ready();
    kept.holders++;
    pthread_mutex_unlock(&kept.lock);
}

void mdl_choices_release(void)
{
    pthread_mutex_lock(&kept.lock);
    if (--kept.holders == 0) drop_over(0);
    pthread_mutex_unlock(&kept.lock);
}

medleyResult_t mdl_choices_get(const struct mdl_team *team, const struct mdl_collective *c, const char *spec,
                               const struct mdl_choose_limits *limits, struct mdl_choice *choice)
{
    struct entry *e = make_entry(team, c, spec, limits);
    medleyResult_t res;

    if (!e) return mdl_algo_choose(team, c, spec, limits, choice);
    mdl_list_init(&e->lru);
    mdl_list_init(&e->bucket);
    if (look_up(e, choice)) {
        free(e);
        return medleySuccess;
    }
    res = mdl_algo_choose(team, c, spec, limits, &e->choice);
    if (res != medleySuccess) {
        free(e);
        return res;
    }
    *choice = e->choice;
    keep(e);
    return medleySuccess;
}

void mdl_choices_count(size_t *entries, uint64_t *found)
{
    pthread_mutex_lock(&kept.lock);
    *entries = kept.entries;
    *found = kept.found;
    pthread_mutex_unlock(&kept.lock);
}
