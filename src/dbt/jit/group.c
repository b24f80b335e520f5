/*
 * dbt/jit/group.c - finds memory operands that can be tested together, in blocks that run often.
 *
 * A stretch is a run of instructions of which translated code executes all or leaves; nothing in it
 * calls C. What its address registers hold is followed as the value of a register at the stretch's
 * start, or of what an instruction left in it, and a constant. Operands whose values differ by
 * constants only are a group: one test of the page that all of them lie in stands for theirs
 * (stretch.c), before the first of them and at a place where flags are dead, if there is one.
 *
 * A test may stand before its operand, but not before a conditional branch that may lead around it:
 * what is never accessed is not looked at. A group that writes is tested for writing as a whole.
 *
 * A loop is a stretch that is a block's beginning and ends with a branch to it. Where the values of
 * a group's registers grow by constants from one round to the next, rounds are tested ahead: how
 * many there are until one of the groups leaves its page. The branch goes back to behind the tests
 * for as many rounds.
 */
#include "dbt/jit/draft_priv.h"

enum { VALUE_NONE = 0xff, VALUE_RIP = 0xfe, SPAN_MAX = 255, ADD_MAX = 1 << 24 };
/* Instructions of translated code that a group's test, or keeping flags for it, takes; and that an
 * operand's own test takes with dead flags and with live ones. */
enum { COST_CHECK = 5, COST_KEEP = 10, SAVED_DEAD = 4, SAVED_LIVE = 14 };

/* ---- values ---- */

static struct draft_value value_of(const struct group_plan *plan, unsigned at, unsigned gpr)
{
    if (gpr == INSN_NO_REG)
        return (struct draft_value){VALUE_NONE, 0};
    return plan->values[at][gpr];
}

static bool operands_are_registers(const struct insn *insn)
{
    for (unsigned i = 0; i < 2; i++) {
        u8 kind = insn->desc->operand[i].kind;
        if (kind != OPERAND_G && (kind != OPERAND_E || insn->has_memory))
            return false;
    }
    return true;
}

static unsigned operand_register(const struct insn *insn, unsigned i)
{
    return insn->desc->operand[i].kind == OPERAND_G ? insn->reg : insn->rm;
}

/* The one register to which INSN gives a value that is known from others, in *RET_VALUE; NO_REG
 * for none. */
static unsigned known_result(const struct group_plan *plan, unsigned at, const struct insn *insn,
                             struct draft_value *ret_value)
{
    const struct operand_desc *operand = insn->desc->operand;
    unsigned to = insn->rm;
    s64 more = 0;
    if (insn->operand_bytes != 8)
        return INSN_NO_REG;
    switch (insn->op) {
    case OP_LEA:
        if (insn->base >= X86_GPR_COUNT || insn->index != INSN_NO_REG || insn->address_bytes != 8)
            return INSN_NO_REG;
        to = insn->reg;
        *ret_value = plan->values[at][insn->base];
        more = insn->disp;
        break;
    case OP_MOV:
        if (!operands_are_registers(insn) || insn_operand_bytes(insn, 0) != 8)
            return INSN_NO_REG;
        to = operand_register(insn, 0);
        *ret_value = plan->values[at][operand_register(insn, 1)];
        break;
    case OP_ADD:
    case OP_SUB:
        if (insn->has_memory || operand[1].kind != OPERAND_I ||
            (operand[0].kind != OPERAND_E && operand[0].kind != OPERAND_GPR) ||
            insn_operand_bytes(insn, 0) != 8)
            return INSN_NO_REG;
        if (operand[0].kind == OPERAND_GPR)
            to = operand[0].reg;
        *ret_value = plan->values[at][to];
        more = insn->op == OP_ADD ? (s64)insn->imm : -(s64)insn->imm;
        break;
    case OP_INC:
    case OP_DEC:
        if (insn->has_memory || insn_operand_bytes(insn, 0) != 8)
            return INSN_NO_REG;
        *ret_value = plan->values[at][to];
        more = insn->op == OP_INC ? 1 : -1;
        break;
    default:
        return INSN_NO_REG;
    }
    if (more > ADD_MAX || more < -ADD_MAX)
        return INSN_NO_REG;
    ret_value->add += (s32)more;
    return ret_value->add > ADD_MAX || ret_value->add < -ADD_MAX ? INSN_NO_REG : to;
}

