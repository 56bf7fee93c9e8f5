/* SPDX-License-Identifier: Apache-2.0 */
/* Who the ranks are and how each reaches each other, gathered on all ranks. Best asked at the end: links are made when
 * they are first used. */
#ifndef PERF_LINKS_H_
#define PERF_LINKS_H_

#include "bench/perf/world.h"

struct perf_link {
    char transport[16];
    char interface[32]; /* "" if none */
};
struct perf_who {
    char host[64], arch[32], vendor[32], device[32];
    char driver[64];  /* on hosts: the kernel */
    char library[32]; /* of Medley */
};

struct perf_links {
    int nranks;
    struct perf_who *who;
    struct perf_link *link; /* [from * nranks + to] */
};

medleyResult_t perf_links_gather(struct perf_thread *t, struct perf_links *l);
void perf_links_free(struct perf_links *l);
const struct perf_link *perf_links_get(const struct perf_links *l, int from, int to);

#endif
