/* SPDX-License-Identifier: Apache-2.0 */
/* Who the ranks are: the entries that READY and the first all-gather bring, kept as they travel and read when needed.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/boot/ctl.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HOST_AT = 4 + 4 + 8 + 8 + 1, SERVICE_AT = 8, WARN_MS = 5000 };

uint64_t mdl_members_warn_ns(const struct mdl_config *cfg)
{
    uint64_t ms = (uint64_t)cfg->init_timeout / 4;
    return (ms < WARN_MS ? ms : WARN_MS) * MDL_NS_PER_MS;
}

static uint64_t place_of(const char *host_id)
{
    uint8_t hash[crypto_generichash_BYTES_MIN];
    if (!host_id[0]) return 0;
    crypto_generichash(hash, sizeof(hash), (const unsigned char *)host_id, strlen(host_id), NULL, 0);
    return mdl_get_u64(hash);
}

void mdl_members_self(struct mdl_ctl *ctl, struct mdl_member *m)
{
    struct mdl_addr tcp[MDL_MAX_ADDRS];
    const struct mdl_addr *same_host = mdl_door_unix(ctl->door);
    int n = mdl_door_addresses(ctl->door, tcp);
    memset(m, 0, sizeof(*m));
    m->rank = ctl->rank;
    m->pid = (uint32_t)ctl->pid;
    m->service = ctl->service_number;
    m->place = place_of(ctl->cfg.host_id.s);
    if (gethostname(m->host, sizeof(m->host) - 1) < 0 || !m->host[0]) memcpy(m->host, "?", 2);
    if (same_host) m->addrs[m->naddrs++] = *same_host;
    for (int i = 0; i < n && m->naddrs < MDL_MAX_ADDRS; i++) m->addrs[m->naddrs++] = tcp[i];
}

/* Before the whole list is there: the tree neighbours, one by one. */
medleyResult_t mdl_members_add(struct mdl_ctl *ctl, const struct mdl_member *m)
{
    struct mdl_writer w = {.cap = MDL_MEMBER_BYTES};
    if (m->rank >= ctl->nranks || ctl->entries[m->rank])
        return mdl_error(medleyInternalError, "the root described rank %u, which this rank does not expect", m->rank);
    w.p = malloc(MDL_MEMBER_BYTES);
    if (!w.p) return mdl_system_error(ENOMEM, "no memory for the ranks' addresses");
    mdl_member_write(&w, m);
    ctl->entries[m->rank] = w.p;
    ctl->entry_len[m->rank] = (uint32_t)w.len;
    return medleySuccess;
}

static void drop_single(struct mdl_ctl *ctl)
{
    for (uint32_t r = 0; r < ctl->nranks && !ctl->members; r++) {
        free(ctl->entries[r]);
        ctl->entries[r] = NULL;
    }
}

void mdl_members_free(struct mdl_ctl *ctl)
{
    if (ctl->entries) drop_single(ctl);
    free(ctl->members);
    free(ctl->entries);
    free(ctl->entry_len);
}

/* Is every block of the blob the entry of the rank that gave it? Makes the host names printable in place. */
static bool blob_is_sound(uint8_t *blob, size_t len, uint32_t nranks)
{
    struct mdl_reader r = {.p = blob, .left = len};
    const uint8_t *bytes;
    uint32_t rank, n, count = 0;
    bool sound = true;
    struct mdl_member *m = malloc(sizeof(*m));
    while (m && sound && mdl_block_read(&r, &rank, &bytes, &n)) {
        struct mdl_reader entry = {.p = bytes, .left = n};
        sound = rank < nranks && mdl_member_read(&entry, m) && !entry.left && m->rank == rank;
        if (sound) memcpy(blob + (bytes - blob) + HOST_AT, m->host, strlen(m->host) + 1);
        count++;
    }
    free(m);
    return m && sound && !r.bad && count == nranks;
}

medleyResult_t mdl_members_install(struct mdl_ctl *ctl, const uint8_t *blob, size_t len)
{
    const uint8_t *bytes;
    uint32_t rank, n;
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy) return mdl_system_error(ENOMEM, "no memory for the addresses of %u ranks", ctl->nranks);
    memcpy(copy, blob, len);
    if (!blob_is_sound(copy, len, ctl->nranks)) {
        free(copy);
        return mdl_error(medleyInternalError, "rank %u got a broken list of the ranks' addresses", ctl->rank);
    }
    drop_single(ctl);
    free(ctl->members);
    ctl->members = copy;
    struct mdl_reader r = {.p = copy, .left = len};
    while (mdl_block_read(&r, &rank, &bytes, &n)) {
        ctl->entries[rank] = copy + (bytes - copy);
        ctl->entry_len[rank] = n;
    }
    ctl->complete = true;
    return medleySuccess;
}

/* A derived plane: the parent's entries with new ranks, the services numbered by the parent's. */
medleyResult_t mdl_members_copy(struct mdl_ctl *ctl, const struct mdl_ctl *from, const int *ranks)
{
    size_t len = 0, at = 0;
    for (uint32_t r = 0; r < ctl->nranks; r++) len += from->entry_len[ranks[r]];
    ctl->members = malloc(len ? len : 1);
    if (!ctl->members) return mdl_system_error(ENOMEM, "no memory for the addresses of %u ranks", ctl->nranks);
    for (uint32_t r = 0; r < ctl->nranks; r++) {
        uint8_t *entry = ctl->members + at;
        memcpy(entry, from->entries[ranks[r]], from->entry_len[ranks[r]]);
        mdl_put_u32(entry, r);
        mdl_put_u64(entry + SERVICE_AT, (uint64_t)ranks[r]);
        ctl->entries[r] = entry;
        ctl->entry_len[r] = from->entry_len[ranks[r]];
        at += ctl->entry_len[r];
    }
    ctl->complete = true;
    return medleySuccess;
}

bool mdl_members_get(const struct mdl_ctl *ctl, uint32_t rank, struct mdl_member *m)
{
    struct mdl_reader r = {.p = ctl->entries[rank], .left = ctl->entry_len[rank]};
    return ctl->entries[rank] && mdl_member_read(&r, m);
}

const char *mdl_ctl_host(const struct mdl_ctl *ctl, int rank)
{
    if (rank < 0 || (uint32_t)rank >= ctl->nranks || !ctl->entries[rank]) return "?";
    return (const char *)ctl->entries[rank] + HOST_AT;
}

/* "3 (hostA), 5-7": single ranks with their hosts. */
void mdl_members_name(const struct mdl_ctl *ctl, const struct mdl_ranges *set, char *text, size_t bytes)
{
    size_t at = 0;
    struct mdl_ranges rest = {.count = set->count};
    int i = 0;
    for (; i < set->n && set->at[i].first == set->at[i].last && at + 200 < bytes; i++) {
        const char *host = mdl_ctl_host(ctl, (int)set->at[i].first);
        bool known = strcmp(host, "?") != 0;
        at += (size_t)snprintf(text + at, bytes - at, "%s%u%s%s%s", i ? ", " : "", set->at[i].first, known ? " (" : "",
                               known ? host : "", known ? ")" : "");
        rest.count--;
    }
    for (; i < set->n; i++) rest.at[rest.n++] = set->at[i];
    if (!rest.count && at) return;
    if (at) at += (size_t)snprintf(text + at, bytes - at, ", ");
    mdl_ranges_format(&rest, text + at, bytes - at);
}
