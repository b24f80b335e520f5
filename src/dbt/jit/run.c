/*
 * dbt/jit/run.c - the dispatch loop: find or make the block, run it, follow its exit, link.
 *
 * Runs   on the vCPU's thread, called by the run loop (interp/run.c) and, for single instructions,
 * by translated code through the stubs.
 */
#include "dbt/jit/draft_priv.h"
#include "dbt/jit/lockstep_priv.h"

#include "core/mem.h"
#include "dbt/interp.h"
#include "dbt/simd.h"

typedef u64 (*enter_function)(struct cpu *cpu, const u8 *code);

u8 jit_mode(const struct cpu *cpu)
{
    unsigned mode = cpu->privilege | (cpu->code_bytes == 4 ? MODE_CODE32 : 0);
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

/* Follows what the MMU has done since the last look. */
static void follow_changes(struct cpu *cpu)
{
    const u64 *seen = cpu->jit->fetch_epoch_seen, *now = cpu->tlb.fetch_epoch;
    if (seen[0] != now[0] || seen[1] != now[1])
        jit_follow_mappings(cpu);
    jit_follow_code_writes(cpu);
}

/* Translates the block at cpu->rip; where its region is full, into the next one. */
static u32 translate(struct cpu *cpu, u32 *page, gpa_t gpa)
{
    struct jit *jit = cpu->jit;
    const u8 *host = mem_map(cpu->mem, gpa & ~4095ull, 4096, MEM_READ);
    u64 start_tsc = __builtin_ia32_rdtsc();
    if (host == NULL)
        return JIT_NONE;
    u32 number = jit_translate(cpu, *page, host, gpa);
    if (number == JIT_NONE && jit->draft->out.full) {
        jit_page_done(jit, *page);
        jit_next_region(cpu);
        *page = jit_page(jit, cpu->rip, gpa >> 12, jit_mode(cpu), cpu->jit_delta);
        number = jit_translate(cpu, *page, host, gpa);
    }
    jit->counters.translate_tsc += __builtin_ia32_rdtsc() - start_tsc;
    if (unlikely(jit->lockstep) && number != JIT_NONE)
        jit->lockstep->runs[number] = 0;
    return number;
}

/* The block at cpu->rip, made if need be; JIT_NONE when the instruction must be
 * interpreted this time. */
static u32 block_at_rip(struct cpu *cpu)
{
    struct jit *jit = cpu->jit;
    gpa_t gpa = mmu_fetch_page(cpu, cpu->rip) | (cpu->rip & 4095);
    u8 mode = jit_mode(cpu);
    u32 page = jit_page(jit, cpu->rip, gpa >> 12, mode, cpu->jit_delta);
    u64 rip = jit->pages[page].virtual_page << 12 | (cpu->rip & 4095);
    u32 number = jit_find(jit, rip, page, mode);
    jit->counters.lookups++;
    if (number != JIT_NONE)
        return number;
    number = translate(cpu, &page, gpa);
    if (number == JIT_NONE) {
        jit_page_done(jit, page);
        jit->counters.refused++;
    }
    return number;
}

/* The same, after a look at what was found lately; JIT_NONE when it must be interpreted. */
static u32 block_now(struct cpu *cpu)
{
    struct jit *jit = cpu->jit;
    u64 rip = cpu->rip;
    struct jit_slot *slot = &jit->slots[(rip ^ rip >> 12) % JIT_SLOTS];
    u64 stamp = cpu->tlb.fetch_epoch[rip >> 63] << 8 | jit_mode(cpu);
    u32 number = slot->block;
    if (slot->rip != rip || slot->stamp != stamp || slot->age != jit->slot_age) {
        number = block_at_rip(cpu);
        if (number == JIT_NONE)
            return JIT_NONE;
        *slot = (struct jit_slot){rip, stamp, jit->slot_age, number};
    }
    if (rip >> 63 == 0 && cpu->privilege != PRIVILEGE_USER)
        jit->low_kernel_code = true;
    const struct code_page *page = &jit->pages[jit->blocks[number].page];
    if (page->relative) {
        cpu->jit_delta = rip - jit->blocks[number].rip;
        jit->high_user_code |= rip >> 63;
    }
    jit_guard_set(cpu, page, page->relative ? cpu->jit_delta : 0);
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
    if ((left & 3) == LEAVE_EXIT) {
        jit_link(jit, (u32)(left >> LEAVE_BITS), number);
    } else if ((left & 3) == LEAVE_INDIRECT) {
        u32 entry = jit_indirect_entry(jit, number);
        if (entry != 0)
            cpu->jit_tables.targets[target_index(cpu->rip)] = jit_rx(jit, entry);
    }
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
    jit->counters.entered++;
    return jit_rx(jit, jit->blocks[block].code);
}

static u64 enter(struct cpu *cpu, u32 number)
{
    struct jit *jit = cpu->jit;
    enter_function function = (enter_function)(uintptr_t)jit_rx(jit, jit->enter);
    u64 left = function(cpu, prepare(cpu, number));
    jit->counters.left[left & 3]++;
    if ((left & 3) != LEAVE_LOOKUP)
        cpu->jit_return_stacks[cpu->privilege] = cpu->jit_return_stack;
    if ((left & 3) == LEAVE_EXIT) {
        const struct jit_exit *exit = &jit->exits[left >> LEAVE_BITS];
        cpu->rip = exit->target_rip + (exit->relative ? cpu->jit_delta : 0);
    }
    return left;
}

/* The same, with translated code checked against the interpreter and no block linked. */
static bool run_in_lockstep(struct cpu *cpu)
{
    lockstep_drop(cpu);
    for (;;) {
        follow_changes(cpu);
        if (__atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) != 0 || !jit_usable(cpu))
            return false;
        if (!jit_has_room(cpu->jit))
            jit_next_region(cpu);
        u32 number = block_now(cpu);
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

bool jit_run(struct cpu *cpu)
{
    struct jit *jit = cpu->jit;
    u64 left = LEAVE_LOOKUP;
    if (unlikely(jit->lockstep))
        return run_in_lockstep(cpu);
    for (;;) {
        u64 evict_count = jit->evict_count;
        follow_changes(cpu);
        if (__atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) != 0 || !jit_usable(cpu))
            return false;
        if (!jit_has_room(jit))
            jit_next_region(cpu);
        u32 number = block_now(cpu);
        if (number == JIT_NONE)
            return true;
        if (jit->evict_count == evict_count)
            connect(cpu, left, number);
        left = enter(cpu, number);
        /* An exit that is linked was left by its poll. */
        u32 target = (left & 3) == LEAVE_EXIT ? jit->exits[left >> LEAVE_BITS].target : JIT_NONE;
        if (target != JIT_NONE)
            jit_sample(cpu, target);
    }
}

/* Where translated code goes on after an interpreted instruction that has led elsewhere: a host
 * address, or ANSWER_LEAVE. */
static u64 resume(struct cpu *cpu)
{
    if (unlikely(cpu->jit->lockstep))
        return ANSWER_LEAVE;
    follow_changes(cpu);
    if (__atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) != 0 || !jit_usable(cpu))
        return ANSWER_LEAVE;
    u32 number = block_now(cpu);
    return number == JIT_NONE ? ANSWER_LEAVE : (u64)(uintptr_t)prepare(cpu, number);
}

u64 jit_interpret(struct cpu *cpu, u32 meta)
{
    struct jit *jit = cpu->jit;
    const struct jit_block *block = &jit->blocks[jit_meta_block(meta)];
    u8 mode = block->mode;
    cpu->jit_return_stacks[mode & MODE_PRIVILEGE] = cpu->jit_return_stack;
    jit->stacks_reset = false;
    jit->counters.interpreted++;
    cpu->rip = block->rip + (meta & META_OFFSET) + (jit_relative(mode) ? cpu->jit_delta : 0);
    if (unlikely(jit->lockstep))
        lockstep_meet(cpu, true);
    u64 *counts = meta & META_MISSED ? cpu->counters.insns_missed : cpu->counters.insns_interpreted;
    if (!interp_single(cpu, counts) || (meta & META_LEAVE))
        return resume(cpu);
    follow_changes(cpu);
    if (!cpu->vector_live)
        simd_load(cpu);
    if (jit->stacks_reset || !jit_usable(cpu) || jit_mode(cpu) != mode)
        return resume(cpu);
    if (unlikely(jit->lockstep))
        lockstep_go_on(cpu, jit_meta_block(meta));
    return ANSWER_CONTINUE;
}
