/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which launcher started this process, from the environment.
 *
 * Launchers nest (srun starts torchrun, which starts ranks), and the variables of the outer ones are inherited. The
 * innermost counts: torchrun, then mpirun (Open MPI, MPICH), then srun. Plain RANK and WORLD_SIZE, which Kubernetes
 * operators and wrapper scripts set, say nothing of who set them: where they contradict another launcher that is an
 * error, because a wrong guess ends in ranks that wait for each other. PMIx alone names no size.
 *
 * A launcher counts only if its variables make sense; a number that is none, or a rank outside its size, is an error
 * that names the variable.
 */
#include "config.h"
#include "lib/base/log.h"
#include "lib/boot/boot.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static const char *get(const char *name)
{
    const char *text = name ? getenv(name) : NULL;
    return text && *text ? text : NULL;
}

static medleyResult_t parse_number(const char *name, int least, int *value)
{
    const char *text = get(name);
    char *rest;
    errno = 0;
    long n = strtol(text, &rest, 10);
    if (isspace((unsigned char)*text) || *rest || errno || n < least || n > INT_MAX)
        return mdl_error(medleyInvalidUsage, "%s=%s is not a number from %d on: the launcher's environment is damaged",
                         name, text, least);
    *value = (int)n;
    return medleySuccess;
}

/* The variables of a launcher. Without rank and size there is no such launcher. */
struct row {
    const char *launcher, *rank, *size, *local_rank, *local_size;
};

static medleyResult_t need_both(const struct row *row, bool has_rank)
{
    return mdl_error(medleyInvalidUsage, "%s is set but %s is not: both come from %s, or neither",
                     has_rank ? row->rank : row->size, has_rank ? row->size : row->rank, row->launcher);
}

static medleyResult_t read_row(const struct row *row, struct mdl_launch *l)
{
    struct mdl_launch got = {.launcher = row->launcher, .local_rank = -1, .local_size = -1};
    if (!get(row->rank) != !get(row->size)) return need_both(row, get(row->rank) != NULL);
    MDL_TRY(parse_number(row->rank, 0, &got.rank));
    MDL_TRY(parse_number(row->size, 1, &got.size));
    if (get(row->local_rank)) MDL_TRY(parse_number(row->local_rank, 0, &got.local_rank));
    if (get(row->local_size)) MDL_TRY(parse_number(row->local_size, 1, &got.local_size));
    if (got.rank >= got.size)
        return mdl_error(medleyInvalidUsage, "%s=%d does not fit %s=%d", row->rank, got.rank, row->size, got.size);
    if (got.local_size >= 0 && (got.local_rank >= got.local_size || got.local_size > got.size))
        return mdl_error(medleyInvalidUsage, "%s=%d, %s=%d and %s=%d do not fit together", row->local_rank,
                         got.local_rank, row->local_size, got.local_size, row->size, got.size);
    got.found = true;
    *l = got;
    return medleySuccess;
}

/* ---- the root's address ---- */

static void set_root(struct mdl_launch *l, const char *host, int len, unsigned port)
{
    bool bare_v6 = memchr(host, ':', (size_t)len) && host[0] != '[';
    int n = snprintf(l->root, sizeof(l->root), bare_v6 ? "[%.*s]:%u" : "%.*s:%u", len, host, port);
    if (n >= (int)sizeof(l->root)) l->root[0] = 0;
}

/* MASTER_PORT itself is torch's store: Medley takes the port after it. */
static medleyResult_t master(struct mdl_launch *l)
{
    const char *host = get("MASTER_ADDR");
    int port;
    if (!host || !get("MASTER_PORT")) return medleySuccess;
    MDL_TRY(parse_number("MASTER_PORT", 1, &port));
    if (port > 65535) return mdl_error(medleyInvalidUsage, "MASTER_PORT=%d is not a port", port);
    set_root(l, host, (int)strlen(host), port < 65535 ? (unsigned)port + 1 : (unsigned)port - 1);
    return medleySuccess;
}

/* The first host of a list such as "node[03-05,9],other": node03. */
static int first_host(const char *list, char *host, size_t bytes)
{
    size_t prefix = strcspn(list, "[,");
    size_t first = 0;
    const char *after = list + prefix;
    if (*after == '[') {
        first = strcspn(after + 1, "-,]");
        const char *end = strchr(after, ']');
        size_t tail = end ? strcspn(end + 1, ",") : 0; /* node[1-2]-ib */
        if (end && end[1] == '[') tail = 0;
        return snprintf(host, bytes, "%.*s%.*s%.*s", (int)prefix, list, (int)first, after + 1, (int)tail,
                        end ? end + 1 : "");
    }
    return snprintf(host, bytes, "%.*s", (int)prefix, list);
}

/* ---- Slurm ---- */

/* Entry `node` of a list such as "2(x3),1": the ranks of that node; -1 if it is none. */
static int tasks_of_node(const char *text, int node)
{
    while (text && *text) {
        char *rest;
        long n = strtol(text, &rest, 10), times = 1;
        if (rest == text || n < 1 || n > INT_MAX) return -1;
        if (!strncmp(rest, "(x", 2)) {
            times = strtol(rest + 2, &rest, 10);
            if (times < 1 || *rest++ != ')') return -1;
        }
        if (node < times) return (int)n;
        node -= (int)times;
        if (*rest && *rest != ',') return -1;
        text = *rest ? rest + 1 : rest;
    }
    return -1;
}

