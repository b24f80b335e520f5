/*
 * dev/i8042.h - the keyboard controller (ports 0x60 and 0x64): A20, the reset line, two PS/2 ports.
 *
 * A byte sent to a port with nothing attached gets no answer but a timeout, as on a PC without
 * keyboard or mouse. i8042_input() is where an attached device's bytes come in; those of the
 * keyboard are translated to scan code set 1 while the guest wants that.
 * Threads: handlers under the device's lock.
 */
#ifndef DEV_I8042_H
#define DEV_I8042_H

#include "core/irq.h"
#include "dev/device.h"

enum i8042_port { I8042_KEYBOARD, I8042_MOUSE, I8042_PORT_COUNT };

/* What is plugged into a port: gets the bytes that the guest sends to it. */
struct i8042_attachment {
    void (*write)(void *ctx, u8 byte);
    /* The guest has taken a byte: there may be room for another. May be NULL. */
    void (*ready)(void *ctx);
    void *ctx; /* borrowed */
};

struct i8042;

/* IRQ_KEYBOARD is IRQ 1, IRQ_MOUSE IRQ 12. NULL when out of memory. */
struct i8042 *i8042_new(const struct irq_line *irq_keyboard, const struct irq_line *irq_mouse,
                        const struct power_sink *power);
void i8042_attach(struct i8042 *i8042, enum i8042_port port,
                  const struct i8042_attachment *attachment);
/* A byte from the device on PORT; false when the queue is full: the device keeps the byte, and
 * offers it again when it is told that there is room. */
bool i8042_input(struct i8042 *i8042, enum i8042_port port, u8 byte);

extern const struct device_ops i8042_device;

#endif
