/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses (wire, text, parsing), the choice of interfaces, and the two small parsers beside them: processors and
 * ports. */
#include "config.h"
#include "lib/net/cpus.h"
#include "lib/net/sock.h"
#include "tests/unit/unit.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>

static struct mdl_config cfg;

static void load(void) { ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess); }

/* An address of interface `ifname`, from its text without port. */
static struct mdl_addr address(const char *ifname, const char *ip)
{
    struct mdl_addr a;
    memset(&a, 0, sizeof(a));
    if (strchr(ip, ':')) {
        struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&a.sa;
        sin6->sin6_family = AF_INET6;
        ck_assert_int_eq(inet_pton(AF_INET6, ip, &sin6->sin6_addr), 1);
        a.len = sizeof(*sin6);
    } else {
        struct sockaddr_in *sin = (struct sockaddr_in *)&a.sa;
        sin->sin_family = AF_INET;
        ck_assert_int_eq(inet_pton(AF_INET, ip, &sin->sin_addr), 1);
        a.len = sizeof(*sin);
    }
    snprintf(a.ifname, sizeof(a.ifname), "%s", ifname);
    a.loopback = !strcmp(ifname, "lo");
    return a;
}

/* ---- wire and text ---- */

static void wire(const struct mdl_addr *a, const char *hex, const char *text)
{
    uint8_t bytes[MDL_ADDR_WIRE_BYTES];
    char got[2 * MDL_ADDR_WIRE_BYTES + 1], format[MDL_ADDR_TEXT_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_addr back;
    mdl_addr_write(&w, a);
    ck_assert(!w.bad);
    ck_assert_uint_eq(w.len, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++) sprintf(got + 2 * i, "%02x", bytes[i]);
    ck_assert_str_eq(got, hex);
    struct mdl_reader r = {.p = bytes, .left = sizeof(bytes)};
    ck_assert_int_eq(mdl_addr_read(&r, &back), medleySuccess);
    ck_assert(mdl_addr_same_host(a, &back));
    ck_assert_int_eq(mdl_addr_port(&back), mdl_addr_port(a));
    ck_assert_int_eq(back.loopback, a->loopback);
    ck_assert_uint_eq(back.mbps, a->mbps);
    ck_assert_uint_eq(back.len, a->len);
    mdl_addr_format(&back, format);
    ck_assert_str_eq(format, text);
}

START_TEST(wire_has_golden_bytes)
{
    struct mdl_addr a = address("eth0", "10.1.2.3");
    mdl_addr_set_port(&a, 4000);
    a.mbps = 100000;
    wire(&a, "0400a00f0a010203000000000000000000000000a0860100", "10.1.2.3:4000");
    a = address("lo", "::1");
    mdl_addr_set_port(&a, 65535);
    wire(&a, "0601ffff0000000000000000000000000000000100000000", "[::1]:65535");
    uint8_t name[MDL_ADDR_UNIX_BYTES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255};
    mdl_addr_unix(name, &a);
    wire(&a, "01010000000102030405060708090a0b0c0d0eff00000000", "unix:000102030405060708090a0b0c0d0eff");
}
END_TEST

START_TEST(bad_wire_is_refused)
{
    uint8_t bytes[MDL_ADDR_WIRE_BYTES] = {4};
    struct mdl_addr a = {.mbps = 77};
    for (size_t len = 0; len < sizeof(bytes); len++) {
        struct mdl_reader r = {.p = bytes, .left = len};
        ck_assert_int_eq(mdl_addr_read(&r, &a), medleyRemoteError);
    }
    for (int family = 0; family < 256; family++) {
        if (family == 1 || family == 4 || family == 6) continue;
        bytes[0] = (uint8_t)family;
        struct mdl_reader r = {.p = bytes, .left = sizeof(bytes)};
        ck_assert_int_eq(mdl_addr_read(&r, &a), medleyRemoteError);
    }
    ck_assert_uint_eq(a.mbps, 77); /* outputs only on success */
}
END_TEST

START_TEST(scope_is_shown_but_does_not_travel)
{
    struct mdl_addr a = address("lo", "fe80::1"), b = a;
    char text[MDL_ADDR_TEXT_BYTES];
    ((struct sockaddr_in6 *)&a.sa)->sin6_scope_id = if_nametoindex("lo");
    mdl_addr_set_port(&a, 5);
    mdl_addr_format(&a, text);
    ck_assert_str_eq(text, "[fe80::1%lo]:5");
    ck_assert(!mdl_addr_same_host(&a, &b));
    ((struct sockaddr_in6 *)&a.sa)->sin6_scope_id = 1999999999;
    mdl_addr_format(&a, text);
    ck_assert_str_eq(text, "[fe80::1%1999999999]:5");
    memset(&a, 0, sizeof(a));
    mdl_addr_format(&a, text);
    ck_assert_str_eq(text, "(no address)");
}
END_TEST

START_TEST(same_host_compares_all_but_the_port)
{
    struct mdl_addr a = address("eth0", "10.0.0.1"), b = address("eth1", "10.0.0.1"), c = address("eth0", "10.0.0.2");
    struct mdl_addr six = address("eth0", "::ffff:10.0.0.1"), u, v;
    uint8_t name[MDL_ADDR_UNIX_BYTES] = {1};
    mdl_addr_set_port(&b, 9);
    ck_assert(mdl_addr_same_host(&a, &b));
    ck_assert(!mdl_addr_same_host(&a, &c));
    ck_assert(!mdl_addr_same_host(&a, &six));
    mdl_addr_unix(name, &u);
    name[15] = 1;
    mdl_addr_unix(name, &v);
    ck_assert(mdl_addr_same_host(&u, &u));
    ck_assert(!mdl_addr_same_host(&u, &v));
    ck_assert(!mdl_addr_same_host(&u, &a));
}
END_TEST

static void parses(const char *text, const char *want)
{
    struct mdl_addr list[4];
    int n;
    char got[MDL_ADDR_TEXT_BYTES];
    ck_assert_msg(mdl_addr_parse(text, list, 4, &n) == medleySuccess, "%s: %s", text, mdl_error_text());
    ck_assert_int_ge(n, 1);
    mdl_addr_format(&list[0], got);
    ck_assert_str_eq(got, want);
}

START_TEST(good_addresses_parse)
{
    struct mdl_addr list[4];
    int n;
    parses("10.0.0.1:4000", "10.0.0.1:4000");
    parses("[fd00::7]:1", "[fd00::7]:1");
    parses("127.0.0.1:65535", "127.0.0.1:65535");
    ck_assert_int_eq(mdl_addr_parse("localhost:80", list, 4, &n), medleySuccess);
    for (int i = 0; i < n; i++) ck_assert(list[i].loopback && mdl_addr_port(&list[i]) == 80);
    ck_assert_int_eq(mdl_addr_parse("10.0.0.1:80", list, 4, &n), medleySuccess);
    ck_assert(n == 1 && !list[0].loopback);
}
END_TEST

START_TEST(bad_addresses_are_named)
{
    static const char *const bad[] = {
        "",         "host",  ":80",     "host:", "host:0",   "host:65536", "host:+5",   "host:5x",
        "::1:5000", "[::1]", "[::1:80", "[]:80", "host: 80", "host:-1",    "[::1]x:80", "host:99999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct mdl_addr list[1];
        int n;
        ck_assert_msg(mdl_addr_parse(bad[i], list, 1, &n) == medleyInvalidArgument, "%s was accepted", bad[i]);
        ck_assert_ptr_nonnull(strstr(mdl_error_text(), bad[i]));
    }
}
END_TEST

START_TEST(unknown_names_are_a_system_error)
{
    struct mdl_addr list[1];
    int n;
    ck_assert_int_eq(mdl_addr_parse("999.1.1.1:80", list, 1, &n), medleySystemError);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "999.1.1.1"));
}
END_TEST

