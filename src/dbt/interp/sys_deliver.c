/*
 * dbt/interp/sys_deliver.c - takes the processor to the handler of an exception or interrupt.
 *
 * Spec   Intel SDM vol. 3A chapter 6, 20.1.4, 20.3 (virtual-8086 mode); vol. 2A INT n.
 * Runs   on the vCPU's thread, from the run loop or from INT n, INT3, INTO, INT1.
 * Trust  IDT, TSS, descriptors and stacks are the guest's.
 *
 * Pushes go to memory as they are made; registers change only in the commit at the end, so a fault
 * halfway leaves the interrupted context whole, and the event lost or combined with the fault.
 */
#include "dbt/interp/sys_priv.h"

struct delivery {
    u8 vector;
    bool has_error;
    bool software; /* INT n, INT3, INTO: the gate's DPL counts */
    bool external; /* EXT in error codes of faults met on the way */
    u32 error;
    u64 rip;   /* return address */
    u64 flags; /* image to push */
};

NO_RETURN static void deliver_raise(struct cpu *cpu, const struct delivery *d, u8 fault)
{
    cpu_raise_error(cpu, fault, (u32)d->vector * 8 + 2 + (d->external ? 1 : 0));
}

/* What every delivery ends with. The interrupt flag is cleared by all but trap gates. */
static void deliver_commit(struct cpu *cpu, u64 rip, u64 clear)
{
    cpu->rflags &= ~clear;
    cpu->interrupt_shadow = false;
    cpu->event.pending = false;
    cpu->activity = X86_ACTIVE;
    sys_set_rip(cpu, rip);
    cpu_mode_update(cpu);
}

/* ---- real mode, and INT n of virtual-8086 mode that the VME bitmap leaves to the 8086 program
 * ---- */

static void deliver_real(struct cpu *cpu, const struct delivery *d)
{
    struct sys_stack stack;
    u32 entry = (u32)d->vector * 4;
    u32 pointer;

    if (!seg_virtual_8086(cpu) && entry + 3 > cpu->idtr.limit)
        deliver_raise(cpu, d, X86_GP);
    pointer = seg_virtual_8086(cpu) ? (u32)mmu_read(cpu, entry, 4)
                                    : (u32)mmu_read_system(cpu, (u32)(cpu->idtr.base + entry), 4);

    sys_stack_current(cpu, &stack);
    sys_stack_push(cpu, &stack, 2, d->flags & 0xffff);
    sys_stack_push(cpu, &stack, 2, cpu->seg[X86_CS].selector);
    sys_stack_push(cpu, &stack, 2, d->rip & 0xffff);

    sys_stack_commit(cpu, &stack);
    seg_load(cpu, X86_CS, (u16)(pointer >> 16));
    deliver_commit(cpu, pointer & 0xffff,
                   seg_virtual_8086(cpu) ? X86_TF | X86_RF : X86_IF | X86_TF | X86_AC | X86_RF);
}

/* ---- protected mode
 * ------------------------------------------------------------------------------ */

/* The checks of the handler's code segment that all modes share; returns whether it is inner. */
static bool deliver_read_code(struct cpu *cpu, const struct delivery *d, u16 selector,
                              struct seg_desc *ret_code)
{
    u32 error = seg_error(selector, d->external);
    unsigned dpl;

    far_read_code(cpu, selector, d->external, ret_code);
    dpl = seg_attr_dpl(ret_code->attr);
    if (!seg_attr_code(ret_code->attr) || dpl > cpu->cpl)
        cpu_raise_error(cpu, X86_GP, error);
    if (seg_long_mode(cpu) && (ret_code->attr & (X86_SEG_LONG | X86_SEG_BIG)) != X86_SEG_LONG)
        cpu_raise_error(cpu, X86_GP, error);
    if ((ret_code->attr & X86_SEG_PRESENT) == 0)
        cpu_raise_error(cpu, X86_NP, error);
    return !seg_attr_conforming(ret_code->attr) && dpl < cpu->cpl;
}

static void deliver_task(struct cpu *cpu, const struct delivery *d, const struct seg_gate *gate)
{
    struct task_switch to = {
        .reason = TASK_CALL, .rip = d->rip, .flags = d->flags, .external = d->external};
    struct sys_stack stack;

    task_gate_tss(cpu, gate->selector, d->external, &to.tss);
    task_switch(cpu, &to);
    if (d->has_error) {
        sys_stack_current(cpu, &stack);
        stack.error = d->external ? 1 : 0;
        sys_stack_push(cpu, &stack, (cpu->tr.attr & 8) != 0 ? 4 : 2, d->error);
        sys_stack_commit(cpu, &stack);
    }
    cpu->interrupt_shadow = false;
    cpu->event.pending = false;
    cpu->activity = X86_ACTIVE;
}

