/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unique ids.
 *
 * An id from MEDLEY_COMM_ID is computed, not made: its secret is a slow hash of the key (MEDLEY_COMM_KEY, or the
 * content of MEDLEY_COMM_KEY_FILE) salted with the text of MEDLEY_COMM_ID, so that all ranks with the same two get the
 * same id, even where the host name resolves to another address. Nobody serves it until rank 0 joins. Without a key the
 * secret is known to everybody, so that is allowed on loopback only.
 */
#include "config.h"
#include "lib/boot/id.h"
#include "lib/base/log.h"
#include "lib/boot/root.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID_MAGIC 0x594c444du /* "MDLY" */
enum { KEY_LEAST = 16, KEY_MOST = 4096, KEY_PASSES = 3, KEY_MEMORY = 8 << 20, MAX_RESOLVED = 16, MAX_HERE = 64 };

/* ---- the 128 bytes ---- */

void mdl_id_write(const struct mdl_id *id, medleyUniqueId *bytes)
{
    struct mdl_writer w = {.p = (uint8_t *)bytes->internal, .cap = sizeof(bytes->internal)};
    memset(bytes, 0, sizeof(*bytes));
    mdl_write_u32(&w, ID_MAGIC);
    mdl_write_u16(&w, MDL_ID_VERSION);
    mdl_write_u8(&w, (uint8_t)id->naddrs);
    mdl_write_u8(&w, id->flags);
    mdl_write_bytes(&w, id->secret.key, sizeof(id->secret.key));
    for (int i = 0; i < id->naddrs; i++) mdl_addr_write(&w, &id->addrs[i]);
}

static bool is_zero(struct mdl_reader *r)
{
    uint8_t any = 0;
    while (r->left) any |= mdl_read_u8(r);
    return !any;
}

medleyResult_t mdl_id_read(const medleyUniqueId *bytes, struct mdl_id *id)
{
    struct mdl_reader r = {.p = (const uint8_t *)bytes->internal, .left = sizeof(bytes->internal)};
    struct mdl_id got = {0};
    if (mdl_read_u32(&r) != ID_MAGIC)
        return mdl_error(medleyInvalidArgument,
                         "this is not a unique id from medleyGetUniqueId (was it sent whole, all "
                         "%d bytes?)",
                         MEDLEY_UNIQUE_ID_BYTES);
    uint16_t version = mdl_read_u16(&r);
    if (version != MDL_ID_VERSION)
        return mdl_error(medleyInvalidArgument,
                         "the unique id has version %u, this library knows version %d: all ranks need the same release",
                         version, MDL_ID_VERSION);
    got.naddrs = mdl_read_u8(&r);
    got.flags = mdl_read_u8(&r);
    mdl_read_bytes(&r, got.secret.key, sizeof(got.secret.key));
    if (got.naddrs < 1 || got.naddrs > MDL_ID_ADDRS)
        return mdl_error(medleyInvalidArgument, "the unique id is damaged: it has %d addresses", got.naddrs);
    for (int i = 0; i < got.naddrs; i++)
        if (mdl_addr_read(&r, &got.addrs[i]) != medleySuccess)
            return mdl_error(medleyInvalidArgument, "the unique id is damaged: address %d is none", i);
    if (!is_zero(&r)) return mdl_error(medleyInvalidArgument, "the unique id is damaged: its last bytes are not zero");
    *id = got;
    sodium_memzero(&got, sizeof(got));
    return medleySuccess;
}

medleyResult_t mdl_boot_id_check(const medleyUniqueId *id)
{
    struct mdl_id parsed;
    if (!id) return mdl_error(medleyInvalidArgument, "the unique id is NULL");
    medleyResult_t result = mdl_id_read(id, &parsed);
    sodium_memzero(&parsed, sizeof(parsed));
    return result;
}

void mdl_id_addresses(const struct mdl_id *id, char *text, size_t bytes)
{
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; i < id->naddrs && at < bytes; i++) {
        char one[MDL_ADDR_TEXT_BYTES];
        mdl_addr_format(&id->addrs[i], one);
        at += (size_t)snprintf(text + at, bytes - at, "%s%s", i ? ", " : "", one);
    }
}

/* ---- the key ---- */

