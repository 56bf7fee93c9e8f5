/* SPDX-License-Identifier: Apache-2.0 */
/* The vendors: which are here, why others are not, what their devices can and where they are. */
#include "config.h"

#include "bench/info/info.h"
#include "bench/info/near.h"
#include "lib/base/status.h"
#include "lib/dev/dev.h"
#include "lib/dev/hold.h"

#include <stdio.h>
#include <string.h>

static const struct {
    uint32_t bit;
    const char *name;
} abilities[] = {
    {MDL_DEV_HOST_ACCESS, "host access"}, {MDL_DEV_POINTERS, "tells pointers"},
    {MDL_DEV_PIN, "pins memory"},         {MDL_DEV_EVENTS, "events"},
    {MDL_DEV_WORDS, "waits for words"},   {MDL_DEV_HOST_FUNC, "host functions"},
    {MDL_DEV_CAPTURE, "tells captures"},  {MDL_DEV_IPC, "IPC"},
    {MDL_DEV_DMABUF, "dma-buf"},          {MDL_DEV_KERNELS, "kernels"},
    {MDL_DEV_CPU, "runs on the processor"},
    {MDL_DEV_COPY_ANY, "copies ordinary memory"}, {MDL_DEV_KERNEL_WORDS, "kernels wait for words"},
};
enum { NUM_ABILITIES = sizeof(abilities) / sizeof(abilities[0]) };

static void show_place(const char *pci)
{
    struct info_near near;

    if (!pci[0]) {
        printf(", PCI unknown\n");
        return;
    }
    printf(", PCI %s", pci);
    if (!info_near_find("/sys", pci, &near)) {
        printf(", which the kernel does not list\n");
        return;
    }
    if (near.node >= 0) printf(", NUMA node %d", near.node);
    if (!near.interface[0])
        printf(", no network interface on a bus");
    else if (near.hops >= 0)
        printf(", nearest interface %s (%d hops)", near.interface, near.hops);
    else if (near.node >= 0 && near.node == near.far_node)
        printf(", nearest interface %s (same NUMA node)", near.interface);
    else
        printf(", nearest interface %s (through a processor)", near.interface);
    printf("\n");
}

static void show_devices(const struct mdl_device *d)
{
    struct mdl_device_info info;
    char name[64];
    int n = 0;

    if (d->count(d, &n) != medleySuccess) {
        printf("    not usable: %s\n", mdl_error_text());
        return;
    }
    for (int i = 0; i < n; i++) {
        if (d->info(d, i, &info) != medleySuccess) {
            printf("    %s:%d is not usable: %s\n", d->vendor, i, mdl_error_text());
            continue;
        }
        snprintf(name, sizeof(name), "%s:%d", d->vendor, i);
        printf("    %-12s%s", name, info.name[0] ? info.name : "without a name");
        show_place(info.pci);
    }
}

static void show_abilities(uint32_t caps)
{
    const char *before = "    can         ";

    for (int i = 0; i < NUM_ABILITIES; i++) {
        if (!(caps & abilities[i].bit)) continue;
        printf("%s%s", before, abilities[i].name);
        before = ", ";
    }
    printf("%s\n", strcmp(before, ", ") ? "    can         only what all can" : "");
    before = "    lacks       ";
    for (int i = 0; i < NUM_ABILITIES; i++) {
        if ((caps & abilities[i].bit) || (abilities[i].bit & (MDL_DEV_CPU | MDL_DEV_COPY_ANY))) continue;
        printf("%s%s", before, abilities[i].name);
        before = ", ";
    }
    if (strcmp(before, ", ") == 0) printf("\n");
}

static void show_vendor(const struct mdl_config *cfg, const struct mdl_dev_row *row)
{
    const struct mdl_device *d = row->ops;
    const struct mdl_native *native;
    char text[768];

    if (!d) {
        printf("  %-14sa plugin that is left out\n    %-12s%s\n", row->name, "not usable", row->why);
        return;
    }
    printf("  %-14s%s, %s%s\n", d->vendor, d->title, d->proof ? "proved on " : "never run on real hardware",
           d->proof ? d->proof : "");
    printf("    %-12s%s\n", row->bound ? "found" : "not here", row->bound ? row->found : row->why);
    if (!row->bound) return;
    native = mdl_dev_native(cfg, d, text, sizeof(text));
    printf("    %-12s%s%s%s\n", "collectives", native ? native->name : "", native ? ", " : "", text);
    printf("    %-12s%s\n", "streams are", mdl_hold_expected(cfg, d->caps(d)));
    show_abilities(d->caps(d));
    show_devices(d);
}

bool info_show_devices(const struct mdl_config *cfg)
{
    struct mdl_dev_row row;
    int i;

    printf("devices         host, and of these vendors (MEDLEY_DEVICE=%s):\n", cfg->device.s);
    for (i = 0; mdl_dev_row(cfg, i, &row); i++) show_vendor(cfg, &row);
    if (i == 0) printf("  none can be looked at: %s\n", mdl_error_text());
    return i > 0;
}