/* ---- the choice of interfaces ---- */

/* A machine: "interface address" each; what is chosen is given by position, for example "0 4". */
static const struct {
    const char *ifname, *ip;
} machine[] = {
    {"lo", "127.0.0.1"},       /* 0 */
    {"docker0", "172.17.0.1"}, /* 1 */
    {"eth0", "10.0.0.5"},      /* 2 */
    {"eth1", "10.1.0.5"},      /* 3 */
    {"ib0", "192.168.7.5"},    /* 4 */
    {"lo", "::1"},             /* 5 */
    {"eth0", "fd00::5"},       /* 6 */
    {"eth0", "fe80::5"},       /* 7 */
    {"eth10", "10.9.0.5"},     /* 8 */
};
enum { MACHINE = sizeof(machine) / sizeof(*machine) };

static void find_machine(struct mdl_addr found[MACHINE])
{
    for (int i = 0; i < MACHINE; i++) {
        found[i] = address(machine[i].ifname, machine[i].ip);
        found[i].mbps = (uint32_t)i; /* its position */
    }
}

static void chooses(const char *rule, const char *family, const char *want)
{
    struct mdl_addr found[MACHINE], list[MDL_MAX_ADDRS];
    char got[64] = "";
    int n;
    load();
    find_machine(found);
    snprintf(cfg.socket_ifname.s, sizeof(cfg.socket_ifname.s), "%s", rule);
    snprintf(cfg.socket_family.s, sizeof(cfg.socket_family.s), "%s", family);
    ck_assert_msg(mdl_addr_select(&cfg, found, MACHINE, list, MDL_MAX_ADDRS, &n) == medleySuccess, "%s: %s", rule,
                  mdl_error_text());
    for (int i = 0; i < n; i++) sprintf(got + strlen(got), "%s%u", i ? " " : "", list[i].mbps);
    ck_assert_msg(!strcmp(got, want), "%s %s chose %s, not %s", rule, family, got, want);
}