static medleyResult_t check_key_file(const char *path, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0) return mdl_system_error(errno, "MEDLEY_COMM_KEY_FILE=%s", path);
    if (!S_ISREG(st.st_mode))
        return mdl_error(medleyInvalidUsage, "MEDLEY_COMM_KEY_FILE=%s is not a regular file", path);
    if (st.st_mode & 077)
        return mdl_error(medleyInvalidUsage,
                         "MEDLEY_COMM_KEY_FILE=%s may be read or changed by others (mode %04o): run chmod 600 on it",
                         path, (unsigned)(st.st_mode & 07777));
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return mdl_error(medleyInvalidUsage, "MEDLEY_COMM_KEY_FILE=%s belongs to user %u, not to this process's", path,
                         (unsigned)st.st_uid);
    return medleySuccess;
}

static medleyResult_t read_key(const char *path, int fd, char key[KEY_MOST + 1], size_t *len)
{
    size_t n = 0;
    MDL_TRY(check_key_file(path, fd));
    for (;;) {
        ssize_t got = read(fd, key + n, KEY_MOST + 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return mdl_system_error(errno, "MEDLEY_COMM_KEY_FILE=%s", path);
        if (got == 0) break;
        n += (size_t)got;
        if (n > KEY_MOST)
            return mdl_error(medleyInvalidUsage, "MEDLEY_COMM_KEY_FILE=%s is longer than %d bytes", path, KEY_MOST);
    }
    while (n && (key[n - 1] == '\n' || key[n - 1] == '\r')) n--;
    *len = n;
    return medleySuccess;
}

static medleyResult_t load_key_file(const char *path, char key[KEY_MOST + 1], size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return mdl_system_error(errno, "MEDLEY_COMM_KEY_FILE=%s cannot be opened", path);
    medleyResult_t result = read_key(path, fd, key, len);
    close(fd);
    return result;
}

/* *len 0: there is none. */
static medleyResult_t load_key(const struct mdl_config *cfg, char key[KEY_MOST + 1], size_t *len)
{
    *len = strlen(cfg->comm_key.s);
    const char *from = "MEDLEY_COMM_KEY";
    if (*len && cfg->comm_key_file.s[0])
        return mdl_error(medleyInvalidUsage, "MEDLEY_COMM_KEY and MEDLEY_COMM_KEY_FILE are both set: unset one");
    memcpy(key, cfg->comm_key.s, *len);
    if (!*len && !cfg->comm_key_file.s[0]) return medleySuccess;
    if (!*len) {
        MDL_TRY(load_key_file(cfg->comm_key_file.s, key, len));
        from = "MEDLEY_COMM_KEY_FILE";
    }
    if (*len >= KEY_LEAST) return medleySuccess;
    return mdl_error(medleyInvalidUsage,
                     "the key in %s has %zu characters, fewer than %d: take a random one, such as "
                     "the output of `openssl rand -hex 32`",
                     from, *len, KEY_LEAST);
}

/* ---- MEDLEY_COMM_ID ---- */

static bool is_wildcard(const struct mdl_addr *a)
{
    char text[MDL_ADDR_TEXT_BYTES];
    mdl_addr_format(a, text);
    return !strncmp(text, "0.0.0.0:", 8) || !strncmp(text, "[::]:", 5);
}

static int family_of(const struct mdl_config *cfg)
{
    const char *family = cfg->socket_family.s;
    return !strcmp(family, "AF_INET") ? AF_INET : !strcmp(family, "AF_INET6") ? AF_INET6 : AF_UNSPEC;
}

/* Resolves comm_id. A name that means 127.0.1.1 or the like is 127.0.0.1: the one that an interface has. */
static medleyResult_t resolve(const struct mdl_config *cfg, struct mdl_id *id)
{
    struct mdl_addr all[MAX_RESOLVED], local;
    int n, nlocal;
    medleyResult_t result = mdl_addr_parse(cfg->comm_id.s, all, MAX_RESOLVED, &n);
    if (result == medleyInvalidArgument)
        return mdl_error(medleyInvalidArgument,
                         "MEDLEY_COMM_ID=%s: write host:port or [IPv6 address]:port, with the port on which rank 0 will "
                         "listen, from 1 to 65535",
                         cfg->comm_id.s);
    MDL_TRY(result);
    for (int i = 0; i < n && id->naddrs < MDL_ID_ADDRS; i++) {
        if (is_wildcard(&all[i]))
            return mdl_error(medleyInvalidArgument,
                             "MEDLEY_COMM_ID=%s: the other ranks need a real address, that of rank 0's host",
                             cfg->comm_id.s);
        if (family_of(cfg) != AF_UNSPEC && all[i].sa.ss_family != family_of(cfg)) continue;
        if (all[i].loopback && all[i].sa.ss_family == AF_INET) {
            char text[32];
            snprintf(text, sizeof(text), "127.0.0.1:%u", mdl_addr_port(&all[i]));
            MDL_TRY(mdl_addr_parse(text, &local, 1, &nlocal));
            all[i] = local;
        }
        bool known = false;
        for (int k = 0; k < id->naddrs; k++) known |= mdl_addr_same_host(&id->addrs[k], &all[i]);
        if (!known) id->addrs[id->naddrs++] = all[i];
    }
    if (id->naddrs) return medleySuccess;
    return mdl_error(medleyInvalidArgument, "MEDLEY_COMM_ID=%s has no address of the family MEDLEY_SOCKET_FAMILY=%s",
                     cfg->comm_id.s, cfg->socket_family.s);
}

static medleyResult_t derive_secret(const char *key, size_t len, const char *comm_id, struct mdl_secret *secret)
{
    static const char label[] = "medley comm id";
    unsigned char salt[crypto_pwhash_SALTBYTES];
    crypto_generichash(salt, sizeof(salt), (const unsigned char *)comm_id, strlen(comm_id),
                       (const unsigned char *)label, sizeof(label));
    if (crypto_pwhash(secret->key, sizeof(secret->key), key, len, salt, KEY_PASSES, KEY_MEMORY,
                      crypto_pwhash_ALG_ARGON2ID13) != 0)
        return mdl_system_error(ENOMEM, "the key of MEDLEY_COMM_ID cannot be computed");
    return medleySuccess;
}

static medleyResult_t fill_fixed(const struct mdl_config *cfg, char *key, struct mdl_id *id)
{
    size_t len;
    MDL_TRY(load_key(cfg, key, &len));
    MDL_TRY(resolve(cfg, id));
    for (int i = 0; i < id->naddrs && !len; i++) {
        char text[MDL_ADDR_TEXT_BYTES];
        if (id->addrs[i].loopback) continue;
        mdl_addr_format(&id->addrs[i], text);
        return mdl_error(medleyInvalidUsage,
                         "MEDLEY_COMM_ID=%s (%s) is not loopback: set MEDLEY_COMM_KEY or MEDLEY_COMM_KEY_FILE to the "
                         "same secret on all ranks, or anybody who reaches the port could join",
                         cfg->comm_id.s, text);
    }
    return derive_secret(key, len, cfg->comm_id.s, &id->secret);
}

medleyResult_t mdl_id_fixed(const struct mdl_config *cfg, struct mdl_id *id)
{
    char key[KEY_MOST + 1];
    struct mdl_id made = {.flags = MDL_ID_FIXED};
    if (sodium_init() < 0) return mdl_error(medleySystemError, "libsodium cannot be initialised");
    medleyResult_t result = fill_fixed(cfg, key, &made);
    if (result == medleySuccess) *id = made;
    sodium_memzero(key, sizeof(key));
    sodium_memzero(&made, sizeof(made));
    return result;
}

/* Those of the id's addresses that this machine has, as a rule for socket_ifname; false: none. */
static bool own_addresses(const struct mdl_config *cfg, const struct mdl_id *id, char *rule, size_t bytes)
{
    struct mdl_config every = *cfg;
    struct mdl_addr here[MAX_HERE];
    size_t at = 0;
    int n;
    snprintf(every.socket_ifname.s, sizeof(every.socket_ifname.s), "0.0.0.0/0,::/0,fe80::/10");
    if (mdl_addr_interfaces(&every, here, MAX_HERE, &n) != medleySuccess) return false;
    for (int i = 0; i < id->naddrs; i++)
        for (int k = 0; k < n; k++) {
            char text[MDL_ADDR_TEXT_BYTES];
            if (!mdl_addr_same_host(&id->addrs[i], &here[k])) continue;
            mdl_addr_format(&here[k], text);
            *strrchr(text, ':') = 0;
            if (text[0] == '[') text[strlen(text) - 1] = 0;
            at += (size_t)snprintf(rule + at, bytes - at, "%s%s", at ? "," : "", text + (text[0] == '['));
            break;
        }
    return at > 0;
}

medleyResult_t mdl_id_door(const struct mdl_config *cfg, const struct mdl_id *id, struct mdl_door **door)
{
    struct mdl_config at = *cfg;
    unsigned port = mdl_addr_port(&id->addrs[0]);
    char text[MDL_ID_ADDRS * MDL_ADDR_TEXT_BYTES];
    if (!own_addresses(cfg, id, at.socket_ifname.s, sizeof(at.socket_ifname.s))) {
        mdl_id_addresses(id, text, sizeof(text));
        MDL_WARN(MDL_BOOT,
                 "rank 0 runs here, but MEDLEY_COMM_ID (%s) is not an address of this machine: waiting for the other "
                 "ranks at port %u of all its interfaces, which works only if that address leads here",
                 text, port);
    }
    snprintf(at.port_range.s, sizeof(at.port_range.s), "%u-%u", port, port);
    medleyResult_t result = mdl_door_get(&at, door);
    sodium_memzero(&at, sizeof(at));
    return result;
}

/* ---- making one ---- */

/* Up to three of the door's: one of each family first, then the rest in its order. Without a network, this host's. */
static void choose_addresses(const struct mdl_door *door, struct mdl_id *id)
{
    struct mdl_addr list[MDL_MAX_ADDRS];
    int n = mdl_door_addresses(door, list);
    bool taken[MDL_MAX_ADDRS] = {false};
    static const int families[] = {AF_INET, AF_INET6};
    for (int f = 0; f < 2; f++)
        for (int i = 0; i < n; i++)
            if (list[i].sa.ss_family == families[f]) {
                id->addrs[id->naddrs++] = list[i];
                taken[i] = true;
                break;
            }
    for (int i = 0; i < n && id->naddrs < MDL_ID_ADDRS; i++)
        if (!taken[i]) id->addrs[id->naddrs++] = list[i];
    /* First, for ranks of this host: they share their connection to this process. Others are refused at once. */
    if (id->naddrs < MDL_ID_ADDRS && mdl_door_unix(door)) {
        memmove(id->addrs + 1, id->addrs, (size_t)id->naddrs++ * sizeof(id->addrs[0]));
        id->addrs[0] = *mdl_door_unix(door);
    }
}

static medleyResult_t make(const struct mdl_config *cfg, struct mdl_id *id)
{
    struct mdl_door *door;
    MDL_TRY(mdl_door_get(cfg, &door));
    mdl_root_reap();
    choose_addresses(door, id);
    randombytes_buf(id->secret.key, sizeof(id->secret.key));
    return mdl_root_open(cfg, id, door, NULL);
}

medleyResult_t mdl_boot_id_create(const struct mdl_config *cfg, medleyUniqueId *id)
{
    struct mdl_id made = {0};
    char text[MDL_ID_ADDRS * MDL_ADDR_TEXT_BYTES];
    if (!id) return mdl_error(medleyInvalidArgument, "the place for the unique id is NULL");
    medleyResult_t result = cfg->comm_id.s[0] ? mdl_id_fixed(cfg, &made) : make(cfg, &made);
    if (result == medleySuccess) {
        mdl_id_addresses(&made, text, sizeof(text));
        MDL_INFO(MDL_BOOT, "unique id made; the ranks %s at %s", cfg->comm_id.s[0] ? "will meet" : "are awaited", text);
        mdl_id_write(&made, id);
    }
    sodium_memzero(&made, sizeof(made));
    return result;
}

void mdl_boot_id_discard(const medleyUniqueId *id)
{
    struct mdl_id parsed;
    if (mdl_id_read(id, &parsed) != medleySuccess) return;
    struct mdl_root *root = mdl_root_find(&parsed.secret);
    sodium_memzero(&parsed, sizeof(parsed));
    if (!root) return;
    mdl_root_settle(root);
    mdl_root_release(root);
}
