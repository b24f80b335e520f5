/*
 * dbt/mmu/group.c - the vCPUs of one VM as a group: joining, leaving, and making all others stand
 * still.
 *
 * A vCPU is `running` while it may touch guest memory. One that wants the others still takes the
 * group's lock, says so, and waits until each has stopped between two blocks or is outside its run
 * loop; those wait on the lock. While it waits for the lock itself it counts as stopped, so two at
 * once cannot wait for each other.
 *
 * Runs   on vCPU threads; joining and leaving on any, while the vCPU in question does not run.
 */
#include "core/mem.h"
#include "dbt/cpu.h"
#include "dbt/mmu/walk_priv.h"

void cpu_group_init(struct cpu_group *group, struct mem *mem, const struct cpuid_model *cpuid)
{
    group->mem = mem;
    group->cpuid = cpuid;
}

void cpu_group_join(struct cpu *cpu)
{
    struct cpu_group *group = cpu->group;
    lock_acquire(&group->lock);
    if (group->cpu_count <= cpu->index)
        __atomic_store_n(&group->cpu_count, cpu->index + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&group->cpus[cpu->index], cpu, __ATOMIC_RELEASE);
    lock_release(&group->lock);
}

void cpu_group_leave(struct cpu *cpu)
{
    struct cpu_group *group = cpu->group;
    lock_acquire(&group->lock);
    if (group->cpus[cpu->index] == cpu)
        __atomic_store_n(&group->cpus[cpu->index], NULL, __ATOMIC_RELEASE);
    lock_release(&group->lock);
}

void cpu_group_enter(struct cpu *cpu)
{
    for (;;) {
        __atomic_store_n(&cpu->running, 1, __ATOMIC_SEQ_CST);
        if (!__atomic_load_n(&cpu->group->pausing, __ATOMIC_SEQ_CST))
            return;
        __atomic_store_n(&cpu->running, 0, __ATOMIC_SEQ_CST);
        lock_acquire(&cpu->group->lock);
        lock_release(&cpu->group->lock);
    }
}

void cpu_group_exit(struct cpu *cpu)
{
    __atomic_store_n(&cpu->running, 0, __ATOMIC_SEQ_CST);
}

/* Waits until every vCPU but SELF (may be NULL) stands still; the lock is held. */
static void others_stop(struct cpu_group *group, const struct cpu *self)
{
    for (unsigned i = 0; i < group->cpu_count; i++) {
        struct cpu *other = group->cpus[i];
        if (other == NULL || other == self)
            continue;
        cpu_request(other, ATTENTION_PAUSE);
        while (__atomic_load_n(&other->running, __ATOMIC_SEQ_CST))
            __builtin_ia32_pause();
    }
}

static void others_go(struct cpu_group *group)
{
    __atomic_store_n(&group->pausing, 0, __ATOMIC_SEQ_CST);
    lock_release(&group->lock);
}

void cpu_group_pause_between(struct cpu *cpu)
{
    struct cpu_group *group = cpu->group;
    __atomic_store_n(&cpu->running, 0, __ATOMIC_SEQ_CST);
    lock_acquire(&group->lock);
    __atomic_store_n(&cpu->waits_inside, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&group->pausing, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&cpu->running, 1, __ATOMIC_SEQ_CST);
    others_stop(group, cpu);
}

void cpu_group_pause(struct cpu *cpu)
{
    __atomic_store_n(&cpu->waits_inside, 1, __ATOMIC_SEQ_CST);
    cpu_group_pause_between(cpu);
}

void cpu_group_resume(struct cpu *cpu)
{
    others_go(cpu->group);
}

struct cpu *cpu_group_inside(struct cpu *cpu)
{
    struct cpu_group *group = cpu->group;
    for (unsigned i = 0; i < group->cpu_count; i++) {
        struct cpu *other = group->cpus[i];
        if (other && other != cpu && __atomic_load_n(&other->waits_inside, __ATOMIC_SEQ_CST))
            return other;
    }
    return NULL;
}

void cpu_group_dirty_sync(struct cpu_group *group)
{
    lock_acquire(&group->lock);
    __atomic_store_n(&group->pausing, 1, __ATOMIC_SEQ_CST);
    others_stop(group, NULL);
    for (unsigned i = 0; i < group->cpu_count; i++) {
        if (group->cpus[i])
            tlb_drop_writes(group->cpus[i]);
    }
    others_go(group);
}
