/*
 * x86/regs.c - the state of a processor after power-up and after INIT with SIPI.
 *
 * Spec   Intel SDM vol. 3A table 9-1 "IA-32 and Intel 64 Processor States Following Power-up,
 * Reset, or INIT"; 8.4.4 "MP Initialization Example"; vol. 1, 13.4.1 "Legacy Region of an XSAVE
 * Area".
 */
#include "x86/regs.h"

#include "base/bits.h"

enum {
    ATTR_CODE = 0x9b, /* present, code, readable, accessed */
    ATTR_DATA = 0x93,
    ATTR_LDT = 0x82,
    ATTR_TSS = 0x8b,
    RESET_LIMIT = 0xffff
};
enum { RESET_RIP = 0xfff0, RESET_RDX = 0x600, RESET_DR7 = 0x400 };
enum { XSAVE_FTW = 4, XSAVE_MXCSR = 24, XSAVE_XSTATE_BV = 512 };
enum { RESET_FCW = 0x0040, RESET_FTW = 0xff, RESET_MXCSR = 0x1f80, XSTATE_X87_AND_SSE = 3 };
enum { APIC_BASE_BSP = 1 << 8, APIC_BASE_ENABLE = 1 << 11, MISC_ENABLE_FAST_STRINGS = 1 };

#define RESET_CR0 0x60000010u
#define RESET_CS_BASE 0xffff0000u
#define RESET_DR6 0xffff0ff0u
#define RESET_PAT 0x0007040600070406ull
#define APIC_BASE 0xfee00000u

static struct x86_seg real_segment(u16 selector, u64 base, u16 attr)
{
    return (struct x86_seg){.selector = selector, .base = base, .limit = RESET_LIMIT, .attr = attr};
}

/* What power-up and INIT have in common. */
static void reset_common(struct x86_state *state)
{
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        state->gpr[i] = 0;
    state->gpr[X86_RDX] = RESET_RDX;
    state->rip = RESET_RIP;
    state->rflags = X86_FLAG_FIXED;
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->seg[i] = real_segment(0, 0, ATTR_DATA);
    state->seg[X86_CS] = real_segment(0xf000, RESET_CS_BASE, ATTR_CODE);
    state->ldtr = real_segment(0, 0, ATTR_LDT);
    state->tr = real_segment(0, 0, ATTR_TSS);
    state->gdtr = state->idtr = (struct x86_table){.base = 0, .limit = RESET_LIMIT};
    state->cr0 = RESET_CR0;
    state->cr2 = state->cr3 = state->cr4 = state->cr8 = 0;
    state->dr[0] = state->dr[1] = state->dr[2] = state->dr[3] = 0;
    state->dr[6] = RESET_DR6;
    state->dr[7] = RESET_DR7;
    state->msr.efer = 0;
    state->event = (struct x86_event){0};
    state->interrupt_shadow = state->nmi_pending = state->nmi_blocked = false;
}

void x86_state_reset(struct x86_state *state, bool bootstrap_processor)
{
    *state = (struct x86_state){0};
    reset_common(state);
    state->xcr0 = 1;
    state->msr.pat = RESET_PAT;
    state->msr.misc_enable = MISC_ENABLE_FAST_STRINGS;
    state->msr.apic_base = APIC_BASE | APIC_BASE_ENABLE | (bootstrap_processor ? APIC_BASE_BSP : 0);
    store_le16(state->xsave, RESET_FCW);
    state->xsave[XSAVE_FTW] = RESET_FTW;
    store_le32(state->xsave + XSAVE_MXCSR, RESET_MXCSR);
    store_le64(state->xsave + XSAVE_XSTATE_BV, XSTATE_X87_AND_SSE);
    state->activity = bootstrap_processor ? X86_ACTIVE : X86_WAIT_FOR_SIPI;
}

void x86_state_init_sipi(struct x86_state *state, u8 vector)
{
    u64 cache_bits = state->cr0 & (X86_CR0_CD | X86_CR0_NW);

    reset_common(state);
    state->cr0 = (RESET_CR0 & ~(u64)(X86_CR0_CD | X86_CR0_NW)) | cache_bits;
    state->seg[X86_CS] = real_segment((u16)(vector << 8), (u64)vector << 12, ATTR_CODE);
    state->rip = 0;
    state->activity = X86_ACTIVE;
}
