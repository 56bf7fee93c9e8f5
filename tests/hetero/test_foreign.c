/* SPDX-License-Identifier: Apache-2.0 */
/* A buffer of another vendor's device: test_foreign cuda:0 hip:1. One rank on the first, memory on the second. */
#include "config.h"

#include "lib/base/status.h"
#include "lib/dev/dev.h"
#include "tests/coll/check.h"

#include <stdio.h>
#include <string.h>

enum { COUNT = 1000, BYTES = COUNT * sizeof(float) };

static int refuses(medleyComm_t comm, const void *in, void *out, const char *own, const char *other)
{
    const char *text;

    CHECK(medleyAllReduce(in, out, COUNT, medleyFloat, medleySum, comm, NULL) == medleyInvalidArgument);
    text = medleyGetLastError(NULL);
    CHECK(strstr(text, own) != NULL && strstr(text, other) != NULL);
    return 0;
}

static int run(struct mdl_dev *own, const struct mdl_dev *other, const char *name, const char *other_name)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    static float host[COUNT], sums[COUNT];
    struct mdl_dev_visit visit;
    medleyUniqueId id;
    medleyComm_t comm;
    void *foreign, *good;

    config.device = name;
    OK(medleyGetUniqueId(&id));
    OK(medleyCommInitRankConfig(&comm, 1, id, 0, &config));
    OK(other->ops->enter(other->ops, other->ordinal));
    OK(other->ops->alloc(other->ops, BYTES, &foreign));
    OK(mdl_dev_enter(own, &visit));
    OK(own->ops->alloc(own->ops, BYTES, &good));
    for (int i = 0; i < COUNT; i++) host[i] = (float)i;

    if (refuses(comm, foreign, good, name, other_name)) return 1;
    if (refuses(comm, good, foreign, name, other_name)) return 1;
    if (refuses(comm, host, (char *)foreign + BYTES / 2, name, other_name)) return 1;
    /* It has no effect: memory of the host and of the own device are as good as before. */
    OK(medleyAllReduce(host, good, COUNT, medleyFloat, medleySum, comm, NULL));
    OK(medleyAllReduce(good, sums, COUNT, medleyFloat, medleySum, comm, NULL));
    OK(own->ops->stream_sync(own->ops, NULL));
    CHECK(memcmp(host, sums, BYTES) == 0);

    OK(medleyCommDestroy(comm));
    OK(own->ops->free(own->ops, good));
    OK(other->ops->free(other->ops, foreign));
    return 0;
}

int main(int argc, char **argv)
{
    struct mdl_dev own, other;
    struct mdl_config cfg;

    CHECK(argc == 3);
    OK(mdl_config_load(&cfg));
    OK(mdl_dev_find(&cfg, argv[1], &own));
    OK(mdl_dev_find(&cfg, argv[2], &other));
    CHECK(own.ops && other.ops && own.ops != other.ops);
    return run(&own, &other, argv[1], argv[2]);
}
