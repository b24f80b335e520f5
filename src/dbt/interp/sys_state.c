/*
 * dbt/interp/sys_state.c - the vCPU's state out to a snapshot or another engine, and in again.
 *
 * Spec   the consistency rules of Intel SDM vol. 3C 26.3.1 (checks on guest state), as far as the
 *        interpreter relies on them.
 * Runs   on the vCPU's thread, or any other while that one is stopped.
 * Trust  a state to load may come from a hostile snapshot: what no processor can be in is refused,
 *        and the vector state is cut to what can be loaded when it is (dbt/simd).
 */
#include "base/errno.h"
#include "dbt/interp/sys_priv.h"

enum { TSC_CLOSE = 1 << 26 }; /* some 20 ms */
enum { STATE_SEG_ATTR = 0xf1ff, XCR0_X87 = 1, XCR0_SSE = 2, XCR0_AVX = 4 };
#define STATE_EFER \
    (X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | X86_EFER_FFXSR | X86_EFER_AIBRSE)
#define STATE_RFLAGS                                                                             \
    (X86_ARITH_FLAGS | X86_TF | X86_IF | X86_DF | X86_IOPL | X86_NT | X86_RF | X86_VM | X86_AC | \
     X86_VIF | X86_VIP | X86_ID)

void cpu_get_state(struct cpu *cpu, struct x86_state *ret_state)
{
    if (cpu->vector_live)
        simd_save(cpu);
    *ret_state = (struct x86_state){
        .rip = cpu->rip,
        .rflags = cpu->rflags,
        .ldtr = cpu->ldtr,
        .tr = cpu->tr,
        .gdtr = cpu->gdtr,
        .idtr = cpu->idtr,
        .cr0 = cpu->cr0,
        .cr2 = cpu->cr2,
        .cr3 = cpu->cr3,
        .cr4 = cpu->cr4,
        .cr8 = sys_read_cr(cpu, 8),
        .xcr0 = cpu->xcr0,
        .tsc = sys_tsc(cpu),
        .msr = cpu->msr,
        .event = cpu->event,
        .interrupt_shadow = cpu->interrupt_shadow,
        .nmi_pending = cpu->nmi_pending,
        .nmi_blocked = cpu->nmi_blocked,
        .activity = cpu->activity,
    };
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        ret_state->gpr[i] = cpu->gpr[i];
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        ret_state->seg[i] = cpu->seg[i];
    for (unsigned i = 0; i < ARRAY_LEN(cpu->dr); i++)
        ret_state->dr[i] = cpu->dr[i];
    __builtin_memcpy(ret_state->xsave, cpu->xsave, sizeof(cpu->xsave));
}

/* ---- checks
 * ---------------------------------------------------------------------------------------- */

static bool state_control_valid(const struct cpu *cpu, const struct x86_state *state)
{
    bool paging = (state->cr0 & X86_CR0_PG) != 0;
    bool lma = (state->msr.efer & X86_EFER_LMA) != 0;
    bool lme = (state->msr.efer & X86_EFER_LME) != 0;

    if (state->cr0 >> 32 != 0 || (paging && (state->cr0 & X86_CR0_PE) == 0))
        return false;
    if (lma != (lme && paging) || (lma && (state->cr4 & X86_CR4_PAE) == 0))
        return false;
    if ((state->msr.efer & ~(u64)STATE_EFER) != 0 || (state->cr4 & ~sys_cr4_allowed(cpu)) != 0)
        return false;
    if ((state->cr4 & X86_CR4_PCIDE) != 0 && !lma)
        return false;
    return (state->cr3 & ~cpu->physical_mask & ~0xfffull) == 0 && state->cr8 <= 15;
}

static bool state_xcr0_valid(const struct cpu *cpu, u64 xcr0)
{
    u32 leaf[4];

    sys_cpuid(cpu, 0xd, 0, leaf);
    return (xcr0 & XCR0_X87) != 0 && (xcr0 & ~((u64)leaf[0] | XCR0_X87)) == 0 &&
           ((xcr0 & XCR0_AVX) == 0 || (xcr0 & XCR0_SSE) != 0);
}

