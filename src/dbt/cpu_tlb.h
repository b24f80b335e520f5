/*
 * dbt/cpu_tlb.h - what a vCPU keeps of the guest's page tables: two levels of TLB, and lines.
 *
 * mmu/tlb.c and mmu/line.c have the rules; the structures are here because translated code and its
 * stubs read and fill them.
 */
#ifndef DBT_CPU_TLB_H
#define DBT_CPU_TLB_H

#include "base/types.h"

enum { CPU_TLB_ENTRIES = 4096, CPU_TLB_SETS = 1024, CPU_TLB_WAYS = 4, CPU_TLB_JOURNAL = 1024 };
enum { CPU_TLB_PCIDS = 4096, CPU_FILTER_WORDS = 64, CPU_FETCH_CONTEXTS = 16 };

/* How an access is checked (SDM vol. 3A 4.6). There is one first-level TLB for each of the first
 * three; PRIVILEGE_SYSTEM is checked exactly as PRIVILEGE_KERNEL is, whatever the CPL. */
enum cpu_access { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };
enum cpu_privilege {
    PRIVILEGE_USER,      /* CPL 3 */
    PRIVILEGE_KERNEL,    /* CPL 0-2, SMAP enforced (AC clear) */
    PRIVILEGE_KERNEL_AC, /* CPL 0-2 with EFLAGS.AC set: SMAP lifted */
    PRIVILEGE_COUNT,
    PRIVILEGE_SYSTEM = PRIVILEGE_KERNEL /* implicit accesses: descriptor tables, TSS */
};

/* One direct-mapped entry. A tag is the page's GVA, so that gva - tag <= 4096 - bytes says both
 * that the page is this one and that the access does not leave it. The tag of an empty entry is a
 * page that lives at another index (dbt/tlb.h). host + gva - tag is the byte. */
struct cpu_tlb_entry {
    u64 read_tag, write_tag;
    u8 *host; /* of the page */
    u64 gpa;  /* of the page; its low bits are enum walk_flag of mmu/walk_priv.h */
};

/* A page that translated code has found before and looks at first, without a table: an access of
 * 1 << i bytes at GVA is one that the first-level TLB allows if GVA + minus_base is below limit[i].
 * GVA + delta is its host address then. Lines of even number are for reading, odd ones for writing.
 * An empty line's limits are 0. */
enum { CPU_LINES = 128, CPU_LINE_SIZES = 6 };
struct cpu_line {
    u64 limit[CPU_LINE_SIZES];
    u64 minus_base, delta;
};

/* A walk's result, for all privileges; tag is page number and address-space number
 * (mmu/walk_priv.h). */
struct cpu_walk_entry {
    u64 tag;
    u64 gpa; /* of the page; low bits: what the walk found */
    /* Where the page is in RAM; low bits: the accesses that the first level had from this entry, so
     * that translated code may give them to it again (cpu_walk_had). */
    u64 host;
    const u8 *page_flags; /* of the page (core/mem.h); borrowed */
};

/* The bit of cpu_walk_entry.host for an access. */
static inline unsigned cpu_walk_had(unsigned privilege, bool write)
{
    return 1u << (privilege * 2 + write);
}

/* In which set of the second level entries with TAG are: the hash's upper bits. */
#define CPU_WALK_HASH 0x9e3779b97f4a7c15ull
enum { CPU_WALK_HASH_SHIFT = 54 };
_Static_assert(CPU_TLB_SETS == 1 << (64 - CPU_WALK_HASH_SHIFT), "as many sets as hashes");
/* The bit of its gpa that a global page has. */
enum { CPU_WALK_GLOBAL = 16 };
/* The address-space number of global entries; and what asks for pages of the upper half looks for
 * these only, in translated code. */
enum { CPU_ASID_GLOBAL = 0xffff };

/* What is known of the lower half's code in an address space that is not the current one. */
struct cpu_fetch_context {
    u16 asid; /* 0: nothing */
    u64 epoch;
    u64 filter[CPU_FILTER_WORDS];
};

struct cpu_tlb {
    struct cpu_tlb_entry entries[PRIVILEGE_COUNT][CPU_TLB_ENTRIES];
    /* Always empty: what tlb_data points to while each access must be looked at (data breakpoints,
     * alignment checks). */
    struct cpu_tlb_entry none[CPU_TLB_ENTRIES];
    struct cpu_walk_entry walks[CPU_TLB_SETS][CPU_TLB_WAYS];
    u16 asid;                 /* address-space number of the current PCID, 1 and up */
    u16 asid_next;            /* the first number not yet given out */
    u16 asids[CPU_TLB_PCIDS]; /* by PCID; 0: none, so nothing of that PCID is cached */
    u8 victim[CPU_TLB_SETS];  /* the way to replace next */
    /* The non-global first-level entries filled since the last flush; full means many. */
    u16 journal[CPU_TLB_JOURNAL];
    unsigned journal_count;
    /* Filters by hash: large pages that have cached 4 KiB pieces; pages that code was fetched from
     * (cpu_code_half) since fetch_epoch of their half of the address space last changed. */
    u64 large_filter[CPU_FILTER_WORDS];
    u64 fetch_filter[2][CPU_FILTER_WORDS];
    /* While one is the same, a fetch from an address that was fetched from finds the same page: of
     * the lower and the upper half of the address space (mmu/fetch.c). */
    u64 fetch_epoch[2];
    u64 fetch_epoch_last; /* the last one given to either half */
    struct cpu_fetch_context fetch_contexts[CPU_FETCH_CONTEXTS]; /* by address-space number */
    bool upper_local;  /* code was fetched from a page of the upper half that is not global */
    bool lower_global; /* and from one of the lower half that is */
};

#endif
