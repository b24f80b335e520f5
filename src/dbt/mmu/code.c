/*
 * dbt/mmu/code.c - pages that hold decoded code: marking them, and noticing writes to them.
 *
 * A marked page (MEM_CODE) has no write tag in any TLB, so every write to it takes the slow way and
 * asks here whether it hit a 64-byte granule that a block was decoded from. If so the page's
 * generation counts up, which makes its blocks invalid on every vCPU at their next entry. Data
 * beside code costs the slow way only, and a page in which no decoded granule is left loses its
 * mark.
 *
 * Runs   on any vCPU's thread, and (cpu_group_code_written) on device threads.
 *
 * Two orders make this safe. Granules are set before the flag is looked at, and the flag is cleared
 * before the granules are looked at: whoever comes second repairs. A write tag is stored before the
 * flag is looked at (tlb_fill), and the flag set before tags are looked for: the same again.
 */
#include "dbt/code.h"
#include "core/mem.h"
#include "dbt/mmu/walk_priv.h"
#include "dbt/tlb.h"

static u64 granule_mask(gpa_t gpa, size_t bytes)
{
    unsigned first = (unsigned)(gpa & 0xfff) / 64;
    unsigned last = (unsigned)((gpa & 0xfff) + bytes - 1) / 64;
    return (~0ull << first) & (~0ull >> (63 - (last > 63 ? 63 : last)));
}

static void write_tags_drop(struct cpu *cpu, gpa_t page)
{
    for (unsigned privilege = 0; privilege < PRIVILEGE_COUNT; privilege++) {
        for (unsigned i = 0; i < CPU_TLB_ENTRIES; i++) {
            struct cpu_tlb_entry *entry = &cpu->tlb.entries[privilege][i];
            if ((__atomic_load_n(&entry->gpa, __ATOMIC_RELAXED) & WALK_GPA) == page)
                __atomic_store_n(&entry->write_tag, tlb_no_tag(i), __ATOMIC_RELAXED);
        }
    }
    /* After the tags: a line that was filled from one of them is either seen here, or its vCPU sees
     * that the tag is gone when it looks again. */
    lines_clear_writes(cpu);
}

/* Waits for stores of other vCPUs that were tested before their tags were taken: translated code
 * tests some of them ahead (jit/stretch.c), for less than so long. Whoever marks code looks
 * afterwards whether it is still what he has decoded. */
static void stores_settle(void)
{
    enum { SETTLE_TSC = 8192 };
    u64 start = __builtin_ia32_rdtsc();
    while (__builtin_ia32_rdtsc() - start < SETTLE_TSC)
        __builtin_ia32_pause();
}

/* Takes the page's write tags from all TLBs. */
static void write_tags_drop_all(struct cpu_group *group, gpa_t page)
{
    unsigned count = __atomic_load_n(&group->cpu_count, __ATOMIC_ACQUIRE), running = 0;
    for (unsigned i = 0; i < count; i++) {
        struct cpu *cpu = __atomic_load_n(&group->cpus[i], __ATOMIC_ACQUIRE);
        if (cpu == NULL)
            continue;
        write_tags_drop(cpu, page);
        running += __atomic_load_n(&cpu->running, __ATOMIC_SEQ_CST);
    }
    if (running > 1)
        stores_settle();
}

/* Sets the page's flag and takes its write tags away where there may be some. Whoever finds the
 * flag set, or that there are none, while this goes on is told by the count (write_tags_wait). */
static void code_flag_set(struct cpu_group *group, u8 *flags, gpa_t page)
{
    __atomic_fetch_add(&group->code_flags_in_work, 1, __ATOMIC_SEQ_CST);
    u8 old = __atomic_fetch_or(flags, MEM_CODE, __ATOMIC_SEQ_CST);
    if (old & MEM_CACHED) {
        __atomic_fetch_and(flags, (u8)~MEM_CACHED, __ATOMIC_SEQ_CST);
        write_tags_drop_all(group, page);
    }
    __atomic_fetch_sub(&group->code_flags_in_work, 1, __ATOMIC_SEQ_CST);
}

/* The flag is set: waits until no vCPU has a write tag of the page any more. */
static void write_tags_wait(const struct cpu_group *group)
{
    while (__atomic_load_n(&group->code_flags_in_work, __ATOMIC_SEQ_CST) != 0)
        __builtin_ia32_pause();
}

static u8 *page_flags_of(struct mem *mem, gpa_t gpa)
{
    struct mem_slot *slot = mem_slot_find(mem, gpa);
    return slot ? &slot->page_flags[(gpa - slot->base) / MEM_PAGE_BYTES] : NULL;
}

