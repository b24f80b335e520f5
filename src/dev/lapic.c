/*
 * dev/lapic.c - the local APIC's registers, priorities and acknowledgement.
 *
 * Spec   Intel SDM vol. 3A chapter 11. Version 0x14 with 6 LVT entries and EOI-broadcast
 * suppression. Runs   on the vCPU's thread. Trust  offsets and values come from the guest.
 *
 * A register has a number: its MMIO offset / 16, which is also its x2APIC MSR - 0x800.
 */
#include "base/errno.h"
#include "dev/lapic_priv.h"

/* ---- vectors and priorities ---------------------------------------------------------------------
 */

static void vector_set(u32 words[APIC_WORDS], unsigned vector)
{
    words[vector / 32] |= (u32)BIT(vector % 32);
}

static void vector_clear(u32 words[APIC_WORDS], unsigned vector)
{
    words[vector / 32] &= ~(u32)BIT(vector % 32);
}

u8 lapic_priority(const struct lapic *lapic)
{
    int serving = lapic_highest(lapic->isr);

    if (serving < 0 || lapic->tpr >> 4 >= serving >> 4)
        return lapic->tpr;
    return (u8)(serving & 0xf0);
}

void lapic_add_error(struct lapic *lapic, u32 error)
{
    bool is_first = lapic->esr_next == 0;

    lapic->esr_next |= error;
    if (is_first)
        lapic_lvt_raise(lapic, LVT_ERROR);
}

void lapic_lvt_raise(struct lapic *lapic, enum apic_lvt which)
{
    u32 lvt = lapic->lvt[which];
    u8 vector = (u8)lvt;

    if ((lvt & LVT_MASKED) || !lapic_software_on(lapic))
        return;
    if (vector < 16) {
        lapic->esr_next |= ESR_RECEIVE_ILLEGAL;
        return;
    }
    vector_set(lapic->irr, vector);
    vector_clear(lapic->tmr, vector);
}

void lapic_collect(struct lapic *lapic)
{
    if (__atomic_load_n(&lapic->posted, __ATOMIC_RELAXED) == 0)
        return;
    __atomic_exchange_n(&lapic->posted, 0, __ATOMIC_SEQ_CST);
    for (unsigned word = 0; word < APIC_WORDS; word++) {
        if (__atomic_load_n(&lapic->post_irr[word], __ATOMIC_RELAXED) == 0)
            continue;
        u32 bits = __atomic_exchange_n(&lapic->post_irr[word], 0, __ATOMIC_ACQUIRE);
        u32 level = __atomic_load_n(&lapic->post_tmr[word], __ATOMIC_RELAXED);
        lapic->irr[word] |= bits;
        lapic->tmr[word] = (lapic->tmr[word] & ~bits) | (level & bits);
    }
    u32 notes = __atomic_fetch_and(&lapic->notes, NOTE_EXTINT, __ATOMIC_ACQUIRE);
    if (notes & NOTE_TIMER)
        lapic_timer_poll(lapic);
    if (notes & NOTE_ILLEGAL)
        lapic_add_error(lapic, ESR_RECEIVE_ILLEGAL);
}

bool lapic_takes_extint(const struct lapic *lapic)
{
    u32 lvt = shared_get(&lapic->lvt[LVT_LINT0]);

    return !lapic_hardware_on(lapic) || (lvt & (LVT_MASKED | 7 << 8)) == MODE_EXTINT << 8;
}

static bool extint_pending(const struct lapic *lapic)
{
    if (__atomic_load_n(&lapic->notes, __ATOMIC_RELAXED) & NOTE_EXTINT)
        return true;
    return __atomic_load_n(&lapic->intr, __ATOMIC_RELAXED) && lapic_takes_extint(lapic);
}

/* The vector to be served next, or -1 while all that wait are below the processor's priority. */
static int next_vector(const struct lapic *lapic)
{
    int vector = lapic_highest(lapic->irr);

    if (vector < 0 || !lapic_hardware_on(lapic) || vector >> 4 <= lapic_priority(lapic) >> 4)
        return -1;
    return vector;
}

bool lapic_pending(void *ctx)
{
    struct lapic *lapic = ctx;

    lapic_collect(lapic);
    lapic_eoi_settle(lapic, lapic_highest(lapic->irr) >= 0);
    return extint_pending(lapic) || next_vector(lapic) >= 0;
}

