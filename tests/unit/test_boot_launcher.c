/* SPDX-License-Identifier: Apache-2.0 */
/* Launchers: what each sets, how they nest, and what is refused. */
#include "config.h"
#include "lib/boot/boot.h"
#include "tests/unit/unit.h"

static const char *const names[] = {"RANK",
                                    "WORLD_SIZE",
                                    "LOCAL_RANK",
                                    "LOCAL_WORLD_SIZE",
                                    "MASTER_ADDR",
                                    "MASTER_PORT",
                                    "TORCHELASTIC_RUN_ID",
                                    "OMPI_COMM_WORLD_RANK",
                                    "OMPI_COMM_WORLD_SIZE",
                                    "OMPI_COMM_WORLD_LOCAL_RANK",
                                    "OMPI_COMM_WORLD_LOCAL_SIZE",
                                    "PMIX_RANK",
                                    "PMIX_NAMESPACE",
                                    "PMI_RANK",
                                    "PMI_SIZE",
                                    "MPI_LOCALRANKID",
                                    "MPI_LOCALNRANKS",
                                    "SLURM_PROCID",
                                    "SLURM_NTASKS",
                                    "SLURM_LOCALID",
                                    "SLURM_STEP_ID",
                                    "SLURM_STEP_NUM_TASKS",
                                    "SLURM_STEP_NODELIST",
                                    "SLURM_NODELIST",
                                    "SLURM_STEP_TASKS_PER_NODE",
                                    "SLURM_TASKS_PER_NODE",
                                    "SLURM_NODEID",
                                    "SLURM_JOB_ID",
                                    "SLURM_JOBID",
                                    "SLURM_STEPID",
                                    "SLURM_HET_SIZE",
                                    "JOB_COMPLETION_INDEX",
                                    "KUBERNETES_SERVICE_HOST"};

/* "A=1 B=2" becomes the whole environment of launchers. */
static void set(const char *text)
{
    char copy[1024];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) unsetenv(names[i]);
    snprintf(copy, sizeof(copy), "%s", text);
    for (char *save, *item = strtok_r(copy, " ", &save); item; item = strtok_r(NULL, " ", &save)) {
        char *equal = strchr(item, '=');
        *equal = 0;
        setenv(item, equal + 1, 1);
    }
}

static void detects(const char *env, const char *launcher, int rank, int size, int local_rank, int local_size,
                    const char *root)
{
    struct mdl_launch l;
    set(env);
    ck_assert_msg(mdl_boot_detect_launcher(&l) == medleySuccess, "%s: %s", env, mdl_error_text());
    ck_assert_msg(l.found, "%s: none", env);
    ck_assert_str_eq(l.launcher, launcher);
    ck_assert_int_eq(l.rank, rank);
    ck_assert_int_eq(l.size, size);
    ck_assert_int_eq(l.local_rank, local_rank);
    ck_assert_int_eq(l.local_size, local_size);
    ck_assert_str_eq(l.root, root);
}

static void finds_none(const char *env)
{
    struct mdl_launch l;
    set(env);
    ck_assert_msg(mdl_boot_detect_launcher(&l) == medleySuccess, "%s: %s", env, mdl_error_text());
    ck_assert_msg(!l.found, "%s: %s", env, l.launcher);
}

static void refuses(const char *env, const char *say)
{
    struct mdl_launch l = {.rank = 42};
    set(env);
    ck_assert_msg(mdl_boot_detect_launcher(&l) == medleyInvalidUsage, "%s was accepted", env);
    ck_assert_msg(strstr(mdl_error_text(), say) != NULL, "%s: %s", env, mdl_error_text());
    ck_assert_int_eq(l.rank, 42);
}

#define TORCH                                                                                                          \
    "TORCHELASTIC_RUN_ID=x RANK=3 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=n1 MASTER_PORT=29500 "
#define OMPI "OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=6 OMPI_COMM_WORLD_LOCAL_RANK=2 OMPI_COMM_WORLD_LOCAL_SIZE=3 "
#define SLURM                                                                                                          \
    "SLURM_PROCID=7 SLURM_NTASKS=8 SLURM_LOCALID=1 SLURM_STEP_ID=2 SLURM_STEP_NODELIST=node[03-05,9],x "               \
    "SLURM_NODEID=3 "                                                                                                  \
    "SLURM_STEP_TASKS_PER_NODE=2(x3),2 SLURM_JOB_ID=11 "

