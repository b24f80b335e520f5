/*
 * dbt/interp/sys_cr.c - control registers: what may be written when, and what follows from it.
 *
 * Spec   Intel SDM vol. 2B MOV (control registers), LMSW, INVLPG, INVPCID, XSETBV; vol.
 * 3A 2.5, 2.6, 4.1, 4.10, 9.8.5 (entering long mode). AMD64 APM vol. 2 3.1, 14.6. Runs   on the
 * vCPU's thread, inside an instruction. Callers have checked CPL 0.
 */
#include "dbt/interp/sys_priv.h"
#include "x86/decode.h"

#define CR0_WRITABLE                                                                            \
    (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | \
     X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)
#define CR3_NO_FLUSH BIT(63)

enum { XCR0_X87 = 1, XCR0_SSE = 2, XCR0_AVX = 4 };

void sys_require_cpl0(struct cpu *cpu)
{
    if (cpu->cpl != 0)
        cpu_raise_error(cpu, X86_GP, 0);
}

NO_RETURN static void cr_refuse(struct cpu *cpu)
{
    cpu_raise_error(cpu, X86_GP, 0);
}

/* Legacy PAE paging loads four page-directory pointers, which must be good. */
static void cr_check_pae(struct cpu *cpu, u64 cr0, u64 cr3, u64 cr4)
{
    if ((cr0 & X86_CR0_PG) != 0 && (cr4 & X86_CR4_PAE) != 0 && !seg_long_mode(cpu) &&
        !mmu_pae_pointers_valid(cpu, cr3))
        cr_refuse(cpu);
}

/* ---- CR0
 * ------------------------------------------------------------------------------------------ */

static void cr0_check(struct cpu *cpu, u64 value)
{
    u64 paging = value & X86_CR0_PG;
    bool code64 = cpu->code_bytes == 8;

    if (value >> 32 != 0 || (paging != 0 && (value & X86_CR0_PE) == 0) ||
        ((value & X86_CR0_NW) != 0 && (value & X86_CR0_CD) == 0))
        cr_refuse(cpu);
    if (paging == (cpu->cr0 & X86_CR0_PG))
        return;
    if (paging == 0) {
        if (code64 || (cpu->cr4 & X86_CR4_PCIDE) != 0)
            cr_refuse(cpu);
        return;
    }
    if ((cpu->msr.efer & X86_EFER_LME) == 0) {
        cr_check_pae(cpu, value, cpu->cr3, cpu->cr4);
        return;
    }
    if ((cpu->cr4 & X86_CR4_PAE) == 0 || (cpu->seg[X86_CS].attr & X86_SEG_LONG) != 0)
        cr_refuse(cpu);
}

static void cr0_write(struct cpu *cpu, u64 value)
{
    u64 changed;

    cr0_check(cpu, value);
    value = (value & CR0_WRITABLE) | X86_CR0_ET;
    changed = value ^ cpu->cr0;
    cpu->cr0 = value;
    if ((value & X86_CR0_PG) != 0)
        cpu->msr.efer |= (cpu->msr.efer & X86_EFER_LME) != 0 ? X86_EFER_LMA : 0;
    else
        cpu->msr.efer &= ~(u64)X86_EFER_LMA;
    if ((changed & (X86_CR0_PG | X86_CR0_WP | X86_CR0_PE)) != 0)
        mmu_flush_all(cpu);
    cpu_mode_update(cpu);
}

void sys_lmsw(struct cpu *cpu, u16 value)
{
    /* PE can be set but not cleared. */
    u64 cr0 = (cpu->cr0 & ~0xeull) | (value & 0xf);

    cr0_write(cpu, cr0);
}

void sys_clts(struct cpu *cpu)
{
    cpu->cr0 &= ~(u64)X86_CR0_TS;
}

/* ---- CR3
 * ------------------------------------------------------------------------------------------ */

void sys_load_cr3(struct cpu *cpu, u64 value)
{
    bool pcids = (cpu->cr4 & X86_CR4_PCIDE) != 0;
    bool keep = pcids && (value & CR3_NO_FLUSH) != 0;

    if (pcids)
        value &= ~CR3_NO_FLUSH;
    if (seg_long_mode(cpu)) {
        if ((value & ~cpu->physical_mask & ~0xfffull) != 0)
            cr_refuse(cpu);
    } else {
        value = (u32)value;
        cr_check_pae(cpu, cpu->cr0, value, cpu->cr4);
    }
    cpu->cr3 = value;
    mmu_switch(cpu, keep);
}

