/*
 * dev/pm.h - ACPI fixed hardware: power management events, the PM timer, sleep, the power button,
 * general purpose events. The reset register 0xCF9 is the PCI host bridge's (dev/pci).
 *
 * Spec   ACPI 6.4 chapter 4.8. Threads: handlers, timer and pm_* calls under the lock given to
 * pm_new. Ports, from PM_BASE: +0 PM1_STS (2), +2 PM1_EN (2), +4 PM1_CNT (2), +8 PM_TMR (4), +0x20
 * GPE0_STS (4), +0x24 GPE0_EN (4).
 */
#ifndef DEV_PM_H
#define DEV_PM_H

#include "core/clock.h"
#include "core/irq.h"
#include "dev/device.h"

enum {
    PM_BASE = 0x600,
    PM_BYTES = 0x40,
    PM_EVENT_OFFSET = 0,
    PM_CONTROL_OFFSET = 4,
    PM_TIMER_OFFSET = 8,
    PM_GPE0_OFFSET = 0x20,
    PM_GPE0_BYTES = 8,
    PM_RESET_PORT = 0xcf9,
    PM_RESET_VALUE = 0x0e,
    PM_S5_TYPE = 5, /* SLP_TYP for _S5 */
    PM_S5_TYPE_FIRMWARE = 0,
    PM_SCI_IRQ = 9,
    PM_SMI_PORT = 0xb2, /* FADT SMI_CMD */
    PM_ACPI_ENABLE = 0xf1,
    PM_ACPI_DISABLE = 0xf0
};

struct pm;

/* SCI is level-triggered, active high. NULL when out of memory. */
struct pm *pm_new(struct vm_clock *clock, struct lock *lock, const struct irq_line *sci,
                  const struct power_sink *power);
void pm_press_power_button(struct pm *pm);
/* Sets general purpose event BIT (0-31). */
void pm_raise_gpe(struct pm *pm, unsigned bit);

extern const struct device_ops pm_device;

#endif
