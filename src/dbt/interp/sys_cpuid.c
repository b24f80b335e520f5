/*
 * dbt/interp/sys_cpuid.c - what the guest's processor says of itself.
 *
 * Spec   Intel SDM vol. 2A CPUID; the table is x86/cpuid.c's.
 * Runs   on the vCPU's thread, inside an instruction.
 */
#include "dbt/interp/sys_priv.h"
#include "x86/cpuid.h"
#include "x86/msr.h"

enum { CPUID_1_EDX_APIC = 1 << 9 };

void sys_cpuid(const struct cpu *cpu, u32 leaf, u32 subleaf, u32 ret[4])
{
    struct cpuid_context context = {.apic_id = cpu->index, .cr4 = cpu->cr4, .xcr0 = cpu->xcr0};
    struct cpuid_result result;

    cpuid_lookup(cpu->cpuid, leaf, subleaf, &context, &result);
    if (leaf == 1 && (cpu->msr.apic_base & X86_APIC_BASE_ENABLE) == 0)
        result.edx &= ~(u32)CPUID_1_EDX_APIC;
    ret[0] = result.eax;
    ret[1] = result.ebx;
    ret[2] = result.ecx;
    ret[3] = result.edx;
}

enum sys_vendor sys_vendor(const struct cpu *cpu)
{
    return cpu->cpuid->vendor == CPUID_VENDOR_AMD ? SYS_VENDOR_AMD : SYS_VENDOR_INTEL;
}
