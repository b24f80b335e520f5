/*
 * dbt/interp/int_move.c - handlers: data movement, conditions, sign extension, single flags.
 *
 * Spec   Intel SDM vol. 2, the instructions' own pages.
 * Runs   on the vCPU's thread, inside an instruction.
 */
#include "dbt/interp/int_priv.h"

void op_mov(struct cpu *cpu, const struct insn *insn)
{
    int_write(cpu, insn, 0, int_read(cpu, insn, 1));
}

void op_movzx(struct cpu *cpu, const struct insn *insn)
{
    int_write(cpu, insn, 0, int_read(cpu, insn, 1));
}

void op_movsx(struct cpu *cpu, const struct insn *insn)
{
    int_write(cpu, insn, 0, sign_extend(int_read(cpu, insn, 1), insn_operand_bytes(insn, 1)));
}

void op_lea(struct cpu *cpu, const struct insn *insn)
{
    int_write(cpu, insn, 0, insn_offset(cpu, insn));
}

/* Memory is read whatever the condition; a 32-bit destination loses its upper half in any case. */
void op_cmovcc(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1);
    bool take = int_condition(cpu->rflags, insn_condition(insn));
    int_write(cpu, insn, 0, take ? source : int_read(cpu, insn, 0));
}

void op_setcc(struct cpu *cpu, const struct insn *insn)
{
    int_write(cpu, insn, 0, int_condition(cpu->rflags, insn_condition(insn)));
}

void op_cbw(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn->operand_bytes;
    u64 half = cpu->gpr[X86_RAX] & bytes_mask(bytes / 2);
    gpr_set(cpu, X86_RAX, bytes, sign_extend(half, bytes / 2));
}

void op_cwd(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn->operand_bytes;
    bool negative = cpu->gpr[X86_RAX] >> (bytes * 8 - 1) & 1;
    gpr_set(cpu, X86_RDX, bytes, negative ? ~0ull : 0);
}

void op_xlat(struct cpu *cpu, const struct insn *insn)
{
    u64 offset = cpu->gpr[X86_RBX] + (cpu->gpr[X86_RAX] & 0xff);
    offset &= bytes_mask(insn->address_bytes);
    gva_t gva = seg_linear(cpu, insn->segment, offset, 1, ACCESS_READ);
    gpr_set(cpu, X86_RAX, 1, mmu_read(cpu, gva, 1));
}

void op_lahf(struct cpu *cpu, const struct insn *insn)
{
    cpu->gpr[X86_RAX] = (cpu->gpr[X86_RAX] & ~0xff00ull) | (cpu->rflags & 0xd5) << 8 | 0x200;
}

void op_sahf(struct cpu *cpu, const struct insn *insn)
{
    cpu->rflags = (cpu->rflags & ~0xd5ull) | (cpu->gpr[X86_RAX] >> 8 & 0xd5);
}

void op_salc(struct cpu *cpu, const struct insn *insn)
{
    gpr_set(cpu, X86_RAX, 1, cpu->rflags & X86_CF ? 0xff : 0);
}

void op_clc(struct cpu *cpu, const struct insn *insn)
{
    cpu->rflags &= ~(u64)X86_CF;
}

void op_stc(struct cpu *cpu, const struct insn *insn)
{
    cpu->rflags |= X86_CF;
}

void op_cmc(struct cpu *cpu, const struct insn *insn)
{
    cpu->rflags ^= X86_CF;
}

void op_cld(struct cpu *cpu, const struct insn *insn)
{
    cpu->rflags &= ~(u64)X86_DF;
}

void op_std(struct cpu *cpu, const struct insn *insn)
{
    cpu->rflags |= X86_DF;
}
