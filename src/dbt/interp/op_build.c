/*
 * dbt/interp/op_build.c - which op runs an instruction: a fast one, a handler, or the vector units.
 *
 * Runs   on the vCPU's thread, while a block is decoded.
 */
#include "dbt/interp/run_priv.h"
#include "dbt/simd.h"

static u8 register_offset(unsigned reg)
{
    return (u8)(reg == INSN_NO_REG ? OP_ZERO * 8 : reg * 8);
}

/* Fills the address part; OP_ADDRESS_NONE when there is none that the short form can hold. */
static void build_address(struct op *op, const struct insn *insn, unsigned mode)
{
    op->address = OP_ADDRESS_NONE;
    op->base = op->index = OP_ZERO * 8;
    if (!insn->has_memory || (insn->desc->attr & ATTR_VSIB))
        return;
    s64 disp = insn->disp + (insn->base == INSN_RIP ? op->next : 0);
    if (disp != (s32)disp)
        return;
    op->disp = (s32)disp;
    op->base = register_offset(insn->base);
    op->index = register_offset(insn->index);
    op->scale = insn->scale;
    op->segment = insn->segment;
    op->address = OP_ADDRESS_CHECKED;
    if ((mode & BLOCK_CODE_BYTES) == 8 && insn->address_bytes == 8)
        op->address = insn->segment >= X86_FS ? OP_ADDRESS_BASE : OP_ADDRESS_PLAIN;
    else if ((mode & BLOCK_FLAT) && insn->address_bytes == 4 &&
             (insn->segment == X86_DS || insn->segment == X86_ES || insn->segment == X86_SS))
        op->address = OP_ADDRESS_32;
}

static bool feature_missing(const struct cpu *cpu, const struct insn *insn)
{
    return insn->desc->feature != FEATURE_NONE && !(cpu->features >> insn->desc->feature & 1);
}

void op_build(struct cpu *cpu, struct op *op, const struct insn *insn, struct op_insn *full,
              unsigned mode)
{
    if (feature_missing(cpu, insn)) {
        op->run = op_no_instruction;
        return;
    }
    *full = (struct op_insn){.insn = *insn};
    if (simd_handles(insn)) {
        op->run = op_simd;
        op->full = full;
        return;
    }
    bool system = false;
    full->handler = interp_integer_handlers[insn->op];
    if (full->handler == NULL) {
        full->handler = interp_system_handlers[insn->op];
        system = true;
    }
    if (full->handler == NULL) {
        op->run = op_unknown;
        return;
    }
    u32 attr = insn->desc->attr;
    system |= (attr & (ATTR_PRIVILEGED | ATTR_PROTECTED)) != 0 ||
              (attr & (ATTR_ENDS_BLOCK | ATTR_BRANCH)) == ATTR_ENDS_BLOCK;
    build_address(op, insn, mode);
    bool memory = insn->has_memory;
    if (!system && !(insn->prefixes & INSN_LOCK) && !(memory && op->address == OP_ADDRESS_NONE) &&
        (op_select_alu(op, insn) || op_select_move(op, insn) || op_select_shift(op, insn) ||
         op_select_flow(op, insn, mode))) {
        /* The slow ways of what touches memory or jumps by a register may need it in full. */
        if (memory || insn->op == OP_RET || insn->op == OP_CALL_IND || insn->op == OP_JMP_IND)
            op->full = full;
        return;
    }
    op->full = full;
    op->run = system ? op_system : op_plain;
}
