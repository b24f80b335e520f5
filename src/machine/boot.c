/*
 * machine/boot.c - recognises the kind of kernel, and what all kinds share: guest memory writes,
 * the command line, and processor states at entry.
 *
 * Spec   Intel SDM vol. 3A 3.4.5 (descriptors), 4.5 (4-level paging), 10.8.5 (entering long mode).
 * Runs   while no vCPU runs: at start and at guest reset.
 * Trust  files come from users and may be anything.
 */
#include "machine/boot.h"

#include "base/bits.h"
#include "base/errno.h"
#include "core/mem.h"
#include "machine/boot_priv.h"
#include "x86/regs.h"

enum { ZERO_CHUNK_BYTES = 4096, TABLE_ENTRIES = 512, IDENTITY_GIB = 4 };
enum { CODE_SELECTOR = 0x10, DATA_SELECTOR = 0x18, TSS_SELECTOR = 0x20 };
enum {
    ATTR_CODE32 = 0xc09b,
    ATTR_CODE64 = 0xa09b,
    ATTR_DATA = 0xc093,
    ATTR_TSS = 0x008b,
    TSS_LIMIT = 0x67
};
enum { PTE_PRESENT = 1, PTE_WRITE = 2, PTE_LARGE = 0x80 };

int boot_write(const struct boot_request *request, gpa_t gpa, const void *from, u64 bytes,
               const char *what, struct err *err)
{
    if (bytes == 0)
        return 0;
    if (mem_write(request->mem, gpa, from, bytes) < 0)
        return err_set(err, -ENOSPC,
                       "the %s (%lu KiB at 0x%lx) does not fit in guest memory; give more with "
                       "--memory",
                       what, (unsigned long)(bytes / 1024), (unsigned long)gpa);
    return 0;
}

int boot_zero(const struct boot_request *request, gpa_t gpa, u64 bytes, struct err *err)
{
    static const u8 zeroes[ZERO_CHUNK_BYTES];
    int r = 0;

    while (bytes > 0 && r == 0) {
        u64 chunk = min_u64(bytes, sizeof(zeroes));
        r = boot_write(request, gpa, zeroes, chunk, "kernel", err);
        gpa += chunk;
        bytes -= chunk;
    }
    return r;
}

int boot_write_command_line(const struct boot_request *request, const char *prefix, u64 limit,
                            struct err *err)
{
    u64 prefix_bytes = __builtin_strlen(prefix);
    u64 bytes = __builtin_strlen(request->command_line) + 1;

    limit = min_u64(limit, BOOT_COMMAND_LINE_MAX);
    if (prefix_bytes + bytes > limit)
        return err_set(err, -E2BIG,
                       "the kernel command line has %lu characters, but this kernel takes %lu",
                       (unsigned long)(bytes - 1), (unsigned long)(limit - 1 - prefix_bytes));
    int r = boot_write(request, BOOT_COMMAND_LINE, prefix, prefix_bytes, "command line", err);
    if (r < 0)
        return r;
    return boot_write(request, BOOT_COMMAND_LINE + prefix_bytes, request->command_line, bytes,
                      "command line", err);
}

static u64 descriptor(u32 attr, u32 limit)
{
    if (attr & X86_SEG_GRANULAR)
        limit >>= 12;
    return (u64)(limit & 0xffff) | (u64)attr << 40 | (u64)(limit >> 16 & 0xf) << 48;
}

static struct x86_seg flat(u16 selector, u16 attr)
{
    return (struct x86_seg){.limit = UINT32_MAX, .selector = selector, .attr = attr};
}

/* What both entry states have in common: descriptor tables and flat segments. */
static int state_flat(const struct boot_request *request, u16 code_attr,
                      struct x86_state *ret_state, struct err *err)
{
    const u64 gdt[] = {0, 0, descriptor(code_attr, UINT32_MAX), descriptor(ATTR_DATA, UINT32_MAX),
                       descriptor(ATTR_TSS, TSS_LIMIT)};
    struct x86_seg data = flat(DATA_SELECTOR, ATTR_DATA);

    x86_state_reset(ret_state, true);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        ret_state->seg[i] = data;
    ret_state->seg[X86_CS] = flat(CODE_SELECTOR, code_attr);
    ret_state->tr = (struct x86_seg){
        .limit = TSS_LIMIT, .selector = TSS_SELECTOR, .attr = ATTR_TSS};
    ret_state->gdtr = (struct x86_table){.base = BOOT_GDT, .limit = sizeof(gdt) - 1};
    ret_state->idtr = (struct x86_table){.base = 0, .limit = 0};
    ret_state->rflags = X86_FLAG_FIXED;
    ret_state->cr0 = X86_CR0_PE | X86_CR0_ET;
    return boot_write(request, BOOT_GDT, gdt, sizeof(gdt), "GDT", err);
}

