/*
 * dbt/interp/sys_task.c - hardware task switches, to 16-bit and 32-bit TSSs.
 *
 * Spec   Intel SDM vol. 3A chapter 7. Long mode has no task switches: callers keep it out.
 * Runs   on the vCPU's thread, from far JMP and CALL, IRET and event delivery.
 * Trust  both TSSs and everything they name are the guest's.
 *
 * All accesses to both TSSs are probed before the first write. After the commit point faults belong
 * to the incoming task: its registers and selectors are loaded, and segments not yet checked
 * unusable.
 */
#include "dbt/interp/sys_priv.h"

enum { TSS16_BYTES = 44, TSS32_BYTES = 104 };

/* Offsets in a TSS (SDM figures 7-2 and 7-10), by width. */
struct tss_layout {
    u8 bytes; /* of a register field */
    u8 rip, flags, gpr, segments, ldt;
    u8 segment_count; /* ES, CS, SS, DS; with FS, GS in 32-bit ones */
    u8 size;
};
static const struct tss_layout tss16 = {2, 14, 16, 18, 34, 42, 4, TSS16_BYTES};
static const struct tss_layout tss32 = {4, 32, 36, 40, 72, 96, 6, TSS32_BYTES};
enum { TSS32_CR3 = 28, TSS32_TRAP = 100 };

/* What the incoming TSS holds. */
struct task_image {
    u64 cr3, rip, flags, gpr[8];
    u16 selector[X86_SEGMENT_COUNT];
    u16 ldt;
    bool trap;
};

static const struct tss_layout *tss_layout_of(u16 attr)
{
    return (attr & 8) != 0 ? &tss32 : &tss16;
}

static u64 tss_read(struct cpu *cpu, gva_t base, unsigned offset, unsigned bytes)
{
    return mmu_read_system(cpu, (u32)(base + offset), bytes);
}

static void tss_write(struct cpu *cpu, gva_t base, unsigned offset, unsigned bytes, u64 value)
{
    mmu_write_system(cpu, (u32)(base + offset), bytes, value);
}

static void task_save(struct cpu *cpu, const struct task_switch *to)
{
    const struct tss_layout *layout = tss_layout_of(cpu->tr.attr);
    gva_t base = cpu->tr.base;
    u64 flags = to->flags;

    if (to->reason == TASK_IRET)
        flags &= ~(u64)X86_NT;
    tss_write(cpu, base, layout->rip, layout->bytes, to->rip);
    tss_write(cpu, base, layout->flags, layout->bytes, flags);
    for (unsigned i = 0; i < 8; i++)
        tss_write(cpu, base, layout->gpr + i * layout->bytes, layout->bytes, cpu->gpr[i]);
    for (unsigned i = 0; i < layout->segment_count; i++)
        tss_write(cpu, base, layout->segments + i * layout->bytes, 2, cpu->seg[i].selector);
}

static void task_read(struct cpu *cpu, gva_t base, const struct tss_layout *layout,
                      struct task_image *ret_image)
{
    bool wide = layout == &tss32;

    ret_image->cr3 = wide ? tss_read(cpu, base, TSS32_CR3, 4) : cpu->cr3;
    ret_image->rip = tss_read(cpu, base, layout->rip, layout->bytes);
    ret_image->flags = tss_read(cpu, base, layout->flags, layout->bytes);
    for (unsigned i = 0; i < 8; i++)
        ret_image->gpr[i] = tss_read(cpu, base, layout->gpr + i * layout->bytes, layout->bytes);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        ret_image->selector[i] = i < layout->segment_count
                                     ? (u16)tss_read(cpu, base,
                                                     layout->segments + i * layout->bytes, 2)
                                     : 0;
    ret_image->ldt = (u16)tss_read(cpu, base, layout->ldt, 2);
    ret_image->trap = wide && (tss_read(cpu, base, TSS32_TRAP, 2) & 1) != 0;
}

/* ---- the incoming task's segments: faults here are its own
 * ---------------------------------------- */

NO_RETURN static void task_raise(struct cpu *cpu, u8 fault, u16 selector, bool external)
{
    cpu_raise_error(cpu, fault, seg_error(selector, external));
}

