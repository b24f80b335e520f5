/*
 * dbt/mmu/tlb.c - the translation caches: filling, and every kind of flush.
 *
 * Two levels. The first is direct mapped, one table for each privilege, and holds what may be
 * accessed without another look (dbt/tlb.h); it knows no address spaces, so a switch of CR3 empties
 * its non-global entries. The second keeps results of walks for all privileges and many address
 * spaces: each PCID gets an address-space number when first used, and dropping a PCID's entries is
 * giving it a new one.
 *
 * Spec   Intel SDM vol. 3A 4.10 (caching, PCID, invalidation).
 * Runs   on the vCPU's thread. Other vCPUs clear write tags (mmu/code.c).
 */
#include "dbt/tlb.h"
#include "core/mem.h"
#include "dbt/mmu/walk_priv.h"

/* Address-space number 0 is never given out, so a tag of 0 matches nothing. */
enum { ASID_GLOBAL = CPU_ASID_GLOBAL, ASID_FIRST = 1 };
#define TAG_ASID 0xffffull
#define TAG_PAGE (~TAG_ASID)

static unsigned pcid_now(const struct cpu *cpu)
{
    return (cpu->cr4 & X86_CR4_PCIDE) ? (unsigned)(cpu->cr3 & 0xfff) : 0;
}

static u64 tag_of(gva_t gva, unsigned asid)
{
    return (gva >> 12 << 16) | asid;
}

static struct cpu_walk_entry *set_of(struct cpu_tlb *tlb, u64 tag)
{
    return tlb->walks[tag * CPU_WALK_HASH >> CPU_WALK_HASH_SHIFT];
}

static void entry_clear(struct cpu_tlb_entry *entry, unsigned index)
{
    entry->read_tag = tlb_no_tag(index);
    __atomic_store_n(&entry->write_tag, tlb_no_tag(index), __ATOMIC_RELAXED);
    entry->gpa = 0;
}

static void walks_clear(struct cpu *cpu)
{
    for (unsigned set = 0; set < CPU_TLB_SETS; set++) {
        for (unsigned way = 0; way < CPU_TLB_WAYS; way++)
            cpu->tlb.walks[set][way].tag = 0;
    }
}

static void asids_reset(struct cpu *cpu)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    walks_clear(cpu);
    for (unsigned pcid = 0; pcid < CPU_TLB_PCIDS; pcid++)
        tlb->asids[pcid] = 0;
    tlb->asid_next = ASID_FIRST;
    tlb->asid = 0; /* the numbers are given out again */
    fetch_forget(cpu);
}

/* Gives PCID a number that no cached entry has. */
static void asid_renew(struct cpu *cpu, unsigned pcid)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    if (tlb->asid_next == ASID_GLOBAL)
        asids_reset(cpu);
    tlb->asids[pcid] = tlb->asid_next++;
}

/* Empties the first level, of non-global entries only or wholly. */
static void entries_flush(struct cpu *cpu, bool global_too)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    if (!global_too && tlb->journal_count < CPU_TLB_JOURNAL) {
        for (unsigned i = 0; i < tlb->journal_count; i++) {
            unsigned at = tlb->journal[i];
            struct cpu_tlb_entry *entry = &tlb->entries[0][0] + at;
            if (!(entry->gpa & WALK_GLOBAL))
                entry_clear(entry, at % CPU_TLB_ENTRIES);
        }
    } else {
        for (unsigned at = 0; at < PRIVILEGE_COUNT * CPU_TLB_ENTRIES; at++) {
            struct cpu_tlb_entry *entry = &tlb->entries[0][0] + at;
            if (global_too || !(entry->gpa & WALK_GLOBAL))
                entry_clear(entry, at % CPU_TLB_ENTRIES);
        }
    }
    tlb->journal_count = 0;
    if (global_too)
        lines_clear(cpu);
    else
        lines_follow(cpu);
}

void tlb_drop_writes(struct cpu *cpu)
{
    for (unsigned at = 0; at < PRIVILEGE_COUNT * CPU_TLB_ENTRIES; at++) {
        struct cpu_tlb_entry *entry = &cpu->tlb.entries[0][0] + at;
        __atomic_store_n(&entry->write_tag, tlb_no_tag(at % CPU_TLB_ENTRIES), __ATOMIC_RELAXED);
    }
    lines_clear_writes(cpu);
}

