/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only OpenCL has: queues of the user's own context, queues that run out of order, kernels whose parameters are
 * told apart, and `auto`, which takes no processor. Exit status 77 without OpenCL.
 */
#include "config.h"

#include "devices/opencl.h"
#include "tests/coll/slack.h"
#include "tests/hetero/device.h"

#include <sched.h>
#include <string.h>

enum { N = 1000, OUT_OF_ORDER = 1, QUEUE_PROPERTIES = 0x1093, QUEUE_DEVICE = 0x1091 };

/* A queue as a user makes it: of a context of its own, unless `context` is given. */
static mdl_cl own_queue(uint64_t properties, mdl_cl *context)
{
    const uint64_t list[] = {QUEUE_PROPERTIES, properties, 0};
    mdl_cl like, id = NULL, q;
    mdl_dev_stream s;
    int32_t rc = 0;

    WORKS(d->stream_create(d, &s));
    like = s;
    REQUIRE(mdl_cl_call.GetCommandQueueInfo(like, QUEUE_DEVICE, sizeof(id), &id, NULL) == 0);
    WORKS(d->stream_destroy(d, s));
    if (!*context) *context = mdl_cl_call.CreateContext(NULL, 1, &id, NULL, NULL, &rc);
    REQUIRE(rc == 0);
    q = mdl_cl_call.CreateCommandQueueWithProperties(*context, id, list, &rc);
    REQUIRE(rc == 0);
    return q;
}

/* In and out through the user's own memory, held in between: each step must see what the one before has done. */
static void users_queue(uint64_t properties)
{
    enum { TIMES = 20 };
    mdl_cl context = NULL, q = own_queue(properties, &context);
    unsigned char *a = mdl_cl_call.SVMAlloc(context, 1, N, 0), host[N], back[N];
    uint64_t *w[2];

    REQUIRE(a);
    WORKS(d->alloc_words(d, 2, w));
    for (uint64_t i = 1; i <= TIMES; i++) {
        memset(host, (int)i, N);
        memset(back, 0, N);
        WORKS(d->copy(d, a, host, N, MDL_COPY_H2D, q));
        WORKS(d->stream_wait(d, q, w[0], i));
        WORKS(d->copy(d, back, a, N, MDL_COPY_D2H, q));
        WORKS(d->stream_write(d, q, w[1], i));
        slack_linger();
        REQUIRE(load(w[1]) == i - 1);
        store(w[0], i);
        WORKS(d->stream_sync(d, q));
        REQUIRE(load(w[1]) == i && memcmp(host, back, N) == 0);
    }
    WORKS(d->free_words(d, 2, w));
    mdl_cl_call.SVMFree(context, a);
    REQUIRE(mdl_cl_call.ReleaseCommandQueue(q) == 0 && mdl_cl_call.ReleaseContext(context) == 0);
}

/* An event of one context holds a queue of another. */
static void other_contexts(void)
{
    mdl_cl context = NULL, q = own_queue(0, &context);
    mdl_dev_stream s;
    mdl_dev_event e;
    uint64_t *w[2];

    WORKS(d->alloc_words(d, 2, w));
    WORKS(d->stream_create(d, &s));
    WORKS(d->event_create(d, &e));
    WORKS(d->stream_wait(d, s, w[0], 1));
    WORKS(d->event_record(d, e, s));
    WORKS(d->stream_wait_event(d, q, e));
    WORKS(d->stream_write(d, q, w[1], 1));
    WORKS(d->event_destroy(d, e));
    slack_linger();
    REQUIRE(load(w[1]) == 0);
    store(w[0], 1);
    WORKS(d->stream_sync(d, q));
    REQUIRE(load(w[1]) == 1);
    WORKS(d->stream_sync(d, s));
    WORKS(d->stream_destroy(d, s));
    WORKS(d->free_words(d, 2, w));
    REQUIRE(mdl_cl_call.ReleaseCommandQueue(q) == 0 && mdl_cl_call.ReleaseContext(context) == 0);
}

/* ---- kernels ---- */

static const char source[] = "#pragma OPENCL FP_CONTRACT OFF\n"
                             "__kernel void add(__global float *out, __global const float *in, float scale, ulong n)\n"
                             "{\n"
                             "    for (ulong i = get_global_id(0); i < n; i += get_global_size(0))\n"
                             "        out[i] += in[i] * scale;\n"
                             "}\n";

static void launch(void *kernel, mdl_dev_stream s)
{
    float *host = malloc(N * sizeof(*host)), scale = 2;
    void *a, *b, *in;
    uint64_t n = N - 1;
    void *const args[] = {&a, &in, &scale, &n};
    const size_t sizes[] = {sizeof(a), sizeof(in), sizeof(scale), sizeof(n)};
    const struct mdl_grid grid = {.blocks = 3, .threads = 16, .args = args, .sizes = sizes, .nargs = 4};

    REQUIRE(host);
    WORKS(d->alloc(d, N * sizeof(float), &a));
    WORKS(d->alloc(d, N * sizeof(float), &b));
    in = (float *)b + 1; /* an interior address */
    for (int i = 0; i < N; i++) host[i] = (float)i;
    WORKS(d->copy(d, a, host, N * sizeof(float), MDL_COPY_H2D, s));
    WORKS(d->copy(d, b, host, N * sizeof(float), MDL_COPY_H2D, s));
    WORKS(d->kernel_launch(d, kernel, &grid, s));
    WORKS(d->copy(d, host, a, N * sizeof(float), MDL_COPY_D2H, s));
    WORKS(d->stream_sync(d, s));
    for (int i = 0; i < N - 1; i++) REQUIRE(host[i] == (float)i + 2 * (float)(i + 1));
    REQUIRE(host[N - 1] == (float)(N - 1));
    WORKS(d->free(d, a));
    WORKS(d->free(d, b));
    free(host);
}

static void kernels(void)
{
    mdl_cl context = NULL, q = own_queue(0, &context);
    const struct mdl_grid none = {.blocks = 1, .threads = 1};
    void *module, *kernel, *unused;
    mdl_dev_stream s;

    REQUIRE(d->module_load(d, "__kernel void broken(", &module) == medleyUnhandledDeviceError);
    REQUIRE(strstr(mdl_error_text(), "clBuildProgram"));
    WORKS(d->module_load(d, source, &module));
    REQUIRE(d->kernel_find(d, module, "missing", &unused) == medleyUnhandledDeviceError);
    WORKS(d->kernel_find(d, module, "add", &kernel));
    WORKS(d->stream_create(d, &s));
    launch(kernel, s);
    launch(kernel, NULL);
    REQUIRE(d->kernel_launch(d, kernel, &none, s) == medleyInternalError);
    REQUIRE(d->kernel_launch(d, kernel, &none, q) == medleyInvalidUsage);
    WORKS(d->stream_destroy(d, s));
    WORKS(d->module_unload(d, module));
    REQUIRE(mdl_cl_call.ReleaseCommandQueue(q) == 0 && mdl_cl_call.ReleaseContext(context) == 0);
}

/* ---- auto ---- */

static void automatic(void)
{
    struct mdl_config cfg;
    struct mdl_dev found;

    WORKS(mdl_config_load(&cfg));
    if (mdl_dev_find(&cfg, "auto", &found) != medleySuccess) return; /* several vendors are here */
    if (dev.caps & MDL_DEV_CPU) REQUIRE(found.ops != d);
}

int main(void)
{
    find_device("opencl");
    users_queue(0);
    users_queue(OUT_OF_ORDER);
    other_contexts();
    kernels();
    automatic();
    printf("passed\n");
    return 0;
}
