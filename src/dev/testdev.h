/*
 * dev/testdev.h - the ports that bare-metal test programs talk to: exit with a status, drive
 * interrupt lines, memory that can be made to fail.
 *
 * 0xf4 (isa-debug-exit): a write ends the VM with status (value << 1) | 1. 0xe0 and 0xe8: one
 * 32-bit scratch register seen twice (0xe8 a byte at a time). 0xe4: takes a page's address to flush
 * from shadow structures, of which there are none. 0x2000 + n: level of ISA interrupt n. MMIO page
 * 0xff000000: 64 KiB of memory that is reached by emulation only.
 * Threads: handlers under the device's lock.
 */
#ifndef DEV_TESTDEV_H
#define DEV_TESTDEV_H

#include "core/irq.h"
#include "dev/device.h"

enum { TESTDEV_IRQ_COUNT = 24, TESTDEV_MMIO_BASE = 0xff000000, TESTDEV_MMIO_BYTES = 0x10000 };

struct testdev;

struct testdev_wires {
    struct irq_line pins[TESTDEV_IRQ_COUNT];
    void (*exit)(void *ctx, unsigned status); /* any vCPU thread; must not block */
    void *ctx;                                /* borrowed */
};

/* NULL when out of memory. */
struct testdev *testdev_new(const struct testdev_wires *wires);

extern const struct device_ops testdev_device;

#endif