START_TEST(each_alone)
{
    detects(TORCH, "torchrun", 3, 8, 1, 2, "n1:29501");
    detects(OMPI, "Open MPI", 5, 6, 2, 3, "");
    detects("PMI_RANK=0 PMI_SIZE=1 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=1", "MPICH", 0, 1, 0, 1, "");
    detects("PMI_RANK=1 PMI_SIZE=2", "MPICH", 1, 2, -1, -1, "");
    detects(SLURM, "srun", 7, 8, 1, 2, "node03:11113");
    detects("RANK=1 WORLD_SIZE=4 MASTER_ADDR=fd00::1 MASTER_PORT=100 KUBERNETES_SERVICE_HOST=1", "Kubernetes", 1, 4, -1,
            -1, "[fd00::1]:101");
    detects("RANK=1 WORLD_SIZE=4", "RANK and WORLD_SIZE", 1, 4, -1, -1, "");
    detects("JOB_COMPLETION_INDEX=2 WORLD_SIZE=3 MASTER_ADDR=pod MASTER_PORT=65535", "Kubernetes", 2, 3, -1, -1,
            "pod:65534");
}
END_TEST

START_TEST(none)
{
    finds_none("");
    finds_none("WORLD_SIZE=4");
    finds_none("RANK=4");
    finds_none("JOB_COMPLETION_INDEX=1");
    /* A batch script: the job's variables, but no step. */
    finds_none("SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_LOCALID=0 SLURM_NODELIST=node1 SLURM_JOB_ID=1");
}
END_TEST

START_TEST(nested)
{
    detects(OMPI "SLURM_PROCID=0 SLURM_NTASKS=2 SLURM_STEP_ID=0", "Open MPI", 5, 6, 2, 3, "");
    detects(TORCH OMPI "SLURM_PROCID=0 SLURM_NTASKS=2 SLURM_STEP_ID=0", "torchrun", 3, 8, 1, 2, "n1:29501");
    detects(OMPI "PMIX_RANK=5 PMIX_NAMESPACE=a", "Open MPI", 5, 6, 2, 3, "");
    /* A wrapper copies mpirun's numbers: they agree, and mpirun knows the local ones. */
    detects(OMPI "RANK=5 WORLD_SIZE=6", "RANK and WORLD_SIZE", 5, 6, 2, 3, "");
    refuses(OMPI "RANK=0 WORLD_SIZE=2", "contradict");
    refuses(SLURM "RANK=7 WORLD_SIZE=9", "contradict");
}
END_TEST

START_TEST(malformed)
{
    static const char *const bad[] = {"-1", "x", "1x", "99999999999", "0x1", " 1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        set("OMPI_COMM_WORLD_SIZE=6");
        setenv("OMPI_COMM_WORLD_RANK", bad[i], 1);
        struct mdl_launch l;
        ck_assert_int_eq(mdl_boot_detect_launcher(&l), medleyInvalidUsage);
        ck_assert_ptr_nonnull(strstr(mdl_error_text(), "OMPI_COMM_WORLD_RANK"));
    }
    refuses("RANK=4 WORLD_SIZE=4", "does not fit");
    refuses("RANK=0 WORLD_SIZE=0", "WORLD_SIZE=0");
    refuses("RANK=0 WORLD_SIZE=4 LOCAL_RANK=2 LOCAL_WORLD_SIZE=2", "fit together");
    refuses("PMI_RANK=1", "PMI_SIZE is not");
    refuses("OMPI_COMM_WORLD_SIZE=1", "OMPI_COMM_WORLD_RANK is not");
    refuses("TORCHELASTIC_RUN_ID=1 RANK=1", "WORLD_SIZE is not");
    refuses("RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=70000", "MASTER_PORT");
    refuses("PMIX_RANK=3 PMIX_NAMESPACE=x", "PMIX_RANK=3");
    refuses(SLURM "SLURM_HET_SIZE=2", "heterogeneous");
}
END_TEST

START_TEST(slurm_lists)
{
#define STEP(nodes, tasks)                                                                                             \
    "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=64 SLURM_LOCALID=0 SLURM_NODEID=1 SLURM_JOB_ID=0 "                            \
    "SLURM_STEP_NODELIST=" nodes " SLURM_STEP_TASKS_PER_NODE=" tasks
    detects(STEP("n1", "4"), "srun", 0, 64, 0, -1, "n1:10000");
    detects(STEP("n[1-2]-ib,m", "4,8"), "srun", 0, 64, 0, 8, "n1-ib:10000");
    detects(STEP("a,b", "4(x2)"), "srun", 0, 64, 0, 4, "a:10000");
    detects(STEP("[1-2]", "4(x1),5"), "srun", 0, 64, 0, 5, "1:10000");
    detects(STEP("a", "(x2)"), "srun", 0, 64, 0, -1, "a:10000");
    detects(STEP("a", "4(x"), "srun", 0, 64, 0, -1, "a:10000");
    detects(STEP("a", "0"), "srun", 0, 64, 0, -1, "a:10000");
}
END_TEST

UNIT_MAIN("boot_launcher", each_alone, none, nested, malformed, slurm_lists)
