/*
 * dbt/jit/link.c - connecting blocks, and taking the connections back.
 *
 * Within a page an exit's hot displacement leads straight to the target. Into another page it leads
 * to a guard in the exit's cold code, which goes on only while page_guard says that the target's
 * virtual page still is the physical page that the target was translated from.
 */
#include "dbt/jit/jit_priv.h"

enum { RCX = 1, GUARD_ROOM = 40 };

/* Branches away unless the guard of PAGE holds; flags stay when LIVE. Returns the displacement of
 * the branch; rcx is then in the spill slot when LIVE. */
static u8 *emit_guard(struct emitter *out, const struct code_page *page, bool live)
{
    s32 guard = jit_guard_at(page->virtual_page);
    if (!live) {
        emit_cmp32_mem_imm(out, STATE, guard, page->number);
        return emit_jcc(out, COND_NE, NULL);
    }
    struct host_mem difference = host_mem_base(RCX, -(s32)page->number);
    emit_store(out, RCX, STATE, STATE_AT(jit_spill));
    emit_load32(out, RCX, STATE, guard);
    emit_lea(out, false, RCX, &difference);
    u8 *holds = emit_jrcxz(out);
    emit_load(out, RCX, STATE, STATE_AT(jit_spill));
    u8 *miss = emit_jmp(out, NULL);
    emit_patch8(out, holds, out->at);
    emit_load(out, RCX, STATE, STATE_AT(jit_spill));
    return miss;
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
        struct emitter out = {guard, guard + GUARD_ROOM, false};
        u8 *miss = emit_guard(&out, &jit->pages[block->page], block->has_live_flags);
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
    jit->link_count++;
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

/* Compares r8 with RIP; the displacement of the branch taken when they differ. */
static u8 *emit_verify_rip(struct emitter *out, u64 rip, bool live)
{
    if (live) {
        struct host_mem sum = {RCX, T0, 0, 0};
        emit_store(out, RCX, STATE, STATE_AT(jit_spill));
        emit_mov_imm(out, RCX, 0 - rip);
        emit_lea(out, true, RCX, &sum);
        u8 *same = emit_jrcxz(out);
        emit_load(out, RCX, STATE, STATE_AT(jit_spill));
        u8 *differs = emit_jmp(out, NULL);
        emit_patch8(out, same, out->at);
        emit_load(out, RCX, STATE, STATE_AT(jit_spill));
        return differs;
    }
    if ((s64)rip == (s32)rip) {
        emit_op_reg(out, 0x81, true, ALU_CMP, T0); /* the long form: room for jit_unlink's jump */
        emit_u32(out, (u32)rip);
    } else {
        emit_mov_imm(out, T1, rip);
        emit_cmp_reg(out, T0, T1);
    }
    return emit_jcc(out, COND_NE, NULL);
}

/* Leaves when something wants attention; RIP is r8. */
static u8 *emit_attention(struct emitter *out, bool live)
{
    if (!live) {
        emit_cmp32_mem_imm(out, STATE, STATE_AT(attention), 0);
        return emit_jcc(out, COND_NE, NULL);
    }
    emit_store(out, RCX, STATE, STATE_AT(jit_spill));
    emit_load32(out, RCX, STATE, STATE_AT(attention));
    u8 *calm = emit_jrcxz(out);
    emit_load(out, RCX, STATE, STATE_AT(jit_spill));
    u8 *leave = emit_jmp(out, NULL);
    emit_patch8(out, calm, out->at);
    emit_load(out, RCX, STATE, STATE_AT(jit_spill));
    return leave;
}

/* Leaves when the processor is in another mode than the block was made for: another privilege or
 * alignment check flag at the same address, or a unit that was switched off. */
static u8 *emit_verify_mode(struct emitter *out, u8 mode, bool live)
{
    if (!live) {
        emit_cmp32_mem_imm(out, STATE, STATE_AT(jit_mode), mode);
        return emit_jcc(out, COND_NE, NULL);
    }
    struct host_mem difference = host_mem_base(RCX, -(s32)mode);
    emit_store(out, RCX, STATE, STATE_AT(jit_spill));
    emit_load32(out, RCX, STATE, STATE_AT(jit_mode));
    emit_lea(out, true, RCX, &difference);
    u8 *same = emit_jrcxz(out);
    emit_load(out, RCX, STATE, STATE_AT(jit_spill));
    u8 *differs = emit_jmp(out, NULL);
    emit_patch8(out, same, out->at);
    emit_load(out, RCX, STATE, STATE_AT(jit_spill));
    return differs;
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
    u8 *branches[4];
    branches[0] = emit_verify_rip(&out, block->rip, live);
    branches[1] = emit_guard(&out, &jit->pages[block->page], live);
    branches[2] = emit_attention(&out, live);
    branches[3] = emit_verify_mode(&out, block->mode, live);
    emit_jmp(&out, jit_rw(jit, block->code));
    if (out.full)
        return 0;
    for (unsigned i = 0; i < ARRAY_LEN(branches); i++)
        emit_patch(branches[i], miss);
    block->indirect = jit_offset(jit, at);
    jit->used = jit_offset(jit, out.at);
    return block->indirect;
}
