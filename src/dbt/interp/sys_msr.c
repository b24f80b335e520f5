/*
 * dbt/interp/sys_msr.c - RDMSR and WRMSR: the registers that the processor holds itself.
 *
 * Spec   Intel SDM vol. 4; AMD64 APM vol. 2 appendix A; AMD processor programming references.
 * Runs   on the vCPU's thread, inside an instruction. Callers have checked CPL 0.
 * Trust  values are checked for reserved bits before they are stored.
 *
 * The local APIC's registers, the TSC deadline and paravirtual clocks are the machine's: these and
 * all unknown numbers go out to it, and it says what is #GP(0). Memory types (PAT, MTRR) are kept
 * to be read back; all memory is write-back.
 */
#include "dbt/interp/sys_priv.h"
#include "x86/msr.h"

/* Those that nothing else needs to know. */
enum {
    MSR_LAST_BRANCH_FIRST = 0x1db, /* last branch and last exception, from and to */
    MSR_LAST_BRANCH_LAST = 0x1de
};
#define MSR_AMD_EVENT_FIRST 0xc0010000u /* four event selects, four counters */
#define MSR_AMD_EVENT_LAST 0xc0010007u
#define MSR_AMD_NB_CFG 0xc001001fu
#define MSR_AMD_PATCH_LOADER 0xc0010020u
#define MSR_AMD_INT_PENDING 0xc0010055u
#define MSR_AMD_MMIO_CONF 0xc0010058u
#define MSR_AMD_DC_CFG 0xc0011022u
#define MSR_AMD_BU_CFG2 0xc001102au

enum {
    MTRR_CAP_VALUE = 0x508, /* eight variable ranges, fixed ranges, write combining */
    MTRR_DEF_TYPE_BITS = 0xcff,
    DEBUGCTL_BITS = 3,      /* LBR, BTF: kept, without effect */
    SPEC_CTRL_BITS = 0x407, /* IBRS, STIBP, SSBD, BHI_DIS_S: kept, without effect */
    DE_CFG_LFENCE_SERIALIZES = 2,
    HWCR_TSC_FREQ_SEL = 1 << 24
};
/*
 * What guests need not mitigate, because what they would do about it has no effect where their code
 * never runs as they wrote it, and costs time:
 *
 *   RDCL_NO              a second set of page tables for programs: the host's page tables map all
 *                        guest memory at one privilege level whatever the guest's say; who may
 *                        access what is checked in software, before the access
 *   MDS_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, RFDS_NO
 *                        VERW to clear buffers: here it reads a descriptor; the host's kernel
 * clears the buffers when it switches processes IBRS_ALL, BHI_NO, PBRSB_NO, ITS_NO retpolines,
 * aligned thunks, branch loops: an indirect branch of the guest is another one in the host, through
 * a table SSB_NO, GDS_NO       bits in MSRs that do nothing here SKIP_L1DFL_VMENTRY, PSCHANGE_MC_NO
 *                        for guests that are hypervisors themselves, which these cannot be
 *
 * It is no statement about the processor below: a guest's programs and its kernel share a process,
 * and with it its predictors and caches (see x86/cpuid.c).
 */
#define ARCH_CAPABILITIES_VALUE 0x400000000d10e17bull

NO_RETURN static void msr_refuse(struct cpu *cpu)
{
    cpu_raise_error(cpu, X86_GP, 0);
}

static bool msr_cpuid(const struct cpu *cpu, u32 leaf, unsigned word, unsigned bit)
{
    u32 values[4];

    sys_cpuid(cpu, leaf, 0, values);
    return (values[word] & BIT(bit)) != 0;
}

static bool msr_has_spec_ctrl(const struct cpu *cpu)
{
    return msr_cpuid(cpu, 7, 3, 26) || msr_cpuid(cpu, 0x80000008, 1, 14) ||
           msr_cpuid(cpu, 0x80000008, 1, 15) || msr_cpuid(cpu, 0x80000008, 1, 24);
}

