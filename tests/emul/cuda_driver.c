/* SPDX-License-Identifier: Apache-2.0 */
/* libcuda.so.1 (CUDA_MAJOR is that of the driver's own version). */
#include "config.h"
#include "tests/emul/cuda_codes.h"

#ifdef CUDA_LAYER
#define VENDOR CUDA_LAYER
#else
#define VENDOR EMUL_CUDA
#endif
#define DRV(name)      cu##name
#define DRIVER_VERSION (CUDA_MAJOR * 1000 + (CUDA_MAJOR == 12 ? 80 : 0))

/* The driver numbers these as the runtime does. */
static const int codes[EMUL_CODES] = {CUDA_CODES};

#include "tests/emul/family_driver.h"

CALL(DeviceGetAttribute, (int *value, int attribute, int device))
{
    ENTER(0);
    if (!value || attribute < 1 || attribute > 160) return codes[EMUL_INVALID];
    if (device < 0 || device >= emul_device_count(VENDOR)) return codes[EMUL_BAD_DEVICE];
    switch (attribute) {
    case 1: *value = 1024; break;
    case 16: *value = 4; break;
    case 33: *value = 0x10 + device; break;
    case 50: *value = 0xe000 + VENDOR; break;
    case 75: *value = 9; break;
    case 19:
    case 31:
    case 41:
    case 83:
    case 99:
    case 115: *value = 1; break;
    case 93:
    case 122: *value = !emul_fault(VENDOR, "nowait", NULL); break;
    case 124: *value = emul_fault(VENDOR, "dmabuf", NULL); break;
    default: *value = 0;
    }
    return 0;
}

/* By version: a name of 11070 or newer stands for its second generation. */
CALL(GetProcAddress_v2, (const char *name, void **out, int version, uint64_t flags, int *status))
{
    ENTER(0);
    Dl_info info;
    char second[128];
    if (!name || !out || !dladdr((const void *)loaded, &info)) return codes[EMUL_INVALID];
    void *self = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    snprintf(second, sizeof(second), "%s_v2", name);
    bool memops = strncmp(name, "cuStreamW", 9) == 0;
    *out = self && (!memops || version >= 11070) ? dlsym(self, second) : NULL;
    if (self && !*out) *out = dlsym(self, name);
    if (self) dlclose(self);
    if (status) *status = *out ? 0 : 1;
    return *out ? 0 : codes[EMUL_NOT_FOUND];
}

CALL(GetProcAddress, (const char *name, void **out, int version, uint64_t flags))
{
    return cuGetProcAddress_v2(name, out, version, flags, NULL);
}
