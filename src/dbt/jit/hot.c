/*
 * dbt/jit/hot.c - blocks that are made again: as ones that run often, or because a line did not
 * pay.
 *
 * A poll that leaves translated code, at a branch or an indirect entry, is a sample of what the
 * guest runs. A block that was met twice is made again together with the loop that it begins, with
 * lines for all base registers (line.c); the old block's predecessors are linked to the new one.
 * Accesses whose lines miss too often are noted by the physical address of their instruction and
 * look into the TLB from then on.
 *
 * Runs   on the vCPU's thread.
 */
#include "dbt/jit/slow_priv.h"

#include "core/mem.h"

enum { SAMPLES_HOT = 2, LOOP_BLOCKS = 24, REMAKES_MAX = 32 };
/* Every eighth miss, on average, is a fill. */
enum { FILLS_PER_LOOK = 64, FILL_TSC_LEAST = 320 };
enum { MEETINGS = 12 }; /* before a trial: it costs two translations */
enum { TRIAL_FILLS = 8, TRIAL_LOOKS = 128, TRIAL_RUNS_A_FILL = 64 };

/* ---- whether a line pays ---- */

static gpa_t insn_gpa(const struct jit *jit, u32 meta)
{
    const struct jit_block *block = &jit->blocks[jit_meta_block(meta)];
    u32 page = __atomic_load_n(&block->page, __ATOMIC_RELAXED);
    return (jit->pages[page].physical_page << 12) + ((block->rip & 4095) + (meta & META_OFFSET));
}

/* Values of a note, besides how often the access was met while fills were many. */
enum { PAYS_NOT = 14, PAYS_PROVEN = 15, PAYS_BITS = 15 };

/* What is known of the access of the instruction at GPA: a slot of the table, and the slot's value
 * but for the PAYS bits. */
static u32 *pays_slot(struct jit *jit, gpa_t gpa, u32 *ret_tag)
{
    u64 hash = gpa * 0x9e3779b97f4a7c15ull;
    *ret_tag = (u32)(hash >> 16) & ~(u32)PAYS_BITS;
    return &jit->line_pays[hash >> 48];
}

static unsigned pays(struct jit *jit, gpa_t gpa)
{
    u32 tag, value = __atomic_load_n(pays_slot(jit, gpa, &tag), __ATOMIC_RELAXED);
    return (value & ~(u32)PAYS_BITS) == tag ? value & PAYS_BITS : 0;
}

static void pays_note(struct jit *jit, gpa_t gpa, unsigned what)
{
    u32 tag, *slot = pays_slot(jit, gpa, &tag);
    __atomic_store_n(slot, tag | what, __ATOMIC_RELAXED);
}

bool jit_line_pays(struct jit *jit, gpa_t gpa)
{
    return pays(jit, gpa) != PAYS_NOT;
}

/* Whether the access that META names, whose line was filled just now, should be on trial. */
static bool pays_unknown(struct jit *jit, u32 meta)
{
    gpa_t gpa = insn_gpa(jit, meta);
    unsigned met = pays(jit, gpa);
    if (met < MEETINGS)
        pays_note(jit, gpa, met + 1);
    return met == MEETINGS;
}

/* ---- making a block again ---- */

/* The new block's number, or JIT_NONE. Code that runs in the old one may go on; when the new one is
 * to count, the old one stays, for as long as nothing leads to it. */
static u32 block_remake(struct cpu *cpu, u32 old, bool hot, bool counted)
{
    struct jit *jit = cpu->jit;
    const struct jit_block *block = &jit->blocks[old];
    gpa_t gpa = jit->pages[block->page].physical_page << 12;
    u64 rip = cpu->rip;
    if (block->mode != jit_mode(cpu) || block->page == JIT_NONE || block->tail != JIT_NONE ||
        block->remakes == REMAKES_MAX || !jit_has_room(jit, jit->filling))
        return JIT_NONE;
    struct jit_source source = {.page = block->page,
                                .host = mem_map(cpu->mem, gpa, 4096, MEM_READ),
                                .gpa = gpa | (block->rip & 4095)};
    if (source.host == NULL)
        return JIT_NONE;
    jit->make_hot = hot;
    jit->make_counted = counted;
    cpu->jit_own->wants_entry = block->indirect != 0;
    cpu->rip = block->rip;
    u32 new = jit_translate(cpu, &source);
    cpu->rip = rip;
    jit->make_hot = jit->make_counted = cpu->jit_own->wants_entry = false;
    if (new == JIT_NONE)
        return JIT_NONE;
    jit->blocks[new].remakes = (u8)(jit->blocks[old].remakes + 1);
    jit_links_move(jit, old, new);
    if (!counted)
        jit_unregister(jit, old);
    return new;
}

