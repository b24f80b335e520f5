/*
 * dbt/interp/sys_far.c - far JMP and far CALL: to code segments, through call gates, to tasks.
 *
 * Spec   Intel SDM vol. 2A CALL and JMP; vol. 3A 5.8, 5.8.5, 7.3.
 * Runs   on the vCPU's thread, inside an instruction.
 * Trust  selectors, descriptors, gates and stacks are the guest's.
 */
#include "dbt/interp/sys_priv.h"

/* ---- shared checks
 * -------------------------------------------------------------------------------- */

void far_read_code(struct cpu *cpu, u16 selector, bool external, struct seg_desc *ret_desc)
{
    if (seg_selector_null(selector))
        cpu_raise_error(cpu, X86_GP, seg_error(0, external));
    if (!seg_desc_read(cpu, selector, ret_desc))
        cpu_raise_error(cpu, X86_GP, seg_error(selector, external));
}

void far_check_long(struct cpu *cpu, const struct seg_desc *desc)
{
    u16 both = X86_SEG_LONG | X86_SEG_BIG;

    if (seg_long_mode(cpu) && (desc->attr & both) == both)
        cpu_raise_error(cpu, X86_GP, seg_error(desc->selector, false));
}

void far_check_rip(struct cpu *cpu, u16 attr, u32 limit, u64 rip, bool external)
{
    bool code64 = seg_long_mode(cpu) && (attr & X86_SEG_LONG) != 0;

    if (code64 ? !seg_canonical(rip) : rip > limit)
        cpu_raise_error(cpu, X86_GP, seg_error(0, external));
}

void far_commit(struct cpu *cpu, const struct seg_desc *desc, unsigned cpl, u64 rip)
{
    seg_install(&cpu->seg[X86_CS], desc, cpl);
    sys_set_rip(cpu, rip);
    cpu_mode_update(cpu);
}

/* The privilege rules of JMP and CALL straight to a code segment. */
static void far_check_code(struct cpu *cpu, const struct seg_desc *desc)
{
    u32 error = seg_error(desc->selector, false);
    unsigned rpl = desc->selector & SEG_SELECTOR_RPL;
    unsigned dpl = seg_attr_dpl(desc->attr);

    if (seg_attr_conforming(desc->attr) ? dpl > cpu->cpl : rpl > cpu->cpl || dpl != cpu->cpl)
        cpu_raise_error(cpu, X86_GP, error);
    far_check_long(cpu, desc);
    if ((desc->attr & X86_SEG_PRESENT) == 0)
        cpu_raise_error(cpu, X86_NP, error);
}

/* ---- gates
 * ---------------------------------------------------------------------------------------- */

static void far_check_gate(struct cpu *cpu, const struct seg_desc *desc, unsigned dpl, bool present)
{
    u32 error = seg_error(desc->selector, false);

    if (dpl < cpu->cpl || (unsigned)(desc->selector & SEG_SELECTOR_RPL) > dpl)
        cpu_raise_error(cpu, X86_GP, error);
    if (!present)
        cpu_raise_error(cpu, X86_NP, error);
}

static bool far_is_call_gate(const struct cpu *cpu, unsigned type)
{
    return type == SEG_CALL_GATE32 || (type == SEG_CALL_GATE16 && !seg_long_mode(cpu));
}

void far_gate_read(struct cpu *cpu, struct seg_desc *desc, bool call, struct far_gate *ret_gate)
{
    bool long_mode = seg_long_mode(cpu);
    struct seg_desc *code = &ret_gate->code;
    u32 error = seg_error(desc->selector, false);
    unsigned dpl;

    if (!far_is_call_gate(cpu, desc->attr & X86_SEG_TYPE))
        cpu_raise_error(cpu, X86_GP, error);
    /* The upper half's type field must be that of no descriptor. */
    if (long_mode && (!seg_desc_extend(cpu, desc) || (desc->raw_high & (0x1full << 40)) != 0))
        cpu_raise_error(cpu, X86_GP, error);
    seg_gate_parse(desc->raw, desc->raw_high, long_mode, &ret_gate->gate);
    far_check_gate(cpu, desc, ret_gate->gate.dpl, ret_gate->gate.present);

    far_read_code(cpu, ret_gate->gate.selector, false, code);
    error = seg_error(code->selector, false);
    dpl = seg_attr_dpl(code->attr);
    if (!seg_attr_code(code->attr) || dpl > cpu->cpl)
        cpu_raise_error(cpu, X86_GP, error);
    if (!call && !seg_attr_conforming(code->attr) && dpl != cpu->cpl)
        cpu_raise_error(cpu, X86_GP, error);
    if (long_mode && (code->attr & (X86_SEG_LONG | X86_SEG_BIG)) != X86_SEG_LONG)
        cpu_raise_error(cpu, X86_GP, error);
    if ((code->attr & X86_SEG_PRESENT) == 0)
        cpu_raise_error(cpu, X86_NP, error);
    ret_gate->inner = !seg_attr_conforming(code->attr) && dpl < cpu->cpl;
}

