/*
 * dbt/jit/slow_priv.h - the ways of a memory access whose test in translated code missed: the
 * line's stub (line.c), the second-level TLB's (refill.c), C (slow.c).
 */
#ifndef DBT_JIT_SLOW_PRIV_H
#define DBT_JIT_SLOW_PRIV_H

#include "dbt/jit/jit_priv.h"

/* line.c: the stubs that fill lines. */
void jit_make_line_stubs(struct jit *jit, struct emitter *out);

/* Displacements from the state, of entry 0 of PRIVILEGE's first-level TLB: its FIELD; the tag that
 * an access of this kind is compared with. */
static inline s32 jit_tlb_at(unsigned privilege, size_t field)
{
    return STATE_AT(tlb.entries) +
           (s32)(privilege * CPU_TLB_ENTRIES * sizeof(struct cpu_tlb_entry) + field);
}

static inline s32 jit_tlb_tag_at(unsigned privilege, bool write)
{
    return jit_tlb_at(privilege, write ? offsetof(struct cpu_tlb_entry, write_tag)
                                       : offsetof(struct cpu_tlb_entry, read_tag));
}

/* refill.c: the stubs that fill the first-level TLB from the second. */
void jit_make_refill_stubs(struct jit *jit, struct emitter *out);
/* One such stub: r8 is the linear address and stays; r9 is lost, flags too unless they are kept. It
 * returns, or goes on at AGAIN when that is not NULL, where the first level now has the page; else
 * it goes to slow.c. */
struct refill_kind {
    unsigned privilege;
    bool write, keep_flags;
    const u8 *again;
};
void jit_emit_refill(const struct jit *jit, struct emitter *out, const struct refill_kind *kind);

/* slow.c: the stubs for accesses that missed, and what they call. */
void jit_make_slow_stubs(struct jit *jit, struct emitter *out);
u64 jit_slow_access(struct cpu *cpu, u32 unused);

/* What stands after the call of such a stub, from the return address on: first a jump to the test,
 * or with FORM_LINE to where it is passed. */
enum jit_note {
    NOTE_META = 5,
    NOTE_RESUME = 9, /* 16-bit ways from the jump's target: to the end of the instruction, */
    NOTE_DONE = 11,  /* and to where the test is passed */
    NOTE_BYTES = 13,
    NOTE_FORM = 14,
    NOTE_LINE = 15,
    NOTE_BYTES_ALL = 16
};
/* The operand is [T0 + T1], or [base + T1 + disp] where T1 is what translates: in both cases T0 may
 * be the address and T1 what translates. With FORM_FLAGS code after the note, in place of the
 * resumed one, makes flags again and has the instruction interpreted, or with FORM_GROUP does the
 * instructions of a group one by one. */
enum jit_form {
    FORM_LINE = 1, /* the stub itself translates */
    FORM_CONSTANT = 2,
    FORM_WRITE = 4,
    FORM_FLAGS = 8,
    FORM_GROUP = 16,
    FORM_KEEP = 32 /* flags stay; the operand is [T0 + T1 + 1 - bytes] */
};

/* hot.c: what one of them calls now and then, in place of jit_slow_access. */
u64 jit_line_look(struct cpu *cpu, u32 unused);

#endif
