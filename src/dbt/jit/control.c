/*
 * dbt/jit/control.c - branches, calls, returns, the ways out of a draft, and its cold code.
 *
 * A branch to a known address is an exit: a 32-bit displacement that first leads to a stub, and to
 * the target block once it is linked (link.c). Backward branches poll cpu->attention first.
 * A guest call is a host call, so that the host predicts the guest's return: the guest's RET takes
 * the address from the guest's stack into r8 and does a host RET; the return site compares r8 with
 * the address that it stands for. Relative code does not know that: its calls push it on the return
 * stack before. What does not match is looked up like any indirect branch.
 */
#include "dbt/jit/draft_priv.h"

#include "dbt/simd.h"

enum { RCX = 1 };

struct cold *draft_cold(struct draft *draft, enum cold_kind kind)
{
    if (draft->cold_count == COLD_MAX) {
        draft->failed = true;
        return NULL;
    }
    struct cold *cold = &draft->colds[draft->cold_count++];
    *cold = (struct cold){.kind = kind, .again = draft->inside, .flags_away = draft->flags_away};
    return cold;
}

/* ---- exits ---- */

static u32 exit_new(struct draft *draft, u64 rip)
{
    struct jit *jit = draft->jit;
    struct jit_span *exits = &jit_filling(jit)->exits;
    if (exits->next == exits->end) {
        draft->out.full = true;
        return 0;
    }
    u32 number = exits->next++;
    jit->exits[number] = (struct jit_exit){.target_rip = rip,
                                           .relative = draft->relative,
                                           .leaves_page = rip >> 12 != draft->rip >> 12,
                                           .flags_away = draft->flags_away};
    return number;
}

/* Where flags must be for a direct way to RIP: links to other pages may find them put away. Whether
 * T1 was lost. */
static bool flags_for_exit(struct draft *draft, u64 rip)
{
    if (!draft->flags_away || rip >> 12 != draft->rip >> 12)
        return false;
    bool live = draft_live_flags_at(draft, rip) != 0;
    if (live)
        draft_flags_back(draft);
    draft->flags_away = false;
    return live;
}

/* A jump to the exit for RIP. A poll before it leaves by the same exit, so it must come after all
 * that the instruction does. For a CALL in relative code RETURN_REG is the return address. A polled
 * call loses its return site's prediction, no more. */
static void exit_branch(struct draft *draft, u64 rip, const struct draft_insn *call,
                        unsigned return_reg)
{
    struct emitter *out = &draft->out;
    u8 *poll = NULL;
    bool lost = flags_for_exit(draft, rip) && return_reg == T1;
    u32 number = exit_new(draft, rip);
    if (draft_is_backwards(draft, rip)) {
        bool keep = !draft->flags_away && draft_live_flags_at(draft, rip) != 0;
        poll = jit_expect_u32(out, STATE_AT(attention), 0, keep);
        lost |= keep && return_reg == T0;
    }
    if (call && draft->relative) {
        if (lost)
            draft_address(draft, return_reg, insn_next_rip(draft, call), draft->code_bytes == 8);
        emit_push(out, return_reg);
    }
    emit_pad_displacement(out, 1);
    u8 *jump = call ? emit_call(out, NULL) : emit_jmp(out, NULL);
    struct cold *cold = draft_cold(draft, COLD_EXIT);
    if (cold == NULL)
        return;
    cold->number = number;
    cold->jump = jump;
    cold->poll = poll;
}

void draft_exit_to(struct draft *draft, u64 rip)
{
    exit_branch(draft, rip, NULL, 0);
}

/* ---- branches ---- */

static u64 branch_target(const struct draft *draft, const struct draft_insn *one)
{
    return draft_wrap(draft, insn_next_rip(draft, one) + one->insn.imm);
}

static void do_jcc(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    u64 target = branch_target(draft, one);
    unsigned condition = insn_condition(&one->insn);
    if (draft_is_backwards(draft, target)) { /* the poll stands on the taken way only */
        u8 *skip = emit_jcc(out, condition ^ 1, NULL);
        draft_next_round(draft, one);
        exit_branch(draft, target, NULL, 0);
        emit_patch(skip, out->at);
        return;
    }
    emit_pad_displacement(out, 2);
    u8 *jump = emit_jcc(out, condition, NULL);
    struct cold *cold = draft_cold(draft, COLD_EXIT);
    u32 number = exit_new(draft, target);
    if (cold == NULL)
        return;
    cold->jump = jump;
    cold->number = number;
}

