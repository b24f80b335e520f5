/*
 * dbt/jit/emit.h - host instructions into a buffer: the few forms that translated code is made of.
 *
 * A register is its number in an encoding, 0 to 15. An emitter that runs out of room sets `full`
 * and writes nothing more; the caller looks once at the end.
 *
 * Spec   Intel SDM vol. 2 chapter 2 and appendix B.
 */
#ifndef DBT_JIT_EMIT_H
#define DBT_JIT_EMIT_H

#include "base/bits.h"
#include "base/types.h"

struct emitter {
    u8 *at;  /* where the next byte goes, in the writable view */
    u8 *end; /* one past the last byte that may be written */
    bool full;
};

/* A host memory operand: [base + index << scale + disp]; index NO_INDEX for none. */
enum { EMIT_NO_INDEX = 0xff };
struct host_mem {
    u8 base, index, scale;
    s32 disp;
};

enum emit_alu { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
enum emit_cond { COND_B = 2, COND_AE = 3, COND_E = 4, COND_NE = 5, COND_A = 7 };
enum emit_shift { SHIFT_SHL = 4, SHIFT_SHR = 5, SHIFT_SAR = 7 };

static inline struct host_mem host_mem_base(unsigned base, s32 disp)
{
    return (struct host_mem){(u8)base, EMIT_NO_INDEX, 0, disp};
}

/* The low COUNT bytes of BYTES, at most 8. Up to 8 bytes of the room from out->at on are written,
 * so nothing may lie there that is to stay. */
void emit_word_last(struct emitter *out, u64 bytes, unsigned count);
static inline void emit_word(struct emitter *out, u64 bytes, unsigned count)
{
    if (unlikely(out->end - out->at < 8)) {
        emit_word_last(out, bytes, count);
        return;
    }
    store_le64(out->at, bytes);
    out->at += count;
}
static inline void emit_u8(struct emitter *out, unsigned value)
{
    emit_word(out, value, 1);
}
static inline void emit_u32(struct emitter *out, u32 value)
{
    emit_word(out, value, 4);
}
static inline void emit_u64(struct emitter *out, u64 value)
{
    emit_word(out, value, 8);
}
void emit_bytes(struct emitter *out, const u8 *bytes, unsigned count);
/* COUNT of 16 bytes that can be read; like emit_word otherwise. */
static inline void emit_copy(struct emitter *out, const u8 *bytes, unsigned count)
{
    if (unlikely(out->end - out->at < 16)) {
        emit_bytes(out, bytes, count);
        return;
    }
    store_le64(out->at, load_le64(bytes));
    store_le64(out->at + 8, load_le64(bytes + 8));
    out->at += count;
}

/* ModRM, SIB and displacement for REG and MEM; the REX bits they need (R, X, B). */
void emit_modrm_mem(struct emitter *out, unsigned reg, const struct host_mem *mem);
unsigned emit_rex_bits(unsigned reg, const struct host_mem *mem);

/* OPCODE with REG and MEM; WIDE sets REX.W. The opcode is one byte, or 0x0fXX. */
void emit_op_mem(struct emitter *out, unsigned opcode, bool wide, unsigned reg,
                 const struct host_mem *mem);
/* OPCODE with ModRM.reg = REG and ModRM.rm = RM. */
void emit_op_reg(struct emitter *out, unsigned opcode, bool wide, unsigned reg, unsigned rm);

/* OPCODE, of one byte, with REG and [BASE + DISP]: the form that most host instructions have. */
static inline void emit_op_base(struct emitter *out, unsigned opcode, bool wide, unsigned reg,
                                unsigned base, s32 disp)
{
    unsigned rex = 0x40u | (unsigned)wide << 3 | (reg >> 3 & 1) << 2 | base >> 3;
    struct host_mem mem = host_mem_base(base, disp);
    u64 word = rex | opcode << 8 | ((reg & 7) << 3 | (base & 7)) << 16 | (u64)(u32)disp << 24;
    if (rex == 0x40 || (base & 7) == 4 || disp == 0)
        emit_op_mem(out, opcode, wide, reg, &mem);
    else if (disp == (s8)disp)
        emit_word(out, word | 0x40 << 16, 4);
    else
        emit_word(out, word | 0x80 << 16, 7);
}

/* MOV, 64 bits unless said otherwise. */
static inline void emit_load(struct emitter *out, unsigned reg, unsigned base, s32 disp)
{
    emit_op_base(out, 0x8b, true, reg, base, disp);
}
static inline void emit_store(struct emitter *out, unsigned reg, unsigned base, s32 disp)
{
    emit_op_base(out, 0x89, true, reg, base, disp);
}
static inline void emit_load32(struct emitter *out, unsigned reg, unsigned base, s32 disp)
{
    emit_op_base(out, 0x8b, false, reg, base, disp);
}
void emit_mov(struct emitter *out, unsigned to, unsigned from);
void emit_mov32(struct emitter *out, unsigned to, unsigned from);
/* The shortest MOV of a 64-bit constant; leaves flags alone. */
void emit_mov_imm(struct emitter *out, unsigned reg, u64 value);

/* Stores a constant: 8 bits, 32 bits, 64 bits sign-extended. */
void emit_store8_imm(struct emitter *out, unsigned base, s32 disp, u8 value);
void emit_store32_imm(struct emitter *out, unsigned base, s32 disp, u32 value);
void emit_store_imm(struct emitter *out, unsigned base, s32 disp, s32 value);
static inline void emit_store32(struct emitter *out, unsigned reg, unsigned base, s32 disp)
{
    emit_op_base(out, 0x89, false, reg, base, disp);
}

void emit_lea(struct emitter *out, bool wide, unsigned reg, const struct host_mem *mem);
/* ALU operation on a register with memory, or with a sign-extended constant. */
void emit_alu_mem(struct emitter *out, enum emit_alu op, unsigned reg, const struct host_mem *mem);
void emit_alu_imm(struct emitter *out, enum emit_alu op, bool wide, unsigned reg, s32 value);
/* CMP dword [base + disp], value. */
void emit_cmp32_mem_imm(struct emitter *out, unsigned base, s32 disp, u32 value);
/* CMP qword [base + disp], sign-extended value; or reg. */
void emit_cmp_mem_imm(struct emitter *out, unsigned base, s32 disp, s32 value);
void emit_cmp_mem_reg(struct emitter *out, unsigned base, s32 disp, unsigned reg);
void emit_cmp_reg(struct emitter *out, unsigned a, unsigned b);
/* 32 bits. */
void emit_alu32_mem_imm(struct emitter *out, enum emit_alu op, const struct host_mem *mem,
                        u32 value);
/* 64 bits. */
void emit_shift_imm(struct emitter *out, enum emit_shift op, unsigned reg, unsigned count);
/* Puts RAX as an image of RFLAGS into the arithmetic flags; AH and REG are lost. */
void emit_set_flags(struct emitter *out, unsigned reg);
void emit_shr32_imm(struct emitter *out, unsigned reg, unsigned count);
void emit_not(struct emitter *out, unsigned reg);
/* Flag-free: reg = value >> count register (64 bits), PEXT, RORX. */
void emit_shrx(struct emitter *out, unsigned reg, unsigned value, unsigned count);
void emit_pdep(struct emitter *out, unsigned reg, unsigned value, unsigned mask);
void emit_pext(struct emitter *out, unsigned reg, unsigned value, unsigned mask);
void emit_rorx(struct emitter *out, unsigned reg, unsigned value, unsigned count);
void emit_movzx16(struct emitter *out, unsigned reg, unsigned from);

void emit_push(struct emitter *out, unsigned reg);
void emit_push_mem(struct emitter *out, unsigned base, s32 disp);
void emit_pop(struct emitter *out, unsigned reg);
void emit_pushf(struct emitter *out);
void emit_popf(struct emitter *out);
void emit_ret(struct emitter *out);
/* Stores before it are seen before loads after it are made; a third of MFENCE's time. Flags are
 * lost.
 */
void emit_barrier(struct emitter *out);
void emit_jmp_mem(struct emitter *out, const struct host_mem *mem);
void emit_jmp_reg(struct emitter *out, unsigned reg);
void emit_call_reg(struct emitter *out, unsigned reg);

/* Branches with a 32-bit displacement to TARGET (an address in the same view as out->at; NULL: to
 * be patched). Each returns where its displacement is, for emit_patch. */
u8 *emit_jmp(struct emitter *out, const u8 *target);
u8 *emit_call(struct emitter *out, const u8 *target);
u8 *emit_jcc(struct emitter *out, unsigned condition, const u8 *target);
/* JRCXZ with an 8-bit displacement; returns where it is, for emit_patch8. */
u8 *emit_jrcxz(struct emitter *out);
u8 *emit_jcc8(struct emitter *out, unsigned condition);
void emit_patch(u8 *displacement, const u8 *target);
/* Skips bytes so that the displacement of a branch that comes now, after OPCODE_BYTES of opcode,
 * lies within eight aligned bytes: running code may be patched there. */
void emit_pad_displacement(struct emitter *out, unsigned opcode_bytes);
/* A NOP of five bytes. */
void emit_nop5(struct emitter *out);
void emit_patch8(struct emitter *out, u8 *displacement, const u8 *target);

#endif
