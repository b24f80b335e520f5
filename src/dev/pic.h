/*
 * dev/pic.h - the pair of 8259A interrupt controllers of a PC, with the edge/level registers.
 *
 * Threads: all calls under the irq chip's lock. INTR is driven with that lock held.
 */
#ifndef DEV_PIC_H
#define DEV_PIC_H

#include "core/irq.h"
#include "dev/device.h"

enum { PIC_PIN_COUNT = 16 };

struct pic;

/* NULL when out of memory. Pin 2 is the cascade and takes no input. */
struct pic *pic_new(const struct irq_line *intr);
void pic_set(struct pic *pic, unsigned pin, bool level);
/* The INTA cycle: the vector of the pending interrupt of highest priority, or the spurious one. */
int pic_ack(struct pic *pic);
/* INTR's level. */
bool pic_intr(const struct pic *pic);

extern const struct device_ops pic_device;

#endif
