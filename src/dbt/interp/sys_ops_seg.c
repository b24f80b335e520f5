/*
 * dbt/interp/sys_ops_seg.c - instructions about segments and descriptor tables.
 *
 * Spec   Intel SDM vol. 2, the pages of the instructions; vol. 3A 2.4, 5.10 (pointer validation),
 *        5.13 (UMIP).
 * Runs   on the vCPU's thread; see interp_priv.h for what a handler may rely on.
 */
#include "dbt/interp/sys_ops_priv.h"

/* UMIP hides the system tables from programs: #GP(0). */
static void require_not_umip(struct cpu *cpu)
{
    if ((cpu->cr4 & X86_CR4_UMIP) != 0 && cpu->cpl != 0)
        cpu_raise_error(cpu, X86_GP, 0);
}

/* A selector or status word goes to memory as 2 bytes, to a register as wide as the operand. */
static void write_word(struct cpu *cpu, const struct insn *insn, u64 value)
{
    interp_write_rm(cpu, insn, insn->has_memory ? 2 : insn->operand_bytes, value);
}

static gva_t linear_add(const struct cpu *cpu, gva_t gva, u64 bytes)
{
    return cpu->code_bytes == 8 ? gva + bytes : (u32)(gva + bytes);
}

/* ---- MOV, PUSH, POP, LDS
 * --------------------------------------------------------------------------- */

/* After a load of SS nothing comes between it and the load of rSP that follows. */
static void stack_shadow(struct cpu *cpu)
{
    cpu->interrupt_shadow = true;
    cpu->step_skip = true;
    cpu_mode_update(cpu);
}

void op_mov_seg(struct cpu *cpu, const struct insn *insn)
{
    u16 selector = (u16)interp_read_rm(cpu, insn, 2);

    if (insn->reg == X86_CS || insn->reg >= X86_SEGMENT_COUNT)
        cpu_raise(cpu, X86_UD);
    seg_load(cpu, (enum x86_segment)insn->reg, selector);
    if (insn->reg == X86_SS)
        stack_shadow(cpu);
}

void op_mov_from_seg(struct cpu *cpu, const struct insn *insn)
{
    if (insn->reg >= X86_SEGMENT_COUNT)
        cpu_raise(cpu, X86_UD);
    write_word(cpu, insn, cpu->seg[insn->reg].selector);
}

void op_push_seg(struct cpu *cpu, const struct insn *insn)
{
    interp_push(cpu, insn->operand_bytes, cpu->seg[insn->desc->operand[0].reg].selector);
}

void op_pop_seg(struct cpu *cpu, const struct insn *insn)
{
    enum x86_segment seg = (enum x86_segment)insn->desc->operand[0].reg;
    struct sys_stack stack;

    sys_stack_current(cpu, &stack);
    u16 selector = (u16)sys_stack_pop(cpu, &stack, insn->operand_bytes);
    seg_load(cpu, seg, selector);
    sys_stack_commit(cpu, &stack);
    if (seg == X86_SS)
        stack_shadow(cpu);
}

static void load_far_pointer(struct cpu *cpu, const struct insn *insn, enum x86_segment seg)
{
    unsigned bytes = insn->operand_bytes;
    gva_t gva = insn_linear(cpu, insn, bytes + 2, ACCESS_READ);
    u64 offset = mmu_read(cpu, gva, bytes);
    u16 selector = (u16)mmu_read(cpu, linear_add(cpu, gva, bytes), 2);

    seg_load(cpu, seg, selector);
    interp_set_gpr(cpu, insn, insn->reg, bytes, offset);
}

void op_les(struct cpu *cpu, const struct insn *insn)
{
    load_far_pointer(cpu, insn, X86_ES);
}

void op_lds(struct cpu *cpu, const struct insn *insn)
{
    load_far_pointer(cpu, insn, X86_DS);
}

void op_lss(struct cpu *cpu, const struct insn *insn)
{
    load_far_pointer(cpu, insn, X86_SS);
}

void op_lfs(struct cpu *cpu, const struct insn *insn)
{
    load_far_pointer(cpu, insn, X86_FS);
}

void op_lgs(struct cpu *cpu, const struct insn *insn)
{
    load_far_pointer(cpu, insn, X86_GS);
}

/* ---- LAR, LSL, VERR, VERW, ARPL
 * -------------------------------------------------------------------- */

static void set_zf(struct cpu *cpu, bool set)
{
    cpu->rflags = (cpu->rflags & ~(u64)X86_ZF) | (set ? X86_ZF : 0);
}

/* Reads the descriptor of SELECTOR if it is of a kind in TYPES (a mask of system types; code and
 * data always are) and visible from here. */
