/*
 * dbt/interp/int_misc.c - handlers: ports, halting, time, random numbers, hints.
 *
 * Spec   Intel SDM vol. 1 19; vol. 2, the instructions' own pages.
 * Runs   on the vCPU's thread, inside an instruction.
 */
#include "base/clock.h"
#include "dbt/interp/int_priv.h"
#include "dbt/interp/sys_priv.h"

static u16 port_of(const struct cpu *cpu, const struct insn *insn, unsigned i)
{
    if (insn->desc->operand[i].kind == OPERAND_I)
        return insn->imm & 0xff;
    return (u16)cpu->gpr[X86_RDX];
}

void op_in(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    u16 port = port_of(cpu, insn, 1);
    sys_check_port(cpu, port, bytes);
    u64 value = cpu_device_access(cpu, EXIT_PORT_READ, port, bytes, 0);
    sys_debug_port(cpu, port, bytes);
    gpr_set(cpu, X86_RAX, bytes, value & bytes_mask(bytes));
}

void op_out(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 1);
    u16 port = port_of(cpu, insn, 0);
    sys_check_port(cpu, port, bytes);
    cpu_device_access(cpu, EXIT_PORT_WRITE, port, bytes, cpu->gpr[X86_RAX] & bytes_mask(bytes));
    sys_debug_port(cpu, port, bytes);
}

/* The run loop sees the activity and leaves with EXIT_HLT. */
void op_hlt(struct cpu *cpu, const struct insn *insn)
{
    cpu->activity = X86_HALTED;
    cpu->special |= SPECIAL_EVENT;
}

void op_nop(struct cpu *cpu, const struct insn *insn)
{
}

/*
 * Pauses that follow one another closely are a loop that waits for another vCPU: for a lock, or an
 * answer to an interrupt. Where the host has fewer processors free than the VM has vCPUs, that one
 * may not be running, and never will while this one spins on its processor. So long waits leave,
 * and the machine gives the processor away for a moment; then the instruction is executed again.
 */
enum { SPIN_GAP_TICKS = 8192, SPIN_TICKS_MAX = 1 << 16 };

void op_pause(struct cpu *cpu, const struct insn *insn)
{
    __builtin_ia32_pause();
    if (cpu->group->cpu_count < 2)
        return;
    u64 now_tsc = __builtin_ia32_rdtsc();
    u64 last_tsc = cpu->pause_tsc;
    cpu->pause_tsc = now_tsc;
    if (now_tsc - last_tsc > SPIN_GAP_TICKS) {
        cpu->spin_tsc = now_tsc;
        return;
    }
    if (now_tsc - cpu->spin_tsc < SPIN_TICKS_MAX)
        return;
    cpu->spin_tsc = now_tsc;
    cpu->exit = (struct vm_exit){.kind = EXIT_SPIN};
    cpu_exit(cpu);
}

static void tsc_read(struct cpu *cpu)
{
    if ((cpu->cr4 & X86_CR4_TSD) && cpu->cpl != 0 && (cpu->cr0 & X86_CR0_PE))
        cpu_raise_error(cpu, X86_GP, 0);
    u64 tsc = clock_tsc() + cpu->tsc_offset;
    cpu->gpr[X86_RAX] = (u32)tsc;
    cpu->gpr[X86_RDX] = tsc >> 32;
}

void op_rdtsc(struct cpu *cpu, const struct insn *insn)
{
    tsc_read(cpu);
}

void op_rdtscp(struct cpu *cpu, const struct insn *insn)
{
    tsc_read(cpu);
    cpu->gpr[X86_RCX] = (u32)cpu->msr.tsc_aux;
}

static void random_result(struct cpu *cpu, const struct insn *insn, bool good, u64 value)
{
    cpu->rflags = (cpu->rflags & ~(u64)X86_ARITH_FLAGS) | (good ? X86_CF : 0);
    int_write(cpu, insn, 0, good ? value : 0);
}

void op_rdrand(struct cpu *cpu, const struct insn *insn)
{
    u64 value;
    bool good;
    __asm__ volatile("rdrand %0" : "=r"(value), "=@ccc"(good));
    random_result(cpu, insn, good, value);
}

void op_rdseed(struct cpu *cpu, const struct insn *insn)
{
    u64 value;
    bool good;
    __asm__ volatile("rdseed %0" : "=r"(value), "=@ccc"(good));
    random_result(cpu, insn, good, value);
}

/* The host's own order of loads and stores is the guest's; a full fence is needed only here. */
void op_mfence(struct cpu *cpu, const struct insn *insn)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* CLFLUSH and its kin: caches are coherent, so only the address is checked, as for a load. */
void op_cache_line(struct cpu *cpu, const struct insn *insn)
{
    mmu_probe(cpu, insn_linear(cpu, insn, 1, ACCESS_READ), 1, ACCESS_READ, cpu->privilege);
}
