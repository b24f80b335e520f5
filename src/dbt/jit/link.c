/*
 * dbt/jit/link.c - connecting blocks, and taking the connections back.
 *
 * Within a page an exit's hot displacement leads straight to the target. Into another page it leads
 * to a guard, made with the link, which goes on only while page_guard says that the target's
 * virtual page still is the physical page that the target was translated from. Between relative
 * blocks the guard's delta must be the right one as well. Where the exit has not put flags away,
 * the guard keeps them if the target that it was made for reads them: if quite other code is mapped
 * there by now, which does, it finds them lost.
 *
 * Code that may be running is changed by single aligned stores only, and where it can be resumed
 * the same instruction boundaries stay: displacements of exits, and the NOP that entries begin
 * with.
 */
#include "dbt/jit/jit_priv.h"

_Static_assert(offsetof(struct cpu, attention) == offsetof(struct cpu, jit_mode) + 4,
               "both are compared at once");

static void miss_on(struct misses *misses, u8 *branch)
{
    misses->at[misses->count++] = branch;
}

static void misses_patch(const struct misses *misses, const u8 *target)
{
    for (unsigned i = 0; i < misses->count; i++)
        emit_patch(misses->at[i], target);
}

void jit_expect_mapping(struct emitter *out, struct misses *misses, const struct code_page *page,
                        bool keep_flags)
{
    if (page->relative)
        miss_on(misses, jit_expect_reg(out, jit_guard_delta_at(page), T1, keep_flags));
    else
        miss_on(misses, jit_expect_u32(out, jit_guard_at(page), page->number, keep_flags));
}

/* Where BLOCK is entered with flags put away, or as it may be from everywhere. */
static u32 entered_at(const struct jit_block *block, bool flags_away)
{
    return flags_away && block->away ? block->away : block->code;
}

/* The guard in front of BLOCK, for EXIT; returns where the displacement of its jump is. */
static u8 *emit_guard(struct emitter *out, const struct jit *jit, const struct jit_exit *exit,
                      const struct jit_block *block)
{
    struct misses misses = {.count = 0};
    s64 shift = (s64)(exit->target_rip - block->rip); /* between the deltas of the two pages */
    s32 tag = (s32)jit_guard_tag(jit->pages[block->page].number);
    struct host_mem sum = host_mem_base(T1, (s32)shift + tag), delta = host_mem_base(T1, -tag);
    if (exit->relative) {
        emit_load(out, T1, STATE, STATE_AT(jit_delta));
        if (sum.disp != 0)
            emit_lea(out, true, T1, &sum);
    }
    jit_expect_mapping(out, &misses, &jit->pages[block->page],
                       block->has_live_flags && !exit->flags_away);
    if (shift != 0) {
        if (tag != 0)
            emit_lea(out, true, T1, &delta);
        emit_store(out, T1, STATE, STATE_AT(jit_delta));
    }
    if (exit->flags_away && block->has_live_flags && !block->away)
        jit_emit_flags_back(out);
    emit_pad_displacement(out, 1);
    u8 *jump = emit_jmp(out, jit_rw(jit, entered_at(block, exit->flags_away)));
    if (!out->full)
        misses_patch(&misses, jit_rw(jit, exit->stub));
    return jump;
}

/* Room for code of a piece in the region being filled; NULL when there is none. */
static u8 *piece_begin(struct jit *jit, struct emitter *out)
{
    struct jit_region *region = jit_filling(jit);
    if (region->pieces.next == region->pieces.end)
        return NULL;
    u8 *at = jit_rw(jit, (u32)align_up(region->code.next, 8));
    *out = (struct emitter){at, jit_rw(jit, region->cold.first), false};
    return at;
}

/* Keeps the code from AT to what OUT has written; its offset. */
static u32 piece_end(struct jit *jit, const u8 *at, const struct emitter *out, u32 owner,
                     bool is_entry)
{
    struct jit_region *region = jit_filling(jit);
    u32 code = jit_offset(jit, at);
    region->code.next = jit_offset(jit, out->at);
    jit->pieces[region->pieces.next++] = (struct jit_piece){code, owner, is_entry};
    return code;
}

/* Makes the guard of EXIT in front of BLOCK; its address, or NULL without room. */
static u8 *guard_make(struct jit *jit, u32 exit_number, const struct jit_block *block)
{
    struct jit_exit *exit = &jit->exits[exit_number];
    struct emitter out;
    u8 *at = piece_begin(jit, &out);
    if (at == NULL)
        return NULL;
    const u8 *jump = emit_guard(&out, jit, exit, block);
    if (out.full)
        return NULL;
    exit->guard_jump = (u16)(jump - at);
    exit->guard = piece_end(jit, at, &out, exit_number, false);
    return at;
}

/* Puts EXIT on the list of what leads to BLOCK. */
static void target_set(struct jit *jit, u32 exit_number, u32 block_number)
{
    struct jit_exit *exit = &jit->exits[exit_number];
    struct jit_block *block = &jit->blocks[block_number];
    exit->target = block_number;
    exit->next_in = block->linked_in;
    exit->prev_in = JIT_NONE;
    if (exit->next_in != JIT_NONE)
        jit->exits[exit->next_in].prev_in = exit_number;
    block->linked_in = exit_number;
}

