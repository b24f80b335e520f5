/*
 * dbt/simd/simd.c - runs one prepared instruction: may it run now, where is its memory, call, and
 * what came back.
 *
 * Spec   Intel SDM vol. 3A 2.5 (CR0.EM, CR0.TS, CR4.OSFXSR), 6.15 (#MF, #XM), 13.1; vol. 1 8.7.
 * Runs   on the vCPU's thread; simd_trap in its signal handler.
 * Trust  a guest address becomes a host pointer only through mmu_host, for as many bytes as the
 *        instruction's memory operand has.
 */
#include "dbt/simd/simd_priv.h"

/* ---- may it run ---- */

struct gate {
    u32 cr0; /* these bits of CR0, with PE inverted, must be 0 */
    u32 cr4; /* these of CR4 1 */
    u32 xcr0;
};

static const struct gate gates[GATE_COUNT] = {
    [GATE_NEVER] = {.xcr0 = 1u << 31},
    [GATE_X87] = {.cr0 = X86_CR0_EM | X86_CR0_TS},
    [GATE_WAIT] = {.cr0 = X86_CR0_TS},
    [GATE_MMX] = {.cr0 = X86_CR0_EM | X86_CR0_TS},
    [GATE_SSE] = {.cr0 = X86_CR0_EM | X86_CR0_TS, .cr4 = X86_CR4_OSFXSR},
    [GATE_AVX] = {.cr0 = X86_CR0_PE | X86_CR0_TS, .cr4 = X86_CR4_OSXSAVE, .xcr0 = 6},
    [GATE_FXSAVE] = {.cr0 = X86_CR0_EM | X86_CR0_TS},
    [GATE_XSAVE] = {.cr0 = X86_CR0_TS, .cr4 = X86_CR4_OSXSAVE},
};

/* The gate is shut for some bit: says how, or returns where the bit does not matter. */
static __attribute__((noinline)) void gate_refuse(struct cpu *cpu, enum simd_gate gate)
{
    const struct gate *need = &gates[gate];

    if (gate == GATE_WAIT && (cpu->cr0 & X86_CR0_MP) == 0)
        return;
    if ((~cpu->cr4 & need->cr4) != 0 || (~cpu->xcr0 & need->xcr0) != 0)
        cpu_raise(cpu, X86_UD);
    if (gate == GATE_AVX && (cpu->cr0 & X86_CR0_PE) == 0)
        cpu_raise(cpu, X86_UD);
    if ((gate == GATE_MMX || gate == GATE_SSE) && (cpu->cr0 & X86_CR0_EM) != 0)
        cpu_raise(cpu, X86_UD);
    cpu_raise(cpu, X86_NM);
}

static inline void gate_check(struct cpu *cpu, enum simd_gate gate)
{
    const struct gate *need = &gates[gate];

    if (unlikely((((u32)cpu->cr0 ^ X86_CR0_PE) & need->cr0) | (~(u32)cpu->cr4 & need->cr4) |
                 (~(u32)cpu->xcr0 & need->xcr0)))
        gate_refuse(cpu, gate);
    if (gate == GATE_AVX && unlikely((cpu->rflags & X86_VM) != 0))
        cpu_raise(cpu, X86_UD);
}

/* ---- traps in thunks ---- */

bool simd_trap(const struct cpu *cpu, unsigned trap, u64 *pc, u64 *sp, u64 *result)
{
    if (cpu == NULL || cpu->simd == NULL || cpu->simd->code.execute == NULL)
        return false;
    if (*pc - (u64)(uintptr_t)cpu->simd->code.execute >= CODE_BYTES)
        return false;
    if (trap != X86_UD && trap != X86_GP && trap != X86_MF && trap != X86_XM)
        return false;
    /* Return from the thunk in its place: nothing is on the stack but the return address. */
    *pc = *(const u64 *)(uintptr_t)*sp;
    *sp += 8;
    *result = trap;
    return true;
}

/* With CR0.NE clear, an unmasked x87 exception goes to FERR# and, on a PC, comes back as IRQ 13.
 * That line is not wired: the instruction runs as if IGNNE# were asserted, with all exceptions
 * masked. */
static u64 call_ignoring_mf(struct cpu *cpu, const struct insn *insn, simd_thunk *code,
                            void *memory)
{
    struct {
        u16 fcw;
        u8 rest[26];
    } environment;
    bool loads_control = insn->op == OP_FLDCW || insn->op == OP_FLDENV || insn->op == OP_FRSTOR;

    __asm__ volatile("fnstenv %0" : "=m"(environment));
    u64 trap = code(cpu, memory);
    if (!loads_control)
        __asm__ volatile("fldcw %0" : : "m"(environment.fcw));
    return trap;
}

static NO_RETURN void trap_raise(struct cpu *cpu, u64 trap)
{
    switch (trap) {
    case X86_XM:
        cpu_raise(cpu, (cpu->cr4 & X86_CR4_OSXMMEXCPT) != 0 ? X86_XM : X86_UD);
    case X86_GP:
        cpu_raise_error(cpu, X86_GP, 0);
    default:
        cpu_raise(cpu, (unsigned)trap);
    }
}

