/*
 * dev/i8042.h - the keyboard controller (ports 0x60 and 0x64): A20, the reset line, two PS/2 ports.
 *
 * No keyboard or mouse is attached yet: a byte sent to a port gets no answer but a timeout, as on a
 * PC without them. i8042_input() is where an attached device's bytes will come in.
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
    void *ctx; /* borrowed */
};

struct i8042;

/* IRQ_KEYBOARD is IRQ 1, IRQ_MOUSE IRQ 12. NULL when out of memory. */
struct i8042 *i8042_new(const struct irq_line *irq_keyboard, const struct irq_line *irq_mouse,
                        const struct power_sink *power);
void i8042_attach(struct i8042 *i8042, enum i8042_port port,
                  const struct i8042_attachment *attachment);
/* A byte from the device on PORT; false when the queue is full or the port disabled. */
bool i8042_input(struct i8042 *i8042, enum i8042_port port, u8 byte);

extern const struct device_ops i8042_device;

#endif
