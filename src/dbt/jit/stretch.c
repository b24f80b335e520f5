/*
 * dbt/jit/stretch.c - translates the stretches that group.c has found: the tests of groups,
 * operands without tests, loops whose rounds were tested ahead, and the way out where a test fails.
 *
 * Between a group's test and the last operand that relies on it nothing is called: no TLB is
 * flushed, nothing is interpreted, no poll is made. So whatever misses in a stretch, be it a
 * group's test or an operand with a test of its own, goes on in a second translation of the same
 * instructions, in the cold code, where each operand is tested by itself, to the stretch's end. A
 * group's test may fill its line first and be made again.
 *
 * Flags are in the host's at each instruction of the second translation.
 */
#include "dbt/jit/draft_priv.h"

enum { PAGE_BYTES = 4096, ROUNDS_READING = 512, ROUNDS_WRITING = 64 };

static struct host_mem line_field(const struct draft *draft, unsigned line, size_t field)
{
    return host_mem_base(STATE, draft_line_at(draft, line, field));
}

/* ---- tests ---- */

static struct access access_of(const struct draft_group *group)
{
    return (struct access){
        .ea = group->ea, .bytes = (unsigned)(group->high - group->low), .write = group->write};
}

static s32 delta_at(const struct draft *draft, const struct draft_group *group)
{
    return STATE_AT(jit_groups) + (s32)(group - draft->plan.groups) * 8;
}

/* Tests GROUP before instruction AT. Where its line does not have the page, the line's stub gives
 * what translates, in T1. */
static void test_group(struct draft *draft, const struct draft_group *group, unsigned at)
{
    struct emitter *out = &draft->out;
    struct draft_insn *one = &draft->insns[at];
    struct access access = access_of(group);
    unsigned line = group->line + group->write, size = draft_line_size(access.bytes);
    bool fits = size < CPU_LINE_SIZES;
    struct host_mem base = line_field(draft, line, offsetof(struct cpu_line, minus_base));
    struct host_mem limit = line_field(
        draft, line, offsetof(struct cpu_line, limit) + (fits ? size : 0) * sizeof(u64));
    u8 *too_far = NULL;
    one->flags_away = draft->flags_away;
    draft_linear_address(draft, one, &access);
    emit_alu_mem(out, ALU_ADD, T0, &base);
    emit_alu_mem(out, ALU_CMP, T0, &limit);
    u8 *miss = emit_jcc(out, COND_AE, NULL);
    if (!fits) {
        emit_alu_imm(out, ALU_CMP, false, T0, PAGE_BYTES - (s32)access.bytes);
        too_far = emit_jcc(out, COND_A, NULL);
    }
    emit_load(out, T1, STATE, draft_line_at(draft, line, offsetof(struct cpu_line, delta)));
    struct cold *cold = draft_missed(draft, one, &access, miss);
    if (cold) {
        cold->poll = too_far;
        cold->done = cold->resume = out->at;
        cold->stub = draft->jit->line_miss[draft->privilege][access.write];
        cold->form |= FORM_LINE;
        cold->line = (u8)line;
        cold->span = (u8)access.bytes;
    }
    emit_store(out, T1, STATE, delta_at(draft, group));
}

static unsigned log2_above(unsigned value)
{
    unsigned shift = 0;
    while (1u << shift < value)
        shift++;
    return shift;
}

/* jit_rounds = how many rounds after this one GROUP stays in its page, if that is less. */
static void count_rounds(struct draft *draft, const struct draft_group *group)
{
    struct emitter *out = &draft->out;
    struct host_mem rounds = host_mem_base(STATE, STATE_AT(jit_rounds));
    struct access access = access_of(group);
    s32 stride = group->stride;
    if (stride == 0)
        return;
    draft_linear_address(draft, &draft->insns[0], &access);
    emit_alu_imm(out, ALU_AND, false, T0, PAGE_BYTES - 1);
    if (stride > 0) {
        emit_mov_imm(out, T1, PAGE_BYTES - access.bytes);
        emit_op_reg(out, 0x2b, true, T1, T0); /* sub r9, r8 */
    } else {
        emit_mov(out, T1, T0);
    }
    emit_shr32_imm(out, T1, log2_above((unsigned)(stride > 0 ? stride : -stride)));
    emit_alu_mem(out, ALU_CMP, T1, &rounds);
    u8 *more = emit_jcc8(out, COND_AE);
    emit_store(out, T1, STATE, STATE_AT(jit_rounds));
    emit_patch8(out, more, out->at);
}

static void tests_of_loop(struct draft *draft)
{
    const struct group_plan *plan = &draft->plan;
    struct emitter *out = &draft->out;
    struct host_mem rounds = host_mem_base(STATE, STATE_AT(jit_rounds));
    bool writes = false;
    for (unsigned i = 0; i < plan->group_count; i++)
        writes |= plan->groups[i].used && plan->groups[i].write;
    emit_store_imm(out, STATE, STATE_AT(jit_rounds),
                   (writes ? ROUNDS_WRITING : ROUNDS_READING) - 1);
    for (unsigned i = 0; i < plan->group_count; i++) {
        const struct draft_group *group = &plan->groups[i];
        if (group->used && group->stride_known) {
            test_group(draft, group, 0);
            count_rounds(draft, group);
        }
    }
    emit_op_mem(out, 0x69, true, T1, &rounds); /* imul r9, rounds, */
    emit_u32(out, (u32)plan->counter_step);
    unsigned counter = draft_read_gpr(draft, plan->counter, T0);
    struct host_mem sum = {(u8)counter, T1, 0, plan->counter_step};
    emit_lea(out, true, T1, &sum);
    emit_store(out, T1, STATE, STATE_AT(jit_rounds));
    draft->round = out->at;
}