static bool msr_has_pred_cmd(const struct cpu *cpu)
{
    return msr_cpuid(cpu, 7, 3, 26) || msr_cpuid(cpu, 0x80000008, 1, 12);
}

/* Memory types: UC, WC, WT, WP, WB; and UC- in the PAT. */
static bool msr_memory_types_valid(u64 value, bool pat)
{
    for (unsigned i = 0; i < 8; i++) {
        u8 type = (u8)(value >> (i * 8));

        if (type > 7 || type == 2 || type == 3 || (type == 7 && !pat))
            return false;
    }
    return true;
}

u64 sys_tsc(const struct cpu *cpu)
{
    return __builtin_ia32_rdtsc() + cpu->tsc_offset;
}

/* ---- where a register is kept
 * --------------------------------------------------------------------- */

/* The plain ones: any value (canonical where CANONICAL says so) may be stored. NULL: not one. */
static u64 *msr_plain(struct cpu *cpu, u32 index, bool *ret_canonical)
{
    *ret_canonical = false;
    switch (index) {
    case X86_MSR_STAR:
        return &cpu->msr.star;
    case X86_MSR_SYSENTER_CS:
        return &cpu->msr.sysenter_cs;
    case X86_MSR_MCG_STATUS:
        return &cpu->msr.mcg_status;
    default:
        break;
    }
    *ret_canonical = true;
    switch (index) {
    case X86_MSR_LSTAR:
        return &cpu->msr.lstar;
    case X86_MSR_CSTAR:
        return &cpu->msr.cstar;
    case X86_MSR_SYSENTER_ESP:
        return &cpu->msr.sysenter_esp;
    case X86_MSR_SYSENTER_EIP:
        return &cpu->msr.sysenter_eip;
    case X86_MSR_FS_BASE:
        return &cpu->seg[X86_FS].base;
    case X86_MSR_GS_BASE:
        return &cpu->seg[X86_GS].base;
    case X86_MSR_KERNEL_GS_BASE:
        return &cpu->msr.kernel_gs_base;
    default:
        return NULL;
    }
}

static u64 *msr_mtrr(struct cpu *cpu, u32 index)
{
    if (index >= X86_MSR_MTRR_BASE0 && index <= X86_MSR_MTRR_MASK7) {
        u32 i = (index - X86_MSR_MTRR_BASE0) / 2;

        return index % 2 == 0 ? &cpu->msr.mtrr_base[i] : &cpu->msr.mtrr_mask[i];
    }
    if (index == X86_MSR_MTRR_FIX64K_00000)
        return &cpu->msr.mtrr_fixed[0];
    if (index >= X86_MSR_MTRR_FIX16K_80000 && index <= X86_MSR_MTRR_FIX16K_A0000)
        return &cpu->msr.mtrr_fixed[1 + index - X86_MSR_MTRR_FIX16K_80000];
    if (index >= X86_MSR_MTRR_FIX4K_C0000 && index <= X86_MSR_MTRR_FIX4K_F8000)
        return &cpu->msr.mtrr_fixed[3 + index - X86_MSR_MTRR_FIX4K_C0000];
    return NULL;
}

static void msr_write_mtrr(struct cpu *cpu, u32 index, u64 *place, u64 value)
{
    u64 reserved = ~cpu->physical_mask;

    if (index >= X86_MSR_MTRR_FIX64K_00000) {
        if (!msr_memory_types_valid(value, false))
            msr_refuse(cpu);
    } else if (index % 2 == 0) {
        /* The low byte is the type; seven good ones beside it let the same check do. */
        if ((value & (reserved | 0xf00)) != 0 || !msr_memory_types_valid(value & 0xff, false))
            msr_refuse(cpu);
    } else if ((value & (reserved | 0x7ff)) != 0) {
        msr_refuse(cpu);
    }
    *place = value;
}

/* ---- AMD's own
 * ------------------------------------------------------------------------------------ */

