/*
 * machine/boot_priv.h - what the boot loaders share: places in low memory, guest memory writes,
 * processor states at entry, and the ELF reader.
 */
#ifndef MACHINE_BOOT_PRIV_H
#define MACHINE_BOOT_PRIV_H

#include "machine/boot.h"

#define BOOT_GDT 0x1000ull
#define BOOT_INFO 0x2000ull
#define BOOT_LISTS 0x3000ull
#define BOOT_PAGE_TABLES 0x10000ull
#define BOOT_SETUP_DATA 0x1f000ull
#define BOOT_COMMAND_LINE 0x20000ull
#define BOOT_COMMAND_LINE_MAX 0x40000ull /* closing NUL included */
#define BOOT_KERNEL_MIN 0x100000ull      /* kernels are loaded at 1 MiB or above */
/* What Multiboot kernels may have of low memory: between the lists and the command line. */
#define BOOT_LOW_BEGIN 0x4000ull
#define BOOT_LOW_END BOOT_COMMAND_LINE

/* Copies to guest memory; says WHAT did not fit on failure. */
MUST_CHECK int boot_write(const struct boot_request *request, gpa_t gpa, const void *from,
                          u64 bytes, const char *what, struct err *err);
MUST_CHECK int boot_zero(const struct boot_request *request, gpa_t gpa, u64 bytes, struct err *err);
/* Writes the command line, after PREFIX, to its place; LIMIT counts the closing NUL. */
MUST_CHECK int boot_write_command_line(const struct boot_request *request, const char *prefix,
                                       u64 limit, struct err *err);

/* A processor at ENTRY with flat segments and interrupts off: protected mode without paging, or
 * long mode with the first 4 GiB mapped one to one. The GDT (and page tables) are written. */
MUST_CHECK int boot_state_protected(const struct boot_request *request, u32 entry,
                                    struct x86_state *ret_state, struct err *err);
MUST_CHECK int boot_state_long(const struct boot_request *request, u64 entry,
                               struct x86_state *ret_state, struct err *err);

enum { BOOT_ELF_SEGMENTS_MAX = 64 };

struct boot_elf_segment {
    u32 type;
    u64 offset, file_bytes; /* inside the file: checked */
    gpa_t paddr;
    u64 memory_bytes; /* at least file_bytes */
    u64 align;
};

struct boot_elf {
    u64 entry;
    unsigned segment_count;
    struct boot_elf_segment segments[BOOT_ELF_SEGMENTS_MAX];
};

enum { BOOT_ELF_LOAD = 1, BOOT_ELF_NOTE = 4 };

/* True when the blob begins as an ELF file does. */
bool boot_is_elf(const struct boot_blob *blob);
/* Reads and checks the program headers of an x86 executable. */
MUST_CHECK int boot_elf_parse(const struct boot_blob *blob, struct boot_elf *ret_elf,
                              struct err *err);
/* Copies the loadable segments; *RET_END is the first address above them. LOW: they may lie in
 * BOOT_LOW_BEGIN to BOOT_LOW_END as well. */
MUST_CHECK int boot_elf_load(const struct boot_request *request, const struct boot_elf *elf,
                             bool low, gpa_t *ret_end, struct err *err);

/* Each of these loads one kind; the first two also say whether the file is of that kind. */
bool boot_linux_is(const struct boot_blob *kernel);
MUST_CHECK int boot_linux_load(const struct boot_request *request, struct x86_state *ret_state,
                               struct err *err);
bool boot_pvh_entry(const struct boot_blob *kernel, const struct boot_elf *elf, u32 *ret_entry);
MUST_CHECK int boot_pvh_load(const struct boot_request *request, const struct boot_elf *elf,
                             u32 entry, struct x86_state *ret_state, struct err *err);
bool boot_multiboot_flags(const struct boot_blob *kernel, u32 *ret_flags);
MUST_CHECK int boot_multiboot_load(const struct boot_request *request, const struct boot_elf *elf,
                                   u32 flags, struct x86_state *ret_state, struct err *err);

#endif