int lapic_ack(void *ctx)
{
    struct lapic *lapic = ctx;

    lapic_collect(lapic);
    lapic_eoi_settle(lapic, true);
    if (extint_pending(lapic)) {
        __atomic_fetch_and(&lapic->notes, ~(u32)NOTE_EXTINT, __ATOMIC_RELAXED);
        return lapic->bus->host.extint_ack(lapic->bus->host.ctx);
    }
    int vector = next_vector(lapic);
    if (vector >= 0) {
        vector_clear(lapic->irr, (unsigned)vector);
        vector_set(lapic->isr, (unsigned)vector);
        lapic_eoi_arm(lapic, (unsigned)vector);
    }
    return vector;
}

u8 *lapic_tpr(struct lapic *lapic)
{
    return &lapic->tpr;
}

bool lapic_events_pending(const struct lapic *lapic)
{
    return __atomic_load_n(&lapic->events, __ATOMIC_RELAXED) != 0;
}

unsigned lapic_events_take(struct lapic *lapic, u8 *ret_sipi_vector)
{
    if (!lapic_events_pending(lapic))
        return 0;
    u32 events = __atomic_exchange_n(&lapic->events, 0, __ATOMIC_ACQUIRE);
    if (events & LAPIC_EVENT_SIPI)
        *ret_sipi_vector = (u8)(events >> 8);
    return events & 0xff;
}

enum { BASE_DEFAULT = 0xfee00000 };

/* ---- reset and state ----------------------------------------------------------------------------
 */

void lapic_reset(struct lapic *lapic, bool is_init)
{
    lapic_timer_stop(lapic);
    for (unsigned i = 0; i < APIC_WORDS; i++) {
        __atomic_store_n(&lapic->post_irr[i], 0, __ATOMIC_RELAXED);
        lapic->irr[i] = lapic->isr[i] = lapic->tmr[i] = 0;
    }
    __atomic_store_n(&lapic->notes, 0, __ATOMIC_RELAXED);
    lapic->tpr = 0;
    lapic->esr = lapic->esr_next = 0;
    lapic->icr = 0;
    lapic->eoi_msr = 0;
    lapic->eoi_armed = false;
    lapic->timer_divide = 0;
    shared_set(&lapic->dfr, UINT32_MAX);
    shared_set(&lapic->svr, 0xff);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        shared_set(&lapic->lvt[i], LVT_MASKED);
    if (!is_init) {
        __atomic_store_n(&lapic->events, 0, __ATOMIC_RELAXED);
        lapic->base_high = 0;
        shared_set(&lapic->base_low,
                   BASE_DEFAULT | BASE_ENABLED | (lapic->index == 0 ? BASE_BSP : 0));
        /* Firmware leaves the bootstrap processor in virtual wire mode; systems that are started
         * without any rely on it. */
        if (lapic->index == 0)
            shared_set(&lapic->lvt[LVT_LINT0], MODE_EXTINT << 8);
    }
    if (!lapic_is_x2apic(lapic))
        shared_set(&lapic->ldr, 0);
}

static const struct field lapic_fields[] = {
    FIELD(struct lapic, posted),
    FIELD(struct lapic, post_irr),
    FIELD(struct lapic, post_tmr),
    FIELD(struct lapic, notes),
    FIELD(struct lapic, events),
    FIELD(struct lapic, intr),
    FIELD(struct lapic, base_low),
    FIELD(struct lapic, base_high),
    FIELD(struct lapic, ldr),
    FIELD(struct lapic, dfr),
    FIELD(struct lapic, svr),
    FIELD(struct lapic, lvt),
    FIELD(struct lapic, irr),
    FIELD(struct lapic, isr),
    FIELD(struct lapic, tmr),
    FIELD(struct lapic, esr),
    FIELD(struct lapic, esr_next),
    FIELD(struct lapic, icr),
    FIELD(struct lapic, eoi_msr),
    FIELD(struct lapic, eoi_armed),
    FIELD(struct lapic, tpr),
    FIELD(struct lapic, timer_initial),
    FIELD(struct lapic, timer_divide),
    FIELD(struct lapic, timer_start_ns),
    FIELD(struct lapic, timer_deadline_ns),
    FIELD(struct lapic, tsc_deadline),
    FIELD_END,
};

