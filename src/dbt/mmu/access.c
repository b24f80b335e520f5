/*
 * dbt/mmu/access.c - guest memory accesses that missed the first-level TLB: walks, page crossings,
 * MMIO, ROM, and writes to pages with decoded code.
 *
 * Spec   Intel SDM vol. 3A 4.6, 4.7; vol. 1 3.3.7.1 (canonical addresses).
 * Runs   on the vCPU's thread.
 *
 * An access of two pages translates both before it touches either, so that a fault leaves no half
 * of a write behind. Device memory is asked byte by byte where an access crosses into it.
 */
#include "core/mem.h"
#include "dbt/mmu/walk_priv.h"
#include "dbt/tlb.h"

enum { PAGE_BYTES = MEM_PAGE_BYTES };

/* One page's part of an access. */
struct part {
    gpa_t gpa;
    u8 *host; /* NULL: a device, or ROM for a write */
    bool rom;
    bool code; /* a write must look for decoded code */
    unsigned bytes;
};

static gva_t gva_next(const struct cpu *cpu, gva_t gva, u64 bytes)
{
    gva += bytes;
    return cpu_long_mode(cpu) ? gva : (u32)gva;
}

static void check_canonical(struct cpu *cpu, gva_t gva)
{
    if ((u64)((s64)(gva << 16) >> 16) != gva && cpu_long_mode(cpu))
        cpu_raise_error(cpu, X86_GP, 0);
}

static struct part part_find(struct cpu *cpu, gva_t gva, unsigned bytes, enum cpu_access access,
                             enum cpu_privilege privilege)
{
    check_canonical(cpu, gva);
    u64 walk = mmu_translate(cpu, gva, access, privilege);
    struct part part = {.gpa = (walk & WALK_GPA) | (gva & ~WALK_GPA), .bytes = bytes};
    struct mem_slot *slot = mem_slot_find(cpu->mem, part.gpa);
    if (slot == NULL)
        return part;
    part.rom = slot->read_only;
    if (part.rom && access == ACCESS_WRITE)
        return part;
    part.host = slot->host + (part.gpa - slot->base);
    tlb_fill(cpu, gva, walk, access, privilege);
    if (access == ACCESS_WRITE) {
        u8 *flags = &slot->page_flags[(part.gpa - slot->base) / PAGE_BYTES];
        part.code = (__atomic_load_n(flags, __ATOMIC_ACQUIRE) & MEM_CODE) != 0;
    }
    if (unlikely(cpu->place))
        part.host = cpu->place(cpu, part.host, access);
    return part;
}

static void part_read(struct cpu *cpu, const struct part *part, u8 *to)
{
    for (unsigned i = 0; i < part->bytes; i++)
        to[i] = part->host ? part->host[i]
                           : (u8)cpu_device_access(cpu, EXIT_MMIO_READ, part->gpa + i, 1, 0);
}

static void part_write(struct cpu *cpu, const struct part *part, const u8 *from)
{
    if (part->host == NULL) {
        for (unsigned i = 0; i < part->bytes && !part->rom; i++)
            cpu_device_access(cpu, EXIT_MMIO_WRITE, part->gpa + i, 1, from[i]);
        return;
    }
    for (unsigned i = 0; i < part->bytes; i++)
        part->host[i] = from[i];
    if (part->code)
        code_page_written(cpu, part->gpa, part->bytes);
}

/* Device parts go first: they may leave the instruction, and it starts again. */
static void parts_write(struct cpu *cpu, const struct part parts[2], const u8 *from)
{
    bool late = parts[0].host != NULL && parts[1].host == NULL;
    part_write(cpu, &parts[late], late ? from + parts[0].bytes : from);
    part_write(cpu, &parts[!late], late ? from : from + parts[0].bytes);
}

static void parts_find(struct cpu *cpu, gva_t gva, unsigned bytes, enum cpu_access access,
                       enum cpu_privilege privilege, struct part ret_parts[2])
{
    unsigned first = PAGE_BYTES - (unsigned)(gva % PAGE_BYTES);
    if (bytes <= first) {
        ret_parts[0] = part_find(cpu, gva, bytes, access, privilege);
        ret_parts[1] = (struct part){.rom = true};
        return;
    }
    ret_parts[0] = part_find(cpu, gva, first, access, privilege);
    ret_parts[1] = part_find(cpu, gva_next(cpu, gva, first), bytes - first, access, privilege);
}

static u64 read_slow(struct cpu *cpu, gva_t gva, unsigned bytes, enum cpu_privilege privilege)
{
    struct part parts[2];
    parts_find(cpu, gva, bytes, ACCESS_READ, privilege, parts);
    if (parts[1].bytes == 0) {
        if (parts[0].host)
            return host_load(parts[0].host, bytes);
        return cpu_device_access(cpu, EXIT_MMIO_READ, parts[0].gpa, bytes, 0) & bytes_mask(bytes);
    }
    u64 value = 0;
    part_read(cpu, &parts[0], (u8 *)&value);
    part_read(cpu, &parts[1], (u8 *)&value + parts[0].bytes);
    return value;
}

