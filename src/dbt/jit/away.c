/*
 * dbt/jit/away.c - where the guest's arithmetic flags are: in the host's flags, or put away.
 *
 * The short tests of memory operands change flags, and the tests that do not are several times as
 * long. Where flags only pass through instructions with more than one test - a function's pops up
 * to its RET, the pushes before a call - they are put into cpu->jit_flags before the first test and
 * taken back before the block is left or somebody reads or changes them. What is interpreted
 * meanwhile is told by META_FLAGS (jit_flags_meet). What can be made again after each test
 * (flags.c) stays where it is.
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

static unsigned check_count(const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    bool stack = insn->op == OP_PUSH || insn->op == OP_POP || insn->op == OP_LEAVE ||
                 insn->op == OP_CALL || insn->op == OP_CALL_IND || insn->op == OP_RET;
    bool memory = insn->has_memory && insn->op != OP_LEA && one->how != HOW_NOTHING;
    return stack + memory;
}

/* Whether enough tests follow, from instruction AT on, for flags to be put away. */
static bool pays(const struct draft *draft, unsigned at)
{
    unsigned checks = 0;
    for (; at < draft->insn_count && checks < CHECKS_MIN; at++) {
        const struct draft_insn *one = &draft->insns[at];
        bool last = ends_run(&one->insn);
        if (!last && !lets_flags_pass(one))
            break;
        checks += check_count(one);
        if (last)
            break;
    }
    return checks >= CHECKS_MIN;
}

static struct host_mem flags_place(void)
{
    return host_mem_base(STATE, STATE_AT(jit_flags));
}

static void put_away(struct draft *draft)
{
    struct emitter *out = &draft->out;
    struct host_mem place = flags_place();
    emit_mov(out, T1, RAX);
    emit_bytes(out, (const u8[]){0x9f, 0x0f, 0x90, 0xc0, 0x66}, 5); /* lahf; seto al; 16 bits: */
    emit_op_mem(out, 0x89, false, RAX, &place);
    emit_mov(out, RAX, T1);
    draft->flags_away = true;
}

void draft_flags_back(struct draft *draft)
{
    struct emitter *out = &draft->out;
    struct host_mem place = flags_place();
    if (!draft->flags_away)
        return;
    emit_mov(out, T1, RAX);
    emit_op_mem(out, 0x0fb7, false, RAX, &place);       /* movzx */
    emit_bytes(out, (const u8[]){0x04, 0x7f, 0x9e}, 3); /* add al, 0x7f; sahf */
    emit_mov(out, RAX, T1);
    draft->flags_away = false;
}

void draft_flags_before(struct draft *draft, struct draft_insn *one)
{
    bool pass = ends_run(&one->insn) || lets_flags_pass(one);
    struct flags_recipe recipe;
    if (one->live_before == 0)
        draft->flags_away = false;
    else if (!pass)
        draft_flags_back(draft);
    else if (!draft->flags_away && check_count(one) > 0 &&
             pays(draft, (unsigned)(one - draft->insns)) && !flags_recipe(draft, one, &recipe))
        put_away(draft);
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
