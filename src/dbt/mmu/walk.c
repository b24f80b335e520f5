/*
 * dbt/mmu/walk.c - the guest's page tables: 32-bit, PAE and 4-level paging.
 *
 * Spec   Intel SDM vol. 3A chapter 4 (4.3 to 4.5 formats, 4.6 rights, 4.7 error codes, 4.8 A and
 * D). Runs   on the vCPU's thread; other vCPUs change the tables meanwhile, so A and D bits are set
 * by compare-and-exchange and a lost race starts the walk again. Trust  every entry is hostile: a
 * table outside RAM reads as not present.
 */
#include "core/mem.h"
#include "dbt/mmu/walk_priv.h"

enum pte {
    PTE_P = 1,
    PTE_W = 2,
    PTE_U = 4,
    PTE_A = 0x20,
    PTE_D = 0x40,
    PTE_PS = 0x80,
    PTE_G = 0x100
};
#define PTE_NX (1ull << 63)

enum { LEVELS_MAX = 4, RETRIES_MAX = 64 };

/* One paging mode: sizes of an entry and of an index, and how many levels there are. */
struct paging {
    unsigned levels;
    unsigned entry_bytes;
    unsigned index_bits;
};

/* A walk in progress: the entries it went through, for setting A and D at its end. */
struct walk {
    struct paging paging;
    u8 *entry[LEVELS_MAX]; /* NULL where it is not in RAM that can be written */
    gpa_t gpa[LEVELS_MAX];
    u64 value[LEVELS_MAX];
    u64 rights; /* the AND of all levels' W and U, the OR of NX */
    unsigned level;
    unsigned shift; /* of the page that the leaf maps */
};

static struct paging paging_of(const struct cpu *cpu)
{
    if (!(cpu->cr4 & X86_CR4_PAE))
        return (struct paging){2, 4, 10};
    if (cpu_long_mode(cpu))
        return (struct paging){4, 8, 9};
    return (struct paging){3, 8, 9};
}

static u64 entry_load(struct cpu *cpu, struct walk *walk, gpa_t gpa)
{
    struct mem_slot *slot = mem_slot_find(cpu->mem, gpa);
    u8 *host = slot ? slot->host + (gpa - slot->base) : NULL;
    walk->gpa[walk->level] = gpa;
    walk->entry[walk->level] = slot && !slot->read_only ? host : NULL;
    if (host == NULL)
        return 0;
    if (unlikely(cpu->place))
        (void)cpu->place(cpu, host, ACCESS_FETCH);
    return walk->paging.entry_bytes == 8 ? __atomic_load_n((u64 *)(void *)host, __ATOMIC_RELAXED)
                                         : __atomic_load_n((u32 *)(void *)host, __ATOMIC_RELAXED);
}

/* The bits of ENTRY at LEVEL (0 is the leaf table) that must be zero. */
static u64 reserved_bits(const struct cpu *cpu, const struct paging *paging, unsigned level,
                         u64 entry)
{
    if (paging->entry_bytes == 4) /* PSE-36: bit 21 of a 4 MiB page */
        return level == 1 && (entry & PTE_PS) && (cpu->cr4 & X86_CR4_PSE) ? BIT(21) : 0;
    u64 bits = ~cpu->physical_mask & bytes_mask(8) & (BIT(52) - 1);
    if (paging->levels == 3)
        bits |= level == 2 ? (0x1e6 | PTE_NX | 0x7ff0000000000000ull) : 0x7ff0000000000000ull;
    if (!(cpu->msr.efer & X86_EFER_NXE))
        bits |= PTE_NX;
    if (level == 3)
        bits |= PTE_PS;
    if (level == 2 && paging->levels == 4 && (entry & PTE_PS))
        bits |= cpu->large_1g ? 0x3fffe000 : PTE_PS;
    if (level == 1 && (entry & PTE_PS))
        bits |= 0x1fe000;
    return bits;
}

static bool entry_is_leaf(const struct cpu *cpu, const struct walk *walk, u64 entry)
{
    if (walk->level == 0)
        return true;
    if (!(entry & PTE_PS))
        return false;
    if (walk->paging.entry_bytes == 4)
        return (cpu->cr4 & X86_CR4_PSE) != 0;
    return walk->level == 1 || (walk->level == 2 && walk->paging.levels == 4);
}

