/*
 * dbt/interp/op_flow.c - fast ops: jumps, calls, returns and the stack, in 64-bit and flat 32-bit
 * code.
 *
 * Runs   on the vCPU's thread, inside a block.
 */
#include "dbt/interp/fast_priv.h"

/* Leaves the block for TARGET. */
#define OP_GO(size, target)                      \
    do {                                         \
        cpu->rip = (u##size)(target);            \
        cpu->counters.instructions += op->count; \
        return;                                  \
    } while (0)

/* ---- relative jumps: imm is the distance of the target from the block's start
 * --------------------------------- */

#define JUMP(size)                               \
    OP(fast_jmp_##size)                          \
    {                                            \
        OP_GO(size, cpu->gpr[OP_RIP] + op->imm); \
    }
JUMP(32)
JUMP(64)

#define JCC(name, condition)                       \
    OP(fast_j##name##_64)                          \
    {                                              \
        if (condition)                             \
            OP_GO(64, cpu->gpr[OP_RIP] + op->imm); \
        OP_NEXT;                                   \
    }                                              \
    OP(fast_j##name##_32)                          \
    {                                              \
        if (condition)                             \
            OP_GO(32, cpu->gpr[OP_RIP] + op->imm); \
        OP_NEXT;                                   \
    }
EACH_CONDITION(JCC)
#define JCC_ROW(name, condition) {fast_j##name##_32, fast_j##name##_64},
static const op_run jcc_runs[16][2] = {EACH_CONDITION(JCC_ROW)};

/* ---- the stack */

/* RSP moves only after the store has not faulted. The slow way may ask to leave the block, and must
 * not do so before the op is done. */
#define PUSH_VALUE(size, value)                                        \
    u##size rsp_ = (u##size)(OP_REG(u##size, X86_RSP * 8) - size / 8); \
    u8 *host_ = tlb_write_hit(cpu, rsp_, size / 8);                    \
    bool stay_ = true;                                                 \
    if (likely(host_))                                                 \
        host_store(host_, size / 8, (value));                          \
    else                                                               \
        stay_ = op_write_slow(cpu, op, rsp_, size / 8, (value));       \
    cpu->gpr[X86_RSP] = rsp_

#define STACK(size)                                                          \
    OP(fast_push_r_##size)                                                   \
    {                                                                        \
        PUSH_VALUE(size, OP_REG(u##size, op->src));                          \
        if (unlikely(!stay_))                                                \
            return op_leave(cpu, op);                                        \
        OP_NEXT;                                                             \
    }                                                                        \
    OP(fast_push_i_##size)                                                   \
    {                                                                        \
        PUSH_VALUE(size, (u##size)op->imm);                                  \
        if (unlikely(!stay_))                                                \
            return op_leave(cpu, op);                                        \
        OP_NEXT;                                                             \
    }                                                                        \
    OP(fast_pop_r_##size)                                                    \
    {                                                                        \
        u##size rsp = OP_REG(u##size, X86_RSP * 8);                          \
        OP_LOAD(u##size, value, rsp);                                        \
        cpu->gpr[X86_RSP] = (u##size)(rsp + size / 8);                       \
        OP_KEEP(size, op->dst, value);                                       \
        OP_NEXT;                                                             \
    }                                                                        \
    OP(fast_leave_##size)                                                    \
    {                                                                        \
        u##size rbp = OP_REG(u##size, X86_RBP * 8);                          \
        OP_LOAD(u##size, value, rbp);                                        \
        cpu->gpr[X86_RSP] = (u##size)(rbp + size / 8);                       \
        cpu->gpr[X86_RBP] = value;                                           \
        OP_NEXT;                                                             \
    }                                                                        \
    OP(fast_call_##size)                                                     \
    {                                                                        \
        u64 rip = cpu->gpr[OP_RIP];                                          \
        PUSH_VALUE(size, (u##size)(rip + op->next));                         \
        (void)stay_;                                                         \
        OP_GO(size, rip + op->imm);                                          \
    }                                                                        \
    OP(fast_call_r_##size)                                                   \
    {                                                                        \
        u##size target = OP_REG(u##size, op->src);                           \
        if (unlikely(!address_is_canonical(target)))                         \
            return op_plain(cpu, op);                                        \
        PUSH_VALUE(size, (u##size)(cpu->gpr[OP_RIP] + op->next));            \
        (void)stay_;                                                         \
        OP_GO(size, target);                                                 \
    }                                                                        \
    OP(fast_jmp_r_##size)                                                    \
    {                                                                        \
        u##size target = OP_REG(u##size, op->src);                           \
        if (unlikely(!address_is_canonical(target)))                         \
            return op_plain(cpu, op);                                        \
        OP_GO(size, target);                                                 \
    }                                                                        \
    OP(fast_jmp_m_##size)                                                    \
    {                                                                        \
        OP_LOAD(u##size, target, op_linear(cpu, op, size / 8, ACCESS_READ)); \
        if (unlikely(!address_is_canonical(target)))                         \
            return op_plain(cpu, op);                                        \
        OP_GO(size, target);                                                 \
    }                                                                        \
    OP(fast_ret_##size)                                                      \
    {                                                                        \
        u##size rsp = OP_REG(u##size, X86_RSP * 8);                          \
        OP_LOAD(u##size, target, rsp);                                       \
        if (unlikely(!address_is_canonical(target)))                         \
            return op_plain(cpu, op);                                        \
        cpu->gpr[X86_RSP] = (u##size)(rsp + size / 8 + op->imm);             \
        OP_GO(size, target);                                                 \
    }
STACK(32)
STACK(64)

#define BOTH(name)           \
    {                        \
        name##_32, name##_64 \
    }
static const op_run jmp_runs[2] = BOTH(fast_jmp), call_runs[2] = BOTH(fast_call),
                    call_r_runs[2] = BOTH(fast_call_r), jmp_r_runs[2] = BOTH(fast_jmp_r),
                    jmp_m_runs[2] = BOTH(fast_jmp_m), ret_runs[2] = BOTH(fast_ret),
                    push_r_runs[2] = BOTH(fast_push_r), push_i_runs[2] = BOTH(fast_push_i),
                    pop_r_runs[2] = BOTH(fast_pop_r), leave_runs[2] = BOTH(fast_leave);

static bool select_push(struct op *op, const struct insn *insn, bool wide)
{
    struct fast_operand operand;
    if (!fast_operand(insn, 0, &operand) || operand.kind == FAST_MEMORY)
        return false;
    op->src = operand.reg;
    op->imm = insn->imm;
    op->run = operand.kind == FAST_IMMEDIATE ? push_i_runs[wide] : push_r_runs[wide];
    return true;
}

static bool select_pop(struct op *op, const struct insn *insn, bool wide)
{
    struct fast_operand operand;
    if (!fast_operand(insn, 0, &operand) || operand.kind != FAST_REGISTER)
        return false;
    op->dst = operand.reg;
    op->run = pop_r_runs[wide];
    return true;
}

bool op_select_flow(struct op *op, const struct insn *insn, unsigned mode)
{
    bool wide = (mode & BLOCK_CODE_BYTES) == 8;
    if (!wide && !(mode & BLOCK_FLAT))
        return false;
    if (insn->operand_bytes != (wide ? 8 : 4))
        return false;
    op->src = fast_register(insn, insn->rm, 8);
    if (!insn->has_memory)
        op->segment = X86_SS;
    switch (insn->op) {
    case OP_JCC:
        op->imm = op->next + insn->imm;
        op->run = jcc_runs[insn_condition(insn)][wide];
        return true;
    case OP_JMP:
    case OP_CALL:
        op->imm = op->next + insn->imm;
        op->run = insn->op == OP_JMP ? jmp_runs[wide] : call_runs[wide];
        return true;
    case OP_JMP_IND:
        op->run = insn->has_memory ? jmp_m_runs[wide] : jmp_r_runs[wide];
        return true;
    case OP_CALL_IND:
        op->run = call_r_runs[wide];
        return !insn->has_memory;
    case OP_RET:
        op->imm = insn->desc->operand_count ? (u16)insn->imm : 0;
        op->run = ret_runs[wide];
        return true;
    case OP_PUSH:
        return select_push(op, insn, wide);
    case OP_POP:
        return select_pop(op, insn, wide);
    case OP_LEAVE:
        op->run = leave_runs[wide];
        return true;
    default:
        return false;
    }
}