static bool desc_visible(struct cpu *cpu, u16 selector, u32 types, struct seg_desc *ret_desc)
{
    unsigned dpl;

    if (seg_selector_null(selector) || !seg_desc_read(cpu, selector, ret_desc))
        return false;
    if ((ret_desc->attr & X86_SEG_CODE_DATA) == 0 &&
        (types & BIT(ret_desc->attr & X86_SEG_TYPE)) == 0)
        return false;
    dpl = seg_attr_dpl(ret_desc->attr);
    return seg_attr_conforming(ret_desc->attr) ||
           (dpl >= cpu->cpl && dpl >= (unsigned)(selector & SEG_SELECTOR_RPL));
}

void op_lar(struct cpu *cpu, const struct insn *insn)
{
    u32 types = seg_long_mode(cpu) ? 0x1a04 : 0x1a3e; /* SDM vol. 2A, LAR, table 3-53 */
    u16 selector = (u16)interp_read_rm(cpu, insn, 2);
    struct seg_desc desc;
    bool visible = desc_visible(cpu, selector, types, &desc);

    if (visible)
        interp_set_gpr(cpu, insn, insn->reg, insn->operand_bytes, (desc.raw >> 32) & 0x00ffff00);
    set_zf(cpu, visible);
}

void op_lsl(struct cpu *cpu, const struct insn *insn)
{
    u32 types = seg_long_mode(cpu) ? 0x0a04 : 0x0a0e;
    u16 selector = (u16)interp_read_rm(cpu, insn, 2);
    struct seg_desc desc;
    bool visible = desc_visible(cpu, selector, types, &desc);

    if (visible)
        interp_set_gpr(cpu, insn, insn->reg, insn->operand_bytes, desc.limit);
    set_zf(cpu, visible);
}

void op_verr(struct cpu *cpu, const struct insn *insn)
{
    u16 selector = (u16)interp_read_rm(cpu, insn, 2);
    struct seg_desc desc;
    bool visible = desc_visible(cpu, selector, 0, &desc);

    set_zf(cpu, visible && (!seg_attr_code(desc.attr) || (desc.attr & SEG_TYPE_READABLE) != 0));
}

void op_verw(struct cpu *cpu, const struct insn *insn)
{
    u16 selector = (u16)interp_read_rm(cpu, insn, 2);
    struct seg_desc desc;
    bool visible = desc_visible(cpu, selector, 0, &desc);

    set_zf(cpu, visible && seg_attr_writable_data(desc.attr));
}

void op_arpl(struct cpu *cpu, const struct insn *insn)
{
    u16 to = (u16)interp_read_rm(cpu, insn, 2);
    unsigned rpl = cpu->gpr[insn->reg] & SEG_SELECTOR_RPL;
    bool raise = (unsigned)(to & SEG_SELECTOR_RPL) < rpl;

    if (raise)
        interp_write_rm(cpu, insn, 2, (to & ~SEG_SELECTOR_RPL) | rpl);
    set_zf(cpu, raise);
}

/* ---- LDTR, TR, GDTR, IDTR, the machine status word
 * ------------------------------------------------- */

void op_sldt(struct cpu *cpu, const struct insn *insn)
{
    require_not_umip(cpu);
    write_word(cpu, insn, cpu->ldtr.selector);
}

void op_str(struct cpu *cpu, const struct insn *insn)
{
    require_not_umip(cpu);
    write_word(cpu, insn, cpu->tr.selector);
}

/* Reads a system descriptor of one of TYPES for LLDT or LTR. */
static void read_system(struct cpu *cpu, u16 selector, u32 types, struct seg_desc *ret_desc)
{
    u32 error = seg_error(selector, false);

    if ((selector & SEG_SELECTOR_LDT) != 0 || !seg_desc_read(cpu, selector, ret_desc))
        cpu_raise_error(cpu, X86_GP, error);
    if ((ret_desc->attr & X86_SEG_CODE_DATA) != 0 ||
        (types & BIT(ret_desc->attr & X86_SEG_TYPE)) == 0)
        cpu_raise_error(cpu, X86_GP, error);
    if ((ret_desc->attr & X86_SEG_PRESENT) == 0)
        cpu_raise_error(cpu, X86_NP, error);
    if (seg_long_mode(cpu) &&
        (!seg_desc_extend(cpu, ret_desc) || (ret_desc->raw_high & (0x1full << 40)) != 0 ||
         !seg_canonical(ret_desc->base)))
        cpu_raise_error(cpu, X86_GP, error);
}

void op_lldt(struct cpu *cpu, const struct insn *insn)
{
    u16 selector = (u16)interp_read_rm(cpu, insn, 2);
    struct seg_desc desc;

    if (seg_selector_null(selector)) {
        seg_install_null(&cpu->ldtr, selector, 0);
        return;
    }
    read_system(cpu, selector, BIT(SEG_LDT), &desc);
    seg_install(&cpu->ldtr, &desc, selector & SEG_SELECTOR_RPL);
}