static void deliver_push_v86(struct cpu *cpu, struct sys_stack *stack, unsigned bytes)
{
    static const u8 order[] = {X86_GS, X86_FS, X86_DS, X86_ES};

    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        sys_stack_push(cpu, stack, bytes, cpu->seg[order[i]].selector);
}

static void deliver_drop_v86(struct cpu *cpu)
{
    static const u8 order[] = {X86_GS, X86_FS, X86_DS, X86_ES};

    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        seg_install_null(&cpu->seg[order[i]], 0, 0);
}

static void deliver_gate(struct cpu *cpu, const struct delivery *d, const struct seg_gate *gate)
{
    unsigned bytes = (gate->type & 8) != 0 ? 4 : 2;
    bool from_v86 = seg_virtual_8086(cpu);
    struct seg_desc code, stack_desc;
    struct sys_stack stack;
    bool inner = deliver_read_code(cpu, d, gate->selector, &code);
    unsigned cpl = inner ? seg_attr_dpl(code.attr) : cpu->cpl;

    if (from_v86 && (!inner || cpl != 0))
        cpu_raise_error(cpu, X86_GP, seg_error(gate->selector, d->external));
    if (inner) {
        sys_stack_inner(cpu, cpl, d->external, &stack_desc, &stack);
    } else {
        sys_stack_current(cpu, &stack);
        stack.error = d->external ? 1 : 0;
    }
    far_check_rip(cpu, code.attr, code.limit, gate->offset, d->external);
    seg_desc_set_accessed(cpu, &code);

    if (from_v86)
        deliver_push_v86(cpu, &stack, bytes);
    if (inner) {
        sys_stack_push(cpu, &stack, bytes, cpu->seg[X86_SS].selector);
        sys_stack_push(cpu, &stack, bytes, cpu->gpr[X86_RSP]);
    }
    sys_stack_push(cpu, &stack, bytes, d->flags);
    sys_stack_push(cpu, &stack, bytes, cpu->seg[X86_CS].selector);
    sys_stack_push(cpu, &stack, bytes, d->rip);
    if (d->has_error)
        sys_stack_push(cpu, &stack, bytes, d->error);

    if (from_v86)
        deliver_drop_v86(cpu);
    if (inner)
        seg_install(&cpu->seg[X86_SS], &stack_desc, cpl);
    seg_install(&cpu->seg[X86_CS], &code, cpl);
    sys_stack_commit(cpu, &stack);
    deliver_commit(cpu, gate->offset,
                   X86_TF | X86_VM | X86_RF | X86_NT | ((gate->type & 1) != 0 ? 0 : X86_IF));
}

static void deliver_protected(struct cpu *cpu, const struct delivery *d)
{
    u32 entry = (u32)d->vector * 8;
    struct seg_gate gate;

    if (entry + 7 > cpu->idtr.limit)
        deliver_raise(cpu, d, X86_GP);
    u64 raw = mmu_read_system(cpu, (u32)(cpu->idtr.base + entry), 8);

    seg_gate_parse(raw, 0, false, &gate);
    if ((raw & (1ull << 44)) != 0 ||
        (gate.type != SEG_TASK_GATE && (gate.type & 7) != SEG_INTERRUPT_GATE16 &&
         (gate.type & 7) != SEG_TRAP_GATE16))
        deliver_raise(cpu, d, X86_GP);
    if (d->software && gate.dpl < cpu->cpl)
        deliver_raise(cpu, d, X86_GP);
    if (!gate.present)
        deliver_raise(cpu, d, X86_NP);
    if (gate.type == SEG_TASK_GATE)
        deliver_task(cpu, d, &gate);
    else
        deliver_gate(cpu, d, &gate);
}

/* ---- long mode
 * ----------------------------------------------------------------------------------- */

static void deliver_long_frame(struct cpu *cpu, const struct delivery *d, u64 *rsp, bool inner)
{
    struct sys_stack stack = {.pointer = *rsp & ~15ull, .bytes = 8, .system = inner};

    stack.error = d->external ? 1 : 0;
    sys_stack_push(cpu, &stack, 8, cpu->seg[X86_SS].selector);
    sys_stack_push(cpu, &stack, 8, cpu->gpr[X86_RSP]);
    sys_stack_push(cpu, &stack, 8, d->flags);
    sys_stack_push(cpu, &stack, 8, cpu->seg[X86_CS].selector);
    sys_stack_push(cpu, &stack, 8, d->rip);
    if (d->has_error)
        sys_stack_push(cpu, &stack, 8, d->error);
    *rsp = stack.pointer;
}