void tlb_reset(struct cpu *cpu)
{
    cpu->counters.full_flushes++;
    entries_flush(cpu, true);
    for (unsigned i = 0; i < CPU_TLB_ENTRIES; i++)
        entry_clear(&cpu->tlb.none[i], i);
    asids_reset(cpu);
    asid_renew(cpu, pcid_now(cpu));
    cpu->tlb.asid = cpu->tlb.asids[pcid_now(cpu)];
    __builtin_memset(cpu->tlb.large_filter, 0, sizeof(cpu->tlb.large_filter));
    fetch_epoch_next(cpu, false);
    fetch_epoch_next(cpu, true);
    cpu->tlb.lower_global = false;
}

void mmu_flush_all(struct cpu *cpu)
{
    tlb_reset(cpu);
}

void mmu_flush_pcid(struct cpu *cpu, unsigned pcid)
{
    asid_renew(cpu, pcid);
    unsigned old_asid = cpu->tlb.asid;
    /* Running out of numbers has taken the current one away as well. */
    unsigned now = pcid_now(cpu);
    if (cpu->tlb.asids[now] == 0)
        asid_renew(cpu, now);
    cpu->tlb.asid = cpu->tlb.asids[now];
    if (pcid == now) {
        entries_flush(cpu, false);
        fetch_switch(cpu, old_asid);
    }
}

void mmu_flush_non_global(struct cpu *cpu)
{
    mmu_flush_pcid(cpu, pcid_now(cpu));
}

void mmu_switch(struct cpu *cpu, bool keep)
{
    unsigned pcid = pcid_now(cpu);
    cpu->counters.cr3_writes++;
    if (!keep || cpu->tlb.asids[pcid] == 0)
        asid_renew(cpu, pcid);
    unsigned old_asid = cpu->tlb.asid;
    cpu->tlb.asid = cpu->tlb.asids[pcid];
    entries_flush(cpu, false);
    fetch_switch(cpu, old_asid);
}

static void large_note(struct cpu *cpu, gva_t gva, u64 walk)
{
    if (walk & WALK_2M)
        filter_set(cpu->tlb.large_filter, gva >> 21);
    if (walk & WALK_1G)
        filter_set(cpu->tlb.large_filter, gva >> 30 | BIT(60));
}

/* Drops the cached pieces of the large pages around GVA, of every address space, and makes the
 * filter anew from what is left, so that it does not fill up over time. */
static void large_flush(struct cpu *cpu, gva_t gva, u64 flag, unsigned shift)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    __builtin_memset(tlb->large_filter, 0, sizeof(tlb->large_filter));
    for (unsigned at = 0; at < PRIVILEGE_COUNT * CPU_TLB_ENTRIES; at++) {
        struct cpu_tlb_entry *entry = &tlb->entries[0][0] + at;
        if ((entry->gpa & flag) && (entry->read_tag ^ gva) >> shift == 0)
            entry_clear(entry, at % CPU_TLB_ENTRIES);
        large_note(cpu, entry->read_tag, entry->gpa);
    }
    lines_follow(cpu);
    u64 tag = tag_of(gva, 0);
    for (unsigned set = 0; set < CPU_TLB_SETS; set++) {
        for (unsigned way = 0; way < CPU_TLB_WAYS; way++) {
            struct cpu_walk_entry *walk = &tlb->walks[set][way];
            if ((walk->gpa & flag) && (walk->tag ^ tag) >> (shift + 4) == 0)
                walk->tag = 0;
            if (walk->tag != 0)
                large_note(cpu, (u64)((s64)walk->tag >> 16) << 12, walk->gpa);
        }
    }
    fetch_epoch_next(cpu, cpu_code_half(cpu, gva));
    fetch_forget(cpu);
}

/* The entry with TAG, or NULL: there is one at most. */
static struct cpu_walk_entry *way_find(struct cpu_tlb *tlb, u64 tag)
{
    struct cpu_walk_entry *set = set_of(tlb, tag);
    for (unsigned way = 0; way < CPU_TLB_WAYS; way++) {
        if (set[way].tag == tag)
            return &set[way];
    }
    return NULL;
}

