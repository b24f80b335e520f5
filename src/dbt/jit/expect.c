/*
 * dbt/jit/expect.c - tests in front of code that may only run if something is so, with or without
 * keeping the guest's flags.
 *
 * With flags to keep, the test is a difference in rcx and JRCXZ; rcx is spilled meanwhile and back
 * in place on both ways out.
 *
 * Tests of RIP always keep flags: where one fails, the guest goes on at another address than the
 * one whose live flags were known when the test was made. Whoever comes to such a test has put rcx
 * into T1 before, so that the test has a register at hand.
 */
#include "dbt/jit/jit_priv.h"

enum { RCX = 1 };

/* Branches away unless rcx, whose value is in the spill slot, is 0. */
static u8 *unless_zero(struct emitter *out)
{
    u8 *zero = emit_jrcxz(out);
    emit_load(out, RCX, STATE, STATE_AT(jit_spill));
    u8 *away = emit_jmp(out, NULL);
    emit_patch8(out, zero, out->at);
    emit_load(out, RCX, STATE, STATE_AT(jit_spill));
    return away;
}

u8 *jit_expect_u32(struct emitter *out, s32 at, u32 value, bool keep_flags)
{
    if (!keep_flags) {
        emit_cmp32_mem_imm(out, STATE, at, value);
        return emit_jcc(out, COND_NE, NULL);
    }
    struct host_mem difference = host_mem_base(RCX, -(s32)value);
    emit_store(out, RCX, STATE, STATE_AT(jit_spill));
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
    emit_store(out, RCX, STATE, STATE_AT(jit_spill));
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
    emit_store(out, RCX, STATE, STATE_AT(jit_spill));
    emit_load(out, RCX, STATE, at);
    emit_not(out, RCX);
    emit_lea(out, true, RCX, &difference); /* reg - word */
    return unless_zero(out);
}

/* Branches away unless rcx, whose value is in T1, is 0. */
static u8 *unless_rcx_zero(struct emitter *out)
{
    u8 *zero = emit_jrcxz(out);
    u8 *away = emit_jmp(out, NULL);
    emit_patch8(out, zero, out->at);
    emit_mov(out, RCX, T1);
    return away;
}

u8 *jit_expect_rip_relative(struct emitter *out, u64 rip)
{
    struct host_mem difference = {T0, RCX, 0, 1 - (s32)rip};
    emit_not(out, RCX);
    emit_lea(out, true, RCX, &difference); /* r8 - RIP - rcx */
    return unless_rcx_zero(out);
}

u8 *jit_expect_rip(struct emitter *out, u64 rip)
{
    u64 minus = 0 - rip;
    struct host_mem difference = host_mem_base(T0, (s32)minus);
    if ((s64)minus != (s32)minus) {
        emit_mov_imm(out, RCX, minus);
        difference = (struct host_mem){RCX, T0, 0, 0};
    }
    emit_lea(out, true, RCX, &difference);
    return unless_rcx_zero(out);
}

void jit_emit_indirect(struct emitter *out, bool is_call)
{
    struct host_mem sum = {RCX, T0, 0, 0};
    struct host_mem target = {STATE, RCX, 3, STATE_AT(jit_tables.targets)};
    emit_mov(out, T1, RCX);
    emit_rorx(out, RCX, T0, CPU_JIT_TARGET_ROTATE);
    emit_lea(out, true, RCX, &sum);
    emit_movzx16(out, RCX, RCX);
    emit_op_mem(out, 0xff, false, is_call ? 2 : 4, &target);
}