void lapic_save(const struct lapic *lapic, struct state_writer *writer)
{
    state_save(writer, lapic_fields, lapic);
}

int lapic_load(struct lapic *lapic, struct state_reader *reader, struct err *err)
{
    int r = state_load(reader, lapic_fields, lapic, err);

    if (r < 0)
        return err_prefix(err, "local APIC %u", lapic->index);
    if ((lapic->base_low & (BASE_X2APIC | BASE_ENABLED)) == BASE_X2APIC || lapic->base_high >> 20 ||
        (lapic->base_low & 0x2ff) || (lapic->timer_divide & ~0xbu))
        return err_set(err, -EINVAL, "local APIC %u is in a state that none can be in",
                       lapic->index);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        lapic->lvt[i] &= lapic_lvt_writable[i];
    timer_arm(&lapic->timer, lapic->timer_deadline_ns);
    return 0;
}

/* ---- the register page ---- */

static void page_put32(u8 *page, unsigned number, u32 value)
{
    store_le32(page + number * 16, value);
}

static u32 page_get32(const u8 *page, unsigned number)
{
    return load_le32(page + number * 16);
}

void lapic_page_get(struct lapic *lapic, u8 page[LAPIC_PAGE_BYTES])
{
    __builtin_memset(page, 0, LAPIC_PAGE_BYTES);
    lapic_collect(lapic);
    lapic_eoi_settle(lapic, false);
    page_put32(page, REG_ID, (u32)lapic->index << 24);
    page_put32(page, REG_VERSION, APIC_VERSION);
    page_put32(page, REG_TPR, lapic->tpr);
    page_put32(page, REG_PPR, lapic_priority(lapic));
    page_put32(page, REG_LDR, lapic->ldr);
    page_put32(page, REG_DFR, lapic->dfr);
    page_put32(page, REG_SVR, lapic->svr);
    for (unsigned i = 0; i < APIC_WORDS; i++) {
        page_put32(page, REG_ISR + i, lapic->isr[i]);
        page_put32(page, REG_TMR + i, lapic->tmr[i]);
        page_put32(page, REG_IRR + i, lapic->irr[i]);
    }
    page_put32(page, REG_ESR, lapic->esr);
    page_put32(page, REG_ICR, (u32)lapic->icr);
    page_put32(page, REG_ICR_HIGH, (u32)(lapic->icr >> 32));
    for (unsigned i = 0; i < LVT_COUNT; i++)
        page_put32(page, REG_LVT + i, lapic->lvt[i]);
    page_put32(page, REG_INITIAL, lapic->timer_initial);
    page_put32(page, REG_CURRENT, lapic_timer_current(lapic));
    page_put32(page, REG_DIVIDE, lapic->timer_divide);
}

void lapic_page_put(struct lapic *lapic, const u8 page[LAPIC_PAGE_BYTES], u64 apic_base,
                    u64 tsc_deadline)
{
    lapic_reset(lapic, true);
    shared_set(&lapic->base_low, (u32)apic_base);
    lapic->base_high = (u32)(apic_base >> 32);
    lapic->tpr = (u8)page_get32(page, REG_TPR);
    shared_set(&lapic->ldr, page_get32(page, REG_LDR));
    shared_set(&lapic->dfr, page_get32(page, REG_DFR));
    shared_set(&lapic->svr, page_get32(page, REG_SVR));
    for (unsigned i = 0; i < APIC_WORDS; i++) {
        lapic->isr[i] = page_get32(page, REG_ISR + i);
        lapic->tmr[i] = page_get32(page, REG_TMR + i);
        lapic->irr[i] = page_get32(page, REG_IRR + i);
    }
    lapic->esr = page_get32(page, REG_ESR);
    lapic->icr = page_get32(page, REG_ICR) | (u64)page_get32(page, REG_ICR_HIGH) << 32;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        shared_set(&lapic->lvt[i], page_get32(page, REG_LVT + i) & lapic_lvt_writable[i]);
    lapic->timer_initial = page_get32(page, REG_INITIAL);
    lapic->timer_divide = page_get32(page, REG_DIVIDE) & 0xb;
    lapic_timer_resume(lapic, page_get32(page, REG_CURRENT), tsc_deadline);
}