static __attribute__((noinline)) void call_trapped(struct cpu *cpu, const struct insn *insn,
                                                   simd_thunk *code, void *memory, u64 trap)
{
    if (trap == X86_MF && (cpu->cr0 & X86_CR0_NE) == 0)
        trap = call_ignoring_mf(cpu, insn, code, memory);
    if (trap != 0)
        trap_raise(cpu, trap);
}

bool simd_wait(struct cpu *cpu)
{
    enum { FSW_ES = 0x80 };
    u16 status;

    __asm__ volatile("fnstsw %0" : "=a"(status));
    if (likely((status & FSW_ES) == 0))
        return true;
    /* A store that is being finished may itself have made the exception pending. */
    if ((cpu->cr0 & X86_CR0_NE) != 0 && !simd_store_resumed(cpu))
        cpu_raise(cpu, X86_MF);
    return false;
}

void simd_track(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    struct simd_pointers *last = &cpu->simd->last;

    last->fop = plan->fop;
    last->fip = cpu->rip;
    last->fcs = cpu->seg[X86_CS].selector;
    if (insn->has_memory) {
        last->fdp = insn_offset(cpu, insn);
        last->fds = cpu->seg[insn->segment].selector;
    }
}

void simd_call(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan, void *memory)
{
    simd_thunk *code = simd_code(cpu->simd, plan->code);
    u64 trap = code(cpu, memory);

    if (unlikely(trap != 0))
        call_trapped(cpu, insn, code, memory, trap);
    if (plan->tracks)
        simd_track(cpu, insn, plan);
}

/* ---- memory without a thunk ---- */

/* What a device is asked at once: a power of two, up to eight. Other sizes go through the byte-wise
 * calls, which serve page crossings too. */
static unsigned access_bytes(gva_t gva, size_t bytes)
{
    if (bytes == 1 || bytes == 2 || bytes == 4)
        return (unsigned)bytes;
    return bytes % 8 == 0 && (gva % 8 == 0 || bytes == 8) ? 8 : 0;
}

/* Linear addresses wrap at 4 GiB outside long mode. */
static gva_t gva_after(const struct cpu *cpu, gva_t gva, size_t bytes)
{
    return cpu_long_mode(cpu) ? gva + bytes : (u32)(gva + bytes);
}

void simd_memory_read(struct cpu *cpu, gva_t gva, void *to, size_t bytes)
{
    const u8 *host = mmu_host(cpu, gva, bytes, ACCESS_READ);
    unsigned step = access_bytes(gva, bytes);

    if (host != NULL) {
        simd_copy(to, host, bytes);
    } else if (step == 0) {
        mmu_read_bytes(cpu, gva, to, bytes);
    } else {
        for (size_t i = 0; i < bytes; i += step) {
            u64 value = mmu_read(cpu, gva_after(cpu, gva, i), step);
            simd_copy((u8 *)to + i, &value, step);
        }
    }
}

void simd_memory_write(struct cpu *cpu, gva_t gva, const void *from, size_t bytes)
{
    u8 *host = mmu_host(cpu, gva, bytes, ACCESS_WRITE);
    unsigned step = access_bytes(gva, bytes);

    if (host != NULL) {
        simd_copy(host, from, bytes);
    } else if (step == 0) {
        mmu_write_bytes(cpu, gva, from, bytes);
    } else {
        for (size_t i = 0; i < bytes; i += step) {
            u64 value = 0;
            simd_copy(&value, (const u8 *)from + i, step);
            mmu_write(cpu, gva_after(cpu, gva, i), step, value);
        }
    }
}

void simd_stack_align_check(struct cpu *cpu, const struct insn *insn, u64 mask)
{
    u64 base = cpu->code_bytes == 8 ? 0 : cpu->seg[X86_SS].base;

    if (((base + insn_offset(cpu, insn)) & mask) != 0)
        cpu_raise_error(cpu, X86_GP, 0);
}

void simd_image_probe(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access)
{
    enum cpu_privilege privilege = (enum cpu_privilege)cpu->privilege;

    mmu_probe(cpu, gva_after(cpu, gva, bytes - 1), 1, access, privilege);
    mmu_probe(cpu, gva, bytes, access, privilege);
}

/* ---- stores through the bounce buffer ----
 *
 * A store to a device leaves to the machine in the middle and the instruction starts over when the
 * answer is there. Most vector stores may compute again; FSTP, which pops, may not. So the result
 * stays in the bounce buffer, and the second pass only writes it. */

bool simd_store_resumed(struct cpu *cpu)
{
    struct simd *simd = cpu->simd;
    return simd->store.valid && simd->store.rip == cpu->rip && cpu->replay.done != 0;
}

void simd_store_begun(struct cpu *cpu)
{
    cpu->simd->store.valid = true;
    cpu->simd->store.rip = cpu->rip;
}