static void task_load_ldt(struct cpu *cpu, u16 selector, bool external)
{
    struct seg_desc desc;

    seg_install_null(&cpu->ldtr, selector, 0);
    if (seg_selector_null(selector))
        return;
    if ((selector & SEG_SELECTOR_LDT) != 0 || !seg_desc_read(cpu, selector, &desc) ||
        (desc.attr & (X86_SEG_TYPE | X86_SEG_CODE_DATA)) != SEG_LDT ||
        (desc.attr & X86_SEG_PRESENT) == 0)
        task_raise(cpu, X86_TS, selector, external);
    seg_install(&cpu->ldtr, &desc, selector & SEG_SELECTOR_RPL);
}

static void task_load_code(struct cpu *cpu, u16 selector, bool external)
{
    unsigned rpl = selector & SEG_SELECTOR_RPL;
    struct seg_desc desc;
    unsigned dpl;

    if (seg_selector_null(selector) || !seg_desc_read(cpu, selector, &desc) ||
        !seg_attr_code(desc.attr))
        task_raise(cpu, X86_TS, selector, external);
    dpl = seg_attr_dpl(desc.attr);
    if (seg_attr_conforming(desc.attr) ? dpl > rpl : dpl != rpl)
        task_raise(cpu, X86_TS, selector, external);
    if ((desc.attr & X86_SEG_PRESENT) == 0)
        task_raise(cpu, X86_NP, selector, external);
    seg_desc_set_accessed(cpu, &desc);
    seg_install(&cpu->seg[X86_CS], &desc, rpl);
}

static void task_load_stack(struct cpu *cpu, u16 selector, bool external)
{
    struct seg_desc desc;

    if (seg_selector_null(selector))
        task_raise(cpu, X86_TS, selector, external);
    seg_check_stack(cpu, selector, cpu->cpl, X86_TS, external, &desc);
    seg_desc_set_accessed(cpu, &desc);
    seg_install(&cpu->seg[X86_SS], &desc, cpu->cpl);
}

static void task_load_data(struct cpu *cpu, enum x86_segment seg, u16 selector, bool external)
{
    unsigned rpl = selector & SEG_SELECTOR_RPL;
    struct seg_desc desc;
    unsigned dpl;

    if (seg_selector_null(selector))
        return;
    if (!seg_desc_read(cpu, selector, &desc) || (desc.attr & X86_SEG_CODE_DATA) == 0 ||
        (seg_attr_code(desc.attr) && (desc.attr & SEG_TYPE_READABLE) == 0))
        task_raise(cpu, X86_TS, selector, external);
    dpl = seg_attr_dpl(desc.attr);
    if (!seg_attr_conforming(desc.attr) && (rpl > dpl || cpu->cpl > dpl))
        task_raise(cpu, X86_TS, selector, external);
    if ((desc.attr & X86_SEG_PRESENT) == 0)
        task_raise(cpu, X86_NP, selector, external);
    seg_desc_set_accessed(cpu, &desc);
    seg_install(&cpu->seg[seg], &desc, rpl);
}

static void task_load_segments(struct cpu *cpu, const struct task_image *image, bool external)
{
    static const u8 data_segments[] = {X86_DS, X86_ES, X86_FS, X86_GS};

    task_load_ldt(cpu, image->ldt, external);
    if ((cpu->rflags & X86_VM) != 0) {
        for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
            seg_install_v86(&cpu->seg[i], image->selector[i]);
    } else {
        task_load_code(cpu, image->selector[X86_CS], external);
        task_load_stack(cpu, image->selector[X86_SS], external);
        for (unsigned i = 0; i < ARRAY_LEN(data_segments); i++)
            task_load_data(cpu, data_segments[i], image->selector[data_segments[i]], external);
    }
    cpu_mode_update(cpu);
    far_check_rip(cpu, cpu->seg[X86_CS].attr, cpu->seg[X86_CS].limit, cpu->rip, external);
}

/* ---- the switch
 * ----------------------------------------------------------------------------------- */

