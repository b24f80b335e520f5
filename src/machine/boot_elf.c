/*
 * machine/boot_elf.c - reads ELF executables for x86, 32 and 64 bits, and copies their segments.
 *
 * Spec   System V ABI, chapter 4 "Object Files" and 5 "Program Loading"; x86-64 psABI.
 * Runs   while no vCPU runs.
 * Trust  the file is hostile: offsets and sizes are checked against the file, places against RAM.
 */
#include "base/bits.h"
#include "base/errno.h"
#include "machine/boot_priv.h"
#include "machine/memmap.h"

enum { ELF32_HEADER_BYTES = 52, ELF64_HEADER_BYTES = 64 };
enum { ELF32_PROGRAM_BYTES = 32, ELF64_PROGRAM_BYTES = 56 };
enum { CLASS_32 = 1, CLASS_64 = 2, LITTLE_ENDIAN = 1, MACHINE_386 = 3, MACHINE_X86_64 = 62 };

bool boot_is_elf(const struct boot_blob *blob)
{
    return blob->bytes >= 4 && __builtin_memcmp(blob->data,
                                                "\x7f"
                                                "ELF",
                                                4) == 0;
}

static int damaged(struct err *err, const char *how)
{
    return err_set(err, -ENOEXEC, "the kernel is a damaged ELF file: %s", how);
}

static struct boot_elf_segment segment_32(const u8 *at)
{
    return (struct boot_elf_segment){.type = load_le32(at),
                                     .offset = load_le32(at + 4),
                                     .paddr = load_le32(at + 12),
                                     .file_bytes = load_le32(at + 16),
                                     .memory_bytes = load_le32(at + 20),
                                     .align = load_le32(at + 28)};
}

static struct boot_elf_segment segment_64(const u8 *at)
{
    return (struct boot_elf_segment){.type = load_le32(at),
                                     .offset = load_le64(at + 8),
                                     .paddr = load_le64(at + 24),
                                     .file_bytes = load_le64(at + 32),
                                     .memory_bytes = load_le64(at + 40),
                                     .align = load_le64(at + 48)};
}

static int parse_segments(const struct boot_blob *blob, u64 table, unsigned count, bool is_64_bit,
                          struct boot_elf *elf, struct err *err)
{
    unsigned entry_bytes = is_64_bit ? ELF64_PROGRAM_BYTES : ELF32_PROGRAM_BYTES;

    if (count > BOOT_ELF_SEGMENTS_MAX)
        return damaged(err, "it has more than 64 program headers");
    if (table > blob->bytes || blob->bytes - table < (u64)count * entry_bytes)
        return damaged(err, "its program headers lie beyond the end of the file");
    for (unsigned i = 0; i < count; i++) {
        const u8 *at = blob->data + table + (u64)i * entry_bytes;
        struct boot_elf_segment segment = is_64_bit ? segment_64(at) : segment_32(at);
        if (segment.type != BOOT_ELF_LOAD && segment.type != BOOT_ELF_NOTE)
            continue;
        if (segment.offset > blob->bytes || segment.file_bytes > blob->bytes - segment.offset)
            return damaged(err, "a segment lies beyond the end of the file (is it truncated?)");
        if (segment.type == BOOT_ELF_LOAD && segment.memory_bytes < segment.file_bytes)
            return damaged(err, "a segment is smaller in memory than in the file");
        elf->segments[elf->segment_count++] = segment;
    }
    return 0;
}

int boot_elf_parse(const struct boot_blob *blob, struct boot_elf *ret_elf, struct err *err)
{
    const u8 *header = blob->data;
    bool is_64_bit;

    *ret_elf = (struct boot_elf){0};
    if (blob->bytes < ELF32_HEADER_BYTES)
        return damaged(err, "it ends inside its header");
    is_64_bit = header[4] == CLASS_64;
    if ((!is_64_bit && header[4] != CLASS_32) || header[5] != LITTLE_ENDIAN)
        return damaged(err, "its class or byte order is unknown");
    if (is_64_bit && blob->bytes < ELF64_HEADER_BYTES)
        return damaged(err, "it ends inside its header");
    u16 machine = load_le16(header + 18);
    if (machine != MACHINE_386 && machine != MACHINE_X86_64)
        return err_set(err, -ENOEXEC,
                       "the kernel is an ELF file for another processor (machine %u)", machine);
    u64 table = is_64_bit ? load_le64(header + 32) : load_le32(header + 28);
    u16 entry_bytes = load_le16(header + (is_64_bit ? 54 : 42));
    u16 count = load_le16(header + (is_64_bit ? 56 : 44));
    if (count > 0 && entry_bytes != (is_64_bit ? ELF64_PROGRAM_BYTES : ELF32_PROGRAM_BYTES))
        return damaged(err, "its program headers have an unknown size");
    ret_elf->entry = is_64_bit ? load_le64(header + 24) : load_le32(header + 24);
    return parse_segments(blob, table, count, is_64_bit, ret_elf, err);
}

static int load_segment(const struct boot_request *request, const struct boot_elf_segment *segment,
                        struct err *err)
{
    int r = boot_write(request, segment->paddr, request->kernel.data + segment->offset,
                       segment->file_bytes, "kernel", err);
    if (r < 0)
        return r;
    return boot_zero(request, segment->paddr + segment->file_bytes,
                     segment->memory_bytes - segment->file_bytes, err);
}

static bool is_in_low(const struct boot_elf_segment *segment)
{
    return segment->paddr >= BOOT_LOW_BEGIN && segment->paddr < BOOT_LOW_END &&
           segment->memory_bytes <= BOOT_LOW_END - segment->paddr;
}

int boot_elf_load(const struct boot_request *request, const struct boot_elf *elf, bool low,
                  gpa_t *ret_end, struct err *err)
{
    u64 low_bytes = request->map->low_bytes, total_bytes = 0;
    gpa_t end = 0;

    for (unsigned i = 0; i < elf->segment_count; i++) {
        const struct boot_elf_segment *segment = &elf->segments[i];
        if (segment->type != BOOT_ELF_LOAD || segment->memory_bytes == 0)
            continue;
        if (segment->paddr < BOOT_KERNEL_MIN && !(low && is_in_low(segment)))
            return err_set(err, -ENOEXEC,
                           "the kernel wants to be loaded at 0x%lx, below 1 MiB, where %s",
                           (unsigned long)segment->paddr,
                           low ? "only 0x4000 to 0x1ffff are free" : "boot data is");
        /* The sum bounds the work that a file with many overlapping segments could ask for. */
        if (segment->paddr > low_bytes || segment->memory_bytes > low_bytes - segment->paddr ||
            segment->memory_bytes > low_bytes - total_bytes)
            return err_set(
                err, -ENOSPC,
                "the kernel wants %lu KiB at 0x%lx, but guest memory below 4 GiB ends at "
                "0x%lx; give more with --memory",
                (unsigned long)(segment->memory_bytes / 1024), (unsigned long)segment->paddr,
                (unsigned long)low_bytes);
        total_bytes += segment->memory_bytes;
        int r = load_segment(request, segment, err);
        if (r < 0)
            return r;
        end = max_u64(end, segment->paddr + segment->memory_bytes);
    }
    if (end == 0)
        return damaged(err, "it has nothing to load");
    *ret_end = end;
    return 0;
}
