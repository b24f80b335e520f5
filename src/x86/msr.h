/*
 * x86/msr.h - numbers of model-specific registers, and their bits that more than one file needs.
 *
 * Spec   Intel SDM vol. 4; AMD64 APM vol. 2 appendix A; Linux Documentation/virt/kvm/x86/msr.rst.
 */
#ifndef X86_MSR_H
#define X86_MSR_H

enum x86_msr {
    X86_MSR_P5_MC_ADDR = 0x00,
    X86_MSR_P5_MC_TYPE = 0x01,
    X86_MSR_TSC = 0x10,
    X86_MSR_PLATFORM_ID = 0x17,
    X86_MSR_APIC_BASE = 0x1b,
    X86_MSR_FEATURE_CONTROL = 0x3a,
    X86_MSR_TSC_ADJUST = 0x3b,
    X86_MSR_SPEC_CTRL = 0x48,
    X86_MSR_PRED_CMD = 0x49,
    X86_MSR_BIOS_UPDATE = 0x79,
    X86_MSR_BIOS_SIGN_ID = 0x8b,
    X86_MSR_PLATFORM_INFO = 0xce,
    X86_MSR_MPERF = 0xe7,
    X86_MSR_APERF = 0xe8,
    X86_MSR_MTRR_CAP = 0xfe,
    X86_MSR_ARCH_CAPABILITIES = 0x10a,
    X86_MSR_FLUSH_CMD = 0x10b,
    X86_MSR_SYSENTER_CS = 0x174,
    X86_MSR_SYSENTER_ESP = 0x175,
    X86_MSR_SYSENTER_EIP = 0x176,
    X86_MSR_MCG_CAP = 0x179,
    X86_MSR_MCG_STATUS = 0x17a,
    X86_MSR_MCG_CTL = 0x17b,
    X86_MSR_PERF_STATUS = 0x198,
    X86_MSR_MISC_ENABLE = 0x1a0,
    X86_MSR_DEBUGCTL = 0x1d9,
    X86_MSR_MTRR_BASE0 = 0x200, /* base and mask in turn, 8 pairs */
    X86_MSR_MTRR_MASK7 = 0x20f,
    X86_MSR_MTRR_FIX64K_00000 = 0x250,
    X86_MSR_MTRR_FIX16K_80000 = 0x258,
    X86_MSR_MTRR_FIX16K_A0000 = 0x259,
    X86_MSR_MTRR_FIX4K_C0000 = 0x268, /* to 0x26f, 0x8000 apart */
    X86_MSR_MTRR_FIX4K_F8000 = 0x26f,
    X86_MSR_PAT = 0x277,
    X86_MSR_MTRR_DEF_TYPE = 0x2ff,
    X86_MSR_TSC_DEADLINE = 0x6e0,
    X86_MSR_X2APIC = 0x800, /* plus the register's offset / 16 */
    X86_MSR_X2APIC_LAST = 0x8ff,
    X86_MSR_XSS = 0xda0
};

/* Those of AMD's range are unsigned: they do not fit an int. */
#define X86_MSR_EFER 0xc0000080u
#define X86_MSR_STAR 0xc0000081u
#define X86_MSR_LSTAR 0xc0000082u
#define X86_MSR_CSTAR 0xc0000083u
#define X86_MSR_SFMASK 0xc0000084u
#define X86_MSR_FS_BASE 0xc0000100u
#define X86_MSR_GS_BASE 0xc0000101u
#define X86_MSR_KERNEL_GS_BASE 0xc0000102u
#define X86_MSR_TSC_AUX 0xc0000103u
#define X86_MSR_AMD_SYSCFG 0xc0010010u
#define X86_MSR_AMD_HWCR 0xc0010015u
#define X86_MSR_AMD_PATCH_LEVEL 0x8bu
#define X86_MSR_AMD_DE_CFG 0xc0011029u

/* KVM's paravirtual ones. */
#define X86_MSR_KVM_WALL_CLOCK 0x4b564d00u
#define X86_MSR_KVM_SYSTEM_TIME 0x4b564d01u
#define X86_MSR_KVM_ASYNC_PF_EN 0x4b564d02u
#define X86_MSR_KVM_STEAL_TIME 0x4b564d03u
#define X86_MSR_KVM_EOI_EN 0x4b564d04u
#define X86_MSR_KVM_POLL_CONTROL 0x4b564d05u
#define X86_MSR_KVM_ASYNC_PF_INT 0x4b564d06u
#define X86_MSR_KVM_ASYNC_PF_ACK 0x4b564d07u
#define X86_MSR_KVM_WALL_CLOCK_OLD 0x11u
#define X86_MSR_KVM_SYSTEM_TIME_OLD 0x12u

enum x86_apic_base_bit {
    X86_APIC_BASE_BSP = 1 << 8,
    X86_APIC_BASE_X2APIC = 1 << 10,
    X86_APIC_BASE_ENABLE = 1 << 11
};

#endif
