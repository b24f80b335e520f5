/*
 * dbt/interp/seg_load.c - loads segment registers, with the checks of each mode.
 *
 * Spec   Intel SDM vol. 2B MOV, vol. 3A 3.4, 5.5, 5.7, 5.8.8, 20.3.
 * Runs   on the vCPU's thread, inside an instruction or an event delivery.
 * Trust  selectors and descriptors are the guest's.
 */
#include "dbt/interp/seg_priv.h"

void seg_install(struct x86_seg *seg, const struct seg_desc *desc, unsigned rpl)
{
    seg->selector = (u16)((desc->selector & ~SEG_SELECTOR_RPL) | rpl);
    seg->base = desc->base;
    seg->limit = desc->limit;
    seg->attr = desc->attr;
}

void seg_install_null(struct x86_seg *seg, u16 selector, unsigned dpl)
{
    seg->selector = selector;
    seg->base = 0;
    seg->limit = 0;
    seg->attr = (u16)(X86_SEG_UNUSABLE | dpl << X86_SEG_DPL_SHIFT);
}

void seg_install_real(struct x86_seg *seg, u16 selector)
{
    /* A limit beyond 64 KiB, loaded in protected mode, stays in force ("unreal mode"). */
    if ((seg->attr & X86_SEG_UNUSABLE) != 0) {
        seg->attr = 0x93;
        seg->limit = 0xffff;
    }
    seg->selector = selector;
    seg->base = (u64)selector << 4;
}

void seg_install_v86(struct x86_seg *seg, u16 selector)
{
    seg->selector = selector;
    seg->base = (u64)selector << 4;
    seg->limit = 0xffff;
    seg->attr = SEG_ATTR_V86;
}

void seg_check_stack(struct cpu *cpu, u16 selector, unsigned cpl, u8 fault, bool external,
                     struct seg_desc *ret_desc)
{
    u32 error = seg_error(selector, external);

    if (!seg_desc_read(cpu, selector, ret_desc))
        cpu_raise_error(cpu, fault, error);
    if ((unsigned)(selector & SEG_SELECTOR_RPL) != cpl || !seg_attr_writable_data(ret_desc->attr) ||
        seg_attr_dpl(ret_desc->attr) != cpl)
        cpu_raise_error(cpu, fault, error);
    if ((ret_desc->attr & X86_SEG_PRESENT) == 0)
        cpu_raise_error(cpu, X86_SS_FAULT, error);
}

static void seg_load_stack(struct cpu *cpu, u16 selector)
{
    struct seg_desc desc;

    if (seg_selector_null(selector)) {
        if (cpu->code_bytes != 8 || cpu->cpl == 3 || selector != cpu->cpl)
            cpu_raise_error(cpu, X86_GP, 0);
        seg_install_null(&cpu->seg[X86_SS], selector, cpu->cpl);
        return;
    }
    seg_check_stack(cpu, selector, cpu->cpl, X86_GP, false, &desc);
    seg_desc_set_accessed(cpu, &desc);
    seg_install(&cpu->seg[X86_SS], &desc, selector & SEG_SELECTOR_RPL);
}

static void seg_load_data(struct cpu *cpu, enum x86_segment seg, u16 selector)
{
    struct seg_desc desc;
    unsigned rpl = selector & SEG_SELECTOR_RPL;
    unsigned dpl;

    if (seg_selector_null(selector)) {
        seg_install_null(&cpu->seg[seg], selector, 0);
        return;
    }
    if (!seg_desc_read(cpu, selector, &desc))
        cpu_raise_error(cpu, X86_GP, seg_error(selector, false));

    dpl = seg_attr_dpl(desc.attr);
    if ((desc.attr & X86_SEG_CODE_DATA) == 0 ||
        (seg_attr_code(desc.attr) && (desc.attr & SEG_TYPE_READABLE) == 0) ||
        (!seg_attr_conforming(desc.attr) && (rpl > dpl || cpu->cpl > dpl)))
        cpu_raise_error(cpu, X86_GP, seg_error(selector, false));
    if ((desc.attr & X86_SEG_PRESENT) == 0)
        cpu_raise_error(cpu, X86_NP, seg_error(selector, false));

    seg_desc_set_accessed(cpu, &desc);
    seg_install(&cpu->seg[seg], &desc, rpl);
}

void seg_load(struct cpu *cpu, enum x86_segment seg, u16 selector)
{
    if (seg_virtual_8086(cpu))
        seg_install_v86(&cpu->seg[seg], selector);
    else if (!seg_protected(cpu))
        seg_install_real(&cpu->seg[seg], selector);
    else if (seg == X86_SS)
        seg_load_stack(cpu, selector);
    else
        seg_load_data(cpu, seg, selector);

    cpu_mode_update(cpu);
}

void seg_drop_privileged(struct cpu *cpu)
{
    static const u8 data_segments[] = {X86_ES, X86_DS, X86_FS, X86_GS};

    for (unsigned i = 0; i < ARRAY_LEN(data_segments); i++) {
        struct x86_seg *seg = &cpu->seg[data_segments[i]];

        if ((seg->attr & X86_SEG_UNUSABLE) != 0 || seg_attr_conforming(seg->attr))
            continue;
        /* The base stays: 64-bit code goes on using those of FS and GS. */
        if (seg_attr_dpl(seg->attr) < cpu->cpl) {
            seg->selector = 0;
            seg->attr |= X86_SEG_UNUSABLE;
        }
    }
}