/* Not from the range of ephemeral ports, and different for the jobs and steps that share a host. */
static unsigned slurm_port(void)
{
    const char *job = get("SLURM_JOB_ID") ? get("SLURM_JOB_ID") : get("SLURM_JOBID");
    const char *step = get("SLURM_STEP_ID") ? get("SLURM_STEP_ID") : get("SLURM_STEPID");
    unsigned long n = (job ? strtoul(job, NULL, 10) : 0) * 101 + (step ? strtoul(step, NULL, 10) : 0);
    return 10000 + (unsigned)(n % 20000);
}

static medleyResult_t slurm_more(struct mdl_launch *l)
{
    const char *nodes = get("SLURM_STEP_NODELIST") ? get("SLURM_STEP_NODELIST") : get("SLURM_NODELIST");
    const char *tasks =
        get("SLURM_STEP_TASKS_PER_NODE") ? get("SLURM_STEP_TASKS_PER_NODE") : get("SLURM_TASKS_PER_NODE");
    char host[200];
    int node = 0;
    if (get("SLURM_NODEID")) MDL_TRY(parse_number("SLURM_NODEID", 0, &node));
    if (get("SLURM_NODEID")) l->local_size = tasks_of_node(tasks, node);
    if (l->local_size >= 0 && l->local_rank >= l->local_size) l->local_size = -1;
    if (!nodes) return medleySuccess;
    int n = first_host(nodes, host, sizeof(host));
    if (n > 0 && n < (int)sizeof(host)) set_root(l, host, n, slurm_port());
    return medleySuccess;
}

/* A batch script has the job's variables too, but is one process and no step. */
static bool in_slurm_step(void)
{
    return get("SLURM_PROCID") && (get("SLURM_STEP_ID") || get("SLURM_STEP_NUM_TASKS") || get("SLURM_STEP_NODELIST")) &&
           (get("SLURM_STEP_NUM_TASKS") || get("SLURM_NTASKS"));
}

static medleyResult_t slurm(struct mdl_launch *l)
{
    static const struct row step = {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", NULL};
    static const struct row job = {"srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", NULL};
    const char *groups = get("SLURM_HET_SIZE");
    if (groups && strcmp(groups, "1"))
        return mdl_error(medleyInvalidUsage,
                         "this is one of %s parts of a heterogeneous Slurm job, whose variables count "
                         "each part alone: give rank and size explicitly",
                         groups);
    MDL_TRY(read_row(get("SLURM_STEP_NUM_TASKS") ? &step : &job, l));
    return slurm_more(l);
}

/* ---- the others ---- */

static const struct row torchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
static const struct row plain = {"RANK and WORLD_SIZE", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
static const struct row indexed = {"Kubernetes", "JOB_COMPLETION_INDEX", "WORLD_SIZE", NULL, NULL};
static const struct row openmpi = {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                   "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
static const struct row mpich = {"MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};

static bool any_of(const struct row *row) { return get(row->rank) || get(row->size); }

/* mpirun's or srun's, whichever is the inner one. */
static medleyResult_t outer(struct mdl_launch *l)
{
    if (any_of(&openmpi)) return read_row(&openmpi, l);
    if (any_of(&mpich)) return read_row(&mpich, l);
    if (in_slurm_step()) return slurm(l);
    return medleySuccess;
}

static medleyResult_t contradict(const struct mdl_launch *a, const struct mdl_launch *b)
{
    return mdl_error(
        medleyInvalidUsage,
        "RANK=%d WORLD_SIZE=%d and %s (rank %d of %d) contradict each other: unset those that do not apply, "
        "or give rank and size explicitly",
        a->rank, a->size, b->launcher, b->rank, b->size);
}

/* RANK and WORLD_SIZE without torchrun's marks. */
static medleyResult_t by_rank(struct mdl_launch *l)
{
    struct mdl_launch other = {0};
    MDL_TRY(read_row(&plain, l));
    if (get("KUBERNETES_SERVICE_HOST")) l->launcher = "Kubernetes";
    MDL_TRY(outer(&other));
    if (other.found && (other.rank != l->rank || other.size != l->size)) return contradict(l, &other);
    if (l->local_rank < 0 && other.found) {
        l->local_rank = other.local_rank;
        l->local_size = other.local_size;
    }
    return master(l);
}

static medleyResult_t by_index(struct mdl_launch *l)
{
    MDL_TRY(read_row(&indexed, l));
    return master(l);
}

static medleyResult_t detect(struct mdl_launch *l)
{
    if (get("TORCHELASTIC_RUN_ID")) {
        MDL_TRY(read_row(&torchrun, l));
        return master(l);
    }
    if (get("RANK") && get("WORLD_SIZE")) return by_rank(l);
    MDL_TRY(outer(l));
    if (l->found) return medleySuccess;
    if (get("JOB_COMPLETION_INDEX") && get("WORLD_SIZE")) return by_index(l);
    if (get("PMIX_RANK"))
        return mdl_error(medleyInvalidUsage,
                         "PMIX_RANK=%s is set, but the environment does not tell the number of ranks: "
                         "give rank and size explicitly",
                         get("PMIX_RANK"));
    return medleySuccess;
}

medleyResult_t mdl_boot_detect_launcher(struct mdl_launch *launch)
{
    struct mdl_launch got = {.local_rank = -1, .local_size = -1};
    MDL_TRY(detect(&got));
    if (got.found)
        MDL_INFO(MDL_BOOT, "started by %s: rank %d of %d, local rank %d of %d, root %s", got.launcher, got.rank,
                 got.size, got.local_rank, got.local_size, got.root[0] ? got.root : "unknown");
    *launch = got;
    return medleySuccess;
}
