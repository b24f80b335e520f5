/*
 * dbt/interp/int_stack.c - handlers: the stack, and the helpers by which all handlers push and pop.
 *
 * Spec   Intel SDM vol. 1 6.2; vol. 2, the instructions' own pages.
 * Runs   on the vCPU's thread, inside an instruction. RSP moves after the last access that can
 * fault.
 */
#include "dbt/interp/int_priv.h"
#include "dbt/interp/sys_priv.h"

void interp_push_at(struct cpu *cpu, u64 *rsp, unsigned bytes, u64 value)
{
    u64 offset = (*rsp - bytes) & bytes_mask(cpu->stack_bytes);
    mmu_write(cpu, seg_linear(cpu, X86_SS, offset, bytes, ACCESS_WRITE), bytes, value);
    *rsp = offset;
}

u64 interp_pop_at(struct cpu *cpu, u64 *rsp, unsigned bytes)
{
    u64 offset = *rsp & bytes_mask(cpu->stack_bytes);
    u64 value = mmu_read(cpu, seg_linear(cpu, X86_SS, offset, bytes, ACCESS_READ), bytes);
    *rsp = offset + bytes;
    return value;
}

void interp_set_rsp(struct cpu *cpu, u64 rsp)
{
    gpr_set(cpu, X86_RSP, cpu->stack_bytes, rsp);
}

void interp_push(struct cpu *cpu, unsigned bytes, u64 value)
{
    u64 rsp = cpu->gpr[X86_RSP];
    interp_push_at(cpu, &rsp, bytes, value);
    interp_set_rsp(cpu, rsp);
}

u64 interp_pop(struct cpu *cpu, unsigned bytes)
{
    u64 rsp = cpu->gpr[X86_RSP];
    u64 value = interp_pop_at(cpu, &rsp, bytes);
    interp_set_rsp(cpu, rsp);
    return value;
}

void op_push(struct cpu *cpu, const struct insn *insn)
{
    interp_push(cpu, insn->operand_bytes, int_read(cpu, insn, 0));
}

/* A memory destination's address uses RSP as it is after the pop. */
void op_pop(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn->operand_bytes;
    u64 rsp = cpu->gpr[X86_RSP];
    u64 value = interp_pop_at(cpu, &rsp, bytes);
    if (insn->has_memory) {
        u64 offset = insn_offset(cpu, insn) + (insn->base == X86_RSP ? bytes : 0);
        offset &= bytes_mask(insn->address_bytes);
        mmu_write(cpu, seg_linear(cpu, insn->segment, offset, bytes, ACCESS_WRITE), bytes, value);
        interp_set_rsp(cpu, rsp);
    } else {
        interp_set_rsp(cpu, rsp);
        int_write(cpu, insn, 0, value);
    }
}

void op_pusha(struct cpu *cpu, const struct insn *insn)
{
    u64 rsp = cpu->gpr[X86_RSP];
    for (unsigned reg = X86_RAX; reg <= X86_RDI; reg++)
        interp_push_at(cpu, &rsp, insn->operand_bytes, cpu->gpr[reg]);
    interp_set_rsp(cpu, rsp);
}

void op_popa(struct cpu *cpu, const struct insn *insn)
{
    u64 rsp = cpu->gpr[X86_RSP], values[8];
    for (unsigned reg = 8; reg-- > 0;)
        values[reg] = interp_pop_at(cpu, &rsp, insn->operand_bytes);
    interp_set_rsp(cpu, rsp);
    for (unsigned reg = 0; reg < 8; reg++) {
        if (reg != X86_RSP)
            gpr_set(cpu, reg, insn->operand_bytes, values[reg]);
    }
}

void op_pushf(struct cpu *cpu, const struct insn *insn)
{
    interp_push(cpu, insn->operand_bytes, sys_pushf(cpu, insn->operand_bytes));
}

void op_popf(struct cpu *cpu, const struct insn *insn)
{
    u64 rsp = cpu->gpr[X86_RSP];
    u64 value = interp_pop_at(cpu, &rsp, insn->operand_bytes);
    sys_popf(cpu, insn->operand_bytes, value);
    interp_set_rsp(cpu, rsp);
}

void op_enter(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn->operand_bytes, level = insn->imm2 & 31;
    u64 mask = bytes_mask(cpu->stack_bytes);
    u64 rsp = cpu->gpr[X86_RSP], rbp = cpu->gpr[X86_RBP];
    interp_push_at(cpu, &rsp, bytes, rbp);
    u64 frame = rsp;
    for (unsigned i = 1; i < level; i++) {
        rbp -= bytes;
        u64 link = mmu_read(cpu, seg_linear(cpu, X86_SS, rbp & mask, bytes, ACCESS_READ), bytes);
        interp_push_at(cpu, &rsp, bytes, link);
    }
    if (level > 0)
        interp_push_at(cpu, &rsp, bytes, frame);
    rsp = (rsp - (u16)insn->imm) & mask;
    /* The new top of the stack must be writable, though nothing is written there. */
    gva_t top = seg_linear(cpu, X86_SS, rsp, bytes, ACCESS_WRITE);
    if (cpu->align_check && (top & (bytes - 1)))
        cpu_raise_error(cpu, X86_AC_FAULT, 0);
    mmu_probe(cpu, top, bytes, ACCESS_WRITE, cpu->privilege);
    gpr_set(cpu, X86_RBP, bytes, frame);
    interp_set_rsp(cpu, rsp);
}

void op_leave_frame(struct cpu *cpu, const struct insn *insn)
{
    u64 rsp = cpu->gpr[X86_RBP];
    u64 value = interp_pop_at(cpu, &rsp, insn->operand_bytes);
    interp_set_rsp(cpu, rsp);
    gpr_set(cpu, X86_RBP, insn->operand_bytes, value);
}