/* JRCXZ and LOOP as they are; their 8-bit displacement leads over a jump. */
static void do_count_branch(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    if (one->insn.address_bytes == 4)
        emit_u8(out, 0x67);
    emit_u8(out, one->insn.opcode);
    emit_u8(out, 5); /* over the jump to the next instruction */
    u8 *not_taken = emit_jmp(out, NULL);
    exit_branch(draft, branch_target(draft, one), NULL, 0);
    emit_patch(not_taken, out->at);
}

/* Where a call comes back: r8 must be the address after the call. A relative block's mapping still
 * stands then, because return stacks are emptied when one goes, but the delta may be another's. */
static void return_site(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    const u8 *lookup = jit_rw(draft->jit, draft->jit->lookup);
    u64 rip = insn_next_rip(draft, one);
    if (draft->relative) {
        emit_pop(out, T1);
        emit_cmp_reg(out, T0, T1);
        (void)emit_jcc(out, COND_NE, lookup);
        emit_alu_imm(out, ALU_SUB, true, T0, (s32)rip);
        emit_store(out, T0, STATE, STATE_AT(jit_delta));
    } else {
        u8 *mismatch = jit_expect_rip(out, rip);
        if (!out->full)
            emit_patch(mismatch, lookup);
    }
    draft->flags_away = true;
}

/* Stores the return address below RSP and moves RSP. In relative code that address is in T0 or T1,
 * which is returned. Live flags are kept or made again. */
static unsigned push_return_address(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    struct flags_recipe recipe;
    bool live = one->live_before != 0, again = live && flags_recipe(draft, one, &recipe);
    bool wide = draft->code_bytes == 8;
    s32 bytes = (s32)draft->code_bytes;
    struct access access = {ea_stack(draft, -bytes), draft->code_bytes, true, live && !again,
                            again ? &recipe : NULL};
    struct host_mem mem, below = host_mem_base(GUEST_RSP, -bytes);
    u64 rip = insn_next_rip(draft, one);
    draft_access(draft, one, &access, &mem);
    bool is_imm = !draft->relative && (!wide || (s64)rip == (s32)rip);
    if (mem.base == T0 && (!is_imm || (again && recipe.scratch)))
        draft_fold(draft, &mem);
    unsigned reg = mem.base == T0 ? T1 : T0;
    if (again && reg == T1)
        flags_make(draft, &recipe, 0);
    if (is_imm) {
        emit_op_mem(out, 0xc7, wide, 0, &mem);
        emit_u32(out, (u32)rip);
    } else {
        draft_address(draft, reg, rip, wide);
        emit_op_mem(out, 0x89, wide, reg, &mem);
    }
    emit_lea(out, wide, GUEST_RSP, &below);
    if (again && reg == T0)
        flags_make(draft, &recipe, -bytes);
    return reg;
}

static void do_call(struct draft *draft, const struct draft_insn *one)
{
    unsigned reg = push_return_address(draft, one);
    exit_branch(draft, branch_target(draft, one), one, reg);
    return_site(draft, one);
}

/* The target of an indirect branch into r8; flags are away. */
static void read_target(struct draft *draft, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct emitter *out = &draft->out;
    if (insn->has_memory) {
        struct access access = {ea_of(insn), draft->code_bytes, false, false, NULL};
        struct host_mem mem;
        draft_access(draft, one, &access, &mem);
        emit_op_mem(out, 0x8b, draft->code_bytes == 8, T0, &mem);
    } else if (in_slot(insn->rm)) {
        emit_load(out, T0, STATE, slot_at(insn->rm));
    } else if (draft->code_bytes == 4) {
        emit_mov32(out, T0, host_gpr(insn->rm));
    } else {
        emit_mov(out, T0, host_gpr(insn->rm));
    }
}

static void do_call_indirect(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    read_target(draft, one);
    emit_store(out, T0, STATE, STATE_AT(jit_target));
    unsigned reg = push_return_address(draft, one);
    if (draft->relative)
        emit_push(out, reg);
    emit_load(out, T0, STATE, STATE_AT(jit_target));
    jit_emit_indirect(out, true);
    return_site(draft, one);
}

static void do_ret(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    bool wide = draft->code_bytes == 8;
    struct access access = {ea_stack(draft, 0), draft->code_bytes, false, false, NULL};
    struct host_mem mem;
    s32 more = one->insn.imm_offset < one->insn.length ? (s32)one->insn.imm : 0;
    struct host_mem above = host_mem_base(GUEST_RSP, (s32)draft->code_bytes + more);
    draft_access(draft, one, &access, &mem);
    emit_op_mem(out, 0x8b, wide, T0, &mem);
    emit_lea(out, wide, GUEST_RSP, &above);
    emit_ret(out);
}

