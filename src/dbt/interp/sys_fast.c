/*
 * dbt/interp/sys_fast.c - SYSCALL, SYSRET, SYSENTER and SYSEXIT, as the guest's vendor defines
 * them.
 *
 * Spec   Intel SDM vol. 2B SYSCALL, SYSENTER, SYSEXIT, SYSRET; AMD64 APM vol. 3, same names.
 * Runs   on the vCPU's thread, inside an instruction.
 *
 * Where the vendors differ: Intel has SYSCALL and SYSRET in 64-bit code only; AMD has them in
 * compatibility and legacy mode too, but no SYSENTER and SYSEXIT in long mode. SYSRET to a
 * non-canonical address faults at level 0 on Intel, at level 3 on AMD.
 */
#include "dbt/interp/sys_priv.h"

enum {
    SYSRET_FLAGS = 0x3c7fd7, /* all defined ones but RF and VM */
    FAST_RPL_USER = 3
};

/* Flat segments, without a look at the descriptor tables. */
static void fast_set_segments(struct cpu *cpu, u16 code, u16 stack, unsigned cpl, bool code64)
{
    struct x86_seg *cs = &cpu->seg[X86_CS];
    struct x86_seg *ss = &cpu->seg[X86_SS];
    u16 dpl = (u16)(cpl << X86_SEG_DPL_SHIFT);

    cs->selector = (u16)((code & ~SEG_SELECTOR_RPL) | cpl);
    cs->base = 0;
    cs->limit = 0xffffffff;
    cs->attr = (u16)((code64 ? SEG_ATTR_CODE64 : SEG_ATTR_CODE32) | dpl);
    ss->selector = (u16)((stack & ~SEG_SELECTOR_RPL) | cpl);
    ss->base = 0;
    ss->limit = 0xffffffff;
    ss->attr = (u16)(SEG_ATTR_DATA32 | dpl);
}

static void fast_require_syscall(struct cpu *cpu)
{
    if ((cpu->msr.efer & X86_EFER_SCE) == 0 || !seg_protected(cpu))
        cpu_raise(cpu, X86_UD);
    if (cpu->code_bytes != 8 && sys_vendor(cpu) == SYS_VENDOR_INTEL)
        cpu_raise(cpu, X86_UD);
}

void sys_syscall(struct cpu *cpu)
{
    u16 code = (u16)bits_get(cpu->msr.star, 32, 16);
    u64 rflags = cpu->rflags & ~(u64)X86_RF;
    u64 target;

    fast_require_syscall(cpu);
    if (seg_long_mode(cpu)) {
        target = cpu->code_bytes == 8 ? cpu->msr.lstar : cpu->msr.cstar;
        cpu->gpr[X86_RCX] = cpu->next_rip;
        cpu->gpr[X86_R11] = rflags;
        cpu->rflags = (rflags & ~cpu->msr.sfmask) | X86_FLAG_FIXED;
    } else {
        target = (u32)cpu->msr.star;
        cpu->gpr[X86_RCX] = (u32)cpu->next_rip;
        cpu->rflags = rflags & ~(u64)(X86_IF | X86_VM);
    }
    fast_set_segments(cpu, code, (u16)(code + 8), 0, seg_long_mode(cpu));
    sys_set_rip(cpu, target);
    /* TF counts as it is at the end of SYSCALL and SYSRET, not at their start. */
    cpu->step_skip = (cpu->rflags & X86_TF) == 0 && (rflags & X86_TF) != 0;
    cpu_mode_update(cpu);
}

void sys_sysret(struct cpu *cpu, unsigned operand_bytes)
{
    u16 code = (u16)bits_get(cpu->msr.star, 48, 16);
    u64 rip = cpu->gpr[X86_RCX];

    fast_require_syscall(cpu);
    sys_require_cpl0(cpu);
    if (operand_bytes == 8 && sys_vendor(cpu) == SYS_VENDOR_INTEL && !seg_canonical(rip))
        cpu_raise_error(cpu, X86_GP, 0);

    if (seg_long_mode(cpu))
        cpu->rflags = (cpu->gpr[X86_R11] & SYSRET_FLAGS) | X86_FLAG_FIXED;
    else
        cpu->rflags |= X86_IF;
    if (operand_bytes == 8) {
        fast_set_segments(cpu, (u16)(code + 16), (u16)(code + 8), FAST_RPL_USER, true);
    } else {
        rip = (u32)rip;
        fast_set_segments(cpu, code, (u16)(code + 8), FAST_RPL_USER, false);
    }
    sys_set_rip(cpu, rip);
    if ((cpu->rflags & X86_TF) != 0)
        cpu->debug_pending |= DR6_BS;
    cpu_mode_update(cpu);
}

static void fast_require_sysenter(struct cpu *cpu)
{
    if (seg_long_mode(cpu) && sys_vendor(cpu) == SYS_VENDOR_AMD)
        cpu_raise(cpu, X86_UD);
    if ((cpu->cr0 & X86_CR0_PE) == 0 || seg_selector_null((u16)cpu->msr.sysenter_cs))
        cpu_raise_error(cpu, X86_GP, 0);
}

void sys_sysenter(struct cpu *cpu)
{
    u16 code = (u16)cpu->msr.sysenter_cs;
    bool long_mode = seg_long_mode(cpu);

    fast_require_sysenter(cpu);
    cpu->rflags &= ~(u64)(X86_VM | X86_IF | X86_RF);
    fast_set_segments(cpu, code, (u16)((code & ~SEG_SELECTOR_RPL) + 8), 0, long_mode);
    cpu->gpr[X86_RSP] = long_mode ? cpu->msr.sysenter_esp : (u32)cpu->msr.sysenter_esp;
    sys_set_rip(cpu, long_mode ? cpu->msr.sysenter_eip : (u32)cpu->msr.sysenter_eip);
    cpu_mode_update(cpu);
}

void sys_sysexit(struct cpu *cpu, unsigned operand_bytes)
{
    u16 code = (u16)(cpu->msr.sysenter_cs & ~(u64)SEG_SELECTOR_RPL);
    u64 rip = cpu->gpr[X86_RDX];
    u64 rsp = cpu->gpr[X86_RCX];

    sys_require_cpl0(cpu); /* first: AMD's processors, too, answer #GP at level 3 */
    fast_require_sysenter(cpu);
    if (operand_bytes == 8) {
        if (!seg_canonical(rip) || !seg_canonical(rsp))
            cpu_raise_error(cpu, X86_GP, 0);
        fast_set_segments(cpu, (u16)(code + 32), (u16)(code + 40), FAST_RPL_USER, true);
    } else {
        rip = (u32)rip;
        rsp = (u32)rsp;
        fast_set_segments(cpu, (u16)(code + 16), (u16)(code + 24), FAST_RPL_USER, false);
    }
    cpu->gpr[X86_RSP] = rsp;
    sys_set_rip(cpu, rip);
    cpu_mode_update(cpu);
}
