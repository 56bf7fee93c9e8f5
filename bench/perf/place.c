/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From launcher to place. What --local set up wins; then the launcher that the library detects. An address beats the
 * launcher's exchange only if the user gave it: MEDLEY_COMM_ID.
 */
#include "config.h"
#include "bench/perf/place.h"
#include "bench/perf/local.h"
#include "lib/boot/boot.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool given(const char *name)
{
    const char *text = getenv(name);
    return text && *text;
}

static bool number_is(const char *name, int value)
{
    char *rest;
    return given(name) && strtol(getenv(name), &rest, 10) == value && !*rest;
}

/* PMIx alone knows: prterun; or a heterogeneous Slurm job, whose variables count each part for itself. */
static bool only_pmix(void)
{
    static const char *const others[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "RANK", "JOB_COMPLETION_INDEX"};
    if (given("SLURM_PROCID") && !given("SLURM_HET_SIZE")) return false;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (given(others[i])) return false;
    return given("PMIX_RANK") && given("PMIX_NAMESPACE") && perf_pmix_usable();
}

/* The variables of an outer launcher are inherited: they count only if they tell the same rank. */
static bool has_pmix(int proc) { return given("PMIX_NAMESPACE") && number_is("PMIX_RANK", proc) && perf_pmix_usable(); }
static bool has_pmi(int proc) { return given("PMI_FD") && number_is("PMI_RANK", proc); }

static medleyResult_t no_way(const struct perf_place *p)
{
    return mdl_error(medleyInvalidUsage,
                     "%s started %d processes but offers no way to hand the id around%s: set MEDLEY_COMM_ID=host:port "
                     "(host of rank 0), and MEDLEY_COMM_KEY to a secret if they are on several hosts",
                     p->launcher, p->nprocs,
                     given("PMIX_NAMESPACE") && !perf_pmix_usable() ? " (its PMIx needs libpmix here)" : "");
}

static medleyResult_t choose_exchange(struct perf_place *p, const char *root)
{
    if (p->nprocs == 1)
        p->by = PERF_BY_NOBODY;
    else if (given("MEDLEY_COMM_ID"))
        p->by = PERF_BY_ADDRESS;
    else if (has_pmix(p->proc))
        p->by = PERF_BY_PMIX;
    else if (has_pmi(p->proc))
        p->by = PERF_BY_PMI;
    else if (root[0]) {
        p->by = PERF_BY_ADDRESS;
        if (setenv("MEDLEY_COMM_ID", root, 1)) return mdl_system_error(errno, "MEDLEY_COMM_ID cannot be set");
    } else
        return no_way(p);
    return medleySuccess;
}

medleyResult_t perf_place_find(struct perf_place *p)
{
    struct mdl_launch launch = {.found = false};
    *p = (struct perf_place){.nprocs = 1, .launcher = "", .id_fd = -1, .kick_fd = -1};
    if (perf_local_is_child()) return perf_local_child(p);
    if (only_pmix()) {
        p->launcher = "PMIx";
        p->by = PERF_BY_PMIX;
        return perf_pmix_place(&p->proc, &p->nprocs);
    }
    MDL_TRY(mdl_boot_detect_launcher(&launch));
    if (!launch.found) return medleySuccess;
    p->proc = launch.rank;
    p->nprocs = launch.size;
    p->launcher = launch.launcher;
    return choose_exchange(p, launch.root);
}

/* ---- the id ---- */

void perf_id_to_text(const medleyUniqueId *id, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < MEDLEY_UNIQUE_ID_BYTES; i++) {
        text[2 * i] = digits[(unsigned char)id->internal[i] >> 4];
        text[2 * i + 1] = digits[id->internal[i] & 15];
    }
    text[2 * MEDLEY_UNIQUE_ID_BYTES] = 0;
}

static int digit_of(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

bool perf_id_from_text(const char *text, medleyUniqueId *id)
{
    medleyUniqueId got;
    if (strlen(text) != 2 * MEDLEY_UNIQUE_ID_BYTES) return false;
    for (int i = 0; i < MEDLEY_UNIQUE_ID_BYTES; i++) {
        int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        got.internal[i] = (char)(high << 4 | low);
    }
    *id = got;
    return true;
}

/* The pipe takes a whole id per write, and gives a whole one per read. */
static medleyResult_t share_by_pipe(struct perf_place *p, medleyUniqueId *id)
{
    for (int i = 1; p->proc == 0 && i < p->nprocs; i++)
        if (write(p->id_fd, id, sizeof(*id)) != sizeof(*id))
            return mdl_system_error(errno, "the id cannot be given to the other processes");
    if (p->proc) {
        ssize_t n = read(p->id_fd, id, sizeof(*id));
        if (n < 0) return mdl_system_error(errno, "the id cannot be read from process 0");
        if (n != sizeof(*id)) return mdl_error(medleyRemoteError, "process 0 ended before it had an id");
    }
    if (p->id_fd >= 0) close(p->id_fd);
    p->id_fd = -1;
    return medleySuccess;
}

medleyResult_t perf_place_share_id(struct perf_place *p, medleyUniqueId *id)
{
    if (p->proc == 0 || p->by == PERF_BY_ADDRESS) MDL_TRY(medleyGetUniqueId(id));
    switch (p->by) {
    case PERF_BY_PIPE: return share_by_pipe(p, id);
    case PERF_BY_PMIX: return perf_pmix_share(p->proc, p->nprocs, id);
    case PERF_BY_PMI: return perf_pmi_share(p->proc, id);
    default: return medleySuccess;
    }
}
