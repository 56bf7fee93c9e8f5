/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about datatypes and operations, and single elements to and from fp32. */
#include "config.h"

#include "lib/reduce/narrow.h"
#include "lib/reduce/reduce.h"

static const struct {
    const char *name;
    uint8_t size, acc_size;
} dtypes[medleyNumTypes] = {
    [medleyInt8] = {"int8", 1, 1},         [medleyUint8] = {"uint8", 1, 1},       [medleyInt32] = {"int32", 4, 4},
    [medleyUint32] = {"uint32", 4, 4},     [medleyInt64] = {"int64", 8, 8},       [medleyUint64] = {"uint64", 8, 8},
    [medleyFloat16] = {"half", 2, 4},      [medleyFloat32] = {"float", 4, 4},     [medleyFloat64] = {"double", 8, 8},
    [medleyBfloat16] = {"bfloat16", 2, 4}, [medleyFloat8e4m3] = {"f8e4m3", 1, 4}, [medleyFloat8e5m2] = {"f8e5m2", 1, 4},
};

static const char *const ops[medleyNumOps] = {"sum", "prod", "max", "min", "avg"};

/* The compiler may take the enumeration for unsigned or not: a negative number is out of range either way. */
static bool is_dtype(medleyDataType_t dtype) { return (unsigned)dtype < medleyNumTypes; }

size_t mdl_dtype_size(medleyDataType_t dtype) { return is_dtype(dtype) ? dtypes[dtype].size : 0; }

size_t mdl_dtype_acc_size(medleyDataType_t dtype) { return is_dtype(dtype) ? dtypes[dtype].acc_size : 0; }

const char *mdl_dtype_name(medleyDataType_t dtype) { return is_dtype(dtype) ? dtypes[dtype].name : "?"; }

const char *mdl_op_name(medleyRedOp_t op)
{
    if ((unsigned)op >= medleyNumOps) return "premulsum";
    return ops[op];
}

static bool narrow_format(medleyDataType_t dtype, struct mdl_narrow *n)
{
    switch (dtype) {
    case medleyFloat16: *n = MDL_NARROW_F16; return true;
    case medleyBfloat16: *n = MDL_NARROW_BF16; return true;
    case medleyFloat8e4m3: *n = MDL_NARROW_E4M3; return true;
    case medleyFloat8e5m2: *n = MDL_NARROW_E5M2; return true;
    default: return false;
    }
}

float mdl_to_float(medleyDataType_t dtype, const void *src)
{
    struct mdl_narrow n;
    float f = 0;
    double d;
    uint8_t u8;
    uint16_t u16;
    if (narrow_format(dtype, &n)) {
        if (n.bits == 8) {
            memcpy(&u8, src, sizeof u8);
            return mdl_narrow_to_f32(n, u8);
        }
        memcpy(&u16, src, sizeof u16);
        return mdl_narrow_to_f32(n, u16);
    }
    if (dtype == medleyFloat64) {
        memcpy(&d, src, sizeof d);
        f = (float)d;
    } else if (dtype == medleyFloat32) {
        memcpy(&f, src, sizeof f);
    }
    return mdl_f32_canonical(f);
}

void mdl_from_float(medleyDataType_t dtype, float value, void *dst)
{
    struct mdl_narrow n;
    if (narrow_format(dtype, &n)) {
        const uint32_t code = mdl_narrow_from_f32(n, value);
        if (n.bits == 8)
            *(uint8_t *)dst = (uint8_t)code;
        else
            memcpy(dst, &(uint16_t){(uint16_t)code}, 2);
    } else if (dtype == medleyFloat64) {
        memcpy(dst, &(double){mdl_f64_canonical(value)}, 8);
    } else if (dtype == medleyFloat32) {
        memcpy(dst, &(float){mdl_f32_canonical(value)}, 4);
    }
}
