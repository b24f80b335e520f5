/*
 * dbt/interp/int_flow.c - handlers: near jumps, calls, returns, loops.
 *
 * Spec   Intel SDM vol. 2, the instructions' own pages.
 * Runs   on the vCPU's thread, inside an instruction.
 */
#include "dbt/interp/int_priv.h"

void interp_jump(struct cpu *cpu, unsigned operand_bytes, u64 target)
{
    if (cpu->code_bytes == 8) {
        if (!address_is_canonical(target))
            cpu_raise_error(cpu, X86_GP, 0);
    } else {
        target &= bytes_mask(operand_bytes);
        if (target > cpu->seg[X86_CS].limit)
            cpu_raise_error(cpu, X86_GP, 0);
    }
    cpu->next_rip = target;
}

static void jump_relative(struct cpu *cpu, const struct insn *insn)
{
    interp_jump(cpu, insn->operand_bytes, cpu->next_rip + insn->imm);
}

void op_jmp(struct cpu *cpu, const struct insn *insn)
{
    jump_relative(cpu, insn);
}

void op_jcc(struct cpu *cpu, const struct insn *insn)
{
    if (int_condition(cpu->rflags, insn_condition(insn)))
        jump_relative(cpu, insn);
}

void op_jcxz(struct cpu *cpu, const struct insn *insn)
{
    if ((cpu->gpr[X86_RCX] & bytes_mask(insn->address_bytes)) == 0)
        jump_relative(cpu, insn);
}

void op_loop(struct cpu *cpu, const struct insn *insn)
{
    u64 count = (cpu->gpr[X86_RCX] - 1) & bytes_mask(insn->address_bytes);
    bool zero = (cpu->rflags & X86_ZF) != 0;
    bool take = count != 0;
    if (insn->op != OP_LOOP)
        take = take && zero == (insn->op == OP_LOOPE);
    if (take)
        jump_relative(cpu, insn);
    gpr_set(cpu, X86_RCX, insn->address_bytes, count);
}

void op_jmp_ind(struct cpu *cpu, const struct insn *insn)
{
    interp_jump(cpu, insn->operand_bytes, interp_read_rm(cpu, insn, insn->operand_bytes));
}

static void call(struct cpu *cpu, const struct insn *insn, u64 target)
{
    u64 return_rip = cpu->next_rip;
    interp_jump(cpu, insn->operand_bytes, target);
    interp_push(cpu, insn->operand_bytes, return_rip);
}

void op_call(struct cpu *cpu, const struct insn *insn)
{
    call(cpu, insn, cpu->next_rip + insn->imm);
}

void op_call_ind(struct cpu *cpu, const struct insn *insn)
{
    call(cpu, insn, interp_read_rm(cpu, insn, insn->operand_bytes));
}

void op_ret(struct cpu *cpu, const struct insn *insn)
{
    u64 rsp = cpu->gpr[X86_RSP];
    u64 target = interp_pop_at(cpu, &rsp, insn->operand_bytes);
    interp_jump(cpu, insn->operand_bytes, target);
    interp_set_rsp(cpu, rsp + (insn->desc->operand_count ? (u16)insn->imm : 0));
}
