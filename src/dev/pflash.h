/*
 * dev/pflash.h - a NOR flash chip with Intel's commands: where UEFI firmware keeps its variables.
 *
 * The chip's contents belong to the caller and outlive the device, as a disk's do; they are no part
 * of its saved state. Programming clears bits, erasing sets a block's to ones.
 * Threads: handlers under the device's lock. Trust: the guest writes any command anywhere.
 */
#ifndef DEV_PFLASH_H
#define DEV_PFLASH_H

#include "dev/device.h"

enum { PFLASH_BLOCK_BYTES = 4096 };

struct pflash;

/* DATA is borrowed: BYTES of contents, a multiple of the block size. NULL when out of memory. */
struct pflash *pflash_new(u8 *data, u64 bytes);

extern const struct device_ops pflash_device; /* has no region of its own: its size varies */
extern const struct bus_ops pflash_bus_ops;   /* for a range of BYTES */

#endif
