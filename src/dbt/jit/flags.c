/*
 * dbt/jit/flags.c - flags made again: a memory access that would have to keep the guest's flags may
 * lose them where what has set them is near and can be done once more.
 *
 * The recipe is an instruction of the same block with nothing between that changes flags: a
 * comparison is repeated, the flags of a logical result are those of a TEST of it, and a sum or
 * difference with a constant is undone and done again in r9. The stack pointer may have been moved
 * by pushes and pops meanwhile.
 */
#include "dbt/jit/draft_priv.h"

enum { FLAGS = X86_ARITH_FLAGS, NO_GPR = 0xff };

static u32 flags_touched(const struct insn *insn)
{
    const struct insn_desc *desc = insn->desc;
    return (desc->flags_written | desc->flags_undefined | desc->flags_maybe) & FLAGS;
}

/* The GPR that operand I names, or NO_GPR. */
static unsigned operand_gpr(const struct insn *insn, unsigned i)
{
    const struct operand_desc *operand = &insn->desc->operand[i];
    unsigned gpr;
    switch (operand->kind) {
    case OPERAND_G:
    case OPERAND_Z:
        gpr = insn->reg;
        break;
    case OPERAND_E:
    case OPERAND_R:
        if (insn->has_memory)
            return NO_GPR;
        gpr = insn->rm;
        break;
    case OPERAND_B:
        gpr = insn_vvvv(insn);
        break;
    case OPERAND_GPR:
        gpr = operand->reg;
        break;
    default:
        return NO_GPR;
    }
    return insn_operand_bytes(insn, i) == 1 && insn_high_byte(insn, gpr) ? gpr - 4 : gpr;
}

u32 flags_gprs_written(const struct insn *insn)
{
    u32 written = insn->desc->gpr_written;
    for (unsigned i = 0; i < insn->desc->operand_count; i++) {
        unsigned gpr = operand_gpr(insn, i);
        if (gpr != NO_GPR && (insn->desc->operand[i].access & ACCESS_W))
            written |= 1u << gpr;
    }
    return written;
}

/* Follows what ONE, which changes no flags, does to registers; false where it is not known. */
static bool pass_over(const struct draft *draft, const struct draft_insn *one, u32 *written,
                      s32 *moved)
{
    const struct insn *insn = &one->insn;
    if (one->how == HOW_NOTHING || insn->op == OP_JCC)
        return true;
    if (one->how != HOW_GENERIC && insn->op != OP_PUSH && insn->op != OP_POP && insn->op != OP_LEA)
        return false;
    u32 here = flags_gprs_written(insn);
    if (insn->op == OP_PUSH || insn->op == OP_POP) {
        if (one->how != HOW_SPECIAL || (insn->op == OP_POP && operand_gpr(insn, 0) == X86_RSP))
            return false;
        *moved += insn->op == OP_PUSH ? -(s32)draft->code_bytes : (s32)draft->code_bytes;
        here &= ~(1u << X86_RSP);
    }
    *written |= here;
    return true;
}

static bool is_imm(const struct insn *insn)
{
    return insn->desc->operand_count > 1 && insn->desc->operand[1].kind == OPERAND_I &&
           (s64)insn->imm == (s32)insn->imm && (s32)insn->imm != INT32_MIN;
}

/* What makes the flags of INSN's result again. */
static bool recipe_of(const struct insn *insn, struct flags_recipe *recipe)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    recipe->gpr = (u8)operand_gpr(insn, 0);
    recipe->wide = bytes == 8;
    recipe->op = insn->op;
    recipe->inputs = 0;
    for (unsigned i = 0; i < insn->desc->operand_count; i++) {
        unsigned gpr = operand_gpr(insn, i);
        if (gpr == NO_GPR && insn->desc->operand[i].kind != OPERAND_I)
            return false;
        recipe->inputs |= gpr == NO_GPR ? 0 : 1u << gpr;
        if (gpr != NO_GPR && in_slot(gpr))
            return false;
    }
    switch (insn->op) {
    case OP_CMP:
    case OP_TEST:
        recipe->scratch = false;
        return true;
    case OP_AND:
    case OP_OR:
    case OP_XOR:
        recipe->scratch = false;
        recipe->inputs = 1u << recipe->gpr;
        return bytes >= 4;
    case OP_ADD:
    case OP_SUB:
        recipe->scratch = true;
        recipe->imm = (s32)insn->imm;
        return bytes >= 4 && is_imm(insn);
    case OP_INC:
    case OP_DEC:
        recipe->scratch = true;
        recipe->imm = 1;
        return bytes >= 4;
    default:
        return false;
    }
}

bool flags_recipe(const struct draft *draft, const struct draft_insn *one,
                  struct flags_recipe *recipe)
{
    u32 live = one->live_before & FLAGS, written = 0;
    s32 moved = 0;
    const struct draft_insn *from = one;
    if (draft_is_member(draft, one))
        return false;
    do {
        if (from == draft->insns)
            return false;
        from--;
        if (flags_touched(&from->insn) & live)
            break;
    } while (pass_over(draft, from, &written, &moved));
    const struct insn *insn = &from->insn;
    u32 made = (insn->desc->flags_written | insn->desc->flags_undefined) & ~insn->desc->flags_maybe;
    if (!(flags_touched(insn) & live) || (live & ~made) || from->how != HOW_GENERIC ||
        insn->has_memory || !recipe_of(insn, recipe) || (recipe->inputs & written))
        return false;
    recipe->from = from;
    recipe->moved = moved;
    return recipe->scratch || !(recipe->inputs & (1u << X86_RSP));
}

void flags_make(struct draft *draft, const struct flags_recipe *recipe, s32 moved)
{
    struct emitter *out = &draft->out;
    unsigned host = host_gpr(recipe->gpr);
    bool adds = recipe->op == OP_ADD || recipe->op == OP_INC;
    s32 back = adds ? -recipe->imm : recipe->imm;
    if (recipe->gpr == X86_RSP)
        back -= recipe->moved + moved;
    struct host_mem before = host_mem_base(host, back);
    switch (recipe->op) {
    case OP_CMP:
    case OP_TEST:
        draft_generic(draft, recipe->from);
        break;
    case OP_AND:
    case OP_OR:
    case OP_XOR:
        emit_op_reg(out, 0x85, recipe->wide, host, host); /* test */
        break;
    case OP_ADD:
    case OP_SUB:
        emit_lea(out, recipe->wide, T1, &before);
        emit_alu_imm(out, adds ? ALU_ADD : ALU_SUB, recipe->wide, T1, recipe->imm);
        break;
    default:
        emit_lea(out, recipe->wide, T1, &before);
        emit_op_reg(out, 0xff, recipe->wide, adds ? 0 : 1, T1);
        break;
    }
}
