/*
 * dev/uart.h - a 16550A serial port on a byte stream.
 *
 * Bytes go to the back end as they are written; while that is full they wait in a buffer, and the
 * transmitter reads as busy, so the guest's driver paces itself and no vCPU ever blocks.
 * Threads: handlers, timer and the stream's callbacks under the lock given to uart_new.
 */
#ifndef DEV_UART_H
#define DEV_UART_H

#include "back/chr.h"
#include "core/clock.h"
#include "core/irq.h"
#include "dev/device.h"

enum { UART_COM1 = 0x3f8, UART_COM2 = 0x2f8, UART_COM3 = 0x3e8, UART_COM4 = 0x2e8 };

struct uart;

/* Attaches to CHR (borrowed; NULL for a port with nothing plugged in). NULL when out of memory.
 * Map with the port's base. */
struct uart *uart_new(struct vm_clock *clock, struct lock *lock, const struct irq_line *irq,
                      struct chr *chr);

extern const struct device_ops uart_device;

#endif
