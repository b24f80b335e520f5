/*
 * dev/lapic_regs.c - the local APIC's registers, by MMIO and by MSR.
 *
 * Spec   Intel SDM vol. 3A chapter 11. Version 0x14 with 6 LVT entries and EOI-broadcast
 * suppression. Runs   on the vCPU's thread. Trust  offsets and values come from the guest.
 *
 * A register has a number: its MMIO offset / 16, which is also its x2APIC MSR - 0x800.
 */
#include "dev/lapic_priv.h"

enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0, MSR_X2APIC = 0x800 };

/* Bits that software may write of each LVT entry. */
const u32 lapic_lvt_writable[LVT_COUNT] = {
    [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
    [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};
enum { SVR_WRITABLE = 0x11ff };
#define ICR_WRITABLE 0xffffffff000ccfffull

/* ---- registers ----------------------------------------------------------------------------------
 */

static u32 register_read(struct lapic *lapic, unsigned number)
{
    lapic_collect(lapic);
    lapic_eoi_settle(lapic, false);
    if (number >= REG_ISR && number < REG_ISR + APIC_WORDS)
        return lapic->isr[number - REG_ISR];
    if (number >= REG_TMR && number < REG_TMR + APIC_WORDS)
        return lapic->tmr[number - REG_TMR];
    if (number >= REG_IRR && number < REG_IRR + APIC_WORDS)
        return lapic->irr[number - REG_IRR];
    if (number >= REG_LVT && number < REG_LVT + LVT_COUNT)
        return lapic->lvt[number - REG_LVT];
    switch (number) {
    case REG_ID:
        return lapic_is_x2apic(lapic) ? lapic->index : (u32)lapic->index << 24;
    case REG_VERSION:
        return APIC_VERSION;
    case REG_TPR:
        return lapic->tpr;
    case REG_PPR:
        return lapic_priority(lapic);
    case REG_LDR:
        return lapic->ldr;
    case REG_DFR:
        return lapic->dfr;
    case REG_SVR:
        return lapic->svr;
    case REG_ESR:
        return lapic->esr;
    case REG_ICR:
        return (u32)lapic->icr;
    case REG_ICR_HIGH:
        return (u32)(lapic->icr >> 32);
    case REG_INITIAL:
        return lapic->timer_initial;
    case REG_CURRENT:
        return lapic_timer_current(lapic);
    case REG_DIVIDE:
        return lapic->timer_divide;
    case REG_APR:
    case REG_RRD:
        return 0;
    default:
        lapic_add_error(lapic, ESR_REGISTER);
        return 0;
    }
}

static void icr_write(struct lapic *lapic, u64 value)
{
    unsigned mode = (unsigned)bits_get(value, 8, 3);

    lapic->icr = value & ICR_WRITABLE;
    if ((mode == MODE_FIXED || mode == MODE_LOWEST) && (u8)value < 16) {
        lapic_add_error(lapic, ESR_SEND_ILLEGAL);
        return;
    }
    lapic_send(lapic, lapic->icr);
}

static void lvt_write(struct lapic *lapic, enum apic_lvt which, u32 value)
{
    u32 old = lapic->lvt[which];

    value &= lapic_lvt_writable[which];
    if (!(lapic->svr & SVR_ENABLED))
        value |= LVT_MASKED;
    shared_set(&lapic->lvt[which], value);
    if (which == LVT_TIMER)
        lapic_timer_mode_changed(lapic, old);
}

static void svr_write(struct lapic *lapic, u32 value)
{
    shared_set(&lapic->svr, value & SVR_WRITABLE);
    if (value & SVR_ENABLED)
        return;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        shared_set(&lapic->lvt[i], lapic->lvt[i] | LVT_MASKED);
}

static void register_write(struct lapic *lapic, unsigned number, u32 value)
{
    lapic_collect(lapic);
    if (number >= REG_LVT && number < REG_LVT + LVT_COUNT) {
        lvt_write(lapic, (enum apic_lvt)(number - REG_LVT), value);
        return;
    }
    switch (number) {
    case REG_TPR:
        lapic->tpr = (u8)value;
        break;
    case REG_EOI:
        lapic_eoi_settle(lapic, true);
        lapic_end_of_interrupt(lapic);
        break;
    case REG_LDR:
        shared_set(&lapic->ldr, value & 0xff000000);
        break;
    case REG_DFR:
        shared_set(&lapic->dfr, value | 0x0fffffff);
        break;
    case REG_SVR:
        svr_write(lapic, value);
        break;
    case REG_ESR:
        lapic->esr = lapic->esr_next;
        lapic->esr_next = 0;
        break;
    case REG_ICR:
        icr_write(lapic, (lapic->icr & ~(u64)UINT32_MAX) | value);
        break;
    case REG_ICR_HIGH:
        lapic->icr = (u32)lapic->icr | (u64)(value & 0xff000000) << 32;
        break;
    case REG_INITIAL:
        lapic_timer_initial_write(lapic, value);
        break;
    case REG_DIVIDE:
        lapic_timer_divide_write(lapic, value);
        break;
    default: /* read-only or not there */
        break;
    }
}

u64 lapic_mmio_base(const struct lapic *lapic)
{
    if ((lapic->base_low & (BASE_ENABLED | BASE_X2APIC)) != BASE_ENABLED)
        return UINT64_MAX;
    return (u64)lapic->base_high << 32 | (lapic->base_low & 0xfffff000);
}

u64 lapic_read(struct lapic *lapic, u64 offset, unsigned bytes)
{
    unsigned within = offset & 0xf;

    if (within + bytes > 4) /* registers fill the first word of their 16 bytes */
        return 0;
    u64 value = register_read(lapic, (unsigned)(offset >> 4) & (REG_COUNT * 4 - 1));
    return (value >> (8 * within)) & bytes_mask(bytes);
}

void lapic_write(struct lapic *lapic, u64 offset, unsigned bytes, u64 value)
{
    if ((offset & 0xf) != 0 || bytes != 4)
        return;
    register_write(lapic, (unsigned)(offset >> 4) & (REG_COUNT * 4 - 1), (u32)value);
}

/* ---- model-specific registers -------------------------------------------------------------------
 */

bool lapic_msr_is_mine(u32 msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || msr == MSR_APIC_EOI_FLAG ||
           (msr >= MSR_X2APIC && msr < MSR_X2APIC + 0x100);
}

static bool base_write(struct lapic *lapic, u64 value)
{
    u32 mode = value & (BASE_ENABLED | BASE_X2APIC);
    u32 old_mode = lapic->base_low & (BASE_ENABLED | BASE_X2APIC);

    if ((value & 0x2ff) || value >> 52 || mode == BASE_X2APIC)
        return false;
    /* SDM figure 11-27: into x2APIC only from xAPIC, out of it only to disabled. */
    if (mode == (BASE_ENABLED | BASE_X2APIC) && old_mode == 0)
        return false;
    if (mode == BASE_ENABLED && (old_mode & BASE_X2APIC))
        return false;
    if (mode == 0 && old_mode != 0)
        lapic_reset(lapic, true);
    lapic->base_high = (u32)(value >> 32);
    shared_set(&lapic->base_low, (u32)value);
    if (mode != old_mode && (mode & BASE_X2APIC)) {
        shared_set(&lapic->ldr, lapic->index >> 4 << 16 | (u32)BIT(lapic->index & 15));
        lapic->icr &= UINT32_MAX;
    }
    return true;
}

static bool x2apic_readable(unsigned number)
{
    if (number >= REG_ISR && number <= REG_ESR)
        return true;
    if (number >= REG_LVT && number <= REG_CURRENT)
        return true;
    return number == REG_ID || number == REG_VERSION || number == REG_TPR || number == REG_PPR ||
           number == REG_LDR || number == REG_SVR || number == REG_ICR || number == REG_DIVIDE;
}

bool lapic_msr_read(struct lapic *lapic, u32 msr, u64 *ret_value)
{
    unsigned number = msr - MSR_X2APIC;

    if (msr == MSR_APIC_BASE) {
        *ret_value = (u64)lapic->base_high << 32 | lapic->base_low;
        return true;
    }
    if (msr == MSR_TSC_DEADLINE) {
        lapic_collect(lapic);
        *ret_value = lapic_tsc_deadline_read(lapic);
        return true;
    }
    if (msr == MSR_APIC_EOI_FLAG) {
        *ret_value = lapic->eoi_msr;
        return true;
    }
    if (!lapic_is_x2apic(lapic) || number >= REG_COUNT || !x2apic_readable(number))
        return false;
    *ret_value = number == REG_ICR ? lapic->icr : register_read(lapic, number);
    return true;
}

/* The bits of register NUMBER that may be set in a write by MSR; 0 with *ret_exists false for those
 * that cannot be written. */
static u64 x2apic_writable(unsigned number, bool *ret_exists)
{
    *ret_exists = true;
    if (number >= REG_LVT && number < REG_LVT + LVT_COUNT)
        return lapic_lvt_writable[number - REG_LVT] | BIT(12) |
               BIT(14); /* read-only, not reserved */
    switch (number) {
    case REG_TPR:
    case REG_SELF_IPI:
        return 0xff;
    case REG_EOI:
    case REG_ESR:
        return 0;
    case REG_SVR:
        return SVR_WRITABLE;
    case REG_ICR:
        return ICR_WRITABLE;
    case REG_INITIAL:
        return UINT32_MAX;
    case REG_DIVIDE:
        return 0xb;
    default:
        *ret_exists = false;
        return 0;
    }
}

bool lapic_msr_write(struct lapic *lapic, u32 msr, u64 value)
{
    unsigned number = msr - MSR_X2APIC;
    bool exists;

    if (msr == MSR_APIC_BASE)
        return base_write(lapic, value);
    if (msr == MSR_TSC_DEADLINE) {
        lapic_tsc_deadline_write(lapic, value);
        return true;
    }
    if (msr == MSR_APIC_EOI_FLAG)
        return lapic_eoi_msr_write(lapic, value);
    if (!lapic_is_x2apic(lapic) || number >= REG_COUNT)
        return false;
    u64 writable = x2apic_writable(number, &exists);
    if (!exists || (value & ~writable))
        return false;
    if (number == REG_ICR)
        icr_write(lapic, value);
    else if (number == REG_SELF_IPI)
        icr_write(lapic, 1 << 18 | value); /* shorthand "self" */
    else
        register_write(lapic, number, (u32)value);
    return true;
}
