/* SPDX-License-Identifier: Apache-2.0 */
/*
 * medleyCommInitAll on devices: test_initall [scene]. MEDLEY_DEVICE names a vendor that has three devices. One thread has
 * all ranks, and all its calls are in groups.
 */
#include "config.h"

#include "lib/base/status.h"
#include "lib/dev/dev.h"
#include "tests/coll/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 3000, MOST = 6 };

static struct mdl_config cfg;
static struct mdl_dev vendor;

static int refused(int n, const int *list, const char *words)
{
    medleyComm_t comms[MOST] = {NULL};

    CHECK(medleyCommInitAll(comms, n, list) == medleyInvalidArgument);
    CHECK(strstr(medleyGetLastError(NULL), words) != NULL);
    for (int r = 0; r < n; r++) CHECK(comms[r] == NULL);
    return 0;
}

static medleyResult_t enter(int ordinal) { return vendor.ops->enter(vendor.ops, ordinal); }

static medleyResult_t take(int ordinal, float value, float **device)
{
    const struct mdl_device *d = vendor.ops;
    void *pinned, *p;

    MDL_TRY(enter(ordinal));
    MDL_TRY(d->alloc(d, COUNT * sizeof(float), &p));
    MDL_TRY(d->alloc_pinned(d, COUNT * sizeof(float), &pinned));
    check_fill(pinned, COUNT, value);
    MDL_TRY(d->copy(d, p, pinned, COUNT * sizeof(float), MDL_COPY_H2D, NULL));
    MDL_TRY(d->stream_sync(d, NULL));
    *device = p;
    return d->free_pinned(d, pinned);
}

static int holds(int ordinal, mdl_dev_stream stream, float *device, float value)
{
    const struct mdl_device *d = vendor.ops;
    void *pinned;

    OK(enter(ordinal));
    OK(d->stream_sync(d, stream));
    OK(d->stream_destroy(d, stream));
    OK(d->alloc_pinned(d, COUNT * sizeof(float), &pinned));
    OK(d->copy(d, pinned, device, COUNT * sizeof(float), MDL_COPY_D2H, NULL));
    OK(d->stream_sync(d, NULL));
    CHECK(check_holds(pinned, COUNT, value));
    OK(d->free_pinned(d, pinned));
    return 0;
}

/* Rank r's device is `list[r]`, its buffers are there, on a stream of its own since ranks may share a device, and the thread's current device is what it was. */
static int reduces(int n, const int *list)
{
    const struct mdl_device *d = vendor.ops;
    float *in[MOST], *out[MOST];
    mdl_dev_stream stream[MOST];
    medleyComm_t comms[MOST];
    int now = -1;

    OK(enter(2));
    OK(medleyCommInitAll(comms, n, list));
    OK(d->current(d, &now));
    CHECK(now == 2);
    for (int r = 0; r < n; r++) {
        medleyRankInfo_t info = {.size = sizeof(info)};
        char name[64];
        OK(medleyCommGetInfo(comms[r], r, &info));
        snprintf(name, sizeof(name), "%s:%d", d->vendor, list ? list[r] : r);
        CHECK(strcmp(info.device, name) == 0);
        OK(take(list ? list[r] : r, (float)r + 1, &in[r]));
        OK(take(list ? list[r] : r, 0, &out[r]));
        OK(d->stream_create(d, &stream[r]));
    }
    OK(enter(2));
    for (int round = 0; round < 3; round++) {
        OK(medleyGroupStart());
        for (int r = 0; r < n; r++)
            OK(medleyAllReduce(in[r], out[r], COUNT, medleyFloat, medleySum, comms[r], stream[r]));
        OK(medleyGroupEnd());
    }
    OK(d->current(d, &now));
    CHECK(now == 2);
    for (int r = 0; r < n; r++) {
        if (holds(list ? list[r] : r, stream[r], out[r], (float)(n * (n + 1) / 2))) return 1;
        OK(d->free(d, in[r]));
        OK(d->free(d, out[r]));
    }
    for (int r = 0; r < n; r++) OK(medleyCommDestroy(comms[r]));
    OK(d->current(d, &now));
    return 0;
}

static int run(void)
{
    static const int order[] = {2, 0, 1}, shared[] = {1, 1, 0, 1}, large[] = {0, 3}, negative[] = {0, -1};

    if (refused(2, large, "devlist[1] is 3: there are 3 devices")) return 1;
    if (refused(2, negative, "devlist[1] is -1: there are 3 devices")) return 1;
    if (refused(4, NULL, "4 ranks, and there are 3 devices")) return 1;
    if (reduces(3, order)) return 1;
    if (reduces(4, shared)) return 1;
    if (reduces(3, NULL)) return 1;
    return reduces(1, order);
}

int main(void)
{
    OK(mdl_config_load(&cfg));
    OK(mdl_dev_find(&cfg, cfg.device.s, &vendor));
    CHECK(vendor.ops);
    return run();
}
