/*
 * dbt/jit/guard.c - the guards that links between pages check: set, cleared, and kept for address
 * spaces that the guest comes back to.
 *
 * A guard of the lower half is good in one epoch (dbt/mmu/fetch.c). When another epoch begins, the
 * guards that were set are noted under the old one; should that epoch come back, so do they.
 *
 * Runs   on the vCPU's thread.
 */
#include "dbt/jit/jit_priv.h"

void jit_guard_set(struct cpu *cpu, unsigned index, u32 number, u64 delta)
{
    struct cpu_jit_tables *tables = &cpu->jit_tables;
    struct jit_guards *guards = &cpu->jit_own->guards;
    delta += jit_guard_tag(number);
    if (tables->page_guard[index] == number && tables->guard_delta[index] == delta)
        return;
    tables->page_guard[index] = number;
    tables->guard_delta[index] = delta;
    if (index >= CPU_JIT_GUARDS / 2)
        return;
    if (guards->set_count < JIT_GUARD_NOTES)
        guards->set[guards->set_count] = (u16)index;
    guards->set_count++;
}

static void clear(struct cpu_jit_tables *tables, unsigned index)
{
    tables->page_guard[index] = 0;
    tables->guard_delta[index] = ~0ull;
}

static void clear_half(struct cpu *cpu, unsigned half)
{
    for (unsigned i = 0; i < CPU_JIT_GUARDS / 2; i++)
        clear(&cpu->jit_tables, half * (CPU_JIT_GUARDS / 2) + i);
}

void jit_guards_clear_upper(struct cpu *cpu)
{
    clear_half(cpu, 1);
}

void jit_guards_clear(struct cpu *cpu)
{
    clear_half(cpu, 0);
    clear_half(cpu, 1);
    cpu->jit_own->guards.set_count = 0;
    for (unsigned i = 0; i < JIT_GUARD_CONTEXTS; i++)
        cpu->jit_own->guards.contexts[i].epoch = 0;
}

/* Clears the lower half's guards; those that were set are noted under EPOCH. */
static void put_away(struct cpu *cpu, u64 epoch)
{
    struct cpu_jit_tables *tables = &cpu->jit_tables;
    struct jit_guards *guards = &cpu->jit_own->guards;
    struct jit_guard_context *context =
        &guards->contexts[guards->next_context++ % JIT_GUARD_CONTEXTS];
    if (guards->set_count > JIT_GUARD_NOTES) {
        clear_half(cpu, 0);
        return;
    }
    context->epoch = epoch;
    context->count = 0;
    for (unsigned i = 0; i < guards->set_count; i++) {
        unsigned index = guards->set[i];
        if (tables->page_guard[index] == 0)
            continue;
        context->notes[context->count++] = (struct jit_guard_note){
            (u16)index, tables->page_guard[index], tables->guard_delta[index]};
        clear(tables, index);
    }
}

static void bring_back(struct cpu *cpu, u64 epoch)
{
    struct cpu_jit_tables *tables = &cpu->jit_tables;
    struct jit_guards *guards = &cpu->jit_own->guards;
    struct jit_guard_context *context = guards->contexts;
    const struct jit_guard_context *end = context + JIT_GUARD_CONTEXTS;
    guards->set_count = 0;
    while (context < end && context->epoch != epoch)
        context++;
    if (context == end)
        return;
    for (unsigned i = 0; i < context->count; i++) {
        const struct jit_guard_note *note = &context->notes[i];
        tables->page_guard[note->index] = note->number;
        tables->guard_delta[note->index] = note->delta;
        guards->set[guards->set_count++] = note->index;
    }
    context->epoch = 0;
}

void jit_guards_switch(struct cpu *cpu, u64 from, u64 to)
{
    put_away(cpu, from);
    bring_back(cpu, to);
}
