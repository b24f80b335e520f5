/*
 * dbt/interp/run.c - the run loop: blocks one after the other, and between them what comes from
 * outside.
 *
 * Spec   Intel SDM vol. 3A 6.6 to 6.9 (order of events between instructions), 8.1.3.
 * Runs   on the vCPU's thread.
 *
 * Two words decide whether anything but the next block is to be done: cpu->attention, which other
 * threads set, and cpu->special, which follows from the vCPU's own state. While special asks for
 * it, each instruction is a block of its own, and what must be checked before and after it is.
 */
#include "dbt/interp.h"
#include "dbt/interp/run_priv.h"
#include "dbt/interp/sys_priv.h"
#include "dbt/jit.h"
#include "dbt/simd.h"

void run_mode_follow(struct cpu *cpu)
{
    bool align = (cpu->cr0 & X86_CR0_AM) && (cpu->rflags & X86_AC) && cpu->cpl == 3;
    cpu->align_check = align;
    cpu->tlb_data = cpu->debug_active || align ? cpu->tlb.none : cpu->tlb.entries[cpu->privilege];
    cpu->code_base = cpu->code_bytes == 8 ? 0 : cpu->seg[X86_CS].base;
    cpu->block_mode = (u8)(cpu->code_bytes | (cpu->cpl == 3 ? BLOCK_USER : 0));
    if (cpu->code_bytes == 4 && cpu->flat && cpu->stack_bytes == 4)
        cpu->block_mode |= BLOCK_FLAT;
    run_special_follow(cpu);
}

void run_special_follow(struct cpu *cpu)
{
    u32 special = cpu->special & SPECIAL_REPLAY;
    if ((cpu->rflags & (X86_TF | X86_RF)) || cpu->interrupt_shadow || cpu->debug_active)
        special |= SPECIAL_STEP;
    if (cpu->irq_wanted && (cpu->rflags & X86_IF))
        special |= SPECIAL_IRQ;
    if (cpu->debug_pending || cpu->event.pending || cpu->activity != X86_ACTIVE ||
        (cpu->nmi_pending && !cpu->nmi_blocked))
        special |= SPECIAL_EVENT;
    cpu->special = special;
}

void cpu_watch(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access)
{
    /* Only values are checked, not blocks: the tenbyte of the x87 like eight bytes. Vectors have
     * rules of their own (dbt/simd). */
    size_t align = bytes == 10 ? 8 : bytes;
    bool value = align <= 8 && (align & (align - 1)) == 0;
    if (cpu->align_check && value && (gva & (align - 1)))
        cpu_raise_error(cpu, X86_AC_FAULT, 0);
    if (cpu->watch)
        cpu->watch(cpu, gva, bytes, access);
    if (cpu->debug_active)
        sys_debug_data(cpu, gva, (unsigned)bytes, access == ACCESS_WRITE);
}

static void leave_with(struct cpu *cpu, enum vm_exit_kind kind)
{
    cpu->exit = (struct vm_exit){.kind = kind};
}

static void deliver(struct cpu *cpu, const struct x86_event *event)
{
    cpu->next_rip = cpu->rip;
    cpu->interrupt_shadow = false;
    cpu->activity = X86_ACTIVE;
    cpu_deliver(cpu, event, false);
    cpu->rip = cpu->next_rip;
}

/* Takes what other threads asked for, of WHAT; returns which it was. */
static u32 attend(struct cpu *cpu, u32 what)
{
    u32 asked = __atomic_fetch_and(&cpu->attention, ~what, __ATOMIC_SEQ_CST) & what;
    if (asked & ATTENTION_PAUSE) {
        if (cpu->vector_live)
            simd_save(cpu);
        cpu_group_exit(cpu);
        cpu_group_enter(cpu);
    }
    if (asked & ATTENTION_FLUSH) {
        mmu_flush_all(cpu);
        block_cache_flush(cpu);
    }
    if (asked & ATTENTION_TLB)
        mmu_flush_all(cpu);
    if (asked & ATTENTION_NMI) {
        bool again = cpu->nmi_pending || (asked & ATTENTION_NMI_AGAIN);
        cpu->nmi_again = again && !cpu->nmi_blocked;
        cpu->nmi_pending = true;
    }
    if (asked)
        cpu->irq_wanted = cpu->irq.pending != NULL;
    return asked;
}