START_TEST(interfaces_are_chosen_by_the_rules)
{
    chooses("", "", "2 3 4 6 8 1 0 5");
    chooses("", "AF_INET", "2 3 4 8 1 0");
    chooses("", "AF_INET6", "6 5");
    chooses("eth", "", "2 3 6 8");
    chooses("eth1", "", "3 8");
    chooses("=eth1", "", "3");
    chooses("=eth0,=ib0", "AF_INET", "2 4");
    chooses("=eth1,ib0", "", "3 4");
    chooses("lo", "", "0 5");
    chooses("^lo", "", "2 3 4 6 8 1");
    chooses("^docker,lo", "", "2 3 4 6 8"); /* as NCCL reads it */
    chooses("^=eth1", "", "2 4 6 8 1 0 5");
    chooses("=^eth1", "", "2 4 6 8 1 0 5");
    chooses("eth,^=eth1", "", "2 6 8");
    chooses("eth,^eth1", "", "2 6");
    chooses("10.0.0.0/8", "", "2 3 8");
    chooses("10.0.0.0/15", "", "2 3");
    chooses("10.0.0.0/16,ib", "", "2 4");
    chooses("10.0.0.5", "", "2");
    chooses("10.0.0.5/32,^10.0.0.0/8,ib0", "", "4");
    chooses("eth,^10.8.0.0/13", "", "2 3 6");
    chooses("0.0.0.0/0", "", "2 3 4 8 1 0");
    chooses("::/0", "", "6 5");
    chooses("fd00::/16", "", "6");
    chooses("fe80::/10", "", "7");
    chooses("fe80::5", "", "7");
    chooses("127.0.0.0/8", "", "0");
}
END_TEST

START_TEST(an_empty_choice_lists_what_there_is)
{
    struct mdl_addr found[MACHINE], list[MDL_MAX_ADDRS];
    int n = -1;
    load();
    find_machine(found);
    strcpy(cfg.socket_ifname.s, "wlan");
    ck_assert_int_eq(mdl_addr_select(&cfg, found, MACHINE, list, MDL_MAX_ADDRS, &n), medleyInvalidArgument);
    ck_assert_int_eq(n, -1);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "wlan"));
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "eth1 10.1.0.5"));
    ck_assert_int_eq(mdl_addr_select(&cfg, found, 0, list, MDL_MAX_ADDRS, &n), medleySystemError);
}
END_TEST

START_TEST(bad_rules_are_named)
{
    static const char *const bad[] = {",",      "eth0,",       ",eth0",       "eth0,,eth1", "^",          "=",
                                      "eth0,^", "10.0.0.0/33", "10.0.0.0/",   "10.0/8",     "fd00::/129", "fd00:::/8",
                                      "a/b",    "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.0/ 8"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct mdl_addr found[MACHINE], list[MDL_MAX_ADDRS];
        int n;
        load();
        find_machine(found);
        strcpy(cfg.socket_ifname.s, bad[i]);
        ck_assert_msg(mdl_addr_select(&cfg, found, MACHINE, list, MDL_MAX_ADDRS, &n) == medleyInvalidArgument,
                      "%s was accepted", bad[i]);
        ck_assert_ptr_nonnull(strstr(mdl_error_text(), "MEDLEY_SOCKET_IFNAME"));
    }
    load();
    strcpy(cfg.socket_family.s, "AF_INET5");
    struct mdl_addr list[1];
    int n;
    ck_assert_int_eq(mdl_addr_interfaces(&cfg, list, 1, &n), medleyInvalidArgument);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "AF_INET5"));
}
END_TEST