bool far_task(struct cpu *cpu, struct seg_desc *desc, enum task_reason reason)
{
    struct task_switch to = {.reason = reason, .rip = cpu->next_rip, .flags = cpu->rflags};
    unsigned type = desc->attr & X86_SEG_TYPE;
    struct seg_gate gate;

    if (seg_long_mode(cpu))
        return false;
    if (type == SEG_TASK_GATE) {
        seg_gate_parse(desc->raw, 0, false, &gate);
        far_check_gate(cpu, desc, gate.dpl, gate.present);
        task_gate_tss(cpu, gate.selector, false, &to.tss);
    } else if (type == SEG_TSS16 || type == SEG_TSS32) {
        if ((desc->selector & SEG_SELECTOR_LDT) != 0)
            cpu_raise_error(cpu, X86_GP, seg_error(desc->selector, false));
        far_check_gate(cpu, desc, seg_attr_dpl(desc->attr), (desc->attr & X86_SEG_PRESENT) != 0);
        to.tss = *desc;
    } else {
        return false;
    }
    task_switch(cpu, &to);
    return true;
}

/* ---- JMP
 * ------------------------------------------------------------------------------------------ */

static u64 far_offset(const struct far_target *target)
{
    return target->offset & bytes_mask(target->operand_bytes);
}

/* Real and virtual-8086 mode: the selector is the base. */
static void far_real(struct cpu *cpu, const struct far_target *target)
{
    far_check_rip(cpu, 0, cpu->seg[X86_CS].limit, far_offset(target), false);
    seg_load(cpu, X86_CS, target->selector);
    sys_set_rip(cpu, far_offset(target));
}

void far_jump(struct cpu *cpu, const struct far_target *target)
{
    struct seg_desc desc;
    struct far_gate gate;

    if (!seg_protected(cpu)) {
        far_real(cpu, target);
        return;
    }
    far_read_code(cpu, target->selector, false, &desc);
    if (seg_attr_code(desc.attr)) {
        far_check_code(cpu, &desc);
        far_check_rip(cpu, desc.attr, desc.limit, far_offset(target), false);
        seg_desc_set_accessed(cpu, &desc);
        far_commit(cpu, &desc, cpu->cpl, far_offset(target));
        return;
    }
    if ((desc.attr & X86_SEG_CODE_DATA) != 0)
        cpu_raise_error(cpu, X86_GP, seg_error(target->selector, false));
    if (far_task(cpu, &desc, TASK_JUMP))
        return;
    far_gate_read(cpu, &desc, false, &gate);
    far_check_rip(cpu, gate.code.attr, gate.code.limit, gate.gate.offset, false);
    seg_desc_set_accessed(cpu, &gate.code);
    far_commit(cpu, &gate.code, cpu->cpl, gate.gate.offset);
}

/* ---- CALL
 * ----------------------------------------------------------------------------------------- */

static void far_push_return(struct cpu *cpu, struct sys_stack *stack, unsigned bytes)
{
    sys_stack_push(cpu, stack, bytes, cpu->seg[X86_CS].selector);
    sys_stack_push(cpu, stack, bytes, cpu->next_rip);
}

/* Copies the gate's parameters from the caller's stack to the inner one. */
static void far_copy_parameters(struct cpu *cpu, struct sys_stack *inner, unsigned count,
                                unsigned bytes)
{
    struct sys_stack outer;

    sys_stack_current(cpu, &outer);
    while (count-- > 0)
        sys_stack_push(cpu, inner, bytes, sys_stack_peek(cpu, &outer, (u64)count * bytes, bytes));
}

