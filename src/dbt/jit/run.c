/*
 * dbt/jit/run.c - the dispatch loop: find or make the block, run it, follow its exit, link.
 *
 * Runs   on the vCPU's thread, called by the run loop (interp/run.c) and, for single instructions,
 * by translated code through the stubs.
 */
#include "dbt/jit/draft_priv.h"
#include "dbt/jit/lockstep_priv.h"

#include "dbt/interp.h"
#include "dbt/simd.h"

typedef u64 (*enter_function)(struct cpu *cpu, const u8 *code);

u8 jit_mode(const struct cpu *cpu)
{
    unsigned mode = cpu->privilege | (cpu->code_bytes == 4 ? MODE_CODE32 : 0) |
                    (cpu_long_mode(cpu) ? 0 : MODE_LEGACY);
    bool units = !(cpu->cr0 & (X86_CR0_EM | X86_CR0_TS));
    if (units && (cpu->cr0 & X86_CR0_NE))
        mode |= MODE_X87;
    if (units && (cpu->cr4 & X86_CR4_OSFXSR))
        mode |= MODE_SSE;
    if (units && (cpu->cr4 & X86_CR4_OSXSAVE) && (cpu->xcr0 & 6) == 6)
        mode |= MODE_AVX;
    return (u8)mode;
}

bool jit_usable(const struct cpu *cpu)
{
    bool flat = cpu->code_bytes == 8 ||
                (cpu->code_bytes == 4 && cpu->stack_bytes == 4 && cpu->flat && cpu_protected(cpu));
    return flat && (cpu->cpl == 0 || cpu->cpl == 3) && cpu->special == 0 &&
           cpu->tlb_data == cpu->tlb.entries[cpu->privilege];
}

/* Translates the block at cpu->rip, which is at SOURCE. The lock is held. */
static u32 translate(struct cpu *cpu, const struct jit_source *source)
{
    struct jit *jit = cpu->jit;
    struct jit_own *own = cpu->jit_own;
    if (source->tail_host && source->tail_page == source->page)
        return JIT_NONE;
    if (!jit_has_room(jit, jit->filling)) {
        own->full_region = jit->filling;
        return JIT_FULL;
    }
    u64 start_tsc = __builtin_ia32_rdtsc();
    u32 number = jit_translate(cpu, source);
    own->counters.translate_tsc += __builtin_ia32_rdtsc() - start_tsc;
    const struct jit_region *region = jit_filling(jit);
    if (number == JIT_NONE && jit->draft->out.full && region->code.next != region->code.first) {
        own->full_region = jit->filling;
        return JIT_FULL;
    }
    own->counters.refused += number == JIT_NONE;
    if (unlikely(own->lockstep) && number != JIT_NONE)
        own->lockstep->runs[number] = 0;
    return number;
}

/* The block at SOURCE, found or made. The lock is held. */
static u32 block_find(struct cpu *cpu, struct jit_source *source)
{
    struct jit *jit = cpu->jit;
    u64 rip = jit->pages[source->page].virtual_page << 12 | (cpu->rip & 4095);
    u32 number = jit_find(jit, rip, source->page, jit_mode(cpu));
    if (number != JIT_NONE && jit_tail_fits(jit, number, source))
        return number;
    if (number != JIT_NONE) { /* another page follows here than did there */
        jit_unregister(jit, number);
        cpu->jit_own->slot_age++;
        jit_source_number(cpu, source);
    }
    return translate(cpu, source);
}

/* What enter() and the guards must know of BLOCK, which was found at SOURCE. */
static void slot_fill(const struct jit *jit, struct jit_slot *slot, u32 number,
                      const struct jit_source *source)
{
    const struct code_page *page = &jit->pages[source->page];
    slot->block = number;
    slot->page_number = page->number;
    slot->guard = (u16)jit_guard_index(page);
    slot->relative = page->relative;
    slot->tail_number = 0;
    if (number == JIT_NONE || number == JIT_FULL || jit->blocks[number].tail == JIT_NONE)
        return;
    const struct code_page *tail_page = &jit->pages[source->tail_page];
    slot->tail_number = tail_page->number;
    slot->tail_home = tail_page->virtual_page << 12;
    slot->tail_guard = (u16)jit_guard_index(tail_page);
}

/* The block at cpu->rip, made if need be, into SLOT; JIT_NONE when the instruction must be
 * interpreted this time. */
static u32 block_at_rip(struct cpu *cpu, struct jit_slot *slot)
{
    struct jit *jit = cpu->jit;
    struct jit_source source;
    if (!jit_source_find(cpu, &source))
        return JIT_NONE;
    lock_acquire(&jit->lock);
    jit_source_number(cpu, &source);
    slot_fill(jit, slot, block_find(cpu, &source), &source);
    jit_source_done(jit, &source);
    lock_release(&jit->lock);
    cpu->jit_own->counters.lookups++;
    return slot->block;
}

