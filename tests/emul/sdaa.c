/* SPDX-License-Identifier: Apache-2.0 */
/* Tecorigin: libsdaart.so. No use of its IPC is known, so that it has none here. Numbers by guess. */
#include "config.h"

#define VENDOR          EMUL_SDAA
#define RT(name)        sdaa##name
#define RUNTIME_VERSION 2000
#define DRIVER_VERSION  2000

#define HAS_MALLOC_HOST
#define HAS_FREE_HOST
#define HAS_MEMSET
#define HAS_HOST_FUNCTION

#include "tests/emul/family_defaults.h"
#include "tests/emul/family.h"