static void deliver_long(struct cpu *cpu, const struct delivery *d)
{
    u32 entry = (u32)d->vector * 16;
    struct seg_gate gate;
    struct seg_desc code;

    if (entry + 15 > cpu->idtr.limit)
        deliver_raise(cpu, d, X86_GP);
    u64 raw = mmu_read_system(cpu, cpu->idtr.base + entry, 8);
    u64 raw_high = mmu_read_system(cpu, cpu->idtr.base + entry + 8, 8);

    seg_gate_parse(raw, raw_high, true, &gate);
    if ((raw & (1ull << 44)) != 0 || (gate.type | 1) != SEG_TRAP_GATE32)
        deliver_raise(cpu, d, X86_GP);
    if (d->software && gate.dpl < cpu->cpl)
        deliver_raise(cpu, d, X86_GP);
    if (!gate.present)
        deliver_raise(cpu, d, X86_NP);

    bool inner = deliver_read_code(cpu, d, gate.selector, &code);
    unsigned cpl = inner ? seg_attr_dpl(code.attr) : cpu->cpl;
    u64 rsp = cpu->gpr[X86_RSP];

    if (gate.ist != 0 || inner)
        rsp = sys_stack_long(cpu, cpl, gate.ist, d->external);
    if (!seg_canonical(gate.offset))
        cpu_raise_error(cpu, X86_GP, d->external ? 1 : 0);
    seg_desc_set_accessed(cpu, &code);
    deliver_long_frame(cpu, d, &rsp, inner);

    if (inner)
        seg_install_null(&cpu->seg[X86_SS], (u16)cpl, cpl);
    seg_install(&cpu->seg[X86_CS], &code, cpl);
    cpu->gpr[X86_RSP] = rsp;
    deliver_commit(cpu, gate.offset,
                   X86_TF | X86_VM | X86_RF | X86_NT | ((gate.type & 1) != 0 ? 0 : X86_IF));
}

/* ---- doors
 * --------------------------------------------------------------------------------------- */

static void deliver(struct cpu *cpu, const struct delivery *d)
{
    if ((cpu->cr0 & X86_CR0_PE) == 0)
        deliver_real(cpu, d);
    else if (seg_long_mode(cpu))
        deliver_long(cpu, d);
    else
        deliver_protected(cpu, d);
}

/* Faults push RF set, so that an instruction breakpoint does not hit again on return. */
static bool event_is_fault(const struct x86_event *event)
{
    return event->kind == X86_EVENT_EXCEPTION && event->vector != X86_DB &&
           event->vector != X86_BP && event->vector != X86_OF_TRAP &&
           event->vector != X86_DF_FAULT && event->vector != X86_MC;
}

void cpu_deliver(struct cpu *cpu, const struct x86_event *event, bool software)
{
    struct delivery d = {
        .vector = event->vector,
        .has_error = event->has_error,
        .software = software,
        .external = !software,
        .error = event->error,
        .rip = software ? cpu->next_rip : cpu->rip,
        .flags = cpu->rflags,
    };

    if (event_is_fault(event))
        d.flags |= X86_RF;
    if (event->kind == X86_EVENT_EXCEPTION)
        cpu->counters.exceptions++;
    else
        cpu->counters.interrupts++;

    /* What a fault on the way is combined with; INT n counts as nothing (SDM table 6-5). */
    cpu->event = *event;
    cpu->event.pending = !software;
    if (event->kind == X86_EVENT_EXCEPTION && event->vector == X86_DB)
        cpu->dr[7] &= ~(u64)DR7_GD;
    if (event->kind == X86_EVENT_NMI) {
        cpu->nmi_blocked = true;
        cpu->nmi_pending = cpu->nmi_again;
        cpu->nmi_again = false;
    }
    deliver(cpu, &d);
}

void sys_software_exception(struct cpu *cpu, u8 vector, bool hardware)
{
    struct delivery d = {
        .vector = vector,
        .software = !hardware,
        .external = hardware,
        .rip = cpu->next_rip,
        .flags = cpu->rflags & ~(u64)X86_RF,
    };

    /* A trap that MOV SS has held back becomes one with INT1's #DB. */
    if (hardware)
        sys_debug_merge(cpu);
    sys_debug_skip_step(cpu);
    cpu->event.pending = false;
    cpu->counters.exceptions++;
    deliver(cpu, &d);
}

