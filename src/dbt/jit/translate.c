/*
 * dbt/jit/translate.c - makes one block: decodes, emits hot code, then cold code, and registers it.
 *
 * Runs   on the vCPU's thread, from the dispatch loop, with the lock held.
 * Trust  guest bytes are read once, by the decoder, from a page that is marked as code before.
 */
#include "dbt/jit/draft_priv.h"

void draft_one(struct draft *draft, const struct draft_insn *one)
{
    switch (one->how) {
    case HOW_GENERIC:
        if (draft_generic(draft, one))
            break;
        if (draft->inside)
            draft_leave_stretch(draft);
        else
            draft_interpret(draft, one);
        break;
    case HOW_SPECIAL:
        if (control_possible(&one->insn))
            draft_control(draft, one);
        else if (system_possible(draft, &one->insn))
            draft_system(draft, one);
        else if (bit_possible(draft, &one->insn))
            draft_bit(draft, one);
        else if (repeat_possible(draft, &one->insn))
            draft_repeat(draft, one);
        else if (string_possible(draft, &one->insn))
            draft_string(draft, one);
        else
            draft_special(draft, one);
        break;
    case HOW_INTERPRET:
        draft_interpret(draft, one);
        break;
    default:
        break;
    }
    draft_resume_here(draft);
}

/* An instruction at which translated code leaves: the block's exit is the interpreter's doing. */
static bool leaves_by_interpreter(const struct draft *draft)
{
    const struct draft_insn *last = &draft->insns[draft->insn_count - 1];
    return draft->ended && last->how == HOW_INTERPRET;
}

/* More than a piece of cold code takes; groups and stretches are there again, with theirs. */
enum { COLD_BYTES_EACH = 96, COLD_BYTES_GROUPED = 160 };

/* From here on the draft's code goes to where cold code is. */
static bool cold_begin(struct draft *draft)
{
    struct jit *jit = draft->jit;
    const struct jit_span *cold = &jit_filling(jit)->cold;
    u32 bytes = draft->cold_count * COLD_BYTES_EACH;
    for (unsigned i = 0; i < draft->cold_count; i++)
        bytes += draft->colds[i].group_count * COLD_BYTES_GROUPED;
    for (unsigned i = 0; i < draft->stretch_count; i++)
        bytes += (draft->stretches[i].end - draft->stretches[i].start) *
                 (COLD_BYTES_GROUPED + COLD_BYTES_EACH);
    draft->out.full = !jit_cold_room(jit, jit_offset(jit, draft->hot_end), bytes);
    if (draft->out.full)
        return false;
    draft->out = (struct emitter){jit_rw(jit, cold->next), jit_rw(jit, cold->end), false};
    draft->cold_start = draft->out.at;
    return true;
}

static void translate_all(struct draft *draft)
{
    if (unlikely(draft->jit->tracer))
        trace_count_run(draft);
    if (draft->jit->make_counted) {
        struct host_mem more = host_mem_base(T0, 1);
        emit_load(&draft->out, T0, STATE, STATE_AT(jit_runs));
        emit_lea(&draft->out, true, T0, &more);
        emit_store(&draft->out, T0, STATE, STATE_AT(jit_runs));
    }
    for (unsigned i = 0; i < draft->insn_count && !draft->out.full; i++) {
        draft->insns[i].code = draft->out.at;
        draft_stretch_before(draft, i);
        draft_flags_before(draft, &draft->insns[i]);
        unsigned group = draft->inside ? 0 : draft_stack_group(draft, &draft->insns[i]);
        for (unsigned k = 1; k < group; k++)
            draft->insns[++i].code = draft->out.at;
        if (group == 0)
            draft_one(draft, &draft->insns[i]);
    }
    draft_stretch_end(draft);
    const struct draft_insn *last = &draft->insns[draft->insn_count - 1];
    if (!draft->ended || leaves_by_interpreter(draft))
        draft_exit_to(draft, insn_next_rip(draft, last));
    draft->hot_end = draft->out.at;
    if (!draft->out.full && cold_begin(draft))
        draft_cold_code(draft);
}

/* What cannot be decoded within the page is interpreted, whatever it is by then. */
static void translate_nothing(struct draft *draft)
{
    struct emitter *out = &draft->out;
    emit_mov_imm(out, T1, jit_meta(draft->number, META_LEAVE));
    emit_call(out, jit_rw(draft->jit, draft->jit->fallback));
    draft->hot_end = out->at;
}

static bool has_live_flags(const struct draft *draft)
{
    return draft->insn_count == 0 || draft->tail || draft->insns[0].live_before != 0;
}

static void draft_begin(struct draft *draft, struct cpu *cpu, const struct jit_source *source)
{
    struct jit *jit = cpu->jit;
    const struct code_page *page = &jit->pages[source->page];
    draft->cpu = cpu;
    draft->jit = jit;
    draft->number = jit_filling(jit)->blocks.next;
    draft->rip = page->virtual_page << 12 | (cpu->rip & 4095);
    draft->page = source->host;
    draft->tail = source->tail_host;
    draft->start = (unsigned)(cpu->rip & 4095);
    draft->mode = jit_mode(cpu);
    draft->relative = page->relative;
    draft->privilege = cpu->privilege;
    draft->code_bytes = cpu->code_bytes;
    draft->physical_page = page->physical_page;
    draft->code_page = source->page;
    draft->hot = jit->make_hot || jit->all_hot;
    draft->insn_count = draft->cold_count = draft->resumed = draft->line_count = 0;
    draft->stretch_count = 0;
    draft->plan.next = 0;
    draft->plan.any = false;
    draft->inside = NULL;
    draft->out = (struct emitter){0};
    draft->hot_end = draft->cold_start = NULL;
    draft->ended = draft->failed = draft->flags_away = false;
    draft->away_entry = NULL;
}

