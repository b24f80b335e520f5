/*
 * dbt/jit/expect.c - tests in front of code that may only run if something is so, with or without
 * keeping the guest's flags.
 *
 * With flags to keep, the test is a difference in rcx and JRCXZ; rcx is in T0 meanwhile and back in
 * place on both ways out.
 *
 * Tests of RIP need not keep them: who comes to one has put them away.
 */
#include "dbt/jit/jit_priv.h"

enum { RCX = 1 };

/* Branches away unless rcx, whose value is in T0, is 0. */
static u8 *unless_zero(struct emitter *out)
{
    u8 *zero = emit_jrcxz(out);
    emit_mov(out, RCX, T0);
    u8 *away = emit_jmp(out, NULL);
    emit_patch8(out, zero, out->at);
    emit_mov(out, RCX, T0);
    return away;
}

u8 *jit_expect_u32(struct emitter *out, s32 at, u32 value, bool keep_flags)
{
    if (!keep_flags) {
        emit_cmp32_mem_imm(out, STATE, at, value);
        return emit_jcc(out, COND_NE, NULL);
    }
    struct host_mem difference = host_mem_base(RCX, -(s32)value);
    emit_mov(out, T0, RCX);
    emit_load32(out, RCX, STATE, at);
    if (value != 0)
        emit_lea(out, false, RCX, &difference);
    return unless_zero(out);
}

u8 *jit_expect_u64(struct emitter *out, s32 at, u32 value, bool keep_flags)
{
    struct host_mem difference = host_mem_base(RCX, -(s32)value);
    if (!keep_flags) {
        emit_cmp_mem_imm(out, STATE, at, (s32)value);
        return emit_jcc(out, COND_NE, NULL);
    }
    emit_mov(out, T0, RCX);
    emit_load(out, RCX, STATE, at);
    emit_lea(out, true, RCX, &difference);
    return unless_zero(out);
}

u8 *jit_expect_reg(struct emitter *out, s32 at, unsigned reg, bool keep_flags)
{
    struct host_mem difference = {RCX, (u8)reg, 0, 1};
    if (!keep_flags) {
        emit_cmp_mem_reg(out, STATE, at, reg);
        return emit_jcc(out, COND_NE, NULL);
    }
    emit_mov(out, T0, RCX);
    emit_load(out, RCX, STATE, at);
    emit_not(out, RCX);
    emit_lea(out, true, RCX, &difference); /* reg - word */
    return unless_zero(out);
}

u8 *jit_expect_rip_relative(struct emitter *out, u64 rip, s32 at)
{
    struct host_mem delta = host_mem_base(STATE, at);
    emit_mov(out, T1, T0);
    emit_alu_mem(out, ALU_SUB, T1, &delta);
    emit_alu_imm(out, ALU_CMP, true, T1, (s32)rip); /* less than HOME_BYTES */
    return emit_jcc(out, COND_NE, NULL);
}

u8 *jit_expect_rip(struct emitter *out, u64 rip)
{
    if ((s64)rip == (s32)rip) {
        emit_alu_imm(out, ALU_CMP, true, T0, (s32)rip);
    } else {
        emit_mov_imm(out, T1, rip);
        emit_cmp_reg(out, T0, T1);
    }
    return emit_jcc(out, COND_NE, NULL);
}

void jit_emit_indirect(struct emitter *out, bool is_call)
{
    struct host_mem target = {STATE, T1, 3, STATE_AT(jit_tables.targets)};
    emit_rorx(out, T1, T0, CPU_JIT_TARGET_ROTATE);
    emit_op_reg(out, 0x03, false, T1, T0); /* add */
    emit_movzx16(out, T1, T1);
    emit_op_mem(out, 0xff, false, is_call ? 2 : 4, &target);
}
