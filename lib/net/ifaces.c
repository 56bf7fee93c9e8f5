/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which interfaces to use.
 *
 * MEDLEY_SOCKET_IFNAME is a comma-separated list. An item is a name prefix (eth), an exact name (=eth0), an address or
 * a CIDR block (10.0.0.0/8, fd00::/16); ^ before it leaves out what it matches. As in NCCL, a mark before the first
 * item (^docker,lo or =eth0,eth1) also counts for the items after it that have none. An address is taken if no
 * excluding item matches and, where there are including ones, one of those does. Link-local IPv6 is taken only when a
 * block of link-local addresses asks for it, because its scope means nothing to other hosts.
 */
#include "config.h"
#include "lib/net/addr.h"
#include "lib/base/clock.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_ITEMS = 64, MAX_FOUND = 256, KNOWN_MS = 250 };

struct item {
    bool exclude, exact, cidr;
    char name[MDL_CONFIG_TEXT_BYTES];
    int family, bits;
    uint8_t net[16];
};

struct choice {
    int family; /* AF_UNSPEC: both */
    int nitems;
    bool includes;
    struct item items[MAX_ITEMS];
};

/* ---- reading the rules ---- */

static bool parse_cidr(struct item *item)
{
    char text[MDL_CONFIG_TEXT_BYTES];
    memcpy(text, item->name, sizeof(text));
    char *slash = strchr(text, '/'), *rest = NULL;
    if (slash) *slash = 0;
    item->family = strchr(text, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(item->family, text, item->net) != 1) return false;
    int most = item->family == AF_INET ? 32 : 128;
    long bits = most;
    if (slash) {
        if (slash[1] < '0' || slash[1] > '9') return false;
        bits = strtol(slash + 1, &rest, 10);
        if (*rest || bits > most) return false;
    }
    item->bits = (int)bits;
    return true;
}

static bool looks_like_address(const char *text)
{
    uint8_t raw[16];
    return strchr(text, '/') || strchr(text, ':') || inet_pton(AF_INET, text, raw) == 1;
}

/* `sticky` carries the marks of the first item. */
static bool parse_item(const char *text, size_t len, bool first, struct item *sticky, struct item *item)
{
    memset(item, 0, sizeof(*item));
    for (; len && (*text == '^' || *text == '='); text++, len--) {
        if (*text == '^') item->exclude = true;
        if (*text == '=') item->exact = true;
    }
    if (!len || len >= sizeof(item->name)) return false;
    if (first) *sticky = *item;
    item->exclude |= sticky->exclude;
    item->exact |= sticky->exact;
    memcpy(item->name, text, len);
    item->cidr = looks_like_address(item->name);
    return !item->cidr || parse_cidr(item);
}

static medleyResult_t parse_items(const char *text, struct choice *choice)
{
    struct item sticky = {0};
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, ",");
        struct item *item = &choice->items[choice->nitems];
        if (choice->nitems == MAX_ITEMS || !parse_item(p, len, p == text, &sticky, item) || (p[len] && !p[len + 1]))
            return mdl_error(medleyInvalidArgument,
                             "MEDLEY_SOCKET_IFNAME=%s: %.*s is not an interface, =interface, ^interface or CIDR block",
                             text, (int)len, p);
        choice->includes |= !item->exclude;
        choice->nitems++;
        p += len + (p[len] == ',');
    }
    return medleySuccess;
}

static medleyResult_t parse_choice(const struct mdl_config *cfg, struct choice *choice)
{
    memset(choice, 0, sizeof(*choice));
    const char *family = cfg->socket_family.s;
    if (!strcmp(family, "AF_INET"))
        choice->family = AF_INET;
    else if (!strcmp(family, "AF_INET6"))
        choice->family = AF_INET6;
    else if (*family)
        return mdl_error(medleyInvalidArgument, "MEDLEY_SOCKET_FAMILY=%s: write AF_INET or AF_INET6", family);
    return parse_items(cfg->socket_ifname.s, choice);
}

bool mdl_addr_explicit(const struct mdl_config *cfg)
{
    const char *text = cfg->socket_ifname.s + strspn(cfg->socket_ifname.s, "=");
    return *text && *text != '^';
}

/* ---- applying them ---- */

