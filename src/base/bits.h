/*
 * base/bits.h - bit fields, alignment, and unaligned loads and stores of either byte order.
 *
 * Guest memory, image files and wire formats are read through load_* and store_*: they accept any
 * alignment and never alias.
 */
#ifndef BASE_BITS_H
#define BASE_BITS_H

#include "base/types.h"

#define BIT(n) (1ull << (n))

/* The COUNT bits of VALUE that start at bit FIRST; count is 1 to 63. */
static inline u64 bits_get(u64 value, unsigned first, unsigned count)
{
    return (value >> first) & (BIT(count) - 1);
}

/* A mask of the low BYTES bytes; bytes is 1, 2, 4 or 8. */
static inline u64 bytes_mask(unsigned bytes)
{
    return bytes >= 8 ? ~0ull : BIT(bytes * 8) - 1;
}

/* VALUE's low BYTES bytes, sign-extended to 64 bits; bytes is 1, 2, 4 or 8. */
static inline u64 sign_extend(u64 value, unsigned bytes)
{
    unsigned shift = 64 - bytes * 8;
    return (u64)((s64)(value << shift) >> shift);
}

/* VALUE rounded down or up to a multiple of ALIGN, a power of two. */
static inline u64 align_down(u64 value, u64 align)
{
    return value & ~(align - 1);
}

static inline u64 align_up(u64 value, u64 align)
{
    return (value + align - 1) & ~(align - 1);
}

static inline bool is_power_of_two(u64 value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static inline u64 min_u64(u64 a, u64 b)
{
    return a < b ? a : b;
}

static inline u64 max_u64(u64 a, u64 b)
{
    return a > b ? a : b;
}

static inline u16 load_le16(const void *from)
{
    u16 value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
}

static inline u32 load_le32(const void *from)
{
    u32 value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
}

static inline u64 load_le64(const void *from)
{
    u64 value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
}

static inline void store_le16(void *to, u16 value)
{
    __builtin_memcpy(to, &value, sizeof(value));
}

static inline void store_le32(void *to, u32 value)
{
    __builtin_memcpy(to, &value, sizeof(value));
}

static inline void store_le64(void *to, u64 value)
{
    __builtin_memcpy(to, &value, sizeof(value));
}

static inline u16 load_be16(const void *from)
{
    return __builtin_bswap16(load_le16(from));
}

static inline u32 load_be32(const void *from)
{
    return __builtin_bswap32(load_le32(from));
}

static inline u64 load_be64(const void *from)
{
    return __builtin_bswap64(load_le64(from));
}

static inline void store_be16(void *to, u16 value)
{
    store_le16(to, __builtin_bswap16(value));
}

static inline void store_be32(void *to, u32 value)
{
    store_le32(to, __builtin_bswap32(value));
}

static inline void store_be64(void *to, u64 value)
{
    store_le64(to, __builtin_bswap64(value));
}

#endif