bool jit_link(struct jit *jit, u32 exit_number, u32 block_number)
{
    struct jit_exit *exit = &jit->exits[exit_number];
    struct jit_block *block = &jit->blocks[block_number];
    s64 shift = (s64)(exit->target_rip - block->rip);
    if (exit->target != JIT_NONE || shift != (s32)shift || (shift != 0 && !exit->leaves_page))
        return false;
    u8 *target = exit->leaves_page ? guard_make(jit, exit_number, block) : jit_rw(jit, block->code);
    if (target == NULL)
        return false;
    emit_patch(jit_rw(jit, exit->jump), target);
    target_set(jit, exit_number, block_number);
    return true;
}

void jit_unlink_exit(struct jit *jit, u32 exit_number)
{
    struct jit_exit *exit = &jit->exits[exit_number];
    if (exit->target == JIT_NONE)
        return;
    emit_patch(jit_rw(jit, exit->jump), jit_rw(jit, exit->stub));
    if (exit->prev_in != JIT_NONE)
        jit->exits[exit->prev_in].next_in = exit->next_in;
    else
        jit->blocks[exit->target].linked_in = exit->next_in;
    if (exit->next_in != JIT_NONE)
        jit->exits[exit->next_in].prev_in = exit->prev_in;
    exit->target = JIT_NONE;
    exit->guard = 0;
}

/* A guard stands as it is, with another jump at its end, unless flags are not where NEW has them.
 */
void jit_links_move(struct jit *jit, u32 old, u32 new)
{
    const struct jit_block *to = &jit->blocks[new];
    const struct jit_block *from = &jit->blocks[old];
    bool same = from->has_live_flags && (from->away != 0) == (to->away != 0);
    bool guards_stay = same || !to->has_live_flags;
    u32 next = jit->blocks[old].linked_in;
    for (u32 number = next; number != JIT_NONE && guards_stay; number = next) {
        struct jit_exit *exit = &jit->exits[number];
        u32 jump = exit->leaves_page ? exit->guard + exit->guard_jump : exit->jump;
        next = exit->next_in;
        emit_patch(jit_rw(jit, jump), jit_rw(jit, entered_at(to, exit->flags_away)));
        target_set(jit, number, new);
        jit->blocks[old].linked_in = next;
    }
    while ((next = jit->blocks[old].linked_in) != JIT_NONE) {
        jit_unlink_exit(jit, next);
        jit_link(jit, next, new);
    }
}

void jit_unlink(struct jit *jit, u32 block_number)
{
    struct jit_block *block = &jit->blocks[block_number];
    while (block->linked_in != JIT_NONE)
        jit_unlink_exit(jit, block->linked_in);
    if (block->indirect != 0) { /* its NOP becomes a jump away, by one store */
        u8 *entry = jit_rw(jit, block->indirect);
        u32 away = (u32)(jit_rw(jit, jit->indirect_miss) - (entry + 5));
        u64 word = (load_le64(entry) & ~0xffffffffffull) | (u64)away << 8 | 0xe9;
        __atomic_store_n((u64 *)(void *)entry, word, __ATOMIC_RELAXED);
        block->indirect = 0;
    }
}

void jit_emit_entry(struct emitter *out, const struct jit *jit, const struct jit_block *block)
{
    const struct code_page *page = &jit->pages[block->page];
    struct misses misses = {.count = 0};
    emit_nop5(out);
    if (page->relative) /* RIP is right if it is away from home as far as the mapping is */
        miss_on(&misses, jit_expect_rip_relative(out, block->rip - jit_guard_tag(page->number),
                                                 jit_guard_delta_at(page)));
    else
        miss_on(&misses, jit_expect_rip(out, block->rip));
    miss_on(&misses, jit_expect_u32(out, jit_guard_at(page), page->number, false));
    /* No attention; and the mode: there may be another privilege, or a unit that was switched off,
     * at the same address. */
    miss_on(&misses, jit_expect_u64(out, STATE_AT(jit_mode), block->mode, false));
    if (page->relative) {
        emit_alu_imm(out, ALU_SUB, true, T0, (s32)block->rip);
        emit_store(out, T0, STATE, STATE_AT(jit_delta));
    }
    if (!out->full)
        misses_patch(&misses, jit_rw(jit, jit->indirect_miss));
}

u32 jit_indirect_entry(struct jit *jit, u32 block_number)
{
    struct jit_block *block = &jit->blocks[block_number];
    struct emitter out;
    if (block->indirect != 0)
        return block->indirect;
    u8 *at = piece_begin(jit, &out);
    if (at == NULL)
        return 0;
    jit_emit_entry(&out, jit, block);
    if (block->has_live_flags && !block->away)
        jit_emit_flags_back(&out);
    emit_jmp(&out, jit_rw(jit, entered_at(block, true)));
    if (out.full)
        return 0;
    block->indirect = piece_end(jit, at, &out, block_number, true);
    return block->indirect;
}
