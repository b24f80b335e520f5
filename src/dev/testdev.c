/*
 * dev/testdev.c - the ports that bare-metal test programs talk to.
 *
 * Spec   QEMU's isa-debug-exit and pc-testdev devices, whose ports these are.
 * Runs   on vCPU threads, under the device's lock.
 * Trust  everything comes from the guest; the bus keeps offsets inside the regions.
 */
#include "dev/testdev.h"

#include "base/alloc.h"
#include "base/bits.h"

struct testdev {
    struct testdev_wires wires;
    u8 scratch[4];
    u8 memory[TESTDEV_MMIO_BYTES];
};

static u64 exit_read(void *device, u64 offset, unsigned bytes)
{
    return 0;
}

static void exit_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct testdev *testdev = device;

    if (testdev->wires.exit)
        testdev->wires.exit(testdev->wires.ctx, (unsigned)(value << 1 | 1));
}

static u64 bytes_read(const u8 *from, unsigned bytes)
{
    u64 value = 0;
    __builtin_memcpy(&value, from, bytes);
    return value;
}

static u64 scratch_read(void *device, u64 offset, unsigned bytes)
{
    struct testdev *testdev = device;
    return bytes_read(testdev->scratch + offset, bytes);
}

static void scratch_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct testdev *testdev = device;
    __builtin_memcpy(testdev->scratch + offset, &value, bytes);
}

/* Asks to drop what shadow page tables hold of a page: there are none here. */
static u64 flush_read(void *device, u64 offset, unsigned bytes)
{
    return 0;
}

static void flush_write(void *device, u64 offset, unsigned bytes, u64 value)
{
}

static u64 lines_read(void *device, u64 offset, unsigned bytes)
{
    return 0;
}

static void lines_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct testdev *testdev = device;
    irq_set(&testdev->wires.pins[offset], value != 0);
}

static u64 memory_read(void *device, u64 offset, unsigned bytes)
{
    struct testdev *testdev = device;
    return bytes_read(testdev->memory + offset, bytes);
}

static void memory_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct testdev *testdev = device;
    __builtin_memcpy(testdev->memory + offset, &value, bytes);
}

static void testdev_reset(void *device)
{
    struct testdev *testdev = device;

    for (unsigned i = 0; i < TESTDEV_IRQ_COUNT; i++)
        irq_set(&testdev->wires.pins[i], false);
    __builtin_memset(testdev->scratch, 0, sizeof(testdev->scratch));
    __builtin_memset(testdev->memory, 0, sizeof(testdev->memory));
}

static void testdev_free(void *device)
{
    alloc_free(device);
}

struct testdev *testdev_new(const struct testdev_wires *wires)
{
    struct testdev *testdev = new0(struct testdev);

    if (testdev)
        testdev->wires = *wires;
    return testdev;
}

static const struct bus_ops exit_ops = {.read = exit_read, .write = exit_write};
static const struct bus_ops scratch_ops = {.read = scratch_read, .write = scratch_write};
static const struct bus_ops flush_ops = {.read = flush_read, .write = flush_write};
static const struct bus_ops lines_ops = {.read = lines_read, .write = lines_write};
static const struct bus_ops memory_ops = {.read = memory_read, .write = memory_write};
static const struct device_region testdev_regions[] = {
    {BUS_PORT, 0xf4, 4, &exit_ops},
    {BUS_PORT, 0xe0, 4, &scratch_ops},
    {BUS_PORT, 0xe4, 4, &flush_ops},
    {BUS_PORT, 0xe8, 1, &scratch_ops}, /* 0xe9 is the debug console's */
    {BUS_PORT, 0x2000, TESTDEV_IRQ_COUNT, &lines_ops},
    {BUS_MMIO, TESTDEV_MMIO_BASE, TESTDEV_MMIO_BYTES, &memory_ops},
};
static const struct field testdev_fields[] = {
    FIELD(struct testdev, scratch),
    FIELD(struct testdev, memory),
    FIELD_END,
};

const struct device_ops testdev_device = {
    .name = "testdev",
    .regions = testdev_regions,
    .region_count = ARRAY_LEN(testdev_regions),
    .fields = testdev_fields,
    .reset = testdev_reset,
    .free = testdev_free,
};
