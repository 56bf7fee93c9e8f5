/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a device copies: copy_speed DEVICE [MIB] prints bytes per second between pinned memory and the device in
 * both directions, and within the device. What Medley's staged path is compared with. Best of some rounds.
 */
#include "config.h"

#include "lib/base/clock.h"
#include "lib/dev/dev.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 8, COPIES = 4 };

static const struct mdl_device *d;

static void need(medleyResult_t res, const char *what)
{
    if (res == medleySuccess) return;
    fprintf(stderr, "%s: %s\n", what, mdl_error_text());
    exit(1);
}

static double best(void *dst, const void *src, size_t bytes, enum mdl_copy_kind kind, mdl_dev_stream s)
{
    double most = 0;

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t start = mdl_now_ns();
        for (int i = 0; i < COPIES; i++) need(d->copy(d, dst, src, bytes, kind, s), "a copy");
        need(d->stream_sync(d, s), "the stream");
        double speed = (double)bytes * COPIES / (double)(mdl_now_ns() - start);
        if (speed > most) most = speed;
    }
    return most;
}

int main(int argc, char **argv)
{
    size_t bytes = (argc > 2 ? strtoull(argv[2], NULL, 0) : 64) << 20;
    void *one, *two, *pinned;
    struct mdl_config cfg;
    struct mdl_dev dev;
    mdl_dev_stream s;

    if (argc < 2) return 2;
    need(mdl_config_load(&cfg), "the settings");
    need(mdl_dev_find(&cfg, argv[1], &dev), argv[1]);
    d = dev.ops;
    need(d->enter(d, dev.ordinal), "the device");
    need(d->alloc(d, bytes, &one), "device memory");
    need(d->alloc(d, bytes, &two), "device memory");
    need(d->alloc_pinned(d, bytes, &pinned), "pinned memory");
    memset(pinned, 1, bytes);
    need(d->stream_create(d, &s), "a stream");
    printf("to_device %.2f GB/s\n", best(one, pinned, bytes, MDL_COPY_H2D, s));
    printf("from_device %.2f GB/s\n", best(pinned, one, bytes, MDL_COPY_D2H, s));
    printf("within_device %.2f GB/s\n", best(two, one, bytes, MDL_COPY_D2D, s));
    need(d->stream_destroy(d, s), "the stream");
    need(d->free(d, one), "device memory");
    need(d->free(d, two), "device memory");
    need(d->free_pinned(d, pinned), "pinned memory");
    return 0;
}