static bool msr_read_amd(struct cpu *cpu, u32 index, u64 *ret_value)
{
    if (sys_vendor(cpu) != SYS_VENDOR_AMD)
        return false;
    if (index >= MSR_AMD_EVENT_FIRST && index <= MSR_AMD_EVENT_LAST) {
        *ret_value = 0;
        return true;
    }
    switch (index) {
    case X86_MSR_AMD_HWCR:
        *ret_value = HWCR_TSC_FREQ_SEL;
        return true;
    case X86_MSR_AMD_DE_CFG:
        *ret_value = DE_CFG_LFENCE_SERIALIZES;
        return true;
    case X86_MSR_AMD_SYSCFG:
    case MSR_AMD_NB_CFG:
    case MSR_AMD_INT_PENDING:
    case MSR_AMD_MMIO_CONF:
    case MSR_AMD_DC_CFG:
    case MSR_AMD_BU_CFG2:
        *ret_value = 0;
        return true;
    default:
        return false;
    }
}

/* Chipset and erratum controls: writes have no effect. */
static bool msr_write_amd(struct cpu *cpu, u32 index)
{
    u64 unused;

    return msr_read_amd(cpu, index, &unused) ||
           (index == MSR_AMD_PATCH_LOADER && sys_vendor(cpu) == SYS_VENDOR_AMD);
}

/* ---- RDMSR
 * ---------------------------------------------------------------------------------------- */

static u64 msr_read_gated(struct cpu *cpu, u32 index)
{
    bool intel = sys_vendor(cpu) == SYS_VENDOR_INTEL;

    switch (index) {
    case X86_MSR_SPEC_CTRL:
        if (msr_has_spec_ctrl(cpu))
            return cpu->msr.spec_ctrl;
        break;
    case X86_MSR_ARCH_CAPABILITIES:
        if (msr_cpuid(cpu, 7, 3, 29))
            return ARCH_CAPABILITIES_VALUE;
        break;
    case X86_MSR_TSC_ADJUST:
        if (msr_cpuid(cpu, 7, 1, 1))
            return cpu->msr.tsc_adjust;
        break;
    case X86_MSR_TSC_AUX:
        if (msr_cpuid(cpu, 0x80000001, 3, 27) || msr_cpuid(cpu, 7, 2, 22))
            return cpu->msr.tsc_aux;
        break;
    case X86_MSR_PLATFORM_ID:
        if (intel)
            return 0;
        break;
    default:
        return cpu_device_access(cpu, EXIT_MSR_READ, index, 8, 0);
    }
    msr_refuse(cpu);
}

u64 sys_rdmsr(struct cpu *cpu, u32 index)
{
    bool canonical;
    const u64 *place = msr_plain(cpu, index, &canonical);
    u64 value;

    if (place == NULL)
        place = msr_mtrr(cpu, index);
    if (place != NULL)
        return *place;
    if (msr_read_amd(cpu, index, &value))
        return value;
    if (index >= MSR_LAST_BRANCH_FIRST && index <= MSR_LAST_BRANCH_LAST)
        return 0;
    switch (index) {
    case X86_MSR_TSC:
        return sys_tsc(cpu);
    case X86_MSR_BIOS_SIGN_ID:
        return cpu->msr.bios_sign_id;
    case X86_MSR_MTRR_CAP:
        return MTRR_CAP_VALUE;
    case X86_MSR_MTRR_DEF_TYPE:
        return cpu->msr.mtrr_def_type;
    case X86_MSR_PAT:
        return cpu->msr.pat;
    case X86_MSR_MCG_CAP:
        return 0; /* no banks */
    case X86_MSR_DEBUGCTL:
        return cpu->msr.debugctl;
    case X86_MSR_EFER:
        return cpu->msr.efer;
    case X86_MSR_MISC_ENABLE:
        return cpu->msr.misc_enable; /* AMD has none, but every hypervisor gives guests one */
    case X86_MSR_SFMASK:
        return cpu->msr.sfmask;
    default:
        return msr_read_gated(cpu, index);
    }
}

/* ---- WRMSR
 * ---------------------------------------------------------------------------------------- */

static void msr_write_tsc(struct cpu *cpu, u64 delta)
{
    cpu->tsc_offset += delta;
    cpu->msr.tsc_adjust += delta;
}

