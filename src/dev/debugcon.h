/*
 * dev/debugcon.h - a port that prints: 0xe9 (Bochs) or 0x402 (firmware builds).
 *
 * A read answers 0xe9, by which programs find the port. Threads: handlers under the device's lock.
 */
#ifndef DEV_DEBUGCON_H
#define DEV_DEBUGCON_H

#include "back/chr.h"
#include "dev/device.h"

enum { DEBUGCON_BOCHS_PORT = 0xe9, DEBUGCON_FIRMWARE_PORT = 0x402 };

struct debugcon;

/* CHR is borrowed, and only written to. Map with the port. NULL when out of memory. */
struct debugcon *debugcon_new(struct chr *chr);

extern const struct device_ops debugcon_device;

#endif
