/*
 * dbt/jit/repeat.c - REP STOS and REP MOVS as the host's own, where all that is touched lies in one
 * page of RAM on each side.
 *
 * Spec   Intel SDM vol. 2, REP, MOVS, STOS; vol. 1 7.3.9.3.
 *
 * 64-bit code with 64-bit addresses, upwards. Everything else is interpreted, which goes page by
 * page and can stop in between; here nothing can happen before the end, at most 4 KiB later.
 * A count of 0 touches nothing, and asks for no more than that the page be there.
 */
#include "dbt/jit/draft_priv.h"

enum { RCX = 1, RSI = 6, RDI = 7, PAGE_BYTES = 4096, ENTRY_SHIFT = 5 };
_Static_assert(sizeof(struct cpu_tlb_entry) == 1 << ENTRY_SHIFT, "the index is made by one shift");

bool repeat_possible(const struct draft *draft, const struct insn *insn)
{
    return (insn->op == OP_STOS || insn->op == OP_MOVS) &&
           (insn->prefixes & (INSN_REP | INSN_REPNE)) && draft->code_bytes == 8 &&
           insn->address_bytes == 8 && insn->segment != X86_FS && insn->segment != X86_GS;
}

static u8 element_shift(const struct insn *insn)
{
    return (u8)__builtin_ctz(insn_operand_bytes(insn, 0));
}

/* Leaves the host address after the last byte that is reached from GPR in T0; T1 is lost. */
static void host_end(struct draft *draft, const struct draft_insn *one, unsigned gpr, bool write)
{
    struct emitter *out = &draft->out;
    struct host_mem tag = {STATE, T1, 0, jit_tlb_tag_at(draft->privilege, write)};
    struct host_mem host = {STATE, T1, 0,
                            jit_tlb_at(draft->privilege, offsetof(struct cpu_tlb_entry, host))};
    struct host_mem end = {T0, RCX, element_shift(&one->insn), 0}, sum = {T0, T1, 0, 0};
    emit_mov(out, T0, gpr);
    emit_rorx(out, T1, T0, 12 - ENTRY_SHIFT);
    emit_alu_imm(out, ALU_AND, false, T1, (CPU_TLB_ENTRIES - 1) << ENTRY_SHIFT);
    emit_alu_mem(out, ALU_SUB, T0, &tag);
    emit_alu_imm(out, ALU_CMP, true, T0, PAGE_BYTES - 1);
    keep_otherwise(draft, one, COND_A);
    emit_lea(out, true, T0, &end);
    emit_alu_imm(out, ALU_CMP, true, T0, PAGE_BYTES);
    keep_otherwise(draft, one, COND_A);
    emit_op_mem(out, 0x8b, true, T1, &host);
    emit_lea(out, true, T0, &sum);
}

/* The instruction itself, with host addresses in its registers. */
static void emit_repeat(struct emitter *out, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    unsigned opcode = insn->op == OP_STOS ? 0xaa : 0xa4;
    if (bytes == 2)
        emit_u8(out, 0x66);
    emit_u8(out, 0xf3);
    if (bytes == 8)
        emit_u8(out, 0x48);
    emit_u8(out, opcode | (bytes > 1));
}

/* T1 = -count, T0 = the end of the target, cpu->jit_spill that of the source. */
static void run(struct draft *draft, const struct insn *insn)
{
    struct emitter *out = &draft->out;
    u8 shift = element_shift(insn);
    struct host_mem to = {T0, T1, shift, 0}, from = {RSI, T1, shift, 0};
    struct host_mem after_to = {RDI, T1, shift, 0};
    emit_store(out, RDI, STATE, slot_at(RDI)); /* free while translated code runs */
    emit_lea(out, true, RDI, &to);
    if (insn->op == OP_MOVS) {
        emit_store(out, RSI, STATE, slot_at(RSI));
        emit_load(out, RSI, STATE, STATE_AT(jit_spill));
        emit_lea(out, true, RSI, &from);
    }
    emit_repeat(out, insn);
    emit_op_reg(out, 0xf7, true, 3, T1); /* neg: the count */
    emit_load(out, RDI, STATE, slot_at(RDI));
    emit_lea(out, true, RDI, &after_to);
    if (insn->op == OP_MOVS) {
        emit_load(out, RSI, STATE, slot_at(RSI));
        emit_lea(out, true, RSI, &from);
    }
}

void draft_repeat(struct draft *draft, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct emitter *out = &draft->out;
    keep_begin(draft, one);
    string_test_direction(out);
    keep_otherwise(draft, one, COND_NE);
    emit_alu_imm(out, ALU_CMP, true, RCX, PAGE_BYTES);
    keep_otherwise(draft, one, COND_A);
    if (insn->op == OP_MOVS) {
        host_end(draft, one, RSI, false);
        emit_store(out, T0, STATE, STATE_AT(jit_spill));
    }
    host_end(draft, one, RDI, true);
    emit_mov(out, T1, RCX);
    emit_op_reg(out, 0xf7, true, 3, T1); /* neg */
    run(draft, insn);
    keep_end(draft, one);
}
