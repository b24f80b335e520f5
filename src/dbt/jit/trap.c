/*
 * dbt/jit/trap.c - host traps in translated code: guest divide errors, floating-point exceptions,
 * and return stacks that are full.
 *
 * Runs   in the signal handler, on the vCPU's thread.
 */
#include "dbt/jit/jit_priv.h"

enum { GUARD_BYTES = 4096 };

/* The privilege whose return stack has ADDRESS in its guard page; PRIVILEGE_COUNT when none has. */
static unsigned guard_of(const struct jit_stacks *stacks, u64 address)
{
    unsigned i = 0;
    while (i < PRIVILEGE_COUNT && (u64)(uintptr_t)stacks->at[i] - address - 1 >= GUARD_BYTES)
        i++;
    return i;
}

/* The trap site at offset CODE; NULL where there is none. Without the lock: the sites of the region
 * that the calling vCPU is in stay, and what another one adds or takes back is behind them. */
static const struct jit_trap_site *site_of(const struct jit *jit, u32 code)
{
    const struct jit_region *region = jit->regions, *end = region + jit->region_count;
    while (region < end && code - region->code.first >= region->code.end - region->code.first)
        region++;
    if (region == end)
        return NULL;
    u32 low = region->traps.first, high = __atomic_load_n(&region->traps.next, __ATOMIC_ACQUIRE);
    u32 next = high;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (jit->traps[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < next && jit->traps[low].code == code)
        return &jit->traps[low];
    low = __atomic_load_n(&region->cold_traps.first, __ATOMIC_ACQUIRE);
    while (low < region->cold_traps.end && jit->traps[low].code != code)
        low++;
    return low < region->cold_traps.end ? &jit->traps[low] : NULL;
}

bool jit_trap(const struct cpu *cpu, u64 address, u64 *pc, u64 *sp, u64 *r9)
{
    const struct jit *jit = cpu ? cpu->jit : NULL;
    if (jit == NULL || *pc - (u64)(uintptr_t)jit->memory.execute >= jit->memory.bytes)
        return false;
    const struct jit_stacks *stacks = &cpu->jit_own->stacks;
    u32 code = (u32)(*pc - (u64)(uintptr_t)jit->memory.execute);
    unsigned full = guard_of(stacks, address);
    if (full < PRIVILEGE_COUNT) { /* start it again; the call or push repeats */
        u8 *top = stacks->at[full] + stacks->bytes - RETURN_STACK_BOTTOM;
        /* A stub pushes when a call has just brought it here: it keeps its way back. */
        if (code < jit->stubs_end) {
            top -= 8;
            __builtin_memcpy(top, (const void *)(uintptr_t)*sp, 8);
        }
        *sp = (u64)(uintptr_t)top;
        return true;
    }
    const struct jit_trap_site *site = site_of(jit, code);
    if (site == NULL)
        return false;
    *r9 = site->meta;
    *pc = (u64)(uintptr_t)jit_rx(jit, jit->trap);
    return true;
}