static const void *raw_of(const struct mdl_addr *a)
{
    if (a->sa.ss_family == AF_INET) return &((const struct sockaddr_in *)&a->sa)->sin_addr;
    return &((const struct sockaddr_in6 *)&a->sa)->sin6_addr;
}

static bool is_link_local(const struct mdl_addr *a)
{
    return a->sa.ss_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)raw_of(a));
}

static bool in_block(const struct item *item, const struct mdl_addr *a)
{
    if (a->sa.ss_family != item->family) return false;
    const uint8_t *raw = raw_of(a);
    int bytes = item->bits / 8, bits = item->bits % 8;
    if (memcmp(raw, item->net, (size_t)bytes)) return false;
    return !bits || !((raw[bytes] ^ item->net[bytes]) >> (8 - bits));
}

static bool item_matches(const struct item *item, const struct mdl_addr *a)
{
    if (item->cidr) return in_block(item, a);
    return item->exact ? !strcmp(a->ifname, item->name) : !strncmp(a->ifname, item->name, strlen(item->name));
}

/* A block that holds only link-local addresses. */
static bool wants_link_local(const struct item *item)
{
    return item->cidr && item->family == AF_INET6 && item->bits >= 10 && item->net[0] == 0xfe &&
           (item->net[1] & 0xc0) == 0x80;
}

static bool chosen(const struct choice *choice, const struct mdl_addr *a)
{
    bool taken = !choice->includes, local_taken = false;
    if (choice->family != AF_UNSPEC && choice->family != a->sa.ss_family) return false;
    for (int i = 0; i < choice->nitems; i++) {
        const struct item *item = &choice->items[i];
        if (!item_matches(item, a)) continue;
        if (item->exclude) return false;
        taken = true;
        local_taken |= wants_link_local(item);
    }
    return taken && (!is_link_local(a) || local_taken);
}

/* Bridges and pairs that container and virtual-machine software makes: every host has them with the same addresses, so
 * they come last. */
static bool is_virtual(const char *ifname)
{
    static const char *const prefixes[] = {"docker", "virbr", "br-",  "lxcbr", "lxdbr",   "incusbr", "cni",  "podman",
                                           "veth",   "vmnet", "vbox", "cali",  "flannel", "cilium",  "kube", "cbr"};
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
        if (!strncmp(ifname, prefixes[i], strlen(prefixes[i]))) return true;
    return false;
}

static int order_of(const struct mdl_addr *a) { return a->loopback ? 2 : is_virtual(a->ifname) ? 1 : 0; }

static void list_found(const struct mdl_addr *found, int nfound, char *text, size_t bytes)
{
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; i < nfound && at < bytes; i++) {
        char one[MDL_ADDR_TEXT_BYTES];
        struct mdl_addr a = found[i];
        mdl_addr_format(&a, one);
        *strrchr(one, ':') = 0; /* the port says nothing here */
        at += (size_t)snprintf(text + at, bytes - at, "%s%s %s", i ? ", " : "", a.ifname, one);
    }
}

static medleyResult_t none_chosen(const struct mdl_config *cfg, const struct mdl_addr *found, int nfound)
{
    char have[300];
    list_found(found, nfound, have, sizeof(have));
    if (!nfound) return mdl_error(medleySystemError, "no network interface is up, not even loopback");
    return mdl_error(medleyInvalidArgument, "MEDLEY_SOCKET_IFNAME=%s MEDLEY_SOCKET_FAMILY=%s leave no address of: %s",
                     cfg->socket_ifname.s, cfg->socket_family.s, have);
}

medleyResult_t mdl_addr_select(const struct mdl_config *cfg, const struct mdl_addr *found, int nfound,
                               struct mdl_addr *list, int cap, int *count)
{
    struct choice choice;
    int n = 0;
    MDL_TRY(parse_choice(cfg, &choice));
    for (int order = 0; order <= 2; order++)
        for (int i = 0; i < nfound && n < cap; i++)
            if (order_of(&found[i]) == order && chosen(&choice, &found[i])) list[n++] = found[i];
    if (!n) return none_chosen(cfg, found, nfound);
    *count = n;
    return medleySuccess;
}

/* ---- what there is ---- */

