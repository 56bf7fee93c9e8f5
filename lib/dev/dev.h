/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices of this process: which vendors there are, and which device a name means.
 *
 * A vendor's libraries are bound at the first look at it and stay until the process ends: runtimes do not survive being
 * unloaded. A vendor that was not found is looked for again at the next look.
 */
#ifndef MDL_DEV_DEV_H_
#define MDL_DEV_DEV_H_

#include "lib/base/config.h"
#include <medley/plugin.h>

extern const struct mdl_device *const mdl_devices[]; /* made from devices/devices.am */

/* A device of this process; ops NULL: the host, which is no device. */
struct mdl_dev {
    const struct mdl_device *ops;
    int ordinal;
    uint32_t caps; /* enum mdl_device_caps */
};

/* What `name` means for the calling thread: "host"; "cuda:1"; "cuda": its current device, or 0; "auto": the current
 * device of the one vendor that is here, else the host. InvalidArgument: no such vendor or number, or it is not usable
 * here, with the reason. */
medleyResult_t mdl_dev_find(const struct mdl_config *cfg, const char *name, struct mdl_dev *dev) MDL_MUST_USE;
medleyResult_t mdl_dev_check_name(const struct mdl_config *cfg, const char *name) MDL_MUST_USE; /* could it mean one? */

void mdl_dev_name(const struct mdl_dev *dev, char *text, size_t bytes); /* "cuda:1", "host" */

/* Makes the device current for this thread until leave, which restores what was. */
struct mdl_dev_visit {
    int before; /* -1: nothing to restore */
};
medleyResult_t mdl_dev_enter(const struct mdl_dev *dev, struct mdl_dev_visit *visit) MDL_MUST_USE;
void mdl_dev_leave(const struct mdl_dev *dev, struct mdl_dev_visit *visit);

/* A pointer that is not known to the vendor of `own` may be another's that this process uses: InvalidArgument with the
 * names of both devices. Costs nothing where one vendor is in use; else those others are asked. */
medleyResult_t mdl_dev_check_host(const struct mdl_dev *own, const void *p) MDL_MUST_USE;

/* For tools: vendor number `index`, from 0; false past the last, or if a setting is wrong: then it has reported that. A
 * plugin that is no good has a row too. */
struct mdl_dev_row {
    const struct mdl_device *ops; /* NULL: a plugin that was refused */
    char name[256];               /* of the vendor; of a plugin that has none its file */
    bool bound;
    char found[256], why[768]; /* bound: what, else the reason */
};
bool mdl_dev_row(const struct mdl_config *cfg, int index, struct mdl_dev_row *row);

/* A vendor's collective library, bound at the first look at it and then kept; NULL: there is none here. text: what was
 * bound, or why none was. */
const struct mdl_native *mdl_dev_native(const struct mdl_config *cfg, const struct mdl_device *d, char *text,
                                        size_t bytes);

#endif
