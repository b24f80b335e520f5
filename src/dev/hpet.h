/*
 * dev/hpet.h - the high precision event timer: a 64-bit counter and three comparators.
 *
 * Threads: handlers and timers under the lock given to hpet_new.
 */
#ifndef DEV_HPET_H
#define DEV_HPET_H

#include "core/clock.h"
#include "core/irq.h"
#include "dev/device.h"

enum { HPET_BASE = 0xfed00000, HPET_TIMER_COUNT = 3, HPET_PERIOD_FS = 10000000 };

struct hpet;

struct hpet_wires {
    struct irq_line pins[24]; /* the I/O APIC's, by number */
    struct irq_line legacy_0; /* IRQ 0 and 8 in legacy mode */
    struct irq_line legacy_8;
    struct irq_line legacy_on; /* the mode itself */
    struct msi_sink msi;
};

/* NULL when out of memory. */
struct hpet *hpet_new(struct vm_clock *clock, struct lock *lock, const struct hpet_wires *wires);

extern const struct device_ops hpet_device;

#endif