static void tests_before(struct draft *draft, unsigned at)
{
    const struct group_plan *plan = &draft->plan;
    bool any = false;
    for (unsigned i = 0; i < plan->group_count; i++)
        any |= plan->groups[i].used && plan->groups[i].check == at;
    if (!any)
        return;
    if (draft->insns[at].live_before == 0)
        draft->flags_away = false;
    else if (!draft->flags_away)
        draft_flags_put_away(draft);
    if (at == 0 && plan->counter_step != 0)
        tests_of_loop(draft);
    for (unsigned i = 0; i < plan->group_count; i++) {
        const struct draft_group *group = &plan->groups[i];
        if (group->used && group->check == at && !group->stride_known)
            test_group(draft, group, at);
    }
}

void draft_stretch_end(struct draft *draft)
{
    if (!draft->inside)
        return;
    draft->inside = NULL;
    draft_flags_back(draft);
    draft->stretches[draft->stretch_count - 1].resume = draft->out.at;
}

void draft_stretch_before(struct draft *draft, unsigned at)
{
    struct group_plan *plan = &draft->plan;
    if (draft->inside && at == plan->end)
        draft_stretch_end(draft);
    if (!draft->hot || draft->code_bytes != 8)
        return;
    if (!draft->inside && at >= plan->next && draft->stretch_count < DRAFT_STRETCHES)
        draft_plan(draft, at);
    if (plan->any && at == plan->start) {
        draft->stretches[draft->stretch_count++] = (struct draft_stretch){.start = plan->start,
                                                                          .end = plan->end};
        draft->inside = &draft->insns[at];
    }
    if (draft->inside) {
        draft->inside = &draft->insns[at];
        tests_before(draft, at);
    }
}

/* ---- instructions ---- */

void draft_member(struct draft *draft, const struct draft_insn *one, const struct access *access,
                  struct host_mem *ret_mem)
{
    struct emitter *out = &draft->out;
    const struct draft_group *group = &draft->plan.groups[one->group];
    const struct guest_ea *ea = &access->ea;
    s32 delta = delta_at(draft, group);
    u64 address = insn_next_rip(draft, one) + (u64)ea->disp;
    bool segment = ea->segment == X86_FS || ea->segment == X86_GS;
    if (!segment && ea->base == INSN_RIP && (s64)address == (s32)address) {
        emit_load(out, T0, STATE, delta);
        *ret_mem = host_mem_base(T0, (s32)address);
        if (draft->relative) {
            emit_load(out, T1, STATE, STATE_AT(jit_delta));
            ret_mem->index = T1;
        }
    } else if (segment || ea->base >= X86_GPR_COUNT) {
        draft_linear_address(draft, one, access);
        emit_load(out, T1, STATE, delta);
        *ret_mem = (struct host_mem){T0, T1, 0, 0};
    } else {
        unsigned base = draft_read_gpr(draft, ea->base, T1);
        emit_load(out, T0, STATE, delta);
        *ret_mem = (struct host_mem){(u8)base, T0, 0, (s32)ea->disp};
        if (ea->index != INSN_NO_REG) {
            struct host_mem sum = {T0, (u8)base, 0, 0};
            emit_lea(out, true, T0, &sum);
            unsigned index = draft_read_gpr(draft, ea->index, T1);
            *ret_mem = (struct host_mem){T0, (u8)index, ea->scale, (s32)ea->disp};
        }
    }
}

void draft_next_round(struct draft *draft, const struct draft_insn *one)
{
    const struct group_plan *plan = &draft->plan;
    struct emitter *out = &draft->out;
    if (!draft->inside || plan->counter_step == 0 || one != &draft->insns[plan->end - 1])
        return;
    unsigned counter = draft_read_gpr(draft, plan->counter, T0);
    emit_cmp_mem_reg(out, STATE, STATE_AT(jit_rounds), counter);
    emit_jcc(out, COND_NE, draft->round);
}

/* ---- the second translation ---- */

void draft_leave_stretch(struct draft *draft)
{
    u8 *jump = emit_jmp(&draft->out, NULL);
    struct cold *cold = draft_cold(draft, COLD_STRETCH);
    if (cold)
        cold->jump = jump;
}

void draft_cold_again(struct draft *draft, const struct cold *cold)
{
    draft->flags_away = cold->flags_away;
    draft_flags_back(draft);
    emit_jmp(&draft->out, cold->again->again);
}

void draft_cold_stretches(struct draft *draft)
{
    for (unsigned i = 0; i < draft->stretch_count && !draft->out.full; i++) {
        const struct draft_stretch *stretch = &draft->stretches[i];
        for (unsigned k = stretch->start; k < stretch->end && !draft->out.full; k++) {
            struct draft_insn *one = &draft->insns[k];
            one->flags_away = draft->flags_away = false;
            one->live_before = one->live;
            one->again = draft->out.at;
            draft_one(draft, one);
        }
        emit_jmp(&draft->out, stretch->resume);
    }
}
