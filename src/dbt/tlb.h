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

/* The tag of an empty entry at INDEX: a page that is looked up at another one, and not at the one
 * after INDEX either, so that no access that ends in the tag's page begins at INDEX (translated
 * code looks at the last byte in one form of its test). Any such page will do: jit/refill.c takes
 * one half a table away. */
static inline u64 tlb_no_tag(unsigned index)
{
    return index <= 1 ? 0x3000 : 0x1000;
}

static inline u8 *tlb_read_hit(const struct cpu *cpu, gva_t gva, unsigned bytes)
{
    const struct cpu_tlb_entry *entry = &cpu->tlb_data[tlb_index(gva)];
    u64 offset = gva - entry->read_tag;
    if (likely(offset <= 4096u - bytes))
        return entry->host + offset;
    return NULL;
}

static inline u8 *tlb_write_hit(const struct cpu *cpu, gva_t gva, unsigned bytes)
{
    const struct cpu_tlb_entry *entry = &cpu->tlb_data[tlb_index(gva)];
    u64 offset = gva - __atomic_load_n(&entry->write_tag, __ATOMIC_RELAXED);
    if (likely(offset <= 4096u - bytes))
        return entry->host + offset;
    return NULL;
}

/* Single loads and stores of guest memory, at any alignment: aligned ones are atomic. */
struct host_u16 {
    u16 value;
} __attribute__((packed, may_alias));
struct host_u32 {
    u32 value;
} __attribute__((packed, may_alias));
struct host_u64 {
    u64 value;
} __attribute__((packed, may_alias));

static inline u64 host_load(const u8 *host, unsigned bytes)
{
    switch (bytes) {
    case 1:
        return *(const volatile u8 *)host;
    case 2:
        return ((const volatile struct host_u16 *)host)->value;
    case 4:
        return ((const volatile struct host_u32 *)host)->value;
    default:
        return ((const volatile struct host_u64 *)host)->value;
    }
}

static inline void host_store(u8 *host, unsigned bytes, u64 value)
{
    switch (bytes) {
    case 1:
        *(volatile u8 *)host = (u8)value;
        break;
    case 2:
        ((volatile struct host_u16 *)host)->value = (u16)value;
        break;
    case 4:
        ((volatile struct host_u32 *)host)->value = (u32)value;
        break;
    default:
        ((volatile struct host_u64 *)host)->value = value;
        break;
    }
}

#endif
