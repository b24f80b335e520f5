/*
 * dbt/jit/away.c - where the guest's arithmetic flags are: in the host's flags, or put away.
 *
 * The short tests of memory operands change flags, and the tests that do not are several times as
 * long. Where flags only pass through instructions with more than one test - the pushes before a
 * jump - they are put into cpu->jit_flags before the first test and taken back before the block is
 * left or somebody reads or changes them. What is interpreted meanwhile is told by META_FLAGS
 * (jit_flags_meet). What can be made again after each test (flags.c) stays where it is.
 *
 * Returns and indirect branches always go with flags put away, if they are not dead, and links to
 * other pages may. Where a call comes back they are away, and there they stay if they only pass
 * through to the next return.
 */
#include "dbt/jit/draft_priv.h"

enum { RAX = 0, CHECKS_MIN = 2 };

static bool ends_run(const struct insn *insn)
{
    switch (insn->op) {
    case OP_JMP:
    case OP_CALL:
    case OP_CALL_IND:
    case OP_JMP_IND:
    case OP_RET:
        return true;
    default:
        return false;
    }
}

/* Whether ONE's translation leaves flags alone but for its tests. */
static bool lets_flags_pass(const struct draft_insn *one)
{
    const struct insn_desc *desc = one->insn.desc;
    if (desc->flags_read | desc->flags_written | desc->flags_undefined)
        return false;
    switch (one->insn.op) {
    case OP_LEA:
    case OP_PUSH:
    case OP_POP:
    case OP_LEAVE:
    case OP_MOV:
        return one->how != HOW_INTERPRET;
    default:
        return one->how == HOW_GENERIC || one->how == HOW_NOTHING;
    }
}

static unsigned check_count(const struct draft *draft, const struct draft_insn *one)
{
    if (draft_is_member(draft, one))
        return 0;
    const struct insn *insn = &one->insn;
    bool stack = insn->op == OP_PUSH || insn->op == OP_POP || insn->op == OP_LEAVE ||
                 insn->op == OP_CALL || insn->op == OP_CALL_IND || insn->op == OP_RET;
    bool memory = insn->has_memory && insn->op != OP_LEA && one->how != HOW_NOTHING;
    return stack + memory;
}

/* Whether flags may be away where INSN leads to: by a way to another page. */
static bool may_be_border(const struct draft *draft, const struct draft_insn *one)
{
    u64 target = insn_next_rip(draft, one) + one->insn.imm;
    return (one->insn.op == OP_JMP || one->insn.op == OP_CALL) && target >> 12 != draft->rip >> 12;
}

/* Whether they must be, or it is better for the poll on the way. */
static bool is_border(const struct draft *draft, const struct draft_insn *one)
{
    switch (one->insn.op) {
    case OP_RET:
    case OP_JMP_IND:
    case OP_CALL_IND:
        return true;
    default:
        return may_be_border(draft, one) &&
               draft_is_backwards(draft, insn_next_rip(draft, one) + one->insn.imm);
    }
}

/* Whether flags are to be put away before ONE, which they pass through. */
static bool pays(const struct draft *draft, const struct draft_insn *one)
{
    const struct draft_insn *end = draft->insns + draft->insn_count, *at = one;
    unsigned checks = 0;
    struct flags_recipe recipe;
    if (is_border(draft, one))
        return true;
    if (check_count(draft, one) == 0)
        return false;
    for (; at < end && !ends_run(&at->insn) && lets_flags_pass(at); at++)
        checks += check_count(draft, at);
    if (at < end && is_border(draft, at))
        return true;
    bool leaves = at < end && may_be_border(draft, at);
    checks += at < end && ends_run(&at->insn) ? check_count(draft, at) : 0;
    return checks >= (leaves ? 1 : CHECKS_MIN) && !flags_recipe(draft, one, &recipe);
}

static struct host_mem flags_place(void)
{
    return host_mem_base(STATE, STATE_AT(jit_flags));
}

void draft_flags_put_away(struct draft *draft)
{
    struct emitter *out = &draft->out;
    struct host_mem place = flags_place();
    const struct jit *jit = draft->jit;
    bool counts = jit->make_counted || jit->tracer; /* code that comes first and must be run */
    bool first = out->at == draft->insns[0].code && draft->tail == NULL && !counts;
    emit_mov(out, T1, RAX);
    emit_bytes(out, (const u8[]){0x9f, 0x0f, 0x90, 0xc0, 0x66}, 5); /* lahf; seto al; 16 bits: */
    emit_op_mem(out, 0x89, false, RAX, &place);
    emit_mov(out, RAX, T1);
    draft->flags_away = true;
    if (first)
        draft->away_entry = out->at;
}

void jit_emit_flags_back(struct emitter *out)
{
    struct host_mem place = flags_place();
    emit_mov(out, T1, RAX);
    emit_op_mem(out, 0x0fb7, false, RAX, &place);       /* movzx */
    emit_bytes(out, (const u8[]){0x04, 0x7f, 0x9e}, 3); /* add al, 0x7f; sahf */
    emit_mov(out, RAX, T1);
}

void jit_emit_flags_put(struct emitter *out, unsigned image, unsigned scratch)
{
    struct host_mem place = flags_place();
    emit_mov32(out, scratch, image);
    emit_shr32_imm(out, scratch, 11);
    emit_alu_imm(out, ALU_AND, false, scratch, 1);
    emit_alu_imm(out, ALU_AND, false, image, 0xff);
    emit_shift_imm(out, SHIFT_SHL, image, 8);
    emit_op_reg(out, 0x0b, false, image, scratch); /* or */
    emit_u8(out, 0x66);
    emit_op_mem(out, 0x89, false, image, &place);
}

void draft_flags_back(struct draft *draft)
{
    if (draft->flags_away)
        jit_emit_flags_back(&draft->out);
    draft->flags_away = false;
}

void draft_flags_before(struct draft *draft, struct draft_insn *one)
{
    bool pass = ends_run(&one->insn) || lets_flags_pass(one);
    if (one->live_before == 0)
        draft->flags_away = false;
    else if (!pass)
        draft_flags_back(draft);
    else if (!draft->flags_away && pays(draft, one))
        draft_flags_put_away(draft);
    one->flags_away = draft->flags_away;
    if (one->flags_away)
        one->live_before = 0;
}

void jit_flags_meet(struct cpu *cpu, u32 meta)
{
    u32 lahf = cpu->jit_flags >> 8, seto = cpu->jit_flags & 1;
    if (meta & META_FLAGS)
        cpu->rflags = (cpu->rflags & ~(u64)X86_ARITH_FLAGS) | (lahf & X86_ARITH_FLAGS) | seto << 11;
}
