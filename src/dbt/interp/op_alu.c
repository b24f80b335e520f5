/*
 * dbt/interp/op_alu.c - fast ops: arithmetic and logic on registers, immediates and memory.
 *
 * Each op is the host's own instruction between the guest's registers in memory, with its flags
 * taken by LAHF and SETO (see dbt/cpu.h on cpu->overflow). A memory destination that is not a plain
 * hit in the TLB goes the handler's way.
 *
 * Runs   on the vCPU's thread, inside a block.
 */
#include "dbt/interp/fast_priv.h"

#define FLAGS_OUT "\n\tlahf\n\tseto %%al"
#define CARRY_IN "btl $8, %%eax\n\t"

/* The forms of `d = d OP s`: register or memory d; register, immediate or memory s. BEFORE and AX
 * say whether the carry goes in. KEEP is how d is written back. */
#define ALU_ASM(text, before, ax_constraint, d_constraint, d)   \
    __asm__ volatile(before text " %[s], %[dst]" FLAGS_OUT      \
                     : [dst] d_constraint(d), ax_constraint(ax) \
                     : [s] "r"(s)                               \
                     : "cc", "memory")
#define ALU_FORMS(name, text, size, before, ax_constraint, keep)            \
    OP(name##_rr_##size)                                                    \
    {                                                                       \
        u##size d = OP_REG(u##size, op->dst), s = OP_REG(u##size, op->src); \
        u32 ax = flags_get(cpu);                                            \
        ALU_ASM(text, before, ax_constraint, "+r", d);                      \
        keep(size, op->dst, d);                                             \
        flags_set(cpu, ax);                                                 \
        OP_NEXT;                                                            \
    }                                                                       \
    OP(name##_ri_##size)                                                    \
    {                                                                       \
        u##size d = OP_REG(u##size, op->dst), s = (u##size)op->imm;         \
        u32 ax = flags_get(cpu);                                            \
        ALU_ASM(text, before, ax_constraint, "+r", d);                      \
        keep(size, op->dst, d);                                             \
        flags_set(cpu, ax);                                                 \
        OP_NEXT;                                                            \
    }                                                                       \
    OP(name##_rm_##size)                                                    \
    {                                                                       \
        OP_LOAD(u##size, s, op_linear(cpu, op, size / 8, ACCESS_READ));     \
        u##size d = OP_REG(u##size, op->dst);                               \
        u32 ax = flags_get(cpu);                                            \
        ALU_ASM(text, before, ax_constraint, "+r", d);                      \
        keep(size, op->dst, d);                                             \
        flags_set(cpu, ax);                                                 \
        OP_NEXT;                                                            \
    }

/* A destination in memory that is written. */
#define ALU_MEMORY(name, text, size, before, ax_constraint)                          \
    OP(name##_mr_##size)                                                             \
    {                                                                                \
        u##size s = OP_REG(u##size, op->src);                                        \
        gva_t gva = op_linear(cpu, op, size / 8, ACCESS_WRITE);                      \
        u8 *host = tlb_write_hit(cpu, gva, size / 8);                                \
        u32 ax = flags_get(cpu);                                                     \
        if (unlikely(!host))                                                         \
            return op_plain(cpu, op);                                                \
        ALU_ASM(text, before, ax_constraint, "+m", *(u##size##_host *)(void *)host); \
        flags_set(cpu, ax);                                                          \
        OP_NEXT;                                                                     \
    }                                                                                \
    OP(name##_mi_##size)                                                             \
    {                                                                                \
        u##size s = (u##size)op->imm;                                                \
        gva_t gva = op_linear(cpu, op, size / 8, ACCESS_WRITE);                      \
        u8 *host = tlb_write_hit(cpu, gva, size / 8);                                \
        u32 ax = flags_get(cpu);                                                     \
        if (unlikely(!host))                                                         \
            return op_plain(cpu, op);                                                \
        ALU_ASM(text, before, ax_constraint, "+m", *(u##size##_host *)(void *)host); \
        flags_set(cpu, ax);                                                          \
        OP_NEXT;                                                                     \
    }

/* A destination in memory that is only looked at. */
#define ALU_LOOK(name, text, size)                                      \
    OP(name##_mr_##size)                                                \
    {                                                                   \
        OP_LOAD(u##size, d, op_linear(cpu, op, size / 8, ACCESS_READ)); \
        u##size s = OP_REG(u##size, op->src);                           \
        u32 ax;                                                         \
        ALU_ASM(text, "", "=&a", "+r", d);                              \
        flags_set(cpu, ax);                                             \
        OP_NEXT;                                                        \
    }                                                                   \
    OP(name##_mi_##size)                                                \
    {                                                                   \
        OP_LOAD(u##size, d, op_linear(cpu, op, size / 8, ACCESS_READ)); \
        u##size s = (u##size)op->imm;                                   \
        u32 ax;                                                         \
        ALU_ASM(text, "", "=&a", "+r", d);                              \
        flags_set(cpu, ax);                                             \
        OP_NEXT;                                                        \
    }

#define ALU(name, text, before, ax_constraint)                    \
    ALU_FORMS(name, text "b", 8, before, ax_constraint, OP_KEEP)  \
    ALU_FORMS(name, text "w", 16, before, ax_constraint, OP_KEEP) \
    ALU_FORMS(name, text "l", 32, before, ax_constraint, OP_KEEP) \
    ALU_FORMS(name, text "q", 64, before, ax_constraint, OP_KEEP) \
    ALU_MEMORY(name, text "b", 8, before, ax_constraint)          \
    ALU_MEMORY(name, text "w", 16, before, ax_constraint)         \
    ALU_MEMORY(name, text "l", 32, before, ax_constraint)         \
    ALU_MEMORY(name, text "q", 64, before, ax_constraint)
#define ALU_TESTING(name, text)                       \
    ALU_FORMS(name, text "b", 8, "", "=&a", OP_DROP)  \
    ALU_FORMS(name, text "w", 16, "", "=&a", OP_DROP) \
    ALU_FORMS(name, text "l", 32, "", "=&a", OP_DROP) \
    ALU_FORMS(name, text "q", 64, "", "=&a", OP_DROP) \
    ALU_LOOK(name, text "b", 8)                       \
    ALU_LOOK(name, text "w", 16)                      \
    ALU_LOOK(name, text "l", 32)                      \
    ALU_LOOK(name, text "q", 64)

ALU(fast_add, "add", "", "=&a")
ALU(fast_or, "or", "", "=&a")
ALU(fast_adc, "adc", CARRY_IN, "+&a")
ALU(fast_sbb, "sbb", CARRY_IN, "+&a")
ALU(fast_and, "and", "", "=&a")
ALU(fast_sub, "sub", "", "=&a")
ALU(fast_xor, "xor", "", "=&a")
ALU_TESTING(fast_cmp, "cmp")
ALU_TESTING(fast_test, "test")

enum alu_form { FORM_RR, FORM_RI, FORM_RM, FORM_MR, FORM_MI, FORM_COUNT };
#define FORM_ROW(name, form)                                                          \
    {                                                                                 \
        name##_##form##_8, name##_##form##_16, name##_##form##_32, name##_##form##_64 \
    }
#define ALU_ROWS(name)                                                                  \
    {                                                                                   \
        FORM_ROW(name, rr), FORM_ROW(name, ri), FORM_ROW(name, rm), FORM_ROW(name, mr), \
            FORM_ROW(name, mi)                                                          \
    }
static const op_run alu_runs[][FORM_COUNT][4] = {
    [OP_ADD - OP_ADD] = ALU_ROWS(fast_add),   [OP_OR - OP_ADD] = ALU_ROWS(fast_or),
    [OP_ADC - OP_ADD] = ALU_ROWS(fast_adc),   [OP_SBB - OP_ADD] = ALU_ROWS(fast_sbb),
    [OP_AND - OP_ADD] = ALU_ROWS(fast_and),   [OP_SUB - OP_ADD] = ALU_ROWS(fast_sub),
    [OP_XOR - OP_ADD] = ALU_ROWS(fast_xor),   [OP_CMP - OP_ADD] = ALU_ROWS(fast_cmp),
    [OP_TEST - OP_ADD] = ALU_ROWS(fast_test),
};

/* ---- one operand
 * ---------------------------------------------------------------------------------------- */

#define UNARY_SIZED(name, text, size, before, ax_constraint)                              \
    OP(name##_r_##size)                                                                   \
    {                                                                                     \
        u##size d = OP_REG(u##size, op->dst);                                             \
        u32 ax = flags_get(cpu);                                                          \
        __asm__ volatile(before text " %[dst]" FLAGS_OUT                                  \
                         : [dst] "+r"(d), ax_constraint(ax)                               \
                         :                                                                \
                         : "cc");                                                         \
        OP_KEEP(size, op->dst, d);                                                        \
        flags_set(cpu, ax);                                                               \
        OP_NEXT;                                                                          \
    }                                                                                     \
    OP(name##_m_##size)                                                                   \
    {                                                                                     \
        gva_t gva = op_linear(cpu, op, size / 8, ACCESS_WRITE);                           \
        u8 *host = tlb_write_hit(cpu, gva, size / 8);                                     \
        u32 ax = flags_get(cpu);                                                          \
        if (unlikely(!host))                                                              \
            return op_plain(cpu, op);                                                     \
        __asm__ volatile(before text " %[dst]" FLAGS_OUT                                  \
                         : [dst] "+m"(*(u##size##_host *)(void *)host), ax_constraint(ax) \
                         :                                                                \
                         : "cc", "memory");                                               \
        flags_set(cpu, ax);                                                               \
        OP_NEXT;                                                                          \
    }
#define UNARY(name, text, before, ax_constraint)           \
    UNARY_SIZED(name, text "b", 8, before, ax_constraint)  \
    UNARY_SIZED(name, text "w", 16, before, ax_constraint) \
    UNARY_SIZED(name, text "l", 32, before, ax_constraint) \
    UNARY_SIZED(name, text "q", 64, before, ax_constraint)
UNARY(fast_inc, "inc", CARRY_IN, "+&a")
UNARY(fast_dec, "dec", CARRY_IN, "+&a")
UNARY(fast_neg, "neg", "", "=&a")

#define NOT_SIZED(size)                                              \
    OP(fast_not_r_##size)                                            \
    {                                                                \
        OP_KEEP(size, op->dst, (u##size) ~OP_REG(u##size, op->dst)); \
        OP_NEXT;                                                     \
    }
NOT_SIZED(8)
NOT_SIZED(16)
NOT_SIZED(32)
NOT_SIZED(64)

#define UNARY_ROWS(name)                     \
    {                                        \
        FORM_ROW(name, r), FORM_ROW(name, m) \
    }
static const op_run unary_runs[][2][4] = {
    [OP_INC - OP_INC] = UNARY_ROWS(fast_inc),
    [OP_DEC - OP_INC] = UNARY_ROWS(fast_dec),
    [OP_NEG - OP_INC] = UNARY_ROWS(fast_neg),
    [OP_NOT - OP_INC] = {FORM_ROW(fast_not, r), {NULL}},
};

/* ---- selection
 * -------------------------------------------------------------------------------------------- */

static bool select_unary(struct op *op, const struct insn *insn)
{
    struct fast_operand d;
    if (!fast_operand(insn, 0, &d))
        return false;
    op->dst = d.reg;
    op->run = unary_runs[insn->op - OP_INC][d.kind == FAST_MEMORY][fast_size(insn, 0)];
    return op->run != NULL;
}

bool op_select_alu(struct op *op, const struct insn *insn)
{
    if (insn->op >= OP_INC && insn->op <= OP_NOT)
        return select_unary(op, insn);
    if (insn->op < OP_ADD || insn->op > OP_TEST)
        return false;
    struct fast_operand d, s;
    if (!fast_operand(insn, 0, &d) || !fast_operand(insn, 1, &s))
        return false;
    enum alu_form form;
    if (d.kind == FAST_MEMORY) {
        form = s.kind == FAST_IMMEDIATE ? FORM_MI : FORM_MR;
    } else {
        op->dst = d.reg;
        form = s.kind == FAST_MEMORY ? FORM_RM : s.kind == FAST_IMMEDIATE ? FORM_RI : FORM_RR;
    }
    op->src = s.reg;
    op->imm = insn->imm;
    op->run = alu_runs[insn->op - OP_ADD][form][fast_size(insn, 0)];
    return true;
}
