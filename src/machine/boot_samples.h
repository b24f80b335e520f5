/*
 * machine/boot_samples.h - the smallest well-formed kernel of each kind, for the boot loaders'
 * tests and their fuzzer. Not part of the product.
 */
#ifndef MACHINE_BOOT_SAMPLES_H
#define MACHINE_BOOT_SAMPLES_H

#include "base/bits.h"

enum { SAMPLE_BYTES = 16384, SAMPLE_KINDS = 4 };
enum { SAMPLE_LINUX_BYTES = 512 * 3 + 4096, SAMPLE_LOAD = 0x200000, SAMPLE_ENTRY = 0x200040 };

/* A bzImage with one setup sector and 4 KiB of kernel that holds 0x5a everywhere. */
static inline size_t sample_linux(u8 *to)
{
    __builtin_memset(to, 0, SAMPLE_BYTES);
    to[0x1f1] = 2;
    store_le32(to + 0x1f4, 4096 / 16);
    store_le16(to + 0x1fe, 0xaa55);
    to[0x201] = 0x66; /* the header ends at 0x268 */
    __builtin_memcpy(to + 0x202, "HdrS", 4);
    store_le16(to + 0x206, 0x020f);
    store_le32(to + 0x22c, 0x7fffffff);
    store_le32(to + 0x230, 0x200000);
    to[0x234] = 1;
    store_le16(to + 0x236, 3);
    store_le32(to + 0x238, 255);
    store_le64(to + 0x258, 0x1000000);
    store_le32(to + 0x260, 0x300000);
    __builtin_memset(to + 512 * 3, 0x5a, 4096);
    return SAMPLE_LINUX_BYTES;
}

/* An ELF file with one segment of 4 KiB in the file and 8 KiB in memory at SAMPLE_LOAD. */
static inline size_t sample_elf64(u8 *to)
{
    __builtin_memset(to, 0, SAMPLE_BYTES);
    __builtin_memcpy(to,
                     "\x7f"
                     "ELF\x02\x01\x01",
                     7);
    store_le16(to + 16, 2);
    store_le16(to + 18, 62);
    store_le64(to + 24, SAMPLE_ENTRY);
    store_le64(to + 32, 64); /* program headers */
    store_le16(to + 54, 56);
    store_le16(to + 56, 2);
    u8 *load = to + 64;
    store_le32(load, 1);
    store_le64(load + 8, 4096);
    store_le64(load + 24, SAMPLE_LOAD);
    store_le64(load + 32, 4096);
    store_le64(load + 40, 8192);
    __builtin_memset(to + 4096, 0xa5, 4096);
    return 8192;
}

static inline size_t sample_pvh(u8 *to)
{
    size_t bytes = sample_elf64(to);
    u8 *header = to + 64 + 56, *note = to + 512;
    store_le32(header, 4);
    store_le64(header + 8, 512);
    store_le64(header + 32, 12 + 4 + 8);
    store_le64(header + 48, 4);
    store_le32(note, 4);
    store_le32(note + 4, 8);
    store_le32(note + 8, 18);
    __builtin_memcpy(note + 12, "Xen", 4);
    store_le64(note + 16, SAMPLE_ENTRY);
    return bytes;
}

static inline void sample_multiboot_header(u8 *at)
{
    store_le32(at, 0x1badb002);
    store_le32(at + 4, 3);
    store_le32(at + 8, -(u32)(0x1badb002 + 3));
}

static inline size_t sample_multiboot64(u8 *to)
{
    size_t bytes = sample_elf64(to);
    sample_multiboot_header(to + 1024);
    return bytes;
}

static inline size_t sample_multiboot32(u8 *to)
{
    __builtin_memset(to, 0, SAMPLE_BYTES);
    __builtin_memcpy(to,
                     "\x7f"
                     "ELF\x01\x01\x01",
                     7);
    store_le16(to + 16, 2);
    store_le16(to + 18, 3);
    store_le32(to + 24, SAMPLE_ENTRY);
    store_le32(to + 28, 52);
    store_le16(to + 42, 32);
    store_le16(to + 44, 1);
    u8 *load = to + 52;
    store_le32(load, 1);
    store_le32(load + 4, 4096);
    store_le32(load + 12, SAMPLE_LOAD);
    store_le32(load + 16, 4096);
    store_le32(load + 20, 8192);
    __builtin_memset(to + 4096, 0xa5, 4096);
    sample_multiboot_header(to + 4096);
    return 8192;
}

/* Sample number KIND (0 to SAMPLE_KINDS - 1). */
static inline size_t sample_make(unsigned kind, u8 *to)
{
    return kind == 0   ? sample_linux(to)
           : kind == 1 ? sample_pvh(to)
           : kind == 2 ? sample_multiboot64(to)
                       : sample_multiboot32(to);
}

#endif
