/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector and block types of VECTOR_BYTES for kernels_vector.h: v_T is a vector of T, b_T a block of VECTORS of them.
 * Included after the instruction set has been switched on, so that vectors travel in registers.
 */
#ifndef VECTOR_BYTES
#error "kernels_vector_types.h is included by the file of an instruction set"
#endif

enum { BLOCK_BYTES = 128, VECTORS = BLOCK_BYTES / VECTOR_BYTES };
_Static_assert((int)BLOCK_BYTES <= (int)MDL_BLOCK_BYTES_MAX, "the driver pads blocks");

#define INLINE static inline __attribute__((always_inline))

/* Runs over the vectors of a block; unrolled even where the optimiser would not, so that a block can be registers. */
#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define UNROLL PRAGMA(clang loop unroll(full))
#else
#define UNROLL PRAGMA(GCC unroll 8)
#endif
#define EACH(j)      UNROLL for (int j = 0; j < VECTORS; j++)
#define EACH_HALF(j) UNROLL for (int j = 0; j < VECTORS / 2; j++)

/* A vector's store past the caches, where there is one. */
#ifndef STREAM
#define STREAM(p, vector) memcpy(p, &(vector), VECTOR_BYTES)
#endif

/* Buffers are aligned to their elements only: loads and stores go through memcpy, which becomes one instruction. */
#define BLOCK(acc)                                                                                                     \
    typedef acc v_##acc __attribute__((vector_size(VECTOR_BYTES)));                                                    \
    typedef struct {                                                                                                   \
        v_##acc v[VECTORS];                                                                                            \
    } b_##acc;                                                                                                         \
    INLINE b_##acc load_##acc(const void *p)                                                                           \
    {                                                                                                                  \
        b_##acc b;                                                                                                     \
        EACH(j) memcpy(&b.v[j], (const char *)p + (size_t)j * VECTOR_BYTES, VECTOR_BYTES);                             \
        return b;                                                                                                      \
    }                                                                                                                  \
    INLINE void store_##acc(void *p, b_##acc b)                                                                        \
    {                                                                                                                  \
        EACH(j) memcpy((char *)p + (size_t)j * VECTOR_BYTES, &b.v[j], VECTOR_BYTES);                                   \
    }                                                                                                                  \
    /* stream: p is aligned to a cache line */                                                                         \
    INLINE void put_##acc(void *p, b_##acc b, bool stream)                                                             \
    {                                                                                                                  \
        if (stream)                                                                                                    \
            EACH(j) STREAM((char *)p + (size_t)j * VECTOR_BYTES, b.v[j]);                                              \
        else                                                                                                           \
            store_##acc(p, b);                                                                                         \
    }                                                                                                                  \
    INLINE void give_##acc(const struct mdl_fold *f, size_t at, b_##acc b)                                             \
    {                                                                                                                  \
        put_##acc((char *)f->dst + at, b, f->stream & 1);                                                              \
        for (int d = 0; d < f->nalso; d++) put_##acc((char *)f->also[d] + at, b, f->stream >> (d + 1) & 1);            \
    }

BLOCK(int8_t)
BLOCK(uint8_t)
BLOCK(int32_t)
BLOCK(uint32_t)
BLOCK(int64_t)
BLOCK(uint64_t)
BLOCK(float)
BLOCK(double)

/* As many lanes of 16 bits as a block has of 32. */
typedef uint16_t v_uint16_t __attribute__((vector_size(VECTOR_BYTES)));
typedef struct {
    v_uint16_t v[VECTORS / 2];
} h_uint16_t;

INLINE b_float as_float(b_uint32_t bits)
{
    b_float f;
    EACH(j) f.v[j] = (v_float)bits.v[j];
    return f;
}

INLINE b_uint32_t as_bits(b_float f)
{
    b_uint32_t bits;
    EACH(j) bits.v[j] = (v_uint32_t)f.v[j];
    return bits;
}
