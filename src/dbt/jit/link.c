/*
 * dbt/jit/link.c - connecting blocks, and taking the connections back.
 *
 * Within a page an exit's hot displacement leads straight to the target. Into another page it leads
 * to a guard in the exit's cold code, which goes on only while page_guard says that the target's
 * virtual page still is the physical page that the target was translated from.
 */
#include "dbt/jit/jit_priv.h"

/* Branches away unless the guard of PAGE holds. */
static u8 *expect_mapping(struct emitter *out, const struct code_page *page, bool keep_flags)
{
    return jit_expect_u32(out, jit_guard_at(page->virtual_page), page->number, keep_flags);
}

void jit_link(struct jit *jit, u32 exit_number, u32 block_number)
{
    struct jit_exit *exit = &jit->exits[exit_number];
    struct jit_block *block = &jit->blocks[block_number];
    u8 *target = jit_rw(jit, block->code);
    if (exit->target != JIT_NONE)
        return;
    if (exit->guard != 0) {
        u8 *guard = jit_rw(jit, exit->guard);
        struct emitter out = {guard, guard + JIT_GUARD_BYTES, false};
        u8 *miss = expect_mapping(&out, &jit->pages[block->page], block->has_live_flags);
        emit_jmp(&out, target);
        if (out.full)
            return;
        emit_patch(miss, jit_rw(jit, exit->stub));
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
    /* The mode: another privilege, or a unit that was switched off, at the same address. */
    u8 *branches[] = {
        jit_expect_rip(&out, block->rip, live),
        expect_mapping(&out, &jit->pages[block->page], live),
        jit_expect_u32(&out, STATE_AT(attention), 0, live),
        jit_expect_u32(&out, STATE_AT(jit_mode), block->mode, live),
    };
    emit_jmp(&out, jit_rw(jit, block->code));
    if (out.full)
        return 0;
    for (unsigned i = 0; i < ARRAY_LEN(branches); i++)
        emit_patch(branches[i], miss);
    block->indirect = jit_offset(jit, at);
    jit->counters.indirect_entries++;
    jit->used = jit_offset(jit, out.at);
    return block->indirect;
}