/* Sets A in every entry and D in the leaf as needed; false when another vCPU changed one. */
static bool set_accessed(struct cpu *cpu, struct walk *walk, bool write)
{
    for (unsigned level = walk->paging.levels; level-- > walk->level;) {
        if (walk->paging.levels == 3 && level == 2)
            continue; /* PAE page-directory pointers have no A bit */
        u64 old = walk->value[level];
        u64 new = old | PTE_A | (write && level == walk->level ? PTE_D : 0);
        if (new == old || walk->entry[level] == NULL)
            continue;
        walk->value[level] = new;
        bool done;
        if (walk->paging.entry_bytes == 8) {
            done = __atomic_compare_exchange_n((u64 *)(void *)walk->entry[level], &old, new, false,
                                               __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
        } else {
            u32 old32 = (u32)old;
            done = __atomic_compare_exchange_n((u32 *)(void *)walk->entry[level], &old32, (u32) new,
                                               false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
        }
        if (!done)
            return false;
        mem_flag_set(cpu->mem, walk->gpa[level], MEM_DIRTY);
    }
    return true;
}

static u64 leaf_page(const struct walk *walk, gva_t gva)
{
    u64 entry = walk->value[walk->level];
    u64 offset = gva & (BIT(walk->shift) - 1);
    u64 base = entry & (BIT(52) - 1) & ~(BIT(walk->shift) - 1);
    if (walk->paging.entry_bytes == 4 && walk->shift == 22)
        base |= bits_get(entry, 13, 8) << 32;
    return (base | offset) & WALK_GPA;
}

bool mmu_walk_allows(const struct cpu *cpu, u64 walk, enum cpu_access access,
                     enum cpu_privilege privilege)
{
    bool user_page = (walk & WALK_USER) != 0;
    if (!(cpu->cr0 & X86_CR0_PG))
        return true;
    if (privilege == PRIVILEGE_USER && !user_page)
        return false;
    if (access == ACCESS_FETCH)
        return !(walk & WALK_NX) &&
               !(user_page && privilege != PRIVILEGE_USER && (cpu->cr4 & X86_CR4_SMEP));
    if (user_page && privilege == PRIVILEGE_KERNEL && (cpu->cr4 & X86_CR4_SMAP))
        return false;
    if (access == ACCESS_WRITE && !(walk & WALK_WRITE))
        return privilege != PRIVILEGE_USER && !(cpu->cr0 & X86_CR0_WP);
    return true;
}

/* Goes down to the leaf; false when there is none, with the error code's P and RSVD bits. */
static bool walk_down(struct cpu *cpu, struct walk *walk, gva_t gva, u32 *ret_error)
{
    const struct paging *paging = &walk->paging;
    u64 table = paging->levels == 4   ? cpu->cr3 & cpu->physical_mask & WALK_GPA
                : paging->levels == 3 ? cpu->cr3 & 0xffffffe0
                                      : cpu->cr3 & 0xfffff000;
    walk->rights = PTE_W | PTE_U;
    for (walk->level = paging->levels - 1;; walk->level--) {
        walk->shift = 12 + walk->level * paging->index_bits;
        u64 index = bits_get(gva, walk->shift, paging->index_bits);
        if (paging->levels == 3 && walk->level == 2)
            index &= 3;
        u64 entry = entry_load(cpu, walk, table + index * paging->entry_bytes);
        walk->value[walk->level] = entry;
        *ret_error = 0;
        if (!(entry & PTE_P))
            return false;
        *ret_error = X86_PF_P | X86_PF_RSVD;
        if (entry & reserved_bits(cpu, paging, walk->level, entry))
            return false;
        if (!(paging->levels == 3 && walk->level == 2))
            walk->rights = ((walk->rights & entry) & (PTE_W | PTE_U)) |
                           ((walk->rights | entry) & PTE_NX);
        if (entry_is_leaf(cpu, walk, entry))
            return true;
        table = entry & (BIT(52) - 1) & WALK_GPA;
        if (paging->entry_bytes == 4)
            table &= 0xfffff000;
    }
}

static u64 walk_result(const struct cpu *cpu, const struct walk *walk, gva_t gva)
{
    u64 leaf = walk->value[walk->level];
    u64 result = leaf_page(walk, gva);
    if (walk->rights & PTE_W)
        result |= WALK_WRITE;
    if (walk->rights & PTE_U)
        result |= WALK_USER;
    if (walk->rights & PTE_NX)
        result |= WALK_NX;
    if (leaf & PTE_D)
        result |= WALK_DIRTY;
    if ((leaf & PTE_G) && (cpu->cr4 & X86_CR4_PGE))
        result |= WALK_GLOBAL;
    if (walk->shift > 12)
        result |= walk->shift == 30 ? WALK_1G : WALK_2M;
    return result;
}

bool mmu_walk(struct cpu *cpu, gva_t gva, enum cpu_access access, enum cpu_privilege privilege,
              u64 *ret_walk, u32 *ret_error)
{
    if (!(cpu->cr0 & X86_CR0_PG)) {
        *ret_walk = (gva & 0xfffff000) | WALK_WRITE | WALK_USER | WALK_DIRTY | WALK_GLOBAL;
        return true;
    }
    cpu->counters.page_walks++;
    u32 error = 0;
    /* Another vCPU that keeps changing the same entry cannot hold this one up for ever: the last
     * round goes without the bits, as if it had come just before the change. */
    for (unsigned round = 0; round < RETRIES_MAX; round++) {
        struct walk walk = {.paging = paging_of(cpu)};
        if (!walk_down(cpu, &walk, gva, &error))
            break;
        u64 result = walk_result(cpu, &walk, gva);
        error = X86_PF_P;
        if (!mmu_walk_allows(cpu, result, access, privilege))
            break;
        if (!set_accessed(cpu, &walk, access == ACCESS_WRITE) && round + 1 < RETRIES_MAX)
            continue;
        *ret_walk = walk_result(cpu, &walk, gva);
        return true;
    }
    if (access == ACCESS_WRITE)
        error |= X86_PF_W;
    if (privilege == PRIVILEGE_USER)
        error |= X86_PF_U;
    bool nx = (cpu->msr.efer & X86_EFER_NXE) && (cpu->cr4 & X86_CR4_PAE);
    if (access == ACCESS_FETCH && (nx || (cpu->cr4 & X86_CR4_SMEP)))
        error |= X86_PF_I;
    *ret_error = error;
    return false;
}

bool mmu_pae_pointers_valid(struct cpu *cpu, u64 cr3)
{
    struct walk walk = {.paging = {3, 8, 9}, .level = 2};
    for (unsigned i = 0; i < 4; i++) {
        u64 entry = entry_load(cpu, &walk, (cr3 & 0xffffffe0) + i * 8);
        if ((entry & PTE_P) && (entry & reserved_bits(cpu, &walk.paging, 2, entry)))
            return false;
    }
    return true;
}