void simd_store_finish(struct cpu *cpu, gva_t gva, size_t bytes)
{
    simd_memory_write(cpu, gva, cpu->simd->bounce, bytes);
    cpu->simd->store.valid = false;
}

/* Runs an x87 store into the bounce buffer. False when the host has not stored, for an unmasked
 * exception before the result (any but precision): then the guest's memory does not change either.
 */
static bool x87_store(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    enum { FSW_PRECISE = 0x1f, FSW_ES = 0x80 };
    u16 before, after, control;

    __asm__ volatile("fnstsw %0" : "=m"(before));
    simd_call(cpu, insn, plan, cpu->simd->bounce);
    __asm__ volatile("fnstsw %0; fnstcw %1" : "=m"(after), "=m"(control));
    /* What was pending before has been ignored (call_ignoring_mf), with all exceptions masked. */
    return (before & FSW_ES) != 0 || (after & ~control & FSW_PRECISE) == 0;
}

/* The operand is not in one page of RAM. */
static __attribute__((noinline)) void run_bounced(struct cpu *cpu, const struct insn *insn,
                                                  const struct simd_plan *plan, gva_t gva)
{
    struct simd *simd = cpu->simd;

    if (!plan->writes) {
        /* As far from alignment as the operand itself, for hosts that look at it (SHA). */
        u8 *bounce = simd->bounce + (gva & 31);
        simd_memory_read(cpu, gva, bounce, plan->bytes);
        simd_call(cpu, insn, plan, bounce);
        return;
    }
    mmu_probe(cpu, gva, plan->bytes, ACCESS_WRITE, (enum cpu_privilege)cpu->privilege);
    if (!simd_store_resumed(cpu)) {
        if (plan->tracks) {
            if (!x87_store(cpu, insn, plan))
                return;
        } else {
            simd_call(cpu, insn, plan, simd->bounce);
        }
        simd_store_begun(cpu);
    }
    simd_store_finish(cpu, gva, plan->bytes);
}

/* ---- the doors ---- */

static void run_thunk(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    if (plan->bytes == 0) {
        simd_call(cpu, insn, plan, NULL);
        return;
    }
    if (plan->waits)
        simd_wait(cpu);
    enum cpu_access access = plan->writes ? ACCESS_WRITE : ACCESS_READ;
    if (unlikely(insn->segment == X86_SS) && plan->align_mask != 0)
        simd_stack_align_check(cpu, insn, plan->align_mask);
    gva_t gva = insn_linear(cpu, insn, plan->bytes, access);
    if (unlikely((gva & plan->align_mask) != 0))
        cpu_raise_error(cpu, X86_GP, 0);
    simd_align_check(cpu, gva, plan->check_mask);
    u8 *host = mmu_host(cpu, gva, plan->bytes, access);
    if (likely(host != NULL))
        simd_call(cpu, insn, plan, host);
    else
        run_bounced(cpu, insn, plan, gva);
}

static void run_init(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    simd_call(cpu, insn, plan, NULL);
    cpu->simd->last = (struct simd_pointers){0};
}

static void run_ldmxcsr(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u32 mxcsr = (u32)mmu_read(cpu, insn_linear(cpu, insn, 4, ACCESS_READ), 4);

    if ((mxcsr & ~(u32)MXCSR_VALID) != 0)
        cpu_raise_error(cpu, X86_GP, 0);
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

static simd_runner_fn *const runners[RUN_COUNT] = {
    [RUN_THUNK] = run_thunk,
    [RUN_INIT] = run_init,
    [RUN_LDMXCSR] = run_ldmxcsr,
    [RUN_MASKMOV] = simd_run_maskmov,
    [RUN_VMASKMOV] = simd_run_vmaskmov,
    [RUN_GATHER] = simd_run_gather,
    [RUN_FLDENV] = simd_run_fldenv,
    [RUN_FSTENV] = simd_run_fstenv,
    [RUN_FRSTOR] = simd_run_frstor,
    [RUN_FSAVE] = simd_run_fsave,
    [RUN_FXSAVE] = simd_run_fxsave,
    [RUN_FXRSTOR] = simd_run_fxrstor,
    [RUN_XSAVE] = simd_run_xsave,
    [RUN_XRSTOR] = simd_run_xrstor,
};

void simd_run(struct cpu *cpu, const struct insn *insn, u64 *prepared)
{
    struct simd *simd = cpu->simd;

    if (unlikely(*prepared >> 32 != simd->generation))
        *prepared = simd_prepare(cpu, insn);
    /* A copy: a flush while the instruction runs cannot happen, but the compiler may keep it. */
    const struct simd_plan *plan = &simd->plans[(u32)*prepared];
    gate_check(cpu, (enum simd_gate)plan->gate);
    if (unlikely(!cpu->vector_live))
        simd_load(cpu);
    if (likely(plan->runner == RUN_THUNK))
        run_thunk(cpu, insn, plan);
    else
        runners[plan->runner](cpu, insn, plan);
}

void simd_execute(struct cpu *cpu, const struct insn *insn)
{
    u64 prepared = 0;
    simd_run(cpu, insn, &prepared);
}
