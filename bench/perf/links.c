/* SPDX-License-Identifier: Apache-2.0 */
/* Each rank describes itself and its way to every other; two all-gathers bring the descriptions together. */
#include "config.h"
#include "bench/perf/links.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

static void copy_text(char *to, size_t room, const char *from)
{
    size_t n = strnlen(from, room - 1);
    memcpy(to, from, n);
    to[n] = 0;
}

static medleyResult_t describe_rank(const struct perf_rank *r, int nranks, struct perf_who *who, struct perf_link *row)
{
    medleyRankInfo_t info = {.size = sizeof(info)};
    struct utsname os;
    MDL_TRY(medleyCommGetInfo(r->comm, r->rank, &info));
    copy_text(who->host, sizeof(who->host), info.host);
    copy_text(who->arch, sizeof(who->arch), info.arch);
    copy_text(who->vendor, sizeof(who->vendor), info.vendor);
    copy_text(who->device, sizeof(who->device), info.device);
    if (!uname(&os)) snprintf(who->driver, sizeof(who->driver), "%.20s %.40s", os.sysname, os.release);
    snprintf(who->library, sizeof(who->library), "medley %d.%d.%d", MEDLEY_MAJOR, MEDLEY_MINOR, MEDLEY_PATCH);
    for (int p = 0; p < nranks; p++) {
        MDL_TRY(medleyCommGetInfo(r->comm, p, &info));
        copy_text(row[p].transport, sizeof(row[p].transport), info.transport);
        copy_text(row[p].interface, sizeof(row[p].interface), info.interface);
    }
    return medleySuccess;
}

static medleyResult_t describe_and_gather(struct perf_thread *t, struct perf_who *mine, struct perf_link *rows,
                                          struct perf_links *l)
{
    size_t n = (size_t)l->nranks;
    for (int i = 0; i < t->nranks; i++) MDL_TRY(describe_rank(&t->ranks[i], l->nranks, &mine[i], &rows[(size_t)i * n]));
    MDL_TRY(perf_all_gather(t, mine, sizeof(*mine), l->who));
    return perf_all_gather(t, rows, n * sizeof(*rows), l->link);
}

medleyResult_t perf_links_gather(struct perf_thread *t, struct perf_links *l)
{
    size_t n = (size_t)t->world->nranks, own = (size_t)t->nranks;
    struct perf_links got = {
        .nranks = (int)n, .who = calloc(n, sizeof(*got.who)), .link = calloc(n * n, sizeof(*got.link))};
    struct perf_who *mine = calloc(own, sizeof(*mine));
    struct perf_link *rows = calloc(own * n, sizeof(*rows));
    medleyResult_t result = got.who && got.link && mine && rows
                                ? describe_and_gather(t, mine, rows, &got)
                                : mdl_error(medleySystemError, "out of memory for the links of %zu ranks", n);
    free(mine);
    free(rows);
    if (result == medleySuccess)
        *l = got;
    else
        perf_links_free(&got);
    return result;
}

void perf_links_free(struct perf_links *l)
{
    free(l->who);
    free(l->link);
    *l = (struct perf_links){0};
}

const struct perf_link *perf_links_get(const struct perf_links *l, int from, int to)
{
    return &l->link[(size_t)from * (size_t)l->nranks + (size_t)to];
}
