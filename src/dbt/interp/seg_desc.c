/*
 * dbt/interp/seg_desc.c - reads and marks descriptors in the GDT and LDT.
 *
 * Spec   Intel SDM vol. 3A 3.4.5, 3.5, 5.8.3, 6.11, 6.14.1.
 * Runs   on the vCPU's thread, inside an instruction or an event delivery.
 * Trust  tables and selectors are the guest's; every index is checked against the table's limit.
 */
#include "dbt/interp/seg_priv.h"

void seg_desc_parse(u64 raw, struct seg_desc *ret_desc)
{
    u32 limit = (u32)(bits_get(raw, 0, 16) | bits_get(raw, 48, 4) << 16);

    ret_desc->raw = raw;
    ret_desc->raw_high = 0;
    ret_desc->attr = (u16)(bits_get(raw, 40, 16) & 0xf0ff);
    ret_desc->base = bits_get(raw, 16, 24) | bits_get(raw, 56, 8) << 24;
    ret_desc->limit = (ret_desc->attr & X86_SEG_GRANULAR) != 0 ? limit << 12 | 0xfff : limit;
}

bool seg_desc_read(struct cpu *cpu, u16 selector, struct seg_desc *ret_desc)
{
    u32 index = selector & SEG_SELECTOR_INDEX;
    u64 base = cpu->gdtr.base;
    u32 limit = cpu->gdtr.limit;

    if ((selector & SEG_SELECTOR_LDT) != 0) {
        if ((cpu->ldtr.attr & X86_SEG_UNUSABLE) != 0 || (cpu->ldtr.attr & X86_SEG_PRESENT) == 0)
            return false;
        base = cpu->ldtr.base;
        limit = cpu->ldtr.limit;
    }
    if (index + 7 > limit)
        return false;

    ret_desc->gva = base + index;
    if (!seg_long_mode(cpu))
        ret_desc->gva = (u32)ret_desc->gva;
    ret_desc->selector = selector;
    seg_desc_parse(mmu_read_system(cpu, ret_desc->gva, 8), ret_desc);
    return true;
}

bool seg_desc_extend(struct cpu *cpu, struct seg_desc *desc)
{
    u32 limit = (desc->selector & SEG_SELECTOR_LDT) != 0 ? cpu->ldtr.limit : cpu->gdtr.limit;

    if ((u32)(desc->selector & SEG_SELECTOR_INDEX) + 15 > limit)
        return false;
    desc->raw_high = mmu_read_system(cpu, desc->gva + 8, 8);
    desc->base |= desc->raw_high << 32;
    return true;
}

/* Byte 5 holds the type; only it is written, so that a neighbouring change is not undone. */
static void seg_desc_write_type(struct cpu *cpu, struct seg_desc *desc, u16 set, u16 clear)
{
    desc->attr = (u16)((desc->attr | set) & ~clear);
    desc->raw = (desc->raw & ~(0xffull << 40)) | (u64)(desc->attr & 0xff) << 40;
    mmu_write_system(cpu, desc->gva + 5, 1, desc->attr & 0xff);
}

void seg_desc_set_accessed(struct cpu *cpu, struct seg_desc *desc)
{
    if ((desc->attr & SEG_TYPE_ACCESSED) == 0)
        seg_desc_write_type(cpu, desc, SEG_TYPE_ACCESSED, 0);
}

void seg_desc_set_busy(struct cpu *cpu, struct seg_desc *desc, bool busy)
{
    seg_desc_write_type(cpu, desc, busy ? 2 : 0, busy ? 0 : 2);
}

void seg_gate_parse(u64 raw, u64 raw_high, bool long_gate, struct seg_gate *ret_gate)
{
    ret_gate->type = (u8)bits_get(raw, 40, 4);
    ret_gate->dpl = (u8)bits_get(raw, 45, 2);
    ret_gate->present = bits_get(raw, 47, 1) != 0;
    ret_gate->parameter_count = (u8)bits_get(raw, 32, 5);
    ret_gate->ist = (u8)bits_get(raw, 32, 3);
    ret_gate->selector = (u16)bits_get(raw, 16, 16);
    ret_gate->offset = bits_get(raw, 0, 16);
    if ((ret_gate->type & 8) != 0)
        ret_gate->offset |= bits_get(raw, 48, 16) << 16;
    if (long_gate)
        ret_gate->offset |= raw_high << 32;
}