/* Drops the one 4 KiB entry of GVA. */
static void page_drop(struct cpu *cpu, unsigned asid, gva_t gva)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    unsigned index = tlb_index(gva);
    for (unsigned privilege = 0; privilege < PRIVILEGE_COUNT; privilege++) {
        struct cpu_tlb_entry *entry = &tlb->entries[privilege][index];
        if (entry->read_tag == (gva & WALK_GPA))
            entry_clear(entry, index);
    }
    lines_clear_page(cpu, gva & WALK_GPA);
    const u64 tags[] = {tag_of(gva, asid), tag_of(gva, ASID_GLOBAL)};
    for (unsigned i = 0; i < ARRAY_LEN(tags); i++) {
        struct cpu_walk_entry *found = way_find(tlb, tags[i]);
        if (found)
            found->tag = 0;
    }
}

static void page_flush(struct cpu *cpu, unsigned asid, gva_t gva)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    cpu->counters.page_flushes++;
    page_drop(cpu, asid, gva);
    fetch_page_flushed(cpu, asid, gva);
    /* A 4 MiB page lies in two of these regions, hence both are looked for. */
    gva_t other = gva ^ BIT(21);
    if (filter_has(tlb->large_filter, gva >> 21))
        large_flush(cpu, gva, WALK_2M, 21);
    if (!(cpu->cr4 & X86_CR4_PAE) && filter_has(tlb->large_filter, other >> 21))
        large_flush(cpu, other, WALK_2M, 21);
    if (filter_has(tlb->large_filter, gva >> 30 | BIT(60)))
        large_flush(cpu, gva, WALK_1G, 30);
}

void mmu_flush_page(struct cpu *cpu, gva_t gva)
{
    page_flush(cpu, cpu->tlb.asid, gva);
}

void mmu_flush_page_pcid(struct cpu *cpu, unsigned pcid, gva_t gva)
{
    if (cpu->tlb.asids[pcid] != 0)
        page_flush(cpu, cpu->tlb.asids[pcid], gva);
}

static struct cpu_walk_entry *walk_find(struct cpu *cpu, gva_t gva)
{
    struct cpu_walk_entry *own = way_find(&cpu->tlb, tag_of(gva, cpu->tlb.asid));
    return own ? own : way_find(&cpu->tlb, tag_of(gva, ASID_GLOBAL));
}

static void walk_insert(struct cpu *cpu, gva_t gva, u64 walk)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    u64 tag = tag_of(gva, (walk & WALK_GLOBAL) ? ASID_GLOBAL : tlb->asid);
    struct cpu_walk_entry *entry = walk_find(cpu, gva);
    if (entry && entry->tag != tag) { /* it became global, or is no more */
        entry->tag = 0;
        entry = NULL;
    }
    if (entry == NULL) {
        struct cpu_walk_entry *set = set_of(tlb, tag);
        entry = &set[tlb->victim[(set - tlb->walks[0]) / CPU_TLB_WAYS]++ % CPU_TLB_WAYS];
    }
    *entry = (struct cpu_walk_entry){tag, walk, 0, NULL};
    large_note(cpu, gva, walk);
}

u64 mmu_translate(struct cpu *cpu, gva_t gva, enum cpu_access access, enum cpu_privilege privilege)
{
    const struct cpu_walk_entry *found = walk_find(cpu, gva);
    if (found && mmu_walk_allows(cpu, found->gpa, access, privilege) &&
        (access != ACCESS_WRITE || (found->gpa & WALK_DIRTY))) {
        cpu->counters.walk_hits++;
        return found->gpa;
    }
    /* A cached entry that forbids the access may be out of date: rights may grow without INVLPG. */
    u64 walk;
    u32 error;
    if (!mmu_walk(cpu, gva, access, privilege, &walk, &error)) {
        page_drop(cpu, cpu->tlb.asid, gva);
        cpu_raise_page_fault(cpu, gva, error);
    }
    walk_insert(cpu, gva, walk);
    return walk;
}

/* Whether writes to the page may go unnoticed from now on: it holds no code, and is marked dirty.
 */
static bool write_tag_allowed(struct mem_slot *slot, gpa_t gpa)
{
    u8 *flags = &slot->page_flags[(gpa - slot->base) >> 12];
    u8 old = __atomic_load_n(flags, __ATOMIC_ACQUIRE);
    if ((old & (MEM_DIRTY | MEM_CACHED)) != (MEM_DIRTY | MEM_CACHED))
        old = __atomic_fetch_or(flags, MEM_DIRTY | MEM_CACHED, __ATOMIC_SEQ_CST);
    return !(old & MEM_CODE);
}

