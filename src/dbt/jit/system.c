/*
 * dbt/jit/system.c - system instructions that a kernel executes all the time, in line: flags,
 * segment bases, control and time-stamp registers.
 *
 * Spec   Intel SDM vol. 2, the pages of the instructions; vol. 3A 6.8.3 (STI's shadow).
 *
 * Privileged ones only at level 0: translated code never runs at level 1 or 2 (jit_usable). What is
 * unusual goes to the interpreter like a memory access that missed.
 *
 * While translated code runs cpu->special is 0: nothing waits for delivery, TF and RF are clear,
 * and with IF set no interrupt is wanted. STI and POPF keep it so: where an interrupt is wanted
 * they are interpreted. Else nothing looks for interrupts before the instruction after STI is done,
 * as polls stand at the ends of instructions, so that STI's shadow needs no care; STI must not be
 * the last of its block.
 */
#include "dbt/jit/draft_priv.h"

enum { RAX = 0, RDX = 2 };

static bool in_kernel(const struct draft *draft)
{
    return draft->privilege != PRIVILEGE_USER;
}

bool system_possible(const struct draft *draft, const struct insn *insn)
{
    switch (insn->op) {
    case OP_CLI:
    case OP_STI:
        return in_kernel(draft);
    case OP_MOV_FROM_CR:
        return in_kernel(draft) && insn->reg < 5 && insn->reg != 1;
    case OP_MOV_FROM_SEG:
        return !insn->has_memory && insn->reg < X86_SEGMENT_COUNT;
    case OP_SWAPGS:
        return in_kernel(draft) && draft->code_bytes == 8;
    case OP_RDFSBASE:
    case OP_RDGSBASE:
    case OP_WRFSBASE:
    case OP_WRGSBASE:
        return draft->code_bytes == 8;
    case OP_RDPID:
    case OP_CLD:
    case OP_STD:
    case OP_RDTSC:
    case OP_RDTSCP:
        return true;
    case OP_STAC:
    case OP_CLAC:
        return in_kernel(draft);
    case OP_SYSCALL:
        return !in_kernel(draft) && draft->code_bytes == 8;
    case OP_SYSRET:
        return draft->privilege == PRIVILEGE_KERNEL && insn->operand_bytes == 8;
    case OP_PUSHF:
    case OP_POPF:
        return insn->operand_bytes == draft->code_bytes;
    default:
        return false;
    }
}

static s32 segment_at(unsigned seg, size_t field)
{
    return STATE_AT(seg) + (s32)(seg * sizeof(struct x86_seg) + field);
}

u32 draft_live_after(struct draft *draft, const struct draft_insn *one)
{
    if (one + 1 < draft->insns + draft->insn_count)
        return one[1].live_before;
    return draft->ended ? X86_ARITH_FLAGS : draft_live_flags_at(draft, insn_next_rip(draft, one));
}

void draft_otherwise_interpret(struct draft *draft, const struct draft_insn *one, u8 *jump)
{
    struct cold *cold = draft_cold(draft, COLD_SLOW);
    if (cold == NULL)
        return;
    cold->jump = jump;
    cold->number = insn_meta(draft, one) | META_MISSED;
}

static void set_gpr(struct draft *draft, unsigned gpr, unsigned host)
{
    if (in_slot(gpr))
        emit_store(&draft->out, host, STATE, slot_at(gpr));
    else
        emit_mov(&draft->out, host_gpr(gpr), host);
}

/* Clears and sets bits of RFLAGS that are no arithmetic flags; T0 and T1 are lost. */
static void change_rflags(struct draft *draft, u32 clear, u32 set, bool keep_flags)
{
    struct emitter *out = &draft->out;
    struct host_mem rflags = host_mem_base(STATE, STATE_AT(rflags));
    if (keep_flags) {
        struct host_mem sum = host_mem_base(T0, (s32)set);
        emit_load32(out, T0, STATE, STATE_AT(rflags));
        emit_mov_imm(out, T1, ~(clear | set));
        emit_pext(out, T0, T0, T1);
        emit_pdep(out, T0, T0, T1);
        if (set)
            emit_lea(out, true, T0, &sum);
        emit_store(out, T0, STATE, STATE_AT(rflags));
        return;
    }
    if (clear)
        emit_alu32_mem_imm(out, ALU_AND, &rflags, ~clear);
    if (set)
        emit_alu32_mem_imm(out, ALU_OR, &rflags, set);
}