static void far_call_inner(struct cpu *cpu, struct far_gate *gate)
{
    unsigned cpl = seg_attr_dpl(gate->code.attr);
    unsigned bytes = (gate->gate.type & 8) != 0 ? 4 : 2;
    struct seg_desc stack_desc;
    struct sys_stack stack;

    sys_stack_inner(cpu, cpl, false, &stack_desc, &stack);
    far_check_rip(cpu, gate->code.attr, gate->code.limit, gate->gate.offset, false);
    seg_desc_set_accessed(cpu, &gate->code);
    sys_stack_push(cpu, &stack, bytes, cpu->seg[X86_SS].selector);
    sys_stack_push(cpu, &stack, bytes, cpu->gpr[X86_RSP]);
    far_copy_parameters(cpu, &stack, gate->gate.parameter_count, bytes);
    far_push_return(cpu, &stack, bytes);

    seg_install(&cpu->seg[X86_SS], &stack_desc, cpl);
    sys_stack_commit(cpu, &stack);
    far_commit(cpu, &gate->code, cpl, gate->gate.offset);
}

static void far_call_long(struct cpu *cpu, struct far_gate *gate)
{
    unsigned cpl = gate->inner ? seg_attr_dpl(gate->code.attr) : cpu->cpl;
    struct sys_stack stack;

    sys_stack_current(cpu, &stack);
    stack.bytes = 8;
    stack.pointer = cpu->gpr[X86_RSP];
    if (gate->inner) {
        stack.pointer = sys_stack_long(cpu, cpl, 0, false);
        stack.system = true;
    }
    far_check_rip(cpu, gate->code.attr, gate->code.limit, gate->gate.offset, false);
    seg_desc_set_accessed(cpu, &gate->code);
    if (gate->inner) {
        sys_stack_push(cpu, &stack, 8, cpu->seg[X86_SS].selector);
        sys_stack_push(cpu, &stack, 8, cpu->gpr[X86_RSP]);
    }
    far_push_return(cpu, &stack, 8);

    if (gate->inner)
        seg_install_null(&cpu->seg[X86_SS], (u16)cpl, cpl);
    sys_stack_commit(cpu, &stack);
    far_commit(cpu, &gate->code, cpl, gate->gate.offset);
}

static void far_call_gate(struct cpu *cpu, struct far_gate *gate)
{
    unsigned bytes = (gate->gate.type & 8) != 0 ? 4 : 2;
    struct sys_stack stack;

    if (seg_long_mode(cpu)) {
        far_call_long(cpu, gate);
        return;
    }
    if (gate->inner) {
        far_call_inner(cpu, gate);
        return;
    }
    sys_stack_current(cpu, &stack);
    far_check_rip(cpu, gate->code.attr, gate->code.limit, gate->gate.offset, false);
    seg_desc_set_accessed(cpu, &gate->code);
    far_push_return(cpu, &stack, bytes);
    sys_stack_commit(cpu, &stack);
    far_commit(cpu, &gate->code, cpu->cpl, gate->gate.offset);
}

void far_call(struct cpu *cpu, const struct far_target *target)
{
    struct seg_desc desc;
    struct far_gate gate;
    struct sys_stack stack;

    sys_stack_current(cpu, &stack);
    if (!seg_protected(cpu)) {
        far_check_rip(cpu, 0, cpu->seg[X86_CS].limit, far_offset(target), false);
        far_push_return(cpu, &stack, target->operand_bytes);
        sys_stack_commit(cpu, &stack);
        far_real(cpu, target);
        return;
    }
    far_read_code(cpu, target->selector, false, &desc);
    if (seg_attr_code(desc.attr)) {
        far_check_code(cpu, &desc);
        far_check_rip(cpu, desc.attr, desc.limit, far_offset(target), false);
        seg_desc_set_accessed(cpu, &desc);
        far_push_return(cpu, &stack, target->operand_bytes);
        sys_stack_commit(cpu, &stack);
        far_commit(cpu, &desc, cpu->cpl, far_offset(target));
        return;
    }
    if ((desc.attr & X86_SEG_CODE_DATA) != 0)
        cpu_raise_error(cpu, X86_GP, seg_error(target->selector, false));
    if (far_task(cpu, &desc, TASK_CALL))
        return;
    far_gate_read(cpu, &desc, true, &gate);
    far_call_gate(cpu, &gate);
}
