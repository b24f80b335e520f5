/*
 * core/irq.h - how a device asks for attention: a line with a level, or a message (MSI).
 *
 * A device holds these by value; the machine fills them in. Threads: any, under the caller's device
 * lock; the receiver takes its own lock (the irq chip's), so a caller must not hold that one.
 */
#ifndef CORE_IRQ_H
#define CORE_IRQ_H

#include "base/types.h"

struct irq_line {
    void (*set)(void *ctx, unsigned pin, bool level);
    void *ctx; /* borrowed */
    unsigned pin;
};

/* Drives the line; the receiver finds edges itself. A line with no receiver is not connected. */
static inline void irq_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->ctx, line->pin, level);
}

static inline void irq_pulse(const struct irq_line *line)
{
    irq_set(line, true);
    irq_set(line, false);
}

/* Where messages go: address and data as a PCI function or an I/O APIC sends them (SDM vol.
 * 3A 11.11). */
struct msi_sink {
    void (*deliver)(void *ctx, u64 address, u32 data);
    void *ctx; /* borrowed */
};

static inline void msi_send(const struct msi_sink *sink, u64 address, u32 data)
{
    if (sink->deliver)
        sink->deliver(sink->ctx, address, data);
}

#endif