static void do_swapgs(struct draft *draft)
{
    struct emitter *out = &draft->out;
    s32 base = segment_at(X86_GS, offsetof(struct x86_seg, base));
    emit_load(out, T0, STATE, base);
    emit_load(out, T1, STATE, STATE_AT(msr.kernel_gs_base));
    emit_store(out, T1, STATE, base);
    emit_store(out, T0, STATE, STATE_AT(msr.kernel_gs_base));
}

static void do_sti(struct draft *draft, const struct draft_insn *one)
{
    bool live = one->live_before != 0;
    if (one + 1 == draft->insns + draft->insn_count) {
        draft_interpret(draft, one);
        return;
    }
    u8 *wanted = jit_expect_u32(&draft->out, STATE_AT(irq_wanted), 0, live);
    draft_otherwise_interpret(draft, one, wanted);
    change_rflags(draft, 0, X86_IF, live);
}

static void do_mov_from_cr(struct draft *draft, const struct draft_insn *one)
{
    static const s32 at[] = {STATE_AT(cr0), 0, STATE_AT(cr2), STATE_AT(cr3), STATE_AT(cr4)};
    if (draft->code_bytes == 8)
        emit_load(&draft->out, T0, STATE, at[one->insn.reg]);
    else
        emit_load32(&draft->out, T0, STATE, at[one->insn.reg]);
    set_gpr(draft, one->insn.rm, T0);
}

static void do_mov_from_seg(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    struct host_mem selector = host_mem_base(
        STATE, segment_at(one->insn.reg, offsetof(struct x86_seg, selector)));
    struct host_mem slot = host_mem_base(STATE, slot_at(one->insn.rm));
    emit_op_mem(out, 0x0fb7, false, T0, &selector); /* movzx */
    if (one->insn.operand_bytes > 2) {
        set_gpr(draft, one->insn.rm, T0);
        return;
    }
    emit_u8(out, 0x66); /* the rest of the register stays */
    if (in_slot(one->insn.rm))
        emit_op_mem(out, 0x89, false, T0, &slot);
    else
        emit_op_reg(out, 0x8b, false, host_gpr(one->insn.rm), T0);
}

/* Flag-free, as reading the time is. */
static void do_rdtsc(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    struct host_mem whole = {RAX, RDX, 0, 0}, sum = {RAX, T0, 0, 0};
    struct host_mem cr4 = host_mem_base(STATE, STATE_AT(cr4));
    if (!in_kernel(draft)) {
        keep_begin(draft, one);
        emit_op_mem(out, 0xf7, false, 0, &cr4); /* test */
        emit_u32(out, X86_CR4_TSD);
        keep_otherwise(draft, one, COND_NE);
        keep_end(draft, one);
    }
    emit_bytes(out, (const u8[]){0x0f, 0x31}, 2);
    emit_rorx(out, RDX, RDX, 32);
    emit_lea(out, true, RAX, &whole);
    emit_load(out, T0, STATE, STATE_AT(tsc_offset));
    emit_lea(out, true, RAX, &sum);
    emit_mov_imm(out, T0, 32);
    emit_shrx(out, RDX, RAX, T0);
    emit_mov32(out, RAX, RAX);
    if (one->insn.op == OP_RDTSCP)
        emit_load32(out, X86_RCX, STATE, STATE_AT(msr.tsc_aux));
}

/* RD and WR FSBASE and GSBASE. */
static void do_base(struct draft *draft, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct emitter *out = &draft->out;
    bool write = insn->op == OP_WRFSBASE || insn->op == OP_WRGSBASE;
    bool gs = insn->op == OP_RDGSBASE || insn->op == OP_WRGSBASE;
    bool wide = insn->operand_bytes == 8;
    s32 base = segment_at(gs ? X86_GS : X86_FS, offsetof(struct x86_seg, base));
    struct host_mem cr4 = host_mem_base(STATE, STATE_AT(cr4));
    keep_begin(draft, one);
    emit_op_mem(out, 0xf7, false, 0, &cr4); /* test */
    emit_u32(out, X86_CR4_FSGSBASE);
    keep_otherwise(draft, one, COND_E);
    if (!write) {
        struct host_mem mem = host_mem_base(STATE, base);
        keep_end(draft, one);
        emit_op_mem(out, 0x8b, wide, T0, &mem);
        set_gpr(draft, insn->rm, T0);
        return;
    }
    unsigned from = draft_read_gpr(draft, insn->rm, T1);
    emit_op_reg(out, 0x8b, wide, T1, from);
    if (wide) { /* canonical: the same after bits 48 and up are made from bit 47 */
        emit_mov(out, T0, T1);
        emit_shift_imm(out, SHIFT_SHL, T0, 16);
        emit_shift_imm(out, SHIFT_SAR, T0, 16);
        emit_cmp_reg(out, T0, T1);
        keep_otherwise(draft, one, COND_NE);
    }
    emit_store(out, T1, STATE, base);
    keep_end(draft, one);
}

