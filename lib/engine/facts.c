/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts of a rank. `agreed` spells out the settings that must be equal on all ranks because the choice of algorithms
 * depends on them: they are compared as text, so that the error can show both.
 */
#include "config.h"

#include "lib/engine/facts.h"
#include "lib/net/addr.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static void processors(struct mdl_rank_facts *f)
{
    cpu_set_t set;

    f->cores = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return;
    f->cores = (uint32_t)CPU_COUNT(&set);
    for (int i = 0; i < MDL_FACTS_CPU_WORDS * 64 && i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &set)) f->cpus[i / 64] |= 1ull << (i % 64);
    }
}

/* FNV-1a of the kernel's name for this boot. */
static uint64_t read_machine(void)
{
    uint64_t h = 0xcbf29ce484222325u;
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    int c, n = 0;

    if (!f) return 0;
    for (; (c = fgetc(f)) != EOF && c != '\n'; n++) h = (h ^ (uint64_t)c) * 0x100000001b3u;
    fclose(f);
    return n >= 32 ? h | 1 : 0;
}

static uint64_t machine(void)
{
    static _Atomic uint64_t known; /* relaxed: everybody who reads it anew reads the same */
    uint64_t m = atomic_load_explicit(&known, memory_order_relaxed);

    if (m) return m;
    m = read_machine();
    atomic_store_explicit(&known, m, memory_order_relaxed);
    return m;
}

/* Host names tell apart only where the kernel cannot be asked: containers of one machine have names of their own. */
bool mdl_facts_share_machine(const struct mdl_rank_facts *a, const struct mdl_rank_facts *b)
{
    if (a->machine && b->machine) return a->machine == b->machine;
    return strcmp(a->host, b->host) == 0;
}

/* Ranks that do not share memory, since MEDLEY_TRANSPORT, MEDLEY_HOST_ID or their containers keep them apart, share the
 * processors all the same. */
bool mdl_facts_crowded(const struct mdl_rank_facts *all, int nranks, int rank)
{
    const struct mdl_rank_facts *own = &all[rank];
    uint64_t cpus[MDL_FACTS_CPU_WORDS] = {0};
    uint32_t here = 0, cores = 0;

    for (int r = 0; r < nranks; r++) {
        if (!mdl_facts_share_machine(&all[r], own)) continue;
        here++;
        for (int w = 0; w < MDL_FACTS_CPU_WORDS; w++) cpus[w] |= all[r].cpus[w];
    }
    for (int w = 0; w < MDL_FACTS_CPU_WORDS; w++) cores += (uint32_t)__builtin_popcountll(cpus[w]);
    return here > (cores > own->cores ? cores : own->cores);
}

static void network(const struct mdl_comm *c, struct mdl_rank_facts *f)
{
    struct mdl_addr list[MDL_MAX_ADDRS];
    int n = mdl_ctl_door(c->ctl) ? mdl_door_addresses(mdl_ctl_door(c->ctl), list) : 0;

    f->rails = 0;
    for (int i = 0; i < n; i++) {
        bool again = list[i].loopback;
        for (int j = 0; j < i; j++) again |= strcmp(list[j].ifname, list[i].ifname) == 0;
        if (list[i].mbps > f->net_mbps) f->net_mbps = list[i].mbps;
        f->rails += !again;
    }
    if (f->rails == 0) f->rails = 1;
}

void mdl_facts_own(const struct mdl_comm *c, struct mdl_rank_facts *f)
{
    struct utsname u;

    *f = (struct mdl_rank_facts){.pid = (uint32_t)getpid(), .machine = machine()};
    processors(f);
    if (uname(&u) == 0) {
        snprintf(f->host, sizeof(f->host), "%.63s", u.nodename);
        snprintf(f->arch, sizeof(f->arch), "%.63s", u.machine);
    }
    network(c, f);
    snprintf(f->device, sizeof(f->device), "%.63s", c->cfg.device.s); /* resolved when the communicator was asked for */
    snprintf(
        f->agreed, sizeof(f->agreed),
        "MEDLEY_ALGO=%.100s MEDLEY_DETERMINISTIC=%d MEDLEY_ONESHOT=%llu MEDLEY_WINDOW=%llu MEDLEY_MEMORY_BUDGET=%llu",
        c->cfg.algo.s, c->cfg.deterministic, (unsigned long long)c->cfg.oneshot, (unsigned long long)c->cfg.window,
        (unsigned long long)c->cfg.memory_budget);
    if (!c->cfg.islands) strncat(f->agreed, " MEDLEY_ISLANDS=0", sizeof(f->agreed) - strlen(f->agreed) - 1);
}

void mdl_facts_write(struct mdl_writer *w, const struct mdl_rank_facts *f)
{
    mdl_write_bytes(w, f->host, sizeof(f->host));
    mdl_write_bytes(w, f->arch, sizeof(f->arch));
    mdl_write_bytes(w, f->agreed, sizeof(f->agreed));
    mdl_write_bytes(w, f->device, sizeof(f->device));
    mdl_write_u32(w, f->pid);
    mdl_write_u32(w, f->cores);
    mdl_write_u32(w, f->net_mbps);
    mdl_write_u32(w, f->rails);
    mdl_write_u64(w, f->board_segment);
    mdl_write_u64(w, f->board_bytes);
    for (int i = 0; i < MDL_FACTS_CPU_WORDS; i++) mdl_write_u64(w, f->cpus[i]);
    mdl_write_u64(w, f->machine);
    mdl_write_u64(w, f->board_place);
}

medleyResult_t mdl_facts_read(struct mdl_reader *r, struct mdl_rank_facts *f)
{
    mdl_read_bytes(r, f->host, sizeof(f->host));
    mdl_read_bytes(r, f->arch, sizeof(f->arch));
    mdl_read_bytes(r, f->agreed, sizeof(f->agreed));
    mdl_read_bytes(r, f->device, sizeof(f->device));
    f->device[sizeof(f->device) - 1] = f->host[sizeof(f->host) - 1] = f->arch[sizeof(f->arch) - 1] = f->agreed[sizeof(f->agreed) - 1] = 0;
    f->pid = mdl_read_u32(r);
    f->cores = mdl_read_u32(r);
    f->net_mbps = mdl_read_u32(r);
    f->rails = mdl_read_u32(r);
    f->board_segment = mdl_read_u64(r);
    f->board_bytes = mdl_read_u64(r);
    for (int i = 0; i < MDL_FACTS_CPU_WORDS; i++) f->cpus[i] = mdl_read_u64(r);
    f->machine = mdl_read_u64(r);
    f->board_place = mdl_read_u64(r);
    if (r->bad) return mdl_error(medleyRemoteError, "a rank's description is too short");
    return medleySuccess;
}
