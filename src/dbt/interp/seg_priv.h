/*
 * dbt/interp/seg_priv.h - descriptors and segment registers, as the system instructions use them.
 *
 * Functions that take an error argument `external` put it in bit 0 (EXT) of the error code: it is 1
 * while an event from outside the program is being delivered.
 */
#ifndef DBT_INTERP_SEG_PRIV_H
#define DBT_INTERP_SEG_PRIV_H

#include "base/bits.h"
#include "dbt/cpu.h"

/* Types of system descriptors and gates (SDM vol. 3A table 3-2). In long mode 9 and 11 are 64-bit
 * TSSs, 12 is a 64-bit call gate, 14 and 15 are 64-bit gates, and the 16-bit forms do not exist. */
enum seg_system_type {
    SEG_TSS16 = 1,
    SEG_LDT = 2,
    SEG_TSS16_BUSY = 3,
    SEG_CALL_GATE16 = 4,
    SEG_TASK_GATE = 5,
    SEG_INTERRUPT_GATE16 = 6,
    SEG_TRAP_GATE16 = 7,
    SEG_TSS32 = 9,
    SEG_TSS32_BUSY = 11,
    SEG_CALL_GATE32 = 12,
    SEG_INTERRUPT_GATE32 = 14,
    SEG_TRAP_GATE32 = 15
};

/* Bits of the type of code and data segments. */
enum seg_type_bit {
    SEG_TYPE_ACCESSED = 1,
    SEG_TYPE_WRITABLE = 2, /* data */
    SEG_TYPE_READABLE = 2, /* code */
    SEG_TYPE_EXPAND_DOWN = 4,
    SEG_TYPE_CONFORMING = 4,
    SEG_TYPE_CODE = 8
};

enum { SEG_SELECTOR_RPL = 3, SEG_SELECTOR_LDT = 4, SEG_SELECTOR_INDEX = 0xfff8 };

/* Attributes that SYSCALL, SYSENTER and entry to virtual-8086 mode load without a descriptor. */
enum seg_fixed_attr {
    SEG_ATTR_CODE64 = 0xa09b,
    SEG_ATTR_CODE32 = 0xc09b,
    SEG_ATTR_DATA32 = 0xc093,
    SEG_ATTR_V86 = 0x00f3
};

/* A descriptor read from the GDT or LDT. */
struct seg_desc {
    u16 selector;
    u16 attr; /* enum x86_segment_attr */
    u32 limit;
    u64 base;
    u64 raw;      /* bytes 0 to 7 */
    u64 raw_high; /* bytes 8 to 15, 0 unless seg_desc_extend was called */
    gva_t gva;    /* of byte 0 */
};

/* A call, task, interrupt or trap gate. */
struct seg_gate {
    u8 type; /* enum seg_system_type */
    u8 dpl;
    u8 parameter_count; /* call gates of 16 and 32 bits */
    u8 ist;             /* 64-bit interrupt and trap gates */
    bool present;
    u16 selector;
    u64 offset;
};

static inline bool seg_protected(const struct cpu *cpu)
{
    return (cpu->cr0 & X86_CR0_PE) != 0 && (cpu->rflags & X86_VM) == 0;
}

static inline bool seg_virtual_8086(const struct cpu *cpu)
{
    return (cpu->cr0 & X86_CR0_PE) != 0 && (cpu->rflags & X86_VM) != 0;
}

static inline bool seg_long_mode(const struct cpu *cpu)
{
    return (cpu->msr.efer & X86_EFER_LMA) != 0;
}

static inline bool seg_selector_null(u16 selector)
{
    return (selector & ~SEG_SELECTOR_RPL) == 0;
}

/* The error code that names SELECTOR. */
static inline u32 seg_error(u16 selector, bool external)
{
    return (u32)(selector & ~SEG_SELECTOR_RPL) | (external ? 1 : 0);
}

static inline unsigned seg_attr_dpl(u16 attr)
{
    return (attr & X86_SEG_DPL) >> X86_SEG_DPL_SHIFT;
}

/* 48-bit linear addresses: five-level paging is not offered. */
static inline bool seg_canonical(u64 address)
{
    return (u64)((s64)(address << 16) >> 16) == address;
}

static inline bool seg_attr_code(u16 attr)
{
    return (attr & X86_SEG_CODE_DATA) != 0 && (attr & SEG_TYPE_CODE) != 0;
}

static inline bool seg_attr_writable_data(u16 attr)
{
    return (attr & X86_SEG_CODE_DATA) != 0 && (attr & SEG_TYPE_CODE) == 0 &&
           (attr & SEG_TYPE_WRITABLE) != 0;
}

/* Code that a less privileged caller may run at the caller's own level. */
static inline bool seg_attr_conforming(u16 attr)
{
    return seg_attr_code(attr) && (attr & SEG_TYPE_CONFORMING) != 0;
}

/* ---- seg_desc.c ---------------------------------------------------------------------------------
 */

/* Reads the 8 bytes that SELECTOR names; false when it lies outside its table. SELECTOR is not
 * null. Raises #PF only. */
MUST_CHECK bool seg_desc_read(struct cpu *cpu, u16 selector, struct seg_desc *ret_desc);
/* Adds the second half of a 16-byte system descriptor (long mode): base and raw_high; false when
 * that lies outside the table. */
MUST_CHECK bool seg_desc_extend(struct cpu *cpu, struct seg_desc *desc);
/* Takes an 8-byte descriptor apart. */
void seg_desc_parse(u64 raw, struct seg_desc *ret_desc);
/* Sets the accessed bit of a code or data descriptor, in memory and in DESC. Raises #PF only. */
void seg_desc_set_accessed(struct cpu *cpu, struct seg_desc *desc);
/* Sets or clears the busy bit of a TSS descriptor, in memory and in DESC. */
void seg_desc_set_busy(struct cpu *cpu, struct seg_desc *desc, bool busy);
/* Takes a gate apart; LONG_GATE says that RAW_HIGH holds the upper half of the offset. */
void seg_gate_parse(u64 raw, u64 raw_high, bool long_gate, struct seg_gate *ret_gate);

/* ---- seg.c --------------------------------------------------------------------------------------
 */

/* Whether BYTES at OFFSET lie within the segment's limit, expand-down ones included. */
bool seg_limit_allows(const struct x86_seg *seg, u64 offset, size_t bytes);

/* ---- seg_load.c ---------------------------------------------------------------------------------
 */

/* Puts a checked descriptor into a segment register, with RPL as the selector's low bits. */
void seg_install(struct x86_seg *seg, const struct seg_desc *desc, unsigned rpl);
/* Makes a segment register null; its DPL stays known, because SS.DPL is the CPL. */
void seg_install_null(struct x86_seg *seg, u16 selector, unsigned dpl);
/* Loads a segment register as real mode does: base from the selector, the rest as it was. */
void seg_install_real(struct x86_seg *seg, u16 selector);
/* Loads a segment register as virtual-8086 mode does. */
void seg_install_v86(struct x86_seg *seg, u16 selector);
/* Loads ES, SS, DS, FS or GS with SELECTOR as MOV, POP and LDS do, in any mode. */
void seg_load(struct cpu *cpu, enum x86_segment seg, u16 selector);
/* Checks SELECTOR as a stack segment for privilege level CPL and reads its descriptor. FAULT is the
 * exception for all but a segment that is not present (#SS). */
void seg_check_stack(struct cpu *cpu, u16 selector, unsigned cpl, u8 fault, bool external,
                     struct seg_desc *ret_desc);
/* After a return to an outer level: data segments that CPL may not use become null. */
void seg_drop_privileged(struct cpu *cpu);

#endif