static uint32_t speed_of(const char *ifname)
{
    char path[128];
    long mbps = 0;
    snprintf(path, sizeof(path), "/sys/class/net/%s/speed", ifname);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%ld", &mbps) != 1 || mbps < 0 || mbps > 100000000) mbps = 0;
    fclose(f);
    return (uint32_t)mbps;
}

static bool usable(const struct ifaddrs *ifa)
{
    unsigned need = ifa->ifa_flags & IFF_LOOPBACK ? IFF_UP : IFF_UP | IFF_RUNNING;
    return ifa->ifa_addr && (ifa->ifa_flags & need) == need &&
           (ifa->ifa_addr->sa_family == AF_INET || ifa->ifa_addr->sa_family == AF_INET6);
}

static void take(const struct ifaddrs *ifa, struct mdl_addr *a)
{
    memset(a, 0, sizeof(*a));
    a->len = ifa->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    memcpy(&a->sa, ifa->ifa_addr, a->len);
    snprintf(a->ifname, sizeof(a->ifname), "%s", ifa->ifa_name);
    a->loopback = ifa->ifa_flags & IFF_LOOPBACK;
}

/* All addresses of interfaces that are up, in a list that the caller frees. */
static medleyResult_t gather(struct mdl_addr **list, int *count)
{
    struct ifaddrs *all;
    struct mdl_addr *found = calloc(MAX_FOUND, sizeof(*found));
    if (!found) return mdl_system_error(ENOMEM, "the network interfaces cannot be listed");
    if (getifaddrs(&all) < 0) {
        int err = errno;
        free(found);
        return mdl_system_error(err, "the network interfaces cannot be listed");
    }
    int n = 0;
    for (struct ifaddrs *ifa = all; ifa && n < MAX_FOUND; ifa = ifa->ifa_next)
        if (usable(ifa)) take(ifa, &found[n++]);
    freeifaddrs(all);
    *list = found;
    *count = n;
    return medleySuccess;
}

medleyResult_t mdl_addr_interfaces(const struct mdl_config *cfg, struct mdl_addr *list, int cap, int *count)
{
    struct mdl_addr *found;
    int nfound, n;
    MDL_TRY(gather(&found, &nfound));
    medleyResult_t result = mdl_addr_select(cfg, found, nfound, list, cap, &n);
    free(found);
    if (result != medleySuccess) return result;
    for (int i = 0; i < n; i++) list[i].mbps = speed_of(list[i].ifname);
    *count = n;
    return medleySuccess;
}

/* Under the lock: the last choice that left something, and when. */
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    uint64_t until_ns;
    char names[MDL_CONFIG_TEXT_BYTES], family[MDL_CONFIG_TEXT_BYTES];
} known;

medleyResult_t mdl_addr_interfaces_check(const struct mdl_config *cfg)
{
    struct mdl_addr list[MDL_MAX_ADDRS];
    int n;
    pthread_mutex_lock(&known_lock);
    bool again = mdl_now_ns() < known.until_ns && !strcmp(known.names, cfg->socket_ifname.s) &&
                 !strcmp(known.family, cfg->socket_family.s);
    pthread_mutex_unlock(&known_lock);
    if (again) return medleySuccess;
    MDL_TRY(mdl_addr_interfaces(cfg, list, MDL_MAX_ADDRS, &n));
    pthread_mutex_lock(&known_lock);
    known.until_ns = mdl_now_ns() + KNOWN_MS * MDL_NS_PER_MS;
    snprintf(known.names, sizeof(known.names), "%s", cfg->socket_ifname.s);
    snprintf(known.family, sizeof(known.family), "%s", cfg->socket_family.s);
    pthread_mutex_unlock(&known_lock);
    return medleySuccess;
}

void mdl_addr_interface_of(int fd, char *name, size_t bytes)
{
    struct mdl_addr local = {.len = sizeof(local.sa)}, *found;
    int n;
    if (bytes) name[0] = 0;
    if (getsockname(fd, (struct sockaddr *)&local.sa, &local.len) < 0 || local.sa.ss_family == AF_UNIX) return;
    if (gather(&found, &n) != medleySuccess) return;
    for (int i = 0; i < n; i++)
        if (mdl_addr_same_host(&found[i], &local)) {
            snprintf(name, bytes, "%s", found[i].ifname);
            break;
        }
    free(found);
}