/* Makes the block that META names count how often it runs, while each fill is looked at. */
static void trial_begin(struct cpu *cpu, u32 meta)
{
    struct jit *jit = cpu->jit;
    u32 block = jit_meta_block(meta);
    u32 new = block_remake(cpu, block, jit->blocks[block].hot, true);
    if (new == JIT_NONE)
        return;
    cpu->jit_own->trial = (struct line_trial){.meta = jit_meta(new, meta & META_OFFSET),
                                              .before = block};
    cpu->jit_runs = 0;
    cpu->jit_fills = 1;
    cpu->jit_own->counters.line_trials++;
}

/* The trial of a line in BLOCK, which was BEFORE, is over: back to that, unless the line is given
 * up. */
static void trial_end(struct cpu *cpu, u32 block, u32 before, bool give_up)
{
    struct jit *jit = cpu->jit;
    const struct jit_block *old = &jit->blocks[before];
    bool old_is_there = old->page != JIT_NONE;
    u32 now = block;
    if (jit->blocks[block].page == JIT_NONE)
        now = old_is_there ? jit_find(jit, old->rip, old->page, old->mode) : JIT_NONE;
    else if (give_up || !old_is_there)
        now = block_remake(cpu, block, jit->blocks[block].hot, false);
    else
        jit->blocks[before].remakes++;
    if (!old_is_there || now == before)
        return;
    if (now == JIT_NONE || now == block) { /* not made again */
        jit_links_move(jit, block, before);
        jit_unregister(jit, block);
    } else {
        jit_links_move(jit, before, now);
        jit_unregister(jit, before);
    }
}

static void trial_look(struct cpu *cpu, u32 meta)
{
    struct jit *jit = cpu->jit;
    struct line_trial *trial = &cpu->jit_own->trial;
    cpu->jit_fills = 1;
    trial->fills += jit_meta_block(meta) == jit_meta_block(trial->meta) &&
                    (meta & META_OFFSET) == (trial->meta & META_OFFSET);
    if (trial->fills < TRIAL_FILLS && ++trial->looks < TRIAL_LOOKS)
        return;
    u32 block = jit_meta_block(trial->meta);
    gpa_t gpa = insn_gpa(jit, trial->meta);
    trial->meta = 0;
    cpu->jit_fills = FILLS_PER_LOOK;
    bool not = trial->fills >= 2 && cpu->jit_runs < trial->fills * TRIAL_RUNS_A_FILL;
    bool proven = cpu->jit_runs >= max_u64(trial->fills, 1) * TRIAL_RUNS_A_FILL;
    if (jit->blocks[block].page != JIT_NONE)
        pays_note(jit, gpa, not ? PAYS_NOT : proven ? PAYS_PROVEN : 0);
    cpu->jit_own->counters.lines_given_up += not ;
    trial_end(cpu, block, trial->before, not );
}

u64 jit_line_look(struct cpu *cpu, u32 unused)
{
    struct jit *jit = cpu->jit;
    u64 back = *(const u64 *)(uintptr_t)(cpu->jit_return_stack - 8);
    u32 meta = load_le32((const u8 *)(uintptr_t)back + NOTE_META);
    struct jit_own *own = cpu->jit_own;
    u64 now = __builtin_ia32_rdtsc(), took = now - own->look_tsc;
    cpu->jit_fills = FILLS_PER_LOOK;
    own->look_tsc = now;
    own->counters.line_looks++;
    if (own->trial.meta == 0 &&
        (took >= FILLS_PER_LOOK * FILL_TSC_LEAST || !pays_unknown(jit, meta)))
        return jit_slow_access(cpu, unused);
    lock_acquire(&jit->lock);
    if (own->trial.meta != 0)
        trial_look(cpu, meta);
    else if (jit->blocks[jit_meta_block(meta)].page != JIT_NONE)
        trial_begin(cpu, meta);
    lock_release(&jit->lock);
    return jit_slow_access(cpu, unused);
}

