/*
 * machine/boot_multiboot.c - starts an ELF kernel with a Multiboot 1 header, as bare-metal test
 * programs have; the initrd is passed as its only module.
 *
 * Spec   Multiboot Specification 0.6.96, 3.1 "OS image format", 3.2 "Machine state", 3.3 "Boot
 *        information format".
 * Runs   while no vCPU runs.
 * Trust  the header is hostile; boot_elf.c checks segments.
 *
 * The command line begins with a word for the program's name, as boot loaders give it.
 */
#include "base/bits.h"
#include "base/errno.h"
#include "machine/boot_priv.h"
#include "machine/memmap.h"
#include "x86/regs.h"

enum {
    SEARCH_BYTES = 8192,
    HEADER_BYTES = 12,
    HEADER_MAGIC = 0x1badb002,
    ENTRY_MAGIC = 0x2badb002
};
/* Bits 0 to 15 of the header's flags must be understood: aligned modules, memory information. */
enum { FLAGS_REQUIRED = 0xffff, FLAGS_KNOWN = 0x0003 };
enum {
    INFO_MEMORY = 1 << 0,
    INFO_COMMAND_LINE = 1 << 2,
    INFO_MODULES = 1 << 3,
    INFO_MAP = 1 << 6,
    INFO_LOADER_NAME = 1 << 9
};
enum { INFO_BYTES = 116, MODULE_BYTES = 16, MAP_ENTRY_BYTES = 24 };
enum { AT_LOADER_NAME = 64, AT_MODULE_NAME = 80, AT_MAP = 256 }; /* in BOOT_LISTS */

static const char program_name[] = "kernel ";
static const char loader_name[] = "atoll";
static const char module_name[] = "initrd";

bool boot_multiboot_flags(const struct boot_blob *kernel, u32 *ret_flags)
{
    u64 limit = min_u64(kernel->bytes, SEARCH_BYTES);

    for (u64 at = 0; at + HEADER_BYTES <= limit; at += 4) {
        const u8 *header = kernel->data + at;
        u32 flags = load_le32(header + 4);
        if (load_le32(header) == HEADER_MAGIC &&
            load_le32(header) + flags + load_le32(header + 8) == 0) {
            *ret_flags = flags;
            return true;
        }
    }
    return false;
}

/* The module goes right behind the kernel, or to 1 MiB. */
static int load_module(const struct boot_request *request, gpa_t kernel_end, struct err *err)
{
    gpa_t gpa = align_up(max_u64(kernel_end, BOOT_KERNEL_MIN), 4096);
    u64 bytes = request->initrd.bytes, low_bytes = request->map->low_bytes;
    u8 module[MODULE_BYTES] = {0};

    if (gpa > low_bytes || bytes > low_bytes - gpa)
        return err_set(err, -ENOSPC,
                       "the module (%lu MiB) does not fit in guest memory behind the kernel; give "
                       "more with --memory",
                       (unsigned long)(bytes >> 20) + 1);
    store_le32(module, (u32)gpa);
    store_le32(module + 4, (u32)(gpa + bytes));
    store_le32(module + 8, (u32)BOOT_LISTS + AT_MODULE_NAME);
    int r = boot_write(request, gpa, request->initrd.data, bytes, "module", err);
    if (r == 0)
        r = boot_write(request, BOOT_LISTS + AT_MODULE_NAME, module_name, sizeof(module_name),
                       "module name", err);
    if (r == 0)
        r = boot_write(request, BOOT_LISTS, module, sizeof(module), "module list", err);
    return r;
}

static int write_map(const struct boot_request *request, struct err *err)
{
    const struct memmap *map = request->map;
    u8 entries[MEMMAP_E820_MAX * MAP_ENTRY_BYTES] = {0};

    for (unsigned i = 0; i < map->e820_count; i++) {
        u8 *entry = entries + i * MAP_ENTRY_BYTES;
        store_le32(entry, MAP_ENTRY_BYTES - 4); /* the size does not count itself */
        store_le64(entry + 4, map->e820[i].base);
        store_le64(entry + 12, map->e820[i].bytes);
        store_le32(entry + 20, map->e820[i].type);
    }
    return boot_write(request, BOOT_LISTS + AT_MAP, entries, map->e820_count * MAP_ENTRY_BYTES,
                      "memory map", err);
}

static int write_info(const struct boot_request *request, struct err *err)
{
    const struct memmap *map = request->map;
    bool has_module = request->initrd.bytes > 0;
    u8 info[INFO_BYTES] = {0};

    store_le32(info, INFO_MEMORY | INFO_COMMAND_LINE | INFO_MAP | INFO_LOADER_NAME |
                         (has_module ? INFO_MODULES : 0));
    store_le32(info + 4, (u32)(MEMMAP_VGA_BASE / 1024) - 1);
    store_le32(info + 8, (u32)((map->low_bytes - BOOT_KERNEL_MIN) / 1024));
    store_le32(info + 16, (u32)BOOT_COMMAND_LINE);
    store_le32(info + 20, has_module ? 1 : 0);
    store_le32(info + 24, has_module ? (u32)BOOT_LISTS : 0);
    store_le32(info + 44, map->e820_count * MAP_ENTRY_BYTES);
    store_le32(info + 48, (u32)BOOT_LISTS + AT_MAP);
    store_le32(info + 64, (u32)BOOT_LISTS + AT_LOADER_NAME);
    int r = boot_write(request, BOOT_LISTS + AT_LOADER_NAME, loader_name, sizeof(loader_name),
                       "loader name", err);
    if (r == 0)
        r = write_map(request, err);
    if (r == 0)
        r = boot_write(request, BOOT_INFO, info, sizeof(info), "boot information", err);
    return r;
}

int boot_multiboot_load(const struct boot_request *request, const struct boot_elf *elf, u32 flags,
                        struct x86_state *ret_state, struct err *err)
{
    gpa_t kernel_end = 0;

    if (flags & FLAGS_REQUIRED & ~FLAGS_KNOWN)
        return err_set(err, -ENOEXEC,
                       "the kernel's Multiboot header asks for features that are not there "
                       "(flags 0x%x)",
                       flags);
    if (elf->entry > UINT32_MAX)
        return err_set(err, -ENOEXEC, "the kernel's Multiboot entry 0x%lx is above 4 GiB",
                       (unsigned long)elf->entry);
    int r = boot_elf_load(request, elf, true, &kernel_end, err);
    if (r == 0 && request->initrd.bytes > 0)
        r = load_module(request, kernel_end, err);
    if (r == 0)
        r = boot_write_command_line(request, program_name, BOOT_COMMAND_LINE_MAX, err);
    if (r == 0)
        r = write_info(request, err);
    if (r == 0)
        r = boot_state_protected(request, (u32)elf->entry, ret_state, err);
    if (r == 0) {
        ret_state->gpr[X86_RAX] = ENTRY_MAGIC;
        ret_state->gpr[X86_RBX] = BOOT_INFO;
    }
    return r;
}
