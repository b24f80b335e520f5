/*
 * dev/irqchip.h - the PC's interrupt lines: who hangs on which pin of the PIC and of the I/O APIC.
 *
 * Threads: any, under the caller's device lock; irqchip_* take the irq chip's own lock, which is
 * also the one to give device_map() for the PIC and the I/O APIC. Level-triggered lines may be
 * shared: each sharer drives through a struct irq_line of its own only where the wiring gives it
 * its own source.
 *
 * Pins 0 to 15 are the ISA interrupts (PIC and I/O APIC alike, but for IRQ 0, which is the I/O
 * APIC's pin 2), 16 to 23 the I/O APIC's alone. The three sources after them exist because the
 * HPET's legacy mode takes IRQ 0 and 8 away from PIT and RTC.
 */
#ifndef DEV_IRQCHIP_H
#define DEV_IRQCHIP_H

#include "base/lock.h"
#include "core/irq.h"
#include "dev/ioapic.h"
#include "dev/pic.h"

enum irqchip_source {
    IRQCHIP_PIN_COUNT = IOAPIC_PIN_COUNT,
    IRQCHIP_PIT = IRQCHIP_PIN_COUNT, /* IRQ 0, unless the HPET has it */
    IRQCHIP_RTC,                     /* IRQ 8, unless the HPET has it */
    IRQCHIP_HPET_0,                  /* IRQ 0 in legacy mode */
    IRQCHIP_HPET_8,                  /* IRQ 8 in legacy mode */
    IRQCHIP_HPET_LEGACY,             /* the mode: true takes the two lines */
    IRQCHIP_SOURCE_COUNT
};

struct irqchip {
    struct lock lock;
    struct pic *pic;       /* borrowed */
    struct ioapic *ioapic; /* borrowed */
    u32 sources;           /* level of each source, a bit */
};

void irqchip_init(struct irqchip *chip, struct pic *pic, struct ioapic *ioapic);
/* A line to PIN (0 to 23) or one of the named sources. */
struct irq_line irqchip_line(struct irqchip *chip, unsigned source);
/* The INTA cycle, for apic_host.extint_ack; CTX is the chip. */
int irqchip_ack(void *ctx);
/* For apic_host.eoi; CTX is the chip. */
void irqchip_eoi(void *ctx, u8 vector);

/* No regions; its free does nothing, the struct is its owner's. */
extern const struct device_ops irqchip_device;

#endif
