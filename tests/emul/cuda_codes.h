/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA's error numbers, which several vendors took over. A vendor that differs undefines and defines CODE_*. */
#ifndef MDL_TESTS_EMUL_CUDA_CODES_H_
#define MDL_TESTS_EMUL_CUDA_CODES_H_

#include "tests/emul/engine.h"

#define CUDA_CODES                                                                                                     \
    [EMUL_OK] = 0, [EMUL_INVALID] = 1, [EMUL_NO_MEMORY] = 2, [EMUL_NO_DRIVER] = 35, [EMUL_NO_DEVICE] = 100,            \
    [EMUL_BAD_DEVICE] = 101, [EMUL_BAD_HANDLE] = 400, [EMUL_BAD_POINTER] = 1, [EMUL_BAD_DIRECTION] = 21,               \
    [EMUL_NOT_READY] = 600, [EMUL_UNSUPPORTED] = 801, [EMUL_NO_CONTEXT] = 201, [EMUL_ASYNC] = 700,                     \
    [EMUL_NOT_PERMITTED] = 800, [EMUL_REGISTERED] = 712, [EMUL_UNREGISTERED] = 713, [EMUL_PEER_ON] = 704,              \
    [EMUL_OWN_EXPORT] = 201, [EMUL_CAPTURE_UNSAFE] = 900, [EMUL_CAPTURE_DEAD] = 901, [EMUL_CAPTURE_UNMATCHED] = 903,   \
    [EMUL_CAPTURE_IMPLICIT] = 906, [EMUL_CAPTURED_EVENT] = 907, [EMUL_FORKED] = 3, [EMUL_NOT_FOUND] = 500

#endif