static void write_slow(struct cpu *cpu, gva_t gva, unsigned bytes, u64 value,
                       enum cpu_privilege privilege)
{
    struct part parts[2];
    parts_find(cpu, gva, bytes, ACCESS_WRITE, privilege, parts);
    if (parts[1].bytes != 0) {
        parts_write(cpu, parts, (const u8 *)&value);
    } else if (parts[0].host) {
        host_store(parts[0].host, bytes, value);
        if (parts[0].code)
            code_page_written(cpu, parts[0].gpa, bytes);
    } else if (!parts[0].rom) {
        cpu_device_access(cpu, EXIT_MMIO_WRITE, parts[0].gpa, bytes, value & bytes_mask(bytes));
    }
}

static inline void watch(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access)
{
    if (unlikely(cpu->tlb_data == cpu->tlb.none))
        cpu_watch(cpu, gva, bytes, access);
}

u64 mmu_read(struct cpu *cpu, gva_t gva, unsigned bytes)
{
    const u8 *host = tlb_read_hit(cpu, gva, bytes);
    if (likely(host))
        return host_load(host, bytes);
    watch(cpu, gva, bytes, ACCESS_READ);
    return read_slow(cpu, gva, bytes, cpu->privilege);
}

void mmu_write(struct cpu *cpu, gva_t gva, unsigned bytes, u64 value)
{
    u8 *host = tlb_write_hit(cpu, gva, bytes);
    if (likely(host)) {
        host_store(host, bytes, value);
        return;
    }
    watch(cpu, gva, bytes, ACCESS_WRITE);
    write_slow(cpu, gva, bytes, value, cpu->privilege);
}

/* What implicit accesses hit whatever the privilege, and whoever watches. */
static struct cpu_tlb_entry *system_entry(struct cpu *cpu, gva_t gva)
{
    return &cpu->tlb.entries[PRIVILEGE_SYSTEM][tlb_index(gva)];
}

u64 mmu_read_system(struct cpu *cpu, gva_t gva, unsigned bytes)
{
    const struct cpu_tlb_entry *entry = system_entry(cpu, gva);
    u64 offset = gva - entry->read_tag;
    if (likely(offset <= PAGE_BYTES - bytes))
        return host_load(entry->host + offset, bytes);
    return read_slow(cpu, gva, bytes, PRIVILEGE_SYSTEM);
}

void mmu_write_system(struct cpu *cpu, gva_t gva, unsigned bytes, u64 value)
{
    const struct cpu_tlb_entry *entry = system_entry(cpu, gva);
    u64 offset = gva - __atomic_load_n(&entry->write_tag, __ATOMIC_RELAXED);
    if (likely(offset <= PAGE_BYTES - bytes)) {
        host_store(entry->host + offset, bytes, value);
        return;
    }
    write_slow(cpu, gva, bytes, value, PRIVILEGE_SYSTEM);
}

void mmu_read_bytes(struct cpu *cpu, gva_t gva, void *to, size_t bytes)
{
    struct part parts[2];
    watch(cpu, gva, bytes, ACCESS_READ);
    parts_find(cpu, gva, (unsigned)bytes, ACCESS_READ, cpu->privilege, parts);
    part_read(cpu, &parts[0], to);
    part_read(cpu, &parts[1], (u8 *)to + parts[0].bytes);
}

void mmu_write_bytes(struct cpu *cpu, gva_t gva, const void *from, size_t bytes)
{
    struct part parts[2];
    watch(cpu, gva, bytes, ACCESS_WRITE);
    parts_find(cpu, gva, (unsigned)bytes, ACCESS_WRITE, cpu->privilege, parts);
    parts_write(cpu, parts, from);
}

void mmu_probe(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access,
               enum cpu_privilege privilege)
{
    while (bytes > 0) {
        size_t part = min_u64(bytes, PAGE_BYTES - gva % PAGE_BYTES);
        check_canonical(cpu, gva);
        mmu_translate(cpu, gva, access, privilege);
        bytes -= part;
        gva = gva_next(cpu, gva, part);
    }
}

u8 *mmu_host(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access)
{
    u8 *host = access == ACCESS_WRITE ? tlb_write_hit(cpu, gva, (unsigned)bytes)
                                      : tlb_read_hit(cpu, gva, (unsigned)bytes);
    if (host)
        return host;
    watch(cpu, gva, bytes, access);
    struct part parts[2];
    parts_find(cpu, gva, (unsigned)bytes, access, cpu->privilege, parts);
    if (parts[1].bytes != 0 || parts[0].code)
        return NULL;
    return parts[0].host;
}

u8 *mmu_host_write(struct cpu *cpu, gva_t gva, size_t bytes, gpa_t *ret_code_gpa)
{
    struct part parts[2];
    watch(cpu, gva, bytes, ACCESS_WRITE);
    parts_find(cpu, gva, (unsigned)bytes, ACCESS_WRITE, cpu->privilege, parts);
    *ret_code_gpa = parts[0].code ? parts[0].gpa : MMU_NO_GPA;
    return parts[1].bytes != 0 ? NULL : parts[0].host;
}

gpa_t mmu_fetch_page(struct cpu *cpu, gva_t gva)
{
    check_canonical(cpu, gva);
    enum cpu_privilege privilege = cpu->cpl == 3 ? PRIVILEGE_USER : PRIVILEGE_KERNEL;
    u64 walk = mmu_translate(cpu, gva, ACCESS_FETCH, privilege);
    fetch_note(cpu, gva, walk);
    return walk & WALK_GPA;
}