/* T1 = the image that PUSHF pushes, with T0 kept; flags are lost. */
static void pushf_image(struct emitter *out)
{
    struct host_mem spill = host_mem_base(STATE, STATE_AT(jit_target));
    emit_pushf(out);
    emit_pop(out, T1);
    emit_alu_imm(out, ALU_AND, false, T1, X86_ARITH_FLAGS);
    emit_store(out, T1, STATE, STATE_AT(jit_target));
    emit_load32(out, T1, STATE, STATE_AT(rflags));
    emit_alu_imm(out, ALU_AND, false, T1, (s32) ~(u32)(X86_ARITH_FLAGS | X86_RF | X86_VM));
    emit_alu_mem(out, ALU_OR, T1, &spill);
}

/* T0 = T0 & MASK without flags; T1 is lost. */
static void mask_keeping_flags(struct emitter *out, u32 mask)
{
    emit_mov_imm(out, T1, mask);
    emit_pext(out, T0, T0, T1);
    emit_pdep(out, T0, T0, T1);
}

/* The same, flags kept. */
static void pushf_image_keeping_flags(struct emitter *out)
{
    struct host_mem sum = {T0, T1, 0, 0};
    emit_store(out, T0, STATE, STATE_AT(jit_spill));
    emit_pushf(out);
    emit_pop(out, T0);
    mask_keeping_flags(out, X86_ARITH_FLAGS);
    emit_store(out, T0, STATE, STATE_AT(jit_target));
    emit_load32(out, T0, STATE, STATE_AT(rflags));
    mask_keeping_flags(out, ~(u32)(X86_ARITH_FLAGS | X86_RF | X86_VM));
    emit_load(out, T1, STATE, STATE_AT(jit_target));
    emit_lea(out, true, T1, &sum);
    emit_load(out, T0, STATE, STATE_AT(jit_spill));
}

/* All arithmetic flags are read, so that the access keeps them. */
static void do_pushf(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    bool wide = draft->code_bytes == 8;
    s32 bytes = (s32)draft->code_bytes;
    struct access access = {ea_stack(draft, -bytes), draft->code_bytes, true, true, NULL};
    struct host_mem mem, below = host_mem_base(GUEST_RSP, -bytes);
    draft_access(draft, one, &access, &mem);
    draft_fold(draft, &mem);
    if (draft_live_after(draft, one))
        pushf_image_keeping_flags(out);
    else
        pushf_image(out);
    emit_op_mem(out, 0x89, wide, T1, &mem);
    emit_lea(out, wide, GUEST_RSP, &below);
}

/* Where only arithmetic flags change, and at level 0 IF. Level 3 changes neither IF nor IOPL while
 * IOPL is below 3. */
static void do_popf(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    bool wide = draft->code_bytes == 8;
    struct access access = {ea_stack(draft, 0), draft->code_bytes, false, draft->jit->exact_flags,
                            NULL};
    struct host_mem mem, above = host_mem_base(GUEST_RSP, (s32)draft->code_bytes);
    struct host_mem rflags = host_mem_base(STATE, STATE_AT(rflags));
    u32 same = X86_TF | X86_DF | X86_NT | X86_AC | X86_ID;
    draft_access(draft, one, &access, &mem);
    emit_op_mem(out, 0x8b, wide, T0, &mem);
    emit_load32(out, T1, STATE, STATE_AT(rflags));
    if (in_kernel(draft)) {
        same |= X86_IOPL;
    } else {
        emit_op_reg(out, 0xf7, false, 0, T1); /* test */
        emit_u32(out, X86_IOPL);
        draft_otherwise_interpret(draft, one, emit_jcc(out, COND_NE, NULL));
    }
    emit_op_reg(out, 0x33, false, T1, T0); /* xor */
    emit_op_reg(out, 0xf7, false, 0, T1);
    emit_u32(out, same);
    draft_otherwise_interpret(draft, one, emit_jcc(out, COND_NE, NULL));
    if (in_kernel(draft)) {
        emit_op_reg(out, 0xf7, false, 0, T0);
        emit_u32(out, X86_IF);
        u8 *off = emit_jcc8(out, COND_E);
        emit_cmp32_mem_imm(out, STATE, STATE_AT(irq_wanted), 0);
        draft_otherwise_interpret(draft, one, emit_jcc(out, COND_NE, NULL));
        emit_patch8(out, off, out->at);
        emit_alu_imm(out, ALU_AND, false, T1, X86_IF); /* what changes of IF */
        emit_op_mem(out, 0x31, false, T1, &rflags);    /* xor */
    }
    emit_lea(out, wide, GUEST_RSP, &above);
    if (draft_live_after(draft, one)) {
        emit_store(out, RAX, STATE, STATE_AT(jit_spill));
        emit_mov32(out, RAX, T0);
        emit_set_flags(out, T0);
        emit_load(out, RAX, STATE, STATE_AT(jit_spill));
    }
}

