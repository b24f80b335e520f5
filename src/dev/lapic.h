/*
 * dev/lapic.h - the local APICs of all vCPUs, and the bus on which messages reach them.
 *
 * Spec   Intel SDM vol. 3A chapter 11 (xAPIC, x2APIC, message signalled interrupts).
 * Threads: a lapic belongs to its vCPU's thread; functions named lapic_* are for that thread alone
 * (or while it is stopped). apic_bus_* come from any thread: they post into atomic words and call
 * kick, and take no lock. The timer expires on the loop's thread, which only leaves a note and
 * kicks. Trust: offsets, values and messages come from the guest.
 *
 * The engine must ask lapic_pending() before every entry and whenever the guest sets IF: a post
 * finds the vCPU kicked only when nothing posted earlier is still unseen.
 */
#ifndef DEV_LAPIC_H
#define DEV_LAPIC_H

#include "base/types.h"
#include "core/clock.h"
#include "core/state.h"

struct apic_bus;
struct lapic;
struct mem;

/* Events other than interrupts, for the vCPU's thread to act on in this order. */
enum lapic_event {
    LAPIC_EVENT_INIT = 1, /* reset to wait-for-SIPI */
    LAPIC_EVENT_SIPI = 2, /* start at the vector's page, if waiting for it */
    LAPIC_EVENT_NMI = 4,
    LAPIC_EVENT_KICK = 8,      /* another vCPU ends this one's HLT by a hypercall */
    LAPIC_EVENT_NMI_AGAIN = 16 /* a second one came before the first was taken */
};

enum { LAPIC_MMIO_BYTES = 4096, LAPIC_PAGE_BYTES = 1024 };

/* What the APICs ask of their surroundings. No function may be NULL. */
struct apic_host {
    void (*kick)(void *ctx, unsigned index);     /* any thread, must not block */
    void (*eoi)(void *ctx, u8 vector);           /* a level-triggered EOI, for the I/O APICs */
    int (*extint_ack)(void *ctx);                /* INTA cycle to the PIC: a vector, or -1 */
    u64 (*guest_tsc)(void *ctx, unsigned index); /* that vCPU's TSC now; its own thread only */
    u64 tsc_hz;
    struct mem *mem; /* borrowed: where guests keep their EOI flags; NULL: none may */
    void *ctx;       /* borrowed */
};

/* VCPU_COUNT APICs with ids 0 to VCPU_COUNT-1, in reset state; NULL when out of memory. */
struct apic_bus *apic_bus_new(struct vm_clock *clock, const struct apic_host *host,
                              unsigned vcpu_count);
void apic_bus_free(struct apic_bus *bus);
struct lapic *apic_bus_lapic(struct apic_bus *bus, unsigned index);

/* An msi_sink: CTX is the bus. */
void apic_bus_msi(void *ctx, u64 address, u32 data);
/* An irq_line: CTX is the bus; the PIC's INTR, which is wired to every LINT0. */
void apic_bus_intr(void *ctx, unsigned pin, bool level);
/* An irq_line: CTX is the bus; the system's NMI, wired to every LINT1. */
void apic_bus_nmi(void *ctx, unsigned pin, bool level);

/* Sends the interrupt that ICR's low half describes (vector and mode; no destination, no shorthand)
 * to the APICs FIRST + n for each bit n of BITMAPS, whose words hold WORD_BITS each. Returns to how
 * many. By FROM's vCPU. */
struct lapic_ipi {
    u64 bitmaps[2];
    unsigned word_bits; /* 64, or 32 from 32-bit code */
    u32 first, icr;
};
unsigned lapic_send_ipi(struct lapic *from, const struct lapic_ipi *ipi);
/* Posts LAPIC_EVENT_KICK to the APIC with id ID, if there is one. Any thread. */
void apic_bus_kick(struct apic_bus *bus, u64 id);

/* Power-on state; INIT keeps the APIC id and IA32_APIC_BASE. */
void lapic_reset(struct lapic *lapic, bool is_init);

/* The physical address of the register page, or UINT64_MAX when there is none (disabled, x2APIC).
 */
u64 lapic_mmio_base(const struct lapic *lapic);
u64 lapic_read(struct lapic *lapic, u64 offset, unsigned bytes);
void lapic_write(struct lapic *lapic, u64 offset, unsigned bytes, u64 value);

/* IA32_APIC_BASE, IA32_TSC_DEADLINE, the x2APIC's 0x800 to 0x83f, and MSR_KVM_PV_EOI_EN. False
 * means #GP(0). */
bool lapic_msr_is_mine(u32 msr);
MUST_CHECK bool lapic_msr_read(struct lapic *lapic, u32 msr, u64 *ret_value);
MUST_CHECK bool lapic_msr_write(struct lapic *lapic, u32 msr, u64 value);

/* For struct vcpu_irq; CTX is the lapic. */
bool lapic_pending(void *ctx);
int lapic_ack(void *ctx);
/* The task priority register, whose high half is CR8: for struct vcpu_irq's tpr. */
u8 *lapic_tpr(struct lapic *lapic);

/* Takes the pending events (enum lapic_event); the start vector too when LAPIC_EVENT_SIPI is set.
 */
unsigned lapic_events_take(struct lapic *lapic, u8 *ret_sipi_vector);
/* True when there are events to take; cheap. */
bool lapic_events_pending(const struct lapic *lapic);
/* VM time of the timer's next expiry (TIMER_NEVER: none): how long a halted vCPU may sleep. */
u64 lapic_next_deadline_ns(const struct lapic *lapic);
/* Lets the timer expire if its time has come: what a vCPU that slept until then calls, so as not to
 * wait for the loop as well. */
void lapic_timer_poll(struct lapic *lapic);

/* One section per vCPU. */
void lapic_save(const struct lapic *lapic, struct state_writer *writer);
MUST_CHECK int lapic_load(struct lapic *lapic, struct state_reader *reader, struct err *err);

/* For engines that keep the local APIC themselves: all registers as they lie in the MMIO page (its
 * first 1024 bytes), with the APIC id in bits 31:24 in every mode. lapic_page_put takes them over,
 * after IA32_APIC_BASE and IA32_TSC_DEADLINE, which are not in the page. */
void lapic_page_get(struct lapic *lapic, u8 page[LAPIC_PAGE_BYTES]);
void lapic_page_put(struct lapic *lapic, const u8 page[LAPIC_PAGE_BYTES], u64 apic_base,
                    u64 tsc_deadline);

#endif
