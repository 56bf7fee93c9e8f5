/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MEDLEY_ALGO: a list of algorithm names, `^` before one to rule it out, `collective:` before one to speak of that
 * collective from there on. "ring" is for all collectives; "allreduce:ring,recdbl,broadcast:^binomial" gives all-reduce
 * a choice of two and broadcast all but one. What is said of a collective by name wins over what is said of all. Case
 * and underscores do not matter.
 */
#include "config.h"
#include "lib/algo/spec.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    medleyColl_t coll;
} colls[] = {
    {"allreduce", medleyCollAllReduce},   {"reduce", medleyCollReduce},
    {"broadcast", medleyCollBroadcast},   {"bcast", medleyCollBroadcast},
    {"allgather", medleyCollAllGather},   {"reducescatter", medleyCollReduceScatter},
    {"alltoall", medleyCollAlltoAll},     {"gather", medleyCollGather},
    {"scatter", medleyCollScatter},       {"barrier", medleyCollBarrier},
    {"allgatherv", medleyCollAllGatherV}, {"reducescatterv", medleyCollReduceScatterV},
    {"alltoallv", medleyCollAlltoAllV},
};

enum { ALL_COLLS = medleyNumColls, UNKNOWN = -1 };

struct word {
    const char *at;
    size_t len;
};

/* One entry of the list. */
struct item {
    int coll; /* medleyColl_t, ALL_COLLS or UNKNOWN */
    bool except;
    struct word prefix, name;
};

static bool same(struct word w, const char *name)
{
    size_t i = 0;
    for (; i < w.len; i++) {
        if (w.at[i] == '_') continue;
        if (tolower((unsigned char)w.at[i]) != *name) return false;
        name++;
    }
    return *name == 0;
}

static int coll_of(struct word w)
{
    for (size_t i = 0; i < sizeof(colls) / sizeof(colls[0]); i++)
        if (same(w, colls[i].name)) return (int)colls[i].coll;
    return UNKNOWN;
}

static struct word trim(const char *at, size_t len)
{
    while (len && isspace((unsigned char)*at)) at++, len--;
    while (len && isspace((unsigned char)at[len - 1])) len--;
    return (struct word){at, len};
}

/* Takes the next entry off *spec. `item` comes with what the last one left: its collective goes on. */
static bool next_item(const char **spec, struct item *item)
{
    while (*spec && (**spec == ',' || isspace((unsigned char)**spec))) ++*spec;
    if (!*spec || !**spec) return false;
    size_t len = strcspn(*spec, ",");
    struct word w = trim(*spec, len);
    *spec += len;
    const char *colon = memchr(w.at, ':', w.len);
    if (colon) {
        item->prefix = trim(w.at, (size_t)(colon - w.at));
        item->coll = coll_of(item->prefix);
        w = trim(colon + 1, w.len - (size_t)(colon + 1 - w.at));
    }
    item->except = w.len && *w.at == '^';
    item->name = item->except ? trim(w.at + 1, w.len - 1) : w;
    return true;
}

/* What the list says of `coll`, or of all with ALL_COLLS. */
struct verdict {
    bool named, wanted, excepted, only;
};

static struct verdict judge(const char *spec, int coll, const char *algo)
{
    struct verdict v = {0};
    struct item item = {.coll = ALL_COLLS};
    while (next_item(&spec, &item)) {
        if (item.coll != coll) continue;
        v.named = true;
        v.only = v.only || !item.except;
        bool hit = same(item.name, algo);
        v.excepted = v.excepted || (hit && item.except);
        v.wanted = v.wanted || (hit && !item.except);
    }
    return v;
}

bool mdl_spec_speaks(const char *spec, medleyColl_t coll)
{
    return judge(spec, (int)coll, "").named || judge(spec, ALL_COLLS, "").named;
}

bool mdl_spec_admits(const char *spec, medleyColl_t coll, const char *algo)
{
    struct verdict v = judge(spec, (int)coll, algo);
    if (!v.named) v = judge(spec, ALL_COLLS, algo);
    return !v.excepted && (v.wanted || !v.only);
}

static bool known(struct word name)
{
    for (const struct mdl_algo *const *a = mdl_algos; *a; a++)
        if (same(name, (*a)->name)) return true;
    return false;
}

static void list_names(char *text, size_t bytes)
{
    size_t at = 0;
    text[0] = 0;
    for (const struct mdl_algo *const *a = mdl_algos; *a && at < bytes; a++)
        at += (size_t)snprintf(text + at, bytes - at, "%s%s", at ? ", " : "", (*a)->name);
}

medleyResult_t mdl_algo_spec_check(const char *spec)
{
    struct item item = {.coll = ALL_COLLS};
    char names[256];
    while (next_item(&spec, &item)) {
        if (item.coll == UNKNOWN)
            return mdl_error(medleyInvalidArgument,
                             "MEDLEY_ALGO: there is no collective \"%.*s\"; write it as in allreduce:ring",
                             (int)item.prefix.len, item.prefix.at);
        if (known(item.name)) continue;
        list_names(names, sizeof(names));
        return mdl_error(medleyInvalidArgument, "MEDLEY_ALGO: there is no algorithm \"%.*s\"; there are %s",
                         (int)item.name.len, item.name.at, names);
    }
    return medleySuccess;
}