bool system_changes_privilege(const struct draft *draft, const struct insn *insn)
{
    return draft->privilege != (insn->op == OP_STAC ? PRIVILEGE_KERNEL_AC : PRIVILEGE_KERNEL);
}

/* STAC and CLAC make another privilege of the same level: another TLB and return stack, and code
 * that was translated for it. */
static void do_access_check(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    bool set = one->insn.op == OP_STAC, live = one->live_before != 0;
    unsigned to = set ? PRIVILEGE_KERNEL_AC : PRIVILEGE_KERNEL;
    u32 mode = (draft->mode & ~(u32)MODE_PRIVILEGE) | to;
    struct host_mem table = host_mem_base(STATE, jit_tlb_at(to, 0));
    s32 stacks = STATE_AT(jit_return_stacks);
    if (!system_changes_privilege(draft, &one->insn))
        return;
    u8 *other = jit_expect_u32(out, STATE_AT(jit_stack_modes) + (s32)to * 4, mode, live);
    draft_otherwise_interpret(draft, one, other);
    change_rflags(draft, set ? 0 : X86_AC, set ? X86_AC : 0, live);
    emit_store8_imm(out, STATE, STATE_AT(privilege), (u8)to);
    emit_lea(out, true, T0, &table);
    emit_store(out, T0, STATE, STATE_AT(tlb_data));
    emit_store32_imm(out, STATE, STATE_AT(jit_mode), mode);
    emit_store(out, HOST_RSP, STATE, stacks + (s32)draft->privilege * 8);
    emit_load(out, HOST_RSP, STATE, stacks + (s32)to * 8);
    draft_exit_to(draft, insn_next_rip(draft, one));
}

/* SYSCALL takes its return address in T0. */
static void do_gate(struct draft *draft, const struct draft_insn *one, u32 stub)
{
    struct emitter *out = &draft->out;
    if (one->insn.op == OP_SYSCALL)
        draft_address(draft, T0, insn_next_rip(draft, one), true);
    emit_mov_imm(out, T1, insn_meta(draft, one) | META_MISSED);
    emit_call(out, jit_rw(draft->jit, stub));
}

void draft_system(struct draft *draft, const struct draft_insn *one)
{
    bool live = one->live_before != 0;
    switch (one->insn.op) {
    case OP_SWAPGS:
        do_swapgs(draft);
        break;
    case OP_CLI:
        change_rflags(draft, X86_IF, 0, live);
        break;
    case OP_STI:
        do_sti(draft, one);
        break;
    case OP_CLD:
        change_rflags(draft, X86_DF, 0, live);
        break;
    case OP_STD:
        change_rflags(draft, 0, X86_DF, live);
        break;
    case OP_MOV_FROM_CR:
        do_mov_from_cr(draft, one);
        break;
    case OP_MOV_FROM_SEG:
        do_mov_from_seg(draft, one);
        break;
    case OP_RDTSC:
    case OP_RDTSCP:
        do_rdtsc(draft, one);
        break;
    case OP_RDPID:
        emit_load(&draft->out, T0, STATE, STATE_AT(msr.tsc_aux));
        set_gpr(draft, one->insn.rm, T0);
        break;
    case OP_PUSHF:
        do_pushf(draft, one);
        break;
    case OP_POPF:
        do_popf(draft, one);
        break;
    case OP_STAC:
    case OP_CLAC:
        do_access_check(draft, one);
        break;
    case OP_SYSCALL:
        do_gate(draft, one, draft->jit->syscall);
        break;
    case OP_SYSRET:
        do_gate(draft, one, draft->jit->sysret);
        break;
    default:
        do_base(draft, one);
        break;
    }
}