/* Where what was found lately for RIP is kept. */
static struct jit_slot *slot_of(const struct jit_own *own, u64 rip)
{
    return &own->slots[(rip ^ rip >> 12) % JIT_SLOTS];
}

/* Also without the lock: whoever is about to follow what others do may see it late. */
static bool block_is_forgotten(const struct jit *jit, u32 number)
{
    return __atomic_load_n(&jit->blocks[number].page, __ATOMIC_RELAXED) == JIT_NONE;
}

/* The same, after a look at what was found lately. JIT_FULL: not before there is another region to
 * translate it into. */
static u32 block_now(struct cpu *cpu)
{
    struct jit_own *own = cpu->jit_own;
    u64 rip = cpu->rip;
    struct jit_slot *slot = slot_of(own, rip);
    unsigned half = cpu_code_half(cpu, rip);
    u64 stamp = cpu->tlb.fetch_epoch[half] << 8 | jit_mode(cpu);
    /* A block's number stays its own until a region is emptied, which makes all slots stale. */
    if (slot->rip != rip || slot->stamp != stamp || slot->age != own->slot_age ||
        block_is_forgotten(cpu->jit, slot->block)) {
        slot->age = 0;
        u32 number = block_at_rip(cpu, slot);
        if (number == JIT_NONE || number == JIT_FULL)
            return number;
        slot->rip = rip;
        slot->stamp = stamp;
        slot->age = own->slot_age;
    }
    if (half == 0 && cpu->privilege != PRIVILEGE_USER)
        own->low_kernel_code = true;
    if (slot->relative) {
        cpu->jit_delta = rip - cpu->jit->blocks[slot->block].rip;
        own->high_user_code |= half;
    }
    jit_guard_set(cpu, slot->guard, slot->page_number, slot->relative ? cpu->jit_delta : 0);
    if (unlikely(slot->tail_number != 0))
        jit_guard_set(cpu, slot->tail_guard, slot->tail_number,
                      slot->relative ? align_down(rip, 4096) + 4096 - slot->tail_home : 0);
    return slot->block;
}

/* block_now, where there is room for a link as well. After JIT_FULL there is, but the vCPU has
 * stood still, so that all must be looked at again. */
static u32 block_or_room(struct cpu *cpu)
{
    unsigned filling = __atomic_load_n(&cpu->jit->filling, __ATOMIC_ACQUIRE);
    if (!jit_has_room(cpu->jit, filling)) {
        jit_next_region(cpu, filling);
        return JIT_FULL;
    }
    u32 number = block_now(cpu);
    if (number == JIT_FULL)
        jit_next_region(cpu, cpu->jit_own->full_region);
    return number;
}

static unsigned target_index(u64 rip)
{
    u64 sum = (rip >> CPU_JIT_TARGET_ROTATE | rip << (64 - CPU_JIT_TARGET_ROTATE)) + rip;
    return (unsigned)sum & (CPU_JIT_TARGETS - 1);
}

/* Makes the way that translated code has just asked for. */
static void connect(struct cpu *cpu, u64 left, u32 number)
{
    struct jit *jit = cpu->jit;
    struct jit_counters *counters = &cpu->jit_own->counters;
    u32 exit = (u32)(left >> LEAVE_BITS);
    if ((left & 3) == LEAVE_LOOKUP)
        return;
    if ((left & 3) == LEAVE_EXIT &&
        __atomic_load_n(&jit->exits[exit].target, __ATOMIC_RELAXED) != JIT_NONE)
        return; /* it was a poll */
    lock_acquire(&jit->lock);
    struct jit_block *block = &jit->blocks[number];
    bool is_here = block->page != JIT_NONE; /* another vCPU may have forgotten it */
    if (is_here && (left & 3) == LEAVE_EXIT) {
        counters->links += jit_link(jit, exit, number);
    } else if (is_here) {
        counters->indirect_entries += block->indirect == 0;
        u32 entry = jit_indirect_entry(jit, number);
        if (entry != 0)
            cpu->jit_tables.targets[target_index(cpu->rip)] = jit_rx(jit, entry);
    }
    lock_release(&jit->lock);
}

/* Makes the vCPU's state fit for BLOCK's code, whose address it returns. */
static const u8 *prepare(struct cpu *cpu, u32 block)
{
    struct jit *jit = cpu->jit;
    unsigned privilege = cpu->privilege;
    u8 mode = jit_mode(cpu);
    if (!cpu->vector_live)
        simd_load(cpu);
    /* Return sites are gone back to without a look at the mode. */
    if (cpu->jit_stack_modes[privilege] != mode) {
        cpu->jit_stack_modes[privilege] = mode;
        jit_stack_reset(cpu, privilege);
    }
    cpu->jit_mode = mode;
    cpu->jit_return_stack = cpu->jit_return_stacks[privilege];
    cpu->jit_own->counters.entered++;
    return jit_rx(jit, jit->blocks[block].code);
}

static void set_rip(struct cpu *cpu, u64 rip)
{
    cpu->rip = cpu->code_bytes == 8 ? rip : (u32)rip;
}

