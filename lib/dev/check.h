/* SPDX-License-Identifier: Apache-2.0 */
/* Is an adapter, or its table of a collective library, whole? False: `why` says in a sentence what is wrong. */
#ifndef MDL_DEV_CHECK_H_
#define MDL_DEV_CHECK_H_

#include <medley/plugin.h>

enum { MDL_VENDOR_BYTES = 32 };

/* If it says no, nothing of `d` behind abi and size may be read. */
bool mdl_dev_check_shape(const struct mdl_device *d, char *why, size_t bytes);
bool mdl_dev_check_vendor(const char *vendor); /* can it be a name? */
/* What can be seen before it is asked anything. */
bool mdl_dev_check_table(const struct mdl_device *d, char *why, size_t bytes);

/* After probe: what it claims, and the functions behind that. */
bool mdl_dev_check_bound(const struct mdl_device *d, char *why, size_t bytes);

bool mdl_native_check_table(const struct mdl_native *n, char *why, size_t bytes);
bool mdl_native_check_bound(const struct mdl_native *n, char *why, size_t bytes); /* after its probe */

#endif