START_TEST(room_bounds_the_choice)
{
    struct mdl_addr found[MACHINE], list[2];
    int n;
    load();
    find_machine(found);
    ck_assert_int_eq(mdl_addr_select(&cfg, found, MACHINE, list, 2, &n), medleySuccess);
    ck_assert_int_eq(n, 2);
    ck_assert(list[0].mbps == 2 && list[1].mbps == 3);
}
END_TEST

START_TEST(explicit_means_named)
{
    static const struct {
        const char *rule;
        bool is;
    } cases[] = {{"", false}, {"^lo", false}, {"=^lo", false}, {"lo", true}, {"=lo", true}, {"eth,^eth1", true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        load();
        strcpy(cfg.socket_ifname.s, cases[i].rule);
        ck_assert_int_eq(mdl_addr_explicit(&cfg), cases[i].is);
    }
}
END_TEST

START_TEST(this_machine_has_loopback)
{
    struct mdl_addr list[MDL_MAX_ADDRS];
    int n;
    load();
    strcpy(cfg.socket_ifname.s, "127.0.0.0/8");
    if (mdl_addr_interfaces(&cfg, list, MDL_MAX_ADDRS, &n) != medleySuccess) {
        printf("skipped: no 127.0.0.1 here\n");
        return;
    }
    ck_assert_int_ge(n, 1);
    ck_assert(list[0].loopback);
    ck_assert_str_eq(list[0].ifname, "lo");
}
END_TEST

/* ---- processors and ports ---- */

START_TEST(processor_lists)
{
    static const char *const bad[] = {"",   "a",     "1,",  ",1",    "3-1", "1-",
                                      "-1", "1-2-3", "0x1", "99999", "1 2", "0-99999"};
    cpu_set_t set;
    ck_assert_int_eq(mdl_cpus_parse("0-2,8,10-10", &set), medleySuccess);
    ck_assert_int_eq(CPU_COUNT(&set), 5);
    ck_assert(CPU_ISSET(0, &set) && CPU_ISSET(2, &set) && CPU_ISSET(8, &set) && CPU_ISSET(10, &set));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ck_assert_msg(mdl_cpus_parse(bad[i], &set) == medleyInvalidArgument, "%s was accepted", bad[i]);
    ck_assert_int_eq(CPU_COUNT(&set), 5);
    ck_assert_int_eq(mdl_cpus_apply(NULL), medleySuccess);
    ck_assert_int_eq(mdl_cpus_apply(""), medleySuccess);
}
END_TEST

START_TEST(port_ranges)
{
    static const char *const bad[] = {"0",     "0-5",   "5-",  "-5",    "a-b", "5-4",  "1-65536",
                                      "65536", "1-2-3", "1,2", "1 - 2", "+1",  "1-2 ", " 1"};
    struct mdl_ports ports;
    ck_assert_int_eq(mdl_ports_parse("", &ports), medleySuccess);
    ck_assert(ports.first == 0 && ports.last == 0);
    ck_assert_int_eq(mdl_ports_parse("5000", &ports), medleySuccess);
    ck_assert(ports.first == 5000 && ports.last == 5000);
    ck_assert_int_eq(mdl_ports_parse("1-65535", &ports), medleySuccess);
    ck_assert(ports.first == 1 && ports.last == 65535);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ck_assert_msg(mdl_ports_parse(bad[i], &ports) == medleyInvalidArgument, "%s was accepted", bad[i]);
}
END_TEST

UNIT_MAIN("addr", wire_has_golden_bytes, bad_wire_is_refused, scope_is_shown_but_does_not_travel,
          same_host_compares_all_but_the_port, good_addresses_parse, bad_addresses_are_named,
          unknown_names_are_a_system_error, interfaces_are_chosen_by_the_rules, an_empty_choice_lists_what_there_is,
          bad_rules_are_named, room_bounds_the_choice, explicit_means_named, this_machine_has_loopback, processor_lists,
          port_ranges)
