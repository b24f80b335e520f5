/*
 * dbt/jit/bit.c - BT, BTS, BTR and BTC with memory and a bit number in a register, which counts
 * from the operand's address on, downwards as well.
 *
 * Spec   Intel SDM vol. 2, BT; vol. 1 3.2.1 (bit strings).
 */
#include "dbt/jit/draft_priv.h"

bool bit_possible(const struct draft *draft, const struct insn *insn)
{
    return insn->op >= OP_BT && insn->op <= OP_BTC && insn->has_memory &&
           insn->desc->operand[1].kind == OPERAND_G && insn->operand_bytes >= 4 &&
           insn->address_bytes == draft->code_bytes &&
           (draft->code_bytes == 8 || insn->segment < X86_FS);
}

/* The bit's number into T1, sign-extended. */
static void load_number(struct draft *draft, const struct insn *insn)
{
    unsigned from = draft_read_gpr(draft, insn->reg, T1);
    emit_op_reg(&draft->out, insn->operand_bytes == 8 ? 0x8b : 0x63, true, T1, from);
}

/* All flags but CF are undefined after it, or stay: nothing reads them. */
void draft_bit(struct draft *draft, const struct draft_insn *one)
{
    static const u8 opcodes[] = {0xa3, 0xab, 0xb3, 0xbb}; /* 0f: BT, BTS, BTR, BTC */
    const struct insn *insn = &one->insn;
    struct emitter *out = &draft->out;
    bool wide = insn->operand_bytes == 8;
    struct access access = {ea_of(insn), insn->operand_bytes, insn->op != OP_BT, false, NULL};
    struct host_mem mem, sum = {T0, T1, 0, 0};
    if (one->live_before) {
        draft_interpret(draft, one);
        return;
    }
    draft_linear_address(draft, one, &access);
    load_number(draft, insn);
    emit_shift_imm(out, SHIFT_SAR, T1, wide ? 6 : 5); /* of the word that the bit is in */
    emit_shift_imm(out, SHIFT_SHL, T1, wide ? 3 : 2);
    emit_lea(out, draft->code_bytes == 8, T0, &sum);
    draft_access_linear(draft, one, &access, &mem);
    draft_fold(draft, &mem);
    load_number(draft, insn);
    if (insn->op == OP_BT) {
        emit_op_mem(out, 0x8b, wide, T0, &mem);
        emit_op_reg(out, 0x0fa3, wide, T1, T0);
        return;
    }
    emit_alu_imm(out, ALU_AND, false, T1, wide ? 63 : 31);
    if (insn->prefixes & INSN_LOCK)
        emit_u8(out, 0xf0);
    emit_op_mem(out, 0x0f00u | opcodes[insn->op - OP_BT], wide, T1, &mem);
}