/* Whether the TSS's software interrupt bitmap leaves VECTOR to the 8086 program (SDM 20.3.3). */
static bool vme_redirects(struct cpu *cpu, u8 vector)
{
    u32 map;

    if ((cpu->tr.attr & 8) == 0 || cpu->tr.limit < 103)
        return false;
    map = (u32)mmu_read_system(cpu, (u32)(cpu->tr.base + 102), 2);
    if (map < 32 || map - 32 + vector / 8 > cpu->tr.limit)
        return false;
    return (mmu_read_system(cpu, (u32)(cpu->tr.base + map - 32 + vector / 8), 1) &
            BIT(vector % 8)) == 0;
}

void sys_interrupt(struct cpu *cpu, u8 vector)
{
    bool low_iopl = (cpu->rflags & X86_IOPL) != X86_IOPL;
    struct delivery d = {
        .vector = vector, .software = true, .rip = cpu->next_rip, .flags = cpu->rflags};

    if (!seg_virtual_8086(cpu)) {
        sys_software_exception(cpu, vector, false);
        return;
    }
    if ((cpu->cr4 & X86_CR4_VME) == 0 || !vme_redirects(cpu, vector)) {
        if (low_iopl)
            cpu_raise_error(cpu, X86_GP, 0);
        sys_software_exception(cpu, vector, false);
        return;
    }

    /* Without IOPL 3 the program sees VIF as its interrupt flag, and IOPL as 3. */
    if (low_iopl)
        d.flags = (d.flags & ~(u64)X86_IF) | X86_IOPL | ((cpu->rflags & X86_VIF) != 0 ? X86_IF : 0);
    sys_debug_skip_step(cpu);
    cpu->event.pending = false;
    deliver_real(cpu, &d);
    cpu->rflags &= low_iopl ? ~(u64)X86_VIF : ~(u64)X86_IF;
}

/* ---- faults
 * --------------------------------------------------------------------------------------- */

enum fault_class { FAULT_BENIGN, FAULT_CONTRIBUTORY, FAULT_PAGE, FAULT_DOUBLE };

/* SDM vol. 3A table 6-4. */
static enum fault_class fault_classify(u8 vector)
{
    switch (vector) {
    case X86_DE:
    case X86_TS:
    case X86_NP:
    case X86_SS_FAULT:
    case X86_GP:
        return FAULT_CONTRIBUTORY;
    case X86_PF_FAULT:
        return FAULT_PAGE;
    case X86_DF_FAULT:
        return FAULT_DOUBLE;
    default:
        return FAULT_BENIGN;
    }
}

/* Whether fault SECOND, met while FIRST was being delivered, makes a double fault (table 6-5). */
static bool fault_doubles(enum fault_class first, enum fault_class second)
{
    if (first == FAULT_CONTRIBUTORY)
        return second == FAULT_CONTRIBUTORY;
    return first == FAULT_PAGE && (second == FAULT_CONTRIBUTORY || second == FAULT_PAGE);
}

void cpu_deliver_fault(struct cpu *cpu)
{
    struct x86_event event = {
        .pending = true,
        .vector = cpu->fault.vector,
        .has_error = cpu->fault.has_error,
        .error = cpu->fault.error,
        .kind = X86_EVENT_EXCEPTION,
    };
    bool nested = cpu->event.pending;
    enum fault_class first = FAULT_BENIGN;
    enum fault_class second = fault_classify(event.vector);

    /* Traps noted by the instruction that faults, or held back over it by MOV SS, are lost. */
    cpu->debug_pending = 0;
    if (event.vector == X86_PF_FAULT)
        cpu->cr2 = cpu->fault.cr2;
    if (nested && cpu->event.kind == X86_EVENT_EXCEPTION)
        first = fault_classify(cpu->event.vector);

    if (first == FAULT_DOUBLE && second != FAULT_BENIGN) {
        cpu->event.pending = false;
        cpu->activity = X86_SHUTDOWN;
        cpu->exit.kind = EXIT_SHUTDOWN;
        cpu_exit(cpu);
    }
    if (fault_doubles(first, second)) {
        event.vector = X86_DF_FAULT;
        event.has_error = true;
        event.error = 0;
    }
    /* Benign faults can follow one another for ever (#AC by the frame of an #AC), as they do on
     * hardware; here others must be heard in between. The event goes on at the next run. */
    if (nested && __atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) != 0) {
        cpu->event = event;
        cpu->exit = (struct vm_exit){.kind = EXIT_KICKED};
        cpu_exit(cpu);
    }
    cpu_deliver(cpu, &event, false);
}
