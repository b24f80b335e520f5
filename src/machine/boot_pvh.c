/*
 * machine/boot_pvh.c - starts an ELF kernel at its PVH entry, in protected mode without paging.
 *
 * Spec   Xen docs/misc/pvh.pandoc "x86/HVM direct boot ABI"; xen/include/public/arch-x86/hvm/
 *        start_info.h (version 1); elfnote.h, XEN_ELFNOTE_PHYS32_ENTRY.
 * Runs   while no vCPU runs.
 * Trust  notes and segments are hostile; boot_elf.c has checked that they lie inside the file.
 */
#include "base/bits.h"
#include "base/errno.h"
#include "machine/boot_priv.h"
#include "machine/memmap.h"
#include "x86/regs.h"

enum { NOTE_HEADER_BYTES = 12, NOTE_PHYS32_ENTRY = 18 };
enum { MAGIC = 0x336ec578, INFO_BYTES = 56, MODULE_BYTES = 32, MEMORY_ENTRY_BYTES = 24 };
enum { AT_MEMORY_MAP = 256 }; /* in BOOT_LISTS, after the module list */

/* Looks for the entry note in the notes of one segment. */
static bool find_entry(const u8 *notes, u64 bytes, u64 align, u32 *ret_entry)
{
    u64 at = 0;

    while (bytes - at >= NOTE_HEADER_BYTES) {
        u64 name_bytes = load_le32(notes + at);
        u64 desc_bytes = load_le32(notes + at + 4);
        u32 type = load_le32(notes + at + 8);
        u64 name = at + NOTE_HEADER_BYTES;
        u64 desc = align_up(name + name_bytes, align);
        u64 next = align_up(desc + desc_bytes, align);
        if (desc > bytes || desc_bytes > bytes - desc)
            return false;
        if (type == NOTE_PHYS32_ENTRY && name_bytes == 4 && desc_bytes >= 4 &&
            __builtin_memcmp(notes + name, "Xen", 4) == 0) {
            *ret_entry = load_le32(notes + desc);
            return true;
        }
        if (next > bytes)
            return false;
        at = next;
    }
    return false;
}

bool boot_pvh_entry(const struct boot_blob *kernel, const struct boot_elf *elf, u32 *ret_entry)
{
    for (unsigned i = 0; i < elf->segment_count; i++) {
        const struct boot_elf_segment *segment = &elf->segments[i];
        if (segment->type == BOOT_ELF_NOTE &&
            find_entry(kernel->data + segment->offset, segment->file_bytes,
                       segment->align == 8 ? 8 : 4, ret_entry))
            return true;
    }
    return false;
}

/* Puts the initrd at the top of low memory, clear of the kernel, and lists it as the only module.
 */
static int load_module(const struct boot_request *request, gpa_t kernel_end, struct err *err)
{
    u64 bytes = request->initrd.bytes, low_bytes = request->map->low_bytes;
    u8 module[MODULE_BYTES] = {0};

    if (bytes > low_bytes || align_down(low_bytes - bytes, 4096) < kernel_end)
        return err_set(err, -ENOSPC,
                       "the initrd (%lu MiB) does not fit in guest memory beside the kernel; give "
                       "more with --memory",
                       (unsigned long)(bytes >> 20) + 1);
    gpa_t gpa = align_down(low_bytes - bytes, 4096);
    store_le64(module, gpa);
    store_le64(module + 8, bytes);
    int r = boot_write(request, gpa, request->initrd.data, bytes, "initrd", err);
    if (r < 0)
        return r;
    return boot_write(request, BOOT_LISTS, module, sizeof(module), "module list", err);
}

static int write_info(const struct boot_request *request, struct err *err)
{
    const struct memmap *map = request->map;
    u8 memory[MEMMAP_E820_MAX * MEMORY_ENTRY_BYTES] = {0};
    u8 info[INFO_BYTES] = {0};
    bool has_initrd = request->initrd.bytes > 0;

    for (unsigned i = 0; i < map->e820_count; i++) {
        store_le64(memory + i * MEMORY_ENTRY_BYTES, map->e820[i].base);
        store_le64(memory + i * MEMORY_ENTRY_BYTES + 8, map->e820[i].bytes);
        store_le32(memory + i * MEMORY_ENTRY_BYTES + 16, map->e820[i].type);
    }
    store_le32(info, MAGIC);
    store_le32(info + 4, 1); /* version */
    store_le32(info + 12, has_initrd ? 1 : 0);
    store_le64(info + 16, has_initrd ? BOOT_LISTS : 0);
    store_le64(info + 24, BOOT_COMMAND_LINE);
    store_le64(info + 32, request->rsdp);
    store_le64(info + 40, BOOT_LISTS + AT_MEMORY_MAP);
    store_le32(info + 48, map->e820_count);
    int r = boot_write(request, BOOT_LISTS + AT_MEMORY_MAP, memory, sizeof(memory), "memory map",
                       err);
    if (r < 0)
        return r;
    return boot_write(request, BOOT_INFO, info, sizeof(info), "start info", err);
}

int boot_pvh_load(const struct boot_request *request, const struct boot_elf *elf, u32 entry,
                  struct x86_state *ret_state, struct err *err)
{
    gpa_t kernel_end = 0;

    int r = boot_elf_load(request, elf, false, &kernel_end, err);
    if (r == 0 && request->initrd.bytes > 0)
        r = load_module(request, kernel_end, err);
    if (r == 0)
        r = boot_write_command_line(request, "", BOOT_COMMAND_LINE_MAX, err);
    if (r == 0)
        r = write_info(request, err);
    if (r == 0)
        r = boot_state_protected(request, entry, ret_state, err);
    if (r == 0)
        ret_state->gpr[X86_RBX] = BOOT_INFO;
    return r;
}
