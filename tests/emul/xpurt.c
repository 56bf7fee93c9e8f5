/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kunlunxin's libxpurt.so: of its native runtime only what tells whose machine this is and how many devices it has. The
 * CUDA layer beside it does the work.
 */
#include "config.h"
#include "tests/emul/engine.h"

EMUL_API int xpu_device_count(int *count);
int xpu_device_count(int *count)
{
    if (!count || emul_enter(EMUL_KUNLUN, __func__, EMUL_CLEANUP)) return 1;
    *count = emul_device_count(EMUL_KUNLUN);
    return 0;
}

EMUL_API int xpu_current_device(int *device);
int xpu_current_device(int *device)
{
    if (!device || emul_enter(EMUL_KUNLUN, __func__, EMUL_CLEANUP)) return 1;
    *device = emul_device_get(EMUL_KUNLUN);
    return 0;
}

EMUL_API int xpu_set_device(int device);
int xpu_set_device(int device)
{
    return emul_enter(EMUL_KUNLUN, __func__, EMUL_CLEANUP) || emul_device_set(EMUL_KUNLUN, device);
}