/* Bases that hold 64 bits must be canonical, as no instruction loads another. */
static bool state_addresses_valid(const struct x86_state *state)
{
    const u64 canonical[] = {
        state->seg[X86_FS].base, state->seg[X86_GS].base, state->ldtr.base,
        state->tr.base,          state->gdtr.base,        state->idtr.base,
        state->msr.lstar,        state->msr.cstar,        state->msr.kernel_gs_base,
        state->msr.sysenter_esp, state->msr.sysenter_eip,
    };
    static const u8 narrow[] = {X86_ES, X86_CS, X86_SS, X86_DS};

    for (unsigned i = 0; i < ARRAY_LEN(canonical); i++) {
        if (!seg_canonical(canonical[i]))
            return false;
    }
    for (unsigned i = 0; i < ARRAY_LEN(narrow); i++) {
        if (state->seg[narrow[i]].base >> 32 != 0)
            return false;
    }
    return true;
}

static bool state_mode_valid(const struct x86_state *state)
{
    const struct x86_seg *code = &state->seg[X86_CS];
    bool lma = (state->msr.efer & X86_EFER_LMA) != 0;
    bool code64 = lma && (code->attr & X86_SEG_LONG) != 0;

    if (code64 && (code->attr & X86_SEG_BIG) != 0)
        return false;
    if (lma && (state->rflags & X86_VM) != 0)
        return false;
    /* A jump past the end of the address space is possible, and faults at the fetch. */
    return code64 || state->rip >> 32 == 0;
}

static bool state_event_valid(const struct x86_state *state)
{
    const struct x86_event *event = &state->event;

    if (state->activity > X86_SHUTDOWN || event->kind > X86_EVENT_NMI)
        return false;
    return !event->pending || event->kind != X86_EVENT_EXCEPTION || event->vector < 32;
}

/* ---- loading
 * --------------------------------------------------------------------------------------- */

static void state_load_segments(struct cpu *cpu, const struct x86_state *state)
{
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++) {
        cpu->seg[i] = state->seg[i];
        cpu->seg[i].attr &= STATE_SEG_ATTR;
    }
    cpu->ldtr = state->ldtr;
    cpu->ldtr.attr &= STATE_SEG_ATTR;
    cpu->tr = state->tr;
    cpu->tr.attr &= STATE_SEG_ATTR;
    cpu->gdtr = state->gdtr;
    cpu->idtr = state->idtr;
}

/* All vCPUs of a machine count alike, but are set one after the other: an offset that is close to
 * the last vCPU's differs from it only by the time in between. */
static void state_load_tsc(struct cpu *cpu, u64 tsc)
{
    u64 offset = tsc - __builtin_ia32_rdtsc();

    if (offset - cpu->group->tsc_offset + TSC_CLOSE <= 2 * TSC_CLOSE)
        offset = cpu->group->tsc_offset;
    cpu->group->tsc_offset = offset;
    cpu->tsc_offset = offset;
}

static void state_load_control(struct cpu *cpu, const struct x86_state *state)
{
    cpu->cr0 = state->cr0 | X86_CR0_ET;
    cpu->cr2 = state->cr2;
    cpu->cr3 = state->cr3;
    cpu->cr4 = state->cr4;
    cpu->cr8 = state->cr8;
    if (cpu->irq.tpr != NULL)
        *cpu->irq.tpr = (u8)((*cpu->irq.tpr & 15) | state->cr8 << 4);
    cpu->xcr0 = state->xcr0;
    cpu->msr = state->msr;
    state_load_tsc(cpu, state->tsc);
    for (unsigned i = 0; i < 4; i++)
        cpu->dr[i] = state->dr[i];
    sys_debug_load(cpu, state->dr[6], state->dr[7]);
}

int cpu_set_state(struct cpu *cpu, const struct x86_state *state)
{
    if (!state_control_valid(cpu, state) || !state_xcr0_valid(cpu, state->xcr0) ||
        !state_addresses_valid(state) || !state_mode_valid(state) || !state_event_valid(state))
        return -EINVAL;

    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        cpu->gpr[i] = state->gpr[i];
    cpu->rflags = (state->rflags & STATE_RFLAGS) | X86_FLAG_FIXED;
    state_load_segments(cpu, state);
    state_load_control(cpu, state);
    sys_set_rip(cpu, state->rip);
    cpu->event = state->event;
    cpu->interrupt_shadow = state->interrupt_shadow;
    cpu->nmi_pending = state->nmi_pending;
    cpu->nmi_again = false;
    cpu->nmi_blocked = state->nmi_blocked;
    cpu->activity = state->activity;
    cpu->debug_pending = 0;
    cpu->step_skip = false;
    cpu->replay.done = 0;
    cpu->replay.next = 0;
    __builtin_memcpy(cpu->xsave, state->xsave, sizeof(cpu->xsave));
    cpu->vector_live = false;
    mmu_flush_all(cpu);
    sys_debug_update(cpu);
    return 0;
}