/* The point of no return: general registers, flags and RIP are the incoming task's. */
static void task_commit(struct cpu *cpu, const struct task_switch *to,
                        const struct task_image *image)
{
    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = image->gpr[i];
    cpu->rflags = (image->flags & (X86_ARITH_FLAGS | X86_TF | X86_IF | X86_DF | X86_IOPL | X86_NT |
                                   X86_RF | X86_VM | X86_AC | X86_VIF | X86_VIP | X86_ID)) |
                  X86_FLAG_FIXED;
    if (to->reason == TASK_CALL)
        cpu->rflags |= X86_NT;
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        seg_install_null(&cpu->seg[i], image->selector[i],
                         image->selector[X86_CS] & SEG_SELECTOR_RPL);
    seg_install(&cpu->tr, &to->tss, 0);
    cpu->cr0 |= X86_CR0_TS;
    cpu->dr[7] &= ~0x155ull; /* the local enable bits and LE */
    sys_debug_update(cpu);
    sys_debug_skip_step(cpu);
    sys_set_rip(cpu, image->rip);
    cpu_mode_update(cpu);
}

void task_switch(struct cpu *cpu, const struct task_switch *switch_to)
{
    struct task_switch to = *switch_to;
    const struct tss_layout *layout = tss_layout_of(to.tss.attr);
    const struct tss_layout *old_layout = tss_layout_of(cpu->tr.attr);
    struct task_image image;
    struct seg_desc old;

    if (to.tss.limit < layout->size - 1u)
        task_raise(cpu, X86_TS, to.tss.selector, to.external);
    if ((cpu->tr.attr & X86_SEG_UNUSABLE) != 0 || cpu->tr.limit < old_layout->size - 1u)
        task_raise(cpu, X86_TS, cpu->tr.selector, to.external);
    mmu_probe(cpu, cpu->tr.base, old_layout->size, ACCESS_WRITE, PRIVILEGE_SYSTEM);
    mmu_probe(cpu, to.tss.base, layout->size, to.reason == TASK_CALL ? ACCESS_WRITE : ACCESS_READ,
              PRIVILEGE_SYSTEM);
    task_read(cpu, to.tss.base, layout, &image);

    if (to.reason != TASK_CALL && seg_desc_read(cpu, cpu->tr.selector, &old))
        seg_desc_set_busy(cpu, &old, false);
    task_save(cpu, &to);
    if (to.reason == TASK_CALL)
        tss_write(cpu, to.tss.base, 0, layout->bytes, cpu->tr.selector);
    if (to.reason != TASK_IRET)
        seg_desc_set_busy(cpu, &to.tss, true);

    task_commit(cpu, &to, &image);
    if (layout == &tss32 && (cpu->cr0 & X86_CR0_PG) != 0)
        sys_load_cr3(cpu, image.cr3);
    task_load_segments(cpu, &image, to.external);
    if (image.trap)
        cpu->debug_pending |= DR6_BT;
}

void task_gate_tss(struct cpu *cpu, u16 selector, bool external, struct seg_desc *ret_tss)
{
    u32 error = seg_error(selector, external);
    unsigned type;

    if (seg_selector_null(selector) || (selector & SEG_SELECTOR_LDT) != 0 ||
        !seg_desc_read(cpu, selector, ret_tss))
        cpu_raise_error(cpu, X86_GP, error);
    type = ret_tss->attr & (X86_SEG_TYPE | X86_SEG_CODE_DATA);
    if (type != SEG_TSS16 && type != SEG_TSS32)
        cpu_raise_error(cpu, X86_GP, error);
    if ((ret_tss->attr & X86_SEG_PRESENT) == 0)
        cpu_raise_error(cpu, X86_NP, error);
}

void task_return(struct cpu *cpu)
{
    struct task_switch to = {.reason = TASK_IRET, .rip = cpu->next_rip, .flags = cpu->rflags};
    u16 link = (u16)tss_read(cpu, cpu->tr.base, 0, 2);
    unsigned type;

    if (seg_selector_null(link) || (link & SEG_SELECTOR_LDT) != 0 ||
        !seg_desc_read(cpu, link, &to.tss))
        task_raise(cpu, X86_TS, link, false);
    type = to.tss.attr & (X86_SEG_TYPE | X86_SEG_CODE_DATA);
    if (type != SEG_TSS16_BUSY && type != SEG_TSS32_BUSY)
        task_raise(cpu, X86_TS, link, false);
    if ((to.tss.attr & X86_SEG_PRESENT) == 0)
        task_raise(cpu, X86_NP, link, false);
    task_switch(cpu, &to);
}