static void msr_write_gated(struct cpu *cpu, u32 index, u64 value)
{
    switch (index) {
    case X86_MSR_SPEC_CTRL:
        if (!msr_has_spec_ctrl(cpu) || (value & ~(u64)SPEC_CTRL_BITS) != 0)
            msr_refuse(cpu);
        cpu->msr.spec_ctrl = value;
        return;
    case X86_MSR_PRED_CMD:
        if (!msr_has_pred_cmd(cpu) || (value & ~1ull) != 0)
            msr_refuse(cpu);
        return;
    case X86_MSR_FLUSH_CMD:
        if (!msr_cpuid(cpu, 7, 3, 28) || (value & ~1ull) != 0)
            msr_refuse(cpu);
        return;
    case X86_MSR_TSC_ADJUST:
        if (!msr_cpuid(cpu, 7, 1, 1))
            msr_refuse(cpu);
        msr_write_tsc(cpu, value - cpu->msr.tsc_adjust);
        return;
    case X86_MSR_TSC_AUX:
        if ((!msr_cpuid(cpu, 0x80000001, 3, 27) && !msr_cpuid(cpu, 7, 2, 22)) || value >> 32 != 0)
            msr_refuse(cpu);
        cpu->msr.tsc_aux = value;
        return;
    case X86_MSR_MISC_ENABLE:
        cpu->msr.misc_enable = value;
        return;
    case X86_MSR_PLATFORM_ID:
    case X86_MSR_MTRR_CAP:
    case X86_MSR_MCG_CAP:
    case X86_MSR_ARCH_CAPABILITIES:
        msr_refuse(cpu);
    case X86_MSR_APIC_BASE:
        if ((value & ~cpu->physical_mask) != 0)
            msr_refuse(cpu);
        cpu_device_access(cpu, EXIT_MSR_WRITE, index, 8, value);
        cpu->msr.apic_base = value; /* the machine has taken it; CPUID shows the enable bit */
        return;
    default:
        cpu_device_access(cpu, EXIT_MSR_WRITE, index, 8, value);
    }
}

/* True when INDEX is one whose value must be one of few. */
static bool msr_write_checked(struct cpu *cpu, u32 index, u64 value)
{
    switch (index) {
    case X86_MSR_PAT:
        if (!msr_memory_types_valid(value, true))
            msr_refuse(cpu);
        cpu->msr.pat = value;
        return true;
    case X86_MSR_MTRR_DEF_TYPE:
        if ((value & ~(u64)MTRR_DEF_TYPE_BITS) != 0 || !msr_memory_types_valid(value & 0xff, false))
            msr_refuse(cpu);
        cpu->msr.mtrr_def_type = value;
        return true;
    case X86_MSR_DEBUGCTL:
        if ((value & ~(u64)DEBUGCTL_BITS) != 0)
            msr_refuse(cpu);
        cpu->msr.debugctl = value;
        return true;
    default:
        return false;
    }
}

void sys_wrmsr(struct cpu *cpu, u32 index, u64 value)
{
    bool canonical;
    u64 *place = msr_plain(cpu, index, &canonical);

    if (place != NULL) {
        if (canonical && !seg_canonical(value))
            msr_refuse(cpu);
        *place = value;
        return;
    }
    place = msr_mtrr(cpu, index);
    if (place != NULL) {
        msr_write_mtrr(cpu, index, place, value);
        return;
    }
    if (msr_write_checked(cpu, index, value) || msr_write_amd(cpu, index))
        return;
    switch (index) {
    case X86_MSR_TSC:
        msr_write_tsc(cpu, value - sys_tsc(cpu));
        return;
    case X86_MSR_BIOS_UPDATE:
    case X86_MSR_BIOS_SIGN_ID:
        /* Software clears the latter before it asks for the microcode's version by CPUID. */
        return;
    case X86_MSR_EFER:
        sys_write_efer(cpu, value);
        return;
    case X86_MSR_SFMASK:
        cpu->msr.sfmask = (u32)value;
        return;
    default:
        msr_write_gated(cpu, index, value);
    }
}