void op_ltr(struct cpu *cpu, const struct insn *insn)
{
    u16 selector = (u16)interp_read_rm(cpu, insn, 2);
    u32 types = BIT(SEG_TSS32) | (seg_long_mode(cpu) ? 0 : BIT(SEG_TSS16));
    struct seg_desc desc;

    if (seg_selector_null(selector))
        cpu_raise_error(cpu, X86_GP, 0);
    read_system(cpu, selector, types, &desc);
    seg_desc_set_busy(cpu, &desc, true);
    seg_install(&cpu->tr, &desc, selector & SEG_SELECTOR_RPL);
}

static void store_table(struct cpu *cpu, const struct insn *insn, const struct x86_table *table)
{
    unsigned bytes = cpu->code_bytes == 8 ? 8 : 4;

    require_not_umip(cpu);
    gva_t gva = insn_linear(cpu, insn, bytes + 2, ACCESS_WRITE);
    mmu_probe(cpu, gva, bytes + 2, ACCESS_WRITE, (enum cpu_privilege)cpu->privilege);
    mmu_write(cpu, gva, 2, table->limit);
    mmu_write(cpu, linear_add(cpu, gva, 2), bytes, table->base);
}

static void load_table(struct cpu *cpu, const struct insn *insn, struct x86_table *table)
{
    unsigned bytes = cpu->code_bytes == 8 ? 8 : 4;
    gva_t gva = insn_linear(cpu, insn, bytes + 2, ACCESS_READ);
    u16 limit = (u16)mmu_read(cpu, gva, 2);
    u64 base = mmu_read(cpu, linear_add(cpu, gva, 2), bytes);

    if (bytes == 8 && !seg_canonical(base))
        cpu_raise_error(cpu, X86_GP, 0);
    if (bytes == 4 && insn->operand_bytes == 2)
        base &= 0xffffff;
    table->limit = limit;
    table->base = base;
}

void op_sgdt(struct cpu *cpu, const struct insn *insn)
{
    store_table(cpu, insn, &cpu->gdtr);
}

void op_sidt(struct cpu *cpu, const struct insn *insn)
{
    store_table(cpu, insn, &cpu->idtr);
}

void op_lgdt(struct cpu *cpu, const struct insn *insn)
{
    load_table(cpu, insn, &cpu->gdtr);
}

void op_lidt(struct cpu *cpu, const struct insn *insn)
{
    load_table(cpu, insn, &cpu->idtr);
}

void op_smsw(struct cpu *cpu, const struct insn *insn)
{
    require_not_umip(cpu);
    write_word(cpu, insn, cpu->cr0);
}

void op_lmsw(struct cpu *cpu, const struct insn *insn)
{
    sys_lmsw(cpu, (u16)interp_read_rm(cpu, insn, 2));
}

/* ---- FS and GS bases
 * ------------------------------------------------------------------------------- */

static void require_fsgsbase(struct cpu *cpu)
{
    if ((cpu->cr4 & X86_CR4_FSGSBASE) == 0)
        cpu_raise(cpu, X86_UD);
}

static void read_base(struct cpu *cpu, const struct insn *insn, enum x86_segment seg)
{
    require_fsgsbase(cpu);
    interp_write_rm(cpu, insn, insn_operand_bytes(insn, 0), cpu->seg[seg].base);
}

static void write_base(struct cpu *cpu, const struct insn *insn, enum x86_segment seg)
{
    u64 base = interp_read_rm(cpu, insn, insn_operand_bytes(insn, 0));

    require_fsgsbase(cpu);
    if (!seg_canonical(base))
        cpu_raise_error(cpu, X86_GP, 0);
    cpu->seg[seg].base = base;
}

void op_rdfsbase(struct cpu *cpu, const struct insn *insn)
{
    read_base(cpu, insn, X86_FS);
}

void op_rdgsbase(struct cpu *cpu, const struct insn *insn)
{
    read_base(cpu, insn, X86_GS);
}

void op_wrfsbase(struct cpu *cpu, const struct insn *insn)
{
    write_base(cpu, insn, X86_FS);
}

void op_wrgsbase(struct cpu *cpu, const struct insn *insn)
{
    write_base(cpu, insn, X86_GS);
}

void op_swapgs(struct cpu *cpu, const struct insn *insn)
{
    u64 base = cpu->seg[X86_GS].base;

    cpu->seg[X86_GS].base = cpu->msr.kernel_gs_base;
    cpu->msr.kernel_gs_base = base;
}
