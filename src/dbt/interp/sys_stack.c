/*
 * dbt/interp/sys_stack.c - stacks of control transfers: pushes and pops before anything is
 * committed, and the stacks that a TSS names.
 *
 * Spec   Intel SDM vol. 3A 5.8.5 (stack switching), 6.12.1, 6.14.2 to 6.14.5, 7.2.1, 7.7.
 * Runs   on the vCPU's thread, inside an instruction or an event delivery.
 * Trust  stack pointers, TSS contents and descriptors are the guest's.
 */
#include "dbt/interp/sys_priv.h"

void sys_stack_current(const struct cpu *cpu, struct sys_stack *ret_stack)
{
    ret_stack->seg = cpu->seg[X86_SS];
    ret_stack->pointer = cpu->gpr[X86_RSP] & bytes_mask(cpu->stack_bytes);
    ret_stack->bytes = cpu->stack_bytes;
    ret_stack->system = false;
    ret_stack->error = 0;
}

static gva_t stack_linear(struct cpu *cpu, const struct sys_stack *stack, u64 offset,
                          unsigned bytes)
{
    if (stack->bytes == 8) {
        if (!seg_canonical(offset) || !seg_canonical(offset + bytes - 1))
            cpu_raise_error(cpu, X86_SS_FAULT, stack->error);
        return offset;
    }
    if ((stack->seg.attr & X86_SEG_UNUSABLE) != 0 || !seg_limit_allows(&stack->seg, offset, bytes))
        cpu_raise_error(cpu, X86_SS_FAULT, stack->error);
    return (u32)(stack->seg.base + offset);
}

void sys_stack_adjust(struct sys_stack *stack, u64 delta)
{
    stack->pointer = (stack->pointer + delta) & bytes_mask(stack->bytes);
}

void sys_stack_push(struct cpu *cpu, struct sys_stack *stack, unsigned bytes, u64 value)
{
    gva_t gva;

    sys_stack_adjust(stack, -(u64)bytes);
    gva = stack_linear(cpu, stack, stack->pointer, bytes);
    if (stack->system)
        mmu_write_system(cpu, gva, bytes, value);
    else
        mmu_write(cpu, gva, bytes, value);
}

u64 sys_stack_peek(struct cpu *cpu, const struct sys_stack *stack, u64 offset, unsigned bytes)
{
    u64 at = (stack->pointer + offset) & bytes_mask(stack->bytes);

    return mmu_read(cpu, stack_linear(cpu, stack, at, bytes), bytes);
}

u64 sys_stack_pop(struct cpu *cpu, struct sys_stack *stack, unsigned bytes)
{
    u64 value = sys_stack_peek(cpu, stack, 0, bytes);

    sys_stack_adjust(stack, bytes);
    return value;
}

void sys_stack_commit(struct cpu *cpu, const struct sys_stack *stack)
{
    u64 *rsp = &cpu->gpr[X86_RSP];

    if (stack->bytes == 2)
        *rsp = (*rsp & ~0xffffull) | (stack->pointer & 0xffff);
    else
        *rsp = stack->pointer;
}

void sys_stack_from_tss(struct cpu *cpu, unsigned cpl, bool external, u16 *ret_selector,
                        u64 *ret_pointer)
{
    bool wide = (cpu->tr.attr & 8) != 0; /* a 32-bit TSS */
    u32 offset = wide ? 4 + cpl * 8 : 2 + cpl * 4;
    u32 bytes = wide ? 4 : 2;
    gva_t gva = cpu->tr.base + offset;

    if (offset + bytes + 1 > cpu->tr.limit)
        cpu_raise_error(cpu, X86_TS, seg_error(cpu->tr.selector, external));
    *ret_pointer = mmu_read_system(cpu, (u32)gva, bytes);
    *ret_selector = (u16)mmu_read_system(cpu, (u32)(gva + bytes), 2);
}

void sys_stack_inner(struct cpu *cpu, unsigned cpl, bool external, struct seg_desc *ret_desc,
                     struct sys_stack *ret_stack)
{
    u16 selector;
    u64 pointer;

    sys_stack_from_tss(cpu, cpl, external, &selector, &pointer);
    if (seg_selector_null(selector))
        cpu_raise_error(cpu, X86_TS, seg_error(0, external));
    seg_check_stack(cpu, selector, cpl, X86_TS, external, ret_desc);
    seg_desc_set_accessed(cpu, ret_desc);

    seg_install(&ret_stack->seg, ret_desc, cpl);
    ret_stack->bytes = (ret_desc->attr & X86_SEG_BIG) != 0 ? 4 : 2;
    ret_stack->pointer = pointer & bytes_mask(ret_stack->bytes);
    ret_stack->system = true;
    ret_stack->error = seg_error(selector, external);
}

u64 sys_stack_long(struct cpu *cpu, unsigned cpl, unsigned ist, bool external)
{
    u32 offset = ist != 0 ? 28 + ist * 8 : 4 + cpl * 8;
    u64 pointer;

    if (offset + 7 > cpu->tr.limit)
        cpu_raise_error(cpu, X86_TS, seg_error(cpu->tr.selector, external));
    pointer = mmu_read_system(cpu, cpu->tr.base + offset, 8);
    if (!seg_canonical(pointer))
        cpu_raise_error(cpu, X86_SS_FAULT, seg_error(0, external));
    return pointer;
}
