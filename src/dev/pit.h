/*
 * dev/pit.h - the 8254 interval timer and port 0x61 (speaker gate, refresh toggle).
 *
 * Threads: handlers and the timer under the lock given to pit_new.
 */
#ifndef DEV_PIT_H
#define DEV_PIT_H

#include "core/clock.h"
#include "core/irq.h"
#include "dev/device.h"

enum { PIT_HZ = 1193182 };

struct pit;

/* IRQ is channel 0's output. NULL when out of memory. */
struct pit *pit_new(struct vm_clock *clock, struct lock *lock, const struct irq_line *irq);

extern const struct device_ops pit_device;

#endif
