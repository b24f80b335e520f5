/*
 * dbt/interp/op_move.c - fast ops: moves, extensions, address arithmetic, conditional moves and
 * sets.
 *
 * Runs   on the vCPU's thread, inside a block.
 */
#include "dbt/interp/fast_priv.h"

#define MOVE_SIZED(size)                                                                         \
    OP(fast_mov_rr_##size)                                                                       \
    {                                                                                            \
        OP_KEEP(size, op->dst, OP_REG(u##size, op->src));                                        \
        OP_NEXT;                                                                                 \
    }                                                                                            \
    OP(fast_mov_ri_##size)                                                                       \
    {                                                                                            \
        OP_KEEP(size, op->dst, (u##size)op->imm);                                                \
        OP_NEXT;                                                                                 \
    }                                                                                            \
    OP(fast_mov_rm_##size)                                                                       \
    {                                                                                            \
        OP_LOAD(u##size, value, op_linear(cpu, op, size / 8, ACCESS_READ));                      \
        OP_KEEP(size, op->dst, value);                                                           \
        OP_NEXT;                                                                                 \
    }                                                                                            \
    OP(fast_mov_mr_##size)                                                                       \
    {                                                                                            \
        OP_STORE(u##size, op_linear(cpu, op, size / 8, ACCESS_WRITE), OP_REG(u##size, op->src)); \
        OP_NEXT;                                                                                 \
    }                                                                                            \
    OP(fast_mov_mi_##size)                                                                       \
    {                                                                                            \
        OP_STORE(u##size, op_linear(cpu, op, size / 8, ACCESS_WRITE), (u##size)op->imm);         \
        OP_NEXT;                                                                                 \
    }
MOVE_SIZED(8)
MOVE_SIZED(16)
MOVE_SIZED(32)
MOVE_SIZED(64)

#define SIZES(name)                               \
    {                                             \
        name##_8, name##_16, name##_32, name##_64 \
    }
static const op_run mov_rr[4] = SIZES(fast_mov_rr), mov_ri[4] = SIZES(fast_mov_ri),
                    mov_rm[4] = SIZES(fast_mov_rm), mov_mr[4] = SIZES(fast_mov_mr),
                    mov_mi[4] = SIZES(fast_mov_mi);

static bool select_mov(struct op *op, const struct insn *insn)
{
    struct fast_operand d, s;
    if (!fast_operand(insn, 0, &d) || !fast_operand(insn, 1, &s))
        return false;
    unsigned size = fast_size(insn, 0);
    op->dst = d.reg;
    op->src = s.reg;
    op->imm = insn->imm;
    if (d.kind == FAST_MEMORY)
        op->run = s.kind == FAST_IMMEDIATE ? mov_mi[size] : mov_mr[size];
    else
        op->run = s.kind == FAST_MEMORY      ? mov_rm[size]
                  : s.kind == FAST_IMMEDIATE ? mov_ri[size]
                                             : mov_rr[size];
    return true;
}

/* ---- extensions: from FROM bits to TO bits, all through 64
 * ------------------------------------------------- */

#define EXTEND(name, from_type, bytes, to)                                 \
    OP(name##_r_##to)                                                      \
    {                                                                      \
        OP_KEEP(to, op->dst, (u##to)(s64)OP_REG(from_type, op->src));      \
        OP_NEXT;                                                           \
    }                                                                      \
    OP(name##_m_##to)                                                      \
    {                                                                      \
        OP_LOAD(from_type, value, op_linear(cpu, op, bytes, ACCESS_READ)); \
        OP_KEEP(to, op->dst, (u##to)(s64)value);                           \
        OP_NEXT;                                                           \
    }
EXTEND(fast_zx8, u8, 1, 16)
EXTEND(fast_zx8, u8, 1, 32)
EXTEND(fast_zx16, u16, 2, 32)
EXTEND(fast_sx8, s8, 1, 16)
EXTEND(fast_sx8, s8, 1, 32)
EXTEND(fast_sx8, s8, 1, 64)
EXTEND(fast_sx16, s16, 2, 32)
EXTEND(fast_sx16, s16, 2, 64)
EXTEND(fast_sx32, s32, 4, 64)

/* By destination size (16, 32, 64) and memory or not; a zero-extension to 32 bits is one to 64. */
static const op_run zx8[3][2] = {
    {fast_zx8_r_16, fast_zx8_m_16}, {fast_zx8_r_32, fast_zx8_m_32}, {fast_zx8_r_32, fast_zx8_m_32}};
static const op_run zx16[3][2] = {
    {NULL, NULL}, {fast_zx16_r_32, fast_zx16_m_32}, {fast_zx16_r_32, fast_zx16_m_32}};
static const op_run sx8[3][2] = {
    {fast_sx8_r_16, fast_sx8_m_16}, {fast_sx8_r_32, fast_sx8_m_32}, {fast_sx8_r_64, fast_sx8_m_64}};
static const op_run sx16[3][2] = {
    {NULL, NULL}, {fast_sx16_r_32, fast_sx16_m_32}, {fast_sx16_r_64, fast_sx16_m_64}};
static const op_run sx32[3][2] = {{NULL, NULL}, {NULL, NULL}, {fast_sx32_r_64, fast_sx32_m_64}};

static bool select_extend(struct op *op, const struct insn *insn)
{
    struct fast_operand s;
    unsigned from = fast_size(insn, 1), to = fast_size(insn, 0);
    const op_run(*runs)[2] = insn->op == OP_MOVZX ? (from == 0 ? zx8 : zx16)
                             : from == 0          ? sx8
                             : from == 1          ? sx16
                                                  : sx32;
    if (!fast_operand(insn, 1, &s) || to == 0)
        return false;
    op->dst = fast_register(insn, insn->reg, insn_operand_bytes(insn, 0));
    op->src = s.reg;
    op->run = runs[to - 1][insn->has_memory];
    return op->run != NULL;
}

/* ---- LEA */

OP(fast_lea_64)
{
    OP_REG(u64, op->dst) = op_offset(cpu, op);
    OP_NEXT;
}

OP(fast_lea_32)
{
    OP_REG(u64, op->dst) = (u32)op_offset(cpu, op);
    OP_NEXT;
}

static bool select_lea(struct op *op, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    if (bytes == 2 || insn->address_bytes == 2 || (bytes == 8 && insn->address_bytes != 8))
        return false;
    op->dst = fast_register(insn, insn->reg, bytes);
    op->run = bytes == 8 ? fast_lea_64 : fast_lea_32;
    return true;
}

/* ---- by condition
 * --------------------------------------------------------------------------------------------- */

#define CMOV(name, condition)                                              \
    OP(fast_cmov##name##_r_64)                                             \
    {                                                                      \
        u64 value = OP_REG(u64, op->src);                                  \
        OP_REG(u64, op->dst) = (condition) ? value : OP_REG(u64, op->dst); \
        OP_NEXT;                                                           \
    }                                                                      \
    OP(fast_cmov##name##_r_32)                                             \
    {                                                                      \
        u32 value = OP_REG(u32, op->src);                                  \
        OP_REG(u64, op->dst) = (condition) ? value : OP_REG(u32, op->dst); \
        OP_NEXT;                                                           \
    }                                                                      \
    OP(fast_cmov##name##_m_64)                                             \
    {                                                                      \
        OP_LOAD(u64, value, op_linear(cpu, op, 8, ACCESS_READ));           \
        OP_REG(u64, op->dst) = (condition) ? value : OP_REG(u64, op->dst); \
        OP_NEXT;                                                           \
    }                                                                      \
    OP(fast_cmov##name##_m_32)                                             \
    {                                                                      \
        OP_LOAD(u32, value, op_linear(cpu, op, 4, ACCESS_READ));           \
        OP_REG(u64, op->dst) = (condition) ? value : OP_REG(u32, op->dst); \
        OP_NEXT;                                                           \
    }
EACH_CONDITION(CMOV)
#define CMOV_ROW(name, condition)                      \
    {{fast_cmov##name##_r_32, fast_cmov##name##_m_32}, \
     {fast_cmov##name##_r_64, fast_cmov##name##_m_64}},
static const op_run cmov_runs[16][2][2] = {EACH_CONDITION(CMOV_ROW)};

static bool select_cmov(struct op *op, const struct insn *insn)
{
    unsigned size = fast_size(insn, 0);
    if (size < 2)
        return false;
    op->dst = fast_register(insn, insn->reg, 4);
    op->src = fast_register(insn, insn->rm, 4);
    op->run = cmov_runs[insn_condition(insn)][size - 2][insn->has_memory];
    return true;
}

#define SET(name, condition)                                            \
    OP(fast_set##name##_r)                                              \
    {                                                                   \
        OP_REG(u8, op->dst) = (condition);                              \
        OP_NEXT;                                                        \
    }                                                                   \
    OP(fast_set##name##_m)                                              \
    {                                                                   \
        OP_STORE(u8, op_linear(cpu, op, 1, ACCESS_WRITE), (condition)); \
        OP_NEXT;                                                        \
    }
EACH_CONDITION(SET)
#define SET_ROW(name, condition) {fast_set##name##_r, fast_set##name##_m},
static const op_run set_runs[16][2] = {EACH_CONDITION(SET_ROW)};

static bool select_set(struct op *op, const struct insn *insn)
{
    op->dst = fast_register(insn, insn->rm, 1);
    op->run = set_runs[insn_condition(insn)][insn->has_memory];
    return true;
}

/* ---- the rest
 * -----------------------------------------------------------------------------------------------
 */

OP(fast_nop)
{
    OP_NEXT;
}

OP(fast_xchg_64)
{
    u64 value = OP_REG(u64, op->dst);
    OP_REG(u64, op->dst) = OP_REG(u64, op->src);
    OP_REG(u64, op->src) = value;
    OP_NEXT;
}

OP(fast_cdqe)
{
    cpu->gpr[X86_RAX] = (u64)(s64)(s32)cpu->gpr[X86_RAX];
    OP_NEXT;
}

OP(fast_cwde)
{
    cpu->gpr[X86_RAX] = (u32)(s16)cpu->gpr[X86_RAX];
    OP_NEXT;
}

OP(fast_cqo)
{
    cpu->gpr[X86_RDX] = (u64)((s64)cpu->gpr[X86_RAX] >> 63);
    OP_NEXT;
}

OP(fast_cdq)
{
    cpu->gpr[X86_RDX] = (u32)((s32)cpu->gpr[X86_RAX] >> 31);
    OP_NEXT;
}

OP(fast_bswap_64)
{
    OP_REG(u64, op->dst) = __builtin_bswap64(OP_REG(u64, op->dst));
    OP_NEXT;
}

OP(fast_bswap_32)
{
    OP_REG(u64, op->dst) = __builtin_bswap32(OP_REG(u32, op->dst));
    OP_NEXT;
}

static bool select_wide(struct op *op, const struct insn *insn, op_run run_32, op_run run_64)
{
    if (insn->operand_bytes < 4)
        return false;
    op->run = insn->operand_bytes == 8 ? run_64 : run_32;
    return true;
}

bool op_select_move(struct op *op, const struct insn *insn)
{
    switch (insn->op) {
    case OP_MOV:
    case OP_MOVNTI:
        return select_mov(op, insn);
    case OP_MOVZX:
    case OP_MOVSX:
        return select_extend(op, insn);
    case OP_LEA:
        return select_lea(op, insn);
    case OP_CMOVCC:
        return select_cmov(op, insn);
    case OP_SETCC:
        return select_set(op, insn);
    case OP_NOP:
    case OP_PREFETCH:
        op->run = fast_nop;
        return true;
    case OP_XCHG: {
        struct fast_operand d, s;
        if (insn->has_memory || fast_size(insn, 0) != 3 || !fast_operand(insn, 0, &d) ||
            !fast_operand(insn, 1, &s))
            return false;
        op->dst = d.reg;
        op->src = s.reg;
        op->run = fast_xchg_64;
        return true;
    }
    case OP_CBW:
        return select_wide(op, insn, fast_cwde, fast_cdqe);
    case OP_CWD:
        return select_wide(op, insn, fast_cdq, fast_cqo);
    case OP_BSWAP:
        op->dst = (u8)(insn->reg * 8);
        return select_wide(op, insn, fast_bswap_32, fast_bswap_64);
    default:
        return false;
    }
}
