/* SPDX-License-Identifier: Apache-2.0 */
/* The last-level cache, from sysfs, else from the C library: on some processors only one of them knows. */
#include "config.h"

#include "lib/topo/cache.h"

#include <stdio.h>
#include <stdatomic.h>
#include <unistd.h>

#define UNKNOWN_BYTES ((size_t)32 << 20)

static size_t read_level(int index)
{
    char path[80], unit = 0;
    size_t n = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
    f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%zu%c", &n, &unit) < 1) n = 0;
    fclose(f);
    return unit == 'M' ? n << 20 : unit == 'K' ? n << 10 : n;
}

static size_t look(void)
{
    size_t most = 0;
    long known;

    for (int i = 0; i < 5; i++) {
        size_t n = read_level(i);
        if (n > most) most = n;
    }
    if (most) return most;
    known = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return known > 0 ? (size_t)known : UNKNOWN_BYTES;
}

size_t mdl_cache_bytes(void)
{
    static atomic_size_t known; /* relaxed: a number that everybody finds anew is the same */
    size_t bytes = atomic_load_explicit(&known, memory_order_relaxed);

    if (bytes) return bytes;
    bytes = look();
    atomic_store_explicit(&known, bytes, memory_order_relaxed);
    return bytes;
}
