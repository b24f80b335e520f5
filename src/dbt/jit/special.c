/*
 * dbt/jit/special.c - instructions whose translation is another one: LEA, the stack, absolute MOV,
 * MULX.
 */
#include "dbt/jit/draft_priv.h"

enum { RBP = 5 };

static bool is_register_or_imm(const struct insn *insn)
{
    u8 kind = insn->desc->operand[0].kind;
    return kind == OPERAND_Z || kind == OPERAND_I ||
           ((kind == OPERAND_E || kind == OPERAND_R) && !insn->has_memory);
}

bool special_possible(const struct draft *draft, const struct insn *insn)
{
    switch (insn->op) {
    case OP_LEA:
        return insn->operand_bytes >= 4;
    case OP_PUSH:
        return insn->operand_bytes == insn->code_bytes &&
               (is_register_or_imm(insn) || insn->has_memory);
    case OP_POP:
        return insn->operand_bytes == insn->code_bytes && is_register_or_imm(insn);
    case OP_LEAVE:
        return insn->operand_bytes == insn->code_bytes;
    case OP_MULX:
        return true;
    case OP_MOV: /* moffs */
        return insn->desc->operand[0].kind == OPERAND_O || insn->desc->operand[1].kind == OPERAND_O;
    default:
        return false;
    }
}

static void write_gpr(struct draft *draft, unsigned gpr, unsigned host)
{
    if (in_slot(gpr))
        emit_store(&draft->out, host, STATE, slot_at(gpr));
    else if (host_gpr(gpr) != host)
        emit_mov(&draft->out, host_gpr(gpr), host);
}

static void do_lea(struct draft *draft, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct guest_ea ea = ea_of(insn);
    if (insn->operand_bytes == 4)
        ea.address_bytes = 4;
    unsigned to = in_slot(insn->reg) ? T0 : host_gpr(insn->reg);
    bool plain = ea.base != INSN_RIP && ea.base != INSN_NO_REG;
    /* Straight into the register where that does not destroy what the address is made of. */
    unsigned reg = plain || ea.index == INSN_NO_REG ? to : T0;
    if (plain && in_slot(ea.base) && ea.index != INSN_NO_REG && host_gpr(ea.index) == to)
        reg = T0;
    draft_effective_address(draft, one, &ea, reg);
    write_gpr(draft, insn->reg, reg);
}

/* The memory operand, a word of the stack's size, into cpu->jit_target. */
static void read_word(struct draft *draft, const struct draft_insn *one)
{
    struct access access = {ea_of(&one->insn), draft->code_bytes, false, one->live_before != 0,
                            NULL};
    struct host_mem mem;
    draft_access(draft, one, &access, &mem);
    emit_op_mem(&draft->out, 0x8b, draft->code_bytes == 8, T0, &mem);
    emit_store(&draft->out, T0, STATE, STATE_AT(jit_target));
}

static void do_push(struct draft *draft, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct emitter *out = &draft->out;
    bool wide = draft->code_bytes == 8;
    s32 bytes = (s32)draft->code_bytes;
    struct flags_recipe recipe;
    bool again = one->live_before && !insn->has_memory && flags_recipe(draft, one, &recipe);
    struct access access = {ea_stack(draft, -bytes), draft->code_bytes, true,
                            one->live_before && !again, again ? &recipe : NULL};
    struct host_mem mem, below = host_mem_base(GUEST_RSP, -bytes);
    if (insn->has_memory)
        read_word(draft, one);
    draft_access(draft, one, &access, &mem);
    if (insn->has_memory) {
        draft_fold(draft, &mem);
        emit_load(out, T1, STATE, STATE_AT(jit_target));
        emit_op_mem(out, 0x89, wide, T1, &mem);
    } else if (insn->desc->operand[0].kind == OPERAND_I) {
        emit_op_mem(out, 0xc7, wide, 0, &mem);
        emit_u32(out, (u32)insn->imm);
    } else {
        unsigned gpr = insn->desc->operand[0].kind == OPERAND_Z ? insn->reg : insn->rm;
        if (in_slot(gpr))
            draft_fold(draft, &mem);
        unsigned from = draft_read_gpr(draft, gpr, T1);
        emit_op_mem(out, 0x89, wide, from, &mem);
    }
    emit_lea(out, wide, GUEST_RSP, &below);
    if (again)
        flags_make(draft, &recipe, -bytes);
}

