/*
 * dbt/jit/gate.c - the stubs by which SYSCALL and SYSRET go from program to kernel and back without
 * leaving translated code.
 *
 * Spec   Intel SDM vol. 2B, AMD64 APM vol. 3: SYSCALL, SYSRET; interp/sys_fast.c is the reference.
 *
 * Reached by a call from a block whose instruction T1 names. Each first looks for what is unusual
 * and then has the instruction interpreted; after that it changes the state as the interpreter's
 * handler and cpu_mode_update would, changes to the other privilege's return stack, and goes to the
 * target like an indirect branch, whose entry looks at the mapping and for attention.
 */
#include "dbt/jit/slow_priv.h"

enum { RAX = 0, RCX = 1, SLOW_MAX = 6 };
enum {
    ATTR_CODE64 = 0xa09b, /* flat and present, as SYSCALL makes them */
    ATTR_DATA = 0xc093,
    ATTR_DPL3 = 3 << X86_SEG_DPL_SHIFT,
    RPL_MASK = 3,
    SYSRET_FLAGS = 0x3c7fd7, /* all defined ones but RF and VM */
    BLOCK_MODE_KERNEL = 8,   /* enum block_mode of interp/: 64-bit code, ... */
    BLOCK_MODE_USER = 8 | 0x40
};

_Static_assert(offsetof(struct cpu, privilege) == offsetof(struct cpu, cpl) + 3 &&
                   offsetof(struct cpu, code_bytes) == offsetof(struct cpu, cpl) + 1 &&
                   offsetof(struct cpu, stack_bytes) == offsetof(struct cpu, cpl) + 2 &&
                   offsetof(struct x86_seg, attr) == offsetof(struct x86_seg, selector) + 2,
               "fields that are stored at once");

/* Branches to what the interpreter must do. */
struct slow {
    u8 *jump[SLOW_MAX];
    unsigned count;
};

static void slow_unless_equal(struct emitter *out, struct slow *slow)
{
    slow->jump[slow->count++] = emit_jcc(out, COND_NE, NULL);
}

static s32 seg_at(unsigned seg, size_t field)
{
    return STATE_AT(seg) + (s32)(seg * sizeof(struct x86_seg) + field);
}

static void test_imm(struct emitter *out, unsigned reg, u32 value)
{
    emit_op_reg(out, 0xf7, false, 0, reg);
    emit_u32(out, value);
}

/* Keeps the host flags on the return stack, and needs SYSCALL and SYSRET enabled. */
static void begin(struct emitter *out, struct slow *slow)
{
    struct host_mem efer = host_mem_base(STATE, STATE_AT(msr.efer));
    emit_store(out, T1, STATE, STATE_AT(jit_target));
    emit_pushf(out);
    emit_op_mem(out, 0xf7, false, 0, &efer);
    emit_u32(out, X86_EFER_SCE);
    slow->jump[slow->count++] = emit_jcc(out, COND_E, NULL);
}

/* Return stacks are used without a look at the mode, so that the one of PRIVILEGE must be of the
 * mode in REG. */
static void expect_stack_mode(struct emitter *out, struct slow *slow, unsigned reg,
                              unsigned privilege)
{
    struct host_mem mode = host_mem_base(STATE, STATE_AT(jit_stack_modes) + (s32)privilege * 4);
    emit_op_mem(out, 0x3b, false, reg, &mode); /* cmp */
    slow_unless_equal(out, slow);
}

/* Puts PART of STAR plus ADD into SEG's selector, with RPL and ATTR; REG is the part. */
static void set_segment(struct emitter *out, unsigned seg, unsigned scratch, unsigned add, u32 attr,
                        unsigned rpl)
{
    struct host_mem sum = host_mem_base(T0, (s32)add);
    emit_lea(out, false, scratch, &sum);
    emit_alu_imm(out, ALU_AND, false, scratch, 0xfffc);
    emit_alu_imm(out, ALU_OR, false, scratch, (s32)(attr << 16 | rpl));
    emit_store32(out, scratch, STATE, seg_at(seg, offsetof(struct x86_seg, selector)));
    emit_store32_imm(out, STATE, seg_at(seg, offsetof(struct x86_seg, limit)), 0xffffffff);
    emit_store_imm(out, STATE, seg_at(seg, offsetof(struct x86_seg, base)), 0);
}

/* What follows from the new level; T0 is lost. The stub's two words are taken off the old return
 * stack. */
static void switch_privilege(struct emitter *out, unsigned from, unsigned to)
{
    bool user = to == PRIVILEGE_USER;
    struct host_mem table = host_mem_base(STATE, jit_tlb_at(to, 0));
    emit_store32_imm(out, STATE, STATE_AT(cpl), (user ? 3u : 0u) | 8 << 8 | 8 << 16 | to << 24);
    emit_store8_imm(out, STATE, STATE_AT(block_mode), user ? BLOCK_MODE_USER : BLOCK_MODE_KERNEL);
    emit_lea(out, true, T0, &table);
    emit_store(out, T0, STATE, STATE_AT(tlb_data));
    emit_alu_imm(out, ALU_ADD, true, HOST_RSP, 16);
    emit_store(out, HOST_RSP, STATE, STATE_AT(jit_return_stacks) + (s32)from * 8);
    emit_load(out, HOST_RSP, STATE, STATE_AT(jit_return_stacks) + (s32)to * 8);
}

