/*
 * dbt/interp/seg.c - turns offsets into linear addresses, and keeps what follows from the segments.
 *
 * Spec   Intel SDM vol. 3A 3.3, 3.4, 5.3, 5.4; vol. 1 3.3.7 (canonical addresses).
 * Runs   on the vCPU's thread, inside an instruction.
 * Trust  offsets are the guest's; the result is a linear address that mmu/ translates.
 */
#include "dbt/interp/run_priv.h"
#include "dbt/interp/seg_priv.h"

/* No canonical address plus 32 bits: nothing that a TLB entry could be for. */
#define SEGMENT_MISS (1ull << 62)

NO_RETURN static void seg_raise(struct cpu *cpu, enum x86_segment seg)
{
    cpu_raise_error(cpu, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
}

/* Whether the segment's kind allows the access; real mode has no kinds. */
static bool seg_type_allows(const struct x86_seg *seg, enum cpu_access access)
{
    if ((seg->attr & X86_SEG_UNUSABLE) != 0)
        return false;
    if (access == ACCESS_WRITE)
        return (seg->attr & (SEG_TYPE_CODE | SEG_TYPE_WRITABLE)) == SEG_TYPE_WRITABLE;
    if (access == ACCESS_READ)
        return (seg->attr & (SEG_TYPE_CODE | SEG_TYPE_READABLE)) != SEG_TYPE_CODE;
    return true;
}

bool seg_limit_allows(const struct x86_seg *seg, u64 offset, size_t bytes)
{
    u64 last = offset + bytes - 1;

    if ((seg->attr & (SEG_TYPE_CODE | SEG_TYPE_EXPAND_DOWN)) != SEG_TYPE_EXPAND_DOWN)
        return last <= seg->limit;
    return offset > seg->limit && last <= ((seg->attr & X86_SEG_BIG) != 0 ? 0xffffffffu : 0xffffu);
}

gva_t seg_linear(struct cpu *cpu, enum x86_segment seg, u64 offset, size_t bytes,
                 enum cpu_access access)
{
    const struct x86_seg *descriptor = &cpu->seg[seg];

    if (likely(cpu->code_bytes == 8)) {
        u64 linear = seg >= X86_FS ? offset + descriptor->base : offset;

        if (unlikely(!seg_canonical(linear) || !seg_canonical(linear + bytes - 1)))
            seg_raise(cpu, seg);
        return linear;
    }
    if ((cpu->cr0 & X86_CR0_PE) != 0 && !seg_type_allows(descriptor, access))
        seg_raise(cpu, seg);
    if (!seg_limit_allows(descriptor, offset, bytes))
        seg_raise(cpu, seg);
    return (u32)(descriptor->base + offset);
}

/* Data that may be read and written anywhere in 4 GiB from the segment's base. */
static bool seg_is_whole(const struct x86_seg *seg)
{
    return (seg->attr & (SEG_TYPE_CODE | SEG_TYPE_EXPAND_DOWN | SEG_TYPE_WRITABLE)) ==
               SEG_TYPE_WRITABLE &&
           seg->limit == 0xffffffff && (seg->attr & X86_SEG_UNUSABLE) == 0;
}

/* The same from address 0, or code that may be fetched from anywhere in 4 GiB. */
static bool seg_is_flat(const struct x86_seg *seg)
{
    if (seg_attr_code(seg->attr))
        return seg->base == 0 && seg->limit == 0xffffffff && (seg->attr & X86_SEG_UNUSABLE) == 0;
    return seg->base == 0 && seg_is_whole(seg);
}

void cpu_mode_update(struct cpu *cpu)
{
    const struct x86_seg *code = &cpu->seg[X86_CS];
    const struct x86_seg *stack = &cpu->seg[X86_SS];

    if ((cpu->cr0 & X86_CR0_PE) == 0)
        cpu->cpl = 0;
    else if ((cpu->rflags & X86_VM) != 0)
        cpu->cpl = 3;
    else
        cpu->cpl = (u8)seg_attr_dpl(stack->attr);

    if (seg_long_mode(cpu) && (code->attr & X86_SEG_LONG) != 0) {
        cpu->code_bytes = 8;
        cpu->stack_bytes = 8;
    } else {
        cpu->code_bytes = (code->attr & X86_SEG_BIG) != 0 ? 4 : 2;
        cpu->stack_bytes = (stack->attr & X86_SEG_BIG) != 0 ? 4 : 2;
    }

    cpu->flat = cpu->code_bytes != 8 && seg_is_flat(code) && seg_is_flat(stack) &&
                seg_is_flat(&cpu->seg[X86_DS]) && !seg_attr_code(cpu->seg[X86_DS].attr) &&
                seg_is_flat(&cpu->seg[X86_ES]) && !seg_attr_code(cpu->seg[X86_ES].attr);

    if (cpu->flat) {
        cpu->segment_miss[0] = seg_is_whole(&cpu->seg[X86_FS]) ? 0 : SEGMENT_MISS;
        cpu->segment_miss[1] = seg_is_whole(&cpu->seg[X86_GS]) ? 0 : SEGMENT_MISS;
    }

    if (cpu->cpl == 3)
        cpu->privilege = PRIVILEGE_USER;
    else if ((cpu->rflags & X86_AC) != 0)
        cpu->privilege = PRIVILEGE_KERNEL_AC;
    else
        cpu->privilege = PRIVILEGE_KERNEL;
    run_mode_follow(cpu);
}
