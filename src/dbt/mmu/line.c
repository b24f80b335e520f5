/*
 * dbt/mmu/line.c - emptying the lines: the pages that translated code looks at before the TLB.
 *
 * A line is a copy of a first-level entry, made by translated code's stubs, and may outlive it only
 * where the entry gave way to another page. So whatever takes an entry away, or its write tag, for
 * another reason comes here as well.
 *
 * Runs   on the vCPU's thread; lines_clear_writes on those of other vCPUs as well (mmu/code.c).
 */
#include "dbt/mmu/walk_priv.h"
#include "dbt/tlb.h"

static void line_clear(struct cpu_line *line)
{
    for (unsigned i = 0; i < CPU_LINE_SIZES; i++)
        __atomic_store_n(&line->limit[i], 0, __ATOMIC_RELAXED);
}

void lines_clear(struct cpu *cpu)
{
    for (unsigned i = 0; i < PRIVILEGE_COUNT * CPU_LINES; i++)
        line_clear(&cpu->lines[0][0] + i);
}

void lines_clear_writes(struct cpu *cpu)
{
    for (unsigned i = 1; i < PRIVILEGE_COUNT * CPU_LINES; i += 2)
        line_clear(&cpu->lines[0][0] + i);
}

void lines_clear_page(struct cpu *cpu, gva_t page)
{
    for (unsigned i = 0; i < PRIVILEGE_COUNT * CPU_LINES; i++) {
        struct cpu_line *line = &cpu->lines[0][0] + i;
        if (line->minus_base == 0 - page)
            line_clear(line);
    }
}

void lines_follow(struct cpu *cpu)
{
    for (unsigned i = 0; i < PRIVILEGE_COUNT * CPU_LINES; i++) {
        struct cpu_line *line = &cpu->lines[0][0] + i;
        gva_t page = 0 - line->minus_base;
        const struct cpu_tlb_entry *entry = &cpu->tlb.entries[i / CPU_LINES][tlb_index(page)];
        u64 tag = i % 2 ? __atomic_load_n(&entry->write_tag, __ATOMIC_RELAXED) : entry->read_tag;
        if (line->limit[0] != 0 &&
            (tag != page || (u64)(uintptr_t)entry->host - page != line->delta))
            line_clear(line);
    }
}
