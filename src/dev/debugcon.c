/*
 * dev/debugcon.c - a port that prints.
 *
 * Spec   Bochs' port 0xe9 hack; QEMU's isa-debugcon.
 * Runs   on vCPU threads, under the device's lock.
 * Trust  bytes come from the guest and go to the back end as they are; what that cannot take is
 * lost.
 */
#include "dev/debugcon.h"

#include "base/alloc.h"

enum { DEBUGCON_HERE = 0xe9 };

struct debugcon {
    struct chr *chr; /* borrowed */
    u64 lost_bytes;
};

static u64 debugcon_read(void *device, u64 offset, unsigned bytes)
{
    return DEBUGCON_HERE;
}

static void debugcon_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct debugcon *debugcon = device;
    u8 byte = (u8)value;

    if (debugcon->chr->ops->write(debugcon->chr, &byte, 1) == 0)
        debugcon->lost_bytes++;
}

static void debugcon_reset(void *device)
{
}

static void debugcon_free(void *device)
{
    alloc_free(device);
}

struct debugcon *debugcon_new(struct chr *chr)
{
    struct debugcon *debugcon = new0(struct debugcon);

    if (debugcon)
        debugcon->chr = chr;
    return debugcon;
}

static const struct bus_ops debugcon_ops = {.read = debugcon_read, .write = debugcon_write};
static const struct device_region debugcon_regions[] = {{BUS_PORT, 0, 1, &debugcon_ops}};
static const struct field debugcon_fields[] = {FIELD(struct debugcon, lost_bytes), FIELD_END};

const struct device_ops debugcon_device = {
    .name = "debugcon",
    .regions = debugcon_regions,
    .region_count = ARRAY_LEN(debugcon_regions),
    .fields = debugcon_fields,
    .reset = debugcon_reset,
    .free = debugcon_free,
};