/* ---- what runs often ---- */

/* A block and those that it leads to, nearest first; and which of them lead back to it. */
struct loop {
    u32 blocks[LOOP_BLOCKS];
    bool inside[LOOP_BLOCKS];
    unsigned count;
};

/* The index of BLOCK in LOOP, or LOOP->count. */
static unsigned loop_index(const struct loop *loop, u32 block)
{
    unsigned at = 0;
    while (at < loop->count && loop->blocks[at] != block)
        at++;
    return at;
}

static void loop_collect(const struct jit *jit, u32 head, struct loop *loop)
{
    *loop = (struct loop){.blocks = {head}, .count = 1};
    for (unsigned i = 0; i < loop->count; i++) {
        const struct jit_block *block = &jit->blocks[loop->blocks[i]];
        for (u32 k = 0; k < block->exit_count && loop->count < LOOP_BLOCKS; k++) {
            u32 target = jit->exits[block->first_exit + k].target;
            if (target != JIT_NONE && loop_index(loop, target) == loop->count &&
                jit->blocks[target].mode == block->mode)
                loop->blocks[loop->count++] = target;
        }
    }
}

/* Whether a block goes on to the head, or to one that is known to lead there. */
static bool leads_back(const struct jit *jit, const struct loop *loop, u32 number)
{
    const struct jit_block *block = &jit->blocks[number];
    for (u32 k = 0; k < block->exit_count; k++) {
        unsigned at = loop_index(loop, jit->exits[block->first_exit + k].target);
        if (at == 0 || (at < loop->count && loop->inside[at]))
            return true;
    }
    return false;
}

/* Makes the blocks of the loop that begins with HEAD again. Only loops: there are too few lines for
 * all that runs now and then, and where blocks share one it misses. */
static void loop_heat(struct cpu *cpu, u32 head)
{
    struct jit *jit = cpu->jit;
    struct loop loop;
    loop_collect(jit, head, &loop);
    for (bool more = true; more;) {
        more = false;
        for (unsigned i = 0; i < loop.count; i++)
            if (!loop.inside[i] && leads_back(jit, &loop, loop.blocks[i]))
                more = loop.inside[i] = true;
    }
    for (unsigned i = 0; i < loop.count && loop.inside[0]; i++)
        if (loop.inside[i] && !jit->blocks[loop.blocks[i]].hot &&
            block_remake(cpu, loop.blocks[i], true, false) != JIT_NONE)
            cpu->jit_own->counters.hot_blocks++;
}

/* The lock is held. */
static void block_sample(struct cpu *cpu, u32 number)
{
    struct jit_block *block = &cpu->jit->blocks[number];
    if (number == JIT_NONE || block->page == JIT_NONE || block->hot ||
        ++block->samples < SAMPLES_HOT)
        return;
    block->samples = 0;
    loop_heat(cpu, number);
}

void jit_sample(struct cpu *cpu, u32 exit)
{
    struct jit *jit = cpu->jit;
    if (__atomic_load_n(&jit->exits[exit].target, __ATOMIC_RELAXED) == JIT_NONE)
        return;
    lock_acquire(&jit->lock);
    block_sample(cpu, jit->exits[exit].target);
    lock_release(&jit->lock);
}

void jit_sample_block(struct cpu *cpu, u32 block)
{
    lock_acquire(&cpu->jit->lock);
    block_sample(cpu, block);
    lock_release(&cpu->jit->lock);
}

void jit_heat(struct cpu *cpu, bool all)
{
    cpu->jit->all_hot = all;
}