/* Delivers an interrupt if one is there and can be taken. */
static bool take_interrupt(struct cpu *cpu)
{
    if (!cpu->irq_wanted || cpu->interrupt_shadow)
        return false;
    if (!(cpu->rflags & X86_IF))
        return false;
    cpu->irq_wanted = false;
    if (cpu->vector_live) /* the machine's code may use vector registers */
        simd_save(cpu);
    if (!cpu->irq.pending(cpu->irq.ctx))
        return false;
    int vector = cpu->irq.ack(cpu->irq.ctx);
    if (vector < 0)
        return false;
    cpu->irq_wanted = true; /* there may be another one behind it */
    struct x86_event event = {.pending = true, .vector = (u8)vector, .kind = X86_EVENT_INTERRUPT};
    deliver(cpu, &event);
    return true;
}

/* One event before the next instruction, in the order of the SDM's table 6-2. */
static bool take_event(struct cpu *cpu)
{
    struct x86_event event;
    if (cpu->event.pending) { /* from a snapshot: its delivery had begun */
        event = cpu->event;
        deliver(cpu, &event);
        return true;
    }
    if (cpu->debug_pending && sys_debug_trap(cpu, false, &event)) {
        deliver(cpu, &event);
        return true;
    }
    if (cpu->nmi_pending && !cpu->nmi_blocked && !cpu->interrupt_shadow) {
        event = (struct x86_event){.pending = true, .vector = X86_NMI, .kind = X86_EVENT_NMI};
        deliver(cpu, &event);
        return true;
    }
    return take_interrupt(cpu);
}

/* Runs one instruction, with what comes right before and after it. */
static void step(struct cpu *cpu)
{
    bool trace = (cpu->rflags & X86_TF) != 0;
    gva_t linear = cpu->rip + cpu->code_base;
    if (cpu->code_bytes != 8)
        linear = (u32)linear;
    if (cpu->debug_active)
        sys_debug_execution(cpu, linear);
    cpu->shadow_now = cpu->interrupt_shadow;
    cpu->interrupt_shadow = false;
    const struct block *block = block_get(cpu, linear, cpu->block_mode | BLOCK_SINGLE);
    if (cpu->code_bytes != 8 && cpu->rip + block->bytes - 1 > cpu->seg[X86_CS].limit)
        cpu_raise_error(cpu, X86_GP, 0);
    /* RF serves this one instruction, which (IRET, a task switch) may set it anew. */
    cpu->resume_now = (cpu->rflags & X86_RF) != 0;
    cpu->rflags &= ~(u64)X86_RF;
    cpu->leave_block = false;
    cpu->step_skip = false;
    cpu->gpr[OP_RIP] = cpu->rip;
    flags_from_rflags(cpu);
    block->ops[0].run(cpu, block->ops);
    flags_to_rflags(cpu);
    cpu->shadow_now = false;
    cpu->replay.done = cpu->replay.next = 0;
    cpu->special &= ~(u32)SPECIAL_REPLAY;
    cpu->resume_now = false;
    struct x86_event event;
    if ((trace || cpu->debug_pending) && sys_debug_trap(cpu, trace, &event))
        deliver(cpu, &event);
    run_special_follow(cpu);
}

const struct insn_desc *interp_next(struct cpu *cpu)
{
    return &insn_descs[block_find(cpu, cpu->rip, cpu->block_mode | BLOCK_SINGLE)->form];
}

bool interp_single(struct cpu *cpu, u64 *counts)
{
    const struct block *block = block_find(cpu, cpu->rip, cpu->block_mode | BLOCK_SINGLE);
    u64 next_rip = cpu->rip + block->bytes;
    counts[block->form]++;
    cpu->leave_block = false;
    cpu->gpr[OP_RIP] = cpu->rip;
    flags_from_rflags(cpu);
    block->ops[0].run(cpu, block->ops);
    flags_to_rflags(cpu);
    cpu->replay.done = cpu->replay.next = 0;
    return cpu->rip == next_rip && cpu->special == 0;
}

/* Whatever special or attention ask for; false when the run ends. An instruction that got the
 * machine's answer is finished first: its device accesses are not to be made twice. */
static bool look_closer(struct cpu *cpu)
{
    if (cpu->special & SPECIAL_REPLAY) {
        attend(cpu, ATTENTION_PAUSE | ATTENTION_FLUSH);
        step(cpu);
        return true;
    }
    if (attend(cpu, ~0u) & ATTENTION_EXIT) {
        leave_with(cpu, EXIT_KICKED);
        return false;
    }
    bool awake = cpu->activity == X86_ACTIVE || cpu->activity == X86_HALTED;
    if (awake && take_event(cpu)) {
        run_special_follow(cpu);
        return true;
    }
    if (cpu->activity != X86_ACTIVE) {
        leave_with(cpu, cpu->activity == X86_SHUTDOWN ? EXIT_SHUTDOWN : EXIT_HLT);
        return false;
    }
    run_special_follow(cpu);
    if (cpu->special & SPECIAL_STEP)
        step(cpu);
    return true;
}

