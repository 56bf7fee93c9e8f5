/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts of a rank. `agreed` spells out the settings that must be equal on all ranks because the choice of algorithms
 * depends on them: they are compared as text, so that the error can show both.
 */
#include "config.h"

#include "lib/engine/facts.h"
#include "lib/net/addr.h"

#include <sched.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

static uint32_t usable_cores(void)
{
    cpu_set_t set;
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    if (sched_getaffinity(0, sizeof(set), &set) == 0) n = CPU_COUNT(&set);
    return n < 1 ? 1 : (uint32_t)n;
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

    *f = (struct mdl_rank_facts){.pid = (uint32_t)getpid(), .cores = usable_cores()};
    if (uname(&u) == 0) {
        snprintf(f->host, sizeof(f->host), "%.63s", u.nodename);
        snprintf(f->arch, sizeof(f->arch), "%.63s", u.machine);
    }
    network(c, f);
    snprintf(
        f->agreed, sizeof(f->agreed),
        "MEDLEY_ALGO=%.100s MEDLEY_DETERMINISTIC=%d MEDLEY_ONESHOT=%llu MEDLEY_WINDOW=%llu MEDLEY_MEMORY_BUDGET=%llu",
        c->cfg.algo.s, c->cfg.deterministic, (unsigned long long)c->cfg.oneshot, (unsigned long long)c->cfg.window,
        (unsigned long long)c->cfg.memory_budget);
}

void mdl_facts_write(struct mdl_writer *w, const struct mdl_rank_facts *f)
{
    mdl_write_bytes(w, f->host, sizeof(f->host));
    mdl_write_bytes(w, f->arch, sizeof(f->arch));
    mdl_write_bytes(w, f->agreed, sizeof(f->agreed));
    mdl_write_u32(w, f->pid);
    mdl_write_u32(w, f->cores);
    mdl_write_u32(w, f->net_mbps);
    mdl_write_u32(w, f->rails);
    mdl_write_u64(w, f->board_segment);
    mdl_write_u64(w, f->board_bytes);
}

medleyResult_t mdl_facts_read(struct mdl_reader *r, struct mdl_rank_facts *f)
{
    mdl_read_bytes(r, f->host, sizeof(f->host));
    mdl_read_bytes(r, f->arch, sizeof(f->arch));
    mdl_read_bytes(r, f->agreed, sizeof(f->agreed));
    f->host[sizeof(f->host) - 1] = f->arch[sizeof(f->arch) - 1] = f->agreed[sizeof(f->agreed) - 1] = 0;
    f->pid = mdl_read_u32(r);
    f->cores = mdl_read_u32(r);
    f->net_mbps = mdl_read_u32(r);
    f->rails = mdl_read_u32(r);
    f->board_segment = mdl_read_u64(r);
    f->board_bytes = mdl_read_u64(r);
    if (r->bad) return mdl_error(medleyRemoteError, "a rank's description is too short");
    return medleySuccess;
}
