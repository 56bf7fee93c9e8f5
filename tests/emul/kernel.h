/* SPDX-License-Identifier: Apache-2.0 */
/* Run-time compiled kernels: the "device" code is a shared object that the system's C++ compiler makes. */
#ifndef MDL_TESTS_EMUL_KERNEL_H_
#define MDL_TESTS_EMUL_KERNEL_H_

#include "tests/emul/engine.h"

/* In the fault handler: whether this thread runs a kernel; then the range is opened until the kernel ends. */
bool emul_kernel_open(uintptr_t base, size_t size);

#endif