/* What registers hold after instruction AT. */
static void follow(struct group_plan *plan, unsigned at, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct draft_value known, stack = plan->values[at][X86_RSP];
    u32 read, written;
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        plan->values[at + 1][i] = plan->values[at][i];
    if (one->how == HOW_NOTHING)
        return;
    unsigned to = known_result(plan, at, insn, &known);
    insn_gprs(insn, &read, &written);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        if (written & 1u << i)
            plan->values[at + 1][i] = (struct draft_value){plan->next_value++, 0};
    if (to != INSN_NO_REG)
        plan->values[at + 1][to] = known;
    bool pop_rsp = insn->op == OP_POP &&
                   (insn->desc->operand[0].kind == OPERAND_Z ? insn->reg : insn->rm) == X86_RSP;
    stack.add += insn->op == OP_PUSH ? -8 : 8;
    if (insn->op == OP_PUSH || (insn->op == OP_POP && !pop_rsp))
        plan->values[at + 1][X86_RSP] = stack;
}

/* ---- groups ---- */

/* The operand that ONE's translation accesses; false where it has none, or none of this kind. */
static bool operand_of(const struct draft *draft, const struct draft_insn *one,
                       struct access *ret_access)
{
    const struct insn *insn = &one->insn;
    *ret_access = (struct access){.bytes = 8};
    switch (insn->op) {
    case OP_PUSH:
        ret_access->ea = ea_stack(draft, -8);
        ret_access->write = true;
        return !insn->has_memory;
    case OP_POP:
        ret_access->ea = ea_stack(draft, 0);
        return true;
    case OP_LEAVE:
        ret_access->ea = ea_stack(draft, 0);
        ret_access->ea.base = X86_RBP;
        return true;
    case OP_LEA:
        return false;
    default:
        ret_access->ea = ea_of(insn);
        ret_access->bytes = insn_memory_bytes(insn);
        ret_access->write = (insn_memory_access(insn) & ACCESS_W) != 0;
        return one->how != HOW_NOTHING && insn->has_memory && insn->address_bytes == 8 &&
               insn->desc->operand[0].kind != OPERAND_O &&
               insn->desc->operand[1].kind != OPERAND_O && ret_access->bytes > 0 &&
               ret_access->bytes <= 64;
    }
}

/* Where the operand of instruction AT is, as a group of its own. */
static bool locate(const struct group_plan *plan, unsigned at, const struct draft_insn *one,
                   const struct access *access, struct draft_group *ret_group)
{
    const struct guest_ea *ea = &access->ea;
    struct draft_value base = {VALUE_RIP, one->offset + one->insn.length};
    struct draft_value index = value_of(plan, at, ea->index);
    if (ea->base != INSN_RIP)
        base = value_of(plan, at, ea->base);
    s64 low = base.add + (s64)index.add * (1 << ea->scale) + ea->disp;
    *ret_group = (struct draft_group){
        .base = base.id,
        .index = index.id,
        .scale = index.id == VALUE_NONE ? 0 : ea->scale,
        .segment = ea->segment == X86_FS || ea->segment == X86_GS ? ea->segment : X86_DS,
        .ea = *ea,
        .first = (u8)at,
        .last = (u8)at,
        .write = access->write,
        .low = (s32)low,
        .high = (s32)low + (s32)access->bytes};
    return low == (s32)low && low + SPAN_MAX == (s32)(low + SPAN_MAX);
}

static unsigned saved_by(const struct draft *draft, const struct draft_insn *one,
                         const struct draft_group *group)
{
    if (one->live_before)
        return SAVED_LIVE;
    return group->base == VALUE_RIP && !draft->relative ? 1 : SAVED_DEAD;
}

/* Adds the operand of instruction AT to a group that has it, or makes one. */
static void join(struct draft *draft, unsigned at)
{
    struct group_plan *plan = &draft->plan;
    struct draft_insn *one = &draft->insns[at];
    struct draft_group new;
    struct access access;
    one->group = GROUP_NONE;
    if (!operand_of(draft, one, &access) || !locate(plan, at, one, &access, &new))
        return;
    for (unsigned i = 0; i < plan->group_count; i++) {
        struct draft_group *group = &plan->groups[i];
        s32 low = group->low < new.low ? group->low : new.low;
        s32 high = group->high > new.high ? group->high : new.high;
        if (group->base != new.base || group->index != new.index || group->scale != new.scale ||
            group->segment != new.segment || (s64)high - low > SPAN_MAX)
            continue;
        if (new.write && !group->write && plan->branch > (int)group->first)
            continue; /* the write may never be made */
        group->low = low;
        group->high = high;
        group->write_branch |= new.write && !group->write && plan->branch >= 0;
        group->write |= new.write;
        group->last = (u8)at;
        group->saved += saved_by(draft, one, group);
        one->group = (u8)i;
        return;
    }
    if (plan->group_count == DRAFT_GROUPS)
        return;
    new.saved = saved_by(draft, one, &new);
    new.branch = plan->branch;
    new.write_branch = new.write && plan->branch >= 0;
    one->group = (u8)plan->group_count;
    plan->groups[plan->group_count++] = new;
}

