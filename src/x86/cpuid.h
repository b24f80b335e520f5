/*
 * x86/cpuid.h - the processor that guests see: one CPUID table for every engine.
 *
 * Spec   Intel SDM vol. 2A CPUID; AMD64 APM vol. 3 appendix E; Linux
 * Documentation/virt/kvm/x86/cpuid.rst. Runs   built once per VM, then read-only: any thread may
 * look up.
 *
 * A model is what the engine can do on this host and what we let guests have, intersected. So a
 * model never shows AVX-512, CET, PKU, LA57, MPX, MONITOR, SVM, VMX or speculation controls. What
 * the engine emulates without help from the host (paging features, x2APIC, TSC-deadline) is there
 * on every host.
 *
 * Vendor: the host's, because guests choose code by it and KVM cannot change it. AMD and Intel
 * differ where a guest can see it: in compatibility mode AMD has SYSCALL and no SYSENTER from long
 * mode, Intel the reverse; 66 with near branches; topology and cache leaves (both forms are filled
 * here).
 */
#ifndef X86_CPUID_H
#define X86_CPUID_H

#include "x86/decode.h"

enum { CPUID_ENTRIES_MAX = 64 };

/* One leaf as the instruction returns it. */
struct cpuid_entry {
    u32 leaf, subleaf;
    bool indexed; /* SUBLEAF counts; otherwise the leaf is the same for any ECX */
    u32 eax, ebx, ecx, edx;
};

enum cpuid_vendor { CPUID_VENDOR_INTEL, CPUID_VENDOR_AMD, CPUID_VENDOR_OTHER };

/* Bits of leaf 0x40000001, EAX (Linux uapi, kvm_para.h). */
enum cpuid_kvm_feature {
    CPUID_KVM_NOP_IO_DELAY = 1 << 1,
    CPUID_KVM_CLOCKSOURCE2 = 1 << 3,
    CPUID_KVM_ASYNC_PF = 1 << 4,
    CPUID_KVM_STEAL_TIME = 1 << 5,
    CPUID_KVM_PV_EOI = 1 << 6,
    CPUID_KVM_PV_UNHALT = 1 << 7,
    CPUID_KVM_PV_TLB_FLUSH = 1 << 9,
    CPUID_KVM_PV_SEND_IPI = 1 << 11,
    CPUID_KVM_PV_SCHED_YIELD = 1 << 13,
    CPUID_KVM_CLOCKSOURCE_STABLE = 1 << 24
};

#define CPUID_KVM_LEAF 0x40000001u

struct cpuid_config {
    /* The host's leaves: cpuid_collect() for dbt, KVM_GET_SUPPORTED_CPUID for kvm. */
    const struct cpuid_entry *host;
    unsigned host_count;
    /* The engine does paging, privilege and timers itself (dbt); false: only what HOST shows. */
    bool system_emulated;
    unsigned cpu_count;     /* 1 to 255 */
    unsigned physical_bits; /* at most so many; 0: the host's, from 36 to 46 */
    u64 tsc_hz;             /* 0: unknown, no frequency leaves */
    u64 apic_hz;            /* what the APIC timer counts before its divider; 0: 1 GHz */
    bool hide_kvm;          /* no KVM signature, so no paravirtual clock */
    u32 kvm_features;  /* more bits of 0x40000001, EAX, than the clock and the port-delay hint */
    const char *brand; /* 47 bytes at most; NULL: the host's */
};

struct cpuid_model {
    unsigned count;
    struct cpuid_entry entry[CPUID_ENTRIES_MAX];
    enum cpuid_vendor vendor;
    unsigned physical_bits;
    bool large_1g;       /* 1 GiB pages */
    bool has_hypercalls; /* the KVM signature is there, so VMCALL and VMMCALL are */
    u64 features;        /* bit n: enum insn_feature n is there */
};

/* What of a vCPU's own state shows in CPUID. */
struct cpuid_context {
    u32 apic_id;
    u64 cr4;
    u64 xcr0;
};

struct cpuid_result {
    u32 eax, ebx, ecx, edx;
};

void cpuid_model_init(struct cpuid_model *ret_model, const struct cpuid_config *config);

/* Reads every leaf that a model is built from through READ (host/cpu.h), at most MAX entries;
 * returns how many. CPUID_HOST_MAX is enough. */
enum { CPUID_HOST_MAX = 96 };
unsigned cpuid_collect(void (*read)(u32 leaf, u32 subleaf, u32 ret[4]),
                       struct cpuid_entry *ret_entries, unsigned max);

/* Makes COUNT collected ENTRIES those of a processor of VENDOR (Intel or AMD), whatever they were
 * of; returns how many are left. Only for engines that execute every instruction as that vendor has
 * it.
 */
unsigned cpuid_as_vendor(struct cpuid_entry *entries, unsigned count, enum cpuid_vendor vendor);

/* What CPUID returns for LEAF and SUBLEAF on the vCPU that CONTEXT describes. A leaf beyond the
 * highest reads as the highest basic one on Intel, as zeros on AMD, as those processors do. */
void cpuid_lookup(const struct cpuid_model *model, u32 leaf, u32 subleaf,
                  const struct cpuid_context *context, struct cpuid_result *ret_result);

/* Entry I, below model->count, with CONTEXT's bits in place: for KVM_SET_CPUID2. */
struct cpuid_entry cpuid_entry_at(const struct cpuid_model *model, unsigned i,
                                  const struct cpuid_context *context);

static inline bool cpuid_has(const struct cpuid_model *model, enum insn_feature feature)
{
    return (model->features >> feature & 1) != 0;
}

#endif
