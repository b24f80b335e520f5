/*
 * host/cpu.c - the processor that this program runs on.
 *
 * Spec   Intel SDM vol. 2A CPUID.
 */
#include "host/cpu.h"

#include <cpuid.h>

void cpu_cpuid(u32 leaf, u32 subleaf, u32 ret[4])
{
    __cpuid_count(leaf, subleaf, ret[0], ret[1], ret[2], ret[3]);
}