int boot_state_protected(const struct boot_request *request, u32 entry, struct x86_state *ret_state,
                         struct err *err)
{
    int r = state_flat(request, ATTR_CODE32, ret_state, err);
    ret_state->rip = entry;
    return r;
}

/* Tables for the first 4 GiB in 2 MiB pages: PML4, one PDPT, four page directories. */
static int write_identity_map(const struct boot_request *request, struct err *err)
{
    const u64 link = PTE_PRESENT | PTE_WRITE;
    u64 table[TABLE_ENTRIES] = {BOOT_PAGE_TABLES + MEM_PAGE_BYTES + link};
    gpa_t gpa = BOOT_PAGE_TABLES;

    int r = boot_write(request, gpa, table, sizeof(table), "page tables", err);
    for (u64 i = 0; i < IDENTITY_GIB; i++)
        table[i] = BOOT_PAGE_TABLES + (2 + i) * MEM_PAGE_BYTES + link;
    gpa += MEM_PAGE_BYTES;
    if (r == 0)
        r = boot_write(request, gpa, table, sizeof(table), "page tables", err);
    for (u64 gib = 0; gib < IDENTITY_GIB && r == 0; gib++) {
        for (u64 i = 0; i < TABLE_ENTRIES; i++)
            table[i] = (gib * TABLE_ENTRIES + i) << 21 | link | PTE_LARGE;
        gpa += MEM_PAGE_BYTES;
        r = boot_write(request, gpa, table, sizeof(table), "page tables", err);
    }
    return r;
}

int boot_state_long(const struct boot_request *request, u64 entry, struct x86_state *ret_state,
                    struct err *err)
{
    int r = state_flat(request, ATTR_CODE64, ret_state, err);
    if (r < 0)
        return r;
    ret_state->rip = entry;
    ret_state->cr0 |= X86_CR0_PG;
    ret_state->cr3 = BOOT_PAGE_TABLES;
    ret_state->cr4 = X86_CR4_PAE;
    ret_state->msr.efer = X86_EFER_LME | X86_EFER_LMA;
    return write_identity_map(request, err);
}

/* What to say of a file that is no kernel we know. */
static int refuse(const struct boot_blob *kernel, struct err *err)
{
    static const struct {
        const char *magic;
        unsigned bytes;
        const char *what;
    } known[] = {
        {"\x1f\x8b", 2, "a gzip archive: unpack it first"},
        {"\x28\xb5\x2f\xfd", 4, "a zstd archive: unpack it first"},
        {"\xfd"
         "7zXZ",
         5, "an xz archive: unpack it first"},
        {"070701", 6, "a cpio archive: perhaps the initrd was given as the kernel"},
        {"QFI\xfb", 4, "a qcow2 disk image: give it with --disk"},
        {"!<arch>\n", 8, "a Debian package: unpack it with dpkg -x, the kernel is boot/vmlinuz-*"},
        {"MZ", 2, "an EFI program without a Linux boot header"},
    };

    if (kernel->bytes == 0)
        return err_set(err, -ENOEXEC, "the kernel file is empty");
    for (unsigned i = 0; i < ARRAY_LEN(known); i++)
        if (kernel->bytes >= known[i].bytes &&
            __builtin_memcmp(kernel->data, known[i].magic, known[i].bytes) == 0)
            return err_set(err, -ENOEXEC, "the kernel file is not a kernel but %s", known[i].what);
    return err_set(err, -ENOEXEC,
                   "the kernel file is not a kernel that can be started: need a Linux bzImage "
                   "(boot/vmlinuz-*), or an ELF file with a PVH note or a Multiboot header");
}

int boot_load(const struct boot_request *request, struct x86_state *ret_state, struct err *err)
{
    struct boot_elf elf;
    u32 entry, flags;

    if (boot_linux_is(&request->kernel))
        return boot_linux_load(request, ret_state, err);
    if (!boot_is_elf(&request->kernel))
        return refuse(&request->kernel, err);
    int r = boot_elf_parse(&request->kernel, &elf, err);
    if (r < 0)
        return r;
    if (boot_pvh_entry(&request->kernel, &elf, &entry))
        return boot_pvh_load(request, &elf, entry, ret_state, err);
    if (boot_multiboot_flags(&request->kernel, &flags))
        return boot_multiboot_load(request, &elf, flags, ret_state, err);
    return err_set(
        err, -ENOEXEC,
        "the kernel is an ELF file with neither a PVH entry note nor a Multiboot header; "
        "a Linux vmlinux needs CONFIG_PVH=y, or give the bzImage (boot/vmlinuz-*)");
}
