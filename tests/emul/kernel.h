/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run-time compiled kernels. The "device code" of a module is a shared object that the system's C++ compiler makes out
 * of the kernel's source; a launch runs its threads one after the other on the stream's queue. Kernels that synchronise
 * the threads of a block are not emulated and say so.
 */
#ifndef MDL_TESTS_EMUL_KERNEL_H_
#define MDL_TESTS_EMUL_KERNEL_H_

#include "tests/emul/engine.h"

/* *image: text that a module can be loaded from, *log: what the compiler said; both for the caller to free. 0, or not.
 */
EMUL_API int emul_compile(int vendor, const char *source, int count, const char *const *options, char **image,
                          char **log);

EMUL_API enum emul_code emul_module_load(int vendor, const void *image, void **module);
EMUL_API enum emul_code emul_module_unload(int vendor, void *module);
EMUL_API enum emul_code emul_module_function(int vendor, void *module, const char *name, void **function);
/* dims: grid x, y, z, block x, y, z. The arguments are taken at the call. */
EMUL_API enum emul_code emul_launch(int vendor, void *function, const unsigned dims[6], void **arguments, void *stream);

/* In the fault handler: whether this thread runs a kernel that may touch this; its allocation is open until the kernel
 * ends. */
bool emul_kernel_open(uintptr_t address);

#endif