/* ---- CR4
 * ------------------------------------------------------------------------------------------ */

u64 sys_cr4_allowed(const struct cpu *cpu)
{
    static const struct {
        u8 leaf; /* 1: ECX and EDX, 7: EBX and ECX */
        u8 word; /* index in EAX, EBX, ECX, EDX */
        u8 bit;
        u32 cr4;
    } rules[] = {
        {1, 3, 1, X86_CR4_VME | X86_CR4_PVI},
        {1, 3, 2, X86_CR4_DE},
        {1, 3, 3, X86_CR4_PSE},
        {1, 3, 4, X86_CR4_TSD},
        {1, 3, 6, X86_CR4_PAE},
        {1, 3, 7, X86_CR4_MCE},
        {1, 3, 13, X86_CR4_PGE},
        {1, 3, 24, X86_CR4_OSFXSR},
        {1, 3, 25, X86_CR4_OSXMMEXCPT},
        {1, 2, 17, X86_CR4_PCIDE},
        {1, 2, 26, X86_CR4_OSXSAVE},
        {7, 1, 0, X86_CR4_FSGSBASE},
        {7, 1, 7, X86_CR4_SMEP},
        {7, 1, 20, X86_CR4_SMAP},
        {7, 2, 2, X86_CR4_UMIP},
    };
    u64 allowed = X86_CR4_PCE;
    u32 leaf1[4], leaf7[4];

    sys_cpuid(cpu, 1, 0, leaf1);
    sys_cpuid(cpu, 7, 0, leaf7);
    for (unsigned i = 0; i < ARRAY_LEN(rules); i++) {
        const u32 *leaf = rules[i].leaf == 1 ? leaf1 : leaf7;

        if ((leaf[rules[i].word] & BIT(rules[i].bit)) != 0)
            allowed |= rules[i].cr4;
    }
    return allowed;
}

static void cr4_write(struct cpu *cpu, u64 value)
{
    u64 changed = value ^ cpu->cr4;

    if ((value & ~sys_cr4_allowed(cpu)) != 0)
        cr_refuse(cpu);
    if (seg_long_mode(cpu)) {
        if ((value & X86_CR4_PAE) == 0)
            cr_refuse(cpu);
        if ((changed & value & X86_CR4_PCIDE) != 0 && (cpu->cr3 & 0xfff) != 0)
            cr_refuse(cpu);
    } else {
        if ((value & X86_CR4_PCIDE) != 0)
            cr_refuse(cpu);
        if ((changed & (X86_CR4_PAE | X86_CR4_PSE | X86_CR4_PGE | X86_CR4_SMEP)) != 0)
            cr_check_pae(cpu, cpu->cr0, cpu->cr3, value);
    }
    cpu->cr4 = value;
    if ((changed & (X86_CR4_PAE | X86_CR4_PSE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMEP |
                    X86_CR4_SMAP)) != 0)
        mmu_flush_all(cpu);
    cpu_mode_update(cpu);
}

/* ---- MOV
 * ------------------------------------------------------------------------------------------ */

static void cr8_write(struct cpu *cpu, u64 value)
{
    if (value > 15)
        cr_refuse(cpu);
    cpu->cr8 = value;
    if (cpu->irq.tpr != NULL)
        *cpu->irq.tpr = (u8)(value << 4);
    /* A lower priority may let a waiting interrupt in. */
    cpu->special |= SPECIAL_IRQ;
}

u64 sys_read_cr(struct cpu *cpu, unsigned number)
{
    switch (number) {
    case 0:
        return cpu->cr0;
    case 2:
        return cpu->cr2;
    case 3:
        return cpu->cr3;
    case 4:
        return cpu->cr4;
    case 8:
        return cpu->irq.tpr != NULL ? *cpu->irq.tpr >> 4 : cpu->cr8;
    default:
        cpu_raise(cpu, X86_UD);
    }
}

