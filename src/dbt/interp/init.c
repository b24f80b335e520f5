/*
 * dbt/interp/init.c - a vCPU's beginning and end.
 */
#include "base/errno.h"
#include "dbt/interp/run_priv.h"
#include "dbt/simd.h"
#include "x86/cpuid.h"

int cpu_init(struct cpu *cpu, struct cpu_group *group, unsigned index)
{
    if (index >= CPU_GROUP_MAX)
        return -EINVAL;
    cpu->group = group;
    cpu->mem = group->mem;
    cpu->cpuid = group->cpuid;
    cpu->index = index;
    cpu->features = ~0ull;
    cpu->physical_mask = BIT(40) - 1;
    cpu->large_1g = true;
    if (cpu->cpuid) {
        cpu->features = cpu->cpuid->features;
        cpu->physical_mask = BIT(cpu->cpuid->physical_bits) - 1;
        cpu->large_1g = cpu->cpuid->large_1g;
    }
    int error = block_cache_init(cpu);
    if (error == 0)
        error = simd_init(cpu);
    if (error == 0) {
        struct x86_state state;
        x86_state_reset(&state, index == 0);
        error = cpu_set_state(cpu, &state);
    }
    if (error != 0) {
        cpu_fini(cpu);
        return error;
    }
    cpu_group_join(cpu);
    return 0;
}

void cpu_fini(struct cpu *cpu)
{
    cpu_group_leave(cpu);
    simd_fini(cpu);
    block_cache_fini(cpu);
}
