/*
 * dbt/jit/string.c - string instructions that are done once: LODS, STOS, SCAS, MOVS and CMPS
 * without a repeat prefix.
 *
 * Spec   Intel SDM vol. 2, the instructions' pages.
 *
 * Upwards only: with DF set they are interpreted, as where flags must be kept for the look at DF.
 */
#include "dbt/jit/draft_priv.h"

enum { RSI = 6, RDI = 7 };

bool string_possible(const struct draft *draft, const struct insn *insn)
{
    switch (insn->op) {
    case OP_LODS:
    case OP_STOS:
    case OP_SCAS:
    case OP_MOVS:
    case OP_CMPS:
        return !(insn->prefixes & (INSN_REP | INSN_REPNE)) &&
               insn->address_bytes == draft->code_bytes &&
               (draft->code_bytes == 8 || insn->segment != X86_CS);
    default:
        return false;
    }
}

static unsigned element_bytes(const struct insn *insn)
{
    return insn_operand_bytes(insn, 0);
}

/* OPCODE, whose lowest bit says that it is for more than a byte, with REG and MEM. */
static void emit_element(struct emitter *out, unsigned opcode, unsigned bytes, unsigned reg,
                         const struct host_mem *mem)
{
    if (bytes == 2)
        emit_u8(out, 0x66);
    emit_op_mem(out, opcode | (bytes > 1), bytes == 8, reg, mem);
}

static void access_at(struct draft *draft, const struct draft_insn *one, unsigned gpr, bool write,
                      struct host_mem *ret_mem)
{
    struct guest_ea ea = {
        (u8)gpr, INSN_NO_REG, 0, gpr == RDI ? X86_ES : one->insn.segment, (u8)draft->code_bytes, 0};
    struct access access = {ea, element_bytes(&one->insn), write, false, NULL};
    draft_access(draft, one, &access, ret_mem);
}

static void advance(struct draft *draft, unsigned gpr, unsigned bytes)
{
    struct host_mem next = host_mem_base(gpr, (s32)bytes);
    emit_lea(&draft->out, draft->code_bytes == 8, gpr, &next);
}

/* The element at RSI goes to cpu->jit_target, and then, when that at RDI is accessible, into T1. */
static void two_elements(struct draft *draft, const struct draft_insn *one, bool write,
                         struct host_mem *ret_mem)
{
    unsigned bytes = element_bytes(&one->insn);
    struct host_mem mem;
    access_at(draft, one, RSI, false, &mem);
    emit_element(&draft->out, 0x8a, bytes, T0, &mem);
    emit_store(&draft->out, T0, STATE, STATE_AT(jit_target));
    access_at(draft, one, RDI, write, ret_mem);
    draft_fold(draft, ret_mem);
    emit_load(&draft->out, T1, STATE, STATE_AT(jit_target));
}

void string_test_direction(struct emitter *out)
{
    struct host_mem rflags = host_mem_base(STATE, STATE_AT(rflags));
    emit_op_mem(out, 0xf7, false, 0, &rflags); /* test */
    emit_u32(out, X86_DF);
}

void draft_string(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    unsigned bytes = element_bytes(&one->insn);
    struct host_mem mem;
    u16 op = one->insn.op;
    if (one->live_before) {
        draft_interpret(draft, one);
        return;
    }
    string_test_direction(out);
    draft_otherwise_interpret(draft, one, emit_jcc(out, COND_NE, NULL));
    if (op == OP_MOVS) {
        two_elements(draft, one, true, &mem);
        emit_element(out, 0x88, bytes, T1, &mem);
    } else if (op == OP_CMPS) {
        two_elements(draft, one, false, &mem);
        emit_element(out, 0x3a, bytes, T1, &mem);
    } else {
        unsigned opcode = op == OP_LODS ? 0x8a : op == OP_STOS ? 0x88 : 0x3a;
        access_at(draft, one, op == OP_LODS ? RSI : RDI, op == OP_STOS, &mem);
        emit_element(out, opcode, bytes, X86_RAX, &mem);
    }
    if (op == OP_LODS || op == OP_MOVS || op == OP_CMPS)
        advance(draft, RSI, bytes);
    if (op != OP_LODS)
        advance(draft, RDI, bytes);
}
