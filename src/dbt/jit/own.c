/*
 * dbt/jit/own.c - what each vCPU keeps of its own beside the shared code: return stacks, targets of
 * indirect branches, guards and slots; and how it follows what others do to the code.
 *
 * Code that was overwritten is forgotten by the first vCPU that follows the group's log; from then
 * on nothing new leads to it, but vCPUs that have not yet followed may still be in it, as they may
 * on a processor. A region is emptied only while all others stand still, so what leads there is
 * dropped before it can be used.
 *
 * Runs   on the vCPU's thread.
 */
#include "dbt/jit/draft_priv.h"
#include "dbt/jit/lockstep_priv.h"

#include "base/alloc.h"
#include "base/errno.h"

void jit_stack_reset(struct cpu *cpu, unsigned privilege)
{
    const struct jit_stacks *stacks = &cpu->jit_own->stacks;
    u8 *top = stacks->at[privilege] + stacks->bytes - RETURN_STACK_BOTTOM;
    for (unsigned i = 0; i < RETURN_STACK_BOTTOM; i += 8)
        store_le64(top + i, (u64)(uintptr_t)jit_rx(cpu->jit, cpu->jit->bottom));
    cpu->jit_return_stacks[privilege] = (u64)(uintptr_t)top;
    cpu->jit_own->stacks_reset = true;
}

static void stacks_reset(struct cpu *cpu)
{
    for (unsigned i = 0; i < PRIVILEGE_COUNT; i++)
        jit_stack_reset(cpu, i);
}

static void targets_reset(struct cpu *cpu)
{
    void *miss = jit_rx(cpu->jit, cpu->jit->indirect_miss);
    for (unsigned i = 0; i < CPU_JIT_TARGETS; i++)
        cpu->jit_tables.targets[i] = miss;
}

static void follow_mappings(struct cpu *cpu)
{
    struct jit_own *own = cpu->jit_own;
    u64 *seen = own->fetch_epoch_seen;
    const u64 *now = cpu->tlb.fetch_epoch;
    bool low = seen[0] != now[0], high = seen[1] != now[1];
    if (high && own->high_user_code)
        jit_guards_clear(cpu);
    else if (high)
        jit_guards_clear_upper(cpu);
    if (low)
        jit_guards_switch(cpu, seen[0], now[0]);
    seen[0] = now[0];
    seen[1] = now[1];
    if (high || (low && own->low_kernel_code))
        stacks_reset(cpu);
    else if (low)
        jit_stack_reset(cpu, PRIVILEGE_USER);
    if (low)
        own->low_kernel_code = false;
}

/* Code memory was used again: what this processor may have fetched from it ahead must go. */
static void serialize(void)
{
    u32 a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

static void follow_drops(struct cpu *cpu, u64 evict_count, u64 forget_count)
{
    struct jit_own *own = cpu->jit_own;
    u64 restart_count = __atomic_load_n(&cpu->jit->restart_count, __ATOMIC_ACQUIRE);
    if (own->evict_seen != evict_count) {
        targets_reset(cpu);
        own->trial.meta = 0;
        own->slot_age++;
        serialize();
    }
    if (own->restart_seen != restart_count)
        jit_guards_clear(cpu);
    own->evict_seen = evict_count;
    own->forget_seen = forget_count;
    own->restart_seen = restart_count;
    stacks_reset(cpu);
}

void jit_follow(struct cpu *cpu)
{
    struct jit *jit = cpu->jit;
    struct jit_own *own = cpu->jit_own;
    const u64 *epoch = cpu->tlb.fetch_epoch;
    if (own->fetch_epoch_seen[0] != epoch[0] || own->fetch_epoch_seen[1] != epoch[1])
        follow_mappings(cpu);
    u32 count = __atomic_load_n(&cpu->group->code_log_count, __ATOMIC_ACQUIRE);
    if (cpu->code_seen != count) {
        jit_forget_written(jit, count);
        cpu->code_seen = count;
    }
    u64 evict_count = __atomic_load_n(&jit->evict_count, __ATOMIC_ACQUIRE);
    u64 forget_count = __atomic_load_n(&jit->forget_count, __ATOMIC_ACQUIRE);
    if (own->evict_seen != evict_count || own->forget_seen != forget_count)
        follow_drops(cpu, evict_count, forget_count);
}

int jit_join(struct cpu *cpu, struct jit *jit, const struct jit_stacks *stacks)
{
    struct jit_own *own = new0(struct jit_own);
    if (own == NULL)
        return -ENOMEM;
    own->slots = new0_array(struct jit_slot, JIT_SLOTS);
    if (own->slots == NULL) {
        alloc_free(own);
        return -ENOMEM;
    }
    own->stacks = *stacks;
    cpu->jit_own = own;
    cpu->jit = jit;
    cpu->jit_fills = 1;
    lock_acquire(&jit->lock);
    jit->users++;
    lock_release(&jit->lock);
    own->evict_seen = own->restart_seen = ~0ull; /* begin with all things reset */
    jit_follow(cpu);
    return 0;
}

void jit_leave(struct cpu *cpu)
{
    struct jit *jit = cpu->jit;
    if (jit == NULL)
        return;
    lock_acquire(&jit->lock);
    bool last = --jit->users == 0;
    for (unsigned i = 0; i < jit->region_count && last && jit->tracer; i++)
        trace_tell_runs(cpu, &jit->regions[i].blocks);
    lock_release(&jit->lock);
    cpu->jit = NULL;
    lockstep_free(cpu->jit_own->lockstep);
    alloc_free(cpu->jit_own->slots);
    alloc_free(cpu->jit_own);
    cpu->jit_own = NULL;
}
