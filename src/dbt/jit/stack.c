/*
 * dbt/jit/stack.c - pushes and pops that follow one another, as functions begin and end with, under
 * one test.
 *
 * The test is that of the stack's line (line.c) for all their words together; nothing of the group
 * is done before. Where it fails even after the line was filled - the words lie in two pages, or
 * too near to the end of one for a test whose sizes are powers of two - the cold code does the
 * instructions one by one, each with a test of its own.
 */
#include "dbt/jit/draft_priv.h"

enum { GROUP_WORDS = 4, WORD = 8 };

static unsigned pushed_gpr(const struct insn *insn)
{
    return insn->desc->operand[0].kind == OPERAND_Z ? insn->reg : insn->rm;
}

static bool joins(const struct draft_insn *one, unsigned op)
{
    const struct insn *insn = &one->insn;
    if (one->how != HOW_SPECIAL || insn->op != op || insn->has_memory)
        return false;
    return insn->desc->operand[0].kind == OPERAND_I || pushed_gpr(insn) != X86_RSP;
}

/* How many instructions from ONE on are a group, 0 for none; pops may end with a return. */
static unsigned group_size(const struct draft *draft, const struct draft_insn *one,
                           struct flags_recipe *recipe)
{
    const struct draft_insn *end = draft->insns + draft->insn_count;
    unsigned op = one->insn.op, count = 0;
    u32 written = 0;
    if (draft->code_bytes != WORD || (op != OP_PUSH && op != OP_POP))
        return 0;
    for (; count < GROUP_WORDS && one + count < end && joins(one + count, op); count++)
        written |= flags_gprs_written(&one[count].insn) & ~(1u << X86_RSP);
    if (op == OP_POP && count > 0 && count < GROUP_WORDS && one + count < end &&
        one[count].insn.op == OP_RET && one[count].how == HOW_SPECIAL)
        count++;
    if (count < 2)
        return 0;
    recipe->from = NULL;
    if (one->live_before && (!flags_recipe(draft, one, recipe) || (recipe->inputs & written)))
        return 0;
    return count;
}

static void group_push(struct draft *draft, const struct draft_insn *one, struct host_mem *mem)
{
    struct emitter *out = &draft->out;
    const struct insn *insn = &one->insn;
    if (insn->desc->operand[0].kind == OPERAND_I) {
        emit_op_mem(out, 0xc7, true, 0, mem);
        emit_u32(out, (u32)insn->imm);
    } else {
        emit_op_mem(out, 0x89, true, draft_read_gpr(draft, pushed_gpr(insn), T0), mem);
    }
}

/* The group's last step: RSP moves, and flags are made. A return goes to T0. */
static void group_end(struct draft *draft, s32 moved, const struct flags_recipe *recipe,
                      bool returns)
{
    struct emitter *out = &draft->out;
    struct host_mem rsp = host_mem_base(GUEST_RSP, moved);
    emit_lea(out, true, GUEST_RSP, &rsp);
    if (recipe->from)
        flags_make(draft, recipe, moved);
    if (returns) {
        emit_ret(out);
    }
}

static s32 group_pops(struct draft *draft, const struct draft_insn *one, unsigned count,
                      struct host_mem mem)
{
    struct emitter *out = &draft->out;
    s32 moved = (s32)count * WORD;
    for (unsigned i = 0; i < count; i++, mem.disp += WORD) {
        const struct insn *insn = &one[i].insn;
        bool returns = insn->op == OP_RET;
        unsigned gpr = pushed_gpr(insn), to = returns || in_slot(gpr) ? T0 : gpr;
        emit_op_mem(out, 0x8b, true, to, &mem);
        if (returns && insn->imm_offset < insn->length)
            moved += (s32)insn->imm;
        else if (!returns && in_slot(gpr))
            emit_store(out, T0, STATE, slot_at(gpr));
    }
    return moved;
}

unsigned draft_stack_group(struct draft *draft, struct draft_insn *one)
{
    struct flags_recipe recipe;
    struct host_mem mem;
    unsigned count = group_size(draft, one, &recipe);
    s32 bytes = (s32)count * WORD;
    bool pushes = one->insn.op == OP_PUSH;
    if (count == 0)
        return 0;
    struct access access = {ea_stack(draft, pushes ? -bytes : 0), (unsigned)bytes, pushes, false,
                            recipe.from ? &recipe : NULL};
    unsigned colds = draft->cold_count;
    if (!draft_line(draft, one, &access, &mem))
        return 0;
    for (unsigned i = 1; i < count; i++) { /* flags stay where they are for the first */
        one[i].flags_away = one->flags_away;
        one[i].live_before = one->live_before;
    }
    if (draft->cold_count > colds) {
        draft->colds[colds].form |= FORM_FLAGS | FORM_GROUP;
        draft->colds[colds].group = one;
        draft->colds[colds].group_count = (u8)count;
    }
    if (pushes) {
        mem.disp = -WORD;
        for (unsigned i = 0; i < count; i++, mem.disp -= WORD)
            group_push(draft, one + i, &mem);
        group_end(draft, -bytes, &recipe, false);
    } else {
        s32 moved = group_pops(draft, one, count, mem);
        group_end(draft, moved, &recipe, one[count - 1].insn.op == OP_RET);
    }
    draft_resume_here(draft);
    return count;
}
