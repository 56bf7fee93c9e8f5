/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's path in /sys/devices is the way through the bridges to it. Two paths that share the root complex meet at
 * the last folder that they have in common; what is below it on both sides counts as hops. Others meet in a processor:
 * then one of the same NUMA node is nearer.
 */
#include "config.h"

#include "bench/info/near.h"

#include <ctype.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NO_HOPS = 1000, OTHER_NODE = 1000 };

/* Of the nearest folder upwards that tells: what is behind virtio or USB does not. -1: unknown. */
static int read_node(const char *device)
{
    char path[PATH_MAX + 16];
    int len = (int)strlen(device), node = -1;

    for (; len > 0; len = (int)(strrchr(path, '/') - path)) {
        FILE *f;
        snprintf(path, sizeof(path), "%.*s/numa_node", len, device);
        f = fopen(path, "re");
        if (f) {
            if (fscanf(f, "%d", &node) != 1) node = -1;
            fclose(f);
            return node;
        }
        path[len] = 0;
    }
    return -1;
}

/* Folders of a path from `at` on. */
static int folders(const char *at)
{
    int n = 0;

    while (*(at += strspn(at, "/"))) {
        at += strcspn(at, "/");
        n++;
    }
    return n;
}

/* -1: they share no root complex, which is a folder that is called pci and a number. */
static int hops_between(const char *a, const char *b)
{
    size_t same = 0, common = 0;

    while (a[same] && a[same] == b[same]) {
        same++;
        if (a[same] == '/' || !a[same])
            if (b[same] == '/' || !b[same]) common = same;
    }
    char shared[PATH_MAX];
    snprintf(shared, sizeof(shared), "%.*s/", (int)common, a);
    if (!strstr(shared, "/pci")) return -1;
    return folders(a + common) + folders(b + common);
}

/* An interface of the device at the end of the link. */
static void consider(const char *link, const char *device, struct info_near *near, int *best)
{
    char path[PATH_MAX];
    const char *name = strstr(link, "/net/");
    int hops, node, distance;

    if (!name || !realpath(link, path)) return;
    hops = hops_between(device, path);
    node = read_node(path);
    distance = hops >= 0 ? hops : NO_HOPS + (node >= 0 && node == near->node ? 0 : OTHER_NODE);
    if (distance >= *best) return;
    *best = distance;
    name += strlen("/net/");
    snprintf(near->interface, sizeof(near->interface), "%.*s", (int)strcspn(name, "/"), name);
    near->hops = hops;
    near->far_node = node;
}

bool info_near_find(const char *sys, const char *pci, struct info_near *near)
{
    char path[PATH_MAX], device[PATH_MAX], id[32];
    int best = INT_MAX;
    glob_t found;

    snprintf(id, sizeof(id), "%s", pci);
    for (char *p = id; *p; p++) *p = (char)tolower((unsigned char)*p);
    snprintf(path, sizeof(path), "%s/bus/pci/devices/%s", sys, id);
    if (!id[0] || !realpath(path, device)) return false;
    *near = (struct info_near){.node = read_node(device), .hops = -1, .far_node = -1};
    snprintf(path, sizeof(path), "%s/class/net/*/device", sys);
    if (glob(path, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++) consider(found.gl_pathv[i], device, near, &best);
    globfree(&found);
    return true;
}