void run_blocks(struct cpu *cpu)
{
    for (;;) {
        if (unlikely(__atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) | cpu->special)) {
            flags_to_rflags(cpu);
            if (!look_closer(cpu))
                return;
            if (cpu->special)
                continue;
        }
        if (cpu->jit && jit_usable(cpu)) {
            flags_to_rflags(cpu);
            if (!jit_run(cpu))
                continue;
        }
        if (cpu->overflow == OVERFLOW_IN_RFLAGS)
            flags_from_rflags(cpu);
        gva_t linear = cpu->rip;
        if (unlikely(cpu->code_bytes != 8))
            linear = (u32)(linear + cpu->code_base);
        const struct block *block = block_find(cpu, linear, cpu->block_mode);
        if (unlikely((cpu->block_mode & (BLOCK_CODE_BYTES | BLOCK_FLAT)) < 8 &&
                     cpu->rip + block->bytes - 1 > cpu->seg[X86_CS].limit)) {
            flags_to_rflags(cpu);
            step(cpu);
            continue;
        }
        cpu->leave_block = false;
        cpu->gpr[OP_RIP] = cpu->rip;
        cpu->counters.insns_started[block->form]++;
        block->ops[0].run(cpu, block->ops);
    }
}

/* ---- entry and the way back from faults
 * -------------------------------------------------------------- */

static void run_fault(struct cpu *cpu)
{
    cpu->next_rip = cpu->rip;
    cpu->counters.exceptions_by_vector[cpu->fault.vector % 32]++;
    cpu->shadow_now = false;
    cpu->resume_now = false;
    cpu->interrupt_shadow = false;
    cpu->replay.done = cpu->replay.next = 0;
    cpu->special &= ~(u32)SPECIAL_REPLAY;
    cpu_deliver_fault(cpu);
    cpu->rip = cpu->next_rip;
    run_special_follow(cpu);
}

/* Small on purpose: what it calls may come back through the buffer. True when WHAT came to its end.
 */
static __attribute__((noinline)) bool guarded(struct cpu *cpu, void (*what)(struct cpu *))
{
    if (__builtin_setjmp(cpu->jump) != 0)
        return false;
    what(cpu);
    return true;
}

static void replay_begin(struct cpu *cpu)
{
    struct cpu_replay *replay = &cpu->replay;
    replay->next = 0;
    if (!replay->waiting)
        return;
    replay->waiting = false;
    replay->value[replay->done++] = cpu->exit.value;
    replay->msr_fault = cpu->exit.msr_fault;
    cpu->special |= SPECIAL_REPLAY;
}

/* Runs FIRST, and again after each fault that was delivered, unless ONCE. */
static void run_with(struct cpu *cpu, void (*first)(struct cpu *), bool once)
{
    cpu_group_enter(cpu);
    cpu->overflow = OVERFLOW_IN_RFLAGS;
    cpu->gpr[OP_ZERO] = 0;
    cpu->irq_wanted = cpu->irq.pending != NULL;
    cpu->shadow_now = cpu->resume_now = false;
    cpu_mode_update(cpu);
    replay_begin(cpu);

    void (*what)(struct cpu *) = first;
    for (;;) {
        cpu->left = LEFT_NOT;
        if (guarded(cpu, what)) {
            if (what == first || once)
                break;
            what = first;
            continue;
        }
        flags_to_rflags(cpu);
        if (cpu->exclusive) {
            cpu->exclusive = false;
            cpu_group_resume(cpu);
        }
        if (cpu->left == LEFT_EXIT) {
            cpu->interrupt_shadow |= cpu->shadow_now;
            if (cpu->resume_now)
                cpu->rflags |= X86_RF;
            break;
        }
        what = run_fault;
    }
    flags_to_rflags(cpu);
    if (cpu->vector_live)
        simd_save(cpu);
    cpu->counters.exits++;
    cpu->counters.exits_by_kind[cpu->exit.kind]++;
    cpu_group_exit(cpu);
}

void cpu_run(struct cpu *cpu)
{
    run_with(cpu, run_blocks, false);
}

static void run_single(struct cpu *cpu)
{
    u32 asked = __atomic_fetch_and(&cpu->attention, ~(u32)ATTENTION_FLUSH, __ATOMIC_SEQ_CST);
    if (asked & ATTENTION_FLUSH) {
        mmu_flush_all(cpu);
        block_cache_flush(cpu);
    }
    leave_with(cpu, EXIT_KICKED);
    step(cpu);
}

void cpu_step(struct cpu *cpu)
{
    run_with(cpu, run_single, true);
}
