/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels from OpenCL C. Which of its parameters are addresses, a kernel is asked when it is found: those in __global
 * or
 * __constant memory take an address of shared virtual memory, others take bytes. So a launch needs no more than the
 * bytes of each argument, as with other vendors; but an address inside a structure cannot be passed.
 *
 * A kernel belongs to the device on which its module was loaded, and to the adapter's context: queues of another
 * context are refused, since their context knows neither the kernel nor the adapter's memory.
 */
#include "config.h"

#include "devices/opencl.h"
#include "lib/base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEVICE_SINGLE_FP_CONFIG = 0x101B,
    CORRECTLY_ROUNDED_DIVIDE = 1 << 7,
    BUILD_LOG = 0x1183,
    KERNEL_NUM_ARGS = 0x1191,
    KERNEL_ARG_ADDRESS = 0x1196,
    ADDRESS_GLOBAL = 0x119B,
    ADDRESS_CONSTANT = 0x119D,
    MOST_ARGS = 64,
};

#define TRY(name, ...) MDL_TRY(mdl_cl_check(mdl_cl_call.name(__VA_ARGS__), #name))

struct module {
    mdl_cl program, context;
    struct kernel *kernels; /* found so far */
    pthread_mutex_t lock;
};

/* Arguments are part of the kernel's state, so one launch at a time. */
struct kernel {
    mdl_cl kernel, context;
    pthread_mutex_t lock;
    uint32_t nargs;
    bool address[MOST_ARGS];
    struct kernel *next;
};

/* ---- modules ---- */

/* A quotient of floats is the host's to the last bit only where the device says so. */
static void set_options(mdl_cl device, char *options, size_t bytes)
{
    uint64_t config = 0;

    if (mdl_cl_call.GetDeviceInfo(device, DEVICE_SINGLE_FP_CONFIG, sizeof(config), &config, NULL) != 0) config = 0;
    snprintf(options, bytes, "-cl-kernel-arg-info%s",
             (config & CORRECTLY_ROUNDED_DIVIDE) ? " -cl-fp32-correctly-rounded-divide-sqrt" : "");
}

static medleyResult_t explain(mdl_cl program, mdl_cl device, int32_t rc)
{
    char log[16384] = "";

    if (mdl_cl_call.GetProgramBuildInfo(program, device, BUILD_LOG, sizeof(log) - 1, log, NULL) != 0) log[0] = 0;
    return mdl_error(medleyUnhandledDeviceError, "clBuildProgram failed: %d: %.300s", rc, log);
}

static medleyResult_t build(const struct mdl_cl_device *dev, const char *source, mdl_cl *out)
{
    char options[128];
    int32_t rc = 0;
    mdl_cl program = mdl_cl_call.CreateProgramWithSource(dev->context, 1, &source, NULL, &rc);
    medleyResult_t res;

    MDL_TRY(mdl_cl_check(rc, "CreateProgramWithSource"));
    set_options(dev->id, options, sizeof(options));
    rc = mdl_cl_call.BuildProgram(program, 1, &dev->id, options, NULL, NULL);
    if (rc != 0) {
        res = explain(program, dev->id, rc);
        (void)mdl_cl_call.ReleaseProgram(program);
        return res;
    }
    *out = program;
    return medleySuccess;
}

medleyResult_t mdl_cl_module_load(const struct mdl_device *d, const char *source, void **module)
{
    struct mdl_cl_device *dev;
    struct module *m;
    medleyResult_t res;

    (void)d;
    MDL_TRY(mdl_cl_here(&dev));
    m = calloc(1, sizeof(*m));
    if (!m) return mdl_error(medleySystemError, "out of memory for kernels");
    res = build(dev, source, &m->program);
    if (res != medleySuccess) {
        free(m);
        return res;
    }
    m->context = dev->context;
    pthread_mutex_init(&m->lock, NULL);
    *module = m;
    return medleySuccess;
}