/* Lets translated code fill the first level with what it has got once from here: what allows it
 * does not change without a flush, but for the page's flags, which translated code looks at. */
static void walk_had(struct cpu *cpu, gva_t gva, u64 walk, const struct mem_slot *slot,
                     unsigned had)
{
    struct cpu_walk_entry *found = walk_find(cpu, gva);
    u64 offset = (walk & WALK_GPA) - slot->base, host = (u64)(uintptr_t)slot->host + offset;
    if (found == NULL || found->gpa != walk || (host & ~WALK_GPA) != 0)
        return;
    found->page_flags = &slot->page_flags[offset >> 12];
    found->host = host | (found->host & ~WALK_GPA) | had;
}

/* Whether this vCPU may still run translations of overwritten code. The page's flag says that there
 * is none left as soon as they are in the log; looked at after the flag. */
static bool is_behind(const struct cpu *cpu)
{
    return cpu->jit &&
           cpu->code_seen != __atomic_load_n(&cpu->group->code_log_reserved, __ATOMIC_SEQ_CST);
}

void tlb_fill(struct cpu *cpu, gva_t gva, u64 walk, enum cpu_access access,
              enum cpu_privilege privilege)
{
    gpa_t gpa = walk & WALK_GPA;
    struct mem_slot *slot = mem_slot_find(cpu->mem, gpa);
    if (slot == NULL)
        return;
    if (cpu->tlb_data == cpu->tlb.none) /* entries would not be used */
        return;
    struct cpu_tlb *tlb = &cpu->tlb;
    unsigned index = tlb_index(gva);
    struct cpu_tlb_entry *entry = &tlb->entries[privilege][index];
    gva_t page = gva & WALK_GPA;
    cpu->counters.tlb_misses++;

    bool same = entry->read_tag == page && ((entry->gpa ^ gpa) & WALK_GPA) == 0;
    if (!same)
        __atomic_store_n(&entry->write_tag, tlb_no_tag(index), __ATOMIC_RELAXED);
    entry->host = slot->host + (gpa - slot->base);
    entry->gpa = walk;
    entry->read_tag = page;
    if (!(walk & WALK_GLOBAL)) {
        if (tlb->journal_count < CPU_TLB_JOURNAL)
            tlb->journal[tlb->journal_count++] = (u16)(privilege * CPU_TLB_ENTRIES + index);
    }
    bool write = access == ACCESS_WRITE && !slot->read_only;
    if (access != ACCESS_WRITE || write)
        walk_had(cpu, gva, walk, slot,
                 cpu_walk_had(privilege, false) | cpu_walk_had(privilege, write));
    if (!write || !write_tag_allowed(slot, gpa))
        return;
    __atomic_store_n(&entry->write_tag, page, __ATOMIC_SEQ_CST);
    /* Another vCPU that marks the page now either finds this tag or has set the flag already. It
     * may even have taken it back again: then it will not look for tags a second time. */
    u8 flags = __atomic_load_n(&slot->page_flags[(gpa - slot->base) >> 12], __ATOMIC_SEQ_CST);
    if ((flags & (MEM_CODE | MEM_CACHED)) != MEM_CACHED || is_behind(cpu))
        __atomic_store_n(&entry->write_tag, tlb_no_tag(index), __ATOMIC_RELAXED);
}

bool mmu_fill(struct cpu *cpu, gva_t gva, enum cpu_access access)
{
    if ((u64)((s64)(gva << 16) >> 16) != gva)
        return false;
    const struct cpu_walk_entry *found = walk_find(cpu, gva);
    if (found == NULL || !mmu_walk_allows(cpu, found->gpa, access, cpu->privilege) ||
        (access == ACCESS_WRITE && !(found->gpa & WALK_DIRTY)))
        return false;
    cpu->counters.walk_hits++;
    tlb_fill(cpu, gva, found->gpa, access, cpu->privilege);
    return (access == ACCESS_WRITE ? tlb_write_hit(cpu, gva, 1) : tlb_read_hit(cpu, gva, 1)) !=
           NULL;
}
