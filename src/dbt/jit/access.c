/*
 * dbt/jit/access.c - checked guest memory operands: the first-level TLB's test in line.
 *
 * A hit leaves the page offset in T0 (address minus tag, which is at most 4096 - bytes exactly when
 * the page is the entry's and the access does not leave it) and the page's host address in T1. A
 * miss goes to a cold stub that has the instruction interpreted, which fills the TLB.
 *
 * Trust  the guest chooses every address. An empty entry's tag is a page of another index, so it
 * never matches (dbt/tlb.h).
 */
#include "dbt/jit/draft_priv.h"

enum { RCX = 1, ENTRY_SHIFT = 5 };
_Static_assert(sizeof(struct cpu_tlb_entry) == 1 << ENTRY_SHIFT, "the index is made by one shift");

enum {
    INDEX_MASK = (CPU_TLB_ENTRIES - 1) << ENTRY_SHIFT,
    PAGE_INDEX_MASK = (CPU_TLB_ENTRIES - 1) << 12
};

struct guest_ea ea_of(const struct insn *insn)
{
    return (struct guest_ea){insn->base,    insn->index,         insn->scale,
                             insn->segment, insn->address_bytes, insn->disp};
}

struct guest_ea ea_stack(const struct draft *draft, s64 disp)
{
    return (struct guest_ea){X86_RSP, INSN_NO_REG, 0, X86_SS, (u8)draft->code_bytes, disp};
}

unsigned draft_read_gpr(struct draft *draft, unsigned gpr, unsigned scratch)
{
    if (!in_slot(gpr))
        return host_gpr(gpr);
    emit_load(&draft->out, scratch, STATE, slot_at(gpr));
    return scratch;
}

/* Whether nothing but the code's address goes into the operand's. */
static bool is_constant(const struct guest_ea *ea)
{
    return (ea->base == INSN_RIP || ea->base == INSN_NO_REG) && ea->index == INSN_NO_REG;
}

void draft_address(struct draft *draft, unsigned reg, u64 address, bool wide)
{
    struct emitter *out = &draft->out;
    struct host_mem sum = host_mem_base(reg, (s32)address);
    if (!draft->relative) {
        emit_mov_imm(out, reg, wide ? address : (u32)address);
        return;
    }
    if ((s64)address != (s32)address) {
        emit_mov_imm(out, T1, address);
        sum = (struct host_mem){reg, T1, 0, 0};
    }
    emit_load(out, reg, STATE, STATE_AT(jit_delta));
    emit_lea(out, wide, reg, &sum);
}

void draft_effective_address(struct draft *draft, const struct draft_insn *one,
                             const struct guest_ea *ea, unsigned reg)
{
    struct emitter *out = &draft->out;
    bool wide = ea->address_bytes == 8;
    if (is_constant(ea)) {
        if (ea->base == INSN_RIP)
            draft_address(draft, reg, insn_next_rip(draft, one) + (u64)ea->disp, wide);
        else
            emit_mov_imm(out, reg, wide ? (u64)ea->disp : (u32)ea->disp);
        return;
    }
    struct host_mem mem = {0, EMIT_NO_INDEX, ea->scale, (s32)ea->disp};
    if (ea->index != INSN_NO_REG)
        mem.index = (u8)draft_read_gpr(draft, ea->index, T1);
    if (ea->base != INSN_NO_REG) {
        mem.base = (u8)draft_read_gpr(draft, ea->base, reg);
    } else { /* index << scale + disp: without a base it must be rbp's form; use a zero */
        emit_mov_imm(out, reg, 0);
        mem.base = (u8)reg;
    }
    emit_lea(out, wide, reg, &mem);
}

/* Adds the base of FS or GS to T0. In 32-bit code the sum wraps, and where the segment is not one
 * that everything may be done with, it becomes an address that misses. (Whether an operand that
 * itself wraps at 4 GiB raises #GP then is left to implementations.) */
static void add_segment_base(struct draft *draft, unsigned segment)
{
    struct emitter *out = &draft->out;
    struct host_mem sum = {T0, T1, 0, 0};
    s32 base = STATE_AT(seg) + (s32)(sizeof(struct x86_seg) * segment) +
               (s32)offsetof(struct x86_seg, base);
    emit_load(out, T1, STATE, base);
    if (draft->code_bytes == 4) {
        emit_lea(out, false, T0, &sum);
        emit_load(out, T1, STATE, STATE_AT(segment_miss) + (s32)(segment - X86_FS) * 8);
    }
    emit_lea(out, true, T0, &sum);
}

void draft_linear_address(struct draft *draft, const struct draft_insn *one,
                          const struct access *access)
{
    draft_effective_address(draft, one, &access->ea, T0);
    if (access->ea.segment == X86_FS || access->ea.segment == X86_GS)
        add_segment_base(draft, access->ea.segment);
}

static s32 entry_at(const struct draft *draft, size_t field)
{
    return jit_tlb_at(draft->privilege, field);
}

static s32 tag_at(const struct draft *draft, bool write)
{
    return jit_tlb_tag_at(draft->privilege, write);
}

/* The common form, for the address in T0: 6 instructions with its computation, changes flags. */
static struct cold *check_linear(struct draft *draft, const struct draft_insn *one,
                                 const struct access *access, struct host_mem *ret_mem)
{
    struct emitter *out = &draft->out;
    struct host_mem tag = {STATE, T1, 0, tag_at(draft, access->write)};
    struct host_mem host = {STATE, T1, 0, entry_at(draft, offsetof(struct cpu_tlb_entry, host))};
    u8 *start = out->at;
    emit_rorx(out, T1, T0, 12 - ENTRY_SHIFT);
    emit_alu_imm(out, ALU_AND, false, T1, INDEX_MASK);
    emit_alu_mem(out, ALU_SUB, T0, &tag);
    emit_alu_imm(out, ALU_CMP, true, T0, (s32)(4096 - access->bytes));
    struct cold *cold = draft_missed(draft, one, access, emit_jcc(out, COND_A, NULL));
    emit_op_mem(out, 0x8b, true, T1, &host);
    *ret_mem = (struct host_mem){T0, T1, 0, 0};
    if (cold) {
        cold->retry = start;
        cold->done = out->at;
    }
    return cold;
}