void sys_write_cr(struct cpu *cpu, unsigned number, u64 value)
{
    switch (number) {
    case 0:
        cr0_write(cpu, value);
        break;
    case 2:
        cpu->cr2 = value;
        break;
    case 3:
        sys_load_cr3(cpu, value);
        break;
    case 4:
        cr4_write(cpu, value);
        break;
    case 8:
        cr8_write(cpu, value);
        break;
    default:
        cpu_raise(cpu, X86_UD);
    }
}

void sys_write_efer(struct cpu *cpu, u64 value)
{
    u32 leaf[4];
    u64 allowed = X86_EFER_LMA;

    sys_cpuid(cpu, 0x80000001, 0, leaf);
    allowed |= (leaf[3] & BIT(11)) != 0 ? X86_EFER_SCE : 0;
    allowed |= (leaf[3] & BIT(20)) != 0 ? X86_EFER_NXE : 0;
    allowed |= (leaf[3] & BIT(29)) != 0 ? X86_EFER_LME : 0;
    allowed |= (leaf[3] & BIT(25)) != 0 ? X86_EFER_FFXSR : 0;
    if (sys_vendor(cpu) == SYS_VENDOR_AMD) {
        sys_cpuid(cpu, 0x80000021, 0, leaf);
        allowed |= (leaf[0] & BIT(8)) != 0 ? X86_EFER_AIBRSE : 0;
    }
    if ((value & ~allowed) != 0)
        cr_refuse(cpu);
    if ((cpu->cr0 & X86_CR0_PG) != 0 && ((value ^ cpu->msr.efer) & X86_EFER_LME) != 0)
        cr_refuse(cpu);
    value = (value & ~(u64)X86_EFER_LMA) | (cpu->msr.efer & X86_EFER_LMA);
    if (((value ^ cpu->msr.efer) & X86_EFER_NXE) != 0)
        mmu_flush_all(cpu);
    cpu->msr.efer = value;
    cpu_mode_update(cpu);
}

/* ---- XCR0
 * ----------------------------------------------------------------------------------------- */

static void xcr_require(struct cpu *cpu)
{
    if ((cpu->cr4 & X86_CR4_OSXSAVE) == 0)
        cpu_raise(cpu, X86_UD);
}

u64 sys_xgetbv(struct cpu *cpu, u32 index)
{
    u32 leaf[4];

    xcr_require(cpu);
    if (index == 0)
        return cpu->xcr0;
    sys_cpuid(cpu, 0xd, 1, leaf);
    if (index != 1 || (leaf[0] & BIT(2)) == 0)
        cr_refuse(cpu);
    /* XINUSE: every enabled component may hold something, which is always a true answer. */
    return cpu->xcr0;
}

void sys_xsetbv(struct cpu *cpu, u32 index, u64 value)
{
    u32 leaf[4];

    xcr_require(cpu);
    sys_require_cpl0(cpu);
    sys_cpuid(cpu, 0xd, 0, leaf);
    if (index != 0 || (value & XCR0_X87) == 0 || (value & ~((u64)leaf[3] << 32 | leaf[0])) != 0 ||
        ((value & XCR0_AVX) != 0 && (value & XCR0_SSE) == 0))
        cr_refuse(cpu);
    cpu->xcr0 = value;
    cpu_mode_update(cpu);
}

/* ---- invalidation
 * --------------------------------------------------------------------------------- */

void sys_invlpg(struct cpu *cpu, gva_t gva)
{
    if (seg_canonical(gva))
        mmu_flush_page(cpu, gva);
}

void sys_invpcid(struct cpu *cpu, u64 type, u64 pcid, gva_t gva)
{
    if (type > 3 || (type < 2 && (pcid >> 12) != 0))
        cr_refuse(cpu);
    if (type < 2 && (cpu->cr4 & X86_CR4_PCIDE) == 0 && pcid != 0)
        cr_refuse(cpu);
    switch (type) {
    case 0:
        if (!seg_canonical(gva))
            cr_refuse(cpu);
        mmu_flush_page_pcid(cpu, (unsigned)pcid, gva);
        break;
    case 1:
        mmu_flush_pcid(cpu, (unsigned)pcid);
        break;
    case 2:
        mmu_flush_all(cpu);
        break;
    default:
        /* All contexts but global pages: dropping more is allowed. */
        mmu_flush_all(cpu);
        break;
    }
}
