/*
 * dbt/interp/op_shift.c - fast ops: shifts and rotates, multiplication, bit tests, of 32 and 64
 * bits.
 *
 * Runs   on the vCPU's thread, inside a block.
 */
#include "dbt/interp/fast_priv.h"

#define FLAGS_IN "addb $0x7f, %%al\n\tsahf\n\t"
#define FLAGS_OUT "\n\tlahf\n\tseto %%al"

/* With all flags in and out, a count of 0 keeps them, and a rotate keeps those it does not define.
 */
#define SHIFT_SIZED(name, text, size)                          \
    OP(name##_i_##size)                                        \
    {                                                          \
        u##size d = OP_REG(u##size, op->dst);                  \
        u32 ax = flags_get(cpu);                               \
        __asm__ volatile(FLAGS_IN text " %%cl, %[d]" FLAGS_OUT \
                         : [d] "+r"(d), "+&a"(ax)              \
                         : "c"((u8)op->imm)                    \
                         : "cc");                              \
        OP_KEEP(size, op->dst, d);                             \
        flags_set(cpu, ax);                                    \
        OP_NEXT;                                               \
    }                                                          \
    OP(name##_c_##size)                                        \
    {                                                          \
        u##size d = OP_REG(u##size, op->dst);                  \
        u32 ax = flags_get(cpu);                               \
        __asm__ volatile(FLAGS_IN text " %%cl, %[d]" FLAGS_OUT \
                         : [d] "+r"(d), "+&a"(ax)              \
                         : "c"((u8)cpu->gpr[X86_RCX])          \
                         : "cc");                              \
        OP_KEEP(size, op->dst, d);                             \
        flags_set(cpu, ax);                                    \
        OP_NEXT;                                               \
    }
#define SHIFT(name, text) SHIFT_SIZED(name, text "l", 32) SHIFT_SIZED(name, text "q", 64)
SHIFT(fast_rol, "rol")
SHIFT(fast_ror, "ror")
SHIFT(fast_rcl, "rcl")
SHIFT(fast_rcr, "rcr")
SHIFT(fast_shl, "shl")
SHIFT(fast_shr, "shr")
SHIFT(fast_sar, "sar")

#define SHIFT_ROW(name)              \
    {                                \
        {name##_i_32, name##_i_64},  \
        {                            \
            name##_c_32, name##_c_64 \
        }                            \
    }
static const op_run shift_runs[][2][2] = {
    [OP_ROL - OP_ROL] = SHIFT_ROW(fast_rol), [OP_ROR - OP_ROL] = SHIFT_ROW(fast_ror),
    [OP_RCL - OP_ROL] = SHIFT_ROW(fast_rcl), [OP_RCR - OP_ROL] = SHIFT_ROW(fast_rcr),
    [OP_SHL - OP_ROL] = SHIFT_ROW(fast_shl), [OP_SHR - OP_ROL] = SHIFT_ROW(fast_shr),
    [OP_SAR - OP_ROL] = SHIFT_ROW(fast_sar),
};

static bool select_shift(struct op *op, const struct insn *insn)
{
    unsigned size = fast_size(insn, 0);
    if (insn->has_memory || size < 2)
        return false;
    const struct operand_desc *count = &insn->desc->operand[1];
    op->dst = fast_register(insn, insn->rm, 4);
    op->imm = count->kind == OPERAND_CONST ? count->reg : insn->imm;
    op->run = shift_runs[insn->op - OP_ROL][count->kind == OPERAND_GPR][size - 2];
    return true;
}

/* ---- multiplication
 * --------------------------------------------------------------------------------------- */

#define MULTIPLY_ASM(size) \
    __asm__ volatile("imul %[s], %[d]" FLAGS_OUT : [d] "+r"(d), "=&a"(ax) : [s] "r"(s) : "cc")
#define MULTIPLY_SIZED(size)                                                \
    OP(fast_imul_r_##size)                                                  \
    {                                                                       \
        u##size d = OP_REG(u##size, op->dst), s = OP_REG(u##size, op->src); \
        u32 ax;                                                             \
        MULTIPLY_ASM(size);                                                 \
        OP_KEEP(size, op->dst, d);                                          \
        flags_set(cpu, ax);                                                 \
        OP_NEXT;                                                            \
    }                                                                       \
    OP(fast_imul_m_##size)                                                  \
    {                                                                       \
        OP_LOAD(u##size, s, op_linear(cpu, op, size / 8, ACCESS_READ));     \
        u##size d = OP_REG(u##size, op->dst);                               \
        u32 ax;                                                             \
        MULTIPLY_ASM(size);                                                 \
        OP_KEEP(size, op->dst, d);                                          \
        flags_set(cpu, ax);                                                 \
        OP_NEXT;                                                            \
    }                                                                       \
    OP(fast_imul_ri_##size)                                                 \
    {                                                                       \
        u##size d = OP_REG(u##size, op->src), s = (u##size)op->imm;         \
        u32 ax;                                                             \
        MULTIPLY_ASM(size);                                                 \
        OP_KEEP(size, op->dst, d);                                          \
        flags_set(cpu, ax);                                                 \
        OP_NEXT;                                                            \
    }                                                                       \
    OP(fast_imul_mi_##size)                                                 \
    {                                                                       \
        OP_LOAD(u##size, d, op_linear(cpu, op, size / 8, ACCESS_READ));     \
        u##size s = (u##size)op->imm;                                       \
        u32 ax;                                                             \
        MULTIPLY_ASM(size);                                                 \
        OP_KEEP(size, op->dst, d);                                          \
        flags_set(cpu, ax);                                                 \
        OP_NEXT;                                                            \
    }
MULTIPLY_SIZED(32)
MULTIPLY_SIZED(64)

static const op_run imul_runs[2][2][2] = {
    {{fast_imul_r_32, fast_imul_r_64}, {fast_imul_m_32, fast_imul_m_64}},
    {{fast_imul_ri_32, fast_imul_ri_64}, {fast_imul_mi_32, fast_imul_mi_64}},
};

static bool select_imul(struct op *op, const struct insn *insn)
{
    unsigned size = fast_size(insn, 0);
    if (size < 2)
        return false;
    op->dst = fast_register(insn, insn->reg, 4);
    op->src = fast_register(insn, insn->rm, 4);
    op->imm = insn->imm;
    op->run = imul_runs[insn->desc->operand_count == 3][insn->has_memory][size - 2];
    return true;
}

/* The unsigned product of RAX and a source in RDX:RAX. */
static inline void multiply_wide(struct cpu *cpu, u64 source)
{
    u64 low, high;
    u32 ax;
    __asm__("mulq %[s]\n\tmovq %%rax, %[low]" FLAGS_OUT
            : [low] "=&r"(low), "=&d"(high), "=&a"(ax)
            : [s] "r"(source), "2"(cpu->gpr[X86_RAX])
            : "cc");
    cpu->gpr[X86_RAX] = low;
    cpu->gpr[X86_RDX] = high;
    flags_set(cpu, ax);
}

OP(fast_mul_r_64)
{
    multiply_wide(cpu, OP_REG(u64, op->src));
    OP_NEXT;
}

OP(fast_mul_m_64)
{
    OP_LOAD(u64, source, op_linear(cpu, op, 8, ACCESS_READ));
    multiply_wide(cpu, source);
    OP_NEXT;
}

/* ---- bit tests
 * ---------------------------------------------------------------------------------------------- */

static inline void carry_set(struct cpu *cpu, u64 carry)
{
    u8 *flags = (u8 *)&cpu->rflags;
    *flags = (u8)((*flags & ~1u) | (carry & 1));
}

OP(fast_bt_i)
{
    carry_set(cpu, OP_REG(u64, op->dst) >> op->imm);
    OP_NEXT;
}

OP(fast_bt_r_32)
{
    carry_set(cpu, OP_REG(u32, op->dst) >> (OP_REG(u32, op->src) & 31));
    OP_NEXT;
}

OP(fast_bt_r_64)
{
    carry_set(cpu, OP_REG(u64, op->dst) >> (OP_REG(u64, op->src) & 63));
    OP_NEXT;
}

static bool select_bt(struct op *op, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    if (insn->has_memory || bytes < 4)
        return false;
    op->dst = fast_register(insn, insn->rm, bytes);
    op->src = fast_register(insn, insn->reg, bytes);
    op->imm = insn->imm & (bytes * 8 - 1);
    bool immediate = insn->desc->operand[1].kind == OPERAND_I;
    op->run = immediate ? fast_bt_i : bytes == 8 ? fast_bt_r_64 : fast_bt_r_32;
    return true;
}

bool op_select_shift(struct op *op, const struct insn *insn)
{
    if (insn->op >= OP_ROL && insn->op <= OP_SAR)
        return select_shift(op, insn);
    if (insn->op == OP_IMUL)
        return select_imul(op, insn);
    if (insn->op == OP_BT)
        return select_bt(op, insn);
    if (insn->op == OP_MUL && fast_size(insn, 0) == 3) {
        op->src = fast_register(insn, insn->rm, 8);
        op->run = insn->has_memory ? fast_mul_m_64 : fast_mul_r_64;
        return true;
    }
    return false;
}
