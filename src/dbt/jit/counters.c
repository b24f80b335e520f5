/*
 * dbt/jit/counters.c - the vCPU's and the translator's counters, told by name.
 *
 * Groups: cpu (events of the processor), mmu, exit (to the machine, by kind), exception (by
 * vector), jit (the translator); and by instruction's name: interpret (what translated code has no
 * translation for), miss (what it has, but whose memory access missed the first-level TLB), block
 * (what the run loop interprets because no block begins there).
 *
 * Runs   on any thread, beside the vCPU's own.
 */
#include "dbt/counters.h"

#include "core/counter.h"
#include "dbt/jit/lockstep_priv.h"

static const char *const exit_names[EXIT_KIND_COUNT] = {
    "kicked",    "port_read", "port_write", "mmio_read", "mmio_write", "msr_read", "msr_write",
    "hypercall", "spin",      "hlt",        "eoi",       "shutdown",   "failed"};

struct named {
    const char *name;
    u64 value;
};

static void tell_all(const struct counter_sink *sink, const char *group, const struct named *all,
                     unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        counter_tell(sink, group, all[i].name, all[i].value);
}

static void tell_cpu(const struct cpu *cpu, const struct counter_sink *sink)
{
    const struct cpu_counters *c = &cpu->counters;
    const struct named events[] = {
        {"interpreted_insns", c->instructions}, {"exceptions", c->exceptions},
        {"interrupts", c->interrupts},          {"exits", c->exits},
        {"cr3_writes", c->cr3_writes},          {"decoded_blocks", c->decoded_blocks},
        {"simd_thunks", c->simd_thunks},        {"code_writes", c->code_writes},
    };
    const struct named mmu[] = {
        {"tlb_fills", c->tlb_misses},      {"walk_hits", c->walk_hits},
        {"page_walks", c->page_walks},     {"page_flushes", c->page_flushes},
        {"full_flushes", c->full_flushes},
    };
    tell_all(sink, "cpu", events, ARRAY_LEN(events));
    tell_all(sink, "mmu", mmu, ARRAY_LEN(mmu));
    for (unsigned i = 0; i < EXIT_KIND_COUNT; i++)
        if (c->exits_by_kind[i] != 0)
            counter_tell(sink, "exit", exit_names[i], c->exits_by_kind[i]);
    for (unsigned i = 0; i < ARRAY_LEN(c->exceptions_by_vector); i++) {
        char name[] = {(char)('0' + i / 10), (char)('0' + i % 10), 0};
        if (c->exceptions_by_vector[i] != 0)
            counter_tell(sink, "exception", name, c->exceptions_by_vector[i]);
    }
}

static void tell_jit(const struct jit_counters *c, const struct counter_sink *sink)
{
    const struct named all[] = {
        {"blocks", c->blocks},
        {"insns", c->insns},
        {"guest_bytes", c->guest_bytes},
        {"hot_bytes", c->hot_bytes},
        {"cold_bytes", c->cold_bytes},
        {"translate_tsc", c->translate_tsc},
        {"refused", c->refused},
        {"links", c->links},
        {"links_ahead", c->links_ahead},
        {"indirect_entries", c->indirect_entries},
        {"hot_blocks", c->hot_blocks},
        {"line_looks", c->line_looks},
        {"line_trials", c->line_trials},
        {"lines_given_up", c->lines_given_up},
        {"fills", c->fills},
        {"reads_across", c->reads_across},
        {"entered", c->entered},
        {"left_exit", c->left[LEAVE_EXIT]},
        {"left_indirect", c->left[LEAVE_INDIRECT]},
        {"left_lookup", c->left[LEAVE_LOOKUP]},
        {"lookups", c->lookups},
        {"interpreted", c->interpreted},
    };
    tell_all(sink, "jit", all, ARRAY_LEN(all));
}

/* What the vCPUs share: told with the first one. */
static void tell_shared(const struct jit *jit, const struct counter_sink *sink)
{
    u64 code_bytes = 0, blocks = 0, exits = 0, pieces = 0;
    for (unsigned i = 0; i < jit->region_count; i++) {
        const struct jit_region *region = &jit->regions[i];
        code_bytes += region->code.next - region->code.first;
        code_bytes += region->code.end - region->cold.first;
        blocks += region->blocks.next - region->blocks.first;
        exits += region->exits.next - region->exits.first;
        pieces += region->pieces.next - region->pieces.first;
    }
    const struct named all[] = {
        {"invalidated_blocks", jit->invalidated_blocks},
        {"evicted_regions", jit->evict_count},
        {"code_bytes_used", jit->stubs_end + code_bytes},
        {"code_bytes_room", jit->memory.bytes},
        {"blocks_now", blocks},
        {"exits_now", exits},
        {"pieces_now", pieces},
    };
    tell_all(sink, "jit", all, ARRAY_LEN(all));
}

/* One line for all forms of an instruction: they follow one another in the table only in part. */
static void tell_insns(const u64 counts[CPU_INSN_FORMS], const char *group,
                       const struct counter_sink *sink)
{
    for (unsigned i = 0; i < insn_desc_count && i < CPU_INSN_FORMS; i++) {
        const char *name = insn_descs[i].mnemonic;
        bool is_first = counts[i] != 0;
        u64 sum = counts[i];
        for (unsigned k = 0; k < i && is_first; k++)
            is_first = counts[k] == 0 || __builtin_strcmp(insn_descs[k].mnemonic, name) != 0;
        for (unsigned k = i + 1; k < insn_desc_count && k < CPU_INSN_FORMS && is_first; k++)
            if (counts[k] != 0 && __builtin_strcmp(insn_descs[k].mnemonic, name) == 0)
                sum += counts[k];
        if (is_first)
            counter_tell(sink, group, name && name[0] ? name : "none", sum);
    }
}

static void tell_lockstep(const struct lockstep *lockstep, const struct counter_sink *sink)
{
    const struct lockstep_counters *c = &lockstep->counters;
    const struct named all[] = {
        {"segments", c->segments},   {"insns", c->insns},           {"unchecked", c->unchecked},
        {"disturbed", c->disturbed}, {"dead_flags", c->dead_flags},
    };
    tell_all(sink, "lockstep", all, ARRAY_LEN(all));
}

void cpu_counters_tell(const struct cpu *cpu, const struct counter_sink *sink)
{
    tell_cpu(cpu, sink);
    if (cpu->jit == NULL)
        return;
    tell_jit(&cpu->jit_own->counters, sink);
    counter_tell(sink, "jit", "refills", cpu->jit_refills);
    if (cpu->index == 0)
        tell_shared(cpu->jit, sink);
    if (cpu->jit_own->lockstep)
        tell_lockstep(cpu->jit_own->lockstep, sink);
    tell_insns(cpu->counters.insns_interpreted, "interpret", sink);
    tell_insns(cpu->counters.insns_missed, "miss", sink);
    tell_insns(cpu->counters.insns_started, "block", sink);
}
