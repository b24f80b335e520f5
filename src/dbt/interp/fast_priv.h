/*
 * dbt/interp/fast_priv.h - what the files of fast ops share: writing registers, and picking
 * operands.
 */
#ifndef DBT_INTERP_FAST_PRIV_H
#define DBT_INTERP_FAST_PRIV_H

#include "dbt/interp/op_priv.h"

#define OP(name) static void name(struct cpu *cpu, const struct op *op)

/* Writes a general register; 32 bits clear the upper half. */
#define OP_KEEP_8(offset, value) OP_REG(u8, offset) = (value)
#define OP_KEEP_16(offset, value) OP_REG(u16, offset) = (value)
#define OP_KEEP_32(offset, value) OP_REG(u64, offset) = (u32)(value)
#define OP_KEEP_64(offset, value) OP_REG(u64, offset) = (value)
#define OP_KEEP(size, offset, value) OP_KEEP_##size(offset, value)
#define OP_DROP(size, offset, value) (void)(value)

/* Guest memory as an operand of assembly: any alignment. */
typedef u8 u8_host;
typedef u16 u16_host __attribute__((aligned(1), may_alias));
typedef u32 u32_host __attribute__((aligned(1), may_alias));
typedef u64 u64_host __attribute__((aligned(1), may_alias));

enum fast_kind { FAST_REGISTER, FAST_IMMEDIATE, FAST_MEMORY };
struct fast_operand {
    enum fast_kind kind;
    u8 reg; /* byte offset into cpu->gpr */
};

/* Register REG of BYTES as an offset. */
static inline u8 fast_register(const struct insn *insn, unsigned reg, unsigned bytes)
{
    if (bytes == 1 && insn_high_byte(insn, reg))
        return (u8)((reg - 4) * 8 + 1);
    return (u8)(reg * 8);
}

/* 0 to 3 for operand I of 8 to 64 bits. */
static inline unsigned fast_size(const struct insn *insn, unsigned i)
{
    return (unsigned)__builtin_ctz(insn_operand_bytes(insn, i));
}

/* Operand I, where it is a register, the immediate, or the ModRM or moffs memory; else false. */
static inline bool fast_operand(const struct insn *insn, unsigned i, struct fast_operand *ret)
{
    const struct operand_desc *operand = &insn->desc->operand[i];
    unsigned bytes = insn_operand_bytes(insn, i), reg;
    *ret = (struct fast_operand){FAST_REGISTER, 0};
    switch (operand->kind) {
    case OPERAND_E:
    case OPERAND_M:
    case OPERAND_O:
    case OPERAND_R:
        if (insn->has_memory) {
            ret->kind = FAST_MEMORY;
            return true;
        }
        reg = insn->rm;
        break;
    case OPERAND_G:
    case OPERAND_Z:
        reg = insn->reg;
        break;
    case OPERAND_B:
        reg = insn_vvvv(insn);
        break;
    case OPERAND_GPR:
        ret->reg = (u8)(operand->reg * 8);
        return true;
    case OPERAND_I:
        ret->kind = FAST_IMMEDIATE;
        return true;
    default:
        return false;
    }
    ret->reg = fast_register(insn, reg, bytes);
    return true;
}

/* Conditions, from RFLAGS' low byte and OF: CC is the number with bit 0 clear. */
#define CONDITION_0(f, o) (o)
#define CONDITION_2(f, o) ((f)&1)
#define CONDITION_4(f, o) (((f)&0x40) != 0)
#define CONDITION_6(f, o) (((f)&0x41) != 0)
#define CONDITION_8(f, o) (((f)&0x80) != 0)
#define CONDITION_10(f, o) (((f)&4) != 0)
#define CONDITION_12(f, o) (((f) >> 7 ^ (o)) & 1)
#define CONDITION_14(f, o) ((((f) >> 7 ^ (o)) & 1) | ((f) >> 6 & 1))
#define CONDITION(cc) CONDITION_##cc(*(const u8 *)&cpu->rflags, cpu->overflow)

/* X(name suffix, condition, number) for all sixteen conditions. */
#define EACH_CONDITION(X) \
    X(o, CONDITION(0))    \
    X(no, !CONDITION(0))  \
    X(b, CONDITION(2))    \
    X(nb, !CONDITION(2))  \
    X(z, CONDITION(4))    \
    X(nz, !CONDITION(4))  \
    X(be, CONDITION(6))   \
    X(nbe, !CONDITION(6)) \
    X(s, CONDITION(8))    \
    X(ns, !CONDITION(8))  \
    X(p, CONDITION(10))   \
    X(np, !CONDITION(10)) \
    X(l, CONDITION(12))   \
    X(nl, !CONDITION(12)) \
    X(le, CONDITION(14))  \
    X(nle, !CONDITION(14))

#endif
