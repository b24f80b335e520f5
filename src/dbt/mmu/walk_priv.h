/*
 * dbt/mmu/walk_priv.h - what a page walk finds, and the two levels of translation cache that keep
 * it.
 */
#ifndef DBT_MMU_WALK_PRIV_H
#define DBT_MMU_WALK_PRIV_H

#include "base/bits.h"
#include "dbt/cpu.h"

/* What a walk found, in the low bits beside the GPA of the 4 KiB page. */
enum walk_flag {
    WALK_WRITE = 1, /* writable at every level */
    WALK_USER = 2,  /* user-accessible at every level */
    WALK_NX = 4,    /* not executable at some level */
    WALK_DIRTY = 8, /* the leaf's D bit is set: a write needs no other walk */
    WALK_GLOBAL = CPU_WALK_GLOBAL,
    WALK_2M = 32, /* a piece of a 2 MiB or 4 MiB page */
    WALK_1G = 64
};
#define WALK_GPA (~0xfffull)

/* Walks the guest's page tables for GVA with ACCESS as a USER access or not. On success sets A (and
 * D for a write) bits, gives GPA and flags, and returns true; else gives the page fault's error
 * code. */
bool mmu_walk(struct cpu *cpu, gva_t gva, enum cpu_access access, enum cpu_privilege privilege,
              u64 *ret_walk, u32 *ret_error);
/* Whether ACCESS with PRIVILEGE is allowed by what WALK says of the page. */
bool mmu_walk_allows(const struct cpu *cpu, u64 walk, enum cpu_access access,
                     enum cpu_privilege privilege);

/* GPA and flags of GVA's page for ACCESS, through the second-level TLB; raises the fault. */
u64 mmu_translate(struct cpu *cpu, gva_t gva, enum cpu_access access, enum cpu_privilege privilege);

/* Puts the page of GVA into the first-level TLB; for writes only where nothing must be noticed. */
void tlb_fill(struct cpu *cpu, gva_t gva, u64 walk, enum cpu_access access,
              enum cpu_privilege privilege);
/* Empties everything; the caller need not have a valid TLB before. */
void tlb_reset(struct cpu *cpu);

/* Makes each page's next write look at the page's flags again. The vCPU stands still. */
void tlb_drop_writes(struct cpu *cpu);

/* line.c: empties the lines: all; those for writing (any thread); those of PAGE; or those that no
 * first-level entry stands behind. */
void lines_clear(struct cpu *cpu);
void lines_clear_writes(struct cpu *cpu);
void lines_clear_page(struct cpu *cpu, gva_t page);
void lines_follow(struct cpu *cpu);

/* fetch.c: a new epoch for a half of the address space. */
void fetch_epoch_next(struct cpu *cpu, bool upper);
/* All non-global translations of the first level went: CR3 was loaded, or the current address
 * space's were dropped. The address-space number was OLD_ASID before; 0: one that does not count
 * any more.
 */
void fetch_switch(struct cpu *cpu, unsigned old_asid);
/* Other address spaces' code must be looked up again. */
void fetch_forget(struct cpu *cpu);
/* The page of GVA was dropped, of ASID or global. */
void fetch_page_flushed(struct cpu *cpu, unsigned asid, gva_t gva);
/* Code was fetched from GVA's page. */
void fetch_note(struct cpu *cpu, gva_t gva, u64 walk);

/* Bytes of guest RAM at GPA, within one page, were just written by CPU itself although the page
 * holds decoded code. */
void code_page_written(struct cpu *cpu, gpa_t gpa, size_t bytes);

static inline void filter_set(u64 filter[CPU_FILTER_WORDS], u64 number)
{
    u64 bit = (number * 0x9e3779b97f4a7c15ull) >> 52;
    filter[bit / 64] |= BIT(bit % 64);
}

static inline bool filter_has(const u64 filter[CPU_FILTER_WORDS], u64 number)
{
    u64 bit = (number * 0x9e3779b97f4a7c15ull) >> 52;
    return (filter[bit / 64] & BIT(bit % 64)) != 0;
}

#endif