bool control_possible(const struct insn *insn)
{
    switch (insn->op) {
    case OP_JCC:
    case OP_JMP:
    case OP_CALL:
    case OP_RET:
    case OP_JMP_IND:
    case OP_CALL_IND:
        return insn->operand_bytes == insn->code_bytes;
    case OP_JCXZ:
    case OP_LOOP:
        return insn->address_bytes >= 4 && insn->operand_bytes >= 4;
    default:
        return false;
    }
}

void draft_control(struct draft *draft, const struct draft_insn *one)
{
    switch (one->insn.op) {
    case OP_JCC:
        do_jcc(draft, one);
        break;
    case OP_JMP:
        draft_next_round(draft, one);
        exit_branch(draft, branch_target(draft, one), NULL, 0);
        break;
    case OP_JCXZ:
    case OP_LOOP:
        do_count_branch(draft, one);
        break;
    case OP_CALL:
        do_call(draft, one);
        break;
    case OP_CALL_IND:
        do_call_indirect(draft, one);
        break;
    case OP_JMP_IND:
        read_target(draft, one);
        jit_emit_indirect(&draft->out, false);
        break;
    default:
        do_ret(draft, one);
        break;
    }
}

void draft_interpret(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    if (!simd_handles(&one->insn)) {
        draft_ready(draft, one);
        return;
    }
    emit_mov_imm(out, T1, insn_meta(draft, one));
    emit_call(out, jit_rw(draft->jit, draft->jit->fallback));
}

/* ---- cold code ---- */

static void cold_slow(struct draft *draft, const struct cold *cold)
{
    struct emitter *out = &draft->out;
    emit_mov_imm(out, T1, cold->number);
    emit_call(out, jit_rw(draft->jit, draft->jit->fallback));
    emit_jmp(out, cold->resume);
}

static void cold_exit(struct draft *draft, const struct cold *cold)
{
    struct emitter *out = &draft->out;
    struct jit_exit *exit = &draft->jit->exits[cold->number];
    u32 stub = exit->flags_away ? draft->jit->exit_away : draft->jit->exit_stub;
    exit->jump = jit_offset(draft->jit, cold->jump);
    exit->stub = jit_offset(draft->jit, out->at);
    emit_mov_imm(out, T1, cold->number << LEAVE_BITS | LEAVE_EXIT);
    emit_jmp(out, jit_rw(draft->jit, stub));
    if (out->full)
        return;
    emit_patch(cold->jump, jit_rw(draft->jit, exit->stub));
    if (cold->poll)
        emit_patch(cold->poll, jit_rw(draft->jit, exit->stub));
}

static void cold_again(struct draft *draft)
{
    draft_address(draft, T0, draft->rip, true);
    emit_jmp(&draft->out, jit_rw(draft->jit, draft->jit->again));
}

void draft_cold_code(struct draft *draft)
{
    struct emitter *out = &draft->out;
    draft_cold_stretches(draft);
    for (unsigned i = 0; i < draft->cold_count && !out->full && !draft->failed; i++) {
        const struct cold *cold = &draft->colds[i];
        if (cold->kind == COLD_EXIT) {
            cold_exit(draft, cold);
            continue;
        }
        if (cold->kind == COLD_READY) {
            draft_cold_ready(draft, cold);
            continue;
        }
        emit_patch(cold->jump, out->at);
        if (cold->poll)
            emit_patch(cold->poll, out->at);
        if (cold->restore_flags)
            keep_restore(out);
        if (cold->restore_rcx)
            emit_load(out, RCX, STATE, STATE_AT(jit_spill));
        if (cold->kind == COLD_ACCESS)
            draft_cold_access(draft, cold);
        else if (cold->kind == COLD_STRETCH || (cold->kind == COLD_SLOW && cold->again))
            draft_cold_again(draft, cold);
        else if (cold->kind == COLD_SLOW)
            cold_slow(draft, cold);
        else
            cold_again(draft);
    }
}

void draft_resume_here(struct draft *draft)
{
    for (unsigned i = draft->cold_count; i-- > draft->resumed;) {
        struct cold *cold = &draft->colds[i];
        if ((cold->kind == COLD_SLOW || cold->kind == COLD_ACCESS) && cold->resume == NULL)
            cold->resume = draft->out.at;
    }
    draft->resumed = draft->cold_count;
}
