/*
 * dev/lapic_priv.h - the parts of the local APIC among themselves: registers (lapic.c), messages
 * (lapic_bus.c), the timer (lapic_timer.c).
 */
#ifndef DEV_LAPIC_PRIV_H
#define DEV_LAPIC_PRIV_H

#include "base/bits.h"
#include "dev/lapic.h"

enum { APIC_WORDS = 8 }; /* a bit for each vector */

/* A register has a number: its MMIO offset / 16, which is also its x2APIC MSR - 0x800. */
enum apic_register {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_RRD = 0x0c,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
    REG_COUNT = 0x40
};

enum apic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

enum { APIC_VERSION = 1 << 24 | (LVT_COUNT - 1) << 16 | 0x14 };

enum apic_mode {
    MODE_FIXED,
    MODE_LOWEST,
    MODE_SMI,
    MODE_READ,
    MODE_NMI,
    MODE_INIT,
    MODE_SIPI,
    MODE_EXTINT
};

enum { MSR_APIC_EOI_FLAG = 0x4b564d04 }; /* MSR_KVM_PV_EOI_EN */
enum { LVT_MASKED = 1 << 16, LVT_TIMER_MODE_SHIFT = 17 };
enum apic_timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };
enum apic_svr { SVR_ENABLED = 1 << 8, SVR_NO_EOI_BROADCAST = 1 << 12 };
enum apic_esr { ESR_SEND_ILLEGAL = 1 << 5, ESR_RECEIVE_ILLEGAL = 1 << 6, ESR_REGISTER = 1 << 7 };
enum apic_base { BASE_BSP = 1 << 8, BASE_X2APIC = 1 << 10, BASE_ENABLED = 1 << 11 };

/* What waits for the vCPU besides vectors: in lapic.notes. */
enum apic_note {
    NOTE_TIMER = 1,  /* the timer's time has come */
    NOTE_EXTINT = 2, /* a message of mode ExtINT came */
    NOTE_ILLEGAL = 4 /* a message with a vector below 16 came */
};

struct lapic {
    struct apic_bus *bus; /* borrowed */
    unsigned index;

    /* Written by any thread, atomically. */
    u32 posted; /* 1: the words below hold something new, and the vCPU has been kicked for it */
    u32 post_irr[APIC_WORDS];
    u32 post_tmr[APIC_WORDS]; /* for bits of post_irr: level-triggered */
    u32 notes;                /* enum apic_note */
    u32 events;               /* enum lapic_event; the start vector in bits 15:8 */
    u32 intr;                 /* the level of LINT0 */

    /* Written by the vCPU's thread (shared_set), read by any (shared_get). */
    u32 base_low; /* the low half of IA32_APIC_BASE: mode */
    u32 ldr, dfr, svr;
    u32 lvt[LVT_COUNT];

    /* The vCPU's thread alone. */
    u32 base_high;
    u32 irr[APIC_WORDS], isr[APIC_WORDS], tmr[APIC_WORDS];
    u32 esr, esr_next; /* as read, and as gathered since ESR was last written */
    u64 icr;
    u64 eoi_msr;   /* MSR_KVM_PV_EOI_EN: where the EOI flag is; bit 0: enabled */
    u32 eoi_armed; /* the flag was set for the highest vector of isr, and not looked at since */
    u8 tpr;
    u32 timer_initial, timer_divide;
    u64 timer_start_ns;
    u64 timer_deadline_ns; /* TIMER_NEVER: stopped */
    u64 tsc_deadline;
    struct timer timer; /* wakes the vCPU's thread; lapic_timer_poll decides */
};

struct apic_bus {
    struct apic_host host;
    struct vm_clock *clock; /* borrowed */
    unsigned count;
    u32 next_lowest;      /* where the search for a lowest-priority target begins */
    struct lapic *lapics; /* owned */
};

static inline u32 shared_get(const u32 *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void shared_set(u32 *word, u32 value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
    return shared_get(&lapic->base_low) & BASE_X2APIC;
}

static inline bool lapic_hardware_on(const struct lapic *lapic)
{
    return shared_get(&lapic->base_low) & BASE_ENABLED;
}

/* Accepts fixed interrupts. */
static inline bool lapic_software_on(const struct lapic *lapic)
{
    return lapic_hardware_on(lapic) && (shared_get(&lapic->svr) & SVR_ENABLED);
}

/* lapic.c, vCPU thread: raises local interrupt WHICH. */
void lapic_lvt_raise(struct lapic *lapic, enum apic_lvt which);
/* lapic.c, vCPU thread: takes over what others have posted. */
void lapic_collect(struct lapic *lapic);
u8 lapic_priority(const struct lapic *lapic); /* PPR */
void lapic_add_error(struct lapic *lapic, u32 error);
/* lapic_regs.c: the bits that software may write of each LVT entry. */
extern const u32 lapic_lvt_writable[LVT_COUNT];
/* lapic.c: the LINT0 pin would interrupt this processor by an INTA cycle. */
bool lapic_takes_extint(const struct lapic *lapic);

/* The highest vector in WORDS, or -1. */
static inline int lapic_highest(const u32 words[APIC_WORDS])
{
    for (int word = APIC_WORDS - 1; word >= 0; word--)
        if (words[word])
            return word * 32 + 31 - __builtin_clz(words[word]);
    return -1;
}

/* lapic_eoi.c, vCPU thread. */
void lapic_end_of_interrupt(struct lapic *lapic);
/* VECTOR has just been taken: lets the guest end it by the flag, if it has one. */
void lapic_eoi_arm(struct lapic *lapic, unsigned vector);
void lapic_eoi_settle_armed(struct lapic *lapic, bool take_back);
bool lapic_eoi_msr_write(struct lapic *lapic, u64 value);

/* Before anything that depends on ISR: makes an end by the flag true. TAKE_BACK: else the guest
 * shall use the register. */
static inline void lapic_eoi_settle(struct lapic *lapic, bool take_back)
{
    if (lapic->eoi_armed)
        lapic_eoi_settle_armed(lapic, take_back);
}

/* lapic_bus.c: sends what ICR says. */
void lapic_send(struct lapic *from, u64 icr);
/* lapic_bus.c, any thread: the words have something new; FROM is the caller's own lapic or NULL. */
void lapic_notify(struct lapic *lapic, const struct lapic *from);

/* lapic_timer.c, vCPU thread. */
void lapic_timer_setup(struct lapic *lapic);
void lapic_timer_stop(struct lapic *lapic);
void lapic_timer_initial_write(struct lapic *lapic, u32 value);
void lapic_timer_divide_write(struct lapic *lapic, u32 value);
u32 lapic_timer_current(const struct lapic *lapic);
/* After a write to the timer's LVT entry, whose old value was OLD_LVT. */
void lapic_timer_mode_changed(struct lapic *lapic, u32 old_lvt);
void lapic_tsc_deadline_write(struct lapic *lapic, u64 value);
u64 lapic_tsc_deadline_read(const struct lapic *lapic);
/* Goes on from a count of CURRENT, or from a deadline by the TSC; registers and mode are set. */
void lapic_timer_resume(struct lapic *lapic, u32 current, u64 tsc_deadline);

#endif