/* The interpreter's turn: SPILLED gets its value back, flags too. */
static void end(struct jit *jit, struct emitter *out, const struct slow *slow, unsigned spilled)
{
    if (out->full)
        return;
    for (unsigned i = 0; i < slow->count; i++)
        emit_patch(slow->jump[i], out->at);
    emit_popf(out);
    emit_load(out, spilled, STATE, STATE_AT(jit_spill));
    emit_load(out, T1, STATE, STATE_AT(jit_target));
    emit_jmp(out, jit_rw(jit, jit->fallback));
}

/* T0 is the address after the instruction; the block is one of 64-bit code at level 3. */
static void make_syscall(struct jit *jit, struct emitter *out)
{
    struct slow slow = {.count = 0};
    struct host_mem host_flags = {HOST_RSP, EMIT_NO_INDEX, 0, 0};
    s32 rcx_at = STATE_AT(gpr) + X86_RCX * 8; /* free while translated code runs */
    emit_store(out, RCX, STATE, STATE_AT(jit_spill));
    emit_store(out, T0, STATE, rcx_at);
    begin(out, &slow);
    emit_op_mem(out, 0x8b, false, RCX, &host_flags);
    emit_alu_imm(out, ALU_AND, false, RCX, X86_ARITH_FLAGS);
    emit_load32(out, T1, STATE, STATE_AT(rflags));
    emit_alu_imm(out, ALU_AND, false, T1, (s32) ~(u32)X86_ARITH_FLAGS);
    emit_op_reg(out, 0x0b, false, RCX, T1); /* or: RCX is RFLAGS */
    emit_load32(out, T1, STATE, STATE_AT(msr.sfmask));
    emit_not(out, T1);
    emit_op_reg(out, 0x23, false, T1, RCX); /* and */
    emit_alu_imm(out, ALU_OR, false, T1, X86_FLAG_FIXED);
    test_imm(out, T1, X86_AC); /* it would be another privilege */
    slow_unless_equal(out, &slow);
    emit_load32(out, T0, STATE, STATE_AT(jit_mode));
    emit_alu_imm(out, ALU_OR, false, T0, PRIVILEGE_KERNEL);
    expect_stack_mode(out, &slow, T0, PRIVILEGE_KERNEL);

    emit_store32(out, T0, STATE, STATE_AT(jit_mode));
    emit_store(out, RCX, STATE, STATE_AT(gpr) + X86_R11 * 8);
    emit_store(out, T1, STATE, STATE_AT(rflags));
    emit_load32(out, T0, STATE, STATE_AT(msr.star) + 4);
    set_segment(out, X86_CS, RCX, 0, ATTR_CODE64, 0);
    set_segment(out, X86_SS, RCX, 8, ATTR_DATA, 0);
    emit_load(out, RCX, STATE, rcx_at);
    switch_privilege(out, PRIVILEGE_USER, PRIVILEGE_KERNEL);
    jit_emit_flags_put(out, T1, T0);
    emit_load(out, T0, STATE, STATE_AT(msr.lstar));
    emit_jmp(out, jit_rw(jit, jit->lookup));
    end(jit, out, &slow, RCX);
}

/* The block is one of 64-bit code at level 0 with AC clear, the operand size 64 bits. */
static void make_sysret(struct jit *jit, struct emitter *out)
{
    struct slow slow = {.count = 0};
    emit_store(out, RAX, STATE, STATE_AT(jit_spill));
    begin(out, &slow);
    emit_mov(out, RAX, RCX); /* canonical? */
    emit_shift_imm(out, SHIFT_SHL, RAX, 16);
    emit_shift_imm(out, SHIFT_SAR, RAX, 16);
    emit_cmp_reg(out, RAX, RCX);
    slow_unless_equal(out, &slow);
    emit_load32(out, T1, STATE, STATE_AT(gpr) + X86_R11 * 8);
    emit_alu_imm(out, ALU_AND, false, T1, SYSRET_FLAGS);
    emit_alu_imm(out, ALU_OR, false, T1, X86_FLAG_FIXED);
    test_imm(out, T1, X86_TF | X86_AC); /* single step; alignment checks */
    slow_unless_equal(out, &slow);
    emit_cmp32_mem_imm(out, STATE, STATE_AT(irq_wanted), 0);
    slow_unless_equal(out, &slow);
    emit_load32(out, T0, STATE, STATE_AT(jit_mode));
    emit_alu_imm(out, ALU_AND, false, T0, ~MODE_PRIVILEGE);
    expect_stack_mode(out, &slow, T0, PRIVILEGE_USER);

    emit_store32(out, T0, STATE, STATE_AT(jit_mode));
    emit_store(out, T1, STATE, STATE_AT(rflags));
    emit_load32(out, T0, STATE, STATE_AT(msr.star) + 4);
    emit_shr32_imm(out, T0, 16);
    set_segment(out, X86_CS, RAX, 16, ATTR_CODE64 | ATTR_DPL3, RPL_MASK);
    set_segment(out, X86_SS, RAX, 8, ATTR_DATA | ATTR_DPL3, RPL_MASK);
    switch_privilege(out, PRIVILEGE_KERNEL, PRIVILEGE_USER);
    jit_emit_flags_put(out, T1, T0);
    emit_load(out, RAX, STATE, STATE_AT(jit_spill));
    emit_mov(out, T0, RCX);
    emit_jmp(out, jit_rw(jit, jit->lookup));
    end(jit, out, &slow, RAX);
}

void jit_make_gates(struct jit *jit, struct emitter *out)
{
    jit->syscall = jit_offset(jit, out->at);
    make_syscall(jit, out);
    jit->sysret = jit_offset(jit, out->at);
    make_sysret(jit, out);
}
