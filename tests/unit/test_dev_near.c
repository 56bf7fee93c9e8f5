/* SPDX-License-Identifier: Apache-2.0 */
/* Places of devices and interfaces, in a folder that looks like /sys. */
#include "config.h"
#include "bench/info/near.h"
#include "tests/unit/unit.h"
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

static char sys[64];

static void make_folders(const char *path)
{
    char part[PATH_MAX];
    for (const char *at = path + 1; *at; at += strspn(at, "/")) {
        at += strcspn(at, "/");
        snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
        (void)mkdir(part, 0700);
    }
}

/* A device at `path` below devices/, of NUMA node `node`. */
static void make_device(const char *path, int node)
{
    char full[PATH_MAX], file[PATH_MAX + 16], link[PATH_MAX];
    FILE *f;
    snprintf(full, sizeof(full), "%s/devices/%s", sys, path);
    make_folders(full);
    snprintf(file, sizeof(file), "%s/numa_node", full);
    f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "%d\n", node);
    fclose(f);
    snprintf(link, sizeof(link), "%s/bus/pci/devices", sys);
    make_folders(link);
    snprintf(link, sizeof(link), "%s/bus/pci/devices/%s", sys, strrchr(path, '/') + 1);
    ck_assert_int_eq(symlink(full, link), 0);
}

static void make_interface(const char *name, const char *path)
{
    char full[PATH_MAX], link[PATH_MAX];
    snprintf(full, sizeof(full), "%s/devices/%s", sys, path);
    snprintf(link, sizeof(link), "%s/class/net/%s", sys, name);
    make_folders(link);
    snprintf(link, sizeof(link), "%s/class/net/%s/device", sys, name);
    ck_assert_int_eq(symlink(full, link), 0);
}

static void begin(void)
{
    char path[128];
    snprintf(sys, sizeof(sys), "/tmp/medley-test-near-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(sys));
    snprintf(path, sizeof(path), "%s/class/net/lo", sys); /* has no device */
    make_folders(path);
    /* behind one switch: 01 -> 02 -> {03, 04}; another root port: 80; another root complex of the same node: 40 */
    make_device("pci0000:00/0000:00:01.0/0000:02:00.0/0000:03:00.0", 0);
    make_device("pci0000:00/0000:00:01.0/0000:02:01.0/0000:04:00.0", 0);
    make_device("pci0000:00/0000:00:08.0/0000:80:00.0", 0);
    make_device("pci0000:40/0000:40:01.0/0000:41:00.0", 0);
    make_device("pci0000:c0/0000:c0:01.0/0000:c1:00.0", 1);
}

static void end(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", sys);
    ck_assert_int_eq(system(command), 0);
}

static void is_near(const char *pci, int node, const char *interface, int hops)
{
    struct info_near near;
    ck_assert(info_near_find(sys, pci, &near));
    ck_assert_int_eq(near.node, node);
    ck_assert_str_eq(near.interface, interface);
    ck_assert_int_eq(near.hops, hops);
}

START_TEST(behind_the_same_switch_comes_first)
{
    begin();
    make_interface("eth0", "pci0000:00/0000:00:08.0/0000:80:00.0");
    make_interface("eth1", "pci0000:00/0000:00:01.0/0000:02:01.0/0000:04:00.0");
    make_interface("eth2", "pci0000:40/0000:40:01.0/0000:41:00.0");
    is_near("0000:03:00.0", 0, "eth1", 4);
    end();
}
END_TEST

START_TEST(then_the_same_root_complex)
{
    begin();
    make_interface("eth0", "pci0000:40/0000:40:01.0/0000:41:00.0");
    make_interface("eth1", "pci0000:00/0000:00:08.0/0000:80:00.0");
    is_near("0000:03:00.0", 0, "eth1", 5);
    end();
}
END_TEST

START_TEST(then_the_same_node)
{
    struct info_near near;
    begin();
    make_interface("eth0", "pci0000:c0/0000:c0:01.0/0000:c1:00.0");
    make_interface("eth1", "pci0000:40/0000:40:01.0/0000:41:00.0");
    is_near("0000:03:00.0", 0, "eth1", -1);
    is_near("0000:C1:00.0", 1, "eth0", 0); /* the vendors write it in capitals, too */
    ck_assert(info_near_find(sys, "0000:03:00.0", &near));
    ck_assert_int_eq(near.far_node, 0);
    end();
}
END_TEST

/* Virtio's device is a folder below that of the bus, and says nothing of nodes. */
START_TEST(an_interface_below_its_device)
{
    static const char virtio[] = "pci0000:40/0000:40:01.0/0000:41:00.0/virtio3";
    struct info_near near;
    char path[PATH_MAX];
    begin();
    make_interface("eth0", virtio); /* a link that leads nowhere */
    is_near("0000:41:00.0", 0, "", -1);
    snprintf(path, sizeof(path), "%s/devices/%s", sys, virtio);
    make_folders(path);
    is_near("0000:41:00.0", 0, "eth0", 1);
    ck_assert(info_near_find(sys, "0000:03:00.0", &near));
    ck_assert_int_eq(near.hops, -1);
    ck_assert_int_eq(near.far_node, 0);
    end();
}
END_TEST

START_TEST(no_interface_on_a_bus)
{
    begin();
    is_near("0000:c1:00.0", 1, "", -1);
    end();
}
END_TEST

START_TEST(no_such_device)
{
    struct info_near near;
    begin();
    ck_assert(!info_near_find(sys, "0000:05:00.0", &near));
    ck_assert(!info_near_find(sys, "", &near));
    ck_assert(!info_near_find("/no/such/folder", "0000:03:00.0", &near));
    end();
}
END_TEST

UNIT_MAIN("dev_near", behind_the_same_switch_comes_first, then_the_same_root_complex, then_the_same_node,
          an_interface_below_its_device, no_interface_on_a_bus, no_such_device)
