/*
 * dbt/interp/sys_ret.c - far RET and IRET, in every mode and to every level.
 *
 * Spec   Intel SDM vol. 2A IRET, vol. 2B RET; vol. 3A 5.8.6, 6.14.3, 20.2.2, 20.3.
 * Runs   on the vCPU's thread, inside an instruction.
 * Trust  the frame on the stack, selectors and descriptors are the guest's.
 */
#include "dbt/interp/sys_priv.h"

/* A return in progress: what the frame held, and where the stack pointer is. */
struct far_frame {
    struct sys_stack stack;
    struct seg_desc code, stack_desc;
    unsigned bytes; /* of each item of the frame */
    u16 cs, ss;
    u64 rip, rsp;
    unsigned cpl; /* after the return */
    bool stack_null;
};

/* The checks of the code segment that RETF and IRET share (protected and long mode). */
static void ret_read_code(struct cpu *cpu, struct far_frame *frame)
{
    u32 error = seg_error(frame->cs, false);
    unsigned rpl = frame->cs & SEG_SELECTOR_RPL;
    unsigned dpl;

    far_read_code(cpu, frame->cs, false, &frame->code);
    dpl = seg_attr_dpl(frame->code.attr);
    if (!seg_attr_code(frame->code.attr) || rpl < cpu->cpl)
        cpu_raise_error(cpu, X86_GP, error);
    if (seg_attr_conforming(frame->code.attr) ? dpl > rpl : dpl != rpl)
        cpu_raise_error(cpu, X86_GP, error);
    far_check_long(cpu, &frame->code);
    if ((frame->code.attr & X86_SEG_PRESENT) == 0)
        cpu_raise_error(cpu, X86_NP, error);
    frame->cpl = rpl;
}

/* Pops and checks SS and rSP. A null SS is good for 64-bit code of levels 0 to 2. */
static void ret_read_stack(struct cpu *cpu, struct far_frame *frame)
{
    bool code64 = seg_long_mode(cpu) && (frame->code.attr & X86_SEG_LONG) != 0;

    frame->rsp = sys_stack_pop(cpu, &frame->stack, frame->bytes);
    frame->ss = (u16)sys_stack_pop(cpu, &frame->stack, frame->bytes);
    frame->stack_null = seg_selector_null(frame->ss);
    if (!frame->stack_null) {
        seg_check_stack(cpu, frame->ss, frame->cpl, X86_GP, false, &frame->stack_desc);
        return;
    }
    if (!code64 || frame->cpl == 3 || frame->ss != frame->cpl)
        cpu_raise_error(cpu, X86_GP, 0);
}

/* Commits CS, RIP, SS and rSP of a return that loads a new stack; EXTRA is added to the new rSP. */
static void ret_commit_outer(struct cpu *cpu, struct far_frame *frame, u16 extra)
{
    bool outer = frame->cpl > cpu->cpl;
    struct sys_stack stack = {.bytes = 8};

    seg_desc_set_accessed(cpu, &frame->code);
    if (frame->stack_null) {
        seg_install_null(&cpu->seg[X86_SS], frame->ss, frame->cpl);
    } else {
        seg_desc_set_accessed(cpu, &frame->stack_desc);
        seg_install(&cpu->seg[X86_SS], &frame->stack_desc, frame->cpl);
    }
    far_commit(cpu, &frame->code, frame->cpl, frame->rip);

    /* A 16-bit stack segment leaves the upper half of the wider pointer from the old stack. */
    stack.bytes = cpu->stack_bytes;
    stack.pointer = frame->rsp + extra;
    if (stack.bytes == 4)
        stack.pointer = (u32)stack.pointer;
    sys_stack_commit(cpu, &stack);
    if (outer)
        seg_drop_privileged(cpu);
}

/* ---- RETF
 * ----------------------------------------------------------------------------------------- */

void far_return(struct cpu *cpu, unsigned operand_bytes, u16 extra)
{
    struct far_frame frame = {.bytes = operand_bytes};

    sys_stack_current(cpu, &frame.stack);
    frame.rip = sys_stack_pop(cpu, &frame.stack, operand_bytes);
    frame.cs = (u16)sys_stack_pop(cpu, &frame.stack, operand_bytes);

    if (!seg_protected(cpu)) {
        far_check_rip(cpu, 0, cpu->seg[X86_CS].limit, frame.rip, false);
        sys_stack_adjust(&frame.stack, extra);
        sys_stack_commit(cpu, &frame.stack);
        seg_load(cpu, X86_CS, frame.cs);
        sys_set_rip(cpu, frame.rip);
        return;
    }
    ret_read_code(cpu, &frame);
    sys_stack_adjust(&frame.stack, extra);
    if (frame.cpl > cpu->cpl) {
        ret_read_stack(cpu, &frame);
        far_check_rip(cpu, frame.code.attr, frame.code.limit, frame.rip, false);
        ret_commit_outer(cpu, &frame, extra);
        return;
    }
    far_check_rip(cpu, frame.code.attr, frame.code.limit, frame.rip, false);
    seg_desc_set_accessed(cpu, &frame.code);
    sys_stack_commit(cpu, &frame.stack);
    far_commit(cpu, &frame.code, frame.cpl, frame.rip);
}

/* ---- IRET
 * ----------------------------------------------------------------------------------------- */

enum {
    IRET_FLAGS = X86_ARITH_FLAGS | X86_TF | X86_DF | X86_NT,
    IRET_FLAGS_WIDE = X86_RF | X86_AC | X86_ID
};

