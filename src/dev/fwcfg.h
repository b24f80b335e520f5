/*
 * dev/fwcfg.h - the firmware configuration device: what the machine tells its firmware, as numbered
 * items and named files (ports 0x510 to 0x51b).
 *
 * Port 0x510 (a word) selects an item, each read of port 0x511 yields its next byte, and a guest
 * address written to 0x514 (two big-endian words) makes the device copy an item to guest memory.
 * The machine puts items and files while no vCPU runs; a file that depends on what the firmware
 * has programmed meanwhile is put again from FWCFG_REFRESH, which runs when such a file is
 * selected. Threads: handlers under the device's lock. Trust: the guest selects anything and gives
 * any address and length; a transfer is at most FWCFG_DMA_MAX_BYTES.
 */
#ifndef DEV_FWCFG_H
#define DEV_FWCFG_H

#include "dev/device.h"

struct mem;

enum {
    FWCFG_NAME_BYTES = 56, /* a file's name with its closing NUL */
    FWCFG_ITEMS_MAX = 64,
    FWCFG_DMA_MAX_BYTES = 16 << 20
};

/* Items with numbers of their own. */
enum fwcfg_key {
    FWCFG_SIGNATURE = 0x00, /* this one, the next and the directory are the device's own */
    FWCFG_ID = 0x01,
    FWCFG_UUID = 0x02,
    FWCFG_RAM_BYTES = 0x03,
    FWCFG_CPU_COUNT = 0x05,
    FWCFG_BOOT_MENU = 0x0e,
    FWCFG_CPUS_MAX = 0x0f,
    FWCFG_DIRECTORY = 0x19,
    FWCFG_FIRST_FILE = 0x20
};

struct fwcfg;

/* MEM is borrowed: where transfers go. NULL when out of memory. */
struct fwcfg *fwcfg_new(struct mem *mem);
/* Before the guest selects a file that was put as live: the time to put it and its like again,
 * with the same sizes. Runs on a vCPU thread under the device's lock. */
void fwcfg_on_refresh(struct fwcfg *fwcfg, void (*refresh)(void *ctx), void *ctx);

/* Copies BYTES of DATA into the item KEY or the file NAME, which replaces what it had. -ENOSPC when
 * there is no place for one more, -EINVAL for a name that is too long, -ENOMEM. */
MUST_CHECK int fwcfg_put(struct fwcfg *fwcfg, u16 key, const void *data, size_t bytes);
MUST_CHECK int fwcfg_put_file(struct fwcfg *fwcfg, const char *name, const void *data, size_t bytes,
                              bool is_live);
/* The little-endian number VALUE of BYTES (1 to 8). */
MUST_CHECK int fwcfg_put_number(struct fwcfg *fwcfg, u16 key, u64 value, unsigned bytes);

extern const struct device_ops fwcfg_device;

#endif