const u32 *mmu_code_mark(struct cpu *cpu, gpa_t gpa, size_t bytes)
{
    struct cpu_group *group = cpu->group;
    unsigned hash = code_hash(gpa);
    u64 mask = granule_mask(gpa, bytes);
    u8 *flags = page_flags_of(cpu->mem, gpa);
    if (flags == NULL)
        return NULL;
    if ((__atomic_load_n(&group->code_granules[hash], __ATOMIC_RELAXED) & mask) != mask)
        __atomic_fetch_or(&group->code_granules[hash], mask, __ATOMIC_SEQ_CST);
    if (!(__atomic_load_n(flags, __ATOMIC_SEQ_CST) & MEM_CODE))
        code_flag_set(group, flags, gpa & WALK_GPA);
    write_tags_wait(group);
    return &group->code_generation[hash];
}

bool mmu_code_marked(struct cpu *cpu, gpa_t gpa, size_t bytes)
{
    u64 mask = granule_mask(gpa, bytes);
    u64 granules = __atomic_load_n(&cpu->group->code_granules[code_hash(gpa)], __ATOMIC_SEQ_CST);
    return (granules & mask) == mask;
}

/* Tells the vCPUs, so that those who keep links between blocks undo them. */
static void code_log(struct cpu_group *group, unsigned hash, u32 at)
{
    __atomic_store_n(&group->code_log[at % CPU_CODE_LOG], hash, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&group->code_log_count, __ATOMIC_ACQUIRE) != at)
        __builtin_ia32_pause();
    __atomic_store_n(&group->code_log_count, at + 1, __ATOMIC_RELEASE);
    unsigned count = __atomic_load_n(&group->cpu_count, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < count; i++) {
        struct cpu *cpu = __atomic_load_n(&group->cpus[i], __ATOMIC_ACQUIRE);
        if (cpu && cpu->jit)
            cpu_request(cpu, ATTENTION_CODE);
    }
}

/* Somebody may just have cleared granules without having told: waits until he has, so that the
 * caller, who looks at the log next, drops what was decoded from them. */
static void code_log_settle(struct cpu_group *group)
{
    u32 at = __atomic_load_n(&group->code_log_reserved, __ATOMIC_SEQ_CST);
    while ((s32)(at - __atomic_load_n(&group->code_log_count, __ATOMIC_ACQUIRE)) > 0)
        __builtin_ia32_pause();
}

/* Clears the page's flag, unless there is decoded code again. Whoever decodes some now is either
 * seen here, or waits (write_tags_wait): else he would write to it unnoticed until the flag is
 * back.
 */
static void code_flag_clear(struct cpu_group *group, gpa_t gpa)
{
    const u64 *granules = &group->code_granules[code_hash(gpa)];
    u8 *flags = page_flags_of(group->mem, gpa);
    if (flags == NULL)
        return;
    __atomic_fetch_add(&group->code_flags_in_work, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(granules, __ATOMIC_SEQ_CST) == 0) {
        __atomic_fetch_and(flags, (u8)~MEM_CODE, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(granules, __ATOMIC_SEQ_CST) != 0)
            code_flag_set(group, flags, gpa & WALK_GPA);
    }
    __atomic_fetch_sub(&group->code_flags_in_work, 1, __ATOMIC_SEQ_CST);
}

/* True when decoded code was hit. */
static bool code_written(struct cpu_group *group, gpa_t gpa, size_t bytes)
{
    unsigned hash = code_hash(gpa);
    u64 mask = granule_mask(gpa, bytes);
    u64 granules = __atomic_load_n(&group->code_granules[hash], __ATOMIC_SEQ_CST);
    if (granules & mask) {
        u32 at = __atomic_fetch_add(&group->code_log_reserved, 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&group->code_granules[hash], 0, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&group->code_generation[hash], 1, __ATOMIC_SEQ_CST);
        code_log(group, hash, at);
        return true;
    }
    code_log_settle(group);
    if (granules == 0)
        code_flag_clear(group, gpa);
    return false;
}

void code_page_written(struct cpu *cpu, gpa_t gpa, size_t bytes)
{
    if (code_written(cpu->group, gpa, bytes)) {
        cpu->leave_block = true;
        cpu->counters.code_writes++;
    }
}

void mmu_code_written(struct cpu *cpu, gpa_t gpa, size_t bytes)
{
    code_page_written(cpu, gpa, bytes);
}

void cpu_group_code_written(void *group, gpa_t gpa, u64 bytes)
{
    while (bytes > 0) {
        u64 part = min_u64(bytes, MEM_PAGE_BYTES - gpa % MEM_PAGE_BYTES);
        code_written(group, gpa, part);
        gpa += part;
        bytes -= part;
    }
}
