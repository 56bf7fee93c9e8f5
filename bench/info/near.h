/* SPDX-License-Identifier: Apache-2.0 */
/* Where a device is on the PCI bus, and which network interface is nearest to it, from the kernel's files. */
#ifndef INFO_NEAR_H_
#define INFO_NEAR_H_

#include <stdbool.h>
#include <stddef.h>

struct info_near {
    int node;           /* NUMA node of the device; -1: unknown */
    char interface[64]; /* "" if none is on a bus */
    int hops;           /* bridges and ends between the two on the bus; -1: they meet only in a processor */
    int far_node;       /* of the interface, likewise */
};

/* `sys`: "/sys"; `pci`: "0000:01:00.0". False: the kernel has no such device. */
bool info_near_find(const char *sys, const char *pci, struct info_near *near);

#endif