/* ---- tests ---- */

/* Whether GROUP's address can be computed before instruction AT; sets the operand that does it, the
 * group's lowest byte. */
static bool computable(const struct draft *draft, struct draft_group *group, unsigned at)
{
    const struct group_plan *plan = &draft->plan;
    struct guest_ea *ea = &group->ea;
    if (group->base == VALUE_RIP) {
        ea->disp = group->low - draft->insns[at].offset - draft->insns[at].insn.length;
        return true;
    }
    struct draft_value base = value_of(plan, at, ea->base), index = value_of(plan, at, ea->index);
    s64 disp = group->low - base.add - (s64)index.add * (1 << ea->scale);
    if (base.id != group->base || index.id != group->index || disp != (s32)disp)
        return false;
    ea->disp = disp;
    return true;
}

/* The place for GROUP's test: the last one where flags are dead, else the first that can be, so
 * that several tests keep flags together. */
static void place(const struct draft *draft, struct draft_group *group)
{
    int earliest = group->branch >= 0 ? group->branch + 1 : draft->plan.start, at = group->first;
    for (int i = at - 1; i >= earliest && draft->insns[at].live_before; i--)
        if (computable(draft, group, (unsigned)i))
            at = i;
    group->check = (u8)at;
    (void)computable(draft, group, (unsigned)at);
}

/* Whether a test of GROUP is made if its instructions are fewer than those that it saves; other
 * groups that are tested at the same place pay for keeping flags with it. */
static void choose(struct draft *draft, struct draft_group *group)
{
    struct group_plan *plan = &draft->plan;
    const struct draft_insn *one = &draft->insns[group->check];
    u64 gpa = draft->physical_page << 12 | (draft->start + one->offset);
    unsigned saved = 0, keep = one->live_before ? COST_KEEP : 0;
    for (unsigned i = 0; i < plan->group_count; i++) {
        const struct draft_group *other = &plan->groups[i];
        if (other->check == group->check && other->saved > COST_CHECK)
            saved += other->saved - COST_CHECK;
    }
    bool pays = group->stride_known || (group->saved > COST_CHECK && saved > keep);
    group->used = pays && jit_line_pays(draft->jit, gpa) && draft_group_line(draft, &group->line);
}

/* ---- loops ---- */

/* Finds how far GROUP moves from one round to the next, and puts its test in front of the loop. */
static void group_stride(const struct draft *draft, struct draft_group *group, unsigned end)
{
    const struct group_plan *plan = &draft->plan;
    s64 stride = 0;
    if (group->write && group->write_branch)
        return;
    if (group->base < X86_GPR_COUNT) {
        struct draft_value after = plan->values[end][group->base];
        if (after.id != group->base)
            return;
        stride += after.add;
    } else if (group->base != VALUE_RIP && group->base != VALUE_NONE) {
        return;
    }
    if (group->index < X86_GPR_COUNT) {
        struct draft_value after = plan->values[end][group->index];
        if (after.id != group->index)
            return;
        stride += (s64)after.add * (1 << group->scale);
    } else if (group->index != VALUE_NONE) {
        return;
    }
    struct guest_ea ea = group->ea;
    if (group->base < X86_GPR_COUNT)
        group->ea.base = group->base;
    if (group->index < X86_GPR_COUNT)
        group->ea.index = group->index;
    if (stride < -4096 || stride > 4096 || !computable(draft, group, 0)) {
        group->ea = ea;
        return;
    }
    group->stride_known = true;
    group->stride = (s32)stride;
    group->check = 0;
}

/* A register that counts the loop's rounds: the amount it grows by in each, 0 for none. */
static s32 find_counter(const struct draft *draft, unsigned end, u8 *ret_gpr)
{
    s32 best = 0;
    for (unsigned i = 0; i < X86_GPR_COUNT; i++) {
        struct draft_value after = draft->plan.values[end][i];
        if (after.id != i || after.add == 0 || after.add > 4096 || after.add < -4096)
            continue;
        if (best != 0 && in_slot(i))
            continue;
        best = after.add;
        *ret_gpr = (u8)i;
        if (!in_slot(i))
            break;
    }
    return best;
}

