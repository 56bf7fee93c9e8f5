/* SPDX-License-Identifier: Apache-2.0 */
/* Collective libraries that have a shape and a source of their own. */
#ifndef MDL_DEVICES_NATIVE_H_
#define MDL_DEVICES_NATIVE_H_

#include <medley/plugin.h>

extern const struct mdl_native mdl_native_hccl, mdl_native_cncl;

#endif