void draft_access_linear(struct draft *draft, const struct draft_insn *one,
                         const struct access *access, struct host_mem *ret_mem)
{
    struct cold *cold = check_linear(draft, one, access, ret_mem);
    /* The stub gets the address back from the tag. A write tag may have changed meanwhile, so that
     * the address must be computed again: here it cannot be. */
    if (cold && access->write)
        cold->kind = COLD_SLOW;
}

static void check(struct draft *draft, const struct draft_insn *one, const struct access *access,
                  struct host_mem *ret_mem)
{
    u8 *start = draft->out.at;
    draft_linear_address(draft, one, access);
    struct cold *cold = check_linear(draft, one, access, ret_mem);
    if (cold)
        cold->retry = start;
}

/* An address known when translating: its entry is, too. Changes flags. */
static void check_constant(struct draft *draft, const struct draft_insn *one,
                           const struct access *access, struct host_mem *ret_mem)
{
    struct emitter *out = &draft->out;
    u64 address = (u64)access->ea.disp +
                  (access->ea.base == INSN_RIP ? insn_next_rip(draft, one) : 0);
    if (access->ea.address_bytes == 4)
        address = (u32)address;
    s32 entry = (s32)((address >> 12) % CPU_TLB_ENTRIES) << ENTRY_SHIFT;
    u64 page = align_down(address, 4096);
    u8 *start = out->at;
    if ((s64)page == (s32)page) {
        emit_cmp_mem_imm(out, STATE, tag_at(draft, access->write) + entry, (s32)page);
    } else {
        emit_mov_imm(out, T0, page);
        emit_cmp_mem_reg(out, STATE, tag_at(draft, access->write) + entry, T0);
    }
    struct cold *cold = draft_missed(draft, one, access, emit_jcc(out, COND_NE, NULL));
    emit_load(out, T0, STATE, entry_at(draft, offsetof(struct cpu_tlb_entry, host)) + entry);
    if (cold) {
        cold->retry = start;
        cold->done = out->at;
        cold->stub = draft->jit->refill[draft->privilege][access->write];
        cold->form |= FORM_CONSTANT;
        cold->address = address;
    }
    *ret_mem = host_mem_base(T0, (s32)(address & 4095));
}

/* The form that keeps flags: BMI2 instead of shifts, JRCXZ instead of a comparison. */
static void check_keeping_flags(struct draft *draft, const struct draft_insn *one,
                                const struct access *access, struct host_mem *ret_mem)
{
    struct emitter *out = &draft->out;
    s32 last = (s32)access->bytes - 1;
    struct host_mem tag = {STATE, RCX, 0, tag_at(draft, access->write)};
    struct host_mem host = {STATE, RCX, 0, entry_at(draft, offsetof(struct cpu_tlb_entry, host))};
    struct host_mem offset = {T0, T1, 0, last + 1};
    u8 *start = out->at;
    draft_linear_address(draft, one, access);
    emit_store(out, RCX, STATE, STATE_AT(jit_spill));
    emit_mov_imm(out, T1, PAGE_INDEX_MASK);
    emit_pext(out, RCX, T0, T1);
    emit_rorx(out, RCX, RCX, 64 - ENTRY_SHIFT);
    emit_op_mem(out, 0x8b, true, T1, &tag);
    emit_not(out, T1);
    emit_lea(out, true, T1, &offset); /* address - tag + bytes - 1 */
    emit_op_mem(out, 0x8b, true, T0, &host);
    emit_mov_imm(out, RCX, 12);
    emit_shrx(out, RCX, T1, RCX);
    u8 *hit = emit_jrcxz(out);
    struct cold *cold = draft_missed(draft, one, access, emit_jmp(out, NULL));
    emit_patch8(out, hit, out->at);
    emit_load(out, RCX, STATE, STATE_AT(jit_spill));
    *ret_mem = (struct host_mem){T0, T1, 0, -last};
    if (cold == NULL)
        return;
    cold->restore_rcx = true;
    cold->retry = start;
    cold->done = out->at;
    cold->stub = draft->jit->refill_keep[draft->privilege][access->write];
    cold->form |= FORM_KEEP;
    cold->one = one;
    cold->ea = access->ea;
}

void draft_access(struct draft *draft, const struct draft_insn *one, const struct access *access,
                  struct host_mem *ret_mem)
{
    u64 address = (u64)access->ea.disp +
                  (access->ea.base == INSN_RIP ? insn_next_rip(draft, one) : 0);
    bool in_page = (address & 4095) + access->bytes <= 4096;
    if (draft_is_member(draft, one))
        draft_member(draft, one, access, ret_mem);
    else if (access->keep_flags)
        check_keeping_flags(draft, one, access, ret_mem);
    else if (is_constant(&access->ea) && !(draft->relative && access->ea.base == INSN_RIP) &&
             access->ea.segment != X86_FS && access->ea.segment != X86_GS && in_page)
        check_constant(draft, one, access, ret_mem);
    else if (!draft_line(draft, one, access, ret_mem))
        check(draft, one, access, ret_mem);
}

void draft_fold(struct draft *draft, struct host_mem *mem)
{
    if (mem->index != T1 && mem->base != T1)
        return;
    emit_lea(&draft->out, true, T0, mem);
    *mem = host_mem_base(T0, 0);
}