static u64 enter(struct cpu *cpu, u32 number)
{
    struct jit *jit = cpu->jit;
    enter_function function = (enter_function)(uintptr_t)jit_rx(jit, jit->enter);
    u64 left = function(cpu, prepare(cpu, number));
    cpu->jit_own->counters.left[left & 3]++;
    if ((left & 3) != LEAVE_LOOKUP)
        cpu->jit_return_stacks[cpu->privilege] = cpu->jit_return_stack;
    if ((left & 3) == LEAVE_EXIT) {
        const struct jit_exit *exit = &jit->exits[left >> LEAVE_BITS];
        set_rip(cpu, exit->target_rip + (exit->relative ? cpu->jit_delta : 0));
    }
    return left;
}

/* The same, with translated code checked against the interpreter and no block linked. */
static bool run_in_lockstep(struct cpu *cpu)
{
    lockstep_drop(cpu);
    for (;;) {
        jit_follow(cpu);
        if (__atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) != 0 || !jit_usable(cpu))
            return false;
        u32 number = block_or_room(cpu);
        if (number == JIT_FULL)
            continue;
        if (number == JIT_NONE) {
            lockstep_drop(cpu);
            (void)interp_single(cpu, cpu->counters.insns_interpreted);
            continue;
        }
        lockstep_enter(cpu, number);
        enter(cpu, number);
        lockstep_meet(cpu, false);
    }
}

/* An indirect branch to cpu->rip was not made. */
static void sample_indirect(struct cpu *cpu)
{
    const struct jit_slot *slot = slot_of(cpu->jit_own, cpu->rip);
    if (__atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) != 0 && slot->rip == cpu->rip &&
        slot->age == cpu->jit_own->slot_age)
        jit_sample_block(cpu, slot->block);
}

bool jit_run(struct cpu *cpu)
{
    u64 left = LEAVE_LOOKUP;
    if (unlikely(cpu->jit_own->lockstep))
        return run_in_lockstep(cpu);
    for (;;) {
        jit_follow(cpu);
        if (__atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) != 0 || !jit_usable(cpu))
            return false;
        cpu->jit_own->wants_entry = (left & 3) == LEAVE_INDIRECT;
        u32 number = block_or_room(cpu);
        cpu->jit_own->wants_entry = false;
        if (number == JIT_NONE)
            return true;
        if (number == JIT_FULL) { /* what was left may be gone */
            left = LEAVE_LOOKUP;
            continue;
        }
        connect(cpu, left, number);
        left = enter(cpu, number);
        /* An exit that is linked was left by its poll. */
        if ((left & 3) == LEAVE_EXIT)
            jit_sample(cpu, (u32)(left >> LEAVE_BITS));
        else if ((left & 3) == LEAVE_INDIRECT)
            sample_indirect(cpu);
    }
}

/* Where translated code goes on after an interpreted instruction that has led elsewhere: a host
 * address, or ANSWER_LEAVE. */
static u64 resume(struct cpu *cpu)
{
    if (unlikely(cpu->jit_own->lockstep))
        return ANSWER_LEAVE;
    jit_follow(cpu);
    if (__atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) != 0 || !jit_usable(cpu))
        return ANSWER_LEAVE;
    u32 number = block_now(cpu);
    return number == JIT_NONE || number == JIT_FULL ? ANSWER_LEAVE
                                                    : (u64)(uintptr_t)prepare(cpu, number);
}

u64 jit_interpret(struct cpu *cpu, u32 meta)
{
    return jit_interpret_ready(cpu, meta, NULL);
}

u64 jit_interpret_ready(struct cpu *cpu, u32 meta, const void *ready)
{
    struct jit_own *own = cpu->jit_own;
    const struct jit_block *block = &cpu->jit->blocks[jit_meta_block(meta)];
    u8 mode = block->mode;
    cpu->jit_return_stacks[mode & MODE_PRIVILEGE] = cpu->jit_return_stack;
    own->stacks_reset = false;
    own->counters.interpreted++;
    set_rip(cpu, block->rip + (meta & META_OFFSET) + (jit_relative(mode) ? cpu->jit_delta : 0));
    jit_flags_meet(cpu, meta);
    if (unlikely(own->lockstep))
        lockstep_meet(cpu, true);
    u64 *counts = meta & META_MISSED ? cpu->counters.insns_missed : cpu->counters.insns_interpreted;
    bool goes_on = ready ? interp_ready_run(cpu, ready) : interp_single(cpu, counts);
    if (!goes_on || (meta & META_LEAVE))
        return resume(cpu);
    jit_follow(cpu);
    if (!cpu->vector_live)
        simd_load(cpu);
    if (own->stacks_reset || !jit_usable(cpu) || jit_mode(cpu) != mode)
        return resume(cpu);
    if (unlikely(own->lockstep))
        lockstep_go_on(cpu, jit_meta_block(meta));
    return ANSWER_CONTINUE;
}
