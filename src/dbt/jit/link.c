/*
 * dbt/jit/link.c - connecting blocks, and taking the connections back.
 *
 * Within a page an exit's hot displacement leads straight to the target. Into another page it leads
 * to a guard in the exit's cold code, which goes on only while page_guard says that the target's
 * virtual page still is the physical page that the target was translated from. Between relative
 * blocks the guard's delta must be the right one as well.
 */
#include "dbt/jit/jit_priv.h"

/* Branches that are taken where something is not as it must be, to be patched together. */
enum { MISSES_MAX = 6 };
struct misses {
    u8 *at[MISSES_MAX];
    unsigned count;
};

static void miss_on(struct misses *misses, u8 *branch)
{
    misses->at[misses->count++] = branch;
}

static void misses_patch(const struct misses *misses, const u8 *target)
{
    for (unsigned i = 0; i < misses->count; i++)
        emit_patch(misses->at[i], target);
}

/* Goes on only while the guard of PAGE holds; where it is relative, T1 is its delta. */
static void expect_mapping(struct emitter *out, struct misses *misses, const struct code_page *page,
                           bool keep_flags)
{
    u64 virtual_page = page->virtual_page;
    if (page->relative)
        miss_on(misses, jit_expect_reg(out, jit_guard_delta_at(virtual_page), T1, keep_flags));
    miss_on(misses, jit_expect_u32(out, jit_guard_at(virtual_page), page->number, keep_flags));
}

/* The guard in front of BLOCK, for EXIT. */
static void emit_guard(struct emitter *out, const struct jit *jit, const struct jit_exit *exit,
                       const struct jit_block *block)
{
    struct misses misses = {.count = 0};
    s64 shift = (s64)(exit->target_rip - block->rip); /* between the deltas of the two pages */
    if (exit->relative) {
        struct host_mem sum = host_mem_base(T1, (s32)shift);
        emit_load(out, T1, STATE, STATE_AT(jit_delta));
        if (shift != 0)
            emit_lea(out, true, T1, &sum);
    }
    expect_mapping(out, &misses, &jit->pages[block->page], block->has_live_flags);
    if (shift != 0)
        emit_store(out, T1, STATE, STATE_AT(jit_delta));
    emit_jmp(out, jit_rw(jit, block->code));
    if (!out->full)
        misses_patch(&misses, jit_rw(jit, exit->stub));
}

void jit_link(struct jit *jit, u32 exit_number, u32 block_number)
{
    struct jit_exit *exit = &jit->exits[exit_number];
    struct jit_block *block = &jit->blocks[block_number];
    u8 *target = jit_rw(jit, block->code);
    s64 shift = (s64)(exit->target_rip - block->rip);
    if (exit->target != JIT_NONE || shift != (s32)shift || (shift != 0 && exit->guard == 0))
        return;
    if (exit->guard != 0) {
        u8 *guard = jit_rw(jit, exit->guard);
        struct emitter out = {guard, guard + JIT_GUARD_BYTES, false};
        emit_guard(&out, jit, exit, block);
        if (out.full)
            return;
        target = guard;
    }
    emit_patch(jit_rw(jit, exit->jump), target);
    exit->target = block_number;
    exit->next_in = block->linked_in;
    block->linked_in = exit_number;
    jit->counters.links++;
}

void jit_unlink(struct jit *jit, u32 block_number)
{
    struct jit_block *block = &jit->blocks[block_number];
    for (u32 number = block->linked_in; number != JIT_NONE;) {
        struct jit_exit *exit = &jit->exits[number];
        emit_patch(jit_rw(jit, exit->jump), jit_rw(jit, exit->stub));
        number = exit->next_in;
        exit->target = exit->next_in = JIT_NONE;
    }
    block->linked_in = JIT_NONE;
    if (block->indirect != 0) {
        u8 *entry = jit_rw(jit, block->indirect);
        struct emitter out = {entry, entry + 5, false};
        emit_jmp(&out, jit_rw(jit, jit->indirect_miss));
        block->indirect = 0;
    }
}

u32 jit_indirect_entry(struct jit *jit, u32 block_number)
{
    struct jit_block *block = &jit->blocks[block_number];
    const u8 *miss = jit_rw(jit, jit->indirect_miss);
    u8 *at = jit_rw(jit, (u32)align_up(jit->used, 8));
    struct emitter out = {at, jit->memory.rw + jit->memory.bytes, false};
    bool live = block->has_live_flags;
    if (block->indirect != 0)
        return block->indirect;
    const struct code_page *page = &jit->pages[block->page];
    struct misses misses = {.count = 0};
    if (page->relative) { /* RIP is right if the delta that it makes is that of the mapping */
        struct host_mem delta = host_mem_base(T0, -(s32)block->rip);
        emit_lea(&out, true, T1, &delta);
    } else {
        miss_on(&misses, jit_expect_rip(&out, block->rip, live));
    }
    expect_mapping(&out, &misses, page, live);
    if (page->relative)
        emit_store(&out, T1, STATE, STATE_AT(jit_delta));
    miss_on(&misses, jit_expect_u32(&out, STATE_AT(attention), 0, live));
    /* The mode: another privilege, or a unit that was switched off, at the same address. */
    miss_on(&misses, jit_expect_u32(&out, STATE_AT(jit_mode), block->mode, live));
    emit_jmp(&out, jit_rw(jit, block->code));
    if (out.full)
        return 0;
    misses_patch(&misses, miss);
    block->indirect = jit_offset(jit, at);
    jit->counters.indirect_entries++;
    jit->used = jit_offset(jit, out.at);
    return block->indirect;
}