static void do_pop(struct draft *draft, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct emitter *out = &draft->out;
    unsigned gpr = insn->desc->operand[0].kind == OPERAND_Z ? insn->reg : insn->rm;
    bool wide = draft->code_bytes == 8;
    struct flags_recipe recipe;
    bool again = one->live_before && gpr != X86_RSP && flags_recipe(draft, one, &recipe) &&
                 !(recipe.inputs & 1u << gpr);
    struct access access = {ea_stack(draft, 0), draft->code_bytes, false,
                            one->live_before && !again, again ? &recipe : NULL};
    struct host_mem mem, above = host_mem_base(GUEST_RSP, (s32)draft->code_bytes);
    draft_access(draft, one, &access, &mem);
    unsigned to = in_slot(gpr) ? T0 : host_gpr(gpr);
    emit_op_mem(out, 0x8b, wide, to, &mem);
    if (gpr != X86_RSP)
        emit_lea(out, wide, GUEST_RSP, &above);
    write_gpr(draft, gpr, to);
    if (again)
        flags_make(draft, &recipe, (s32)draft->code_bytes);
}

static void do_leave(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    bool wide = draft->code_bytes == 8;
    struct access access = {ea_stack(draft, 0), draft->code_bytes, false, one->live_before != 0,
                            NULL};
    struct host_mem mem, above = host_mem_base(RBP, (s32)draft->code_bytes);
    access.ea.base = X86_RBP;
    draft_access(draft, one, &access, &mem);
    emit_lea(out, wide, GUEST_RSP, &above);
    emit_op_mem(out, 0x8b, wide, RBP, &mem);
}

/* MOV between the accumulator and an absolute address. */
static void do_moffs(struct draft *draft, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct emitter *out = &draft->out;
    bool store = insn->desc->operand[0].kind == OPERAND_O;
    unsigned bytes = insn_operand_bytes(insn, store ? 0 : 1);
    struct access access = {ea_of(insn), bytes, store, one->live_before != 0, NULL};
    struct host_mem mem;
    access.ea.base = access.ea.index = INSN_NO_REG;
    draft_access(draft, one, &access, &mem);
    if (bytes == 2)
        emit_u8(out, 0x66);
    emit_op_mem(out, (store ? 0x88u : 0x8au) | (bytes > 1), bytes == 8, X86_RAX, &mem);
}

/* MULX: the scratch registers are the results that are in slots, also where they are part of the
 * operand's address. */
static void do_mulx(struct draft *draft, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct emitter *out = &draft->out;
    unsigned high = insn->reg, low = insn_vvvv(insn), bytes = insn_operand_bytes(insn, 0);
    struct encoding encoding = {.has_memory = insn->has_memory};
    encoding.reg = (u8)(in_slot(high) ? T0 : host_gpr(high));
    encoding.vvvv = (u8)(in_slot(low) ? T1 : host_gpr(low));
    if (high == low) /* the high half stays */
        encoding.vvvv = encoding.reg;
    if (insn->has_memory) {
        struct access access = {ea_of(insn), bytes, false, one->live_before != 0, NULL};
        draft_access(draft, one, &access, &encoding.mem);
    } else {
        encoding.rm = (u8)draft_read_gpr(draft, insn->rm, T1);
    }
    (void)encode_insn(out, one->bytes, insn, &encoding); /* fails for high byte registers only */
    if (high != low)
        write_gpr(draft, low, encoding.vvvv);
    write_gpr(draft, high, encoding.reg);
}

void draft_special(struct draft *draft, const struct draft_insn *one)
{
    switch (one->insn.op) {
    case OP_LEA:
        do_lea(draft, one);
        break;
    case OP_PUSH:
        do_push(draft, one);
        break;
    case OP_POP:
        do_pop(draft, one);
        break;
    case OP_LEAVE:
        do_leave(draft, one);
        break;
    case OP_MULX:
        do_mulx(draft, one);
        break;
    default:
        do_moffs(draft, one);
        break;
    }
}
