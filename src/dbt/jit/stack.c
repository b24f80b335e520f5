/*
 * dbt/jit/stack.c - pushes and pops that follow one another, as functions begin and end with, under
 * one test. Between pushes there may be what moves other registers about: compilers mix the two.
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

/* Whether GPR is a host register that is not the stack pointer. */
static bool is_plain(unsigned gpr)
{
    return gpr < X86_GPR_COUNT && gpr != X86_RSP && !in_slot(gpr);
}

/* Whether ONE is done by one host instruction, on registers that are in host registers, and cannot
 * fault. */
static bool moves_only(const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    switch (insn->op) {
    case OP_LEA:
        return one->how == HOW_SPECIAL && insn->address_bytes == 8 && insn->operand_bytes >= 4 &&
               is_plain(insn->reg) && is_plain(insn->base) &&
               (insn->index == INSN_NO_REG || is_plain(insn->index));
    case OP_MOV:
    case OP_ADD:
    case OP_SUB:
    case OP_AND:
    case OP_OR:
    case OP_XOR:
    case OP_CMP:
    case OP_TEST:
        break;
    default:
        return one->how == HOW_NOTHING;
    }
    for (unsigned i = 0; i < insn->desc->operand_count; i++) {
        u8 kind = insn->desc->operand[i].kind;
        bool plain = ((kind == OPERAND_G || kind == OPERAND_Z) && is_plain(insn->reg)) ||
                     (kind == OPERAND_E && is_plain(insn->rm));
        if (kind != OPERAND_I && (!plain || insn_operand_bytes(insn, i) < 4))
            return false;
    }
    return one->how == HOW_GENERIC && !insn->has_memory;
}

/* The instructions of a group: COUNT of them, WORDS of which push, pop or return. */
struct stack_group {
    unsigned count, words;
    u32 written; /* the GPRs that they write, but for RSP */
    struct flags_recipe recipe;
};

/* Finds those from ONE on; pops may end with a return. Where flags are live, or put away, nothing
 * between may change them. */
static void group_find(const struct draft *draft, const struct draft_insn *one,
                       struct stack_group *group)
{
    const struct draft_insn *at = one, *end = draft->insns + draft->insn_count;
    unsigned op = one->insn.op;
    bool keeps = one->live_before != 0 || one->flags_away;
    u32 written = 0;
    *group = (struct stack_group){.count = 0};
    for (; at < end && group->words < GROUP_WORDS; at++) {
        const struct insn_desc *desc = at->insn.desc;
        bool joined = joins(at, op);
        bool between = !joined && op == OP_PUSH && moves_only(at) &&
                       !(keeps && (desc->flags_written | desc->flags_undefined));
        if (!joined && !between)
            break;
        written |= flags_gprs_written(&at->insn) & ~(1u << X86_RSP);
        if (!joined)
            continue;
        group->words++;
        group->count = (unsigned)(at - one) + 1;
        group->written = written;
    }
    if (op == OP_POP && group->words > 0 && group->words < GROUP_WORDS && at < end &&
        at->insn.op == OP_RET && at->how == HOW_SPECIAL) {
        group->words++;
        group->count++;
    }
}

/* Whether there is a group from ONE on, and flags can be kept. */
static bool group_possible(const struct draft *draft, const struct draft_insn *one,
                           struct stack_group *group)
{
    struct flags_recipe *recipe = &group->recipe;
    if (draft->code_bytes != WORD || (one->insn.op != OP_PUSH && one->insn.op != OP_POP))
        return false;
    group_find(draft, one, group);
    if (group->words < 2)
        return false;
    if (!one->live_before)
        return true;
    return flags_recipe(draft, one, recipe) && !(recipe->inputs & group->written);
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

static void group_pushes(struct draft *draft, const struct draft_insn *one, unsigned count,
                         struct host_mem mem)
{
    mem.disp = -WORD;
    for (unsigned i = 0; i < count; i++) {
        if (one[i].insn.op == OP_PUSH) {
            group_push(draft, one + i, &mem);
            mem.disp -= WORD;
        } else if (one[i].insn.op == OP_LEA) {
            draft_special(draft, one + i);
        } else if (one[i].how != HOW_NOTHING && !draft_generic(draft, one + i)) {
            draft->failed = true;
        }
    }
}

unsigned draft_stack_group(struct draft *draft, struct draft_insn *one)
{
    struct stack_group group;
    struct host_mem mem;
    if (!group_possible(draft, one, &group))
        return 0;
    const struct flags_recipe *recipe = &group.recipe;
    unsigned count = group.count;
    s32 bytes = (s32)group.words * WORD;
    bool pushes = one->insn.op == OP_PUSH, keeps = one->live_before != 0 || one->flags_away;
    struct access access = {ea_stack(draft, pushes ? -bytes : 0), (unsigned)bytes, pushes, false,
                            recipe->from ? recipe : NULL};
    unsigned colds = draft->cold_count;
    if (!draft_line(draft, one, &access, &mem))
        return 0;
    for (unsigned i = 1; i < count; i++) { /* live flags stay where they are for the first */
        one[i].flags_away = one->flags_away;
        if (keeps)
            one[i].live_before = one->live_before;
    }
    if (draft->cold_count > colds) {
        draft->colds[colds].form |= FORM_FLAGS | FORM_GROUP;
        draft->colds[colds].group = one;
        draft->colds[colds].group_count = (u8)count;
    }
    if (pushes) {
        group_pushes(draft, one, count, mem);
        group_end(draft, -bytes, recipe, false);
    } else {
        s32 moved = group_pops(draft, one, count, mem);
        group_end(draft, moved, recipe, one[count - 1].insn.op == OP_RET);
    }
    draft_resume_here(draft);
    return count;
}
