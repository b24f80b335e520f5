/*
 * dev/ioapic.h - the I/O APIC: 24 pins to interrupt messages.
 *
 * Threads: all calls under the irq chip's lock; messages are sent with it held.
 */
#ifndef DEV_IOAPIC_H
#define DEV_IOAPIC_H

#include "core/irq.h"
#include "dev/device.h"

enum { IOAPIC_PIN_COUNT = 24, IOAPIC_BASE = 0xfec00000 };

struct ioapic;

/* NULL when out of memory. */
struct ioapic *ioapic_new(const struct msi_sink *sink, u8 id);
void ioapic_set(struct ioapic *ioapic, unsigned pin, bool level);
/* The EOI message of a local APIC for a level-triggered VECTOR: clears remote IRR, and sends again
 * for a line that is still asserted. */
void ioapic_eoi(struct ioapic *ioapic, u8 vector);
/* Which vectors have a level-triggered entry: what a split irq chip must hear EOIs of. */
void ioapic_level_vectors(const struct ioapic *ioapic, u64 ret_bitmap[4]);

extern const struct device_ops ioapic_device;

#endif
