/*
 * dbt/tlb.h - the first-level TLB's hit path, inline for everything that touches guest memory.
 *
 * Each call gives the host address of BYTES at GVA, or NULL when the slow calls of dbt/cpu.h must
 * be asked. A hit says that the access is allowed now, lies in one page of RAM, and (for a write)
 * that the page is already marked dirty and holds no decoded code.
 */
#ifndef DBT_TLB_H
#define DBT_TLB_H

#include "dbt/cpu.h"

static inline unsigned tlb_index(gva_t gva)
{
    return (unsigned)(gva >> 12) & (CPU_TLB_ENTRIES - 1);
}

/* The tag of an empty entry at INDEX: a page that is looked up at another one. */
static inline u64 tlb_no_tag(unsigned index)
{
    return index == 1 ? 0 : 0x1000;
}

static inline u8 *tlb_read_hit(const struct cpu *cpu, gva_t gva, unsigned bytes)
{
    const struct cpu_tlb_entry *entry = &cpu->tlb_data[tlb_index(gva)];
    if (likely(gva - entry->read_tag <= 4096u - bytes))
        return entry->host_minus_gva + gva;
    return NULL;
}

static inline u8 *tlb_write_hit(const struct cpu *cpu, gva_t gva, unsigned bytes)
{
    const struct cpu_tlb_entry *entry = &cpu->tlb_data[tlb_index(gva)];
    if (likely(gva - __atomic_load_n(&entry->write_tag, __ATOMIC_RELAXED) <= 4096u - bytes))
        return entry->host_minus_gva + gva;
    return NULL;
}

#endif
