/* SPDX-License-Identifier: Apache-2.0 */
/* How the two sources of the family call what was bound. */
#ifndef MDL_DEVICES_CUDA_CALL_H_
#define MDL_DEVICES_CUDA_CALL_H_

#include "devices/cuda_family.h"

static inline struct mdl_cuda_state *mdl_cuda_state_of(const struct mdl_device *d)
{
    return ((const struct mdl_cuda_vendor *)d->self)->state;
}

static inline const struct mdl_cuda_vendor *mdl_cuda_vendor_of(const struct mdl_device *d)
{
    const struct mdl_cuda_vendor *bound = mdl_cuda_state_of(d)->bound;

    return bound ? bound : d->self;
}

/* The call as a function that returns an int and takes what follows. */
#define FN(d, id, ...)   ((int (*)(__VA_ARGS__))(uintptr_t)mdl_cuda_state_of(d)->fn[MDL_CUDA_##id])
#define HAS(d, id)       (mdl_cuda_state_of(d)->fn[MDL_CUDA_##id] != NULL)
#define QUIRK(d, id)     ((mdl_cuda_vendor_of(d)->quirks & MDL_CUDA_##id) != 0)
#define CHECK(d, id, rc) mdl_cuda_check(d, MDL_CUDA_##id, rc)

/* Reports what the vendor returned, unless that is success. */
medleyResult_t mdl_cuda_check(const struct mdl_device *d, enum mdl_cuda_call call, int rc);

/* Is it this code: by its number, or, since not all vendors' numbers are known, by the end of the vendor's name for it?
 */
bool mdl_cuda_is_code(const struct mdl_device *d, int rc, int number, const char *name);

/* A question that may be answered with an error: it must not be found by the program's next look at its last error. */
static inline void mdl_cuda_forget_error(const struct mdl_device *d)
{
    if (HAS(d, LAST_ERROR)) (void)FN(d, LAST_ERROR, void)();
}

enum { MDL_CUDA_CAPTURE_RELAXED = 2 };

/* What waits for the device, or asks how far it is, spoils a capture that another thread makes, unless this thread says
 * that it is not part of it. Puts what was in *mode, so that a second call restores it. */
static inline void mdl_cuda_exchange_capture_mode(const struct mdl_device *d, int *mode)
{
    if (HAS(d, CAPTURE_MODE)) (void)FN(d, CAPTURE_MODE, int *)(mode);
}

#endif
