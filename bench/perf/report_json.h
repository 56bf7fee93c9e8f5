/* SPDX-License-Identifier: Apache-2.0 */
/* The file of -J: what was measured, on what, with which settings. Collective: it gathers the ranks' descriptions. */
#ifndef PERF_REPORT_JSON_H_
#define PERF_REPORT_JSON_H_

#include "bench/perf/links.h"

/* What --matrix adds to each link, [from * nranks + to]. */
struct perf_matrix_cell {
    double latency_us, gbps;
};

medleyResult_t perf_report_json(struct perf_thread *t, double busbw);
medleyResult_t perf_report_json_matrix(struct perf_thread *t, const struct perf_links *l,
                                       const struct perf_matrix_cell *cells);

#endif