static void free_kernel(struct kernel *k)
{
    (void)mdl_cl_call.ReleaseKernel(k->kernel);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

medleyResult_t mdl_cl_module_unload(const struct mdl_device *d, void *module)
{
    struct module *m = module;

    (void)d;
    while (m->kernels) {
        struct kernel *k = m->kernels;
        m->kernels = k->next;
        free_kernel(k);
    }
    pthread_mutex_destroy(&m->lock);
    int32_t rc = mdl_cl_call.ReleaseProgram(m->program);
    free(m);
    return mdl_cl_check(rc, "ReleaseProgram");
}

/* ---- kernels ---- */

static medleyResult_t look_at_args(struct kernel *k, const char *name)
{
    TRY(GetKernelInfo, k->kernel, KERNEL_NUM_ARGS, sizeof(k->nargs), &k->nargs, NULL);
    if (k->nargs > MOST_ARGS)
        return mdl_error(medleyInternalError, "kernel %s has %u parameters, at most %d are expected", name, k->nargs,
                         MOST_ARGS);
    for (uint32_t i = 0; i < k->nargs; i++) {
        uint32_t space = 0;
        TRY(GetKernelArgInfo, k->kernel, i, KERNEL_ARG_ADDRESS, sizeof(space), &space, NULL);
        k->address[i] = space == ADDRESS_GLOBAL || space == ADDRESS_CONSTANT;
    }
    return medleySuccess;
}

medleyResult_t mdl_cl_kernel_find(const struct mdl_device *d, void *module, const char *name, void **kernel)
{
    struct module *m = module;
    struct kernel *k = calloc(1, sizeof(*k));
    medleyResult_t res;
    int32_t rc = 0;

    (void)d;
    if (!k) return mdl_error(medleySystemError, "out of memory for a kernel");
    k->kernel = mdl_cl_call.CreateKernel(m->program, name, &rc);
    if (rc != 0) {
        free(k);
        return mdl_cl_check(rc, "CreateKernel");
    }
    k->context = m->context;
    pthread_mutex_init(&k->lock, NULL);
    res = look_at_args(k, name);
    if (res != medleySuccess) {
        free_kernel(k);
        return res;
    }
    pthread_mutex_lock(&m->lock);
    k->next = m->kernels;
    m->kernels = k;
    pthread_mutex_unlock(&m->lock);
    *kernel = k;
    return medleySuccess;
}

static medleyResult_t set_args(const struct kernel *k, const struct mdl_grid *grid)
{
    for (uint32_t i = 0; i < k->nargs; i++) {
        if (!k->address[i])
            TRY(SetKernelArg, k->kernel, i, grid->sizes[i], grid->args[i]);
        else
            TRY(SetKernelArgSVMPointer, k->kernel, i, *(void *const *)grid->args[i]);
    }
    return medleySuccess;
}

static medleyResult_t enqueue(const struct kernel *k, const struct mdl_grid *grid, const struct mdl_cl_queue *queue)
{
    size_t global = (size_t)grid->blocks * grid->threads, local = grid->threads;

    MDL_TRY(mdl_cl_fence(queue));
    TRY(EnqueueNDRangeKernel, queue->q, k->kernel, 1, NULL, &global, &local, 0, NULL, NULL);
    return mdl_cl_fence(queue);
}

medleyResult_t mdl_cl_kernel_launch(const struct mdl_device *d, void *kernel, const struct mdl_grid *grid,
                                    mdl_dev_stream stream)
{
    struct kernel *k = kernel;
    struct mdl_cl_queue queue;
    medleyResult_t res;

    (void)d;
    MDL_TRY(mdl_cl_queue_of(stream, &queue));
    if (queue.context != k->context)
        return mdl_error(medleyInvalidUsage, "the command queue is of another context than the kernel");
    if (grid->nargs != (int)k->nargs)
        return mdl_error(medleyInternalError, "a kernel with %u parameters was given %d", k->nargs, grid->nargs);
    pthread_mutex_lock(&k->lock);
    res = set_args(k, grid);
    if (res == medleySuccess) res = enqueue(k, grid, &queue);
    pthread_mutex_unlock(&k->lock);
    return res;
}