/* Sets RFLAGS from IMAGE, of which only the bits in MASK count. */
static void iret_set_flags(struct cpu *cpu, u64 image, u64 mask)
{
    cpu->rflags = (cpu->rflags & ~mask) | (image & mask) | X86_FLAG_FIXED;
    cpu_mode_update(cpu);
}

static void iret_real(struct cpu *cpu, unsigned bytes)
{
    struct sys_stack stack;
    u64 mask = IRET_FLAGS | X86_IF | X86_IOPL | (bytes == 2 ? 0 : IRET_FLAGS_WIDE);

    sys_stack_current(cpu, &stack);
    u64 rip = sys_stack_pop(cpu, &stack, bytes);
    u16 selector = (u16)sys_stack_pop(cpu, &stack, bytes);
    u64 flags = sys_stack_pop(cpu, &stack, bytes);

    if (seg_virtual_8086(cpu)) {
        bool low_iopl = (cpu->rflags & X86_IOPL) != X86_IOPL;

        mask &= ~(u64)X86_IOPL;
        if (low_iopl) {
            /* With VME the program's interrupt flag is VIF; without, the monitor must do it. */
            if ((cpu->cr4 & X86_CR4_VME) == 0 || bytes != 2 || (flags & X86_TF) != 0 ||
                ((flags & X86_IF) != 0 && (cpu->rflags & X86_VIP) != 0))
                cpu_raise_error(cpu, X86_GP, 0);
            mask = (mask & ~(u64)X86_IF) | X86_VIF;
            flags = (flags & ~(u64)X86_VIF) | ((flags & X86_IF) != 0 ? X86_VIF : 0);
        }
    }
    far_check_rip(cpu, 0, cpu->seg[X86_CS].limit, rip, false);
    sys_stack_commit(cpu, &stack);
    seg_load(cpu, X86_CS, selector);
    sys_set_rip(cpu, rip);
    iret_set_flags(cpu, flags, mask);
}

/* From level 0, with VM in the image: the frame goes on with SP, SS, ES, DS, FS and GS. */
static void iret_to_v86(struct cpu *cpu, struct far_frame *frame, u64 flags)
{
    static const u8 order[] = {X86_SS, X86_ES, X86_DS, X86_FS, X86_GS};
    u16 selector[X86_SEGMENT_COUNT];

    frame->rsp = sys_stack_pop(cpu, &frame->stack, 4);
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        selector[order[i]] = (u16)sys_stack_pop(cpu, &frame->stack, 4);
    selector[X86_CS] = frame->cs;
    far_check_rip(cpu, 0, 0xffff, frame->rip, false);

    cpu->gpr[X86_RSP] = frame->rsp;
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        seg_install_v86(&cpu->seg[i], selector[i]);
    sys_set_rip(cpu, frame->rip);
    iret_set_flags(cpu, flags,
                   IRET_FLAGS | IRET_FLAGS_WIDE | X86_IF | X86_IOPL | X86_VM | X86_VIF | X86_VIP);
}

static void iret_protected(struct cpu *cpu, unsigned bytes)
{
    struct far_frame frame = {.bytes = bytes};
    bool from64 = cpu->code_bytes == 8;
    unsigned old_cpl = cpu->cpl;
    u64 mask = IRET_FLAGS;

    sys_stack_current(cpu, &frame.stack);
    frame.rip = sys_stack_pop(cpu, &frame.stack, bytes);
    frame.cs = (u16)sys_stack_pop(cpu, &frame.stack, bytes);
    u64 flags = sys_stack_pop(cpu, &frame.stack, bytes);

    if ((flags & X86_VM) != 0 && bytes == 4 && old_cpl == 0 && !seg_long_mode(cpu)) {
        iret_to_v86(cpu, &frame, flags);
        return;
    }
    if (bytes != 2)
        mask |= IRET_FLAGS_WIDE;
    if (old_cpl <= (cpu->rflags & X86_IOPL) >> 12)
        mask |= X86_IF;
    if (old_cpl == 0)
        mask |= X86_IOPL | (bytes != 2 ? X86_VIF | X86_VIP : 0);

    ret_read_code(cpu, &frame);
    if (frame.cpl > cpu->cpl || from64) {
        ret_read_stack(cpu, &frame);
        far_check_rip(cpu, frame.code.attr, frame.code.limit, frame.rip, false);
        ret_commit_outer(cpu, &frame, 0);
    } else {
        far_check_rip(cpu, frame.code.attr, frame.code.limit, frame.rip, false);
        seg_desc_set_accessed(cpu, &frame.code);
        sys_stack_commit(cpu, &frame.stack);
        far_commit(cpu, &frame.code, frame.cpl, frame.rip);
    }
    iret_set_flags(cpu, flags, mask);
}

void iret(struct cpu *cpu, unsigned operand_bytes)
{
    /* Even an IRET that faults lets NMIs in again. */
    if (seg_protected(cpu) && (cpu->rflags & X86_NT) != 0) {
        if (seg_long_mode(cpu))
            cpu_raise_error(cpu, X86_GP, 0);
        cpu->nmi_blocked = false;
        task_return(cpu);
        return;
    }
    cpu->nmi_blocked = false;
    if (seg_protected(cpu))
        iret_protected(cpu, operand_bytes);
    else
        iret_real(cpu, operand_bytes);
}
