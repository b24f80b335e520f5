/*
 * dbt/interp/sys_flags.c - who may see and change IF and IOPL, and who may use a port.
 *
 * Spec   Intel SDM vol. 2A CLI, vol. 2B POPF, PUSHF, STI; vol. 1 19.5 (I/O); vol. 3A 20.4 (PVI).
 * Runs   on the vCPU's thread, inside an instruction.
 * Trust  the I/O permission bitmap is the guest's; its offset is checked against the TSS limit.
 */
#include "dbt/interp/sys_priv.h"

static unsigned flags_iopl(const struct cpu *cpu)
{
    return (unsigned)bits_get(cpu->rflags, 12, 2);
}

/* Who acts on VIF instead of IF: virtual-8086 mode with VME, level 3 with PVI, without IOPL. */
static bool flags_virtual_interrupts(const struct cpu *cpu)
{
    if (seg_virtual_8086(cpu))
        return (cpu->cr4 & X86_CR4_VME) != 0;
    return cpu->cpl == 3 && (cpu->cr4 & X86_CR4_PVI) != 0;
}

void sys_cli(struct cpu *cpu)
{
    if (!(cpu->cr0 & X86_CR0_PE) || flags_iopl(cpu) >= cpu->cpl)
        cpu->rflags &= ~(u64)X86_IF;
    else if (flags_virtual_interrupts(cpu))
        cpu->rflags &= ~(u64)X86_VIF;
    else
        cpu_raise_error(cpu, X86_GP, 0);
    cpu_mode_update(cpu);
}

void sys_sti(struct cpu *cpu)
{
    if (!(cpu->cr0 & X86_CR0_PE) || flags_iopl(cpu) >= cpu->cpl) {
        if ((cpu->rflags & X86_IF) == 0)
            cpu->interrupt_shadow = true;
        cpu->rflags |= X86_IF;
    } else if (flags_virtual_interrupts(cpu) && (cpu->rflags & X86_VIP) == 0) {
        cpu->rflags |= X86_VIF;
    } else {
        cpu_raise_error(cpu, X86_GP, 0);
    }
    cpu_mode_update(cpu);
}

u64 sys_pushf(struct cpu *cpu, unsigned operand_bytes)
{
    u64 image = cpu->rflags & ~(u64)(X86_VM | X86_RF);

    if (seg_virtual_8086(cpu) && flags_iopl(cpu) != 3) {
        if (operand_bytes != 2 || (cpu->cr4 & X86_CR4_VME) == 0)
            cpu_raise_error(cpu, X86_GP, 0);
        image = (image & ~(u64)X86_IF) | X86_IOPL | ((image & X86_VIF) != 0 ? X86_IF : 0);
    }
    return image & bytes_mask(operand_bytes);
}

void sys_popf(struct cpu *cpu, unsigned operand_bytes, u64 value)
{
    u64 mask = X86_ARITH_FLAGS | X86_TF | X86_DF | X86_NT;

    if (operand_bytes != 2)
        mask |= X86_AC | X86_ID;
    if (seg_virtual_8086(cpu)) {
        if (flags_iopl(cpu) == 3) {
            mask |= X86_IF;
        } else {
            if (operand_bytes != 2 || (cpu->cr4 & X86_CR4_VME) == 0 || (value & X86_TF) != 0 ||
                ((value & X86_IF) != 0 && (cpu->rflags & X86_VIP) != 0))
                cpu_raise_error(cpu, X86_GP, 0);
            mask |= X86_VIF;
            value = (value & ~(u64)X86_VIF) | ((value & X86_IF) != 0 ? X86_VIF : 0);
        }
    } else {
        if (cpu->cpl <= flags_iopl(cpu))
            mask |= X86_IF;
        if (cpu->cpl == 0)
            mask |= X86_IOPL;
    }
    cpu->rflags = (cpu->rflags & ~(mask | X86_RF)) | (value & mask) | X86_FLAG_FIXED;
    cpu_mode_update(cpu);
}

void sys_check_port(struct cpu *cpu, u16 port, unsigned bytes)
{
    u32 map, bits, offset;

    if ((cpu->cr0 & X86_CR0_PE) == 0 || (!seg_virtual_8086(cpu) && cpu->cpl <= flags_iopl(cpu)))
        return;
    if ((cpu->tr.attr & X86_SEG_UNUSABLE) != 0 || (cpu->tr.attr & 8) == 0 || cpu->tr.limit < 103)
        cpu_raise_error(cpu, X86_GP, 0);
    map = (u32)mmu_read_system(cpu, cpu->tr.base + 102, 2);
    offset = map + port / 8;
    /* Two bytes are read always, as a group of ports may straddle them. */
    if (offset + 1 > cpu->tr.limit)
        cpu_raise_error(cpu, X86_GP, 0);
    bits = (u32)mmu_read_system(cpu, cpu->tr.base + offset, 2);
    if ((bits >> (port % 8) & ((1u << bytes) - 1)) != 0)
        cpu_raise_error(cpu, X86_GP, 0);
}
