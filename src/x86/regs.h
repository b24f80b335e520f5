/*
 * x86/regs.h - the architectural state of one vCPU, in the form every engine and snapshot shares.
 *
 * Spec   Intel SDM vol. 3A chapters 2 to 6 and 13; AMD64 APM vol. 2 chapters 3, 4, 8 and 11.
 * The numbers of registers are those of instruction encodings.
 */
#ifndef X86_REGS_H
#define X86_REGS_H

#include "base/types.h"

enum x86_gpr {
    X86_RAX,
    X86_RCX,
    X86_RDX,
    X86_RBX,
    X86_RSP,
    X86_RBP,
    X86_RSI,
    X86_RDI,
    X86_R8,
    X86_R9,
    X86_R10,
    X86_R11,
    X86_R12,
    X86_R13,
    X86_R14,
    X86_R15,
    X86_GPR_COUNT
};

enum x86_segment { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_SEGMENT_COUNT };

/* Segment attributes: bytes 5 and 6 of the descriptor, as VMX and SVM hold them. */
enum x86_segment_attr {
    X86_SEG_TYPE = 0x000f,
    X86_SEG_CODE_DATA = 0x0010, /* S: 1 for code and data, 0 for system */
    X86_SEG_DPL_SHIFT = 5,
    X86_SEG_DPL = 0x0060,
    X86_SEG_PRESENT = 0x0080,
    X86_SEG_AVL = 0x1000,
    X86_SEG_LONG = 0x2000,
    X86_SEG_BIG = 0x4000, /* D/B */
    X86_SEG_GRANULAR = 0x8000,
    X86_SEG_UNUSABLE = 0x0100 /* loaded with a null selector; in no descriptor */
};

struct x86_seg {
    u64 base;
    u32 limit; /* in bytes, last valid offset; granularity already applied */
    u16 selector;
    u16 attr; /* enum x86_segment_attr */
};

struct x86_table {
    u64 base;
    u16 limit;
};

enum x86_flag {
    X86_CF = 1 << 0,
    X86_PF = 1 << 2,
    X86_AF = 1 << 4,
    X86_ZF = 1 << 6,
    X86_SF = 1 << 7,
    X86_TF = 1 << 8,
    X86_IF = 1 << 9,
    X86_DF = 1 << 10,
    X86_OF = 1 << 11,
    X86_IOPL = 3 << 12,
    X86_NT = 1 << 14,
    X86_RF = 1 << 16,
    X86_VM = 1 << 17,
    X86_AC = 1 << 18,
    X86_VIF = 1 << 19,
    X86_VIP = 1 << 20,
    X86_ID = 1 << 21,
    X86_FLAG_FIXED = 1 << 1,
    X86_ARITH_FLAGS = X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF | X86_OF
};

enum x86_cr0 {
    X86_CR0_PE = 1 << 0,
    X86_CR0_MP = 1 << 1,
    X86_CR0_EM = 1 << 2,
    X86_CR0_TS = 1 << 3,
    X86_CR0_ET = 1 << 4,
    X86_CR0_NE = 1 << 5,
    X86_CR0_WP = 1 << 16,
    X86_CR0_AM = 1 << 18,
    X86_CR0_NW = 1 << 29,
    X86_CR0_CD = 1 << 30
};
#define X86_CR0_PG (1u << 31)

enum x86_cr4 {
    X86_CR4_VME = 1 << 0,
    X86_CR4_PVI = 1 << 1,
    X86_CR4_TSD = 1 << 2,
    X86_CR4_DE = 1 << 3,
    X86_CR4_PSE = 1 << 4,
    X86_CR4_PAE = 1 << 5,
    X86_CR4_MCE = 1 << 6,
    X86_CR4_PGE = 1 << 7,
    X86_CR4_PCE = 1 << 8,
    X86_CR4_OSFXSR = 1 << 9,
    X86_CR4_OSXMMEXCPT = 1 << 10,
    X86_CR4_UMIP = 1 << 11,
    X86_CR4_LA57 = 1 << 12,
    X86_CR4_FSGSBASE = 1 << 16,
    X86_CR4_PCIDE = 1 << 17,
    X86_CR4_OSXSAVE = 1 << 18,
    X86_CR4_SMEP = 1 << 20,
    X86_CR4_SMAP = 1 << 21,
    X86_CR4_PKE = 1 << 22
};