static u64 branch_target(const struct draft *draft, const struct draft_insn *one)
{
    return draft_wrap(draft, insn_next_rip(draft, one) + one->insn.imm);
}

static bool leads_back(const struct draft *draft, const struct draft_insn *one)
{
    return (one->insn.op == OP_JCC || one->insn.op == OP_JMP) &&
           branch_target(draft, one) == draft->rip;
}

static void find_loop(struct draft *draft)
{
    struct group_plan *plan = &draft->plan;
    unsigned back = plan->end - 1u;
    bool any = false;
    plan->counter_step = 0;
    if (plan->start != 0 || plan->end == 0 || !leads_back(draft, &draft->insns[back]) ||
        draft->insns[0].live_before || draft->tail || draft->jit->make_counted ||
        draft->cpu->jit_own->lockstep)
        return;
    s32 step = find_counter(draft, plan->end, &plan->counter);
    if (step == 0)
        return;
    for (unsigned i = 0; i < plan->group_count; i++) {
        group_stride(draft, &plan->groups[i], plan->end);
        any |= plan->groups[i].stride_known;
    }
    if (any)
        plan->counter_step = step;
}

/* ---- the plan ---- */

static bool has_high_byte(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->desc->operand_count; i++) {
        u8 kind = insn->desc->operand[i].kind;
        bool rm = (kind == OPERAND_E || kind == OPERAND_R) && !insn->has_memory;
        bool reg = kind == OPERAND_G || kind == OPERAND_Z;
        if ((rm || reg) && insn_operand_bytes(insn, i) == 1 &&
            insn_high_byte(insn, rm ? insn->rm : insn->reg))
            return true;
    }
    return false;
}

/* Whether ONE's translation calls nothing, unless an access misses. */
static bool may_stretch(const struct draft *draft, const struct draft_insn *one)
{
    switch (one->how) {
    case HOW_NOTHING:
        return true;
    case HOW_GENERIC:
        return !has_high_byte(&one->insn);
    case HOW_SPECIAL:
        return special_possible(draft, &one->insn) || one->insn.op == OP_JCC;
    default:
        return false;
    }
}

/* Follows values from instruction plan->start on, to the end of what may be one stretch. */
static void survey(struct draft *draft)
{
    struct group_plan *plan = &draft->plan;
    unsigned at = plan->start;
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        plan->values[at][i] = (struct draft_value){(u8)i, 0};
    plan->next_value = X86_GPR_COUNT;
    plan->group_count = 0;
    plan->branch = -1;
    for (; at < draft->insn_count && plan->next_value < VALUE_RIP - X86_GPR_COUNT; at++) {
        struct draft_insn *one = &draft->insns[at];
        bool back = plan->start == 0 && leads_back(draft, one);
        if (!may_stretch(draft, one) && !back)
            break;
        join(draft, at);
        follow(plan, at, one);
        one->live = one->live_before;
        if (one->insn.op == OP_JCC)
            plan->branch = (int)at;
        if (back) {
            at++;
            break;
        }
    }
    plan->end = (u8)at;
}

void draft_plan(struct draft *draft, unsigned start)
{
    struct group_plan *plan = &draft->plan;
    unsigned first = JIT_BLOCK_INSNS, last = 0;
    plan->start = (u8)start;
    survey(draft);
    plan->next = plan->end > start ? plan->end : (u8)(start + 1);
    find_loop(draft);
    for (unsigned i = 0; i < plan->group_count; i++) {
        struct draft_group *group = &plan->groups[i];
        if (!group->stride_known)
            place(draft, group);
    }
    for (unsigned i = 0; i < plan->group_count; i++) {
        struct draft_group *group = &plan->groups[i];
        choose(draft, group);
        if (group->used && group->check < first)
            first = group->check;
        if (group->used && group->last > last)
            last = group->last;
    }
    for (unsigned i = start; i < plan->end; i++) {
        struct draft_insn *one = &draft->insns[i];
        if (one->group != GROUP_NONE && !plan->groups[one->group].used)
            one->group = GROUP_NONE;
    }
    bool loops = false;
    for (unsigned i = 0; i < plan->group_count; i++)
        loops |= plan->groups[i].used && plan->groups[i].stride_known;
    if (!loops)
        plan->counter_step = 0;
    else
        last = plan->end - 1u;
    plan->start = (u8)first;
    plan->end = (u8)(last + 1);
    plan->any = first < JIT_BLOCK_INSNS;
}
