/*
 * dbt/interp/op_plain.c - ops that run through handlers, ops that end blocks, and fast ops' slow
 * ways.
 *
 * Runs   on the vCPU's thread, inside a block.
 */
#include "dbt/interp/run_priv.h"
#include "dbt/simd.h"

/* Prepares what a handler expects: true RIPs and flags. */
static inline void plain_begin(struct cpu *cpu, const struct op *op)
{
    u64 rip = cpu->gpr[OP_RIP];
    cpu->rip = rip + op->start;
    cpu->next_rip = rip + op->next;
    if (cpu->code_bytes != 8)
        cpu->next_rip = (u32)cpu->next_rip;
    flags_to_rflags(cpu);
}

/* Checks that the decoder leaves to the engine. */
static void check_allowed(struct cpu *cpu, const struct insn *insn)
{
    u32 attr = insn->desc->attr;
    if ((attr & ATTR_PROTECTED) && !cpu_protected(cpu))
        cpu_raise(cpu, X86_UD);
    if ((attr & ATTR_PRIVILEGED) && cpu->cpl != 0)
        cpu_raise_error(cpu, X86_GP, 0);
}

void op_plain(struct cpu *cpu, const struct op *op)
{
    plain_begin(cpu, op);
    u64 expected = cpu->next_rip;
    op->full->handler(cpu, &op->full->insn);
    flags_from_rflags(cpu);
    if (unlikely(cpu->next_rip != expected || cpu->leave_block)) {
        cpu->rip = cpu->next_rip;
        cpu->counters.instructions += op->count;
        return;
    }
    OP_NEXT;
}

void op_system(struct cpu *cpu, const struct op *op)
{
    plain_begin(cpu, op);
    check_allowed(cpu, &op->full->insn);
    op->full->handler(cpu, &op->full->insn);
    cpu->rip = cpu->next_rip;
    cpu->counters.instructions += op->count;
    /* A lower task priority may let an interrupt through that was not deliverable before. */
    if (op->full->insn.op == OP_MOV_TO_CR && op->full->insn.reg == 8)
        cpu->irq_wanted = cpu->irq.pending != NULL;
    run_special_follow(cpu);
    flags_from_rflags(cpu);
}

void op_simd(struct cpu *cpu, const struct op *op)
{
    plain_begin(cpu, op);
    check_allowed(cpu, &op->full->insn);
    simd_run(cpu, &op->full->insn, &op->full->prepared);
    flags_from_rflags(cpu);
    if (unlikely(cpu->leave_block)) {
        op_leave(cpu, op);
        return;
    }
    OP_NEXT;
}

void op_end(struct cpu *cpu, const struct op *op)
{
    op_leave(cpu, op);
    if (cpu->code_bytes != 8)
        cpu->rip = (u32)cpu->rip;
}

void op_no_instruction(struct cpu *cpu, const struct op *op)
{
    op_at(cpu, op);
    cpu_raise(cpu, X86_UD);
}

void op_unknown(struct cpu *cpu, const struct op *op)
{
    op_at(cpu, op);
    cpu_fail(cpu, "the guest executed an instruction that the interpreter does not know");
}

void op_check_second_page(struct cpu *cpu, const struct op *op)
{
    struct block *block = (struct block *)(uintptr_t)op->imm;
    bool holds = __atomic_load_n(block->generation2, __ATOMIC_RELAXED) == block->generation_seen2;
    if (unlikely(!holds && !block->fresh)) {
        block->generation_seen = *block->generation - 1; /* so that block_get makes it anew */
        cpu->rip = cpu->gpr[OP_RIP];
        return;
    }
    block->fresh = false;
    OP_NEXT;
}

/* ---- slow ways of fast ops
 * ------------------------------------------------------------------------------ */

gva_t op_linear_slow(struct cpu *cpu, const struct op *op, u64 offset, unsigned bytes,
                     enum cpu_access access)
{
    if (op->address == OP_ADDRESS_32)
        return (u32)offset;
    if (op->address == OP_ADDRESS_BASE)
        return offset + cpu->seg[op->segment].base;
    op_at(cpu, op);
    offset &= bytes_mask(op->full->insn.address_bytes);
    return seg_linear(cpu, op->segment, offset, bytes, access);
}

/* The checks that a hit in the TLB makes needless: canonical addresses, and in flat 32-bit code the
 * end of the segments at 4 GiB. */
static void check_linear(struct cpu *cpu, const struct op *op, gva_t gva, unsigned bytes)
{
    gva_t last = gva + bytes - 1;
    if (cpu->code_bytes == 8 ? address_is_canonical(gva) && address_is_canonical(last)
                             : op->address == OP_ADDRESS_CHECKED || last <= 0xffffffff)
        return;
    cpu_raise_error(cpu, op->segment == X86_SS ? X86_SS_FAULT : X86_GP, 0);
}

u64 op_read_slow(struct cpu *cpu, const struct op *op, gva_t gva, unsigned bytes)
{
    op_at(cpu, op);
    check_linear(cpu, op, gva, bytes);
    return mmu_read(cpu, gva, bytes);
}

bool op_write_slow(struct cpu *cpu, const struct op *op, gva_t gva, unsigned bytes, u64 value)
{
    op_at(cpu, op);
    check_linear(cpu, op, gva, bytes);
    mmu_write(cpu, gva, bytes, value);
    return !cpu->leave_block;
}
