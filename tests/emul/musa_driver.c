/* SPDX-License-Identifier: Apache-2.0 */
/* Moore Threads: libmusa.so.1. */
#include "config.h"
#include "tests/emul/cuda_codes.h"

#define VENDOR         EMUL_MUSA
#define DRV(name)      mu##name
#define DRIVER_VERSION 40300

static const int codes[EMUL_CODES] = {CUDA_CODES};

#include "tests/emul/family_driver.h"
