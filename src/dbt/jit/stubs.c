/*
 * dbt/jit/stubs.c - the code around translated code: in, out, and interpreted instructions.
 *
 * The stubs are made once, at the start of code memory. Each that calls C stores all guest
 * registers and flags in struct cpu, switches to the C stack of whoever called enter, and calls
 * with that alignment. The C function may leave by a non-local jump: the return stack then holds
 * nothing but return sites, because the stub has stored its RSP without its own return address.
 */
#include "dbt/jit/slow_priv.h"

enum { ARITH = X86_ARITH_FLAGS, RAX = 0, RCX = 1, RDX = 2, RBX = 3, RBP = 5, RSI = 6, RDI = 7 };

/* Guest registers that live in host registers. */
static const u8 pinned[] = {0, 1, 2, 3, 5, 6, 7, 12, 13, 14, 15};

static s32 gpr_at(unsigned reg)
{
    return STATE_AT(gpr) + (s32)reg * 8;
}

/* RAX = the flags that were put away, where RFLAGS has them; RCX is lost. */
static void emit_flags_away(struct emitter *out)
{
    struct host_mem away = host_mem_base(STATE, STATE_AT(jit_flags));
    emit_op_mem(out, 0x0fb7, false, RAX, &away); /* movzx */
    emit_mov32(out, RCX, RAX);
    emit_shr32_imm(out, RCX, 8);
    emit_shift_imm(out, SHIFT_SHL, RAX, 11);
    emit_op_reg(out, 0x0b, false, RAX, RCX); /* or */
    emit_alu_imm(out, ALU_AND, false, RAX, ARITH);
}

/* Stores registers and flags; afterwards all but r8 to r11 and rsp are free. Uses the return stack.
 */
static void emit_save(struct emitter *out, bool flags_away)
{
    for (unsigned i = 0; i < ARRAY_LEN(pinned); i++)
        emit_store(out, pinned[i], STATE, gpr_at(pinned[i]));
    emit_store(out, GUEST_RSP, STATE, gpr_at(X86_RSP));
    if (flags_away) {
        emit_flags_away(out);
    } else {
        emit_pushf(out);
        emit_pop(out, RAX);
        emit_alu_imm(out, ALU_AND, false, RAX, ARITH);
    }
    emit_load(out, RCX, STATE, STATE_AT(rflags));
    emit_alu_imm(out, ALU_AND, true, RCX, ~ARITH);
    emit_op_reg(out, 0x0b, true, RCX, RAX); /* or rcx, rax */
    emit_store(out, RCX, STATE, STATE_AT(rflags));
}

/* Loads flags and registers. */
static void emit_restore(struct emitter *out)
{
    emit_load32(out, RAX, STATE, STATE_AT(rflags));
    emit_set_flags(out, RCX);
    for (unsigned i = 0; i < ARRAY_LEN(pinned); i++)
        emit_load(out, pinned[i], STATE, gpr_at(pinned[i]));
    emit_load(out, GUEST_RSP, STATE, gpr_at(X86_RSP));
}

/* Switches from the return stack to the C stack and returns RAX to enter's caller. */
static void emit_to_c(struct emitter *out)
{
    static const u8 saved[] = {15, 14, 13, 12, RBP, RBX};
    emit_load(out, HOST_RSP, STATE, STATE_AT(jit_c_stack));
    emit_alu_imm(out, ALU_ADD, true, HOST_RSP, 8);
    for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
        emit_pop(out, saved[i]);
    emit_ret(out);
}

/* u64 enter(struct cpu *cpu, const u8 *code) */
static void emit_enter(struct emitter *out)
{
    static const u8 saved[] = {RBX, RBP, 12, 13, 14, 15};
    struct host_mem state = host_mem_base(RDI, STATE_BIAS);
    for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
        emit_push(out, saved[i]);
    emit_alu_imm(out, ALU_SUB, true, HOST_RSP, 8);
    emit_lea(out, true, STATE, &state);
    emit_store(out, HOST_RSP, STATE, STATE_AT(jit_c_stack));
    emit_mov(out, T1, RSI);
    emit_load(out, HOST_RSP, STATE, STATE_AT(jit_return_stack));
    emit_restore(out);
    emit_jmp_reg(out, T1);
}

/* Reached by a jump, with r9d = what to return. */
static void emit_exit_stub(struct emitter *out, bool flags_away)
{
    emit_save(out, flags_away);
    emit_store(out, HOST_RSP, STATE, STATE_AT(jit_return_stack));
    emit_mov32(out, RAX, T1);
    emit_to_c(out);
}

/* Calls FUNCTION(cpu, r9d) on the C stack, guest state saved; RAX is its answer, and the return
 * stack is in use again, with this stub's return address (if CALLED) still below it. */
