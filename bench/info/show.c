/* SPDX-License-Identifier: Apache-2.0 */
/* What medley-info shows of this build and this machine, by the means that the library uses itself. */
#include "config.h"

#include "bench/info/info.h"
#include "lib/engine/transports.h"
#include "lib/net/addr.h"
#include "lib/reduce/reduce.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#ifdef HAVE_HWLOC
#include <hwloc.h>
#endif

static void show_build(void)
{
    struct utsname u;

    printf("medley %d.%d.%d\n", MEDLEY_MAJOR, MEDLEY_MINOR, MEDLEY_PATCH);
    printf("  compiler      %s\n", __VERSION__);
#ifdef HAVE_HWLOC
    printf("  hwloc         yes\n");
#else
    printf("  hwloc         no: processors and NUMA nodes are counted by the kernel's means only\n");
#endif
#ifdef HAVE_PMIX
    printf("  PMIx          yes\n");
#else
    printf("  PMIx          no: under Open MPI or Slurm set MEDLEY_COMM_ID\n");
#endif
#ifdef HAVE_IBVERBS
    printf("  libibverbs    found, but this release has no RDMA transport\n");
#else
    printf("  libibverbs    no\n");
#endif
    if (uname(&u) == 0) printf("host            %s, %s %s, %s\n", u.nodename, u.sysname, u.release, u.machine);
}

#ifdef HAVE_HWLOC
static void show_processors(void)
{
    hwloc_topology_t topo;

    if (hwloc_topology_init(&topo) || hwloc_topology_load(topo)) {
        printf("processors      hwloc cannot read this machine\n");
        return;
    }
    printf("processors      %d usable threads, %d cores, %d packages, %d NUMA nodes\n",
           hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_PU), hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_CORE),
           hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_PACKAGE), hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_NUMANODE));
    for (int i = 0; i < hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_NUMANODE); i++) {
        hwloc_obj_t node = hwloc_get_obj_by_type(topo, HWLOC_OBJ_NUMANODE, (unsigned)i);
        char cpus[256];
        hwloc_bitmap_list_snprintf(cpus, sizeof(cpus), node->cpuset);
        printf("  NUMA node %-4d%.1f GiB, processors %s\n", i, (double)node->attr->numanode.local_memory / (1 << 30),
               cpus);
    }
    hwloc_topology_destroy(topo);
}
#else
static void show_processors(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0) printf("processors      %d usable threads\n", CPU_COUNT(&set));
}
#endif

static void show_interfaces(const struct mdl_config *cfg)
{
    struct mdl_addr list[MDL_MAX_ADDRS];
    char text[MDL_ADDR_TEXT_BYTES];
    int n;

    if (mdl_addr_interfaces(cfg, list, MDL_MAX_ADDRS, &n) != medleySuccess) {
        printf("interfaces      none: %s\n", mdl_error_text());
        return;
    }
    printf("interfaces      in order of use (MEDLEY_SOCKET_IFNAME selects)\n");
    for (int i = 0; i < n; i++) {
        mdl_addr_format(&list[i], text);
        printf("  %-14s%s", list[i].ifname, text);
        if (list[i].mbps) printf(", %u Mbit/s", list[i].mbps);
        printf("%s\n", list[i].loopback ? ", loopback" : "");
    }
}

static void show_transports(const struct mdl_config *cfg)
{
    printf("transports      in order of preference (MEDLEY_TRANSPORT=%s)\n", cfg->transport.s);
    for (int t = 0; mdl_transports[t]; t++) {
        struct mdl_transport room;
        const struct mdl_transport *ops = mdl_transport_complete(mdl_transports[t], &room);
        char why[160] = "";
        bool listed = strcmp(ops->name, "self") == 0 || mdl_transport_listed(cfg->transport.s, ops->name);
        medleyResult_t res = ops->probe(cfg, why, sizeof(why));

        printf("  %-14s%s%s%s\n", ops->name,
               res != medleySuccess ? "not usable: "
               : listed             ? "usable"
                                    : "usable, but not in MEDLEY_TRANSPORT",
               res != medleySuccess ? why : "", res == medleySuccess && why[0] ? why : "");
    }
}

static void show_algorithms(const struct mdl_config *cfg)
{
    printf("algorithms     ");
    for (int a = 0; mdl_algos[a]; a++) printf(" %s", mdl_algos[a]->name);
    if (mdl_reduce_select(cfg->simd.s[0] ? cfg->simd.s : NULL) == medleySuccess)
        printf("\nkernels         %s\n", mdl_reduce_selected());
    else
        printf("\nkernels         %s\n", mdl_error_text());
}

void info_show_env(const struct mdl_config *cfg)
{
    struct mdl_config_row row;
    char value[MDL_CONFIG_TEXT_BYTES];

    for (size_t i = 0; mdl_config_row(i, &row); i++) {
        mdl_config_format(cfg, i, value, sizeof(value));
        printf("%s\n    %s\n    kind %s, default %s, here %s\n", row.env, row.help, row.kind,
               row.def[0] ? row.def : "(empty)", value[0] ? value : "(empty)");
    }
}

bool info_show(const struct mdl_config *cfg)
{
    bool all;

    show_build();
    show_processors();
    show_interfaces(cfg);
    show_transports(cfg);
    all = info_show_devices(cfg);
    show_algorithms(cfg);
    return all;
}