/* The bytes of guest code from the block's first one to its end. */
static unsigned guest_bytes(const struct draft *draft)
{
    if (draft->insn_count == 0)
        return 0;
    const struct draft_insn *last = &draft->insns[draft->insn_count - 1];
    return last->offset + last->insn.length;
}

static void count(const struct draft *draft, u32 code)
{
    struct jit *jit = draft->jit;
    struct jit_counters *counters = &draft->cpu->jit_own->counters;
    counters->blocks++;
    counters->insns += draft->insn_count;
    counters->guest_bytes += guest_bytes(draft);
    counters->hot_bytes += jit_offset(jit, draft->hot_end) - code;
    counters->cold_bytes += draft_cold_bytes(draft);
}

/* Marks what the draft was made from as code; false when that is not what is there any more. */
static bool mark(const struct draft *draft, const struct jit_source *source)
{
    struct cpu *cpu = draft->cpu;
    gpa_t at = align_down(source->gpa, 4096) + draft->low;
    size_t bytes = draft->high - draft->low, tail_bytes = 0;
    if (draft->insn_count == 0)
        return true;
    if (draft->tail)
        tail_bytes = draft->start + guest_bytes(draft) - 4096;
    return mmu_code_mark(cpu, at, bytes) &&
           (tail_bytes == 0 || mmu_code_mark(cpu, source->tail_gpa, tail_bytes)) &&
           draft_unchanged(draft) && mmu_code_marked(cpu, at, bytes) &&
           (tail_bytes == 0 || mmu_code_marked(cpu, source->tail_gpa, tail_bytes));
}

/* Links the exits of the draft's block to blocks of its page that there are already. */
static void link_ahead(const struct draft *draft)
{
    struct jit *jit = draft->jit;
    const struct jit_block *block = &jit->blocks[draft->number];
    struct jit_counters *counters = &draft->cpu->jit_own->counters;
    if (draft->cpu->jit_own->lockstep) /* which meets every block */
        return;
    for (u32 number = block->first_exit; number < block->first_exit + block->exit_count; number++) {
        const struct jit_exit *exit = &jit->exits[number];
        u32 target = exit->leaves_page
                         ? JIT_NONE
                         : jit_find_head(jit, exit->target_rip, block->page, block->mode);
        if (target != JIT_NONE && jit->blocks[target].tail == JIT_NONE &&
            jit_link(jit, number, target)) {
            counters->links++;
            counters->links_ahead++;
        }
    }
}

/* Begins with the block's verifying entry, where one is wanted: flags are where code has them if
 * they are dead. Its offset, or 0. */
static u32 draft_entry(struct draft *draft, u32 page)
{
    const struct jit_block block = {.rip = draft->rip, .page = page, .mode = draft->mode};
    u32 at = jit_offset(draft->jit, draft->out.at);
    if (!draft->cpu->jit_own->wants_entry || has_live_flags(draft))
        return 0;
    jit_emit_entry(&draft->out, draft->jit, &block);
    return at;
}

u32 jit_translate(struct cpu *cpu, const struct jit_source *source)
{
    struct jit *jit = cpu->jit;
    struct draft *draft = jit->draft;
    draft_begin(draft, cpu, source);
    draft_decode(draft);
    bool live = has_live_flags(draft);
    struct jit_region *region = jit_filling(jit);
    u32 exits_before = region->exits.next, traps_before = region->traps.next;
    u32 cold_traps_before = region->cold_traps.first;
    u32 code = (u32)align_up(region->code.next, 16);
    jit_code_grows(jit, code);
    draft->out = (struct emitter){jit_rw(jit, code), jit_rw(jit, region->cold.first), false};
    u32 indirect = draft_entry(draft, source->page);
    code = jit_offset(jit, draft->out.at);
    if (draft->tail && draft->insn_count > 0)
        draft_expect_tail(draft, source->tail_page);
    if (draft->insn_count > 0)
        translate_all(draft);
    else
        translate_nothing(draft);
    if (draft->failed || draft->out.full || !mark(draft, source)) {
        region->exits.next = exits_before;
        region->traps.next = traps_before;
        region->cold_traps.first = cold_traps_before;
        return JIT_NONE;
    }
    jit->blocks[draft->number] = (struct jit_block){
        .rip = draft->rip,
        .code = code,
        .indirect = indirect,
        .page = source->page,
        .mode = draft->mode,
        .hot = draft->hot,
        .first_exit = exits_before,
        .exit_count = (u8)(region->exits.next - exits_before),
        .has_live_flags = live};
    if (draft->away_entry)
        jit->blocks[draft->number].away = jit_offset(jit, draft->away_entry);
    region->blocks.next++;
    region->code.next = jit_offset(jit, draft->hot_end);
    if (draft->cold_start)
        region->cold.next = jit_offset(jit, draft->out.at);
    count(draft, code);
    cpu->jit_own->counters.indirect_entries += indirect != 0;
    jit_register(jit, draft->number);
    if (draft->tail && draft->insn_count > 0)
        jit_tail_register(jit, draft->number, source->tail_page);
    link_ahead(draft);
    if (unlikely(jit->tracer))
        trace_block(draft, source->gpa, exits_before);
    return draft->number;
}