enum x86_efer {
    X86_EFER_SCE = 1 << 0,
    X86_EFER_LME = 1 << 8,
    X86_EFER_LMA = 1 << 10,
    X86_EFER_NXE = 1 << 11,
    X86_EFER_SVME = 1 << 12,
    X86_EFER_FFXSR = 1 << 14,
    X86_EFER_AIBRSE = 1 << 21 /* automatic IBRS: kept, without effect */
};

enum x86_vector {
    X86_DE = 0,
    X86_DB = 1,
    X86_NMI = 2,
    X86_BP = 3,
    X86_OF_TRAP = 4,
    X86_BR = 5,
    X86_UD = 6,
    X86_NM = 7,
    X86_DF_FAULT = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS_FAULT = 12,
    X86_GP = 13,
    X86_PF_FAULT = 14,
    X86_MF = 16,
    X86_AC_FAULT = 17,
    X86_MC = 18,
    X86_XM = 19
};

/* Page-fault error code bits. */
enum x86_pf { X86_PF_P = 1, X86_PF_W = 2, X86_PF_U = 4, X86_PF_RSVD = 8, X86_PF_I = 16 };

/* What a vCPU is doing between runs. */
enum x86_activity {
    X86_ACTIVE,
    X86_HALTED,        /* HLT; an interrupt, NMI or INIT wakes it */
    X86_WAIT_FOR_SIPI, /* an application processor before its start-up IPI */
    X86_SHUTDOWN       /* triple fault */
};

enum { X86_XSAVE_BYTES = 832 }; /* standard format: legacy 512, header 64, AVX 256 */

/* MTRRs are kept only to be read back: all memory is write-back. */
enum { X86_MTRR_VARIABLE_COUNT = 8, X86_MTRR_FIXED_COUNT = 11 };

struct x86_msrs {
    u64 efer, star, lstar, cstar, sfmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, tsc_aux, misc_enable, apic_base, tsc_deadline, tsc_adjust, spec_ctrl;
    u64 debugctl, mcg_status, bios_sign_id;
    u64 mtrr_def_type, mtrr_fixed[X86_MTRR_FIXED_COUNT];
    u64 mtrr_base[X86_MTRR_VARIABLE_COUNT], mtrr_mask[X86_MTRR_VARIABLE_COUNT];
    /* KVM's paravirtual clock, where the engine keeps it (engine.in_kernel_pvclock); else 0. */
    u64 kvm_system_time, kvm_wall_clock;
};

/* An event that the processor has begun to deliver or must deliver next. Its kind decides what a
 * fault during its delivery becomes: an interrupt may have any vector, even that of an exception.
 */
enum x86_event_kind { X86_EVENT_EXCEPTION, X86_EVENT_INTERRUPT, X86_EVENT_NMI };
struct x86_event {
    bool pending;
    bool has_error;
    u8 vector;
    u8 kind; /* enum x86_event_kind */
    u32 error;
};

struct x86_state {
    u64 gpr[X86_GPR_COUNT];
    u64 rip;
    u64 rflags;
    struct x86_seg seg[X86_SEGMENT_COUNT];
    struct x86_seg ldtr, tr;
    struct x86_table gdtr, idtr;
    u64 cr0, cr2, cr3, cr4, cr8;
    u64 dr[8]; /* 4 and 5 unused */
    u64 xcr0;
    u64 tsc;        /* the guest's time stamp counter at the moment of the save */
    u64 pvclock_ns; /* KVM's paravirtual clock at that moment, the VM's; 0 as above */
    struct x86_msrs msr;
    struct x86_event event; /* exception or interrupt in delivery */
    bool interrupt_shadow;  /* after STI or MOV SS */
    bool nmi_pending;
    bool nmi_blocked; /* between NMI delivery and IRET */
    u32 activity;     /* enum x86_activity */
    u8 xsave[X86_XSAVE_BYTES] __attribute__((aligned(64)));
};

/* Fills STATE as after power-up (SDM vol. 3A table 9-1); an application processor waits for SIPI.
 */
void x86_state_reset(struct x86_state *state, bool bootstrap_processor);

/* Puts a processor that received INIT and then SIPI with VECTOR at VECTOR:0000, running. INIT keeps
 * MSRs, the FPU, MTRRs and TSC (SDM vol. 3A table 9-1, INIT column). */
void x86_state_init_sipi(struct x86_state *state, u8 vector);

#endif