static void emit_c_call(struct emitter *out, u64 function, bool called)
{
    struct host_mem above = host_mem_base(HOST_RSP, called ? 8 : 0);
    struct host_mem cpu = host_mem_base(STATE, -STATE_BIAS);
    emit_save(out, false);
    emit_lea(out, true, RAX, &above);
    emit_store(out, RAX, STATE, STATE_AT(jit_return_stack));
    emit_load(out, HOST_RSP, STATE, STATE_AT(jit_c_stack));
    emit_lea(out, true, RDI, &cpu);
    emit_mov32(out, RSI, T1);
    emit_mov(out, RBX, STATE);
    emit_mov_imm(out, RAX, function);
    emit_call_reg(out, RAX);
    emit_mov(out, STATE, RBX);
}

/* Reached by a call, with r9d = meta: calls FUNCTION, and goes on after the call or
 * elsewhere, or leaves. With SCRATCH r8 and r9 are what it left in jit_slow. */
static void emit_fallback(struct emitter *out, u64 function, bool scratch)
{
    struct host_mem below = host_mem_base(HOST_RSP, -8);
    emit_c_call(out, function, true);
    emit_alu_imm(out, ALU_CMP, true, RAX, ANSWER_LEAVE);
    u8 *stay = emit_jcc8(out, COND_NE);
    emit_mov_imm(out, RAX, LEAVE_LOOKUP);
    emit_to_c(out);
    emit_patch8(out, stay, out->at);
    emit_load(out, HOST_RSP, STATE, STATE_AT(jit_return_stack));
    u8 *elsewhere = emit_jcc8(out, COND_A);
    emit_lea(out, true, HOST_RSP, &below);
    emit_restore(out);
    if (scratch) {
        emit_load(out, T0, STATE, STATE_AT(jit_slow));
        emit_load(out, T1, STATE, STATE_AT(jit_slow) + 8);
    }
    emit_ret(out);
    emit_patch8(out, elsewhere, out->at);
    emit_mov(out, T1, RAX);
    emit_restore(out);
    emit_jmp_reg(out, T1);
}

/* Reached by a signal handler's change of RIP, with r9d = meta: executes that instruction in C. */
static void emit_trap(struct emitter *out)
{
    emit_c_call(out, (u64)(uintptr_t)jit_interpret, false);
    emit_mov_imm(out, RAX, LEAVE_LOOKUP);
    emit_to_c(out);
}

bool jit_make_stubs(struct jit *jit)
{
    struct emitter emitter = {jit->memory.write + 16, jit->memory.write + jit->memory.bytes, false};
    struct emitter *out = &emitter;
    jit->enter = jit_offset(jit, out->at);
    emit_enter(out);
    jit->exit_stub = jit_offset(jit, out->at);
    emit_exit_stub(out, false);
    jit->exit_away = jit_offset(jit, out->at);
    emit_exit_stub(out, true);
    jit->fallback = jit_offset(jit, out->at);
    emit_fallback(out, (u64)(uintptr_t)jit_interpret, false);
    jit->ready = jit_offset(jit, out->at);
    emit_fallback(out, (u64)(uintptr_t)jit_ready, false);
    jit->line_look = jit_offset(jit, out->at);
    emit_store(out, T0, STATE, STATE_AT(jit_slow));
    emit_fallback(out, (u64)(uintptr_t)jit_line_look, true);
    jit->slow = jit_offset(jit, out->at);
    emit_store(out, T0, STATE, STATE_AT(jit_slow));
    emit_fallback(out, (u64)(uintptr_t)jit_slow_access, true);
    jit_make_refill_stubs(jit, out);
    jit_make_slow_stubs(jit, out);
    jit_make_line_stubs(jit, out);
    jit->trap = jit_offset(jit, out->at);
    emit_trap(out);
    jit->indirect_miss = jit_offset(jit, out->at);
    emit_store(out, T0, STATE, STATE_AT(rip));
    emit_mov_imm(out, T1, LEAVE_INDIRECT);
    emit_jmp(out, jit_rw(jit, jit->exit_away));
    jit->again = jit_offset(jit, out->at);
    emit_store(out, T0, STATE, STATE_AT(rip));
    emit_mov_imm(out, T1, LEAVE_INDIRECT);
    emit_jmp(out, jit_rw(jit, jit->exit_stub));
    jit->lookup = jit_offset(jit, out->at);
    jit_emit_indirect(out, false);
    /* The lowest return address of a return stack: stays there, and looks the guest's target up. */
    jit->bottom = jit_offset(jit, out->at);
    emit_mov_imm(out, T1, (u64)(uintptr_t)jit_rx(jit, jit->bottom));
    emit_push(out, T1);
    jit_emit_indirect(out, false);
    jit_make_gates(jit, out);
    jit->stubs_end = (u32)align_up(jit_offset(jit, out->at), 64);
    return !out->full;
}
