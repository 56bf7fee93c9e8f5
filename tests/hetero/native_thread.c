/* SPDX-License-Identifier: Apache-2.0 */
/* Three ranks of one thread, which are in one group together: nothing may be waited for before all have made their
 * calls. One of them has its input on the host. Of a second communicator, one rank has the calls on its stream in
 * another order. */
#include "config.h"

#include "tests/hetero/native_thread.h"

#include "lib/dev/dev.h"
#include "tests/coll/check.h"
#include "tests/coll/ranks.h"

#include <stdio.h>
#include <stdlib.h>

int native_one_thread(struct ranks_world *w, int rank, void *arg)
{
    enum { RANKS = 3, COUNT = 3000, BYTES = COUNT * sizeof(float) };
    medleyConfig_t config[RANKS];
    medleyComm_t comm[RANKS], other[RANKS];
    struct mdl_dev dev[RANKS];
    mdl_dev_stream stream[RANKS];
    char name[RANKS][64];
    float *in[RANKS], *out[RANKS], *host, *source = malloc(BYTES);
    medleyUniqueId id;
    struct mdl_config cfg;

    (void)w, (void)rank, (void)arg;
    OK(mdl_config_load(&cfg));
    for (int r = 0; r < RANKS; r++) {
        const medleyConfig_t plain = MEDLEY_CONFIG_INITIALIZER;
        snprintf(name[r], sizeof(name[r]), "%s", home_name(r));
        config[r] = plain;
        config[r].device = name[r];
        OK(mdl_dev_find(&cfg, name[r], &dev[r]));
        OK(dev[r].ops->enter(dev[r].ops, dev[r].ordinal));
        OK(dev[r].ops->alloc(dev[r].ops, BYTES, (void **)&in[r]));
        OK(dev[r].ops->alloc(dev[r].ops, BYTES, (void **)&out[r]));
        OK(dev[r].ops->alloc_pinned(dev[r].ops, BYTES, (void **)&host));
        for (size_t i = 0; i < COUNT; i++) source[i] = host[i] = (float)r + 1;
        OK(dev[r].ops->stream_create(dev[r].ops, &stream[r]));
        OK(dev[r].ops->copy(dev[r].ops, in[r], host, BYTES, MDL_COPY_H2D, stream[r]));
        OK(dev[r].ops->stream_sync(dev[r].ops, stream[r]));
    }
    OK(medleyGetUniqueId(&id));
    OK(medleyGroupStart());
    for (int r = 0; r < RANKS; r++) OK(medleyCommInitRankConfig(&comm[r], RANKS, id, r, &config[r]));
    OK(medleyGroupEnd());
    OK(medleyGroupStart());
    for (int r = 0; r < RANKS; r++) OK(medleyCommSplit(comm[r], 0, r, &other[r], &config[r]));
    OK(medleyGroupEnd());
    OK(medleyGroupStart());
    for (int k = 0; k < 2; k++) {
        for (int r = 0; r < RANKS; r++)
            OK(medleyAllReduce(in[r], out[r], COUNT, medleyFloat, medleyMax, (k == 0) == (r == 0) ? comm[r] : other[r],
                               stream[r]));
    }
    OK(medleyGroupEnd());
    for (int turn = 0; turn < 3; turn++) {
        OK(medleyGroupStart());
        for (int r = 0; r < RANKS; r++) {
            OK(medleyAllReduce(r == RANKS - 1 ? source : in[r], out[r], COUNT, medleyFloat, medleySum, comm[r],
                               stream[r]));
            OK(medleyAlltoAll(out[r], out[r], COUNT / RANKS, medleyFloat, comm[r], stream[r]));
        }
        OK(medleyGroupEnd());
    }
    for (int r = 0; r < RANKS; r++) {
        OK(dev[r].ops->enter(dev[r].ops, dev[r].ordinal));
        OK(dev[r].ops->copy(dev[r].ops, host, out[r], BYTES, MDL_COPY_D2H, stream[r]));
        OK(dev[r].ops->stream_sync(dev[r].ops, stream[r]));
        for (size_t i = 0; i < COUNT; i++) CHECK(host[i] == check_sum_to(RANKS));
    }
    for (int r = 0; r < RANKS; r++) OK(medleyCommDestroy(other[r]));
    for (int r = 0; r < RANKS; r++) OK(medleyCommDestroy(comm[r]));
    free(source);
    return 0;
}
